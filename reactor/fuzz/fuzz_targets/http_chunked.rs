//! A chunked body from any bytes, in pieces. The first byte says how long they are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::http::fuzzing::chunked;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    chunked(bytes, usize::from(first));
});
