//! A spool's segment in which bytes are changed, cut out or put in: every record that is not touched comes out, and no
//! other.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use logger::fuzzing::{Step, push_record, walk};

#[derive(Arbitrary, Debug)]
struct Input {
    chunk: u8,
    first: u32,
    payloads: Vec<Vec<u8>>,
    harms: Vec<Harm>,
}

#[derive(Arbitrary, Debug)]
enum Harm {
    Flip { at: u16, mask: u8 },
    Cut { at: u16, len: u8 },
    Insert { at: u16, bytes: Vec<u8> },
}

/// What is put in at once is shorter than a record's header, so that it cannot be a record with right checksums.
const MOST_INSERTED: usize = 23;

fuzz_target!(|input: Input| {
    let first = u64::from(input.first) + 1;
    let last = u64::from(input.first) + input.payloads.len().max(1) as u64;
    let mut bytes = Vec::new();
    let mut records = Vec::new();
    for (sequence, payload) in (first..).zip(&input.payloads) {
        // Text, as a record's payload is.
        let payload: Vec<_> = payload.iter().map(|byte| byte & 0x7f).collect();
        let start = bytes.len();
        assert!(push_record(&mut bytes, sequence, &payload));
        records.push((bytes[start..].to_vec(), sequence, payload));
    }

    for harm in input.harms {
        let place = |at: u16| usize::from(at) % (bytes.len() + 1);
        match harm {
            Harm::Flip { at, mask } => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Harm::Cut { at, len } => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + usize::from(len)));
            }
            Harm::Insert { at, bytes: inserted } => {
                let at = place(at);
                bytes.splice(at..at, inserted.into_iter().take(MOST_INSERTED));
            }
        }
    }

    // A sequence is in a record's header, so none stands there twice.
    let is_there = |record: &[u8]| bytes.windows(record.len()).any(|part| part == record);
    let mut expected = records.into_iter().filter(|(record, ..)| is_there(record));
    for step in walk(&bytes, input.chunk.into(), first..=last) {
        if let Step::Record { sequence, payload } = step {
            let found = expected.next().map(|(_, sequence, payload)| (sequence, payload));
            assert_eq!(found, Some((sequence, payload)));
        }
    }
    assert_eq!(expected.next(), None);
});
