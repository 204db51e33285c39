//! What sockets and pairs share: marks, occasions, time-outs, and the rules of calling back.

use std::cell::{Cell, OnceCell};
use std::mem;
use std::rc::{Rc, Weak};

use super::farewell::Farewell;
use super::flags::{BevEvent, BevOptions, Direction, TriggerOptions};
use super::pair::Pair;
use super::socket::{self, Side, Socket};
use super::timeout::{Timeout, WriteRate};
use super::{Bufferevent, MAX_SINGLE_DEFAULT};
use crate::active::{Callback, Node, When};
use crate::address::Address;
use crate::base::{EventBase, Owned};
use crate::clock::Nanos;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::evbuffer::{BufferOwner, Change, End, Evbuffer};
use crate::flags::EventFlags;
use crate::slot::{Called, Slot};
use crate::table::Key;
use crate::timer::Lane;

type OnTransfer = dyn FnMut(&Bufferevent);
type OnEvent = dyn FnMut(&Bufferevent, BevEvent);

pub(super) struct State {
    me: Weak<State>,
    node: Node,
    base: EventBase,
    owned: OnceCell<Key>,
    pub(super) input: Evbuffer,
    pub(super) output: Evbuffer,
    pub(super) on_read: Slot<OnTransfer>,
    pub(super) on_write: Slot<OnTransfer>,
    pub(super) on_event: Slot<OnEvent>,
    pub(super) enabled: Cell<Direction>,
    options: BevOptions,
    pub(super) read_low: Cell<usize>,
    /// 0 for none.
    pub(super) read_high: Cell<usize>,
    pub(super) write_low: Cell<usize>,
    pub(super) max_single_read: Cell<usize>,
    pub(super) max_single_write: Cell<usize>,
    pub(super) error: Cell<Option<Error>>,
    /// Occasions whose callbacks are still to run, from the loop.
    deferred: Cell<Direction>,
    deferred_event: Cell<BevEvent>,
    read_timeout: Timeout,
    write_timeout: Timeout,
    timed_out: Cell<Direction>,
    write_rate: WriteRate,
    /// Has the event callback hear of a peer that leaves also while reading is off.
    reports_hangup: Cell<bool>,
    /// It may have left since that was looked at last.
    owes_hangup: Cell<bool>,
    /// The directions that keep the loop alive, as the base was told.
    counted: Cell<Direction>,
    /// Callbacks of this object on the stack.
    depth: Cell<u32>,
    /// The loop runs this object, which looks at everything again at the end.
    is_running: Cell<bool>,
    is_freed: Cell<bool>,
    /// Set when it is to go once its output is sent.
    pub(super) farewell: OnceCell<Farewell>,
    pub(super) transport: Transport,
}

pub(super) enum Transport {
    Socket(Socket),
    Pair(Pair),
}

const BOTH: [Direction; 2] = [Direction::READ, Direction::WRITE];

impl State {
    pub(super) fn new(base: &EventBase, options: BevOptions, transport: Transport) -> Result<Rc<State>> {
        base.check()?;
        let state = Rc::new_cyclic(|me: &Weak<State>| State {
            me: me.clone(),
            node: Node::new(base.middle_priority()),
            base: base.handle(),
            owned: OnceCell::new(),
            input: Evbuffer::new(),
            output: Evbuffer::new(),
            on_read: Slot::empty(),
            on_write: Slot::empty(),
            on_event: Slot::empty(),
            enabled: Cell::new(Direction::WRITE),
            options,
            read_low: Cell::new(0),
            read_high: Cell::new(0),
            write_low: Cell::new(0),
            max_single_read: Cell::new(MAX_SINGLE_DEFAULT),
            max_single_write: Cell::new(MAX_SINGLE_DEFAULT),
            error: Cell::new(None),
            deferred: Cell::new(Direction::empty()),
            deferred_event: Cell::new(BevEvent::empty()),
            read_timeout: Timeout::none(),
            write_timeout: Timeout::none(),
            timed_out: Cell::new(Direction::empty()),
            write_rate: WriteRate::default(),
            reports_hangup: Cell::new(false),
            owes_hangup: Cell::new(false),
            counted: Cell::new(Direction::empty()),
            depth: Cell::new(0),
            is_running: Cell::new(false),
            is_freed: Cell::new(false),
            farewell: OnceCell::new(),
            transport,
        });
        let _ = state.owned.set(base.own(state.clone()));
        let owner: Weak<State> = Rc::downgrade(&state);
        state.output.set_owner(Some(owner));
        state.freeze();
        Ok(state)
    }

