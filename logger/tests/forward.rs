//! The pool before collectors that behave.

#![allow(clippy::unwrap_used, reason = "clippy knows no helpers of tests")]

#[path = "util/collector.rs"]
mod collector;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use collector::{Collector, LONG, mark, texts};
use logger::forward::{Builder, Pool, Report, Wire};
use logger::sink::{Lines, Memory, Sink};
use logger::{Durability, Layout, Level, Logger, Mode, error, info, warn};
use reactor::Address;
use socket2::{Domain, Socket, Type};

/// The threads of pools in this process. Read three times, since the list misses some while others end.
fn client_threads() -> Vec<String> {
    let list = || {
        fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
            .map(|name| name.trim_end().to_owned())
            .filter(|name| name.starts_with("forward "))
    };
    let found: BTreeSet<String> = list().chain(list()).chain(list()).collect();
    found.into_iter().collect()
}

/// A thread that was joined may be in the list for another moment, until the kernel has taken it down.
fn no_thread_is_left() {
    until("the end of all threads", || client_threads().is_empty());
}

/// Held by each test, since each counts the threads of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> impl Drop {
    ALONE.lock().unwrap_or_else(|error| error.into_inner())
}

/// A pool that reports to nobody.
fn builder(collector: Address, folder: &Path) -> Builder {
    Pool::builder(collector, folder).on_report(|_| ())
}

fn logger(name: &str, pool: &Pool) -> Logger {
    Logger::builder(name).level(Level::Trace).sink(pool.sink()).build().unwrap()
}

/// Waits for what becomes true by what other threads do.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what} did not come");
        thread::yield_now();
    }
}

#[test]
fn pool_of_eight_is_eight_threads() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..8).map(|n| format!("forward {n}")).collect();
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).clients(8).start().unwrap();
    // While it starts and connects.
    while pool.counters().connected < 8 {
        assert_eq!(client_threads(), names);
    }
    // While it works, over eight streams.
    let logger = logger("eight", &pool);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..100 {
                    error!(logger: logger, "{n}");
                }
            });
        }
        while collector.messages().len() < 800 {
            assert_eq!(client_threads(), names);
        }
    });
    // While it loses its collector and waits for it.
    drop(collector);
    until("the loss of all connections", || {
        assert_eq!(client_threads(), names);
        pool.counters().connected == 0
    });
    assert_eq!(client_threads(), names);
    drop(pool);
    no_thread_is_left();
}

#[test]
fn pool_drop_joins_all_threads() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for clients in [1, 4, 64] {
        let collector = Collector::well();
        let held = Arc::new(());
        let theirs = held.clone();
        let pool = Pool::builder(collector.address(), folder.path())
            .clients(clients)
            .on_report(move |_| assert!(Arc::strong_count(&theirs) > 1))
            .start()
            .unwrap();
        assert_eq!(client_threads().len(), clients);
        drop(pool);
        // What every thread of the pool held is gone: they have ended.
        assert_eq!(Arc::strong_count(&held), 1);
        no_thread_is_left();
    }
}

/// A socket that listens, accepts nobody, and whose queue is full after some connections: those that come later stay
/// connecting.
fn crowded(room: i32) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(room).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// How many TCP connections of this process to the port are in this state, as `/proc/net/tcp` numbers it.
fn connections_in_state(port: u16, state: &str) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == state).count()
}

#[test]
fn pool_stops_while_connecting() {
    const ESTABLISHED: &str = "01";
    const SYN_SENT: &str = "02";
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    // A queue of 31 holds 32.
    let (_socket, address) = crowded(31);
    let pool = builder(address.into(), folder.path()).clients(64).start().unwrap();
    // Of those that come at once, a few more may be taken.
    until("64 connections, about half of them connecting", || {
        let connecting = connections_in_state(address.port(), SYN_SENT);
        connecting >= 16 && connections_in_state(address.port(), ESTABLISHED) == 64 - connecting
    });
    let start = Instant::now();
    drop(pool);
    // A connect gives up after 10 s, an answer is waited for 30 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    no_thread_is_left();
    assert_eq!(connections_in_state(address.port(), SYN_SENT), 0);
}

