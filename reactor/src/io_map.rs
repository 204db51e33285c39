//! From descriptors to who waits for them.
//!
//! Events that wait for one descriptor share one registration with the kernel, the union of their interests. Adding
//! takes effect at once, so that a refusal reaches the caller. Taking away is put off until the next poll: an event
//! that is deleted and added again meanwhile costs no system call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::active::Callback;
use crate::flags::EventFlags;
use crate::selector::Selector;
use crate::table::{Key, Table};

/// What an event of one base waits for, by descriptor.
pub(crate) struct IoMap {
    slots: Table<Slot>,
    /// By descriptor number: the shared registration of its events.
    by_fd: Vec<Option<Key>>,
    /// Registrations that ask the kernel for more than anybody wants.
    excessive: Vec<Key>,
}

enum Slot {
    /// A descriptor with events, by level unless they ask for edges.
    Shared(Shared),
    /// A stream that belongs to one callback, registered once by edges for all.
    Stream(Rc<dyn Callback>),
}

struct Shared {
    fd: RawFd,
    registered: EventFlags,
    is_excessive: bool,
    waiting: Vec<Waiting>,
}

/// One event's part. It keeps the descriptor open, so what is registered is never somebody else's.
pub(crate) struct Waiting {
    pub(crate) interest: EventFlags,
    pub(crate) fd: Rc<dyn AsFd>,
    pub(crate) callback: Rc<dyn Callback>,
}

impl Shared {
    fn wanted(&self) -> EventFlags {
        self.waiting.iter().fold(EventFlags::empty(), |all, waiting| all | waiting.interest)
    }

    #[inline]
    fn hit(&self, what: EventFlags, mut activate: impl FnMut(&Rc<dyn Callback>, EventFlags)) {
        for waiting in self.waiting.iter().rev() {
            let hit = what & waiting.interest;
            if hit.intersects(EventFlags::IO) {
                activate(&waiting.callback, hit);
            }
        }
    }

    /// Whether the kernel may have reported a half-close besides, which mio cannot name here.
    fn is_doubtful(&self, what: EventFlags) -> bool {
        let hidden = EventFlags::WRITE | EventFlags::CLOSED;
        what == EventFlags::WRITE && self.registered & EventFlags::IO == hidden
    }

    fn any_fd(&self) -> Option<Rc<dyn AsFd>> {
        self.waiting.first().map(|waiting| waiting.fd.clone())
    }
}

/// Whether the peer will send no more, as far as the kernel knows. If it has no memory to tell, not yet: a level is asked
/// for again in the next turn.
pub(crate) fn is_half_closed(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}

/// The kinds of interest that the kernel hears of.
const REGISTERED: EventFlags = EventFlags::IO.union(EventFlags::EDGE);

/// Why an interest was refused.
pub(crate) enum Refused {
    /// Others wait for this descriptor in the other triggering mode.
    MixedTrigger,
    Io(io::Error),
}

impl IoMap {
    pub(crate) fn new() -> Self {
        IoMap { slots: Table::new(), by_fd: Vec::new(), excessive: Vec::new() }
    }

    pub(crate) fn add_stream(
        &mut self,
        selector: &Selector,
        fd: BorrowedFd<'_>,
        callback: Rc<dyn Callback>,
    ) -> io::Result<Key> {
        let key = self.slots.insert(Slot::Stream(callback));
        selector.add_stream(fd, key).inspect_err(|_| drop(self.slots.remove(key)))?;
        Ok(key)
    }

    /// Forgets a stream; what is returned is dropped by the caller, with nothing borrowed.
    pub(crate) fn remove_stream(
        &mut self,
        selector: &Selector,
        fd: BorrowedFd<'_>,
        key: Key,
    ) -> Option<Rc<dyn Callback>> {
        match self.slots.remove(key)? {
            Slot::Stream(callback) => {
                // Fails only for a descriptor that is not registered, which is what is wanted.
                let _ = selector.remove(fd);
                Some(callback)
            }
            Slot::Shared(_) => None,
        }
    }

    /// `fd` is that of `waiting`, asked for by the caller with nothing borrowed: to give it may be user code.
    pub(crate) fn add(
        &mut self,
        selector: &Selector,
        fd: BorrowedFd<'_>,
        waiting: Waiting,
    ) -> Result<(), (Refused, Waiting)> {
        let interest = waiting.interest & REGISTERED;
        match self.register(selector, fd, interest) {
            Ok(shared) => {
                shared.waiting.push(Waiting { interest, ..waiting });
                Ok(())
            }
            Err(refused) => Err((refused, waiting)),
        }
    }

