//! Events: a descriptor, a signal or a time, and the closure that hears of it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::active::{Callback, Node};
use crate::base::{CommonTimeout, EventBase};
use crate::clock::{Nanos, nanos};
use crate::error::{Error, Result};
use crate::flags::EventFlags;
use crate::io_map::Waiting;
use crate::notify::Notifier;
use crate::slot::Slot;
use crate::table::Key;
use crate::timer::{Lane, TimerKey};

/// What calls a callback, and when.
///
/// An event is made idle; [`add`](Self::add) makes it *pending*: it waits for its descriptor, its signal or its
/// time-out. When one of them comes it is *active*, and the loop calls its closure with its handle and what happened.
/// Without [`EventFlags::PERSIST`] it is idle again by then, and its closure may add it anew; with it, it stays
/// pending and a time-out starts again.
///
/// `Event` is a handle, cheap to clone. A pending or active event stays alive without any; an idle one goes with its
/// last handle. [`free`](Self::free) ends it in any state, from any callback, its own included.
///
/// An event owns its descriptor, or shares it by `Rc`, so that a closed one is never polled.
///
/// A closure that panics is lost, and its event is idle then unless the closure had set its successor.
///
/// ```
/// use reactor::{Event, EventBase, EventFlags};
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
/// use std::rc::Rc;
///
/// let base = EventBase::new()?;
/// let (mut ours, theirs) = UnixStream::pair()?;
/// let theirs = Rc::new(theirs);
/// let event = Event::fd(&base, theirs.clone(), EventFlags::READ, move |_event, what| {
///     assert_eq!(what, EventFlags::READ);
///     let mut bytes = [0; 5];
///     (&*theirs).read_exact(&mut bytes).unwrap();
///     assert_eq!(&bytes, b"hello");
/// })?;
/// event.add(None)?;
/// ours.write_all(b"hello")?;
/// base.dispatch()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "struct event")]
pub struct Event {
    core: Rc<EventCore>,
}

/// Names an [`Event`] without keeping it: `Copy` and `Send`, for closures that other threads post.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct EventTicket {
    pub(crate) base: u64,
    pub(crate) key: Key,
}

/// What an event waits for beside time.
#[derive(Clone)]
enum Source {
    None,
    Fd(Rc<dyn AsFd>),
    Signal(i32),
}

type Closure = dyn FnMut(&Event, EventFlags);

/// In this order, what adding and deleting touch is next to the counts of its `Rc`: among a million events each cache
/// line is a miss.
#[repr(C)]
pub(crate) struct EventCore {
    node: Node,
    base: EventBase,
    timer: Cell<Option<TimerKey>>,
    /// The descriptor's number, kept for when `source` is borrowed or gone; -1 for none.
    number: RawFd,
    flags: EventFlags,
    /// Added: it waits for its source, or would if it had one.
    is_inserted: Cell<bool>,
    is_freed: Cell<bool>,
    closure: Slot<Closure>,
    key: Key,
    source: RefCell<Source>,
    /// A persistent event's time-out, to start again after each call; 0 for none.
    period: Cell<Nanos>,
    lane: Cell<Lane>,
    /// When the time-out was due that passed last.
    due: Cell<Nanos>,
    /// Deliveries of its signal since it ran last; the next run answers each with a call.
    deliveries: Cell<u32>,
    /// Calls that the present run still owes.
    owed: Cell<u32>,
    /// The event itself while it is added without a source: nothing of the base holds it then.
    myself: Cell<Option<Rc<EventCore>>>,
}

impl Event {
    /// An event on a descriptor. `flags` names at least one of [`READ`](EventFlags::READ),
    /// [`WRITE`](EventFlags::WRITE) and [`CLOSED`](EventFlags::CLOSED), and may add
    /// [`PERSIST`](EventFlags::PERSIST) and [`EDGE`](EventFlags::EDGE).
    ///
    /// The event keeps `fd` until it is freed or gone; `fd` must give the same descriptor each time. Give an `Rc` of a socket to use the socket elsewhere too.
    ///
    /// # Errors
    /// [`Error::Flags`] for other flags, [`Error::Freed`] when the base is gone. The descriptor itself is tried when
    /// the event is added.
    #[doc(alias = "event_new")]
    pub fn fd(
        base: &EventBase,
        fd: impl AsFd + 'static,
        flags: EventFlags,
        callback: impl FnMut(&Event, EventFlags) + 'static,
    ) -> Result<Event> {
        let optional = EventFlags::PERSIST | EventFlags::EDGE;
        if !flags.intersects(EventFlags::IO) || !(EventFlags::IO | optional).contains(flags) {
            let allowed = "at least one of READ, WRITE and CLOSED, with PERSIST and EDGE if wanted";
            return Err(Error::Flags { flags, allowed });
        }
        Self::build(base, flags, Source::Fd(Rc::new(fd)), Box::new(callback))
    }

