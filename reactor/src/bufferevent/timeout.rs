//! One direction's time-out: activity only notes the time, and the timer looks at that note when it is due.

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
