//! HTTP/1.1: a server and a client over the loop.
//!
//! [`Http`] serves: a [`Request`] goes to the handler of its path, which answers it with a [`Reply`]. [`Connection`] asks.
//! Bodies stream both ways with back-pressure: what comes is a [`Body`] or [`ReplyEvent::Data`], what goes a
//! [`BodyStream`]; files go out by the kernel. [`Limits`] has what a server allows, and for how long it waits.
//!
//! | libevent | here |
//! |---|---|
//! | `evhttp_new`, `evhttp_bind_socket`, `evhttp_accept_socket`, `evhttp_free` | [`Http::new`], [`Http::bind`] or [`Http::listen`], [`Http::adopt`], [`Http::free`] or [`Http::shutdown`] |
//! | `evhttp_set_cb`, `evhttp_set_gencb`, `evhttp_set_allowed_methods` | [`Http::route`] or [`Http::route_for`], [`Http::fallback`] |
//! | `evhttp_set_timeout`, `evhttp_set_max_headers_size`, `evhttp_set_max_body_size` | [`Http::set_limits`] |
//! | `evhttp_request_get_uri`, `_get_command`, `_get_input_headers`, `_get_input_buffer` | [`Request::target`], [`method`](Request::method), [`headers`](Request::headers), [`on_body`](Request::on_body) or [`collect_body`](Request::collect_body) |
//! | `evhttp_request_set_on_complete_cb`, `evhttp_set_errorcb` | [`Http::on_exchange`], [`Http::on_refusal`] |
//! | `evhttp_send_reply`, `evhttp_send_error` | [`Reply::send`] |
//! | `evhttp_send_reply_start`, `_chunk`, `_end` | [`Reply::stream`], [`BodyStream::write`], [`BodyStream::finish`] |
//! | `evhttp_connection_base_new`, `evhttp_make_request`, `evhttp_cancel_request` | [`Connection::new`], [`Connection::request`], [`Connection::close`] |
//! | `evhttp_uridecode`, `evhttp_parse_query_str` | [`percent_decode`], [`query_pairs`] |
//!
//! # Where this differs from evhttp
//!
//! - A request reaches its handler when its head is there, not when its body is.
//! - A request that is dropped is answered 500; it cannot be answered twice.
//! - A handler that panics has its request answered 500, and stays.
//! - RFC 9112 is kept where evhttp is lenient: what is malformed is answered 400 and the connection closed. That is `Host`
//!   missing, twice or malformed; `Content-Length` twice, as a list or with a sign, or beside `Transfer-Encoding`; a
//!   transfer coding other than `chunked` (501 where `chunked` is last); lines that end in LF alone, also in chunks; folded
//!   header fields, spaces before a colon, CR or NUL inside a line.
//! - A client must send and take at a least rate ([`Limits`]), or is given up.
//! - One request of a connection is handled at a time; pipelined ones wait, and are answered in order.
//! - A target may have UTF-8 in it as it is, since people type such addresses into tools that do not encode them.
//! - `CONFORMANCE.md` lists the contracts one by one.
//! - Names are not looked up: a [`Connection`] goes to an [`Address`](crate::Address).

mod body;
mod census;
mod client;
mod conn;
mod exchange;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod headers;
mod incoming;
mod limits;
mod parse;
mod reply;
mod request;
mod route;
mod server;
mod socket;
mod status;
mod stream;
mod turned_away;
mod uri;

pub use census::Census;
pub use client::{ClientError, ClientTimeouts, Connection, ReplyEvent, ReplyHead, RequestBuilder};
pub use exchange::Exchange;
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
