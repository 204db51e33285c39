//! Deadlines: a four-way heap with delete by key, and a queue for each duration that many timers share.
//!
//! Pure: it sees no clock. Equal deadlines expire in the order in which they were inserted.

use std::collections::VecDeque;

use slab::Slab;

use crate::clock::Nanos;

/// Names one timer from its insertion to its removal or expiry. The owner forgets it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimerKey(u32);

/// Where a timer waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Any deadline, O(log n).
    Heap,
    /// The queue of one duration, O(1); see [`Timers::lane`].
    Queue(u16),
}

/// A set of timers, each with a payload.
pub(crate) struct Timers<T> {
    heap: Vec<Entry>,
    /// By slot: the index in `heap`, or `IN_QUEUE`. Apart from the payloads, so that a sift touches little memory.
    places: Vec<u32>,
    payloads: Slab<Payload<T>>,
    queues: Vec<Queue>,
    inserted: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    deadline: Nanos,
    order: u64,
    slot: u32,
}

struct Payload<T> {
    value: T,
    deadline: Nanos,
    /// What a queue's entry must agree with, so that a deleted timer's entry is known as stale.
    order: u64,
    lane: Lane,
}

/// Timers of one duration, sorted because time only goes forward. Deleted ones leave a stale entry behind.
struct Queue {
    duration: Nanos,
    entries: VecDeque<Entry>,
    live: usize,
}

const ARITY: usize = 4;
const IN_QUEUE: u32 = u32::MAX;
/// A queue with fewer stale entries than this is not worth a sweep.
const STALE_TO_SWEEP: usize = 64;

impl Entry {
    #[inline]
    fn before(&self, other: &Entry) -> bool {
        (self.deadline, self.order) < (other.deadline, other.order)
    }
}

impl<T> Timers<T> {
    /// As in libevent; a duration is a deliberate choice of the program, not an input.
    pub(crate) const MAX_LANES: usize = 256;

    pub(crate) fn new() -> Self {
        Timers {
            heap: Vec::new(),
            places: Vec::new(),
            payloads: Slab::new(),
            queues: Vec::new(),
            inserted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.payloads.len()
    }

    /// The queue for timers of this duration, made on first use; `None` if there are `MAX_LANES` others.
    pub(crate) fn lane(&mut self, duration: Nanos) -> Option<Lane> {
        if let Some(at) = self.queues.iter().position(|queue| queue.duration == duration) {
            return Some(Lane::Queue(at as u16));
        }
        if self.queues.len() == Self::MAX_LANES {
            return None;
        }
        self.queues.push(Queue { duration, entries: VecDeque::new(), live: 0 });
        Some(Lane::Queue((self.queues.len() - 1) as u16))
    }

    pub(crate) fn insert(&mut self, lane: Lane, deadline: Nanos, value: T) -> TimerKey {
        self.inserted += 1;
        let order = self.inserted;
        let slot = self.payloads.insert(Payload { value, deadline, order, lane }) as u32;
        if slot as usize == self.places.len() {
            self.places.push(IN_QUEUE);
        }
        let entry = Entry { deadline, order, slot };
        match lane {
            Lane::Heap => {
                self.heap.push(entry);
                self.sift_up(self.heap.len() - 1, entry);
            }
            Lane::Queue(at) => {
                self.places[slot as usize] = IN_QUEUE;
                self.queues[usize::from(at)].insert(entry);
            }
        }
        TimerKey(slot)
    }

    /// Moves a timer of the heap to another deadline, behind the ones that have it already.
    pub(crate) fn reschedule(&mut self, key: TimerKey, deadline: Nanos) {
        let Some(payload) = self.payloads.get_mut(key.0 as usize) else { return };
        debug_assert_eq!(payload.lane, Lane::Heap);
        self.inserted += 1;
        payload.deadline = deadline;
        payload.order = self.inserted;
        let entry = Entry { deadline, order: self.inserted, slot: key.0 };
        let at = self.places[key.0 as usize] as usize;
        self.settle(at, entry);
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        let payload = self.payloads.try_remove(key.0 as usize)?;
        match payload.lane {
            Lane::Heap => self.remove_at(self.places[key.0 as usize] as usize),
            Lane::Queue(at) => {
                let queue = &mut self.queues[usize::from(at)];
                queue.live -= 1;
                let payloads = &self.payloads;
                queue.sweep(|entry| is_live(payloads, entry));
            }
        }
        Some(payload.value)
    }

    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Nanos> {
        self.payloads.get(key.0 as usize).map(|payload| payload.deadline)
    }

    pub(crate) fn lane_of(&self, key: TimerKey) -> Option<Lane> {
        self.payloads.get(key.0 as usize).map(|payload| payload.lane)
    }

    /// The next deadline.
    pub(crate) fn next(&mut self) -> Option<Nanos> {
        self.first().map(|(_, entry)| entry.deadline)
    }

    /// Takes out the next timer that is due at `now`, with its deadline.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<(Nanos, T)> {
        let (lane, entry) = self.first()?;
        if entry.deadline > now {
            return None;
        }
        match lane {
            Lane::Heap => self.remove_at(0),
            Lane::Queue(at) => {
                let queue = &mut self.queues[usize::from(at)];
                queue.entries.pop_front();
                queue.live -= 1;
            }
        }
        self.payloads.try_remove(entry.slot as usize).map(|payload| (entry.deadline, payload.value))
    }