#[test]
fn records_wait_until_a_client_connects() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (socket, address) = crowded(1);
    drop(socket);
    let pool = builder(address.into(), folder.path()).clients(2).start().unwrap();
    let logger = logger("waiting", &pool);
    for n in 0..100 {
        error!(logger: logger, "record {n}");
    }
    logger.flush();
    let counters = pool.counters();
    assert_eq!((counters.connected, counters.spooled, counters.waiting), (0, 100, 100));
    assert_eq!((counters.sent, counters.acknowledged), (0, 0));
    assert!(!pool.drain(Duration::ZERO));

    let collector = Collector::at(address, |connection| connection.serve_well());
    pool.reconnect_now();
    assert!(pool.drain(LONG));
    let messages = collector.messages();
    let expected: Vec<String> = (0..100).map(|n| format!("record {n}")).collect();
    let found: Vec<&str> =
        texts(&messages).iter().map(|text| &text[text.find("record").unwrap()..]).collect();
    assert_eq!(found, expected);
    let counters = pool.counters();
    assert_eq!((counters.acknowledged, counters.waiting), (100, 0));
}

#[test]
fn a_record_arrives_as_rfc_5424_with_its_mark() {
    let _alone = alone();
    for (layout, name) in [(Layout::Text, "as text"), (Layout::Json, "as json")] {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::well();
        let pool = builder(collector.address(), folder.path()).clients(1).app("tests").start().unwrap();
        let memory = Memory::new();
        let logger =
            Logger::builder(name).layout(layout).sink(memory.clone()).sink(pool.sink()).build().unwrap();
        error!(logger: logger, target: "storage", size = 3; "disk \"gone\"\n");
        logger.flush();
        assert!(pool.drain(LONG));
        let message = &collector.end()[0];
        let line = memory.text();
        let line = line.strip_suffix('\n').unwrap();
        let (stamp, text) = match layout {
            Layout::Json => (&line[9..36], line),
            _ => line.split_once(' ').unwrap(),
        };
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let start = format!(
            "<11>1 {stamp} {} tests {} - [cloudstore@32473 sender=\"",
            host.trim(),
            std::process::id()
        );
        assert!(message.starts_with(&start), "{message}");
        assert!(
            message.ends_with(&format!("\" stream=\"0\" sequence=\"{}\"] {text}", mark(message).1)),
            "{message}"
        );
    }
}

#[test]
fn levels_and_targets_are_chosen() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path())
        .filter("error,storage=info,quiet=off".parse().unwrap())
        .start()
        .unwrap();
    let logger = logger("choice", &pool);
    info!(logger: logger, target: "storage::index", "yes 1");
    info!(logger: logger, target: "stor", "no");
    warn!(logger: logger, target: "other", "no");
    error!(logger: logger, target: "other", "yes 2");
    error!(logger: logger, target: "quiet", "no");
    // The forwarder's own records would beget others for ever.
    error!(logger: logger, target: "logger::forward", "no");
    error!(logger: logger, target: "logger", "no");
    error!(logger: logger, target: "loggerhead", "yes 3");
    logger.flush();
    pool.set_filter("warn".parse().unwrap());
    warn!(logger: logger, target: "other", "yes 4");
    logger.flush();
    assert!(pool.drain(LONG));
    let messages = collector.end();
    let found: Vec<String> = texts(&messages).iter().map(|text| text[text.len() - 5..].to_owned()).collect();
    assert!(found.ends_with(&["yes 4".to_owned()]), "{found:?}");
    assert!(found.iter().all(|text| text.starts_with("yes")), "{messages:?}");
}

