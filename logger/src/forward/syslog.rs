//! Syslog messages: ours as RFC 5424, and what others send as RFC 5424, RFC 3164 or neither.

use std::str;

use super::mark::{Mark, parse_number, parse_sender};
use crate::format::push_number;
use crate::level::Level;

/// Messages of user programs, and what is assumed of those that do not say.
const USER: u8 = 1;
const INFO: u8 = 6;
/// The largest facility and severity.
const MAX_PRI: u16 = 191;

/// A byte order mark in UTF-8, which may stand before a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The element that carries a mark. The number is the one that IANA sets aside for documentation.
const ELEMENT: &[u8] = b"[cloudstore@32473 sender=\"";
const STREAM: &[u8] = b"\" stream=\"";
const SEQUENCE: &[u8] = b"\" sequence=\"";
const ELEMENT_END: &[u8] = b"\"]";

/// Who sends, as it stands in every message.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    bytes: Vec<u8>,
}

impl Origin {
    /// What the header cannot carry becomes `_`, and what is too long is cut; an empty part is `-`.
    pub(crate) fn new(host: &str, app: &str, procid: &str) -> Origin {
        let mut bytes = Vec::new();
        for (part, max) in [(host, 255), (app, 48), (procid, 128)] {
            bytes.push(b' ');
            let clean = part.chars().map(|char| if char.is_ascii_graphic() { char as u8 } else { b'_' });
            bytes.extend(clean.take(max));
            if part.is_empty() {
                bytes.push(b'-');
            }
        }
        bytes.extend_from_slice(b" - ");
        bytes.extend_from_slice(ELEMENT);
        Origin { bytes }
    }
}

/// How urgent a level is in syslog's terms.
pub(crate) fn severity_of(level: Level) -> u8 {
    match level {
        Level::Trace | Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Fatal => 2,
    }
}

/// Appends a message as RFC 5424 has it. `timestamp` is RFC 3339 with at most six digits behind the second; `text` is one
/// line.
pub(crate) fn write_message(
    out: &mut Vec<u8>,
    origin: &Origin,
    level: Level,
    timestamp: &[u8],
    mark: Mark,
    text: &[u8],
) {
    out.push(b'<');
    push_number(out, u64::from(USER * 8 + severity_of(level)));
    out.extend_from_slice(b">1 ");
    out.extend_from_slice(timestamp);
    out.extend_from_slice(&origin.bytes);
    out.extend((0..16).rev().map(|digit| b"0123456789abcdef"[(mark.sender >> (4 * digit) & 15) as usize]));
    out.extend_from_slice(STREAM);
    push_number(out, u64::from(mark.stream));
    out.extend_from_slice(SEQUENCE);
    push_number(out, mark.sequence);
    out.extend_from_slice(ELEMENT_END);
    out.push(b' ');
    out.extend_from_slice(text);
}

/// A message that somebody sent. Texts are without control characters; `text` and `structured` are as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) severity: u8,
    pub(crate) facility: u8,
    /// As RFC 3339 has it.
    pub(crate) timestamp: Option<&'a str>,
    /// As RFC 3164 has it, `Nov 22 14:03:55`: of an unknown year and zone.
    pub(crate) local_time: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    pub(crate) app: Option<&'a str>,
    pub(crate) procid: Option<&'a str>,
    pub(crate) msgid: Option<&'a str>,
    /// The elements before and behind the one with the mark, if there is one.
    pub(crate) structured: [&'a [u8]; 2],
    pub(crate) mark: Option<Mark>,
    pub(crate) text: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message of which nothing is known but its text.
    pub(crate) fn bare(text: &'a [u8]) -> Message<'a> {
        Message {
            severity: INFO,
            facility: USER,
            timestamp: None,
            local_time: None,
            host: None,
            app: None,
            procid: None,
            msgid: None,
            structured: [b""; 2],
            mark: None,
            text,
        }
    }
}

/// Reads a message. What is neither RFC 5424 nor RFC 3164 is all text. One line end, or zero byte, at its end is not part
/// of it.
pub(crate) fn parse(bytes: &[u8]) -> Message<'_> {
    let bytes = without_end(bytes);
    let Some((pri, rest)) = priority(bytes) else { return Message::bare(bytes) };
    let message = rest.strip_prefix(b"1 ").and_then(modern).unwrap_or_else(|| traditional(rest));
    Message { severity: (pri % 8) as u8, facility: (pri / 8) as u8, ..message }
}

