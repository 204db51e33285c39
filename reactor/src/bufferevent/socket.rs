//! The transport over a stream socket.
//!
//! The socket is registered once, by edges, for its whole life. Ready bits remember what an edge said until a read or
//! write proves it outdated, by failing or by moving less than it could.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, getpeername, getsockname, socket_with, sockopt,
};

use super::MAX_SINGLE_DEFAULT;
use super::flags::{BevEvent, Direction, TriggerOptions};
use super::state::{OnPanic, State};
use crate::active::When;
use crate::address::Address;
use crate::error::{Error, Result};
use crate::evbuffer::{End, Pass};
use crate::flags::EventFlags;
use crate::table::Key;

pub(super) struct Socket {
    open: RefCell<Option<Open>>,
    phase: Cell<Phase>,
    /// Where to, while it is connecting.
    connecting_to: RefCell<Option<Address>>,
    ready: Cell<EventFlags>,
    /// Writing was turned on with nothing to send: one write callback is owed.
    owes_write: Cell<bool>,
    finish: Cell<Finish>,
    /// What was asked for, if anything was: none, or the idle time.
    keepalive: Cell<Option<Option<Duration>>>,
    /// The turns of the last passes: one of each kind a turn, for fairness.
    read_turn: Cell<u64>,
    write_turn: Cell<u64>,
}

struct Open {
    /// Shared for the length of a system call; while user code runs, only with a user who borrows it.
    fd: Rc<OwnedFd>,
    key: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Without a socket, or with one whose connect failed.
    Idle,
    Connecting,
    Connected,
}

/// The end of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    /// More may come.
    Open,
    /// It follows the last byte of the output.
    Owed,
    /// The peer was told.
    Told,
}

impl Socket {
    pub(super) fn new() -> Self {
        Socket {
            open: RefCell::new(None),
            phase: Cell::new(Phase::Idle),
            connecting_to: RefCell::new(None),
            ready: Cell::new(EventFlags::empty()),
            owes_write: Cell::new(false),
            finish: Cell::new(Finish::Open),
            keepalive: Cell::new(None),
            read_turn: Cell::new(0),
            write_turn: Cell::new(0),
        }
    }

    pub(super) fn raw_fd(&self) -> Option<RawFd> {
        self.open.borrow().as_ref().map(|open| open.fd.as_raw_fd())
    }

    /// The socket itself, for a call that must not be cut short by a `free`.
    pub(super) fn fd(&self) -> Option<Rc<OwnedFd>> {
        self.open.borrow().as_ref().map(|open| open.fd.clone())
    }

    /// Whether the end is still to follow the output.
    pub(super) fn owes_finish(&self) -> bool {
        self.finish.get() == Finish::Owed
    }

