//! The terminal's side: a program that asks a server, waits for the answer and ends.
//!
//! A [`Client`] has a loop of its own and asks one thing at a time. Its calls block, also on what bodies are read from and
//! written to: it is for programs that have nothing else to do meanwhile.
//!
//! ```no_run
//! use cloudstore::client::{Client, ServerUrl};
//!
//! let client = Client::new("http://nas.lan:8081".parse()?, None)?;
//! println!("{}", String::from_utf8_lossy(&client.ask("POST", "/index?check")?));
//! # Ok::<(), cloudstore::client::ClientError>(())
//! ```
//!
//! A [`Crew`] sends and fetches files, several at a time, on a loop that it is given. It goes on by itself where a broken
//! connection or a server that is started again has left it, and compares digests at the end.

mod api;
mod credentials;
mod crew;
mod error;
mod exchange;
mod get;
mod listing;
mod pace;
mod parts;
mod progress;
mod put;
mod remote;
mod retry;
mod sources;
mod url;

pub use api::Client;
pub use credentials::{Credentials, CredentialsError};
pub use crew::{Crew, Done, Report, Task};
pub use error::{ClientError, shown};
pub use get::{Fetched, Get, place_below};
pub use listing::{Entry, Page, Wanted, page_of};
pub use progress::{Ending, Watch};
pub use put::{Put, Stored};
pub use remote::{Remote, encoded, path_of};
pub use sources::{Place, Source, Sources};
pub use url::{ServerUrl, UrlError};
