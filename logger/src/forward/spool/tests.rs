//! A spool as a whole: what comes out, what is counted, what is said.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::segment::{HEADER, LONGEST, Record, TooLong};
use super::sender::BLOCK;
use super::stream::Counts;
use super::*;

/// A folder, and what its spools have reported.
struct Place {
    folder: tempfile::TempDir,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), reports: Arc::default() }
    }

    fn try_open(&self, streams: u32, max_bytes: u64) -> Result<Spool, Error> {
        let reports = Arc::clone(&self.reports);
        let reporter: Reporter = Arc::new(move |report| reports.lock().unwrap().push(report.clone()));
        let options = SpoolOptions { streams, segment_bytes: LEAST_SEGMENT, max_bytes };
        Spool::open(self.folder.path(), &options, reporter)
    }

    fn open(&self) -> (Writer, Reader) {
        let (mut writers, mut readers) = self.try_open(1, 1 << 30).unwrap().into_streams();
        assert_eq!((writers.len(), readers.len()), (1, 1));
        (writers.remove(0), readers.remove(0))
    }

    fn reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(self.path("stream-0")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        paths
    }
}

fn push<D: writer::Disk>(writer: &mut Writer<D>, payload: &[u8]) -> u64 {
    writer
        .push(|sequence, out| {
            out.extend_from_slice(format!("{sequence} ").as_bytes());
            out.extend_from_slice(payload);
        })
        .unwrap()
}

/// Pushes and writes `count` records of `size` bytes in a segment, and gives their sequences.
fn write<D: writer::Disk>(writer: &mut Writer<D>, count: usize, size: usize) -> Vec<u64> {
    let mut sequences = Vec::new();
    for _ in 0..count {
        let number = writer.push(|sequence, out| out.extend_from_slice(sized(sequence, size).as_bytes()));
        sequences.push(number.unwrap());
    }
    assert!(writer.write().unwrap());
    sequences
}

fn sized(sequence: u64, size: usize) -> String {
    let digits = sequence.to_string();
    "0".repeat(size - HEADER - digits.len()) + &digits
}

/// Everything that is there now. Each payload begins with its sequence or ends with it.
fn drain(reader: &mut Reader) -> Vec<u64> {
    let mut sequences = Vec::new();
    while let Some(record) = reader.next() {
        let text = std::str::from_utf8(record.payload).unwrap();
        let number = text.split(' ').next().unwrap();
        assert_eq!(number.parse::<u64>().unwrap(), record.sequence);
        sequences.push(record.sequence);
    }
    sequences
}

fn counts(reader: &Reader) -> (u64, u64, u64, u64) {
    let counts = reader.shared().counts();
    (counts.acknowledged, counts.dropped, counts.damaged, counts.waiting)
}

#[test]
fn there_and_back() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    assert_eq!(reader.next(), None);
    assert!(!writer.write().unwrap() && !reader.has_more() && reader.is_drained());
    for (sequence, payload) in [(1, "first"), (2, ""), (3, "zwölf")] {
        assert_eq!(writer.push(|_, out| out.extend_from_slice(payload.as_bytes())), Ok(sequence));
    }
    assert_eq!(reader.next(), None);
    assert!(writer.pending() > 0 && writer.write().unwrap());
    assert!(writer.pending() == 0 && reader.has_more() && !reader.is_drained());
    assert_eq!(reader.next(), Some(Record { sequence: 1, payload: b"first" }));
    assert_eq!(reader.next(), Some(Record { sequence: 2, payload: b"" }));
    assert_eq!(reader.next(), Some(Record { sequence: 3, payload: "zwölf".as_bytes() }));
    assert_eq!(reader.next(), None);
    assert!(!reader.has_more());
    reader.acknowledge(2);
    reader.rewind();
    assert!(reader.has_more());
    assert_eq!(drain_raw(&mut reader), [3]);
    reader.acknowledge(3);
    assert!(reader.is_drained());
    assert_eq!(counts(&reader), (3, 0, 0, 0));
    assert_eq!(place.reports(), []);
}

fn drain_raw(reader: &mut Reader) -> Vec<u64> {
    std::iter::from_fn(|| reader.next().map(|record| record.sequence)).collect()
}

#[test]
fn what_is_accepted_survives_and_what_is_not_does_not() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let first = write(&mut writer, 100, 100);
    assert_eq!(drain(&mut reader), first);
    reader.acknowledge(first[59]);
    push(&mut writer, b"never written");
    drop((writer, reader));

    let (mut writer, mut reader) = place.open();
    assert_eq!(counts(&reader), (0, 0, 0, 40));
    let second = write(&mut writer, 100, 100);
    assert_eq!(second[0], BLOCK + 1);
    assert_eq!(drain(&mut reader), [&first[60..], &second[..]].concat());
    reader.acknowledge(*second.last().unwrap());
    assert_eq!(reader.next(), None);
    assert_eq!(place.segments().len(), 1);
    drop((writer, reader));

    let (writer, reader) = place.open();
    assert!(reader.is_drained());
    assert_eq!(place.segments().len(), 0);
    drop((writer, reader));
    assert_eq!(place.reports(), []);
}

#[test]
fn segments_are_whole_and_go_when_acknowledged() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let all = write(&mut writer, 100, 1000);
    assert_eq!(place.segments().len(), 25);
    for path in place.segments() {
        assert_eq!(fs::metadata(path).unwrap().len(), 4000);
    }
    assert_eq!(drain(&mut reader), all);
    reader.acknowledge(7);
    assert_eq!(place.segments().len(), 24);
    reader.acknowledge(8);
    assert_eq!(place.segments().len(), 23);
    reader.acknowledge(100);
    assert_eq!(place.segments().len(), 1);
    assert_eq!(reader.shared().counts().bytes, 4000);
    // The last one goes as soon as another is begun.
    write(&mut writer, 1, 4000);
    assert_eq!(place.segments().len(), 1);
    assert_eq!(place.segments()[0].file_name().unwrap(), "00000000000000000101.seg");
}

