//! The evbuffer's contract, case by case (the numbers are those of the conformance list), and against a `Vec<u8>`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "helpers of tests")]

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use reactor::evbuffer::{Change, End, Eol, Evbuffer, FileSegment};
use reactor::{Error, Result};

/// Shared memory that counts how often it is dropped.
struct Owner {
    bytes: Vec<u8>,
    drops: Rc<Cell<usize>>,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
    }
}

fn owner(bytes: &[u8]) -> (Owner, Rc<Cell<usize>>) {
    let drops = Rc::new(Cell::new(0));
    (Owner { bytes: bytes.to_vec(), drops: drops.clone() }, drops)
}

fn buffer(bytes: &[u8]) -> Evbuffer {
    let buffer = Evbuffer::new();
    buffer.append(bytes).unwrap();
    buffer
}

/// A buffer whose segments are these pieces.
fn pieces(pieces: &[&[u8]]) -> Evbuffer {
    let buffer = Evbuffer::new();
    for piece in pieces {
        buffer.append_shared(Vec::from(*piece)).unwrap();
    }
    buffer.validate().unwrap();
    buffer
}

fn content(buffer: &Evbuffer) -> Vec<u8> {
    buffer.validate().unwrap();
    let mut bytes = vec![0; buffer.len() + 1];
    let n = buffer.copy_out(0, &mut bytes).unwrap();
    bytes.truncate(n);
    assert_eq!(n, buffer.len());
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn segment(bytes: &[u8]) -> FileSegment {
    FileSegment::new(file(bytes), 0, bytes.len() as u64).unwrap()
}

fn sockets() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

type Log = Rc<RefCell<Vec<(&'static str, usize, usize, usize)>>>;

fn watch(buffer: &Evbuffer, name: &'static str, log: &Log) -> reactor::evbuffer::WatchId {
    let log = log.clone();
    buffer.on_change(move |_, c| log.borrow_mut().push((name, c.original, c.added, c.deleted)))
}

fn take(log: &Log) -> Vec<(&'static str, usize, usize, usize)> {
    std::mem::take(&mut log.borrow_mut())
}

fn is_frozen<T>(result: Result<T>, at: End) -> bool {
    let wanted = if at == End::Front { "front" } else { "back" };
    matches!(result, Err(Error::Frozen { end }) if end == wanted)
}

fn would_block<T>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock)
}

static_assertions::assert_not_impl_any!(Evbuffer: Send, Sync);

// Basic operations.

#[test]
fn room_that_no_memory_can_give_is_refused() {
    let b = Evbuffer::new();
    for n in [usize::MAX, isize::MAX as usize] {
        assert!(matches!(b.reserve(n).map(|_| ()), Err(Error::TooLong)));
        assert!(matches!(b.expand(n), Err(Error::TooLong)));
    }
    b.validate().unwrap();
}

#[test]
fn buf_01_bytes_come_out_in_order_and_the_length_is_the_sum() {
    let b = Evbuffer::new();
    let mut model = Vec::new();
    for i in 0..300usize {
        let bytes = vec![i as u8; i * 7];
        b.append(&bytes).unwrap();
        model.extend_from_slice(&bytes);
        b.prepend(&bytes[..i]).unwrap();
        model.splice(0..0, bytes[..i].iter().copied());
        assert_eq!(b.len(), model.len());
    }
    assert_eq!(content(&b), model);
    b.drain(1000).unwrap();
    assert_eq!(content(&b), model[1000..]);
}

#[test]
fn buf_02_appending_nothing_changes_nothing_but_is_refused_when_frozen() {
    let b = Evbuffer::new();
    let log = Log::default();
    watch(&b, "w", &log);
    b.append(b"").unwrap();
    assert!(b.is_empty() && take(&log).is_empty());
    b.freeze(End::Back);
    assert!(is_frozen(b.append(b""), End::Back));
}

#[test]
fn buf_04_prepend_into_nothing_into_room_and_into_a_new_block() {
    let b = Evbuffer::new();
    b.prepend(b"world").unwrap();
    b.prepend(b"hello ").unwrap();
    assert_eq!(content(&b), b"hello world");
    assert_eq!(b.contiguous_len(), 11, "the second went into the room in front");
    let long = vec![b'x'; 200_000];
    b.prepend(&long).unwrap();
    assert_eq!(content(&b), [&long[..], b"hello world"].concat());
    b.freeze(End::Front);
    b.prepend(b"").unwrap();
    assert!(is_frozen(b.prepend(b"y"), End::Front));
    let drained = buffer(b"0123456789");
    drained.drain(5).unwrap();
    drained.prepend(b"abc").unwrap();
    assert_eq!((content(&drained), drained.contiguous_len()), (b"abc56789".to_vec(), 8));
}

#[test]
fn buf_05_drain_takes_what_there_is() {
    let b = buffer(&vec![1; 100_000]);
    assert_eq!(b.drain(0).unwrap(), 0);
    assert_eq!(b.drain(99_999).unwrap(), 99_999);
    assert_eq!(b.drain(usize::MAX).unwrap(), 1);
    assert_eq!(b.drain(usize::MAX).unwrap(), 0);
    assert!(b.is_empty());
    b.validate().unwrap();
}

#[test]
fn buf_07_remove_copies_and_drains() {
    let b = buffer(b"abcdef");
    let mut four = [0; 4];
    assert_eq!(b.remove(&mut four).unwrap(), 4);
    assert_eq!(&four, b"abcd");
    assert_eq!(b.remove(&mut []).unwrap(), 0);
    b.freeze(End::Front);
    assert!(is_frozen(b.remove(&mut four), End::Front));
    b.unfreeze(End::Front);
    assert_eq!(b.remove(&mut four).unwrap(), 2);
    b.freeze(End::Front);
    assert_eq!(b.remove(&mut four).unwrap(), 0, "an empty buffer gives nothing, frozen or not");
}

#[test]
fn buf_08_copy_out_leaves_the_buffer_alone() {
    let b = pieces(&[b"abc", b"def", b"ghi"]);
    let mut five = [0; 5];
    assert_eq!(b.copy_out(2, &mut five).unwrap(), 5);
    assert_eq!(&five, b"cdefg");
    assert_eq!(b.copy_out(7, &mut five).unwrap(), 2);
    assert_eq!(&five[..2], b"hi");
    assert_eq!(b.copy_out(9, &mut five).unwrap(), 0);
    assert_eq!(b.len(), 9);
    b.freeze(End::Front);
    assert!(is_frozen(b.copy_out(0, &mut five), End::Front));
    b.freeze(End::Back);
    assert!(Evbuffer::new().copy_out(0, &mut five).is_ok());
}

#[test]
fn buf_09_pull_up_makes_contiguous_without_changing_content() {
    let b = pieces(&[b"abc", b"def", b"ghi"]);
    let log = Log::default();
    watch(&b, "w", &log);
    b.freeze(End::Front);
    assert!(b.pull_up(0).unwrap().is_none());
    assert!(b.pull_up(10).unwrap().is_none());
    assert_eq!(&*b.pull_up(5).unwrap().unwrap(), b"abcde");
    assert!(b.contiguous_len() >= 5);
    assert_eq!(&*b.pull_up(usize::MAX).unwrap().unwrap(), b"abcdefghi");
    b.unfreeze(End::Front);
    assert_eq!(content(&b), b"abcdefghi");
    assert!(Evbuffer::new().pull_up(usize::MAX).unwrap().is_none());
    assert!(take(&log).is_empty());
    let large = buffer(&vec![5; 1_000_000]);
    large.drain(3).unwrap();
    assert_eq!(large.pull_up(usize::MAX).unwrap().unwrap().len(), 999_997);
    large.validate().unwrap();
}

