//! The door for other threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use crate::base::EventBase;
use crate::error::{Error, Result};

/// A closure on its way to the loop's thread.
pub(crate) type Task = Box<dyn FnOnce(&EventBase) + Send>;

/// Reaches an [`EventBase`] from any thread. `Send + Clone`, as cheap as an `Arc`.
///
/// What is posted runs on the loop's thread, in the order in which it was posted, at the base's middle priority. It
/// counts as active work: a loop that has nothing else runs it before it ends. A notifier alone does not keep a loop
/// alive; run with [`LoopFlags::NO_EXIT_ON_EMPTY`](crate::LoopFlags::NO_EXIT_ON_EMPTY) for that.
///
/// ```
/// use reactor::{EventBase, LoopFlags};
/// use std::thread;
///
/// let base = EventBase::new()?;
/// let notifier = base.notifier();
/// let worker = thread::spawn(move || {
///     let answer = 6 * 7;
///     notifier.post(move |base| {
///         assert_eq!(answer, 42);
///         base.loop_break();
///     })
/// });
/// base.run(LoopFlags::NO_EXIT_ON_EMPTY)?;
/// worker.join().unwrap()?;
/// # Ok::<(), reactor::Error>(())
/// ```
///
/// A posted closure is `Send`, so it cannot hold a handle or an `Rc` of the loop's thread. A result that is for those
/// goes through a channel, and an event that owns the receiving end is activated by its ticket:
///
/// ```
/// use reactor::{Event, EventBase, EventFlags};
/// use std::{cell::RefCell, rc::Rc, sync::mpsc, thread};
///
/// let base = EventBase::new()?;
/// let results = Rc::new(RefCell::new(Vec::new()));
/// let (sender, receiver) = mpsc::channel();
/// let mine = results.clone();
/// let arrived = Event::manual(&base, EventFlags::empty(), move |_, _| {
///     mine.borrow_mut().extend(receiver.try_iter()); // all of them: two activations may be one call
/// })?;
/// arrived.add(None)?; // keeps the loop alive until a result is there
/// let (notifier, ticket) = (base.notifier(), arrived.ticket());
/// let worker = thread::spawn(move || {
///     let _ = sender.send(6 * 7);
///     notifier.activate(ticket, EventFlags::empty())
/// });
/// base.dispatch()?;
/// worker.join().unwrap()?;
/// assert_eq!(*results.borrow(), [42]);
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone)]
pub struct Notifier {
    remote: Arc<Remote>,
}

impl Notifier {
    pub(crate) fn new(remote: &Arc<Remote>) -> Self {
        Notifier { remote: remote.clone() }
    }

    /// Runs `task` on the loop's thread and wakes the loop. Never blocks on the loop.
    ///
    /// # Errors
    /// [`Error::Freed`] if the base is gone: the task was dropped unrun, here. A task that is still waiting when the
    /// base goes is dropped with it, on the base's thread.
    #[doc(alias = "event_active")]
    pub fn post(&self, task: impl FnOnce(&EventBase) + Send + 'static) -> Result<()> {
        self.remote.post(Box::new(task))
    }

    /// As [`EventBase::loop_break`]: the loop ends after the callback that it is in.
    ///
    /// # Errors
    /// [`Error::Freed`] if the base is gone.
    #[doc(alias = "event_base_loopbreak")]
    pub fn loop_break(&self) -> Result<()> {
        self.remote.request_break()
    }

    /// As [`EventBase::loop_exit`] without a delay: the loop ends after the turn that it is in. Called while no loop
    /// runs, it ends the next one after one turn.
    ///
    /// # Errors
    /// [`Error::Freed`] if the base is gone.
    #[doc(alias = "event_base_loopexit")]
    pub fn loop_exit(&self) -> Result<()> {
        self.post(|base| base.set_exit())
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

/// What the base and its notifiers share.
pub(crate) struct Remote {
    /// Something waits in the inbox. Whoever sets it wakes the loop.
    waiting: AtomicBool,
    /// Somebody asked for a break; looked at after each callback, so apart from the inbox.
    breaking: AtomicBool,
    inbox: Mutex<Inbox>,
}

struct Inbox {
    tasks: Vec<Task>,
    /// Gone with the base.
    waker: Option<Waker>,
}

impl Remote {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Remote {
            waiting: AtomicBool::new(false),
            breaking: AtomicBool::new(false),
            inbox: Mutex::new(Inbox { tasks: Vec::new(), waker: Some(waker) }),
        })
    }

    /// Whether [`take`](Self::take) would find something.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Vec<Task> {
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut self.lock().tasks)
    }

    pub(crate) fn is_breaking(&self) -> bool {
        self.breaking.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_break(&self) {
        self.breaking.store(false, Ordering::Relaxed);
    }

    /// Ends the traffic; what is returned is dropped by the caller, outside the lock.
    pub(crate) fn close(&self) -> Vec<Task> {
        let mut inbox = self.lock();
        inbox.waker = None;
        std::mem::take(&mut inbox.tasks)
    }

    fn post(&self, task: Task) -> Result<()> {
        let mut inbox = self.lock();
        let Some(waker) = &inbox.waker else {
            drop(inbox);
            return Err(Error::Freed { what: "event base" });
        };
        if !self.waiting.swap(true, Ordering::AcqRel) {
            waker.wake().map_err(|source| {
                self.waiting.store(false, Ordering::Release);
                Error::Io { what: "wake the event loop", source }
            })?;
        }
        inbox.tasks.push(task);
        Ok(())
    }

    fn request_break(&self) -> Result<()> {
        let inbox = self.lock();
        let waker = inbox.waker.as_ref().ok_or(Error::Freed { what: "event base" })?;
        self.breaking.store(true, Ordering::Relaxed);
        waker.wake().map_err(Error::io("wake the event loop"))
    }

    /// Nothing panics under this lock, so a poisoned one is whole.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
