//! What one round of the worker found: lines, where each stands, and their order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::ops::Range;

use crate::level::Level;
use crate::pair::Word;
use crate::sink::{Lines, Span};
use crate::sync::Ordering;

/// Lines on their way from the buffers to the sinks.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) text: Text,
    spans: Vec<Span>,
    /// Lines of one pair back to back: which pair, and its first span.
    runs: Vec<(u32, usize)>,
    /// The least level of all lines.
    least: Option<Level>,
    /// What a picky sink gets, or the lines of several pairs in the order of their time stamps.
    chosen: Text,
    chosen_spans: Vec<Span>,
    /// While they are merged: each run's next span, and that one's stamp.
    next: Vec<usize>,
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

/// Room that is kept from round to round.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

impl Round {
    /// The bytes of all lines.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len
    }

    /// What is pushed from now on comes from this pair.
    pub(crate) fn begin_run(&mut self, pair: u32) {
        if self.runs.last().is_none_or(|&(last, _)| last != pair) {
            self.runs.push((pair, self.spans.len()));
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, span: Span) {
        self.least = Some(self.least.map_or(span.level, |least| least.min(span.level)));
        self.spans.push(span);
    }

    /// Merges the lines of several pairs by their time stamps; those of one pair keep their order, whatever the clock
    /// did in between.
    pub(crate) fn sort(&mut self) {
        if self.runs.len() < 2 {
            return;
        }
        let end_of = |run: usize| self.runs.get(run + 1).map_or(self.spans.len(), |&(_, first)| first);
        let next = &mut self.next;
        next.clear();
        next.extend(self.runs.iter().map(|&(_, first)| first));
        let runs = 0..self.runs.len();
        self.heads.extend(
            runs.filter(|&run| next[run] < end_of(run))
                .map(|run| Reverse((self.spans[next[run]].stamp, run))),
        );
        while let Some(Reverse((_, run))) = self.heads.pop() {
            let rest = &self.spans[next[run]..end_of(run)];
            // Up to the next line of another run, this one's lines go over in one piece.
            let many = match self.heads.peek() {
                Some(&Reverse((limit, _))) => {
                    rest.iter().position(|span| span.stamp > limit).unwrap_or(rest.len()).max(1)
                }
                None => rest.len(),
            };
            copy_spans(&rest[..many], &self.text, &mut self.chosen, &mut self.chosen_spans);
            next[run] += many;
            if let Some(span) = rest.get(many) {
                self.heads.push(Reverse((span.stamp, run)));
            }
        }
        mem::swap(&mut self.text, &mut self.chosen);
        mem::swap(&mut self.spans, &mut self.chosen_spans);
    }

    /// The lines of this level or a more urgent one.
    pub(crate) fn lines_from(&mut self, level: Level) -> Lines<'_> {
        if self.least.is_none_or(|least| least >= level) {
            return Lines::new(self.text.bytes(), &self.spans);
        }
        self.chosen.clear();
        self.chosen_spans.clear();
        for span in self.spans.iter().filter(|span| span.level >= level) {
            copy_spans(std::slice::from_ref(span), &self.text, &mut self.chosen, &mut self.chosen_spans);
        }
        Lines::new(self.chosen.bytes(), &self.chosen_spans)
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.chosen.clear();
        self.spans.clear();
        self.chosen_spans.clear();
        self.runs.clear();
        self.least = None;
    }
}

/// Copies lines that stand back to back.
fn copy_spans(spans: &[Span], from: &Text, to: &mut Text, to_spans: &mut Vec<Span>) {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return };
    let at = to.len;
    to.room(last.end - first.start).copy_from_slice(&from.bytes[first.start..last.end]);
    to.len += last.end - first.start;
    let moved = |place: usize| place - first.start + at;
    to_spans.extend(spans.iter().map(|span| Span {
        start: moved(span.start),
        end: moved(span.end),
        ..*span
    }));
}

/// Bytes with room behind them that was cleared once and not again for each line.
#[derive(Default)]
pub(crate) struct Text {
    bytes: Vec<u8>,
    len: usize,
}

