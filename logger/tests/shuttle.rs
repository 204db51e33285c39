//! The swap protocol under shuttle: eight threads, a hundred thousand schedules in all.
//!
//! `pair.rs` and `exchange.rs` are the crate's own files over shuttle's primitives.
#![allow(clippy::unwrap_used, reason = "clippy sees tests only in functions with the attribute")]

/// What the protocol files import, from shuttle.
mod sync {
    use std::ops::Deref;

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::{Thread, current, park, spawn};

    pub(crate) const SPILL_TAKEN: usize = 1;

    pub(crate) struct CachePadded<T>(T);

    impl<T> CachePadded<T> {
        pub(crate) fn new(value: T) -> CachePadded<T> {
            CachePadded(value)
        }
    }

    impl<T> Deref for CachePadded<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap()
    }
}

#[path = "../src/exchange.rs"]
#[allow(dead_code, unreachable_pub)]
mod exchange;
#[path = "../src/pair.rs"]
#[allow(dead_code, unreachable_pub)]
mod pair;

#[path = "checked/faults.rs"]
#[allow(dead_code)]
mod faults;
#[path = "checked/model.rs"]
mod model;

use shuttle::thread;

use crate::exchange::Exchange;
use crate::faults::Fault;
use crate::model::{Collector, log, put, put_or_drop, put_or_grow};
use crate::pair::{HEAD_WORDS, Pair};
use crate::sync::{Arc, Ordering};

const SCHEDULES: usize = 25_000;
/// Beside the worker and the thread that flushes and stops.
const PRODUCERS: u64 = 6;
const RECORDS: u64 = 2;

type Put = fn(&Exchange, &Pair, u64) -> bool;

/// What differs between the models.
struct Traffic {
    put: Put,
    half_words: usize,
    stops_early: bool,
    /// The worker has room for one batch at a time.
    is_tight: bool,
}

/// Of producers that wait, with halves of one record.
const TRAFFIC: Traffic = Traffic { put, half_words: HEAD_WORDS, stops_early: false, is_tight: false };

/// Logs a few records and ends; the ids of the accepted ones, growing.
fn produce(exchange: &Exchange, life: u64, put: Put) -> Vec<u64> {
    let Some(pair) = exchange.join() else { return Vec::new() };
    let ids = (0..RECORDS).map(|record| life * 100 + record);
    let accepted = ids.filter(|&id| put(exchange, &pair, id)).collect();
    if pair.close() {
        exchange.ring();
    }
    accepted
}

/// Eight threads: producers, the worker, and one that flushes and stops. Accepted is written, once, in order; with
/// drops, written and dropped are accepted.
fn traffic(Traffic { put, half_words, stops_early, is_tight }: Traffic) {
    let (exchange, written) = (Arc::new(Exchange::new(half_words)), log());
    let mut collector = Collector::new(&written);
    collector.is_tight = is_tight;
    let dropped = collector.dropped.clone();
    let worker = {
        let exchange = exchange.clone();
        thread::spawn(move || exchange.work(&mut collector))
    };
    let producer = |nth| {
        let exchange = exchange.clone();
        // Each thread lives twice: pairs pass from one producer to the next.
        thread::spawn(move || [2 * nth, 2 * nth + 1].map(|life| produce(&exchange, life, put)))
    };
    let producers: Vec<_> = (0..PRODUCERS).map(producer).collect();
    exchange.flush();
    if stops_early {
        exchange.stop();
    }
    let accepted: Vec<_> = producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect();
    exchange.flush();
    let dropped_by_flush = dropped.load(Ordering::Relaxed);
    exchange.stop();
    worker.join().unwrap();
    exchange.flush();
    let written = written.lock().unwrap().clone();
    let of_life = |life| written.iter().copied().filter(move |id| id / 100 == life).collect::<Vec<_>>();
    let dropped = dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, dropped_by_flush, "a flush reports what was dropped before");
    let total: usize = accepted.iter().map(Vec::len).sum();
    assert_eq!(written.len() + dropped as usize, total);
    for (life, accepted) in (0..).zip(&accepted) {
        let written = of_life(life);
        assert!(written.is_sorted() && written.iter().all(|id| accepted.contains(id)), "{written:?}");
        assert!(dropped > 0 || written == *accepted, "{written:?} of {accepted:?}");
    }
    if !stops_early {
        assert_eq!(total as u64, 2 * PRODUCERS * RECORDS);
    }
}

#[test]
fn shuttle_block() {
    shuttle::check_random(|| traffic(TRAFFIC), SCHEDULES);
}

#[test]
fn shuttle_block_with_an_early_stop() {
    shuttle::check_random(
        || traffic(Traffic { half_words: 2 * HEAD_WORDS, stops_early: true, ..TRAFFIC }),
        SCHEDULES,
    );
}

#[test]
fn shuttle_grow() {
    shuttle::check_random(|| traffic(Traffic { put: put_or_grow, stops_early: true, ..TRAFFIC }), SCHEDULES);
}

#[test]
fn shuttle_drop() {
    shuttle::check_random(|| traffic(Traffic { put: put_or_drop, stops_early: true, ..TRAFFIC }), SCHEDULES);
}

#[test]
fn shuttle_little_room() {
    for put in [put, put_or_grow, put_or_drop] {
        let model = move || traffic(Traffic { put, stops_early: true, is_tight: true, ..TRAFFIC });
        shuttle::check_random(model, SCHEDULES / 3);
    }
}

#[test]
fn shuttle_block_with_few_preemptions() {
    shuttle::check_pct(|| traffic(Traffic { stops_early: true, ..TRAFFIC }), SCHEDULES / 10, 3);
}

#[test]
fn shuttle_finds_no_fault_in_the_sound_model() {
    shuttle::check_random(|| faults::run(None), 1000);
}

#[test]
#[should_panic(expected = "spins with nothing to do")]
fn shuttle_catches_both_flags_true() {
    shuttle::check_pct(|| faults::run(Some(Fault::BothFlagsTrue)), 1000, 3);
}

#[test]
#[should_panic(expected = "a record was lost")]
fn shuttle_catches_a_second_swap() {
    shuttle::check_random(|| faults::run(Some(Fault::SwapsTwice)), 1000);
}

#[test]
#[should_panic(expected = "deadlock")]
fn shuttle_catches_a_lost_exit_notice() {
    shuttle::check_random(|| faults::run(Some(Fault::ExitNoticeLost)), 1000);
}

#[test]
#[should_panic(expected = "a record was lost")]
fn shuttle_catches_a_full_buffer_that_throws_away() {
    shuttle::check_random(|| faults::run(Some(Fault::FullThrowsAway)), 1000);
}

#[test]
#[should_panic(expected = "deadlock")]
fn shuttle_catches_waiting_the_wrong_way() {
    shuttle::check_random(|| faults::run(Some(Fault::WaitsTheWrongWay)), 1000);
}
