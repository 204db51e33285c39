//! One record, one line: `TIMESTAMP HOST APP[PID] MARK TEXT`, whatever it holds.

use std::io::Write;
use std::str;

use crate::format::{Offset, Stamper, escape_bytes, put_micros};
use crate::forward::Mark;
use crate::forward::syslog::{Message, is_rfc_3339};

/// The most bytes of a column that a sender fills, so that a line's mark is found near its beginning.
const MAX_COLUMN: usize = 255;

/// Writes RFC 3339 stamps in UTC with microseconds.
pub(crate) struct Stamps {
    stamper: Stamper,
    text: Vec<u8>,
}

impl Stamps {
    pub(crate) fn new() -> Stamps {
        Stamps { stamper: Stamper::new(Offset::Utc), text: Vec::new() }
    }

    /// The stamp of so many microseconds since 1970.
    pub(crate) fn stamp(&mut self, micros: u64) -> &[u8] {
        self.text.clear();
        let room = self.stamper.write(&mut self.text, micros / 1_000_000);
        if let Some(digits) = self.text[room..].first_chunk_mut() {
            put_micros(digits, (micros % 1_000_000) as u32);
        }
        &self.text
    }
}

/// Appends a record and its line end. `now` stands for a time that it does not have, `from` for a host; `cut` bytes of it
/// are missing at its end.
pub(crate) fn write_line(out: &mut Vec<u8>, message: &Message<'_>, cut: u64, from: &str, now: &[u8]) {
    out.extend_from_slice(message.timestamp.map_or(now, str::as_bytes));
    out.push(b' ');
    column(out, message.host.unwrap_or(from));
    out.push(b' ');
    column(out, message.app.unwrap_or("-"));
    if let Some(procid) = message.procid {
        out.push(b'[');
        column(out, procid);
        out.push(b']');
    }
    out.push(b' ');
    match message.mark {
        Some(mark) => {
            let _ = write!(out, "{mark}");
        }
        None => out.push(b'-'),
    }
    out.push(b' ');
    let is_alone = message.local_time.is_none()
        && message.msgid.is_none()
        && message.structured.iter().all(|part| part.is_empty());
    let words = words(message.severity);
    let has_word = |text: &[u8]| words.iter().any(|word| text.starts_with(word));
    // rsyslog puts a space before each text that it passes on.
    let relayed = message.text.strip_prefix(b" ").filter(|text| has_word(text));
    let text = relayed.unwrap_or(message.text);
    if !is_alone || !has_word(text) {
        out.extend_from_slice(words[0]);
    }
    for part in [message.local_time, message.msgid].into_iter().flatten() {
        out.extend_from_slice(part.as_bytes());
        out.push(b' ');
    }
    if message.structured.iter().any(|part| !part.is_empty()) {
        message.structured.iter().for_each(|part| escape_bytes(out, part));
        out.push(b' ');
    }
    escape_bytes(out, text);
    if cut > 0 {
        let _ = write!(out, " [cut, {cut} bytes]");
    }
    out.push(b'\n');
}

/// The level words that fit a severity; the first one is put where none is.
fn words(severity: u8) -> &'static [&'static [u8]] {
    match severity {
        0..=2 => &[b"FATAL "],
        3 => &[b"ERROR "],
        4 => &[b"WARN  "],
        5 | 6 => &[b"INFO  "],
        _ => &[b"DEBUG ", b"TRACE "],
    }
}

