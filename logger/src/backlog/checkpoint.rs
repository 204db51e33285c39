//! What a backlog file says of its senders: the marks of its records, and the checkpoint at its beginning.
//!
//! A new file begins with a *checkpoint*, so that the marks of all streams are known from the newest file alone:
//!
//! ```text
//! # cloudstore backlog 1 marks=2
//! # mark 00c0ffee00c0ffee/0/17 2026-11-22T14:03:56.234567Z
//! # mark 00c0ffee00c0ffee/2/5 2026-11-22T14:03:51.000000Z
//! ```

use std::io::{self, BufRead, ErrorKind, Write};
use std::str;

use memchr::memchr;

use super::line::{Stamps, is_record, parse_mark};
use super::seen::Seen;
use crate::forward::Mark;
use crate::forward::mark::parse_number;

/// What a checkpoint begins with, before the number of marks that follow.
const CHECKPOINT: &str = "# cloudstore backlog 1 marks=";
const MARK: &str = "# mark ";
/// A mark stands nearer to the beginning of its line than this.
pub(super) const LONGEST_HEAD: usize = 4096;

/// Whether a file that begins so is a backlog: it is empty or begins with a checkpoint, which a crash may have torn, or
/// with a record, as one does that another program has emptied.
pub(super) fn is_ours(head: &[u8]) -> bool {
    let end = memchr(b'\n', head);
    let line = &head[..end.unwrap_or(head.len())];
    match line.strip_prefix(CHECKPOINT.as_bytes()) {
        Some(count) => (end.is_none() || !count.is_empty()) && count.iter().all(u8::is_ascii_digit),
        None => is_record(line) || (end.is_none() && CHECKPOINT.as_bytes().starts_with(line)),
    }
}

/// The records of these lines are in the file.
pub(super) fn note_lines(lines: &[u8], seen: &mut Seen) {
    for line in lines.split(|&byte| byte == b'\n') {
        if let Some((mark, _)) = parse_mark(line) {
            seen.wrote(mark);
        }
    }
}

pub(super) fn checkpoint(seen: &Seen) -> Vec<u8> {
    let mut marks: Vec<_> = seen.written().collect();
    marks.sort_unstable();
    let mut out = Vec::new();
    let mut stamps = Stamps::new();
    let _ = writeln!(out, "{CHECKPOINT}{}", marks.len());
    for (mark, used) in marks {
        let _ = write!(out, "{MARK}{mark} ");
        out.extend_from_slice(stamps.stamp(used));
        out.push(b'\n');
    }
    out
}

/// What a file says about the senders.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) has_checkpoint: bool,
    /// Bytes of lines, without those of checkpoints.
    pub(super) bytes: u64,
    /// Bytes behind the last line end.
    pub(super) torn: u64,
}

/// Reads the marks of all whole lines.
pub(super) fn read_marks(mut file: impl BufRead, seen: &mut Seen) -> io::Result<Content> {
    let mut read = Content::default();
    // How many marks of a checkpoint are still to come.
    let mut expected: Option<u64> = None;
    let mut head = Vec::new();
    loop {
        head.clear();
        let (len, is_whole) = read_line(&mut file, &mut head)?;
        if !is_whole {
            read.torn = len;
            return Ok(read);
        }
        let text = str::from_utf8(&head).unwrap_or_default();
        if let Some(count) = text.strip_prefix(CHECKPOINT) {
            expected = parse_number(count);
        } else if let Some(mark) = text.strip_prefix(MARK) {
            if let Some((mark, used)) = parse_checkpoint_mark(mark) {
                seen.learn(mark, used);
                expected = expected.and_then(|left| left.checked_sub(1));
            }
        } else {
            read.bytes += len;
            if let Some((mark, time)) = parse_mark(&head) {
                seen.learn(mark, micros(time));
            }
        }
        if expected == Some(0) {
            read.has_checkpoint = true;
            expected = None;
        }
    }
}

fn parse_checkpoint_mark(text: &str) -> Option<(Mark, u64)> {
    let (mark, time) = text.split_once(' ')?;
    Some((mark.parse().ok()?, micros(time)))
}

/// Microseconds since 1970, as far as that can be told.
fn micros(time: &str) -> u64 {
    let time = time.parse::<jiff::Timestamp>().map_or(0, |time| time.as_microsecond());
    u64::try_from(time).unwrap_or(0)
}

/// Reads a line, of which at most [`LONGEST_HEAD`] bytes are put into `head`, without its end. Returns its length with its
/// end, and whether it has one.
fn read_line(file: &mut impl BufRead, head: &mut Vec<u8>) -> io::Result<(u64, bool)> {
    let mut len = 0;
    loop {
        let bytes = match file.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok((len, false));
        }
        let end = memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        head.extend_from_slice(&part[..part.len().min(LONGEST_HEAD - head.len())]);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        file.consume(taken);
        len += taken as u64;
        if end.is_some() {
            return Ok((len, true));
        }
    }
}
