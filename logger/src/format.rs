//! One record to bytes: layouts, escapes, and the time stamp that the worker puts in front.

use std::fmt::{self, Write};

use log::kv::{self, Key, Value, VisitSource};

use crate::level::Level;
use crate::round::End;

/// How a record looks as a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Layout {
    /// `2026-09-12T14:03:55.123456Z INFO  [storage] [t3] src/upload.rs:88 stored name="a.bin" size=1048576`
    #[default]
    Text,
    /// One JSON object: `time`, `level`, `target`, `thread`, `file`, `line`, `message`, and `fields` for key-values.
    Json,
}

/// Where a record comes from.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// How urgent.
    pub level: Level,
    /// What it is about; by default the module's path.
    pub target: &'a str,
    /// The source file, or nothing.
    pub file: &'a str,
    /// Its line, or 0.
    pub line: u32,
}

/// A record is a time stamp between `lead` and `write_start`, then `write_rest` or a text that `takes_as_it_is`, then
/// `end`. The caller renders what stands between the stamp and the end, or, at a place that is known, only the rest.
impl Layout {
    /// What stands before the time stamp.
    pub(crate) fn lead(self) -> &'static [u8] {
        match self {
            Layout::Text => b"",
            Layout::Json => b"{\"time\":\"",
        }
    }

    /// What stands at the end, and ends the line.
    #[inline]
    pub(crate) fn end(self, has_fields: bool) -> End {
        match (self, has_fields) {
            (Layout::Text, _) => const { End::new(b"\n") },
            (Layout::Json, false) => const { End::new(b"\"}\n") },
            (Layout::Json, true) => const { End::new(b"}}\n") },
        }
    }

    /// Writes what stands behind the time stamp and before the message.
    pub(crate) fn write_start(self, out: &mut Vec<u8>, site: &Site<'_>, thread: Thread) {
        match self {
            Layout::Text => start_text(out, site, thread),
            Layout::Json => start_json(out, site, thread),
        }
    }

    /// Writes the message and the key-values; whether there were any.
    #[inline]
    pub(crate) fn write_rest(
        self,
        out: &mut Vec<u8>,
        message: fmt::Arguments<'_>,
        fields: &dyn kv::Source,
    ) -> bool {
        let escape_as = self.escape();
        match message.as_str() {
            Some(text) => escape(out, text, escape_as),
            None => {
                let start = out.len();
                // A `Display` that fails has said what it could.
                let _ = Raw(out).write_fmt(message);
                escape_behind(out, start, escape_as);
            }
        }
        let has_fields = fields.count() > 0;
        if has_fields {
            let _ = match self {
                Layout::Text => fields.visit(&mut TextFields(out)),
                Layout::Json => {
                    out.extend_from_slice(b"\",\"fields\":{");
                    fields.visit(&mut JsonFields { out, is_first: true })
                }
            };
        }
        has_fields
    }

    /// Whether the message goes out as it is.
    #[inline]
    pub(crate) fn takes_as_it_is(self, message: &str) -> bool {
        is_plain(message.as_bytes(), self.escape())
    }

    fn escape(self) -> Escape {
        match self {
            Layout::Text => Escape::Control,
            Layout::Json => Escape::Json,
        }
    }
}

/// Who logs, as in `[t3]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Thread {
    /// The threads are numbered as they first log.
    Numbered(u32),
    /// The logger's own.
    Worker,
    /// One that is taking its thread-locals down.
    Ending,
}

impl Thread {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Thread::Numbered(number) => {
                out.push(b't');
                push_number(out, u64::from(number));
            }
            Thread::Worker => out.extend_from_slice(b"worker"),
            Thread::Ending => out.extend_from_slice(b"t?"),
        }
    }
}

fn start_text(out: &mut Vec<u8>, site: &Site<'_>, thread: Thread) {
    out.extend_from_slice(match site.level {
        Level::Trace => b" TRACE [",
        Level::Debug => b" DEBUG [",
        Level::Info => b" INFO  [",
        Level::Warn => b" WARN  [",
        Level::Error => b" ERROR [",
        Level::Fatal => b" FATAL [",
    });
    escape(out, site.target, Escape::Control);
    out.extend_from_slice(b"] [");
    thread.write(out);
    out.extend_from_slice(b"] ");
    if !site.file.is_empty() {
        escape(out, site.file, Escape::Control);
        out.push(b':');
        push_number(out, u64::from(site.line));
        out.push(b' ');
    }
}

