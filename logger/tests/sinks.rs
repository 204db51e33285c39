//! Files that are moved away, that roll, that are compressed; lines as JSON.
#![allow(clippy::unwrap_used)]

mod util;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use logger::sink::{File, Lines, Memory, Rolling, RollingOptions, Sink, Unwritten};
use logger::{Durability, Layout, Level, Logger, Overflow, info};
use proptest::prelude::*;
use util::messages;

/// As logrotate does it: rename, then ask for a new file.
#[test]
fn a_file_is_opened_anew_after_it_was_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("deep/a.log"), folder.path().join("a.log.1"));
    let logger = Logger::builder("reopen").sink(File::open(&path).unwrap()).build().unwrap();
    for round in 0..20 {
        info!(logger: logger, "{round} before");
        logger.flush();
        fs::rename(&path, &moved).unwrap();
        info!(logger: logger, "{round} between");
        logger.reopen();
        info!(logger: logger, "{round} after");
        logger.flush();
        let old = fs::read_to_string(&moved).unwrap();
        let new = fs::read_to_string(&path).unwrap();
        assert!(messages(&old).ends_with(&[&format!("{round} before"), &format!("{round} between")]));
        assert_eq!(messages(&new), [format!("{round} after")]);
    }
}

/// All lines of a rolling log, the oldest first.
fn rolled(folder: &Path) -> (Vec<PathBuf>, String) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // `r-…` comes before `r.log`.
    paths.sort();
    let text = paths.iter().map(|path| read(path)).collect();
    (paths, text)
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    text
}

fn log(folder: &Path, options: RollingOptions, messages: impl Iterator<Item = String>) {
    let rolling = Rolling::open(folder.join("r.log"), options).unwrap();
    let logger = Logger::builder(&folder.to_string_lossy()).half(1024).sink(rolling).build().unwrap();
    for message in messages {
        info!(logger: logger, "{message}");
    }
}

const MAX: u64 = 1000;

fn options(keep: Option<usize>, compress: bool) -> RollingOptions {
    RollingOptions { max_bytes: Some(MAX), daily: false, keep, compress }
}

#[test]
fn rolling_by_size_loses_nothing_and_fills_its_files() {
    for compress in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), options(None, compress), (0..300).map(|nth| nth.to_string()));
        let (paths, text) = rolled(folder.path());
        let expected: Vec<_> = (0..300).map(|nth: u32| nth.to_string()).collect();
        assert_eq!(messages(&text), expected);
        for path in &paths[..paths.len() - 1] {
            let size = read(path).len() as u64;
            assert!(size <= MAX && size + 100 > MAX, "{path:?} has {size} bytes");
            assert_eq!(path.extension().unwrap() == "gz", compress, "{path:?}");
        }
    }
}

#[test]
fn a_line_longer_than_a_file_has_one_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let long = "z".repeat(3 * MAX as usize);
    let lines = ["short".to_owned(), long.clone(), "short".to_owned()];
    log(folder.path(), options(None, false), lines.into_iter());
    let (paths, _) = rolled(folder.path());
    let texts: Vec<_> = paths.iter().map(|path| read(path)).collect();
    assert_eq!(texts.iter().flat_map(|text| messages(text)).collect::<Vec<_>>(), ["short", &long, "short"]);
    assert_eq!(texts.len(), 3);
}

#[test]
fn only_the_newest_old_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path(), options(Some(3), true), (0..500).map(|nth| nth.to_string()));
    let (paths, text) = rolled(folder.path());
    assert_eq!(paths.len(), 4);
    let found = messages(&text);
    let expected: Vec<_> = (500 - found.len()..500).map(|nth| nth.to_string()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_restart_goes_on_counting_and_compresses_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for (round, compress) in [false, false, true, true].into_iter().enumerate() {
        let lines: Vec<_> = (0..50).map(|nth| format!("{round} {nth}")).collect();
        expected.extend(lines.clone());
        log(folder.path(), options(None, compress), lines.into_iter());
        let (paths, text) = rolled(folder.path());
        assert_eq!(messages(&text), expected);
        let old = &paths[..paths.len() - 1];
        let numbers = old.iter().map(|path| path.file_name().unwrap().to_str().unwrap()[11..17].to_owned());
        let counted: Vec<_> = (1..=old.len()).map(|number| format!("{number:06}")).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), counted);
        assert!(old.iter().all(|path| (path.extension().unwrap() == "gz") == compress));
    }
}