    /// A timer that fires once each time it is added.
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone.
    #[doc(alias = "evtimer_new")]
    pub fn timer(base: &EventBase, callback: impl FnMut(&Event, EventFlags) + 'static) -> Result<Event> {
        Self::build(base, EventFlags::empty(), Source::None, Box::new(callback))
    }

    /// A timer that fires again and again until it is deleted. A period counts from when the one before was due, so
    /// it does not drift; periods that were missed are skipped. A period of zero fires once.
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone.
    #[doc(alias = "event_new")]
    pub fn interval(base: &EventBase, callback: impl FnMut(&Event, EventFlags) + 'static) -> Result<Event> {
        Self::build(base, EventFlags::PERSIST, Source::None, Box::new(callback))
    }

    /// A persistent event on a signal: one call for each delivery since it was added.
    ///
    /// While any base of the process waits for a signal, its default action does not happen; nor does it afterwards,
    /// when the signal does nothing. So once the event of a `SIGINT` is freed, a second Ctrl-C does not end a program
    /// whose shutdown hangs: keep the event for it, or bound the shutdown by [`EventBase::loop_exit`] with a delay.
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone. The signal itself is tried when the event is added.
    #[doc(alias = "evsignal_new")]
    pub fn signal(
        base: &EventBase,
        signal: i32,
        callback: impl FnMut(&Event, EventFlags) + 'static,
    ) -> Result<Event> {
        Self::signal_with(base, signal, EventFlags::PERSIST, callback)
    }

    /// An event on a signal, persistent only if `flags` says so.
    ///
    /// # Errors
    /// As [`signal`](Self::signal); [`Error::Flags`] if `flags` holds anything but `SIGNAL` and `PERSIST`.
    #[doc(alias = "event_new")]
    pub fn signal_with(
        base: &EventBase,
        signal: i32,
        flags: EventFlags,
        callback: impl FnMut(&Event, EventFlags) + 'static,
    ) -> Result<Event> {
        if !(EventFlags::SIGNAL | EventFlags::PERSIST).contains(flags) {
            return Err(Error::Flags { flags, allowed: "SIGNAL and PERSIST" });
        }
        Self::build(base, flags | EventFlags::SIGNAL, Source::Signal(signal), Box::new(callback))
    }

    /// An event that waits for nothing: it runs when it is activated by hand or when a time-out passes, and keeps the
    /// loop alive while it is added. `flags` may be `PERSIST`.
    ///
    /// # Errors
    /// [`Error::Flags`] if `flags` holds anything but `PERSIST`, [`Error::Freed`] when the base is gone.
    #[doc(alias = "event_new")]
    pub fn manual(
        base: &EventBase,
        flags: EventFlags,
        callback: impl FnMut(&Event, EventFlags) + 'static,
    ) -> Result<Event> {
        if !EventFlags::PERSIST.contains(flags) {
            return Err(Error::Flags { flags, allowed: "PERSIST or nothing" });
        }
        // An interest in a descriptor that it does not have, as an event on fd -1.
        Self::build(base, flags | EventFlags::READ, Source::None, Box::new(callback))
    }

    fn build(base: &EventBase, flags: EventFlags, source: Source, closure: Box<Closure>) -> Result<Event> {
        base.check()?;
        let number = match &source {
            Source::Fd(fd) => fd.as_fd().as_raw_fd(),
            Source::Signal(signal) => *signal,
            Source::None => -1,
        };
        let core = Rc::new_cyclic(|weak: &Weak<EventCore>| EventCore {
            node: Node::new(base.middle_priority()),
            base: base.handle(),
            key: base.register_event(weak.clone()),
            flags,
            number,
            source: RefCell::new(source),
            is_inserted: Cell::new(false),
            myself: Cell::new(None),
            timer: Cell::new(None),
            period: Cell::new(0),
            lane: Cell::new(Lane::Heap),
            due: Cell::new(0),
            deliveries: Cell::new(0),
            owed: Cell::new(0),
            is_freed: Cell::new(false),
            closure: Slot::new(closure),
        });
        Ok(Event { core })
    }