#[test]
fn long_records_have_segments_of_their_own() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let mut all = write(&mut writer, 1, 100);
    all.extend(write(&mut writer, 2, 700_000));
    all.extend(write(&mut writer, 1, 100));
    assert_eq!(place.segments().len(), 4);
    assert_eq!(drain(&mut reader), all);
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    push(&mut writer, b"before");
    let refused = writer.push(|_, out| out.resize(out.len() + LONGEST + 1, b'a'));
    assert_eq!(refused, Err(TooLong { bytes: LONGEST + 1 }));
    push(&mut writer, b"after");
    writer.write().unwrap();
    assert_eq!(drain(&mut reader), [1, 2]);
}

#[test]
fn an_acknowledgement_of_what_was_never_handed_out_counts_for_what_was() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    write(&mut writer, 10, 100);
    for _ in 0..4 {
        reader.next().unwrap();
    }
    reader.acknowledge(1000);
    reader.acknowledge(2);
    assert_eq!(counts(&reader), (4, 0, 0, 6));
    reader.rewind();
    assert_eq!(drain(&mut reader), (5..=10).collect::<Vec<_>>());
}

#[test]
fn a_second_one_is_refused() {
    let place = Place::new();
    let spool = place.try_open(2, 1 << 20).unwrap();
    let error = place.try_open(2, 1 << 20).unwrap_err();
    assert!(matches!(&error, Error::SpoolInUse { path } if path == place.folder.path()), "{error}");
    let (writers, readers) = spool.into_streams();
    drop(writers);
    assert!(matches!(place.try_open(2, 1 << 20), Err(Error::SpoolInUse { .. })));
    drop(readers);
    place.try_open(2, 1 << 20).unwrap();
}

#[test]
fn a_folder_that_cannot_be_is_an_error() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let reporter: Reporter = Arc::new(|_| ());
    let error = Spool::open(&place.path("file"), &SpoolOptions::default(), reporter).unwrap_err();
    assert!(error.to_string().starts_with("the spool cannot make the folder"), "{error}");

    fs::write(place.path("stream-0"), "").unwrap();
    let error = place.try_open(1, 1 << 20).unwrap_err();
    assert!(error.to_string().contains("stream-0"), "{error}");
}

#[test]
fn another_format_is_an_error() {
    let place = Place::new();
    fs::write(place.path("sender"), checked::seal("format 2\n")).unwrap();
    let error = place.try_open(1, 1 << 20).unwrap_err();
    assert!(matches!(&error, Error::SpoolFormat { format, .. } if format == "2"), "{error}");
}

#[test]
fn the_sender_stays() {
    let place = Place::new();
    let sender = place.try_open(1, 1 << 20).unwrap().sender();
    assert_eq!(place.try_open(3, 1 << 20).unwrap().sender(), sender);
}

#[test]
fn a_lost_sender_costs_no_record_and_no_sequence() {
    for damage in [None, Some("garbage")] {
        let place = Place::new();
        let spool = place.try_open(1, 1 << 20).unwrap();
        let sender = spool.sender();
        let (mut writers, mut readers) = spool.into_streams();
        let old = write(&mut writers[0], 10, 100);
        assert_eq!(drain(&mut readers[0]), old);
        readers[0].acknowledge(3);
        drop((writers, readers));
        match damage {
            None => fs::remove_file(place.path("sender")).unwrap(),
            Some(text) => fs::write(place.path("sender"), text).unwrap(),
        }
        let spool = place.try_open(1, 1 << 20).unwrap();
        assert_ne!(spool.sender(), sender);
        let reports = place.reports();
        assert!(
            matches!(&reports[..], [Report::Failed { path, .. }] if *path == place.path("sender")),
            "{reports:?}"
        );
        let (mut writers, mut readers) = spool.into_streams();
        let new = write(&mut writers[0], 1, 100);
        assert!(new[0] > old[9]);
        assert_eq!(drain(&mut readers[0]), [&old[3..], &new[..]].concat());
    }
}

#[test]
fn a_lost_sender_and_no_segments_still_costs_no_record() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let old = write(&mut writer, 10, 100);
    drain(&mut reader);
    reader.acknowledge(10);
    drop((writer, reader));
    fs::remove_file(place.path("sender")).unwrap();
    assert!(place.segments().is_empty());

    // What `acked` speaks of is not used again.
    let (mut writer, mut reader) = place.open();
    let new = write(&mut writer, 1, 100);
    assert!(new[0] > old[9]);
    assert_eq!(drain(&mut reader), new);
}

#[test]
fn no_sequence_is_used_twice_when_the_disk_forgot_the_newest_segment() {
    let place = Place::new();
    for run in 0..3 {
        let (mut writer, mut reader) = place.open();
        let all = write(&mut writer, 10, 100);
        assert_eq!(all[0], run * BLOCK + 1);
        assert_eq!(drain(&mut reader), all);
        drop((writer, reader));
        let segments = place.segments();
        let newest = segments.last().unwrap();
        match run {
            1 => fs::remove_file(newest).unwrap(),
            _ => File::options().write(true).open(newest).unwrap().set_len(0).unwrap(),
        }
    }
    let (_, reader) = place.open();
    assert!(reader.is_drained());
    assert!(place.segments().is_empty());
    assert_eq!(place.reports(), []);
}

#[test]
fn damaged_acked_means_everything_is_sent_again() {
    for text in ["garbage", "acked 00000000000000000005\ncrc32 00000000\n", &"x".repeat(1000)] {
        let place = Place::new();
        let (mut writer, mut reader) = place.open();
        let all = write(&mut writer, 10, 100);
        drain(&mut reader);
        reader.acknowledge(5);
        drop((writer, reader));
        fs::write(place.path("stream-0/acked"), text).unwrap();

        let (writer, mut reader) = place.open();
        assert_eq!(drain(&mut reader), all);
        assert!(matches!(&place.reports()[..], [Report::Failed { .. }]));
        reader.acknowledge(6);
        drop((writer, reader));
        let (_, mut reader) = place.open();
        assert_eq!(drain(&mut reader), all[6..]);
        assert_eq!(place.reports(), []);
    }
}

