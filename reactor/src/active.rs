//! What the loop will call: a queue for each priority, and what waits for the next turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::clock::Nanos;
use crate::flags::EventFlags;

/// Something that the loop can call. The base knows events, bufferevents and listeners by this alone.
pub(crate) trait Callback {
    /// Its place in the queues.
    fn node(&self) -> &Node;

    /// Runs it, with all that happened since it was queued; nothing of the base is borrowed. True if it did anything
    /// that counts as an event.
    fn run(self: Rc<Self>, what: EventFlags) -> bool;

    /// A timer of it, inserted with this tag, is due and gone.
    fn expired(self: Rc<Self>, _tag: EventFlags, _due: Nanos) {}

    /// Its signal was delivered `times` times.
    fn signalled(self: Rc<Self>, _times: u32) {}
}

/// The part of a [`Callback`] that the queues own.
pub(crate) struct Node {
    /// The stamp of its entry in a queue, or 0: an entry with another stamp is stale.
    stamp: Cell<u64>,
    in_later: Cell<bool>,
    what: Cell<EventFlags>,
    priority: Cell<u8>,
}

impl Node {
    pub(crate) fn new(priority: u8) -> Self {
        Node {
            stamp: Cell::new(0),
            in_later: Cell::new(false),
            what: Cell::new(EventFlags::empty()),
            priority: Cell::new(priority),
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.stamp.get() != 0
    }

    /// The flags that its call will get; empty if it is not active.
    pub(crate) fn what(&self) -> EventFlags {
        if self.is_active() { self.what.get() } else { EventFlags::empty() }
    }

    /// Takes flags out of its call; the ones that are left.
    pub(crate) fn forget(&self, what: EventFlags) -> EventFlags {
        self.what.set(self.what.get() - what);
        self.what()
    }

    pub(crate) fn priority(&self) -> u8 {
        self.priority.get()
    }

    pub(crate) fn set_priority(&self, priority: u8) {
        self.priority.set(priority);
    }
}

/// When an activated callback runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// In this turn, if its priority comes round.
    Now,
    /// After the next poll.
    NextTurn,
}

struct Entry {
    stamp: u64,
    callback: Rc<dyn Callback>,
}

/// What [`Queues::pop`] found.
pub(crate) enum Popped {
    /// It left the queue and is to be called.
    Live(Rc<dyn Callback>),
    /// Deactivated meanwhile; the caller drops it, with nothing borrowed.
    Stale(#[allow(dead_code, reason = "held for its drop")] Rc<dyn Callback>),
}

/// The active queues. Deactivating leaves a stale entry behind, so that it costs no search.
pub(crate) struct Queues {
    by_priority: Vec<VecDeque<Entry>>,
    later: VecDeque<Entry>,
    stamps: u64,
    active: usize,
    stale: usize,
}

/// Fewer stale entries than this are not worth a sweep.
const STALE_TO_SWEEP: usize = 64;

impl Queues {
    pub(crate) fn new(priorities: usize) -> Self {
        Queues {
            by_priority: (0..priorities).map(|_| VecDeque::new()).collect(),
            later: VecDeque::new(),
            stamps: 0,
            active: 0,
            stale: 0,
        }
    }

    pub(crate) fn priorities(&self) -> usize {
        self.by_priority.len()
    }

    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Whether the queue of this priority has no entry.
    pub(crate) fn is_empty(&self, priority: usize) -> bool {
        self.by_priority[priority].is_empty()
    }

    /// Queues a callback, or adds `what` to the call that is queued; true if it was not queued yet.
    #[inline]
    pub(crate) fn activate(&mut self, callback: Rc<dyn Callback>, what: EventFlags, when: When) -> bool {
        let node = callback.node();
        let fresh = !node.is_active();
        node.what.set(if fresh { what } else { node.what.get() | what });
        if !fresh && !(when == When::Now && node.in_later.get()) {
            return false;
        }
        if fresh {
            self.active += 1;
        } else {
            self.stale += 1;
        }
        self.stamps += 1;
        node.stamp.set(self.stamps);
        node.in_later.set(when == When::NextTurn);
        let queue = match when {
            When::Now => {
                let last = self.by_priority.len() - 1;
                &mut self.by_priority[usize::from(node.priority()).min(last)]
            }
            When::NextTurn => &mut self.later,
        };
        queue.push_back(Entry { stamp: self.stamps, callback });
        fresh
    }

    /// Takes a callback out of the queues; true if it was in one. What is returned is dropped by the caller, with
    /// nothing borrowed.
    pub(crate) fn deactivate(&mut self, node: &Node) -> (bool, Vec<Rc<dyn Callback>>) {
        if !node.is_active() {
            return (false, Vec::new());
        }
        node.stamp.set(0);
        self.active -= 1;
        self.stale += 1;
        (true, self.sweep())
    }

    /// Takes out the first callback of a priority.
    #[inline]
    pub(crate) fn pop(&mut self, priority: usize) -> Option<(Popped, EventFlags)> {
        let Entry { stamp, callback } = self.by_priority[priority].pop_front()?;
        let node = callback.node();
        if node.stamp.get() != stamp {
            self.stale = self.stale.saturating_sub(1);
            return Some((Popped::Stale(callback), EventFlags::empty()));
        }
        node.stamp.set(0);
        self.active -= 1;
        let what = node.what.get();
        Some((Popped::Live(callback), what))
    }

