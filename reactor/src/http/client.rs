//! The client: one connection, one request at a time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::mem;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::body::{Decoder, Next};
use super::headers::{Headers, is_token, is_value};
use super::parse::{Framing, HeadLimits, ParseError, ResponseHead, Scan};
use super::socket::hold_little_unsent;
use super::status::Status;
use super::stream::{BodyStream, Outlet, StreamFraming};
use super::uri::is_authority;
use crate::address::Address;
use crate::base::EventBase;
use crate::bufferevent::{BevEvent, BevOptions, Bufferevent, Direction, TriggerOptions};
use crate::error::{Error, Result};
use crate::evbuffer::{Evbuffer, FileSegment};
use crate::event::Event;
use crate::slot::Slot;

/// The most that the head of a reply may be, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// A pass while a body comes, and what its receiver may leave before reading pauses.
const BODY_READ: usize = 256 * 1024;
const MAX_WRITE: usize = 512 * 1024;
/// Unsent bytes at which more is asked of a stream.
const LOW_UNSENT: usize = 64 * 1024;
/// Interim replies before the final one.
const MOST_INTERIM: u8 = 16;
/// RFC 9110, 10.1.1: a client does not wait for `100 Continue` for ever.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// An HTTP/1.1 client's connection to one server, which it makes when there is something to ask and keeps for the next
/// request.
///
/// It is a handle, cheap to clone. An open connection keeps the loop running; [`close`](Self::close) ends it.
///
/// ```no_run
/// use reactor::EventBase;
/// use reactor::http::{Connection, ReplyEvent};
///
/// let base = EventBase::new()?;
/// let conn = Connection::new(&base, &"127.0.0.1:8000".parse()?)?;
/// conn.request("GET", "/").send(|conn, event| match event {
///     ReplyEvent::Head(head) => println!("{}", head.status()),
///     ReplyEvent::Data(data) => _ = data.drain(usize::MAX),
///     ReplyEvent::End | ReplyEvent::Failed(_) => conn.close(),
/// })?;
/// base.dispatch()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "evhttp_connection")]
pub struct Connection {
    client: Rc<Client>,
}

/// How long a [`Connection`] waits. Zero means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// For the connect. Default 10 s.
    pub connect: Duration,
    /// Without a byte of the reply, once the request is sent. Default 60 s.
    pub reply: Duration,
    /// Without a byte of the request taken by the server. Default 60 s.
    pub write: Duration,
    /// An open connection without a request is closed. Default 30 s, less than what most servers allow.
    pub idle: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        ClientTimeouts {
            connect: Duration::from_secs(10),
            reply: Duration::from_secs(60),
            write: Duration::from_secs(60),
            idle: Duration::from_secs(30),
        }
    }
}