#[test]
fn missing_acked_means_everything_is_sent_again() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let all = write(&mut writer, 10, 100);
    drain(&mut reader);
    reader.acknowledge(5);
    drop((writer, reader));
    fs::remove_file(place.path("stream-0/acked")).unwrap();
    let (_, mut reader) = place.open();
    assert_eq!(drain(&mut reader), all);
    assert_eq!(place.reports(), []);
}

#[test]
fn a_segment_cut_anywhere_loses_what_is_cut() {
    let bytes = {
        let place = Place::new();
        let (mut writer, _) = place.open();
        write(&mut writer, 3, 40);
        fs::read(&place.segments()[0]).unwrap()
    };
    assert_eq!(bytes.len(), 120);
    for end in 0..=bytes.len() {
        let place = Place::new();
        drop(place.open());
        let path = place.path("stream-0/00000000000000000001.seg");
        fs::write(&path, &bytes[..end]).unwrap();
        let (mut writer, mut reader) = place.open();
        let whole = end as u64 / 40;
        assert_eq!(counts(&reader).3, whole);
        assert_eq!(path.exists(), whole > 0);
        let new = write(&mut writer, 1, 40);
        let mut expected: Vec<u64> = (1..=whole).collect();
        expected.extend(&new);
        assert_eq!(drain(&mut reader), expected, "{end}");
        reader.acknowledge(new[0]);
        assert!(!path.exists());
        assert_eq!(counts(&reader), (whole + 1, 0, 0, 0));
        // The beginning of a record without its end never counted.
        assert_eq!(place.reports(), [], "{end}");
    }
}

#[test]
fn a_segment_in_the_middle_that_is_cut_says_what_is_missing() {
    for end in (0..4000).step_by(37) {
        let place = Place::new();
        let (mut writer, reader) = place.open();
        let all = write(&mut writer, 12, 1000);
        drop((writer, reader));
        let path = place.segments().remove(1);
        File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
        let (_writer, mut reader) = place.open();
        assert_eq!(counts(&reader).3, 12);
        let whole = 4 + end as usize / 1000;
        assert_eq!(drain(&mut reader), [&all[..whole], &all[8..]].concat());
        let missing = 8 - whole as u64;
        assert_eq!(counts(&reader), (0, 0, missing, 12 - missing));
        let (offset, bytes) = (end / 1000 * 1000, end % 1000);
        let report = Report::Damaged { path, offset, bytes, records: Some(missing) };
        assert_eq!(place.reports(), [report]);
    }
}

#[test]
fn every_flipped_byte_costs_its_record_and_is_said_once() {
    let bytes = {
        let place = Place::new();
        let (mut writer, _) = place.open();
        write(&mut writer, 3, 32);
        fs::read(&place.segments()[0]).unwrap()
    };
    for at in 0..bytes.len() {
        let mask = if at % 2 == 0 { 1 } else { 0xff };
        let mut damaged = bytes.clone();
        damaged[at] ^= mask;
        let place = Place::new();
        drop(place.open());
        let path = place.path("stream-0/00000000000000000001.seg");
        fs::write(&path, &damaged).unwrap();
        let (mut writer, mut reader) = place.open();
        let new = write(&mut writer, 1, 32);
        let hit = at as u64 / 32 + 1;
        let mut expected: Vec<u64> = (1..=3).filter(|sequence| *sequence != hit).collect();
        expected.extend(&new);
        for _ in 0..2 {
            assert_eq!(drain(&mut reader), expected, "{at} {mask:#x}");
            reader.rewind();
        }
        // Whether bytes at the end were a record shows only if their header is whole.
        let is_known = hit < 3 || at >= 64 + HEADER;
        let offset = (hit - 1) * 32;
        let records = is_known.then_some(1);
        assert_eq!(place.reports(), [Report::Damaged { path: path.clone(), offset, bytes: 32, records }]);
        assert_eq!(counts(&reader), (0, 0, u64::from(is_known), 3));
        assert_eq!(drain(&mut reader), expected);
        reader.acknowledge(new[0]);
        assert!(!path.exists());
        assert_eq!(counts(&reader), (3, 0, u64::from(is_known), 0));
    }
}

#[test]
fn garbage_is_said_and_goes() {
    let place = Place::new();
    let (mut writer, reader) = place.open();
    let all = write(&mut writer, 5, 100);
    drop((writer, reader));
    let path = place.path("stream-0/00000000000000000900.seg");
    fs::write(&path, b"\xffrec, but not really \xff\xff\xff".repeat(1000)).unwrap();
    fs::write(place.path("stream-0/09999999999999999999.seg"), "no such sequence").unwrap();
    fs::write(place.path("stream-0/notes.txt"), "someone's").unwrap();
    fs::create_dir(place.path("stream-0/00000000000000000950.seg")).unwrap();
    let (mut writer, mut reader) = place.open();
    let new = write(&mut writer, 5, 100);
    assert_eq!(drain(&mut reader).last(), new.last());
    assert!(!path.exists() || !all.is_empty());
    reader.acknowledge(*new.last().unwrap());
    assert!(!path.exists());
    assert!(place.path("stream-0/notes.txt").exists());
    let reports = place.reports();
    assert_eq!(
        reports.iter().filter(|report| matches!(report, Report::Failed { .. })).count(),
        2,
        "{reports:?}"
    );
    // Five records do not reach to 900, which begins no block, so something is missing in the first segment.
    assert!(
        reports.iter().any(|report| matches!(report, Report::Damaged { records: Some(894), .. })),
        "{reports:?}"
    );
    let damaged =
        |report: &&Report| matches!(report, Report::Damaged { records: None, path: is, .. } if *is == path);
    assert_eq!(reports.iter().filter(damaged).count(), 1, "{reports:?}");
}

