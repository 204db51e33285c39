//! One sender's connection.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use reactor::{Address, Bufferevent, Direction};

use super::book::Book;
use super::session::{Garbage, Need, Record, Session};
use super::sniff::Wire;
use crate::forward::relp::write_frame;

/// Acknowledgements that a peer has not taken: beyond the upper bound nothing is read from it, until they are down to
/// the lower one.
const MAX_OUTPUT: usize = 64 * 1024;
const LOW_OUTPUT: usize = 16 * 1024;

/// Room for answers that is kept, enough for a turn's records of a usual length.
const KEPT_REPLIES: usize = 64 * 1024;

pub(crate) struct Connection {
    pub(crate) bev: Bufferevent,
    /// For messages.
    pub(crate) peer: String,
    /// What stands in a line for the host of a record that has none.
    host: String,
    session: RefCell<Session>,
    /// Answers to records that are not written yet.
    replies: RefCell<Vec<u8>>,
    /// It waits for its turn's records to be written.
    pub(crate) is_waiting: Cell<bool>,
    /// Nothing more is to come of it: it goes when its answers are sent.
    is_ending: Cell<bool>,
    /// It takes its answers too slowly.
    is_clogged: Cell<bool>,
    last_heard: Cell<Instant>,
    /// Since when it is in the middle of something.
    begun: Cell<Option<Instant>>,
}

impl Connection {
    pub(crate) fn new(bev: Bufferevent, peer: &Address, max_record: usize, now: Instant) -> Connection {
        let host = match peer {
            Address::Inet(address) => address.ip().to_canonical().to_string(),
            Address::Path(_) | Address::Abstract(_) | Address::Unnamed => "unix".to_owned(),
        };
        Connection {
            bev,
            peer: peer.to_string(),
            host,
            session: RefCell::new(Session::new(max_record)),
            replies: RefCell::default(),
            is_waiting: Cell::new(false),
            is_ending: Cell::new(false),
            is_clogged: Cell::new(false),
            last_heard: Cell::new(now),
            begun: Cell::new(Some(now)),
        }
    }

    /// Takes the records out of what has come. Whether something did that has to be seen to.
    pub(crate) fn read(&self, book: &mut Book, wall: u64, now: Instant) -> Result<bool, Garbage> {
        self.last_heard.set(now);
        let input = self.bev.input();
        if input.is_empty() {
            return Ok(false);
        }
        let mut session = self.session.borrow_mut();
        let is_due = match session.need() {
            Need::Bytes(bytes) => input.len() >= bytes,
            Need::LineEnd { or_bytes, .. } if input.len() >= or_bytes => true,
            Need::LineEnd { seen, .. } => input.find(b"\n", seen..).is_ok_and(|found| found.is_some()),
        };
        if !is_due {
            if let Need::LineEnd { .. } = session.need() {
                session.has_seen(input.len());
            }
            self.begun.set(self.begun.get().or(Some(now)));
            return Ok(false);
        }
        let Ok(Some(front)) = input.pull_up(usize::MAX) else { return Ok(false) };
        let mut replies = self.replies.borrow_mut();
        let before = replies.len();
        let mut records = 0;
        let mut take = |record: Record<'_>| {
            records += 1;
            book.take(record, &self.host, wall);
        };
        let taken = session.feed(&front, &mut replies, &mut take);
        drop(front);
        let _ = input.drain(taken?);
        let is_new = records > 0 || replies.len() > before;
        if session.is_at_rest(input.len()) {
            self.begun.set(None);
        } else if is_new || self.begun.get().is_none() {
            self.begun.set(Some(now));
        }
        if session.is_closed() {
            self.end();
        }
        Ok(is_new || session.is_closed())
    }

    /// The peer sends no more: what is left may be a record.
    pub(crate) fn finish(&self, book: &mut Book, wall: u64) {
        let input = self.bev.input();
        let mut session = self.session.borrow_mut();
        let mut take = |record: Record<'_>| book.take(record, &self.host, wall);
        match input.pull_up(usize::MAX) {
            // All that can be read was, unless the file could not be written.
            Ok(Some(front)) => {
                if let Ok(taken) = session.feed(&front, &mut self.replies.borrow_mut(), &mut take) {
                    session.finish(&front[taken..], &mut take);
                }
            }
            _ => session.finish(b"", &mut take),
        }
        let _ = input.drain(usize::MAX);
        self.end();
    }

    /// Nothing is read any more.
    pub(crate) fn end(&self) {
        self.is_ending.set(true);
        self.bev.disable(Direction::READ);
    }

    /// Sends the answers, now that the records are written. Whether the connection is done with.
    pub(crate) fn acknowledge(&self) -> bool {
        self.is_waiting.set(false);
        let mut replies = self.replies.borrow_mut();
        if !replies.is_empty() {
            let _ = self.bev.write(&replies);
            replies.clear();
            replies.shrink_to(KEPT_REPLIES);
        }
        drop(replies);
        if self.bev.output().len() > MAX_OUTPUT {
            self.is_clogged.set(true);
            self.bev.set_write_mark(LOW_OUTPUT);
            self.bev.disable(Direction::READ);
        }
        self.is_done()
    }

    /// Whether everything was said and sent.
    pub(crate) fn is_done(&self) -> bool {
        self.is_ending.get() && self.bev.output().is_empty() && self.replies.borrow().is_empty()
    }

    /// The output has run down. Whether reading goes on.
    pub(crate) fn unclog(&self) -> bool {
        self.bev.output().len() <= LOW_OUTPUT && self.is_clogged.replace(false) && !self.is_ending.get()
    }

    /// Whether it is read from while the file can be written.
    pub(crate) fn is_reading(&self) -> bool {
        !self.is_clogged.get() && !self.is_ending.get()
    }

    /// Why it should go, if it has been quiet or unfinished for too long.
    pub(crate) fn overdue(&self, now: Instant, idle: Duration, stalled: Duration) -> Option<&'static str> {
        if self.begun.get().is_some_and(|begun| now.saturating_duration_since(begun) >= stalled) {
            let is_known = self.session.borrow().wire().is_some();
            return Some(if is_known { "it does not finish a record" } else { "it sends no record" });
        }
        let quiet = now.saturating_duration_since(self.last_heard.get());
        (quiet >= idle).then_some("it has been idle")
    }

    /// The time in which nothing could be heard of it does not count.
    pub(crate) fn excuse(&self, now: Instant) {
        self.last_heard.set(now);
        if self.begun.get().is_some() {
            self.begun.set(Some(now));
        }
    }

    /// Has a RELP client told that the server ends the connection.
    pub(crate) fn announce_end(&self) {
        if self.session.borrow().wire() == Some(Wire::Relp) {
            write_frame(&mut self.replies.borrow_mut(), 0, "serverclose", b"");
        }
    }

    /// Sends at once what can be sent at once, for a server that goes.
    pub(crate) fn say_goodbye(&self) {
        self.announce_end();
        self.acknowledge();
        let Some(socket) = self.bev.take_socket() else { return };
        // What the peer does not take, it will hear of as a repeat.
        let _ = self.bev.output().write_to(&socket, None);
    }
}
