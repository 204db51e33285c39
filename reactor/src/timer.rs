//! Deadlines: a four-way heap with delete by key, and a queue for each duration that many timers share.
//!
//! Pure: it sees no clock. Equal deadlines expire in the order in which they were inserted.

use std::collections::VecDeque;

use slab::Slab;

use crate::clock::Nanos;

/// Names one timer from its insertion to its removal or expiry. The owner forgets it then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKey {
    /// By slot.
    Heap(u32),
    /// By queue and number in it.
    Queue(u16, u32),
}

/// Where a timer waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// Any deadline, O(log n).
    Heap,
    /// The queue of one duration, O(1); see [`Timers::lane`].
    Queue(u16),
}

/// A set of timers, each with a value.
pub(crate) struct Timers<T> {
    heap: Vec<Entry>,
    /// By slot: the index in `heap`. Apart from the values, so that a sift touches little memory.
    places: Vec<u32>,
    values: Slab<T>,
    queues: Vec<Queue<T>>,
    inserted: u32,
}

/// Deadline, then the order of insertion, then the slot: one number, so that one comparison ranks two timers. The
/// order comes round after four thousand million insertions; equal deadlines may change places there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

/// Timers of one duration, sorted because time only goes forward. Taking one out of the middle leaves a hole; neither
/// end is ever one.
struct Queue<T> {
    duration: Nanos,
    entries: VecDeque<Queued<T>>,
    /// The number of the next entry.
    next: u32,
    holes: usize,
}

struct Queued<T> {
    deadline: Nanos,
    order: u32,
    /// Counts up from entry to entry, and comes round; without gaps until holes are closed.
    number: u32,
    value: Option<T>,
}

const ARITY: usize = 4;
/// Fewer holes than this are not worth closing.
const HOLES_TO_CLOSE: usize = 64;

impl Entry {
    #[inline]
    fn new(deadline: Nanos, order: u32, slot: u32) -> Self {
        Entry(u128::from(deadline) << 64 | u128::from(order) << 32 | u128::from(slot))
    }

    #[inline]
    fn deadline(self) -> Nanos {
        (self.0 >> 64) as Nanos
    }

