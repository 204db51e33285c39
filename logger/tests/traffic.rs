//! Many producers: order, counts, policies, flush and shutdown.
#![allow(clippy::unwrap_used)]

mod util;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;

use logger::sink::Memory;
use logger::{Filter, Level, Logger, Mode, Overflow, error, info, warn};
use proptest::prelude::*;
use util::{Gated, messages, without_drops};

const MODES: [Mode; 2] = [Mode::PerThread, Mode::Shared];

#[test]
fn order_within_a_thread_is_exact() {
    const THREADS: usize = 4;
    const RECORDS: usize = 5000;
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("order").half(1024).mode(mode).sink(memory.clone()).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let logger = &logger;
                scope.spawn(move || {
                    for record in 0..RECORDS {
                        info!(logger: logger, "{thread} {record}");
                    }
                });
            }
        });
        logger.flush();
        let mut next = [0; THREADS];
        for message in messages(&memory.text()) {
            let (thread, record) = message.split_once(' ').unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(record.parse(), Ok(*next));
            *next += 1;
        }
        assert_eq!(next, [RECORDS; THREADS]);
    }
}

/// While the worker is held, two threads take turns; the next round has both threads' records, in the order of time.
#[test]
fn records_of_several_threads_are_merged_by_time() {
    let gated = Gated::shut();
    let logger = Logger::builder("merge").sink(gated.clone()).build().unwrap();
    info!(logger: logger, "first");
    gated.wait_until_held();
    let (to_other, turns) = mpsc::channel::<u32>();
    let (to_main, answers) = mpsc::channel();
    let other = thread::spawn({
        let logger = logger.clone();
        move || {
            for turn in turns {
                info!(logger: logger, "{}", 2 * turn + 1);
                to_main.send(()).unwrap();
            }
        }
    });
    for turn in 0..100 {
        info!(logger: logger, "{}", 2 * turn);
        to_other.send(turn).unwrap();
        answers.recv().unwrap();
    }
    drop(to_other);
    other.join().unwrap();
    gated.open();
    logger.flush();
    let expected: Vec<_> = (0..200).map(|nth: u32| nth.to_string()).collect();
    assert_eq!(messages(&gated.memory.text())[1..], expected);
}

#[test]
fn grow_keeps_to_its_limit_and_counts_the_rest() {
    const RECORDS: usize = 1000;
    const LIMIT: usize = 10_000;
    for mode in MODES {
        let gated = Gated::shut();
        let logger = Logger::builder("grow")
            .half(256)
            .mode(mode)
            .overflow(Overflow::Grow { limit: LIMIT })
            .sink(gated.clone())
            .build()
            .unwrap();
        info!(logger: logger, "0");
        gated.wait_until_held();
        for nth in 1..RECORDS {
            info!(logger: logger, "{nth}");
        }
        gated.open();
        logger.flush();
        let text = gated.memory.text();
        let (dropped, kept) = without_drops(&text);
        assert_eq!(kept.len() + dropped, RECORDS);
        // What is dropped is the newest; what is kept takes the limit, give or take a record and the halves.
        assert!(kept.iter().enumerate().all(|(nth, message)| *message == nth.to_string()));
        // Three words before the message, and one for it. An eighth is for errors.
        let most = (LIMIT - LIMIT / 8) / (3 * 8 + 8);
        assert!((most..most + 50).contains(&kept.len()), "{}", kept.len());
        // There is room again.
        info!(logger: logger, "again");
        logger.flush();
        assert!(gated.memory.text().ends_with(" again\n"));
    }
}

