//! The base and its events.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{CommonTimeout, Event, EventFlags, EventTicket, LoopFlags, Outcome, Result};

use super::sock::millis;
use super::{Named, Op, World, op};
use crate::names::{
    Names, err_suffix, event_flags, event_flags_text, flags, flags_text, signal_name, signal_number,
};
use crate::script::num;

/// The base's clock stands still when it is this far behind.
const BEHIND: Duration = Duration::from_millis(20);
/// How far a deadline may be from where it is expected, in milliseconds.
const ABOUT: i128 = 100;

const LOOP_FLAGS: &Names<LoopFlags> = &[
    ("ONCE", LoopFlags::ONCE),
    ("NONBLOCK", LoopFlags::NONBLOCK),
    ("NO_EXIT_ON_EMPTY", LoopFlags::NO_EXIT_ON_EMPTY),
];

#[derive(Default)]
pub(super) struct Events {
    named: Named<Rc<NamedEvent>>,
    common: Named<CommonTimeout>,
    steps: Cell<u32>,
}

struct NamedEvent {
    name: String,
    /// `None` after `free`, and for one-shot requests.
    event: RefCell<Option<Event>>,
    calls: Cell<u32>,
    /// `None` when the deadline is not checked.
    due: Cell<Option<Instant>>,
    period: Cell<Duration>,
}

pub(super) const OPS: &[Op] = &[
    op("event", 1, 3, event),
    op("signal", 2, 3, signal),
    op("add", 1, 2, add),
    op("del", 1, 1, |world, arg| world.event(arg[0]).del()),
    op("free", 1, 1, |world, arg| free(&world.events.named.get(arg[0]))),
    op("rmtimer", 1, 1, |world, arg| world.event(arg[0]).remove_timer()),
    op("active", 2, 2, |world, arg| world.event(arg[0]).activate(event_flags(arg[1]))),
    op("prio", 2, 2, prio),
    op("getprio", 1, 1, |world, arg| {
        world.say(format!("prio {}={}", arg[0], world.event(arg[0]).priority()))
    }),
    op("priorities", 1, 1, priorities),
    op("pending", 1, 2, pending),
    op("deadline", 2, 2, deadline),
    op("counts", 0, 0, counts),
    op("peaks", 0, 1, peaks),
    op("info", 1, 1, info),
    op("once", 3, 4, once),
    op("common", 2, 2, common),
    op("byfd", 2, 2, |world, arg| {
        world.base().activate_by_fd(world.fd_number(arg[0]), event_flags(arg[1]));
    }),
    op("bysignal", 1, 1, |world, arg| world.base().activate_by_signal(signal_number(arg[0]))),
    op("exit", 0, 1, |world, arg| {
        world.base().loop_exit(arg.first().map(|after| millis(after))).expect("an exit");
    }),
    op("break", 0, 0, |world, _| world.base().loop_break()),
    op("continue", 0, 0, |world, _| world.base().loop_continue()),
    op("got", 0, 0, |world, _| world.say(format!("got {}", marks(world)))),
    op("loop", 0, 1, run_loop),
    op("step", 0, 1, step),
    op("cached", 0, 0, cached),
    op("refresh", 0, 0, |world, _| {
        world.base().refresh_now();
    }),
    op("freebase", 0, 0, freebase),
];

impl World {
    /// What names the events of this moment in other threads.
    pub(super) fn tickets(&self) -> HashMap<String, EventTicket> {
        let ticket = |event: &NamedEvent| event.event.borrow().as_ref().map(Event::ticket);
        self.events
            .named
            .all()
            .into_iter()
            .filter_map(|(name, event)| Some((name, ticket(&event)?)))
            .collect()
    }

    fn event(&self, name: &str) -> Event {
        self.events.named.get(name).event.borrow().clone().expect("an event that was not freed")
    }

    fn new_event(&self, name: &str) -> Rc<NamedEvent> {
        let event = Rc::new(NamedEvent {
            name: name.to_owned(),
            event: RefCell::new(None),
            calls: Cell::new(0),
            due: Cell::new(None),
            period: Cell::new(Duration::ZERO),
        });
        self.events.named.put(name, event.clone());
        event
    }

    fn on_event(&'static self, named: &NamedEvent, what: EventFlags, signal: Option<i32>) {
        let call = named.count();
        let _inside = self.trace.enter(&named.name);
        if let Some(due) = self.threads.deadline(&named.name) {
            named.due.set(Some(due));
        }
        let flags = event_flags_text(what);
        match signal {
            Some(signal) if what.contains(EventFlags::SIGNAL) => {
                let signal = signal_name(signal);
                self.trace.say_cb(&format!("cb={} flags={flags} signal={signal}", named.name));
            }
            _ => self.trace.say_cb(&format!(
                "cb={} flags={flags}{}",
                named.name,
                named.not_early(what, self.now())
            )),
        }
        self.run(self.scenario.reaction(&named.name, None, call));
    }
}

