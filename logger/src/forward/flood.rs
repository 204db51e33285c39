//! Floods: many records of one kind in a short time, of which the first few say it all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::level::Level;

/// Lets the first records of a kind pass in each period, and counts the others.
#[derive(Debug)]
pub(super) struct Floods {
    /// Records of one kind that pass in a period, at least 1.
    limit: u32,
    period: Duration,
    kinds: HashMap<u64, Kind>,
    /// When there was room made for new kinds.
    cleared: Option<Instant>,
}

#[derive(Debug)]
struct Kind {
    /// When its period began.
    since: Instant,
    passed: u32,
    held: u64,
    last: Held,
}

/// The last record that was held back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) pair: u32,
    pub(super) level: Level,
    /// The beginning of its line.
    pub(super) line: Vec<u8>,
}

/// More kinds are not told apart from new ones: their records pass.
const MOST_KINDS: usize = 4096;
/// What is kept of a line: enough to say where it comes from, and not much for all kinds together.
const KEPT: usize = 2048;

impl Floods {
    pub(super) fn new(limit: u32, period: Duration) -> Floods {
        Floods { limit: limit.max(1), period, kinds: HashMap::new(), cleared: None }
    }

    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// Whether a record of this kind passes. One that does not is counted and kept until a later one is.
    pub(super) fn admits(&mut self, kind: u64, now: Instant, pair: u32, level: Level, line: &[u8]) -> bool {
        let period = self.period;
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
            self.make_room(now);
        }
        let is_crowded = self.kinds.len() >= MOST_KINDS;
        let Some(kind) = self.kinds.get_mut(&kind) else {
            if !is_crowded {
                let last = Held { pair, level, line: Vec::new() };
                self.kinds.insert(kind, Kind { since: now, passed: 1, held: 0, last });
            }
            return true;
        };
        if kind.is_done(now, period) {
            (kind.since, kind.passed) = (now, 0);
        }
        if kind.passed < self.limit {
            kind.passed += 1;
            return true;
        }
        kind.held += 1;
        (kind.last.pair, kind.last.level) = (pair, level);
        kind.last.line.clear();
        kind.last.line.extend_from_slice(&line[..line.len().min(KEPT)]);
        false
    }

    /// Lets go of the kinds whose period is over and of which nothing was held back; at most once in a period.
    fn make_room(&mut self, now: Instant) {
        let period = self.period;
        if self.cleared.is_none_or(|cleared| now.duration_since(cleared) >= period) {
            self.cleared = Some(now);
            self.kinds.retain(|_, kind| !kind.is_done(now, period));
        }
    }

    /// Ends the periods that are over: what was held back in each, and the last record of it.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<(u64, Held)> {
        let mut over = Vec::new();
        let period = self.period;
        self.kinds.retain(|_, kind| {
            let is_over = now.duration_since(kind.since) >= period;
            if is_over && kind.held > 0 {
                over.push((kind.held, kind.last.clone()));
            }
            !is_over
        });
        over
    }

    /// Ends all periods: what was held back in each so far, and the last record of it.
    pub(super) fn end(self) -> Vec<(u64, Held)> {
        let held = self.kinds.into_values().filter(|kind| kind.held > 0);
        held.map(|kind| (kind.held, kind.last)).collect()
    }

    /// Whether there are periods that are not over.
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}

impl Kind {
    /// Whether its period is over, with nothing to say about it.
    fn is_done(&self, now: Instant, period: Duration) -> bool {
        self.held == 0 && now.duration_since(self.since) >= period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pass_and_the_others_are_counted() {
        let mut floods = Floods::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut admits =
            |kind, seconds, line: &str| floods.admits(kind, at(seconds), 7, Level::Error, line.as_bytes());
        assert!(admits(1, 0, "a") && admits(1, 1, "b") && admits(2, 1, "x"));
        assert!(!admits(1, 2, "c") && !admits(1, 3, "d"));
        assert_eq!(floods.sweep(at(9)), []);
        let last = Held { pair: 7, level: Level::Error, line: b"d".to_vec() };
        assert_eq!(floods.sweep(at(10)), [(2, last)]);
        assert!(!floods.is_empty(), "the other kind's period is not over");
        assert_eq!(floods.sweep(at(11)), []);
        assert!(floods.is_empty());
        assert!(floods.admits(1, at(11), 7, Level::Error, b"e"), "a new period");
    }

    #[test]
    fn rare_records_are_no_flood() {
        let mut floods = Floods::new(2, Duration::from_secs(10));
        let start = Instant::now();
        for nth in 0..100 {
            let now = start + Duration::from_secs(6 * nth);
            assert!(floods.admits(1, now, 0, Level::Error, b""), "{nth}");
        }
    }

    #[test]
    fn kinds_whose_period_is_over_make_room() {
        let mut floods = Floods::new(1, Duration::from_secs(10));
        let start = Instant::now();
        for kind in 0..MOST_KINDS as u64 {
            assert!(floods.admits(kind, start, 0, Level::Error, b""));
        }
        assert!(!floods.admits(0, start, 0, Level::Error, b""));
        let later = start + Duration::from_secs(10);
        let new = MOST_KINDS as u64;
        assert!(floods.admits(new, later, 0, Level::Error, b""));
        assert!(!floods.admits(new, later, 0, Level::Error, b""));
        assert_eq!(floods.sweep(later).len(), 1, "the one that was held back is still said");
    }

    #[test]
    fn a_held_line_takes_little_memory() {
        let mut floods = Floods::new(1, Duration::from_secs(10));
        let start = Instant::now();
        let line = vec![b'x'; 1 << 20];
        assert!(floods.admits(1, start, 0, Level::Error, &line));
        assert!(!floods.admits(1, start, 0, Level::Error, &line));
        let over = floods.sweep(start + Duration::from_secs(10));
        assert_eq!((over[0].0, over[0].1.line.len()), (1, KEPT));
    }

    #[test]
    fn kinds_beyond_the_bound_pass() {
        let mut floods = Floods::new(1, Duration::from_secs(10));
        let now = Instant::now();
        for kind in 0..2 * MOST_KINDS as u64 {
            assert!(floods.admits(kind, now, 0, Level::Error, b""));
        }
        assert_eq!(floods.kinds.len(), MOST_KINDS);
        assert!(!floods.admits(0, now, 0, Level::Error, b""));
    }
}