#[test]
fn garbage_alone_goes_by_itself() {
    let place = Place::new();
    drop(place.open());
    let path = place.path("stream-0/00000000000000000001.seg");
    fs::write(&path, [0; 5000]).unwrap();
    let (_writer, mut reader) = place.open();
    assert!(!reader.is_drained());
    assert_eq!(reader.next(), None);
    assert!(reader.is_drained() && !path.exists());
    assert_eq!(place.reports(), [Report::Damaged { path, offset: 0, bytes: 5000, records: None }]);
}

#[test]
fn damage_that_comes_while_it_is_written() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    write(&mut writer, 3, 100);
    let file = File::options().write(true).open(&place.segments()[0]).unwrap();
    file.write_all_at(b"x", 150).unwrap();
    assert_eq!(drain(&mut reader), [1, 3]);
    write(&mut writer, 2, 100);
    file.write_all_at(b"x", 410).unwrap();
    assert_eq!(drain(&mut reader), [4]);
    write(&mut writer, 1, 100);
    assert_eq!(drain(&mut reader), [6]);
    assert_eq!(counts(&reader), (0, 0, 2, 4));
    let path = place.segments().remove(0);
    let damaged = |offset| Report::Damaged { path: path.clone(), offset, bytes: 100, records: Some(1) };
    assert_eq!(place.reports(), [damaged(100), damaged(400)]);
    reader.rewind();
    assert_eq!(drain(&mut reader), [1, 3, 4, 6]);
    assert_eq!(place.reports(), []);
}

#[test]
fn damage_among_acknowledged_records_is_no_matter() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    write(&mut writer, 10, 100);
    drain(&mut reader);
    reader.acknowledge(5);
    drop((writer, reader));
    File::options().write(true).open(&place.segments()[0]).unwrap().write_all_at(b"x", 250).unwrap();
    let (_writer, mut reader) = place.open();
    assert_eq!(drain(&mut reader), [6, 7, 8, 9, 10]);
    assert_eq!(counts(&reader), (0, 0, 0, 5));
    assert_eq!(place.reports(), []);
}

#[test]
fn a_vanished_segment_costs_its_records() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let all = write(&mut writer, 16, 1000);
    let path = place.segments().remove(1);
    fs::remove_file(&path).unwrap();
    assert_eq!(drain(&mut reader), [&all[..4], &all[8..]].concat());
    assert_eq!(counts(&reader), (0, 0, 4, 12));
    let reports = place.reports();
    assert!(matches!(&reports[..], [Report::Failed { path: is, .. }] if *is == path), "{reports:?}");
    reader.rewind();
    assert_eq!(drain(&mut reader), [&all[..4], &all[8..]].concat());
    assert_eq!(place.reports(), []);
    reader.acknowledge(16);
    assert_eq!(counts(&reader), (12, 0, 4, 0));
    assert_eq!(place.segments().len(), 1);
}

#[test]
fn a_vanished_segment_that_is_being_written_is_not_written_to_any_longer() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    write(&mut writer, 3, 100);
    fs::remove_file(&place.segments()[0]).unwrap();
    assert_eq!(reader.next(), None);
    assert!(!reader.has_more() && !reader.is_stalled());
    assert_eq!(reader.next(), None);
    write(&mut writer, 3, 100);
    assert_eq!(drain(&mut reader), [4, 5, 6]);
    assert_eq!(counts(&reader), (0, 0, 3, 3));
    assert_eq!(place.reports().len(), 1);
    reader.rewind();
    assert_eq!(drain(&mut reader), [4, 5, 6]);
}

#[test]
fn what_cannot_be_read_is_skipped_and_kept() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let all = write(&mut writer, 16, 1000);
    let path = place.segments().remove(1);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(drain(&mut reader), [&all[..4], &all[8..]].concat());
    assert_eq!(place.reports().len(), 1);
    reader.acknowledge(16);
    assert_eq!(counts(&reader), (12, 0, 4, 0));
    assert!(path.exists());
    assert_eq!(place.reports(), []);
}

#[test]
fn a_failure_that_may_pass_stalls_the_reader() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let all = write(&mut writer, 16, 1000);
    let path = place.segments().remove(1);
    let aside = place.path("aside");
    fs::rename(&path, &aside).unwrap();
    // Too many links, as there might be too many open files.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert_eq!(drain(&mut reader), all[..4]);
    for _ in 0..3 {
        assert_eq!(reader.next(), None);
        assert!(reader.is_stalled() && reader.has_more());
    }
    let reports = place.reports();
    assert!(matches!(&reports[..], [Report::Failed { path: is, .. }] if *is == path), "{reports:?}");
    fs::rename(&aside, &path).unwrap();
    assert_eq!(drain(&mut reader), all[4..]);
    assert!(!reader.is_stalled());
    assert_eq!(counts(&reader), (0, 0, 0, 16));
}

