//! What one sender says: its stream of bytes to records and answers. It sees no socket.

use std::mem;

use super::sniff::{Wire, sniff};
use crate::forward::framing::{FramingError, parse_len, parse_line};
use crate::forward::relp::{self, Excerpt, RelpError, parse_head, write_frame};

/// A record as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) bytes: &'a [u8],
    /// How many bytes of it are missing at its end.
    pub(crate) cut: u64,
    /// Whether it is a syslog message, else text.
    pub(crate) is_syslog: bool,
}

/// Why a sender is not listened to any longer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Garbage {
    #[error("no RELP: {0}")]
    Relp(#[from] RelpError),
    #[error("no octet-counted syslog: {0}")]
    Counted(#[from] FramingError),
    #[error("no RELP: the command {0} where syslog or close belongs")]
    Command(Excerpt),
}

/// What is needed before [`Session::feed`] can do anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// This many bytes.
    Bytes(usize),
    /// A line end that is not among the first `seen` bytes, or this many bytes.
    LineEnd { seen: usize, or_bytes: usize },
}

/// One sender's stream.
#[derive(Debug)]
pub(crate) struct Session {
    max_record: usize,
    wire: Option<Wire>,
    state: State,
    need: Need,
}

#[derive(Debug)]
enum State {
    /// RELP alone: nothing is known of the client yet.
    New,
    Ready,
    /// The rest of a record that is too long goes by.
    Skipping {
        /// Its beginning.
        kept: Vec<u8>,
        skipped: u64,
        until: Until,
    },
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    LineEnd {
        /// The last byte was a CR, which may belong to the line end.
        after_cr: bool,
    },
    /// So many more bytes.
    Len(usize),
    /// So many more bytes, then the end of the frame with this number.
    FrameEnd(usize, u32),
}

impl Session {
    pub(crate) fn new(max_record: usize) -> Session {
        Session {
            max_record: max_record.max(LEAST_RECORD),
            wire: None,
            state: State::New,
            need: Need::Bytes(1),
        }
    }

    pub(crate) fn wire(&self) -> Option<Wire> {
        self.wire
    }

