//! Where producers and the worker meet: the pairs, the bell, the requests to flush and to stop, and the worker's loop as
//! far as it knows no time.

use crate::pair::{Append, Batch, Pair};
use crate::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, Ordering, Thread, current, lock, park, wait};

/// What one logger's producers and worker share.
pub(crate) struct Exchange {
    pairs: Mutex<Pairs>,
    worker: Mutex<Option<Thread>>,
    /// Flushes that were asked for.
    wanted: AtomicU64,
    answered: Mutex<Answered>,
    is_answered: Condvar,
    is_stopping: AtomicBool,
    /// Records that their producers dropped since the last report of them.
    dropped: AtomicU64,
    half_words: usize,
}

/// Which flushes have their answer; `u64::MAX` once the worker is gone.
#[derive(Clone, Copy, Default)]
struct Answered {
    /// Nothing is owed.
    done: u64,
    /// Done, or held up by what fails.
    tried: u64,
}

struct Pairs {
    used: Vec<Arc<Pair>>,
    /// Of threads that are gone.
    spare: Vec<Arc<Pair>>,
    /// How many were made.
    made: u32,
    /// The worker is gone, or on its last round.
    is_closed: bool,
}

/// Pairs of ended threads that are kept for new ones.
const MAX_SPARE: usize = 8;

