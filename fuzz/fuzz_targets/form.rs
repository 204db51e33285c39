//! Forms with files. The first two bytes say where the body is cut, the line behind them is its type.

#![no_main]

use cloudstore::server::form::{Form, FormError, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((cuts, rest)) = input.split_first_chunk::<2>() else { return };
    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return };
    let Ok(content_type) = std::str::from_utf8(&rest[..end]) else { return };
    let body = &rest[end + 1..];
    let Ok(form) = Form::new(content_type) else { return };
    let first = usize::from(cuts[0]).min(body.len());
    let second = (first + usize::from(cuts[1])).min(body.len());
    let whole = read(form, &[body]);
    for cut in
        [vec![&body[..first], &body[first..]], vec![&body[..first], &body[first..second], &body[second..]]]
    {
        let form = Form::new(content_type).expect("it was one before");
        assert_eq!(read(form, &cut), whole);
    }
});

/// A part: its field, its file name, its content, and whether it is whole.
type Part = (String, Option<Vec<u8>>, Vec<u8>, bool);

/// The parts, and how it ended.
fn read(mut form: Form, pieces: &[&[u8]]) -> (Vec<Part>, Result<(), FormError>) {
    let (mut parts, mut pending): (Vec<Part>, Vec<u8>) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let (used, step) = match form.step(&pending) {
                Ok(step) => step,
                Err(error) => return (parts, Err(error)),
            };
            match step {
                Step::More if used == 0 => break,
                Step::More | Step::End => (),
                Step::Part(head) => parts.push((head.name, head.file, Vec::new(), false)),
                Step::Data(bytes) => {
                    let part = parts.last_mut().expect("a part that has begun");
                    assert!(!part.3 && !bytes.is_empty());
                    part.2.extend_from_slice(bytes);
                }
                Step::PartEnd => {
                    let part = parts.last_mut().expect("a part that has begun");
                    assert!(!std::mem::replace(&mut part.3, true));
                }
            }
            pending.drain(..used);
        }
    }
    let outcome = form.finish();
    (parts, outcome)
}
