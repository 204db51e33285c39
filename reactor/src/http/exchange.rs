//! What became of a request: for an access log.

use std::collections::VecDeque;
use std::time::Duration;

use super::status::Status;
use crate::address::Address;
use crate::clock::Nanos;

/// A request and its reply, when both are over: what [`Http::on_exchange`](super::Http::on_exchange) is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Exchange<'a> {
    /// Where the client is.
    pub peer: &'a Address,
    /// The method; empty if there was no head that could be understood.
    pub method: &'a str,
    /// The target as it came; empty with the method.
    pub target: &'a str,
    /// Who asked, as the handler said by [`Request::set_user`](super::Request::set_user); empty if it did not.
    pub user: &'a str,
    /// What was answered; `None` if the connection ended before an answer had begun.
    pub status: Option<Status>,
    /// Bytes of the reply's body that the kernel took, with the framing of chunks.
    pub sent: u64,
    /// Bytes of the request's body that were read until now, without the framing of chunks.
    pub received: u64,
    /// Since the head was there; for an answer without a head, since that was decided.
    pub duration: Duration,
    /// Whether the reply went out to its last byte.
    pub is_whole: bool,
}

/// An exchange that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// Of the request; 0 for an answer to none.
    pub(super) serial: u64,
    method: usize,
    target: usize,
    user: usize,
    status: Option<Status>,
    pub(super) received: u64,
    since: Nanos,
    /// Where the reply's body begins and ends in all that the connection sends.
    body: u64,
    end: Option<u64>,
}

/// The exchanges of a connection that are not over, in their order, and the words of their requests behind each other.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    words: VecDeque<u8>,
}

/// What a ledger may hold in idle memory.
const MOST_KEPT: usize = 16 * 1024;

impl Ledger {
    /// Begins one.
    pub(super) fn open(&mut self, serial: u64, method: &str, target: &str, since: Nanos) {
        self.words.extend(method.as_bytes());
        self.words.extend(target.as_bytes());
        let entry = Entry { serial, method: method.len(), target: target.len(), since, ..Entry::default() };
        self.entries.push_back(entry);
    }

    /// The one that was begun last, if it is this request's.
    pub(super) fn last(&mut self, serial: u64) -> Option<&mut Entry> {
        self.entries.back_mut().filter(|entry| entry.serial == serial)
    }

    /// Says whose request the one that was begun last is, if it is this one and nobody has said so before.
    pub(super) fn name_user(&mut self, serial: u64, user: &str) {
        let last = self.entries.back_mut();
        if let Some(entry) = last.filter(|entry| entry.serial == serial && entry.user == 0) {
            // Its words are the last ones.
            self.words.extend(user.as_bytes());
            entry.user = user.len();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes out the first one if its reply has gone out when `sent` bytes have; its words go to `words`.
    pub(super) fn take_whole(&mut self, sent: u64, words: &mut Vec<u8>) -> Option<Entry> {
        self.entries.front().filter(|entry| entry.is_whole(sent))?;
        self.take_first(words)
    }

    /// Takes out the first one.
    pub(super) fn take_first(&mut self, words: &mut Vec<u8>) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        words.clear();
        words.extend(self.words.drain(..entry.method + entry.target + entry.user));
        Some(entry)
    }

    pub(super) fn is_worth_keeping(&self) -> bool {
        self.words.capacity() + self.entries.capacity() * size_of::<Entry>() <= MOST_KEPT
    }
}

impl Entry {
    /// An answer to no request, not sent yet.
    pub(super) fn refused(status: Status, since: Nanos) -> Entry {
        Entry { status: Some(status), since, ..Entry::default() }
    }

    /// The reply has begun: its body follows `body` bytes.
    pub(super) fn answer(&mut self, status: Status, body: u64) {
        self.status = Some(status);
        self.body = body;
    }

    /// The reply is queued whole.
    pub(super) fn finish(&mut self, end: u64) {
        self.end = Some(end);
    }

    fn is_whole(&self, sent: u64) -> bool {
        self.end.is_some_and(|end| end <= sent)
    }

    /// What to tell of it when `sent` bytes have gone out; `words` are its own.
    pub(super) fn told<'a>(&self, peer: &'a Address, words: &'a [u8], sent: u64, now: Nanos) -> Exchange<'a> {
        let (method, rest) = words.split_at_checked(self.method).unwrap_or_default();
        let (target, user) = rest.split_at_checked(self.target).unwrap_or_default();
        let text = |words| std::str::from_utf8(words).unwrap_or_default();
        Exchange {
            peer,
            method: text(method),
            target: text(target),
            user: text(user),
            status: self.status,
            sent: match self.status {
                Some(_) => sent.min(self.end.unwrap_or(u64::MAX)).saturating_sub(self.body),
                None => 0,
            },
            received: self.received,
            duration: Duration::from_nanos(now.saturating_sub(self.since)),
            is_whole: self.is_whole(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_over_one_by_one() {
        let mut ledger = Ledger::default();
        let mut words = Vec::new();
        ledger.open(1, "GET", "/a", 10);
        ledger.last(1).unwrap().answer(Status::from(200), 100);
        ledger.last(1).unwrap().finish(150);
        ledger.open(2, "PUT", "/bc", 20);
        ledger.name_user(1, "too late");
        ledger.name_user(2, "änna");
        ledger.name_user(2, "other");
        ledger.last(2).unwrap().answer(Status::from(201), 250);
        assert!(ledger.last(1).is_none(), "only the request at hand is written to");
        assert!(ledger.take_whole(149, &mut words).is_none());

        let entry = ledger.take_whole(150, &mut words).unwrap();
        let told = entry.told(&Address::Unnamed, &words, 160, 15);
        assert_eq!((told.method, told.target, told.sent, told.is_whole), ("GET", "/a", 50, true));
        assert_eq!(told.user, "");
        assert_eq!((told.status, told.duration), (Some(Status::from(200)), Duration::from_nanos(5)));

        assert!(ledger.take_whole(u64::MAX, &mut words).is_none(), "it is not queued whole");
        let entry = ledger.take_first(&mut words).unwrap();
        let told = entry.told(&Address::Unnamed, &words, 240, 20);
        assert_eq!((told.method, told.target, told.sent, told.is_whole), ("PUT", "/bc", 0, false));
        assert_eq!(told.user, "änna");
        assert_eq!(ledger.len(), 0);
        assert!(ledger.words.is_empty());
    }
}
