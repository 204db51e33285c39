//! A `Range` field from any bytes, and the body that it makes. The first eight bytes are the size of the representation.

#![no_main]

use std::ops::Range;

use cloudstore::server::range::{MAX_RANGES, Multipart, Piece, Selection};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, field)) = input.split_first_chunk() else { return };
    let size = u64::from_le_bytes(*size);
    for size in [size, size >> 48, size >> 61] {
        let ranges = match Selection::parse(field, size) {
            Selection::Whole | Selection::Unsatisfiable => continue,
            Selection::One(range) => vec![range],
            Selection::Several(ranges) => {
                assert!(ranges.len() > 1);
                ranges
            }
        };
        assert!(ranges.len() <= MAX_RANGES);
        for (at, range) in ranges.iter().enumerate() {
            assert!(range.start < range.end && range.end <= size, "{range:?} of {size}");
            let is_apart = |other: &Range<u64>| other.end < range.start || range.end < other.start;
            assert!(ranges[..at].iter().all(is_apart), "{ranges:?}");
        }
        if size < 1 << 13 {
            let wanted = wanted(field, size).expect("a field that was understood");
            let is_in = |at: u64| ranges.iter().any(|range| range.contains(&at));
            assert!((0..size).all(|at| is_in(at) == wanted.iter().any(|range| range.contains(&at))));
        }
        multipart(ranges, size);
    }
});

/// What each member of the list asks for.
fn wanted(field: &[u8], size: u64) -> Option<Vec<Range<u64>>> {
    let list = std::str::from_utf8(field).ok()?.split_once('=')?.1;
    let mut ranges = Vec::new();
    for member in list.split(',').map(|member| member.trim_ascii()).filter(|member| !member.is_empty()) {
        let (first, last) = member.split_once('-')?;
        let number = |text: &str| text.parse().unwrap_or(u64::MAX);
        ranges.push(match (first, last) {
            ("", last) => size.saturating_sub(number(last))..size,
            (first, "") => number(first)..size,
            (first, last) => number(first)..number(last).saturating_add(1).min(size),
        });
    }
    Some(ranges)
}

fn multipart(ranges: Vec<Range<u64>>, size: u64) {
    let body = Multipart::new(ranges.clone(), size, "text/plain");
    let (mut len, mut contents) = (0u64, Vec::new());
    for piece in body.pieces() {
        match piece {
            Piece::Text(text) => len = len.saturating_add(text.len() as u64),
            Piece::Content(range) => {
                len = len.saturating_add(range.end - range.start);
                contents.push(range);
            }
        }
    }
    assert_eq!((body.content_length(), contents), (len, ranges));
}
