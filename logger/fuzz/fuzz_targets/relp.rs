//! RELP frames, offers and answers from any bytes. The first byte of the input is the most data that a frame may have.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logger::fuzzing::{relp_frame, relp_head, relp_offers, relp_response, write_relp_frame};

/// What stands before the data is never longer.
const LONGEST_HEAD: usize = 53;
/// Behind the first beginning that says something, only every so many bytes are one to be looked at.
const STRIDE: usize = 50;

fuzz_target!(|input: &[u8]| {
    let Some((&max_data, bytes)) = input.split_first() else { return };
    let max_data = usize::from(max_data);
    frames(bytes, max_data);
    offers(bytes);
    response(bytes);
});

/// All frames, one behind the other; each beginning of what is left agrees with the whole.
fn frames(bytes: &[u8], max_data: usize) {
    let mut rest = bytes;
    loop {
        let whole = relp_frame(rest, max_data);
        let mut end = 0;
        while end < rest.len() {
            let beginning = relp_frame(&rest[..end], max_data);
            assert!(beginning == Ok(None) || beginning == whole, "{beginning:?} to {end}, then {whole:?}");
            let head = relp_head(&rest[..end]);
            assert!(head == Ok(None) || head == relp_head(rest), "{head:?} to {end}");
            assert!(head != Ok(None) || end < LONGEST_HEAD, "no head in {end} bytes");
            end += if beginning == Ok(None) { 1 } else { STRIDE };
        }
        match whole {
            Ok(Some((frame, len))) => {
                one(&rest[..len], frame, max_data);
                rest = &rest[len..];
            }
            Ok(None) => {
                assert!(rest.len() <= LONGEST_HEAD + max_data, "no frame in {} bytes", rest.len());
                break;
            }
            Err(_) => break,
        }
    }
}

fn one(bytes: &[u8], (txnr, command, data): (u32, &[u8], &[u8]), max_data: usize) {
    assert!(data.len() <= max_data);
    let head = relp_head(bytes).expect("a frame has a head").expect("a whole one");
    assert_eq!(head, (txnr, command, data.len(), bytes.len() - data.len() - 1));
    let command = std::str::from_utf8(command).expect("letters");
    let mut again = Vec::new();
    write_relp_frame(&mut again, txnr, command, data);
    // A number may have zeros before it, which are not written.
    let canonical = {
        let mut words = bytes[..head.3].splitn(3, |&byte| byte == b' ').map(<[u8]>::trim_ascii_end);
        let is_plain = |word: &[u8]| word == b"0" || !word.starts_with(b"0");
        words.next().is_some_and(is_plain) && words.nth(1).is_some_and(is_plain)
    };
    assert_eq!(again == bytes, canonical, "{}", bytes.escape_ascii());
    let read = relp_frame(&again, max_data);
    assert_eq!(read, Ok(Some(((txnr, command.as_bytes(), data), again.len()))));
}

fn offers(bytes: &[u8]) {
    let lines = || {
        let lines = bytes.split(|&byte| byte == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
    };
    let offers = relp_offers(bytes);
    assert_eq!(offers.is_ok(), lines().all(|line| line.contains(&b'=')));
    let Ok((version, software, has_syslog)) = offers else { return };
    let last = |name: &[u8]| lines().filter_map(|line| line.strip_prefix(name)).last();
    assert_eq!(version, last(b"relp_version="));
    assert_eq!(software, last(b"relp_software="));
    let commands = last(b"commands=");
    let knows = |list: &[u8]| list.split(|&byte| byte == b',').any(|name| name.trim_ascii() == b"syslog");
    assert_eq!(has_syslog, commands.is_none_or(knows));
}

fn response(bytes: &[u8]) {
    let Ok((code, text, data)) = relp_response(bytes) else { return };
    assert!(code <= 999 && !text.contains(&b'\n'));
    let full = [format!("{code:03} ").as_bytes(), text, b"\n", data].concat();
    assert_eq!(relp_response(&full), Ok((code, text, data)));
    // What is empty may be left out with what stands before it.
    let mut shorter = vec![full.clone()];
    if data.is_empty() {
        shorter.push(full[..full.len() - 1].to_vec());
    }
    if text.is_empty() {
        shorter.push([&full[..3], &full[4..]].concat());
    }
    if text.is_empty() && data.is_empty() {
        shorter.extend([full[..3].to_vec(), Vec::new()]);
    }
    assert!(shorter.iter().any(|full| full == bytes), "{}", bytes.escape_ascii());
}