fn start_json(out: &mut Vec<u8>, site: &Site<'_>, thread: Thread) {
    out.extend_from_slice(b"\",\"level\":\"");
    out.extend_from_slice(site.level.as_str().as_bytes());
    out.extend_from_slice(b"\",\"target\":\"");
    escape(out, site.target, Escape::Json);
    out.extend_from_slice(b"\",\"thread\":\"");
    thread.write(out);
    if !site.file.is_empty() {
        out.extend_from_slice(b"\",\"file\":\"");
        escape(out, site.file, Escape::Json);
        out.extend_from_slice(b"\",\"line\":");
        push_number(out, u64::from(site.line));
        out.extend_from_slice(b",\"message\":\"");
    } else {
        out.extend_from_slice(b"\",\"message\":\"");
    }
}

/// A number in digits.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Which characters do not go out as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// Control characters, C1 included: a record stays one line, and moves no cursor.
    Control,
    /// Those, quotes and backslashes, as in a quoted value.
    Quoted,
    /// As JSON wants it.
    Json,
}

struct Escaper<'a>(&'a mut Vec<u8>, Escape);

impl Write for Escaper<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(self.0, text, self.1);
        Ok(())
    }
}

#[inline]
fn escape(out: &mut Vec<u8>, text: &str, escape_as: Escape) {
    if is_plain(text.as_bytes(), escape_as) {
        out.extend_from_slice(text.as_bytes());
    } else {
        text.chars().for_each(|char| escape_char(out, char, escape_as));
    }
}

/// Bytes without control characters: they are escaped as in a message, and what is not UTF-8 is written as `\xNN`.
#[cfg(feature = "forward")]
pub(crate) fn escape_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => escape(out, text, Escape::Control),
        Err(_) => {
            let _ = write!(Escaper(out, Escape::Control), "{}", crate::Bytes(bytes));
        }
    }
}

#[inline]
fn is_plain(text: &[u8], escape_as: Escape) -> bool {
    match escape_as {
        Escape::Control => !any_byte(text, is_odd),
        Escape::Quoted | Escape::Json => {
            !any_byte(text, |byte| is_odd(byte) | (byte == b'"') | (byte == b'\\'))
        }
    }
}

/// What may begin a character that is escaped. 0xC2 begins the C1 controls, and other characters.
#[inline(always)]
fn is_odd(byte: u8) -> bool {
    (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2)
}

/// Whether `test` holds for any byte. Bytes are tested 16 at a time, without an exit in between, so that it is compiled
/// to vector instructions.
#[inline(always)]
fn any_byte(bytes: &[u8], test: impl Fn(u8) -> bool) -> bool {
    const LANE: usize = 16;
    let test_lane = |lane: &[u8; LANE]| lane.iter().fold(0, |any, &byte| any | u8::from(test(byte))) != 0;
    let Some(last) = bytes.last_chunk::<LANE>() else {
        return bytes.iter().any(|&byte| test(byte));
    };
    let (lanes, _) = bytes.as_chunks::<LANE>();
    for lane in lanes {
        if test_lane(lane) {
            return true;
        }
    }
    // The last lane overlaps the one before it.
    test_lane(last)
}

/// Escapes what was written from `start` on: once for a whole message instead of for each of its pieces.
#[inline]
fn escape_behind(out: &mut Vec<u8>, start: usize, escape_as: Escape) {
    if !is_plain(&out[start..], escape_as) {
        escape_behind_slowly(out, start, escape_as);
    }
}

/// Writes the escaped text behind the other, without memory of its own, and takes the other out.
#[cold]
fn escape_behind_slowly(out: &mut Vec<u8>, start: usize, escape_as: Escape) {
    const LONGEST_CHAR: usize = 4;
    let end = out.len();
    let mut at = start;
    while at < end {
        let next = out[at..end.min(at + LONGEST_CHAR)].utf8_chunks().next();
        let char = next.and_then(|chunk| chunk.valid().chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER);
        escape_char(out, char, escape_as);
        at += char.len_utf8();
    }
    out.drain(start..end);
}