/// A line beside what a crash leaves: files of others, and a half-compressed one.
#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let others = ["r-notes.log", "r-20260101-x.log", "other-20260101-000001.log"];
    for name in others {
        fs::write(folder.path().join(name), "theirs\n").unwrap();
    }
    log(folder.path(), options(Some(1), true), (0..100).map(|nth| nth.to_string()));
    for name in others {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "theirs\n");
    }
}

/// Fails at every other call, and takes a few bytes at the others.
struct Moody {
    kept: Unwritten,
    taken: Arc<Mutex<Vec<u8>>>,
    calls: Arc<Mutex<usize>>,
}

struct MoodyWriter<'a>(&'a Moody);

impl io::Write for MoodyWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut calls = self.0.calls.lock().unwrap();
        *calls += 1;
        if *calls % 40 == 3 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = bytes.len().min(100);
        self.0.taken.lock().unwrap().extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Moody {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.kept.push(lines.bytes());
        self.retry()
    }

    fn retry(&mut self) -> io::Result<()> {
        let mut kept = std::mem::take(&mut self.kept);
        let outcome = kept.write_to(&mut MoodyWriter(self));
        self.kept = kept;
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry()
    }
}

#[test]
fn a_failing_sink_keeps_every_line_exactly_once() {
    let (taken, beside) = (Arc::default(), Memory::new());
    let sink = Moody { kept: Unwritten::new(), taken: Arc::clone(&taken), calls: Arc::default() };
    let logger = Logger::builder("moody").half(1024).sink(sink).sink(beside.clone()).build().unwrap();
    let expected: Vec<_> = (0..500).map(|nth| nth.to_string()).collect();
    for message in &expected {
        info!(logger: logger, "{message}");
    }
    logger.flush();
    let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    assert_eq!(messages(&text), expected);
    assert_eq!(beside.text(), text);
}

/// A sync that failed is done again, not only a flush.
#[test]
fn a_failed_sync_is_repeated() {
    #[derive(Clone, Default)]
    struct Syncs(Arc<Mutex<(u32, u32)>>);
    impl Sink for Syncs {
        fn write(&mut self, _: &Lines<'_>) -> io::Result<()> {
            Ok(())
        }
        fn retry(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            let mut calls = self.0.lock().unwrap();
            calls.0 += 1;
            if calls.0 == 1 {
                return Err(io::ErrorKind::Other.into());
            }
            calls.1 += 1;
            Ok(())
        }
    }
    let sink = Syncs::default();
    let logger =
        Logger::builder("sync").sink_with(sink.clone(), Level::Trace, Durability::Sync).build().unwrap();
    info!(logger: logger, "1");
    logger.flush();
    assert_eq!(*sink.0.lock().unwrap(), (2, 1));
}

/// A full disk is no reason to refuse another file: `reopen` reaches a sink that is being retried.
#[test]
fn reopen_helps_a_sink_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let logger = Logger::builder("stuck").sink(File::open(&path).unwrap()).build().unwrap();
    info!(logger: logger, "1");
    fs::remove_file(&path).unwrap();
    logger.reopen();
    logger.flush();
    assert_eq!(messages(&fs::read_to_string(&path).unwrap()), ["1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_record_is_one_line_of_json(
        message in any::<String>(),
        target in any::<String>(),
        value in any::<String>(),
        number in any::<f64>(),
    ) {
        let memory = Memory::new();
        let logger = Logger::builder("json")
            .layout(Layout::Json)
            .sink(memory.clone())
            .build()
            .unwrap();
        info!(logger: logger, target: &target, text = value, number = number, truth = true; "{message}");
        logger.flush();
        let text = memory.text();
        prop_assert!(text.ends_with('\n') && !text.trim_end_matches('\n').chars().any(char::is_control));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&line["message"], &message);
        prop_assert_eq!(&line["target"], &target);
        prop_assert_eq!(&line["level"], "INFO");
        prop_assert_eq!(&line["fields"]["text"], &value);
        prop_assert_eq!(&line["fields"]["truth"], true);
        let bare = format!("\"number\":{number},");
        match number.is_finite() {
            // As text, since the parser is off by a bit in the last place.
            true => prop_assert!(text.contains(&bare)),
            false => prop_assert!(line["fields"]["number"].is_string()),
        }
    }

    #[test]
    fn any_record_is_one_line_of_text(message in any::<String>(), value in any::<String>()) {
        let memory = Memory::new();
        let logger = Logger::builder("text").sink(memory.clone()).build().unwrap();
        info!(logger: logger, text = value; "{message}");
        logger.flush();
        let text = memory.text();
        prop_assert!(text.ends_with('\n') && !text.trim_end_matches('\n').chars().any(char::is_control));
        prop_assert!(!text.trim_end_matches('\n').contains('\n'));
    }
}

