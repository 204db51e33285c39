//! Which transfers get somewhere, and which wait.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::error::ClientError;
use super::progress::{Ending, Watch};

/// What a crew knows of its transfers; it passes on what it hears.
pub(super) struct Pace {
    watch: Rc<dyn Watch>,
    /// Whether anything is tried again at all.
    is_patient: bool,
    busy: Cell<usize>,
    /// Connections that are through and have nothing to do.
    resting: Cell<usize>,
    /// Those whose connection was refused, and has brought nothing since.
    stuck: RefCell<HashSet<usize>>,
}

impl Pace {
    pub(super) fn new(watch: Rc<dyn Watch>, is_patient: bool) -> Pace {
        Pace { watch, is_patient, busy: Cell::new(0), resting: Cell::new(0), stuck: RefCell::default() }
    }

    /// How many transfers are under way, waiting ones among them.
    pub(super) fn busy(&self) -> usize {
        self.busy.get()
    }

    /// One begins, on a connection that `was_refused` last time.
    pub(super) fn enter(&self, transfer: usize, was_refused: bool) {
        self.busy.set(self.busy.get() + 1);
        if was_refused {
            self.stuck.borrow_mut().insert(transfer);
        }
    }

    /// So many connections that are through have nothing to do.
    pub(super) fn set_resting(&self, connections: usize) {
        self.resting.set(connections);
    }

    /// Whether what has met `error` is to be left to others: the server takes no more connections, and some are through.
    pub(super) fn is_for_others(&self, transfer: usize, error: &ClientError) -> bool {
        let stuck = self.stuck.borrow();
        let others = stuck.len() - usize::from(stuck.contains(&transfer));
        self.is_patient && error.is_overload() && self.busy.get() + self.resting.get() > others + 1
    }
}

impl Watch for Pace {
    fn finds(&self, transfers: u64, bytes: u64) {
        self.watch.finds(transfers, bytes);
    }

    fn begins(&self, transfer: usize, name: &str, size: Option<u64>) {
        self.watch.begins(transfer, name, size);
    }

    fn has_size(&self, transfer: usize, size: u64) {
        self.watch.has_size(transfer, size);
    }

    fn is_at(&self, transfer: usize, position: u64) {
        if position > 0 {
            self.stuck.borrow_mut().remove(&transfer);
        }
        self.watch.is_at(transfer, position);
    }

    fn waits(&self, transfer: usize, why: &ClientError, wait: Duration) {
        self.stuck.borrow_mut().insert(transfer);
        self.watch.waits(transfer, why, wait);
    }

    fn ends(&self, transfer: usize, ending: Ending) {
        self.busy.set(self.busy.get() - 1);
        self.stuck.borrow_mut().remove(&transfer);
        self.watch.ends(transfer, ending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Watch for Nobody {
        fn finds(&self, _: u64, _: u64) {}
        fn begins(&self, _: usize, _: &str, _: Option<u64>) {}
        fn has_size(&self, _: usize, _: u64) {}
        fn is_at(&self, _: usize, _: u64) {}
        fn waits(&self, _: usize, _: &ClientError, _: Duration) {}
        fn ends(&self, _: usize, _: Ending) {}
    }

    #[test]
    fn the_last_one_is_left_to_nobody() {
        let overload = ClientError::Refused { status: 503, code: String::new(), message: String::new() };
        let pace = Pace::new(Rc::new(Nobody), true);
        for transfer in 0..3 {
            pace.enter(transfer, false);
        }
        assert!(!pace.is_for_others(0, &ClientError::Failed(String::new())));
        for transfer in 0..2 {
            assert!(pace.is_for_others(transfer, &overload), "{transfer}");
            pace.ends(transfer, Ending::GivenBack);
        }
        assert!(!pace.is_for_others(2, &overload));
        pace.waits(2, &overload, Duration::ZERO);
        pace.enter(3, true);
        assert!(!pace.is_for_others(3, &overload) && !pace.is_for_others(2, &overload));
        pace.is_at(2, 1);
        assert!(pace.is_for_others(3, &overload));
        pace.waits(2, &overload, Duration::ZERO);
        assert!(!pace.is_for_others(3, &overload));
        pace.set_resting(1);
        assert!(pace.is_for_others(3, &overload));
        let hasty = Pace::new(Rc::new(Nobody), false);
        hasty.enter(0, false);
        hasty.enter(1, false);
        assert!(!hasty.is_for_others(0, &overload));
    }
}
