//! One turn of the loop: poll, find out what became active, run it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::active::{Callback, Node, Queues, When};
use crate::builder::{Builder, Limits};
use crate::clock::{Clock, Nanos, nanos};
use crate::diagnostic::{Diagnostic, OnDiagnostic};
use crate::error::{Error, Result};
use crate::evbuffer::Evbuffer;
use crate::event::{Event, EventCore, EventTicket};
use crate::flags::{EventFlags, LoopFlags};
use crate::io_map::{IoMap, Refused, Waiting, is_half_closed};
use crate::notify::{Notifier, Remote};
use crate::once::Once;
use crate::selector::{Ready, Selector, Wait};
use crate::signal::Signals;
use crate::slot::Slot;
use crate::table::{Key, Table};
use crate::timer::{Lane, TimerKey, Timers};

/// A loop and everything that lives on it.
///
/// [`new`](Self::new) gives the owner: dropping it frees every event, bufferevent and listener of this base, with
/// their closures; none of their callbacks runs any more, and the handles that are left answer quietly. What a handle's
/// `base()` or [`handle`](Self::handle) gives is the same base without the ownership, as a `struct event_base *` is.
///
/// A base and its handles belong to one thread (`!Send`); [`Notifier`] reaches it from others.
///
/// ```
/// use reactor::{Event, EventBase, Outcome};
/// use std::time::Duration;
///
/// let base = EventBase::new()?;
/// let timer = Event::timer(&base, |_timer, _what| println!("half a millisecond later"))?;
/// timer.add(Some(Duration::from_micros(500)))?;
/// assert_eq!(base.dispatch()?, Outcome::NoEvents);
/// # Ok::<(), reactor::Error>(())
/// ```
#[doc(alias = "event_base")]
pub struct EventBase {
    core: Rc<Core>,
    is_owner: bool,
}

/// Why a loop ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing was pending or active any more. libevent's 1.
    NoEvents,
    /// By [`EventBase::loop_exit`], [`EventBase::loop_break`], [`LoopFlags::ONCE`] or [`LoopFlags::NONBLOCK`].
    /// libevent's 0.
    Stopped,
}

/// How many events a base has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Places in which events stand: an event that waits for a descriptor and a time-out counts as two, one that is
    /// active besides as three. A bufferevent counts once for each direction that it waits for.
    pub added: usize,
    /// Callbacks that are to run.
    pub active: usize,
    /// The most that `added` was since the base was made or [`EventBase::reset_peaks`] was called.
    pub peak_added: usize,
    /// Likewise for `active`.
    pub peak_active: usize,
}

/// An object that its base keeps alive until it is freed.
pub(crate) trait Owned {
    /// As the user's `free`.
    fn free_with_base(&self);
}

/// What a timer does when it is due.
pub(crate) struct Expiry {
    callback: Rc<dyn Callback>,
    tag: EventFlags,
}

/// The state behind every handle of a base.
struct Core {
    id: u64,
    /// `None` once the owner is gone.
    selector: RefCell<Option<Selector>>,
    io: RefCell<IoMap>,
    signals: RefCell<Signals>,
    timers: RefCell<Timers<Expiry>>,
    queues: RefCell<Queues>,
    events: RefCell<Table<Weak<EventCore>>>,
    owned: RefCell<Table<Rc<dyn Owned>>>,
    clock: Clock,
    limits: Limits,
    remote: Arc<Remote>,
    on_diagnostic: Slot<OnDiagnostic>,
    is_dead: Cell<bool>,
    is_running: Cell<bool>,
    got_exit: Cell<bool>,
    got_break: Cell<bool>,
    /// Somebody asked to poll again before the rest of this queue.
    continuing: Cell<bool>,
    /// The queue that is being worked off; `u8::MAX` outside.
    running_priority: Cell<u8>,
    running_event: Cell<Option<Key>>,
    /// Deferred callbacks that were queued in this turn.
    deferred: Cell<usize>,
    /// Counts up with each poll.
    turn: Cell<u64>,
    tally: Tally,
}

/// The figures of [`Counts`], kept along, since a peak can be between two looks.
#[derive(Default)]
struct Tally {
    /// In the I/O map, for a signal, for a timer, or in a queue.
    added: Cell<usize>,
    active: Cell<usize>,
    peak_added: Cell<usize>,
    peak_active: Cell<usize>,
}

/// Deferred callbacks beyond this number wait for the next turn, so that they cannot keep the loop from polling.
const MAX_DEFERRED_PER_TURN: usize = 32;

