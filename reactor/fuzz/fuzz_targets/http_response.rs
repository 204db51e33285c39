//! A response's head from any bytes. The first byte says what it answers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::http::fuzzing::response;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    response(bytes, first % 2 == 1);
});
