//! The poll: mio underneath, keys and readiness above. Nobody else names `mio::Poll`.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::clock::Nanos;
use crate::flags::EventFlags;
use crate::table::Key;

/// The descriptors that one base polls.
pub(crate) struct Selector {
    poll: Poll,
    events: Events,
    /// Made when a wait is first too short for the poll's milliseconds.
    timer: Option<Timer>,
    /// Why there is none, the first time.
    refusal: Refusal,
}

enum Refusal {
    None,
    New(io::Error),
    Told,
}

struct Timer {
    fd: OwnedFd,
    armed: Option<Nanos>,
}

/// How long a wait may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Look, do not wait.
    No,
    /// Until something is ready.
    Forever,
    /// Until this long after `now`, both on the base's clock.
    Until { deadline: Nanos, now: Nanos },
}

/// What a poll reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ready {
    /// A descriptor of the I/O map.
    Io(Key, EventFlags),
    /// The pipe of a signal has bytes.
    Signal(i32),
    /// The wait is over; what for is known elsewhere.
    Woken,
}

const WAKER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;
/// Signal numbers end at 64; a key would need four thousand million generations of one slot to come up here.
const SIGNALS: u64 = u64::MAX - 1024;

/// Events taken from the kernel in one poll at the start; a poll that fills them doubles the room, up to `MAX_EVENTS`.
const FIRST_EVENTS: usize = 64;
const MAX_EVENTS: usize = 4096;

/// The poll counts milliseconds and rounds up: above this wait that is under 5 %, and no reason for a `timerfd`.
const COARSE: Nanos = 20_000_000;
/// Timers that are this close share a wake-up, as the kernel's own slack lets them.
const SLACK: Nanos = 50_000;

impl Selector {
    pub(crate) fn new() -> io::Result<Selector> {
        Ok(Selector {
            poll: Poll::new()?,
            events: Events::with_capacity(FIRST_EVENTS),
            timer: None,
            refusal: Refusal::None,
        })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), Token(WAKER as usize))
    }

    /// Registers a stream by edges, for reading and writing, for as long as it lives. Urgent data is told as `CLOSED`:
    /// after either a short read does not mean that there is no more.
    pub(crate) fn add_stream(&self, fd: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(key.token() as usize), interest)
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: Key, interest: EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key.token());
        Ok(epoll::add(self.poll.registry().as_fd(), fd, data, epoll_flags(interest))?)
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, key: Key, interest: EventFlags) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key.token());
        Ok(epoll::modify(self.poll.registry().as_fd(), fd, data, epoll_flags(interest))?)
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(self.poll.registry().as_fd(), fd)?)
    }

    /// Forgets a descriptor that may be closed already; then there is nothing to forget.
    pub(crate) fn remove_number(&self, fd: RawFd) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    /// Polls the pipe of a signal until it is closed.
    pub(crate) fn add_signal(&self, pipe: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
        let data = epoll::EventData::new_u64(SIGNALS + u64::from(signal.unsigned_abs()));
        Ok(epoll::add(self.poll.registry().as_fd(), pipe, data, epoll::EventFlags::IN)?)
    }

    /// Waits, then hands out what is ready; a signal that interrupts the wait ends it with nothing.
    pub(crate) fn wait(&mut self, wait: Wait) -> io::Result<()> {
        let timeout = match wait {
            Wait::No => Some(Duration::ZERO),
            Wait::Forever => None,
            Wait::Until { deadline, now } => self.until(deadline, now)?,
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events.iter().map(|event| match event.token().0 as u64 {
            WAKER | TIMER => Ready::Woken,
            token if token >= SIGNALS => Ready::Signal((token - SIGNALS) as i32),
            token => Ready::Io(Key::from_token(token), readiness(event)),
        })
    }

    /// Makes room for more events if the last poll, which reported `seen`, used all of it.
    pub(crate) fn grow(&mut self, seen: usize) {
        let capacity = self.events.capacity();
        if capacity < MAX_EVENTS && seen == capacity {
            self.events = Events::with_capacity(capacity * 2);
        }
    }

    /// Why short waits are not exact, once.
    pub(crate) fn take_refusal(&mut self) -> Option<io::Error> {
        if !matches!(self.refusal, Refusal::New(_)) {
            return None;
        }
        match mem::replace(&mut self.refusal, Refusal::Told) {
            Refusal::New(error) => Some(error),
            Refusal::None | Refusal::Told => None,
        }
    }

    fn until(&mut self, deadline: Nanos, now: Nanos) -> io::Result<Option<Duration>> {
        let left = deadline.saturating_sub(now).max(SLACK);
        if left >= COARSE {
            return Ok(Some(Duration::from_nanos(left)));
        }
        if self.timer.is_none() {
            // Without a descriptor to be had the poll's milliseconds must do, until there is one.
            match self.make_timer() {
                Ok(fd) => self.timer = Some(Timer { fd, armed: None }),
                Err(error) => {
                    if matches!(self.refusal, Refusal::None) {
                        self.refusal = Refusal::New(error);
                    }
                    return Ok(Some(Duration::from_nanos(left)));
                }
            }
        }
        if let Some(timer) = &mut self.timer
            && timer.armed != Some(deadline)
        {
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let value = Timespec { tv_sec: 0, tv_nsec: left as _ };
            let once = Itimerspec { it_interval: zero, it_value: value };
            timerfd_settime(&timer.fd, TimerfdTimerFlags::empty(), &once)?;
            timer.armed = Some(deadline);
        }
        Ok(None)
    }

    /// Polled by edges, so an expiry needs no `read`: setting it anew clears it.
    fn make_timer(&self) -> io::Result<OwnedFd> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(self.poll.registry().as_fd(), &fd, epoll::EventData::new_u64(TIMER), flags)?;
        Ok(fd)
    }
}

fn epoll_flags(interest: EventFlags) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.contains(EventFlags::READ));
    flags.set(epoll::EventFlags::OUT, interest.contains(EventFlags::WRITE));
    flags.set(epoll::EventFlags::RDHUP, interest.contains(EventFlags::CLOSED));
    flags.set(epoll::EventFlags::ET, interest.contains(EventFlags::EDGE));
    flags
}

/// As in libevent an error or a hang-up makes a descriptor ready for all; unlike there, for `CLOSED` as well, so that
/// an event which waits for nothing else learns of it.
fn readiness(event: &mio::event::Event) -> EventFlags {
    if event.is_error() || event.is_write_closed() {
        return EventFlags::IO;
    }
    let mut what = EventFlags::empty();
    what.set(EventFlags::READ, event.is_readable());
    what.set(EventFlags::WRITE, event.is_writable());
    // mio names EPOLLRDHUP only beside EPOLLIN; alone, it is the event that has no other name.
    what.set(EventFlags::CLOSED, event.is_read_closed() || event.is_priority() || what.is_empty());
    what
}
