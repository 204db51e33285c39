//! The server that receives, over real sockets.
#![cfg(feature = "forward")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use logger::Logger;
use logger::backlog::{Backlog, Counters, Options};
use logger::sink::{Memory, RollingOptions};
use reactor::{Address, EventBase, LoopFlags, Notifier, SteppedClock};
use socket2::{Domain, SockAddr, Socket, Type};

/// A server on a thread of its own.
struct Server {
    address: SocketAddr,
    notifier: Notifier,
    thread: Option<JoinHandle<Counters>>,
}

impl Server {
    fn start(options: Options) -> Server {
        let (sender, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let base = EventBase::new().unwrap();
            let backlog = Backlog::bind(&base, options).unwrap();
            let Address::Inet(address) = backlog.local_address().unwrap() else { panic!("no port") };
            sender.send((address, base.notifier())).unwrap();
            base.dispatch().unwrap();
            backlog.close();
            backlog.counters()
        });
        let (address, notifier) = started.recv().unwrap();
        Server { address, notifier, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client
    }

    /// Closes it as a signal would.
    fn stop(mut self) -> Counters {
        self.notifier.loop_break().unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

/// What all servers of this process log.
static SAID: LazyLock<Memory> = LazyLock::new(|| {
    let memory = Memory::new();
    Logger::builder("backlog").sink(memory.clone()).install().unwrap();
    memory
});

/// How many lines with this text were logged.
fn said(text: &str) -> usize {
    logger::flush_all();
    let lines = SAID.text();
    lines.lines().filter(|line| line.contains(" [logger::backlog] ") && line.contains(text)).count()
}

fn options(file: &Path) -> Options {
    Options::new("127.0.0.1:0".parse().unwrap(), file)
}

/// The records in a file, without their time.
fn lines(file: &Path) -> Vec<String> {
    without_times(&fs::read_to_string(file).unwrap())
}

fn without_times(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'));
    let records = text.lines().filter(|line| !line.starts_with('#'));
    records.map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// All records, in the old files too, the oldest first.
fn all_lines(file: &Path) -> Vec<String> {
    let mut old: Vec<PathBuf> = fs::read_dir(file.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path != file && path.extension().is_none_or(|extension| extension != "partial"))
        .collect();
    old.sort_by_key(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        name.trim_end_matches(".gz").to_owned()
    });
    let mut text = String::new();
    for path in old {
        let file = fs::File::open(&path).unwrap();
        match path.extension().is_some_and(|extension| extension == "gz") {
            true => MultiGzDecoder::new(file).read_to_string(&mut text).unwrap(),
            false => { &file }.read_to_string(&mut text).unwrap(),
        };
    }
    without_times(&(text + &fs::read_to_string(file).unwrap()))
}

/// A record of ours, as RFC 5424.
fn record(sender: u64, stream: u32, sequence: u64) -> String {
    format!(
        "<11>1 2026-11-22T14:03:56.234567Z web1 server 4711 - [cloudstore@32473 sender=\"{sender:016x}\" \
         stream=\"{stream}\" sequence=\"{sequence}\"] ERROR [client] record {sequence}"
    )
}

fn line(sender: u64, stream: u32, sequence: u64) -> String {
    format!("web1 server[4711] {sender:016x}/{stream}/{sequence} ERROR [client] record {sequence}")
}

const OFFERS: &str = "relp_version=0\nrelp_software=test\ncommands=syslog";

fn frame(txnr: u32, command: &str, data: &str) -> String {
    match data {
        "" => format!("{txnr} {command} 0\n"),
        data => format!("{txnr} {command} {} {data}\n", data.len()),
    }
}

/// A blocking RELP client.
struct Relp {
    stream: BufReader<TcpStream>,
    txnr: u32,
}

impl Relp {
    fn open(server: &Server) -> Relp {
        let mut relp = Relp { stream: BufReader::new(server.connect()), txnr: 0 };
        relp.send("open", OFFERS);
        let (txnr, command, data) = relp.answer();
        assert_eq!((txnr, command.as_str()), (1, "rsp"));
        assert!(data.starts_with("200 OK\nrelp_version=0\n") && data.contains("\ncommands=syslog"), "{data}");
        relp
    }

    fn send(&mut self, command: &str, data: &str) {
        self.txnr += 1;
        let frame = frame(self.txnr, command, data);
        self.stream.get_mut().write_all(frame.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> (u32, String, String) {
        let mut word = |end: u8| {
            let mut word = Vec::new();
            self.stream.read_until(end, &mut word).unwrap();
            String::from_utf8(word).unwrap()
        };
        let txnr = word(b' ').trim_end().parse().unwrap();
        let command = word(b' ').trim_end().to_owned();
        let mut len = String::new();
        let mut byte = [0];
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            match byte[0] {
                b' ' | b'\n' => break,
                digit => len.push(digit as char),
            }
        }
        let mut data = vec![0; len.parse().unwrap()];
        if byte[0] == b' ' {
            self.stream.read_exact(&mut data).unwrap();
            self.stream.read_exact(&mut byte).unwrap();
        }
        assert_eq!(byte[0], b'\n');
        (txnr, command, String::from_utf8(data).unwrap())
    }

    /// Sends records and waits until all are acknowledged, in order.
    fn deliver(&mut self, records: impl IntoIterator<Item = String>) {
        let first = self.txnr + 1;
        records.into_iter().for_each(|record| self.send("syslog", &record));
        for txnr in first..=self.txnr {
            assert_eq!(self.answer(), (txnr, "rsp".to_owned(), "200 OK".to_owned()));
        }
    }
}

/// Sends bytes in two pieces, then hears the server out.
fn say(server: &Server, bytes: &[u8], split: usize) -> String {
    let mut client = server.connect();
    let (one, two) = bytes.split_at(split);
    client.write_all(one).unwrap();
    if !two.is_empty() {
        // Often enough the server has read the first piece by now; what comes of it must be the same if not.
        thread::yield_now();
        client.write_all(two).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_wire_at_every_split_on_one_port() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    let relp = [
        frame(1, "open", OFFERS),
        frame(2, "syslog", "<13>relp\none"),
        frame(3, "syslog", "<13>relp two"),
        frame(4, "close", ""),
    ]
    .concat();
    let conversations = [
        (relp.as_str(), ["relp\\none", "relp two"]),
        ("16 <13>counted\none\n15 <13>counted two", ["counted\\none", "counted two"]),
        ("<13>line one\r\n<13>line two", ["line one", "line two"]),
        ("404 not found\n1 open door", ["404 not found", "1 open door"]),
    ];
    let mut expected = Vec::new();
    for (bytes, texts) in conversations {
        for split in 0..=bytes.len() {
            let answer = say(&server, bytes.as_bytes(), split);
            expected.extend(texts.map(|text| format!("127.0.0.1 - - INFO  {text}")));
            assert_eq!(lines(&file), expected, "{bytes:?} at {split}");
            match bytes == relp {
                true => {
                    let rest = "2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 0\n0 serverclose 0\n";
                    assert!(answer.starts_with("1 rsp ") && answer.ends_with(rest), "{answer:?}");
                }
                false => assert_eq!(answer, ""),
            }
        }
    }
    assert_eq!(server.stop().records, expected.len() as u64);
}

#[test]
fn senders_at_once_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    thread::scope(|scope| {
        for sender in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut relp = Relp::open(server);
                relp.deliver((1..=500).map(|sequence| record(sender, 0, sequence)));
            });
            scope.spawn(move || {
                let text: String = (0..500).map(|nth| format!("bare {sender} {nth}\n")).collect();
                assert_eq!(say(server, text.as_bytes(), text.len() / 2), "");
            });
        }
    });
    server.stop();
    let found = lines(&file);
    assert_eq!(found.len(), 4000);
    for sender in 0..4 {
        let of = |part: &str| found.iter().filter(|line| line.contains(part)).cloned().collect::<Vec<_>>();
        let ours: Vec<_> = (1..=500).map(|sequence| line(sender, 0, sequence)).collect();
        assert_eq!(of(&format!(" {sender:016x}/")), ours);
        let bare: Vec<_> = (0..500).map(|nth| format!("127.0.0.1 - - INFO  bare {sender} {nth}")).collect();
        assert_eq!(of(&format!(" bare {sender} ")), bare);
    }
}

