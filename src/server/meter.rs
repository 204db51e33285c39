//! Counters of one loop, read by any.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What one loop counts. Only its thread writes most of them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Answers, by the first digit of their status from 1 on.
    pub(crate) answers: [AtomicU64; 5],
    /// Answers that ended before they were whole.
    pub(crate) cut: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Uploads that are on their way.
    pub(crate) uploads: AtomicU64,
    /// Answers that took at most so long as the bound of the same place in [`BOUNDS`]; one more for the rest.
    took: [AtomicU64; BOUNDS.len() + 1],
    took_micros: AtomicU64,
}

/// Upper bounds of the buckets of durations, in microseconds.
pub(crate) const BOUNDS: [u64; 10] =
    [100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

impl Meter {
    /// Counts an answer.
    pub(crate) fn answered(&self, status: u16, is_whole: bool, received: u64, sent: u64, took: Duration) {
        if let Some(count) = self.answers.get(usize::from(status / 100).wrapping_sub(1)) {
            count.fetch_add(1, Relaxed);
        }
        if !is_whole {
            self.cut.fetch_add(1, Relaxed);
        }
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.took.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.took_micros.fetch_add(micros, Relaxed);
    }

    /// The counts of the buckets, each without those before, and the sum in microseconds.
    pub(crate) fn took(&self) -> ([u64; BOUNDS.len() + 1], u64) {
        (std::array::from_fn(|n| self.took[n].load(Relaxed)), self.took_micros.load(Relaxed))
    }
}