    pub(super) fn base(&self) -> &EventBase {
        &self.base
    }

    pub(super) fn socket(&self) -> Option<&Socket> {
        match &self.transport {
            Transport::Socket(socket) => Some(socket),
            Transport::Pair(_) => None,
        }
    }

    /// For its users: an object that only sends what is queued is gone.
    pub(super) fn is_freed(&self) -> bool {
        self.is_freed.get() || self.is_leaving()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_freed.get()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_freed() { Err(Error::Freed { what: "bufferevent" }) } else { Ok(()) }
    }

    /// Only the bufferevent adds to its input and takes from its output.
    pub(super) fn freeze(&self) {
        self.input.freeze(End::Back);
        self.output.freeze(End::Front);
    }

    /// Nobody adds to either buffer or takes from it any more, but the bufferevent.
    pub(super) fn freeze_for_good(&self) {
        for buffer in [&self.input, &self.output] {
            buffer.freeze(End::Front);
            buffer.freeze(End::Back);
        }
    }

    pub(super) fn priority(&self) -> usize {
        usize::from(self.node.priority())
    }

    pub(super) fn set_priority(&self, priority: usize) -> Result<()> {
        self.check()?;
        self.node.set_priority(self.base.check_priority(priority)?);
        Ok(())
    }

    pub(super) fn clear_callbacks(&self) {
        self.on_read.set(None);
        self.on_write.set(None);
        self.on_event.set(None);
    }

    pub(super) fn enable(self: &Rc<Self>, direction: Direction) {
        self.enabled.set(self.enabled.get() | direction);
        match &self.transport {
            Transport::Socket(socket) => socket.enabled(direction),
            Transport::Pair(pair) => pair.enabled(self, direction),
        }
        self.attend();
    }

    pub(super) fn disable(&self, direction: Direction) {
        self.enabled.set(self.enabled.get() - direction);
        if let Some(socket) = self.socket() {
            socket.disabled(direction);
        }
        if direction.contains(Direction::READ) {
            self.owes_hangup.set(self.reports_hangup.get());
        }
        self.attend();
    }

    pub(super) fn set_read_marks(&self, low: usize, high: usize) {
        self.read_low.set(low);
        self.read_high.set(high);
        // Without a high mark nothing depends on how much of the input was taken.
        let owner: Option<Weak<dyn BufferOwner>> = if high > 0 { Some(self.me.clone()) } else { None };
        self.input.set_owner(owner);
        self.input_taken();
    }

    pub(super) fn set_timeouts(&self, read: Option<Nanos>, write: Option<Nanos>) {
        for (direction, length) in BOTH.into_iter().zip([read, write]) {
            self.drop_timer(direction);
            self.timeout(direction).set(length);
        }
        self.attend();
    }

    /// The write time-out.
    pub(super) fn write_length(&self) -> Option<Nanos> {
        self.write_timeout.length()
    }

    /// Bytes that may come in before the high mark stops them.
    pub(super) fn read_room(&self) -> usize {
        match self.read_high.get() {
            0 => usize::MAX,
            high => high.saturating_sub(self.input.len()),
        }
    }

    /// A transfer in this direction: its time-out starts again, also if it has just passed.
    pub(super) fn transferred(&self, direction: Direction) {
        let timeout = self.timeout(direction);
        self.timed_out.set(self.timed_out.get() - direction);
        if timeout.is_set() {
            timeout.restart(self.base.clock().now());
        }
    }

