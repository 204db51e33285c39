//! From bytes to bodies.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::{BODY_READ, CONTINUE, Conn, EMPTY_LINES, MOST_LEFT, Phase, READ_AHEAD};
use crate::bufferevent::Direction;
use crate::evbuffer::Evbuffer;
use crate::http::body::Next;
use crate::http::incoming::{Body, BodyError, BodyEvent, Reader, Sink};
use crate::http::parse::ParseError;
use crate::http::reply::Scratch;
use crate::http::request::Request;

impl Conn {
    /// Gives the body to a sink, from the loop.
    pub(in crate::http) fn read_for(&self, serial: u64, scratch: Box<Scratch>, sink: Sink, limit: u64) {
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

    pub(super) fn say_continue(&self) {
        let mut exchange = self.current.get();
        if exchange.owes_continue {
            exchange.owes_continue = false;
            self.current.set(exchange);
            if self.bev.input().is_empty() {
                let _ = self.queue(|output| output.append(CONTINUE));
            }
        }
    }

    pub(super) fn begin_body(&self) {
        let limits = self.server.limits();
        self.is_in_body.set(true);
        self.bev.set_max_single_read(BODY_READ);
        self.bev.set_read_marks(0, BODY_READ);
        self.bev.set_timeouts(Some(limits.body_timeout), Some(limits.write_timeout));
        self.arm(limits.body_timeout);
    }

    /// Marks and time-outs as they are between bodies.
    pub(super) fn end_body(&self) {
        let limits = self.server.limits();
        self.is_in_body.set(false);
        self.bev.set_max_single_read(0);
        self.bev.set_read_marks(0, READ_AHEAD.max(limits.max_header_bytes.saturating_add(EMPTY_LINES)));
        self.bev.set_timeouts(Some(limits.idle_timeout), Some(limits.write_timeout));
        self.bev.set_min_write_rate(limits.min_reply_rate);
        self.disarm();
    }

    /// Moves what the input has of the body into `target`, or nowhere; how much it was.
    pub(super) fn take_body(&self, target: Option<&Evbuffer>) -> std::result::Result<u64, ParseError> {
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
    pub(super) fn read_body(&self) -> bool {
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
    pub(super) fn is_reading(&self, reader: &Rc<Reader>) -> bool {
        self.phase.get() == Phase::Reading
            && self.reader.borrow().as_ref().is_some_and(|have| Rc::ptr_eq(have, reader))
    }

    /// Runs the closure of a reader of pieces; it is the user's. One that panics has its request answered 500.
    pub(super) fn deliver<'a>(&self, reader: &Rc<Reader>, event: impl FnOnce() -> BodyEvent<'a>) {
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

    pub(super) fn finish_body(&self, reader: &Rc<Reader>) {
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
    pub(super) fn fail_body(&self, error: BodyError) {
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
    pub(super) fn lose(&self, reader: &Rc<Reader>, error: BodyError) {
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
    pub(super) fn discard(&self) -> bool {
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

    pub(in crate::http) fn reader(&self, serial: u64) -> Option<Rc<Reader>> {
        if !self.is_at(serial) || self.phase.get() != Phase::Reading {
            return None;
        }
        self.reader.borrow().clone()
    }

    pub(in crate::http) fn pause(&self, serial: u64) {
        if let Some(reader) = self.reader(serial) {
            reader.is_paused.set(true);
            reader.mark.set(None);
            self.bev.disable(Direction::READ);
        }
    }

    pub(in crate::http) fn resume(&self, serial: u64) {
        if let Some(reader) = self.reader(serial).filter(|reader| reader.is_paused.get()) {
            reader.is_paused.set(false);
            self.resume_reading();
            self.advance_later();
        }
    }

    /// Whether the body's reader wants nothing now.
    pub(super) fn is_read_paused(&self) -> bool {
        self.phase.get() == Phase::Reading
            && self.reader.borrow().as_ref().is_some_and(|reader| reader.is_paused.get())
    }

    /// The client sends no more, and nobody reads what has come: if that cannot be all of the body, it never will be.
    pub(super) fn left_in_pause(&self) {
        let Some(unread) = self.bev.unread() else { return };
        let came = unread.saturating_add(self.bev.input().len() as u64);
        if self.decoder.get().known_rest().is_some_and(|rest| rest > came) {
            self.fail_body(BodyError::Disconnected);
        }
    }

    pub(super) fn resume_reading(&self) {
        if !self.is_half_closed.get() {
            let _ = self.bev.enable(Direction::READ);
        }
    }

    /// Gives the request back to its handler.
    pub(in crate::http) fn take_request(&self, serial: u64) -> Option<Request> {
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
