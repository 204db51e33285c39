//! SIGKILL of the storage server under load, again and again. Afterwards each object is as it was acknowledged last, or as
//! a request left it that was under way: whole, with its index entry, and with nothing beside it.
//!
//! The server is `cloudstore serve`. What happens in a round, and when, comes from its seed; round after round the seed
//! grows by one, and with it the durability changes. `KILL_SEED` is the first one, by default another each time;
//! `KILL_ROUNDS` how many rounds there are, by default 2.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy knows no tests without a harness"
)]

#[path = "util/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cloudstore::storage::{BLOCK, Class, IndexReport, Options};
use rig::Rig;

const OWNERS: u64 = 4;
/// Names that belong to one thread, so that it knows what is there.
const NAMES: u64 = 12;
/// Names that all threads write to.
const SHARED: u64 = 3;
/// Far more than anything here takes on a slow machine.
const LONG: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let is_asked =
        std::env::args().skip(1).all(|arg| arg.starts_with('-') || "storage_kill_rounds".contains(&arg));
    if !is_asked || std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let rounds = number("KILL_ROUNDS").unwrap_or(2);
    let first = number("KILL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000);
    let mut sum = Tally::default();
    for seed in first..first + rounds {
        let folder = tempfile::Builder::new().prefix("storage-kill-round-").tempdir().unwrap();
        // It stays if this panics.
        let folder = folder.keep();
        let evidence = Evidence { folder: &folder, seed };
        let tally = Round::new(seed, &folder).play();
        if !tally.trouble.is_empty() {
            eprintln!("storage_kill_rounds: {}", tally.said());
            panic!("{}", tally.trouble.join("\n"));
        }
        std::mem::forget(evidence);
        fs::remove_dir_all(&folder).unwrap();
        sum.add(&tally);
    }
    assert!(rounds == 0 || sum.answered > 0, "nothing was answered, so nothing was shown");
    println!("storage_kill_rounds: {rounds} rounds from seed {first}: {}", sum.said());
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
        eprintln!("storage_kill_rounds: the files of the round are in {folder}");
        eprintln!(
            "storage_kill_rounds: again with KILL_SEED={seed} KILL_ROUNDS=1 cargo test --test storage_kill_rounds"
        );
    }
}

#[derive(Default)]
struct Tally {
    kills: u64,
    /// Requests that changed something and were acknowledged.
    answered: u64,
    /// Requests that were under way when the server died, and turned out to have happened.
    happened: u64,
    /// Those that had not.
    undone: u64,
    /// Objects that were read after a kill.
    objects: u64,
    trouble: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.kills += other.kills;
        self.answered += other.answered;
        self.happened += other.happened;
        self.undone += other.undone;
        self.objects += other.objects;
    }

    fn said(&self) -> String {
        let Tally { kills, answered, happened, undone, objects, .. } = self;
        format!(
            "{kills} kills, {answered} changes acknowledged, of those under way {happened} done and {undone} not, \
             {objects} objects read afterwards; {} wrong",
            self.trouble.len()
        )
    }

    fn note(&mut self, what: String) {
        // The first ones tell the most.
        if self.trouble.len() < 20 {
            self.trouble.push(what);
        }
    }
}

/// SplitMix64.
#[derive(Clone)]
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

/// What an object holds; its bytes follow from that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Content {
    seed: u64,
    len: usize,
}

impl Content {
    fn any(chance: &mut Chance) -> Content {
        let block = BLOCK as u64;
        let len = match chance.below(16) {
            0 => 0,
            1..=3 => chance.below(200),
            4..=9 => chance.below(16 * 1024),
            10..=12 => chance.below(256 * 1024),
            13 => chance.one_of(&[block - 1, block, block + 1]),
            14 => chance.below(block),
            _ => chance.below(3 * block),
        };
        Content { seed: chance.next(), len: len as usize }
    }