    #[inline]
    fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl<T> Timers<T> {
    /// As in libevent; a duration is a deliberate choice of the program, not an input.
    pub(crate) const MAX_LANES: usize = 256;

    pub(crate) fn new() -> Self {
        Timers { heap: Vec::new(), places: Vec::new(), values: Slab::new(), queues: Vec::new(), inserted: 0 }
    }

    /// The queue for timers of this duration, made on first use; `None` if there are `MAX_LANES` others.
    pub(crate) fn lane(&mut self, duration: Nanos) -> Option<Lane> {
        if let Some(at) = self.queues.iter().position(|queue| queue.duration == duration) {
            return Some(Lane::Queue(at as u16));
        }
        if self.queues.len() == Self::MAX_LANES {
            return None;
        }
        self.queues.push(Queue { duration, entries: VecDeque::new(), next: 0, holes: 0 });
        Some(Lane::Queue((self.queues.len() - 1) as u16))
    }

    /// A deadline before the last of its queue, as a persistent timer's own schedule can give, goes to the heap.
    #[inline]
    pub(crate) fn insert(&mut self, lane: Lane, deadline: Nanos, value: T) -> TimerKey {
        let order = self.next_order();
        if let Lane::Queue(at) = lane {
            let queue = &mut self.queues[usize::from(at)];
            if queue.takes(deadline) {
                return TimerKey::Queue(at, queue.push(deadline, order, value));
            }
        }
        let slot = self.values.insert(value) as u32;
        if slot as usize == self.places.len() {
            self.places.push(0);
        }
        let entry = Entry::new(deadline, order, slot);
        self.heap.push(entry);
        self.sift_up(self.heap.len() - 1, entry);
        TimerKey::Heap(slot)
    }

    /// Gives a timer another deadline in `lane`, behind the ones that have it already; its new key.
    #[inline]
    pub(crate) fn reschedule(&mut self, key: TimerKey, lane: Lane, deadline: Nanos) -> Option<TimerKey> {
        if let (TimerKey::Heap(slot), Lane::Heap) = (key, lane) {
            let entry = Entry::new(deadline, self.next_order(), slot);
            self.settle(self.places[slot as usize] as usize, entry);
            return Some(key);
        }
        let value = self.remove(key)?;
        Some(self.insert(lane, deadline, value))
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<T> {
        match key {
            TimerKey::Heap(slot) => {
                let value = self.values.try_remove(slot as usize)?;
                self.remove_at(self.places[slot as usize] as usize);
                Some(value)
            }
            TimerKey::Queue(at, number) => self.queues.get_mut(usize::from(at))?.take(number),
        }
    }

    pub(crate) fn deadline(&self, key: TimerKey) -> Option<Nanos> {
        match key {
            TimerKey::Heap(slot) => {
                let at = *self.places.get(slot as usize)?;
                self.heap.get(at as usize).map(|entry| entry.deadline())
            }
            TimerKey::Queue(at, number) => {
                let queue = self.queues.get(usize::from(at))?;
                Some(queue.entries[queue.find(number)?].deadline)
            }
        }
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.first().map(|(_, entry)| entry.deadline())
    }

    /// Takes out the next timer that is due at `now`, with its deadline.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<(Nanos, T)> {
        let (lane, entry) = self.first()?;
        if entry.deadline() > now {
            return None;
        }
        let value = match lane {
            Lane::Heap => {
                self.remove_at(0);
                self.values.try_remove(entry.slot() as usize)
            }
            Lane::Queue(at) => self.queues[usize::from(at)].pop(),
        };
        value.map(|value| (entry.deadline(), value))
    }

    /// Takes out all timers, in no order.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.heap.clear();
        let values = std::mem::take(&mut self.values).into_iter().map(|(_, value)| value);
        let queued = std::mem::take(&mut self.queues).into_iter().flat_map(|queue| queue.entries);
        values.chain(queued.filter_map(|queued| queued.value)).collect()
    }

    fn first(&self) -> Option<(Lane, Entry)> {
        let mut first = self.heap.first().map(|&entry| (Lane::Heap, entry));
        for (at, queue) in self.queues.iter().enumerate() {
            if let Some(front) = queue.entries.front() {
                let entry = Entry::new(front.deadline, front.order, 0);
                if first.is_none_or(|(_, other)| entry < other) {
                    first = Some((Lane::Queue(at as u16), entry));
                }
            }
        }
        first
    }

    #[inline]
    fn next_order(&mut self) -> u32 {
        self.inserted = self.inserted.wrapping_add(1);
        self.inserted
    }

    fn remove_at(&mut self, at: usize) {
        let Some(last) = self.heap.pop() else { return };
        if at < self.heap.len() {
            self.settle(at, last);
        }
    }

    /// Puts `entry` at `at`, or where it belongs from there.
    fn settle(&mut self, at: usize, entry: Entry) {
        if at > 0 && entry < self.heap[(at - 1) / ARITY] {
            self.sift_up(at, entry);
        } else {
            self.sift_down(at, entry);
        }
    }

    fn sift_up(&mut self, mut at: usize, entry: Entry) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if entry >= self.heap[parent] {
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
            if least >= entry {
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
        self.places[entry.slot() as usize] = at as u32;
    }

    #[cfg(test)]
    fn validate(&self) {
        for (at, &entry) in self.heap.iter().enumerate() {
            assert!(at == 0 || entry >= self.heap[(at - 1) / ARITY], "a child stands before its parent");
            assert_eq!(self.places[entry.slot() as usize] as usize, at);
            assert!(self.values.contains(entry.slot() as usize));
        }
        assert_eq!(self.heap.len(), self.values.len());
        for queue in &self.queues {
            let live = queue.entries.iter().filter(|queued| queued.value.is_some()).count();
            assert_eq!(live + queue.holes, queue.entries.len());
            assert!(queue.holes <= HOLES_TO_CLOSE.max(live), "holes pile up");
            assert!(queue.entries.iter().is_sorted_by_key(|queued| (queued.deadline, queued.order)));
            let ends = [queue.entries.front(), queue.entries.back()];
            assert!(ends.into_iter().flatten().all(|end| end.value.is_some()));
        }
    }
}

fn least(children: &[Entry]) -> Option<(usize, Entry)> {
    let (&first, rest) = children.split_first()?;
    let mut least = (0, first);
    for (at, &child) in rest.iter().enumerate() {
        if child < least.1 {
            least = (at + 1, child);
        }
    }
    Some(least)
}

impl<T> Queue<T> {
    /// Whether this deadline can stand at the end.
    #[inline]
    fn takes(&self, deadline: Nanos) -> bool {
        self.entries.back().is_none_or(|last| last.deadline <= deadline)
    }

