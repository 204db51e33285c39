//! From replies to bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Weak;

use super::{Conn, Phase, SMALL_REST};
use crate::bufferevent::{Direction, TriggerOptions};
use crate::evbuffer::Evbuffer;
use crate::http::body::Next;
use crate::http::reply::{Content, Frame, Length, Plan, Scratch};
use crate::http::status::Status;
use crate::http::stream::{BodyStream, Outlet, StreamFraming};
use crate::slot::Called;

impl Conn {
    /// Tells of a refusal from the loop, since the caller is user code.
    pub(in crate::http) fn refused_later(&self, status: Status) {
        self.server.refused_later(&self.peer, status);
    }

    /// The handler dropped its request.
    pub(in crate::http) fn answer_dropped(&self, serial: u64, mut scratch: Box<Scratch>) {
        if self.is_at(serial) {
            self.refused_later(Status::from(500));
        }
        scratch.clear();
        let plan = Plan { status: Status::from(500), length: Length::Known(0), has_date: false };
        self.send_whole(serial, &mut scratch, plan, false, Content::None);
        self.recycle(scratch);
    }

    pub(in crate::http) fn send_whole(
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

    pub(in crate::http) fn send_head(
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
    pub(super) fn encode(&self, scratch: &mut Scratch, plan: Plan, closes: bool) -> StreamFraming {
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
        let (closes, stays) = (exchange.closes, !exchange.is_modern);
        let frame = Frame { status: plan.status, length: length_line, closes, stays, date };
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
    pub(super) fn finish_exchange(&self) {
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

    pub(super) fn drained(&self) {
        let Some(stream) = self.stream.borrow().clone() else { return };
        let mut has_panicked = false;
        let called = self.on_drained.call(|on_drained| {
            has_panicked = catch_unwind(AssertUnwindSafe(|| on_drained(&stream))).is_err();
        });
        if has_panicked && called == Called::Ran {
            self.abort();
        }
    }

    pub(super) fn drop_stream(&self) {
        let stream = self.stream.take();
        self.on_drained.set(None);
        drop(stream);
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