    /// Begins with what it is, as far as there is room; every second page packs well.
    fn bytes(self) -> Vec<u8> {
        let mut chance = Chance(self.seed);
        let words = self.len / 8 + 1;
        let mut bytes = Vec::with_capacity(8 * words + 16);
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        bytes.extend_from_slice(&(self.len as u64).to_le_bytes());
        for word in 0..words as u64 {
            let value = if word / 512 % 2 == 0 { chance.next() } else { self.seed ^ (word / 512) };
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.truncate(self.len);
        bytes
    }

    /// What bytes say that they are, if they are long enough to say it.
    fn of(bytes: &[u8]) -> Option<Content> {
        let seed = u64::from_le_bytes(bytes.get(..8)?.try_into().unwrap());
        let len = u64::from_le_bytes(bytes.get(8..16)?.try_into().unwrap());
        Some(Content { seed, len: len as usize })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    content: Content,
    class: Class,
}

type Objects = BTreeMap<String, Held>;

/// What a request does.
#[derive(Clone, Debug)]
enum Act {
    Put(String, Held),
    /// The client goes away in the middle.
    Abort(String, Held, usize),
    Delete(String),
    Move(String, String),
    Copy(String, String),
    Class(String, Class),
    Get(String),
}

impl Act {
    fn any(chance: &mut Chance, names: &[String]) -> Act {
        let name = |chance: &mut Chance| names[chance.below(names.len() as u64) as usize].clone();
        let held = |chance: &mut Chance| Held { content: Content::any(chance), class: class(chance) };
        let from = name(chance);
        match chance.below(20) {
            0..=8 => Act::Put(from, held(chance)),
            9 => {
                let held = held(chance);
                let sent = chance.below(held.content.len as u64 + 1) as usize;
                if sent == held.content.len { Act::Put(from, held) } else { Act::Abort(from, held, sent) }
            }
            10..=12 => Act::Delete(from),
            13 | 14 => match name(chance) {
                to if to != from => Act::Move(from, to),
                to => Act::Get(to),
            },
            15 => match name(chance) {
                to if to != from => Act::Copy(from, to),
                to => Act::Get(to),
            },
            16 | 17 => Act::Class(from, class(chance)),
            _ => Act::Get(from),
        }
    }

    /// What is there afterwards, and the status that says so.
    fn apply(&self, objects: &mut Objects) -> u16 {
        let stored = |before: Option<Held>| if before.is_some() { 200 } else { 201 };
        match self {
            Act::Put(name, held) => stored(objects.insert(name.clone(), *held)),
            Act::Abort(..) => 0,
            Act::Delete(name) => objects.remove(name).map_or(404, |_| 204),
            Act::Move(from, to) => match objects.remove(from) {
                Some(held) => stored(objects.insert(to.clone(), held)),
                None => 404,
            },
            Act::Copy(from, to) => match objects.get(from) {
                Some(&held) => stored(objects.insert(to.clone(), held)),
                None => 404,
            },
            Act::Class(name, class) => match objects.get_mut(name) {
                Some(held) => {
                    held.class = *class;
                    200
                }
                None => 404,
            },
            Act::Get(name) => objects.get(name).map_or(404, |_| 200),
        }
    }

    fn is_change(&self) -> bool {
        !matches!(self, Act::Get(_) | Act::Abort(..))
    }

    fn run(&self, link: &mut Link) -> io::Result<Answer> {
        let target = |name: &str| format!("/files/{name}");
        match self {
            Act::Put(name, held) => link.put(&target(name), *held, held.content.len),
            Act::Abort(name, held, sent) => link.put(&target(name), *held, *sent),
            Act::Delete(name) => link.ask("DELETE", &target(name)),
            Act::Move(from, to) => link.ask("POST", &format!("{}?move={to}", target(from))),
            Act::Copy(from, to) => link.ask("POST", &format!("{}?copy={to}", target(from))),
            Act::Class(name, class) => {
                link.ask("POST", &format!("{}?class={}", target(name), class_name(*class)))
            }
            Act::Get(name) => link.ask("GET", &target(name)),
        }
    }
}

fn class(chance: &mut Chance) -> Class {
    chance.one_of(&[Class::Low, Class::Low, Class::Deep])
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Low => "low",
        Class::Deep => "deep",
    }
}

// The client.

struct Link(BufReader<TcpStream>);

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether it brings this.
    fn is(&self, held: Held) -> bool {
        self.status == 200
            && self.header("storage-class") == class_name(held.class)
            && self.body == held.content.bytes()
    }
}

