//! Which bytes a request wants (RFC 9110, section 14), and the form of a reply that has several ranges.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use reactor::http::Headers;

/// Ranges that one request may ask for. Viewers of documents ask for a handful; a request with more is answered whole,
/// so that a short request cannot make the server work on hundreds of parts.
pub const MAX_RANGES: usize = 16;

/// What to send of a representation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selection {
    /// All of it, with 200: no range was asked for, or none that this server understands.
    Whole,
    /// These bytes, at least one, with 206 and [`content_range`].
    One(Range<u64>),
    /// These ranges, at least two, with 206 and [`Multipart`]. In the order that was asked for; none is empty, overlaps
    /// another or touches it.
    Several(Vec<Range<u64>>),
    /// The representation has none of the bytes: 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

impl Selection {
    /// What the `Range` field of a GET asks for, of a representation with so many bytes.
    ///
    /// Ranges that overlap or touch become one, at the place of the first of them, so no byte is sent twice. A field that
    /// is malformed, that stands there twice, that has another unit than `bytes` or more than [`MAX_RANGES`] ranges, means
    /// the whole. So does a suffix of an empty representation, since no `Content-Range` can say "no bytes".
    pub fn of(headers: &Headers, size: u64) -> Selection {
        let mut fields = headers.all("range");
        match (fields.next(), fields.next()) {
            (Some(field), None) => Selection::parse(field, size),
            _ => Selection::Whole,
        }
    }

    /// As [`of`](Self::of), for the value of the one field.
    pub fn parse(field: &[u8], size: u64) -> Selection {
        let Some(specs) = parse_specs(field) else { return Selection::Whole };
        if size == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix(1..))) {
            return Selection::Whole;
        }
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(specs.len());
        for mut range in specs.into_iter().filter_map(|spec| spec.within(size)) {
            let mut place = ranges.len();
            while let Some(at) = ranges.iter().position(|other| touches(other, &range)) {
                let other = ranges.remove(at);
                range = other.start.min(range.start)..other.end.max(range.end);
                place = place.min(at);
            }
            ranges.insert(place, range);
        }
        match ranges.len() {
            0 => Selection::Unsatisfiable,
            1 => Selection::One(ranges.swap_remove(0)),
            _ => Selection::Several(ranges),
        }
    }
}

fn touches(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start <= b.end && b.start <= a.end
}

/// One member of the list.
enum Spec {
    /// `first-last`, last included.
    Span(u64, u64),
    /// `-length`: the last bytes.
    Suffix(u64),
}

impl Spec {
    /// The bytes of it that are there.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Spec::Span(first, last) => first..last.saturating_add(1).min(size),
            Spec::Suffix(length) => size.saturating_sub(length)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// None for what is to be ignored.
fn parse_specs(field: &[u8]) -> Option<Vec<Spec>> {
    let (unit, list) = field.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = Vec::new();
    for member in list.split(|&byte| byte == b',') {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(parse_spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(member: &[u8]) -> Option<Spec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&member[..dash], &member[dash + 1..]);
    if first.is_empty() {
        return Some(Spec::Suffix(number(last)?));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    (first <= last).then_some(Spec::Span(first, last))
}

/// A number that is larger than any size is as good as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

/// The value of `Content-Range` for these bytes, at least one, of a representation with so many.
pub fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1))
}

/// The value of `Content-Range` that goes with 416.
pub fn unsatisfied_range(size: u64) -> String {
    format!("bytes */{size}")
}

/// The body of a reply with several ranges, `multipart/byteranges` (RFC 9110, section 14.6). Its length is known before
/// anything is sent.
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: String,
    /// What stands before each range, and the range.
    parts: Vec<(String, Range<u64>)>,
    tail: String,
}

/// What comes next in a [`Multipart`] body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// These bytes.
    Text(&'a str),
    /// These bytes of the representation.
    Content(Range<u64>),
}

impl Multipart {
    /// For these ranges of a representation with so many bytes, of this media type (a valid field value).
    ///
    /// The boundary is drawn at random, 128 bits: nobody who writes objects can know it.
    pub fn new(ranges: Vec<Range<u64>>, size: u64, media_type: &str) -> Multipart {
        // Hashers are keyed by the system's randomness, each state of its own.
        let random = || RandomState::new().build_hasher().finish();
        Multipart::with_boundary(format!("{:016x}{:016x}", random(), random()), ranges, size, media_type)
    }