impl NamedEvent {
    fn count(&self) -> u32 {
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }

    /// Checked for deadlines that were set outside of callbacks: inside, the cached time counts.
    fn not_early(&self, what: EventFlags, now: Instant) -> String {
        let due = self.due.get().filter(|_| what.contains(EventFlags::TIMEOUT));
        let Some(due) = due else { return String::new() };
        let is_persistent =
            self.event.borrow().as_ref().is_some_and(|event| event.flags().contains(EventFlags::PERSIST));
        self.due.set(is_persistent.then(|| due + self.period.get()));
        format!(" not-early={}", u8::from(now >= due))
    }
}

/// `event:NAME[:FD[:FLAGS]]`. What libevent makes of a descriptor of -1 has calls of its own here.
fn event(world: &'static World, arg: &[&str]) {
    let flags = arg.get(2).map_or(EventFlags::empty(), |flags| event_flags(flags));
    let named = world.new_event(arg[0]);
    let (base, own) = (world.base(), named.clone());
    let callback = move |event: &Event, what| world.on_event(&own, what, event.signal_number());
    let made = match arg.get(1) {
        Some(&fd) if fd != "-" => Event::fd(&base, world.fd(fd), flags, callback),
        _ if flags.is_empty() => Event::timer(&base, callback),
        _ if flags == EventFlags::PERSIST => Event::interval(&base, callback),
        _ => Event::manual(&base, flags - EventFlags::READ, callback),
    };
    finish(world, "event", &named, made);
}

fn signal(world: &'static World, arg: &[&str]) {
    let flags = arg.get(2).map_or(EventFlags::empty(), |flags| event_flags(flags));
    let named = world.new_event(arg[0]);
    let own = named.clone();
    let callback = move |event: &Event, what| world.on_event(&own, what, event.signal_number());
    let made = Event::signal_with(&world.base(), signal_number(arg[1]), flags, callback);
    finish(world, "signal", &named, made);
}

fn finish(world: &World, op: &str, named: &NamedEvent, made: Result<Event>) {
    match made {
        Ok(event) => drop(named.event.replace(Some(event))),
        Err(_) => world.say(format!("{op} {} failed", named.name)),
    }
}

/// `add:NAME[:MS | @COMMON]`
fn add(world: &'static World, arg: &[&str]) {
    let named = world.events.named.get(arg[0]);
    let event = world.event(arg[0]);
    let added = match arg.get(1) {
        Some(common) if common.starts_with('@') => event.add_common(world.events.common.get(common)),
        Some(time) => {
            let timeout = millis(time);
            named.period.set(timeout);
            named.due.set((world.trace.depth() == 0).then(|| world.now() + timeout));
            event.add(Some(timeout))
        }
        None => event.add(None),
    };
    if let Err(error) = added {
        world.say(format!("add {} failed{}", named.name, err_suffix(Some(&error))));
    }
}

fn free(named: &NamedEvent) {
    let event = named.event.take();
    event.expect("an event that was not freed").free();
}

fn prio(world: &'static World, arg: &[&str]) {
    // A negative number becomes one that no base has.
    if world.event(arg[0]).set_priority(num(arg[1]) as usize).is_err() {
        world.say(format!("prio {} {} failed", arg[0], arg[1]));
    }
}

fn priorities(world: &'static World, arg: &[&str]) {
    let base = world.base();
    let outcome = if base.set_priorities(num(arg[0]) as usize).is_ok() { "ok" } else { "failed" };
    world.say(format!("priorities {} {outcome} now={}", arg[0], base.priorities()));
}

/// `pending:NAME[:MASK]`
fn pending(world: &'static World, arg: &[&str]) {
    let all = EventFlags::all() - EventFlags::PERSIST - EventFlags::EDGE;
    let mask = arg.get(1).map_or(all, |mask| event_flags(mask));
    let pending = event_flags_text(world.event(arg[0]).pending(mask));
    world.say(format!("state {} pending={pending}", arg[0]));
}

/// Is the deadline about MS from now?
fn deadline(world: &'static World, arg: &[&str]) {
    let found = world.event(arg[0]).deadline().map(|at| at.saturating_duration_since(world.now()));
    let is_about =
        found.is_some_and(|left| (left.as_millis() as i128 - i128::from(num(arg[1]))).abs() < ABOUT);
    world.say(format!("deadline {} about-{}-ms={}", arg[0], arg[1], if is_about { "yes" } else { "no" }));
}