#[test]
fn the_bound_drops_the_oldest_and_counts_what_was_not_sent() {
    let place = Place::new();
    let (mut writers, mut readers) = place.try_open(1, 12_000).unwrap().into_streams();
    let (mut writer, mut reader) = (writers.remove(0), readers.remove(0));
    write(&mut writer, 12, 1000);
    assert_eq!(counts(&reader), (0, 0, 0, 12));
    assert_eq!(place.reports(), []);
    for sequence in 1..=6 {
        assert_eq!(reader.next().unwrap().sequence, sequence);
    }
    reader.acknowledge(1);
    // The first segment goes: one record was acknowledged, three are on their way.
    write(&mut writer, 1, 1000);
    assert_eq!(counts(&reader), (1, 0, 0, 12));
    assert_eq!(place.reports(), []);
    // The second: two are on their way, two were not sent.
    write(&mut writer, 3, 1000);
    assert_eq!(counts(&reader), (1, 0, 0, 15));
    write(&mut writer, 1, 1000);
    assert_eq!(counts(&reader), (1, 2, 0, 14));
    assert_eq!(place.reports(), [Report::Dropped { stream: 0, records: 2, bytes: 4000 }]);
    // The reader goes on with what is kept.
    assert_eq!(reader.next().unwrap().sequence, 9);
    // One more of those on their way arrives; the others are lost with the connection.
    reader.acknowledge(2);
    assert_eq!(counts(&reader), (2, 2, 0, 13));
    reader.rewind();
    assert_eq!(counts(&reader), (2, 6, 0, 9));
    assert_eq!(place.reports(), [Report::Dropped { stream: 0, records: 4, bytes: 4000 }]);
    assert_eq!(drain(&mut reader), (9..=17).collect::<Vec<_>>());
    reader.acknowledge(17);
    assert_eq!(counts(&reader), (11, 6, 0, 0));
    assert_eq!(reader.shared().counts().spooled, 17);
}

#[test]
fn the_segment_being_written_is_never_dropped() {
    let place = Place::new();
    let (mut writers, mut readers) = place.try_open(1, 8192).unwrap().into_streams();
    let (mut writer, mut reader) = (writers.remove(0), readers.remove(0));
    write(&mut writer, 1, 100);
    write(&mut writer, 1, 1_000_000);
    assert_eq!(counts(&reader), (0, 1, 0, 1));
    assert_eq!(drain(&mut reader), [2]);
    write(&mut writer, 1, 100);
    assert_eq!(counts(&reader), (0, 1, 0, 2));
    assert_eq!(place.segments().len(), 1);
    reader.rewind();
    assert_eq!(drain(&mut reader), [3]);
    assert_eq!(counts(&reader), (0, 2, 0, 1));
}

