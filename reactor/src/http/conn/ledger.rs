//! What is told of exchanges.

use super::{Conn, LOW_UNSENT};
use crate::bufferevent::FarewellWatcher;
use crate::error::Result;
use crate::evbuffer::Evbuffer;
use crate::http::exchange::Entry;
use crate::http::stream::Outlet;

impl Conn {
    /// Puts something into the output.
    pub(super) fn queue(&self, append: impl FnOnce(&Evbuffer) -> Result<()>) -> Result<()> {
        let output = self.bev.output();
        let before = output.len();
        let outcome = append(output);
        self.queued(output.len().saturating_sub(before));
        outcome
    }

    pub(super) fn has_ledger(&self) -> bool {
        self.ledger.borrow().is_some()
    }

    /// Bytes that the kernel took, ever.
    pub(super) fn sent(&self) -> u64 {
        self.queued.get().saturating_sub(self.bev.output().len() as u64)
    }

    /// Begins an exchange, if somebody wants to hear of it.
    pub(super) fn note_request(&self, serial: u64, method: &str, target: &str) {
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

    pub(super) fn note(&self, serial: u64, note: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.ledger.borrow_mut().as_mut().and_then(|ledger| ledger.last(serial)) {
            note(entry);
        }
    }

    /// Says whose request it is, if somebody wants to hear of it.
    pub(in crate::http) fn name_user(&self, serial: u64, user: &str) {
        if let Some(ledger) = self.ledger.borrow_mut().as_mut() {
            ledger.name_user(serial, user);
        }
    }

    /// Tells of the exchanges whose replies are out; it is user code, and runs from the loop.
    pub(super) fn tell_whole(&self) {
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
    pub(super) fn tell_rest(&self, sent: u64) {
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