fn without_end(bytes: &[u8]) -> &[u8] {
    match bytes {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n' | b'\0'] => rest,
        _ => bytes,
    }
}

/// `<PRI>`, and what stands behind it.
fn priority(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let rest = bytes.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|&byte| byte == b'>')?;
    let digits = rest[..end].iter();
    if end == 0 || !digits.clone().all(u8::is_ascii_digit) {
        return None;
    }
    let pri = digits.fold(0, |pri, digit| pri * 10 + u16::from(digit - b'0'));
    (pri <= MAX_PRI).then_some((pri, &rest[end + 1..]))
}

/// RFC 5424, from the time stamp on.
fn modern(bytes: &[u8]) -> Option<Message<'_>> {
    let (timestamp, rest) = field(bytes)?;
    let (host, rest) = field(rest)?;
    let (app, rest) = field(rest)?;
    let (procid, rest) = field(rest)?;
    let (msgid, rest) = field_at_end(rest)?;
    if timestamp.is_some_and(|timestamp| !is_rfc_3339(timestamp.as_bytes())) {
        return None;
    }
    let head = Message { timestamp, host, app, procid, msgid, ..Message::bare(b"") };
    // Without structured data where it belongs, all that is left is text.
    let Some((structured, mark, text)) = structured(rest) else {
        return Some(Message { text: rest, ..head });
    };
    Some(Message { structured, mark, text: text.strip_prefix(BOM).unwrap_or(text), ..head })
}

/// A field of the header, which a space ends; `-` is none.
fn field(bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let end = memchr::memchr(b' ', bytes)?;
    let field = word(&bytes[..end])?;
    Some(((field != "-").then_some(field), &bytes[end + 1..]))
}

/// The same, where the message may be at its end.
fn field_at_end(bytes: &[u8]) -> Option<(Option<&str>, &[u8])> {
    if bytes.contains(&b' ') {
        return field(bytes);
    }
    let field = word(bytes)?;
    Some(((field != "-").then_some(field), &b""[..]))
}

/// Some text without control characters.
fn word(bytes: &[u8]) -> Option<&str> {
    let is_plain = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    str::from_utf8(bytes).ok().filter(is_plain)
}

type Structured<'a> = ([&'a [u8]; 2], Option<Mark>, &'a [u8]);

/// `-` or elements, then a space and the text, or nothing.
fn structured(bytes: &[u8]) -> Option<Structured<'_>> {
    let mut rest = bytes;
    let mut found: Option<(Mark, usize, usize)> = None;
    match bytes {
        [b'-', behind @ ..] => rest = behind,
        [b'[', ..] => {
            while let [b'[', ..] = rest {
                let len = element_len(rest)?;
                let at = bytes.len() - rest.len();
                if found.is_none() {
                    found = mark_of(&rest[..len]).map(|mark| (mark, at, at + len));
                }
                rest = &rest[len..];
            }
        }
        _ => return None,
    }
    let text = match rest {
        [] => rest,
        [b' ', text @ ..] => text,
        _ => return None,
    };
    let end = bytes.len() - rest.len();
    let elements = if bytes.first() == Some(&b'-') { &b""[..] } else { &bytes[..end] };
    Some(match found {
        Some((mark, from, to)) => ([&elements[..from], &elements[to..]], Some(mark), text),
        None => ([elements, b""], None, text),
    })
}

/// The length of an element: `[`, a name, any number of ` NAME="VALUE"`, `]`.
fn element_len(bytes: &[u8]) -> Option<usize> {
    let is_name = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b'"' | b']');
    let name_len = |bytes: &[u8]| bytes.iter().take_while(|byte| is_name(byte)).count();
    let mut at = 1 + Some(name_len(bytes.get(1..)?)).filter(|&len| len > 0)?;
    loop {
        match bytes.get(at)? {
            b']' => return Some(at + 1),
            b' ' => at += 1,
            _ => return None,
        }
        at += Some(name_len(bytes.get(at..)?)).filter(|&len| len > 0)?;
        at += bytes.get(at..)?.starts_with(b"=\"").then_some(2)?;
        // What a backslash stands before ends no value.
        loop {
            at += 1 + memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
            match bytes[at - 1] {
                b'"' => break,
                _ => at += 1,
            }
        }
    }
}

