//! A record as it stands in a segment, to bytes and back. No file, no clock.
//!
//! A segment is nothing but records, back to back. Numbers are little-endian.
//!
//! | Byte | Length | What |
//! |---|---|---|
//! | 0 | 4 | `FF 72 65 63`: a byte that text never holds, and `rec` |
//! | 4 | 4 | length of the payload, at most 16 MiB |
//! | 8 | 8 | sequence |
//! | 16 | 4 | CRC-32 of the payload |
//! | 20 | 4 | CRC-32 of the bytes 0 to 19 |
//! | 24 | length | payload |
//!
//! The header has a checksum of its own, so that a record which was cut short (its writer was killed: it never counted) can
//! be told from one whose length was damaged.
//!
//! Where a record is damaged, the next is found by its first byte. The payload of a damaged record cannot pass for a record:
//! it is UTF-8, which never holds the byte `FF`. If it were not, it would need both checksums right, and a sequence between
//! that of the last good record and the last of its segment, to be taken for one.

use std::ops::RangeInclusive;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 24;

/// Bytes that a payload may have. A greater length is damage.
pub(crate) const LONGEST: usize = 16 * 1024 * 1024;

const FIRST: u8 = 0xff;
const MAGIC: [u8; 4] = [FIRST, b'r', b'e', b'c'];

/// A record that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
}

/// This payload has more than [`LONGEST`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLong {
    pub(crate) bytes: usize,
}

/// Appends the record whose payload `encode` appends.
///
/// # Errors
/// [`TooLong`]; `out` is as before then.
pub(crate) fn push(
    out: &mut Vec<u8>,
    sequence: u64,
    encode: impl FnOnce(u64, &mut Vec<u8>),
) -> Result<(), TooLong> {
    let start = out.len();
    let mut header = [0; HEADER];
    out.extend_from_slice(&header);
    encode(sequence, out);
    let payload = out.get(start + HEADER..).unwrap_or_default();
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= LONGEST => length,
        _ => {
            let bytes = payload.len();
            out.truncate(start);
            return Err(TooLong { bytes });
        }
    };
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..20].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let check = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&check.to_le_bytes());
    out[start..start + HEADER].copy_from_slice(&header);
    Ok(())
}

/// How many bytes the record at the front takes, by its header; for bytes that [`push`] wrote. None without a whole header.
pub(crate) fn encoded_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER>()?;
    Some(HEADER + Header::of(header).length)
}

/// What stands at the front of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Front<'a> {
    /// A record, which takes `len` bytes.
    Record { record: Record<'a>, len: usize },
    /// The beginning of a record, or nothing: `needed` bytes in all would tell more.
    Partial { needed: usize },
    /// Something else. The next record begins no earlier than `skip` bytes on.
    Damaged {
        skip: usize,
        /// Of the record, if only its payload is damaged.
        sequence: Option<u64>,
    },
}

/// Decodes the front of `bytes`, where a record with one of `sequences` may stand.
pub(crate) fn front<'a>(bytes: &'a [u8], sequences: &RangeInclusive<u64>) -> Front<'a> {
    let Some(head) = bytes.first_chunk::<HEADER>() else {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] == MAGIC[..known] {
            return Front::Partial { needed: HEADER };
        }
        return Front::Damaged { skip: next_start(bytes), sequence: None };
    };
    let header = Header::of(head);
    if !header.is_whole || header.length > LONGEST || !sequences.contains(&header.sequence) {
        return Front::Damaged { skip: next_start(bytes), sequence: None };
    }
    let len = HEADER + header.length;
    let Some(payload) = bytes.get(HEADER..len) else { return Front::Partial { needed: len } };
    if crc32fast::hash(payload) != header.payload_check {
        // The header's own bytes are known, so the search may begin behind them.
        let skip = HEADER + memchr::memchr(FIRST, &bytes[HEADER..]).unwrap_or(bytes.len() - HEADER);
        return Front::Damaged { skip, sequence: Some(header.sequence) };
    }
    Front::Record { record: Record { sequence: header.sequence, payload }, len }
}

