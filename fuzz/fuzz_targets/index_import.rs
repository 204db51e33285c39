//! A list of objects from any bytes, in one piece, byte by byte, and in two pieces of which the first byte of the input says
//! how long the first is. What was read is written as an export and read again.

#![no_main]

use cloudstore::storage::fuzzing::{read_list, write_list};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&split, list)) = input.split_first() else { return };
    let whole = read_list([list]);
    let (entries, failed) = &whole;
    assert!(failed.is_none_or(|entry| entry > 0 && entry <= list.len() as u64 + 1));
    assert_eq!(read_list(list.chunks(1)), whole);
    let (first, second) = list.split_at(list.len().min(split.into()));
    assert_eq!(read_list([first, second]), whole);

    let (ours, text) = write_list(list);
    assert!(ours.iter().all(|entry| entries.contains(entry)));
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), ours.len());
    assert_eq!(read_list([&text[..]]), (ours, None));
});