#[test]
fn the_order_of_each_thread_holds() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).clients(3).window(7).start().unwrap();
    let logger = logger("order", &pool);
    thread::scope(|scope| {
        for thread in 0..8 {
            let logger = &logger;
            scope.spawn(move || {
                for n in 0..500 {
                    error!(logger: logger, "from {thread}: {n}");
                }
            });
        }
    });
    logger.flush();
    assert!(pool.drain(LONG));
    let messages = collector.end();
    assert_eq!(messages.len(), 4000);
    let mut next = [0; 8];
    let mut last = [0; 3];
    for message in &messages {
        let (_, about) = message.split_once("from ").unwrap();
        let (thread, n) = about.split_once(": ").unwrap();
        let (thread, n): (usize, usize) = (thread.parse().unwrap(), n.parse().unwrap());
        assert_eq!(n, next[thread]);
        next[thread] += 1;
        let (stream, sequence) = mark(message);
        assert!(sequence > last[stream as usize]);
        last[stream as usize] = sequence;
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_by_the_next_run() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut senders = Vec::new();
    let mut found = Vec::new();
    // Fewer clients each time: the streams that are left over are sent too.
    for (run, clients) in [(0, 4), (1, 2), (2, 1)] {
        let collector = Collector::new(|connection| {
            // Takes everything, and acknowledges nothing.
            if connection.open().is_some() {
                connection.hang();
            }
        });
        let pool = builder(collector.address(), folder.path()).clients(clients).start().unwrap();
        let logger = logger(&format!("run {run}"), &pool);
        thread::scope(|scope| {
            for thread in 0..4 {
                let logger = &logger;
                scope.spawn(move || error!(logger: logger, "run {run} thread {thread}"));
            }
        });
        logger.shutdown();
        until("connections", || pool.counters().connected == clients);
        drop(pool);
    }
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).clients(1).start().unwrap();
    assert!(pool.drain(LONG));
    assert_eq!(pool.counters().acknowledged, 12);
    drop(pool);
    for message in collector.end() {
        let sender = message.split_once("sender=\"").unwrap().1[..16].to_owned();
        senders.push(sender);
        found.push(message.split_once(":").unwrap().1.rsplit_once(" run").unwrap().1.to_owned());
    }
    found.sort();
    let expected: Vec<String> = (0..12).map(|n| format!(" {} thread {}", n / 4, n % 4)).collect();
    assert_eq!(found, expected);
    senders.dedup();
    assert_eq!(senders.len(), 1, "the sender's name is kept with its spool");
}

#[test]
fn a_spool_has_one_pool_at_a_time() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_socket, address) = crowded(1);
    let pool = builder(address.into(), folder.path()).start().unwrap();
    let error = builder(address.into(), folder.path()).start().unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    assert_eq!(client_threads().len(), 4);
    drop(pool);
    builder(address.into(), folder.path()).start().unwrap();
}

#[test]
fn a_sink_outlives_its_pool() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_socket, address) = crowded(1);
    let pool = builder(address.into(), folder.path()).start().unwrap();
    let logger = logger("outlives", &pool);
    drop(pool);
    error!(logger: logger, "late");
    drop(logger);
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).start().unwrap();
    assert!(pool.drain(LONG));
    assert!(collector.end()[0].ends_with(" late"));
}

#[test]
fn plain_syslog_in_both_framings() {
    let _alone = alone();
    for (wire, counted) in [(Wire::Newline, false), (Wire::OctetCounted, true)] {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::new(move |connection| {
            if !counted {
                return connection.take_lines();
            }
            while let Some(data) = connection.counted() {
                connection.keep(&collector::Frame { txnr: 0, command: String::new(), data });
            }
        });
        let pool = builder(collector.address(), folder.path()).clients(1).wire(wire).start().unwrap();
        let logger = logger(&format!("{wire:?}"), &pool);
        for n in 0..1000 {
            error!(logger: logger, "plain {n}");
        }
        logger.flush();
        let messages = collector.wait_for(1000);
        let expected: Vec<String> = (0..1000).map(|n| format!("plain {n}")).collect();
        let found: Vec<&str> =
            messages.iter().map(|message| &message[message.find("plain").unwrap()..]).collect();
        assert_eq!(found, expected);
        assert!(pool.drain(LONG));
    }
}