/// Fails until it is told to work.
struct Failing {
    kept: Unwritten,
    taken: Arc<Mutex<Vec<u8>>>,
    works: Arc<AtomicBool>,
}

impl Sink for Failing {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.kept.push(lines.bytes());
        self.retry()
    }

    fn retry(&mut self) -> io::Result<()> {
        if !self.works.load(Ordering::Acquire) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.kept.write_to(&mut *self.taken.lock().unwrap())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry()
    }

    fn name(&self) -> String {
        "the one that fails".to_owned()
    }
}

impl Failing {
    fn new(works: &Arc<AtomicBool>) -> (Failing, Arc<Mutex<Vec<u8>>>) {
        let taken = Arc::default();
        (Failing { kept: Unwritten::new(), taken: Arc::clone(&taken), works: works.clone() }, taken)
    }
}

/// Runs `body`; if it does not end, the sink is mended, so that the failure is told instead of waited for.
fn ends(works: &Arc<AtomicBool>, body: impl FnOnce() + Send) {
    let (ended, has_ended) = mpsc::channel();
    thread::scope(|scope| {
        let runs = scope.spawn(move || {
            body();
            ended.send(()).unwrap();
        });
        let outcome = has_ended.recv_timeout(Duration::from_secs(60));
        works.store(true, Ordering::Release);
        if let Err(panic) = runs.join() {
            std::panic::resume_unwind(panic);
        }
        outcome.unwrap();
    });
}

#[test]
fn a_sink_that_fails_does_not_hold_up_the_others() {
    for (name, records) in [("a few records", 100), ("more than are held", 40_000)] {
        let (works, beside) = (Arc::<AtomicBool>::default(), Memory::new());
        let (sink, taken) = Failing::new(&works);
        let logger = Logger::builder(name).sink(sink).sink(beside.clone()).build().unwrap();
        let expected: Vec<_> = (0..records).map(|nth| format!("{nth} {}", "x".repeat(50))).collect();
        thread::scope(|scope| {
            let (logger, expected) = (&logger, &expected);
            ends(&works, || {
                scope.spawn(move || expected.iter().for_each(|message| info!(logger: logger, "{message}")));
                // Nobody flushes, and the one fails all the time.
                while messages(&beside.text()).len() < 100 {
                    thread::yield_now();
                }
                assert!(taken.lock().unwrap().is_empty());
            });
        });
        logger.flush();
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert_eq!(messages(&text), expected);
        assert_eq!(beside.text(), text);
    }
}

/// A flush waits for the one that fails; nobody else does, and least of all who asks for new files.
#[test]
fn a_flush_that_waits_does_not_hold_up_the_others() {
    let (works, beside) = (Arc::<AtomicBool>::default(), Memory::new());
    let (sink, taken) = Failing::new(&works);
    let logger = Logger::builder("a flush waits").sink(sink).sink(beside.clone()).build().unwrap();
    thread::scope(|scope| {
        let logger = &logger;
        info!(logger: logger, "first");
        let flush = scope.spawn(move || logger.flush());
        ends(&works, || {
            for round in 0..50 {
                info!(logger: logger, "{round}");
                logger.reopen();
                let text = beside.text();
                assert_eq!(messages(&text).last(), Some(&round.to_string().as_str()));
            }
            assert!(!flush.is_finished() && taken.lock().unwrap().is_empty());
        });
    });
    logger.flush();
    assert_eq!(*taken.lock().unwrap(), beside.text().as_bytes());
}

/// Be the sink of a logger that the thread built, or of another.
#[test]
fn a_thread_ends_though_a_sink_fails() {
    let works = Arc::<AtomicBool>::default();
    let failing = |name| {
        let (sink, taken) = Failing::new(&works);
        let logger = Logger::builder(name).sink(sink).build().unwrap();
        info!(logger: logger, "1");
        (logger, taken)
    };
    let mut kept = vec![failing("of another thread")];
    ends(&works, || {
        // Its destructors have run when this returns, which a scope does not wait for.
        kept.push(thread::scope(|scope| scope.spawn(|| failing("of the thread")).join().unwrap()));
        assert!(kept.iter().all(|(_, taken)| taken.lock().unwrap().is_empty()));
    });
    for (logger, taken) in kept {
        logger.flush();
        assert_eq!(messages(std::str::from_utf8(&taken.lock().unwrap()).unwrap()), ["1"]);
    }
}