impl EventBase {
    /// A base with one priority, cached time and no dispatch limits; [`builder`](Self::builder) for others.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses a poll or its waker (no descriptors left).
    #[doc(alias = "event_base_new")]
    pub fn new() -> Result<EventBase> {
        Self::builder().build()
    }

    /// Configures a base.
    #[doc(alias = "event_base_new_with_config")]
    #[doc(alias = "event_config_new")]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with(clock: Clock, priorities: usize, limits: Limits) -> Result<EventBase> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let selector = Selector::new().map_err(Error::io("create the poll of an event base"))?;
        let waker = selector.waker().map_err(Error::io("create the waker of an event base"))?;
        let core = Core {
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
        };
        Ok(EventBase { core: Rc::new(core), is_owner: true })
    }

    /// This base without its ownership, to keep in a closure. It does not keep the base alive: once the owner is
    /// dropped, its calls answer [`Error::Freed`] or nothing.
    pub fn handle(&self) -> EventBase {
        EventBase { core: self.core.clone(), is_owner: false }
    }

    /// Runs until nothing is pending or active, or until it is stopped: `run` with no flags.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    #[doc(alias = "event_base_dispatch")]
    pub fn dispatch(&self) -> Result<Outcome> {
        self.run(LoopFlags::empty())
    }

    /// Runs the loop.
    ///
    /// A turn polls, then runs what is active at the most urgent priority that has anything (0 is the most urgent),
    /// in the order of activation. A callback may do anything to this base but run it.
    ///
    /// A panic of a callback passes through; that closure is lost, what else was active stays so, and the base can be
    /// run again.
    ///
    /// # Errors
    /// [`Error::AlreadyRunning`] inside a callback of this base, [`Error::Freed`] when the owner is gone,
    /// [`Error::Io`] when the poll fails. libevent's -1.
    #[doc(alias = "event_base_loop")]
    pub fn run(&self, flags: LoopFlags) -> Result<Outcome> {
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

    /// Ends the loop after the turn in which `after` has passed, or after the current turn: what is active still
    /// runs. Called while no loop runs, it ends the next one; without a delay that one makes a single turn that does
    /// not block.
    ///
    /// # Errors
    /// [`Error::Freed`] when the owner is gone.
    #[doc(alias = "event_base_loopexit")]
    pub fn loop_exit(&self, after: Option<Duration>) -> Result<()> {
        self.once(after, |base| base.set_exit())
    }

    /// Ends the loop after the callback that runs. What else is active stays so, and runs first when the loop is run
    /// again. Forgotten if no loop runs.
    #[doc(alias = "event_base_loopbreak")]
    pub fn loop_break(&self) {
        self.core.got_break.set(true);
    }

    /// Polls again after the callback that runs, before what else is active: something more urgent may have come.
    /// Forgotten if no callback runs.
    #[doc(alias = "event_base_loopcontinue")]
    pub fn loop_continue(&self) {
        self.core.continuing.set(true);
    }

    /// Whether the last or current loop was told to end by [`loop_exit`](Self::loop_exit). Reset when a loop starts.
    #[doc(alias = "event_base_got_exit")]
    pub fn got_exit(&self) -> bool {
        self.core.got_exit.get()
    }

    /// Whether the last or current loop was told to end by [`loop_break`](Self::loop_break). Reset when a loop starts.
    #[doc(alias = "event_base_got_break")]
    pub fn got_break(&self) -> bool {
        let core = &self.core;
        if core.remote.is_breaking() && core.is_running.get() {
            core.remote.forget_break();
            core.got_break.set(true);
        }
        core.got_break.get()
    }

    /// A `Send` handle for other threads.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(&self.core.remote)
    }

    /// Runs `task` once: in the next turn, or when `after` has passed. It has the base's middle priority.
    ///
    /// It counts as a pending event until then; if the base goes first, it is dropped unrun.
    ///
    /// # Errors
    /// [`Error::Freed`] when the owner is gone; the task is dropped.
    #[doc(alias = "event_base_once")]
    pub fn once(&self, after: Option<Duration>, task: impl FnOnce(&EventBase) + 'static) -> Result<()> {
        self.check()?;
        let once = Once::new(self, task);
        match after {
            Some(after) if !after.is_zero() => {
                let deadline = self.core.clock.now().saturating_add(nanos(after));
                self.insert_timer(Lane::Heap, deadline, once, EventFlags::TIMEOUT);
            }
            _ => self.activate(once, EventFlags::TIMEOUT, When::Now),
        }
        Ok(())
    }

    /// Runs `task` once, when `fd` is ready in a way that `interest` names or when `timeout` has passed, and tells it
    /// which.
    ///
    /// # Errors
    /// As [`Event::fd`] and [`Event::add`]; `interest` without `READ`, `WRITE` or `CLOSED`, or with `PERSIST`, is
    /// [`Error::Flags`].
    #[doc(alias = "event_base_once")]
    pub fn once_fd(
        &self,
        fd: impl AsFd + 'static,
        interest: EventFlags,
        timeout: Option<Duration>,
        task: impl FnOnce(&EventBase, EventFlags) + 'static,
    ) -> Result<()> {
        if interest.contains(EventFlags::PERSIST) {
            return Err(Error::Flags {
                flags: interest,
                allowed: "READ, WRITE, CLOSED and EDGE, since it runs once",
            });
        }
        let mut task = Some(task);
        let event = Event::fd(self, fd, interest, move |event, what| {
            if let Some(task) = task.take() {
                task(event.base(), what);
            }
        })?;
        event.add(timeout)
    }

    /// Runs `task` from the loop, after what is active at the base's middle priority, which it has, and without
    /// waiting for anything. When more than 32 were deferred in one turn, the others wait for the next one.
    ///
    /// # Errors
    /// [`Error::Freed`] when the owner is gone; the task is dropped.
    #[doc(alias = "event_deferred_cb_schedule_")]
    pub fn defer(&self, task: impl FnOnce(&EventBase) + 'static) -> Result<()> {
        self.check()?;
        self.schedule_deferred(Once::new(self, task));
        Ok(())
    }

    /// Activates the events that wait for `fd` with an interest in `what`, as if it were ready; an unknown descriptor
    /// is ignored.
    #[doc(alias = "event_base_active_by_fd")]
    pub fn activate_by_fd(&self, fd: RawFd, what: EventFlags) {
        let core = &*self.core;
        core.io.borrow().on_fd(fd, what, |callback, hit| core.activate_ready(callback, hit));
    }

    /// Activates the events that wait for `signal`, as if it were delivered once; an unknown signal is ignored.
    #[doc(alias = "event_base_active_by_signal")]
    pub fn activate_by_signal(&self, signal: i32) {
        let core = &*self.core;
        core.signals.borrow().on_signal(signal, |callback| core.signal(callback, 1));
    }

    /// The event that a ticket was taken from, if it still exists on this base.
    pub fn event(&self, ticket: EventTicket) -> Option<Event> {
        if ticket.base != self.core.id {
            return None;
        }
        let core = self.core.events.borrow().get(ticket.key).and_then(Weak::upgrade);
        core.map(Event::from_core)
    }

    /// The event whose callback runs, if it is an [`Event`]'s.
    #[doc(alias = "event_base_get_running_event")]
    pub fn running_event(&self) -> Option<Event> {
        let key = self.core.running_event.get()?;
        self.event(EventTicket { base: self.core.id, key })
    }

    /// The time of this turn, or the current time outside a loop and in a base that does not cache.
    #[doc(alias = "event_base_gettimeofday_cached")]
    pub fn now(&self) -> Instant {
        let clock = &self.core.clock;
        clock.instant(clock.now()).unwrap_or_else(Instant::now)
    }

    /// Reads the clock anew for the rest of this turn.
    #[doc(alias = "event_base_update_cache_time")]
    pub fn refresh_now(&self) -> Instant {
        let clock = &self.core.clock;
        if self.core.is_running.get() {
            clock.refresh();
        }
        self.now()
    }

    /// A queue for timers of one duration: adding and deleting in it costs the same however many there are. The same
    /// duration gives the same queue.
    ///
    /// # Errors
    /// [`Error::TooManyCommonTimeouts`] beyond 256 durations, [`Error::Freed`] when the owner is gone.
    #[doc(alias = "event_base_init_common_timeout")]
    pub fn common_timeout(&self, duration: Duration) -> Result<CommonTimeout> {
        self.check()?;
        match self.core.timers.borrow_mut().lane(nanos(duration)) {
            Some(lane) => Ok(CommonTimeout { base: self.core.id, lane, nanos: nanos(duration), duration }),
            None => Err(Error::TooManyCommonTimeouts { duration, most: Timers::<Expiry>::MAX_LANES }),
        }
    }

    /// How many priorities there are; 0 is the most urgent.
    #[doc(alias = "event_base_get_npriorities")]
    pub fn priorities(&self) -> usize {
        self.core.queues.borrow().priorities()
    }

    /// Changes the number of priorities. Events keep theirs; one that no longer exists means the least urgent.
    ///
    /// # Errors
    /// [`Error::Priorities`] unless it is 1 to 255, [`Error::Active`] while a callback is to run.
    #[doc(alias = "event_base_priority_init")]
    pub fn set_priorities(&self, priorities: usize) -> Result<()> {
        check_priorities(priorities)?;
        if self.core.tally.active.get() > 0 {
            return Err(Error::Active { what: "number of priorities" });
        }
        self.core.queues.replace(Queues::new(priorities));
        Ok(())
    }

    /// How many events are pending and active, now and at most.
    #[doc(alias = "event_base_get_num_events")]
    #[doc(alias = "event_base_get_max_events")]
    pub fn counts(&self) -> Counts {
        let tally = &self.core.tally;
        Counts {
            added: tally.added.get(),
            active: tally.active.get(),
            peak_added: tally.peak_added.get(),
            peak_active: tally.peak_active.get(),
        }
    }

    /// Lets the peaks of [`counts`](Self::counts) start again from what is there now.
    pub fn reset_peaks(&self) {
        let tally = &self.core.tally;
        tally.peak_added.set(tally.added.get());
        tally.peak_active.set(tally.active.get());
    }

    /// The system's way of polling: `epoll`.
    #[doc(alias = "event_base_get_method")]
    pub fn backend_name(&self) -> &'static str {
        "epoll"
    }

    /// Delivers `buffer`'s change callbacks from this loop from now on, several changes as one call with summed
    /// counts.
    ///
    /// # Errors
    /// [`Error::Freed`] when the owner is gone.
    #[doc(alias = "evbuffer_defer_callbacks")]
    pub fn defer_changes(&self, buffer: &Evbuffer) -> Result<()> {
        self.check()?;
        let base = self.handle();
        buffer.set_deferral(Some(Rc::new(move |buffer: &Evbuffer| {
            let buffer = buffer.clone();
            // A base that is gone has nobody left to tell.
            let _ = base.defer(move |_| buffer.deliver_deferred());
        })));
        Ok(())
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

    fn tear_down(&self) {
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

impl Drop for EventBase {
    fn drop(&mut self) {
        if self.is_owner {
            self.tear_down();
        }
    }
}

impl fmt::Debug for EventBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBase")
            .field("id", &self.core.id)
            .field("counts", &self.counts())
            .field("is_running", &self.core.is_running.get())
            .finish_non_exhaustive()
    }
}

