//! The promises that answer the original's faults, under their names.
#![allow(clippy::unwrap_used)]

mod util;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use logger::sink::Memory;
use logger::{Layout, Level, Logger, Mode, Overflow, info, log};
use util::{Gated, calls, messages, sleeps, status, thread_number};

const MODES: [Mode; 2] = [Mode::PerThread, Mode::Shared];

/// Fault 1. No sink is called on a producer's thread, and while the worker is held nothing gets past it.
#[test]
fn worker_every_record_passes_the_swap() {
    for mode in MODES {
        let gated = Gated::shut();
        let threads = Arc::new(Mutex::new(Vec::new()));
        let seen = threads.clone();
        let logger = Logger::builder("passes the swap")
            .mode(mode)
            .sink(calls(move |_| seen.lock().unwrap().push(thread::current().id())))
            .sink(gated.clone())
            .build()
            .unwrap();
        info!(logger: logger, "0");
        gated.wait_until_held();
        for nth in 1..100 {
            info!(logger: logger, "{nth}");
        }
        assert_eq!(gated.memory.text(), "");
        gated.open();
        logger.flush();
        let expected: Vec<_> = (0..100).map(|nth: u32| nth.to_string()).collect();
        assert_eq!(messages(&gated.memory.text()), expected);
        let threads = threads.lock().unwrap();
        assert!(threads.iter().all(|&thread| thread == threads[0] && thread != thread::current().id()));
    }
}

/// Fault 2. After a second of quiet the worker makes no system call for five: it never gives up its processor, since it
/// never gets one.
#[test]
fn idle_uses_no_cpu() {
    let (sender, numbers) = mpsc::channel();
    let logger =
        Logger::builder("idle").sink(calls(move |_| sender.send(thread_number()).unwrap())).build().unwrap();
    info!(logger: logger, "the last record for a while");
    let number = numbers.recv().unwrap();
    let reading = || {
        let path = format!("/proc/self/task/{number}/status");
        let times = std::fs::read_to_string(format!("/proc/self/task/{number}/schedstat")).unwrap();
        (status(&path, "voluntary_ctxt_switches"), status(&path, "nonvoluntary_ctxt_switches"), times)
    };
    thread::sleep(Duration::from_secs(1));
    let before = reading();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(reading(), before);
    info!(logger: logger, "awake again");
    logger.flush();
    assert!(numbers.try_recv().is_ok());
}

/// Fault 3.
#[test]
fn gate_keeps_the_minimum_level() {
    for least in Level::ALL {
        let memory = Memory::new();
        let logger = Logger::builder("gate").level(least).sink(memory.clone()).build().unwrap();
        for level in Level::ALL {
            assert_eq!(logger.admits(level, "any"), level >= least);
            log!(logger: logger, level, "{level}");
        }
        logger.flush();
        let expected: Vec<_> =
            Level::ALL.into_iter().filter(|&level| level >= least).map(Level::as_str).collect();
        assert_eq!(messages(&memory.text()), expected);
    }
}

/// Fault 12. With the worker held, a producer fills two halves and waits; afterwards everything is there.
#[test]
fn full_buffer_blocks_and_loses_nothing() {
    const RECORDS: usize = 1000;
    for mode in MODES {
        let gated = Gated::shut();
        let logger =
            Logger::builder("full buffer").half(4096).mode(mode).sink(gated.clone()).build().unwrap();
        let logged = Arc::new(AtomicUsize::new(0));
        let (sender, number) = mpsc::channel();
        let producer = thread::spawn({
            let (logger, logged) = (logger.clone(), logged.clone());
            move || {
                sender.send(thread_number()).unwrap();
                for nth in 0..RECORDS {
                    info!(logger: logger, "{nth}");
                    logged.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        gated.wait_until_held();
        let number = number.recv().unwrap();
        // The halves are full when the producer sleeps: nothing else holds it up.
        while !sleeps(&number) && !producer.is_finished() {
            thread::yield_now();
        }
        let before = logged.load(Ordering::Relaxed);
        assert!(before < RECORDS && !producer.is_finished(), "{before} records fit into two halves");
        gated.open();
        producer.join().unwrap();
        logger.shutdown();
        let expected: Vec<_> = (0..RECORDS).map(|nth| nth.to_string()).collect();
        assert_eq!(messages(&gated.memory.text()), expected);
        assert_eq!(logger.rejected(), 0);
    }
}

/// Fault 13. At every length around the sizes of words, halves and pairs, and far beyond, under every policy.
#[test]
fn record_longer_than_the_buffer_is_written_whole() {
    let grow = Overflow::Grow { limit: 1 << 20 };
    for (mode, overflow) in MODES
        .iter()
        .flat_map(|&mode| [Overflow::Block, grow, Overflow::DropNewest].map(|overflow| (mode, overflow)))
    {
        let memory = Memory::new();
        let logger = Logger::builder("long record")
            .half(256)
            .mode(mode)
            .overflow(overflow)
            .layout(Layout::Text)
            .sink(memory.clone())
            .build()
            .unwrap();
        let lengths = (0..600).chain([4095, 4096, 70_000, 300_000]);
        for length in lengths {
            let long = "x".repeat(length);
            info!(logger: logger, "before");
            info!(logger: logger, "<{long}>");
            if overflow != Overflow::DropNewest {
                info!(logger: logger, "after");
            }
            logger.flush();
            let text = String::from_utf8(memory.take()).unwrap();
            let mut expected = vec!["before".to_owned(), format!("<{long}>")];
            if overflow != Overflow::DropNewest {
                expected.push("after".to_owned());
            }
            assert_eq!(messages(&text), expected, "{mode:?} {overflow:?}");
        }
    }
}
