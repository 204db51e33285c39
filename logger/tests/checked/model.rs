//! What the models of both checkers share: a worker's task that only notes what it is handed, and the producers' ways
//! of putting a record, as `logger.rs` has them.

use std::ops::Deref;

use crate::exchange::{Exchange, Task};
use crate::pair::{Append, Batch, HEAD_WORDS, Pair, Record};
use crate::sync::{Arc, AtomicU64, Condvar, Mutex, Ordering, wait};

/// The ids of records, in the order in which they were written.
#[derive(Clone)]
pub(crate) struct Log(Arc<(Mutex<Vec<u64>>, Condvar)>);

pub(crate) fn log() -> Log {
    Log(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
}

impl Deref for Log {
    type Target = Mutex<Vec<u64>>;

    fn deref(&self) -> &Mutex<Vec<u64>> {
        &self.0.0
    }
}

impl Log {
    /// Returns when what is written, or reported as dropped, is enough.
    #[allow(dead_code)]
    pub(crate) fn wait_until(&self, is_enough: impl Fn(&[u64]) -> bool) {
        let mut written = self.lock().unwrap();
        while !is_enough(&written) {
            written = wait(&self.0.1, written);
        }
    }
}

/// A worker's task that keeps ids and sleeps whenever it may.
pub(crate) struct Collector {
    log: Log,
    taken: Vec<u64>,
    pub(crate) dropped: Arc<AtomicU64>,
    /// How many flushes fail; until the last one it has no room.
    pub(crate) failures: u32,
    /// It has room for one batch at a time.
    pub(crate) is_tight: bool,
}

impl Collector {
    pub(crate) fn new(log: &Log) -> Collector {
        let dropped = Arc::new(AtomicU64::new(0));
        Collector { log: log.clone(), taken: Vec::new(), dropped, failures: 0, is_tight: false }
    }
}

impl Task for Collector {
    fn take(&mut self, _pair: u32, batch: Batch<'_>) {
        read(batch, &mut self.taken);
    }

    fn has_room(&self) -> bool {
        self.failures == 0 && (!self.is_tight || self.taken.is_empty())
    }

    fn write(&mut self, dropped: u64) {
        if dropped > 0 || !self.taken.is_empty() {
            let mut written = self.log.lock().unwrap();
            written.append(&mut self.taken);
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
            self.log.0.1.notify_all();
        }
    }

    fn flush(&mut self, taken: u64) -> u64 {
        if self.rest() { taken } else { 0 }
    }

    fn linger(&mut self) -> bool {
        false
    }

    fn rest(&mut self) -> bool {
        let is_well = self.failures == 0;
        self.failures = self.failures.saturating_sub(1);
        is_well
    }
}

/// The ids, which are the stamps, of a batch's records.
pub(crate) fn read(batch: Batch<'_>, into: &mut Vec<u64>) {
    let words: Vec<u64> = match batch {
        Batch::Half(words) => words.iter().map(|word| word.load(Ordering::Relaxed)).collect(),
        Batch::Spilled(words) => words.to_vec(),
    };
    let mut left = words.as_slice();
    while let [head, id, ..] = left {
        assert!(left.len() >= HEAD_WORDS);
        into.push(*id);
        left = &left[Record::words_of(*head)..];
    }
}

fn ring_if(exchange: &Exchange, outcome: Append) -> bool {
    if outcome == Append::Wake {
        exchange.ring();
    }
    matches!(outcome, Append::Done | Append::Wake)
}

/// As under `Block`; false if it was refused.
pub(crate) fn put(exchange: &Exchange, pair: &Pair, id: u64) -> bool {
    loop {
        match pair.append(Record::new(0, id, b"")) {
            Append::Full => pair.wait_for_room(),
            outcome => return ring_if(exchange, outcome),
        }
    }
}

/// As under `Grow`.
pub(crate) fn put_or_grow(exchange: &Exchange, pair: &Pair, id: u64) -> bool {
    let record = Record::new(0, id, b"");
    match pair.append(record) {
        Append::Full => ring_if(exchange, pair.spill(record.to_words())),
        outcome => ring_if(exchange, outcome),
    }
}

/// As under `DropNewest`; false if it was refused, true if it was published or dropped.
pub(crate) fn put_or_drop(exchange: &Exchange, pair: &Pair, id: u64) -> bool {
    match pair.append(Record::new(0, id, b"")) {
        Append::Full => exchange.drop_one(pair) == Append::Done,
        outcome => ring_if(exchange, outcome),
    }
}
