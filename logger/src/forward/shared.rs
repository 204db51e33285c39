//! What a pool, its sinks and its clients share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::client::Line;
use super::inlet::Inlet;
use super::report::{Report, Reporter};
use super::spool::Stream;
use crate::filter::Gate;
use crate::producer::hastily;
use crate::sink::Lines;

pub(super) struct Shared {
    pub(super) gate: Arc<Gate>,
    /// The spool's.
    folder: PathBuf,
    inlet: Mutex<Inlet>,
    /// The streams that records come to, and those that earlier runs left.
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
    /// As the inlet had them last: a report may ask for the figures while the inlet writes.
    cut: AtomicU64,
    held: AtomicU64,
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
    /// Records that were not forwarded since they were part of a flood.
    pub held: u64,
}

impl Shared {
    pub(super) fn new(
        gate: Arc<Gate>,
        folder: PathBuf,
        inlet: Inlet,
        report: Reporter,
        streams: Vec<Arc<Stream>>,
    ) -> Shared {
        Shared {
            gate,
            folder,
            inlet: Mutex::new(inlet),
            streams,
            lines: OnceLock::new(),
            report,
            tally: Tally::default(),
            draining: Mutex::new(()),
            is_drained: Condvar::new(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn inlet(&self) -> MutexGuard<'_, Inlet> {
        self.inlet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lines that are to be forwarded, and writes them to the spool.
    ///
    /// What is reported meanwhile waits for no other logger, whose worker may wait for the inlet.
    pub(super) fn take(&self, lines: &Lines<'_>) -> io::Result<()> {
        let Some(least) = self.gate.least() else { return Ok(()) };
        let mut chosen = lines.with_pairs().filter(|(_, level, _)| *level >= least).peekable();
        if chosen.peek().is_none() {
            return Ok(());
        }
        let mut inlet = self.inlet();
        chosen.for_each(|(pair, level, line)| inlet.take(pair, level, line));
        self.tally.cut.store(inlet.cut(), Ordering::Relaxed);
        if self.tally.held.swap(inlet.held(), Ordering::Relaxed) < inlet.held()
            && let Some(line) = self.lines().first()
        {
            line.sweep();
        }
        hastily(|| inlet.write(|nth| self.feed(nth)))
    }

    /// Writes what a failure has kept out of the spool.
    pub(super) fn write(&self) -> io::Result<()> {
        hastily(|| self.inlet().write(|nth| self.feed(nth)))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut inlet = self.inlet();
        hastily(|| {
            inlet.write(|nth| self.feed(nth))?;
            inlet.sync()
        })
    }

    /// Forwards what there is to say of floods. When to do that again, if there is reason to.
    pub(super) fn sweep(&self) -> Option<Duration> {
        let mut inlet = self.inlet();
        let again = inlet.sweep();
        self.tally.cut.store(inlet.cut(), Ordering::Relaxed);
        // What fails here stays in memory, and goes with the next records.
        let _ = inlet.write(|nth| self.feed(nth));
        again
    }

    /// Forwards what there is to say of floods, with nobody there to do it later.
    pub(super) fn end_floods(&self) {
        let mut inlet = self.inlet();
        inlet.end_floods();
        // As there.
        let _ = hastily(|| inlet.write(|nth| self.feed(nth)));
    }

    fn feed(&self, nth: usize) {
        if let Some(line) = self.lines().get(nth) {
            line.feed();
        }
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

    pub(super) fn counters(&self) -> Counters {
        let tally = &self.tally;
        let mut counters = Counters {
            connected: tally.connected.load(Ordering::Relaxed),
            connects: tally.connects.load(Ordering::Relaxed),
            sent: tally.sent.load(Ordering::Relaxed),
            cut: tally.cut.load(Ordering::Relaxed),
            held: tally.held.load(Ordering::Relaxed),
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