#[test]
fn each_stream_has_its_share_and_its_own_sequences() {
    let place = Place::new();
    let (mut writers, mut readers) = place.try_open(3, 3 * 8192).unwrap().into_streams();
    for (writer, count) in writers.iter_mut().zip([3, 20, 5]) {
        write(writer, count, 1000);
    }
    let left: Vec<usize> = readers.iter_mut().map(|reader| drain(reader).len()).collect();
    assert_eq!(left, [3, 8, 5]);
    let numbers: Vec<u32> = readers.iter().map(Reader::stream).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

#[test]
fn streams_of_an_earlier_run_are_sent_too_and_go_when_drained() {
    let place = Place::new();
    let (mut writers, readers) = place.try_open(4, 1 << 20).unwrap().into_streams();
    write(&mut writers[0], 3, 100);
    write(&mut writers[2], 4, 100);
    drop((writers, readers));
    let (writers, mut readers) = place.try_open(1, 1 << 20).unwrap().into_streams();
    assert_eq!(writers.len(), 1);
    assert_eq!(readers.iter().map(Reader::stream).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(readers.iter().map(Reader::is_orphan).collect::<Vec<_>>(), [false, true]);
    assert!(!place.path("stream-1").exists() && !place.path("stream-3").exists());
    assert_eq!(drain(&mut readers[1]), [1, 2, 3, 4]);
    readers[1].acknowledge(3);
    assert!(place.path("stream-2").exists());
    readers[1].acknowledge(4);
    assert!(!place.path("stream-2").exists());
    assert!(readers[1].is_drained());
    readers[1].rewind();
    assert_eq!(readers[1].next(), None);
    drop((writers, readers));

    // A stream that comes back begins behind what it had.
    let (mut writers, _readers) = place.try_open(3, 1 << 20).unwrap().into_streams();
    assert_eq!(write(&mut writers[2], 1, 100), [2 * BLOCK + 1]);
    assert_eq!(place.reports(), []);
}

#[test]
fn a_stream_goes_on_behind_its_block() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    let sender = || fs::read_to_string(place.path("sender")).unwrap();
    writer.skip_to(BLOCK - 2);
    assert!(sender().contains(&format!("reserved {}\n", BLOCK + 1)));
    let all = write(&mut writer, 5, 1000);
    assert_eq!(all, (BLOCK - 2..BLOCK + 3).collect::<Vec<_>>());
    assert!(sender().contains(&format!("reserved {}\n", 2 * BLOCK + 1)));
    assert_eq!(drain(&mut reader), all);
    drop((writer, reader));
    let (mut writer, mut reader) = place.open();
    assert_eq!(write(&mut writer, 1, 100), [2 * BLOCK + 1]);
    assert_eq!(drain(&mut reader).len(), 6);
    assert_eq!(place.reports(), []);
}

#[test]
fn nothing_is_written_with_a_sequence_that_cannot_be_reserved() {
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    writer.skip_to(BLOCK - 1);
    // The new file cannot be made where a folder stands.
    fs::create_dir(place.path("sender.new")).unwrap();
    for _ in 0..5 {
        push(&mut writer, b"x");
    }
    assert!(writer.write().is_err() && writer.write().is_err());
    assert_eq!(reader.next(), None);
    fs::remove_dir(place.path("sender.new")).unwrap();
    assert!(writer.write().unwrap());
    assert_eq!(drain(&mut reader), (BLOCK - 1..BLOCK + 4).collect::<Vec<_>>());
}

/// A disk that does what it is told to at each call: take so many bytes, or fail.
#[derive(Clone, Default)]
struct Moody {
    moods: Arc<Mutex<VecDeque<Result<usize, ErrorKind>>>>,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

struct MoodyFile {
    file: File,
    moody: Moody,
}

impl Moody {
    fn mood(&self, call: &'static str) -> io::Result<usize> {
        self.calls.lock().unwrap().push(call);
        self.moods.lock().unwrap().pop_front().unwrap_or(Ok(usize::MAX)).map_err(io::Error::from)
    }
}

impl writer::Disk for Moody {
    type File = MoodyFile;

    fn create(&mut self, path: &Path) -> io::Result<MoodyFile> {
        self.mood("create")?;
        let file = writer::Files.create(path)?;
        Ok(MoodyFile { file, moody: self.clone() })
    }

    fn sync(&mut self, file: &MoodyFile) -> io::Result<()> {
        self.mood("sync")?;
        file.file.sync_data()
    }

    fn is_gone(&self, file: &MoodyFile) -> bool {
        writer::Files.is_gone(&file.file)
    }
}

impl Write for MoodyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.moody.mood("write")?;
        self.file.write(&bytes[..bytes.len().min(most)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn moody(place: &Place) -> (Writer<Moody>, Reader, Moody) {
    let (writer, reader) = place.open();
    let moody = Moody::default();
    (writer.on(moody.clone()), reader, moody)
}

#[test]
fn one_call_writes_what_a_segment_takes() {
    let place = Place::new();
    let (mut writer, _reader, moody) = moody(&place);
    write(&mut writer, 9, 1000);
    assert_eq!(*moody.calls.lock().unwrap(), ["create", "write", "create", "write", "create", "write"]);
}

#[test]
fn a_full_disk_costs_nothing_and_goes_on_where_it_was() {
    for taken in (0..3000).step_by(61) {
        let place = Place::new();
        let (mut writer, mut reader, moody) = moody(&place);
        write(&mut writer, 1, 100);
        if taken > 0 {
            moody.moods.lock().unwrap().push_back(Ok(taken));
        }
        moody.moods.lock().unwrap().extend([Err(ErrorKind::StorageFull); 2]);
        for _ in 0..6 {
            writer.push(|sequence, out| out.extend_from_slice(sized(sequence, 500).as_bytes())).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(writer.write().unwrap_err().kind(), ErrorKind::StorageFull);
        }
        let accepted = 1 + taken as u64 / 500;
        assert_eq!(drain(&mut reader), (1..=accepted).collect::<Vec<_>>());
        assert_eq!(writer.pending(), (7 - accepted as usize) * 500);
        // Killed now, the accepted ones are there, and no more.
        let copy = Place::new();
        fs::create_dir(copy.path("stream-0")).unwrap();
        for path in place.segments() {
            fs::copy(&path, copy.path("stream-0").join(path.file_name().unwrap())).unwrap();
        }
        fs::copy(place.path("sender"), copy.path("sender")).unwrap();
        assert_eq!(drain(&mut copy.open().1), (1..=accepted).collect::<Vec<_>>());
        assert_eq!(copy.reports(), []);

        assert!(writer.write().unwrap());
        assert_eq!(drain(&mut reader), (accepted + 1..=7).collect::<Vec<_>>());
        assert_eq!(place.segments().len(), 1);
        assert_eq!(fs::metadata(&place.segments()[0]).unwrap().len(), 3100);
        assert_eq!(place.reports(), []);
    }
}

#[test]
fn a_segment_that_fails_is_left_for_another() {
    for taken in (0..1400).step_by(61) {
        let place = Place::new();
        let (mut writer, mut reader, moody) = moody(&place);
        write(&mut writer, 1, 100);
        if taken > 0 {
            moody.moods.lock().unwrap().push_back(Ok(taken));
        }
        moody.moods.lock().unwrap().push_back(Err(ErrorKind::Other));
        for _ in 0..3 {
            writer.push(|sequence, out| out.extend_from_slice(sized(sequence, 500).as_bytes())).unwrap();
        }
        assert!(writer.write().is_err());
        assert!(writer.write().unwrap());
        assert_eq!(place.segments().len(), 2);
        assert_eq!(drain(&mut reader), [1, 2, 3, 4]);
        drop((writer, reader));
        let (_writer, mut reader) = place.open();
        assert_eq!(counts(&reader).3, 4);
        assert_eq!(drain(&mut reader), [1, 2, 3, 4]);
        assert_eq!(place.reports(), []);
    }
}

#[test]
fn a_segment_that_never_takes_anything_leaves_no_file() {
    let place = Place::new();
    let (mut writer, mut reader, moody) = moody(&place);
    moody.moods.lock().unwrap().extend([
        Err(ErrorKind::StorageFull),
        Ok(0),
        Err(ErrorKind::Other),
        Ok(0),
        Ok(0),
        Ok(0),
        Ok(10),
        Err(ErrorKind::Other),
    ]);
    push(&mut writer, b"x");
    let mut failures = 0;
    while writer.write().is_err() {
        failures += 1;
        assert!(place.segments().is_empty());
    }
    assert_eq!(failures, 4);
    assert_eq!(drain(&mut reader), [1]);
    assert_eq!(place.segments().len(), 1);
}

#[test]
fn sync_reaches_all_that_was_written() {
    let place = Place::new();
    let (mut writer, reader, moody) = moody(&place);
    write(&mut writer, 9, 1000);
    let synced =
        || reader.shared().state().segments.iter().map(|segment| segment.is_synced).collect::<Vec<_>>();
    assert_eq!(synced(), [false; 3]);
    moody.calls.lock().unwrap().clear();
    push(&mut writer, b"x");
    assert!(writer.sync().unwrap());
    assert_eq!(synced()[..2], [true; 2]);
    assert_eq!(*moody.calls.lock().unwrap(), ["write", "sync"]);
    // Nothing new, nothing to do.
    assert!(!writer.sync().unwrap());
    assert_eq!(*moody.calls.lock().unwrap(), ["write", "sync"]);
}

#[test]
fn a_sync_that_failed_is_said_and_not_tried_on_the_same_file() {
    let place = Place::new();
    let (mut writer, mut reader, moody) = moody(&place);
    moody.moods.lock().unwrap().extend([Ok(0), Ok(usize::MAX), Err(ErrorKind::Other)]);
    push(&mut writer, b"x");
    assert!(writer.sync().is_err());
    push(&mut writer, b"y");
    assert!(writer.sync().unwrap());
    assert_eq!(place.segments().len(), 2);
    assert_eq!(drain(&mut reader), [1, 2]);
}

#[test]
fn a_reader_and_a_writer_at_once() {
    const RECORDS: u64 = 20_000;
    let place = Place::new();
    let (mut writer, mut reader) = place.open();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for nth in 0..RECORDS {
                push(&mut writer, b"some payload");
                if nth % 7 == 0 {
                    writer.write().unwrap();
                }
            }
            writer.write().unwrap();
        });
        let mut next = 1;
        let mut rewinds = 0;
        while next <= RECORDS {
            let Some(record) = reader.next() else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(record.sequence, next);
            next += 1;
            if next % 100 == 0 {
                reader.acknowledge(next - 30);
            }
            if next % 1000 == 0 && rewinds < 15 {
                rewinds += 1;
                reader.rewind();
                next -= 29;
            }
        }
        reader.acknowledge(RECORDS);
    });
    assert_eq!(reader.next(), None);
    assert_eq!(counts(&reader), (RECORDS, 0, 0, 0));
    assert!(place.segments().is_empty());
    assert_eq!(place.reports(), []);
}