#[test]
fn a_full_grow_has_room_for_errors() {
    const ERRORS: usize = 30;
    const LIMIT: usize = 10_000;
    for mode in MODES {
        let gated = Gated::shut();
        let logger = Logger::builder("room for errors")
            .half(256)
            .mode(mode)
            .overflow(Overflow::Grow { limit: LIMIT })
            .sink(gated.clone())
            .build()
            .unwrap();
        info!(logger: logger, "0");
        gated.wait_until_held();
        // Each takes a word behind the three before it, so 39 errors fit into the eighth that is left.
        for _ in 0..1000 {
            info!(logger: logger, "info");
            warn!(logger: logger, "warn");
        }
        for nth in 0..ERRORS {
            info!(logger: logger, "info");
            error!(logger: logger, "error {nth}");
        }
        for _ in 0..1000 {
            error!(logger: logger, "more");
        }
        gated.open();
        logger.flush();
        let text = gated.memory.text();
        let (dropped, kept) = without_drops(&text);
        assert_eq!(kept.len() + dropped, 1 + 2000 + 2 * ERRORS + 1000);
        let errors: Vec<_> = kept.iter().filter(|message| message.starts_with("error ")).collect();
        let expected: Vec<_> = (0..ERRORS).map(|nth| format!("error {nth}")).collect();
        assert_eq!(errors, expected.iter().collect::<Vec<_>>());
        let more = kept.iter().filter(|message| **message == "more").count();
        assert!(more < 20, "the limit holds for errors too: {more}");
    }
}

#[test]
fn drops_become_a_record_that_sums_exactly() {
    const THREADS: usize = 4;
    const RECORDS: usize = 3000;
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("drop")
            .half(256)
            .mode(mode)
            .overflow(Overflow::DropNewest)
            .sink(memory.clone())
            .build()
            .unwrap();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let logger = &logger;
                scope.spawn(move || {
                    for record in 0..RECORDS {
                        info!(logger: logger, "{thread} {record}");
                    }
                });
            }
        });
        logger.flush();
        let text = memory.text();
        let (dropped, kept) = without_drops(&text);
        assert_eq!(kept.len() + dropped, THREADS * RECORDS);
    }
}

#[test]
fn flush_waits_for_the_sinks() {
    for mode in MODES {
        let memory = Memory::new();
        let logger = Logger::builder("flush").mode(mode).sink(memory.clone()).build().unwrap();
        for count in 1..500 {
            info!(logger: logger, "{count}");
            logger.flush();
            assert_eq!(memory.text().lines().count(), count);
        }
    }
}

/// Producers that never pause do not hold up the end; each record is written or rejected.
#[test]
fn shutdown_is_for_all_and_ends_under_load() {
    for mode in MODES {
        for overflow in [Overflow::Block, Overflow::Grow { limit: 4096 }, Overflow::DropNewest] {
            let memory = Memory::new();
            let logger = Logger::builder("shutdown")
                .half(512)
                .mode(mode)
                .overflow(overflow)
                .sink(memory.clone())
                .build()
                .unwrap();
            let (logged, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
            let start = Barrier::new(5);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        while !is_over.load(Ordering::Acquire) {
                            logged.fetch_add(1, Ordering::Relaxed);
                            info!(logger: logger, "again");
                        }
                    });
                }
                start.wait();
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            logger.shutdown();
                            // Whoever comes back finds it finished.
                            let written = memory.text().len();
                            logger.flush();
                            assert_eq!(memory.text().len(), written);
                        });
                    }
                });
                is_over.store(true, Ordering::Release);
            });
            logger.shutdown();
            let text = memory.text();
            let (dropped, kept) = without_drops(&text);
            let total = kept.len() + dropped + logger.rejected() as usize;
            assert_eq!(total as u64, logged.into_inner(), "{mode:?} {overflow:?}");
        }
    }
}

#[test]
fn what_comes_after_shutdown_is_rejected() {
    let memory = Memory::new();
    let logger = Logger::builder("after").sink(memory.clone()).build().unwrap();
    info!(logger: logger, "before");
    logger.shutdown();
    info!(logger: logger, "after");
    thread::scope(|scope| {
        scope.spawn(|| info!(logger: logger, "after, in a new thread"));
    });
    logger.reopen();
    assert_eq!(messages(&memory.text()), ["before"]);
    assert_eq!(logger.rejected(), 2);
    Logger::builder("after").build().unwrap();
}