fn escape_char(out: &mut Vec<u8>, char: char, escape_as: Escape) {
    match char {
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '"' | '\\' if escape_as != Escape::Control => out.extend_from_slice(&[b'\\', char as u8]),
        char if char.is_control() => {
            let _ = match escape_as {
                Escape::Json => write!(Raw(out), "\\u{:04x}", u32::from(char)),
                _ => write!(Raw(out), "\\u{{{:x}}}", u32::from(char)),
            };
        }
        char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Text that needs no escapes.
struct Raw<'a>(&'a mut Vec<u8>);

impl Write for Raw<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

struct TextFields<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.0.push(b' ');
        escape(self.0, key.as_str(), Escape::Control);
        self.0.push(b'=');
        if is_bare(&value) {
            let _ = write!(Escaper(self.0, Escape::Control), "{value}");
        } else {
            self.0.push(b'"');
            let _ = write!(Escaper(self.0, Escape::Quoted), "{value}");
            self.0.push(b'"');
        }
        Ok(())
    }
}

struct JsonFields<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.out.extend_from_slice(if self.is_first { b"\"" } else { b",\"" });
        self.is_first = false;
        escape(self.out, key.as_str(), Escape::Json);
        self.out.extend_from_slice(b"\":");
        if is_bare(&value) {
            let _ = write!(Raw(self.out), "{value}");
        } else {
            self.out.push(b'"');
            let _ = write!(Escaper(self.out, Escape::Json), "{value}");
            self.out.push(b'"');
        }
        Ok(())
    }
}

/// Numbers and truth values stand without quotes.
fn is_bare(value: &Value<'_>) -> bool {
    value.to_bool().is_some()
        || value.to_i128().is_some()
        || value.to_u128().is_some()
        || value.to_f64().is_some_and(f64::is_finite)
}

/// Writes time stamps as RFC 3339 with microseconds. What changes once a second is kept.
pub(crate) struct Stamper {
    offset: Offset,
    second: u64,
    /// Up to the seconds.
    date: [u8; 19],
    zone: [u8; 6],
    zone_len: usize,
    /// When the local offset is to be looked up again.
    offset_until: u64,
    offset_seconds: i32,
}

/// The offset of time stamps from UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Offset {
    /// `…Z`.
    #[default]
    Utc,
    /// A fixed number of minutes east of UTC, at most 18 hours either way: `…+08:00`.
    Minutes(i16),
    /// What the system's time zone says at that moment.
    Local,
}

/// Time zones change their offset on quarters of an hour.
const QUARTER: u64 = 900;

impl Stamper {
    pub(crate) fn new(offset: Offset) -> Stamper {
        Stamper {
            offset,
            second: u64::MAX,
            date: [b'0'; 19],
            zone: *b"Z     ",
            zone_len: 1,
            offset_until: 0,
            offset_seconds: 0,
        }
    }

    /// Writes the stamp of a second, with room for its microseconds; where that room is.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, second: u64) -> usize {
        if second != self.second {
            self.turn(second);
        }
        out.extend_from_slice(&self.date);
        let micros = out.len() + 1;
        out.extend_from_slice(b".000000");
        out.extend_from_slice(&self.zone[..self.zone_len]);
        micros
    }

    #[cold]
    fn turn(&mut self, second: u64) {
        if second < self.second || second >= self.offset_until {
            self.look_up_offset(second);
        }
        self.second = second;
        let local = i64::try_from(second).unwrap_or(i64::MAX).saturating_add(i64::from(self.offset_seconds));
        let (days, of_day) = (local.div_euclid(86_400), local.rem_euclid(86_400) as u32);
        let (year, month, day) = civil(days);
        let date = &mut self.date;
        put_two(date, 0, (year / 100) as u32);
        put_two(date, 2, (year % 100) as u32);
        put_two(date, 5, month);
        put_two(date, 8, day);
        put_two(date, 11, of_day / 3600);
        put_two(date, 14, of_day / 60 % 60);
        put_two(date, 17, of_day % 60);
        (date[4], date[7], date[10], date[13], date[16]) = (b'-', b'-', b'T', b':', b':');
    }

    fn look_up_offset(&mut self, second: u64) {
        self.offset_until = (second / QUARTER + 1).saturating_mul(QUARTER);
        self.offset_seconds = match self.offset {
            Offset::Utc => return,
            Offset::Minutes(minutes) => i32::from(minutes.clamp(-18 * 60, 18 * 60)) * 60,
            Offset::Local => local_offset(second),
        };
        let minutes = self.offset_seconds.unsigned_abs() / 60;
        self.zone = *b"+00:00";
        self.zone[0] = if self.offset_seconds < 0 { b'-' } else { b'+' };
        put_two(&mut self.zone, 1, minutes / 60);
        put_two(&mut self.zone, 4, minutes % 60);
        self.zone_len = 6;
    }
}

