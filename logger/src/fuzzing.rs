//! The decoders, for the fuzz targets: plain values in and out. Built with `--cfg fuzzing` alone.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::backlog::line::{parse_mark, write_line};
use crate::backlog::session::{self, Need, Record};
use crate::backlog::sniff;
use crate::forward::spool::{cursor, segment};
use crate::forward::syslog::{self, Message};
use crate::forward::{framing, relp};

/// The name of an error, without the bytes that it shows, which depend on how many had come.
pub type Kind = String;

fn kind(error: impl Debug) -> Kind {
    format!("{error:?}").split(['"', '{']).take(1).collect()
}

/// A RELP frame: its number, its command and its data.
pub type Frame<'a> = (u32, &'a [u8], &'a [u8]);

/// The number and the length of the data, and where the data begins.
pub fn relp_head(bytes: &[u8]) -> Result<Option<(u32, &[u8], usize, usize)>, Kind> {
    let head = relp::parse_head(bytes).map_err(kind)?;
    Ok(head.map(|(head, start)| (head.txnr, head.command, head.data_len, start)))
}

pub fn relp_frame(bytes: &[u8], max_data: usize) -> Result<Option<(Frame<'_>, usize)>, Kind> {
    let frame = relp::parse_frame(bytes, max_data).map_err(kind)?;
    Ok(frame.map(|(frame, len)| ((frame.txnr, frame.command, frame.data), len)))
}

pub fn write_relp_frame(out: &mut Vec<u8>, txnr: u32, command: &str, data: &[u8]) {
    relp::write_frame(out, txnr, command, data);
}

/// The version, the software, and whether `syslog` is known.
pub fn relp_offers(bytes: &[u8]) -> Result<(Option<&[u8]>, Option<&[u8]>, bool), Kind> {
    let offers = relp::Offers::parse(bytes).map_err(kind)?;
    Ok((offers.version, offers.software, offers.has_command("syslog")))
}

/// The code, the text and the data.
pub fn relp_response(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), Kind> {
    let response = relp::Response::parse(bytes).map_err(kind)?;
    Ok((response.code, response.text, response.data))
}

/// The length of a message, and how many bytes stand before it.
pub fn counted_len(bytes: &[u8]) -> Result<Option<(usize, usize)>, Kind> {
    framing::parse_len(bytes).map_err(kind)
}

pub fn write_counted(out: &mut Vec<u8>, message: &[u8]) {
    framing::write_counted(out, message);
}

pub fn line(bytes: &[u8], seen: usize, max: usize) -> Result<Option<(&[u8], usize)>, Kind> {
    framing::parse_line(bytes, seen, max).map_err(kind)
}

/// What a syslog message says, or a text.
pub struct Said<'a>(Message<'a>);

impl<'a> Said<'a> {
    pub fn parse(bytes: &'a [u8], is_syslog: bool) -> Said<'a> {
        Said(if is_syslog { syslog::parse(bytes) } else { Message::bare(bytes) })
    }

    pub fn priority(&self) -> (u8, u8) {
        (self.0.facility, self.0.severity)
    }

    pub fn timestamp(&self) -> Option<&'a str> {
        self.0.timestamp
    }

    pub fn host(&self) -> Option<&'a str> {
        self.0.host
    }

    pub fn app(&self) -> Option<&'a str> {
        self.0.app
    }

    pub fn procid(&self) -> Option<&'a str> {
        self.0.procid
    }

    /// The sender, the stream and the sequence.
    pub fn mark(&self) -> Option<(u64, u32, u64)> {
        self.0.mark.map(|mark| (mark.sender, mark.stream, mark.sequence))
    }

    /// All parts that stand in the message as they came.
    pub fn parts(&self) -> Vec<&'a [u8]> {
        let Message { timestamp, local_time, host, app, procid, msgid, structured, text, .. } = self.0;
        let words = [timestamp, local_time, host, app, procid, msgid].into_iter().flatten();
        words.map(str::as_bytes).chain(structured).chain([text]).collect()
    }

    /// The line that the backlog server makes of it.
    pub fn line(&self, cut: u64, from: &str, now: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_line(&mut out, &self.0, cut, from, now.as_bytes());
        out
    }
}

/// The mark and the time that the backlog server finds in a line.
pub fn line_mark(line: &[u8]) -> Option<((u64, u32, u64), &str)> {
    parse_mark(line).map(|(mark, time)| ((mark.sender, mark.stream, mark.sequence), time))
}

pub fn is_rfc_3339(text: &str) -> bool {
    syslog::is_rfc_3339(text.as_bytes())
}

/// A step through a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Record { sequence: u64, payload: Vec<u8> },
    Damage { offset: u64, bytes: u64 },
    Torn { offset: u64, bytes: u64 },
}

/// False if the payload is too long.
pub fn push_record(out: &mut Vec<u8>, sequence: u64, payload: &[u8]) -> bool {
    segment::push(out, sequence, |_, out| out.extend_from_slice(payload)).is_ok()
}

pub fn walk(bytes: &[u8], chunk: usize, sequences: RangeInclusive<u64>) -> Vec<Step> {
    let steps = cursor::walk(bytes, chunk, sequences).into_iter();
    let steps = steps.map(|(step, payload)| match step {
        cursor::Step::Record { sequence, .. } => Some(Step::Record { sequence, payload }),
        cursor::Step::Damage { offset, bytes } => Some(Step::Damage { offset, bytes }),
        cursor::Step::Torn { offset, bytes } => Some(Step::Torn { offset, bytes }),
        cursor::Step::End => None,
    });
    steps.flatten().collect()
}

/// Which wire it is, by name.
pub fn sniff(bytes: &[u8]) -> Option<String> {
    sniff::sniff(bytes).map(|wire| format!("{wire:?}"))
}

/// One sender's stream at the backlog server.
pub struct Session(session::Session);

impl Session {
    pub fn new(max_record: usize) -> Session {
        Session(session::Session::new(max_record))
    }

    /// `take` is given the bytes of a record, how many are missing, and whether it is a syslog message.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(&[u8], u64, bool),
    ) -> Result<usize, Kind> {
        let mut take = |record: Record<'_>| take(record.bytes, record.cut, record.is_syslog);
        self.0.feed(bytes, replies, &mut take).map_err(kind)
    }

    pub fn finish(&mut self, rest: &[u8], take: &mut dyn FnMut(&[u8], u64, bool)) {
        self.0.finish(rest, &mut |record| take(record.bytes, record.cut, record.is_syslog));
    }

    /// How many bytes are needed, or a line end that is not among the first so many.
    pub fn need(&self) -> (usize, Option<usize>) {
        match self.0.need() {
            Need::Bytes(bytes) => (bytes, None),
            Need::LineEnd { seen, or_bytes } => (or_bytes, Some(seen)),
        }
    }

    pub fn has_seen(&mut self, len: usize) {
        self.0.has_seen(len);
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub fn is_at_rest(&self, left: usize) -> bool {
        self.0.is_at_rest(left)
    }
}
