//! Records to another process: how many a second, how long one takes, and what the caller notices of it.
//!
//! `cargo bench --bench forward`. The collector is `cloudstore backlog`; where rsyslog and its RELP module are installed,
//! `rsyslogd` takes its place for comparison. Every record is looked for in the collector's file.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failure is a panic here"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use logger::forward::Pool;
use logger::sink::File;
use logger::{Level, Logger, error};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const CLIENTS: usize = 4;
const THREADS: usize = 4;
const RECORDS: usize = 400_000;
const ROUNDS: usize = 5;
/// What is written beside the place and the time.
const MESSAGE: &str =
    "upload refused, the disk has no room left for an object of this size, name=a-file-with-a-name.bin";
const LONG: Duration = Duration::from_secs(120);

/// A collector in a process of its own.
struct Collector {
    child: Child,
    address: SocketAddr,
    file: PathBuf,
    _folder: TempDir,
}

impl Collector {
    fn ours(arguments: &[&str]) -> Collector {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("backlog.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloudstore"))
            .args(["backlog", "--listen", "127.0.0.1:0", "--max-bytes", "0", "--file"])
            .arg(&file)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the backlog server");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("its first line");
        let address = line.split([' ', ',']).nth(2).and_then(|text| text.parse().ok()).expect("its address");
        Collector { child, address, file, _folder: folder }
    }

    /// `None` where rsyslog is not installed.
    fn rsyslog() -> Option<Collector> {
        let program =
            ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].iter().find(|path| Path::new(path).exists())?;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rsyslog.log");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let config = folder.path().join("rsyslog.conf");
        let text = format!(
            "global(workDirectory=\"{folder}\")\nmodule(load=\"imrelp\" ruleset=\"in\")\n\
             input(type=\"imrelp\" port=\"{port}\")\n\
             template(name=\"raw\" type=\"string\" string=\"%rawmsg%\\n\")\n\
             ruleset(name=\"in\") {{ action(type=\"omfile\" file=\"{file}\" template=\"raw\") }}\n",
            folder = folder.path().display(),
            port = address.port(),
            file = file.display(),
        );
        fs::write(&config, text).expect("a configuration");
        let child = Command::new(program)
            .arg("-n")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(folder.path().join("pid"))
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                println!("rsyslog with imrelp does not start: not compared");
                return None;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Some(Collector { child, address, file, _folder: folder })
    }

    fn lines(&self) -> usize {
        let text = fs::read(&self.file).expect("the collector's file");
        let is_record = |line: &&[u8]| !line.is_empty() && line[0] != b'#';
        text.split(|&byte| byte == b'\n').filter(is_record).count()
    }

    /// Seconds of processor time.
    fn cpu(&self) -> f64 {
        cpu_of(&format!("/proc/{}/stat", self.child.id()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cpu_of(path: &str) -> f64 {
    let text = fs::read_to_string(path).expect("a process");
    let (_, fields) = text.rsplit_once(')').expect("its name");
    let ticks = |nth: usize| fields.split_whitespace().nth(nth).and_then(|text| text.parse::<f64>().ok());
    (ticks(11).expect("user time") + ticks(12).expect("system time")) / 100.0
}

fn pool(address: SocketAddr, folder: &Path) -> Pool {
    Pool::builder(address.into(), folder).clients(CLIENTS).on_report(|_| ()).start().expect("a pool")
}

fn wait_until_connected(pool: &Pool) {
    while pool.counters().connected < CLIENTS {
        thread::sleep(Duration::from_millis(1));
    }
}

/// From the first call until the collector has acknowledged everything.
fn throughput(name: &str, collector: &Collector) {
    let mut rates = Vec::new();
    let (mut ours, mut theirs) = (0.0, 0.0);
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let pool = pool(collector.address, folder.path());
        let logger = Logger::builder(&format!("{name} {round}")).sink(pool.sink()).build().expect("a logger");
        wait_until_connected(&pool);
        let before = (collector.cpu(), cpu_of("/proc/self/stat"));
        let start = Instant::now();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..RECORDS / THREADS {
                        error!(logger: logger, target: "bench", "{}", MESSAGE);
                    }
                });
            }
        });
        logger.flush();
        assert!(pool.drain(LONG), "{name}: {:?}", pool.counters());
        rates.push(RECORDS as f64 / start.elapsed().as_secs_f64());
        theirs += collector.cpu() - before.0;
        ours += cpu_of("/proc/self/stat") - before.1;
    }
    let found = collector.lines();
    assert!(found >= RECORDS * ROUNDS, "{name}: {found} of {} records in the file", RECORDS * ROUNDS);
    rates.sort_by(f64::total_cmp);
    let micros = |seconds: f64| seconds * 1e6 / (RECORDS * ROUNDS) as f64;
    println!(
        "{name:32} {:>9.0} acknowledged records/s ({:.0} to {:.0}), CPU us a record: sender {:.2}, collector {:.2}",
        rates[ROUNDS / 2],
        rates[0],
        rates[ROUNDS - 1],
        micros(ours),
        micros(theirs),
    );
}