impl Link {
    fn open(address: SocketAddr) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LONG / 2))?;
        stream.set_write_timeout(Some(LONG / 2))?;
        stream.set_nodelay(true)?;
        Ok(Link(BufReader::new(stream)))
    }

    fn ask(&mut self, method: &str, target: &str) -> io::Result<Answer> {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n");
        self.0.get_mut().write_all(head.as_bytes())?;
        self.answer()
    }

    /// Sends so many bytes of it; unless these are all, there is no answer.
    fn put(&mut self, target: &str, held: Held, sent: usize) -> io::Result<Answer> {
        let (class, len) = (class_name(held.class), held.content.len);
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost\r\nStorage-Class: {class}\r\nContent-Length: {len}\r\n\r\n"
        );
        let body = held.content.bytes();
        self.0.get_mut().write_all(&[head.as_bytes(), &body[..sent]].concat())?;
        if sent < len {
            let address = self.0.get_ref().peer_addr()?;
            *self = Link::open(address)?;
            return Ok(Answer { status: 0, headers: BTreeMap::new(), body: Vec::new() });
        }
        self.answer()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn answer(&mut self) -> io::Result<Answer> {
        let odd = || io::Error::other("an odd answer");
        let status = self.line()?.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(odd)?;
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().map_err(|_| odd())?, 0);
            self.0.read_exact(&mut body)?;
        } else if headers.contains_key("transfer-encoding") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| odd())?;
                let start = body.len();
                body.resize(start + size, 0);
                self.0.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(Answer { status, headers, body })
    }
}

/// A thread's view of the store.
struct Owner {
    number: u64,
    chance: Chance,
    names: Vec<String>,
    /// As acknowledged.
    objects: Objects,
    /// Asked for, and not answered when the server died.
    under_way: Option<Act>,
    answered: u64,
    trouble: Vec<String>,
}

/// What the threads and the killer share.
#[derive(Default)]
struct Life {
    answers: AtomicU64,
    is_over: AtomicBool,
}

impl Owner {
    fn new(seed: u64, number: u64) -> Owner {
        let names = (0..NAMES).map(|n| match n % 4 {
            0 => format!("owner{number}/{n}"),
            1 => format!("owner{number}/folder/{n}"),
            2 => format!("owner{number}/alone{n}/deeper/{n}"),
            _ => format!("top{number}-{n}"),
        });
        Owner {
            number,
            chance: Chance(seed ^ (number + 1) << 48),
            names: names.collect(),
            objects: Objects::new(),
            under_way: None,
            answered: 0,
            trouble: Vec::new(),
        }
    }

    /// Asks for this and that until the server is dead.
    fn live(&mut self, address: SocketAddr, life: &Life) {
        if let Err(error) = self.ask_on(address, life)
            && !life.is_over.load(Ordering::SeqCst)
        {
            let act = &self.under_way;
            self.trouble.push(format!("thread {}: {act:?}: {error}, and the server lived", self.number));
        }
    }

