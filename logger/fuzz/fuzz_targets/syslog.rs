//! Syslog messages and their framings from any bytes, and the lines that the backlog server makes of them. The first byte
//! of the input says whether it is a syslog message and whether some of it is missing, the second where it is split, and
//! the third how long a line may be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logger::fuzzing::{Said, counted_len, is_rfc_3339, line, line_mark, write_counted};

const NOW: &str = "2026-11-22T14:03:57.000000Z";
const FROM: &str = "192.0.2.1";
/// The most bytes of a column that a sender fills.
const MAX_COLUMN: usize = 255;
/// A message's length and the space behind it are never longer.
const LONGEST_LEN: usize = 10;
/// Behind the first beginning that says something, only every so many bytes are one to be looked at.
const STRIDE: usize = 50;

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, split, max], bytes)) = input.split_first_chunk() else { return };
    let cut = if flags & 2 == 0 { 0 } else { u64::from(split) };
    message(bytes, flags & 1 == 0, cut);
    message(&bytes[..bytes.len().min(split.into())], true, cut);
    counted_messages(bytes);
    lines(bytes, max.into());
});

fn message(bytes: &[u8], is_syslog: bool, cut: u64) {
    let said = Said::parse(bytes, is_syslog);
    assert!(said.priority().0 < 24 && said.priority().1 < 8);
    let range = bytes.as_ptr_range();
    for part in said.parts().into_iter().filter(|part| !part.is_empty()) {
        let part = part.as_ptr_range();
        assert!(range.start <= part.start && part.end <= range.end);
    }

    let line = String::from_utf8(said.line(cut, FROM, NOW)).expect("UTF-8");
    let line = line.strip_suffix('\n').expect("a line end");
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let columns: Vec<_> = line.splitn(5, ' ').collect();
    let [time, host, app, mark, text] = columns[..] else { panic!("{} columns: {line:?}", columns.len()) };
    assert_eq!(time, said.timestamp().unwrap_or(NOW));
    assert!(is_rfc_3339(time), "{time:?}");
    assert_eq!(host, column(said.host().unwrap_or(FROM)));
    let procid = said.procid().map(|procid| format!("[{}]", column(procid))).unwrap_or_default();
    assert_eq!(app, format!("{}{procid}", column(said.app().unwrap_or("-"))));
    assert!(!host.is_empty() && !app.is_empty());
    assert!(
        ["FATAL ", "ERROR ", "WARN  ", "INFO  ", "DEBUG ", "TRACE "]
            .iter()
            .any(|word| text.starts_with(word))
    );
    let ending = format!(" [cut, {cut} bytes]");
    assert!(cut == 0 || text.ends_with(&ending));

    assert_eq!(line_mark(line.as_bytes()), said.mark().map(|mark| (mark, time)));
    match said.mark() {
        None => assert_eq!(mark, "-"),
        Some((sender, stream, sequence)) => {
            assert!(is_syslog && sequence > 0);
            assert_eq!(mark, format!("{sender:016x}/{stream}/{sequence}"));
            let element = format!(
                "[cloudstore@32473 sender=\"{sender:016x}\" stream=\"{stream}\" sequence=\"{sequence}\"]"
            );
            assert!(bytes.windows(element.len()).any(|part| part == element.as_bytes()), "{mark} is forged");
        }
    }
}

/// As much of a text as a column takes.
fn column(text: &str) -> &str {
    let ends = (0..=text.len().min(MAX_COLUMN)).rev();
    ends.filter_map(|end| text.get(..end)).next().unwrap_or_default()
}

/// Each beginning agrees with the whole, and a message is written as it was read.
fn counted_messages(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let whole = counted_len(rest);
        for end in 0..rest.len() {
            let beginning = counted_len(&rest[..end]);
            assert!(beginning == Ok(None) || beginning == whole, "{beginning:?} to {end}, then {whole:?}");
            if beginning != Ok(None) {
                break;
            }
            assert!(end < LONGEST_LEN, "no length in {end} bytes");
        }
        let Ok(Some((len, start))) = whole else { return };
        let Some(message) = rest[start..].get(..len) else { return };
        let mut again = Vec::new();
        write_counted(&mut again, message);
        assert_eq!(again, rest[..start + len]);
        rest = &rest[start + len..];
    }
}

/// Each beginning agrees with the whole, wherever the search goes on, and the lines are those of a simple split.
fn lines(bytes: &[u8], max: usize) {
    let mut rest = bytes;
    loop {
        let whole = line(rest, 0, max);
        let end_of_line = rest.iter().position(|&byte| byte == b'\n');
        let mut end = 0;
        while end < rest.len() {
            let beginning = line(&rest[..end], 0, max);
            assert!(beginning == Ok(None) || beginning == whole, "{beginning:?} to {end}, then {whole:?}");
            end += if beginning == Ok(None) { 1 } else { STRIDE };
        }
        for seen in 0..=end_of_line.unwrap_or(rest.len()) {
            assert_eq!(line(rest, seen, max), whole);
        }
        match whole {
            Ok(Some((text, len))) => {
                assert!(text.len() <= max);
                let plain = &rest[..end_of_line.expect("a line end")];
                assert_eq!(text, plain.strip_suffix(b"\r").unwrap_or(plain));
                assert_eq!(len, plain.len() + 1);
                rest = &rest[len..];
            }
            Ok(None) => {
                assert!(end_of_line.is_none() && rest.len() <= max + 1, "no line in {} bytes", rest.len());
                break;
            }
            Err(_) => break,
        }
    }
}