#[derive(Clone, Debug)]
enum Call {
    Push { stream: usize, size: usize },
    Write { stream: usize, syncs: bool },
    Next { stream: usize, count: usize },
    Acknowledge { stream: usize, back: u64 },
    Rewind { stream: usize },
    Reopen { streams: u32 },
}

fn call() -> impl Strategy<Value = Call> {
    let stream = 0..3usize;
    prop_oneof![
        8 => (stream.clone(), 0..1500usize).prop_map(|(stream, size)| Call::Push { stream, size }),
        1 => (stream.clone(), 0..9000usize).prop_map(|(stream, size)| Call::Push { stream, size }),
        5 => (stream.clone(), prop::bool::weighted(0.05)).prop_map(|(stream, syncs)| Call::Write { stream, syncs }),
        5 => (stream.clone(), 1..12usize).prop_map(|(stream, count)| Call::Next { stream, count }),
        3 => (stream.clone(), 0..6u64).prop_map(|(stream, back)| Call::Acknowledge { stream, back }),
        1 => stream.prop_map(|stream| Call::Rewind { stream }),
        1 => (1..=3u32).prop_map(|streams| Call::Reopen { streams }),
    ]
}

/// A stream as simple as can be.
#[derive(Clone, Default)]
struct Model {
    segments: VecDeque<ModelSegment>,
    pending: Vec<(u64, Vec<u8>)>,
    waiting: BTreeSet<u64>,
    sent: u64,
    handed_out: u64,
    acknowledged: u64,
    highest: u64,
    counts: Counts,
}

#[derive(Clone, Default)]
struct ModelSegment {
    records: Vec<(u64, Vec<u8>)>,
    bytes: usize,
    is_open: bool,
}

const SHARE: usize = 3 * LEAST_SEGMENT as usize;

