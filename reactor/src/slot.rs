//! The callback cell: the only place that calls a user's closure.
//!
//! A closure is taken out of its slot while it runs, so nothing of the library is borrowed meanwhile and the closure
//! may set, clear or trigger its own slot. Afterwards it is put back only if nobody set or cleared the slot meanwhile.

use std::cell::Cell;

/// Holds one closure. `F` is its unsized type, for example `dyn FnMut(&Event, EventFlags)`.
pub(crate) struct Slot<F: ?Sized> {
    closure: Cell<Option<Box<F>>>,
    state: Cell<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing of this slot is on the stack; `closure` is the one to call next.
    Idle,
    /// The closure is on the stack and goes back into `closure` when it returns.
    Running,
    /// The closure is on the stack and dies when it returns: `closure` holds its successor, or nothing.
    Replaced,
}

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Called {
    /// The closure ran to its end.
    Ran,
    /// There is no closure.
    Empty,
    /// The closure is on the stack already; the caller keeps the occasion for later.
    Busy,
}

impl<F: ?Sized> Slot<F> {
    pub(crate) const fn empty() -> Self {
        Slot { closure: Cell::new(None), state: Cell::new(State::Idle) }
    }

    pub(crate) fn new(closure: Box<F>) -> Self {
        Slot { closure: Cell::new(Some(closure)), state: Cell::new(State::Idle) }
    }

    /// Sets or clears the closure; the old one is dropped here, or when it returns if it is running.
    pub(crate) fn set(&self, closure: Option<Box<F>>) {
        if self.state.get() == State::Running {
            self.state.set(State::Replaced);
        }
        // Dropped only after the cell is whole again: the captures' `Drop` is user code.
        drop(self.closure.replace(closure));
    }

    /// Whether a call would reach a closure: one that is set, or the one on the stack if it will go back.
    pub(crate) fn is_set(&self) -> bool {
        if self.state.get() == State::Running {
            return true;
        }
        let closure = self.closure.take();
        let set = closure.is_some();
        self.closure.set(closure);
        set
    }

    /// Whether the closure is on the stack.
    pub(crate) fn is_running(&self) -> bool {
        self.state.get() != State::Idle
    }

    /// Runs the closure through `invoke`, unless it is on the stack already.
    ///
    /// If it panics, the closure is lost and the slot is free for another.
    #[inline]
    pub(crate) fn call(&self, invoke: impl FnOnce(&mut F)) -> Called {
        if self.state.get() != State::Idle {
            return Called::Busy;
        }
        let Some(mut closure) = self.closure.take() else {
            return Called::Empty;
        };
        self.state.set(State::Running);
        let reset = ResetOnUnwind(&self.state);
        invoke(&mut closure);
        std::mem::forget(reset);
        if self.state.replace(State::Idle) == State::Running {
            self.closure.set(Some(closure));
        }
        Called::Ran
    }
}

struct ResetOnUnwind<'a>(&'a Cell<State>);

impl Drop for ResetOnUnwind<'_> {
    fn drop(&mut self) {
        self.0.set(State::Idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    fn counter(slot: &Rc<Slot<dyn FnMut()>>, n: &Rc<Cell<u32>>, step: u32) -> Box<dyn FnMut()> {
        let (n, _keep) = (n.clone(), slot.clone());
        Box::new(move || n.set(n.get() + step))
    }

    #[test]
    fn runs_and_puts_back() {
        let n = Rc::new(Cell::new(0));
        let slot: Rc<Slot<dyn FnMut()>> = Rc::new(Slot::empty());
        assert_eq!(slot.call(|f| f()), Called::Empty);
        slot.set(Some(counter(&slot, &n, 1)));
        assert_eq!(slot.call(|f| f()), Called::Ran);
        assert_eq!(slot.call(|f| f()), Called::Ran);
        assert_eq!(n.get(), 2);
        assert!(slot.is_set());
        slot.set(None);
        assert!(!slot.is_set());
    }

    #[test]
    fn replacing_itself_takes_effect_from_the_next_call() {
        let n = Rc::new(Cell::new(0));
        let alive = Rc::new(());
        let slot: Rc<Slot<dyn FnMut()>> = Rc::new(Slot::empty());
        let (s, n2, held) = (slot.clone(), n.clone(), alive.clone());
        slot.set(Some(Box::new(move || {
            s.set(Some(counter(&s, &n2, 10)));
            n2.set(n2.get() + 1);
            assert_eq!(Rc::strong_count(&held), 2);
        })));
        assert_eq!(slot.call(|f| f()), Called::Ran);
        assert_eq!(n.get(), 1);
        assert_eq!(Rc::strong_count(&alive), 1, "the old closure is dropped when it returns");
        assert_eq!(slot.call(|f| f()), Called::Ran);
        assert_eq!(n.get(), 11);
        slot.set(None);
    }

    #[test]
    fn clearing_itself_stays_cleared() {
        let slot: Rc<Slot<dyn FnMut()>> = Rc::new(Slot::empty());
        let s = slot.clone();
        slot.set(Some(Box::new(move || {
            assert!(s.is_set() && s.is_running());
            s.set(None);
            assert!(!s.is_set() && s.is_running());
        })));
        assert_eq!(slot.call(|f| f()), Called::Ran);
        assert_eq!(slot.call(|f| f()), Called::Empty);
        assert_eq!(Rc::strong_count(&slot), 1, "no cycle is left");
    }

    #[test]
    fn a_call_from_within_is_busy() {
        let inner: Rc<Slot<dyn FnMut()>> = Rc::new(Slot::empty());
        let i = inner.clone();
        inner.set(Some(Box::new(move || assert_eq!(i.call(|f| f()), Called::Busy))));
        assert_eq!(inner.call(|f| f()), Called::Ran);
        inner.set(None);
    }

    #[test]
    fn a_panic_loses_the_closure_and_frees_the_slot() {
        let slot: Slot<dyn FnMut()> = Slot::new(Box::new(|| panic!("boom")));
        assert!(catch_unwind(AssertUnwindSafe(|| slot.call(|f| f()))).is_err());
        assert!(!slot.is_running());
        assert_eq!(slot.call(|f| f()), Called::Empty);
        slot.set(Some(Box::new(|| ())));
        assert_eq!(slot.call(|f| f()), Called::Ran);
    }
}
