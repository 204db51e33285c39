//! Listening sockets: each connection that arrives is handed to a callback.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::active::{Callback, Node, When};
use crate::address::Address;
use crate::base::{EventBase, Owned};
use crate::clock::{Nanos, nanos};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::flags::EventFlags;
use crate::left_over::bind_over;
use crate::slot::{Called, Slot};
use crate::sys::set_tcp_defer_accept;
use crate::table::Key;
use crate::timer::{Lane, TimerKey};

/// A listening socket on a base.
///
/// Its callback gets each connection, non-blocking and close-on-exec, with its peer's address, in the order of
/// arrival. All that wait are accepted in one turn, up to 256.
///
/// `Listener` is a handle, cheap to clone. The base keeps the object until [`free`](Self::free), handle or not.
///
/// When the system has no descriptors or memory for another connection, the error callback is told, and the listener
/// pauses: 10 ms at first, twice as long each time, at most a second. Connections wait in the kernel's queue
/// meanwhile. libevent tries again at once, in every turn.
///
/// ```
/// use reactor::{Address, BevOptions, Bufferevent, Direction, EventBase, Listener};
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// let base = EventBase::new()?;
/// let anywhere: Address = "127.0.0.1:0".parse()?;
/// let listener = Listener::bind(&base, &anywhere, |listener, socket, _peer| {
///     let Ok(bev) = Bufferevent::socket(listener.base(), socket, BevOptions::empty()) else { return };
///     bev.on_write(|bev| bev.base().loop_break());
///     let _ = bev.write(b"welcome");
/// })?;
/// let Address::Inet(address) = listener.local_address()? else { unreachable!() };
/// let mut client = TcpStream::connect(address)?;
/// base.dispatch()?;
/// let mut greeting = [0; 7];
/// client.read_exact(&mut greeting)?;
/// assert_eq!(&greeting, b"welcome");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "evconnlistener")]
pub struct Listener {
    state: Rc<State>,
}

/// How a [`Listener`] listens.
///
/// ```
/// use reactor::ListenOptions;
///
/// let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
/// assert_eq!(options.backlog, 4096);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that may wait in the kernel's queue, at least 1. Default 4096, which Linux cuts to its
    /// `net.core.somaxconn`; libevent's 128 is small for a burst.
    pub backlog: i32,
    /// Bind although connections of an earlier process linger. Default true; nothing for Unix sockets.
    #[doc(alias = "LEV_OPT_REUSEABLE")]
    pub reuse_address: bool,
    /// Share the port with other listeners that ask for it too; the kernel spreads the connections. Default false.
    #[doc(alias = "LEV_OPT_REUSEABLE_PORT")]
    pub reuse_port: bool,
    /// An IPv6 listener takes IPv6 connections alone. Default false: IPv4 ones come as mapped addresses, where the
    /// system says so.
    #[doc(alias = "LEV_OPT_BIND_IPV6ONLY")]
    pub ipv6_only: bool,
    /// Report a connection only when its first bytes are there. Default false; TCP alone.
    #[doc(alias = "LEV_OPT_DEFERRED_ACCEPT")]
    pub deferred_accept: bool,
    /// Begin disabled; [`Listener::enable`] starts it. Default false.
    #[doc(alias = "LEV_OPT_DISABLED")]
    pub disabled: bool,
    /// Take the path of a Unix socket on which nobody listens any more, as a process that was killed leaves it. A socket that
    /// somebody listens on, or another file, is never touched. Default false.
    pub replace_left_over: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            backlog: 4096,
            reuse_address: true,
            reuse_port: false,
            ipv6_only: false,
            deferred_accept: false,
            disabled: false,
            replace_left_over: false,
        }
    }
}

type OnAccept = dyn FnMut(&Listener, OwnedFd, Address);
type OnError = dyn FnMut(&Listener, &io::Error);

struct State {
    me: Weak<State>,
    node: Node,
    base: EventBase,
    owned: OnceCell<Key>,
    /// Shared with the turn that uses it while a callback may free the listener.
    open: RefCell<Option<(Rc<OwnedFd>, Key)>>,
    on_accept: Slot<OnAccept>,
    on_error: Slot<OnError>,
    is_enabled: Cell<bool>,
    /// Connections may be waiting.
    is_ready: Cell<bool>,
    pause: Cell<Option<TimerKey>>,
    next_pause: Cell<Duration>,
    /// A failure before this time was told already.
    told_until: Cell<Nanos>,
    is_counted: Cell<bool>,
    is_freed: Cell<bool>,
}