#[test]
fn a_long_record_is_cut_and_counted() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).max_record(1000).start().unwrap();
    let logger = logger("long", &pool);
    error!(logger: logger, "{}", "x".repeat(100_000));
    error!(logger: logger, "short");
    logger.flush();
    assert!(pool.drain(LONG));
    assert_eq!(pool.counters().cut, 1);
    let messages = collector.end();
    let texts = texts(&messages);
    assert!(texts[0].ends_with(" bytes]") && texts[0].contains("x [cut, 100"), "{}", texts[0]);
    assert_eq!(texts[0].find(" [cut").unwrap(), 1000);
}

#[test]
fn reports_say_what_happens_once() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (socket, address) = crowded(1);
    drop(socket);
    let (sender, reports) = mpsc::channel();
    let sender = Mutex::new(sender);
    let pool = builder(address.into(), folder.path())
        .clients(1)
        .on_report(move |report| {
            let _ = sender.lock().unwrap().send(report.clone());
        })
        .start()
        .unwrap();
    let first = reports.recv_timeout(LONG).unwrap();
    assert!(matches!(&first, Report::Disconnected { client: 0, .. }), "{first}");
    assert_eq!(first.level(), Level::Warn);
    assert!(first.to_string().contains(&address.to_string()), "{first}");
    let collector = Collector::at(address, |connection| connection.serve_well());
    pool.reconnect_now();
    // However many tries it took, nothing was said in between.
    let second = reports.recv_timeout(LONG).unwrap();
    assert_eq!(second, Report::Connected { client: 0, collector: address.into() });
    drop(collector);
    let third = reports.recv_timeout(LONG).unwrap();
    assert!(matches!(&third, Report::Disconnected { .. }), "{third}");
}

#[test]
fn a_fatal_record_is_in_the_spool_when_its_call_returns() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_socket, address) = crowded(1);
    let pool = builder(address.into(), folder.path()).start().unwrap();
    let logger =
        Logger::builder("fatal").sink_with(pool.sink(), Level::Trace, Durability::Sync).build().unwrap();
    logger::fatal!(logger: logger, "the end is near");
    assert_eq!(pool.counters().spooled, 1);
    let held = stored(folder.path());
    assert!(held.windows(15).any(|window| window == b"the end is near"));
}

/// All bytes of all files in a folder.
fn stored(folder: &Path) -> Vec<u8> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(stored(&path)) } else { found.extend(fs::read(path).unwrap()) }
    }
    found
}

#[test]
fn an_impossible_number_of_clients_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for clients in [0, 1025] {
        let builder = builder("127.0.0.1:1".parse().unwrap(), folder.path()).clients(clients);
        let error = builder.start().unwrap_err().to_string();
        assert!(error.contains(&clients.to_string()), "{error}");
    }
}

#[test]
fn a_collector_that_ends_the_session_in_order_is_no_trouble() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (sender, reports) = mpsc::channel();
    let sender = Mutex::new(sender);
    // As one does that was not spoken to for long.
    let collector = Collector::new(|connection| {
        if connection.nth > 2 {
            return connection.serve_well();
        }
        if connection.open().is_some() {
            connection.send(b"0 serverclose 0\n");
            connection.hang();
        }
    });
    let pool = builder(collector.address(), folder.path())
        .clients(1)
        .on_report(move |report| {
            let _ = sender.lock().unwrap().send(report.clone());
        })
        .start()
        .unwrap();
    until("a fourth connection that stays", || {
        pool.reconnect_now();
        collector.connections() == 4 && pool.counters().connected == 1
    });
    drop(pool);
    let reports: Vec<Report> = reports.try_iter().collect();
    assert_eq!(reports, [Report::Connected { client: 0, collector: collector.address() }]);
}

