//! What the loop adds to a callback: activation and call of 1, 100 and 1000 events per pass, and adding and deleting
//! a descriptor's event. Figures are CPU nanoseconds per event or per pair of calls. Twin of `c/dispatch.c`.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod util;

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use reactor::{Event, EventBase, EventFlags, LoopFlags};
use util::{cpu_ns, report};

const ACTIVATIONS: usize = 2_000_000;
const PAIRS: usize = 300_000;
const MOST: usize = 1000;

fn main() {
    let base = EventBase::new().unwrap();
    let calls = Rc::new(Cell::new(0));
    let events: Vec<Event> = (0..MOST)
        .map(|_| {
            let calls = calls.clone();
            Event::timer(&base, move |_, _| calls.set(calls.get() + 1)).unwrap()
        })
        .collect();
    for per_pass in [1, 100, 1000] {
        activate(&base, &events[..per_pass], &calls);
    }
    add_and_delete(&base);
}

fn activate(base: &EventBase, events: &[Event], calls: &Cell<usize>) {
    let passes = ACTIVATIONS / events.len();
    calls.set(0);
    let start = cpu_ns();
    for _ in 0..passes {
        for event in events {
            event.activate(EventFlags::READ);
        }
        base.run(LoopFlags::ONCE | LoopFlags::NONBLOCK).unwrap();
    }
    let took = cpu_ns() - start;
    assert_eq!(calls.get(), passes * events.len());
    report("dispatch_active", events.len(), took as f64 / calls.get() as f64, "ns");
}

fn add_and_delete(base: &EventBase) {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let event = Event::fd(base, ours, EventFlags::READ | EventFlags::PERSIST, |_, _| ()).unwrap();
    let mut done = 0;
    let start = cpu_ns();
    for _ in 0..PAIRS {
        done += usize::from(event.add(None).is_ok());
        event.del();
    }
    let took = cpu_ns() - start;
    assert_eq!(done, PAIRS);
    report("dispatch_add_del", 1, took as f64 / PAIRS as f64, "ns");
}
