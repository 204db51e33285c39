//! The state behind every handle of a base, and what the other rooms ask of it.

use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::EventBase;
use super::tally::Tally;
use crate::active::{Callback, Node, Queues, When};
use crate::builder::Limits;
use crate::clock::{Clock, Nanos};
use crate::diagnostic::OnDiagnostic;
use crate::error::{Error, Result};
use crate::event::{Event, EventCore};
use crate::flags::EventFlags;
use crate::io_map::{IoMap, Refused, Waiting};
use crate::notify::Remote;
use crate::selector::Selector;
use crate::signal::Signals;
use crate::slot::Slot;
use crate::table::{Key, Table};
use crate::timer::{Lane, TimerKey, Timers};

/// An object that its base keeps alive until it is freed.
pub(crate) trait Owned {
    /// As the user's `free`.
    fn free_with_base(&self);
}

/// What a timer does when it is due.
pub(super) struct Expiry {
    pub(super) callback: Rc<dyn Callback>,
    pub(super) tag: EventFlags,
}

/// The state behind every handle of a base.
pub(super) struct Core {
    pub(super) id: u64,
    /// `None` once the owner is gone.
    pub(super) selector: RefCell<Option<Selector>>,
    pub(super) io: RefCell<IoMap>,
    pub(super) signals: RefCell<Signals>,
    pub(super) timers: RefCell<Timers<Expiry>>,
    pub(super) queues: RefCell<Queues>,
    pub(super) events: RefCell<Table<Weak<EventCore>>>,
    pub(super) owned: RefCell<Table<Rc<dyn Owned>>>,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) remote: Arc<Remote>,
    pub(super) on_diagnostic: Slot<OnDiagnostic>,
    pub(super) is_dead: Cell<bool>,
    pub(super) is_running: Cell<bool>,
    pub(super) got_exit: Cell<bool>,
    pub(super) got_break: Cell<bool>,
    /// Somebody asked to poll again before the rest of this queue.
    pub(super) continuing: Cell<bool>,
    /// The queue that is being worked off; `u8::MAX` outside.
    pub(super) running_priority: Cell<u8>,
    pub(super) running_event: Cell<Option<Key>>,
    /// Deferred callbacks that were queued in this turn.
    pub(super) deferred: Cell<usize>,
    /// Counts up with each poll.
    pub(super) turn: Cell<u64>,
    pub(super) tally: Tally,
}

/// Deferred callbacks beyond this number wait for the next turn, so that they cannot keep the loop from polling.
const MAX_DEFERRED_PER_TURN: usize = 32;

impl Core {
    pub(super) fn new(clock: Clock, priorities: usize, limits: Limits) -> Result<Core> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let selector = Selector::new().map_err(Error::io("create the poll of an event base"))?;
        let waker = selector.waker().map_err(Error::io("create the waker of an event base"))?;
        Ok(Core {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            selector: RefCell::new(Some(selector)),
            io: RefCell::new(IoMap::new()),
            signals: RefCell::new(Signals::new()),
            timers: RefCell::new(Timers::new()),
            queues: RefCell::new(Queues::new(priorities)),
            events: RefCell::new(Table::new()),
            owned: RefCell::new(Table::new()),
            clock,
            limits,
            remote: Remote::new(waker),
            on_diagnostic: Slot::empty(),
            is_dead: Cell::new(false),
            is_running: Cell::new(false),
            got_exit: Cell::new(false),
            got_break: Cell::new(false),
            continuing: Cell::new(false),
            running_priority: Cell::new(u8::MAX),
            running_event: Cell::new(None),
            deferred: Cell::new(0),
            turn: Cell::new(0),
            tally: Tally::default(),
        })
    }

    #[inline]
    pub(super) fn activate(
        &self,
        node: &Node,
        handle: impl FnOnce() -> Rc<dyn Callback>,
        what: EventFlags,
        when: When,
    ) {
        let running = self.running_priority.get();
        if running != u8::MAX && when == When::Now && node.priority() < running {
            self.continuing.set(true);
        }
        if self.queues.borrow_mut().activate(node, handle, what, when) {
            self.tally.join_queue();
        }
    }

    #[inline]
    pub(super) fn activate_ready(&self, callback: &Rc<dyn Callback>, what: EventFlags) {
        self.activate(callback.node(), || callback.clone(), what, When::Now);
    }

    pub(super) fn signal(&self, callback: &Rc<dyn Callback>, times: u32) {
        callback.clone().signalled(times);
        self.activate_ready(callback, EventFlags::SIGNAL);
    }

    pub(super) fn with_selector<R>(&self, act: impl FnOnce(&Selector) -> R) -> Result<R> {
        match self.selector.borrow().as_ref() {
            Some(selector) => Ok(act(selector)),
            None => Err(Error::Freed { what: "event base" }),
        }
    }
}