/// What comes of a request.
#[derive(Debug)]
pub enum ReplyEvent<'a> {
    /// The head of the reply. Interim replies (1xx) are not shown. If it says anything but success (2xx) before the
    /// request was sent whole, the rest is not sent any more: its [`BodyStream`] is closed, and so is the connection when
    /// the reply is whole.
    Head(&'a ReplyHead),
    /// Bytes of its body have come. What is left in the buffer stays there for the next call; with 256 KiB left, reading
    /// pauses as by [`Connection::pause`].
    Data(&'a Evbuffer),
    /// The reply is whole. Another request can be sent from here on.
    End,
    /// There will be no whole reply. The connection is closed; the next request makes a new one.
    Failed(ClientError),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Another request is under way on this connection.
    #[error("this connection has a request under way: wait for its end, or make another connection")]
    Busy,
    /// The method, the target or a header field cannot be sent.
    #[error("the request's {0} has characters that cannot be sent")]
    Invalid(&'static str),
    /// The server closed the connection before the reply was whole. One that was kept from an earlier request may just
    /// have reached its end: a request that can be repeated should be.
    #[error("the server closed the connection before its reply was whole")]
    Closed,
    /// The server did not connect, take or answer in time.
    #[error("the server took too long")]
    TimedOut,
    /// The reply breaks a rule of HTTP.
    #[error("the reply is malformed: {0}")]
    Malformed(#[from] ParseError),
    /// The connection failed, or could not be made.
    #[error(transparent)]
    Io(#[from] Error),
}

/// The head of a reply.
pub struct ReplyHead {
    head: ResponseHead,
}

impl ReplyHead {
    /// Its status.
    pub fn status(&self) -> Status {
        Status::from(self.head.status)
    }

    /// Its header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// The length of its body in bytes, if it is known.
    pub fn body_length(&self) -> Option<u64> {
        Decoder::new(self.head.framing).known_rest()
    }
}

impl fmt::Debug for ReplyHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyHead")
            .field("status", &self.head.status)
            .field("headers", self.headers())
            .finish()
    }
}

type OnEvent = dyn for<'a> FnMut(&Connection, ReplyEvent<'a>);

struct Client {
    me: Weak<Client>,
    base: EventBase,
    address: Address,
    host: RefCell<String>,
    timeouts: Cell<ClientTimeouts>,
    bev: RefCell<Option<Bufferevent>>,
    phase: Cell<Phase>,
    scan: Cell<Scan>,
    decoder: Cell<Decoder>,
    exchange: Cell<Exchange>,
    on_event: Slot<OnEvent>,
    /// A reply's bytes on their way.
    buffer: Evbuffer,
    /// A body that waits for `100 Continue`.
    held: Evbuffer,
    stream: RefCell<Option<BodyStream>>,
    on_drained: Slot<dyn FnMut(&BodyStream)>,
    is_advancing: Cell<bool>,
    is_paused: Cell<bool>,
    is_connected: Cell<bool>,
    /// The time that a body waits for `100 Continue`.
    patience: RefCell<Option<Event>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The reply's head is to come.
    Head,
    /// The reply's body is coming.
    Body,
}

#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    serial: u64,
    is_head: bool,
    /// The request's body is not queued whole yet.
    is_streaming: bool,
    waits_for_continue: bool,
    /// The server keeps the connection.
    keeps_alive: bool,
    interim: u8,
    is_half_closed: bool,
    /// Nothing more can be sent.
    cannot_send: bool,
}

impl Connection {
    /// A client of the server at `address`. It connects with the first request.
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone.
    #[doc(alias = "evhttp_connection_base_new")]
    pub fn new(base: &EventBase, address: &Address) -> Result<Connection> {
        base.check()?;
        let host = match address {
            Address::Inet(inet) => inet.to_string(),
            _ => "localhost".to_owned(),
        };
        let client = Rc::new_cyclic(|me: &Weak<Client>| Client {
            me: me.clone(),
            base: base.handle(),
            address: address.clone(),
            host: RefCell::new(host),
            timeouts: Cell::new(ClientTimeouts::default()),
            bev: RefCell::default(),
            phase: Cell::new(Phase::Idle),
            scan: Cell::default(),
            decoder: Cell::new(Decoder::new(Framing::None)),
            exchange: Cell::default(),
            on_event: Slot::empty(),
            buffer: Evbuffer::new(),
            held: Evbuffer::new(),
            stream: RefCell::default(),
            on_drained: Slot::empty(),
            is_advancing: Cell::new(false),
            is_paused: Cell::new(false),
            is_connected: Cell::new(false),
            patience: RefCell::default(),
        });
        Ok(Connection { client })
    }

    /// What `Host` says. Default: the address, or `localhost` for a path.
    pub fn set_host(&self, host: &str) {
        self.client.host.replace(host.to_owned());
    }

    /// Sets how long it waits, from the next request on.
    #[doc(alias = "evhttp_connection_set_timeout")]
    pub fn set_timeouts(&self, timeouts: ClientTimeouts) {
        self.client.timeouts.set(timeouts);
    }

    /// Begins a request. `target` is sent as it is: percent-encode it before.
    #[doc(alias = "evhttp_make_request")]
    pub fn request(&self, method: &str, target: &str) -> RequestBuilder {
        let invalid = if !is_token(method.as_bytes()) {
            Some("method")
        } else if target.is_empty() || !target.bytes().all(|b| b > b' ' && b != 0x7f) {
            Some("target")
        } else if !is_authority(self.client.host.borrow().as_bytes()) {
            Some("host")
        } else {
            None
        };
        RequestBuilder {
            connection: self.clone(),
            method: method.to_owned(),
            target: target.to_owned(),
            lines: Vec::new(),
            body: None,
            expects: false,
            invalid,
        }
    }

