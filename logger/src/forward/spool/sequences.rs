//! A set of sequences.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Sequences, kept as ranges: few, since they come and go in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sequences {
    /// Not empty, in order, with gaps between them.
    ranges: VecDeque<(u64, u64)>,
    len: u64,
}

impl Sequences {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub(crate) fn last(&self) -> Option<u64> {
        self.ranges.back().map(|range| range.1)
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        self.touches(&(sequence..=sequence))
    }

    /// Whether one of them is in this range.
    pub(crate) fn touches(&self, range: &RangeInclusive<u64>) -> bool {
        let at = self.ranges.partition_point(|known| known.1 < *range.start());
        !range.is_empty() && self.ranges.get(at).is_some_and(|known| known.0 <= *range.end())
    }

    /// Adds sequences that are higher than all. Lower ones are not added.
    pub(crate) fn push(&mut self, range: RangeInclusive<u64>) {
        let (mut start, end) = range.into_inner();
        if let Some(last) = self.ranges.back_mut() {
            start = start.max(last.1.saturating_add(1));
            if start <= end && start - 1 == last.1 {
                self.len += end - last.1;
                last.1 = end;
                return;
            }
        }
        if start <= end {
            self.len += end - start + 1;
            self.ranges.push_back((start, end));
        }
    }

    /// Takes these out, and says how many there were.
    pub(crate) fn remove(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (start, end) = range.into_inner();
        let before = self.len;
        let mut at = self.ranges.partition_point(|known| known.1 < start);
        while let Some((first, last)) =
            self.ranges.get(at).copied().filter(|known| known.0 <= end && start <= end)
        {
            self.len -= last.min(end) - first.max(start) + 1;
            self.ranges.remove(at);
            if end < last {
                self.ranges.insert(at, (end + 1, last));
            }
            if first < start {
                self.ranges.insert(at, (first, start - 1));
                at += 1;
            }
        }
        before - self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_a_plain_set(calls in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..60)) {
            let mut plain = BTreeSet::new();
            let mut sequences = Sequences::default();
            for (adds, from, length) in calls {
                if adds {
                    let first = plain.last().map_or(0, |last: &u64| last + 1) + from / 20;
                    sequences.push(first..=first + length);
                    plain.extend(first..=first + length);
                } else {
                    let gone: Vec<u64> = plain.range(from..from + length).copied().collect();
                    for sequence in &gone {
                        plain.remove(sequence);
                    }
                    let range = if length == 0 { RangeInclusive::new(1, 0) } else { from..=from + length - 1 };
                    prop_assert_eq!(sequences.remove(range), gone.len() as u64);
                }
                prop_assert_eq!(sequences.len(), plain.len() as u64);
                prop_assert_eq!(sequences.is_empty(), plain.is_empty());
                prop_assert_eq!(sequences.last(), plain.last().copied());
                for sequence in 0..100 {
                    prop_assert_eq!(sequences.contains(sequence), plain.contains(&sequence));
                    prop_assert_eq!(
                        sequences.touches(&(sequence..=sequence + 3)),
                        plain.range(sequence..=sequence + 3).next().is_some()
                    );
                }
                prop_assert!(sequences.ranges.iter().zip(sequences.ranges.iter().skip(1)).all(|(a, b)| a.1 + 1 < b.0));
            }
        }
    }

    #[test]
    fn what_is_known_is_not_added_again() {
        let mut sequences = Sequences::default();
        sequences.push(5..=9);
        sequences.push(7..=8);
        sequences.push(8..=12);
        assert_eq!((sequences.len(), sequences.last()), (8, Some(12)));
        assert_eq!(sequences.remove(0..=u64::MAX), 8);
        assert_eq!(sequences, Sequences::default());
    }
}
