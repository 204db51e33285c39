//! What a sender says to the backlog server, in one piece and in many, beside what its frames or lines say one by one. The
//! first byte of the input is the most bytes of a record, the next three say where the rest is split.

#![no_main]

use libfuzzer_sys::fuzz_target;
use logger::fuzzing::{Kind, Session, counted_len, relp_frame, relp_offers, relp_response, sniff};

/// No record is cut to less.
const LEAST_RECORD: usize = 4;
/// The most that a client may say about itself, if records are shorter.
const MAX_OFFERS: usize = 4096;
/// What a frame has beside its data.
const FRAME: usize = 54;
/// The wire is known by then.
const SNIFFED: usize = 38;

fuzz_target!(|input: &[u8]| {
    let Some((&[max_record, cuts @ ..], bytes)) = input.split_first_chunk::<4>() else { return };
    let max_record = usize::from(max_record).max(LEAST_RECORD);
    let whole = hear(max_record, [bytes].into_iter(), false);
    check(max_record, bytes, &whole);

    let mut cuts = cuts.map(|cut| usize::from(cut).min(bytes.len()));
    cuts.sort_unstable();
    let [one, two, three] = cuts;
    let pieces = [&bytes[..one], &bytes[one..two], &bytes[two..three], &bytes[three..]];
    for is_patient in [false, true] {
        assert_eq!(hear(max_record, bytes.chunks(1), is_patient), whole, "byte by byte");
        assert_eq!(hear(max_record, pieces.into_iter(), is_patient), whole, "split at {cuts:?}");
    }
    for end in 0..bytes.len().min(SNIFFED * 2) {
        let beginning = sniff(&bytes[..end]);
        assert!(end < SNIFFED || beginning.is_some());
        assert!(beginning.is_none() || beginning == sniff(bytes));
    }
});

/// What came of a stream: records with what is missing of each, answers, and why it ended early.
#[derive(PartialEq, Eq, Debug, Default)]
struct Heard {
    records: Vec<(Vec<u8>, u64, bool)>,
    replies: Vec<u8>,
    garbage: Option<Kind>,
}

/// Offers the pieces one by one, then ends the stream. A patient server offers nothing before it is needed.
fn hear<'a>(max_record: usize, pieces: impl Iterator<Item = &'a [u8]>, is_patient: bool) -> Heard {
    let mut session = Session::new(max_record);
    let (mut records, mut replies, mut input) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |bytes: &[u8], cut: u64, is_syslog: bool| records.push((bytes.to_vec(), cut, is_syslog));
    let mut garbage = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        let is_due = match session.need() {
            (bytes, None) => input.len() >= bytes,
            (bytes, Some(seen)) => input.len() >= bytes || input[seen..].contains(&b'\n'),
        };
        if is_patient && !is_due {
            session.has_seen(input.len());
            continue;
        }
        match session.feed(&input, &mut replies, &mut take) {
            Ok(taken) => {
                assert!(is_due || taken == 0, "took {taken} bytes before it needed to");
                input.drain(..taken);
            }
            Err(kind) => {
                garbage = Some(kind);
                break;
            }
        }
        let (bytes, seen) = session.need();
        assert!(bytes > input.len(), "it has {} bytes and needs {bytes}", input.len());
        assert!(seen.is_none_or(|seen| seen == input.len()));
        assert!(bytes <= max_record.max(MAX_OFFERS) + FRAME, "it needs {bytes} bytes");
        assert!(!session.is_closed() || input.is_empty());
        assert!(!session.is_at_rest(input.len()) || input.is_empty());
    }
    if garbage.is_none() {
        match session.feed(&input, &mut replies, &mut take) {
            Ok(taken) => session.finish(&input[taken..], &mut take),
            Err(kind) => garbage = Some(kind),
        }
    }
    Heard { records, replies, garbage }
}

/// A record as it should be: what came of it, and how long it is.
type Expected<'a> = (&'a [u8], usize);

fn check(max_record: usize, bytes: &[u8], heard: &Heard) {
    let wire = sniff(bytes);
    let mut answers = Vec::new();
    let expected = match wire.as_deref() {
        Some("Relp") => frames(max_record, bytes, &mut answers),
        Some("Counted") => messages(bytes),
        _ => lines(bytes),
    };
    let is_syslog = wire.is_some_and(|wire| wire != "Bare");
    assert_eq!(heard.records.len(), expected.len());
    for ((record, cut, is_one), (came, len)) in heard.records.iter().zip(expected) {
        assert_eq!(*is_one, is_syslog);
        assert!(came.starts_with(record));
        assert_eq!(record.len() + *cut as usize, len);
        if len > max_record && came.len() >= max_record {
            // A character is not cut in two.
            assert!((max_record - 3..=max_record).contains(&record.len()));
        } else {
            assert_eq!(record, came);
        }
    }

    let mut replies = &heard.replies[..];
    for (txnr, command, code) in answers {
        let frame = relp_frame(replies, MAX_OFFERS).expect("an answer").expect("a whole one");
        let ((its_txnr, its_command, data), len) = frame;
        assert_eq!((its_txnr, its_command), (txnr, command.as_bytes()));
        assert_eq!(relp_response(data).expect("a code").0, code);
        replies = &replies[len..];
    }
    assert!(replies.is_empty(), "{}", replies.escape_ascii());
}

/// The records of RELP, and the number, command and code of each answer.
fn frames<'a>(
    max_record: usize,
    bytes: &'a [u8],
    answers: &mut Vec<(u32, &'static str, u16)>,
) -> Vec<Expected<'a>> {
    let mut records = Vec::new();
    let (mut rest, mut is_open) = (bytes, false);
    while let Ok(Some(((txnr, command, data), len))) = relp_frame(rest, usize::MAX) {
        rest = &rest[len..];
        match (command, is_open) {
            (b"syslog", true) => {
                records.push((data, data.len()));
                answers.push((txnr, "rsp", 200));
            }
            _ if data.len() > max_record.max(MAX_OFFERS) => break,
            (b"open", false) => {
                let Ok((.., has_syslog)) = relp_offers(data) else { break };
                answers.push((txnr, "rsp", if has_syslog { 200 } else { 500 }));
                is_open = has_syslog;
                if !has_syslog {
                    break;
                }
            }
            (b"close", true) => {
                answers.extend([(txnr, "rsp", 200), (0, "serverclose", 200)]);
                break;
            }
            _ => break,
        }
    }
    records
}

/// The records of octet counting.
fn messages(bytes: &[u8]) -> Vec<Expected<'_>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    loop {
        while let Some(behind) = rest.strip_prefix(b"\n") {
            rest = behind;
        }
        let Ok(Some((len, start))) = counted_len(rest) else { return records };
        let message = &rest[start..];
        records.push((&message[..message.len().min(len)], len));
        let Some(behind) = message.get(len..) else { return records };
        rest = behind;
    }
}

/// The records of lines.
fn lines(bytes: &[u8]) -> Vec<Expected<'_>> {
    let ended = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = ended.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if bytes.is_empty() { Vec::new() } else { lines.map(|line| (line, line.len())).collect() }
}
