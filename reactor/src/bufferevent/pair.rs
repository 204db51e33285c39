//! The transport between two bufferevents of one base: bytes move from output to input by pointer.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::{mem, thread};

use super::flags::{BevEvent, Direction, FlushMode, TriggerOptions};
use super::state::{OnPanic, State, Transport};
use crate::active::When;
use crate::error::{Error, Result};

pub(super) struct Pair {
    partner: RefCell<Weak<State>>,
    /// Its output could not move when it should have: the loop tries once more.
    is_held_up: Cell<bool>,
}

impl Pair {
    pub(super) fn new() -> Self {
        Pair { partner: RefCell::new(Weak::new()), is_held_up: Cell::new(false) }
    }

    pub(super) fn partner(&self) -> Option<Rc<State>> {
        self.partner.borrow().upgrade()
    }

    /// Ends the connection from both sides.
    pub(super) fn unlink(&self) {
        let partner = self.partner.replace(Weak::new()).upgrade();
        let Some(partner) = partner else { return };
        if let Transport::Pair(other) = &partner.transport {
            other.partner.replace(Weak::new());
        }
        partner.attend();
    }

    pub(super) fn enabled(&self, state: &Rc<State>, direction: Direction) {
        let Some(partner) = self.partner() else { return };
        if direction.contains(Direction::READ) {
            offer(&partner, state);
        }
        if direction.contains(Direction::WRITE) {
            offer(state, &partner);
        }
    }

    pub(super) fn output_added(&self, state: &Rc<State>) {
        if let Some(partner) = self.partner() {
            offer(state, &partner);
        }
    }

    /// Its input has room again.
    pub(super) fn input_taken(&self, state: &Rc<State>) {
        if let Some(partner) = self.partner() {
            offer(&partner, state);
        }
    }

    /// From the loop: moves what was held up. A guard that is alive even now is not one of a callback; what it holds
    /// up moves with the next change, since trying again and again would keep the loop busy.
    pub(super) fn pass(&self, state: &Rc<State>) -> bool {
        let Some(partner) = self.partner().filter(|_| self.is_held_up.take()) else { return false };
        is_on(state, &partner) && transfer(state, &partner, partner.read_room()).is_ok()
    }

    /// Has the loop move its output.
    pub(super) fn hold_up(&self, state: &State) {
        self.is_held_up.set(true);
        state.activate(When::Now);
    }

    pub(super) fn flush(&self, state: &Rc<State>, direction: Direction, mode: FlushMode) -> Result<bool> {
        let partner = self.partner().ok_or(Error::NoPartner)?;
        if mode == FlushMode::Normal {
            return Ok(false);
        }
        if direction.contains(Direction::READ) {
            transfer(&partner, state, usize::MAX)?;
        }
        if direction.contains(Direction::WRITE) {
            transfer(state, &partner, usize::MAX)?;
        }
        if mode == FlushMode::Finished {
            let mut what = BevEvent::EOF;
            what.set(BevEvent::WRITING, direction.contains(Direction::READ));
            what.set(BevEvent::READING, direction.contains(Direction::WRITE));
            partner.event(what, TriggerOptions::empty());
        }
        Ok(true)
    }
}

pub(super) fn link(one: &Rc<State>, other: &Rc<State>) {
    for (state, partner) in [(one, other), (other, one)] {
        if let Transport::Pair(pair) = &state.transport {
            pair.partner.replace(Rc::downgrade(partner));
        }
    }
}

/// Whether both sides are willing to move something.
fn is_on(from: &State, to: &State) -> bool {
    from.enabled.get().contains(Direction::WRITE)
        && to.enabled.get().contains(Direction::READ)
        && to.read_room() > 0
        && !from.output.is_empty()
}

/// Moves what both sides are willing to move; while a panic unwinds, from the loop, since watchers would run.
fn offer(from: &Rc<State>, to: &Rc<State>) {
    if is_on(from, to)
        && (thread::panicking() || transfer(from, to, to.read_room()).is_err())
        && let Transport::Pair(pair) = &from.transport
    {
        pair.hold_up(from);
    }
}

/// Fails if one of the buffers is lent to a guard of the user's.
fn transfer(from: &Rc<State>, to: &Rc<State>, most: usize) -> Result<()> {
    let on_panic = (OnPanic(to, Direction::READ), OnPanic(from, Direction::WRITE));
    let moved = from.output.remove_buffer_thawed(&to.input, most);
    mem::forget(on_panic);
    if moved? > 0 {
        from.transferred(Direction::WRITE);
        to.transferred(Direction::READ);
    }
    to.occasion(Direction::READ, TriggerOptions::empty());
    from.occasion(Direction::WRITE, TriggerOptions::empty());
    from.attend();
    to.attend();
    Ok(())
}