    pub(crate) fn from_core(core: Rc<EventCore>) -> Event {
        Event { core }
    }

    /// Makes the event pending, with a time-out or without. One that is pending keeps what it waits for; `Some`
    /// replaces its time-out, `None` leaves it as it is.
    ///
    /// A time-out counts from the base's [`now`](EventBase::now). An event that was to run because its time-out had
    /// passed is withdrawn by a new one.
    ///
    /// # Errors
    /// [`Error::Freed`]; [`Error::Io`] if the system cannot poll this descriptor (a regular file) or has no memory;
    /// [`Error::MixedTrigger`] beside an event of the other triggering mode on the same descriptor; [`Error::Signal`]
    /// for a signal that cannot be caught. The event is then as it was.
    #[doc(alias = "event_add")]
    pub fn add(&self, timeout: Option<Duration>) -> Result<()> {
        self.add_in(timeout.map(|timeout| (Lane::Heap, nanos(timeout))))
    }

    /// As [`add`](Self::add), with a time-out that many events share.
    ///
    /// # Errors
    /// As [`add`](Self::add); [`Error::ForeignTimeout`] if it was made by another base.
    #[doc(alias = "event_add")]
    pub fn add_common(&self, timeout: CommonTimeout) -> Result<()> {
        if timeout.base != self.core.base.id() {
            return Err(Error::ForeignTimeout);
        }
        self.add_in(Some((timeout.lane, timeout.nanos)))
    }

    fn add_in(&self, timeout: Option<(Lane, Nanos)>) -> Result<()> {
        let core = &self.core;
        core.check()?;
        if !core.is_inserted.get() && core.flags.intersects(EventFlags::IO | EventFlags::SIGNAL) {
            core.insert()?;
        }
        let Some((lane, timeout)) = timeout else { return Ok(()) };
        if core.flags.contains(EventFlags::PERSIST) {
            core.period.set(timeout);
            core.lane.set(lane);
        }
        core.withdraw_expiry();
        core.set_timer(lane, core.base.clock().now().saturating_add(timeout));
        Ok(())
    }

    /// Makes the event idle: it waits for nothing, and if it was active it does not run. Harmless if it was idle.
    #[doc(alias = "event_del")]
    pub fn del(&self) {
        self.core.del();
    }

    /// Ends the time-out, also for the triggers to come; what else it waits for stays.
    #[doc(alias = "event_remove_timer")]
    pub fn remove_timer(&self) {
        self.core.clear_timer();
        self.core.period.set(0);
    }

    /// Makes the event active, whether it is pending or not: its closure gets exactly `what`, or what it was active
    /// with and `what` together. A freed event stays quiet.
    #[doc(alias = "event_active")]
    pub fn activate(&self, what: EventFlags) {
        let core = &self.core;
        if core.check().is_ok() {
            core.base.activate_node(&core.node, || core.clone(), what);
        }
    }

    /// Which of `mask` it waits for or is active with.
    #[doc(alias = "event_pending")]
    pub fn pending(&self, mask: EventFlags) -> EventFlags {
        let core = &self.core;
        let mut pending = core.node.what();
        if core.is_inserted.get() {
            pending |= core.flags & (EventFlags::IO | EventFlags::SIGNAL);
        }
        pending.set(EventFlags::TIMEOUT, pending.contains(EventFlags::TIMEOUT) || core.timer.get().is_some());
        pending & mask
    }

    /// Whether it is to run.
    pub fn is_active(&self) -> bool {
        self.core.node.is_active()
    }

    /// When its time-out passes.
    #[doc(alias = "event_pending")]
    pub fn deadline(&self) -> Option<Instant> {
        let base = &self.core.base;
        base.clock().instant(base.timer_deadline(self.core.timer.get()?)?)
    }

    /// Ends the event: idle, its closure dropped (after it returns, if it is running), its descriptor closed if no
    /// other owner is left. Every handle answers [`Error::Freed`] or nothing from now on. A second `free` does nothing.
    #[doc(alias = "event_free")]
    pub fn free(&self) {
        let core = &self.core;
        if core.is_freed.replace(true) {
            return;
        }
        core.del();
        let was_running = core.closure.is_running();
        core.closure.set(None);
        if !was_running {
            core.close();
        }
    }

    /// Whether it was freed, by hand or with its base.
    pub fn is_freed(&self) -> bool {
        self.core.is_freed.get()
    }

