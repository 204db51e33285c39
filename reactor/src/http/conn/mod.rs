//! One connection of a server: its states, and what the socket says.

mod body;
mod head;
mod ledger;
mod reply;

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::body::Decoder;
use super::exchange::Ledger;
use super::incoming::{BodyError, Reader};
use super::parse::{Framing, Scan};
use super::reply::Scratch;
use super::server::Server;
use super::status::Status;
use super::stream::BodyStream;
use super::turned_away::TurnedAway;
use crate::address::Address;
use crate::base::EventBase;
use crate::bufferevent::{BevEvent, BevOptions, Bufferevent, Direction, TriggerOptions};
use crate::error::Result;
use crate::event::Event;
use crate::slot::Slot;

/// What is read of pipelined requests, and of a body that nobody asked for yet.
const READ_AHEAD: usize = 64 * 1024;
/// A pass while a body comes.
const BODY_READ: usize = 256 * 1024;
/// A body's bytes that its reader may leave before reading pauses.
const MOST_LEFT: usize = 256 * 1024;
/// A pass of a reply.
const MAX_WRITE: usize = 512 * 1024;
/// Unsent bytes at which the next of several pipelined requests waits.
const MOST_UNSENT: usize = 256 * 1024;
/// Unsent bytes at which more is asked of a stream.
const LOW_UNSENT: usize = 64 * 1024;
/// The rest of a body that is rather read than the connection closed.
const SMALL_REST: u64 = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(super) struct Conn {
    me: Weak<Conn>,
    server: Rc<Server>,
    key: usize,
    bev: Bufferevent,
    peer: Address,
    phase: Cell<Phase>,
    scan: Cell<Scan>,
    decoder: Cell<Decoder>,
    current: Cell<Current>,
    /// Exchanges that are to be told of. Without one, nobody wants to hear, or all are over.
    ledger: RefCell<Option<Box<Ledger>>>,
    /// Bytes that were put into the output, ever.
    queued: Cell<u64>,
    reader: RefCell<Option<Rc<Reader>>>,
    stream: RefCell<Option<BodyStream>>,
    on_drained: Slot<dyn FnMut(&BodyStream)>,
    deadline: RefCell<Option<Event>>,
    is_armed: Cell<bool>,
    is_advancing: Cell<bool>,
    /// Marks and time-outs are those of a body.
    is_in_body: Cell<bool>,
    /// The client sends no more.
    is_half_closed: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A head is to come.
    Idle,
    /// A handler has the request.
    Waiting,
    /// The body goes to its reader.
    Reading,
    /// The reply's head is out, its body follows in pieces.
    Streaming,
    /// The reply is out, what is left of the body goes nowhere.
    Discarding,
    Gone,
}

/// The request at hand.
#[derive(Clone, Copy, Debug, Default)]
struct Current {
    /// Tells the requests of a connection apart.
    serial: u64,
    is_head: bool,
    is_modern: bool,
    keeps_alive: bool,
    /// The client waits for `100 Continue`.
    owes_continue: bool,
    /// The reply said that the connection ends.
    closes: bool,
}

impl Conn {
    pub(super) fn start(server: &Rc<Server>, socket: OwnedFd, peer: Address) -> Result<()> {
        let bev = Bufferevent::socket(server.base(), socket, BevOptions::empty())?;
        if !server.admits(&peer) {
            TurnedAway::start(server, &bev, peer);
            return Ok(());
        }
        let conn = Rc::new_cyclic(|me: &Weak<Conn>| Conn {
            me: me.clone(),
            server: server.clone(),
            key: server.enroll(me.clone()),
            bev: bev.clone(),
            peer,
            phase: Cell::new(Phase::Idle),
            scan: Cell::default(),
            decoder: Cell::new(Decoder::new(Framing::None)),
            current: Cell::default(),
            ledger: RefCell::default(),
            queued: Cell::new(0),
            reader: RefCell::default(),
            stream: RefCell::default(),
            on_drained: Slot::empty(),
            deadline: RefCell::default(),
            is_armed: Cell::new(false),
            is_advancing: Cell::new(false),
            is_in_body: Cell::new(false),
            is_half_closed: Cell::new(false),
        });
        bev.set_max_single_write(MAX_WRITE);
        bev.set_write_mark(LOW_UNSENT);
        bev.report_hangup();
        conn.end_body();
        let own = conn.clone();
        bev.on_read(move |_| own.advance());
        let own = conn.clone();
        bev.on_write(move |_| own.written());
        bev.on_event(move |_, what| conn.happened(what));
        bev.enable(Direction::READ)
    }

    pub(super) fn base(&self) -> &EventBase {
        self.server.base()
    }

    pub(super) fn peer(&self) -> &Address {
        &self.peer
    }

    /// Whether this request is still the one at hand.
    pub(super) fn is_at(&self, serial: u64) -> bool {
        let is_open = self.phase.get() != Phase::Gone && !self.bev.is_freed();
        is_open && self.current.get().serial == serial
    }

    pub(super) fn body_rest(&self, serial: u64) -> Option<u64> {
        if self.is_at(serial) { self.decoder.get().known_rest() } else { Some(0) }
    }

    pub(super) fn recycle(&self, scratch: Box<Scratch>) {
        self.server.put_scratch(scratch);
    }
}