    /// Calls back, or has it done by the loop, where the marks allow it.
    pub(super) fn occasion(&self, direction: Direction, options: TriggerOptions) {
        let any = options.contains(TriggerOptions::IGNORE_WATERMARKS);
        if direction.contains(Direction::READ) && (any || self.input.len() >= self.read_low.get()) {
            self.call_or_defer(Direction::READ, options);
        }
        if direction.contains(Direction::WRITE) && (any || self.output.len() <= self.write_low.get()) {
            self.call_or_defer(Direction::WRITE, options);
        }
    }

    fn call_or_defer(&self, direction: Direction, options: TriggerOptions) {
        // While the base goes, what is not freed yet is quiet already.
        if !self.slot(direction).is_set() || self.base.check().is_err() {
            return;
        }
        if self.is_deferring(options) {
            self.deferred.set(self.deferred.get() | direction);
            self.schedule();
        } else {
            self.call(direction);
        }
    }

    /// Calls the event callback, or has it done by the loop.
    pub(super) fn event(&self, what: BevEvent, options: TriggerOptions) {
        if !self.on_event.is_set() || self.base.check().is_err() {
            return;
        }
        if self.is_deferring(options) {
            self.deferred_event.set(self.deferred_event.get() | what);
            self.schedule();
        } else {
            self.call_event(what);
        }
    }

    /// A failure: the direction is off, the event callback finds the reason in `take_error`.
    pub(super) fn failed(&self, direction: Direction, what: BevEvent, error: Option<Error>) {
        if self.is_leaving() {
            return self.left_behind(what, error);
        }
        self.disable(direction);
        if direction.contains(Direction::READ) {
            // It is told now.
            self.owes_hangup.set(false);
        }
        let unheard = self.unheard(what, error.as_ref());
        if error.is_some() {
            self.error.set(error);
        }
        match unheard {
            Some(diagnostic) => self.base.diagnose(&diagnostic),
            None => self.event(what, TriggerOptions::empty()),
        }
    }

    pub(super) fn failed_later(&self, error: Error) {
        let unheard = self.unheard(BevEvent::ERROR, Some(&error));
        self.error.set(Some(error));
        match unheard {
            Some(diagnostic) => self.base.diagnose_later(diagnostic),
            None => self.event(BevEvent::ERROR, TriggerOptions::DEFER_CALLBACKS),
        }
    }

    /// What is to be said of a failure that no event callback hears of.
    fn unheard(&self, what: BevEvent, error: Option<&Error>) -> Option<Diagnostic> {
        let is_failure = what.intersects(BevEvent::ERROR | BevEvent::TIMEOUT);
        if !is_failure || self.on_event.is_set() || !self.base.has_diagnostics() {
            return None;
        }
        Some(Diagnostic::Stream { peer: self.peer(), reason: reason(what, error) })
    }

    /// The peer, if the system knows it.
    pub(super) fn peer(&self) -> Option<Address> {
        socket::address(self, Side::Peer).ok()
    }

    fn is_deferring(&self, options: TriggerOptions) -> bool {
        self.options.contains(BevOptions::DEFER_CALLBACKS)
            || options.contains(TriggerOptions::DEFER_CALLBACKS)
    }

    fn slot(&self, direction: Direction) -> &Slot<OnTransfer> {
        if direction == Direction::READ { &self.on_read } else { &self.on_write }
    }

    fn timeout(&self, direction: Direction) -> &Timeout {
        if direction == Direction::READ { &self.read_timeout } else { &self.write_timeout }
    }

    /// True if the callback ran.
    fn call(&self, direction: Direction) -> bool {
        let Some(state) = self.me.upgrade() else { return false };
        let bev = Bufferevent { state };
        let _call = Call::enter(self);
        let lost = Lost(self, direction);
        let called = self.slot(direction).call(|callback| callback(&bev));
        mem::forget(lost);
        if called == Called::Busy {
            self.deferred.set(self.deferred.get() | direction);
            self.schedule();
        }
        called == Called::Ran
    }