#[test]
fn a_repeat_is_acknowledged_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    Relp::open(&server).deliver((1..=10).map(|sequence| record(7, 1, sequence)));
    let mut relp = Relp::open(&server);
    relp.deliver((5..=12).chain(11..=13).map(|sequence| record(7, 1, sequence)));
    relp.deliver([record(7, 2, 1), record(8, 1, 1)]);
    let counters = server.stop();
    let mut expected: Vec<_> = (1..=13).map(|sequence| line(7, 1, sequence)).collect();
    expected.extend([line(7, 2, 1), line(8, 1, 1)]);
    assert_eq!(lines(&file), expected);
    assert_eq!((counters.records, counters.repeats), (15, 8));
}

#[test]
fn repeats_are_known_after_restarts_and_rolling() {
    for (keep, compress) in [(Some(2), false), (Some(0), false), (None, true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backlog.log");
        let rolling = RollingOptions { max_bytes: Some(2000), daily: false, keep, compress };
        let options = Options { rolling, ..options(&file) };
        let mut written = 0;
        for to in [50, 120, 125] {
            let server = Server::start(options.clone());
            let mut relp = Relp::open(&server);
            for stream in 0..3 {
                relp.deliver((1..=to).map(|sequence| record(7, stream, sequence)));
            }
            written += server.stop().records;
        }
        assert_eq!(written, 3 * 125);
        if keep.is_none() {
            let mut found = all_lines(&file);
            let mut expected: Vec<_> =
                (0..3).flat_map(|stream| (1..=125).map(move |sequence| line(7, stream, sequence))).collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
        // The newest file alone tells all.
        for entry in fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path != file {
                fs::remove_file(path).unwrap();
            }
        }
        let server = Server::start(options);
        Relp::open(&server).deliver((0..3).flat_map(|stream| (1..=125).map(move |n| record(7, stream, n))));
        assert_eq!(server.stop().records, 0);
    }
}

#[test]
fn a_line_that_was_torn_by_a_crash_is_cut_off_and_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    Relp::open(&server).deliver((1..=3).map(|sequence| record(7, 0, sequence)));
    server.stop();
    let len = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len - 5).unwrap();
    let server = Server::start(options(&file));
    Relp::open(&server).deliver((1..=4).map(|sequence| record(7, 0, sequence)));
    let counters = server.stop();
    assert_eq!((counters.records, counters.repeats), (2, 2));
    assert_eq!(lines(&file), (1..=4).map(|sequence| line(7, 0, sequence)).collect::<Vec<_>>());
}