/// Connections accepted in one turn; the rest wait for the next, so that the accepted ones get theirs.
const MAX_PER_TURN: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Seconds that the kernel holds back a connection without bytes. libevent asks for one.
const DEFERRED_ACCEPT_SECONDS: i32 = 1;

impl Listener {
    /// Listens on `address` with the default [`ListenOptions`].
    ///
    /// # Errors
    /// As [`bind_with`](Self::bind_with).
    #[doc(alias = "evconnlistener_new_bind")]
    pub fn bind(
        base: &EventBase,
        address: &Address,
        on_accept: impl FnMut(&Listener, OwnedFd, Address) + 'static,
    ) -> Result<Listener> {
        Self::bind_with(base, address, &ListenOptions::default(), on_accept)
    }

    /// Listens on `address`; port 0 lets the kernel choose, see [`local_address`](Self::local_address). TCP
    /// connections come with `TCP_NODELAY`.
    ///
    /// # Errors
    /// [`Error::Listen`] if the system refuses (address in use, no permission, a path that exists) or the backlog is
    /// below 1; [`Error::Freed`] when the base is gone.
    #[doc(alias = "evconnlistener_new_bind")]
    pub fn bind_with(
        base: &EventBase,
        address: &Address,
        options: &ListenOptions,
        on_accept: impl FnMut(&Listener, OwnedFd, Address) + 'static,
    ) -> Result<Listener> {
        base.check()?;
        let socket = match address {
            Address::Path(path) if options.replace_left_over => bind_over(path, || bound(address, options)),
            _ => bound(address, options),
        };
        let socket = socket.map_err(|source| Error::Listen { address: address.to_string(), source })?;
        let listener = Self::build(base, socket.into(), Box::new(on_accept))?;
        if !options.disabled {
            listener.enable();
        }
        Ok(listener)
    }

    /// Takes over a socket that listens already, made non-blocking here.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be polled (it is closed then); [`Error::Freed`] when the base is gone.
    #[doc(alias = "evconnlistener_new")]
    pub fn adopt(
        base: &EventBase,
        socket: impl Into<OwnedFd>,
        on_accept: impl FnMut(&Listener, OwnedFd, Address) + 'static,
    ) -> Result<Listener> {
        base.check()?;
        let socket = socket.into();
        rustix::io::ioctl_fionbio(&socket, true)
            .map_err(|errno| Error::io("make a listening socket non-blocking")(errno.into()))?;
        let listener = Self::build(base, socket, Box::new(on_accept))?;
        listener.enable();
        Ok(listener)
    }

    fn build(base: &EventBase, socket: OwnedFd, on_accept: Box<OnAccept>) -> Result<Listener> {
        let state = Rc::new_cyclic(|me: &Weak<State>| State {
            me: me.clone(),
            node: Node::new(base.middle_priority()),
            base: base.handle(),
            owned: OnceCell::new(),
            open: RefCell::new(None),
            on_accept: Slot::new(on_accept),
            on_error: Slot::empty(),
            is_enabled: Cell::new(false),
            is_ready: Cell::new(false),
            pause: Cell::new(None),
            next_pause: Cell::new(FIRST_PAUSE),
            told_until: Cell::new(0),
            is_counted: Cell::new(false),
            is_freed: Cell::new(false),
        });
        let key = base.add_stream(socket.as_fd(), state.clone())?;
        state.open.replace(Some((Rc::new(socket), key)));
        let _ = state.owned.set(base.own(state.clone()));
        Ok(Listener { state })
    }

    /// Accepts connections, those that waited meanwhile first.
    #[doc(alias = "evconnlistener_enable")]
    pub fn enable(&self) {
        if !self.state.is_freed.get() {
            self.state.is_enabled.set(true);
            self.state.attend();
        }
    }

    /// Accepts no more, from this moment on; connections wait in the kernel's queue.
    #[doc(alias = "evconnlistener_disable")]
    pub fn disable(&self) {
        self.state.is_enabled.set(false);
        self.state.attend();
    }

    /// Whether it is enabled; never once it is freed.
    pub fn is_enabled(&self) -> bool {
        self.state.is_enabled.get()
    }

