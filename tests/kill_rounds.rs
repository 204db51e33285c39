//! SIGKILL under load: rounds in which the sender of records dies, the collector, or either, again and again. What was
//! accepted stands in the collector's files afterwards, once, in the order of its thread.
//!
//! The sender is this program once more, the collector is `cloudstore backlog`. What happens in a round, and when, comes
//! from its seed; round after round the seed grows by one, and with it the victim changes. `KILL_SEED` is the first one,
//! by default another each time; `KILL_ROUNDS` how many rounds there are, by default 3: each victim once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy knows no tests without a harness"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use logger::forward::{Pool, Report};
use logger::{Level, Logger, error};
use socket2::{Domain, Socket, Type};

/// What a sender is to do: seed, run, collector. Its folder is the working directory.
const SENDER: &str = "KILL_ROUNDS_SENDER";
const THREADS: usize = 4;
/// Far more than anything here takes on a slow machine.
const LONG: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if let Ok(order) = std::env::var(SENDER) {
        return send(&order);
    }
    let is_asked = std::env::args().skip(1).all(|arg| arg.starts_with('-') || "kill_rounds".contains(&arg));
    if !is_asked || std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let rounds = number("KILL_ROUNDS").unwrap_or(3);
    let first = number("KILL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000);
    let mut sum = Tally::default();
    for seed in first..first + rounds {
        let folder = tempfile::Builder::new().prefix("kill-round-").tempdir().unwrap();
        // It stays if this panics.
        let folder = folder.keep();
        let evidence = Evidence { folder: &folder, seed };
        let tally = Round::new(seed, &folder).play();
        if tally.is_wrong() {
            eprintln!("kill_rounds: {}", tally.said());
            panic!("{}", tally.trouble.join("\n"));
        }
        std::mem::forget(evidence);
        fs::remove_dir_all(&folder).unwrap();
        sum.add(tally);
    }
    assert!(rounds == 0 || sum.accepted > 0, "nothing was accepted, so nothing was shown");
    println!("kill_rounds: {rounds} rounds from seed {first}: {}", sum.said());
    ExitCode::SUCCESS
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Says where to look, when a round fails.
struct Evidence<'a> {
    folder: &'a Path,
    seed: u64,
}

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        let (seed, folder) = (self.seed, self.folder.display());
        eprintln!("kill_rounds: the files of the round are in {folder}");
        eprintln!("kill_rounds: again with KILL_SEED={seed} KILL_ROUNDS=1 cargo test --test kill_rounds");
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Sender,
    Collector,
    Both,
}

/// What a round is like.
#[derive(Debug)]
struct Plan {
    /// Who dies; for [`Victim::Both`], one of them or both each time.
    victim: Victim,
    kills: u64,
    sync: bool,
    /// Files of the collector.
    max_bytes: u64,
    window: usize,
    /// The bound of the spool.
    max_spool: u64,
    /// Records in the spool beyond which the threads wait, so that it never comes to the bound.
    max_waiting: u64,
    /// Records that a thread logs at most before it asks whether they are accepted.
    burst: u64,
    /// How long a thread rests at most after that.
    rest: Duration,
}

impl Plan {
    fn of(seed: u64) -> Plan {
        let mut chance = Chance(seed);
        let (max_spool, max_waiting, burst) = match chance.below(3) {
            // Segments of 256 KiB: many of them begin and end.
            0 => (2 << 20, 300, chance.one_of(&[1, 40])),
            _ => (1 << 30, 20_000, chance.one_of(&[1, 40, 400])),
        };
        Plan {
            victim: [Victim::Sender, Victim::Collector, Victim::Both][(seed % 3) as usize],
            kills: 4 + chance.below(5),
            sync: chance.below(4) == 0,
            max_bytes: chance.one_of(&[0, 32 << 10, 128 << 10, 512 << 10]),
            window: chance.one_of(&[16, 256, 4096]),
            max_spool,
            max_waiting,
            burst,
            rest: Duration::from_micros(chance.one_of(&[0, 0, 2000])),
        }
    }
}

/// The text of a record, of any length from short to some pages.
fn text(seed: u64, run: u64, thread: usize, number: u64) -> String {
    let mut chance = Chance(seed ^ run << 48 ^ (thread as u64) << 40 ^ number);
    let length = match chance.below(64) {
        0 => chance.below(8192),
        _ => chance.below(200),
    };
    let start = chance.below(26);
    let filler: String = (start..start + length).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    format!("run {run} thread {thread} number {number} {filler}.")
}

// The sender.

