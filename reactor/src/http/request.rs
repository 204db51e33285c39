//! A request in its handler's hands.

use std::fmt;
use std::rc::Rc;

use super::conn::Conn;
use super::headers::Headers;
use super::incoming::{Body, BodyEvent, Sink};
use super::parse::Head;
use super::reply::{Reply, Scratch};
use super::status::Status;
use crate::address::Address;
use crate::base::EventBase;
use crate::evbuffer::Evbuffer;

/// A request whose head is there, and whose answer is owed.
///
/// Its handler owns it: [`reply`](Self::reply) consumes it, so there is one answer; to answer later, move it into
/// another closure. Dropped without an answer it is answered 500. If the client has left, an answer goes nowhere.
///
/// The body, if there is one, is read only when it is asked for: [`on_body`](Self::on_body) and
/// [`collect_body`](Self::collect_body). A request that is answered before its body was read has the rest thrown away if it
/// is known to be at most 64 KiB; else the connection ends with the reply.
#[doc(alias = "evhttp_request")]
#[must_use = "a request that is dropped is answered 500"]
pub struct Request {
    pub(super) conn: Rc<Conn>,
    /// Until it is answered.
    scratch: Option<Box<Scratch>>,
    serial: u64,
    limit: u64,
}

impl Request {
    pub(super) fn new(conn: Rc<Conn>, scratch: Box<Scratch>, serial: u64, limit: u64) -> Request {
        Request { conn, scratch: Some(scratch), serial, limit }
    }

    fn head(&self) -> &Head {
        static NONE: std::sync::OnceLock<Head> = std::sync::OnceLock::new();
        self.scratch.as_ref().map_or_else(|| NONE.get_or_init(Head::default), |scratch| &scratch.head)
    }

    /// The method, as it came: names have case.
    #[doc(alias = "evhttp_request_get_command")]
    pub fn method(&self) -> &str {
        self.head().method()
    }

    /// The path of the target, percent-encoded as it came; `*` for the whole server. See
    /// [`percent_decode`](super::percent_decode). It is text, but not necessarily ASCII.
    pub fn path(&self) -> &str {
        self.head().path()
    }

    /// What follows the `?` of the target. See [`query_pairs`](super::query_pairs).
    pub fn query(&self) -> Option<&str> {
        self.head().query()
    }

    /// The whole target as it came.
    #[doc(alias = "evhttp_request_get_uri")]
    pub fn target(&self) -> &str {
        self.head().target()
    }

    /// Host and port that the request is for: of the target if it names them, else of `Host`.
    #[doc(alias = "evhttp_request_get_host")]
    pub fn host(&self) -> Option<&str> {
        self.head().host()
    }

    /// Its header fields.
    #[doc(alias = "evhttp_request_get_input_headers")]
    pub fn headers(&self) -> &Headers {
        &self.head().headers
    }

    /// The first field of this name, if it is text.
    #[doc(alias = "evhttp_find_header")]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().text(name)
    }

    /// Whether it is HTTP/1.1, else 1.0.
    pub fn is_http_1_1(&self) -> bool {
        self.head().is_modern
    }

    /// The length of the body that has not been read yet, in bytes: 0 without one, `None` if it comes in chunks.
    pub fn body_length(&self) -> Option<u64> {
        self.conn.body_rest(self.serial)
    }

    /// Where the client is.
    #[doc(alias = "evhttp_connection_get_peer")]
    pub fn peer(&self) -> &Address {
        self.conn.peer()
    }

    /// Whether the client can still be answered, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.conn.is_at(self.serial)
    }

    /// The base that it lives on.
    pub fn base(&self) -> &EventBase {
        self.conn.base()
    }

    /// How long the body may be, in place of the server's [`max_body_bytes`](super::Limits::max_body_bytes). Holds when
    /// the body is read.
    pub fn set_body_limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// Says who asks, for the access log: [`Exchange::user`](super::Exchange::user). The first name stays.
    pub fn set_user(&mut self, user: &str) {
        self.conn.name_user(self.serial, user);
    }

    /// Adds a header field to the answer, before it is known who gives it and which it is. It stands before those of
    /// [`Reply::header`], which says what cannot be sent; `Connection`, `Date`, `Content-Length` and `Transfer-Encoding` are
    /// ignored here. An answer that the library gives by itself goes without it.
    #[doc(alias = "evhttp_request_get_output_headers")]
    pub fn add_reply_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        const OTHERS: [&str; 4] = ["connection", "date", "content-length", "transfer-encoding"];
        if let Some(scratch) = self.scratch_mut()
            && !OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other))
        {
            scratch.add_line(name, value.as_ref());
        }
    }

    /// Reads the body in pieces. `on_event` runs from the loop: with [`Data`](BodyEvent::Data) as often as bytes come,
    /// then once with [`End`](BodyEvent::End), which gives the request back, or with [`Failed`](BodyEvent::Failed).
    ///
    /// A client that waits for `100 Continue` is sent it. A body that is announced longer than the limit is answered 413
    /// at once, and `on_event` dropped unrun. If `on_event` panics, the request is answered 500.
    ///
    /// ```
    /// # use reactor::{EventBase, http::Http};
    /// use reactor::http::BodyEvent;
    ///
    /// # let base = EventBase::new()?;
    /// # let http = Http::new(&base)?;
    /// http.route("/count", |req| {
    ///     let mut bytes = 0;
    ///     req.on_body(move |_body, event| match event {
    ///         BodyEvent::Data(data) => bytes += data.drain(usize::MAX).unwrap_or(0),
    ///         BodyEvent::End(req) => req.reply(200).body(format!("{bytes} bytes\n")).send(),
    ///         BodyEvent::Failed(_) => (), // the client has its answer, if it is still there
    ///     });
    /// });
    /// # Ok::<(), reactor::Error>(())
    /// ```
    pub fn on_body(self, on_event: impl for<'a> FnMut(&Body, BodyEvent<'a>) + 'static) {
        self.read(Sink::pieces(on_event));
    }

    /// Reads the whole body into memory and runs `then` with it, from the loop. More than `limit` bytes are answered
    /// 413; then, and when the client leaves or takes too long, `then` is dropped unrun.
    #[doc(alias = "evhttp_request_get_input_buffer")]
    pub fn collect_body(mut self, limit: u64, then: impl FnOnce(Request, &Evbuffer) + 'static) {
        self.limit = self.limit.min(limit);
        self.read(Sink::whole(then));
    }

    fn read(mut self, sink: Sink) {
        if self.body_length().is_some_and(|length| length > self.limit) {
            self.conn.refused_later(Status::from(413));
            return self.reply(413).send();
        }
        if let Some(scratch) = self.scratch.take() {
            self.conn.read_for(self.serial, scratch, sink, self.limit);
        }
    }

    /// Begins the answer. A status that ends no exchange, below 200 or above 599, becomes 500.
    #[doc(alias = "evhttp_send_reply")]
    pub fn reply(self, status: impl Into<Status>) -> Reply {
        Reply::new(self, status.into())
    }

    pub(super) fn take_scratch(&mut self) -> Option<Box<Scratch>> {
        self.scratch.take()
    }

    pub(super) fn scratch_mut(&mut self) -> Option<&mut Scratch> {
        self.scratch.as_deref_mut()
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            self.conn.answer_dropped(self.serial, scratch);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("headers", self.headers())
            .finish_non_exhaustive()
    }
}