#[test]
fn a_flood_is_held_back_and_counted() {
    let _alone = alone();
    for (layout, name) in [(Layout::Text, "flood as text"), (Layout::Json, "flood as json")] {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::well();
        let pool = builder(collector.address(), folder.path())
            .limit_floods(3, Duration::from_millis(100))
            .start()
            .unwrap();
        let logger = Logger::builder(name).layout(layout).sink(pool.sink()).build().unwrap();
        for n in 0..1000 {
            error!(logger: logger, target: "store", "no such object: {n}");
        }
        error!(logger: logger, target: "store", "of another kind");
        logger.flush();
        // Nobody logs any more: the last count comes by itself.
        let counted = |messages: &[String]| -> u64 {
            let texts = messages.iter().filter_map(|message| message.split_once(" more records from store "));
            let number = |before: &str| before.rsplit([' ', '"']).next().unwrap().parse::<u64>().unwrap();
            texts.map(|(before, _)| number(before)).sum()
        };
        let held = pool.counters().held;
        until("the count of the flood", || counted(&collector.messages()) == held);
        assert!(pool.drain(LONG));
        let messages = collector.end();
        let has = |text: &str| messages.iter().filter(|message| message.contains(text)).count();
        assert_eq!(has("no such object") as u64 + held, 1000);
        assert!(held >= 900, "{held}");
        assert_eq!(has("of another kind"), 1);
        assert!(has("tests/forward.rs") > 0 && has("within 100ms were not forwarded") > 0);
    }
}

/// All segments of a spool, the oldest of each stream first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for stream in
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        let paths = fs::read_dir(stream).unwrap().map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")));
    }
    found.sort();
    found
}

#[test]
fn a_spool_at_its_bound_drops_the_oldest_counts_and_says_so() {
    const BOUND: u64 = 100_000;
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (socket, address) = crowded(1);
    drop(socket);
    let dropped = Arc::new(Mutex::new((0, Vec::new())));
    let said = dropped.clone();
    let pool = Pool::builder(address.into(), folder.path())
        .clients(1)
        .max_spool(BOUND)
        .on_report(move |report| {
            if let Report::Dropped { records, .. } = report {
                let mut said = said.lock().unwrap();
                said.0 += records;
                said.1.push(report.to_string());
            }
        })
        .start()
        .unwrap();
    let logger = logger("bound", &pool);
    for n in 0..5000 {
        error!(logger: logger, "record {n}.");
        // In many rounds of the worker, so that the bound is seen often.
        if n % 50 == 0 {
            logger.flush();
            let bytes: u64 =
                segments(folder.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
            assert!(bytes <= BOUND + BOUND / 2, "{bytes}");
        }
    }
    logger.flush();
    let counters = pool.counters();
    assert_eq!(counters.spooled, 5000);
    assert_eq!(counters.spooled, counters.dropped + counters.waiting);
    assert!(counters.dropped > 4000, "{counters:?}");
    {
        let said = dropped.lock().unwrap();
        assert_eq!(said.0, counters.dropped);
        assert!(said.1[0].contains("the spool is full: the oldest"), "{}", said.1[0]);
    }
    let collector = Collector::at(address, |connection| connection.serve_well());
    pool.reconnect_now();
    assert!(pool.drain(LONG));
    let messages = collector.end();
    // The newest, without a gap.
    let first = 5000 - counters.waiting;
    assert_eq!(messages.len() as u64, counters.waiting);
    for (message, n) in messages.iter().zip(first..) {
        assert!(message.ends_with(&format!(" record {n}.")), "{message}");
    }
}

#[test]
fn a_damaged_segment_costs_its_damaged_records() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (socket, address) = crowded(1);
    drop(socket);
    let pool = builder(address.into(), folder.path()).clients(1).start().unwrap();
    let logger = logger("damage", &pool);
    for n in 0..100 {
        error!(logger: logger, "record {n}.");
    }
    logger.shutdown();
    drop(pool);
    let path = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    for text in [&b" record 7."[..], b" record 50."] {
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();

    let reports = Arc::<Mutex<Vec<Report>>>::default();
    let said = reports.clone();
    let collector = Collector::well();
    let pool = Pool::builder(collector.address(), folder.path())
        .clients(1)
        .on_report(move |report| said.lock().unwrap().push(report.clone()))
        .start()
        .unwrap();
    assert!(pool.drain(LONG));
    assert_eq!(pool.counters().damaged, 2);
    let messages = collector.end();
    let expected: Vec<usize> = (0..100).filter(|n| ![7, 50].contains(n)).collect();
    let number =
        |message: &String| message.rsplit_once("record ").unwrap().1.trim_end_matches('.').parse().unwrap();
    assert_eq!(messages.iter().map(number).collect::<Vec<usize>>(), expected);
    let reports = reports.lock().unwrap();
    let damaged = reports.iter().filter(|report| matches!(report, Report::Damaged { records: Some(1), .. }));
    assert_eq!(damaged.count(), 2);
    let text = path.display().to_string();
    assert!(reports.iter().any(|report| report.to_string().contains(&text)), "{reports:?}");
}

#[test]
fn a_report_that_panics_stops_nothing() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::well();
    let pool = Pool::builder(collector.address(), folder.path())
        .clients(1)
        // On the client's thread when it has connected, and on the worker's when the spool is at its bound.
        .on_report(|report| panic!("{report}"))
        .max_spool(1)
        .start()
        .unwrap();
    let logger = logger("panics", &pool);
    for n in 0..200 {
        error!(logger: logger, "{n} {}", "x".repeat(500));
    }
    logger.flush();
    assert_eq!(pool.counters().spooled, 200);
    assert!(pool.drain(LONG));
}

