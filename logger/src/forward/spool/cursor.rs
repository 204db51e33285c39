//! A walk through one segment, in big steps through its file and small ones from record to record.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::FileExt;

use super::segment::{self, Front, HEADER};

/// Bytes that are read at once.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Where a segment's bytes come from.
pub(crate) trait Source {
    /// Reads some bytes at `offset`; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// What comes next in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A record; its payload is [`Cursor::bytes`] of this range until the next step.
    Record { sequence: u64, payload: Range<usize> },
    /// Bytes that are no record.
    Damage { offset: u64, bytes: u64 },
    /// The beginning of a record, at the end of the segment.
    Torn { offset: u64, bytes: u64 },
    /// Nothing yet.
    End,
}

/// A place in a segment. After an error it stays where it is.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Its first `filled` bytes are of the segment; those before `start` are behind us.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Where in the segment `start` is.
    offset: u64,
    /// Where the damage begins in which we are.
    damage: Option<u64>,
    /// Where the record begins that ends behind the segment, while we look for whole ones behind its beginning.
    doubt: Option<u64>,
    /// The highest sequence of a header that was right and whose record ends in the segment.
    highest: u64,
    chunk: usize,
}

impl Cursor {
    pub(crate) fn new() -> Cursor {
        Cursor::with_chunk(CHUNK)
    }

    /// Reads `chunk` bytes at once, but for longer records.
    pub(crate) fn with_chunk(chunk: usize) -> Cursor {
        Cursor {
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            offset: 0,
            damage: None,
            doubt: None,
            highest: 0,
            chunk: chunk.max(1),
        }
    }