#[test]
fn levels_of_targets_change_at_run_time() {
    let memory = Memory::new();
    let logger = Logger::builder("targets").level(Level::Warn).sink(memory.clone()).build().unwrap();
    info!(logger: logger, target: "storage::index", "1");
    logger.set_filter("warn,storage=debug,reactor=off".parse::<Filter>().unwrap());
    info!(logger: logger, target: "storage::index", "2");
    info!(logger: logger, target: "storages", "3");
    warn!(logger: logger, target: "reactor", "4");
    logger.set_filter(logger.filter().with("reactor", Some(Level::Warn)));
    warn!(logger: logger, target: "reactor", "5");
    logger.flush();
    assert_eq!(messages(&memory.text()), ["2", "5"]);
}

#[test]
fn loggers_are_found_by_name() {
    let logger = Logger::builder("found").build().unwrap();
    assert_eq!(logger::get("found").unwrap().name(), "found");
    let refused = Logger::builder("found").build().unwrap_err().to_string();
    assert!(refused.contains("\"found\"") && refused.contains("another name"), "{refused}");
    drop(logger);
    assert!(logger::get("found").is_none());
    Logger::builder("found").build().unwrap();
}

/// What a thread does in the random test.
#[derive(Clone, Debug)]
enum Step {
    Log(usize),
    Flush,
    /// The rest is done by a new thread.
    Hand,
    Level(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..700).prop_map(Step::Log),
        1 => Just(Step::Flush),
        1 => Just(Step::Hand),
        1 => any::<bool>().prop_map(Step::Level),
    ];
    prop::collection::vec(step, 0..60)
}

/// Does the steps; how many records it logged.
fn act(logger: &Logger, thread: &str, mut steps: std::slice::Iter<'_, Step>, mut logged: u64) -> u64 {
    while let Some(step) = steps.next() {
        match step {
            Step::Log(length) => {
                warn!(logger: logger, "{thread} {logged} {}", "y".repeat(*length));
                logged += 1;
            }
            Step::Flush => logger.flush(),
            Step::Level(is_low) => {
                logger.set_filter(Filter::new(if *is_low { Level::Trace } else { Level::Warn }));
            }
            Step::Hand => {
                // Another thread, so another order.
                let next = format!("{thread}'");
                return thread::scope(|scope| {
                    scope.spawn(|| act(logger, &next, steps, logged)).join().unwrap()
                });
            }
        }
    }
    logged
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_traffic_is_accounted_for(
        all in prop::collection::vec(steps(), 1..5),
        is_shared in any::<bool>(),
        overflow in prop_oneof![
            Just(Overflow::Block),
            (0usize..8000).prop_map(|limit| Overflow::Grow { limit }),
            Just(Overflow::DropNewest),
        ],
    ) {
        let memory = Memory::new();
        let logger = Logger::builder("random")
            .half(512)
            .mode(if is_shared { Mode::Shared } else { Mode::PerThread })
            .overflow(overflow)
            .sink(memory.clone())
            .build()
            .unwrap();
        let logged: u64 = thread::scope(|scope| {
            let logger = &logger;
            let start = |(thread, steps): (usize, &'_ Vec<Step>)| {
                let steps = steps.clone();
                scope.spawn(move || act(logger, &thread.to_string(), steps.iter(), 0))
            };
            let threads: Vec<_> = all.iter().enumerate().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        drop(logger);
        let text = memory.text();
        let (dropped, kept) = without_drops(&text);
        prop_assert_eq!(kept.len() + dropped, logged as usize);
        prop_assert!(dropped == 0 || overflow != Overflow::Block);
        let mut last = HashMap::new();
        for message in kept {
            let mut words = message.split(' ');
            let (thread, record) = (words.next().unwrap(), words.next().unwrap().parse::<i64>().unwrap());
            let before = last.insert(thread, record).unwrap_or(-1);
            prop_assert!(before < record);
        }
    }
}

/// A logger is shared by handles; its clones are the same logger.
#[test]
fn the_last_handle_ends_the_worker_wherever_it_goes() {
    let memory = Memory::new();
    let logger = Logger::builder("last handle").sink(memory.clone()).build().unwrap();
    let shared = Arc::new(logger.clone());
    info!(logger: logger, "1");
    drop(logger);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let logger = shared.clone();
            thread::spawn(move || info!(logger: logger, "2"))
        })
        .collect();
    drop(shared);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(messages(&memory.text()), ["1", "2", "2", "2", "2"]);
    assert!(logger::get("last handle").is_none());
}
