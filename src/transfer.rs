//! `cloudstore put` and `cloudstore get`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cloudstore::client::{
    ClientError, Crew, Done, Get, Place, Put, Remote, Report, Source, Sources, Task, Watch, shown,
};
use cloudstore::storage::{Folder, Name};
use reactor::{Event, EventBase};
use serde_json::json;

use crate::args::{GetArgs, PutArgs, TransferArgs};
use crate::bars::Bars;
use crate::connect;

type Outcome = Result<ExitCode, Box<dyn Error>>;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// How often bars are drawn anew when nothing comes.
const DRAWN: Duration = Duration::from_millis(200);

pub(crate) fn put(args: &PutArgs) -> Outcome {
    let place = Place::parse(args.to.as_deref().unwrap_or_default());
    if args.sources.len() > 1 && matches!(place, Place::As(_)) {
        let to = args.to.as_deref().unwrap_or_default();
        let why = format!("several sources cannot all be {to}: write --to {to}/ to put them into a folder");
        return Err(ClientError::Usage(why).into());
    }
    let mut sources = Sources::default();
    for path in &args.sources {
        // Before anything is sent: what was meant to be the place may stand among the sources.
        let before = (sources.files.len(), sources.failures.len());
        sources.add(path, &place).map_err(|error| advised(error, path, args))?;
        if before == (sources.files.len(), sources.failures.len()) {
            sources.notes.push(format!("{}: nothing to send", shown(&path.to_string_lossy())));
        }
    }
    sources.refuse_same_names()?;
    let teller = Teller::new(&args.transfer, known(&sources.files), false);
    for note in &sources.notes {
        teller.note(note);
    }
    for (path, error) in sources.failures {
        teller.hear(Report { name: String::new(), path, result: Err(error) });
    }
    let (is_deep, is_new_only) = (args.deep, args.no_replace);
    let tasks = sources.files.into_iter().map(|Source { path, size, name }| {
        Task::Put(Put { path, name: name.as_str().to_owned(), is_deep, is_new_only }, size)
    });
    run(&args.transfer, tasks, teller)
}

/// Somebody who is used to `cp` writes the place behind the sources.
fn advised(error: ClientError, path: &Path, args: &PutArgs) -> Box<dyn Error> {
    let is_last = args.sources.len() > 1 && args.sources.last().is_some_and(|last| last == path);
    match error {
        ClientError::Local { source, .. }
            if is_last && args.to.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            let folder = path.to_string_lossy();
            let folder = folder.trim_end_matches('/');
            let why = format!(
                "there is no {} here; if it is where the others are to go, write --to {folder}/",
                path.display()
            );
            ClientError::Usage(why).into()
        }
        error => error.into(),
    }
}

fn known(files: &[Source]) -> (u64, u64) {
    (files.len() as u64, files.iter().filter_map(|file| file.size).sum())
}

pub(crate) fn get(args: &GetArgs) -> Outcome {
    let mut tasks = Vec::new();
    let is_to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if is_to_stdout && (args.names.len() > 1 || args.transfer.json) {
        let why = "only one object can go to stdout, and no --json with it";
        return Err(ClientError::Usage(why.to_owned()).into());
    }
    let mut places = HashMap::new();
    for text in &args.names {
        let task = task(text, args, is_to_stdout)?;
        if let Task::Get(Get { path, .. }) | Task::GetFolder { top: path, .. } = &task
            && let Some(first) = places.insert(path.clone(), text)
        {
            let path = path.display();
            let why = format!("{first} and {text} would both be {path}: get them into different folders");
            return Err(ClientError::Usage(why).into());
        }
        tasks.push(task);
    }
    let mut teller = Teller::new(&args.transfer, (0, 0), is_to_stdout);
    teller.when_stopped = "stopped; the same command goes on";
    if let [first, .., last] = args.names.as_slice()
        && args.output.is_none()
    {
        let others = if args.names.len() > 2 { "the others are" } else { first };
        let verb = if args.names.len() > 2 { "" } else { " is" };
        let slash = if args.names.len() > 2 && !last.ends_with('/') { "/" } else { "" };
        let advice = format!("if it is where {}{verb} to go, write -o {}{slash}", shown(others), shown(last));
        teller.advice = Some((last.strip_prefix('/').unwrap_or(last).to_owned(), advice));
    }
    run(&args.transfer, tasks, teller)
}