/// The mark in an element of ours.
fn mark_of(element: &[u8]) -> Option<Mark> {
    let values = element.strip_prefix(ELEMENT)?.strip_suffix(ELEMENT_END)?;
    let (sender, rest) = split(values, STREAM)?;
    let (stream, sequence) = split(rest, SEQUENCE)?;
    let mark = Mark {
        sender: parse_sender(sender)?,
        stream: parse_number(stream)?,
        sequence: parse_number(str::from_utf8(sequence).ok()?)?,
    };
    (mark.sequence > 0).then_some(mark)
}

/// What stands before a quote that begins `separator`, and what stands behind that.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a str, &'a [u8])> {
    let (before, behind) = bytes.split_at(memchr::memchr(b'"', bytes)?);
    Some((str::from_utf8(before).ok()?, behind.strip_prefix(separator)?))
}

/// RFC 3164 from the time stamp on, which may also be one of RFC 3339. All that does not fit is text.
fn traditional(bytes: &[u8]) -> Message<'_> {
    let Some((head, rest)) = time(bytes) else { return Message::bare(bytes) };
    // A program on the same machine leaves its host out.
    if let Some((app, procid, text)) = tag(rest) {
        return Message { app: Some(app), procid, text, ..head };
    }
    let Some((host, rest)) = field_at_end(rest) else { return Message { text: rest, ..head } };
    match tag(rest) {
        Some((app, procid, text)) => Message { host, app: Some(app), procid, text, ..head },
        None => Message { host, text: rest, ..head },
    }
}

/// A time stamp and the space behind it.
fn time(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    const BSD_LEN: usize = "Nov 22 14:03:55".len();
    if let Some((time, [b' ', rest @ ..])) = bytes.split_at_checked(BSD_LEN)
        && is_bsd_time(time)
    {
        return Some((Message { local_time: word(time), ..Message::bare(b"") }, rest));
    }
    let (timestamp, rest) = field(bytes)?;
    let is_time = is_rfc_3339(timestamp?.as_bytes());
    is_time.then_some((Message { timestamp, ..Message::bare(b"") }, rest))
}

/// `app:` or `app[pid]:`, and the text behind it without the space that leads it. rsyslog leaves out the colon when it
/// passes on what came as RFC 5424; `app[pid]` with a number is clear without it.
fn tag(bytes: &[u8]) -> Option<(&str, Option<&str>, &[u8])> {
    let end = memchr::memchr(b' ', bytes).unwrap_or(bytes.len());
    let field = word(&bytes[..end])?;
    let name = field.strip_suffix(':');
    let text = bytes.get(end + 1..).unwrap_or_default();
    let (app, procid) = match name.unwrap_or(field).strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((app, procid)) => (app, Some(procid).filter(|procid| !procid.is_empty())),
        None => (name?, None),
    };
    let is_number = |procid: &str| procid.bytes().all(|byte| byte.is_ascii_digit());
    let is_tag = !app.is_empty() && (name.is_some() || procid.is_some_and(is_number));
    is_tag.then_some((app, procid, text))
}

/// Whether this is `Nov 22 14:03:55`.
fn is_bsd_time(text: &[u8]) -> bool {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let &[a, b, c, b' ', tens, ones, b' ', h1, h0, b':', m1, m0, b':', s1, s0] = text else { return false };
    let tens = if tens == b' ' { b'0' } else { tens };
    MONTHS.contains(&&[a, b, c][..])
        && is_in(&[tens, ones], 1, 31)
        && is_in(&[h1, h0], 0, 23)
        && is_in(&[m1, m0], 0, 59)
        && is_in(&[s1, s0], 0, 60)
}

