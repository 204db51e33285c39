//! How a process may end, and what it says on stderr: each case is a child process with a `main` of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy knows no tests without a harness"
)]

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use logger::sink::{Console, File, Lines, Sink};
use logger::{Filter, Level, Logger, debug, fatal, info};

const CASE: &str = "LOGGER_EXITS_CASE";
const PATH: &str = "LOGGER_EXITS_PATH";
const RECORDS: usize = 1000;

/// A name, what the child does, and what is expected of it.
type Case = (&'static str, fn(&Path), fn(&Path, &Output));

const CASES: [Case; 15] = [
    ("end of main", |path| log_to(path), |path, output| all_there(path, output, Some(0))),
    (
        "end of main, records from a thread",
        |path| from_thread(path),
        |path, output| {
            all_there(path, output, Some(0));
        },
    ),
    (
        "panic in main",
        |path| panic_after(path),
        |path, output| {
            all_there(path, output, Some(101));
            said(output, "on purpose", 1);
        },
    ),
    (
        "panic in a thread",
        |path| panic_in_thread(path),
        |path, output| {
            all_there(path, output, Some(0));
        },
    ),
    (
        "a panic is logged",
        |path| panic_when_installed(path),
        |path, output| {
            assert_eq!(output.status.code(), Some(101));
            said(output, "on purpose", 1);
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(" FATAL [panic] "), "{text}");
            assert!(text.ends_with(" on purpose 7\n"), "{text}");
        },
    ),
    (
        "logger::exit",
        |path| end_after(path, || logger::exit(3)),
        |path, output| {
            all_there(path, output, Some(3));
        },
    ),
    (
        "logger::exit in a thread",
        |path| exit_in_thread(path),
        |path, output| all_there(path, output, Some(3)),
    ),
    (
        "std::process::exit",
        |path| end_after(path, || std::process::exit(4)),
        |path, output| {
            all_there(path, output, Some(4));
        },
    ),
    (
        "abort after a fatal record",
        |path| abort_after_fatal(path),
        |path, output| {
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text.lines().count(), RECORDS + 1);
            assert_eq!(output.status.code(), None);
        },
    ),
    (
        "a full disk at the end",
        |_| drop(full_disk()),
        |_, output| {
            assert_eq!(output.status.code(), Some(0));
            said(output, "fails, its lines are kept and tried again", 1);
            said(output, "its last lines are lost", 1);
        },
    ),
    (
        "a full disk at shutdown",
        |_| full_disk().shutdown(),
        |_, output| {
            assert_eq!(output.status.code(), Some(0));
            said(output, "fails, its lines are kept and tried again", 1);
            said(output, "its last lines are lost", 1);
        },
    ),
    (
        "a sink that recovers",
        |path| recovers(path),
        |path, output| {
            all_there(path, output, Some(0));
            said(output, "fails, its lines are kept and tried again", 1);
            said(output, "works again, nothing was lost", 1);
        },
    ),
    (
        "a sink that panics under an installed logger",
        |path| panicking_sink(path),
        |path, output| {
            assert_eq!(output.status.code(), Some(0));
            said(output, "panicked and is not used any more", 1);
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text.lines().filter(|line| line.contains("record ")).count(), RECORDS, "{text}");
            assert_eq!(text.lines().filter(|line| line.contains(" FATAL [panic] ")).count(), 1, "{text}");
        },
    ),
    (
        "the facade",
        |path| facade(path),
        |path, output| {
            assert_eq!(output.status.code(), Some(0));
            let text = std::fs::read_to_string(path).unwrap();
            let lines: Vec<_> = text.lines().map(|line| line.split_once(".rs:").unwrap().1).collect();
            let lines: Vec<_> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
            assert_eq!(
                lines,
                ["one size=3 name=\"a b\"", "default by macro", "now at debug", "own macro, too k=1"],
                "{text}"
            );
        },
    ),
    (
        "stdout",
        |_| log_to_stdout(),
        |_, output| {
            assert_eq!(output.status.code(), Some(0));
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(text.lines().count(), RECORDS);
            assert!(!text.contains('\u{1b}'), "no colours for a pipe");
        },
    ),
];

fn main() {
    let path = std::env::var_os(PATH).map(PathBuf::from);
    if let (Ok(name), Some(path)) = (std::env::var(CASE), path) {
        let (_, act, _) = CASES.iter().find(|case| case.0 == name).unwrap();
        return act(&path);
    }
    let is_asked =
        |name: &str| std::env::args().skip(1).all(|arg| arg.starts_with('-') || name.contains(&arg));
    let folder = tempfile::tempdir().unwrap();
    let mut passed = 0;
    for (name, _, check) in CASES.iter().filter(|case| is_asked(case.0)) {
        let path = folder.path().join(format!("{name}.log"));
        let output = child(name, &path).output().unwrap();
        println!("exits: {name} ... {}", output.status);
        check(&path, &output);
        passed += 1;
    }
    if is_asked("a pipe that nobody reads") {
        broken_pipe(&folder.path().join("pipe.log"));
        passed += 1;
    }
    println!("exits: {passed} passed");
}