impl EventBase {
    pub(crate) fn check(&self) -> Result<()> {
        if self.core.is_dead.get() { Err(Error::Freed { what: "event base" }) } else { Ok(()) }
    }

    pub(crate) fn diagnostics(&self) -> &Slot<OnDiagnostic> {
        &self.core.on_diagnostic
    }

    pub(crate) fn id(&self) -> u64 {
        self.core.id
    }

    pub(crate) fn set_exit(&self) {
        self.core.got_exit.set(true);
    }

    /// The number of the current turn.
    pub(crate) fn turn(&self) -> u64 {
        self.core.turn.get()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// The priority of what asks for none.
    pub(crate) fn middle_priority(&self) -> u8 {
        (self.priorities() / 2) as u8
    }

    pub(crate) fn check_priority(&self, priority: usize) -> Result<u8> {
        let count = self.priorities();
        if priority < count { Ok(priority as u8) } else { Err(Error::Priority { priority, count }) }
    }

    pub(crate) fn set_running_event(&self, key: Option<Key>) {
        self.core.running_event.set(key);
    }

    #[inline]
    pub(crate) fn activate(&self, callback: Rc<dyn Callback>, what: EventFlags, when: When) {
        self.core.activate(callback.node(), || callback.clone(), what, when);
    }

    /// As [`activate`](Self::activate), for who has the node at hand: `handle` is asked for if it was not queued yet.
    #[inline]
    pub(crate) fn activate_node(
        &self,
        node: &Node,
        handle: impl FnOnce() -> Rc<dyn Callback>,
        what: EventFlags,
    ) {
        self.core.activate(node, handle, what, When::Now);
    }

    /// As [`activate`](Self::activate), in this turn unless too many were deferred in it.
    pub(crate) fn schedule_deferred(&self, callback: Rc<dyn Callback>) {
        let core = &*self.core;
        if callback.node().is_active() {
            return;
        }
        let nth = core.deferred.get();
        core.deferred.set(nth + 1);
        let when = if nth < MAX_DEFERRED_PER_TURN { When::Now } else { When::NextTurn };
        self.activate(callback, EventFlags::empty(), when);
    }

    pub(crate) fn deactivate(&self, node: &Node) -> bool {
        let removed = self.core.queues.borrow_mut().deactivate(node);
        if removed.is_none() {
            return false;
        }
        self.core.tally.leave_queue();
        true
    }

    pub(crate) fn insert_timer(
        &self,
        lane: Lane,
        deadline: Nanos,
        callback: Rc<dyn Callback>,
        tag: EventFlags,
    ) -> TimerKey {
        self.core.tally.add(1);
        self.core.timers.borrow_mut().insert(lane, deadline, Expiry { callback, tag })
    }

    /// Gives a timer another deadline; its new key, unless it is gone.
    #[inline]
    pub(crate) fn reschedule_timer(&self, key: TimerKey, lane: Lane, deadline: Nanos) -> Option<TimerKey> {
        self.core.timers.borrow_mut().reschedule(key, lane, deadline)
    }

    pub(crate) fn remove_timer(&self, key: TimerKey) {
        let removed = self.core.timers.borrow_mut().remove(key);
        if removed.is_some() {
            self.core.tally.remove(1);
        }
    }

    pub(crate) fn timer_deadline(&self, key: TimerKey) -> Option<Nanos> {
        self.core.timers.borrow().deadline(key)
    }

    pub(crate) fn wait_for_fd(&self, fd: BorrowedFd<'_>, waiting: Waiting) -> Result<()> {
        let core = &*self.core;
        let outcome = core.with_selector(|selector| core.io.borrow_mut().add(selector, fd, waiting))?;
        match outcome {
            Ok(()) => {
                core.tally.add(1);
                Ok(())
            }
            Err((Refused::MixedTrigger, _waiting)) => Err(Error::MixedTrigger),
            Err((Refused::Io(source), _waiting)) => Err(Error::Io { what: "wait for a descriptor", source }),
        }
    }

    pub(crate) fn stop_waiting_for_fd(&self, fd: RawFd, callback: &dyn Callback) {
        let removed = self.core.io.borrow_mut().remove(fd, callback);
        if removed.is_some() {
            self.core.tally.remove(1);
        }
    }

    /// Before a descriptor is closed or given away.
    pub(crate) fn release_fd(&self, fd: BorrowedFd<'_>) {
        let core = &*self.core;
        // A base that is gone polls nothing.
        let _ = core.with_selector(|selector| core.io.borrow_mut().release(selector, fd));
    }

    pub(crate) fn wait_for_signal(&self, signal: i32, callback: Rc<dyn Callback>) -> Result<()> {
        let core = &*self.core;
        core.with_selector(|selector| core.signals.borrow_mut().add(selector, signal, callback))?
            .map_err(|source| Error::Signal { signal, source })?;
        core.tally.add(1);
        Ok(())
    }

    pub(crate) fn stop_waiting_for_signal(&self, signal: i32, callback: &dyn Callback) {
        let removed = self.core.signals.borrow_mut().remove(signal, callback);
        if removed.is_some() {
            self.core.tally.remove(1);
        }
    }

    pub(crate) fn add_stream(&self, fd: BorrowedFd<'_>, callback: Rc<dyn Callback>) -> Result<Key> {
        let core = &*self.core;
        core.with_selector(|selector| core.io.borrow_mut().add_stream(selector, fd, callback))?
            .map_err(Error::io("poll a socket"))
    }

    pub(crate) fn remove_stream(&self, fd: BorrowedFd<'_>, key: Key) {
        let core = &*self.core;
        let removed = core.with_selector(|selector| core.io.borrow_mut().remove_stream(selector, fd, key));
        drop(removed);
    }

    /// Something that is not in the I/O map, a timer or a queue begins (1) or ends (-1) to keep the loop alive.
    pub(crate) fn count_waiting(&self, by: isize) {
        match usize::try_from(by) {
            Ok(by) => self.core.tally.add(by),
            Err(_) => self.core.tally.remove(by.unsigned_abs()),
        }
    }

    pub(crate) fn register_event(&self, event: Weak<EventCore>) -> Key {
        self.core.events.borrow_mut().insert(event)
    }

    pub(crate) fn forget_event(&self, key: Key) {
        let removed = self.core.events.borrow_mut().remove(key);
        drop(removed);
    }

    /// Keeps an object alive until it is disowned or the base goes.
    pub(crate) fn own(&self, object: Rc<dyn Owned>) -> Key {
        self.core.owned.borrow_mut().insert(object)
    }

    /// What is returned is dropped by the caller, as the last thing it does.
    pub(crate) fn disown(&self, key: Key) -> Option<Rc<dyn Owned>> {
        self.core.owned.borrow_mut().remove(key)
    }

    pub(super) fn tear_down(&self) {
        let core = &*self.core;
        core.is_dead.set(true);
        let events: Vec<_> = core.events.borrow().iter().filter_map(Weak::upgrade).collect();
        for event in events {
            Event::from_core(event).free();
        }
        let owned = core.owned.borrow_mut().take_all();
        owned.iter().for_each(|object| object.free_with_base());
        drop(owned);
        let callbacks = core.queues.borrow_mut().take_all();
        callbacks.iter().for_each(|_| core.tally.leave_queue());
        drop(callbacks);
        let timers = core.timers.borrow_mut().take_all();
        core.tally.remove(timers.len());
        drop(timers);
        let waiting = core.io.borrow_mut().take_all();
        drop(waiting);
        let signals = core.signals.borrow_mut().take_all();
        drop(signals);
        core.on_diagnostic.set(None);
        drop(core.remote.close());
        let selector = core.selector.borrow_mut().take();
        drop(selector);
    }
}