/// Logs until it is told to finish, or killed, and says on stdout what is accepted.
fn send(order: &str) -> ExitCode {
    let mut words = order.split(' ');
    let mut word = || words.next().unwrap();
    let (seed, run) = (word().parse().unwrap(), word().parse().unwrap());
    let collector = word().parse().unwrap();
    let plan = Plan::of(seed);
    let pool = Pool::builder(collector, "spool")
        .clients(THREADS)
        .window(plan.window)
        .max_spool(plan.max_spool)
        .on_report(|report: &Report| {
            eprintln!("{report}");
            if report.level() >= Level::Error {
                say(&format!("trouble {report}"));
            }
        })
        .start()
        .unwrap();
    let logger = Logger::builder("sender").level(Level::Error).sink(pool.sink()).build().unwrap();
    let is_over = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = String::new();
            // The other end goes away when the test does.
            if io::stdin().read_line(&mut line).unwrap_or(0) == 0 {
                std::process::abort();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        for thread in 0..THREADS {
            let (pool, logger, plan) = (&pool, &logger, &plan);
            scope.spawn(move || produce(thread, run, seed, plan, logger, pool, is_over));
        }
    });
    if pool.drain(LONG / 2) {
        say("drained");
    } else {
        say(&format!("trouble not drained: {:?}", pool.counters()));
    }
    ExitCode::SUCCESS
}

fn produce(
    thread: usize,
    run: u64,
    seed: u64,
    plan: &Plan,
    logger: &Logger,
    pool: &Pool,
    is_over: &AtomicBool,
) {
    let mut chance = Chance(seed ^ run << 32 ^ thread as u64);
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..=chance.below(plan.burst) {
            number += 1;
            error!(logger: logger, "{}", text(seed, run, thread, number));
        }
        logger.flush();
        say(&format!("accepted {thread} {number}"));
        thread::sleep(plan.rest.mul_f64(chance.below(100) as f64 / 100.0));
        while pool.counters().waiting > plan.max_waiting && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One line, by one write that comes whole or not at all.
fn say(line: &str) {
    let _ = io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}

// The one who kills.

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
    /// Kills it, if it did not end by itself.
    fn kill(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What senders have said.
#[derive(Default)]
struct Told {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// By run and thread, how many records are accepted.
    accepted: BTreeMap<(u64, usize), u64>,
    times: u64,
    trouble: Vec<String>,
    is_drained: bool,
    /// The last of them that ended.
    ended: u64,
}

impl Told {
    fn hear(&self, run: u64, line: &str) {
        let mut state = self.state.lock().unwrap();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["accepted", thread, number] => {
                state.accepted.insert((run, thread.parse().unwrap()), number.parse().unwrap());
                state.times += 1;
            }
            ["drained"] => state.is_drained = true,
            _ => state.trouble.push(format!("run {run}: {line}")),
        }
        self.news.notify_all();
    }

    /// Waits until this is so, or for so long.
    fn wait(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_state, waited) = self.news.wait_timeout_while(state, limit, |state| !is_so(state)).unwrap();
        !waited.timed_out()
    }
}

/// A sender's life.
struct Sender {
    process: Process,
    stdin: ChildStdin,
    ear: JoinHandle<()>,
}

struct Round<'a> {
    seed: u64,
    plan: Plan,
    chance: Chance,
    folder: &'a Path,
    /// Bound, not listening: the port is the collector's, even while there is none.
    _port: Socket,
    address: SocketAddr,
    told: Arc<Told>,
    sender: Option<Sender>,
    collector: Option<Process>,
    run: u64,
    tally: Tally,
}