fn child(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(CASE, name).env(PATH, path).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    command
}

/// The reader of stdout goes away after a few bytes; the process goes on, says nothing and ends well.
fn broken_pipe(path: &Path) {
    let mut child = child("stdout", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 16]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    println!("exits: a pipe that nobody reads ... {}", output.status);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stderr, b"");
}

fn all_there(path: &Path, output: &Output, code: Option<i32>) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), code, "{stderr}");
    let text = std::fs::read_to_string(path).unwrap();
    assert_eq!(text.lines().count(), RECORDS);
    let numbered = text.lines().enumerate().all(|(nth, line)| line.ends_with(&format!(" record {nth}")));
    assert!(numbered, "{text}");
}

fn said(output: &Output, what: &str, times: usize) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.matches(what).count(), times, "{stderr}");
}

/// Kept alive, as an installed one is: not even the handle's drop flushes.
fn keep(logger: &Logger) {
    std::mem::forget(logger.clone());
}

fn logger(path: &Path) -> Logger {
    let logger = Logger::builder("exits").half(1024).sink(File::open(path).unwrap()).build().unwrap();
    keep(&logger);
    logger
}

fn log(logger: &Logger) {
    for nth in 0..RECORDS {
        info!(logger: logger, "record {nth}");
    }
}

fn log_to(path: &Path) {
    log(&logger(path));
}

fn log_to_stdout() {
    let logger = Logger::builder("exits").sink(Console::stdout()).build().unwrap();
    keep(&logger);
    log(&logger);
}

fn panic_in_thread(path: &Path) {
    let logger = logger(path);
    let thread = thread::spawn(move || {
        log(&logger);
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
}

fn from_thread(path: &Path) {
    let logger = logger(path);
    thread::scope(|scope| {
        scope.spawn(|| log(&logger));
    });
}

fn end_after(path: &Path, end: fn()) {
    log_to(path);
    end();
}

fn panic_after(path: &Path) {
    log_to(path);
    panic!("on purpose");
}

fn panic_when_installed(path: &Path) {
    Logger::builder("exits").sink(File::open(path).unwrap()).install().unwrap();
    let code = 7;
    panic!("on purpose {code}");
}

fn exit_in_thread(path: &Path) {
    let logger = logger(path);
    let thread = thread::spawn(move || {
        log(&logger);
        logger::exit(3);
    });
    let _ = thread.join();
}

fn abort_after_fatal(path: &Path) {
    let logger = logger(path);
    log(&logger);
    fatal!(logger: logger, "the end");
    std::process::abort();
}

fn full_disk() -> Logger {
    let logger = Logger::builder("exits")
        .half(1024)
        .give_up_after(Duration::from_millis(50))
        .sink(File::open("/dev/full").unwrap())
        .build()
        .unwrap();
    keep(&logger);
    for nth in 0..5 {
        info!(logger: logger, "record {nth}");
    }
    logger
}

/// Fails at first, and takes half of what it is given.
struct Recovers {
    file: File,
    failures: u32,
}

impl Recovers {
    fn fail(&mut self) -> io::Result<()> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Sink for Recovers {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.file.write(lines)?;
        self.fail()
    }

    fn retry(&mut self) -> io::Result<()> {
        self.fail()?;
        self.file.retry()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.fail()?;
        self.file.flush()
    }
}

fn recovers(path: &Path) {
    let sink = Recovers { file: File::open(path).unwrap(), failures: 4 };
    let logger = Logger::builder("exits").half(512).sink(sink).build().unwrap();
    keep(&logger);
    log(&logger);
}

fn panicking_sink(path: &Path) {
    struct Panics;
    impl Sink for Panics {
        fn write(&mut self, _: &Lines<'_>) -> io::Result<()> {
            panic!("on purpose")
        }
        fn retry(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let logger =
        Logger::builder("exits").half(512).sink(Panics).sink(File::open(path).unwrap()).install().unwrap();
    log(&logger);
}

fn facade(path: &Path) {
    info!("there is no logger yet");
    let logger = Logger::builder("main").sink(File::open(path).unwrap()).install().unwrap();
    assert!(logger::init().is_err() && Logger::builder("other").install().is_err());
    log::info!(size = 3, name = "a b"; "one");
    log::debug!("not at debug");
    info!("default by macro");
    logger.set_filter(Filter::new(Level::Warn).with("exits", Some(Level::Debug)));
    log::debug!("now at debug");
    debug!(k = 1; "own macro, too");
    log::trace!("never");
    log::logger().flush();
    assert!(log::log_enabled!(log::Level::Debug) && !log::log_enabled!(log::Level::Trace));
}