    fn with_boundary(boundary: String, ranges: Vec<Range<u64>>, size: u64, media_type: &str) -> Multipart {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let mut head = String::from(if parts.is_empty() { "--" } else { "\r\n--" });
            let place = content_range(&range, size);
            let _ =
                write!(head, "{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {place}\r\n\r\n");
            parts.push((head, range));
        }
        let tail = format!("\r\n--{boundary}--\r\n");
        Multipart { boundary, parts, tail }
    }

    /// The value of `Content-Type`. The media type of the representation stands in the parts.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// The value of `Content-Length`.
    pub fn content_length(&self) -> u64 {
        self.pieces().fold(0, |sum: u64, piece| {
            sum.saturating_add(match piece {
                Piece::Text(text) => text.len() as u64,
                Piece::Content(range) => range.end.saturating_sub(range.start),
            })
        })
    }

    /// The body, in its order.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let parts =
            self.parts.iter().flat_map(|(head, range)| [Piece::Text(head), Piece::Content(range.clone())]);
        parts.chain([Piece::Text(&self.tail)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(field: &str, size: u64) -> Selection {
        Selection::parse(field.as_bytes(), size)
    }

    fn several<const N: usize>(ranges: [Range<u64>; N]) -> Selection {
        Selection::Several(ranges.to_vec())
    }

    #[test]
    fn one_range_of_each_form() {
        for (field, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..1000),
            ("bytes=0-999", 0..1000),
            ("bytes=0-1000", 0..1000),
            ("bytes=999-", 999..1000),
            ("bytes=10-19", 10..20),
            ("bytes=-1", 999..1000),
            ("bytes=-1000", 0..1000),
            ("bytes=-1001", 0..1000),
            ("bytes=-99999999999999999999999999", 0..1000),
            ("bytes=5-99999999999999999999999999", 5..1000),
            ("bytes=5-18446744073709551615", 5..1000),
            ("bytes=005-0010", 5..11),
            ("BYTES=5-10", 5..11),
            ("bytes= 5-10 ", 5..11),
            ("bytes=,, 5-10 ,\t,", 5..11),
            // What is out of reach does not spoil the rest.
            ("bytes=2000-3000,5-10,-0", 5..11),
        ] {
            assert_eq!(select(field, 1000), Selection::One(expected), "{field}");
        }
    }

    #[test]
    fn what_is_malformed_or_foreign_is_ignored() {
        for field in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= , ,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=5-4",
            "bytes=0-1,5-4",
            "bytes=0-1,x",
            "bytes=1-2-3",
            "bytes=--1",
            "bytes=-1-",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=1- 2",
            "bytes=0x1-0x2",
            "bytes =0-1",
            " bytes=0-1",
            "bytes:0-1",
            "bytes 0-1/2",
            "items=0-1",
            "none",
            "bytes=0-1;bytes=3-4",
            "bytes=0\u{660}-1",
        ] {
            assert_eq!(select(field, 1000), Selection::Whole, "{field}");
        }
        assert_eq!(Selection::parse(b"bytes=0-\xff", 1000), Selection::Whole);
        assert_eq!(Selection::of(&Headers::default(), 1000), Selection::Whole);
    }

    #[test]
    fn what_is_not_there_is_unsatisfiable() {
        for field in [
            "bytes=1000-",
            "bytes=1000-1000",
            "bytes=-0",
            "bytes=-00",
            "bytes=18446744073709551615-",
            "bytes=99999999999999999999-",
            "bytes=5000-6000,7000-8000",
        ] {
            assert_eq!(select(field, 1000), Selection::Unsatisfiable, "{field}");
        }
        assert_eq!(unsatisfied_range(1000), "bytes */1000");
    }

    #[test]
    fn ranges_of_nothing() {
        for (field, expected) in [
            ("bytes=0-", Selection::Unsatisfiable),
            ("bytes=0-0", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=-1", Selection::Whole),
            ("bytes=0-0,-5", Selection::Whole),
        ] {
            assert_eq!(select(field, 0), expected, "{field}");
        }
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let size = u64::MAX;
        assert_eq!(select("bytes=0-", size), Selection::One(0..size));
        assert_eq!(select("bytes=18446744073709551614-", size), Selection::One(size - 1..size));
        assert_eq!(select("bytes=18446744073709551615-", size), Selection::Unsatisfiable);
        assert_eq!(select("bytes=-18446744073709551615", size), Selection::One(0..size));
    }

    #[test]
    fn several_ranges_keep_their_order() {
        assert_eq!(select("bytes=500-599,0-99", 1000), several([500..600, 0..100]));
        assert_eq!(select("bytes=-1, 0-0", 1000), several([999..1000, 0..1]));
    }

    #[test]
    fn what_overlaps_or_touches_becomes_one() {
        for (field, expected) in [
            ("bytes=0-9,10-19", Selection::One(0..20)),
            ("bytes=0-,0-,0-", Selection::One(0..1000)),
            ("bytes=0-0,-1000", Selection::One(0..1000)),
            ("bytes=5-6,5-6", Selection::One(5..7)),
            ("bytes=900-,0-9,5-19", several([900..1000, 0..20])),
            // The last one joins the two before.
            ("bytes=40-49,20-29,700-,0-9,25-45", several([20..50, 700..1000, 0..10])),
            ("bytes=20-29,700-,40-49,0-9,25-45", several([20..50, 700..1000, 0..10])),
        ] {
            assert_eq!(select(field, 1000), expected, "{field}");
        }
    }

    #[test]
    fn sixteen_ranges_are_served_and_seventeen_are_not() {
        let list = |count: u32| {
            let members: Vec<String> = (0..count).map(|i| format!("{}-{}", i * 10, i * 10 + 1)).collect();
            format!("bytes={}", members.join(","))
        };
        assert!(matches!(select(&list(16), 1000), Selection::Several(ranges) if ranges.len() == 16));
        assert_eq!(select(&list(17), 1000), Selection::Whole);
        assert_eq!(select(&format!("bytes={}", "0-,".repeat(1000)), 1000), Selection::Whole);
    }

    #[test]
    fn a_multipart_body_to_the_byte() {
        let body = Multipart::with_boundary("B".to_owned(), vec![0..2, 8..10], 10, "text/plain");
        assert_eq!(body.content_type(), "multipart/byteranges; boundary=B");
        let expected = "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
            \r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n";
        let mut sent = String::new();
        for piece in body.pieces() {
            match piece {
                Piece::Text(text) => sent.push_str(text),
                Piece::Content(range) => {
                    sent.push_str(&"0123456789"[range.start as usize..range.end as usize])
                }
            }
        }
        assert_eq!(sent, expected);
        assert_eq!(body.content_length(), expected.len() as u64);
    }

    #[test]
    fn boundaries_are_random() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let body = Multipart::new(vec![0..1, 5..6], 10, "text/plain");
            assert_eq!(body.boundary.len(), 32);
            assert!(seen.insert(body.boundary));
        }
    }

    /// Marks each byte that is asked for; none if all are to be sent.
    fn model(specs: &[(Option<u64>, Option<u64>)], size: u64) -> Option<Vec<bool>> {
        let mut marks = vec![false; size as usize];
        for &(first, last) in specs {
            match (first, last) {
                (Some(first), Some(last)) if first > last => return None,
                (None, None) => return None,
                _ => (),
            }
            for at in 0..size {
                marks[at as usize] |= match (first, last) {
                    (Some(first), Some(last)) => at >= first && at <= last,
                    (Some(first), None) => at >= first,
                    (None, Some(length)) => at + length >= size,
                    (None, None) => false,
                };
            }
        }
        Some(marks)
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_a_naive_model(
            specs in proptest::collection::vec((any::<Option<u8>>(), any::<Option<u8>>()), 1..18),
            size in 1u64..200,
        ) {
            let specs: Vec<_> = specs.iter().map(|(a, b)| (a.map(u64::from), b.map(u64::from))).collect();
            let text = |part: Option<u64>| part.map(|n| n.to_string()).unwrap_or_default();
            let members: Vec<String> = specs.iter().map(|&(a, b)| format!("{}-{}", text(a), text(b))).collect();
            let selection = select(&format!("bytes={}", members.join(", ")), size);
            let marks = model(&specs, size).filter(|_| specs.len() <= MAX_RANGES);
            let ranges = match selection {
                Selection::Whole => {
                    prop_assert_eq!(marks, None);
                    return Ok(());
                }
                Selection::Unsatisfiable => Vec::new(),
                Selection::One(range) => vec![range],
                Selection::Several(ranges) => {
                    prop_assert!(ranges.len() > 1);
                    ranges
                }
            };
            let mut sent = vec![false; size as usize];
            for (n, range) in ranges.iter().enumerate() {
                prop_assert!(range.start < range.end && range.end <= size);
                prop_assert!(ranges[..n].iter().all(|other| other.end < range.start || range.end < other.start));
                sent[range.start as usize..range.end as usize].fill(true);
            }
            prop_assert_eq!(Some(sent), marks);
            if let Some(range) = ranges.first() {
                // The first that was asked for, and is there, comes first.
                let of = |&(a, b): &(Option<u64>, Option<u64>)| model(&[(a, b)], size)?.iter().position(|&mark| mark);
                let first = specs.iter().find_map(of).unwrap() as u64;
                prop_assert!(range.contains(&first));
            }
            let body = Multipart::new(ranges, size, "a/b");
            let length: usize = body.pieces().map(|piece| match piece {
                Piece::Text(text) => text.len(),
                Piece::Content(range) => (range.end - range.start) as usize,
            }).sum();
            prop_assert_eq!(body.content_length(), length as u64);
        }

        #[test]
        fn any_field_is_read_without_harm(field in proptest::collection::vec(any::<u8>(), 0..60), size in any::<u64>()) {
            let _ = Selection::parse(&[b"bytes=", &field[..]].concat(), size);
            let _ = Selection::parse(&field, size);
        }
    }
}