/// Text without spaces or control characters, as header fields are.
fn column(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(MAX_COLUMN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// The mark and the time of a record, from its line; `None` if it has no mark.
pub(crate) fn parse_mark(line: &[u8]) -> Option<(Mark, &str)> {
    let mut columns = line.splitn(5, |&byte| byte == b' ');
    let time = columns.next()?;
    let mark = columns.nth(2).filter(|_| columns.next().is_some())?;
    let text = |bytes| str::from_utf8(bytes).ok();
    Some((text(mark)?.parse().ok()?, text(time)?))
}

/// Whether this is the line of a record, or of one so far that its text begins.
pub(crate) fn is_record(line: &[u8]) -> bool {
    let columns: Vec<_> = line.splitn(5, |&byte| byte == b' ').collect();
    let [time, _host, _app, mark, _text] = columns[..] else { return false };
    is_rfc_3339(time) && (mark == b"-" || parse_mark(line).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::syslog::parse;
    use proptest::prelude::*;

    const NOW: &[u8] = b"2026-11-22T14:03:57.000000Z";

    fn line(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_line(&mut out, &parse(bytes), 0, "192.0.2.1", NOW);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_of_our_own_records() {
        let mark = "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"17\"]";
        let text = "ERROR [client] [t1] examples/server.rs:152 disk gone peer=\"a\"";
        assert_eq!(
            line(format!("<11>1 2026-11-22T14:03:56.234567Z web1 server 4711 - {mark} {text}").as_bytes()),
            format!("2026-11-22T14:03:56.234567Z web1 server[4711] 00c0ffee00c0ffee/2/17 {text}\n")
        );
    }

    #[test]
    fn lines_of_others_records() {
        for (bytes, expected) in [
            ("hello", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  hello"),
            ("", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  "),
            ("ERROR x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  ERROR x"),
            ("<14>INFO  x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  x"),
            ("<15>TRACE x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - TRACE x"),
            ("<15>DEBUG x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - DEBUG x"),
            ("<15>x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - DEBUG x"),
            ("<11>1 - - - - - - ERROR x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - ERROR x"),
            ("<11>1 - - - - - -  ERROR x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - ERROR x"),
            ("<11>1 - - - - - -  x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - ERROR  x"),
            ("<8>x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - FATAL x"),
            ("<12>x", "2026-11-22T14:03:57.000000Z 192.0.2.1 - - WARN  x"),
            (
                "<13>Nov 22 14:03:55 web1 a[7]: x",
                "2026-11-22T14:03:57.000000Z web1 a[7] - INFO  Nov 22 14:03:55 x",
            ),
            (
                "<13>1 2026-11-22T14:03:55+01:00 h - 7 M [x y=\"\n\"][z] t\u{9b}\t",
                "2026-11-22T14:03:55+01:00 h -[7] - INFO  M [x y=\"\\n\"][z] t\\u{9b}\\t",
            ),
        ] {
            assert_eq!(line(bytes.as_bytes()), format!("{expected}\n"));
        }
        assert_eq!(line(b"a\xffb\0c"), "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  a\\xffb\\u{0}c\n");
        let mut out = Vec::new();
        write_line(&mut out, &Message::bare(b"x"), 7, "unix", NOW);
        assert_eq!(out, b"2026-11-22T14:03:57.000000Z unix - - INFO  x [cut, 7 bytes]\n");
    }

    #[test]
    fn a_space_too_many_forges_no_mark() {
        let line = line(b"<13>Nov 22 14:03:55  x 00c0ffee00c0ffee/2/17 y");
        let expected = "192.0.2.1 - - INFO  Nov 22 14:03:55  x 00c0ffee00c0ffee/2/17 y";
        assert_eq!(line, format!("2026-11-22T14:03:57.000000Z {expected}\n"));
        assert_eq!(parse_mark(line.as_bytes()), None);
    }

    #[test]
    fn stamps_are_in_utc() {
        assert_eq!(Stamps::new().stamp(951_827_696_000_007), b"2000-02-29T12:34:56.000007Z");
    }

    #[test]
    fn a_mark_is_the_fourth_column() {
        let mark = Mark { sender: 0xc0ffee, stream: 2, sequence: 17 };
        assert_eq!(parse_mark(format!("T h a {mark} x y").as_bytes()), Some((mark, "T")));
        for line in [format!("T h a {mark}"), format!("T h {mark} x"), "T h a - x".to_owned(), String::new()]
        {
            assert_eq!(parse_mark(line.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_line_and_forges_no_column(
            head in prop_oneof![
                Just(""), Just("<13>"), Just("<13>1 - h a p m "), Just("<13>1 - "), Just("<13>Nov 22 14:03:55 "),
                Just("<13>Nov 22 14:03:55  x 0000000000c0ffee/2/17 "),
                Just("<13>1 - h a p - [cloudstore@32473 sender=\"0000000000c0ffee\" stream=\"2\" sequence=\"17\"] "),
            ],
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let bytes = [head.as_bytes(), &bytes].concat();
            let message = parse(&bytes);
            let mut out = Vec::new();
            write_line(&mut out, &message, 0, "unix", NOW);
            let text = String::from_utf8(out).unwrap();
            let line = text.strip_suffix('\n').unwrap();
            prop_assert!(!line.chars().any(char::is_control));
            let columns: Vec<_> = line.splitn(5, ' ').collect();
            prop_assert!(crate::forward::syslog::is_rfc_3339(columns[0].as_bytes()));
            prop_assert!(is_record(line.as_bytes()));
            prop_assert_eq!(columns[1], message.host.unwrap_or("unix"));
            prop_assert_eq!(columns[3], message.mark.map_or("-".to_owned(), |mark| mark.to_string()));
            prop_assert_eq!(parse_mark(line.as_bytes()).map(|(mark, _)| mark), message.mark);
        }
    }
}