    /// Whether the peer was told that no more comes.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.get() == Finish::Told
    }

    /// Has the end follow the output, to which nothing can be added any more.
    pub(super) fn finish(&self, state: &State) {
        if self.finish.get() == Finish::Open {
            self.finish.set(Finish::Owed);
            state.output.freeze(End::Back);
            state.attend();
        }
    }

    /// Whether something can still come from the socket.
    pub(super) fn is_polled(&self) -> bool {
        self.phase.get() != Phase::Idle
    }

    pub(super) fn waits_to_write(&self, is_writing: bool) -> bool {
        match self.phase.get() {
            Phase::Idle => false,
            Phase::Connecting => true,
            Phase::Connected => is_writing || self.owes_write.get(),
        }
    }

    pub(super) fn enabled(&self, direction: Direction) {
        if direction.contains(Direction::WRITE) && self.phase.get() == Phase::Connected {
            self.owes_write.set(true);
        }
    }

    pub(super) fn disabled(&self, direction: Direction) {
        if direction.contains(Direction::WRITE) {
            self.owes_write.set(false);
        }
    }

    /// When the loop should run this bufferevent, as far as the socket goes.
    pub(super) fn has_work(&self, state: &State) -> Option<When> {
        let turn = state.base().turn();
        let (reads, writes) = (self.can_read(state), self.can_write(state));
        if (reads && self.read_turn.get() != turn) || (writes && self.write_turn.get() != turn) {
            return Some(When::Now);
        }
        (reads || writes).then_some(When::NextTurn)
    }

    fn can_read(&self, state: &State) -> bool {
        self.phase.get() == Phase::Connected
            && self.ready.get().contains(EventFlags::READ)
            && state.enabled.get().contains(Direction::READ)
            && state.read_room() > 0
    }

    fn can_write(&self, state: &State) -> bool {
        self.phase.get() == Phase::Connected
            && self.ready.get().contains(EventFlags::WRITE)
            && state.enabled.get().contains(Direction::WRITE)
            && (self.owes_write.get() || self.owes_finish() || !state.output.is_empty())
    }

    /// Notes what the poll said.
    pub(super) fn became(&self, what: EventFlags) {
        self.ready.set(self.ready.get() | what);
    }

    /// Whether the poll said something of an end.
    pub(super) fn has_hangup(&self) -> bool {
        self.phase.get() == Phase::Connected && self.ready.get().contains(EventFlags::CLOSED)
    }

    /// Whether the peer has left (an error), or sends no more (an end).
    pub(super) fn hangup(&self) -> Option<BevEvent> {
        let fd = self.fd()?;
        let mut asked = [PollFd::new(&fd, PollFlags::RDHUP)];
        retry_on_intr(|| rustix::event::poll(&mut asked, Some(&Timespec::default()))).ok()?;
        let said = asked[0].revents();
        if said.intersects(PollFlags::HUP | PollFlags::ERR) {
            Some(BevEvent::ERROR)
        } else if said.contains(PollFlags::RDHUP) {
            Some(BevEvent::EOF)
        } else {
            None
        }
    }

    /// Bytes that have come and were not read.
    pub(super) fn unread(&self) -> Option<u64> {
        rustix::io::ioctl_fionread(self.fd()?).ok()
    }

    /// One pass in each direction; true if it came to anything.
    pub(super) fn pass(&self, state: &State) -> bool {
        let mut did = false;
        if self.phase.get() == Phase::Connecting && !self.ready.get().is_empty() {
            did |= self.finish_connect(state);
        }
        let turn = state.base().turn();
        // What waited for the connect leaves, and a write callback that is owed runs, before anything is read.
        if (did || self.owes_write.get()) && self.can_write(state) && self.write_turn.replace(turn) != turn {
            did |= self.write(state);
        }
        if self.can_read(state) && self.read_turn.replace(turn) != turn {
            did |= self.read(state);
        }
        if self.can_write(state) && self.write_turn.replace(turn) != turn {
            did |= self.write(state);
        }
        did
    }

    fn finish_connect(&self, state: &State) -> bool {
        let Some(outcome) = self.fd().and_then(|fd| connected(&fd, self.ready.get())) else {
            self.ready.set(EventFlags::empty());
            return false;
        };
        let address = self.connecting_to.take();
        match outcome {
            Ok(()) => {
                self.phase.set(Phase::Connected);
                self.owes_write.set(false);
                state.transferred(Direction::WRITE);
                state.event(BevEvent::CONNECTED, TriggerOptions::empty());
            }
            Err(errno) => {
                self.give_up_connect();
                let address = address.map_or_else(String::new, |address| address.to_string());
                let error = Error::Connect { address, source: errno.into() };
                state.failed(Direction::empty(), BevEvent::ERROR, Some(error));
            }
        }
        true
    }

    fn read(&self, state: &State) -> bool {
        if state.is_leaving() {
            return self.discard(state);
        }
        let Some(fd) = self.fd() else { return false };
        let most = state.max_single_read.get().min(state.read_room());
        let on_panic = OnPanic(state, Direction::READ);
        let outcome = state.input.read_thawed(fd, most);
        mem::forget(on_panic);
        match outcome {
            Ok(Pass { moved: 0, .. }) => {
                state.failed(Direction::READ, BevEvent::READING | BevEvent::EOF, None);
            }
            Ok(pass) => {
                // After a short read the next bytes bring an edge; an end of stream that was announced, and what stands
                // behind urgent data, do not.
                if pass.moved < pass.offered && !self.ready.get().contains(EventFlags::CLOSED) {
                    self.clear(EventFlags::READ);
                }
                state.transferred(Direction::READ);
                state.occasion(Direction::READ, TriggerOptions::empty());
            }
            Err(error) if error.would_block() => {
                self.clear(EventFlags::READ);
                return false;
            }
            Err(error) => state.failed(Direction::READ, BevEvent::READING | BevEvent::ERROR, Some(error)),
        }
        true
    }

    /// Reads what nobody wants any more, so that closing the socket does not take back what was sent.
    fn discard(&self, state: &State) -> bool {
        let Some(fd) = self.fd() else { return false };
        let mut bytes = [0; MAX_SINGLE_DEFAULT];
        let outcome = retry_on_intr(|| rustix::io::read(&fd, &mut bytes));
        drop(fd);
        match outcome {
            Ok(0) => state.peer_finished(),
            Ok(n) => {
                if n < bytes.len() && !self.ready.get().contains(EventFlags::CLOSED) {
                    self.clear(EventFlags::READ);
                }
                state.discarded(n);
            }
            Err(Errno::AGAIN) => {
                self.clear(EventFlags::READ);
                return false;
            }
            Err(errno) => {
                let error = Error::io("read from a socket")(errno.into());
                state.failed(Direction::READ, BevEvent::READING | BevEvent::ERROR, Some(error));
            }
        }
        true
    }

    fn write(&self, state: &State) -> bool {
        let owed = self.owes_write.replace(false);
        if state.output.is_empty() {
            let told = self.tell_finish(state);
            if owed {
                state.occasion(Direction::WRITE, TriggerOptions::empty());
            }
            return owed || told;
        }
        let Some(fd) = self.fd() else { return false };
        let on_panic = OnPanic(state, Direction::WRITE);
        let outcome = state.output.write_thawed(fd, Some(state.max_single_write.get()));
        mem::forget(on_panic);
        match outcome {
            Ok(pass) => {
                if pass.moved < pass.offered {
                    self.clear(EventFlags::WRITE);
                }
                state.wrote(pass.moved);
                state.transferred(Direction::WRITE);
                self.tell_finish(state);
                state.occasion(Direction::WRITE, TriggerOptions::empty());
            }
            Err(error) if error.would_block() => {
                self.clear(EventFlags::WRITE);
                return false;
            }
            Err(error) => state.failed(Direction::WRITE, BevEvent::WRITING | BevEvent::ERROR, Some(error)),
        }
        true
    }

    /// Tells the peer the end if that is all that is left to send; true if it was.
    fn tell_finish(&self, state: &State) -> bool {
        if !self.owes_finish() || !state.output.is_empty() {
            return false;
        }
        let Some(fd) = self.fd() else { return false };
        self.finish.set(Finish::Told);
        let outcome = rustix::net::shutdown(&fd, Shutdown::Write);
        drop(fd);
        match outcome {
            Ok(()) => state.finished(),
            Err(errno) => {
                let error = Error::io("shut down the sending side of a socket")(errno.into());
                state.failed(Direction::WRITE, BevEvent::WRITING | BevEvent::ERROR, Some(error));
            }
        }
        true
    }

    fn clear(&self, what: EventFlags) {
        self.ready.set(self.ready.get() - what);
    }

    /// What is queued can be added to again: the next socket's end is its own.
    fn reopen(&self, state: &State) {
        if self.finish.replace(Finish::Open) != Finish::Open {
            state.output.unfreeze(End::Back);
        }
    }

    /// Ends a connect that failed or took too long, so that its outcome is reported once.
    pub(super) fn give_up_connect(&self) {
        if self.phase.get() == Phase::Connecting {
            self.phase.set(Phase::Idle);
            self.connecting_to.replace(None);
            self.ready.set(EventFlags::empty());
        }
    }

    /// Takes the socket out, polled no more. It is closed when its last holder drops it.
    pub(super) fn remove(&self, state: &State) -> Option<Rc<OwnedFd>> {
        let Open { fd, key } = self.open.borrow_mut().take()?;
        self.phase.set(Phase::Idle);
        self.ready.set(EventFlags::empty());
        self.owes_write.set(false);
        self.connecting_to.replace(None);
        state.forget_readiness();
        state.base().remove_stream(fd.as_fd(), key);
        Some(fd)
    }
}

