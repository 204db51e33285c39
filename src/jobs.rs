//! Blocking work off the loop.
//!
//! [`Jobs`] is a small fixed pool of threads, one of them for urgent work alone. A [`Desk`] belongs to one loop: work that it sends to the pool is `Send`,
//! what is to happen with the result stays behind at the desk under a number, and only that number and the result cross.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use reactor::{Event, EventBase, EventFlags, EventTicket, Notifier};

type Job = Box<dyn FnOnce() + Send>;

/// The work ended without a result: it panicked, or its pool is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a background job ended without a result: see the log for why, and try again")]
pub struct Lost;

/// Takes jobs for a pool. `Send + Clone`; it does not keep the pool alive.
#[derive(Clone)]
pub struct Submitter {
    queue: Arc<Queue>,
}

/// A fixed pool of threads for work that blocks: flushes, compression, index commits.
///
/// One more thread does only what is [urgent](Submitter::submit_urgent), so that it does not wait until long work ends.
///
/// Dropping it runs what is queued, then joins the threads; so it must not be dropped by one of its own jobs.
pub struct Jobs {
    submitter: Submitter,
    threads: Vec<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    urgent_bell: Condvar,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Job>,
    waiting: VecDeque<Job>,
    /// Not before their time, unless the pool ends.
    later: Vec<(Instant, Job)>,
    /// No thread waits for more.
    is_closed: bool,
    /// Threads that still look for jobs.
    alive: usize,
    /// The thread for urgent ones waits.
    is_urgent_idle: bool,
}

impl Jobs {
    /// Starts a pool of `threads` threads, at least one, and the one for urgent work.
    ///
    /// # Errors
    /// If a thread cannot be started; those that were are joined.
    pub fn new(threads: usize) -> io::Result<Jobs> {
        let queue =
            Arc::new(Queue { state: Mutex::default(), bell: Condvar::new(), urgent_bell: Condvar::new() });
        let mut jobs = Jobs { submitter: Submitter { queue }, threads: Vec::new() };
        for number in 0..=threads.max(1) {
            let queue = Arc::clone(&jobs.submitter.queue);
            queue.lock().alive += 1;
            let worker = Arc::clone(&queue);
            let is_for_urgent = number == 0;
            let name = if is_for_urgent { "job-urgent".to_owned() } else { format!("job-{number}") };
            match thread::Builder::new().name(name).spawn(move || worker.work(is_for_urgent)) {
                Ok(thread) => jobs.threads.push(thread),
                Err(error) => {
                    queue.lock().alive -= 1;
                    return Err(error);
                }
            }
        }
        Ok(jobs)
    }

    /// What takes jobs for this pool.
    pub fn submitter(&self) -> Submitter {
        self.submitter.clone()
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.submitter.queue.lock().is_closed = true;
        self.submitter.queue.bell.notify_all();
        self.submitter.queue.urgent_bell.notify_all();
        for thread in self.threads.drain(..) {
            // A job's panic is caught, so the thread ended well.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Submitter {
    /// Queues a job. It is dropped unrun, here, if the pool has ended.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.queue.push(Box::new(job), false);
    }

    /// Whether the pool ends when its queue is empty: long work that comes in steps had better stop.
    pub fn is_closing(&self) -> bool {
        self.queue.lock().is_closed
    }

    /// As [`submit`](Self::submit), in front of all that were submitted so: for short work that others wait for.
    pub fn submit_urgent(&self, job: impl FnOnce() + Send + 'static) {
        self.queue.push(Box::new(job), true);
    }

    /// As [`submit`](Self::submit), but not before `delay` has passed, except when the pool ends.
    pub fn submit_later(&self, delay: Duration, job: impl FnOnce() + Send + 'static) {
        let mut state = self.queue.lock();
        if state.alive == 0 {
            drop(state);
            return drop(job);
        }
        state.later.push((Instant::now() + delay, Box::new(job)));
        drop(state);
        // The thread that waits for it does not know how long yet.
        self.queue.urgent_bell.notify_one();
    }
}

impl fmt::Debug for Submitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").finish_non_exhaustive()
    }
}