    /// True if the callback ran.
    fn call_event(&self, what: BevEvent) -> bool {
        let Some(state) = self.me.upgrade() else { return false };
        let bev = Bufferevent { state };
        let _call = Call::enter(self);
        let called = self.on_event.call(|callback| callback(&bev, what));
        if called == Called::Busy {
            self.deferred_event.set(self.deferred_event.get() | what);
            self.schedule();
        }
        called == Called::Ran
    }

    /// Runs what was deferred, in libevent's order; true if a callback ran.
    fn call_deferred(&self) -> bool {
        let mut did = false;
        let event = self.deferred_event.get();
        if event.contains(BevEvent::CONNECTED) {
            self.deferred_event.set(event - BevEvent::CONNECTED);
            did |= self.call_event(BevEvent::CONNECTED);
        }
        for direction in BOTH {
            let deferred = self.deferred.get();
            if deferred.contains(direction) {
                self.deferred.set(deferred - direction);
                did |= self.call(direction);
            }
        }
        let event = self.deferred_event.take();
        if !event.is_empty() {
            did |= self.call_event(event);
        }
        did
    }

    /// Whether callbacks or time-outs wait for a run.
    fn owes_calls(&self) -> bool {
        !self.deferred.get().is_empty()
            || !self.deferred_event.get().is_empty()
            || !self.timed_out.get().is_empty()
    }

    /// Has the loop run what was deferred.
    fn schedule(&self) {
        if let Some(me) = self.me.upgrade() {
            self.base.schedule_deferred(me);
        }
    }

    /// Has the loop run this object: now, or in the next turn if it has done its part of this one.
    pub(super) fn activate(&self, when: When) {
        if let Some(me) = self.me.upgrade() {
            self.base.activate(me, EventFlags::empty(), when);
        }
    }

    fn input_taken(&self) {
        if let (Transport::Pair(pair), Some(me)) = (&self.transport, self.me.upgrade()) {
            pair.input_taken(&me);
        }
        self.attend();
    }

    /// After something changed outside of its run: is there something to do, does it still wait?
    pub(super) fn attend(&self) {
        if self.is_running.get() || self.is_freed.get() {
            return;
        }
        match &self.transport {
            Transport::Socket(socket) => {
                if let Some(when) = socket.has_work(self) {
                    self.activate(when);
                } else if self.has_hangup_to_hear() {
                    self.activate(When::Now);
                }
            }
            Transport::Pair(pair) if self.is_leaving() => {
                if self.output.is_empty() || pair.partner().is_none() {
                    self.part_from(pair);
                }
            }
            Transport::Pair(_) => (),
        }
        self.account();
    }

    /// Keeps timers, and what the base counts, in step with what it waits for.
    fn account(&self) {
        let waits = self.waits_for();
        for direction in BOTH {
            let timeout = self.timeout(direction);
            let is_due = waits.contains(direction) && timeout.is_set();
            if !is_due {
                self.drop_timer(direction);
            } else if timeout.timer.get().is_none() {
                timeout.restart(self.base.clock().now());
                self.start_timer(direction);
            }
        }
        // A pair has nothing that could come from outside.
        let keeps_alive = if self.socket().is_some() { waits } else { Direction::empty() };
        let counted = self.counted.replace(keeps_alive);
        if counted != keeps_alive {
            let by = keeps_alive.bits().count_ones() as isize - counted.bits().count_ones() as isize;
            self.base.count_waiting(by);
        }
    }

    /// The directions in which something is to come or go.
    fn waits_for(&self) -> Direction {
        if self.is_freed.get() {
            return Direction::empty();
        }
        let mut waits = Direction::empty();
        let is_reading = self.enabled.get().contains(Direction::READ) && self.read_room() > 0;
        let is_writing = self.enabled.get().contains(Direction::WRITE) && !self.output.is_empty();
        match &self.transport {
            Transport::Socket(socket) => {
                waits.set(Direction::READ, is_reading && socket.is_polled());
                let is_finishing = self.enabled.get().contains(Direction::WRITE) && socket.owes_finish();
                waits.set(Direction::WRITE, socket.waits_to_write(is_writing || is_finishing));
            }
            Transport::Pair(_) => {
                waits.set(Direction::READ, is_reading);
                waits.set(Direction::WRITE, is_writing);
            }
        }
        waits
    }