impl Core {
    #[inline]
    fn activate(&self, node: &Node, handle: impl FnOnce() -> Rc<dyn Callback>, what: EventFlags, when: When) {
        let running = self.running_priority.get();
        if running != u8::MAX && when == When::Now && node.priority() < running {
            self.continuing.set(true);
        }
        if self.queues.borrow_mut().activate(node, handle, what, when) {
            self.tally.join_queue();
        }
    }

    #[inline]
    fn activate_ready(&self, callback: &Rc<dyn Callback>, what: EventFlags) {
        self.activate(callback.node(), || callback.clone(), what, When::Now);
    }

    fn signal(&self, callback: &Rc<dyn Callback>, times: u32) {
        callback.clone().signalled(times);
        self.activate_ready(callback, EventFlags::SIGNAL);
    }

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

    fn with_selector<R>(&self, act: impl FnOnce(&Selector) -> R) -> Result<R> {
        match self.selector.borrow().as_ref() {
            Some(selector) => Ok(act(selector)),
            None => Err(Error::Freed { what: "event base" }),
        }
    }
}

impl Tally {
    #[inline]
    fn add(&self, by: usize) {
        let added = self.added.get() + by;
        self.added.set(added);
        self.peak_added.set(self.peak_added.get().max(added));
    }

    #[inline]
    fn remove(&self, by: usize) {
        self.added.set(self.added.get().saturating_sub(by));
    }

    #[inline]
    fn join_queue(&self) {
        self.add(1);
        let active = self.active.get() + 1;
        self.active.set(active);
        self.peak_active.set(self.peak_active.get().max(active));
    }

    #[inline]
    fn leave_queue(&self) {
        self.remove(1);
        self.active.set(self.active.get().saturating_sub(1));
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

/// A queue of timers that all have one duration; see [`EventBase::common_timeout`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommonTimeout {
    pub(crate) base: u64,
    pub(crate) lane: Lane,
    pub(crate) nanos: Nanos,
    duration: Duration,
}

impl CommonTimeout {
    /// The duration that was asked for.
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

pub(crate) fn check_priorities(priorities: usize) -> Result<()> {
    if (1..=MAX_PRIORITIES).contains(&priorities) {
        Ok(())
    } else {
        Err(Error::Priorities { priorities, most: MAX_PRIORITIES })
    }
}

/// libevent's bound, less one: it accepts 1 to 255.
const MAX_PRIORITIES: usize = 255;
