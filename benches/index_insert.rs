//! What an insert costs with 10^3 to 10^6 objects in the store, in wall time.
//!
//! `cargo bench --bench index_insert`, with `OBJECTS=100000` for fewer at most. The original wrote its whole list anew at
//! each insert.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cloudstore::storage::{Class, Durability, Name, Options, PutOptions, Store};
use reactor::EventBase;

/// Inserts that are timed together; the store commits them as it likes.
const ROUND: u64 = 500;
/// Rounds at each size, of which the median counts.
const ROUNDS: usize = 9;

fn main() {
    let most: u64 = std::env::var("OBJECTS").ok().and_then(|most| most.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let base = EventBase::new().unwrap();
    let options = Options { durability: Durability::Relaxed, ..Options::new(folder.path()) };
    let store = Store::open(&base, options.clone()).unwrap();
    let mut count = 0;
    let mut medians = Vec::new();
    println!("{:>9} {:>12} {:>12}", "objects", "µs an insert", "index MiB");
    for size in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= most) {
        while count < size {
            insert(&base, &store, &mut count);
        }
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| insert(&base, &store, &mut count)).collect();
        times.sort_unstable();
        let each = times[ROUNDS / 2].as_secs_f64() * 1e6 / ROUND as f64;
        let index = std::fs::metadata(folder.path().join("storage.data")).unwrap().len();
        println!("{size:>9} {each:>12.1} {:>12.1}", index as f64 / (1 << 20) as f64);
        medians.push(each);
    }
    assert_eq!(store.count().unwrap(), count);
    let (least, greatest) = medians.iter().fold((f64::MAX, 0f64), |(a, b), &each| (a.min(each), b.max(each)));
    println!("greatest over least: {:.2}", greatest / least);
    drop(store);
    let start = Instant::now();
    let store = Store::open(&base, options.clone()).unwrap();
    println!("opening a store of {count}: {:.2} s", start.elapsed().as_secs_f64());
    drop(store);
    std::fs::remove_file(folder.path().join("storage.data")).unwrap();
    let start = Instant::now();
    let store = Store::open(&base, options).unwrap();
    assert_eq!(store.count().unwrap(), count);
    println!("making its index anew: {:.2} s", start.elapsed().as_secs_f64());
}

fn insert(base: &EventBase, store: &Store, count: &mut u64) -> Duration {
    let done = Rc::new(Cell::new(0));
    let start = Instant::now();
    for _ in 0..ROUND {
        // Spread over the table, as names are.
        let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = Name::parse(&format!("{:x}/{spread:016x}", spread >> 60)).unwrap();
        *count += 1;
        let upload = store.begin_put(&name, Class::Low, PutOptions::default(), || ()).unwrap();
        let mine = Rc::clone(&done);
        upload.finish(move |result| {
            result.unwrap();
            mine.set(mine.get() + 1);
        });
    }
    base.dispatch().unwrap();
    let took = start.elapsed();
    assert_eq!(done.get(), ROUND);
    took
}
