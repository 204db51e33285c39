//! Records through the logger's buffers: producer, swap, consumer; then the swap alone, and what a call costs.
//!
//! `cargo bench --bench buffer_swap`. Sinks only count here; `benches/peers/run` has files and other loggers.
#![allow(missing_docs, clippy::expect_used, reason = "a failure is a panic here")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use logger::sink::{Lines, Sink};
use logger::{Level, Logger, Mode, debug, info};

// The protocol itself, over the primitives that the logger uses.
#[allow(dead_code)]
#[path = "../logger/src/pair.rs"]
mod pair;
#[allow(dead_code, unused_imports)]
#[path = "../logger/src/sync.rs"]
mod sync;

use pair::{Append, Batch, Pair, Record};

const MODES: [Mode; 2] = [Mode::PerThread, Mode::Shared];
const PRODUCERS: [u64; 3] = [1, 2, 4];
const RECORD_BYTES: [usize; 3] = [64, 256, 1024];
const HALF_KIB: [usize; 3] = [4, 64, 256];
/// Records of one iteration, of all producers together.
const BATCH: u64 = 4000;

/// Counts what reaches it.
#[derive(Clone, Default)]
struct Count {
    lines: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Sink for Count {
    fn write(&mut self, lines: &Lines<'_>) -> std::io::Result<()> {
        self.lines.fetch_add(lines.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(lines.bytes().len() as u64, Ordering::Relaxed);
        Ok(())
    }
    fn retry(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn start(mode: Mode, half: usize) -> (Logger, Count) {
    let count = Count::default();
    let logger = Logger::builder("bench").mode(mode).half(half).sink(count.clone()).build();
    (logger.expect("a logger"), count)
}

/// From the first call until the last record is at the sink.
fn pass(logger: &Logger, producers: u64, records: u64, text: &str) -> Duration {
    let barrier = Barrier::new(producers as usize + 1);
    let begun = thread::scope(|scope| {
        for _ in 0..producers {
            scope.spawn(|| {
                barrier.wait();
                (0..records / producers).for_each(|_| info!(logger: logger, "{}", text));
            });
        }
        barrier.wait();
        Instant::now()
    });
    logger.flush();
    begun.elapsed()
}

fn producer_swap_consumer(criterion: &mut Criterion) {
    for mode in MODES {
        let mut group = criterion.benchmark_group(format!("{mode:?}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(100));
        group.measurement_time(Duration::from_millis(400));
        for producers in PRODUCERS {
            for size in RECORD_BYTES {
                for half in HALF_KIB {
                    let text = "x".repeat(size);
                    let (logger, count) = start(mode, half * 1024);
                    pass(&logger, producers, BATCH, &text);
                    assert_eq!(count.lines.load(Ordering::Relaxed), BATCH, "every record comes through");
                    assert!(count.bytes.load(Ordering::Relaxed) > BATCH * size as u64, "and whole");
                    let bytes = BATCH * size as u64;
                    group.throughput(Throughput::ElementsAndBytes { elements: BATCH, bytes });
                    let name = format!("{producers} producer(s), {size} bytes, halves of {half} KiB");
                    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                        bencher.iter_custom(|times| pass(&logger, producers, times * BATCH, &text));
                    });
                }
            }
        }
        group.finish();
    }
}

/// The protocol on one thread: what it costs where no cache line has to travel.
fn swap_alone(criterion: &mut Criterion) {
    let pair = Pair::new(1, HALF_KIB[1] * 1024 / 8);
    let record = Record::new(0, 0, &[b'x'; 64]);
    let drain = || {
        let mut words = 0;
        pair.drain(|batch| {
            if let Batch::Half(half) = batch {
                words += half.len();
            }
            true
        });
        words
    };
    assert_eq!(pair.append(record), Append::Done);
    assert_eq!(drain() * 8, record.bytes(), "what went in comes out");

    let mut group = criterion.benchmark_group("swap");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(600));
    group.throughput(Throughput::Elements(1));
    group.bench_function("append, swap, consume", |bencher| {
        bencher.iter(|| {
            let outcome = pair.append(black_box(record));
            (outcome, drain())
        });
    });
    group.bench_function("append, and swap once a half", |bencher| {
        bencher.iter(|| {
            if pair.append(black_box(record)) == Append::Full {
                black_box(drain());
            }
        });
    });
    group.finish();
}

/// The worker is awake, and only counts.
fn call(criterion: &mut Criterion) {
    let (logger, count) = start(Mode::PerThread, HALF_KIB[2] * 1024);
    let text = black_box("y".repeat(100));
    info!(logger: logger, "{}", text);
    logger.flush();
    assert_eq!(count.lines.load(Ordering::Relaxed), 1, "every record comes through");
    assert!(!logger.admits(Level::Debug, module_path!()));

    let mut group = criterion.benchmark_group("call");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(600));
    group.throughput(Throughput::Elements(1));
    group.bench_function("a text of 100 bytes", |bencher| {
        bencher.iter(|| info!(logger: logger, "{}", text));
    });
    group.bench_function("two numbers and a text, formatted", |bencher| {
        let (part, size) = black_box((7, 1_048_576));
        bencher.iter(|| info!(logger: logger, "part {} of {} took {} bytes", part, "a.bin", size));
    });
    group.bench_function("two key-values", |bencher| {
        let size = black_box(1_048_576);
        bencher.iter(|| info!(logger: logger, name = "a.bin", size = size; "stored"));
    });
    group.bench_function("below the gate", |bencher| {
        bencher.iter(|| debug!(logger: logger, "{}", text));
    });
    group.finish();
}

criterion_group!(benches, producer_swap_consumer, swap_alone, call);
criterion_main!(benches);