fn counts(world: &'static World, _: &[&str]) {
    let counts = world.base().counts();
    let both = counts.added + counts.active;
    world.say(format!("counts added={} active={} both={both}", counts.added, counts.active));
}

fn peaks(world: &'static World, arg: &[&str]) {
    let counts = world.base().counts();
    if !arg.is_empty() {
        world.base().reset_peaks();
    }
    world.say(format!("peaks added={} active={}", counts.peak_added, counts.peak_active));
}

/// What an event was made of, and whether it is the one that runs.
fn info(world: &'static World, arg: &[&str]) {
    let (base, event) = (world.base(), world.event(arg[0]));
    let is_own = base.event(event.ticket()).as_ref() == Some(&event);
    let is_running = world.trace.depth() > 0 && base.running_event().as_ref() == Some(&event);
    world.say(format!(
        "info {} interest={} own={} running={}",
        arg[0],
        event_flags_text(event.flags()),
        u8::from(is_own),
        u8::from(is_running)
    ));
}

/// `once:NAME:FD:FLAGS[:MS]`
fn once(world: &'static World, arg: &[&str]) {
    let flags = event_flags(arg[2]);
    let timeout = arg.get(3).map(|time| millis(time));
    let named = world.new_event(arg[0]);
    let base = world.base();
    let own = named.clone();
    let made = if arg[1] != "-" {
        base.once_fd(world.fd(arg[1]), flags, timeout, move |_, what| world.on_event(&own, what, None))
    } else if flags == EventFlags::TIMEOUT {
        base.once(timeout, move |_| world.on_event(&own, EventFlags::TIMEOUT, None))
    } else {
        // There is no call for these flags without a descriptor; with one, it is the flags that are refused.
        let any = File::open("/dev/null").expect("a descriptor");
        base.once_fd(any, flags, timeout, move |_, what| world.on_event(&own, what, None))
    };
    if made.is_err() {
        world.say(format!("once {} failed", named.name));
    }
}

/// `common:@NAME:MS`
fn common(world: &'static World, arg: &[&str]) {
    let (base, duration) = (world.base(), millis(arg[1]));
    let handle = base.common_timeout(duration).expect("a common timeout");
    let again = base.common_timeout(duration).is_ok_and(|again| again == handle);
    let itself = base.common_timeout(handle.duration()).is_ok_and(|itself| itself == handle);
    world.say(format!(
        "common {} made=1 again-same={} itself-same={}",
        arg[0],
        u8::from(again),
        u8::from(itself)
    ));
    world.events.common.put(arg[0], handle);
}

fn marks(world: &World) -> String {
    let base = world.base();
    format!("exit={} break={}", u8::from(base.got_exit()), u8::from(base.got_break()))
}

/// `loop[:FLAGS]`
fn run_loop(world: &'static World, arg: &[&str]) {
    let set = arg.first().map_or(LoopFlags::empty(), |text| flags(LOOP_FLAGS, text));
    let ret = match world.base().run(set) {
        Ok(Outcome::NoEvents) => 1,
        Ok(Outcome::Stopped) => 0,
        Err(_) => -1,
    };
    if set.is_empty() {
        world.say(format!("ret dispatch={ret} {}", marks(world)));
    } else {
        let set = flags_text(LOOP_FLAGS, |flag| set.contains(flag));
        world.say(format!("ret loop={ret} flags={set} {}", marks(world)));
    }
}

/// `step[:COUNT]`: one numbered loop call each. With `sort=1` the lines of a step are grouped by name.
fn step(world: &'static World, arg: &[&str]) {
    for _ in 0..arg.first().map_or(1, |times| num(times)) {
        let pass = world.events.steps.get() + 1;
        world.events.steps.set(pass);
        world.trace.set_pass(pass);
        if world.scenario.num("sort", 0) == 0 {
            let _ = world.turn();
        } else {
            world.trace.grouped(|| drop(world.turn()));
        }
        world.trace.set_pass(0);
    }
}

/// Does the base's clock stand still behind the real one?
fn cached(world: &'static World, _: &[&str]) {
    let is_behind = world.now().saturating_duration_since(world.base().now()) > BEHIND;
    world.say(format!("cached behind={}", u8::from(is_behind)));
}

fn freebase(world: &'static World, _: &[&str]) {
    let base = world.base.take();
    drop(base);
    world.say("base freed");
}
