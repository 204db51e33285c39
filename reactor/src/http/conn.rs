//! One connection of a server: from bytes to requests, from replies to bytes.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::body::{Decoder, Next};
use super::exchange::{Entry, Ledger};
use super::incoming::{Body, BodyError, BodyEvent, Reader, Sink};
use super::parse::{Framing, ParseError, Scan};
use super::reply::{Content, Frame, Length, Plan, Scratch};
use super::request::Request;
use super::route::Found;
use super::server::Server;
use super::status::Status;
use super::stream::{BodyStream, Outlet, StreamFraming};
use crate::address::Address;
use crate::base::EventBase;
use crate::bufferevent::{BevEvent, BevOptions, Bufferevent, Direction, FarewellWatcher, TriggerOptions};
use crate::error::Result;
use crate::evbuffer::Evbuffer;
use crate::event::Event;
use crate::slot::{Called, Slot};

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
    pub(super) fn start(server: &Rc<Server>, socket: OwnedFd, peer: Address, is_full: bool) -> Result<()> {
        let bev = Bufferevent::socket(server.base(), socket, BevOptions::empty())?;
        if is_full || server.is_stopping() {
            TurnedAway::start(server, &bev, peer);
            return Ok(());
        }
        let conn = Rc::new_cyclic(|me: &Weak<Conn>| Conn {
            me: me.clone(),
            server: server.clone(),
            key: server.enroll(me.clone(), &peer),
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
            Phase::Idle => self.advance(),
            Phase::Streaming if self.bev.output().len() <= LOW_UNSENT => self.drained(),
            Phase::Streaming => (),
            Phase::Waiting | Phase::Reading | Phase::Discarding | Phase::Gone => (),
        }
    }

    fn happened(&self, what: BevEvent) {
        if what.contains(BevEvent::ERROR) || what.contains(BevEvent::TIMEOUT | BevEvent::WRITING) {
            self.abort();
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

/// Heads.
impl Conn {
    /// Begins the next request; false if it is not there yet.
    fn next_request(&self) -> bool {
        let input = self.bev.input();
        if input.is_empty() {
            if self.is_half_closed.get() && self.bev.output().is_empty() {
                self.abort();
            } else if self.is_half_closed.get() || self.server.is_stopping() {
                self.leave();
            }
            return false;
        }
        if self.bev.output().len() > MOST_UNSENT {
            return false;
        }
        let mut scratch = self.server.take_scratch();
        match self.parse_head(&mut scratch) {
            Ok(Some(end)) => {
                self.scan.take();
                self.disarm();
                // The input is neither frozen nor lent out.
                let _ = input.drain(end);
                self.dispatch(scratch);
                true
            }
            Ok(None) => {
                self.recycle(scratch);
                if self.is_half_closed.get() {
                    self.leave();
                } else if self.scan.get().has_begun() && !self.is_armed.get() {
                    self.arm(self.server.limits().head_timeout);
                }
                false
            }
            Err(error) => {
                self.recycle(scratch);
                self.refuse(error.status());
                false
            }
        }
    }

    /// How long the head is, if it is whole.
    fn parse_head(&self, scratch: &mut Scratch) -> std::result::Result<Option<usize>, ParseError> {
        let limits = self.server.limits();
        let input = self.bev.input();
        let most = input.len().min(limits.max_header_bytes.saturating_add(EMPTY_LINES));
        // Many pipelined requests are not moved together for each of them: first what is in one piece.
        for n in [input.contiguous_len().min(most), most] {
            let Ok(Some(bytes)) = input.pull_up(n) else { continue };
            let mut scan = self.scan.get();
            let outcome = scan.advance(&bytes, &limits.head());
            self.scan.set(scan);
            if let Some(range) = outcome? {
                scratch.head.parse(&bytes[range.clone()])?;
                return Ok(Some(range.end));
            }
            if n == most {
                break;
            }
        }
        Ok(None)
    }

    fn dispatch(&self, scratch: Box<Scratch>) {
        let Some(me) = self.me.upgrade() else { return };
        let limits = self.server.limits();
        let head = &scratch.head;
        let serial = self.current.get().serial + 1;
        self.current.set(Current {
            serial,
            is_head: head.method() == "HEAD",
            is_modern: head.is_modern,
            keeps_alive: head.keeps_alive,
            owes_continue: head.expects_continue && head.framing != Framing::None,
            closes: false,
        });
        self.decoder.set(Decoder::new(head.framing));
        self.phase.set(Phase::Waiting);
        self.note_request(serial, head.method(), head.target());
        let is_too_long = matches!(head.framing, Framing::Length(n) if n > limits.max_body_bytes);
        let found = self.server.find(head.method(), head.path());
        let is_unknown = !is_known_method(head.method());
        let request = Request::new(me, scratch, serial, limits.max_body_bytes);
        let refusal = match &found {
            // What follows would be no HTTP.
            _ if request.method() == "CONNECT" => Some(501),
            _ if is_too_long => Some(413),
            Found::Nothing | Found::OtherMethods(_) if is_unknown => Some(501),
            Found::Nothing => Some(404),
            Found::OtherMethods(_) => Some(405),
            Found::Handler(_) => None,
        };
        if let Some(status) = refusal {
            let closes = request.method() == "CONNECT";
            let mut reply = request.reply(status);
            if let (405, Found::OtherMethods(allow)) = (status, &found) {
                reply = reply.header("Allow", allow);
            }
            if closes {
                reply.close().send()
            } else {
                reply.send()
            }
            return self.server.refused(&self.peer, Status::from(status));
        }
        if let Found::Handler(handler) = found {
            // Whether it is busy cannot be: handlers run from the loop alone. The request answers for itself then.
            let _ = handler.call(|handler| {
                // The message is the panic hook's; the request was dropped on the way, which answers 500.
                let _ = catch_unwind(AssertUnwindSafe(|| handler(request)));
            });
        }
    }

    /// Answers what cannot be a request, and ends the connection.
    fn refuse(&self, status: Status) {
        if self.phase.get() != Phase::Gone {
            let is_of_request = matches!(self.phase.get(), Phase::Waiting | Phase::Reading);
            let serial = if is_of_request { self.current.get().serial } else { 0 };
            if serial == 0 {
                self.note_request(0, "", "");
            }
            // A connection that is gone needs no answer.
            let _ = self.queue(|output| output.append(&refusal(&self.server, status)));
            let end = self.queued.get();
            self.note(serial, |entry| {
                entry.answer(status, end);
                entry.finish(end);
            });
            self.leave();
            self.server.refused(&self.peer, status);
        }
    }
}

/// Empty lines before a head do not count as its bytes.
const EMPTY_LINES: usize = 16;

/// Methods that a standard of HTTP or WebDAV has: refused, they are 405, others 501.
fn is_known_method(method: &str) -> bool {
    const KNOWN: [&str; 17] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "CONNECT",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "REPORT",
    ];
    KNOWN.contains(&method)
}

/// An answer without a body, the last of its connection.
fn refusal(server: &Server, status: Status) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = Frame { status, length: Some(Length::Known(0)), closes: true, date: Some(server.date()) };
    frame.encode(b"", &mut out);
    out
}

/// Bodies.
impl Conn {
    /// Gives the body to a sink, from the loop.
    pub(super) fn read_for(&self, serial: u64, scratch: Box<Scratch>, sink: Sink, limit: u64) {
        if !self.is_at(serial) || self.phase.get() != Phase::Waiting {
            drop(sink);
            return self.recycle(scratch);
        }
        let reader = Rc::new(Reader::new(sink, scratch, limit));
        self.reader.replace(Some(reader));
        self.phase.set(Phase::Reading);
        let rest = self.decoder.get().known_rest();
        if rest.is_none_or(|rest| rest > self.bev.input().len() as u64) {
            self.begin_body();
        }
        self.say_continue();
        self.advance_later();
    }

    fn say_continue(&self) {
        let mut exchange = self.current.get();
        if exchange.owes_continue {
            exchange.owes_continue = false;
            self.current.set(exchange);
            if self.bev.input().is_empty() {
                let _ = self.queue(|output| output.append(CONTINUE));
            }
        }
    }

    fn begin_body(&self) {
        let limits = self.server.limits();
        self.is_in_body.set(true);
        self.bev.set_max_single_read(BODY_READ);
        self.bev.set_read_marks(0, BODY_READ);
        self.bev.set_timeouts(Some(limits.body_timeout), Some(limits.write_timeout));
        self.arm(limits.body_timeout);
    }

    /// Marks and time-outs as they are between bodies.
    fn end_body(&self) {
        let limits = self.server.limits();
        self.is_in_body.set(false);
        self.bev.set_max_single_read(0);
        self.bev.set_read_marks(0, READ_AHEAD.max(limits.max_header_bytes.saturating_add(EMPTY_LINES)));
        self.bev.set_timeouts(Some(limits.idle_timeout), Some(limits.write_timeout));
        self.disarm();
    }

    /// Moves what the input has of the body into `target`, or nowhere; how much it was.
    fn take_body(&self, target: Option<&Evbuffer>) -> std::result::Result<u64, ParseError> {
        let input = self.bev.input();
        let mut decoder = self.decoder.get();
        let mut taken = 0;
        let outcome = loop {
            match decoder.next() {
                Next::End => break Ok(taken),
                _ if input.is_empty() => break Ok(taken),
                Next::Data(most) => {
                    let n = input.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    let moved = match target {
                        Some(target) => input.remove_buffer(target, n),
                        None => input.drain(n),
                    };
                    // A buffer of the reader's that is lent out or frozen takes nothing now.
                    let Ok(moved) = moved else { break Ok(taken) };
                    decoder.took(moved as u64);
                    taken += moved as u64;
                }
                Next::Framing => {
                    let Ok(peek) = input.peek(..) else { break Ok(taken) };
                    let used = peek.slices().next().map_or(Ok(0), |bytes| decoder.frame(bytes));
                    drop(peek);
                    match used {
                        Ok(0) => break Ok(taken),
                        Ok(used) => {
                            let _ = input.drain(used);
                        }
                        Err(error) => break Err(error),
                    }
                }
            }
        };
        self.decoder.set(decoder);
        if taken > 0 {
            self.note(self.current.get().serial, |entry| entry.received += taken);
        }
        outcome
    }

    /// Gives the reader what is there; false if more has to come first.
    fn read_body(&self) -> bool {
        let Some(reader) = self.reader.borrow().clone() else { return false };
        if reader.is_paused.get() {
            return false;
        }
        let taken = match self.take_body(Some(&reader.buffer)) {
            Ok(taken) => taken,
            Err(error) => {
                self.fail_body(BodyError::Malformed(error));
                return false;
            }
        };
        let received = reader.received.get().saturating_add(taken);
        reader.received.set(received);
        if received > reader.limit {
            self.fail_body(BodyError::TooLarge);
            return false;
        }
        if taken > 0 || !reader.buffer.is_empty() {
            self.deliver(&reader, || BodyEvent::Data(&reader.buffer));
            if !self.is_reading(&reader) {
                return true;
            }
            if matches!(reader.sink, Sink::Pieces(_)) && reader.buffer.len() >= MOST_LEFT {
                self.pause(self.current.get().serial);
            }
            if reader.is_paused.get() {
                return false;
            }
        }
        if self.decoder.get().next() == Next::End {
            self.finish_body(&reader);
            return true;
        }
        if self.is_half_closed.get() && self.bev.input().is_empty() {
            self.fail_body(BodyError::Disconnected);
        }
        false
    }

    /// Whether this reader is still the one at hand.
    fn is_reading(&self, reader: &Rc<Reader>) -> bool {
        self.phase.get() == Phase::Reading
            && self.reader.borrow().as_ref().is_some_and(|have| Rc::ptr_eq(have, reader))
    }

    /// Runs the closure of a reader of pieces; it is the user's. One that panics has its request answered 500.
    fn deliver<'a>(&self, reader: &Rc<Reader>, event: impl FnOnce() -> BodyEvent<'a>) {
        let Sink::Pieces(on_event) = &reader.sink else { return };
        let body = Body { conn: self.me.clone(), serial: self.current.get().serial };
        let mut has_panicked = false;
        // Never from within itself: what is to be told there is told later.
        let _ = on_event.call(|on_event| {
            has_panicked = catch_unwind(AssertUnwindSafe(|| on_event(&body, event()))).is_err();
        });
        if has_panicked && self.is_reading(reader) {
            drop(self.take_request(body.serial));
        }
    }

    fn finish_body(&self, reader: &Rc<Reader>) {
        let Some(request) = self.take_request(self.current.get().serial) else { return };
        if self.is_in_body.get() {
            self.end_body();
        }
        match &reader.sink {
            Sink::Pieces(_) => self.deliver(reader, || BodyEvent::End(request)),
            Sink::Whole(then) => {
                if let Some(then) = then.take() {
                    let _ = catch_unwind(AssertUnwindSafe(|| then(request, &reader.buffer)));
                }
            }
        }
    }

    /// Gives up a body, with an answer if there is one, and the connection.
    fn fail_body(&self, error: BodyError) {
        let reader = self.reader.take();
        match error.status() {
            Some(status) => self.refuse(status),
            None => self.abort(),
        }
        if let Some(reader) = reader {
            self.lose(&reader, error);
        }
    }

    /// Tells a reader that was taken out that nothing more comes.
    fn lose(&self, reader: &Rc<Reader>, error: BodyError) {
        if let Some(scratch) = reader.scratch.take() {
            self.recycle(scratch);
        }
        match (&reader.sink, self.me.upgrade()) {
            // The closure itself freed the server.
            (Sink::Pieces(on_event), Some(own)) if on_event.is_running() => {
                let reader = reader.clone();
                let _ = self.base().defer(move |_| own.deliver(&reader, || BodyEvent::Failed(error)));
            }
            _ => self.deliver(reader, || BodyEvent::Failed(error)),
        }
    }

    /// Reads what is left of a body whose request was answered; false if more has to come first.
    fn discard(&self) -> bool {
        match self.take_body(None) {
            Err(_) => self.leave(),
            Ok(_) if self.decoder.get().next() == Next::End => {
                if self.is_in_body.get() {
                    self.end_body();
                }
                self.phase.set(Phase::Idle);
                return true;
            }
            Ok(_) if self.is_half_closed.get() => self.leave(),
            Ok(_) => (),
        }
        false
    }

    pub(super) fn reader(&self, serial: u64) -> Option<Rc<Reader>> {
        if !self.is_at(serial) || self.phase.get() != Phase::Reading {
            return None;
        }
        self.reader.borrow().clone()
    }

    pub(super) fn pause(&self, serial: u64) {
        if let Some(reader) = self.reader(serial) {
            reader.is_paused.set(true);
            reader.mark.set(None);
            self.bev.disable(Direction::READ);
        }
    }

    pub(super) fn resume(&self, serial: u64) {
        if let Some(reader) = self.reader(serial).filter(|reader| reader.is_paused.get()) {
            reader.is_paused.set(false);
            self.resume_reading();
            self.advance_later();
        }
    }

    fn resume_reading(&self) {
        if !self.is_half_closed.get() {
            let _ = self.bev.enable(Direction::READ);
        }
    }

    /// Gives the request back to its handler.
    pub(super) fn take_request(&self, serial: u64) -> Option<Request> {
        let reader = self.reader(serial)?;
        let scratch = reader.scratch.take()?;
        self.reader.take();
        self.phase.set(Phase::Waiting);
        if reader.is_paused.get() {
            self.resume_reading();
        }
        Some(Request::new(self.me.upgrade()?, scratch, serial, reader.limit))
    }
}