    /// Whether a request is under way.
    pub fn is_busy(&self) -> bool {
        self.client.phase.get() != Phase::Idle
    }

    /// Reads no more of the reply until [`resume`](Self::resume): the server is held up. No read time-out runs.
    pub fn pause(&self) {
        if self.is_busy() {
            self.client.is_paused.set(true);
            if let Some(bev) = self.client.bev() {
                bev.disable(Direction::READ);
            }
        }
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.client.resume();
    }

    /// Bytes of the request under way that wait for the server to take them: how far a body is that was given whole.
    pub fn unsent(&self) -> u64 {
        let output = self.client.bev().map_or(0, |bev| bev.output().len());
        (output + self.client.held.len()) as u64
    }

    /// Closes the connection; a request under way is forgotten, its closure dropped. The next request connects anew.
    #[doc(alias = "evhttp_connection_free")]
    #[doc(alias = "evhttp_cancel_request")]
    pub fn close(&self) {
        self.client.close();
    }

    /// The base it lives on.
    pub fn base(&self) -> &EventBase {
        &self.client.base
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("address", &self.client.address)
            .field("is_busy", &self.is_busy())
            .finish_non_exhaustive()
    }
}

/// A request that is being put together. Nothing happens until [`send`](Self::send), [`stream`](Self::stream) or
/// [`stream_sized`](Self::stream_sized).
#[must_use = "a request goes out by send or stream"]
pub struct RequestBuilder {
    connection: Connection,
    method: String,
    target: String,
    lines: Vec<u8>,
    body: Option<Evbuffer>,
    expects: bool,
    invalid: Option<&'static str>,
}