impl<'a> Round<'a> {
    fn new(seed: u64, folder: &'a Path) -> Round<'a> {
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        port.set_reuse_address(true).unwrap();
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        fs::create_dir(folder.join("files")).unwrap();
        Round {
            seed,
            plan: Plan::of(seed),
            // Another row than the plan's.
            chance: Chance(!seed),
            folder,
            _port: port,
            address,
            told: Arc::default(),
            sender: None,
            collector: None,
            run: 0,
            tally: Tally::default(),
        }
    }

    /// Kills as planned, lets the last sender finish, and looks at what the collector has.
    fn play(mut self) -> Tally {
        self.tally.rounds = 1;
        self.start_collector();
        self.start_sender();
        for nth in 1..=self.plan.kills {
            self.let_pass();
            let victim = match self.plan.victim {
                Victim::Both => self.chance.one_of(&[Victim::Sender, Victim::Collector, Victim::Both]),
                victim => victim,
            };
            // While a sender finishes, the collector may die still.
            if nth == self.plan.kills && victim == Victim::Collector && self.chance.below(2) == 0 {
                self.finish();
            }
            let (kills_sender, kills_collector) = (victim != Victim::Collector, victim != Victim::Sender);
            if kills_sender {
                self.kill_sender();
            }
            if kills_collector {
                self.kill_collector();
                if self.chance.below(3) == 0 {
                    self.tear();
                }
            }
            if self.chance.below(2) == 0 {
                thread::sleep(Duration::from_millis(self.chance.below(150)));
            }
            let comes_second = kills_sender && kills_collector && self.chance.below(2) == 0;
            if kills_sender && comes_second {
                self.start_sender();
                thread::sleep(Duration::from_millis(self.chance.below(50)));
            }
            if kills_collector {
                self.start_collector();
            }
            if kills_sender && !comes_second {
                self.start_sender();
            }
        }
        self.let_pass();
        self.finish();
        let sender = self.sender.take().unwrap();
        let run = self.run;
        assert!(self.told.wait(LONG, |state| state.ended == run), "the last sender does not end");
        drop(sender);
        self.kill_collector();
        self.check();
        self.tally
    }

    /// Some time, from none to much.
    fn let_pass(&mut self) {
        if self.chance.below(3) == 0 {
            thread::sleep(Duration::from_millis(self.chance.below(150)));
            return;
        }
        let times = self.told.state.lock().unwrap().times + self.chance.below(60);
        // Without a collector, senders stop at some time.
        self.told.wait(Duration::from_millis(500), |state| state.times >= times);
        thread::sleep(Duration::from_micros(self.chance.below(3000)));
    }

    fn log(&self, name: &str) -> File {
        File::options().append(true).create(true).open(self.folder.join(name)).unwrap()
    }

    fn start_sender(&mut self) {
        self.run += 1;
        let run = self.run;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SENDER, format!("{} {run} {}", self.seed, self.address))
            .current_dir(self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log("sender.stderr"))
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let told = self.told.clone();
        let ear = thread::spawn(move || listen(run, stdout, &told));
        self.sender = Some(Sender { process: Process(child), stdin, ear });
    }

    fn start_collector(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudstore"));
        command
            .args(["backlog", "--listen", &self.address.to_string(), "--file", "files/backlog.log"])
            .args(["--keep", "1000000", "--max-bytes", &self.plan.max_bytes.to_string()]);
        if self.plan.sync {
            command.arg("--sync");
        }
        let child = command
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log("collector.stderr"))
            .spawn()
            .unwrap();
        self.collector = Some(Process(child));
    }

    fn kill_sender(&mut self) {
        let Sender { mut process, stdin: _stdin, ear } = self.sender.take().unwrap();
        process.kill();
        // What it said before it died counts.
        ear.join().unwrap();
        self.tally.senders += 1;
    }

    fn kill_collector(&mut self) {
        self.collector.take().unwrap().kill();
        self.tally.collectors += 1;
    }

    /// A kill seldom comes in the middle of a write. So here is what it leaves then: a beginning of the line that was next.
    fn tear(&mut self) -> Option<()> {
        let path = self.folder.join("files/backlog.log");
        let text = fs::read_to_string(&path).ok()?;
        let last = text.strip_suffix('\n')?.rsplit('\n').next().filter(|line| !line.starts_with('#'))?;
        let (stream, sequence) = last.split(' ').nth(3)?.rsplit_once('/')?;
        let sequence: u64 = sequence.parse().ok()?;
        let next = last.replacen(&format!("{stream}/{sequence}"), &format!("{stream}/{}", sequence + 1), 1);
        let end = 1 + self.chance.below(next.len() as u64) as usize;
        self.log("files/backlog.log").write_all(&next.as_bytes()[..end]).unwrap();
        Some(())
    }

    /// The sender is to log no more, and to end when the collector has everything.
    fn finish(&mut self) {
        // The second time, nobody reads it.
        let _ = self.sender.as_mut().unwrap().stdin.write_all(b"finish\n");
    }

    fn check(&mut self) {
        let state = self.told.state.lock().unwrap();
        self.tally.trouble.extend(state.trouble.iter().cloned());
        if !state.is_drained {
            self.tally.trouble.push("the last sender did not drain".to_owned());
        }
        let stderr = fs::read_to_string(self.folder.join("collector.stderr")).unwrap();
        self.tally.torn += stderr.lines().filter(|line| line.contains(TORN)).count() as u64;
        let mut found = Found { seed: self.seed, threads: BTreeMap::new(), tally: &mut self.tally };
        let paths = files(&self.folder.join("files"));
        found.tally.files += paths.len() as u64;
        for path in &paths {
            found.look(path);
        }
        found.settle(&state.accepted);
    }
}

/// What the collector says about a line that it had not written to its end.
const TORN: &str = "the last line was not finished";

fn listen(run: u64, stdout: ChildStdout, told: &Told) {
    for line in BufReader::new(stdout).lines() {
        told.hear(run, &line.unwrap());
    }
    told.state.lock().unwrap().ended = run;
    told.news.notify_all();
}