/// Whether this is `2026-11-22T14:03:55.123456Z`, with any zone and up to nine digits behind the second.
pub(crate) fn is_rfc_3339(text: &[u8]) -> bool {
    let Some((date, rest)) = text.split_at_checked("2026-11-22T14:03:55".len()) else { return false };
    let [y3, y2, y1, y0, b'-', o1, o0, b'-', d1, d0, b'T', h1, h0, b':', m1, m0, b':', s1, s0] = *date else {
        return false;
    };
    let zone = match rest {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&digits) {
                return false;
            }
            &rest[digits..]
        }
        zone => zone,
    };
    let is_zone = match *zone {
        [b'Z'] => true,
        [b'+' | b'-', h1, h0, b':', m1, m0] => is_in(&[h1, h0], 0, 23) && is_in(&[m1, m0], 0, 59),
        _ => false,
    };
    is_zone
        && is_in(&[y3, y2, y1, y0], 0, 9999)
        && is_in(&[o1, o0], 1, 12)
        && is_in(&[d1, d0], 1, 31)
        && is_in(&[h1, h0], 0, 23)
        && is_in(&[m1, m0], 0, 59)
        && is_in(&[s1, s0], 0, 60)
}

/// Whether this is a number from `least` to `most`.
fn is_in(digits: &[u8], least: u16, most: u16) -> bool {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let number = digits.iter().fold(0u16, |number, digit| {
        number.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0')))
    });
    is_number && (least..=most).contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: Mark = Mark { sender: 0x00c0_ffee_00c0_ffee, stream: 2, sequence: 17 };

    fn written(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let origin = Origin::new("web1", "server", "4711");
        write_message(&mut out, &origin, Level::Error, b"2026-11-22T14:03:56.234567Z", MARK, text);
        out
    }

    #[test]
    fn ours_as_it_stands_on_the_wire_and_back() {
        let bytes = written(b"ERROR [client] [t1] examples/server.rs:152 disk gone");
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            "<11>1 2026-11-22T14:03:56.234567Z web1 server 4711 - [cloudstore@32473 \
             sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"17\"] ERROR [client] [t1] examples/server.rs:152 \
             disk gone"
        );
        let expected = Message {
            severity: 3,
            facility: 1,
            timestamp: Some("2026-11-22T14:03:56.234567Z"),
            host: Some("web1"),
            app: Some("server"),
            procid: Some("4711"),
            mark: Some(MARK),
            ..Message::bare(b"ERROR [client] [t1] examples/server.rs:152 disk gone")
        };
        assert_eq!(parse(&bytes), expected);
    }

    #[test]
    fn severities_are_syslogs() {
        assert_eq!(Level::ALL.map(severity_of), [7, 7, 6, 4, 3, 2]);
    }

    #[test]
    fn an_origin_fits_its_header() {
        let origin = |host: &str, app: &str, procid: &str| {
            let text = String::from_utf8(Origin::new(host, app, procid).bytes).unwrap();
            text.strip_suffix(" - [cloudstore@32473 sender=\"").unwrap().to_owned()
        };
        assert_eq!(origin("h\u{f6}st 1", "", "a\nb"), " h_st_1 - a_b");
        let long = "x".repeat(300);
        assert_eq!(
            origin(&long, &long, &long),
            format!(" {} {} {}", "x".repeat(255), "x".repeat(48), "x".repeat(128))
        );
    }

    /// Severity, host, app, process and text.
    type Said<'a> = (u8, Option<&'a str>, Option<&'a str>, Option<&'a str>, &'a [u8]);

    fn said(bytes: &[u8]) -> Said<'_> {
        let message = parse(bytes);
        (message.severity, message.host, message.app, message.procid, message.text)
    }

    #[test]
    fn what_others_send_is_understood() {
        let bare = |text: &'static str| (6, None, None, None, text.as_bytes());
        let cases: [(&str, Said<'_>); 32] = [
            // RFC 5424.
            (
                "<165>1 2003-10-11T22:14:15.003Z h app - ID47 - \u{feff}text",
                (5, Some("h"), Some("app"), None, b"text"),
            ),
            ("<34>1 2003-10-11T22:14:15.003+01:30 h su 1 ID47 -", (2, Some("h"), Some("su"), Some("1"), b"")),
            ("<0>1 - - - - - -", (0, None, None, None, b"")),
            ("<13>1 - h a p m [x a=\"\\]\\\"\\\\\"] t", (5, Some("h"), Some("a"), Some("p"), b"t")),
            ("<13>1 - h a p m [x a=\"b\" t", (5, Some("h"), Some("a"), Some("p"), b"[x a=\"b\" t")),
            ("<13>1 - h a p m [x a=b] t", (5, Some("h"), Some("a"), Some("p"), b"[x a=b] t")),
            ("<13>1 - h a p  - text", (5, None, None, None, b"1 - h a p  - text")),
            ("<13>1 - h a p m text", (5, Some("h"), Some("a"), Some("p"), b"text")),
            ("<13>1 - h a p", (5, None, None, None, b"1 - h a p")),
            ("<13>1 yesterday h a p m - t", (5, None, None, None, b"1 yesterday h a p m - t")),
            ("<13>2 - h a p m - t", (5, None, None, None, b"2 - h a p m - t")),
            // RFC 3164.
            (
                "<30>Nov 22 14:03:55 web1 sshd[42]: hello",
                (6, Some("web1"), Some("sshd"), Some("42"), b"hello"),
            ),
            ("<30>Nov  2 14:03:55 web1 sshd: hello", (6, Some("web1"), Some("sshd"), None, b"hello")),
            ("<30>Nov 22 14:03:55 sshd[42]: hello", (6, None, Some("sshd"), Some("42"), b"hello")),
            ("<30>Nov 22 14:03:55 web1 hello world", (6, Some("web1"), None, None, b"hello world")),
            ("<30>Nov 22 14:03:55 web1", (6, Some("web1"), None, None, b"")),
            ("<30>Nov 22 14:03:55  web1 hello", (6, None, None, None, b" web1 hello")),
            (
                "<30>2026-11-22T14:03:55.123456+01:00 web1 sshd[42]: hello",
                (6, Some("web1"), Some("sshd"), Some("42"), b"hello"),
            ),
            // rsyslog's, of what came as RFC 5424.
            (
                "<30>2026-11-22T14:03:55.123456Z web1 sshd[42] hello",
                (6, Some("web1"), Some("sshd"), Some("42"), b"hello"),
            ),
            ("<30>Nov 22 14:03:55 web1 a[b] c", (6, Some("web1"), None, None, b"a[b] c")),
            ("<30>Nov 22 14:03:55 web1 a[] c", (6, Some("web1"), None, None, b"a[] c")),
            ("<30>Nov 22 14:03:55 web1 [42] c", (6, Some("web1"), None, None, b"[42] c")),
            ("<30>Nov 32 14:03:55 web1 a: b", (6, None, None, None, b"Nov 32 14:03:55 web1 a: b")),
            ("<30>Nov 22 14:03:55 web1 []: b", (6, Some("web1"), None, None, b"[]: b")),
            ("<30>a\u{1b}b c", (6, None, None, None, b"a\x1bb c")),
            // Neither.
            ("hello", bare("hello")),
            ("<>hello", bare("<>hello")),
            ("<192>hello", bare("<192>hello")),
            ("<1x>hello", bare("<1x>hello")),
            ("<0013>hello", bare("<0013>hello")),
            ("<13", bare("<13")),
            ("", bare("")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(said(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn times_and_elements_are_kept() {
        let message = parse(b"<30>Nov 22 14:03:55 web1 a: b");
        assert_eq!((message.timestamp, message.local_time), (None, Some("Nov 22 14:03:55")));
        let message = parse(b"<30>1 2026-11-22T14:03:55Z h a - M [x][y z=\"1\"] b");
        assert_eq!((message.timestamp, message.msgid), (Some("2026-11-22T14:03:55Z"), Some("M")));
        assert_eq!((message.structured, message.mark), ([&b"[x][y z=\"1\"]"[..], b""], None));
    }

    #[test]
    fn one_line_end_is_not_part_of_a_message() {
        for (bytes, text) in [("a\n", "a"), ("a\r\n", "a"), ("a\0", "a"), ("a\n\n", "a\n"), ("a\r", "a\r")] {
            assert_eq!(parse(bytes.as_bytes()).text, text.as_bytes());
        }
    }

    #[test]
    fn only_exactly_our_element_is_a_mark() {
        let with = |elements: &str| format!("<11>1 - - - - - {elements} text");
        let ours = "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"17\"]";
        for (before, behind) in [("", ""), ("[a]", ""), ("", "[b c=\"d\"]"), ("[a]", "[b]")] {
            let text = with(&format!("{before}{ours}{behind}"));
            let message = parse(text.as_bytes());
            assert_eq!(message.mark, Some(MARK), "{text}");
            assert_eq!(message.structured, [before.as_bytes(), behind.as_bytes()]);
            assert_eq!(message.text, b"text");
        }
        for elements in [
            "[cloudstore@32473]",
            "[cloudstore@1 sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"17\"]",
            "[cloudstore@32473 sender=\"00C0FFEE00C0FFEE\" stream=\"2\" sequence=\"17\"]",
            "[cloudstore@32473 sender=\"c0ffee\" stream=\"2\" sequence=\"17\"]",
            "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"02\" sequence=\"17\"]",
            "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"0\"]",
            "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"4294967296\" sequence=\"17\"]",
            "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" sequence=\"17\" stream=\"2\"]",
            "[cloudstore@32473 sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"17\" more=\"1\"]",
            "[x a=\"[cloudstore@32473 sender=\\\"00c0ffee00c0ffee\\\" stream=\\\"2\\\" sequence=\\\"17\\\"\\]\"]",
        ] {
            let text = with(elements);
            let message = parse(text.as_bytes());
            assert_eq!((message.mark, message.structured[0]), (None, elements.as_bytes()), "{text}");
        }
        // A text is no element.
        assert_eq!(parse(format!("<11>1 - - - - - - {ours}").as_bytes()).mark, None);
    }

    #[test]
    fn times_of_rfc_3339_are_told_from_others() {
        for text in
            ["2026-11-22T14:03:55Z", "2026-11-22T14:03:60.123456789-23:59", "0000-01-01T00:00:00.1+00:00"]
        {
            assert!(is_rfc_3339(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "2026-11-22",
            "2026-11-22T14:03:55",
            "2026-11-22 14:03:55Z",
            "2026-11-22T14:03:55.Z",
            "2026-11-22T14:03:55.1234567890Z",
            "2026-13-22T14:03:55Z",
            "2026-11-00T14:03:55Z",
            "2026-11-22T24:03:55Z",
            "2026-11-22T14:03:61Z",
            "2026-11-22T14:03:55+1:00",
            "2026-11-22T14:03:55ZZ",
            "+026-11-22T14:03:55Z",
        ] {
            assert!(!is_rfc_3339(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ours_come_back(
            sender in any::<u64>(),
            stream in any::<u32>(),
            sequence in 1u64..,
            level in 0u32..6,
            host in "[!-~]{1,20}",
            text in "\\PC{0,40}",
        ) {
            let (mark, level) = (Mark { sender, stream, sequence }, Level::from_bits(level));
            let mut out = Vec::new();
            let time = "2026-11-22T14:03:56.234567Z";
            write_message(&mut out, &Origin::new(&host, "a", ""), level, time.as_bytes(), mark, text.as_bytes());
            let message = parse(&out);
            prop_assert_eq!(message.mark, Some(mark));
            prop_assert_eq!(message.severity, severity_of(level));
            prop_assert_eq!((message.timestamp, message.app, message.procid), (Some(time), Some("a"), None));
            prop_assert_eq!(message.host, (host != "-").then_some(host.as_str()));
            prop_assert_eq!(message.text, text.strip_prefix('\u{feff}').unwrap_or(&text).as_bytes());
            prop_assert_eq!(message.structured, [&b""[..], b""]);
        }

        #[test]
        fn no_bytes_hurt(
            head in prop_oneof![Just(""), Just("<13>"), Just("<13>1 - h a p m "), Just("<13>Nov 22 14:03:55 ")],
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'['), Just(b'"')], 0..60),
        ) {
            let bytes = [head.as_bytes(), &bytes].concat();
            let message = parse(&bytes);
            prop_assert!(message.text.len() <= bytes.len());
            for end in 0..bytes.len() {
                parse(&bytes[..end]);
            }
        }
    }
}