    fn start_timer(&self, direction: Direction) {
        let Some(me) = self.me.upgrade() else { return };
        let timeout = self.timeout(direction);
        let tag = if direction == Direction::READ { EventFlags::READ } else { EventFlags::WRITE };
        timeout.timer.set(Some(self.base.insert_timer(Lane::Heap, timeout.deadline(), me, tag)));
        if direction == Direction::WRITE {
            self.write_rate.begin(self.base.clock().now());
        }
    }

    /// So many bytes went out.
    pub(super) fn wrote(&self, n: usize) {
        self.write_rate.moved.set(self.write_rate.moved.get().saturating_add(n as u64));
    }

    pub(super) fn set_min_write_rate(&self, bytes_per_second: u64) {
        self.write_rate.least.set(bytes_per_second);
    }

    pub(super) fn report_hangup(&self) {
        self.reports_hangup.set(true);
    }

    fn has_hangup_to_hear(&self) -> bool {
        self.owes_hangup.get()
            && !self.enabled.get().contains(Direction::READ)
            && !self.is_freed()
            && self.socket().is_some_and(Socket::has_hangup)
    }

    /// Tells of a peer that has left, or sends no more, while nothing is read that would tell it.
    fn hear_hangup(&self) -> bool {
        if !self.has_hangup_to_hear() {
            return false;
        }
        self.owes_hangup.set(false);
        let Some(hangup) = self.socket().and_then(Socket::hangup) else { return false };
        self.call_event(BevEvent::READING | hangup)
    }

    fn drop_timer(&self, direction: Direction) {
        self.timed_out.set(self.timed_out.get() - direction);
        if let Some(timer) = self.timeout(direction).timer.take() {
            self.base.remove_timer(timer);
        }
    }

    /// Reports the time-outs that passed, unless their direction has become ready meanwhile.
    fn report_timeouts(&self, ready: EventFlags) -> bool {
        let mut reported = false;
        for (direction, readiness, what) in [
            (Direction::READ, EventFlags::READ, BevEvent::READING),
            (Direction::WRITE, EventFlags::WRITE, BevEvent::WRITING),
        ] {
            let timed_out = self.timed_out.get();
            self.timed_out.set(timed_out - direction);
            // A peer that is only listened to until it ends gets no more time for what it sends.
            let is_late = match direction {
                Direction::READ => !ready.contains(readiness) || self.is_leaving(),
                // To take something just now does not mend a rate.
                _ => !ready.contains(readiness) || self.write_rate.is_missed.take(),
            };
            // A callback that ran since may have turned the direction off.
            if timed_out.contains(direction) && is_late && self.waits_for().contains(direction) {
                if let (Direction::WRITE, Some(socket)) = (direction, self.socket()) {
                    socket.give_up_connect();
                }
                self.failed(direction, what | BevEvent::TIMEOUT, None);
                reported = true;
            }
        }
        reported
    }

    /// What was to be called back is not any more.
    pub(super) fn forget_occasions(&self) {
        self.deferred.set(Direction::empty());
        self.deferred_event.set(BevEvent::empty());
        self.timed_out.set(Direction::empty());
    }

    pub(super) fn free(&self) {
        if self.is_freed.replace(true) {
            return;
        }
        let unsent = self.output.len();
        self.enabled.set(Direction::empty());
        self.forget_occasions();
        self.base.deactivate(&self.node);
        self.account();
        if let Transport::Pair(pair) = &self.transport {
            pair.unlink();
        }
        self.freeze_for_good();
        for buffer in [&self.input, &self.output] {
            buffer.set_owner(None);
        }
        if self.depth.get() == 0 {
            self.close();
        }
        let owned = self.owned.get().and_then(|&key| self.base.disown(key));
        // User code from here on: what closures captured and owners of shared memory are dropped.
        for buffer in [&self.input, &self.output] {
            buffer.clear_watchers();
            buffer.discard();
        }
        self.clear_callbacks();
        if let Some(watcher) = self.take_farewell_watcher() {
            watcher.gone(unsent);
        }
        drop(owned);
    }

