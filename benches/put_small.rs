//! What the store itself takes for a small object under `relaxed`: CPU of the process, without any HTTP.
//!
//! `TMPDIR=/dev/shm cargo bench --bench put_small`. Writes of new objects one by one and 64 at a time, then reads of
//! objects that are ready, and of more objects than a loop keeps.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cloudstore::storage::{Class, Durability, Name, Options, PutOptions, Store};
use reactor::{Evbuffer, EventBase};

const SIZE: usize = 1024;
/// Operations of one measurement.
const COUNT: u64 = 20_000;
const ROUNDS: u64 = 5;

fn main() {
    let count = std::env::var("COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(COUNT);
    let folder = tempfile::tempdir().unwrap();
    let base = EventBase::new().unwrap();
    let options = Options { durability: Durability::Relaxed, ..Options::new(folder.path()) };
    let store = Store::open(&base, options).unwrap();
    println!("{:<32} {:>10} {:>10}", "", "CPU us", "wall us");
    let mut next = 0;
    for at_once in [1, 64] {
        let label = format!("put, {at_once} at a time");
        report(&label, count, || {
            put(&base, &store, next, count, at_once);
            next += count;
        });
    }
    report("replace, 64 at a time", count, || put(&base, &store, 0, count, 64));
    assert_eq!(store.count().unwrap(), next);
    let names: Vec<Name> = (0..next).map(name).collect();
    report("read, ready", count, || (0..count).for_each(|n| read(&store, &names[n as usize % 100])));
    report("read, not ready", count, || (0..count).for_each(|n| read(&store, &names[n as usize])));
}

fn name(n: u64) -> Name {
    Name::parse(&format!("u0-1-{n}.bin")).unwrap()
}

/// The least of some rounds: what else the machine does only adds.
fn report(label: &str, count: u64, mut run: impl FnMut()) {
    let mut least = (f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let (cpu, start) = (cpu(), Instant::now());
        run();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        let round = (each(self::cpu() - cpu), each(start.elapsed()));
        least = if round.0 < least.0 { round } else { least };
    }
    println!("{label:<32} {:>10.2} {:>10.2}", least.0, least.1);
}

/// CPU time of all threads.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn put(base: &EventBase, store: &Store, from: u64, count: u64, at_once: u64) {
    let bytes = [b'x'; SIZE];
    let done = Rc::new(Cell::new(0));
    for n in 1..=count {
        let upload = store.begin_put(&name(from + n - 1), Class::Low, PutOptions::default(), || ()).unwrap();
        let _ = upload.write(&bytes).unwrap();
        let mine = Rc::clone(&done);
        upload.finish(move |result| {
            result.unwrap();
            mine.set(mine.get() + 1);
        });
        if n % at_once == 0 {
            base.dispatch().unwrap();
        }
    }
    base.dispatch().unwrap();
    assert_eq!(done.get(), count);
}

fn read(store: &Store, name: &Name) {
    let object = store.open_read(name).unwrap();
    let to = Evbuffer::new();
    object.append_raw(&to, 0..object.raw_len()).unwrap();
    assert_eq!(to.len(), SIZE);
}