/// The collector's files, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut old = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "backlog.log" && !name.ends_with(".partial") {
            let is_plain = !name.ends_with(".gz");
            let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
            // Killed between the two, the collector leaves a file beside its compressed self, until the next start.
            if is_plain || !old.contains_key(&name) {
                old.insert(name, path);
            }
        }
    }
    old.into_values().chain([folder.join("backlog.log")]).collect()
}

// The account.

#[derive(Default, Debug)]
struct Tally {
    rounds: u64,
    senders: u64,
    collectors: u64,
    accepted: u64,
    found: u64,
    files: u64,
    torn: u64,
    lost: u64,
    doubled: u64,
    misplaced: u64,
    /// The first things that are wrong.
    trouble: Vec<String>,
}

impl Tally {
    fn is_wrong(&self) -> bool {
        !self.trouble.is_empty() || self.lost + self.doubled + self.misplaced > 0
    }

    fn note(&mut self, what: String) {
        if self.trouble.len() < 10 {
            self.trouble.push(what);
        }
    }

    fn add(&mut self, other: Tally) {
        for (sum, more) in [
            (&mut self.senders, other.senders),
            (&mut self.collectors, other.collectors),
            (&mut self.accepted, other.accepted),
            (&mut self.found, other.found),
            (&mut self.files, other.files),
            (&mut self.torn, other.torn),
        ] {
            *sum += more;
        }
    }

    fn said(&self) -> String {
        let Tally { senders, collectors, accepted, found, files, torn, lost, doubled, misplaced, .. } = self;
        format!(
            "{senders} senders and {collectors} collectors killed, {torn} torn lines, {accepted} records accepted, \
             {found} found in {files} files, lost {lost}, doubled {doubled}, out of order {misplaced}"
        )
    }
}

/// A time as it stands in a line.
const TIME: &str = "2026-11-22T14:03:56.234567Z";

/// What stands in the files.
struct Found<'a> {
    seed: u64,
    /// By run and thread, which numbers there are.
    threads: BTreeMap<(u64, usize), Vec<bool>>,
    tally: &'a mut Tally,
}

impl Found<'_> {
    fn look(&mut self, path: &Path) {
        let mut file: Box<dyn Read> = Box::new(File::open(path).unwrap());
        if path.extension().is_some_and(|extension| extension == "gz") {
            file = Box::new(MultiGzDecoder::new(file));
        }
        let mut file = BufReader::new(file);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).unwrap() > 0 {
            // One that has no end was never acknowledged.
            if let Some(line) = line.strip_suffix(b"\n").filter(|line| !line.starts_with(b"#")) {
                let line = String::from_utf8_lossy(line);
                if self.take(&line).is_none() {
                    self.tally.note(format!("no record of ours, in {}: {line:?}", path.display()));
                }
            }
            line.clear();
        }
    }

    /// None if it is no record, or not a whole one.
    fn take(&mut self, line: &str) -> Option<()> {
        let columns: Vec<&str> = line.splitn(9, ' ').collect();
        let [time, _host, _app, mark, "ERROR", _target, _thread, _place, record] = columns[..] else {
            return None;
        };
        let mut words = record.split(' ').skip(1).step_by(2);
        let run = words.next()?.parse().ok()?;
        let thread = words.next()?.parse().ok()?;
        let number: u64 = words.next()?.parse().ok()?;
        // Nothing of another line stands before it or in it.
        let is_whole = time.len() == TIME.len() && mark.split('/').count() == 3;
        if !is_whole || record != text(self.seed, run, thread, number) {
            return None;
        }
        self.tally.found += 1;
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let numbers = self.threads.entry((run, thread)).or_default();
        if numbers.get(index) == Some(&true) {
            self.tally.doubled += 1;
            self.tally.note(format!("twice: {line}"));
        } else if index < numbers.len() {
            numbers[index] = true;
            self.tally.misplaced += 1;
            self.tally.note(format!("behind its successor: {line}"));
        } else {
            numbers.resize(index, false);
            numbers.push(true);
        }
        Some(())
    }

    /// A record is lost if it was accepted; or if a later one of its thread was, which is there.
    fn settle(&mut self, accepted: &BTreeMap<(u64, usize), u64>) {
        for (&key, &number) in accepted {
            self.tally.accepted += number;
            let numbers = self.threads.entry(key).or_default();
            let end = numbers.len().max(number as usize);
            numbers.resize(end, false);
        }
        for ((run, thread), numbers) in &self.threads {
            for (index, _) in numbers.iter().enumerate().filter(|(_, is_there)| !**is_there) {
                self.tally.lost += 1;
                self.tally.note(format!("lost: run {run} thread {thread} number {}", index + 1));
            }
        }
    }
}