    fn ask_on(&mut self, address: SocketAddr, life: &Life) -> io::Result<()> {
        let mut link = Link::open(address)?;
        loop {
            if self.chance.below(6) == 0 {
                self.share(&mut link)?;
            }
            let act = Act::any(&mut self.chance, &self.names);
            let mut after = self.objects.clone();
            let expected = act.apply(&mut after);
            self.under_way = Some(act.clone());
            let answer = act.run(&mut link)?;
            if answer.status != expected {
                let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
                let trouble = format!("{act:?}: {} for {expected}: {said}", answer.status);
                self.trouble.push(trouble);
                return Ok(());
            }
            if let Act::Get(name) = &act
                && let Some(&held) = self.objects.get(name)
                && !answer.is(held)
            {
                self.trouble.push(format!("{name} is not {held:?} while the server lives"));
            }
            self.under_way = None;
            self.objects = after;
            self.answered += u64::from(act.is_change());
            life.answers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Does something to a name of all: what is there is whole at any time, whoever wrote it.
    fn share(&mut self, link: &mut Link) -> io::Result<()> {
        let target = format!("/files/{}", shared(self.chance.below(SHARED)));
        match self.chance.below(8) {
            0..=2 => {
                let mut content = Content::any(&mut self.chance);
                content.len += 16;
                let held = Held { content, class: class(&mut self.chance) };
                self.expect(&target, link.put(&target, held, content.len)?.status, &[200, 201]);
            }
            3 => self.expect(&target, link.ask("DELETE", &target)?.status, &[204, 404]),
            _ => {
                let answer = link.ask("GET", &target)?;
                self.expect(&target, answer.status, &[200, 404]);
                if answer.status == 200 && !is_whole(&answer.body) {
                    self.trouble.push(format!("{target} is not whole while the server lives"));
                }
            }
        }
        Ok(())
    }

    fn expect(&mut self, what: &str, status: u16, expected: &[u16]) {
        if !expected.contains(&status) {
            self.trouble.push(format!("{what}: {status} for one of {expected:?}"));
        }
    }

    /// Compares what is there with what was acknowledged and what was under way; true if that has happened.
    fn settle(&mut self, found: &BTreeMap<String, Answer>) -> Result<Option<bool>, String> {
        let is_there = |objects: &Objects| {
            self.names.iter().find(|name| match (objects.get(*name), found.get(*name)) {
                (Some(&held), Some(answer)) => !answer.is(held),
                (None, None) => false,
                _ => true,
            })
        };
        let Some(wrong) = is_there(&self.objects) else {
            let was = self.under_way.take();
            return Ok(was.filter(Act::is_change).map(|_| false));
        };
        let mut after = self.objects.clone();
        if let Some(act) = &self.under_way {
            act.apply(&mut after);
        }
        let Some(wrong_after) = is_there(&after) else {
            self.objects = after;
            self.under_way = None;
            return Ok(Some(true));
        };
        let mut said = format!("thread {}, under way {:?}:", self.number, self.under_way);
        for name in BTreeSet::from([wrong, wrong_after]) {
            let (before, then) = (self.objects.get(name), after.get(name));
            let there = found.get(name).map(|answer| {
                let says = Content::of(&answer.body);
                (answer.status, answer.header("storage-class"), answer.body.len(), says)
            });
            write!(said, " {name} was {before:?}, may be {then:?}, is {there:?};").unwrap();
        }
        Err(said)
    }
}

fn shared(number: u64) -> String {
    format!("shared/{number}")
}

fn is_whole(body: &[u8]) -> bool {
    Content::of(body).is_some_and(|content| content.len == body.len() && content.bytes() == body)
}

// The one who kills.

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
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

struct Round {
    chance: Chance,
    data: PathBuf,
    log: PathBuf,
    flags: Vec<&'static str>,
    kills: u64,
    owners: Vec<Owner>,
    tally: Tally,
}

impl Round {
    fn new(seed: u64, folder: &Path) -> Round {
        let mut chance = Chance(!seed);
        let durability = ["sync", "relaxed"][(seed % 2) as usize];
        let flags = vec![
            "--durability",
            durability,
            "--threads",
            chance.one_of(&["1", "2", "3"]),
            "--jobs",
            chance.one_of(&["1", "2", "6"]),
            "--level",
            chance.one_of(&["1", "6"]),
            "--min-free-disk",
            "0",
            "--access-log",
            "off",
        ];
        Round {
            kills: 2 + chance.below(4),
            chance,
            data: folder.join("data"),
            log: folder.join("log"),
            flags,
            owners: (0..OWNERS).map(|number| Owner::new(seed, number)).collect(),
            tally: Tally::default(),
        }
    }

    fn play(mut self) -> Tally {
        for _ in 0..self.kills {
            let (mut server, address) = self.start();
            self.load(&mut server, address);
            if self.chance.below(8) == 0 {
                // A lost index is made anew, also of what was under way.
                fs::remove_file(self.data.join("storage.data")).unwrap();
            }
            for _ in 0..self.chance.below(3) {
                self.kill_while_it_starts();
            }
            let (mut server, address) = self.start();
            let objects = self.check(address);
            // By then nothing may wait to be written.
            server.kill();
            self.tally.kills += 1;
            self.check_index(objects);
            if !self.tally.trouble.is_empty() {
                break;
            }
        }
        self.check_log();
        self.tally
    }

    fn spawn(&self) -> Process {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudstore"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&self.data).args(&self.flags);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CLOUDSTORE_") {
                command.env_remove(name);
            }
        }
        Process(command.spawn().unwrap())
    }

