//! Objects by name.
mod name;
mod pack;
pub use name::{Folder, Name, NameError};
mod meta;
