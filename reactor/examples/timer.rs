//! Timers: one that fires once, one that goes on, and one that many events share.
//!
//!     cargo run -p reactor --example timer
//!
//! prints, within half a second,
//!
//!     tick 1
//!     once, after 150 ms
//!     tick 2
//!     tick 3
//!     1000 shared timers passed
#![allow(clippy::print_stdout, reason = "an example that shows what it does")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Event, EventBase};

fn main() -> reactor::Result<()> {
    let base = EventBase::new()?;

    let once = Event::timer(&base, |_, _| println!("once, after 150 ms"))?;
    once.add(Some(Duration::from_millis(150)))?;

    // The state of a callback is what its closure captures. This one ends itself; the loop then has one event less.
    let mut ticks = 0;
    let every = Event::interval(&base, move |every, _| {
        ticks += 1;
        println!("tick {ticks}");
        if ticks == 3 {
            every.free();
        }
    })?;
    every.add(Some(Duration::from_millis(100)))?;

    // Many events with one duration, such as the time-outs of connections: a queue instead of a heap.
    let shared = base.common_timeout(Duration::from_millis(400))?;
    let passed = Rc::new(Cell::new(0));
    for _ in 0..1000 {
        let passed = passed.clone();
        let event = Event::timer(&base, move |_, _| {
            passed.set(passed.get() + 1);
            if passed.get() == 1000 {
                println!("1000 shared timers passed");
            }
        })?;
        // The handle goes at the end of this block. A pending event stays without one, until it has fired.
        event.add_common(shared)?;
    }

    // Returns when no event is left.
    base.dispatch()?;
    Ok(())
}
