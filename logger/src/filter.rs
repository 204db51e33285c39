//! The level gate: what each target lets through, changeable while the program runs.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::error::Error;
use crate::level::Level;

/// A level for all targets, and others for those that begin with a prefix; the longest prefix wins.
///
/// A prefix ends at a `::` or at the target's end: `storage` is for `storage` and `storage::index`, not for `storages`.
/// As text: `info,storage=debug,reactor=off`.
///
/// ```
/// use logger::{Filter, Level};
///
/// let filter: Filter = "warn,storage=debug".parse()?;
/// assert!(filter.admits(Level::Debug, "storage::index"));
/// assert!(!filter.admits(Level::Info, "reactor"));
/// assert!(filter.admits(Level::Warn, "reactor"));
/// # Ok::<(), logger::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    default: Threshold,
    /// The longest prefix first.
    rules: Vec<(String, Threshold)>,
}

/// The least level that passes; one more than any level for none.
type Threshold = u8;

const OFF: Threshold = Level::Fatal as u8 + 1;

impl Default for Filter {
    /// `info` for all.
    fn default() -> Filter {
        Filter::new(Level::Info)
    }
}

impl Filter {
    /// This level and more urgent ones, for all targets.
    pub fn new(level: Level) -> Filter {
        Filter { default: level as Threshold, rules: Vec::new() }
    }

    /// Sets the level of all targets that begin with `prefix`; `None` lets nothing through.
    #[must_use]
    pub fn with(mut self, prefix: &str, level: Option<Level>) -> Filter {
        self.rules.retain(|(other, _)| other != prefix);
        self.rules.push((prefix.to_owned(), level.map_or(OFF, |level| level as Threshold)));
        self.rules.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        self
    }

    /// Whether a record of this level passes; the least level that does is included.
    pub fn admits(&self, level: Level, target: &str) -> bool {
        level as Threshold >= self.threshold(target)
    }

    fn threshold(&self, target: &str) -> Threshold {
        let rule = self.rules.iter().find(|(prefix, _)| {
            let rest = target.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || prefix.is_empty())
        });
        rule.map_or(self.default, |(_, threshold)| *threshold)
    }

    fn thresholds(&self) -> impl Iterator<Item = Threshold> + '_ {
        self.rules.iter().map(|(_, threshold)| *threshold).chain([self.default])
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Filter, Error> {
        let level = |text: &str| {
            if text.eq_ignore_ascii_case("off") { Ok(None) } else { text.parse().map(Some) }
        };
        let mut filter = Filter::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let refused = |_| Error::Filter { text: part.to_owned() };
            match part.split_once('=') {
                Some((prefix, at)) => {
                    filter = filter.with(prefix.trim(), level(at.trim()).map_err(refused)?);
                }
                None => {
                    filter.default = level(part).map_err(refused)?.map_or(OFF, |level| level as Threshold)
                }
            }
        }
        Ok(filter)
    }
}

/// A filter that many threads ask and some change. Most questions are answered by two numbers.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Records at this level or above pass, whatever their target.
    all_pass: AtomicU8,
    /// Records below this level do not pass, whatever their target.
    none_pass: AtomicU8,
    filter: RwLock<Filter>,
}

impl Gate {
    pub(crate) fn new(filter: Filter) -> Gate {
        let gate = Gate {
            all_pass: AtomicU8::new(0),
            none_pass: AtomicU8::new(0),
            filter: RwLock::new(filter.clone()),
        };
        gate.set(filter);
        gate
    }

    pub(crate) fn set(&self, filter: Filter) {
        let mut current = self.filter.write().unwrap_or_else(PoisonError::into_inner);
        self.all_pass.store(filter.thresholds().max().unwrap_or(0), Ordering::Relaxed);
        self.none_pass.store(filter.thresholds().min().unwrap_or(0), Ordering::Relaxed);
        *current = filter;
    }

    pub(crate) fn filter(&self) -> Filter {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The least level that passes for some target; `None` if none does.
    pub(crate) fn least(&self) -> Option<Level> {
        Level::ALL.get(usize::from(self.none_pass.load(Ordering::Relaxed))).copied()
    }

    #[inline]
    pub(crate) fn admits(&self, level: Level, target: &str) -> bool {
        let level_number = level as u8;
        if level_number >= self.all_pass.load(Ordering::Relaxed) {
            return true;
        }
        level_number >= self.none_pass.load(Ordering::Relaxed) && self.look_up(level, target)
    }

    #[cold]
    fn look_up(&self, level: Level, target: &str) -> bool {
        self.filter.read().unwrap_or_else(PoisonError::into_inner).admits(level, target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_ends_at_a_segment() {
        let filter: Filter = "error,a=debug, a::b = off ,c=trace".parse().unwrap();
        let gate = Gate::new(filter.clone());
        for (level, target, passes) in [
            (Level::Error, "x", true),
            (Level::Warn, "x", false),
            (Level::Debug, "a", true),
            (Level::Debug, "a::c", true),
            (Level::Debug, "ab", false),
            (Level::Fatal, "a::b", false),
            (Level::Fatal, "a::b::c", false),
            (Level::Trace, "c", true),
        ] {
            assert_eq!(filter.admits(level, target), passes, "{level} {target}");
            assert_eq!(gate.admits(level, target), passes, "{level} {target}");
        }
        assert_eq!(gate.least(), Some(Level::Trace));
    }

    #[test]
    fn a_part_that_is_not_understood_is_named() {
        for (text, part) in [("info,storage=loud", "storage=loud"), ("blah", "blah"), ("info,=,x", "=")] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(&format!("{part:?}")), "{error}");
        }
        assert_eq!("".parse::<Filter>().unwrap(), Filter::default());
    }

    #[test]
    fn off_lets_nothing_through() {
        let gate = Gate::new("off".parse().unwrap());
        assert!(!gate.admits(Level::Fatal, "x"));
        assert_eq!(gate.least(), None);
        gate.set(Filter::new(Level::Trace));
        assert!(gate.admits(Level::Trace, "x"));
    }
}