/// Replies.
impl Conn {
    /// Tells of a refusal from the loop, since the caller is user code.
    pub(super) fn refused_later(&self, status: Status) {
        self.server.refused_later(&self.peer, status);
    }

    /// The handler dropped its request.
    pub(super) fn answer_dropped(&self, serial: u64, mut scratch: Box<Scratch>) {
        if self.is_at(serial) {
            self.refused_later(Status::from(500));
        }
        scratch.clear();
        let plan = Plan { status: Status::from(500), length: Length::Known(0), has_date: false };
        self.send_whole(serial, &mut scratch, plan, false, Content::None);
        self.recycle(scratch);
    }

    pub(super) fn send_whole(
        &self,
        serial: u64,
        scratch: &mut Scratch,
        plan: Plan,
        closes: bool,
        content: Content,
    ) {
        if !self.is_at(serial) || self.phase.get() != Phase::Waiting {
            return;
        }
        let has_body = self.encode(scratch, plan, closes) != StreamFraming::Nothing;
        if has_body && matches!(content, Content::Copied) {
            scratch.out.extend_from_slice(&scratch.body);
        }
        let mut queued = self.queue(|output| output.append(&scratch.out));
        if has_body {
            queued = queued.and_then(|()| match &content {
                Content::None | Content::Copied => Ok(()),
                Content::Buffer(buffer) => self.queue(|output| output.append_buffer(buffer)),
                Content::File(file, range) => self.queue(|output| output.append_file(file, range.clone())),
            });
        }
        match queued {
            Ok(()) => self.finish_exchange(),
            // A body that cannot follow its head.
            Err(_) => self.abort(),
        }
    }

