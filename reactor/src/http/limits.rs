//! What a server allows, and for how long it waits.

use std::time::Duration;

use super::parse::HeadLimits;

/// How much a server takes and how long it waits. A time of zero means for ever.
///
/// ```
/// use reactor::http::Limits;
///
/// let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
/// assert_eq!(limits.max_header_bytes, 32 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a request target. Beyond it: 414. Default 8192, which RFC 9112 asks for at least.
    pub max_target_bytes: usize,
    /// Of a whole head, request line included. Beyond it, or beyond 128 fields: 431. Default 32 KiB.
    pub max_header_bytes: usize,
    /// Of a body; a request that announces more is answered 413 before its handler sees it, one that sends more when it
    /// does. Default: none, since bodies are streamed; a handler may set its own with
    /// [`Request::set_body_limit`](super::Request::set_body_limit).
    pub max_body_bytes: u64,
    /// Connections at a time. One more is answered 503. Default 10 000.
    pub max_connections: usize,
    /// Connections at a time of one IP address. One more is answered 503. 0, the default, for no such limit: clients may
    /// share an address, behind a proxy or a translator.
    pub max_connections_per_address: usize,
    /// From a head's first byte to its last: 408 then. Default 30 s.
    pub head_timeout: Duration,
    /// Without a byte of a body that is being read: 408 then. Default 30 s.
    pub body_timeout: Duration,
    /// Bytes a second that a body must come with, on average over each `body_timeout`: 408 below it. 0 for any.
    /// Default 256.
    pub min_body_rate: u64,
    /// Between requests, and before the first: the connection is closed. Default 75 s.
    pub idle_timeout: Duration,
    /// Without a byte of a reply taken by the client: the connection is dropped. Default 60 s.
    pub write_timeout: Duration,
    /// Bytes a second that a client must take of what waits for it, on average over each `write_timeout`: the connection
    /// is dropped below it. 0 for any. Default 256.
    pub min_reply_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_target_bytes: 8192,
            max_header_bytes: 32 * 1024,
            max_body_bytes: u64::MAX,
            max_connections: 10_000,
            max_connections_per_address: 0,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            min_body_rate: 256,
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
            min_reply_rate: 256,
        }
    }
}

impl Limits {
    pub(super) fn head(&self) -> HeadLimits {
        HeadLimits { target: self.max_target_bytes, head: self.max_header_bytes }
    }

    /// The least body bytes of one `body_timeout`.
    pub(super) fn body_quota(&self) -> u64 {
        let millis = u64::try_from(self.body_timeout.as_millis()).unwrap_or(u64::MAX);
        self.min_body_rate.saturating_mul(millis) / 1000
    }
}
