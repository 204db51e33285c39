//! Time stamps: a cheap reading by the caller, made into wall time by the worker.
//!
//! The caller reads the processor's counter where the kernel itself trusts it, else the system's clock. The worker pairs
//! both clocks at each of its rounds and reads the caller's stamps on the straight line through two such pairs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ticks;

/// Microseconds since 1970, UTC.
pub(crate) type Micros = u64;

/// How this process reads the time. Copied into every logger, since it never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Counter,
    System,
}

impl Source {
    pub(crate) fn detect() -> Source {
        if ticks::is_steady() { Source::Counter } else { Source::System }
    }

    /// A stamp: it grows with time, and only a [`Timeline`] of the same source can read it.
    #[inline]
    pub(crate) fn stamp(self) -> u64 {
        match self {
            Source::Counter => ticks::now(),
            Source::System => system_nanos(),
        }
    }
}

fn system_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads stamps. The worker owns it.
pub(crate) struct Timeline {
    source: Source,
    /// Where the rate is measured from.
    origin: Anchor,
    /// The latest pair.
    anchor: Anchor,
    nanos_per_tick: f64,
}

#[derive(Clone, Copy)]
struct Anchor {
    stamp: u64,
    nanos: u64,
}

impl Anchor {
    /// Both clocks at one moment: the pair whose readings are closest together of a few.
    fn take(source: Source) -> Anchor {
        let pair = || {
            let before = source.stamp();
            let nanos = system_nanos();
            let after = source.stamp();
            let width = after.saturating_sub(before);
            (width, Anchor { stamp: before + width / 2, nanos })
        };
        (0..3).map(|_| pair()).min_by_key(|(width, _)| *width).map_or_else(|| pair().1, |(_, anchor)| anchor)
    }
}

/// The first rate is measured over this long; each later round makes it better.
const FIRST_SPAN: Duration = Duration::from_millis(2);
/// A wall clock that is off the line by more was set: the line starts anew.
const STEP_NANOS: i64 = 1_000_000;
/// Rates from shorter spans are no better than what is there.
const SPAN_NANOS: u64 = 100_000_000;

impl Timeline {
    pub(crate) fn new(source: Source) -> Timeline {
        let origin = Anchor::take(source);
        let mut timeline = Timeline { source, origin, anchor: origin, nanos_per_tick: 1.0 };
        if source == Source::Counter {
            while system_nanos().saturating_sub(origin.nanos) < FIRST_SPAN.as_nanos() as u64 {
                std::hint::spin_loop();
            }
            timeline.anchor = Anchor::take(source);
            timeline.nanos_per_tick = timeline.measured_rate();
        }
        timeline
    }

    /// Follows the wall clock. Called at each round, before its stamps are read.
    pub(crate) fn follow(&mut self) {
        if self.source == Source::System {
            return;
        }
        let now = Anchor::take(self.source);
        let predicted = self.nanos(now.stamp);
        let off = now.nanos as i64 - predicted as i64;
        if off.abs() > STEP_NANOS {
            self.origin = now;
        }
        self.anchor = now;
        if now.nanos.saturating_sub(self.origin.nanos) >= SPAN_NANOS {
            self.nanos_per_tick = self.measured_rate();
        }
    }

    fn measured_rate(&self) -> f64 {
        let ticks = self.anchor.stamp.wrapping_sub(self.origin.stamp).max(1);
        self.anchor.nanos.saturating_sub(self.origin.nanos) as f64 / ticks as f64
    }

    fn nanos(&self, stamp: u64) -> u64 {
        match self.source {
            Source::System => stamp,
            Source::Counter => {
                let ticks = stamp.wrapping_sub(self.anchor.stamp) as i64;
                self.anchor.nanos.saturating_add_signed((ticks as f64 * self.nanos_per_tick) as i64)
            }
        }
    }

    pub(crate) fn micros(&self, stamp: u64) -> Micros {
        self.nanos(stamp) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_within_a_millisecond_of_the_wall_clock() {
        for source in [Source::detect(), Source::System] {
            let mut timeline = Timeline::new(source);
            for _ in 0..100 {
                timeline.follow();
                let (before, stamp, after) = (system_nanos(), source.stamp(), system_nanos());
                let read = timeline.micros(stamp);
                assert!(read + 1000 >= before / 1000 && read <= after / 1000 + 1000, "{source:?}");
            }
        }
    }

    #[test]
    fn stamps_keep_their_order() {
        let source = Source::detect();
        let timeline = Timeline::new(source);
        let stamps: Vec<_> = (0..1000).map(|_| timeline.micros(source.stamp())).collect();
        assert!(stamps.is_sorted());
    }
}