    pub(super) fn send_head(
        &self,
        serial: u64,
        scratch: &mut Scratch,
        plan: Plan,
        closes: bool,
    ) -> BodyStream {
        if !self.is_at(serial) || self.phase.get() != Phase::Waiting {
            return BodyStream::closed();
        }
        let framing = self.encode(scratch, plan, closes);
        self.phase.set(Phase::Streaming);
        if self.queue(|output| output.append(&scratch.out)).is_err() {
            self.abort();
        }
        let me: Weak<Conn> = self.me.clone();
        BodyStream::new(me, serial, framing)
    }

    /// Writes the head into the scratch and notes how the exchange ends.
    fn encode(&self, scratch: &mut Scratch, plan: Plan, closes: bool) -> StreamFraming {
        let mut exchange = self.current.get();
        let length = match plan.length {
            Length::Chunked if !exchange.is_modern => Length::Close,
            length => length,
        };
        let rest_is_small = match self.decoder.get().known_rest() {
            Some(0) => true,
            Some(rest) => rest <= SMALL_REST && !exchange.owes_continue,
            None => false,
        };
        exchange.closes = closes
            || !exchange.keeps_alive
            || !rest_is_small
            || length == Length::Close
            || self.server.is_stopping();
        self.current.set(exchange);
        let length_line = match plan.status.code() {
            204 | 304 => None,
            205 => Some(Length::Known(0)),
            _ => Some(length),
        };
        let date = (!plan.has_date).then(|| self.server.date());
        let frame = Frame { status: plan.status, length: length_line, closes: exchange.closes, date };
        scratch.out.clear();
        frame.encode(&scratch.lines, &mut scratch.out);
        let body = self.queued.get() + scratch.out.len() as u64;
        self.note(exchange.serial, |entry| entry.answer(plan.status, body));
        match length {
            _ if exchange.is_head || plan.status.is_bodiless() || plan.status.code() == 205 => {
                StreamFraming::Nothing
            }
            Length::Known(n) => StreamFraming::Sized(n),
            Length::Chunked => StreamFraming::Chunked,
            Length::Close => StreamFraming::Close,
        }
    }