#[test]
fn buf_09_the_pulled_up_bytes_can_be_written() {
    let (o, drops) = owner(b"shared bytes");
    let b = Evbuffer::new();
    b.append_shared(o).unwrap();
    let second = Evbuffer::new();
    second.append_shared_from(&b).unwrap();
    let mut front = b.pull_up(6).unwrap().unwrap();
    front.make_ascii_uppercase();
    drop(front);
    assert_eq!(content(&b), b"SHARED bytes");
    assert_eq!(content(&second), b"shared bytes");
    assert_eq!(drops.get(), 0);
    b.pull_up(usize::MAX).unwrap().unwrap().make_ascii_uppercase();
    assert_eq!(content(&b), b"SHARED BYTES");
    assert_eq!(drops.get(), 0, "the second buffer holds it still");
}

#[test]
fn buf_10_pull_up_across_a_reference_copies_it_and_drops_its_owner() {
    let (o, drops) = owner(b"bcd");
    let b = buffer(b"a");
    b.append_shared(o).unwrap();
    let front = b.pull_up(3).unwrap().unwrap();
    assert_eq!(&*front, b"abc");
    drop(front);
    assert_eq!(drops.get(), 0);
    drop(b.pull_up(4).unwrap());
    assert_eq!(drops.get(), 1);
    assert_eq!(content(&b), b"abcd");
}

#[test]
fn buf_12_append_buffer_moves_everything_without_copying() {
    let (a, b) = (buffer(b"one "), buffer(b"two"));
    let at = b.peek(..).unwrap().slices().next().unwrap().as_ptr();
    a.append_buffer(&b).unwrap();
    assert!(b.is_empty());
    assert_eq!(a.peek(4..).unwrap().slices().next().unwrap().as_ptr(), at);
    b.append(b"later").unwrap();
    a.append(b"!").unwrap();
    assert_eq!((content(&a), content(&b)), (b"one two!".to_vec(), b"later".to_vec()));
}

#[test]
fn buf_13_a_buffer_moved_into_itself_stays() {
    let b = buffer(b"abc");
    let log = Log::default();
    watch(&b, "w", &log);
    b.append_buffer(&b).unwrap();
    b.prepend_buffer(&b.clone()).unwrap();
    assert_eq!(b.remove_buffer(&b, 2).unwrap(), 0);
    assert_eq!(content(&b), b"abc");
    assert!(take(&log).is_empty());
}

#[test]
fn buf_14_prepend_buffer_puts_the_source_first() {
    let (a, b) = (pieces(&[b"3", b"4"]), pieces(&[b"1", b"2"]));
    a.prepend_buffer(&b).unwrap();
    assert_eq!((content(&a), b.len()), (b"1234".to_vec(), 0));
    b.validate().unwrap();
}

#[test]
fn buf_15_remove_buffer_moves_exactly_so_many() {
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    for n in [0, 1, 3, 4, 7, 4096, 70_000, 100_006, 100_007, 200_000] {
        let b = pieces(&[b"abc", b"defg"]);
        b.append(&bytes).unwrap();
        let whole = content(&b);
        let to = buffer(b"to:");
        let moved = b.remove_buffer(&to, n).unwrap();
        assert_eq!(moved, n.min(100_007));
        assert_eq!(content(&to), [b"to:", &whole[..moved]].concat());
        assert_eq!(content(&b), whole[moved..]);
    }
}

#[test]
fn buf_16_a_frozen_back_refuses_what_appends() {
    let b = buffer(b"abc");
    let other = buffer(b"xyz");
    let (mut a, c) = sockets();
    a.write_all(b"data").unwrap();
    b.freeze(End::Back);
    assert!(is_frozen(b.append(b"d"), End::Back));
    assert!(write!(&mut &b, "{}", 1).is_err());
    assert!(is_frozen(b.reserve(10).map(drop), End::Back));
    assert!(is_frozen(b.append_shared(b"x"), End::Back));
    assert!(is_frozen(b.append_shared_from(&other), End::Back));
    assert!(is_frozen(b.append_buffer(&other), End::Back));
    assert!(is_frozen(other.remove_buffer(&b, 1), End::Back));
    assert!(is_frozen(b.append_file(&segment(b"file"), 0..4), End::Back));
    assert!(is_frozen(b.read_from(&c, 100), End::Back));
    assert_eq!((content(&b), content(&other)), (b"abc".to_vec(), b"xyz".to_vec()));
    b.unfreeze(End::Back);
    let room = b.reserve(10).unwrap();
    b.freeze(End::Back);
    assert!(is_frozen(room.commit(1), End::Back));
    assert_eq!(b.drain(1).unwrap(), 1, "the other end is free");
}

#[test]
fn buf_17_a_frozen_front_refuses_what_drains() {
    let b = buffer(b"abc\n");
    let other = buffer(b"xyz");
    let (a, _c) = sockets();
    b.freeze(End::Front);
    assert!(is_frozen(b.remove(&mut [0; 2]), End::Front));
    assert!(is_frozen(b.drain(1), End::Front));
    assert!(is_frozen(b.prepend(b"x"), End::Front));
    assert!(is_frozen(b.read_line(Eol::Lf), End::Front));
    assert!(is_frozen(b.prepend_buffer(&other), End::Front));
    assert!(is_frozen(other.append_buffer(&b), End::Front));
    assert!(is_frozen(other.prepend_buffer(&b), End::Front));
    assert!(is_frozen(b.remove_buffer(&other, 1), End::Front));
    assert!(is_frozen(b.write_to(&a, None), End::Front));
    assert_eq!((b.len(), content(&other)), (4, b"xyz".to_vec()));
    b.append(b"d").unwrap();
    b.unfreeze(End::Front);
    assert_eq!(content(&b), b"abc\nd");
    let empty = Evbuffer::new();
    empty.freeze(End::Front);
    assert_eq!(empty.drain(5).unwrap(), 0);
}

#[test]
fn buf_18_expand_ignores_a_frozen_back_and_vectors_do_not() {
    let b = buffer(b"abc");
    b.freeze(End::Back);
    b.expand(100_000).unwrap();
    assert!(is_frozen(b.append_vectored(&[IoSlice::new(b"x")]), End::Back));
    assert_eq!(content(&b), b"abc");
    b.unfreeze(End::Back);
    b.append(&[b'x'; 90_000]).unwrap();
    assert_eq!(b.len(), 90_003);
    b.validate().unwrap();
}

#[test]
fn buf_19_vectors_are_told_one_by_one() {
    let b = Evbuffer::new();
    let log = Log::default();
    watch(&b, "w", &log);
    let n = b.append_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"cde"), IoSlice::new(b"f")]).unwrap();
    assert_eq!((n, content(&b)), (6, b"abcdef".to_vec()));
    assert_eq!(take(&log), [("w", 0, 2, 0), ("w", 2, 3, 0), ("w", 5, 1, 0)]);
}

// Lines and searching.

const STYLES: [Eol; 5] = [Eol::Any, Eol::Crlf, Eol::CrlfStrict, Eol::Lf, Eol::Nul];

/// The offset and length of the first line end, by the words of the manual.
fn model_eol(bytes: &[u8], at: usize, eol: Eol) -> Option<(usize, usize)> {
    let find = |wanted: &[u8]| bytes[at..].windows(wanted.len()).position(|w| w == wanted).map(|i| at + i);
    match eol {
        Eol::Any => {
            let from = at + bytes[at..].iter().position(|b| b"\r\n".contains(b))?;
            Some((from, bytes[from..].iter().take_while(|b| b"\r\n".contains(b)).count()))
        }
        Eol::Crlf => {
            let lf = find(b"\n")?;
            Some(if lf > at && bytes[lf - 1] == b'\r' { (lf - 1, 2) } else { (lf, 1) })
        }
        Eol::CrlfStrict => find(b"\r\n").map(|i| (i, 2)),
        Eol::Lf => find(b"\n").map(|i| (i, 1)),
        Eol::Nul => find(b"\0").map(|i| (i, 1)),
    }
}

