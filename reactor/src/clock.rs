//! The loop's time: monotonic, cached for the length of a turn, replaceable in tests.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the clock was made. 64 bits last for 584 years.
pub(crate) type Nanos = u64;

/// A duration as [`Nanos`]; what does not fit means "never", and is as far away.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock that moves only when it is told to, so that tests of time neither sleep nor guess.
///
/// A base built with one ([`Builder::clock`](crate::Builder::clock)) does not sleep until its next timer: when no
/// descriptor is ready, it moves the clock to that timer's deadline. Clones are the same clock.
///
/// ```
/// use reactor::{Event, EventBase, SteppedClock};
/// use std::time::Duration;
///
/// let clock = SteppedClock::new();
/// let base = EventBase::builder().clock(&clock).build()?;
/// let hour = Event::timer(&base, |_, _| ())?;
/// hour.add(Some(Duration::from_secs(3600)))?;
/// base.dispatch()?;
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SteppedClock {
    elapsed: Rc<Cell<Nanos>>,
}

impl SteppedClock {
    /// A clock that stands at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.elapsed.set(self.elapsed.get().saturating_add(nanos(by)));
    }

    /// How far the clock was moved since it was made.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.get())
    }
}

/// The clock of one base.
pub(crate) struct Clock {
    start: Instant,
    /// `start` on the system's monotonic clock, which [`Instant`] reads as well, with more ado.
    epoch: Nanos,
    stepped: Option<SteppedClock>,
    cached: Cell<Option<Nanos>>,
    caching: bool,
    /// The next reading is the time of a turn.
    in_turn: Cell<bool>,
}

fn monotonic() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as Nanos).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as Nanos)
}

impl Clock {
    pub(crate) fn new(stepped: Option<SteppedClock>, caching: bool) -> Self {
        let (start, epoch) = (Instant::now(), monotonic());
        Clock { start, epoch, stepped, cached: Cell::new(None), caching, in_turn: Cell::new(false) }
    }

    /// The time of this turn, which is read when it is asked for first, or the current one outside a turn.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        match self.cached.get() {
            Some(now) => now,
            None if self.in_turn.get() => self.refresh(),
            None => self.fresh(),
        }
    }

    pub(crate) fn fresh(&self) -> Nanos {
        match &self.stepped {
            Some(stepped) => stepped.elapsed.get(),
            None => monotonic().saturating_sub(self.epoch),
        }
    }

    /// Reads the clock, and keeps that time for the rest of this turn.
    pub(crate) fn refresh(&self) -> Nanos {
        let now = self.fresh();
        self.cached.set(self.caching.then_some(now));
        now
    }

    /// A turn begins, with a time of its own.
    pub(crate) fn start_turn(&self) {
        self.cached.set(None);
        self.in_turn.set(self.caching);
    }

    /// From now on the time is the current one.
    pub(crate) fn end_turn(&self) {
        self.cached.set(None);
        self.in_turn.set(false);
    }

    pub(crate) fn instant(&self, at: Nanos) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(at))
    }

    pub(crate) fn stepped(&self) -> Option<&SteppedClock> {
        self.stepped.as_ref()
    }
}

impl SteppedClock {
    /// Moves the clock to a deadline; never back.
    pub(crate) fn advance_to(&self, deadline: Nanos) {
        self.elapsed.set(self.elapsed.get().max(deadline));
    }
}