fn local_offset(second: u64) -> i32 {
    let at = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    at.map_or(0, |at| jiff::tz::TimeZone::system().to_offset(at).seconds())
}

#[inline]
fn put_two(text: &mut [u8], at: usize, number: u32) {
    text[at] = b'0' + (number / 10 % 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// Writes six digits.
#[inline]
pub(crate) fn put_micros(text: &mut [u8; 6], micros: u32) {
    put_two(text, 0, micros / 10_000);
    put_two(text, 2, micros / 100 % 100);
    put_two(text, 4, micros % 100);
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970. Years begin in March here, so that
/// the leap day is the last one.
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const FROM_YEAR_0_TO_1970: i64 = 719_468;
    let days = days + FROM_YEAR_0_TO_1970;
    let (era, day) = (days.div_euclid(DAYS_OF_400_YEARS), days.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month as u32, of_month as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(layout: Layout, message: fmt::Arguments<'_>, fields: &dyn kv::Source) -> String {
        let site = Site { level: Level::Warn, target: "storage", file: "src/a.rs", line: 88 };
        let mut out = Vec::new();
        layout.write_start(&mut out, &site, Thread::Numbered(3));
        let has_fields = layout.write_rest(&mut out, message, fields);
        out.extend_from_slice(layout.end(has_fields).bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_layout() {
        let fields: [(&str, Value<'_>); 3] =
            [("name", Value::from("a \"b\".bin")), ("size", Value::from(1048576)), ("ok", Value::from(true))];
        assert_eq!(
            text(Layout::Text, format_args!("stored {}", 1), &fields),
            " WARN  [storage] [t3] src/a.rs:88 stored 1 name=\"a \\\"b\\\".bin\" size=1048576 ok=true\n"
        );
    }

    #[test]
    fn json_layout_is_json() {
        let fields: [(&str, Value<'_>); 2] =
            [("na\"me", Value::from("a\n\u{1}b")), ("size", Value::from(2.5))];
        let line = text(Layout::Json, format_args!("quote \" back \\ line\n{}", "\u{9b}"), &fields);
        let line = format!("{}T{line}", String::from_utf8_lossy(Layout::Json.lead()));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["line"], 88);
        assert_eq!(value["message"], "quote \" back \\ line\n\u{9b}");
        assert_eq!(value["fields"]["na\"me"], "a\n\u{1}b");
        assert_eq!(value["fields"]["size"], 2.5);
    }

    #[test]
    fn a_record_is_one_line_without_control_characters() {
        let every: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        for layout in [Layout::Text, Layout::Json] {
            let line = text(layout, format_args!("{every}"), &[("k", Value::from(every.as_str()))]);
            let (last, rest) = line.as_bytes().split_last().unwrap();
            assert_eq!(*last, b'\n');
            assert!(!std::str::from_utf8(rest).unwrap().chars().any(char::is_control));
        }
    }

    #[test]
    fn stamps_are_rfc_3339() {
        let stamp = |offset, at: u64| {
            let mut out = Vec::new();
            let room = Stamper::new(offset).write(&mut out, at / 1_000_000);
            put_micros(out[room..].first_chunk_mut().unwrap(), (at % 1_000_000) as u32);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(stamp(Offset::Utc, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(stamp(Offset::Utc, 951_827_696_000_007), "2000-02-29T12:34:56.000007Z");
        assert_eq!(stamp(Offset::Minutes(480), 951_827_696_000_007), "2000-02-29T20:34:56.000007+08:00");
        assert_eq!(stamp(Offset::Minutes(-210), 0), "1969-12-31T20:30:00.000000-03:30");
    }

    #[test]
    fn days_are_what_the_calendar_says() {
        let mut expected = (1970, 1, 1);
        for days in 0..80_000 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u32::from(is_leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