const LINES: &[u8] = b"a\r\nbb\n\rcc\r\r\n\n\0dd\r\0\n\r\n\r\n";

#[test]
fn buf_23_to_25_the_styles() {
    let line = |text: &[u8], eol| buffer(text).read_line(eol).unwrap();
    assert_eq!(line(b"a\r\n", Eol::Lf).as_deref(), Some(&b"a\r"[..]));
    assert_eq!(line(b"a\r\n", Eol::Crlf).as_deref(), Some(&b"a"[..]));
    assert_eq!(line(b"a\nb\r\n", Eol::CrlfStrict).as_deref(), Some(&b"a\nb"[..]));
    assert_eq!(line(b"a\nb\0c", Eol::Nul).as_deref(), Some(&b"a\nb"[..]));
    let b = buffer(b"a\r\n\n\rb");
    assert_eq!(b.read_line(Eol::Any).unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(content(&b), b"b");
}

#[test]
fn buf_26_without_an_end_nothing_is_consumed() {
    for eol in STYLES {
        let b = buffer(b"no end here");
        let log = Log::default();
        watch(&b, "w", &log);
        assert_eq!(b.read_line(eol).unwrap(), None);
        assert_eq!(content(&b), b"no end here");
        assert!(take(&log).is_empty());
        assert_eq!(Evbuffer::new().read_line(eol).unwrap(), None);
    }
}

#[test]
fn buf_27_zero_bytes_belong_to_the_line() {
    let b = buffer(b"a\0b\0\nrest");
    assert_eq!(b.read_line(Eol::Lf).unwrap().as_deref(), Some(&b"a\0b\0"[..]));
}

#[test]
fn buf_28_ends_split_over_segments_are_recognised_at_every_split() {
    for eol in STYLES {
        for one in 0..=LINES.len() {
            for two in one..=LINES.len() {
                let b = pieces(&[&LINES[..one], &LINES[one..two], &LINES[two..]]);
                for at in 0..=LINES.len() {
                    let found = b.find_eol(at, eol).unwrap();
                    assert_eq!(found, model_eol(LINES, at, eol), "{eol:?} at {at}, split at {one} and {two}");
                }
            }
        }
    }
}

#[test]
fn buf_28_lines_come_out_the_same_fed_byte_by_byte() {
    // ANY swallows what has arrived of a run, so it is fed in one-byte segments but whole.
    for eol in STYLES {
        let whole = buffer(LINES);
        let single = pieces(&LINES.chunks(1).collect::<Vec<_>>());
        loop {
            let (a, b) = (whole.read_line(eol).unwrap(), single.read_line(eol).unwrap());
            assert_eq!((&a, content(&whole)), (&b, content(&single)));
            if a.is_none() {
                break;
            }
        }
    }
    for eol in [Eol::CrlfStrict, Eol::Lf, Eol::Nul, Eol::Crlf] {
        let whole = buffer(LINES);
        let mut expected = Vec::new();
        while let Some(line) = whole.read_line(eol).unwrap() {
            expected.push(line);
        }
        let (mut lines, b) = (Vec::new(), Evbuffer::new());
        for byte in LINES {
            b.append(&[*byte]).unwrap();
            lines.extend(b.read_line(eol).unwrap());
        }
        assert_eq!(lines, expected, "{eol:?}");
    }
}

#[test]
fn buf_29_search_eol_from_a_position() {
    let b = buffer(b"ab\r\ncd");
    assert_eq!(b.find_eol(0, Eol::Crlf).unwrap(), Some((2, 2)));
    assert_eq!(b.find_eol(3, Eol::Crlf).unwrap(), Some((3, 1)), "on the LF of a CR LF");
    assert_eq!(b.find_eol(6, Eol::Crlf).unwrap(), None);
    assert!(matches!(b.find_eol(7, Eol::Crlf), Err(Error::OutOfRange { at: 7, len: 6 })));
}

#[test]
fn buf_31_an_empty_pattern_is_found_where_the_search_begins() {
    let b = buffer(b"abc");
    assert_eq!(b.find("", ..).unwrap(), Some(0));
    assert_eq!(b.find("", 2..).unwrap(), Some(2));
    assert_eq!(b.find("", 3..).unwrap(), Some(3));
    assert_eq!(Evbuffer::new().find("", ..).unwrap(), Some(0));
}

#[test]
fn buf_32_matches_end_inside_the_range() {
    let b = pieces(&[b"ab", b"ca", b"bc"]);
    assert_eq!(b.find("abc", ..).unwrap(), Some(0));
    assert_eq!(b.find("abc", 1..).unwrap(), Some(3));
    assert_eq!(b.find("abc", 1..6).unwrap(), Some(3));
    assert_eq!(b.find("abc", 1..5).unwrap(), None);
    assert_eq!(b.find("abc", ..=2).unwrap(), Some(0));
    assert_eq!(b.find("abc", 0..100).unwrap(), Some(0));
    let (late, early) = (3, 2);
    assert_eq!(b.find("a", late..early).unwrap(), None);
}

#[test]
fn buf_32_patterns_are_found_across_every_split() {
    let text = b"aabaabaaaabaabaaabaaab";
    for one in 0..=text.len() {
        for two in one..=text.len() {
            let b = pieces(&[&text[..one], &text[one..two], &text[two..]]);
            for pattern in [&b"aaab"[..], b"abaaaab", b"b", b"bb", b"aabaabaaaabaabaaabaaab", b"baaabaaabx"] {
                let model = text.windows(pattern.len()).position(|w| w == pattern);
                assert_eq!(b.find(pattern, ..).unwrap(), model, "split at {one} and {two}");
            }
        }
    }
    let single = pieces(&text.chunks(1).collect::<Vec<_>>());
    assert_eq!(single.find("abaabaaab", ..).unwrap(), Some(9));
    assert_eq!(single.find("abaabaaabb", ..).unwrap(), None);
}

#[test]
fn buf_33_positions_reach_up_to_the_length() {
    let b = buffer(b"abc");
    assert!(matches!(b.find("a", 4..), Err(Error::OutOfRange { at: 4, len: 3 })));
    assert!(matches!(b.copy_out(4, &mut [0]), Err(Error::OutOfRange { at: 4, len: 3 })));
}

// Direct access.

#[test]
fn buf_34_peek_shows_the_pieces() {
    let b = pieces(&[b"abc", b"def", b"ghi"]);
    let all = b.peek(..).unwrap();
    assert_eq!(all.slices().collect::<Vec<_>>(), [b"abc", b"def", b"ghi"]);
    let mut two = [IoSlice::new(b""); 2];
    assert_eq!(all.fill(&mut two), 3);
    assert_eq!((&*two[0], &*two[1]), (&b"abc"[..], &b"def"[..]));
    assert_eq!(b.peek(2..7).unwrap().slices().collect::<Vec<_>>(), [&b"c"[..], b"def", b"g"]);
    assert!(b.peek(9..).unwrap().is_empty() && b.peek(20..).unwrap().is_empty());
    assert_eq!(b.peek(..100).unwrap().len(), 9, "two looks at a time are fine");
}

#[test]
fn buf_34_peek_ends_where_a_file_begins() {
    let b = buffer(b"head");
    b.append_file(&segment(b"file"), 0..4).unwrap();
    b.append(b"tail").unwrap();
    assert_eq!(b.peek(..).unwrap().len(), 4);
    assert!(b.peek(5..).unwrap().is_empty());
    assert_eq!(content(&b), b"headfiletail");
}

#[test]
fn buf_35_reserve_offers_at_least_so_much_in_one_piece() {
    let b = buffer(b"abc");
    for n in [0, 1, 4093, 4094, 65_536, 1_000_000] {
        let room = b.reserve(n).unwrap();
        assert!(room.len() >= n);
        assert_eq!(b.len(), 3);
    }
    b.validate().unwrap();
    let mut room = b.reserve(100_000).unwrap();
    room[..100_000].fill(b'x');
    room.commit(100_000).unwrap();
    assert_eq!(content(&b), [&b"abc"[..], &[b'x'; 100_000]].concat());
}

#[test]
fn buf_37_a_commit_beyond_the_room_changes_nothing() {
    let b = buffer(b"abc");
    let log = Log::default();
    watch(&b, "w", &log);
    for n in [10, 100_000] {
        let room = b.reserve(n).unwrap();
        let too_much = room.len() + 1;
        assert!(matches!(room.commit(too_much), Err(Error::OutOfRange { .. })));
        b.reserve(n).unwrap().commit(0).unwrap();
    }
    assert_eq!(content(&b), b"abc");
    let mut room = b.reserve(2).unwrap();
    room[0] = b'd';
    assert!(matches!(b.append(b"x"), Err(Error::Lent)), "nothing comes between reserve and commit");
    room.commit(1).unwrap();
    assert_eq!((content(&b), take(&log)), (b"abcd".to_vec(), vec![("w", 3, 1, 0)]));
}

#[test]
fn a_lent_buffer_refuses_changes_and_does_not_panic() {
    let b = buffer(b"abc\n");
    let other = buffer(b"x");
    let (a, _c) = sockets();
    let front = b.pull_up(2).unwrap().unwrap();
    assert_eq!(b.len(), 4);
    let lent = [
        b.append(b"x").err(),
        b.append_shared(b"x").err(),
        b.append_buffer(&other).err(),
        b.append_shared_from(&other).err(),
        b.prepend(b"x").err(),
        b.prepend_buffer(&other).err(),
        b.remove_buffer(&other, 1).err(),
        other.append_buffer(&b).err(),
        b.drain(1).err(),
        b.remove(&mut [0]).err(),
        b.copy_out(0, &mut [0]).err(),
        b.pull_up(1).err(),
        b.peek(..).err(),
        b.reserve(1).err(),
        b.expand(1).err(),
        b.read_line(Eol::Lf).err(),
        b.find("a", ..).err(),
        b.find_eol(0, Eol::Lf).err(),
        b.read_from(&a, 1).err(),
        b.write_to(&a, None).err(),
    ];
    for (i, error) in lent.iter().enumerate() {
        assert!(matches!(error, Some(Error::Lent)), "call {i}: {error:?}");
    }
    drop(front);
    assert_eq!((content(&b), content(&other)), (b"abc\n".to_vec(), b"x".to_vec()));
    let look = b.peek(..).unwrap();
    assert!(matches!(b.drain(1), Err(Error::Lent)));
    assert_eq!(b.find("c", ..).unwrap(), Some(2), "looking beside a look is fine");
    drop(look);
}

// References and files.

#[test]
fn buf_40_the_owner_is_dropped_once_with_its_last_byte() {
    let (o, drops) = owner(b"abcdef");
    let at = o.bytes.as_ptr();
    let (a, b) = (Evbuffer::new(), Evbuffer::new());
    a.append_shared(o).unwrap();
    assert_eq!(a.peek(..).unwrap().slices().next().unwrap().as_ptr(), at, "not copied");
    b.append_buffer(&a).unwrap();
    b.drain(5).unwrap();
    assert_eq!(drops.get(), 0);
    b.drain(1).unwrap();
    assert_eq!(drops.get(), 1);
    let (o, drops) = owner(b"abcdef");
    a.append_shared(o).unwrap();
    assert_eq!(a.remove_buffer(&b, 3).unwrap(), 3);
    a.drain(3).unwrap();
    assert_eq!(drops.get(), 0, "half of it is in the other buffer");
    drop(b);
    assert_eq!(drops.get(), 1);
    let (o, drops) = owner(b"abcdef");
    a.append_shared(o).unwrap();
    drop(a);
    assert_eq!(drops.get(), 1);
}

#[test]
fn buf_41_a_refused_reference_leaves_the_buffer_alone() {
    let b = Evbuffer::new();
    b.freeze(End::Back);
    let memory = std::sync::Arc::new(*b"abc");
    struct Arced(std::sync::Arc<[u8; 3]>);
    impl AsRef<[u8]> for Arced {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    assert!(is_frozen(b.append_shared(Arced(memory.clone())), End::Back));
    assert_eq!(std::sync::Arc::strong_count(&memory), 1);
    assert!(b.is_empty());
}

#[test]
fn buf_42_an_empty_reference_keeps_the_length() {
    let (o, drops) = owner(b"");
    let b = Evbuffer::new();
    b.append_shared(o).unwrap();
    assert_eq!((b.len(), drops.get()), (0, 1));
    b.validate().unwrap();
}

#[test]
fn buf_43_shared_memory_is_never_written() {
    let memory: Rc<[u8]> = Rc::from(*b"0123456789");
    let b = Evbuffer::new();
    b.append_shared(memory.clone()).unwrap();
    b.append(b"after").unwrap();
    b.drain(4).unwrap();
    b.prepend(b"abcd").unwrap();
    b.reserve(3).unwrap()[..3].fill(b'z');
    assert_eq!(content(&b), b"abcd456789after");
    let all = b.pull_up(usize::MAX).unwrap();
    all.unwrap().fill(b'!');
    assert_eq!(&*memory, b"0123456789");
}

#[test]
fn buf_44_a_reference_of_a_buffer_is_independent() {
    let (source, copy) = (buffer(b"owned "), buffer(b"> "));
    let (o, drops) = owner(b"shared");
    source.append_shared(o).unwrap();
    copy.append_shared_from(&source).unwrap();
    copy.append_shared_from(&source).unwrap();
    source.append(b" later").unwrap();
    copy.append(b"!").unwrap();
    assert_eq!(content(&copy), b"> owned sharedowned shared!");
    assert_eq!(content(&source), b"owned shared later");
    copy.drain(3).unwrap();
    assert_eq!(content(&source), b"owned shared later");
    drop(source);
    assert_eq!(drops.get(), 0);
    assert_eq!(content(&copy), b"wned sharedowned shared!");
    copy.drain(usize::MAX).unwrap();
    assert_eq!(drops.get(), 1);
}

#[test]
fn buf_45_a_reference_of_a_reference_is_refused() {
    let (source, copy, third) = (buffer(b"abc"), Evbuffer::new(), Evbuffer::new());
    copy.append_shared_from(&source).unwrap();
    assert!(matches!(third.append_shared_from(&copy), Err(Error::NotReferable)));
    assert!(matches!(source.append_shared_from(&source), Err(Error::NotReferable)));
    third.append_shared_from(&third).unwrap();
    third.append_shared_from(&Evbuffer::new()).unwrap();
    let files = buffer(b"x");
    files.append_file(&segment(b"abc"), 0..3).unwrap();
    assert!(matches!(third.append_shared_from(&files), Err(Error::NotReferable)));
    assert!(third.is_empty());
    third.append_shared_from(&source).unwrap();
    assert_eq!(
        (content(&third), content(&source), content(&copy)),
        (b"abc".into(), b"abc".into(), b"abc".into())
    );
}

#[test]
fn buf_47_a_segment_beyond_what_a_file_can_have_is_refused_and_the_file_closed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    assert!(matches!(FileSegment::new(file, i64::MAX as u64, 1), Err(Error::OutOfRange { .. })));
    assert_eq!((&reader).read(&mut [0]).unwrap(), 0, "no writer is left");
    assert!(FileSegment::new(tempfile::tempfile().unwrap(), u64::MAX, u64::MAX).is_err());
}

#[test]
fn buf_48_a_file_shorter_than_promised_is_found_out_when_its_bytes_are_needed() {
    let promised = FileSegment::new(file(b"0123456789"), 5, 100).unwrap();
    let b = buffer(b"head");
    b.append_file(&promised, 0..100).unwrap();
    assert_eq!(b.len(), 104);
    assert!(matches!(b.pull_up(50), Err(Error::FileShort { needed: 105, end: 10, .. })));
    assert!(matches!(b.find("x", ..), Err(Error::FileShort { .. })));
    assert!(matches!(b.remove(&mut [0; 50]), Err(Error::FileShort { .. })));
    assert_eq!(b.len(), 104);
    b.validate().unwrap();
    let (a, mut c) = sockets();
    assert_eq!(b.write_to(&a, None).unwrap(), 9, "what there is goes out");
    let error = b.write_to(&a, None).unwrap_err();
    assert!(error.to_string().contains("too short for its file segment"), "{error}");
    assert_eq!(b.len(), 95);
    let mut got = [0; 20];
    assert_eq!(c.read(&mut got).unwrap(), 9);
    assert_eq!(&got[..9], b"head56789");
}

#[test]
fn buf_49_a_segment_serves_many_ranges_and_buffers() {
    let (reader, writer) = std::io::pipe().unwrap();
    let text = segment(b"0123456789");
    let (a, b) = (Evbuffer::new(), buffer(b"b:"));
    a.append_file(&text, 2..5).unwrap();
    a.append_file(&text, 0..10).unwrap();
    b.append_file(&text, 9..10).unwrap();
    b.append_file(&text, 5..5).unwrap();
    assert_eq!((content(&a), content(&b)), (b"2340123456789".to_vec(), b"b:9".to_vec()));
    drop(text);
    assert_eq!(a.remove_buffer(&b, 5).unwrap(), 5);
    assert_eq!((content(&a), content(&b)), (b"23456789".to_vec(), b"b:923401".to_vec()));
    a.prepend(b"<").unwrap();
    assert_eq!(a.find("67", ..).unwrap(), Some(5));
    assert_eq!(&*a.pull_up(4).unwrap().unwrap(), b"<234");
    assert_eq!(content(&a), b"<23456789");

    let open = FileSegment::new(File::from(std::os::fd::OwnedFd::from(writer)), 0, 3).unwrap();
    a.append_file(&open, 0..3).unwrap();
    drop(open);
    a.drain(9 + 2).unwrap();
    let nonblocking = rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&reader, nonblocking).unwrap();
    assert_eq!((&reader).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "open still");
    a.drain(1).unwrap();
    assert_eq!((&reader).read(&mut [0]).unwrap(), 0, "closed with its last byte");
}

