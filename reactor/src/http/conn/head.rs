//! From bytes to requests.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Conn, Current, EMPTY_LINES, MOST_UNSENT, Phase};
use crate::http::body::Decoder;
use crate::http::parse::{Framing, ParseError};
use crate::http::reply::Scratch;
use crate::http::request::Request;
use crate::http::route::Found;
use crate::http::status::Status;
use crate::http::turned_away::refusal;

impl Conn {
    /// Begins the next request; false if it is not there yet.
    pub(super) fn next_request(&self) -> bool {
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
    pub(super) fn parse_head(&self, scratch: &mut Scratch) -> std::result::Result<Option<usize>, ParseError> {
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

    pub(super) fn dispatch(&self, scratch: Box<Scratch>) {
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
    pub(super) fn refuse(&self, status: Status) {
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
