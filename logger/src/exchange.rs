//! Where producers and the worker meet: the pairs, the bell, and the requests to flush and to stop.

use crate::pair::{Batch, Pair};
use crate::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, Ordering, Thread, current, lock, park, wait};

/// What one logger's producers and worker share.
pub(crate) struct Exchange {
    pairs: Mutex<Pairs>,
    worker: Mutex<Option<Thread>>,
    /// Flushes that were asked for.
    wanted: AtomicU64,
    /// Flushes that are done; `u64::MAX` once the worker is gone.
    done: Mutex<u64>,
    is_done: Condvar,
    is_stopping: AtomicBool,
    half_words: usize,
}

struct Pairs {
    used: Vec<Arc<Pair>>,
    /// Of threads that are gone.
    spare: Vec<Arc<Pair>>,
    /// The worker is gone.
    is_closed: bool,
}

/// Pairs of ended threads that are kept for new ones.
const MAX_SPARE: usize = 8;

impl Exchange {
    pub(crate) fn new(half_words: usize) -> Exchange {
        Exchange {
            pairs: Mutex::new(Pairs { used: Vec::new(), spare: Vec::new(), is_closed: false }),
            worker: Mutex::new(None),
            wanted: AtomicU64::new(0),
            done: Mutex::new(0),
            is_done: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            half_words,
        }
    }

    /// A pair for a new producer; `None` once the worker is gone. The worker looks at it before it sleeps again, and
    /// is woken if it sleeps now.
    pub(crate) fn join(&self) -> Option<Arc<Pair>> {
        let pair = {
            let mut pairs = lock(&self.pairs);
            if pairs.is_closed {
                return None;
            }
            let pair = pairs.spare.pop().unwrap_or_else(|| Arc::new(Pair::new(self.half_words)));
            pair.reopen();
            pairs.used.push(pair.clone());
            pair
        };
        self.ring();
        Some(pair)
    }

    /// Wakes the worker, or keeps it from sleeping once.
    pub(crate) fn ring(&self) {
        if let Some(worker) = lock(&self.worker).as_ref() {
            worker.unpark();
        }
    }

    /// Returns when everything that was published before is at the sinks, or the worker is gone.
    pub(crate) fn flush(&self) {
        let ticket = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.ring();
        let mut done = lock(&self.done);
        while *done < ticket {
            done = wait(&self.is_done, done);
        }
    }

    /// Tells the worker to drain everything and to end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.ring();
    }
}

/// The worker's side.
impl Exchange {
    /// To be called by the worker before anything else.
    pub(crate) fn attach(&self) {
        *lock(&self.worker) = Some(current());
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The flushes that were asked for; what was published before them is drained by the next `drain`.
    pub(crate) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Reports that flushes are done.
    pub(crate) fn report(&self, flushes: u64) {
        let mut done = lock(&self.done);
        if *done < flushes {
            *done = flushes;
            self.is_done.notify_all();
        }
    }

    /// Drains every pair, and puts those of ended threads aside. `take` learns which pair it is handed a batch of.
    pub(crate) fn drain(&self, pairs: &mut Vec<Arc<Pair>>, mut take: impl FnMut(usize, Batch<'_>)) {
        self.collect(pairs);
        for (nth, pair) in pairs.iter().enumerate() {
            pair.drain(|batch| take(nth, batch));
        }
    }

    fn collect(&self, into: &mut Vec<Arc<Pair>>) {
        into.clear();
        let mut pairs = lock(&self.pairs);
        let Pairs { used, spare, .. } = &mut *pairs;
        used.retain(|pair| {
            let keeps = !pair.is_finished();
            if !keeps && spare.len() < MAX_SPARE {
                spare.push(pair.clone());
            }
            keeps
        });
        into.extend(used.iter().cloned());
    }

    /// Sleeps until somebody rings, unless there is something to do already.
    pub(crate) fn sleep(&self, pairs: &mut Vec<Arc<Pair>>, flushed: u64) {
        self.collect(pairs);
        if pairs.iter().all(|pair| pair.note_sleep()) && self.wanted() == flushed && !self.is_stopping() {
            park();
        }
        pairs.iter().for_each(|pair| pair.note_awake());
    }

    /// Ends the traffic of every pair that is empty; true if all are, and then no producer can publish any more.
    pub(crate) fn close(&self, pairs: &mut Vec<Arc<Pair>>) -> bool {
        self.collect(pairs);
        let mut all = lock(&self.pairs);
        let is_empty = all.used.iter().all(|pair| pair.stop());
        all.is_closed |= is_empty;
        is_empty
    }

    /// Nobody waits for this worker any more.
    pub(crate) fn leave(&self) {
        self.report(u64::MAX);
    }
}