#[test]
fn damage_is_not_waited_for() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (socket, address) = crowded(1);
    drop(socket);
    let pool = builder(address.into(), folder.path()).clients(1).start().unwrap();
    let logger = logger("damage", &pool);
    error!(logger: logger, "one");
    drop(pool);
    drop(logger);
    let mut segments =
        fs::read_dir(folder.path().join("stream-0")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.find(|path| path.extension().is_some_and(|extension| extension == "seg")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();

    let pool = builder(address.into(), folder.path()).clients(1).start().unwrap();
    assert_eq!(pool.counters().waiting, 1);
    thread::scope(|scope| {
        let (begins, begun) = mpsc::channel();
        let pool = &pool;
        let waits = scope.spawn(move || {
            let start = Instant::now();
            begins.send(()).unwrap();
            (pool.drain(LONG), start.elapsed())
        });
        begun.recv().unwrap();
        let _collector = Collector::at(address, |connection| connection.serve_well());
        pool.reconnect_now();
        let (is_drained, waited) = waits.join().unwrap();
        assert!(is_drained && waited < LONG, "{waited:?}");
    });
    assert_eq!(pool.counters().damaged, 1);
}

/// Takes lines when it is told to.
struct Stuck(Mutex<mpsc::Receiver<()>>);

impl Sink for Stuck {
    fn write(&mut self, _lines: &Lines<'_>) -> std::io::Result<()> {
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }

    fn retry(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_logger_that_is_stuck_does_not_stop_a_client() {
    let _alone = alone();
    for mode in [Mode::PerThread, Mode::Shared] {
        let folder = tempfile::tempdir().unwrap();
        let (go_on, waits) = mpsc::channel();
        let stuck = Logger::builder(&format!("stuck {mode:?}"))
            .mode(mode)
            .sink(Stuck(Mutex::new(waits)))
            .build()
            .unwrap();
        let (logged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (stuck, logged, is_over) = (&stuck, &logged, &is_over);
            let (reports, theirs) = (Arc::new(AtomicUsize::new(0)), stuck.clone());
            let count = reports.clone();
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    info!(logger: stuck, "{}", "x".repeat(1000));
                    logged.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Until the buffers are full, and whoever logs waits.
            let mut before = 0;
            until("a logger that is stuck", || {
                thread::sleep(Duration::from_millis(20));
                let now = logged.load(Ordering::Relaxed);
                std::mem::replace(&mut before, now) == now && now > 0
            });
            let collector = Collector::well();
            let pool = Pool::builder(collector.address(), folder.path())
                .on_report(move |report| {
                    info!(logger: theirs, "{report}");
                    count.fetch_add(1, Ordering::Relaxed);
                })
                .start()
                .unwrap();
            let logger = logger(&format!("beside {mode:?}"), &pool);
            error!(logger: logger, "goes");
            logger.flush();
            let is_drained = pool.drain(Duration::from_secs(10));
            is_over.store(true, Ordering::Relaxed);
            drop(go_on);
            assert!(is_drained, "{mode:?}");
            assert!(reports.load(Ordering::Relaxed) > 0);
        });
    }
}

#[test]
fn a_report_may_ask_for_the_counters() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_socket, address) = crowded(1);
    let asked = Arc::new(OnceLock::<Weak<Pool>>::new());
    let (sender, counts) = mpsc::channel();
    let (theirs, sender) = (asked.clone(), Mutex::new(sender));
    // On the worker's thread, in the middle of a write.
    let report = move |report: &Report| {
        if let (Report::Dropped { .. }, Some(pool)) = (report, theirs.get().and_then(Weak::upgrade)) {
            let _ = sender.lock().unwrap().send(pool.counters().dropped);
        }
    };
    let pool = Pool::builder(address.into(), folder.path())
        .clients(1)
        .max_spool(1)
        .on_report(report)
        .start()
        .unwrap();
    let pool = Arc::new(pool);
    asked.set(Arc::downgrade(&pool)).unwrap();
    let logger = logger("asks", &pool);
    for n in 0..100 {
        error!(logger: logger, "{n} {}", "x".repeat(500));
    }
    assert!(counts.recv_timeout(LONG).unwrap() > 0);
    drop(logger);
}

