//! A small world for the loop's tests: a base with a clock that only moves when told to, a trace of what ran.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Event, EventBase, EventFlags, LoopFlags, Outcome, SteppedClock};

pub const READ: EventFlags = EventFlags::READ;
pub const WRITE: EventFlags = EventFlags::WRITE;
pub const CLOSED: EventFlags = EventFlags::CLOSED;
pub const PERSIST: EventFlags = EventFlags::PERSIST;
pub const EDGE: EventFlags = EventFlags::EDGE;
pub const TIMEOUT: EventFlags = EventFlags::TIMEOUT;
pub const SIGNAL: EventFlags = EventFlags::SIGNAL;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What ran, in order.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub fn note(&self, what: impl ToString) {
        self.0.borrow_mut().push(what.to_string());
    }

    /// What was noted since the last look, with spaces between.
    pub fn take(&self) -> String {
        self.0.borrow_mut().drain(..).collect::<Vec<_>>().join(" ")
    }
}

pub struct World {
    pub base: EventBase,
    pub clock: SteppedClock,
    pub trace: Trace,
}

impl World {
    pub fn new() -> World {
        Self::with_priorities(1)
    }

    pub fn with_priorities(priorities: usize) -> World {
        let clock = SteppedClock::new();
        let base = EventBase::builder().clock(&clock).priorities(priorities).build().unwrap();
        World { base, clock, trace: Trace::default() }
    }

    pub fn dispatch(&self) -> Outcome {
        self.base.dispatch().unwrap()
    }

    /// One turn that does not wait.
    pub fn step(&self) -> Outcome {
        self.base.run(LoopFlags::ONCE | LoopFlags::NONBLOCK).unwrap()
    }

    pub fn steps(&self, turns: usize) {
        for _ in 0..turns {
            self.step();
        }
    }

    /// A timer that notes its name.
    pub fn timer(&self, name: &'static str) -> Event {
        let trace = self.trace.clone();
        Event::timer(&self.base, move |_, _| trace.note(name)).unwrap()
    }

    /// A timer that notes its name, then acts.
    pub fn timer_that(&self, name: &'static str, mut act: impl FnMut(&Event) + 'static) -> Event {
        let trace = self.trace.clone();
        Event::timer(&self.base, move |event, _| {
            trace.note(name);
            act(event);
        })
        .unwrap()
    }

    /// An event on a socket that notes its name and what happened.
    pub fn on(&self, socket: &Rc<UnixStream>, flags: EventFlags, name: &'static str) -> Event {
        let trace = self.trace.clone();
        Event::fd(&self.base, socket.clone(), flags, move |_, what| trace.note(show(name, what))).unwrap()
    }

    /// Activates events by hand, in this order.
    pub fn activate<'a>(&self, events: impl IntoIterator<Item = &'a Event>) {
        events.into_iter().for_each(|event| event.activate(READ));
    }
}

/// `name:READ|TIMEOUT`
pub fn show(name: &str, what: EventFlags) -> String {
    let flags: Vec<_> = what.iter_names().map(|(flag, _)| flag).collect();
    format!("{name}:{}", flags.join("|"))
}

/// Two ends of a connection that do not block.
pub fn pair() -> (Rc<UnixStream>, Rc<UnixStream>) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (Rc::new(a), Rc::new(b))
}

pub fn write(mut socket: &UnixStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

/// Reads what is there, at most `most` bytes.
pub fn read(mut socket: &UnixStream, most: usize) -> usize {
    socket.read(&mut vec![0; most]).unwrap_or(0)
}

/// Counts what is alive of it.
#[derive(Clone, Default)]
pub struct Census(Rc<Cell<usize>>);

pub struct Member(Census);

impl Census {
    pub fn join(&self) -> Member {
        self.0.set(self.0.get() + 1);
        Member(self.clone())
    }

    pub fn alive(&self) -> usize {
        self.0.get()
    }
}

impl Member {
    /// To have a closure capture it by a use.
    pub fn census(&self) -> &Census {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.set(self.0.alive() - 1);
    }
}

/// Runs a closure when it is dropped.
pub struct OnDrop<F: FnOnce()>(pub Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub fn new(act: F) -> Self {
        OnDrop(Some(act))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}