    /// The reply is queued whole.
    fn finish_exchange(&self) {
        let end = self.queued.get();
        self.note(self.current.get().serial, |entry| entry.finish(end));
        if self.current.get().closes {
            return self.leave();
        }
        if self.decoder.get().next() == Next::End {
            self.phase.set(Phase::Idle);
        } else {
            self.phase.set(Phase::Discarding);
            self.begin_body();
        }
        let is_late = !self.is_advancing.get();
        // A late reply leaves the next request all of its time.
        if self.phase.get() == Phase::Idle && (is_late || self.is_in_body.get()) {
            self.end_body();
        }
        if is_late {
            self.advance_later();
        }
    }

    fn drained(&self) {
        let Some(stream) = self.stream.borrow().clone() else { return };
        let mut has_panicked = false;
        let called = self.on_drained.call(|on_drained| {
            has_panicked = catch_unwind(AssertUnwindSafe(|| on_drained(&stream))).is_err();
        });
        if has_panicked && called == Called::Ran {
            self.abort();
        }
    }

    fn drop_stream(&self) {
        let stream = self.stream.take();
        self.on_drained.set(None);
        drop(stream);
    }
}

/// What is told of exchanges.
impl Conn {
    /// Puts something into the output.
    fn queue(&self, append: impl FnOnce(&Evbuffer) -> Result<()>) -> Result<()> {
        let output = self.bev.output();
        let before = output.len();
        let outcome = append(output);
        self.queued(output.len().saturating_sub(before));
        outcome
    }