    /// Takes out all timers, in no order.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.heap.clear();
        self.queues.clear();
        std::mem::take(&mut self.payloads).into_iter().map(|(_, payload)| payload.value).collect()
    }

    fn first(&mut self) -> Option<(Lane, Entry)> {
        let mut first = self.heap.first().map(|&entry| (Lane::Heap, entry));
        for (at, queue) in self.queues.iter_mut().enumerate() {
            while let Some(&front) = queue.entries.front() {
                if is_live(&self.payloads, &front) {
                    if first.is_none_or(|(_, entry)| front.before(&entry)) {
                        first = Some((Lane::Queue(at as u16), front));
                    }
                    break;
                }
                queue.entries.pop_front();
            }
        }
        first
    }

    fn remove_at(&mut self, at: usize) {
        let Some(last) = self.heap.pop() else { return };
        if at < self.heap.len() {
            self.settle(at, last);
        }
    }

    /// Puts `entry` at `at`, or where it belongs from there.
    fn settle(&mut self, at: usize, entry: Entry) {
        if at > 0 && entry.before(&self.heap[(at - 1) / ARITY]) {
            self.sift_up(at, entry);
        } else {
            self.sift_down(at, entry);
        }
    }

    fn sift_up(&mut self, mut at: usize, entry: Entry) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !entry.before(&self.heap[parent]) {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, entry);
    }

    fn sift_down(&mut self, mut at: usize, entry: Entry) {
        loop {
            let first_child = at * ARITY + 1;
            let Some(children) = self.heap.get(first_child..self.heap.len().min(first_child + ARITY)) else {
                break;
            };
            let Some((nth, least)) = least(children) else { break };
            if !least.before(&entry) {
                break;
            }
            self.put(at, least);
            at = first_child + nth;
        }
        self.put(at, entry);
    }

    #[inline]
    fn put(&mut self, at: usize, entry: Entry) {
        self.heap[at] = entry;
        self.places[entry.slot as usize] = at as u32;
    }

    #[cfg(test)]
    fn validate(&self) {
        for (at, entry) in self.heap.iter().enumerate() {
            assert!(
                at == 0 || !entry.before(&self.heap[(at - 1) / ARITY]),
                "a child stands before its parent"
            );
            assert_eq!(self.places[entry.slot as usize] as usize, at);
            assert!(is_live(&self.payloads, entry));
        }
        for queue in &self.queues {
            let live = queue.entries.iter().filter(|entry| is_live(&self.payloads, entry)).count();
            assert_eq!(live, queue.live);
            assert!(queue.entries.len() <= 2 * live + STALE_TO_SWEEP, "stale entries pile up");
            assert!(queue.entries.iter().zip(queue.entries.iter().skip(1)).all(|(a, b)| a.before(b)));
        }
        let queued: usize = self.queues.iter().map(|queue| queue.live).sum();
        assert_eq!(self.heap.len() + queued, self.len());
    }
}