#[test]
fn buf_50_a_range_outside_the_segment_is_refused() {
    let text = segment(b"0123456789");
    let b = buffer(b"x");
    for (from, to) in [(0, 11), (11, 11), (5, 4), (u64::MAX, u64::MAX)] {
        assert!(matches!(b.append_file(&text, from..to), Err(Error::OutOfRange { .. })));
    }
    assert_eq!(content(&b), b"x");
    b.append_file(&text, 8..10).unwrap();
    assert_eq!(content(&b), b"x89");
}

#[test]
fn the_length_cannot_overflow() {
    let huge = FileSegment::new(tempfile::tempfile().unwrap(), 0, i64::MAX as u64).unwrap();
    let (a, b) = (buffer(b"xyz"), buffer(b"abc"));
    a.append_file(&huge, 0..i64::MAX as u64).unwrap();
    assert!(matches!(a.append_file(&huge, 0..i64::MAX as u64), Err(Error::TooLong)));
    b.append_file(&huge, 0..i64::MAX as u64).unwrap();
    assert!(matches!(a.append_buffer(&b), Err(Error::TooLong)));
    assert!(matches!(a.prepend_buffer(&b), Err(Error::TooLong)));
    assert!(matches!(b.remove_buffer(&a, usize::MAX), Err(Error::TooLong)));
    assert_eq!((a.len(), b.len()), (usize::MAX / 2 + 3, usize::MAX / 2 + 3));
    a.validate().unwrap();
    b.validate().unwrap();
}