/// Whether a connect has come to its end, and how.
fn connected(fd: &OwnedFd, ready: EventFlags) -> Option<std::result::Result<(), Errno>> {
    match sockopt::socket_error(fd) {
        Ok(Ok(())) => match getpeername(fd) {
            Ok(_) => Some(Ok(())),
            // Not yet, unless it has hung up: then nothing else is to come.
            Err(Errno::NOTCONN) if !ready.contains(EventFlags::CLOSED) => None,
            Err(errno) => Some(Err(errno)),
        },
        Ok(Err(errno)) | Err(errno) => Some(Err(errno)),
    }
}

/// Takes the socket away from a bufferevent that goes on without.
pub(super) fn take(state: &State) -> Option<OwnedFd> {
    let socket = state.socket()?;
    let fd = socket.remove(state)?;
    socket.reopen(state);
    state.input.unfreeze(End::Back);
    state.output.unfreeze(End::Front);
    state.attend();
    // A user who borrows it just now keeps it until the borrow ends: then this is a second descriptor of it.
    Rc::try_unwrap(fd).or_else(|shared| shared.try_clone()).ok()
}

/// Gives a connected socket to a bufferevent that has none.
pub(super) fn adopt(state: &Rc<State>, fd: OwnedFd) -> Result<()> {
    let open = open(state, fd)?;
    install(state, open, Phase::Connected);
    Ok(())
}