impl State {
    /// Which of the later jobs is next, and in how long.
    fn next_due(&self) -> Option<(usize, Duration)> {
        let (at, due) = self.later.iter().map(|(due, _)| *due).enumerate().min_by_key(|(_, due)| *due)?;
        let delay = due.saturating_duration_since(Instant::now());
        Some((at, if self.is_closed { Duration::ZERO } else { delay }))
    }
}

impl Queue {
    fn push(&self, job: Job, is_urgent: bool) {
        let mut state = self.lock();
        if state.alive == 0 {
            // A job's drop may send something: not under the lock.
            drop(state);
            return drop(job);
        }
        let bell = if is_urgent && state.is_urgent_idle { &self.urgent_bell } else { &self.bell };
        match is_urgent {
            true => {
                state.is_urgent_idle = false;
                state.urgent.push_back(job);
            }
            false => state.waiting.push_back(job),
        }
        drop(state);
        bell.notify_one();
    }

    fn work(&self, is_for_urgent: bool) {
        let mut state = self.lock();
        loop {
            // At the end, the thread that waits for them may be gone.
            let due = state.next_due().filter(|_| is_for_urgent || state.is_closed);
            let job = match due {
                Some((at, Duration::ZERO)) => Some(state.later.swap_remove(at).1),
                _ => state.urgent.pop_front(),
            };
            // At the end it may be the last thread, with a job that asks for more.
            let takes_all = !is_for_urgent || state.is_closed;
            if let Some(job) = job.or_else(|| takes_all.then(|| state.waiting.pop_front()).flatten()) {
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
            } else if state.is_closed {
                state.alive -= 1;
                return;
            } else if is_for_urgent {
                state.is_urgent_idle = true;
                let delay = due.map_or(Duration::MAX, |(_, delay)| delay);
                let waited = self.urgent_bell.wait_timeout(state, delay);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.is_urgent_idle = false;
            } else {
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Parcel = (u64, Option<Box<dyn Any + Send>>);
type Local = Box<dyn FnOnce()>;
type Continuation = Box<dyn FnMut(Option<Box<dyn Any + Send>>)>;

/// Where results arrive on a loop. `Clone`, on the loop's thread only.
///
/// It keeps the loop alive while a result is awaited.
#[derive(Clone)]
pub struct Desk {
    core: Rc<DeskCore>,
}

struct DeskCore {
    base: EventBase,
    event: Event,
    sender: Sender<Parcel>,
    notifier: Notifier,
    /// Owned by the loop, which drops it with itself: what waits may own this desk.
    awaited: Weak<RefCell<HashMap<u64, Continuation>>>,
    /// What waits for the loop only; owned likewise.
    local: Weak<RefCell<VecDeque<Local>>>,
    next: Cell<u64>,
}

impl Desk {
    /// A desk on a loop.
    ///
    /// # Errors
    /// [`reactor::Error::Freed`] when the base is gone.
    pub fn new(base: &EventBase) -> reactor::Result<Desk> {
        let (sender, receiver) = channel();
        let awaited: Rc<RefCell<HashMap<u64, Continuation>>> = Rc::default();
        let local: Rc<RefCell<VecDeque<Local>>> = Rc::default();
        let (awaiting, here) = (Rc::downgrade(&awaited), Rc::downgrade(&local));
        let event = Event::manual(base, EventFlags::PERSIST, move |event, _| {
            deliver(event, &receiver, &awaited);
            // What they add has its own turn.
            let count = local.borrow().len();
            for _ in 0..count {
                let next = local.borrow_mut().pop_front();
                if let Some(run) = next {
                    run();
                }
            }
        })?;
        let notifier = base.notifier();
        let base = base.handle();
        let next = Cell::new(0);
        let core = DeskCore { base, event, sender, notifier, awaited: awaiting, local: here, next };
        Ok(Desk { core: Rc::new(core) })
    }

    /// The loop that it is on.
    pub fn base(&self) -> &EventBase {
        &self.core.base
    }

    /// Leaves `done` at the desk, to be called from the loop with what the ticket is redeemed for.
    ///
    /// `done` is not called if the loop ends before, or if the desk's last handle is dropped.
    pub fn ticket<T: Send + 'static>(&self, done: impl FnOnce(Result<T, Lost>) + 'static) -> Ticket<T> {
        let core = &self.core;
        let number = core.next.get();
        core.next.set(number.wrapping_add(1));
        let mut done = Some(done);
        let continuation = move |parcel: Option<Box<dyn Any + Send>>| {
            let result =
                parcel.and_then(|any| any.downcast().ok()).map_or(Err(Lost), |result: Box<T>| Ok(*result));
            if let Some(done) = done.take() {
                done(result);
            }
        };
        if let Some(awaited) = core.awaited.upgrade() {
            awaited.borrow_mut().insert(number, Box::new(continuation));
        }
        // Fails only when the base is gone, and then nothing arrives either.
        let _ = core.event.add(None);
        Ticket {
            number,
            sender: Some(core.sender.clone()),
            notifier: core.notifier.clone(),
            event: core.event.ticket(),
            result: None,
        }
    }

    /// Runs `done` from the loop, soon: for a result that is there already. Not if the desk's last handle is dropped before.
    pub fn soon(&self, done: impl FnOnce() + 'static) {
        if let Some(local) = self.core.local.upgrade() {
            local.borrow_mut().push_back(Box::new(done));
            self.core.event.activate(EventFlags::empty());
        }
    }

    /// Runs `work` on the pool, then `done` on the loop.
    pub fn run<T: Send + 'static>(
        &self,
        jobs: &Submitter,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(Result<T, Lost>) + 'static,
    ) {
        let ticket = self.ticket(done);
        jobs.submit(move || ticket.redeem(work()));
    }
}

impl Drop for DeskCore {
    fn drop(&mut self) {
        self.event.free();
        // They are there still if it is one of them that drops the last handle.
        let awaited = self.awaited.upgrade().map(|awaited| std::mem::take(&mut *awaited.borrow_mut()));
        let local = self.local.upgrade().map(|local| std::mem::take(&mut *local.borrow_mut()));
        drop((awaited, local));
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let awaited = self.core.awaited.upgrade().map_or(0, |awaited| awaited.borrow().len());
        f.debug_struct("Desk").field("awaited", &awaited).finish_non_exhaustive()
    }
}

fn deliver(event: &Event, receiver: &Receiver<Parcel>, awaited: &RefCell<HashMap<u64, Continuation>>) {
    for (number, result) in receiver.try_iter() {
        let continuation = awaited.borrow_mut().remove(&number);
        if awaited.borrow().is_empty() {
            event.del();
        }
        if let Some(mut continuation) = continuation {
            continuation(result);
        }
    }
}

/// The right to one call of a continuation. `Send`; dropped, it says [`Lost`].
pub struct Ticket<T: Send + 'static> {
    number: u64,
    sender: Option<Sender<Parcel>>,
    notifier: Notifier,
    event: EventTicket,
    result: Option<Box<T>>,
}

impl<T: Send + 'static> Ticket<T> {
    /// Sends the result to the loop.
    pub fn redeem(mut self, result: T) {
        self.result = Some(Box::new(result));
    }
}

