//! What a scenario works on: a base, and everything that its operations made, by name.

mod buffer;
mod bufferevent;
mod event;
mod listener;
mod sock;
mod thread;

use std::cell::RefCell;
use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use reactor::{EventBase, LoopFlags, Outcome, Result, SteppedClock};

use crate::script::{Scenario, num, operations};
use crate::trace::Trace;

/// Without `cap` in the scenario.
const DEFAULT_CAP: i64 = 200;

/// The world of the one scenario that a process plays. It lives as long as the process, so callbacks may refer to it.
pub(crate) struct World {
    scenario: Scenario,
    trace: Trace,
    base: RefCell<Option<EventBase>>,
    /// For scenarios whose outcome would hang on how busy the machine is.
    clock: Option<SteppedClock>,
    /// When the clock stood at zero.
    start: Instant,
    surroundings: sock::Surroundings,
    threads: thread::Threads,
    events: event::Events,
    buffers: buffer::Buffers,
    bufferevents: bufferevent::Bufferevents,
    listeners: listener::Listeners,
}

/// One word of the scenario language, with the least and the most arguments that it takes.
struct Op {
    name: &'static str,
    arguments: std::ops::RangeInclusive<usize>,
    run: fn(&'static World, &[&str]),
}

const fn op(name: &'static str, least: usize, most: usize, run: fn(&'static World, &[&str])) -> Op {
    Op { name, arguments: least..=most, run }
}

impl World {
    /// Plays a scenario into `out`.
    pub(crate) fn play(scenario: Scenario, out: File) {
        let cap = scenario.num("cap", DEFAULT_CAP);
        let mut builder = EventBase::builder().cache_time(scenario.num("nocache", 0) == 0);
        if let Some(priorities) = scenario.get("priorities") {
            builder = builder.priorities(num(priorities) as usize);
        }
        let clock = (scenario.num("stepped", 0) != 0).then(SteppedClock::new);
        if let Some(clock) = &clock {
            builder = builder.clock(clock);
        }
        let base = builder.build().expect("an event base");
        let start = base.now();
        let world: &'static World = Box::leak(Box::new(World {
            scenario,
            trace: Trace::new(out, cap),
            base: RefCell::new(Some(base)),
            clock,
            start,
            surroundings: Default::default(),
            threads: Default::default(),
            events: Default::default(),
            buffers: Default::default(),
            bufferevents: Default::default(),
            listeners: Default::default(),
        }));
        world.run(world.scenario.get("do"));
    }

    /// Runs a list of operations.
    fn run(&'static self, list: Option<&str>) {
        for (name, arguments) in list.into_iter().flat_map(operations) {
            let tables = [sock::OPS, thread::OPS, event::OPS, buffer::OPS, bufferevent::OPS, listener::OPS];
            let op = tables.into_iter().flatten().find(|op| op.name == name);
            let op = op.unwrap_or_else(|| panic!("no such operation: {name}"));
            assert!(op.arguments.contains(&arguments.len()), "wrong number of arguments: {name}");
            (op.run)(self, &arguments);
        }
    }

    fn say(&self, text: impl AsRef<str>) {
        self.trace.say(text.as_ref());
    }

    fn base(&self) -> EventBase {
        self.base.borrow().as_ref().expect("the base was freed").handle()
    }

    /// The current time, however old the base's is.
    fn now(&self) -> Instant {
        self.clock.as_ref().map_or_else(Instant::now, |clock| self.start + clock.elapsed())
    }

    fn sleep(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => sleep(time),
        }
    }

    /// One turn that does not block.
    fn turn(&self) -> Result<Outcome> {
        self.base().run(LoopFlags::ONCE | LoopFlags::NONBLOCK)
    }
}

/// The objects of one kind, by name, in the order of first appearance.
struct Named<T>(RefCell<Vec<(String, T)>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(RefCell::default())
    }
}

impl<T: Clone> Named<T> {
    fn find(&self, name: &str) -> Option<T> {
        self.0.borrow().iter().find(|(own, _)| own == name).map(|(_, object)| object.clone())
    }

    fn get(&self, name: &str) -> T {
        self.find(name).unwrap_or_else(|| panic!("unknown name: {name}"))
    }

    fn put(&self, name: &str, object: T) {
        let mut named = self.0.borrow_mut();
        let old = match named.iter_mut().find(|(own, _)| own == name) {
            Some((_, old)) => Some(std::mem::replace(old, object)),
            None => {
                named.push((name.to_owned(), object));
                None
            }
        };
        drop(named);
        drop(old);
    }

    fn take(&self, name: &str) -> T {
        let mut named = self.0.borrow_mut();
        let at = named.iter().position(|(own, _)| own == name);
        named.remove(at.unwrap_or_else(|| panic!("unknown name: {name}"))).1
    }

    fn name_of(&self, is: impl Fn(&T) -> bool) -> Option<String> {
        self.0.borrow().iter().find(|(_, object)| is(object)).map(|(name, _)| name.clone())
    }

    fn all(&self) -> Vec<(String, T)> {
        self.0.borrow().clone()
    }
}
