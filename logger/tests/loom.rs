//! The swap protocol under loom: three threads, every interleaving with at most three preemptions.
//!
//! `pair.rs` and `exchange.rs` are the crate's own files over loom's primitives. The negative models at the end are the
//! original's faults; loom must catch each. It aborts the process on some, so they run in child processes.
#![allow(clippy::unwrap_used, reason = "clippy sees tests only in functions with the attribute")]

/// What the protocol files import, from loom.
mod sync {
    use std::ops::Deref;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    use loom::thread::ThreadId;
    pub(crate) use loom::thread::spawn;

    /// A thread that can be parked. loom's own `unpark` resumes a thread whatever it is blocked on, be it a lock, so the
    /// token is kept under a lock of ours.
    #[derive(Clone)]
    pub(crate) struct Thread {
        id: ThreadId,
        token: Arc<(Mutex<bool>, Condvar)>,
    }

    loom::thread_local! {
        static CURRENT: Thread = Thread {
            id: loom::thread::current().id(),
            token: Arc::new((Mutex::new(false), Condvar::new())),
        };
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(Thread::clone)
    }

    pub(crate) fn park() {
        let token = current().token;
        let mut is_set = lock(&token.0);
        while !*is_set {
            is_set = wait(&token.1, is_set);
        }
        *is_set = false;
    }

    impl Thread {
        pub(crate) fn id(&self) -> ThreadId {
            self.id
        }

        pub(crate) fn unpark(&self) {
            *lock(&self.token.0) = true;
            self.token.1.notify_one();
        }
    }

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
mod faults;
#[path = "checked/model.rs"]
mod model;

use loom::thread;

use crate::exchange::Exchange;
use crate::faults::Fault;
use crate::model::{Collector, Log, log, put, put_or_drop, put_or_grow};
use crate::pair::{Append, HEAD_WORDS, Pair, Record};
use crate::sync::{Arc, Ordering};

fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(3, model);
}

fn explore_up_to(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Halves of one record.
const ONE: usize = HEAD_WORDS;
/// Halves of two.
const TWO: usize = 2 * HEAD_WORDS;

fn worker(exchange: &Arc<Exchange>, log: &Log) -> thread::JoinHandle<()> {
    worker_with(exchange, Collector::new(log))
}

fn worker_with(exchange: &Arc<Exchange>, mut collector: Collector) -> thread::JoinHandle<()> {
    let exchange = exchange.clone();
    thread::spawn(move || exchange.work(&mut collector))
}

fn drain(pair: &Pair, into: &mut Vec<u64>) {
    pair.drain(|batch| {
        model::read(batch, into);
        true
    });
}

/// Fault 4. A half that is overwritten before it is consumed would lose or double a record.
#[test]
fn loom_no_swap_before_consumed() {
    explore(|| {
        let pair = Arc::new(Pair::new(1, ONE));
        let producer = {
            let pair = pair.clone();
            thread::spawn(move || {
                let mut published = Vec::new();
                for id in 0..3 {
                    if matches!(pair.append(Record::new(0, id, b"")), Append::Done | Append::Wake) {
                        published.push(id);
                    }
                }
                published
            })
        };
        let mut collector = Vec::new();
        drain(&pair, &mut collector);
        drain(&pair, &mut collector);
        let published = producer.join().unwrap();
        drain(&pair, &mut collector);
        assert_eq!(collector, published);
        assert!(published.len() >= 2, "both halves take one");
    });
}

/// Fault 5. Every accepted record is written and the worker ends, whenever the stop comes.
#[test]
fn loom_shutdown_always_ends() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        let worker = worker(&exchange, &written);
        let producer = {
            let exchange = exchange.clone();
            thread::spawn(move || (0..2).filter(|&id| put(&exchange, &pair, id)).collect::<Vec<_>>())
        };
        exchange.stop();
        worker.join().unwrap();
        let accepted = producer.join().unwrap();
        assert_eq!(*written.lock().unwrap(), accepted);
        assert!(exchange.join().is_none(), "nobody joins a worker that is gone");
    });
}

/// The stop comes when the worker sleeps, or is about to.
#[test]
fn loom_stop_wakes_a_sleeping_worker() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let worker = worker(&exchange, &written);
        let pair = exchange.join().unwrap();
        assert!(put(&exchange, &pair, 1));
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(*written.lock().unwrap(), [1]);
    });
}