impl<T: Send + 'static> Drop for Ticket<T> {
    fn drop(&mut self) {
        let Some(sender) = self.sender.take() else { return };
        let result = self.result.take().map(|result| result as Box<dyn Any + Send>);
        // Either fails when the loop is gone: then there is nobody to tell.
        if sender.send((self.number, result)).is_ok() {
            let _ = self.notifier.activate(self.event, EventFlags::empty());
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_arrive_on_the_loop_and_end_it() {
        let base = EventBase::new().unwrap();
        let jobs = Jobs::new(3).unwrap();
        let desk = Desk::new(&base).unwrap();
        let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
        for n in 0..100 {
            let mine = Rc::clone(&seen);
            desk.run(&jobs.submitter(), move || n * 2, move |result| mine.borrow_mut().push(result.unwrap()));
        }
        base.dispatch().unwrap();
        seen.borrow_mut().sort_unstable();
        assert_eq!(*seen.borrow(), (0..100).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_awaited_goes_with_the_loop_or_the_desk() {
        for loop_first in [true, false] {
            let base = EventBase::new().unwrap();
            let desk = Desk::new(&base).unwrap();
            let owned = Rc::new(());
            // As what asks for more does: it has the desk, and the desk has it.
            let (mine, own) = (desk.clone(), Rc::clone(&owned));
            let ticket: Ticket<u32> = desk.ticket(move |_| drop((mine, own)));
            if loop_first {
                let own = Rc::clone(&owned);
                let mine = desk.clone();
                desk.soon(move || drop((mine, own)));
                drop(base);
                assert_eq!(Rc::strong_count(&owned), 1);
                // Of no use any more, and no harm.
                let own = Rc::clone(&owned);
                drop(desk.ticket::<u32>(move |_| drop(own)));
                desk.soon(|| panic!("there is no loop"));
                drop(desk);
            } else {
                ticket.redeem(1);
                drop(desk);
                base.dispatch().unwrap();
            }
            assert_eq!(Rc::strong_count(&owned), 1);
        }
    }

    #[test]
    fn a_continuation_may_ask_again() {
        let base = EventBase::new().unwrap();
        let jobs = Jobs::new(1).unwrap();
        let (desk, rounds) = (Desk::new(&base).unwrap(), Rc::new(Cell::new(0)));
        fn again(desk: Desk, jobs: Submitter, rounds: Rc<Cell<u32>>) {
            let (next, pool) = (desk.clone(), jobs.clone());
            desk.run(
                &jobs,
                || (),
                move |_| {
                    rounds.set(rounds.get() + 1);
                    if rounds.get() < 10 {
                        again(next, pool, rounds);
                    }
                },
            );
        }
        again(desk, jobs.submitter(), Rc::clone(&rounds));
        base.dispatch().unwrap();
        assert_eq!(rounds.get(), 10);
    }

    #[test]
    fn a_job_that_panics_is_lost_and_the_pool_goes_on() {
        let base = EventBase::new().unwrap();
        let jobs = Jobs::new(1).unwrap();
        let desk = Desk::new(&base).unwrap();
        let seen: Rc<RefCell<Vec<Result<u8, Lost>>>> = Rc::default();
        let (first, second) = (Rc::clone(&seen), Rc::clone(&seen));
        desk.run(&jobs.submitter(), || -> u8 { panic!("as asked") }, move |r| first.borrow_mut().push(r));
        desk.run(&jobs.submitter(), || 7, move |r| second.borrow_mut().push(r));
        base.dispatch().unwrap();
        assert_eq!(*seen.borrow(), [Err(Lost), Ok(7)]);
    }

    #[test]
    fn a_pool_that_ends_runs_what_is_queued_and_refuses_the_rest() {
        let base = EventBase::new().unwrap();
        let jobs = Jobs::new(2).unwrap();
        let submitter = jobs.submitter();
        let desk = Desk::new(&base).unwrap();
        let done = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let mine = Rc::clone(&done);
            desk.run(&submitter, || (), move |result| mine.set(mine.get() + u32::from(result.is_ok())));
        }
        drop(jobs);
        let lost = Rc::new(Cell::new(false));
        let mine = Rc::clone(&lost);
        desk.run(&submitter, || (), move |result| mine.set(result == Err(Lost)));
        base.dispatch().unwrap();
        assert_eq!((done.get(), lost.get()), (50, true));
    }

    #[test]
    fn a_later_job_runs_when_it_is_due_or_when_the_pool_ends() {
        let base = EventBase::new().unwrap();
        let jobs = Jobs::new(2).unwrap();
        let (sender, order) = channel();
        let (first, second, third) = (sender.clone(), sender.clone(), sender);
        jobs.submitter().submit_later(Duration::from_secs(3600), move || third.send(3).unwrap());
        jobs.submitter().submit_later(Duration::from_millis(20), move || second.send(2).unwrap());
        jobs.submitter().submit(move || first.send(1).unwrap());
        assert_eq!((order.recv(), order.recv()), (Ok(1), Ok(2)));
        // One that waits keeps nobody from ending.
        base.dispatch().unwrap();
        drop(jobs);
        assert_eq!(order.recv(), Ok(3));
    }

    #[test]
    fn a_later_job_runs_when_the_thread_that_waits_for_it_has_ended() {
        let jobs = Jobs::new(1).unwrap();
        let (submitter, queue) = (jobs.submitter(), Arc::clone(&jobs.submitter.queue));
        let (sender, ran) = channel();
        jobs.submitter().submit(move || {
            while queue.lock().alive > 1 {
                thread::yield_now();
            }
            submitter.submit_later(Duration::from_secs(3600), move || sender.send(()).unwrap());
        });
        drop(jobs);
        assert_eq!(ran.try_recv(), Ok(()));
    }

    /// As a commit does that is the last work of a store, and whose answer asks for more.
    #[test]
    fn a_job_of_the_urgent_thread_runs_when_all_others_have_ended() {
        let jobs = Jobs::new(2).unwrap();
        let (submitter, queue) = (jobs.submitter(), Arc::clone(&jobs.submitter.queue));
        let (sender, ran) = channel();
        let (began, begun) = channel();
        // So that the urgent one is taken by the thread for those.
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..2 {
            let (held, began) = (Arc::clone(&held), began.clone());
            submitter.submit(move || {
                began.send(()).unwrap();
                let _ = held.lock().unwrap().recv();
            });
            begun.recv().unwrap();
        }
        let again = submitter.clone();
        submitter.submit_urgent(move || {
            began.send(()).unwrap();
            while queue.lock().alive > 1 {
                thread::yield_now();
            }
            again.submit(move || sender.send(()).unwrap());
        });
        begun.recv().unwrap();
        drop(hold);
        drop(jobs);
        assert_eq!(ran.try_recv(), Ok(()));
    }

    #[test]
    fn a_local_result_arrives_from_the_loop_without_the_pool() {
        let base = EventBase::new().unwrap();
        let desk = Desk::new(&base).unwrap();
        let seen: Rc<RefCell<Vec<u32>>> = Rc::default();
        let (mine, again, next) = (Rc::clone(&seen), desk.clone(), Rc::clone(&seen));
        desk.soon(move || {
            mine.borrow_mut().push(1);
            again.soon(move || next.borrow_mut().push(3));
        });
        let mine = Rc::clone(&seen);
        desk.soon(move || mine.borrow_mut().push(2));
        assert!(seen.borrow().is_empty());
        base.dispatch().unwrap();
        assert_eq!(*seen.borrow(), [1, 2, 3]);
    }

    #[test]
    fn urgent_jobs_come_first() {
        let jobs = Jobs::new(1).unwrap();
        let submitter = jobs.submitter();
        let (began, begun) = channel();
        // Keeps a thread busy until the sender goes.
        let hold = |is_urgent| {
            let (hold, held) = channel::<()>();
            let began = began.clone();
            let job = move || {
                began.send(()).unwrap();
                let _ = held.recv();
            };
            if is_urgent {
                submitter.submit_urgent(job)
            } else {
                submitter.submit(job)
            }
            begun.recv().unwrap();
            hold
        };
        let (plain, urgent) = (hold(false), hold(true));
        let (sender, order) = channel();
        for (name, is_urgent) in [("a", false), ("b", true), ("c", false), ("d", true)] {
            let sender = sender.clone();
            let job = move || sender.send(name).unwrap();
            if is_urgent { submitter.submit_urgent(job) } else { submitter.submit(job) }
        }
        drop((plain, sender));
        assert_eq!(order.iter().collect::<String>(), "bdac");
        drop(urgent);
    }

    #[test]
    fn urgent_jobs_do_not_wait_for_long_ones() {
        let jobs = Jobs::new(2).unwrap();
        let submitter = jobs.submitter();
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..10 {
            let held = Arc::clone(&held);
            submitter.submit(move || {
                let _ = held.lock().unwrap().recv();
            });
        }
        let (sender, answers) = channel();
        for n in 0..10 {
            let sender = sender.clone();
            submitter.submit_urgent(move || sender.send(n).unwrap());
        }
        assert_eq!(answers.iter().take(10).sum::<u32>(), 45);
        drop(hold);
    }
}