/// Gives a connected socket, or none, in place of the one that it has. On failure that one stays.
pub(super) fn replace(state: &Rc<State>, fd: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    if state.socket().is_none() {
        return Err(Error::NotASocket);
    }
    let new = fd.map(|fd| open(state, fd)).transpose()?;
    let old = take(state);
    if let Some(new) = new {
        install(state, new, Phase::Connected);
        state.enable(state.enabled.get());
    }
    Ok(old)
}

fn open(state: &Rc<State>, fd: OwnedFd) -> Result<Open> {
    ioctl_fionbio(&fd, true).map_err(|errno| Error::io("make a socket non-blocking")(errno.into()))?;
    poll(state, fd)
}

/// Has the base poll a non-blocking socket.
fn poll(state: &Rc<State>, fd: OwnedFd) -> Result<Open> {
    if let Some(Some(keepalive)) = state.socket().map(|socket| socket.keepalive.get()) {
        keep_alive(&fd, keepalive)?;
    }
    let key = state.base().add_stream(fd.as_fd(), state.clone())?;
    Ok(Open { fd: Rc::new(fd), key })
}

fn install(state: &State, open: Open, phase: Phase) {
    let Some(socket) = state.socket() else { return };
    socket.open.replace(Some(open));
    socket.phase.set(phase);
    state.freeze();
    // What the last socket did does not count against this one.
    state.transferred(Direction::READ);
    state.transferred(Direction::WRITE);
    state.attend();
}

