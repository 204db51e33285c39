//! How far each sender's streams have come: which record is new, which one a repeat.

use std::collections::HashMap;

use crate::forward::Mark;

/// The high-water marks of all streams.
#[derive(Debug)]
pub(crate) struct Seen {
    streams: HashMap<(u64, u32), Stream>,
    /// Streams with records that are admitted and not written yet.
    ahead: Vec<(u64, u32)>,
    most: usize,
}

/// How far one stream has come.
#[derive(Clone, Copy, Debug)]
struct Stream {
    admitted: u64,
    /// Never more than `admitted`.
    written: u64,
    /// When it was last heard of, in microseconds since 1970.
    used: u64,
}

impl Seen {
    /// Keeps at most this many streams, those heard of last.
    pub(crate) fn new(most: usize) -> Seen {
        Seen { streams: HashMap::new(), ahead: Vec::new(), most }
    }

    /// Whether a record is new; from now on it is a repeat.
    pub(crate) fn admit(&mut self, mark: Mark, now: u64) -> bool {
        let key = (mark.sender, mark.stream);
        let stream = self.streams.entry(key).or_insert(Stream { admitted: 0, written: 0, used: now });
        stream.used = stream.used.max(now);
        if mark.sequence <= stream.admitted {
            return false;
        }
        if stream.admitted == stream.written {
            self.ahead.push(key);
        }
        stream.admitted = mark.sequence;
        true
    }

    /// A record that was admitted is in the file, while others of its stream may not be.
    pub(crate) fn wrote(&mut self, mark: Mark) {
        if let Some(stream) = self.streams.get_mut(&(mark.sender, mark.stream)) {
            stream.written = stream.written.max(mark.sequence.min(stream.admitted));
        }
    }

    /// All records that were admitted are in the file.
    pub(crate) fn wrote_all(&mut self) {
        for key in self.ahead.drain(..) {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.written = stream.admitted;
            }
        }
    }

    /// A record was found in a file.
    pub(crate) fn learn(&mut self, mark: Mark, used: u64) {
        let key = (mark.sender, mark.stream);
        let stream = self.streams.entry(key).or_insert(Stream { admitted: 0, written: 0, used });
        stream.admitted = stream.admitted.max(mark.sequence);
        stream.written = stream.written.max(mark.sequence);
        stream.used = stream.used.max(used);
        if self.streams.len() / 2 > self.most {
            self.forget();
        }
    }

    /// Forgets the streams that were not heard of for the longest time, if there are too many; how many went. Some more
    /// go than have to, so that this is rare. Streams with records that are not written stay.
    pub(crate) fn forget(&mut self) -> usize {
        if self.streams.len() <= self.most {
            return 0;
        }
        let mut old: Vec<_> =
            self.streams.iter().filter(|(_, stream)| stream.admitted == stream.written).collect();
        old.sort_unstable_by_key(|(key, stream)| (stream.used, **key));
        let surplus = self.streams.len() - (self.most - self.most / 8);
        let old: Vec<_> = old.into_iter().take(surplus).map(|(key, _)| *key).collect();
        for key in &old {
            self.streams.remove(key);
        }
        old.len()
    }

    /// How far each stream is written, and when it was last heard of.
    pub(crate) fn written(&self) -> impl Iterator<Item = (Mark, u64)> {
        self.streams
            .iter()
            .filter(|(_, stream)| stream.written > 0)
            .map(|(&(sender, stream), state)| (Mark { sender, stream, sequence: state.written }, state.used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn mark(sender: u64, sequence: u64) -> Mark {
        Mark { sender, stream: 0, sequence }
    }

    fn written(seen: &Seen) -> BTreeMap<u64, u64> {
        seen.written().map(|(mark, _)| (mark.sender, mark.sequence)).collect()
    }

    #[test]
    fn a_record_is_new_once() {
        let mut seen = Seen::new(10);
        assert!(seen.admit(mark(1, 5), 0));
        assert!(!seen.admit(mark(1, 5), 0));
        assert!(!seen.admit(mark(1, 4), 0));
        assert!(seen.admit(mark(2, 4), 0));
        assert!(seen.admit(Mark { stream: 1, ..mark(1, 5) }, 0));
        seen.learn(mark(1, 9), 0);
        assert!(!seen.admit(mark(1, 9), 0));
        assert!(seen.admit(mark(1, 10), 0));
    }

    #[test]
    fn the_longest_unused_go_and_none_that_is_not_written() {
        let mut seen = Seen::new(8);
        for sender in 0..9 {
            assert!(seen.admit(mark(sender, 1), 100 - sender));
        }
        assert_eq!(seen.forget(), 0);
        seen.wrote_all();
        assert!(seen.admit(mark(8, 2), 0));
        assert_eq!(seen.forget(), 2);
        assert_eq!(written(&seen).into_keys().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 8]);
        assert_eq!(seen.forget(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_never_ahead_of_what_was(
            steps in proptest::collection::vec((0u64..3, 1u64..9, 0u8..8), 0..60),
        ) {
            let mut seen = Seen::new(100);
            let (mut admitted, mut stored, mut waiting) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            for (sender, sequence, step) in steps {
                match step {
                    0 => {
                        seen.wrote_all();
                        stored.clone_from(&admitted);
                        waiting.clear();
                    }
                    1 if !waiting.is_empty() => {
                        let (sender, sequence) = waiting.remove(0);
                        seen.wrote(mark(sender, sequence));
                        stored.insert(sender, sequence);
                    }
                    _ => {
                        let is_new = admitted.get(&sender).is_none_or(|&high| sequence > high);
                        prop_assert_eq!(seen.admit(mark(sender, sequence), 0), is_new);
                        if is_new {
                            admitted.insert(sender, sequence);
                            waiting.push((sender, sequence));
                        }
                    }
                }
                prop_assert_eq!(&written(&seen), &stored);
            }
        }
    }
}
