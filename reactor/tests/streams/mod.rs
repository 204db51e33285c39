//! What the tests of streams share: connected sockets, a log of callbacks, and ways to run a loop up to a point.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reactor::{
    Address, BevEvent, BevOptions, Bufferevent, Direction, EventBase, LoopFlags, Outcome, SteppedClock,
};
use socket2::{Domain, SockAddr, Socket, Type};

/// Far more than anything here takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Unix,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Tcp, Kind::Unix];

/// One way to run a test body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) kind: Kind,
    pub(crate) options: BevOptions,
}

impl Mode {
    pub(crate) fn is_deferred(self) -> bool {
        self.options.contains(BevOptions::DEFER_CALLBACKS)
    }
}

/// Runs a body over TCP and Unix sockets, plain and deferred.
pub(crate) fn each_mode(body: impl Fn(Mode)) {
    for kind in KINDS {
        for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
            let mode = Mode { kind, options };
            let _told = TellOnPanic(mode);
            body(mode);
        }
    }
}

struct TellOnPanic(Mode);

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {:?}", self.0);
        }
    }
}

/// Two ends of a connection, both non-blocking.
pub(crate) fn connected(kind: Kind) -> (Socket, Socket) {
    let (ours, theirs) = match kind {
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            theirs.set_nodelay(true).unwrap();
            (Socket::from(listener.accept().unwrap().0), Socket::from(theirs))
        }
        Kind::Unix => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (Socket::from(std::os::fd::OwnedFd::from(ours)), Socket::from(std::os::fd::OwnedFd::from(theirs)))
        }
    };
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// An abstract name that nobody had before. It is never tried: a test that starts a process lends it every socket of this
/// one for a moment, and a name that was bound stays taken for as long.
pub(crate) fn unused_name() -> String {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    format!("reactor-test-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::Relaxed))
}

/// A socket that holds an address, listening or not, and that address.
pub(crate) fn bound(kind: Kind, backlog: Option<i32>) -> (Socket, Address) {
    let socket = match kind {
        Kind::Tcp => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let anywhere: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
            socket.bind(&anywhere.into()).unwrap();
            socket
        }
        Kind::Unix => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.bind(&SockAddr::unix(format!("\0{}", unused_name())).unwrap()).unwrap();
            socket
        }
    };
    if let Some(backlog) = backlog {
        socket.listen(backlog).unwrap();
    }
    socket.set_nonblocking(true).unwrap();
    let address = address_of(&socket.local_addr().unwrap());
    (socket, address)
}

pub(crate) fn address_of(address: &SockAddr) -> Address {
    match (address.as_socket(), address.as_abstract_namespace()) {
        (Some(inet), _) => Address::Inet(inet),
        (None, Some(name)) => Address::Abstract(name.to_vec()),
        (None, None) => address.as_pathname().map_or(Address::Unnamed, Address::from),
    }
}

/// Connects a plain socket, which may have to wait in the listener's queue.
pub(crate) fn dial(address: &Address) -> Socket {
    let (domain, to) = match address {
        Address::Inet(inet) => (Domain::for_address(*inet), SockAddr::from(*inet)),
        Address::Path(path) => (Domain::UNIX, SockAddr::unix(path).unwrap()),
        Address::Abstract(name) => {
            let name = format!("\0{}", String::from_utf8(name.clone()).unwrap());
            (Domain::UNIX, SockAddr::unix(name).unwrap())
        }
        Address::Unnamed => panic!("nowhere to connect to"),
    };
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.connect(&to).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What callbacks did, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn note(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn has(&self, entry: &str) -> bool {
        self.0.borrow().iter().any(|noted| noted == entry)
    }

    pub(crate) fn count(&self, entry: &str) -> usize {
        self.0.borrow().iter().filter(|noted| *noted == entry).count()
    }

    /// Sets all three callbacks of a bufferevent: `read <length of the input>`, `write`, `EOF|READING` and the like.
    pub(crate) fn watch(&self, bev: &Bufferevent) {
        let (read, write, event) = (self.clone(), self.clone(), self.clone());
        bev.on_read(move |bev| read.note(format!("read {}", bev.input().len())));
        bev.on_write(move |_| write.note("write"));
        bev.on_event(move |_, what| event.note(names(what)));
    }
}

pub(crate) fn names(what: BevEvent) -> String {
    what.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

/// A counter that closures share.
#[derive(Clone, Default)]
pub(crate) struct Count(Rc<Cell<usize>>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }

    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }

    pub(crate) fn set(&self, n: usize) {
        self.0.set(n);
    }
}

