//! Logging from places that nobody thinks of: sinks, `Display` impls, destructors of thread-locals.
#![allow(clippy::unwrap_used)]

mod util;

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use logger::sink::{Lines, Memory, Sink};
use logger::{Filter, Level, Logger, Mode, Overflow, fatal, info};
use util::{Calls, Gated, calls, messages};

const MODES: [Mode; 2] = [Mode::PerThread, Mode::Shared];

/// Where a test puts a handle for its sink.
type Slot = Arc<Mutex<Option<Logger>>>;

fn with_slot<F: FnMut(&Slot, &Lines<'_>) + Send>(mut act: F) -> (Slot, Calls<impl FnMut(&Lines<'_>) + Send>) {
    let slot = Slot::default();
    let inside = slot.clone();
    (slot, calls(move |lines| act(&inside, lines)))
}

/// The worker does not wait for itself, though its own buffer is full and it asks for a flush.
#[test]
fn a_sink_may_log_and_flush() {
    for mode in MODES {
        for overflow in [Overflow::Block, Overflow::Grow { limit: 1 << 20 }, Overflow::DropNewest] {
            let memory = Memory::new();
            let mut is_first = true;
            let (slot, sink) = with_slot(move |slot, _| {
                if std::mem::take(&mut is_first) {
                    let logger = slot.lock().unwrap().clone().unwrap();
                    for nth in 0..20 {
                        info!(logger: logger, "from the sink {nth}");
                    }
                    fatal!(logger: logger, "flushes");
                    logger.flush();
                    logger.reopen();
                }
            });
            let logger = Logger::builder("sink logs")
                .half(256)
                .mode(mode)
                .overflow(overflow)
                .sink(sink)
                .sink(memory.clone())
                .build()
                .unwrap();
            *slot.lock().unwrap() = Some(logger.clone());
            info!(logger: logger, "starts it");
            logger.flush();
            logger.flush();
            *slot.lock().unwrap() = None;
            let text = memory.text();
            let (dropped, kept) = util::without_drops(&text);
            assert_eq!(kept.len() + dropped, 22, "{mode:?} {overflow:?}");
            assert!(dropped == 0 || overflow == Overflow::DropNewest);
        }
    }
}

/// In `Mode::Shared` a producer holds the lock while it waits for the worker, which wants to log.
#[test]
fn a_sink_may_log_while_a_producer_waits_for_it() {
    let memory = Memory::new();
    let (slot, sink) = with_slot(|slot, lines| {
        let is_from_producer = |line: &[u8]| !line.ends_with(b"from the sink\n");
        if lines.iter().any(|(_, line)| is_from_producer(line)) {
            let logger = slot.lock().unwrap().clone().unwrap();
            info!(logger: logger, "from the sink");
        }
    });
    let logger = Logger::builder("sink logs shared")
        .half(256)
        .mode(Mode::Shared)
        .sink(sink)
        .sink(memory.clone())
        .build()
        .unwrap();
    *slot.lock().unwrap() = Some(logger.clone());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..500).for_each(|_| info!(logger: logger, "from a producer")));
        }
    });
    logger.shutdown();
    *slot.lock().unwrap() = None;
    let text = memory.text();
    assert_eq!(messages(&text).into_iter().filter(|&message| message == "from a producer").count(), 1500);
}

#[test]
fn the_last_handle_may_go_in_a_sink() {
    let (sender, told) = mpsc::channel();
    let (slot, sink) = with_slot(move |slot, _| {
        drop(slot.lock().unwrap().take());
        sender.send(()).unwrap();
    });
    let memory = Memory::new();
    let logger = Logger::builder("dropped in a sink").sink(sink).sink(memory.clone()).build().unwrap();
    let handle = logger.clone();
    let mut held = slot.lock().unwrap();
    info!(logger: logger, "1");
    info!(logger: logger, "2");
    // The sink waits for the slot until this handle is gone, so it drops the last one.
    drop(logger);
    *held = Some(handle);
    drop(held);
    told.recv().unwrap();
    // The sinks go when the worker has ended; then the channel is closed.
    while told.recv().is_ok() {}
    assert_eq!(messages(&memory.text()), ["1", "2"]);
}

#[test]
fn a_sink_may_shut_its_logger_down() {
    let (slot, sink) = with_slot(|slot, _| slot.lock().unwrap().clone().unwrap().shutdown());
    let memory = Memory::new();
    let logger = Logger::builder("shut down in a sink").sink(sink).sink(memory.clone()).build().unwrap();
    *slot.lock().unwrap() = Some(logger.clone());
    info!(logger: logger, "1");
    logger.flush();
    assert_eq!(messages(&memory.text()), ["1"]);
    logger.shutdown();
    *slot.lock().unwrap() = None;
}

struct Logs<'a>(&'a Logger, u32);

impl fmt::Display for Logs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 > 0 {
            info!(logger: self.0, "inner {}", Logs(self.0, self.1 - 1));
        }
        self.0.flush();
        write!(f, "level {}", self.1)
    }
}

#[test]
fn a_display_may_log() {
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("display logs").mode(mode).sink(memory.clone()).build().unwrap();
        info!(logger: logger, "outer {}", Logs(&logger, 2));
        info!(logger: logger, "then");
        logger.flush();
        assert_eq!(messages(&memory.text()), ["inner level 0", "inner level 1", "outer level 2", "then"]);
    }
}