/// Where the next record may begin, behind the first byte.
pub(crate) fn next_start(bytes: &[u8]) -> usize {
    let rest = bytes.get(1..).unwrap_or_default();
    memchr::memchr(FIRST, rest).map_or(bytes.len(), |at| at + 1)
}

struct Header {
    is_whole: bool,
    length: usize,
    sequence: u64,
    payload_check: u32,
}

impl Header {
    fn of(bytes: &[u8; HEADER]) -> Header {
        let [m0, m1, m2, m3, l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7, p0, p1, p2, p3, c0, c1, c2, c3] =
            *bytes;
        let check = u32::from_le_bytes([c0, c1, c2, c3]);
        Header {
            is_whole: [m0, m1, m2, m3] == MAGIC && crc32fast::hash(&bytes[..20]) == check,
            length: u32::from_le_bytes([l0, l1, l2, l3]) as usize,
            sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            payload_check: u32::from_le_bytes([p0, p1, p2, p3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: RangeInclusive<u64> = 1..=u64::MAX;

    fn record(sequence: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, sequence, |given, out| {
            assert_eq!(given, sequence);
            out.extend_from_slice(payload);
        })
        .unwrap();
        out
    }

    #[test]
    fn the_format_stays() {
        let expected = b"\xffrec\x03\0\0\0\x05\0\0\0\0\0\0\0\xc2\x41\x24\x35";
        let bytes = record(5, b"abc");
        assert_eq!(bytes[..20], expected[..]);
        assert_eq!(bytes[20..24], crc32fast::hash(expected).to_le_bytes());
        assert_eq!(&bytes[24..], b"abc");
    }

    #[test]
    fn there_and_back() {
        for payload in [&b""[..], b"x", "tschüß".as_bytes(), &vec![b'a'; 300_000]] {
            for sequence in [1, 255, 1 << 40] {
                let bytes = record(sequence, payload);
                let len = bytes.len();
                assert_eq!(encoded_len(&bytes), Some(len));
                let record = Record { sequence, payload };
                assert_eq!(front(&bytes, &ANY), Front::Record { record, len });
                let more = [&bytes[..], b"\xffrec"].concat();
                assert_eq!(front(&more, &ANY), Front::Record { record, len });
            }
        }
    }

    #[test]
    fn every_beginning_is_partial() {
        let bytes = record(7, b"payload");
        for end in 0..bytes.len() {
            let needed = if end < HEADER { HEADER } else { bytes.len() };
            assert_eq!(front(&bytes[..end], &ANY), Front::Partial { needed }, "{end}");
        }
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let good = record(7, b"payload");
        let two = [&good[..], &record(8, b"next")].concat();
        for byte in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = two.clone();
                bytes[byte] ^= 1 << bit;
                let mut at = 0;
                while let Front::Damaged { skip, sequence } = front(&bytes[at..], &ANY) {
                    assert!(skip > 0);
                    if at == 0 {
                        assert_eq!(sequence.is_some(), byte >= HEADER);
                    }
                    at += skip;
                }
                assert_eq!(at, good.len(), "{byte}:{bit}");
            }
        }
    }

    #[test]
    fn a_sequence_of_another_place_is_damage() {
        let bytes = record(7, b"payload");
        for sequences in [8..=10, 1..=6] {
            assert!(matches!(front(&bytes, &sequences), Front::Damaged { sequence: None, .. }));
        }
    }

    #[test]
    fn the_longest_and_one_more() {
        let mut out = b"before".to_vec();
        push(&mut out, 1, |_, out| out.resize(out.len() + LONGEST, b'a')).unwrap();
        assert!(matches!(front(&out[6..], &ANY), Front::Record { .. }));
        let before = out.clone();
        let more = push(&mut out, 2, |_, out| out.resize(out.len() + LONGEST + 1, b'a'));
        assert_eq!(more, Err(TooLong { bytes: LONGEST + 1 }));
        assert!(out == before);
    }
}