    fn close(&self) {
        if let Some(socket) = self.socket() {
            drop(socket.remove(self));
        }
    }

    /// What the loop is about to say of the socket holds no more.
    pub(super) fn forget_readiness(&self) {
        self.node.forget(EventFlags::IO);
    }
}

impl Callback for State {
    fn node(&self) -> &Node {
        &self.node
    }

    fn run(self: Rc<Self>, what: EventFlags) -> bool {
        let _run = Run::enter(&self);
        // Noted first: an edge comes once, and the callbacks may replace the socket, or panic.
        if let Some(socket) = self.socket() {
            socket.became(what);
        }
        let mut did = self.call_deferred();
        if what.contains(EventFlags::CLOSED) {
            self.owes_hangup.set(self.reports_hangup.get());
        }
        did |= self.hear_hangup();
        did |= self.report_timeouts(what);
        did |= match &self.transport {
            Transport::Socket(socket) => socket.pass(&self),
            Transport::Pair(pair) => pair.pass(&self),
        };
        did
    }

    fn expired(self: Rc<Self>, tag: EventFlags, _due: Nanos) {
        let direction = if tag == EventFlags::READ { Direction::READ } else { Direction::WRITE };
        let timeout = self.timeout(direction);
        timeout.timer.set(None);
        let now = self.base.clock().now();
        let is_too_slow = direction == Direction::WRITE && self.write_rate.is_too_low(now);
        if direction == Direction::WRITE {
            self.write_rate.is_missed.set(is_too_slow);
        }
        if timeout.deadline() > now && !is_too_slow {
            self.start_timer(direction);
        } else {
            self.timed_out.set(self.timed_out.get() | direction);
            let base = self.base.handle();
            base.activate(self, EventFlags::empty(), When::Now);
        }
    }
}

impl Owned for State {
    fn free_with_base(&self) {
        self.free();
    }
}

impl BufferOwner for State {
    fn changed(&self, buffer: &Evbuffer, change: &Change) {
        if buffer.is_same(&self.output) {
            if change.added > 0
                && let (Transport::Pair(pair), Some(me)) = (&self.transport, self.me.upgrade())
            {
                pair.output_added(&me);
            }
            self.attend();
        } else if change.deleted > 0 {
            self.input_taken();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.close();
    }
}

/// Why a direction is off, in words.
pub(super) fn reason(what: BevEvent, error: Option<&Error>) -> String {
    match error {
        Some(error) => error.to_string(),
        None if what.contains(BevEvent::READING) => "the read time-out passed".to_owned(),
        None => "the write time-out passed".to_owned(),
    }
}

/// Has the loop call back for a transfer when a buffer's watcher panics before that is done; forgotten else.
pub(super) struct OnPanic<'a>(pub(super) &'a State, pub(super) Direction);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        self.0.occasion(self.1, TriggerOptions::DEFER_CALLBACKS);
    }
}

/// A read callback panicked and is lost: nobody is left to empty the input, so nothing more is read. Forgotten else.
struct Lost<'a>(&'a State, Direction);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.1 == Direction::READ && !self.0.on_read.is_set() && !self.0.is_leaving() {
            self.0.disable(Direction::READ);
        }
    }
}

/// A callback of this object is on the stack. The last one to leave closes what was freed meanwhile.
struct Call<'a>(&'a State);

impl<'a> Call<'a> {
    fn enter(state: &'a State) -> Self {
        state.depth.set(state.depth.get() + 1);
        Call(state)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let depth = self.0.depth.get() - 1;
        self.0.depth.set(depth);
        if depth == 0 && self.0.is_freed.get() {
            self.0.close();
        }
    }
}

/// The loop runs this object. However that ends, a panic included, what is left to do is seen to.
struct Run<'a>(&'a State);

impl<'a> Run<'a> {
    fn enter(state: &'a State) -> Self {
        state.is_running.set(true);
        Run(state)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.is_running.set(false);
        self.0.attend();
        if self.0.owes_calls() {
            self.0.schedule();
        }
    }
}