    /// Sets what gets the connections; while the old one runs, from the next.
    #[doc(alias = "evconnlistener_set_cb")]
    pub fn on_accept(&self, callback: impl FnMut(&Listener, OwnedFd, Address) + 'static) {
        if !self.state.is_freed.get() {
            self.state.on_accept.set(Some(Box::new(callback)));
            self.state.attend();
        }
    }

    /// Drops what gets the connections; none is accepted without it.
    #[doc(alias = "evconnlistener_set_cb")]
    pub fn clear_on_accept(&self) {
        self.state.on_accept.set(None);
        self.state.attend();
    }

    /// Sets what is told when a connection cannot be accepted, once for each pause; without it,
    /// [`EventBase::on_diagnostic`] is. It may disable or free the
    /// listener. Interrupted and aborted connections are no failures.
    #[doc(alias = "evconnlistener_set_error_cb")]
    pub fn on_error(&self, callback: impl FnMut(&Listener, &io::Error) + 'static) {
        if !self.state.is_freed.get() {
            self.state.on_error.set(Some(Box::new(callback)));
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`Error::Freed`]; [`Error::Io`] if the system does not tell.
    pub fn local_address(&self) -> Result<Address> {
        let Some((fd, _)) = self.state.open.borrow().clone() else {
            return Err(Error::Freed { what: "listener" });
        };
        let any =
            getsockname(&fd).map_err(|errno| Error::io("ask for a listener's address")(errno.into()))?;
        Ok(Address::from_any(Some(any)))
    }

    /// Its socket's number, until it is freed.
    #[doc(alias = "evconnlistener_get_fd")]
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.state.open.borrow().as_ref().map(|(fd, _)| fd.as_raw_fd())
    }

    /// The base it lives on.
    #[doc(alias = "evconnlistener_get_base")]
    pub fn base(&self) -> &EventBase {
        &self.state.base
    }

    /// Ends it: no callback runs any more. The socket is closed, after the pass that is on the stack; connections that
    /// were not accepted are dropped by the kernel. A second `free` does nothing.
    ///
    /// The path of a Unix socket stays: remove it before the next bind, which is refused as long as it exists, or let that one
    /// [replace](ListenOptions::replace_left_over) it.
    #[doc(alias = "evconnlistener_free")]
    pub fn free(&self) {
        self.state.free();
    }

    /// Tries again at once if it pauses after a failure: something was given back that may have been missing.
    pub(crate) fn retry(&self) {
        if let Some(pause) = self.state.pause.take() {
            let until = self.state.base.timer_deadline(pause).unwrap_or(0);
            self.state.told_until.set(until);
            self.state.base.remove_timer(pause);
            self.state.attend();
        }
    }

    /// Its socket, until it is freed.
    pub(crate) fn socket(&self) -> Option<Rc<OwnedFd>> {
        self.state.open.borrow().as_ref().map(|(fd, _)| fd.clone())
    }

    /// Whether it was freed, by hand or with its base.
    pub fn is_freed(&self) -> bool {
        self.state.is_freed.get()
    }
}

impl PartialEq for Listener {
    /// Whether both are handles of one listener.
    fn eq(&self, other: &Listener) -> bool {
        Rc::ptr_eq(&self.state, &other.state)
    }
}

impl Eq for Listener {}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("fd", &self.raw_fd())
            .field("is_enabled", &self.is_enabled())
            .field("is_freed", &self.is_freed())
            .finish_non_exhaustive()
    }
}

