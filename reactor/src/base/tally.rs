//! The figures of a base.

use std::cell::Cell;

/// How many events a base has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Places in which events stand: an event that waits for a descriptor and a time-out counts as two, one that is
    /// active besides as three. A bufferevent counts once for each direction that it waits for.
    pub added: usize,
    /// Callbacks that are to run.
    pub active: usize,
    /// The most that `added` was since the base was made or [`EventBase::reset_peaks`](crate::EventBase::reset_peaks) was
    /// called.
    pub peak_added: usize,
    /// Likewise for `active`.
    pub peak_active: usize,
}

/// The figures of [`Counts`], kept along, since a peak can be between two looks.
#[derive(Default)]
pub(super) struct Tally {
    /// In the I/O map, for a signal, for a timer, or in a queue.
    pub(super) added: Cell<usize>,
    pub(super) active: Cell<usize>,
    pub(super) peak_added: Cell<usize>,
    pub(super) peak_active: Cell<usize>,
}

impl Tally {
    #[inline]
    pub(super) fn add(&self, by: usize) {
        let added = self.added.get() + by;
        self.added.set(added);
        self.peak_added.set(self.peak_added.get().max(added));
    }

    #[inline]
    pub(super) fn remove(&self, by: usize) {
        self.added.set(self.added.get().saturating_sub(by));
    }

    #[inline]
    pub(super) fn join_queue(&self) {
        self.add(1);
        let active = self.active.get() + 1;
        self.active.set(active);
        self.peak_active.set(self.peak_active.get().max(active));
    }

    #[inline]
    pub(super) fn leave_queue(&self) {
        self.remove(1);
        self.active.set(self.active.get().saturating_sub(1));
    }
}