/// From a call until its record is in the collector's file.
fn latency(name: &str, collector: &Collector) {
    const CALLS: usize = 2000;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(collector.address, folder.path());
    let logger = Logger::builder(name).sink(pool.sink()).build().expect("a logger");
    wait_until_connected(&pool);
    // rsyslog makes its file with the first record, and a moment after it has acknowledged that.
    error!(logger: logger, target: "bench", "first");
    assert!(pool.drain(LONG), "{name}: {:?}", pool.counters());
    let start = Instant::now();
    while fs::metadata(&collector.file).map_or(0, |file| file.len()) == 0 {
        assert!(start.elapsed() < LONG, "{name}: no file");
        thread::sleep(Duration::from_millis(1));
    }
    let file = fs::File::open(&collector.file).expect("the collector's file");
    let size = || file.metadata().expect("its size").len();
    let mut took = Vec::new();
    for _ in 0..CALLS {
        // Long enough for everybody to sleep in some rounds, and to be awake in others.
        thread::sleep(Duration::from_millis(took.len() as u64 % 7));
        let before = size();
        let start = Instant::now();
        error!(logger: logger, target: "bench", "{}", MESSAGE);
        while size() == before {
            thread::yield_now();
        }
        took.push(start.elapsed());
    }
    println!("{name:32} {}", quantiles(&mut took));
}

fn quantiles(took: &mut [Duration]) -> String {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    format!("p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}", at(0.5), at(0.99), at(0.999), at(1.0))
}

/// What a call takes, with a file as the logger's other sink.
fn calls(name: &str, address: Option<SocketAddr>) {
    const CALLS: usize = 100_000;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = address.map(|address| pool(address, &folder.path().join("spool")));
    let file = File::open(folder.path().join("calls.log")).expect("a file");
    let mut builder = Logger::builder(name).level(Level::Info).sink(file);
    if let Some(pool) = &pool {
        builder = builder.sink(pool.sink());
    }
    let logger = builder.build().expect("a logger");
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        // 50 000 a second.
        let pause = Instant::now();
        while pause.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        error!(logger: logger, target: "bench", "{}", MESSAGE);
        took.push(start.elapsed());
    }
    println!("{name:32} {}", quantiles(&mut took));
}

/// An address that accepts and never answers.
fn stalled() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(128).expect("a queue");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("its address");
    (socket, address)
}

fn main() {
    // `cargo bench` passes `--bench`; a word that is no option chooses a part.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wants("throughput") {
        println!(
            "{RECORDS} records of {} bytes, {THREADS} threads, {CLIENTS} clients, {ROUNDS} rounds",
            MESSAGE.len()
        );
        throughput("ours", &Collector::ours(&[]));
        throughput("ours, --sync", &Collector::ours(&["--sync"]));
        if let Some(collector) = Collector::rsyslog() {
            throughput("rsyslog (imrelp)", &collector);
        }
    }
    if wants("latency") {
        println!("from a call until the record is in the collector's file");
        latency("to ours", &Collector::ours(&[]));
        latency("to ours, --sync", &Collector::ours(&["--sync"]));
        if let Some(collector) = Collector::rsyslog() {
            latency("to rsyslog (imrelp)", &collector);
        }
    }
    if wants("calls") {
        println!("what an ERROR costs its caller, 50 000 a second, the log file as first sink");
        for round in 0..3 {
            calls(&format!("without a pool, {round}"), None);
            let collector = Collector::ours(&[]);
            calls(&format!("with a collector, {round}"), Some(collector.address));
            drop(collector);
            let (_socket, address) = stalled();
            calls(&format!("with one that stalls, {round}"), Some(address));
            let (socket, address) = stalled();
            drop(socket);
            calls(&format!("with none, {round}"), Some(address));
        }
    }
    let _ = std::io::stdout().flush();
}
