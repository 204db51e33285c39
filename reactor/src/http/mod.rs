//! HTTP/1.1: a server and a client over the loop.

mod body;
mod client;
mod conn;
mod headers;
mod incoming;
mod limits;
mod parse;
mod reply;
mod request;
mod route;
mod server;
mod status;
mod stream;
mod uri;

pub use client::{ClientError, ClientTimeouts, Connection, ReplyEvent, ReplyHead, RequestBuilder};
pub use headers::Headers;
pub use incoming::{Body, BodyError, BodyEvent};
pub use limits::Limits;
pub use parse::ParseError;
pub use reply::Reply;
pub use request::Request;
pub use server::Http;
pub use status::Status;
pub use stream::BodyStream;
pub use uri::{percent_decode, query_pairs};