/// With more than is held, what producers have still waits with them; a flush is not done before it is written too.
#[test]
fn a_flush_includes_what_producers_were_left_with() {
    let (works, beside) = (Arc::<AtomicBool>::default(), Memory::new());
    let (sink, taken) = Failing::new(&works);
    let logger = Logger::builder("left").overflow(Overflow::Grow { limit: 64 << 20 }).sink(sink);
    let logger = logger.sink(beside.clone()).build().unwrap();
    let line = "x".repeat(1000);
    for nth in 0..4000 {
        info!(logger: logger, "{nth} {line}");
    }
    // Returns though the worker takes no more.
    ends(&works, || logger.reopen());
    logger.flush();
    let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    assert_eq!(messages(&text).len(), 4000);
    assert_eq!(beside.text(), text);
}

/// Refuses every line at first, and takes it when it is asked again: it is never without trouble.
#[derive(Clone, Default)]
struct Slow {
    kept: Arc<Mutex<Vec<u8>>>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Sink for Slow {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.kept.lock().unwrap().extend_from_slice(lines.bytes());
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn retry(&mut self) -> io::Result<()> {
        self.taken.lock().unwrap().append(&mut self.kept.lock().unwrap());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nor do those starve whose turn comes last.
#[test]
fn a_flush_is_done_though_a_sink_fails_again_and_again() {
    let (slow, beside, is_over) = (Slow::default(), Memory::new(), Arc::<AtomicBool>::default());
    let logger = Logger::builder("again and again").half(4096).sink(slow.clone()).sink(beside.clone());
    let logger = logger.build().unwrap();
    let counts: [AtomicUsize; 8] = std::array::from_fn(|_| AtomicUsize::new(0));
    thread::scope(|scope| {
        let (logger, is_over) = (&logger, &is_over);
        for (thread, count) in counts.iter().enumerate() {
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let nth = count.fetch_add(1, Ordering::AcqRel);
                    info!(logger: logger, "{thread} {nth} {}", "x".repeat(100));
                }
            });
        }
        ends(is_over, || {
            for _ in 0..5 {
                let marker = counts[0].load(Ordering::Acquire);
                info!(logger: logger, "marker {marker}");
                logger.flush();
                let text = String::from_utf8(slow.taken.lock().unwrap().clone()).unwrap();
                assert!(messages(&text).contains(&format!("marker {marker}").as_str()));
            }
            while counts.iter().any(|count| count.load(Ordering::Acquire) < 2000) {
                thread::yield_now();
            }
        });
    });
    logger.flush();
    let text = String::from_utf8(slow.taken.lock().unwrap().clone()).unwrap();
    assert_eq!(messages(&text).len(), messages(&beside.text()).len());
    for (thread, count) in counts.iter().enumerate() {
        let start = format!("{thread} ");
        let of_thread: Vec<_> =
            messages(&text).into_iter().filter_map(|line| line.strip_prefix(&start)).collect();
        assert_eq!(of_thread.len(), count.load(Ordering::Acquire));
        let in_order = |(nth, line): (usize, &&str)| line.starts_with(&format!("{nth} "));
        assert!(of_thread.iter().enumerate().all(in_order));
    }
}

/// What waits for a sink that fails is bounded: by the limit, and what the worker holds.
#[test]
fn a_sink_that_fails_does_not_stretch_the_limit() {
    const LIMIT: usize = 4 << 20;
    let (works, beside) = (Arc::<AtomicBool>::default(), Memory::new());
    let (sink, taken) = Failing::new(&works);
    let logger = Logger::builder("stretch").overflow(Overflow::Grow { limit: LIMIT }).sink(sink);
    let logger = logger.sink(beside.clone()).build().unwrap();
    let line = "x".repeat(1000);
    for nth in 0..30_000 {
        info!(logger: logger, "{nth} {line}");
        if nth % 100 == 0 {
            // So that the worker has its turns.
            ends(&Arc::default(), || logger.reopen());
        }
    }
    // Twice what is held, for what the sink keeps; the halves; the last round.
    let most = LIMIT + 4 * (1 << 20);
    works.store(true, Ordering::Release);
    logger.flush();
    let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    let (dropped, kept) = util::without_drops(&text);
    assert_eq!(kept.len() + dropped, 30_000);
    assert!(text.len() < most, "{} bytes waited", text.len());
    assert_eq!(beside.text(), text);
}

#[test]
fn a_sink_may_be_waited_for_without_end() {
    let beside = Memory::new();
    let logger = Logger::builder("without end").give_up_after(Duration::MAX);
    let logger = logger.sink(Memory::new()).sink(beside.clone()).build().unwrap();
    info!(logger: logger, "1");
    logger.shutdown();
    assert_eq!(messages(&beside.text()), ["1"]);
}
