//! Time stamps: a cheap reading by the caller, made into wall time by the worker.
//!
//! The caller reads the processor's counter where the kernel itself trusts it, else the system's clock. The worker pairs
//! both clocks at each of its rounds and reads the caller's stamps on the straight line through two such pairs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cpu;

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
        if cpu::counter_is_steady() { Source::Counter } else { Source::System }
    }

    /// A stamp: it grows with time, and only a [`Timeline`] of the same source can read it.
    #[inline]
    pub(crate) fn stamp(self) -> u64 {
        match self {
            Source::Counter => cpu::counter(),
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
    /// The wall clock.
    nanos: u64,
    /// The clock that is never set, for the rate.
    at: Instant,
}

impl Anchor {
    /// Both clocks at one moment: the pair whose readings are closest together of a few.
    fn take(source: Source) -> Anchor {
        let pair = || {
            let before = source.stamp();
            let nanos = system_nanos();
            let at = Instant::now();
            let after = source.stamp();
            let width = after.saturating_sub(before);
            (width, Anchor { stamp: before + width / 2, nanos, at })
        };
        (0..3).map(|_| pair()).min_by_key(|(width, _)| *width).map_or_else(|| pair().1, |(_, anchor)| anchor)
    }
}

/// The first rate is measured over this long; each later round makes it better.
const FIRST_SPAN: Duration = Duration::from_millis(2);
/// Rates from shorter spans are no better than what is there.
const SPAN: Duration = Duration::from_millis(100);
/// A counter that is off by more has jumped, as over a suspend: the rate is measured anew.
const JUMP_NANOS: u64 = 1_000_000;

impl Timeline {
    pub(crate) fn new(source: Source) -> Timeline {
        let origin = Anchor::take(source);
        let mut timeline = Timeline { source, origin, anchor: origin, nanos_per_tick: 1.0 };
        if source == Source::Counter {
            while origin.at.elapsed() < FIRST_SPAN {
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
        let ticked = self.nanos_of(now.stamp.wrapping_sub(self.anchor.stamp));
        let passed = now.at.duration_since(self.anchor.at).as_nanos() as i64;
        if ticked.abs_diff(passed) > JUMP_NANOS {
            self.origin = now;
        }
        self.anchor = now;
        if now.at.duration_since(self.origin.at) >= SPAN {
            self.nanos_per_tick = self.measured_rate();
        }
    }

    fn measured_rate(&self) -> f64 {
        let ticks = self.anchor.stamp.wrapping_sub(self.origin.stamp).max(1);
        self.anchor.at.duration_since(self.origin.at).as_nanos() as f64 / ticks as f64
    }

    fn nanos(&self, stamp: u64) -> u64 {
        match self.source {
            Source::System => stamp,
            Source::Counter => {
                let off = self.nanos_of(stamp.wrapping_sub(self.anchor.stamp));
                self.anchor.nanos.saturating_add_signed(off)
            }
        }
    }

    /// Nanoseconds in a number of ticks, negative beyond half of the range.
    fn nanos_of(&self, ticks: u64) -> i64 {
        (ticks as i64 as f64 * self.nanos_per_tick) as i64
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

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_wall_clock_that_was_set_changes_no_rate() {
        let mut timeline = Timeline::new(Source::Counter);
        let rate = timeline.nanos_per_tick;
        // As if the wall clock had been an hour fast until now.
        timeline.origin.nanos += 3_600_000_000_000;
        timeline.anchor.nanos += 3_600_000_000_000;
        while timeline.anchor.at.duration_since(timeline.origin.at) < SPAN {
            timeline.follow();
        }
        assert!((timeline.nanos_per_tick / rate - 1.0).abs() < 0.01);
        let (before, read) = (system_nanos() / 1000, timeline.micros(Source::Counter.stamp()));
        assert!(read.abs_diff(before) < 1_000_000);
    }

    #[test]
    fn stamps_keep_their_order() {
        let source = Source::detect();
        let timeline = Timeline::new(source);
        let stamps: Vec<_> = (0..1000).map(|_| timeline.micros(source.stamp())).collect();
        assert!(stamps.is_sorted());
    }
}