#[test]
fn shared_memory_that_shrinks_is_an_error() {
    struct Shrinking(Rc<Cell<usize>>);
    impl AsRef<[u8]> for Shrinking {
        fn as_ref(&self) -> &[u8] {
            &b"0123456789"[..self.0.get()]
        }
    }
    let size = Rc::new(Cell::new(10));
    let b = buffer(b"x");
    b.append_shared(Shrinking(size.clone())).unwrap();
    b.drain(4).unwrap();
    for left in [5, 2] {
        size.set(left);
        assert!(matches!(b.copy_out(0, &mut [0; 7]), Err(Error::SharedShrank)));
        assert!(matches!(b.pull_up(7), Err(Error::SharedShrank)));
        assert!(matches!(b.find("9", ..), Err(Error::SharedShrank)));
        assert_eq!(b.peek(..).unwrap().len(), left.saturating_sub(3));
    }
    let (a, _c) = sockets();
    assert!(matches!(b.write_to(&a, None), Err(Error::SharedShrank)));
    size.set(10);
    assert_eq!(content(&b), b"3456789");
}

// Descriptors.

#[test]
fn buf_51_a_limit_is_honoured_for_files_too() {
    let bytes: Vec<u8> = (0..50_000u32).map(|i| (i % 253) as u8).collect();
    let b = buffer(b"head");
    b.append_file(&segment(&bytes), 0..50_000).unwrap();
    b.append(b"tail").unwrap();
    let expected = [b"head", &bytes[..], b"tail"].concat();
    let (a, mut c) = sockets();
    let mut got = Vec::new();
    let mut chunk = [0; 2000];
    for limit in [3, 7, 1000, 1, 999].into_iter().cycle() {
        if b.is_empty() {
            break;
        }
        let due = limit.min(b.len());
        assert_eq!(b.write_to(&a, Some(limit)).unwrap(), due);
        assert_eq!(c.read(&mut chunk).unwrap(), due);
        got.extend_from_slice(&chunk[..due]);
    }
    assert!(got == expected);
}

#[test]
fn buf_51_files_go_to_files_too() {
    // sendfile refuses a target opened for appending, so this takes the way through memory.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("target");
    for appending in [false, true] {
        let target = File::options().append(appending).write(true).create(true).open(&path).unwrap();
        let bytes = vec![b'y'; 200_000];
        let b = buffer(b"x");
        b.append_file(&segment(&bytes), 0..200_000).unwrap();
        b.append(b"z").unwrap();
        target.set_len(0).unwrap();
        assert_eq!(b.write_to(&target, None).unwrap(), 200_002);
        assert!(std::fs::read(&path).unwrap() == [b"x", &bytes[..], b"z"].concat());
    }
}

#[test]
fn buf_52_reading_takes_at_most_what_was_asked() {
    let (mut a, c) = sockets();
    let b = Evbuffer::new();
    assert!(would_block(b.read_from(&c, 100)));
    assert_eq!(b.read_from(&c, 0).unwrap(), 0);
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 255) as u8).collect();
    a.write_all(&bytes[..60_000]).unwrap();
    assert_eq!(b.read_from(&c, 10).unwrap(), 10);
    assert_eq!(b.read_from(&c, 5000).unwrap(), 5000);
    assert_eq!(b.read_from(&c, 30_000).unwrap(), 30_000);
    assert_eq!(b.read_from(&c, usize::MAX).unwrap(), 24_990);
    a.write_all(&bytes[60_000..]).unwrap();
    drop(a);
    while b.read_from(&c, 16_384).unwrap() > 0 {}
    assert_eq!(b.read_from(&c, 100).unwrap(), 0, "the end of the stream stays");
    assert!(content(&b) == bytes);
}