#[test]
fn a_record_that_is_too_long_is_cut_on_each_wire() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(Options { max_record: 1000, ..options(&file) });
    // Longer than what one read takes, and a character that does not fit at the bound.
    let long = format!("<13>{}{}", "x".repeat(995), "\u{e9}".repeat(300_000));
    let mut relp = Relp::open(&server);
    relp.deliver([long.clone(), "<13>short".to_owned()]);
    for bytes in [
        format!("{} {long}9 <13>short", long.len()),
        format!("{long}\n<13>short\n"),
        format!("{}\r\nshort", &long[4..].replacen('x', "y", 4)),
    ] {
        say(&server, bytes.as_bytes(), bytes.len() / 3);
    }
    let counters = server.stop();
    let cut = |text: String, bytes| format!("127.0.0.1 - - INFO  {text} [cut, {bytes} bytes]");
    let short = "127.0.0.1 - - INFO  short".to_owned();
    let syslog = cut("x".repeat(995), 600_000);
    let bare = cut(format!("yyyy{}{}", "x".repeat(991), "\u{e9}".repeat(2)), 599_996);
    let expected = [&syslog, &short, &syslog, &short, &syslog, &short, &bare, &short];
    assert_eq!(lines(&file).iter().collect::<Vec<_>>(), expected);
    assert_eq!(counters.cut, 4);
}

#[test]
fn connections_beyond_the_bound_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(Options { max_connections: 2, ..options(&file) });
    let mut clients = [Relp::open(&server), Relp::open(&server)];
    for _ in 0..3 {
        let closed = server.connect().read(&mut [0]);
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    clients[0].deliver([record(1, 0, 1)]);
    clients[1].deliver([record(2, 0, 1)]);
    let [one, _two] = clients;
    drop(one);
    // The server hears of it in its own time.
    let another = loop {
        let mut client = server.connect();
        let said = client.write_all(frame(1, "open", OFFERS).as_bytes());
        if said.is_ok() && client.read(&mut [0]).is_ok_and(|n| n == 1) {
            break client;
        }
    };
    drop(another);
    let counters = server.stop();
    assert!(counters.refused >= 3);
    assert_eq!(counters.records, 2);
}