/// What the worker does with records; the order of it all is the exchange's.
pub(crate) trait Task {
    /// Takes records of the pair of this number. Their place is free again when this returns.
    fn take(&mut self, pair: u32, batch: Batch<'_>);

    /// Whether it can take more. Records stay with their producers while it cannot.
    fn has_room(&self) -> bool;

    /// Writes what was taken. This many records were dropped since the last call.
    fn write(&mut self, dropped: u64);

    /// Flushes what was written. What had to be taken for the flushes up to this one is taken; up to which of them nothing
    /// is owed.
    fn flush(&mut self, taken: u64) -> u64;

    /// Waits a moment for more, at most until the bell rings; false, without a wait, when it is time to rest.
    fn linger(&mut self) -> bool;

    /// Flushes what was written, before a sleep or the end; false if something fails, and is to be tried again.
    fn rest(&mut self) -> bool;
}

impl Exchange {
    pub(crate) fn new(half_words: usize) -> Exchange {
        Exchange {
            pairs: Mutex::new(Pairs { used: Vec::new(), spare: Vec::new(), made: 0, is_closed: false }),
            worker: Mutex::new(None),
            wanted: AtomicU64::new(0),
            answered: Mutex::new(Answered::default()),
            is_answered: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
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
            // A pair that an ended thread left is taken over even before the worker has emptied it: threads that come
            // and go need as many pairs as there are at a time, however long the worker is held up.
            match pairs.used.iter().find(|pair| pair.reopen()) {
                Some(pair) => pair.clone(),
                None => {
                    let pair = pairs.spare.pop().unwrap_or_else(|| {
                        pairs.made = pairs.made.wrapping_add(1);
                        Arc::new(Pair::new(pairs.made, self.half_words))
                    });
                    pair.reopen();
                    pairs.used.push(pair.clone());
                    pair
                }
            }
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

    /// Whether the caller is the worker: a sink logs, flushes or drops the last handle. The worker must not wait for
    /// itself.
    pub(crate) fn is_worker(&self) -> bool {
        lock(&self.worker).as_ref().is_some_and(|worker| worker.id() == current().id())
    }

    /// Returns when everything that was published before is at the sinks, or the worker is gone. At once on the
    /// worker itself.
    pub(crate) fn flush(&self) {
        self.wait_for(|answered| answered.done);
    }

    /// As [`flush`](Self::flush), but does not wait for what fails.
    pub(crate) fn try_flush(&self) {
        self.wait_for(|answered| answered.tried);
    }

    fn wait_for(&self, reached: impl Fn(Answered) -> u64) {
        if self.is_worker() {
            return;
        }
        let ticket = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.ring();
        let mut answered = lock(&self.answered);
        while reached(*answered) < ticket {
            answered = wait(&self.is_answered, answered);
        }
    }

    /// Counts a record that a pair had no room for. `Stopped` if the worker will not report it any more.
    pub(crate) fn drop_one(&self, pair: &Pair) -> Append {
        // The first one since a report rings: the worker may have emptied the pair meanwhile, and be about to sleep.
        if self.dropped.fetch_add(1, Ordering::AcqRel) == 0 {
            self.ring();
        }
        // The worker stops the pair before it takes the count for the last time. If that came before our addition, the
        // addition has read from it, and the pair is seen stopped; then what is not reported is taken back.
        let take_back = |dropped: u64| dropped.checked_sub(1);
        if pair.is_stopped()
            && self.dropped.fetch_update(Ordering::AcqRel, Ordering::Acquire, take_back).is_ok()
        {
            return Append::Stopped;
        }
        Append::Done
    }

    /// Tells the worker to drain everything and to end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.ring();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Ends all traffic: no producer publishes any more, those that wait for room are woken, and flushes return. What
    /// is in the pairs stays there.
    pub(crate) fn leave(&self) {
        self.close();
        self.answer(Answered { done: u64::MAX, tried: u64::MAX });
    }
}

/// The worker's side.
impl Exchange {
    /// The worker's life: returns after [`stop`](Self::stop), when everything that was published is written and flushed.
    pub(crate) fn work(&self, task: &mut impl Task) {
        // However the worker ends, nobody waits for it any more.
        let _leave = Leave(self);
        *lock(&self.worker) = Some(current());
        let mut pairs = Vec::new();
        let mut first = 0;
        let (mut taken, mut flushed) = (0, 0);
        loop {
            // Read before the round: what was asked for before it is done by it.
            let wanted = self.wanted.load(Ordering::Acquire);
            let is_stopping = self.is_stopping();
            if is_stopping {
                // Producers are not waited for: one that never pauses would keep the worker alive for ever.
                self.close();
            }
            if self.drain(&mut pairs, &mut first, task, is_stopping) {
                taken = wanted;
                // The report is a record too.
                task.write(self.dropped.swap(0, Ordering::AcqRel));
            } else {
                task.write(0);
            }
            if is_stopping {
                task.rest();
                return;
            }
            if wanted > flushed {
                flushed = task.flush(taken);
                self.answer(Answered { done: flushed, tried: wanted });
            }
            if !task.linger() && task.rest() {
                self.sleep(&mut pairs, flushed);
            }
        }
    }

    /// Hands everything that was published over, from the pair `first` on, unless the task has no room for it: false then,
    /// and the next call begins where this one ends. At the end the task takes it all the same.
    fn drain(
        &self,
        pairs: &mut Vec<Arc<Pair>>,
        first: &mut usize,
        task: &mut impl Task,
        is_stopping: bool,
    ) -> bool {
        self.collect(pairs);
        let from = std::mem::take(first);
        let count = pairs.len();
        let refused = (from..from + count).map(|at| at % count).find_map(|at| {
            if !is_stopping && !task.has_room() {
                return Some(at);
            }
            let number = pairs[at].number();
            let is_drained = pairs[at].drain(|batch| {
                task.take(number, batch);
                is_stopping || task.has_room()
            });
            (!is_drained).then_some(at + 1)
        });
        pairs.clear();
        *first = refused.unwrap_or(0);
        refused.is_none()
    }

    /// The pairs in use; those of ended threads are put aside.
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

    /// Sleeps until somebody rings, unless there is something to do already. Whatever is asked for is noted first and
    /// rung for after, so a ring that something else on this thread has swallowed is seen here.
    fn sleep(&self, pairs: &mut Vec<Arc<Pair>>, flushed: u64) {
        self.collect(pairs);
        if pairs.iter().all(|pair| pair.note_sleep())
            && self.wanted.load(Ordering::Acquire) == flushed
            && self.dropped.load(Ordering::Acquire) == 0
            && !self.is_stopping()
        {
            park();
        }
        pairs.iter().for_each(|pair| pair.note_awake());
        pairs.clear();
    }

    /// Answers flushes.
    fn answer(&self, to: Answered) {
        let mut answered = lock(&self.answered);
        if answered.done < to.done || answered.tried < to.tried {
            *answered = to;
            self.is_answered.notify_all();
        }
    }

    /// Ends the traffic of every pair.
    fn close(&self) {
        let mut pairs = lock(&self.pairs);
        pairs.is_closed = true;
        pairs.used.iter().for_each(|pair| pair.stop());
    }
}

struct Leave<'a>(&'a Exchange);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