fn bound(address: &Address, options: &ListenOptions) -> io::Result<Socket> {
    let (domain, to) = match address {
        Address::Inet(inet) => (Domain::for_address(*inet), SockAddr::from(*inet)),
        Address::Path(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Address::Abstract(name) => {
            let path = [b"\0".as_slice(), name].concat();
            (Domain::UNIX, SockAddr::unix(OsString::from_vec(path))?)
        }
        Address::Unnamed => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name is needed to listen"));
        }
    };
    if options.backlog < 1 {
        let message = format!("a backlog of {} holds no connection: give it 1 or more", options.backlog);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_inet() {
        socket.set_reuse_address(options.reuse_address)?;
        socket.set_reuse_port(options.reuse_port)?;
        // As libevent; accepted sockets inherit both.
        socket.set_keepalive(true)?;
        socket.set_tcp_nodelay(true)?;
        if options.deferred_accept {
            set_tcp_defer_accept(socket.as_fd(), DEFERRED_ACCEPT_SECONDS)?;
        }
    }
    if domain == Domain::IPV6 {
        socket.set_only_v6(options.ipv6_only)?;
    }
    socket.bind(&to)?;
    socket.listen(options.backlog)?;
    Ok(socket)
}

impl State {
    fn is_accepting(&self) -> bool {
        self.is_enabled.get() && !self.is_freed.get() && self.pause.get().is_none() && self.on_accept.is_set()
    }

    /// After something changed: is there something to accept, does it keep the loop alive?
    fn attend(&self) {
        let counts = self.is_enabled.get() && !self.is_freed.get() && self.on_accept.is_set();
        if self.is_counted.replace(counts) != counts {
            self.base.count_waiting(if counts { 1 } else { -1 });
        }
        if !counts && let Some(pause) = self.pause.take() {
            self.base.remove_timer(pause);
        }
        if self.is_ready.get()
            && self.is_accepting()
            && let Some(me) = self.me.upgrade()
        {
            self.base.activate(me, EventFlags::empty(), When::NextTurn);
        }
    }

    /// Accepts what waits; how many callbacks ran.
    fn accept_all(self: &Rc<Self>) -> usize {
        let Some((fd, _)) = self.open.borrow().clone() else { return 0 };
        let listener = Listener { state: self.clone() };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let mut calls = 0;
        for _ in 0..MAX_PER_TURN {
            // The callback may have disabled, freed or replaced anything.
            if !self.is_accepting() {
                break;
            }
            match acceptfrom_with(&fd, flags) {
                Ok((socket, peer)) => {
                    self.next_pause.set(FIRST_PAUSE);
                    let peer = Address::from_any(peer);
                    let called = self.on_accept.call(|on_accept| on_accept(&listener, socket, peer));
                    calls += usize::from(called == Called::Ran);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => (),
                Err(Errno::AGAIN) => {
                    self.is_ready.set(false);
                    break;
                }
                Err(errno) => {
                    calls += usize::from(self.fail(&listener, errno.into()) == Called::Ran);
                    break;
                }
            }
        }
        calls
    }

    /// Pauses, then tells. The connection still waits, and its edge is spent: the timer tries again.
    fn fail(self: &Rc<Self>, listener: &Listener, error: io::Error) -> Called {
        let now = self.base.clock().now();
        let is_told = now < self.told_until.get();
        let pause = self.next_pause.get();
        let deadline = if is_told {
            self.told_until.get()
        } else {
            self.next_pause.set((pause * 2).min(LONGEST_PAUSE));
            now.saturating_add(nanos(pause))
        };
        let timer = self.base.insert_timer(Lane::Heap, deadline, self.clone(), EventFlags::TIMEOUT);
        self.pause.set(Some(timer));
        if is_told {
            return Called::Empty;
        }
        let called = self.on_error.call(|on_error| on_error(listener, &error));
        if called == Called::Empty {
            // An open listener always has an address.
            let address = listener.local_address().unwrap_or(Address::Unnamed);
            self.base.diagnose(&Diagnostic::Accept { address, pause, source: error });
        }
        called
    }

    fn free(&self) {
        if self.is_freed.replace(true) {
            return;
        }
        self.is_enabled.set(false);
        self.base.deactivate(&self.node);
        self.attend();
        self.close();
        let owned = self.owned.get().and_then(|&key| self.base.disown(key));
        // User code from here on: what closures captured is dropped.
        self.on_accept.set(None);
        self.on_error.set(None);
        drop(owned);
    }

    fn close(&self) {
        let open = self.open.borrow_mut().take();
        if let Some((fd, key)) = open {
            self.base.remove_stream(fd.as_fd(), key);
        }
    }
}

impl Callback for State {
    fn node(&self) -> &Node {
        &self.node
    }

    fn run(self: Rc<Self>, what: EventFlags) -> bool {
        if what.intersects(EventFlags::IO) {
            self.is_ready.set(true);
        }
        let _run = Run(&self);
        self.accept_all() > 0
    }

    fn expired(self: Rc<Self>, _tag: EventFlags, _due: Nanos) {
        self.pause.set(None);
        let base = self.base.handle();
        base.activate(self, EventFlags::empty(), When::Now);
    }
}

impl Owned for State {
    fn free_with_base(&self) {
        self.free();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.close();
    }
}

/// The loop runs this listener. However that ends, a panic included, what is left to do is seen to.
struct Run<'a>(&'a State);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.attend();
    }
}