#[test]
fn what_makes_no_sense_is_closed_and_what_came_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    LazyLock::force(&SAID);
    let mut relp = Relp::open(&server);
    let peer = relp.stream.get_ref().local_addr().unwrap();
    relp.send("syslog", "<13>kept");
    relp.stream.get_mut().write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert_eq!(relp.answer(), (2, "rsp".to_owned(), "200 OK".to_owned()));
    let mut rest = Vec::new();
    let _ = relp.stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let counters = server.stop();
    assert_eq!((counters.garbage, counters.records), (1, 1));
    assert_eq!(said("a connection is closed: no RELP: \"GET /"), 1);
    assert_eq!(said(&format!(" peer=\"{peer}\"")), 1);
    assert_eq!(lines(&file), ["127.0.0.1 - - INFO  kept"]);
}

#[test]
fn a_reader_that_is_slow_gets_every_acknowledgement_in_the_end() {
    const RECORDS: u32 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(options(&folder.path().join("backlog.log")));
    let mut relp = Relp::open(&server);
    let mut writer = relp.stream.get_ref().try_clone().unwrap();
    let (sender, sent) = mpsc::channel();
    let writing = thread::spawn(move || {
        // The socket buffers take a part of it, then the server reads no more.
        let mut writes = 0;
        for first in (2..RECORDS + 2).step_by(1000) {
            let frames: String = (first..first + 1000).map(|txnr| frame(txnr, "syslog", "<13>x")).collect();
            writer.write_all(frames.as_bytes()).unwrap();
            writes += 1;
            let _ = sender.send(writes);
        }
    });
    // Wait until some of it is under way, then read all.
    sent.recv().unwrap();
    for txnr in 2..RECORDS + 2 {
        assert_eq!(relp.answer().0, txnr);
    }
    writing.join().unwrap();
    assert_eq!(server.stop().records, u64::from(RECORDS));
}

/// A base that is run by hand, a server on it, and its address.
fn by_hand(clock: &SteppedClock, options: Options) -> (EventBase, Backlog, SocketAddr) {
    let base = EventBase::builder().clock(clock).build().unwrap();
    let backlog = Backlog::bind(&base, options).unwrap();
    let Address::Inet(address) = backlog.local_address().unwrap() else { panic!("no port") };
    (base, backlog, address)
}

#[test]
fn a_file_that_is_moved_away_or_emptied_is_noticed_without_a_signal() {
    LazyLock::force(&SAID);
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("noticed.log"), folder.path().join("moved.log"));
    let clock = SteppedClock::new();
    let (base, backlog, address) = by_hand(&clock, options(&file));
    let mut client = TcpStream::connect(address).unwrap();
    let mut written = 0;
    let mut deliver = || {
        written += 1;
        client.write_all(format!("{}\n", record(7, 0, written)).as_bytes()).unwrap();
        while backlog.counters().records < written {
            base.run(LoopFlags::NONBLOCK).unwrap();
        }
    };
    deliver();
    fs::rename(&file, &moved).unwrap();
    deliver();
    assert!(!file.exists());
    clock.advance(Duration::from_secs(1));
    deliver();
    assert_eq!(lines(&moved), [line(7, 0, 1), line(7, 0, 2)]);
    let mark = |sequence| format!("# cloudstore backlog 1 marks=1\n# mark {:016x}/0/{sequence} ", 7);
    assert_eq!(lines(&file), [line(7, 0, 3)]);
    assert!(fs::read_to_string(&file).unwrap().starts_with(&mark(2)));
    assert_eq!(said(&format!("file=\"{}\"", file.display())), 1);
    assert_eq!(said("was removed or renamed"), 1);
    let empty = || fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    empty();
    clock.advance(Duration::from_secs(1));
    deliver();
    assert!(fs::read_to_string(&file).unwrap().starts_with(&mark(3)));
    assert_eq!(lines(&file), [line(7, 0, 4)]);
    assert_eq!(said("has cut the file"), 1);
    // The end looks at once, and there need be nothing to write.
    empty();
    backlog.close();
    assert!(fs::read_to_string(&file).unwrap().starts_with(&mark(4)));
}