    #[inline]
    fn push(&mut self, deadline: Nanos, order: u32, value: T) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.entries.push_back(Queued { deadline, order, number, value: Some(value) });
        number
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        let front = self.entries.pop_front()?;
        self.trim();
        front.value
    }

    #[inline]
    fn take(&mut self, number: u32) -> Option<T> {
        let at = self.find(number)?;
        let value = self.entries[at].value.take()?;
        self.holes += 1;
        self.trim();
        if self.holes > HOLES_TO_CLOSE.max(self.entries.len() - self.holes) {
            self.entries.retain(|queued| queued.value.is_some());
            self.holes = 0;
        }
        Some(value)
    }

    /// Where the entry of this number is: as far from the front as its number, or nearer if holes were closed.
    #[inline]
    fn find(&self, number: u32) -> Option<usize> {
        let front = self.entries.front()?.number;
        let offset = number.wrapping_sub(front);
        if self.entries.get(offset as usize).is_some_and(|queued| queued.number == number) {
            return Some(offset as usize);
        }
        self.entries.binary_search_by_key(&offset, |queued| queued.number.wrapping_sub(front)).ok()
    }

    #[inline]
    fn trim(&mut self) {
        while self.entries.front().is_some_and(|queued| queued.value.is_none()) {
            self.entries.pop_front();
            self.holes -= 1;
        }
        while let Some(last) = self.entries.back()
            && last.value.is_none()
        {
            self.next = last.number;
            self.entries.pop_back();
            self.holes -= 1;
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
        Reschedule { nth: usize, lane: usize, deadline: u64 },
        Pop { by: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4usize, 0..200u64).prop_map(|(lane, deadline)| Step::Insert { lane, deadline }),
            2 => (0..1000usize).prop_map(|nth| Step::Remove { nth }),
            2 => (0..1000usize, 0..4usize, 0..200u64)
                .prop_map(|(nth, lane, deadline)| Step::Reschedule { nth, lane, deadline }),
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
                    Step::Reschedule { nth, lane, deadline } if !model.is_empty() => {
                        let nth = nth % model.len();
                        order += 1;
                        model[nth].0 = now + deadline;
                        model[nth].1 = order;
                        model[nth].2 = timers.reschedule(model[nth].2, lanes[lane], now + deadline).unwrap();
                        prop_assert_eq!(timers.deadline(model[nth].2), Some(now + deadline));
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

    #[test]
    fn a_queue_closes_its_holes_and_finds_what_is_left() {
        let mut timers = Timers::new();
        let lane = timers.lane(10).unwrap();
        timers.queues[0].next = u32::MAX - 500;
        let mut keys: Vec<_> = (0..1000u64).map(|nth| (timers.insert(lane, nth, nth), nth)).collect();
        let kept = keys.extract_if(.., |(_, nth)| *nth % 10 == 0).collect::<Vec<_>>();
        for (key, nth) in keys {
            assert_eq!(timers.remove(key), Some(nth));
            timers.validate();
        }
        assert!(timers.queues[0].entries.len() < 250, "{}", timers.queues[0].entries.len());
        for (key, nth) in kept {
            assert_eq!(timers.deadline(key), Some(nth));
            assert_eq!(timers.remove(key), Some(nth));
        }
        assert!(timers.next().is_none() && timers.queues[0].entries.is_empty());
    }
}
