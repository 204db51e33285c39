//! The transport between two bufferevents of one base: bytes move from output to input by pointer.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::flags::{BevEvent, Direction, FlushMode, TriggerOptions};
use super::state::{State, Transport};
use crate::error::{Error, Result};

pub(super) struct Pair {
    partner: RefCell<Weak<State>>,
}

impl Pair {
    pub(super) fn new() -> Self {
        Pair { partner: RefCell::new(Weak::new()) }
    }

    pub(super) fn partner(&self) -> Option<Rc<State>> {
        self.partner.borrow().upgrade()
    }

    /// Ends the connection from both sides.
    pub(super) fn unlink(&self) {
        let partner = self.partner.replace(Weak::new()).upgrade();
        if let Some(Transport::Pair(other)) = partner.as_ref().map(|partner| &partner.transport) {
            other.partner.replace(Weak::new());
        }
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

    pub(super) fn flush(&self, state: &Rc<State>, direction: Direction, mode: FlushMode) -> Result<bool> {
        let partner = self.partner().ok_or(Error::NoPartner)?;
        if mode == FlushMode::Normal {
            return Ok(false);
        }
        if direction.contains(Direction::READ) {
            transfer(&partner, state, usize::MAX);
        }
        if direction.contains(Direction::WRITE) {
            transfer(state, &partner, usize::MAX);
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

/// Moves what both sides are willing to move.
fn offer(from: &Rc<State>, to: &Rc<State>) {
    let room = to.read_room();
    if from.enabled.get().contains(Direction::WRITE)
        && to.enabled.get().contains(Direction::READ)
        && room > 0
        && !from.output.is_empty()
    {
        transfer(from, to, room);
    }
}

fn transfer(from: &Rc<State>, to: &Rc<State>, most: usize) {
    match from.output.remove_buffer_thawed(&to.input, most) {
        Ok(0) => (),
        Ok(_) => {
            from.transferred(Direction::WRITE);
            to.transferred(Direction::READ);
        }
        // Lent to a guard of the user's: what stays behind moves with the next change.
        Err(_) => return,
    }
    to.occasion(Direction::READ, TriggerOptions::empty());
    from.occasion(Direction::WRITE, TriggerOptions::empty());
    from.attend();
    to.attend();
}