#[test]
fn refused_connections_are_logged_once_for_each_burst() {
    LazyLock::force(&SAID);
    let folder = tempfile::tempdir().unwrap();
    let clock = SteppedClock::new();
    let limits = Options { max_connections: 1, ..options(&folder.path().join("backlog.log")) };
    let (base, backlog, address) = by_hand(&clock, limits);
    let _first = TcpStream::connect(address).unwrap();
    let mut refuse = |refused: u64| {
        let _client = TcpStream::connect(address).unwrap();
        while backlog.counters().refused < refused {
            base.run(LoopFlags::NONBLOCK).unwrap();
        }
        said("max=1")
    };
    assert_eq!((1..=5).map(&mut refuse).collect::<Vec<_>>(), [1; 5]);
    clock.advance(Duration::from_secs(11));
    assert_eq!((6..=9).map(&mut refuse).collect::<Vec<_>>(), [2; 4]);
}

#[test]
fn nothing_is_read_from_a_peer_that_takes_no_acknowledgements() {
    const MOST: usize = 64 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let (base, backlog, address) = by_hand(&SteppedClock::new(), options(&folder.path().join("backlog.log")));
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(frame(1, "open", "").as_bytes()).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut bytes = [0; 64 * 1024];
    while client.read(&mut bytes).is_err() {
        base.run(LoopFlags::NONBLOCK).unwrap();
    }
    let frame = frame(2, "syslog", "");
    let frames = frame.repeat(1000);
    // All on one thread: when neither side gets on any more, that is for good.
    let (mut sent, mut stalled) = (0, 0);
    while stalled < 1000 {
        base.run(LoopFlags::NONBLOCK).unwrap();
        match client.write(&frames.as_bytes()[sent % frames.len()..]) {
            Ok(n) => (sent, stalled) = (sent + n, 0),
            Err(_) => stalled += 1,
        }
        assert!(sent < MOST, "it reads on and on");
    }
    let written = backlog.counters().records;
    // Now it listens, and finishes its last frame.
    let whole = sent.next_multiple_of(frame.len());
    let mut unheard = whole / frame.len() * "2 rsp 6 200 OK\n".len();
    while unheard > 0 {
        base.run(LoopFlags::NONBLOCK).unwrap();
        if let Ok(n) = client.read(&mut bytes) {
            assert_ne!(n, 0);
            unheard -= n;
        }
        let at = sent % frames.len();
        if sent < whole
            && let Ok(n) = client.write(&frames.as_bytes()[at..at + whole - sent])
        {
            sent += n;
        }
    }
    let records = backlog.counters().records;
    assert!(records > written);
    assert_eq!(records, (whole / frame.len()) as u64);
    backlog.close();
}

#[test]
fn what_was_read_is_kept_when_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let server = Server::start(options(&file));
    let mut relp = Relp::open(&server);
    let mut bare = server.connect();
    bare.write_all(b"one\ntwo without an end").unwrap();
    while !fs::read_to_string(&file).unwrap_or_default().contains("one") {
        thread::yield_now();
    }
    server.stop();
    assert_eq!(lines(&file), ["127.0.0.1 - - INFO  one", "127.0.0.1 - - INFO  two without an end"]);
    assert_eq!(relp.answer(), (0, "serverclose".to_owned(), String::new()));
    assert_eq!(bare.read(&mut [0]).unwrap_or(0), 0);
}

/// Runs the loop until there is no connection, by a clock that moves when there is nothing to do; how long that took.
fn time_until_all_are_gone(
    base: &EventBase,
    clock: &SteppedClock,
    backlog: &Backlog,
    accepted: u64,
) -> Duration {
    while backlog.counters().accepted < accepted {
        base.run(LoopFlags::ONCE).unwrap();
    }
    let from = clock.elapsed();
    while backlog.counters().connections > 0 {
        base.run(LoopFlags::ONCE).unwrap();
    }
    clock.elapsed() - from
}

