//! Other threads: they reach the base by its notifier, and events by their tickets.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reactor::{Event, EventTicket, Notifier};
use signal_hook::low_level::raise;

use super::sock::millis;
use super::{Named, Op, World, op};
use crate::names::{event_flags, signal_number};
use crate::script::operations;

/// By then a loop that opened the gate sleeps in its poll.
const BLOCKED_AFTER: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Threads {
    gate: Arc<Gate>,
    deadlines: Deadlines,
    running: Named<Arc<Mutex<Option<JoinHandle<()>>>>>,
}

/// When the events are due that threads added, by name.
type Deadlines = Arc<Mutex<HashMap<String, Instant>>>;

/// Opened from a callback, once for each thread that waits.
#[derive(Default)]
struct Gate {
    opened: Mutex<u32>,
    changed: Condvar,
}

/// What a thread can reach.
struct Outside {
    gate: Arc<Gate>,
    deadlines: Deadlines,
    notifier: Notifier,
    tickets: HashMap<String, EventTicket>,
}

pub(super) const OPS: &[Op] = &[
    op("thread", 1, 1, start),
    op("join", 1, 1, join),
    op("gate", 0, 0, |world, _| world.threads.gate.open()),
];

/// Runs the operations of key NAME in a thread.
fn start(world: &'static World, arg: &[&str]) {
    let outside = Outside {
        gate: world.threads.gate.clone(),
        deadlines: world.threads.deadlines.clone(),
        notifier: world.base().notifier(),
        tickets: world.tickets(),
    };
    let list = world.scenario.get(arg[0]).unwrap_or_default();
    let thread = thread::spawn(move || operations(list).for_each(|(name, arg)| outside.run(name, &arg)));
    world.threads.running.put(arg[0], Arc::new(Mutex::new(Some(thread))));
}

fn join(world: &'static World, arg: &[&str]) {
    let thread = world.threads.running.get(arg[0]).lock().expect("whole").take();
    thread.expect("a thread that was not joined yet").join().expect("a thread that did not panic");
}

impl Threads {
    /// When an event is due that a thread added; told once.
    pub(super) fn deadline(&self, event: &str) -> Option<Instant> {
        self.deadlines.lock().expect("whole").remove(event)
    }
}

impl Gate {
    fn open(&self) {
        *self.opened.lock().expect("whole") += 1;
        self.changed.notify_one();
    }

    /// Waits until a callback opened the gate and the loop sleeps in its poll again.
    fn wait(&self) {
        let opened = self.opened.lock().expect("whole");
        *self.changed.wait_while(opened, |opened| *opened == 0).expect("whole") -= 1;
        thread::sleep(BLOCKED_AFTER);
    }
}

impl Outside {
    fn run(&self, name: &str, arg: &[&str]) {
        let done = match (name, arg) {
            ("waitgate", []) => return self.gate.wait(),
            ("sleep", [time]) => return thread::sleep(millis(time)),
            ("raise", [signal]) => return raise(signal_number(signal)).expect("a signal"),
            ("break", []) => self.notifier.loop_break(),
            ("exit", []) => self.notifier.loop_exit(),
            ("active", [event, flags]) => self.notifier.activate(self.tickets[*event], event_flags(flags)),
            ("add", [event, time @ ..]) => {
                let timeout = time.first().map(|time| millis(time));
                if let Some(timeout) = timeout {
                    let mut deadlines = self.deadlines.lock().expect("whole");
                    deadlines.insert((*event).to_owned(), Instant::now() + timeout);
                }
                self.post(event, move |event| event.add(timeout).expect("an added event"))
            }
            ("del", [event]) => self.post(event, Event::del),
            _ => panic!("no such operation in a thread: {name}"),
        };
        done.expect("a live base");
    }

    fn post(&self, event: &str, act: impl FnOnce(&Event) + Send + 'static) -> reactor::Result<()> {
        let ticket = self.tickets[event];
        self.notifier.post(move |base| act(&base.event(ticket).expect("a live event")))
    }
}