#[test]
fn a_display_may_drop_the_last_handle_of_another_logger() {
    struct Drops(RefCell<Option<Logger>>);
    impl fmt::Display for Drops {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            drop(self.0.take());
            f.write_str("gone")
        }
    }
    let memories = [Memory::new(), Memory::new()];
    let [outer, inner] = ["outer", "inner"].map(|name| format!("drops {name}"));
    let outer = Logger::builder(&outer).sink(memories[0].clone()).build().unwrap();
    let inner = Logger::builder(&inner).sink(memories[1].clone()).build().unwrap();
    info!(logger: inner, "1");
    info!(logger: outer, "{}", Drops(RefCell::new(Some(inner))));
    assert_eq!(messages(&memories[1].text()), ["1"]);
    outer.flush();
    assert_eq!(messages(&memories[0].text()), ["gone"]);
}

#[test]
fn a_display_that_panics_poisons_nothing() {
    struct Panics;
    impl fmt::Display for Panics {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("on purpose")
        }
    }
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("display panics").mode(mode).sink(memory.clone()).build().unwrap();
        for nth in 0..3 {
            let outcome = catch_unwind(AssertUnwindSafe(|| info!(logger: logger, "text {Panics}")));
            assert!(outcome.is_err());
            info!(logger: logger, "{nth}");
        }
        info!(logger: logger, "{Fails}");
        logger.flush();
        assert_eq!(messages(&memory.text()), ["0", "1", "2", "half"]);
    }
}

/// A thread-local that logs when it goes, made before and after the thread's first record: destructors run in the
/// opposite order.
#[test]
fn destructors_of_thread_locals_may_log() {
    struct Last(&'static str, Option<Logger>);
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(logger) = &self.1 {
                for nth in 0..10 {
                    info!(logger: logger, "{} {nth}", self.0);
                }
                fatal!(logger: logger, "{} fatal", self.0);
            }
        }
    }
    thread_local! {
        static EARLY: RefCell<Last> = const { RefCell::new(Last("early", None)) };
        static LATE: RefCell<Last> = const { RefCell::new(Last("late", None)) };
    }
    for mode in MODES {
        let memory = Memory::new();
        let logger =
            Logger::builder("thread-locals").half(256).mode(mode).sink(memory.clone()).build().unwrap();
        thread::scope(|scope| {
            let run = || {
                EARLY.with_borrow_mut(|last| last.1 = Some(logger.clone()));
                info!(logger: logger, "first");
                LATE.with_borrow_mut(|last| last.1 = Some(logger.clone()));
            };
            scope.spawn(run).join().unwrap();
        });
        let text = memory.text();
        let found = messages(&text);
        let expected: Vec<_> = ["late", "early"]
            .iter()
            .flat_map(|name| (0..10).map(move |nth| format!("{name} {nth}")).chain([format!("{name} fatal")]))
            .collect();
        assert_eq!(found[0], "first");
        assert_eq!(found[1..], expected);
    }
}

/// A handle in a thread-local is dropped with the thread.
#[test]
fn the_last_handle_may_be_in_a_thread_local() {
    thread_local! {
        static HANDLE: RefCell<Option<Logger>> = const { RefCell::new(None) };
    }
    let memory = Memory::new();
    let logger = Logger::builder("in a thread-local").sink(memory.clone()).build().unwrap();
    let thread = thread::spawn(move || {
        info!(logger: logger, "1");
        HANDLE.set(Some(logger));
    });
    thread.join().unwrap();
    assert_eq!(messages(&memory.text()), ["1"]);
}

/// `FATAL` is at the sinks when the macro returns; so are records before it.
#[test]
fn fatal_is_written_when_it_returns() {
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("fatal").mode(mode).sink(memory.clone()).build().unwrap();
        for nth in 1..50 {
            info!(logger: logger, "before");
            fatal!(logger: logger, "fatal");
            assert_eq!(memory.text().lines().count(), 2 * nth);
        }
    }
}

/// Each sink gets what its own level lets through, and a panicking one does not hold up the others.
#[test]
fn sinks_have_levels_of_their_own_and_fall_alone() {
    struct Panics;
    impl Sink for Panics {
        fn write(&mut self, _: &Lines<'_>) -> std::io::Result<()> {
            panic!("on purpose")
        }
        fn retry(&mut self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let memories = Level::ALL.map(|level| (level, Memory::new()));
    let mut builder = Logger::builder("levels of sinks").filter(Filter::new(Level::Trace)).sink(Panics);
    for (level, memory) in &memories {
        builder = builder.sink_with(memory.clone(), *level, logger::Durability::Buffered);
    }
    let logger = builder.build().unwrap();
    for _ in 0..3 {
        for level in Level::ALL {
            logger::log!(logger: logger, level, "{level}");
        }
    }
    logger.flush();
    for (least, memory) in &memories {
        let levels = Level::ALL.iter().filter(|level| *level >= least).map(|level| level.as_str());
        let expected: Vec<_> = levels.clone().chain(levels.clone()).chain(levels).collect();
        assert_eq!(messages(&memory.text()), expected);
    }
}

/// A user's park token is its own: a record that had to wait takes none away.
#[test]
fn waiting_for_room_keeps_the_callers_park_token() {
    let gated = Gated::shut();
    let logger = Logger::builder("park").half(256).sink(gated.clone()).build().unwrap();
    thread::scope(|scope| {
        let producer = scope.spawn(|| {
            thread::current().unpark();
            for _ in 0..100 {
                info!(logger: logger, "a record");
            }
            // Hangs if the token is gone.
            thread::park();
        });
        gated.wait_until_held();
        gated.open();
        producer.join().unwrap();
    });
}
