//! The server that receives records and keeps them in a file: see [`Backlog`].

mod book;
mod checkpoint;
mod connection;
mod echo;
mod file;
pub(crate) mod line;
mod listen;
mod seen;
mod server;
pub(crate) mod session;
pub(crate) mod sniff;

pub use server::{Backlog, Counters, Options};
