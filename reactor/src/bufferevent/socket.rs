//! The transport over a stream socket.
//!
//! The socket is registered once, by edges, for its whole life. Ready bits remember what an edge said until a read or
//! write proves it outdated, by failing or by moving less than it could.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketFlags, SocketType, getpeername, socket_with, sockopt};

use super::flags::{BevEvent, Direction, TriggerOptions};
use super::state::State;
use crate::active::When;
use crate::address::Address;
use crate::base::EventBase;
use crate::error::{Error, Result};
use crate::evbuffer::{End, Pass};
use crate::flags::EventFlags;
use crate::table::Key;

pub(super) struct Socket {
    open: RefCell<Option<Open>>,
    phase: Cell<Phase>,
    ready: Cell<EventFlags>,
    /// Writing was turned on with nothing to send: one write callback is owed.
    owes_write: Cell<bool>,
    /// The turns of the last passes: one of each kind a turn, for fairness.
    read_turn: Cell<u64>,
    write_turn: Cell<u64>,
}

#[derive(Clone)]
struct Open {
    /// Shared with the pass that uses it while user code may take the socket away.
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

impl Socket {
    pub(super) fn new() -> Self {
        Socket {
            open: RefCell::new(None),
            phase: Cell::new(Phase::Idle),
            ready: Cell::new(EventFlags::empty()),
            owes_write: Cell::new(false),
            read_turn: Cell::new(0),
            write_turn: Cell::new(0),
        }
    }

    pub(super) fn raw_fd(&self) -> Option<RawFd> {
        self.open.borrow().as_ref().map(|open| open.fd.as_raw_fd())
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

    /// When the loop should run this bufferevent, as far as the socket goes.
    pub(super) fn has_work(&self, state: &State) -> Option<When> {
        let turn = state.base().turn();
        let after = |last: &Cell<u64>| if last.get() == turn { When::NextTurn } else { When::Now };
        if self.can_write(state) {
            return Some(after(&self.write_turn));
        }
        self.can_read(state).then(|| after(&self.read_turn))
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
            && (self.owes_write.get() || !state.output.is_empty())
    }

    /// One pass in each direction; true if it came to anything.
    pub(super) fn pass(&self, state: &State, what: EventFlags) -> bool {
        self.ready.set(self.ready.get() | what);
        let mut did = false;
        if self.phase.get() == Phase::Connecting && !what.is_empty() {
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
        let Some(Open { fd, .. }) = self.open.borrow().clone() else { return false };
        let failure = match sockopt::socket_error(&fd) {
            Ok(Ok(())) => match getpeername(&fd) {
                Ok(_) => None,
                Err(Errno::NOTCONN) => return false,
                Err(error) => Some(error),
            },
            Ok(Err(error)) | Err(error) => Some(error),
        };
        match failure {
            None => {
                self.phase.set(Phase::Connected);
                self.owes_write.set(false);
                state.transferred(Direction::WRITE);
                state.event(BevEvent::CONNECTED, TriggerOptions::empty());
            }
            Some(error) => {
                self.phase.set(Phase::Idle);
                self.ready.set(EventFlags::empty());
                let error = Error::Io { what: "connect a bufferevent", source: error.into() };
                state.failed(Direction::empty(), BevEvent::ERROR, Some(error));
            }
        }
        true
    }

    fn read(&self, state: &State) -> bool {
        let Some(Open { fd, .. }) = self.open.borrow().clone() else { return false };
        let most = state.max_single_read.get().min(state.read_room());
        match state.input.read_thawed(&*fd, most) {
            Ok(Pass { moved: 0, .. }) => {
                state.failed(Direction::READ, BevEvent::READING | BevEvent::EOF, None);
            }
            Ok(pass) => {
                // After a short read the next bytes bring an edge; an end of stream that was announced does not.
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

    fn write(&self, state: &State) -> bool {
        let owed = self.owes_write.replace(false);
        if state.output.is_empty() {
            if owed {
                state.occasion(Direction::WRITE, TriggerOptions::empty());
            }
            return owed;
        }
        let Some(Open { fd, .. }) = self.open.borrow().clone() else { return false };
        match state.output.write_thawed(&*fd, Some(state.max_single_write.get())) {
            Ok(pass) => {
                if pass.moved < pass.offered {
                    self.clear(EventFlags::WRITE);
                }
                state.transferred(Direction::WRITE);
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

    fn clear(&self, what: EventFlags) {
        self.ready.set(self.ready.get() - what);
    }

    /// Ends a connect that took too long, so that its outcome is reported once.
    pub(super) fn give_up_connect(&self) {
        if self.phase.get() == Phase::Connecting {
            self.phase.set(Phase::Idle);
            self.ready.set(EventFlags::empty());
        }
    }

    /// Takes the socket out, polled no more.
    pub(super) fn remove(&self, base: &EventBase) -> Option<Rc<OwnedFd>> {
        let Open { fd, key } = self.open.borrow_mut().take()?;
        self.phase.set(Phase::Idle);
        self.ready.set(EventFlags::empty());
        self.owes_write.set(false);
        base.remove_stream(fd.as_fd(), key);
        Some(fd)
    }
}

/// Takes the socket away from a bufferevent that goes on without.
pub(super) fn take(state: &State) -> Option<OwnedFd> {
    let fd = state.socket()?.remove(state.base())?;
    state.input.unfreeze(End::Back);
    state.output.unfreeze(End::Front);
    state.attend();
    // Shared only while a pass of this very socket is on the stack: that one keeps the original until it ends.
    match Rc::try_unwrap(fd) {
        Ok(fd) => Some(fd),
        Err(shared) => shared.try_clone().ok(),
    }
}

/// Gives a connected socket to a bufferevent that has none.
pub(super) fn adopt(state: &Rc<State>, fd: OwnedFd) -> Result<()> {
    ioctl_fionbio(&fd, true).map_err(|errno| Error::io("make a socket non-blocking")(errno.into()))?;
    install(state, fd, Phase::Connected)
}

fn install(state: &Rc<State>, fd: OwnedFd, phase: Phase) -> Result<()> {
    let Some(socket) = state.socket() else { return Err(Error::NotASocket) };
    let key = state.base().add_stream(fd.as_fd(), state.clone())?;
    *socket.open.borrow_mut() = Some(Open { fd: Rc::new(fd), key });
    socket.phase.set(phase);
    state.freeze();
    state.attend();
    Ok(())
}

pub(super) fn connect(state: &Rc<State>, address: &Address) -> Result<()> {
    let Some(socket) = state.socket() else { return Err(Error::NotASocket) };
    drop(socket.remove(state.base()));
    let refused = |errno: Errno| Error::Connect { address: address.to_string(), source: errno.into() };
    let to = address.to_any().map_err(refused)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(address.family(), SocketType::STREAM, flags, None).map_err(refused)?;
    if address.is_inet() {
        sockopt::set_tcp_nodelay(&fd, true).map_err(refused)?;
    }
    match rustix::io::retry_on_intr(|| rustix::net::connect(&fd, &to)) {
        Ok(()) | Err(Errno::INPROGRESS) => install(state, fd, Phase::Connecting),
        Err(errno @ Errno::CONNREFUSED) => {
            state.disable(Direction::all());
            state.failed_later(refused(errno));
            Ok(())
        }
        Err(errno) => Err(refused(errno)),
    }
}