    /// Sets the closure; while the old one runs, from the next call.
    ///
    /// # Errors
    /// [`Error::Freed`].
    #[doc(alias = "event_assign")]
    pub fn set_callback(&self, callback: impl FnMut(&Event, EventFlags) + 'static) -> Result<()> {
        self.core.check()?;
        self.core.closure.set(Some(Box::new(callback)));
        Ok(())
    }

    /// The base it lives on.
    #[doc(alias = "event_get_base")]
    pub fn base(&self) -> &EventBase {
        &self.core.base
    }

    /// Its descriptor's number, while it has one.
    #[doc(alias = "event_get_fd")]
    pub fn raw_fd(&self) -> Option<RawFd> {
        let core = &self.core;
        (core.flags.intersects(EventFlags::IO) && core.number >= 0 && !core.is_freed.get())
            .then_some(core.number)
    }

    /// Its signal's number.
    #[doc(alias = "event_get_signal")]
    pub fn signal_number(&self) -> Option<i32> {
        self.core.flags.contains(EventFlags::SIGNAL).then_some(self.core.number)
    }

    /// What it was made with.
    #[doc(alias = "event_get_events")]
    pub fn flags(&self) -> EventFlags {
        self.core.flags
    }

    /// 0 is the most urgent; a new event has the middle one.
    #[doc(alias = "event_get_priority")]
    pub fn priority(&self) -> usize {
        usize::from(self.core.node.priority())
    }

    /// Sets the priority.
    ///
    /// # Errors
    /// [`Error::Priority`] if the base has no such, [`Error::Active`] while the event is active, [`Error::Freed`].
    #[doc(alias = "event_priority_set")]
    pub fn set_priority(&self, priority: usize) -> Result<()> {
        self.core.check()?;
        let priority = self.core.base.check_priority(priority)?;
        if self.core.node.is_active() {
            return Err(Error::Active { what: "priority of this event" });
        }
        self.core.node.set_priority(priority);
        Ok(())
    }

    /// What names this event across threads; see [`Notifier::activate`] and [`EventBase::event`].
    pub fn ticket(&self) -> EventTicket {
        EventTicket { base: self.core.base.id(), key: self.core.key }
    }
}

impl Notifier {
    /// Activates the event of a ticket with `what`, as [`Event::activate`] does; nothing happens if it is gone by
    /// then.
    ///
    /// # Errors
    /// [`Error::Freed`] if the base is gone.
    #[doc(alias = "event_active")]
    pub fn activate(&self, ticket: EventTicket, what: EventFlags) -> Result<()> {
        self.post(move |base| {
            if let Some(event) = base.event(ticket) {
                event.activate(what);
            }
        })
    }
}

impl PartialEq for Event {
    /// Whether both are handles of one event.
    fn eq(&self, other: &Event) -> bool {
        Rc::ptr_eq(&self.core, &other.core)
    }
}

impl Eq for Event {}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("flags", &self.core.flags)
            .field("number", &self.core.number)
            .field("pending", &self.pending(EventFlags::all()))
            .field("priority", &self.priority())
            .field("is_freed", &self.is_freed())
            .finish_non_exhaustive()
    }
}

impl EventCore {
    fn check(&self) -> Result<()> {
        if self.is_freed.get() { Err(Error::Freed { what: "event" }) } else { self.base.check() }
    }

    fn insert(self: &Rc<Self>) -> Result<()> {
        let source = self.source.borrow().clone();
        match source {
            Source::None => {
                self.myself.set(Some(self.clone()));
                self.base.count_waiting(1);
            }
            Source::Signal(signal) => self.base.wait_for_signal(signal, self.clone())?,
            Source::Fd(fd) => {
                let open = fd.as_fd();
                if open.as_raw_fd() != self.number {
                    let source = io::Error::new(io::ErrorKind::InvalidInput, "its owner gives another now");
                    return Err(Error::Io { what: "wait for a descriptor", source });
                }
                // To give it is the owner's code, which may have done anything.
                self.check()?;
                if !self.is_inserted.get() {
                    let (fd, callback) = (fd.clone(), self.clone());
                    self.base.wait_for_fd(open, Waiting { interest: self.flags, fd, callback })?;
                }
            }
        }
        self.is_inserted.set(true);
        Ok(())
    }

    fn del(&self) {
        if self.flags.contains(EventFlags::PERSIST) {
            self.period.set(0);
        }
        if self.flags.contains(EventFlags::SIGNAL) {
            self.deliveries.set(0);
            self.owed.set(0);
        }
        self.stop_waiting();
        if self.node.is_active() {
            self.base.deactivate(&self.node);
        }
    }