/// Counts up when it is dropped: put into a closure, it tells when that goes.
pub(crate) struct Dropped(pub(crate) Count);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.up();
    }
}

/// A base, a watched bufferevent on it and the other end of its socket.
pub(crate) struct Fixture {
    pub(crate) base: EventBase,
    pub(crate) bev: Bufferevent,
    pub(crate) peer: Socket,
    pub(crate) log: Log,
}

pub(crate) fn fixture(mode: Mode) -> Fixture {
    on(EventBase::new().unwrap(), mode)
}

/// A fixture whose time moves only when nothing else can happen. Unix sockets alone: what is written to them is there
/// at once.
pub(crate) fn stepped(options: BevOptions) -> (Fixture, SteppedClock) {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    (on(base, Mode { kind: Kind::Unix, options }), clock)
}

fn on(base: EventBase, mode: Mode) -> Fixture {
    let (ours, peer) = connected(mode.kind);
    let bev = Bufferevent::socket(&base, ours, mode.options).unwrap();
    let log = Log::default();
    log.watch(&bev);
    Fixture { base, bev, peer, log }
}

impl Fixture {
    pub(crate) fn until(&self, is_done: impl Fn() -> bool) {
        until(&self.base, is_done);
    }

    pub(crate) fn settle(&self) {
        settle(&self.base);
    }

    /// Reads `n` bytes at the other end while the loop runs.
    pub(crate) fn receive(&self, n: usize) -> Vec<u8> {
        receive(&self.base, &self.peer, n)
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        assert_eq!((&self.peer).write(bytes).unwrap(), bytes.len());
    }

    /// Writes at the other end and runs until the read callback saw this much in the input.
    pub(crate) fn send_and_see(&self, bytes: &[u8]) {
        let before = self.bev.input().len();
        self.send(bytes);
        let entry = format!("read {}", before + bytes.len());
        self.until(|| self.log.has(&entry));
    }

    /// The input, taken out.
    pub(crate) fn input(&self) -> Vec<u8> {
        take_input(&self.bev)
    }
}

pub(crate) fn take_input(bev: &Bufferevent) -> Vec<u8> {
    let mut bytes = vec![0; bev.input().len()];
    assert_eq!(bev.read(&mut bytes), bytes.len());
    bytes
}

/// Runs the loop, blocking, until something is so.
pub(crate) fn until(base: &EventBase, is_done: impl Fn() -> bool) {
    let late = Rc::new(Cell::new(false));
    let set = late.clone();
    let watchdog = reactor::Event::timer(base, move |_, _| set.set(true)).unwrap();
    watchdog.add(Some(PATIENCE)).unwrap();
    while !is_done() {
        assert_eq!(base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
        assert!(!late.get(), "waited in vain");
    }
    watchdog.free();
}

/// Runs the loop until a turn brings nothing, without blocking; for what must not happen.
pub(crate) fn settle(base: &EventBase) {
    for _ in 0..5 {
        base.run(LoopFlags::NONBLOCK).unwrap();
    }
}

pub(crate) fn receive(base: &EventBase, peer: &Socket, n: usize) -> Vec<u8> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    while bytes.len() < n {
        base.run(LoopFlags::NONBLOCK).unwrap();
        let mut piece = vec![0; n - bytes.len()];
        match (&mut &*peer).read(&mut piece) {
            Ok(0) => panic!("the stream ended after {} of {n} bytes", bytes.len()),
            Ok(m) => bytes.extend_from_slice(&piece[..m]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => panic!("{error} after {} of {n} bytes", bytes.len()),
        }
        assert!(start.elapsed() < PATIENCE, "{} of {n} bytes came", bytes.len());
    }
    bytes
}

/// Whether the other end has closed its socket, waiting for it while the loop runs.
pub(crate) fn is_closed(base: &EventBase, peer: &Socket) -> bool {
    let start = Instant::now();
    loop {
        base.run(LoopFlags::NONBLOCK).unwrap();
        let mut byte = [0];
        match (&mut &*peer).read(&mut byte) {
            Ok(0) => return true,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return true,
            _ if start.elapsed() > PATIENCE => return false,
            _ => (),
        }
    }
}

/// Bytes that differ from their neighbours at every distance that matters.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

pub(crate) const READ: Direction = Direction::READ;
pub(crate) const WRITE: Direction = Direction::WRITE;
