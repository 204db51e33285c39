//! The last part of a stream's life: what is queued leaves, and the peer gets time to read it.
//!
//! A socket that is closed with bytes that nobody read makes the kernel reset the connection, which may destroy on its
//! way what was sent before. So the sending side is shut down first, and what still comes in is read and thrown away
//! until the peer ends its side too, within bounds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::flags::{BevEvent, Direction, TriggerOptions};
use super::pair::Pair;
use super::state::{State, Transport, reason};
use crate::address::Address;
use crate::clock::Nanos;
use crate::diagnostic::Diagnostic;
use crate::error::Error;

/// Who hears how a stream that goes once its output is sent fares. Both run from the loop, or from what ends the stream,
/// with nothing borrowed.
pub(crate) trait FarewellWatcher {
    /// The kernel took the last byte.
    fn sent(&self);
    /// The socket is closed, or is when the callback on the stack returns; `unsent` bytes never left. Comes once, last.
    fn gone(&self, unsent: usize);
}

/// How far a stream is that goes once its output is sent.
#[derive(Default)]
pub(super) struct Farewell {
    /// Bytes read and thrown away.
    discarded: Cell<usize>,
    /// The peer sends no more.
    is_peer_finished: Cell<bool>,
    /// Asked for while the system knows it.
    peer: Option<Address>,
    watcher: RefCell<Option<Rc<dyn FarewellWatcher>>>,
}

/// More than the buffers of both kernels hold (Linux: 6 MiB to receive and 4 MiB to send), so that a peer that stops when
/// it reads the answer is heard to its end.
const MOST_DISCARDED: usize = 16 * 1024 * 1024;
/// From the last byte sent to the close, if the peer does not end its side before.
const LINGER: Nanos = 5_000_000_000;
/// The write time-out of a stream that has none: nobody is left who could give it up.
const WRITE_TIMEOUT: Nanos = 60_000_000_000;

impl State {
    pub(super) fn is_leaving(&self) -> bool {
        self.farewell.get().is_some()
    }

    pub(super) fn free_when_sent(self: &Rc<Self>, watcher: Option<Rc<dyn FarewellWatcher>>) {
        let has_way_out = match &self.transport {
            Transport::Socket(socket) => socket.is_polled(),
            Transport::Pair(pair) => pair.partner().is_some(),
        };
        if !has_way_out {
            return self.leave_from_nowhere(watcher);
        }
        if self.check().is_err() {
            return;
        }
        let peer = if self.base().has_diagnostics() { self.peer() } else { None };
        let watcher = RefCell::new(watcher);
        if self.farewell.set(Farewell { peer, watcher, ..Farewell::default() }).is_err() {
            return;
        }
        self.forget_occasions();
        self.set_read_marks(0, 0);
        self.set_timeouts(None, Some(self.write_length().unwrap_or(WRITE_TIMEOUT)));
        self.freeze_for_good();
        // User code from here on: what closures captured and owners of shared memory are dropped.
        self.input.clear_watchers();
        self.output.clear_watchers();
        self.input.discard();
        self.clear_callbacks();
        if self.is_gone() {
            return;
        }
        if let Some(socket) = self.socket() {
            socket.finish(self);
        }
        self.enable(Direction::all());
    }

    /// The output is sent, the peer was told the end.
    pub(super) fn finished(&self) {
        let Some(farewell) = self.farewell.get() else { return };
        let watcher = farewell.watcher.borrow().clone();
        if let Some(watcher) = watcher {
            watcher.sent();
        }
        if farewell.is_peer_finished.get() || farewell.discarded.get() >= MOST_DISCARDED {
            self.free();
        } else {
            self.set_timeouts(Some(LINGER), None);
        }
    }

    /// The peer told the end.
    pub(super) fn peer_finished(&self) {
        if let Some(farewell) = self.farewell.get() {
            farewell.is_peer_finished.set(true);
            self.stop_discarding();
        }
    }

    /// Bytes were read that nobody wants. They do not prolong the time.
    pub(super) fn discarded(&self, n: usize) {
        if let Some(farewell) = self.farewell.get() {
            farewell.discarded.set(farewell.discarded.get().saturating_add(n));
            if farewell.discarded.get() >= MOST_DISCARDED {
                self.stop_discarding();
            }
        }
    }

    fn stop_discarding(&self) {
        if self.socket().is_some_and(|socket| socket.is_finished()) {
            self.free();
        } else {
            self.disable(Direction::READ);
        }
    }

    /// Without a connection nothing can be sent.
    fn leave_from_nowhere(&self, watcher: Option<Rc<dyn FarewellWatcher>>) {
        let bytes = self.output.len();
        self.free();
        if let Some(watcher) = watcher {
            watcher.gone(bytes);
        }
        if bytes > 0 {
            let reason = "there is no connection".to_owned();
            self.base().diagnose_later(Diagnostic::Unsent { peer: None, bytes, reason });
        }
    }

    /// It failed, or took too long: what was not sent never will be.
    pub(super) fn left_behind(&self, what: BevEvent, error: Option<Error>) {
        let bytes = self.output.len();
        let peer = self.farewell.get().and_then(|farewell| farewell.peer.clone());
        self.free();
        if bytes > 0 {
            let reason = reason(what, error.as_ref());
            self.base().diagnose(&Diagnostic::Unsent { peer, bytes, reason });
        }
    }

    /// Takes out who hears that it is gone.
    pub(super) fn take_farewell_watcher(&self) -> Option<Rc<dyn FarewellWatcher>> {
        self.farewell.get()?.watcher.take()
    }

    /// One end of a pair has nothing left to give.
    pub(super) fn part_from(&self, pair: &Pair) {
        let partner = pair.partner();
        self.free();
        if let Some(partner) = partner {
            partner.event(BevEvent::EOF | BevEvent::READING, TriggerOptions::empty());
        }
    }
}