#[test]
fn quiet_and_unfinished_connections_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let open = frame(1, "open", OFFERS);
    let cases = [
        // Between records, and what came is a record.
        (b"hello\n".as_slice(), 1000),
        (open.as_bytes(), 1000),
        // No first record, and in the middle of one.
        (b"", 60),
        (b"1 op", 60),
        (b"hello\nwor", 60),
        (b"9 <13>a", 60),
    ];
    for (bytes, seconds) in cases {
        let clock = SteppedClock::new();
        let base = EventBase::builder().clock(&clock).build().unwrap();
        let limits = Options { idle: Duration::from_secs(1000), ..options(&file) };
        let backlog = Backlog::bind(&base, limits).unwrap();
        let Address::Inet(address) = backlog.local_address().unwrap() else { panic!("no port") };
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(bytes).unwrap();
        let took = time_until_all_are_gone(&base, &clock, &backlog, 1);
        let least = Duration::from_secs(seconds);
        // The loop may have moved the clock before the bytes came.
        assert!(took + Duration::from_secs(15) >= least && took <= least * 3 / 2, "{bytes:?} took {took:?}");
        backlog.close();
    }
    let texts = ["hello", "1 op", "hello", "wor", "<13>a [cut, 4 bytes]"];
    let found = lines(&file);
    for (line, text) in found.iter().zip(texts) {
        assert!(line.ends_with(text.trim_start_matches("<13>")), "{line}");
    }
    assert_eq!(found.len(), texts.len());
}

#[test]
fn unix_sockets_work_and_leave_no_name_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("backlog.log"), folder.path().join("backlog.sock"));
    let base = EventBase::new().unwrap();
    let backlog = Backlog::bind(&base, Options::new(path.clone().into(), &file)).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello\n").unwrap();
    while backlog.counters().records == 0 {
        base.run(LoopFlags::ONCE).unwrap();
    }
    backlog.close();
    assert_eq!(lines(&file), ["unix - - INFO  hello"]);
    assert!(!path.exists());
    assert!(backlog.local_address().is_err());
}

#[test]
fn the_socket_of_a_killed_server_is_taken_over_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backlog.sock");
    let base = EventBase::new().unwrap();
    let bind = |name: &str| Backlog::bind(&base, Options::new(path.clone().into(), folder.path().join(name)));
    let refused = |what: &str| {
        let place = || fs::symlink_metadata(&path).map(|data| (data.ino(), data.file_type())).unwrap();
        let before = place();
        let refused = bind("refused.log").unwrap_err().to_string();
        assert!(refused.contains("backlog.sock") && refused.contains("in use"), "{what}: {refused}");
        assert_eq!(place(), before, "{what}");
        assert!(!folder.path().join("refused.log").exists());
    };
    // A listener that goes leaves its path.
    let listener = UnixListener::bind(&path).unwrap();
    refused("somebody listens");
    let mode = fs::metadata(&path).unwrap().permissions();
    drop(listener);
    let backlog = bind("a.log").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions(), mode);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello\n").unwrap();
    while backlog.counters().records == 0 {
        base.run(LoopFlags::ONCE).unwrap();
    }
    refused("a server of ours");
    backlog.close();
    // Nobody takes its connections, and no more can wait.
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    busy.listen(0).unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    refused("a busy one");
    drop((busy, waiting));
    fs::remove_file(&path).unwrap();
    let datagrams = UnixDatagram::bind(&path).unwrap();
    refused("a socket of another kind");
    drop(datagrams);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    refused("a file");
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    fs::remove_file(&path).unwrap();
    symlink(folder.path().join("nothing"), &path).unwrap();
    refused("a link");
}

#[test]
fn what_cannot_be_bound_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = EventBase::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let nowhere = folder.path().join("file/backlog.log");
    let refused = Backlog::bind(&base, options(&nowhere)).unwrap_err().to_string();
    assert!(refused.contains("file/backlog.log"), "{refused}");
    let first = Backlog::bind(&base, options(&folder.path().join("a.log"))).unwrap();
    let taken = Options::new(first.local_address().unwrap(), folder.path().join("b.log"));
    let refused = Backlog::bind(&base, taken).unwrap_err().to_string();
    assert!(refused.contains(&first.local_address().unwrap().to_string()), "{refused}");
    assert!(!folder.path().join("b.log").exists());
    // Both are taken: the address is what one hears of.
    let both = Options::new(first.local_address().unwrap(), folder.path().join("a.log"));
    let refused = Backlog::bind(&base, both).unwrap_err().to_string();
    assert!(refused.starts_with("cannot listen on "), "{refused}");
    let socket = folder.path().join("backlog.sock");
    let refused = Backlog::bind(&base, Options::new(socket.clone().into(), folder.path().join("a.log")));
    assert!(refused.unwrap_err().to_string().contains("another server writes to it"));
    assert!(!socket.exists());
    let refused = Backlog::bind(&base, options(&folder.path().join("a.log"))).unwrap_err().to_string();
    assert!(refused.contains("another server writes to it"), "{refused}");
    first.close();
}