/// A worker that sleeps is woken by a record. Nothing else would wake it: without a stop, a lost wake-up is a deadlock.
#[test]
fn loom_no_wake_up_is_lost() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(TWO)), log());
        let pair = exchange.join().unwrap();
        let worker = worker(&exchange, &written);
        assert!(put(&exchange, &pair, 1));
        written.wait_until(|written| written.len() == 1);
        assert!(put(&exchange, &pair, 2));
        written.wait_until(|written| written.len() == 2);
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(*written.lock().unwrap(), [1, 2]);
    });
}

/// A producer that waits for room always gets it.
#[test]
fn loom_blocked_producer_always_wakes() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        assert!(put(&exchange, &pair, 0));
        assert!(put(&exchange, &pair, 1));
        let worker = worker(&exchange, &written);
        assert!(put(&exchange, &pair, 2));
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(*written.lock().unwrap(), [0, 1, 2]);
    });
}

/// A producer that waits while the worker ends is told so.
#[test]
fn loom_blocked_producer_wakes_when_the_worker_is_gone() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        let producer = {
            let exchange = exchange.clone();
            thread::spawn(move || (0..3).filter(|&id| put(&exchange, &pair, id)).count())
        };
        // As after a panic: nothing is drained any more.
        exchange.leave();
        assert!(producer.join().unwrap() <= 2);
        exchange.flush();
        assert!(written.lock().unwrap().is_empty());
    });
}

/// Records that went past the halves keep their place.
#[test]
fn loom_spill_keeps_the_order() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        for id in 0..3 {
            assert!(put_or_grow(&exchange, &pair, id));
        }
        let worker = worker(&exchange, &written);
        assert!(put_or_grow(&exchange, &pair, 3));
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(*written.lock().unwrap(), [0, 1, 2, 3]);
    });
}

/// A pair that an ended thread left is another's at once, and keeps what is in it.
#[test]
fn loom_pairs_of_ended_threads_are_taken_over() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(TWO)), log());
        let first = exchange.join().unwrap();
        assert!(put(&exchange, &first, 0));
        let worker = worker(&exchange, &written);
        first.close();
        let second = exchange.join().unwrap();
        assert!(put(&exchange, &second, 1));
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(*written.lock().unwrap(), [0, 1]);
    });
}

/// A drop meets the end: it is reported or rejected, never both.
#[test]
fn loom_a_late_drop_is_reported_or_rejected() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        assert!(put_or_drop(&exchange, &pair, 0));
        assert!(put_or_drop(&exchange, &pair, 1));
        exchange.stop();
        let producer = {
            let exchange = exchange.clone();
            thread::spawn(move || put_or_drop(&exchange, &pair, 2))
        };
        let mut collector = Collector::new(&written);
        exchange.work(&mut collector);
        let rejected = u64::from(!producer.join().unwrap());
        let written = written.lock().unwrap().len() as u64;
        assert_eq!(written + collector.dropped.load(Ordering::Relaxed) + rejected, 3);
    });
}

/// Two threads come and go: no pair has two producers, no record is lost.
#[test]
fn loom_no_pair_has_two_producers() {
    explore(|| {
        let exchange = Arc::new(Exchange::new(TWO));
        let producer = |id| {
            let exchange = exchange.clone();
            thread::spawn(move || {
                let pair = exchange.join().unwrap();
                assert!(put(&exchange, &pair, id));
                pair.close();
            })
        };
        let (first, second) = (producer(1), producer(2));
        first.join().unwrap();
        second.join().unwrap();
        let written = log();
        exchange.stop();
        exchange.work(&mut Collector::new(&written));
        let mut written = written.lock().unwrap().clone();
        written.sort_unstable();
        assert_eq!(written, [1, 2]);
    });
}

/// A flush returns, after everything that was published before it.
#[test]
fn loom_flush_returns_after_earlier_records() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        let worker = worker(&exchange, &written);
        let other = {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.flush())
        };
        assert!(put(&exchange, &pair, 1));
        exchange.flush();
        assert_eq!(*written.lock().unwrap(), [1]);
        other.join().unwrap();
        exchange.stop();
        worker.join().unwrap();
    });
}