fn task(text: &str, args: &GetArgs, is_to_stdout: bool) -> Result<Task, ClientError> {
    let asked = text.strip_prefix('/').unwrap_or(text);
    let is_folder = asked.is_empty() || asked.ends_with('/');
    let invalid = |error: &dyn std::fmt::Display| ClientError::Usage(format!("{}: {error}", shown(text)));
    let (name, leaf) = match is_folder {
        true => {
            let folder = Folder::parse(asked).map_err(|error| invalid(&error))?.prefix().to_owned();
            let leaf = folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
            (folder, leaf)
        }
        false => {
            let name = Name::parse(asked).map_err(|error| invalid(&error))?;
            (name.as_str().to_owned(), name.as_str().rsplit('/').next().unwrap_or_default().to_owned())
        }
    };
    let path = match &args.output {
        Some(_) if is_to_stdout && is_folder => {
            return Err(ClientError::Usage("a folder cannot go to stdout".to_owned()));
        }
        // All there is has no name of its own.
        None if leaf.is_empty() => PathBuf::from("."),
        None => PathBuf::from(leaf),
        Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => path.join(leaf),
        Some(path) if args.names.len() > 1 => {
            let path = path.display();
            let why = format!("several cannot all be {path}: write -o {path}/ to put them into a folder");
            return Err(ClientError::Usage(why));
        }
        Some(path) => path.clone(),
    };
    // A name that is - is a file, and not stdout.
    let path = if path.as_os_str() == "-" && !is_to_stdout { PathBuf::from("./-") } else { path };
    let replaces = args.force;
    Ok(match is_folder {
        true => Task::GetFolder { folder: name, top: path, replaces },
        false => Task::Get(Get { name, path, replaces, known: None }),
    })
}

fn run(args: &TransferArgs, tasks: impl IntoIterator<Item = Task>, teller: Teller) -> Outcome {
    let base = EventBase::new()?;
    let server = connect::server(&args.server)?;
    let credentials = connect::credentials(&args.server)?;
    let retry = Duration::from_secs(args.retry.into());
    let remote = Remote::find(&base, server, credentials, retry)?;
    let teller = Rc::new(teller);
    let hearing = Rc::clone(&teller);
    let watch: Rc<dyn Watch> = Rc::clone(&teller.bars) as Rc<dyn Watch>;
    let crew = Crew::start(&remote, args.jobs.into(), tasks, watch, move |report| hearing.hear(report))?;
    let stopped = Rc::new(Cell::new(None));
    for signal in [SIGINT, SIGTERM] {
        let stopped = Rc::clone(&stopped);
        let event = Event::signal(&base, signal, move |event, _| {
            stopped.set(Some(signal));
            event.base().loop_break();
        })?;
        event.add(None)?;
    }
    if teller.bars.are_shown() {
        let bars = Rc::clone(&teller.bars);
        bars.tick();
        Event::interval(&base, move |_, _| bars.tick())?.add(Some(DRAWN))?;
    }
    base.dispatch()?;
    crew.leave();
    teller.bars.clear();
    Ok(teller.end(crew.left(), stopped.get()))
}

/// Tells what becomes of files, and keeps the count.
struct Teller {
    bars: Rc<Bars>,
    is_json: bool,
    is_quiet: bool,
    /// What is said when a signal ends it.
    when_stopped: &'static str,
    /// What is said if the last of several names is not found: it may be meant for the place.
    advice: Option<(String, String)>,
    started: Instant,
    files: Cell<u64>,
    bytes: Cell<u64>,
    were_there: Cell<u64>,
    failed: Cell<u64>,
    /// The exit code of the first failure.
    code: Cell<Option<u8>>,
    cannot_print: RefCell<Option<io::Error>>,
}

impl Teller {
    fn new(args: &TransferArgs, known: (u64, u64), is_to_stdout: bool) -> Teller {
        // What goes to the same terminal would be torn by bars.
        let is_torn = (args.json || is_to_stdout) && io::stdout().is_terminal();
        Teller {
            bars: Rc::new(Bars::new(args.quiet || is_torn, known)),
            is_json: args.json,
            is_quiet: args.quiet,
            when_stopped: "stopped; nothing is stored in part, and --no-replace goes on",
            advice: None,
            started: Instant::now(),
            files: Cell::new(0),
            bytes: Cell::new(0),
            were_there: Cell::new(0),
            failed: Cell::new(0),
            code: Cell::new(None),
            cannot_print: RefCell::default(),
        }
    }

