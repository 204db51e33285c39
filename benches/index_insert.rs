//! What an insert costs with 10^3 to 10^6 objects in the store, in wall time.
//!
//! `cargo bench --bench index_insert`, with `OBJECTS=100000` for fewer at most. The original wrote its whole list anew at
//! each insert.
//!
//! It works in `TMPDIR`. A tmpfs shows the store alone; ext4 makes files slowly for half a minute after many were removed.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cloudstore::storage::{Class, Durability, Name, Options, PutOptions, Store};
use reactor::EventBase;

/// Inserts that are timed together.
const ROUND: u64 = 500;
/// Rounds at each size, of which the quickest counts: what else the machine does only adds.
const ROUNDS: usize = 15;

fn main() {
    let most: u64 = std::env::var("OBJECTS").ok().and_then(|most| most.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let base = EventBase::new().unwrap();
    let options = Options { durability: Durability::Relaxed, ..Options::new(folder.path()) };
    let store = Store::open(&base, options.clone()).unwrap();
    let mut count = 0;
    let mut quickest = Vec::new();
    println!("{:>9} {:>14} {:>14} {:>10}", "objects", "µs, one by one", "µs, together", "index MiB");
    for size in [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= most) {
        while count < size {
            insert(&base, &store, &mut count, ROUND);
        }
        let mut least = |at_once| {
            let round = |_| insert(&base, &store, &mut count, at_once);
            (0..ROUNDS).map(round).min().unwrap_or_default().as_secs_f64() * 1e6 / ROUND as f64
        };
        let (alone, together) = (least(1), least(ROUND));
        let index = std::fs::metadata(folder.path().join("storage.data")).unwrap().len();
        println!("{size:>9} {alone:>14.1} {together:>14.1} {:>10.1}", index as f64 / (1 << 20) as f64);
        quickest.push(alone);
    }
    assert_eq!(store.count().unwrap(), count);
    let (least, greatest) =
        quickest.iter().fold((f64::MAX, 0f64), |(a, b), &each| (a.min(each), b.max(each)));
    println!("one by one, greatest over least: {:.2}", greatest / least);
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

/// Inserts [`ROUND`] objects; the next `at_once` begin when those before are answered.
fn insert(base: &EventBase, store: &Store, count: &mut u64, at_once: u64) -> Duration {
    let done = Rc::new(Cell::new(0));
    let start = Instant::now();
    for n in 1..=ROUND {
        // Spread over the table: neighbours would be cheaper.
        let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = Name::parse(&format!("{:x}/{spread:016x}", spread >> 60)).unwrap();
        *count += 1;
        let upload = store.begin_put(&name, Class::Low, PutOptions::default(), || ()).unwrap();
        let mine = Rc::clone(&done);
        upload.finish(move |result| {
            result.unwrap();
            mine.set(mine.get() + 1);
        });
        if n % at_once == 0 {
            base.dispatch().unwrap();
        }
    }
    let took = start.elapsed();
    assert_eq!(done.get(), ROUND);
    took
}