/// What the socket says.
impl Conn {
    /// Does all that the bytes at hand allow.
    fn advance(&self) {
        if self.is_advancing.replace(true) {
            return;
        }
        let _reset = Reset(&self.is_advancing);
        while match self.phase.get() {
            Phase::Idle => self.next_request(),
            Phase::Reading => self.read_body(),
            Phase::Discarding => self.discard(),
            Phase::Waiting | Phase::Streaming | Phase::Gone => false,
        } {}
    }

    /// Has the loop look at what is there, as if it had just come.
    fn advance_later(&self) {
        if !self.is_advancing.get() {
            let options = TriggerOptions::IGNORE_WATERMARKS | TriggerOptions::DEFER_CALLBACKS;
            self.bev.trigger(Direction::READ, options);
        }
    }

    fn written(&self) {
        if self.has_ledger() {
            self.tell_whole();
        }
        match self.phase.get() {
            Phase::Idle => {
                // The time between requests begins when the reply is out.
                self.bev.restart_read_timeout();
                self.advance();
            }
            Phase::Streaming if self.bev.output().len() <= LOW_UNSENT => self.drained(),
            Phase::Streaming => (),
            Phase::Waiting | Phase::Reading | Phase::Discarding | Phase::Gone => (),
        }
    }

    fn happened(&self, what: BevEvent) {
        if what.contains(BevEvent::ERROR) || what.contains(BevEvent::TIMEOUT | BevEvent::WRITING) {
            self.abort();
        } else if what.contains(BevEvent::EOF) && self.is_read_paused() {
            self.left_in_pause();
        } else if what.contains(BevEvent::EOF) {
            self.is_half_closed.set(true);
            self.advance();
        } else if what.contains(BevEvent::TIMEOUT) {
            self.timed_out();
        }
    }

    /// Nothing was read for the time of the phase.
    fn timed_out(&self) {
        match self.phase.get() {
            Phase::Idle if self.scan.get().has_begun() => self.refuse(Status::from(408)),
            Phase::Idle if self.bev.output().is_empty() => self.abort(),
            Phase::Reading => self.fail_body(BodyError::TimedOut),
            Phase::Discarding => self.leave(),
            // The client waits, not the server.
            Phase::Idle | Phase::Waiting | Phase::Streaming => {
                let _ = self.bev.enable(Direction::READ);
            }
            Phase::Gone => (),
        }
    }

    /// The time for a head, or the span in which a body's rate is measured, has passed.
    fn deadline_passed(&self) {
        self.is_armed.set(false);
        match self.phase.get() {
            Phase::Idle if self.scan.get().has_begun() => self.refuse(Status::from(408)),
            Phase::Reading => {
                let Some(reader) = self.reader.borrow().clone() else { return };
                let received = reader.received.get();
                let limits = self.server.limits();
                match reader.mark.replace((!reader.is_paused.get()).then_some(received)) {
                    Some(mark) if received - mark < limits.body_quota() => {
                        self.fail_body(BodyError::TimedOut)
                    }
                    _ => self.arm(limits.body_timeout),
                }
            }
            Phase::Discarding => self.leave(),
            Phase::Idle | Phase::Waiting | Phase::Streaming | Phase::Gone => (),
        }
    }

    fn arm(&self, after: Duration) {
        if after.is_zero() {
            return;
        }
        let existing = self.deadline.borrow().clone();
        let event = match existing {
            Some(event) => event,
            None => {
                let me = self.me.clone();
                let made = Event::timer(self.base(), move |_, _| {
                    if let Some(conn) = me.upgrade() {
                        conn.deadline_passed();
                    }
                });
                // Refused only by a base that is gone.
                let Ok(event) = made else { return };
                self.deadline.replace(Some(event.clone()));
                event
            }
        };
        self.is_armed.set(event.add(Some(after)).is_ok());
    }

    fn disarm(&self) {
        if !self.is_armed.replace(false) {
            return;
        }
        let event = self.deadline.borrow().clone();
        if let Some(event) = event {
            event.del();
        }
    }
}

/// Ends.
impl Conn {
    /// Ends it once what is queued is sent.
    fn leave(&self) {
        if let Some(me) = self.me.upgrade() {
            self.end(|bev| {
                self.server.lingers();
                bev.free_when_sent_watched(me);
            });
        }
    }

    /// Ends it now.
    pub(super) fn abort(&self) {
        self.end(|bev| {
            self.server.ended(&self.peer);
            let sent = self.sent();
            bev.free();
            self.tell_rest(sent);
        });
    }

    pub(super) fn close_if_idle(&self) {
        if self.phase.get() == Phase::Idle && self.bev.input().is_empty() {
            self.leave();
        }
    }

    fn end(&self, free: impl FnOnce(&Bufferevent)) {
        if self.phase.replace(Phase::Gone) == Phase::Gone {
            return;
        }
        // The closures that are dropped now hold this connection.
        let _own = self.me.upgrade();
        self.server.dismiss(self.key);
        let reader = self.reader.take();
        let deadline = self.deadline.take();
        if let Some(deadline) = deadline {
            deadline.free();
        }
        free(&self.bev);
        // User code from here on.
        self.drop_stream();
        if let Some(reader) = reader {
            self.lose(&reader, BodyError::Disconnected);
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if self.phase.get() != Phase::Gone {
            self.server.dismiss(self.key);
            self.server.ended(&self.peer);
        }
    }
}

/// Empty lines before a head do not count as its bytes.
const EMPTY_LINES: usize = 16;

struct Reset<'a>(&'a Cell<bool>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
