//! What timers cost: add, add again with another time-out, delete about half at random, let the rest expire.
//!
//! `-n TIMERS` (1000000)
//!
//! Once with an ordinary time-out per timer (spread over one second, by the microsecond), once with common time-outs
//! (16 durations over the same second). Figures are CPU nanoseconds per operation. Twin of `c/timers.c`.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod util;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::{CommonTimeout, Event, EventBase, Outcome};
use util::{Lcg, cpu_ns, report};

const SEED: u64 = 1;
const SPREAD_US: u32 = 1_000_000;
const QUEUES: u32 = 16;

fn main() {
    let count = util::option("-n").unwrap_or(1_000_000);
    run(count, "heap", |_| {
        |event: &Event, number| event.add(Some(Duration::from_micros(u64::from(number % SPREAD_US)))).unwrap()
    });
    run(count, "common", |base| {
        let queues: Vec<CommonTimeout> = (1..=QUEUES)
            .map(|nth| Duration::from_micros(u64::from(SPREAD_US / QUEUES * nth - 1)))
            .map(|duration| base.common_timeout(duration).unwrap())
            .collect();
        move |event: &Event, number| event.add_common(queues[(number % QUEUES) as usize]).unwrap()
    });
}

fn run<A: Fn(&Event, u32)>(count: usize, kind: &str, adder: impl FnOnce(&EventBase) -> A) {
    let base = EventBase::new().unwrap();
    let add = adder(&base);
    let fired = Rc::new(Cell::new(0));
    let timers: Vec<Event> = (0..count)
        .map(|_| {
            let fired = fired.clone();
            Event::timer(&base, move |_, _| fired.set(fired.get() + 1)).unwrap()
        })
        .collect();
    let mut random = Lcg(SEED);

    for phase in ["add", "readd"] {
        let start = cpu_ns();
        for timer in &timers {
            add(timer, random.number());
        }
        report(&format!("timers_{kind}_{phase}"), count, (cpu_ns() - start) as f64 / count as f64, "ns");
    }
    assert_eq!(base.counts().added, count);

    let mut deleted = 0;
    let start = cpu_ns();
    for timer in &timers {
        if random.number() & 1 == 1 {
            timer.del();
            deleted += 1;
        }
    }
    report(&format!("timers_{kind}_delete"), deleted, (cpu_ns() - start) as f64 / deleted as f64, "ns");

    let start = cpu_ns();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    let took = cpu_ns() - start;
    assert_eq!(fired.get(), count - deleted);
    report(&format!("timers_{kind}_expire"), fired.get(), took as f64 / fired.get() as f64, "ns");
}