    fn has_ledger(&self) -> bool {
        self.ledger.borrow().is_some()
    }

    /// Bytes that the kernel took, ever.
    fn sent(&self) -> u64 {
        self.queued.get().saturating_sub(self.bev.output().len() as u64)
    }

    /// Begins an exchange, if somebody wants to hear of it.
    fn note_request(&self, serial: u64, method: &str, target: &str) {
        if !self.server.has_on_exchange() {
            return;
        }
        let mut ledger = self.ledger.borrow_mut();
        let ledger = ledger.get_or_insert_with(|| self.server.take_ledger());
        ledger.open(serial, method, target, self.base().clock().fresh());
        if ledger.len() > 1 {
            // Each of several replies is told of when it is out, and not when the last one nearly is.
            self.bev.set_write_mark(usize::MAX);
        }
    }

    fn note(&self, serial: u64, note: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.ledger.borrow_mut().as_mut().and_then(|ledger| ledger.last(serial)) {
            note(entry);
        }
    }

    /// Tells of the exchanges whose replies are out; it is user code, and runs from the loop.
    fn tell_whole(&self) {
        let mut words = self.server.take_words();
        loop {
            let sent = self.sent();
            let mut ledger = self.ledger.borrow_mut();
            let Some(entry) = ledger.as_mut().and_then(|ledger| ledger.take_whole(sent, &mut words)) else {
                break;
            };
            if ledger.as_ref().is_some_and(|ledger| ledger.len() == 0) {
                self.bev.set_write_mark(LOW_UNSENT);
                let idle = ledger.take();
                self.server.put_ledger(idle);
            }
            drop(ledger);
            self.server.tell(&entry, &self.peer, &words, sent);
        }
        self.server.put_words(words);
    }