    /// Goes to the beginning of a segment, which may be another one.
    pub(crate) fn restart(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        *self = Cursor { buffer, ..Cursor::with_chunk(self.chunk) };
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// How far the walk has come.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The next step in a segment that ends at `end` and in which records of these sequences may follow.
    pub(crate) fn step(
        &mut self,
        source: &(impl Source + ?Sized),
        end: u64,
        sequences: &RangeInclusive<u64>,
    ) -> io::Result<Step> {
        loop {
            match segment::front(&self.buffer[self.start..self.filled], sequences) {
                Front::Record { record, len } => {
                    let sequence = record.sequence;
                    let doubt = self.doubt.take();
                    if let Some(offset) = self.damage.take().or(doubt) {
                        return Ok(Step::Damage { offset, bytes: self.offset - offset });
                    }
                    let payload = self.start + HEADER..self.start + len;
                    self.highest = self.highest.max(sequence);
                    self.skip(len);
                    return Ok(Step::Record { sequence, payload });
                }
                Front::Damaged { skip, sequence } => {
                    self.highest = self.highest.max(sequence.unwrap_or(0));
                    if self.doubt.is_none() {
                        self.damage.get_or_insert(self.offset);
                    }
                    self.skip(skip);
                }
                Front::Partial { needed } => {
                    let left = end.saturating_sub(self.offset);
                    let have = self.filled - self.start;
                    let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(needed);
                    if have < wanted {
                        if !self.fill(source, end, wanted)? {
                            return Ok(self.cut(end));
                        }
                    } else if left > 0 {
                        if self.damage.is_none() {
                            self.doubt.get_or_insert(self.offset);
                        }
                        self.skip(segment::next_start(&self.buffer[self.start..self.filled]));
                    } else {
                        return Ok(self.end());
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Step {
        let doubt = self.doubt.take();
        match (self.damage.take(), doubt) {
            (Some(offset), _) => Step::Damage { offset, bytes: self.offset - offset },
            (None, Some(offset)) => Step::Torn { offset, bytes: self.offset - offset },
            (None, None) => Step::End,
        }
    }

    /// The file is shorter than the segment was.
    fn cut(&mut self, end: u64) -> Step {
        let doubt = self.doubt.take();
        let offset = self.damage.take().or(doubt).unwrap_or(self.offset);
        self.start = 0;
        self.filled = 0;
        self.offset = end;
        Step::Damage { offset, bytes: end - offset }
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Reads until at least `wanted` bytes are there, and as many more as come at once. False if the file has no more.
    fn fill(&mut self, source: &(impl Source + ?Sized), end: u64, wanted: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        let size = wanted.max(self.chunk);
        if self.buffer.len() != size {
            self.buffer.resize(size.max(self.filled), 0);
            self.buffer.shrink_to(size);
        }
        while self.filled < wanted {
            let at = self.offset + self.filled as u64;
            let room = self.buffer.len() - self.filled;
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(room);
            match source.read_at(&mut self.buffer[self.filled..self.filled + most], at) {
                Ok(0) => return Ok(false),
                Ok(n) => self.filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// All steps through the bytes of a segment, with the payloads: what a reader makes of them, without a file.
#[cfg(any(test, fuzzing))]
pub(crate) fn walk(bytes: &[u8], chunk: usize, sequences: RangeInclusive<u64>) -> Vec<(Step, Vec<u8>)> {
    let (mut next, last) = sequences.into_inner();
    let mut cursor = Cursor::with_chunk(chunk);
    let mut steps = Vec::new();
    while let Ok(step) = cursor.step(bytes, bytes.len() as u64, &(next..=last)) {
        let payload = match &step {
            Step::End => break,
            Step::Record { sequence, payload } => {
                next = sequence.saturating_add(1);
                cursor.bytes(payload.clone()).to_vec()
            }
            _ => Vec::new(),
        };
        steps.push((step, payload));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAST: u64 = 1000;

    fn records(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (sequence, payload) in (1..).zip(payloads) {
            segment::push(&mut bytes, sequence, |_, out| out.extend_from_slice(payload)).unwrap();
        }
        bytes
    }

    fn some() -> Vec<Vec<u8>> {
        [&b"first"[..], b"", "zw\u{f6}lf".as_bytes(), &[b'a'; 100], b"last"].map(<[u8]>::to_vec).to_vec()
    }

    /// The sequences and payloads; and how many other steps there were.
    fn good(steps: &[(Step, Vec<u8>)]) -> (Vec<(u64, Vec<u8>)>, usize) {
        let mut all = Vec::new();
        for (step, payload) in steps {
            if let Step::Record { sequence, .. } = step {
                all.push((*sequence, payload.clone()));
            }
        }
        let others = steps.len() - all.len();
        (all, others)
    }

    fn expected(payloads: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
        (1..).zip(payloads.iter().cloned()).collect()
    }

    #[test]
    fn every_chunk_size_gives_the_same() {
        let bytes = records(&some());
        for chunk in 1..bytes.len() + 2 {
            assert_eq!(good(&walk(&bytes, chunk, 1..=LAST)), (expected(&some()), 0), "{chunk}");
        }
    }

    #[test]
    fn every_end_of_what_is_published() {
        let bytes = records(&some());
        for end in 0..=bytes.len() {
            let mut cursor = Cursor::with_chunk(64);
            let mut seen = 0;
            let torn = loop {
                match cursor.step(&bytes[..], end as u64, &(seen + 1..=LAST)).unwrap() {
                    Step::Record { sequence, .. } => seen = sequence,
                    Step::Torn { offset, bytes } => break (offset, bytes),
                    Step::End => break (end as u64, 0),
                    step @ Step::Damage { .. } => panic!("{step:?} at {end}"),
                }
            };
            assert_eq!(torn.0 + torn.1, end as u64);
            assert_eq!(cursor.step(&bytes[..], end as u64, &(seen + 1..=LAST)).unwrap(), Step::End);
            let whole = records(&some()[..seen as usize]).len() as u64;
            assert_eq!(torn.0, whole, "{end}");
        }
    }

    #[test]
    fn every_flipped_byte_costs_its_record_at_most() {
        let payloads = some();
        let bytes = records(&payloads);
        let mut starts = vec![0];
        for n in 1..=payloads.len() {
            starts.push(records(&payloads[..n]).len());
        }
        for at in 0..bytes.len() {
            let hit = starts.partition_point(|start| *start <= at) as u64;
            for mask in [1, 0x80, 0xff, bytes[at] ^ 0xff, bytes[at]] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                if damaged == bytes {
                    continue;
                }
                let mut left = expected(&payloads);
                left.retain(|(sequence, _)| *sequence != hit);
                let steps = walk(&damaged, 64, 1..=LAST);
                assert_eq!(good(&steps), (left, 1), "{at} {mask:#x}");
                let start = starts[hit as usize - 1] as u64;
                let damage = Step::Damage { offset: start, bytes: starts[hit as usize] as u64 - start };
                assert!(steps.iter().any(|(step, _)| *step == damage), "{at} {mask:#x} {steps:?}");
            }
        }
    }

    #[test]
    fn every_cut_out_piece_costs_what_it_touches() {
        let payloads = some();
        let bytes = records(&payloads);
        for from in 0..bytes.len() {
            for to in from + 1..=bytes.len() {
                let damaged = [&bytes[..from], &bytes[to..]].concat();
                let mut left = expected(&payloads);
                left.retain(|(sequence, payload)| {
                    let mut record = Vec::new();
                    segment::push(&mut record, *sequence, |_, out| out.extend_from_slice(payload)).unwrap();
                    memchr::memmem::find(&damaged, &record).is_some()
                });
                assert_eq!(good(&walk(&damaged, 64, 1..=LAST)).0, left, "{from}..{to}");
            }
        }
    }

    #[test]
    fn a_file_shorter_than_it_was() {
        let bytes = records(&some());
        for end in 0..bytes.len() {
            let mut cursor = Cursor::with_chunk(64);
            let mut seen = 0;
            loop {
                match cursor.step(&bytes[..end], bytes.len() as u64, &(seen + 1..=LAST)).unwrap() {
                    Step::Record { sequence, .. } => seen = sequence,
                    step => {
                        let offset = records(&some()[..seen as usize]).len() as u64;
                        assert_eq!(step, Step::Damage { offset, bytes: bytes.len() as u64 - offset });
                        break;
                    }
                }
            }
            assert_eq!(
                cursor.step(&bytes[..end], bytes.len() as u64, &(seen + 1..=LAST)).unwrap(),
                Step::End
            );
        }
    }

    #[test]
    fn a_record_beyond_the_chunk_leaves_no_big_buffer() {
        let bytes = records(&[vec![b'a'; 10_000], vec![b'b'; 20], vec![b'c'; 20]]);
        let mut cursor = Cursor::with_chunk(64);
        for sequence in 1..=3 {
            let step = cursor.step(&bytes[..], bytes.len() as u64, &(sequence..=LAST)).unwrap();
            assert!(matches!(step, Step::Record { sequence: is, .. } if is == sequence));
        }
        assert_eq!(cursor.buffer.len(), 64);
    }

    proptest! {
        #[test]
        fn garbage_is_walked_through(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(0xff), Just(b'r'), Just(b'e'), Just(b'c')], 0..400),
            chunk in 1usize..300)
        {
            let steps = walk(&bytes, chunk, 1..=LAST);
            let covered: u64 = steps.iter().map(|(step, _)| match step {
                Step::Damage { bytes, .. } | Step::Torn { bytes, .. } => *bytes,
                _ => 0,
            }).sum();
            prop_assert_eq!(covered, bytes.len() as u64);
        }

        #[test]
        fn records_between_garbage_are_found(
            parts in proptest::collection::vec(
                (proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xff), Just(b'r')], 0..40), "[a-z]{0,50}"), 1..10),
            chunk in 1usize..300)
        {
            let mut bytes = Vec::new();
            let mut all = Vec::new();
            for (sequence, (garbage, payload)) in (1..).zip(&parts) {
                bytes.extend_from_slice(garbage);
                segment::push(&mut bytes, sequence, |_, out| out.extend_from_slice(payload.as_bytes())).unwrap();
                all.push((sequence, payload.as_bytes().to_vec()));
            }
            let gaps = parts.iter().filter(|(garbage, _)| !garbage.is_empty()).count();
            prop_assert_eq!(good(&walk(&bytes, chunk, 1..=LAST)), (all, gaps));
        }
    }
}
