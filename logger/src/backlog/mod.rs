//! The server that receives records and keeps them in a file: see [`Backlog`].

mod book;
mod connection;
mod echo;
mod file;
mod line;
mod seen;
mod server;
mod session;
mod sniff;

pub use server::{Backlog, Counters, Options};
