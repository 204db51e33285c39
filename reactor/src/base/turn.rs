//! One turn of the loop: poll, find out what became active, run it.

use std::os::fd::AsFd;

use super::core::{Core, Expiry};
use super::{EventBase, Outcome};
use crate::active::When;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::flags::{EventFlags, LoopFlags};
use crate::io_map::is_half_closed;
use crate::once::Once;
use crate::selector::{Ready, Wait};

impl EventBase {
    /// Turns until there is nothing to do or it is stopped.
    pub(super) fn turns(&self, flags: LoopFlags) -> Result<Outcome> {
        let core = &*self.core;
        self.check()?;
        let _running = Running::enter(core)?;
        core.got_exit.set(false);
        core.got_break.set(false);
        core.remote.forget_break();
        // What ran in any turn counts: the last one may only find that there was no more.
        let mut has_run = false;
        loop {
            core.continuing.set(false);
            core.deferred.set(0);
            if core.got_exit.get() || self.got_break() {
                return Ok(Outcome::Stopped);
            }
            self.check()?;
            let is_busy = core.tally.active.get() > 0 || core.remote.is_waiting();
            if !is_busy && !flags.contains(LoopFlags::NO_EXIT_ON_EMPTY) && core.tally.added.get() == 0 {
                return Ok(Outcome::NoEvents);
            }
            core.queues.borrow_mut().promote();
            self.poll(is_busy || flags.contains(LoopFlags::NONBLOCK))?;
            self.take_posted();
            core.expire();
            if core.tally.active.get() > 0 {
                has_run |= self.process() > 0;
                // What waits for the next turn, as a stream with more to read does, is not part of this one.
                let is_done = core.queues.borrow().most_urgent(0).is_none();
                if flags.contains(LoopFlags::ONCE) && has_run && is_done {
                    return Ok(Outcome::Stopped);
                }
            } else if flags.contains(LoopFlags::NONBLOCK) {
                return Ok(Outcome::Stopped);
            }
        }
    }

    /// Tells the kernel what nobody waits for any more.
    fn narrow(&self) -> Result<()> {
        let core = &*self.core;
        while let Some((key, fd)) = core.with_selector(|selector| core.io.borrow_mut().flush(selector))? {
            let fd = fd.as_fd();
            core.with_selector(|selector| core.io.borrow_mut().narrow(selector, fd, key))?
                .map_err(Error::io("change what the event loop polls"))?;
        }
        Ok(())
    }

    /// Polls and activates what is ready. User code runs at the end only: what gives a descriptor, and diagnostics.
    fn poll(&self, at_once: bool) -> Result<()> {
        let core = &*self.core;
        self.narrow()?;
        let mut guard = core.selector.borrow_mut();
        let Some(selector) = guard.as_mut() else { return Err(Error::Freed { what: "event base" }) };
        core.clock.end_turn();
        core.turn.set(core.turn.get() + 1);
        let wait = if at_once { Wait::No } else { core.next_wait() };
        let failed = Error::io("poll for events");
        match (core.clock.stepped(), wait) {
            (Some(clock), Wait::Until { deadline, .. }) => {
                selector.wait(Wait::No).map_err(failed)?;
                if selector.is_empty() && !core.remote.is_waiting() {
                    clock.advance_to(deadline);
                }
            }
            _ => selector.wait(wait).map_err(failed)?,
        }
        core.clock.start_turn();
        let io = core.io.borrow();
        let mut doubtful = Vec::new();
        let mut seen = 0;
        for ready in selector.ready() {
            seen += 1;
            match ready {
                Ready::Io(key, what) => {
                    let doubt = io.ready(key, what, |callback, hit| core.activate_ready(callback, hit));
                    if let Some(fd) = doubt {
                        doubtful.push((key, what, fd));
                    }
                }
                Ready::Signal(signal) => {
                    core.signals.borrow().ready(signal, |callback, times| core.signal(callback, times));
                }
                Ready::Woken => (),
            }
        }
        selector.grow(seen);
        let refused = selector.take_refusal();
        drop((guard, io));
        for (key, what, fd) in doubtful {
            let closed = if is_half_closed(fd.as_fd()) { EventFlags::CLOSED } else { EventFlags::EDGE };
            core.io.borrow().ready(key, what | closed, |callback, hit| core.activate_ready(callback, hit));
        }
        if let Some(source) = refused {
            self.diagnose(&Diagnostic::CoarseTimers { source });
        }
        Ok(())
    }

    /// Queues what other threads posted.
    fn take_posted(&self) {
        if !self.core.remote.is_waiting() {
            return;
        }
        for task in self.core.remote.take() {
            self.activate(Once::new(self, task), EventFlags::empty(), When::Now);
        }
    }

    /// Runs the most urgent queue that has anything; how many callbacks counted.
    fn process(&self) -> usize {
        let core = &*self.core;
        let mut ran = 0;
        let mut from = 0;
        while ran == 0 {
            let most_urgent = core.queues.borrow().most_urgent(from);
            let Some(priority) = most_urgent else { break };
            core.running_priority.set(priority as u8);
            ran = self.process_queue(priority);
            if self.got_break() {
                break;
            }
            from = priority + 1;
        }
        core.running_priority.set(u8::MAX);
        ran
    }

    fn process_queue(&self, priority: usize) -> usize {
        let core = &*self.core;
        let (most, until) = core.limits.of(priority, &core.clock);
        let mut ran = 0;
        loop {
            let popped = core.queues.borrow_mut().pop(priority);
            let Some((callback, what)) = popped else { return ran };
            core.tally.leave_queue();
            ran += usize::from(callback.run(what));
            if self.got_break() || ran >= most || core.continuing.get() {
                return ran;
            }
            if ran > 0 && until.is_some_and(|until| core.clock.refresh() >= until) {
                return ran;
            }
        }
    }
}

impl Core {
    /// Reads the clock afresh: the cached time is as old as the callbacks since took.
    fn next_wait(&self) -> Wait {
        match self.timers.borrow().next() {
            None => Wait::Forever,
            Some(deadline) => {
                let now = self.clock.fresh();
                if deadline <= now { Wait::No } else { Wait::Until { deadline, now } }
            }
        }
    }

    /// Activates the timers that are due.
    fn expire(&self) {
        if self.timers.borrow().next().is_none() {
            return;
        }
        let now = self.clock.now();
        loop {
            let due = self.timers.borrow_mut().pop_due(now);
            let Some((deadline, Expiry { callback, tag })) = due else { return };
            self.tally.remove(1);
            callback.expired(tag, deadline);
        }
    }
}

/// Marks the base as running; reset however the loop ends.
struct Running<'a>(&'a Core);

impl<'a> Running<'a> {
    fn enter(core: &'a Core) -> Result<Self> {
        if core.is_running.replace(true) {
            return Err(Error::AlreadyRunning);
        }
        Ok(Running(core))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_running.set(false);
        self.0.running_priority.set(u8::MAX);
        self.0.running_event.set(None);
        self.0.clock.end_turn();
    }
}