/// What fails keeps the records with their producer: a flush waits until they are written after all, one that only tries
/// does not wait.
#[test]
fn loom_flush_waits_for_what_fails() {
    explore_up_to(2, || {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        let mut collector = Collector::new(&written);
        collector.failures = 2;
        let worker = worker_with(&exchange, collector);
        let other = {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.try_flush())
        };
        assert!(put(&exchange, &pair, 1));
        exchange.flush();
        assert_eq!(*written.lock().unwrap(), [1]);
        other.join().unwrap();
        exchange.stop();
        worker.join().unwrap();
    });
}

/// With room for one batch at a time everything is taken all the same, in order, before a flush returns.
#[test]
fn loom_little_room_takes_all() {
    explore_up_to(2, || {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        let mut collector = Collector::new(&written);
        collector.is_tight = true;
        let worker = worker_with(&exchange, collector);
        for id in 0..4 {
            assert!(put_or_grow(&exchange, &pair, id));
        }
        exchange.flush();
        assert_eq!(*written.lock().unwrap(), [0, 1, 2, 3]);
        exchange.stop();
        worker.join().unwrap();
    });
}

/// A flush returns though the worker ends.
#[test]
fn loom_flush_returns_when_the_worker_ends() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let worker = worker(&exchange, &written);
        let other = {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.flush())
        };
        exchange.stop();
        other.join().unwrap();
        worker.join().unwrap();
        exchange.flush();
    });
}

/// A thread joins while the worker sleeps, or while it ends.
#[test]
fn loom_join_meets_sleep_and_stop() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let worker = worker(&exchange, &written);
        let producer = {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.join().is_some_and(|pair| put(&exchange, &pair, 1)))
        };
        exchange.stop();
        worker.join().unwrap();
        let accepted = producer.join().unwrap();
        assert_eq!(written.lock().unwrap().len(), usize::from(accepted));
    });
}

/// A dropped record is reported though nothing else comes, be it dropped when the worker is about to sleep.
#[test]
fn loom_drops_are_reported_without_another_record() {
    explore(|| {
        let (exchange, written) = (Arc::new(Exchange::new(ONE)), log());
        let pair = exchange.join().unwrap();
        for id in 0..2 {
            assert!(put_or_drop(&exchange, &pair, id));
        }
        let mut collector = Collector::new(&written);
        let reported = collector.dropped.clone();
        let worker = {
            let exchange = exchange.clone();
            thread::spawn(move || exchange.work(&mut collector))
        };
        assert!(put_or_drop(&exchange, &pair, 2));
        written.wait_until(|written| written.len() as u64 + reported.load(Ordering::Relaxed) == 3);
        exchange.stop();
        worker.join().unwrap();
        assert_eq!(written.lock().unwrap().len() as u64 + reported.load(Ordering::Relaxed), 3);
    });
}

/// Names the fault to a child process.
const FAULT: &str = "LOGGER_LOOM_FAULT";

/// Runs in child processes only.
#[test]
fn a_fault_in_a_child() {
    let fault = std::env::var(FAULT).ok();
    if let Some(fault) = faults::ALL.into_iter().find(|each| fault == Some(each.to_string())) {
        explore(move || faults::run(Some(fault)));
    }
}

fn assert_caught(fault: Fault, reason: &str) {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["a_fault_in_a_child", "--exact", "--nocapture"])
        .env(FAULT, fault.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success(), "fault {fault} was not caught");
    assert!(said.contains(reason), "fault {fault} was caught for another reason: {said}");
}

#[test]
fn loom_finds_no_fault_in_the_sound_model() {
    explore(|| faults::run(None));
}

#[test]
fn loom_catches_both_flags_true() {
    assert_caught(Fault::BothFlagsTrue, faults::SPINS);
}

#[test]
fn loom_catches_a_second_swap() {
    assert_caught(Fault::SwapsTwice, faults::LOST);
}

#[test]
fn loom_catches_a_lost_exit_notice() {
    assert_caught(Fault::ExitNoticeLost, "deadlock");
}

#[test]
fn loom_catches_a_full_buffer_that_throws_away() {
    assert_caught(Fault::FullThrowsAway, faults::LOST);
}

#[test]
fn loom_catches_waiting_the_wrong_way() {
    assert_caught(Fault::WaitsTheWrongWay, "deadlock");
}