    fn register(
        &mut self,
        selector: &Selector,
        fd: BorrowedFd<'_>,
        interest: EventFlags,
    ) -> Result<&mut Shared, Refused> {
        let number = fd.as_raw_fd();
        let index = index(number).ok_or_else(|| Refused::Io(io::ErrorKind::InvalidInput.into()))?;
        if index >= self.by_fd.len() {
            self.by_fd.resize(index + 1, None);
        }
        let (key, is_new) = match self.by_fd[index] {
            Some(key) => (key, false),
            None => {
                let shared =
                    Shared { fd: number, registered: interest, is_excessive: false, waiting: Vec::new() };
                let key = self.slots.insert(Slot::Shared(shared));
                if let Err(error) = selector.add(fd, key, interest) {
                    self.slots.remove(key);
                    return Err(Refused::Io(error));
                }
                self.by_fd[index] = Some(key);
                (key, true)
            }
        };
        let Some(Slot::Shared(shared)) = self.slots.get_mut(key) else {
            return Err(Refused::Io(io::ErrorKind::AlreadyExists.into()));
        };
        let wanted = shared.wanted();
        if !wanted.is_empty() && (wanted ^ interest).contains(EventFlags::EDGE) {
            return Err(Refused::MixedTrigger);
        }
        // Registering an edge anew reports what is there already, which the new event has not heard of.
        let is_news = !shared.registered.contains(interest)
            || (shared.registered | interest).contains(EventFlags::EDGE);
        if is_news && !is_new {
            selector.modify(fd, key, wanted | interest).map_err(Refused::Io)?;
            shared.registered = wanted | interest;
        }
        Ok(shared)
    }

    /// Ends an event's waiting; what is returned is dropped by the caller, with nothing borrowed.
    pub(crate) fn remove(&mut self, fd: RawFd, callback: &dyn Callback) -> Option<Waiting> {
        let key = (*self.by_fd.get(index(fd)?)?)?;
        let Some(Slot::Shared(shared)) = self.slots.get_mut(key) else { return None };
        let at =
            shared.waiting.iter().position(|waiting| ptr::eq(waiting.callback.node(), callback.node()))?;
        let removed = shared.waiting.remove(at);
        if !shared.is_excessive && shared.wanted() != shared.registered {
            shared.is_excessive = true;
            self.excessive.push(key);
        }
        Some(removed)
    }

    /// Tells the kernel of a descriptor that is about to be closed or given away, unless others wait for it.
    pub(crate) fn release(&mut self, selector: &Selector, fd: BorrowedFd<'_>) {
        let Some(index) = index(fd.as_raw_fd()) else { return };
        let Some(Some(key)) = self.by_fd.get(index).copied() else { return };
        if let Some(Slot::Shared(shared)) = self.slots.get(key)
            && shared.waiting.is_empty()
        {
            // Fails only for a descriptor that is not registered, which is what is wanted.
            let _ = selector.remove(fd);
            self.slots.remove(key);
            self.by_fd[index] = None;
        }
    }

    /// Tells the kernel what nobody waits for any more. Called before each poll, until it returns nothing: for each
    /// registration that it returns, [`narrow`](Self::narrow) is called with its descriptor.
    pub(crate) fn flush(&mut self, selector: &Selector) -> Option<(Key, Rc<dyn AsFd>)> {
        while let Some(key) = self.excessive.pop() {
            let Some(Slot::Shared(shared)) = self.slots.get_mut(key) else { continue };
            shared.is_excessive = false;
            if shared.wanted() == shared.registered {
                continue;
            }
            if let Some(fd) = shared.any_fd() {
                return Some((key, fd));
            }
            selector.remove_number(shared.fd);
            if let Some(index) = index(shared.fd) {
                self.by_fd[index] = None;
            }
            self.slots.remove(key);
        }
        None
    }

    /// Tells the kernel what is still wanted of a descriptor.
    pub(crate) fn narrow(&mut self, selector: &Selector, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        // What was asked for the descriptor may have deleted the last event: then the next flush sees to it.
        if let Some(Slot::Shared(shared)) = self.slots.get_mut(key)
            && !shared.waiting.is_empty()
        {
            let wanted = shared.wanted();
            selector.modify(fd, key, wanted)?;
            shared.registered = wanted;
        }
        Ok(())
    }

    /// Hands each callback that waits for this readiness to `activate`, the event added last first. Returns the
    /// descriptor, nobody told, if it [`is_half_closed`] must be found out first; then `CLOSED` or `EDGE` is added.
    #[inline]
    pub(crate) fn ready(
        &self,
        key: Key,
        what: EventFlags,
        mut activate: impl FnMut(&Rc<dyn Callback>, EventFlags),
    ) -> Option<Rc<dyn AsFd>> {
        match self.slots.get(key) {
            Some(Slot::Shared(shared)) if shared.is_doubtful(what) => return shared.any_fd(),
            Some(Slot::Shared(shared)) => shared.hit(what | EventFlags::EDGE, activate),
            Some(Slot::Stream(callback)) => activate(callback, what),
            None => (),
        }
        None
    }

    /// Hands each callback that waits for this descriptor with an interest in `what` to `activate`.
    pub(crate) fn on_fd(
        &self,
        fd: RawFd,
        what: EventFlags,
        activate: impl FnMut(&Rc<dyn Callback>, EventFlags),
    ) {
        let key = index(fd).and_then(|index| *self.by_fd.get(index)?);
        if let Some(Slot::Shared(shared)) = key.and_then(|key| self.slots.get(key)) {
            shared.hit(what, activate);
        }
    }

    /// Forgets everything; what is returned is dropped by the caller, with nothing borrowed.
    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        self.by_fd.clear();
        self.excessive.clear();
        self.slots.take_all()
    }
}

fn index(fd: RawFd) -> Option<usize> {
    usize::try_from(fd).ok()
}
