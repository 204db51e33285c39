//! How a base is configured.

use std::time::Duration;

use crate::base::{EventBase, check_priorities};
use crate::clock::{Clock, Nanos, SteppedClock, nanos};
use crate::error::Result;

/// Configures an [`EventBase`].
///
/// ```
/// use reactor::EventBase;
///
/// let base = EventBase::builder().priorities(3).build()?;
/// assert_eq!(base.priorities(), 3);
/// # Ok::<(), reactor::Error>(())
/// ```
#[doc(alias = "event_config")]
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    priorities: usize,
    limits: Limits,
    caches_time: bool,
    clock: Option<SteppedClock>,
}

impl Default for Builder {
    fn default() -> Self {
        Builder { priorities: 1, limits: Limits::default(), caches_time: true, clock: None }
    }
}

impl Builder {
    /// The number of priorities, 1 to 255; 0 is the most urgent. Default 1.
    #[doc(alias = "event_base_priority_init")]
    pub fn priorities(mut self, priorities: usize) -> Self {
        self.priorities = priorities;
        self
    }

    /// Polls again after `time`, or after `callbacks` of them, while a queue is worked off, so that more urgent events
    /// are seen. Queues more urgent than `first_limited` are exempt: 0 limits all, 1 all but the most urgent.
    /// Default: no limits.
    #[doc(alias = "event_config_set_max_dispatch_interval")]
    pub fn max_dispatch_interval(
        mut self,
        time: Option<Duration>,
        callbacks: Option<usize>,
        first_limited: usize,
    ) -> Self {
        self.limits =
            Limits { time: time.map(nanos), callbacks: callbacks.unwrap_or(usize::MAX), from: first_limited };
        self
    }

    /// Whether the time is read once a turn (default) or whenever it is asked for.
    #[doc(alias = "EVENT_BASE_FLAG_NO_CACHE_TIME")]
    pub fn cache_time(mut self, caches: bool) -> Self {
        self.caches_time = caches;
        self
    }

    /// Lets the base live by a clock that tests move.
    pub fn clock(mut self, clock: &SteppedClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Makes the base.
    ///
    /// # Errors
    /// [`Error::Priorities`](crate::Error::Priorities) unless they are 1 to 255, [`Error::Io`](crate::Error::Io) if the
    /// system refuses a poll.
    #[doc(alias = "event_base_new_with_config")]
    pub fn build(self) -> Result<EventBase> {
        check_priorities(self.priorities)?;
        EventBase::with(Clock::new(self.clock, self.caches_time), self.priorities, self.limits)
    }
}

/// How long a queue may be worked off before the next poll.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    time: Option<Nanos>,
    callbacks: usize,
    /// The first priority that is limited.
    from: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { time: None, callbacks: usize::MAX, from: 0 }
    }
}

impl Limits {
    /// The most callbacks of this priority, and when to stop.
    pub(crate) fn of(&self, priority: usize, clock: &Clock) -> (usize, Option<Nanos>) {
        if priority < self.from {
            return (usize::MAX, None);
        }
        (self.callbacks.max(1), self.time.map(|time| clock.now().saturating_add(time)))
    }
}