fn is_live<T>(payloads: &Slab<Payload<T>>, entry: &Entry) -> bool {
    payloads.get(entry.slot as usize).is_some_and(|payload| payload.order == entry.order)
}

fn least(children: &[Entry]) -> Option<(usize, Entry)> {
    let (&first, rest) = children.split_first()?;
    let mut least = (0, first);
    for (at, child) in rest.iter().enumerate() {
        if child.before(&least.1) {
            least = (at + 1, *child);
        }
    }
    Some(least)
}

impl Queue {
    fn insert(&mut self, entry: Entry) {
        // A persistent timer counts from its own schedule, so it may belong a little before the end.
        let behind = self.entries.iter().rev().take_while(|other| entry.before(other)).count();
        self.entries.insert(self.entries.len() - behind, entry);
        self.live += 1;
    }

    fn sweep(&mut self, is_live: impl Fn(&Entry) -> bool) {
        if self.entries.len() > 2 * self.live + STALE_TO_SWEEP {
            self.entries.retain(is_live);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert { lane: usize, deadline: u64 },
        Remove { nth: usize },
        Reschedule { nth: usize, deadline: u64 },
        Pop { by: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4usize, 0..200u64).prop_map(|(lane, deadline)| Step::Insert { lane, deadline }),
            2 => (0..1000usize).prop_map(|nth| Step::Remove { nth }),
            1 => (0..1000usize, 0..200u64).prop_map(|(nth, deadline)| Step::Reschedule { nth, deadline }),
            1 => (0..60u64).prop_map(|by| Step::Pop { by }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        /// 100 runs of 1000 steps against a sorted list.
        #[test]
        fn behaves_like_a_sorted_list(steps in proptest::collection::vec(step(), 1000)) {
            let mut timers = Timers::new();
            let mut model: Vec<(u64, u64, TimerKey, u64)> = Vec::new();
            let lanes = [
                Lane::Heap,
                Lane::Heap,
                timers.lane(10).unwrap(),
                timers.lane(20).unwrap(),
            ];
            let (mut now, mut order) = (0u64, 0u64);
            for step in steps {
                match step {
                    Step::Insert { lane, deadline } => {
                        order += 1;
                        let deadline = now + deadline;
                        let key = timers.insert(lanes[lane], deadline, order);
                        model.push((deadline, order, key, order));
                    }
                    Step::Remove { nth } if !model.is_empty() => {
                        let (_, _, key, value) = model.remove(nth % model.len());
                        prop_assert_eq!(timers.remove(key), Some(value));
                    }
                    Step::Reschedule { nth, deadline } if !model.is_empty() => {
                        let nth = nth % model.len();
                        if timers.lane_of(model[nth].2) == Some(Lane::Heap) {
                            order += 1;
                            model[nth].0 = now + deadline;
                            model[nth].1 = order;
                            timers.reschedule(model[nth].2, now + deadline);
                            prop_assert_eq!(timers.deadline(model[nth].2), Some(now + deadline));
                        }
                    }
                    Step::Pop { by } => {
                        now += by;
                        model.sort_by_key(|entry| (entry.0, entry.1));
                        while let Some(popped) = timers.pop_due(now) {
                            let (deadline, _, _, value) = model.remove(0);
                            prop_assert!(deadline <= now);
                            prop_assert_eq!(popped, (deadline, value));
                        }
                    }
                    _ => (),
                }
                timers.validate();
                prop_assert_eq!(timers.len(), model.len());
                prop_assert_eq!(timers.next(), model.iter().map(|entry| entry.0).min());
                let popped = matches!(step, Step::Pop { .. });
                prop_assert!(!popped || timers.next().is_none_or(|next| next > now));
            }
        }
    }

    #[test]
    fn one_lane_for_each_duration_up_to_the_bound() {
        let mut timers: Timers<()> = Timers::new();
        let first = timers.lane(1);
        assert_eq!(timers.lane(1), first);
        for duration in 2..=Timers::<()>::MAX_LANES as u64 {
            assert!(timers.lane(duration).is_some());
        }
        assert_eq!(timers.lane(100_000), None);
    }
}