#[test]
fn buf_52_a_failed_read_leaves_no_block_behind() {
    let (a, c) = sockets();
    let b = Evbuffer::new();
    assert!(would_block(b.read_from(&c, 100_000)));
    drop(a);
    assert_eq!(b.read_from(&c, 100_000).unwrap(), 0);
    assert_eq!(b.peek(..).unwrap().slices().count(), 0);
    b.validate().unwrap();
}

#[test]
fn buf_53_what_was_written_is_drained() {
    let (a, mut c) = sockets();
    let b = pieces(&vec![&b"piece"[..]; 200]);
    assert_eq!(b.write_to(&a, None).unwrap(), 1000, "more pieces than one call takes");
    assert!(matches!(b.write_to(&a, None), Err(Error::Empty)));
    let mut got = [0; 1001];
    assert_eq!(c.read(&mut got).unwrap(), 1000);
    assert!(got.starts_with(b"piecepiece"));
    b.append(b"x").unwrap();
    assert!(matches!(b.write_to(&a, Some(0)), Err(Error::Empty)));
    drop(c);
    let error = b.write_to(&a, None).unwrap_err();
    assert!(matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::BrokenPipe));
    assert_eq!(b.len(), 1);
}

#[test]
fn buf_53_a_full_socket_ends_the_write() {
    let (a, mut c) = sockets();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 249) as u8).collect();
    for in_file in [false, true] {
        let b = Evbuffer::new();
        match in_file {
            true => b.append_file(&segment(&bytes), 0..bytes.len() as u64).unwrap(),
            false => b.append(&bytes).unwrap(),
        }
        let (mut got, mut chunk) = (Vec::new(), vec![0; 100_000]);
        while got.len() < bytes.len() {
            match b.write_to(&a, None) {
                Ok(n) => assert!(n > 0),
                Err(e) => assert!(matches!(e, Error::Empty) || would_block(Err::<(), _>(e))),
            }
            b.validate().unwrap();
            let n = c.read(&mut chunk).unwrap();
            got.extend_from_slice(&chunk[..n]);
        }
        assert!(got == bytes && b.is_empty());
    }
}

// Change callbacks.

#[test]
fn buf_54_every_change_of_length_is_told() {
    let b = Evbuffer::new();
    let log = Log::default();
    watch(&b, "w", &log);
    let told = |expected: &[(usize, usize, usize)]| {
        let named: Vec<_> = expected.iter().map(|&(o, a, d)| ("w", o, a, d)).collect();
        assert_eq!(take(&log), named);
    };
    b.append(b"abcdef\n").unwrap();
    told(&[(0, 7, 0)]);
    b.prepend(b">").unwrap();
    told(&[(7, 1, 0)]);
    b.drain(1).unwrap();
    told(&[(8, 0, 1)]);
    b.remove(&mut [0; 2]).unwrap();
    told(&[(7, 0, 2)]);
    write!(&mut &b, "{}-{}", 1, 2).unwrap();
    told(&[(5, 3, 0)]);
    assert_eq!(b.read_line(Eol::Lf).unwrap().as_deref(), Some(&b"cdef"[..]));
    told(&[(8, 0, 5)]);
    b.append_shared(b"sh").unwrap();
    b.append_shared_from(&buffer(b"ref")).unwrap();
    b.append_file(&segment(b"file"), 0..4).unwrap();
    told(&[(3, 2, 0), (5, 3, 0), (8, 4, 0)]);
    let (a, c) = sockets();
    b.write_to(&a, None).unwrap();
    b.read_from(&c, 100).unwrap();
    told(&[(12, 0, 12), (0, 12, 0)]);
    b.drain(100).unwrap();
    told(&[(12, 0, 12)]);
    b.append(b"").unwrap();
    b.drain(5).unwrap();
    b.append_buffer(&Evbuffer::new()).unwrap();
    b.append_shared(b"").unwrap();
    b.append_file(&segment(b"file"), 2..2).unwrap();
    b.expand(100).unwrap();
    b.reserve(10).unwrap().commit(0).unwrap();
    assert_eq!(b.read_line(Eol::Lf).unwrap(), None);
    told(&[]);
}

#[test]
fn buf_55_the_latest_watcher_is_called_first_and_a_disabled_one_not_at_all() {
    let b = Evbuffer::new();
    let log = Log::default();
    let one = watch(&b, "1", &log);
    let two = watch(&b, "2", &log);
    let names = || take(&log).iter().map(|t| t.0).collect::<String>();
    watch(&b, "3", &log);
    b.append(b"x").unwrap();
    assert_eq!(names(), "321");
    b.enable_watcher(two, false).unwrap();
    b.append(b"x").unwrap();
    assert_eq!(names(), "31");
    b.enable_watcher(two, true).unwrap();
    assert_eq!(names(), "", "it is not told later");
    b.append(b"x").unwrap();
    assert_eq!(names(), "321");
    b.remove_watcher(one).unwrap();
    assert!(matches!(b.remove_watcher(one), Err(Error::UnknownWatcher)));
    assert!(matches!(b.enable_watcher(one, true), Err(Error::UnknownWatcher)));
    assert!(matches!(Evbuffer::new().remove_watcher(two), Err(Error::UnknownWatcher)));
    b.append(b"x").unwrap();
    assert_eq!(names(), "32");
}

#[test]
fn buf_57_moves_tell_the_source_first_except_a_part() {
    let (s, d) = (buffer(b"0123456789"), Evbuffer::new());
    let log = Log::default();
    watch(&s, "source", &log);
    watch(&d, "target", &log);
    s.remove_buffer(&d, 3).unwrap();
    assert_eq!(take(&log), [("target", 0, 3, 0), ("source", 10, 0, 3)]);
    d.append_buffer(&s).unwrap();
    assert_eq!(take(&log), [("source", 7, 0, 7), ("target", 3, 7, 0)]);
    s.prepend_buffer(&d).unwrap();
    assert_eq!(take(&log), [("target", 10, 0, 10), ("source", 0, 10, 0)]);
    s.remove_buffer(&d, 10).unwrap();
    assert_eq!(take(&log), [("source", 10, 0, 10), ("target", 0, 10, 0)], "a whole move");
}

#[test]
fn a_change_from_within_a_watcher_is_told_once_afterwards() {
    let b = Evbuffer::new();
    let log = Log::default();
    watch(&b, "late", &log);
    let l = log.clone();
    b.on_change(move |b, c: &Change| {
        l.borrow_mut().push(("early", c.original, c.added, c.deleted));
        assert_eq!(b.len(), c.original + c.added - c.deleted, "the change is complete");
        if c.original == 0 {
            b.drain(2).unwrap();
            b.append(b"z").unwrap();
        }
    });
    b.append(b"abc").unwrap();
    let expected = [("early", 0, 3, 0), ("late", 0, 3, 0), ("early", 3, 1, 2), ("late", 3, 1, 2)];
    assert_eq!(take(&log), expected);
    assert_eq!(content(&b), b"cz");
}

