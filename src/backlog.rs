//! `cloudstore backlog`: the server that receives records, until a signal ends it.

use std::error::Error;
use std::io::{self, Write};

use logger::backlog::{Backlog, Options};
use logger::sink::{Console, RollingOptions};
use logger::{Durability, Level, Logger, error, info};
use reactor::{Event, EventBase};

use crate::cli::BacklogArgs;
use crate::supervisor;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

pub(crate) fn run(args: BacklogArgs) -> Result<(), Box<dyn Error>> {
    let logger =
        Logger::builder("backlog").sink_with(Console::stderr(), Level::Info, Durability::Flush).install()?;
    let base = EventBase::new()?;
    let shown = args.file.display().to_string();
    let backlog = Backlog::bind(&base, options(args))?;
    for signal in [SIGINT, SIGTERM] {
        Event::signal(&base, signal, |event, _| event.base().loop_break())?.add(None)?;
    }
    let reopened = backlog.clone();
    let reopen = move |_: &Event, _| match reopened.reopen() {
        Ok(()) => info!(target: "backlog", "the file is opened anew"),
        Err(error) => {
            error!(target: "backlog", "{error}; the next record tries again, and is not acknowledged before that works")
        }
    };
    Event::signal(&base, SIGHUP, reopen)?.add(None)?;
    // A closed stdout is no reason to receive nothing.
    let mut out = io::stdout();
    let _ = writeln!(out, "listening on {}, writing to {shown}", backlog.local_address()?)
        .and_then(|()| out.flush());
    supervisor::ready();
    base.dispatch()?;
    supervisor::stopping();
    backlog.close();
    let counters = backlog.counters();
    info!(
        target: "backlog", records = counters.records, repeats = counters.repeats, cut = counters.cut;
        "the backlog server ends"
    );
    logger.shutdown();
    Ok(())
}

fn options(args: BacklogArgs) -> Options {
    let rolling = RollingOptions {
        max_bytes: Some(args.max_bytes).filter(|&bytes| bytes > 0),
        keep: Some(args.keep),
        ..RollingOptions::default()
    };
    Options {
        rolling,
        sync: args.sync,
        print: args.print,
        max_record: args.max_record as usize,
        max_connections: args.max_connections as usize,
        idle: args.idle,
        ..Options::new(args.listen, args.file)
    }
}
