//! The pool before collectors that misbehave: whatever they do, nothing is lost, and memory is bounded.

#![allow(clippy::unwrap_used, reason = "clippy knows no helpers of tests")]

#[path = "util/collector.rs"]
mod collector;

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use collector::{Collector, Connection, LONG, mark, texts};
use logger::forward::{Counters, Pool};
use logger::{Level, Logger, error};
use tempfile::TempDir;

/// A logger and a pool of one client before a collector.
struct Case {
    collector: Collector,
    pool: Pool,
    logger: Logger,
    _folder: TempDir,
    reports: Arc<Mutex<Vec<String>>>,
}

impl Case {
    fn new(name: &str, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Case {
        Case::with(name, Duration::from_secs(30), serve)
    }

    fn with(name: &str, patience: Duration, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::new(serve);
        let reports = Arc::<Mutex<Vec<String>>>::default();
        let said = reports.clone();
        let pool = Pool::builder(collector.address(), folder.path())
            .clients(1)
            .patience(patience)
            .on_report(move |report| said.lock().unwrap().push(report.to_string()))
            .start()
            .unwrap();
        let logger = Logger::builder(name).level(Level::Error).sink(pool.sink()).build().unwrap();
        Case { collector, pool, logger, _folder: folder, reports }
    }

    fn log(&self, records: std::ops::Range<usize>) {
        for n in records {
            error!(logger: self.logger, "record {n}.");
        }
        self.logger.flush();
    }

    /// Waits until everything is acknowledged. Back-off is not what these cases are about.
    fn drain(&self) -> Counters {
        let start = Instant::now();
        while !self.pool.drain(Duration::from_millis(5)) {
            assert!(start.elapsed() < LONG, "{:?} {:?}", self.pool, self.reports.lock().unwrap().last());
            self.pool.reconnect_now();
        }
        self.pool.counters()
    }

    /// Drains, and checks that the collector had each of these records, in order but for repeats.
    fn expect(self, records: usize) -> Vec<String> {
        let counters = self.drain();
        assert_eq!((counters.dropped, counters.damaged, counters.waiting), (0, 0, 0));
        assert_eq!(counters.acknowledged, records as u64);
        drop(self.pool);
        let messages = self.collector.end();
        let mut seen = BTreeSet::new();
        for (message, text) in messages.iter().zip(texts(&messages)) {
            let (_, sequence) = mark(message);
            let n: usize = text[text.find("record ").unwrap() + 7..].trim_end_matches('.').parse().unwrap();
            if seen.insert(sequence) {
                assert_eq!(n + 1, seen.len(), "{message}");
                assert_eq!(seen.last(), Some(&sequence));
            }
        }
        assert_eq!(seen.len(), records);
        messages
    }
}

#[test]
fn one_that_accepts_and_drops() {
    let case = Case::new("drops", |connection| {
        if connection.nth >= 5 {
            connection.serve_well();
        }
    });
    case.log(0..100);
    case.expect(100);
}

#[test]
fn one_that_drops_after_some_records() {
    let case = Case::new("drops later", |connection| {
        if connection.open().is_none() {
            return;
        }
        // Takes more than it acknowledges, each time.
        for nth in 0..20 {
            let Some(frame) = connection.record() else { return };
            if nth < 10 || connection.nth > 10 {
                connection.respond(frame.txnr, "200 OK");
            }
        }
    });
    case.log(0..500);
    case.expect(500);
}

/// How long a stall lasts, beyond a moment: minutes in the long checks.
fn stall() -> Duration {
    let seconds = std::env::var("STALL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(seconds.map_or(1500, |seconds: u64| seconds * 1000))
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn one_that_stalls_costs_no_memory() {
    let until = Arc::new(Mutex::new(Instant::now() + stall()));
    let stalled = until.clone();
    let case = Case::with("stalls", Duration::from_millis(500), move |connection| {
        let end = *stalled.lock().unwrap();
        if Instant::now() >= end {
            return connection.serve_well();
        }
        // Half of them take nothing, the others all but acknowledge nothing.
        if connection.nth % 2 == 0 {
            let rest = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(2));
            thread::sleep(rest);
        } else if connection.open().is_some() {
            connection.hang();
        }
    });
    case.log(0..100);
    let before = resident_bytes();
    *until.lock().unwrap() = Instant::now() + stall();
    let mut records = 100;
    while Instant::now() < *until.lock().unwrap() {
        let more = if records < 50_000 { 500 } else { 0 };
        case.log(records..records + more);
        records += more;
        case.pool.reconnect_now();
        thread::yield_now();
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for {records} records that wait");
    case.expect(records);
}

#[test]
fn one_that_never_answers_is_given_up() {
    let case = Case::with("mute", Duration::from_millis(50), |connection| {
        if connection.nth > 1 {
            connection.serve_well();
        } else if connection.nth == 0 || connection.open().is_some() {
            // The first one does not even answer `open`.
            connection.hang();
        }
    });
    case.log(0..10);
    let reports = case.reports.clone();
    case.expect(10);
    let reports = reports.lock().unwrap();
    assert!(reports.iter().any(|report| report.contains("no answer for 50ms")), "{reports:?}");
}

#[test]
fn one_that_restarts_while_records_come() {
    let case = Case::new("restarts", |connection| connection.serve_well());
    for round in 0..20 {
        case.log(round * 100..(round + 1) * 100);
        case.collector.cut();
        case.pool.reconnect_now();
    }
    case.expect(2000);
}

#[test]
fn one_that_answers_twice_and_out_of_order() {
    let case = Case::new("twice", |connection| {
        if connection.open().is_none() {
            return;
        }
        // The answer to `open`, again.
        connection.respond(1, "200 OK");
        loop {
            let mut numbers = Vec::new();
            for _ in 0..10 {
                let Some(frame) = connection.record() else { return };
                numbers.push(frame.txnr);
            }
            for txnr in numbers.iter().rev() {
                connection.respond(*txnr, "200 OK");
                connection.respond(*txnr, "200 OK");
            }
            connection.respond(numbers[3], "200 OK\nagain");
        }
    });
    case.log(0..1000);
    let messages = case.expect(1000);
    assert_eq!(messages.len(), 1000, "nothing was sent again");
}

#[test]
fn one_that_answers_garbage() {
    const GARBAGE: [&[u8]; 13] = [
        b"\n",
        b"x",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"2 rsp 6 200 OKx",
        b"2 rsp 5 2000K\n",
        b"2 rsp 2 OK\n",
        b"2 rsp 999999999 200 OK\n",
        b"99 rsp 6 200 OK\n",
        b"0 rsp 6 200 OK\n",
        b"1000000000 rsp 6 200 OK\n",
        b"2 syslog 6 200 OK\n",
        b"2 rsp 9 500 error\n",
        b"0 serverclose 0\n",
    ];
    let case = Case::new("garbage", |connection| {
        let Some(garbage) = GARBAGE.get(connection.nth / 2) else { return connection.serve_well() };
        // In place of the answer to `open`, or of the one to the first record.
        if connection.nth % 2 == 0 || connection.open().is_some() {
            connection.frame();
            connection.send(garbage);
            connection.hang();
        }
    });
    case.log(0..20);
    let reports = case.reports.clone();
    case.expect(20);
    let reports = reports.lock().unwrap();
    for part in ["refuses with 500 error", "frame 99, which was not sent"] {
        assert!(reports.iter().any(|report| report.contains(part)), "{part}: {reports:?}");
    }
}

#[test]
fn one_that_closes_at_every_byte_of_what_comes() {
    const BYTES: usize = 700;
    let case = Case::new("every byte", |connection| {
        if connection.nth >= BYTES {
            return connection.serve_well();
        }
        let Some(()) = connection.open() else { return };
        let mut some = vec![0; connection.nth];
        let _ = connection.stream.read_exact(&mut some);
    });
    // More than that many bytes.
    case.log(0..10);
    case.expect(10);
}

#[test]
fn one_that_closes_at_every_byte_of_its_answer() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let case = Case::new("every byte back", move |connection| {
        const OPEN: &[u8] = b"1 rsp 31 200 OK\ncommands=syslog,eventlog\n2 rsp 6 200 OK\n";
        if connection.nth >= OPEN.len() {
            return connection.serve_well();
        }
        if connection.frame().is_some() {
            connection.send(&OPEN[..connection.nth]);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    case.log(0..10);
    case.expect(10);
    assert!(answered.load(Ordering::Relaxed) > 40);
}
