//! The server: listeners, routes, limits, and what its connections share.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::SystemTime;

use slab::Slab;

use super::census::Census;
use super::conn::Conn;
use super::exchange::{Entry, Exchange, Ledger};
use super::limits::Limits;
use super::reply::Scratch;
use super::request::Request;
use super::route::{Found, Routes};
use super::socket::hold_little_unsent;
use super::status::Status;
use crate::address::Address;
use crate::base::EventBase;
use crate::error::Result;
use crate::listener::{ListenOptions, Listener};
use crate::slot::Slot;

/// An HTTP/1.1 server on a base.
///
/// A request goes to the handler of its path as soon as its head is there; the handler owns the [`Request`], reads its
/// body or not, and answers now or later. Requests of one connection are handled one at a time, in their order.
///
/// The server follows RFC 9112 strictly: what is malformed or could be understood in two ways is answered 400 and the
/// connection closed.
///
/// `Http` is a handle, cheap to clone. The server lives until [`free`](Self::free) or the end of its base. A handler that
/// captures a handle of its own server is dropped by `free`.
///
/// ```
/// use reactor::EventBase;
/// use reactor::http::Http;
/// use std::io::{Read, Write};
///
/// let base = EventBase::new()?;
/// let http = Http::bind(&base, &"127.0.0.1:0".parse()?)?;
/// # let ender = http.clone();
/// http.route("/hello", move |req| {
///     let name = req.query().unwrap_or("you").to_owned();
///     req.reply(200).body(format!("hello {name}\n")).send();
/// #   ender.shutdown();
/// });
/// let address = http.local_address()?.to_string();
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = std::net::TcpStream::connect(&address)?;
///     stream.write_all(b"GET /hello?world HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
///     let mut reply = String::new();
///     stream.read_to_string(&mut reply)?;
///     Ok(reply)
/// });
/// base.dispatch()?;
/// assert!(client.join().unwrap()?.ends_with("\r\n\r\nhello world\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "evhttp")]
pub struct Http {
    server: Rc<Server>,
}

/// What all connections of a server share.
pub(super) struct Server {
    base: EventBase,
    routes: RefCell<Routes>,
    limits: RefCell<Rc<Limits>>,
    listeners: RefCell<Vec<Listener>>,
    conns: RefCell<Slab<Weak<Conn>>>,
    census: Census,
    /// Connections whose last reply is on its way, or just out.
    lingering: Cell<usize>,
    /// Connections that were one too many, and are being told.
    turned_away: Cell<usize>,
    /// Memory of requests that are over, for those to come.
    #[allow(clippy::vec_box, reason = "what requests hold and hand on is the box")]
    spare: RefCell<Vec<Box<Scratch>>>,
    #[allow(clippy::vec_box, reason = "what connections hold and hand on is the box")]
    spare_ledgers: RefCell<Vec<Box<Ledger>>>,
    /// The words of an exchange that is told.
    words: Cell<Vec<u8>>,
    date: Cell<(u64, [u8; DATE_LEN])>,
    on_refusal: Slot<OnRefusal>,
    on_exchange: Slot<OnExchange>,
    on_closed: Cell<Option<Box<dyn FnOnce()>>>,
    is_stopping: Cell<bool>,
    is_freed: Cell<bool>,
}

type OnRefusal = dyn FnMut(&Address, Status);
type OnExchange = dyn for<'a> FnMut(&Exchange<'a>);

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(super) const DATE_LEN: usize = 29;
/// Those that are one too many at one time are answered as long as they are not more, nor more than a quarter of those that
/// are served.
const MOST_TURNED_AWAY: usize = 256;
/// Requests in hand at one time are rarely more.
const MOST_SPARE: usize = 64;

impl Http {
    /// A server that listens nowhere yet.
    ///
    /// # Errors
    /// [`Error::Freed`](crate::Error::Freed) when the base is gone.
    #[doc(alias = "evhttp_new")]
    pub fn new(base: &EventBase) -> Result<Http> {
        Self::with_census(base, &Census::new())
    }

