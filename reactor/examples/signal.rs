//! Signals as events, and a loop that ends in order.
//!
//!     cargo run -p reactor --example signal
//!
//! prints `process <id>: send me SIGUSR1, or end me with Ctrl-C`. Each `kill -USR1 <id>` prints `report 1`,
//! `report 2` … Ctrl-C prints `ending` and, after the work that was under way, `done`.
#![allow(clippy::print_stdout, reason = "an example that shows what it does")]

use std::time::Duration;

use reactor::{Event, EventBase};
use signal_hook::consts::{SIGINT, SIGUSR1};

fn main() -> reactor::Result<()> {
    let base = EventBase::new()?;
    println!("process {}: send me SIGUSR1, or end me with Ctrl-C", std::process::id());

    // A callback runs on the loop, not in the signal handler: it may do anything. One call for each delivery.
    let mut reports = 0;
    let report = Event::signal(&base, SIGUSR1, move |_, _| {
        reports += 1;
        println!("report {reports}");
    })?;
    report.add(None)?;

    let work = Event::interval(&base, |_, _| ())?;
    work.add(Some(Duration::from_millis(50)))?;

    let interrupt = Event::signal(&base, SIGINT, move |interrupt, _| {
        println!("ending");
        // With nothing left to wait for, the loop ends by itself: no flag, no exit call.
        report.free();
        work.free();
        interrupt.free();
    })?;
    interrupt.add(None)?;

    base.dispatch()?;
    println!("done");
    Ok(())
}