#[test]
fn a_pool_that_ends_says_what_it_held_back() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (_socket, address) = crowded(1);
    let hour = Duration::from_secs(3600);
    let pool = builder(address.into(), folder.path()).limit_floods(1, hour).start().unwrap();
    let logger = logger("held at the end", &pool);
    for n in 0..10 {
        error!(logger: logger, target: "store", "{n}");
    }
    logger.flush();
    drop(pool);
    // Nobody would count these later.
    for _ in 0..2 {
        error!(logger: logger, target: "store", "late");
    }
    drop(logger);
    let collector = Collector::well();
    let pool = builder(collector.address(), folder.path()).start().unwrap();
    assert!(pool.drain(LONG));
    let messages = collector.end();
    let has = |text: &str| messages.iter().filter(|message| message.contains(text)).count();
    assert_eq!((messages.len(), has(" 9 more records from store "), has(" late")), (4, 1, 2), "{messages:?}");
}

#[test]
fn a_spool_whose_folder_was_removed_is_made_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let (socket, address) = crowded(1);
    drop(socket);
    let pool = builder(address.into(), &spool).clients(1).start().unwrap();
    let logger = logger("removed", &pool);
    error!(logger: logger, "goes with the folder");
    logger.flush();
    fs::remove_dir_all(&spool).unwrap();
    error!(logger: logger, "after it");
    logger.flush();
    assert!(segments(&spool).len() == 1);
    let collector = Collector::at(address, |connection| connection.serve_well());
    pool.reconnect_now();
    assert!(pool.drain(LONG));
    assert_eq!(pool.counters().damaged, 1);
    let messages = collector.end();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].ends_with(" after it"));
}

#[test]
fn an_address_where_nobody_can_listen_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["127.0.0.1:0", "[::1]:0", "unix:"] {
        let error = Pool::builder(address.parse().unwrap(), folder.path()).start().unwrap_err().to_string();
        assert!(error.contains(&format!("{address:?}")), "{error}");
    }
}
