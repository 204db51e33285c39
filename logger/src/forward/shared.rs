//! What a pool, its sinks and its clients share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::client::Line;
use super::report::{Report, Reporter};
use super::spool::{Stream, Writer};
use super::syslog::Origin;
use crate::filter::Gate;

pub(super) struct Shared {
    pub(super) gate: Gate,
    pub(super) origin: Origin,
    pub(super) sender: u64,
    /// The longest text of a record that is forwarded whole.
    pub(super) max_record: usize,
    /// One for each client.
    writers: Mutex<Vec<Writer>>,
    /// The writers' streams, and those that earlier runs left.
    streams: Vec<Arc<Stream>>,
    /// Set when all clients have started.
    lines: OnceLock<Vec<Line>>,
    report: Reporter,
    tally: Tally,
    /// Held by whoever looks whether everything is acknowledged, until it waits.
    draining: Mutex<()>,
    is_drained: Condvar,
}

/// What is counted beside the streams' own figures.
#[derive(Default)]
struct Tally {
    connected: AtomicUsize,
    connects: AtomicU64,
    sent: AtomicU64,
    cut: AtomicU64,
}

/// A pool's figures at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Clients whose collector takes records now.
    pub connected: usize,
    /// How often a client came to that.
    pub connects: u64,
    /// Records that were accepted: written to the spool.
    pub spooled: u64,
    /// Records that were sent, those that were sent again included.
    pub sent: u64,
    /// Records that the collector has acknowledged; over plain syslog, that the system has taken.
    pub acknowledged: u64,
    /// Records in the spool that are not acknowledged, those of earlier runs included.
    pub waiting: u64,
    /// Records that went because the spool was at its bound.
    pub dropped: u64,
    /// Records that could not be read from the spool.
    pub damaged: u64,
    /// Records of which only the beginning was forwarded, since they were too long.
    pub cut: u64,
}

impl Shared {
    pub(super) fn new(
        gate: Gate,
        origin: Origin,
        sender: u64,
        max_record: usize,
        report: Reporter,
        writers: Vec<Writer>,
        streams: Vec<Arc<Stream>>,
    ) -> Shared {
        Shared {
            gate,
            origin,
            sender,
            max_record,
            writers: Mutex::new(writers),
            streams,
            lines: OnceLock::new(),
            report,
            tally: Tally::default(),
            draining: Mutex::new(()),
            is_drained: Condvar::new(),
        }
    }

    pub(super) fn writers(&self) -> MutexGuard<'_, Vec<Writer>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_lines(&self, lines: Vec<Line>) {
        // Only the pool's start does this.
        let _ = self.lines.set(lines);
    }

    pub(super) fn lines(&self) -> &[Line] {
        self.lines.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn report(&self, report: &Report) {
        (self.report)(report);
    }

    pub(super) fn client_is_up(&self) {
        self.tally.connected.fetch_add(1, Ordering::Relaxed);
        self.tally.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn client_is_down(&self) {
        self.tally.connected.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, records: u64) {
        self.tally.sent.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn count_cut(&self) {
        self.tally.cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        let tally = &self.tally;
        let mut counters = Counters {
            connected: tally.connected.load(Ordering::Relaxed),
            connects: tally.connects.load(Ordering::Relaxed),
            sent: tally.sent.load(Ordering::Relaxed),
            cut: tally.cut.load(Ordering::Relaxed),
            ..Counters::default()
        };
        for stream in &self.streams {
            let counts = stream.counts();
            counters.spooled += counts.spooled;
            counters.acknowledged += counts.acknowledged;
            counters.waiting += counts.waiting;
            counters.dropped += counts.dropped;
            counters.damaged += counts.damaged;
        }
        counters
    }

    fn has_nothing_waiting(&self) -> bool {
        self.streams.iter().all(|stream| stream.counts().waiting == 0)
    }

    /// Whoever waits until everything is acknowledged looks again.
    pub(super) fn look_again(&self) {
        drop(self.draining.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_drained.notify_all();
    }

    /// Waits until nothing is left to be acknowledged, at most this long; whether it came to that.
    pub(super) fn wait_until_drained(&self, limit: Duration) -> bool {
        let guard = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_drained.wait_timeout_while(guard, limit, |()| !self.has_nothing_waiting());
        let (_guard, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
        !outcome.timed_out()
    }
}