impl RequestBuilder {
    /// Adds a header field. `Host`, `Content-Length`, `Transfer-Encoding` and `Expect` are the library's, and ignored. One
    /// that cannot be sent makes the sending fail with [`ClientError::Invalid`].
    #[doc(alias = "evhttp_add_header")]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> RequestBuilder {
        const OURS: [&str; 4] = ["host", "content-length", "transfer-encoding", "expect"];
        let value = value.as_ref();
        if !is_token(name.as_bytes()) || !is_value(value) {
            self.invalid = Some("header");
        } else if !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            self.lines.extend_from_slice(name.as_bytes());
            self.lines.extend_from_slice(b": ");
            self.lines.extend_from_slice(value);
            self.lines.extend_from_slice(b"\r\n");
        }
        self
    }

    /// A body, which is copied.
    pub fn body(self, bytes: impl AsRef<[u8]>) -> RequestBuilder {
        self.with(|body| body.append(bytes.as_ref()))
    }

    /// The content of `buffer` as body, moved out of it at once.
    pub fn buffer(self, buffer: &Evbuffer) -> RequestBuilder {
        self.with(|body| body.append_buffer(buffer))
    }

    /// A part of a file as body, sent by the kernel; `range` is relative to the segment.
    pub fn file_range(self, file: &FileSegment, range: Range<u64>) -> RequestBuilder {
        self.with(|body| body.append_file(file, range))
    }

    fn with(mut self, fill: impl FnOnce(&Evbuffer) -> Result<()>) -> RequestBuilder {
        let body = Evbuffer::new();
        if fill(&body).is_err() {
            self.invalid = Some("body");
        }
        self.body = Some(body);
        self
    }

    /// Sends the body only when the server says `100 Continue`, or nothing for a second after it has connected.
    pub fn expect_continue(mut self) -> RequestBuilder {
        self.expects = true;
        self
    }

    /// Sends it. What comes of it reaches `on_event`, from the loop, ending with one [`ReplyEvent::End`] or
    /// [`ReplyEvent::Failed`]. If `on_event` panics, it is lost, and the connection is to be closed.
    ///
    /// # Errors
    /// [`ClientError::Busy`] while another is under way, [`ClientError::Invalid`], [`ClientError::Io`] if a connect is
    /// refused at once: `on_event` is dropped unrun then.
    pub fn send(
        self,
        on_event: impl for<'a> FnMut(&Connection, ReplyEvent<'a>) + 'static,
    ) -> std::result::Result<(), ClientError> {
        let length = self.body.as_ref().map(|body| body.len() as u64);
        let client = self.start(length.map(StreamFraming::Sized), Box::new(on_event))?;
        if let Some(body) = &self.body {
            client.output().append_buffer(body)?;
        }
        client.body_queued();
        Ok(())
    }

    /// Sends the head, and lets the body follow in chunks.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stream(
        self,
        on_event: impl for<'a> FnMut(&Connection, ReplyEvent<'a>) + 'static,
    ) -> std::result::Result<BodyStream, ClientError> {
        self.start_stream(StreamFraming::Chunked, Box::new(on_event))
    }

    /// Sends the head, and lets a body of exactly `length` bytes follow.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stream_sized(
        self,
        length: u64,
        on_event: impl for<'a> FnMut(&Connection, ReplyEvent<'a>) + 'static,
    ) -> std::result::Result<BodyStream, ClientError> {
        self.start_stream(StreamFraming::Sized(length), Box::new(on_event))
    }

    fn start_stream(
        self,
        framing: StreamFraming,
        on_event: Box<OnEvent>,
    ) -> std::result::Result<BodyStream, ClientError> {
        let client = self.start(Some(framing), on_event)?;
        let me: Weak<Client> = Rc::downgrade(&client);
        Ok(BodyStream::new(me, client.exchange.get().serial, framing))
    }

    fn start(
        &self,
        framing: Option<StreamFraming>,
        on_event: Box<OnEvent>,
    ) -> std::result::Result<Rc<Client>, ClientError> {
        let client = &self.connection.client;
        if let Some(what) = self.invalid {
            return Err(ClientError::Invalid(what));
        }
        if self.connection.is_busy() {
            return Err(ClientError::Busy);
        }
        let mut out = Vec::with_capacity(256);
        let _ = write!(out, "{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, client.host.borrow());
        match framing {
            Some(StreamFraming::Sized(length)) => _ = write!(out, "Content-Length: {length}\r\n"),
            Some(_) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // Methods whose requests usually have a body say that there is none.
            None if matches!(&*self.method, "POST" | "PUT" | "PATCH") => {
                out.extend_from_slice(b"Content-Length: 0\r\n");
            }
            None => (),
        }
        let waits_for_continue = self.expects && framing.is_some();
        if waits_for_continue {
            out.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        out.extend_from_slice(&self.lines);
        out.extend_from_slice(b"\r\n");
        client.begin(&out, self.method == "HEAD", waits_for_continue, on_event)?;
        Ok(client.clone())
    }
}

/// A request.
impl Client {
    fn bev(&self) -> Option<Bufferevent> {
        self.bev.borrow().clone().filter(|bev| !bev.is_freed())
    }

    fn begin(
        &self,
        head: &[u8],
        is_head: bool,
        waits_for_continue: bool,
        on_event: Box<OnEvent>,
    ) -> std::result::Result<(), ClientError> {
        let bev = match self.bev() {
            Some(bev) => bev,
            None => self.connect()?,
        };
        bev.write(head)?;
        let serial = self.exchange.get().serial + 1;
        self.exchange.set(Exchange {
            serial,
            is_head,
            is_streaming: true,
            waits_for_continue,
            ..Exchange::default()
        });
        self.scan.take();
        self.is_paused.set(false);
        self.phase.set(Phase::Head);
        self.on_event.set(Some(on_event));
        if self.is_connected.get() {
            self.wait_for_reply(&bev);
        }
        Ok(())
    }

    /// Has a body wait for `100 Continue`, but not for ever.
    fn be_patient(&self) {
        if !self.exchange.get().waits_for_continue {
            return;
        }
        let me = self.me.clone();
        let event = Event::timer(&self.base, move |_, _| {
            if let Some(client) = me.upgrade() {
                client.release();
            }
        });
        // Refused only by a base that is gone.
        let Ok(event) = event else { return };
        let _ = event.add(Some(CONTINUE_WAIT));
        let old = self.patience.replace(Some(event));
        drop(old);
    }

    fn end_patience(&self) {
        let event = self.patience.take();
        if let Some(event) = event {
            event.free();
        }
    }

    fn connect(&self) -> std::result::Result<Bufferevent, ClientError> {
        let bev = Bufferevent::unconnected(&self.base, BevOptions::empty())?;
        bev.set_max_single_write(MAX_WRITE);
        bev.set_write_mark(LOW_UNSENT);
        bev.set_read_marks(0, BODY_READ);
        bev.set_timeouts(None, Some(self.timeouts.get().connect));
        bev.enable(Direction::READ)?;
        if let Err(error) = bev.connect(&self.address) {
            bev.free();
            return Err(error.into());
        }
        let _ = bev.with_socket(|socket| hold_little_unsent(socket));
        // The connection owns the client while it is open.
        if let Some(own) = self.me.upgrade() {
            let (read, written) = (own.clone(), own.clone());
            bev.on_read(move |_| read.advance());
            bev.on_write(move |bev| written.written(bev));
            bev.on_event(move |bev, what| own.happened(bev, what));
        }
        self.is_connected.set(false);
        self.bev.replace(Some(bev.clone()));
        Ok(bev)
    }

    fn wait_for_reply(&self, bev: &Bufferevent) {
        let timeouts = self.timeouts.get();
        bev.set_timeouts(Some(timeouts.reply), Some(timeouts.write));
        self.be_patient();
    }

    /// Something was sent.
    fn written(&self, bev: &Bufferevent) {
        let is_sent = bev.output().is_empty() && !self.exchange.get().is_streaming;
        if is_sent && self.phase.get() == Phase::Head && self.is_connected.get() {
            // The server's time begins when it has the request.
            let timeouts = self.timeouts.get();
            bev.set_timeouts(Some(timeouts.reply), Some(timeouts.write));
        }
        self.drained();
    }

    /// The request's body is queued whole.
    fn body_queued(&self) {
        let mut exchange = self.exchange.get();
        exchange.is_streaming = false;
        self.exchange.set(exchange);
    }

    /// Lets a body go that waited for `100 Continue`.
    fn release(&self) {
        let mut exchange = self.exchange.get();
        if mem::replace(&mut exchange.waits_for_continue, false) {
            self.exchange.set(exchange);
            self.end_patience();
            if let Some(bev) = self.bev() {
                let _ = bev.write_buffer(&self.held);
                bev.trigger(Direction::WRITE, TriggerOptions::DEFER_CALLBACKS);
            }
        }
    }

    fn drained(&self) {
        let exchange = self.exchange.get();
        if self.phase.get() == Phase::Idle || !exchange.is_streaming || exchange.waits_for_continue {
            return;
        }
        let Some(stream) = self.stream.borrow().clone() else { return };
        let _ = self.on_drained.call(|on_drained| on_drained(&stream));
    }

    fn drop_stream(&self) {
        let stream = self.stream.take();
        self.on_drained.set(None);
        drop(stream);
    }
}

/// The reply.
impl Client {
    fn happened(&self, bev: &Bufferevent, what: BevEvent) {
        if self.bev().as_ref() != Some(bev) {
            return;
        }
        if what.contains(BevEvent::CONNECTED) {
            self.is_connected.set(true);
            self.wait_for_reply(bev);
        } else if self.phase.get() == Phase::Idle {
            self.close();
        } else if what.contains(BevEvent::EOF) {
            let mut exchange = self.exchange.get();
            exchange.is_half_closed = true;
            self.exchange.set(exchange);
            self.advance();
        } else if what.contains(BevEvent::ERROR) {
            // A server that refuses a body early closes its side of it: its reply may be there to be read.
            if what.contains(BevEvent::WRITING) {
                let mut exchange = self.exchange.get();
                exchange.cannot_send = true;
                self.exchange.set(exchange);
            } else {
                let error = bev.take_error().map_or(ClientError::Closed, ClientError::Io);
                self.fail(error);
            }
        } else if what.contains(BevEvent::TIMEOUT | BevEvent::READING)
            && (!bev.output().is_empty() || self.exchange.get().is_streaming)
            && !self.exchange.get().cannot_send
        {
            // It is the client's turn.
            let _ = bev.enable(Direction::READ);
        } else if what.contains(BevEvent::TIMEOUT) {
            self.fail(ClientError::TimedOut);
        }
    }

    fn advance(&self) {
        if self.is_advancing.replace(true) {
            return;
        }
        let _reset = Reset(&self.is_advancing);
        loop {
            let Some(bev) = self.bev() else { return };
            let goes_on = match self.phase.get() {
                // What nobody asked for belongs to no reply.
                Phase::Idle if !bev.input().is_empty() => {
                    self.close();
                    Ok(false)
                }
                Phase::Idle => Ok(false),
                Phase::Head => self.read_head(&bev),
                Phase::Body => self.read_body(&bev),
            };
            match goes_on {
                Ok(true) => (),
                Ok(false) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    fn read_head(&self, bev: &Bufferevent) -> std::result::Result<bool, ClientError> {
        let input = bev.input();
        let mut scan = self.scan.get();
        let limits = HeadLimits { target: MAX_HEAD, head: MAX_HEAD };
        let mut head = ResponseHead::default();
        let mut exchange = self.exchange.get();
        let most = input.len().min(MAX_HEAD + 1);
        let mut end = None;
        // A body behind the head is not moved for it: first what is in one piece.
        for n in [input.contiguous_len().min(most), most] {
            let Some(bytes) = input.pull_up(n)? else { continue };
            if let Some(range) = scan.advance(&bytes, &limits)? {
                head.parse(&bytes[range.clone()], exchange.is_head)?;
                end = Some(range.end);
                break;
            }
        }
        self.scan.set(scan);
        let Some(end) = end else { return closed_or_wait(&exchange) };
        input.drain(end)?;
        self.scan.take();
        if head.status < 200 {
            exchange.interim += 1;
            // Nobody asked for another protocol.
            if head.status == 101 || exchange.interim > MOST_INTERIM {
                return Err(ClientError::Malformed(ParseError::StatusLine));
            }
            self.exchange.set(exchange);
            if head.status == 100 {
                self.release();
            }
            return Ok(true);
        }
        exchange.keeps_alive = head.keeps_alive;
        let is_unsent = exchange.is_streaming || !bev.output().is_empty();
        if mem::replace(&mut exchange.waits_for_continue, false) || (is_unsent && head.status >= 300) {
            // The rest of the body was announced and is not wanted: there is no way on but another connection.
            exchange.keeps_alive = false;
            exchange.is_streaming = false;
            exchange.cannot_send = true;
            bev.disable(Direction::WRITE);
            let _ = self.held.drain(usize::MAX);
            self.end_patience();
        }
        self.exchange.set(exchange);
        if exchange.cannot_send {
            self.drop_stream();
            // What the stream's closure captured was user code.
            if self.exchange.get().serial != exchange.serial || self.phase.get() != Phase::Head {
                return Ok(true);
            }
        }
        let decoder = Decoder::new(head.framing);
        self.decoder.set(decoder);
        self.phase.set(Phase::Body);
        if decoder.known_rest().is_none_or(|rest| rest > input.len() as u64) {
            bev.set_max_single_read(BODY_READ);
        }
        let head = ReplyHead { head };
        self.tell(ReplyEvent::Head(&head));
        Ok(true)
    }

    fn read_body(&self, bev: &Bufferevent) -> std::result::Result<bool, ClientError> {
        if self.is_paused.get() {
            return Ok(false);
        }
        let serial = self.exchange.get().serial;
        let input = bev.input();
        let mut decoder = self.decoder.get();
        let mut taken = 0;
        let mut outcome = Ok(());
        while !input.is_empty() && decoder.next() != Next::End && outcome.is_ok() {
            if let Next::Data(most) = decoder.next() {
                let n = input.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                let moved = input.remove_buffer(&self.buffer, n)?;
                decoder.took(moved as u64);
                taken += moved;
            } else {
                let peek = input.peek(..)?;
                let used = peek.slices().next().map_or(Ok(0), |bytes| decoder.frame(bytes));
                drop(peek);
                outcome = used.and_then(|used| input.drain(used).map(drop).map_err(|_| ParseError::ChunkEnd));
            }
        }
        self.decoder.set(decoder);
        let is_current = || self.phase.get() == Phase::Body && self.exchange.get().serial == serial;
        if taken > 0 || !self.buffer.is_empty() {
            self.tell(ReplyEvent::Data(&self.buffer));
            if !is_current() {
                return Ok(true);
            }
            if self.buffer.len() >= BODY_READ {
                self.is_paused.set(true);
                bev.disable(Direction::READ);
            }
        }
        outcome?;
        if self.is_paused.get() {
            return Ok(false);
        }
        let is_half_closed = self.exchange.get().is_half_closed && input.is_empty();
        if decoder.next() == Next::End || (is_half_closed && decoder.may_end()) {
            self.finish_reply(bev);
            return Ok(true);
        }
        if is_half_closed { Err(ClientError::Closed) } else { Ok(false) }
    }

    fn finish_reply(&self, bev: &Bufferevent) {
        let exchange = self.exchange.get();
        self.phase.set(Phase::Idle);
        let is_sent = !exchange.is_streaming && bev.output().is_empty();
        if exchange.keeps_alive && is_sent && !exchange.is_half_closed {
            let timeouts = self.timeouts.get();
            bev.set_max_single_read(0);
            bev.set_timeouts(Some(timeouts.idle), Some(timeouts.write));
        } else {
            self.disconnect();
        }
        self.drop_stream();
        let _ = self.buffer.drain(usize::MAX);
        self.tell(ReplyEvent::End);
        // The closure is done, unless it has begun another request, which has its own.
        if self.phase.get() == Phase::Idle {
            self.on_event.set(None);
        }
    }

    fn fail(&self, error: ClientError) {
        if self.phase.replace(Phase::Idle) == Phase::Idle {
            return;
        }
        self.disconnect();
        self.drop_stream();
        let _ = self.buffer.drain(usize::MAX);
        self.tell(ReplyEvent::Failed(error));
        if self.phase.get() == Phase::Idle {
            self.on_event.set(None);
        }
    }

    fn tell(&self, event: ReplyEvent<'_>) {
        let Some(client) = self.me.upgrade() else { return };
        let connection = Connection { client };
        // Never from within itself: replies are read from the loop alone.
        let _ = self.on_event.call(|on_event| on_event(&connection, event));
    }

    fn resume(&self) {
        if self.is_paused.replace(false)
            && let Some(bev) = self.bev()
        {
            if !self.exchange.get().is_half_closed {
                let _ = bev.enable(Direction::READ);
            }
            let options = TriggerOptions::IGNORE_WATERMARKS | TriggerOptions::DEFER_CALLBACKS;
            bev.trigger(Direction::READ, options);
        }
    }

    fn close(&self) {
        self.phase.set(Phase::Idle);
        self.disconnect();
        let _ = self.buffer.drain(usize::MAX);
        self.drop_stream();
        self.on_event.set(None);
    }

    fn disconnect(&self) {
        let own = self.me.upgrade();
        self.end_patience();
        let _ = self.held.drain(usize::MAX);
        let bev = self.bev.take();
        if let Some(bev) = bev {
            bev.free();
        }
        drop(own);
    }
}

fn closed_or_wait(exchange: &Exchange) -> std::result::Result<bool, ClientError> {
    if exchange.is_half_closed { Err(ClientError::Closed) } else { Ok(false) }
}

impl Outlet for Client {
    fn is_streaming(&self, serial: u64) -> bool {
        let exchange = self.exchange.get();
        let is_at = self.phase.get() != Phase::Idle && exchange.serial == serial;
        is_at && exchange.is_streaming && self.bev().is_some()
    }

    fn queued(&self, _n: usize) {}

    fn output(&self) -> Evbuffer {
        match self.bev() {
            Some(bev) if !self.exchange.get().waits_for_continue => bev.output().clone(),
            _ => self.held.clone(),
        }
    }

    fn cut(&self) {
        let serial = self.exchange.get().serial;
        self.body_queued();
        // The server sees it at once; the closure that is told may be the one that runs.
        self.disconnect();
        let me = self.me.clone();
        let _ = self.base.defer(move |_| {
            if let Some(client) = me.upgrade().filter(|client| client.exchange.get().serial == serial) {
                client.fail(ClientError::Closed);
            }
        });
    }

    fn finish(&self) {
        self.body_queued();
        self.drop_stream();
    }

    fn set_on_drained(&self, stream: BodyStream, on_drained: Box<dyn FnMut(&BodyStream)>) {
        self.on_drained.set(Some(on_drained));
        let old = self.stream.replace(Some(stream));
        drop(old);
        if let Some(bev) = self.bev() {
            bev.trigger(Direction::WRITE, TriggerOptions::DEFER_CALLBACKS);
        }
    }
}

struct Reset<'a>(&'a Cell<bool>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