    /// Tells of all exchanges, since no more is sent; from the loop, since the caller may be user code.
    fn tell_rest(&self, sent: u64) {
        let Some(mut ledger) = self.ledger.take() else { return };
        let (server, peer) = (self.server.clone(), self.peer.clone());
        // Refused only by a base that is gone.
        let _ = self.base().defer(move |_| {
            let mut words = server.take_words();
            while let Some(entry) = ledger.take_first(&mut words) {
                server.tell(&entry, &peer, &words, sent);
            }
            server.put_words(words);
            server.put_ledger(Some(ledger));
        });
    }
}

impl FarewellWatcher for Conn {
    fn sent(&self) {
        self.tell_whole();
    }

    fn gone(&self, unsent: usize) {
        self.tell_rest(self.queued.get().saturating_sub(unsent as u64));
        self.server.lingered(&self.peer);
    }
}

impl Outlet for Conn {
    fn is_streaming(&self, serial: u64) -> bool {
        self.phase.get() == Phase::Streaming && self.is_at(serial)
    }

    fn output(&self) -> Evbuffer {
        self.bev.output().clone()
    }

    fn queued(&self, n: usize) {
        self.queued.set(self.queued.get() + n as u64);
    }

    fn cut(&self) {
        self.abort();
    }

    fn finish(&self) {
        // Finished first: what the closure captured is dropped outside of the exchange.
        self.finish_exchange();
        self.drop_stream();
    }

    fn set_on_drained(&self, stream: BodyStream, on_drained: Box<dyn FnMut(&BodyStream)>) {
        self.on_drained.set(Some(on_drained));
        let old = self.stream.replace(Some(stream));
        drop(old);
        self.bev.trigger(Direction::WRITE, TriggerOptions::DEFER_CALLBACKS);
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
            self.server.forget(&self.peer);
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
            self.server.forget(&self.peer);
        }
    }
}

/// A connection that was one too many: it is answered, and nothing else.
struct TurnedAway {
    server: Rc<Server>,
    peer: Address,
    /// Until it is told.
    entry: Cell<Option<Entry>>,
}

impl TurnedAway {
    fn start(server: &Rc<Server>, bev: &Bufferevent, peer: Address) {
        let status = Status::from(503);
        if !server.turns_away() {
            // So many go without an answer that another one would only cost what the limit saves.
            return bev.free();
        }
        // A connection that is gone needs no answer.
        let _ = bev.write(&refusal(server, status));
        server.refused_later(&peer, status);
        let entry = Cell::new(Some(Entry::refused(status, server.base().clock().fresh())));
        bev.free_when_sent_watched(Rc::new(TurnedAway { server: server.clone(), peer, entry }));
    }
}

impl FarewellWatcher for TurnedAway {
    fn sent(&self) {
        if let Some(mut entry) = self.entry.take() {
            entry.finish(0);
            self.server.tell(&entry, &self.peer, b"", 0);
        }
    }

    fn gone(&self, _unsent: usize) {
        if let Some(entry) = self.entry.take() {
            let (server, peer) = (self.server.clone(), self.peer.clone());
            // Refused only by a base that is gone.
            let _ = self.server.base().defer(move |_| server.tell(&entry, &peer, b"", 0));
        }
        self.server.turned_away();
    }
}

struct Reset<'a>(&'a Cell<bool>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