    fn start(&self) -> (Process, SocketAddr) {
        let mut server = self.spawn();
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").and_then(|rest| rest.split('/').next());
        let log = || fs::read_to_string(&self.log).unwrap();
        let address =
            address.unwrap_or_else(|| panic!("it does not start: {line}{}", log())).parse().unwrap();
        (server, address)
    }

    fn kill_while_it_starts(&mut self) {
        let mut server = self.spawn();
        thread::sleep(Duration::from_micros(self.chance.below(30_000)));
        server.kill();
        self.tally.kills += 1;
    }

    /// Lets all threads ask, and kills the server among it.
    fn load(&mut self, server: &mut Process, address: SocketAddr) {
        let life = &Life::default();
        let enough = self.chance.below(400);
        let longest = Duration::from_millis(50 + self.chance.below(700));
        let last_wait = Duration::from_micros(self.chance.below(5000));
        thread::scope(|scope| {
            for owner in &mut self.owners {
                scope.spawn(move || owner.live(address, life));
            }
            let begun = Instant::now();
            while life.answers.load(Ordering::SeqCst) < enough && begun.elapsed() < longest {
                thread::sleep(Duration::from_micros(200));
            }
            thread::sleep(last_wait);
            life.is_over.store(true, Ordering::SeqCst);
            server.kill();
        });
        self.tally.kills += 1;
        for owner in &mut self.owners {
            self.tally.answered += std::mem::take(&mut owner.answered);
            for trouble in owner.trouble.drain(..) {
                self.tally.note(trouble);
            }
        }
    }

    /// Looks at all that is there; returns how many objects that are.
    fn check(&mut self, address: SocketAddr) -> u64 {
        let mut link = Link::open(address).unwrap();
        let mut found = BTreeMap::new();
        let owned = self.owners.iter().flat_map(|owner| owner.names.iter().cloned());
        let names: Vec<String> = owned.chain((0..SHARED).map(shared)).collect();
        for name in names {
            let answer = link.ask("GET", &format!("/files/{name}")).unwrap();
            match answer.status {
                404 => (),
                200 => {
                    if name.starts_with("shared/") && !is_whole(&answer.body) {
                        self.tally.note(format!("{name} is not whole: {} bytes", answer.body.len()));
                    }
                    found.insert(name, answer);
                }
                status => self.tally.note(format!("{name}: {status} after a kill")),
            }
        }
        for owner in &mut self.owners {
            match owner.settle(&found) {
                Ok(Some(true)) => self.tally.happened += 1,
                Ok(Some(false)) => self.tally.undone += 1,
                Ok(None) => (),
                Err(said) => self.tally.note(said),
            }
        }
        self.tally.objects += found.len() as u64;
        self.check_listing(&mut link, &found);
        self.check_files(&found);
        found.len() as u64
    }

