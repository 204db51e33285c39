//! The terminal's side: a program that asks a server, waits for the answer and ends.
//!
//! A [`Client`] has a loop of its own and asks one thing at a time. Its calls block, also on what bodies are read from and
//! written to: it is for programs that have nothing else to do meanwhile.
//!
//! ```no_run
//! use cloudstore::client::{Client, ServerUrl};
//!
//! let client = Client::new("http://nas.lan:8081".parse()?)?;
//! println!("{}", String::from_utf8_lossy(&client.ask("POST", "/index?check")?));
//! # Ok::<(), cloudstore::client::ClientError>(())
//! ```

mod api;
mod error;
mod url;

pub use api::{Client, shown};
pub use error::ClientError;
pub use url::{ServerUrl, UrlError};
