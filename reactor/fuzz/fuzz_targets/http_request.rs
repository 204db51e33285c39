//! A request's head from any bytes, cut anywhere. The first byte says where.

#![no_main]

use libfuzzer_sys::fuzz_target;
use reactor::http::fuzzing::request;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    request(bytes, usize::from(first));
});
