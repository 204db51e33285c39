//! The base as its users see it.

mod core;
mod tally;
mod turn;

use std::fmt;
use std::os::fd::{AsFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::active::{Queues, When};
use crate::builder::{Builder, Limits};
use crate::clock::{Clock, Nanos, nanos};
use crate::error::{Error, Result};
use crate::evbuffer::Evbuffer;
use crate::event::{Event, EventTicket};
use crate::flags::{EventFlags, LoopFlags};
use crate::notify::Notifier;
use crate::once::Once;
use crate::timer::{Lane, Timers};

pub(crate) use self::core::Owned;
use self::core::{Core, Expiry};
pub use self::tally::Counts;

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
        Ok(EventBase { core: Rc::new(Core::new(clock, priorities, limits)?), is_owner: true })
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
        self.turns(flags)
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