    fn check_listing(&mut self, link: &mut Link, found: &BTreeMap<String, Answer>) {
        let listing = link.ask("GET", "/files/?delimiter=").unwrap();
        if listing.status != 200 {
            self.tally.note(format!("the listing: {}", listing.status));
            return;
        }
        let listing: serde_json::Value = serde_json::from_slice(&listing.body).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("nothing").to_owned();
        let listed: BTreeMap<String, _> = listing["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                let size = entry["size"].as_u64().unwrap_or(u64::MAX);
                (text(&entry["name"]), (text(&entry["etag"]), text(&entry["class"]), size))
            })
            .collect();
        let read: BTreeMap<String, _> = found
            .iter()
            .map(|(name, answer)| {
                let size = answer.body.len() as u64;
                (
                    name.clone(),
                    (answer.header("etag").to_owned(), answer.header("storage-class").to_owned(), size),
                )
            })
            .collect();
        if listed != read {
            let differs = |name: &&String| listed.get(*name) != read.get(*name);
            let names: BTreeSet<&String> = listed.keys().chain(read.keys()).filter(differs).collect();
            for name in names {
                let (listed, read) = (listed.get(name), read.get(name));
                self.tally.note(format!("{name} is listed as {listed:?} and read as {read:?}"));
            }
        }
    }

    /// Each file is an object, and no folder is empty.
    fn check_files(&mut self, found: &BTreeMap<String, Answer>) {
        let path = |(name, answer): (&String, &Answer)| match answer.header("storage-class") {
            "deep" => format!("deep_storage/{name}.gz"),
            _ => format!("low_storage/{name}"),
        };
        let expected: BTreeSet<String> = found.iter().map(path).collect();
        let mut there = BTreeSet::new();
        for folder in ["low_storage", "deep_storage", "stage"] {
            for entry in fs::read_dir(self.data.join(folder)).unwrap() {
                walk(&self.data, &entry.unwrap().path(), &mut there);
            }
        }
        for path in expected.symmetric_difference(&there) {
            self.tally.note(format!(
                "{path}: a file {}",
                if there.contains(path) { "too many" } else { "too few" }
            ));
        }
    }

    /// The index agrees with the objects, as a store says that is opened now.
    fn check_index(&mut self, objects: u64) {
        let rig = Rig::open(&Options::new(&self.data)).unwrap();
        let report: IndexReport = rig.wait(|done| rig.store.check_index(done)).unwrap();
        let is_clean = (report.objects, report.foreign, report.different) == (objects, 0, 0);
        if !is_clean {
            self.tally.note(format!("the index of {objects} objects: {report:?}, {:?}", rig.store.foreign()));
        }
    }

    fn check_log(&mut self) {
        let log = fs::read_to_string(&self.log).unwrap();
        for line in log.lines() {
            // Nobody asked for anything wrong but objects that are not there.
            let is_bad = line.contains("panic") || line.contains(" FATAL ");
            if is_bad || line.contains(" ERROR ") && !line.contains("a missing object was asked for") {
                self.tally.note(format!("the log says: {line}"));
            }
        }
    }
}

/// All files beneath a path, and empty folders with a slash behind them.
fn walk(root: &Path, path: &Path, found: &mut BTreeSet<String>) {
    let shown = path.strip_prefix(root).unwrap().display().to_string();
    if !path.is_dir() {
        found.insert(shown);
        return;
    }
    let mut entries = fs::read_dir(path).unwrap().peekable();
    if entries.peek().is_none() {
        found.insert(shown + "/");
    }
    entries.for_each(|entry| walk(root, &entry.unwrap().path(), found));
}