impl Text {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn clear(&mut self) {
        self.len = 0;
        self.bytes.truncate(KEPT_BYTES);
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// This much room behind the end.
    #[inline]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.len + bytes;
        if self.bytes.len() < end {
            self.grow(end);
        }
        &mut self.bytes[self.len..end]
    }

    #[cold]
    fn grow(&mut self, least: usize) {
        self.bytes.resize(least.next_power_of_two(), 0);
    }

    /// Adds a line of these parts; the middle one is `len` bytes in words. Where it stands.
    #[inline]
    pub(crate) fn push<W: ReadWord>(
        &mut self,
        start: &[u8],
        words: &[W],
        len: usize,
        end: End,
    ) -> Range<usize> {
        let len = len.min(words.len() * 8);
        let room = self.room(start.len() + words.len() * 8 + end.bytes.len());
        let (head, tail) = room.split_at_mut(start.len());
        head.copy_from_slice(start);
        for (bytes, word) in tail.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.read().to_ne_bytes());
        }
        // A copy of constant length; what is too much of it is room again.
        tail[len..len + end.bytes.len()].copy_from_slice(&end.bytes);
        let place = self.len..self.len + start.len() + len + end.len;
        self.len = place.end;
        place
    }
}

/// What stands at the end of a line.
#[derive(Clone, Copy)]
pub(crate) struct End {
    bytes: [u8; 4],
    len: usize,
}

impl End {
    pub(crate) const fn new<const LEN: usize>(text: &[u8; LEN]) -> End {
        let mut bytes = [0; 4];
        let mut at = 0;
        while at < LEN {
            bytes[at] = text[at];
            at += 1;
        }
        End { bytes, len: LEN }
    }

    #[cfg(any(test, feature = "forward"))]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A word of a half, or of a spilled record.
pub(crate) trait ReadWord {
    fn read(&self) -> u64;
}

impl ReadWord for Word {
    #[inline]
    fn read(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

impl ReadWord for u64 {
    #[inline]
    fn read(&self) -> u64 {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(round: &mut Round, pair: u32, stamp: u64, level: Level) {
        round.begin_run(pair);
        let text = format!("{pair}@{stamp}");
        let words: Vec<u64> = text
            .as_bytes()
            .chunks(8)
            .map(|bytes| {
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_ne_bytes(word)
            })
            .collect();
        let place = round.text.push(b"<", &words, text.len(), End::new(b">\n"));
        round.push(Span { stamp, start: place.start, end: place.end, pair, level });
    }

    #[test]
    fn lines_are_merged_by_stamp_and_keep_their_order_within_a_pair() {
        let mut round = Round::default();
        for _ in 0..2 {
            // Pair 1's clock was set back between its first two lines.
            for (pair, stamps) in [(1, [7, 3, 9]), (2, [1, 8, 8]), (3, [2, 2, 10])] {
                stamps.iter().for_each(|&stamp| push(&mut round, pair, stamp, Level::Info));
            }
            round.sort();
            let lines = round.lines_from(Level::Trace);
            let text = String::from_utf8(lines.bytes().to_vec()).unwrap();
            assert_eq!(text, "<2@1>\n<3@2>\n<3@2>\n<1@7>\n<1@3>\n<2@8>\n<2@8>\n<1@9>\n<3@10>\n");
            let each: Vec<_> = lines.iter().flat_map(|(_, line)| line.to_vec()).collect();
            assert_eq!(each, lines.bytes());
            round.clear();
        }
    }

    #[test]
    fn a_picky_sink_gets_what_it_asks_for() {
        let mut round = Round::default();
        push(&mut round, 1, 1, Level::Info);
        push(&mut round, 1, 2, Level::Error);
        assert_eq!(round.lines_from(Level::Info).len(), 2);
        assert_eq!(round.lines_from(Level::Warn).bytes(), b"<1@2>\n");
        assert!(round.lines_from(Level::Fatal).is_empty());
    }
}
