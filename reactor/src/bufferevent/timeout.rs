//! One direction's time-out: activity only notes the time, and the timer looks at that note when it is due. Beside it the
//! least that a peer has to take meanwhile.

use std::cell::Cell;

use crate::clock::Nanos;
use crate::timer::TimerKey;

pub(super) struct Timeout {
    /// 0 for none.
    length: Cell<Nanos>,
    since: Cell<Nanos>,
    pub(super) timer: Cell<Option<TimerKey>>,
}

impl Timeout {
    pub(super) fn none() -> Self {
        Timeout { length: Cell::new(0), since: Cell::new(0), timer: Cell::new(None) }
    }

    pub(super) fn set(&self, length: Option<Nanos>) {
        self.length.set(length.unwrap_or(0));
    }

    pub(super) fn length(&self) -> Option<Nanos> {
        Some(self.length.get()).filter(|&length| length > 0)
    }

    pub(super) fn is_set(&self) -> bool {
        self.length.get() > 0
    }

    /// It counts from now on.
    pub(super) fn restart(&self, now: Nanos) {
        self.since.set(now);
    }

    pub(super) fn deadline(&self) -> Nanos {
        self.since.get().saturating_add(self.length.get())
    }
}

/// How fast the peer takes what is sent, measured over the time-out of writing while something waits to be sent.
#[derive(Default)]
pub(super) struct WriteRate {
    /// Bytes a second; 0 for any.
    pub(super) least: Cell<u64>,
    /// Bytes that were taken, ever.
    pub(super) moved: Cell<u64>,
    /// It was too low when its time was over.
    pub(super) is_missed: Cell<bool>,
    mark: Cell<u64>,
    since: Cell<Nanos>,
}

impl WriteRate {
    /// Measures from now on.
    pub(super) fn begin(&self, now: Nanos) {
        self.mark.set(self.moved.get());
        self.since.set(now);
    }

    /// Whether too little was taken since.
    pub(super) fn is_too_low(&self, now: Nanos) -> bool {
        let elapsed = u128::from(now.saturating_sub(self.since.get()));
        let taken = u128::from(self.moved.get() - self.mark.get());
        taken * 1_000_000_000 < u128::from(self.least.get()) * elapsed
    }
}