    /// All of `del` but the active queues.
    #[inline]
    fn stop_waiting(&self) {
        self.clear_timer();
        if self.is_inserted.replace(false) {
            self.stop_waiting_for_source();
        }
    }

    fn stop_waiting_for_source(&self) {
        // Copied out: what these drop may be the last handle of something.
        let kind = match &*self.source.borrow() {
            Source::None => None,
            Source::Signal(_) => Some(EventFlags::SIGNAL),
            Source::Fd(_) => Some(EventFlags::READ),
        };
        match kind {
            None => {
                self.base.count_waiting(-1);
                self.myself.set(None);
            }
            Some(EventFlags::SIGNAL) => self.base.stop_waiting_for_signal(self.number, self),
            Some(_) => self.base.stop_waiting_for_fd(self.number, self),
        }
    }

    fn set_timer(self: &Rc<Self>, lane: Lane, deadline: Nanos) {
        let moved = self.timer.get().and_then(|key| self.base.reschedule_timer(key, lane, deadline));
        let key = match moved {
            Some(key) => key,
            None => self.base.insert_timer(lane, deadline, self.clone(), EventFlags::TIMEOUT),
        };
        self.timer.set(Some(key));
    }

    fn clear_timer(&self) {
        if let Some(key) = self.timer.take() {
            self.base.remove_timer(key);
        }
    }

    /// A new time-out takes back the call for the old one.
    #[inline]
    fn withdraw_expiry(&self) {
        if self.node.what().contains(EventFlags::TIMEOUT) && self.node.forget(EventFlags::TIMEOUT).is_empty()
        {
            self.base.deactivate(&self.node);
        }
    }

    /// A persistent event starts its time-out again before it is called: from when it was due if it timed out, else
    /// from now; what was missed is skipped.
    fn start_period(self: &Rc<Self>, what: EventFlags) {
        let period = self.period.get();
        if period == 0 {
            return;
        }
        let now = self.base.clock().now();
        let due = if what.contains(EventFlags::TIMEOUT) { self.due.get() } else { now };
        let next = due.saturating_add(period);
        self.set_timer(self.lane.get(), if next < now { now.saturating_add(period) } else { next });
    }

    /// One call for each delivery; `del` takes back those that are left.
    fn answer_deliveries(&self, event: &Event, what: EventFlags) {
        self.owed.set(self.deliveries.take().max(1));
        while let Some(left) = self.owed.get().checked_sub(1) {
            self.owed.set(left);
            let _ = self.closure.call(|closure| closure(event, what));
            if self.base.got_break() {
                break;
            }
        }
        self.owed.set(0);
    }

    /// Lets go of the descriptor, after the kernel was told.
    fn close(&self) {
        let source = self.source.replace(Source::None);
        if let Source::Fd(fd) = &source {
            self.base.release_fd(fd.as_fd());
        }
        drop(source);
    }
}

impl Callback for EventCore {
    fn node(&self) -> &Node {
        &self.node
    }

    fn run(self: Rc<Self>, what: EventFlags) -> bool {
        if self.flags.contains(EventFlags::PERSIST) {
            self.start_period(what);
        } else {
            self.stop_waiting();
        }
        let event = Event { core: self };
        let core = &*event.core;
        let mut run = Run { core, is_whole: false };
        core.base.set_running_event(Some(core.key));
        if core.flags.contains(EventFlags::SIGNAL) {
            core.answer_deliveries(&event, what);
        } else {
            let _ = core.closure.call(|closure| closure(&event, what));
        }
        run.is_whole = true;
        true
    }

    fn expired(self: Rc<Self>, tag: EventFlags, due: Nanos) {
        self.timer.set(None);
        if self.flags.contains(EventFlags::PERSIST) {
            self.due.set(due);
        }
        self.base.activate_node(&self.node, || self.clone(), tag);
    }

    fn signalled(self: Rc<Self>, times: u32) {
        self.deliveries.set(self.deliveries.get().saturating_add(times));
    }
}

/// Tidies up after an event's closure, also when that panics.
struct Run<'a> {
    core: &'a EventCore,
    is_whole: bool,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let core = self.core;
        core.base.set_running_event(None);
        if !self.is_whole && !core.closure.is_set() {
            // Nobody is left to read what it waits for: pending, it would keep the loop spinning.
            core.del();
        }
        if core.is_freed.get() {
            core.close();
        }
    }
}

impl Drop for EventCore {
    fn drop(&mut self) {
        self.close();
        self.base.forget_event(self.key);
    }
}