    /// Moves what waited for this turn to its queue.
    pub(crate) fn promote(&mut self) -> Vec<Rc<dyn Callback>> {
        let mut stale = Vec::new();
        while let Some(entry) = self.later.pop_front() {
            let node = entry.callback.node();
            if node.stamp.get() == entry.stamp {
                node.in_later.set(false);
                let last = self.by_priority.len() - 1;
                self.by_priority[usize::from(node.priority()).min(last)].push_back(entry);
            } else {
                self.stale = self.stale.saturating_sub(1);
                stale.push(entry.callback);
            }
        }
        stale
    }

    /// Empties all queues.
    pub(crate) fn take_all(&mut self) -> Vec<Rc<dyn Callback>> {
        let later = self.later.drain(..);
        let all: Vec<_> =
            self.by_priority.iter_mut().flat_map(|queue| queue.drain(..)).chain(later).collect();
        (self.active, self.stale) = (0, 0);
        all.into_iter()
            .map(|entry| {
                entry.callback.node().stamp.set(0);
                entry.callback
            })
            .collect()
    }

    fn sweep(&mut self) -> Vec<Rc<dyn Callback>> {
        if self.stale < STALE_TO_SWEEP || self.stale <= self.active {
            return Vec::new();
        }
        self.stale = 0;
        let mut stale = Vec::new();
        for queue in self.by_priority.iter_mut().chain([&mut self.later]) {
            for entry in std::mem::take(queue) {
                if entry.callback.node().stamp.get() == entry.stamp {
                    queue.push_back(entry);
                } else {
                    stale.push(entry.callback);
                }
            }
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Task(Node);

    impl Callback for Task {
        fn node(&self) -> &Node {
            &self.0
        }
        fn run(self: Rc<Self>, _: EventFlags) -> bool {
            true
        }
    }

    fn task(priority: u8) -> Rc<Task> {
        Rc::new(Task(Node::new(priority)))
    }

    fn pop(queues: &mut Queues) -> Option<EventFlags> {
        loop {
            match queues.pop(0)? {
                (Popped::Live(_), what) => return Some(what),
                (Popped::Stale(_), _) => (),
            }
        }
    }

    #[test]
    fn one_call_merges_flags() {
        let mut queues = Queues::new(1);
        let a = task(0);
        assert!(queues.activate(a.clone(), EventFlags::READ, When::Now));
        assert!(!queues.activate(a.clone(), EventFlags::WRITE, When::Now));
        assert_eq!(pop(&mut queues), Some(EventFlags::READ | EventFlags::WRITE));
        assert_eq!(pop(&mut queues), None);
        assert!(queues.activate(a, EventFlags::TIMEOUT, When::Now));
        assert_eq!(pop(&mut queues), Some(EventFlags::TIMEOUT), "old flags are forgotten");
    }

    #[test]
    fn activated_again_stands_at_the_end() {
        let mut queues = Queues::new(1);
        let (a, b) = (task(0), task(0));
        queues.activate(a.clone(), EventFlags::READ, When::Now);
        queues.activate(b, EventFlags::WRITE, When::Now);
        assert!(queues.deactivate(a.node()).0);
        assert!(!queues.deactivate(a.node()).0);
        queues.activate(a, EventFlags::CLOSED, When::Now);
        assert_eq!(queues.active(), 2);
        assert_eq!(pop(&mut queues), Some(EventFlags::WRITE));
        assert_eq!(pop(&mut queues), Some(EventFlags::CLOSED));
    }

    #[test]
    fn later_becomes_now_when_asked() {
        let mut queues = Queues::new(1);
        let (a, b) = (task(0), task(0));
        queues.activate(a.clone(), EventFlags::READ, When::NextTurn);
        queues.activate(b, EventFlags::WRITE, When::NextTurn);
        queues.activate(a, EventFlags::CLOSED, When::Now);
        assert_eq!(pop(&mut queues), Some(EventFlags::READ | EventFlags::CLOSED));
        assert_eq!(pop(&mut queues), None);
        assert_eq!(queues.active(), 1);
        queues.promote();
        assert_eq!(pop(&mut queues), Some(EventFlags::WRITE));
        assert_eq!(queues.active(), 0);
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let mut queues = Queues::new(2);
        let (a, b) = (task(0), task(1));
        queues.activate(b, EventFlags::READ, When::Now);
        for _ in 0..10_000 {
            queues.activate(a.clone(), EventFlags::READ, When::Now);
            drop(queues.deactivate(a.node()));
            queues.activate(a.clone(), EventFlags::READ, When::NextTurn);
            drop(queues.deactivate(a.node()));
        }
        assert!(queues.by_priority[0].len() + queues.later.len() <= STALE_TO_SWEEP);
        assert_eq!(queues.active(), 1);
        drop(queues.take_all());
        assert_eq!((queues.active(), Rc::strong_count(&a)), (0, 1));
    }
}