    /// Takes what it can of `bytes`, gives each record to `take`, in order, and puts RELP's answers to `replies`. Returns
    /// how many bytes it took; the others are to be offered again, with more behind them. After garbage nothing is a
    /// record any more.
    ///
    /// An answer says that a record is taken care of: it is for the peer only when that is so.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, Garbage> {
        let outcome = self.steps(bytes, replies, take);
        if outcome.is_err() {
            self.state = State::Closed;
        }
        outcome
    }

    fn steps(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, Garbage> {
        if self.wire.is_none() {
            self.wire = sniff(bytes);
        }
        let Some(wire) = self.wire else {
            self.need = Need::Bytes(bytes.len() + 1);
            return Ok(0);
        };
        let mut taken = 0;
        // Each step takes something, or says what it needs.
        loop {
            let rest = &bytes[taken..];
            let step = match (&self.state, wire) {
                (State::Closed, _) => rest.len(),
                (State::Skipping { .. }, _) => self.skip(rest, replies, take)?,
                (_, Wire::Relp) => self.frame(rest, replies, take)?,
                (_, Wire::Counted) => self.counted(rest, take)?,
                (_, Wire::Syslog | Wire::Bare) => self.line(rest, take),
            };
            if step == 0 {
                return Ok(taken);
            }
            taken += step;
            self.need = Need::Bytes(1);
        }
    }

    /// The stream has ended behind `rest`, which is what [`feed`](Self::feed) did not take. What a line without an end,
    /// or a counted message without all of its bytes, has is a record; half a RELP frame is none, since its sender knows
    /// that it was not acknowledged.
    pub(crate) fn finish(&mut self, rest: &[u8], take: &mut dyn FnMut(Record<'_>)) {
        let wire = self.wire.unwrap_or(Wire::Bare);
        let is_syslog = wire != Wire::Bare;
        match mem::replace(&mut self.state, State::Closed) {
            State::Closed => (),
            State::Skipping { kept, skipped, until } => match until {
                Until::LineEnd { after_cr } => {
                    take(Record { bytes: &kept, cut: skipped - u64::from(after_cr), is_syslog });
                }
                Until::Len(left) => take(Record { bytes: &kept, cut: skipped + left as u64, is_syslog }),
                Until::FrameEnd(..) => (),
            },
            State::New | State::Ready => match wire {
                Wire::Relp => (),
                Wire::Counted => {
                    if let Ok(Some((len, start))) = parse_len(rest) {
                        let bytes = &rest[start..];
                        take(Record { bytes, cut: len.saturating_sub(bytes.len()) as u64, is_syslog });
                    }
                }
                Wire::Syslog | Wire::Bare if rest.is_empty() => (),
                Wire::Syslog | Wire::Bare => {
                    let line = rest.strip_suffix(b"\r").unwrap_or(rest);
                    let bytes =
                        if line.len() > self.max_record { beginning(line, self.max_record) } else { line };
                    take(Record { bytes, cut: (line.len() - bytes.len()) as u64, is_syslog });
                }
            },
        }
    }

    pub(crate) fn need(&self) -> Need {
        self.need
    }

    /// Whoever offers the bytes has looked for a line end itself, and found none in so many.
    pub(crate) fn has_seen(&mut self, len: usize) {
        if let Need::LineEnd { seen, .. } = &mut self.need {
            *seen = len;
        }
    }

    /// Whether the sender has said enough for now: it has begun to speak, and is in the middle of nothing. `left` bytes
    /// were not taken.
    pub(crate) fn is_at_rest(&self, left: usize) -> bool {
        self.wire.is_some() && left == 0 && matches!(self.state, State::Ready | State::Closed)
    }

    /// Whether the sender has said that it goes.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn line(&mut self, bytes: &[u8], take: &mut dyn FnMut(Record<'_>)) -> usize {
        let seen = match self.need {
            Need::LineEnd { seen, .. } => seen,
            Need::Bytes(_) => 0,
        };
        self.state = State::Ready;
        let is_syslog = self.wire == Some(Wire::Syslog);
        match parse_line(bytes, seen, self.max_record) {
            Ok(Some((line, len))) => {
                take(Record { bytes: line, cut: 0, is_syslog });
                len
            }
            Ok(None) => {
                self.need = Need::LineEnd { seen: bytes.len(), or_bytes: self.max_record.saturating_add(2) };
                0
            }
            Err(_) => self.begin_to_skip(bytes, |_| Until::LineEnd { after_cr: false }),
        }
    }

    fn counted(&mut self, bytes: &[u8], take: &mut dyn FnMut(Record<'_>)) -> Result<usize, Garbage> {
        self.state = State::Ready;
        // Some put a line end behind the message that they do not count.
        if let [b'\n', ..] = bytes {
            return Ok(1);
        }
        let Some((len, start)) = parse_len(bytes)? else {
            self.need = Need::Bytes(bytes.len() + 1);
            return Ok(0);
        };
        let have = bytes.len() - start;
        if have < len.min(self.max_record) {
            self.need = Need::Bytes(start + len.min(self.max_record));
            return Ok(0);
        }
        if len > self.max_record {
            return Ok(start + self.begin_to_skip(&bytes[start..], |kept| Until::Len(len - kept)));
        }
        take(Record { bytes: &bytes[start..start + len], cut: 0, is_syslog: true });
        Ok(start + len)
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, Garbage> {
        let Some((head, start)) = parse_head(bytes)? else {
            self.need = Need::Bytes(bytes.len() + 1);
            return Ok(0);
        };
        let (len, txnr) = (head.data_len, head.txnr);
        let is_open = matches!(self.state, State::Ready);
        match head.command {
            b"syslog" if is_open => {
                if len > self.max_record {
                    if bytes.len() - start < self.max_record {
                        self.need = Need::Bytes(start + self.max_record);
                        return Ok(0);
                    }
                    let until = |kept| Until::FrameEnd(len - kept, txnr);
                    return Ok(start + self.begin_to_skip(&bytes[start..], until));
                }
            }
            b"open" if !is_open => (),
            b"close" | b"abort" if is_open => (),
            other => return Err(Garbage::Command(Excerpt::of(other))),
        }
        if len > self.max_record.max(MAX_OFFERS) {
            return Err(RelpError::TooLong { len, max: self.max_record.max(MAX_OFFERS) }.into());
        }
        let Some(&end) = bytes[start..].get(len) else {
            self.need = Need::Bytes(start + len + 1);
            return Ok(0);
        };
        if end != b'\n' {
            return Err(RelpError::Trailer(Excerpt::of(&bytes[start + len..])).into());
        }
        let data = &bytes[start..start + len];
        match head.command {
            b"syslog" => {
                take(Record { bytes: data, cut: 0, is_syslog: true });
                acknowledge(replies, txnr);
            }
            b"open" => {
                let offers = relp::Offers::parse(data)?;
                if offers.has_command("syslog") {
                    write_frame(replies, txnr, "rsp", &relp::open_response());
                    self.state = State::Ready;
                } else {
                    write_frame(replies, txnr, "rsp", b"500 the command syslog is required");
                    self.state = State::Closed;
                }
            }
            b"close" => {
                write_frame(replies, txnr, "rsp", b"");
                write_frame(replies, 0, "serverclose", b"");
                self.state = State::Closed;
            }
            _ => self.state = State::Closed,
        }
        Ok(start + len + 1)
    }

    /// Keeps the beginning of a record that is too long; returns how many bytes that is.
    fn begin_to_skip(&mut self, bytes: &[u8], until: impl FnOnce(usize) -> Until) -> usize {
        let kept = beginning(bytes, self.max_record).to_vec();
        let len = kept.len();
        self.state = State::Skipping { kept, skipped: 0, until: until(len) };
        len
    }

    fn skip(
        &mut self,
        bytes: &[u8],
        replies: &mut Vec<u8>,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<usize, Garbage> {
        let is_syslog = self.wire != Some(Wire::Bare);
        let State::Skipping { kept, skipped, until } = &mut self.state else { return Ok(0) };
        let Some(&last) = bytes.last() else { return Ok(0) };
        let taken = match until {
            Until::LineEnd { after_cr } => match memchr::memchr(b'\n', bytes) {
                Some(0) => {
                    *skipped -= u64::from(*after_cr);
                    1
                }
                Some(end) => {
                    *skipped += end as u64 - u64::from(bytes[end - 1] == b'\r');
                    end + 1
                }
                None => {
                    *after_cr = last == b'\r';
                    *skipped += bytes.len() as u64;
                    return Ok(bytes.len());
                }
            },
            Until::Len(left) | Until::FrameEnd(left, _) if *left > 0 => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                *skipped += taken as u64;
                if *left > 0 || matches!(until, Until::FrameEnd(..)) {
                    return Ok(taken);
                }
                taken
            }
            Until::Len(_) => 0,
            Until::FrameEnd(..) if bytes[0] == b'\n' => 1,
            Until::FrameEnd(..) => return Err(RelpError::Trailer(Excerpt::of(bytes)).into()),
        };
        take(Record { bytes: kept, cut: *skipped, is_syslog });
        if let Until::FrameEnd(_, txnr) = *until {
            acknowledge(replies, txnr);
        }
        self.state = State::Ready;
        Ok(taken)
    }
}

/// No record is cut to nothing, since no character is longer.
const LEAST_RECORD: usize = 4;
/// The most that a client may say about itself, if records are shorter.
const MAX_OFFERS: usize = 4096;

fn acknowledge(replies: &mut Vec<u8>, txnr: u32) {
    write_frame(replies, txnr, "rsp", b"200 OK");
}

/// The beginning of a record that is longer than `max`: at most so many bytes, with no character cut in two.
fn beginning(bytes: &[u8], max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(max)];
    for (back, byte) in bytes.iter().rev().enumerate().take(LEAST_RECORD) {
        let char_len = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        let is_cut = char_len > back + 1;
        return if is_cut { &bytes[..bytes.len() - back - 1] } else { bytes };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What came of a stream: records with what is missing of each, answers, and why it ended early.
    #[derive(PartialEq, Eq, Debug, Default)]
    struct Heard {
        records: Vec<(String, u64, bool)>,
        replies: String,
        garbage: Option<Garbage>,
    }

    /// Offers `pieces` one by one as a connection does, then ends the stream.
    fn hear(max_record: usize, pieces: &[&[u8]]) -> Heard {
        let mut session = Session::new(max_record);
        let (mut heard, mut input, mut replies) = (Heard::default(), Vec::new(), Vec::new());
        let mut records = Vec::new();
        let mut take = |record: Record<'_>| {
            let text = String::from_utf8(record.bytes.to_vec()).unwrap();
            records.push((text, record.cut, record.is_syslog));
        };
        for piece in pieces {
            input.extend_from_slice(piece);
            let is_due = match session.need() {
                Need::Bytes(bytes) => input.len() >= bytes,
                Need::LineEnd { seen, or_bytes } => input.len() >= or_bytes || input[seen..].contains(&b'\n'),
            };
            match session.feed(&input, &mut replies, &mut take) {
                Ok(n) => {
                    assert!(is_due || n == 0, "took {n} before it needed to");
                    input.drain(..n);
                }
                Err(garbage) => {
                    heard.garbage = Some(garbage);
                    break;
                }
            }
            assert!(input.len() <= max_record + 60, "{} bytes are left", input.len());
        }
        if heard.garbage.is_none() {
            session.finish(&input, &mut take);
        }
        heard.records = records;
        heard.replies = String::from_utf8(replies).unwrap();
        heard
    }

    /// The same comes of a stream in one piece, byte by byte and at each split.
    fn hear_all_ways(max_record: usize, bytes: &[u8]) -> Heard {
        let whole = hear(max_record, &[bytes]);
        assert_eq!(hear(max_record, &bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
        for at in 0..=bytes.len() {
            let (one, two) = bytes.split_at(at);
            assert_eq!(hear(max_record, &[one, two]), whole, "split at {at}");
        }
        whole
    }

    fn texts(heard: &Heard) -> Vec<(&str, u64)> {
        heard.records.iter().map(|(text, cut, _)| (text.as_str(), *cut)).collect()
    }

    #[test]
    fn relp_is_answered_record_by_record() {
        let heard = hear_all_ways(
            100,
            b"1 open 35 relp_version=0\ncommands=syslog\nx=yz\n2 syslog 3 a\nb\n3 syslog 0\n4 close 0\n5 more",
        );
        assert_eq!(texts(&heard), [("a\nb", 0), ("", 0)]);
        let open = String::from_utf8(relp::open_response()).unwrap();
        assert_eq!(
            heard.replies,
            format!(
                "1 rsp {} {open}\n2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 0\n0 serverclose 0\n",
                open.len()
            )
        );
    }

    #[test]
    fn a_client_without_syslog_is_turned_away() {
        let heard = hear_all_ways(100, b"1 open 32 relp_version=0\ncommands=starttls\n2 syslog 1 a\n");
        assert_eq!(heard.replies, "1 rsp 34 500 the command syslog is required\n");
        assert_eq!(texts(&heard), []);
    }

    #[test]
    fn half_a_relp_frame_is_no_record() {
        for bytes in [&b"1 open 0\n2 syslog 5 abc"[..], b"1 open 0\n2 syslog 5 abcde", b"1 open 0\n2 sysl"] {
            assert_eq!(texts(&hear_all_ways(100, bytes)), []);
        }
        assert_eq!(texts(&hear_all_ways(4, b"1 open 0\n2 syslog 6 abcdef")), []);
    }

    #[test]
    fn counted_messages_and_what_is_left_of_one() {
        let heard = hear_all_ways(100, b"6 <13>a\n7 <13>bcd\n8 <13>e");
        assert_eq!(texts(&heard), [("<13>a\n", 0), ("<13>bcd", 0), ("<13>e", 3)]);
        assert!(heard.records.iter().all(|(.., is_syslog)| *is_syslog));
    }

    #[test]
    fn lines_with_and_without_an_end() {
        let heard = hear_all_ways(100, b"<13>a\r\n\n<14>b\rc\n<15>d");
        assert_eq!(texts(&heard), [("<13>a", 0), ("", 0), ("<14>b\rc", 0), ("<15>d", 0)]);
        assert!(heard.records.iter().all(|(.., is_syslog)| *is_syslog));
        let heard = hear_all_ways(100, "404 n\u{f6}t\n<13>bare\n1 open 9".as_bytes());
        assert_eq!(texts(&heard), [("404 n\u{f6}t", 0), ("<13>bare", 0), ("1 open 9", 0)]);
        assert!(heard.records.iter().all(|(.., is_syslog)| !*is_syslog));
        // Undecided to the end.
        assert_eq!(texts(&hear_all_ways(100, b"1 open ")), [("1 open ", 0)]);
        assert_eq!(texts(&hear_all_ways(100, b"")), []);
    }

    #[test]
    fn a_record_that_is_too_long_is_cut_at_a_character_on_each_wire() {
        let euros = "\u{20ac}".repeat(4);
        let expected = [("\u{20ac}\u{20ac}", 6), ("ab", 0)];
        let bare = format!("{euros}\r\nab\n");
        assert_eq!(texts(&hear_all_ways(8, bare.as_bytes())), expected);
        let relp = format!("1 open 0\n2 syslog 12 {euros}\n3 syslog 2 ab\n");
        let heard = hear_all_ways(8, relp.as_bytes());
        assert_eq!(texts(&heard), expected);
        assert!(heard.replies.ends_with("\n2 rsp 6 200 OK\n3 rsp 6 200 OK\n"), "{}", heard.replies);
        let counted = format!("12 <13>{}2 ab", "\u{20ac}\u{20ac}xx");
        assert_eq!(texts(&hear_all_ways(8, counted.as_bytes())), [("<13>\u{20ac}", 5), ("ab", 0)]);
        // Unfinished.
        assert_eq!(texts(&hear_all_ways(8, b"0123456789abc")), [("01234567", 5)]);
        assert_eq!(texts(&hear_all_ways(8, b"20 <13>567890")), [("<13>5678", 12)]);
        // A CR at the end of a stream is half a line end, whatever stands before it.
        assert_eq!(texts(&hear_all_ways(8, b"01234567\r")), [("01234567", 0)]);
        assert_eq!(texts(&hear_all_ways(8, b"0123456789abc\r")), [("01234567", 5)]);
        assert_eq!(texts(&hear_all_ways(8, b"0123456789abc\r\r")), [("01234567", 6)]);
        // As long as it may be.
        assert_eq!(texts(&hear_all_ways(8, b"01234567\r\n01234567\n01234567")), [("01234567", 0); 3]);
    }

    #[test]
    fn what_makes_no_sense_ends_the_session_and_says_what_came() {
        let cases: [(&[u8], &str); 7] = [
            (b"1 open 0\n2 syslog 1 ab", "no RELP: \"b\" where a line end belongs"),
            (b"1 open 0\nGET /", "no RELP: \"GET /\" where a frame's number belongs"),
            (b"1 open 0\n2 open 0\n", "no RELP: the command \"open\" where syslog or close"),
            (b"1 open 0\n2 starttls 0\n", "no RELP: the command \"starttls\""),
            (b"1 open 0\n2 close 999999 x", "no RELP: a frame with 999999 bytes of data, when at most 4096"),
            (b"1 open 0\n2 syslog 9 123456789x", "no RELP: \"x\" where a line end belongs"),
            (b"5 <13>ax", "no octet-counted syslog: \"x\" where a message's length belongs"),
        ];
        for (bytes, expected) in cases {
            let heard = hear(8, &[bytes]);
            let said = heard.garbage.unwrap().to_string();
            assert!(said.starts_with(expected), "{said}");
            assert!(hear(8, &bytes.chunks(1).collect::<Vec<_>>()).garbage.is_some());
        }
    }

    #[test]
    fn nothing_is_taken_again_behind_garbage() {
        for bytes in [&b"1 open 0\n2 syslog 1 a\nx"[..], b"4 <13>x"] {
            let mut session = Session::new(100);
            let mut records = 0;
            session.feed(bytes, &mut Vec::new(), &mut |_| records += 1).unwrap_err();
            let taken = session.feed(bytes, &mut Vec::new(), &mut |_| records += 1);
            session.finish(b"", &mut |_| records += 1);
            assert_eq!((taken, records), (Ok(bytes.len()), 1));
        }
    }

    #[test]
    fn rest_is_between_records() {
        let mut session = Session::new(100);
        let mut at_rest = |bytes: &[u8]| {
            let taken = session.feed(bytes, &mut Vec::new(), &mut |_| ()).unwrap();
            (session.is_at_rest(bytes.len() - taken), taken)
        };
        assert_eq!(at_rest(b"1 op"), (false, 0));
        assert_eq!(at_rest(b"1 open 0\n"), (true, 9));
        assert_eq!(at_rest(b"2 sys"), (false, 0));
        assert_eq!(at_rest(b"2 syslog 0\n"), (true, 11));
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same(
            head in prop_oneof![
                Just("1 open 0\n"), Just("5 <13>a"), Just("<13>"), Just("x"), Just("1 op"),
            ],
            tail in "[0-9 a<>\\r\\n]{0,30}|([1-9] syslog [0-9] ?[a\\n]{0,9}\\n?){0,4}",
            cuts in proptest::collection::vec(0usize..60, 0..6),
        ) {
            let bytes = [head.as_bytes(), tail.as_bytes()].concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let mut whole = hear(5, &[&bytes]);
            let mut split = hear(5, &pieces);
            // Which bytes an error shows depends on what had come.
            prop_assert_eq!(whole.garbage.take().is_some(), split.garbage.take().is_some());
            prop_assert_eq!(whole, split);
        }
    }
}