#[test]
fn watchers_may_come_and_go_while_they_run() {
    let b = Evbuffer::new();
    let log = Log::default();
    let doomed = watch(&b, "doomed", &log);
    let (l, myself) = (log.clone(), Rc::new(Cell::new(None)));
    let me = myself.clone();
    let held = Rc::new(());
    let captured = held.clone();
    myself.set(Some(b.on_change(move |b, _| {
        l.borrow_mut().push(("once", 0, 0, 0));
        b.remove_watcher(doomed).unwrap();
        b.remove_watcher(me.get().unwrap()).unwrap();
        assert_eq!(Rc::strong_count(&captured), 2, "captures live until it returns");
        watch(b, "new", &l);
    })));
    b.append(b"abc").unwrap();
    assert_eq!(take(&log), [("once", 0, 0, 0)], "the removed one is not called, the new one not yet");
    assert_eq!(Rc::strong_count(&held), 1);
    b.append(b"d").unwrap();
    assert_eq!(take(&log), [("new", 3, 1, 0)]);
}

#[test]
fn a_watcher_may_drop_the_last_handle() {
    let log = Log::default();
    let b = Rc::new(RefCell::new(Some(Evbuffer::new())));
    let (holder, l) = (b.clone(), log.clone());
    let handle = b.borrow().clone().unwrap();
    handle.on_change(move |_, c| {
        l.borrow_mut().push(("w", c.original, c.added, c.deleted));
        drop(holder.borrow_mut().take());
    });
    drop(handle);
    let guard = b.borrow();
    let moved = guard.as_ref().unwrap().clone();
    drop(guard);
    moved.append(b"x").unwrap();
    assert!(b.borrow().is_none());
    drop(moved);
    assert_eq!(take(&log), [("w", 0, 1, 0)]);
}

#[test]
fn a_panic_in_a_watcher_leaves_the_buffer_usable() {
    let b = Evbuffer::new();
    let log = Log::default();
    watch(&b, "below", &log);
    b.on_change(|_, _| panic!("boom"));
    watch(&b, "above", &log);
    assert!(catch_unwind(AssertUnwindSafe(|| b.append(b"abc"))).is_err());
    assert_eq!(take(&log), [("above", 0, 3, 0)]);
    assert_eq!(content(&b), b"abc");
    b.append(b"d").unwrap();
    assert_eq!(take(&log), [("above", 3, 1, 0), ("below", 3, 1, 0)]);
    let (a, d) = (buffer(b"x"), Evbuffer::new());
    a.on_change(|_, _| panic!("boom"));
    watch(&d, "target", &log);
    assert!(catch_unwind(AssertUnwindSafe(|| d.append_buffer(&a))).is_err());
    assert_eq!((a.len(), content(&d)), (0, b"x".to_vec()));
    d.append(b"y").unwrap();
    assert_eq!(take(&log), [("target", 0, 2, 0)], "what it missed is told with the next change");
}

#[test]
fn owners_of_shared_memory_may_use_the_buffer_when_dropped() {
    struct Nosy(Evbuffer, Rc<Cell<bool>>);
    impl AsRef<[u8]> for Nosy {
        fn as_ref(&self) -> &[u8] {
            b"nosy"
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.append(b"gone").unwrap();
            self.1.set(true);
        }
    }
    let steps: [fn(&Evbuffer); 7] = [
        |b| assert_eq!(b.drain(4).unwrap(), 4),
        |b| assert_eq!(b.remove(&mut [0; 4]).unwrap(), 4),
        |b| assert_eq!(b.read_line(Eol::Lf).unwrap().unwrap(), b"nosy"),
        |b| drop(b.pull_up(5).unwrap()),
        |b| drop(b.pull_up(4).unwrap().unwrap().iter_mut()),
        |b| {
            let (a, c) = sockets();
            drop(c);
            assert!(b.write_to(&a, Some(4)).is_err());
        },
        |b| assert!(b.write_to(tempfile::tempfile().unwrap(), Some(4)).is_ok()),
    ];
    for step in steps {
        let (b, dropped) = (Evbuffer::new(), Rc::new(Cell::new(false)));
        let log = Log::default();
        b.append_shared(Nosy(b.clone(), dropped.clone())).unwrap();
        b.append(b"\nend").unwrap();
        watch(&b, "w", &log);
        let before = b.len() as i64;
        step(&b);
        let sum: i64 = take(&log).iter().map(|t| t.2 as i64 - t.3 as i64).sum();
        assert_eq!(before + sum, b.len() as i64);
        b.drain(5).unwrap();
        assert!(dropped.get());
        b.validate().unwrap();
    }
}

#[test]
fn write_macros_append() {
    let mut b = Evbuffer::new();
    let word = "plain";
    write!(b, "{word}").unwrap();
    write!(b, " text").unwrap();
    b.write_all(b"!").unwrap();
    b.flush().unwrap();
    assert_eq!(content(&b), b"plain text!");
}

// Against the model.

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n.max(1)
    }

    /// Mostly small, now and then long enough for the next class of blocks.
    fn size(&mut self) -> usize {
        match self.below(20) {
            0 => self.below(70_000),
            1..=3 => self.below(5000),
            4 => 0,
            _ => self.below(100),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let n = self.size();
        let seed = self.next();
        (0..n).map(|i| b"ab\r\n\0cdefgh"[(seed.rotate_left(i as u32 % 61) as usize + i) % 11]).collect()
    }
}

struct Modelled {
    real: Evbuffer,
    model: Vec<u8>,
    front_frozen: bool,
    back_frozen: bool,
    /// What the watcher has been told: the length, and the number of calls.
    told: Rc<Cell<(usize, usize)>>,
    /// Which bytes came neither from a file nor by reference. `pull_up` makes more of them, uncounted here.
    referable: Vec<bool>,
}

impl Modelled {
    fn new() -> Modelled {
        let told = Rc::new(Cell::new((0, 0)));
        let real = Evbuffer::new();
        let t = told.clone();
        real.on_change(move |b, c| {
            let (len, calls) = t.get();
            assert_eq!(c.original, len, "each change begins where the last one ended");
            assert!(c.added + c.deleted > 0);
            assert_eq!(b.len(), len + c.added - c.deleted);
            t.set((b.len(), calls + 1));
        });
        Modelled {
            real,
            model: Vec::new(),
            front_frozen: false,
            back_frozen: false,
            told,
            referable: Vec::new(),
        }
    }

    fn add(&mut self, bytes: &[u8], referable: bool) {
        self.model.extend_from_slice(bytes);
        self.referable.extend(bytes.iter().map(|_| referable));
    }

    fn owned_or_shared(&self) -> bool {
        !self.referable.contains(&false)
    }

    fn cut(&mut self, n: usize) -> (Vec<u8>, Vec<bool>) {
        (self.model.drain(..n).collect(), self.referable.drain(..n).collect())
    }

    fn check(&self, random: &mut Random, whole: bool) {
        self.real.validate().unwrap();
        assert_eq!(self.real.len(), self.model.len());
        assert_eq!(self.told.get().0, self.model.len(), "the sums of the watcher");
        if self.front_frozen {
            return;
        }
        let at = if whole { 0 } else { random.below(self.model.len() + 1) };
        let mut bytes = vec![0; if whole { self.model.len() } else { random.below(200) }];
        let n = self.real.copy_out(at, &mut bytes).unwrap();
        assert_eq!(n, bytes.len().min(self.model.len() - at));
        assert!(bytes[..n] == self.model[at..at + n]);
    }
}

#[test]
fn agrees_with_a_vec_over_a_hundred_thousand_steps() {
    for seed in 1..=6 {
        run_against_the_model(seed, 20_000);
    }
}