    fn note(&self, text: &str) {
        if !self.is_quiet {
            self.bars.aside(|| say(text));
        }
    }

    fn hear(&self, mut report: Report) {
        if let Err(ClientError::Refused { status: 404, message, .. }) = &mut report.result
            && let Some((_, advice)) = self.advice.as_ref().filter(|(last, _)| *last == report.name)
        {
            message.push_str(&format!("; {advice}"));
        }
        let path = report.path.to_string_lossy();
        match &report.result {
            Ok(done) => {
                let (size, was_there) = match done {
                    Done::Stored(stored) => (stored.size, stored.was_there),
                    Done::Fetched(fetched) => (fetched.size, fetched.was_there),
                };
                self.files.set(self.files.get() + 1);
                match was_there {
                    true => self.were_there.set(self.were_there.get() + 1),
                    false => self.bytes.set(self.bytes.get() + size),
                }
                if let Done::Fetched(fetched) = done
                    && !fetched.is_verified
                {
                    self.note(&format!("{}: the server says no digest to compare with", shown(&report.name)));
                }
            }
            Err(error) => {
                self.failed.set(self.failed.get() + 1);
                self.code.set(Some(self.code.get().unwrap_or(error.exit_code())));
                self.bars.aside(|| say_of(&report.name, error));
            }
        }
        if self.is_json {
            let line = match &report.result {
                Ok(Done::Stored(stored)) => json!({
                    "name": report.name, "path": path, "size": stored.size,
                    "done": if stored.was_there { "was there" } else { "stored" },
                    "crc32c": format!("{:08x}", stored.crc32c), "etag": stored.etag,
                }),
                Ok(Done::Fetched(fetched)) => json!({
                    "name": report.name, "path": path, "size": fetched.size,
                    "done": if fetched.was_there { "was there" } else { "fetched" },
                    "crc32c": format!("{:08x}", fetched.crc32c),
                    "resumed_from": fetched.resumed_from, "verified": fetched.is_verified,
                }),
                Err(error) => json!({
                    "name": report.name, "path": path, "done": "failed",
                    "error": error.to_string(), "code": error.exit_code(),
                }),
            };
            let written = self.bars.aside(|| writeln!(io::stdout(), "{line}"));
            if let Err(error) = written {
                self.cannot_print.replace(Some(error));
            }
        }
    }

    fn end(&self, left: usize, stopped: Option<i32>) -> ExitCode {
        let (files, bytes, failed) = (self.files.get(), self.bytes.get(), self.failed.get());
        let mut parts = vec![
            format!("{files} {}", if files == 1 { "file" } else { "files" }),
            in_words(bytes),
            format!("{:.1} s", self.started.elapsed().as_secs_f64()),
        ];
        for (count, what) in [
            (self.were_there.get(), if self.were_there.get() == 1 { "was there" } else { "were there" }),
            (failed, "failed"),
            (left as u64, "not done"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if stopped.is_some() {
            parts.push(self.when_stopped.to_owned());
        }
        if !self.is_quiet {
            let _ = writeln!(io::stderr(), "{}", parts.join(", "));
        }
        if let Some(error) = self.cannot_print.take() {
            say(&format!("cannot write to stdout: {error}"));
            return ExitCode::FAILURE;
        }
        match (stopped, self.code.get()) {
            (Some(signal), _) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
            (None, Some(code)) => ExitCode::from(code),
            (None, None) => ExitCode::SUCCESS,
        }
    }
}

/// A line on stderr.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "cloudstore: {text}");
}

/// A failure on stderr, with the name that it is about.
pub(crate) fn say_of(name: &str, error: &ClientError) {
    let text = error.to_string();
    match text.contains(name) {
        true => say(&shown(&text)),
        false => say(&shown(&format!("{name}: {text}"))),
    }
}

/// Bytes as people read them.
pub(crate) fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024.0 is one of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_words() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (50 * 1024 * 1024, "50.0 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(in_words(bytes), text);
        }
    }
}
