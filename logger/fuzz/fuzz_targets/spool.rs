//! A walk through any bytes as a spool's segment, beside a plain byte-by-byte search. The first byte of the input says how
//! many bytes are read at once, the second up to which sequence records may be, the third which headers get right
//! checksums, and the fourth which get small numbers, so that the search goes deep.

#![no_main]

use std::ops::RangeInclusive;

use libfuzzer_sys::fuzz_target;
use logger::fuzzing::{Step, push_record, walk};

const MAGIC: &[u8] = b"\xffrec";
const HEADER: usize = 24;
const LONGEST: usize = 16 * 1024 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((&[chunk, last, right, small], bytes)) = input.split_first_chunk() else { return };
    let mut bytes = bytes.to_vec();
    mend(&mut bytes, right, small);
    let last = if last == 0 { u64::MAX - 1 } else { u64::from(last) };

    let steps = walk(&bytes, chunk.into(), 1..=last);
    check(&bytes, &steps, last);
    assert_eq!(steps, search(&bytes, 1..=last));
    assert_eq!(walk(&bytes, 4096, 1..=last), steps);
});

/// Puts right checksums, and small numbers, to every record that looks like one; of each eight, to those whose bit is set.
fn mend(bytes: &mut [u8], right: u8, small: u8) {
    let mut nth = 0;
    for at in 0..bytes.len() {
        let Some((header, rest)) = bytes[at..].split_first_chunk_mut::<HEADER>() else { break };
        if !header.starts_with(MAGIC) {
            continue;
        }
        if small >> nth & 1 == 1 {
            header[5..8].fill(0);
            header[9..16].fill(0);
        }
        if right >> nth & 1 == 1 {
            let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if let Some(payload) = rest.get(..len) {
                header[16..20].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
            }
            let check = crc32fast::hash(&header[..20]);
            header[20..].copy_from_slice(&check.to_le_bytes());
        }
        nth = (nth + 1) % 8;
    }
}

/// The steps cover the bytes one behind the other, and records are as they were written.
fn check(bytes: &[u8], steps: &[Step], last: u64) {
    let (mut at, mut highest) = (0, 0);
    for (nth, step) in steps.iter().enumerate() {
        match step {
            Step::Record { sequence, payload } => {
                assert!(highest < *sequence && *sequence <= last, "{sequence} behind {highest}");
                highest = *sequence;
                let mut record = Vec::new();
                assert!(push_record(&mut record, *sequence, payload));
                assert_eq!(bytes[at..].get(..record.len()), Some(&record[..]));
                at += record.len();
            }
            Step::Damage { offset, bytes } | Step::Torn { offset, bytes } => {
                assert_eq!(*offset, at as u64);
                assert!(*bytes > 0);
                at += *bytes as usize;
                let is_last = nth + 1 == steps.len();
                assert!(is_last || matches!(steps[nth + 1], Step::Record { .. }), "{steps:?}");
                assert!(is_last || !matches!(step, Step::Torn { .. }), "{steps:?}");
            }
        }
    }
    assert_eq!(at, bytes.len());
}

/// What a search says that looks at each byte whether a record begins there.
fn search(bytes: &[u8], sequences: RangeInclusive<u64>) -> Vec<Step> {
    let (mut next, last) = sequences.into_inner();
    let mut steps = Vec::new();
    let mut at = 0;
    // Where bytes begin that are no record, and whether they may be the beginning of one.
    let mut lost: Option<(u64, bool)> = None;
    let ended = |(offset, may_be_torn): (u64, bool), at: usize, is_end: bool| {
        let bytes = at as u64 - offset;
        if may_be_torn && is_end { Step::Torn { offset, bytes } } else { Step::Damage { offset, bytes } }
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (may_be_torn, skip) = match head(rest, &(next..=last)) {
            Head::Beginning => (true, 1),
            Head::None => (false, 1),
            Head::Whole { sequence, len, check } => match rest.get(HEADER..HEADER + len) {
                None => (true, 1),
                Some(payload) if crc32fast::hash(payload) == check => {
                    steps.extend(lost.take().map(|lost| ended(lost, at, false)));
                    steps.push(Step::Record { sequence, payload: payload.to_vec() });
                    next = sequence + 1;
                    at += HEADER + len;
                    continue;
                }
                Some(_) => (false, HEADER),
            },
        };
        lost.get_or_insert((at as u64, may_be_torn));
        at += skip;
    }
    steps.extend(lost.map(|lost| ended(lost, at, true)));
    steps
}

enum Head {
    None,
    Beginning,
    Whole { sequence: u64, len: usize, check: u32 },
}

fn head(bytes: &[u8], sequences: &RangeInclusive<u64>) -> Head {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        let known = bytes.len().min(MAGIC.len());
        return if bytes[..known] == MAGIC[..known] { Head::Beginning } else { Head::None };
    };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (len, check) = (number(4) as usize, number(16));
    let sequence = u64::from(number(12)) << 32 | u64::from(number(8));
    let is_whole = header.starts_with(MAGIC) && number(20) == crc32fast::hash(&header[..20]);
    if !is_whole || len > LONGEST || !sequences.contains(&sequence) {
        return Head::None;
    }
    Head::Whole { sequence, len, check }
}