fn run_against_the_model(seed: u64, steps: usize) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let on_disk: Vec<u8> = (0..100_000u32).map(|i| b"\nfile\r\n "[i as usize * 7 % 8]).collect();
    let part = FileSegment::new(file(&on_disk), 100, 99_000).unwrap();
    let (out, inward) = sockets();
    let (owners, drops) = (Cell::new(0), Rc::new(Cell::new(0)));
    let mut all = [Modelled::new(), Modelled::new(), Modelled::new()];
    for step in 0..steps {
        let i = random.below(3);
        let j = (i + 1 + random.below(2)) % 3;
        let Ok([m, o]) = all.get_disjoint_mut([i, j]) else { unreachable!() };
        if m.model.len() > 150_000 && !m.front_frozen {
            let n = random.below(m.model.len() + 2);
            assert_eq!(m.real.drain(n).unwrap(), n.min(m.model.len()));
            m.cut(n.min(m.model.len()));
        }
        let calls = m.told.get().1;
        let (front, back) = (m.front_frozen, m.back_frozen);
        match random.below(25) {
            0..=3 => {
                let bytes = random.bytes();
                let result = m.real.append(&bytes);
                assert_eq!(result.is_ok(), !back);
                if !back {
                    m.add(&bytes, true);
                    assert_eq!(m.told.get().1 - calls, usize::from(!bytes.is_empty()));
                }
            }
            4 => {
                let bytes = random.bytes();
                let refused = front && !bytes.is_empty();
                assert_eq!(m.real.prepend(&bytes).is_err(), refused);
                if !refused {
                    m.referable.splice(0..0, bytes.iter().map(|_| true));
                    m.model.splice(0..0, bytes);
                }
            }
            5 | 6 => {
                let n = random.size();
                let refused = front && !m.model.is_empty();
                let result = m.real.drain(n);
                assert_eq!(result.is_err(), refused);
                if !refused {
                    let n = n.min(m.model.len());
                    assert_eq!(result.unwrap(), n);
                    m.cut(n);
                }
            }
            7 | 8 => {
                let mut into = vec![0; random.size()];
                let refused = front && !m.model.is_empty() && !into.is_empty();
                let result = m.real.remove(&mut into);
                assert_eq!(result.is_err(), refused);
                if !refused {
                    let n = into.len().min(m.model.len());
                    assert_eq!(result.unwrap(), n);
                    assert!(into[..n] == m.cut(n).0);
                }
            }
            9 => {
                let bytes = random.bytes();
                owners.set(owners.get() + 1);
                let result = m.real.append_shared(Owner { bytes: bytes.clone(), drops: drops.clone() });
                assert_eq!(result.is_err(), back);
                if !back {
                    m.add(&bytes, true);
                }
            }
            10 => {
                let from = random.below(99_000);
                let to = from + random.size().min(99_000 - from);
                let result = m.real.append_file(&part, from as u64..to as u64);
                assert_eq!(result.is_err(), back);
                if !back {
                    m.add(&on_disk[100 + from..100 + to], false);
                }
            }
            11 => {
                let result = m.real.append_shared_from(&o.real);
                match &result {
                    Ok(()) => assert!(o.model.is_empty() || !back),
                    Err(Error::NotReferable) => assert!(!o.owned_or_shared()),
                    Err(_) => assert!(back),
                }
                if result.is_ok() {
                    m.add(&o.model, false);
                }
            }
            12 | 13 => {
                let refused = !o.model.is_empty() && (back || o.front_frozen);
                assert_eq!(m.real.append_buffer(&o.real).is_err(), refused);
                if !refused {
                    let (bytes, kinds) = o.cut(o.model.len());
                    m.model.extend(bytes);
                    m.referable.extend(kinds);
                }
            }
            14 => {
                let refused = !o.model.is_empty() && (front || o.front_frozen);
                assert_eq!(m.real.prepend_buffer(&o.real).is_err(), refused);
                if !refused {
                    let (bytes, kinds) = o.cut(o.model.len());
                    m.model.splice(0..0, bytes);
                    m.referable.splice(0..0, kinds);
                }
            }
            15 | 16 => {
                let n = random.size();
                let refused = n > 0 && (front || o.back_frozen);
                let result = m.real.remove_buffer(&o.real, n);
                assert_eq!(result.is_err(), refused);
                if !refused {
                    let n = n.min(m.model.len());
                    assert_eq!(result.unwrap(), n);
                    let (bytes, kinds) = m.cut(n);
                    o.model.extend(bytes);
                    o.referable.extend(kinds);
                }
            }
            17 => {
                let n = if random.below(8) == 0 { usize::MAX } else { random.size() };
                let wanted = if n == usize::MAX { m.model.len() } else { n };
                let pulled = m.real.pull_up(n).unwrap();
                assert_eq!(pulled.is_some(), wanted > 0 && wanted <= m.model.len());
                if let Some(mut bytes) = pulled {
                    assert!(*bytes == m.model[..wanted]);
                    if random.below(2) == 0 {
                        bytes[wanted - 1] = b'!';
                        m.model[wanted - 1] = b'!';
                    }
                    drop(bytes);
                }
            }
            18 => {
                let n = random.size();
                let bytes = vec![b'r'; n];
                let result = m.real.reserve(n).and_then(|mut room| {
                    room[..n].copy_from_slice(&bytes);
                    room.commit(n)
                });
                assert_eq!(result.is_err(), back);
                if !back {
                    m.add(&bytes, true);
                }
            }
            19 => {
                let eol = STYLES[random.below(5)];
                let at = random.below(m.model.len() + 1);
                assert_eq!(m.real.find_eol(at, eol).unwrap(), model_eol(&m.model, at, eol));
                if !front {
                    let expected = model_eol(&m.model, 0, eol);
                    let line = m.real.read_line(eol).unwrap();
                    assert_eq!(line.is_some(), expected.is_some());
                    if let (Some(line), Some((at, mark))) = (line, expected) {
                        assert!(line == m.model[..at]);
                        m.cut(at + mark);
                    }
                }
            }
            20 => {
                let from = random.below(m.model.len() + 1);
                let to = random.below(m.model.len() + 1).max(from);
                let len = random.below(6).min(m.model.len() - from);
                let at = from + random.below(m.model.len() - from - len + 1);
                let wanted = m.model[at..at + len].to_vec();
                let model = match len {
                    0 => Some(from),
                    _ => m.model[from..to].windows(len).position(|w| w == wanted).map(|i| i + from),
                };
                assert_eq!(m.real.find(&wanted, from..to).unwrap(), model);
            }
            21 => {
                let (from, to) = (random.below(m.model.len() + 1), random.below(m.model.len() + 1));
                let seen: Vec<u8> = m.real.peek(from..to).unwrap().slices().flatten().copied().collect();
                assert!(m.model[from..to.max(from)].starts_with(&seen));
            }
            22 => {
                let max = random.size();
                let n = match m.real.write_to(&out, Some(max)) {
                    Ok(n) => n,
                    Err(Error::Empty) if max == 0 || m.model.is_empty() => 0,
                    Err(Error::Frozen { .. }) if front => 0,
                    Err(e) => panic!("{e}"),
                };
                let (bytes, _) = m.cut(n);
                o.real.unfreeze(End::Back);
                o.back_frozen = false;
                let mut left = n;
                while left > 0 {
                    left -= o.real.read_from(&inward, left).unwrap();
                }
                o.add(&bytes, true);
                assert!(would_block(o.real.read_from(inward.as_fd(), 10)));
            }
            23 => {
                m.front_frozen = random.below(3) == 0;
                m.back_frozen = random.below(3) == 0;
                for (end, frozen) in [(End::Front, m.front_frozen), (End::Back, m.back_frozen)] {
                    if frozen { m.real.freeze(end) } else { m.real.unfreeze(end) }
                }
            }
            _ => m.real.expand(random.size()).unwrap(),
        }
        m.check(&mut random, step % 32 == 0);
        o.check(&mut random, step % 32 == 0);
    }
    for m in &all {
        m.real.unfreeze(End::Front);
        m.check(&mut random, true);
        m.real.drain(usize::MAX).unwrap();
    }
    drop(all);
    assert_eq!(drops.get(), owners.get(), "every owner was dropped exactly once");
}