    /// A server that listens nowhere yet, and counts its connections together with others.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_census(base: &EventBase, census: &Census) -> Result<Http> {
        base.check()?;
        let server = Server {
            base: base.handle(),
            routes: RefCell::default(),
            limits: RefCell::default(),
            listeners: RefCell::default(),
            conns: RefCell::default(),
            census: census.clone(),
            lingering: Cell::new(0),
            turned_away: Cell::new(0),
            spare: RefCell::default(),
            spare_ledgers: RefCell::default(),
            words: Cell::default(),
            date: Cell::new((u64::MAX, [0; DATE_LEN])),
            on_refusal: Slot::empty(),
            on_exchange: Slot::empty(),
            on_closed: Cell::default(),
            is_stopping: Cell::new(false),
            is_freed: Cell::new(false),
        };
        Ok(Http { server: Rc::new(server) })
    }

    /// A server that listens on `address`.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    #[doc(alias = "evhttp_bind_socket")]
    pub fn bind(base: &EventBase, address: &Address) -> Result<Http> {
        let http = Self::new(base)?;
        http.listen(address, &ListenOptions::default())?;
        Ok(http)
    }

    /// Listens on one more address.
    ///
    /// # Errors
    /// As [`Listener::bind_with`].
    #[doc(alias = "evhttp_bind_socket_with_handle")]
    pub fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Listener> {
        let listener = Listener::bind_with(&self.server.base, address, options, accept(&self.server))?;
        Ok(self.server.listens(listener))
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    /// As [`Listener::adopt`].
    #[doc(alias = "evhttp_accept_socket")]
    pub fn adopt(&self, socket: impl Into<OwnedFd>) -> Result<Listener> {
        let listener = Listener::adopt(&self.server.base, socket, accept(&self.server))?;
        Ok(self.server.listens(listener))
    }

    /// Serves a connection that came another way.
    ///
    /// # Errors
    /// As [`Bufferevent::socket`](crate::Bufferevent::socket).
    pub fn serve(&self, socket: impl Into<OwnedFd>, peer: Address) -> Result<()> {
        let socket = socket.into();
        hold_little_unsent(&socket);
        self.server.serve(socket, peer)
    }

    /// Has requests for a path go to `handler`, whatever their method. A pattern that ends in `*` is the beginning of
    /// paths; the longest pattern that fits wins. It is compared with the path as it came, percent-encoded. A pattern
    /// that has a handler gets this one from the next request on.
    ///
    /// A handler that panics has its request answered 500, or its connection closed if a reply has begun, and stays.
    #[doc(alias = "evhttp_set_cb")]
    pub fn route(&self, pattern: &str, handler: impl FnMut(Request) + 'static) {
        self.set_route(None, pattern, handler);
    }

    /// The same for requests of one method. Other methods of a pattern that has such handlers only are answered 405
    /// with `Allow`, or 501 if no standard knows them. The one for `GET` gets `HEAD` too, unless that has its own.
    #[doc(alias = "evhttp_set_allowed_methods")]
    pub fn route_for(&self, method: &str, pattern: &str, handler: impl FnMut(Request) + 'static) {
        self.set_route(Some(method), pattern, handler);
    }

    /// Has requests that no pattern fits go to `handler`; they are answered 404 without one.
    #[doc(alias = "evhttp_set_gencb")]
    pub fn fallback(&self, handler: impl FnMut(Request) + 'static) {
        let handler = Rc::new(Slot::new(Box::new(handler) as Box<dyn FnMut(Request)>));
        let old = self.server.routes.borrow_mut().set_fallback(handler);
        drop(old);
    }

    /// Sets what is told of each answer that no handler gave, from the loop: to a malformed request or body, at a limit or
    /// a time-out, for one connection too many, for a path or method without a handler, and for a request that its
    /// handler dropped.
    #[doc(alias = "evhttp_set_errorcb")]
    pub fn on_refusal(&self, on_refusal: impl FnMut(&Address, Status) + 'static) {
        self.server.on_refusal.set(Some(Box::new(on_refusal)));
    }

    /// Sets what is told of each request whose head was understood, and of each answer to one that was not, once: when the
    /// kernel has taken the last byte of the reply, or when the connection ended before. It runs from the loop, in the
    /// order of the replies of a connection; requests that came before it was set are left out. If it panics, it stays.
    ///
    /// This is what an access log needs. It costs nothing when it is not set, and allocates nothing per request.
    ///
    /// ```
    /// # use reactor::{EventBase, http::Http};
    /// # let base = EventBase::new()?;
    /// # let http = Http::new(&base)?;
    /// http.on_exchange(|it| {
    ///     let status = it.status.map_or(0, |status| status.code());
    ///     println!("{} {} {} {status} {} {:?}", it.peer, it.method, it.target, it.sent, it.duration);
    /// });
    /// # Ok::<(), reactor::Error>(())
    /// ```
    pub fn on_exchange(&self, on_exchange: impl for<'a> FnMut(&Exchange<'a>) + 'static) {
        self.server.on_exchange.set(Some(Box::new(on_exchange)));
    }

    fn set_route(&self, method: Option<&str>, pattern: &str, handler: impl FnMut(Request) + 'static) {
        let handler = Rc::new(Slot::new(Box::new(handler) as Box<dyn FnMut(Request)>));
        // What the old one captured is dropped after the borrow.
        let old = self.server.routes.borrow_mut().set(method, pattern, handler);
        drop(old);
    }

    /// Sets what is allowed from the next request or connection on.
    #[doc(alias = "evhttp_set_max_headers_size")]
    #[doc(alias = "evhttp_set_max_body_size")]
    #[doc(alias = "evhttp_set_timeout")]
    pub fn set_limits(&self, limits: Limits) {
        self.server.limits.replace(Rc::new(limits));
    }

    /// What is allowed.
    pub fn limits(&self) -> Limits {
        Limits::clone(&self.server.limits())
    }

    /// Where it listens first.
    ///
    /// # Errors
    /// [`Error::Freed`](crate::Error::Freed) if it listens nowhere; as [`Listener::local_address`].
    pub fn local_address(&self) -> Result<Address> {
        let first = self.server.listeners.borrow().first().cloned();
        first.ok_or(crate::Error::Freed { what: "listener" })?.local_address()
    }

    /// Connections that are open.
    #[doc(alias = "evhttp_get_connection_count")]
    pub fn connections(&self) -> usize {
        self.server.conns.borrow().len()
    }

    /// The base it lives on.
    pub fn base(&self) -> &EventBase {
        &self.server.base
    }

    /// Ends in order: it listens no more, connections without a request are closed, the others after their reply. The
    /// loop ends by itself when all are gone.
    pub fn shutdown(&self) {
        self.server.is_stopping.set(true);
        self.stop_listening();
        for conn in self.server.all() {
            conn.close_if_idle();
        }
        self.server.tell_if_closed();
    }

    /// Sets what runs once, from the loop, when the server was shut down or freed and its last connection is gone, with
    /// all that it had to send. A loop that is to end by then without waiting for slow clients can set a timer beside it.
    pub fn on_closed(&self, on_closed: impl FnOnce() + 'static) {
        let old = self.server.on_closed.replace(Some(Box::new(on_closed)));
        drop(old);
        self.server.tell_if_closed();
    }

    /// Ends at once: it listens no more, connections are closed, and handlers dropped. What is set with
    /// [`on_exchange`](Self::on_exchange) is told of those that were cut off, and is dropped when the last reply that was
    /// queued whole is out.
    #[doc(alias = "evhttp_free")]
    pub fn free(&self) {
        self.server.is_stopping.set(true);
        self.stop_listening();
        for conn in self.server.all() {
            conn.abort();
        }
        let routes = self.server.routes.take();
        drop(routes);
        self.server.on_refusal.set(None);
        self.server.is_freed.set(true);
        self.server.fall_silent();
        self.server.tell_if_closed();
    }

    fn stop_listening(&self) {
        let listeners = self.server.listeners.take();
        listeners.iter().for_each(Listener::free);
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// The server lives with its listeners, which live without a handle of either.
fn accept(server: &Rc<Server>) -> impl FnMut(&Listener, OwnedFd, Address) + use<> {
    let server = server.clone();
    move |_, socket, peer| {
        // A socket that cannot be polled is closed, as if it had never been accepted.
        let _ = server.serve(socket, peer);
    }
}

impl Server {
    fn listens(&self, listener: Listener) -> Listener {
        if let Some(socket) = listener.socket() {
            // Connections inherit it.
            hold_little_unsent(&socket);
        }
        self.listeners.borrow_mut().push(listener.clone());
        listener
    }

    fn serve(self: &Rc<Self>, socket: OwnedFd, peer: Address) -> Result<()> {
        Conn::start(self, socket, peer)
    }

    fn all(&self) -> Vec<Rc<Conn>> {
        self.conns.borrow().iter().filter_map(|(_, conn)| conn.upgrade()).collect()
    }

    pub(super) fn base(&self) -> &EventBase {
        &self.base
    }

    pub(super) fn limits(&self) -> Rc<Limits> {
        self.limits.borrow().clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Whether a connection may be served; it is counted then.
    pub(super) fn admits(&self, peer: &Address) -> bool {
        !self.is_stopping() && self.census.enter(peer, &self.limits())
    }

    /// Takes in a connection that was admitted.
    pub(super) fn enroll(&self, conn: Weak<Conn>) -> usize {
        self.conns.borrow_mut().insert(conn)
    }

    pub(super) fn dismiss(&self, key: usize) {
        self.conns.borrow_mut().try_remove(key);
    }

    /// A connection of this address that was dismissed has nothing more to send.
    pub(super) fn ended(&self, peer: &Address) {
        self.forget(peer);
        self.tell_if_closed();
    }

    /// A connection that was dismissed has its last reply to send.
    pub(super) fn lingers(&self) {
        self.lingering.set(self.lingering.get() + 1);
    }

    /// One that lingered is gone.
    pub(super) fn lingered(self: &Rc<Self>, peer: &Address) {
        self.lingering.set(self.lingering.get().saturating_sub(1));
        self.forget(peer);
        self.fall_silent();
        self.tell_if_closed();
    }

    /// Whether one more that is one too many is told so.
    pub(super) fn turns_away(&self) -> bool {
        // They linger, and need descriptors as those do that are served.
        let most = MOST_TURNED_AWAY.min(self.limits.borrow().max_connections / 4 + 1);
        let is_told = self.turned_away.get() < most;
        self.turned_away.set(self.turned_away.get() + usize::from(is_told));
        is_told
    }

    /// One that was told is gone.
    pub(super) fn turned_away(self: &Rc<Self>) {
        self.turned_away.set(self.turned_away.get().saturating_sub(1));
        self.fall_silent();
        self.tell_if_closed();
    }

    /// Runs what waits for the end, if this is it.
    fn tell_if_closed(&self) {
        let left = self.conns.borrow().len() + self.lingering.get() + self.turned_away.get();
        if left == 0
            && self.is_stopping.get()
            && let Some(on_closed) = self.on_closed.take()
        {
            // Refused only by a base that is gone.
            let _ = self.base.defer(move |_| on_closed());
        }
    }

    /// Drops what is told of exchanges when the server is freed and there are none left, behind those that are still to be
    /// told.
    fn fall_silent(self: &Rc<Self>) {
        if self.is_freed.get() && self.lingering.get() == 0 && self.turned_away.get() == 0 {
            let silence = Silence(self.clone());
            // Without a base it is dropped here.
            let _ = self.base.defer(move |_| drop(silence));
        }
    }

    /// A connection of this address is gone.
    fn forget(&self, peer: &Address) {
        for listener in self.listeners.borrow().iter() {
            listener.retry();
        }
        self.census.leave(peer);
    }

    pub(super) fn find(&self, method: &str, path: &str) -> Found {
        self.routes.borrow().find(method, path)
    }

    /// Tells of a refusal; it is user code.
    pub(super) fn refused(&self, peer: &Address, status: Status) {
        // A panic must not take the connection's own closures with it; the message is the panic hook's.
        let _ = self.on_refusal.call(|on_refusal| {
            let _ = catch_unwind(AssertUnwindSafe(|| on_refusal(peer, status)));
        });
    }

    /// The same from the loop, since the caller may be user code.
    pub(super) fn refused_later(self: &Rc<Self>, peer: &Address, status: Status) {
        if self.on_refusal.is_set() {
            let (server, peer) = (self.clone(), peer.clone());
            // Refused only by a base that is gone.
            let _ = self.base.defer(move |_| server.refused(&peer, status));
        }
    }

    pub(super) fn has_on_exchange(&self) -> bool {
        self.on_exchange.is_set()
    }

    /// Tells of an exchange; it is user code.
    pub(super) fn tell(&self, entry: &Entry, peer: &Address, words: &[u8], sent: u64) {
        let exchange = entry.told(peer, words, sent, self.base.clock().fresh());
        let _ = self.on_exchange.call(|on_exchange| {
            let _ = catch_unwind(AssertUnwindSafe(|| on_exchange(&exchange)));
        });
    }

    pub(super) fn take_ledger(&self) -> Box<Ledger> {
        self.spare_ledgers.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back one that is empty.
    pub(super) fn put_ledger(&self, ledger: Option<Box<Ledger>>) {
        let mut spare = self.spare_ledgers.borrow_mut();
        if let Some(ledger) = ledger.filter(|ledger| spare.len() < MOST_SPARE && ledger.is_worth_keeping()) {
            spare.push(ledger);
        }
    }

    pub(super) fn take_words(&self) -> Vec<u8> {
        self.words.take()
    }

    pub(super) fn put_words(&self, words: Vec<u8>) {
        self.words.set(words);
    }

    pub(super) fn take_scratch(&self) -> Box<Scratch> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn put_scratch(&self, mut scratch: Box<Scratch>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MOST_SPARE && scratch.is_worth_keeping() {
            scratch.clear();
            spare.push(scratch);
        }
    }

    /// Now, as `Date` has it.
    pub(super) fn date(&self) -> [u8; DATE_LEN] {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (have, date) = self.date.get();
        if have == second {
            return date;
        }
        let mut date = [b' '; DATE_LEN];
        // It has this length in every year of four digits.
        let _ = write!(&mut date[..], "{}", httpdate::HttpDate::from(now));
        self.date.set((second, date));
        date
    }
}

struct Silence(Rc<Server>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.on_exchange.set(None);
    }
}
