//! What the loop will call: a queue for each priority, and what waits for the next turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::iter;
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
    /// The number of its entry in its queue; 0 if it is not active.
    place: Cell<u64>,
    /// Its queue while it is active, whatever its priority has become since.
    queue: Cell<QueueId>,
    what: Cell<EventFlags>,
    priority: Cell<u8>,
}

impl Node {
    pub(crate) fn new(priority: u8) -> Self {
        Node {
            place: Cell::new(0),
            queue: Cell::new(QueueId::Later),
            what: Cell::new(EventFlags::empty()),
            priority: Cell::new(priority),
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.place.get() != 0
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

    /// Counts from its next activation on.
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

/// One of the active queues.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueId {
    Priority(u8),
    Later,
}

/// The active queues.
pub(crate) struct Queues {
    by_priority: Vec<Queue>,
    later: Queue,
}

/// Callbacks in the order of their activation. Taking one out of the middle leaves a hole, so that it costs no search
/// and moves nothing.
struct Queue {
    entries: VecDeque<Option<Rc<dyn Callback>>>,
    /// The number of the entry at the front. Numbers begin with 1.
    first: u64,
    holes: usize,
}

/// Fewer holes than this are not worth closing.
const HOLES_TO_CLOSE: usize = 64;

impl Queues {
    pub(crate) fn new(priorities: usize) -> Self {
        Queues { by_priority: (0..priorities).map(|_| Queue::new()).collect(), later: Queue::new() }
    }

    pub(crate) fn priorities(&self) -> usize {
        self.by_priority.len()
    }

    /// The first priority from `from` on that has anything to run now.
    #[inline]
    pub(crate) fn most_urgent(&self, from: usize) -> Option<usize> {
        (from..self.by_priority.len()).find(|&priority| self.by_priority[priority].len() > 0)
    }

    /// Queues the callback of `node`, which `handle` is a clone of, or adds `what` to the call that is queued; true if
    /// it was not queued yet.
    #[inline]
    pub(crate) fn activate(
        &mut self,
        node: &Node,
        handle: impl FnOnce() -> Rc<dyn Callback>,
        what: EventFlags,
        when: When,
    ) -> bool {
        let fresh = !node.is_active();
        if fresh {
            node.what.set(what);
        } else {
            node.what.set(node.what.get() | what);
            if when == When::NextTurn || node.queue.get() != QueueId::Later {
                return false;
            }
            // The caller has a handle, so this drops nothing.
            self.later.take(node);
        }
        let queue = if when == When::NextTurn { QueueId::Later } else { self.queue_for(node) };
        self.enter(queue, node).entries.push_back(Some(handle()));
        fresh
    }

    /// Takes a callback out of its queue, if it is in one. The caller drops it with nothing borrowed.
    pub(crate) fn deactivate(&mut self, node: &Node) -> Option<Rc<dyn Callback>> {
        if !node.is_active() {
            return None;
        }
        self.queue(node.queue.get()).take(node)
    }

    /// Takes out the first callback of a priority, to be called with these flags.
    #[inline]
    pub(crate) fn pop(&mut self, priority: usize) -> Option<(Rc<dyn Callback>, EventFlags)> {
        // A callback may have lowered the number of priorities.
        let callback = self.by_priority.get_mut(priority)?.pop()?;
        let node = callback.node();
        node.place.set(0);
        let what = node.what.get();
        Some((callback, what))
    }

    /// Moves what waited for this turn to its queue.
    pub(crate) fn promote(&mut self) {
        while let Some(callback) = self.later.pop() {
            let queue = self.queue_for(callback.node());
            self.enter(queue, callback.node()).entries.push_back(Some(callback));
        }
    }

    /// Empties all queues. The caller drops what was in them with nothing borrowed.
    pub(crate) fn take_all(&mut self) -> Vec<Rc<dyn Callback>> {
        let queues = self.by_priority.iter_mut().chain([&mut self.later]);
        let all: Vec<_> = queues.flat_map(|queue| iter::from_fn(|| queue.pop())).collect();
        all.iter().for_each(|callback| callback.node().place.set(0));
        all
    }

    /// Notes that this node's callback is the next entry of a queue, and gives that queue.
    #[inline]
    fn enter(&mut self, id: QueueId, node: &Node) -> &mut Queue {
        node.queue.set(id);
        let queue = self.queue(id);
        node.place.set(queue.first + queue.entries.len() as u64);
        queue
    }

    /// Where a callback of this priority runs; the least urgent queue if there is no such priority any more.
    fn queue_for(&self, node: &Node) -> QueueId {
        let last = self.by_priority.len() - 1;
        QueueId::Priority(node.priority().min(last as u8))
    }

    #[inline]
    fn queue(&mut self, id: QueueId) -> &mut Queue {
        match id {
            QueueId::Priority(priority) => &mut self.by_priority[usize::from(priority)],
            QueueId::Later => &mut self.later,
        }
    }
}

impl Queue {
    fn new() -> Self {
        Queue { entries: VecDeque::new(), first: 1, holes: 0 }
    }

    fn len(&self) -> usize {
        self.entries.len() - self.holes
    }

    #[inline]
    fn pop(&mut self) -> Option<Rc<dyn Callback>> {
        loop {
            let entry = self.entries.pop_front()?;
            self.first += 1;
            match entry {
                Some(callback) => return Some(callback),
                None => self.holes -= 1,
            }
        }
    }

    fn take(&mut self, node: &Node) -> Option<Rc<dyn Callback>> {
        let at = node.place.replace(0).checked_sub(self.first)?;
        let callback = self.entries.get_mut(at as usize)?.take()?;
        self.holes += 1;
        while let Some(None) = self.entries.back() {
            self.entries.pop_back();
            self.holes -= 1;
        }
        if self.holes > HOLES_TO_CLOSE.max(self.len()) {
            self.close_holes();
        }
        Some(callback)
    }

    fn close_holes(&mut self) {
        self.entries.retain(Option::is_some);
        self.holes = 0;
        for (number, entry) in (self.first..).zip(&self.entries) {
            if let Some(callback) = entry {
                callback.node().place.set(number);
            }
        }
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

    fn activate(queues: &mut Queues, task: &Rc<Task>, what: EventFlags, when: When) -> bool {
        queues.activate(task.node(), || task.clone(), what, when)
    }

    fn pop(queues: &mut Queues) -> Option<EventFlags> {
        queues.pop(0).map(|(_, what)| what)
    }

    #[test]
    fn one_call_merges_flags() {
        let mut queues = Queues::new(1);
        let a = task(0);
        assert!(activate(&mut queues, &a, EventFlags::READ, When::Now));
        assert!(!activate(&mut queues, &a, EventFlags::WRITE, When::Now));
        assert_eq!(pop(&mut queues), Some(EventFlags::READ | EventFlags::WRITE));
        assert_eq!(pop(&mut queues), None);
        assert!(activate(&mut queues, &a, EventFlags::TIMEOUT, When::Now));
        assert_eq!(pop(&mut queues), Some(EventFlags::TIMEOUT), "old flags are forgotten");
    }

    #[test]
    fn activated_again_stands_at_the_end() {
        let mut queues = Queues::new(1);
        let (a, b) = (task(0), task(0));
        activate(&mut queues, &a, EventFlags::READ, When::Now);
        activate(&mut queues, &b, EventFlags::WRITE, When::Now);
        assert!(queues.deactivate(a.node()).is_some());
        assert!(queues.deactivate(a.node()).is_none());
        assert_eq!(Rc::strong_count(&a), 1, "the queue let go of it");
        activate(&mut queues, &a, EventFlags::CLOSED, When::Now);
        assert_eq!(pop(&mut queues), Some(EventFlags::WRITE));
        assert_eq!(pop(&mut queues), Some(EventFlags::CLOSED));
    }

    #[test]
    fn later_becomes_now_when_asked() {
        let mut queues = Queues::new(1);
        let (a, b) = (task(0), task(0));
        activate(&mut queues, &a, EventFlags::READ, When::NextTurn);
        activate(&mut queues, &b, EventFlags::WRITE, When::NextTurn);
        activate(&mut queues, &a, EventFlags::CLOSED, When::Now);
        assert_eq!(pop(&mut queues), Some(EventFlags::READ | EventFlags::CLOSED));
        assert_eq!(pop(&mut queues), None);
        assert_eq!(queues.most_urgent(0), None);
        queues.promote();
        assert_eq!(queues.most_urgent(0), Some(0));
        assert_eq!(pop(&mut queues), Some(EventFlags::WRITE));
    }

    #[test]
    fn a_priority_that_went_is_the_last_one() {
        let mut queues = Queues::new(2);
        activate(&mut queues, &task(7), EventFlags::READ, When::Now);
        assert_eq!((queues.most_urgent(0), queues.most_urgent(1)), (Some(1), Some(1)));
        assert!(queues.pop(7).is_none());
        assert!(queues.pop(1).is_some());
    }

    #[test]
    fn a_priority_that_changes_while_it_is_active_counts_from_the_next_time() {
        for when in [When::Now, When::NextTurn] {
            let mut queues = Queues::new(2);
            let (a, b) = (task(1), task(0));
            activate(&mut queues, &a, EventFlags::READ, when);
            activate(&mut queues, &b, EventFlags::WRITE, When::Now);
            a.node().set_priority(0);
            assert!(queues.deactivate(a.node()).is_some_and(|taken| ptr_of(&taken) == ptr_of(&a)));
            assert_eq!(pop(&mut queues), Some(EventFlags::WRITE));
            activate(&mut queues, &a, EventFlags::CLOSED, When::Now);
            assert_eq!(pop(&mut queues), Some(EventFlags::CLOSED));
        }
    }

    /// Against a list: any order of activating, deactivating and popping, long enough to close holes.
    #[test]
    fn behaves_like_a_list() {
        let tasks: Vec<_> = (0..500).map(|_| task(0)).collect();
        let mut queues = Queues::new(1);
        let mut model: Vec<usize> = Vec::new();
        let mut random = 1u64;
        for step in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let nth = (random >> 33) as usize % tasks.len();
            let at = model.iter().position(|&other| other == nth);
            match random >> 60 {
                0..=6 => {
                    assert_eq!(activate(&mut queues, &tasks[nth], EventFlags::READ, When::Now), at.is_none());
                    if at.is_none() {
                        model.push(nth);
                    }
                }
                7..=14 => {
                    assert_eq!(queues.deactivate(tasks[nth].node()).is_some(), at.is_some());
                    at.map(|at| model.remove(at));
                }
                _ if step % 8 == 0 => {
                    let popped = queues.pop(0).map(|(callback, _)| ptr_of(&callback));
                    let expected = (!model.is_empty()).then(|| ptr_of(&tasks[model.remove(0)]));
                    assert_eq!(popped, expected);
                }
                _ => (),
            }
            let queue = &queues.by_priority[0];
            assert_eq!(queue.len(), model.len());
            assert!(queue.holes <= HOLES_TO_CLOSE.max(model.len()), "holes pile up");
        }
        drop(queues.take_all());
        assert!(tasks.iter().all(|task| !task.node().is_active() && Rc::strong_count(task) == 1));
    }

    fn ptr_of<T: ?Sized>(task: &Rc<T>) -> *const () {
        Rc::as_ptr(task).cast()
    }
}