pub(super) fn connect(state: &Rc<State>, address: &Address) -> Result<()> {
    let Some(socket) = state.socket() else { return Err(Error::NotASocket) };
    drop(socket.remove(state));
    socket.reopen(state);
    state.attend();
    let refused = |errno: Errno| Error::Connect { address: address.to_string(), source: errno.into() };
    match begin(address) {
        Ok(fd) => {
            let open = poll(state, fd)?;
            socket.connecting_to.replace(Some(address.clone()));
            install(state, open, Phase::Connecting);
            Ok(())
        }
        Err(errno @ Errno::CONNREFUSED) => {
            state.disable(Direction::all());
            state.failed_later(refused(errno));
            Ok(())
        }
        Err(errno) => Err(refused(errno)),
    }
}

/// A socket that is connecting, or connected already.
fn begin(address: &Address) -> std::result::Result<OwnedFd, Errno> {
    let to = address.to_any()?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(address.family(), SocketType::STREAM, flags, None)?;
    if address.is_inet() {
        sockopt::set_tcp_nodelay(&fd, true)?;
    }
    match rustix::net::connect(&fd, &to) {
        // An interrupted connect goes on by itself; asking again would only say so.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// Which end of the connection an address is asked of.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Local,
    Peer,
}

pub(super) fn address(state: &State, side: Side) -> Result<Address> {
    let what = match side {
        Side::Local => "ask for the local address of a stream",
        Side::Peer => "ask for the peer's address of a stream",
    };
    let socket = state.socket().ok_or(Error::NotASocket)?;
    let fd = socket.fd().ok_or_else(|| Error::io(what)(unconnected()))?;
    let address = match side {
        Side::Local => getsockname(&fd).map(Some),
        Side::Peer => getpeername(&fd),
    };
    address.map(Address::from_any).map_err(|errno| Error::io(what)(errno.into()))
}

pub(super) fn shutdown(state: &State, direction: Direction) -> Result<()> {
    const WHAT: &str = "shut down a stream";
    let socket = state.socket().ok_or(Error::NotASocket)?;
    let is_ready = match socket.phase.get() {
        Phase::Idle => false,
        // To stop receiving now would end the connect.
        Phase::Connecting => !direction.contains(Direction::READ),
        Phase::Connected => true,
    };
    let Some(fd) = socket.fd().filter(|_| is_ready) else { return Err(Error::io(WHAT)(unconnected())) };
    if direction.contains(Direction::READ) {
        rustix::net::shutdown(&fd, Shutdown::Read).map_err(|errno| Error::io(WHAT)(errno.into()))?;
        socket.became(EventFlags::READ | EventFlags::CLOSED);
        state.attend();
    }
    drop(fd);
    if direction.contains(Direction::WRITE) {
        socket.finish(state);
    }
    Ok(())
}

fn unconnected() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "it is not connected: connect it first")
}

pub(super) fn set_keepalive(state: &State, idle: Option<Duration>) -> Result<()> {
    let socket = state.socket().ok_or(Error::NotASocket)?;
    if let Some(fd) = socket.fd() {
        keep_alive(&fd, idle)?;
    }
    socket.keepalive.set(Some(idle));
    Ok(())
}

/// The most that Linux takes, in seconds.
const LONGEST_KEEPALIVE: u64 = 32_767;

fn keep_alive(fd: &OwnedFd, idle: Option<Duration>) -> Result<()> {
    let set = || {
        if !matches!(sockopt::socket_domain(fd)?, AddressFamily::INET | AddressFamily::INET6) {
            return Ok(());
        }
        if let Some(idle) = idle {
            let seconds = idle.as_secs().saturating_add(u64::from(idle.subsec_nanos() > 0));
            sockopt::set_tcp_keepidle(fd, Duration::from_secs(seconds.clamp(1, LONGEST_KEEPALIVE)))?;
        }
        sockopt::set_socket_keepalive(fd, idle.is_some())
    };
    set().map_err(|errno: Errno| Error::io("set the keep-alive of a socket")(errno.into()))
}