impl Model {
    fn write(&mut self) {
        for (sequence, payload) in std::mem::take(&mut self.pending) {
            let bytes = payload.len() + HEADER;
            let fits =
                |segment: &ModelSegment| segment.is_open && segment.bytes + bytes <= LEAST_SEGMENT as usize;
            if !self.segments.back().is_some_and(fits) {
                if let Some(last) = self.segments.back_mut() {
                    last.is_open = false;
                }
                self.tidy();
                self.segments.push_back(ModelSegment { is_open: true, ..ModelSegment::default() });
            }
            let segment = self.segments.back_mut().unwrap();
            segment.records.push((sequence, payload));
            segment.bytes += bytes;
            self.waiting.insert(sequence);
            self.counts.spooled += 1;
            while self.bytes() > SHARE && !self.segments[0].is_open {
                for (sequence, _) in self.segments.pop_front().unwrap().records {
                    if sequence > self.sent && self.waiting.remove(&sequence) {
                        self.counts.dropped += 1;
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn tidy(&mut self) {
        while self.segments.front().is_some_and(|segment| {
            !segment.is_open && segment.records.iter().all(|(sequence, _)| !self.waiting.contains(sequence))
        }) {
            self.segments.pop_front();
        }
    }

    fn next(&mut self) -> Option<(u64, Vec<u8>)> {
        let records = self.segments.iter().flat_map(|segment| &segment.records);
        let next =
            records.clone().find(|(sequence, _)| *sequence > self.sent && self.waiting.contains(sequence))?;
        let next = next.clone();
        self.sent = next.0;
        self.handed_out = self.handed_out.max(next.0);
        Some(next)
    }

    fn acknowledge(&mut self, through: u64) {
        let through = through.min(self.handed_out);
        if through > self.acknowledged {
            self.acknowledged = through;
            let left = self.waiting.split_off(&(through + 1));
            self.counts.acknowledged += self.waiting.len() as u64;
            self.waiting = left;
            self.tidy();
        }
    }

    fn rewind(&mut self) {
        self.sent = 0;
        let kept: BTreeSet<u64> =
            self.segments.iter().flat_map(|segment| &segment.records).map(|record| record.0).collect();
        let before = self.waiting.len();
        self.waiting.retain(|sequence| kept.contains(sequence));
        self.counts.dropped += (before - self.waiting.len()) as u64;
    }

    fn reopen(&mut self) {
        self.rewind();
        self.counts = Counts::default();
        self.pending.clear();
        self.handed_out = self.acknowledged;
        for segment in &mut self.segments {
            segment.is_open = false;
        }
        self.tidy();
    }

    fn counts(&self) -> Counts {
        Counts { waiting: self.waiting.len() as u64, bytes: self.bytes() as u64, ..self.counts }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn as_a_simple_model(calls in prop::collection::vec(call(), 1..150)) {
        let place = Place::new();
        let open = |streams: u32| {
            let spool = place.try_open(streams, SHARE as u64 * u64::from(streams)).unwrap();
            spool.into_streams()
        };
        let (mut writers, mut readers) = open(3);
        let mut models = vec![Model::default(); 3];
        for call in calls {
            match call {
                Call::Push { stream, size } => {
                    let Some(writer) = writers.get_mut(stream) else { continue };
                    let model = &mut models[stream];
                    let payload = vec![b'a' + (size % 26) as u8; size];
                    let sequence = writer.push(|_, out| out.extend_from_slice(&payload)).unwrap();
                    prop_assert!(sequence > model.highest);
                    model.highest = sequence;
                    model.pending.push((sequence, payload));
                }
                Call::Write { stream, syncs } => {
                    let Some(writer) = writers.get_mut(stream) else { continue };
                    let is_news = !models[stream].pending.is_empty();
                    models[stream].write();
                    let outcome = if syncs { writer.sync() } else { writer.write() };
                    prop_assert_eq!(outcome.unwrap(), is_news);
                }
                Call::Next { stream, count } => {
                    let Some(reader) = find(&mut readers, stream) else { continue };
                    for _ in 0..count {
                        let record = reader.next().map(|record| (record.sequence, record.payload.to_vec()));
                        prop_assert_eq!(record, models[stream].next());
                    }
                }
                Call::Acknowledge { stream, back } => {
                    let Some(reader) = find(&mut readers, stream) else { continue };
                    let model = &mut models[stream];
                    let through = (model.sent + 1).saturating_sub(back);
                    reader.acknowledge(through);
                    model.acknowledge(through);
                }
                Call::Rewind { stream } => {
                    let Some(reader) = find(&mut readers, stream) else { continue };
                    reader.rewind();
                    models[stream].rewind();
                }
                Call::Reopen { streams } => {
                    drop((writers, readers));
                    (writers, readers) = open(streams);
                    prop_assert_eq!(writers.len(), streams as usize);
                    for model in &mut models {
                        model.reopen();
                    }
                }
            }
            for (stream, model) in models.iter().enumerate() {
                match find(&mut readers, stream) {
                    Some(reader) => {
                        prop_assert_eq!(reader.shared().counts(), model.counts());
                        let has_more = model.waiting.last().is_some_and(|last| *last > model.sent);
                        prop_assert_eq!(reader.has_more(), has_more);
                        let is_drained = model.waiting.is_empty() && model.segments.iter().all(|segment| segment.is_open);
                        prop_assert_eq!(reader.is_drained(), is_drained);
                    }
                    None => prop_assert!(model.segments.is_empty()),
                }
            }
        }
        let dropped: u64 = place.reports().iter().map(|report| match report {
            Report::Dropped { records, .. } => *records,
            other => panic!("{other:?}"),
        }).sum();
        let counted: u64 = readers.iter().map(|reader| reader.shared().counts().dropped).sum();
        prop_assert!(dropped >= counted);
    }
}

fn find(readers: &mut [Reader], stream: usize) -> Option<&mut Reader> {
    readers.iter_mut().find(|reader| reader.stream() as usize == stream)
}

/// What can happen to the bytes of a file.
#[derive(Clone, Debug)]
enum Harm {
    Set(Vec<u8>),
    Insert(Vec<u8>),
    Remove(usize),
    Cut,
}

fn harm() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, Harm)> {
    let bytes = || prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff)], 1..300);
    let harm = prop_oneof![
        bytes().prop_map(Harm::Set),
        bytes().prop_map(Harm::Insert),
        (1..300usize).prop_map(Harm::Remove),
        Just(Harm::Cut),
    ];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), harm)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_files_what_comes_out_was_put_in(
        sizes in prop::collection::vec(0..1200usize, 1..40),
        harms in prop::collection::vec(harm(), 1..4),
        is_live in any::<bool>(),
    ) {
        let place = Place::new();
        let (mut writer, mut reader) = place.open();
        let payload = |sequence: u64| vec![b'a' + (sequence % 26) as u8; sizes[sequence as usize - 1]];
        for _ in &sizes {
            writer.push(|sequence, out| out.extend_from_slice(&payload(sequence))).unwrap();
        }
        writer.write().unwrap();
        for (segment, at, harm) in harms {
            let path = segment.get(&place.segments()).clone();
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len() + 1);
            match harm {
                Harm::Set(new) => {
                    let end = bytes.len().min(at + new.len());
                    bytes[at..end].copy_from_slice(&new[..end - at]);
                }
                Harm::Insert(new) => drop(bytes.splice(at..at, new)),
                Harm::Remove(count) => drop(bytes.drain(at..bytes.len().min(at + count))),
                Harm::Cut => bytes.truncate(at),
            }
            fs::write(&path, bytes).unwrap();
        }
        if !is_live {
            drop((writer, reader));
            (writer, reader) = place.open();
        }
        let found = counts(&reader).3;
        let mut handed_out = Vec::new();
        while let Some(record) = reader.next() {
            prop_assert_eq!(record.payload, &payload(record.sequence)[..]);
            handed_out.push(record.sequence);
        }
        prop_assert!(handed_out.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(counts(&reader), (0, 0, found - handed_out.len() as u64, handed_out.len() as u64));
        let reports = place.reports();
        prop_assert!(handed_out.len() as u64 == found || !reports.is_empty());
        reader.rewind();
        let again: Vec<u64> = std::iter::from_fn(|| reader.next().map(|record| record.sequence)).collect();
        prop_assert_eq!(&again, &handed_out);
        prop_assert_eq!(place.reports(), []);
        let next = writer.push(|_, out| out.push(b'x')).unwrap();
        writer.write().unwrap();
        prop_assert_eq!(reader.next().unwrap().sequence, next);
        reader.acknowledge(next);
        prop_assert_eq!(reader.next(), None);
        prop_assert_eq!(counts(&reader).3, 0);
        prop_assert!(place.segments().len() <= 1);
    }
}
