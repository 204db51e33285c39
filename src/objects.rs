//! `cloudstore ls`, `rm`, `mv`, `cp` and `stat`.

use std::error::Error;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use cloudstore::client::{Client, ClientError, Entry, Page, Place, Wanted, encoded, page_of, path_of, shown};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reactor::http::ClientTimeouts;
use serde::Deserialize;

use crate::args::{LsArgs, MoveArgs, RmArgs, StatArgs};
use crate::connect;
use crate::transfer::{in_words, say, say_of};

type Outcome = Result<ExitCode, Box<dyn Error>>;

/// As the shell shows a program that SIGPIPE has ended.
const UNREAD: u8 = 141;

pub(crate) fn list(args: &LsArgs) -> Outcome {
    let client = connect::client(&args.server)?;
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
    let wanted = Wanted::new(prefix, args.recursive);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut after = None;
    let mut found = false;
    loop {
        let page = page(&client, &wanted.page(after.as_deref()))?;
        for entry in &page.entries {
            found = true;
            let line = if args.json { json(entry) } else { line(entry, args.long) };
            if let Err(error) = writeln!(out, "{line}") {
                return unprinted(error);
            }
        }
        match page.next {
            Some(next) if after.as_ref().is_some_and(|after| *after >= next) => {
                return Err(ClientError::strange(client.server(), "its listing has no end").into());
            }
            None => break,
            next => after = next,
        }
    }
    if let Err(error) = out.flush() {
        return unprinted(error);
    }
    if !found && !prefix.is_empty() {
        return Err(missing(prefix).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Who has seen enough, as `head` has, need not be told.
fn unprinted(error: io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(ExitCode::from(UNREAD)),
        _ => Err(ClientError::Write(error).into()),
    }
}

fn page(client: &Client, path: &str) -> Result<Page, ClientError> {
    page_of(client.server(), &client.ask("GET", path)?)
}

fn missing(name: &str) -> ClientError {
    let message = format!("no name begins with {}", shown(name));
    ClientError::Refused { status: 404, code: "not_found".to_owned(), message }
}

fn json(entry: &Entry) -> String {
    // It was read from JSON.
    serde_json::to_string(entry).unwrap_or_default()
}

fn line(entry: &Entry, is_long: bool) -> String {
    let name = shown(&entry.name);
    if !is_long {
        return name;
    }
    let text = |key| shown(entry.text(key).unwrap_or_default());
    let size = entry.size.map_or(String::new(), in_words);
    format!("{size:>10}  {:16}  {:4}  {name}", local_time(&text("modified")), text("class"))
}

/// A time of the server as the clock on the wall here shows it.
fn local_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Does each, and says what was not done: the first failure decides how it ends.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<(), ClientError>) -> ExitCode {
    let mut code = None;
    for (n, name) in names.iter().enumerate() {
        if let Err(error) = act(name.strip_prefix('/').unwrap_or(name)) {
            say_of(name, &error);
            code = code.or(Some(error.exit_code()));
            if error.is_about_the_server() {
                let left = names.len() - n - 1;
                if left > 0 {
                    say(&format!("{left} more were not tried"));
                }
                break;
            }
        }
    }
    code.map_or(ExitCode::SUCCESS, ExitCode::from)
}

pub(crate) fn remove(args: &RmArgs) -> Outcome {
    // Nothing is removed by a command that says so.
    if args.names.iter().any(|name| is_everything(name)) {
        return Err(not_everything().into());
    }
    let client = patient(connect::client(&args.server)?);
    Ok(each(&args.names, |name| {
        let is_folder = name.ends_with('/');
        if is_folder && !args.recursive {
            return Err(ClientError::Usage(
                "this is a folder: give -r to remove all that is in it".to_owned(),
            ));
        }
        let whole = |folder: &str| {
            let answer = client.ask("DELETE", &format!("{}?recursive", path_of(folder)))?;
            tell_removed(folder, &answer);
            Ok(())
        };
        if is_folder {
            return whole(name);
        }
        match client.ask("DELETE", &path_of(name)) {
            Err(ClientError::Refused { code, .. }) if code == "is_folder" && args.recursive => {
                whole(&format!("{name}/"))
            }
            done => done.map(drop),
        }
    }))
}

fn is_everything(name: &str) -> bool {
    name.bytes().all(|byte| byte == b'/')
}

fn not_everything() -> ClientError {
    ClientError::Usage("name an object or a folder, not all there is".to_owned())
}

/// Who looks on is told how much it was.
fn tell_removed(folder: &str, answer: &[u8]) {
    #[derive(Deserialize)]
    struct Removed {
        objects: u64,
    }
    let mut err = io::stderr();
    if let Ok(Removed { objects }) = serde_json::from_slice(answer)
        && err.is_terminal()
    {
        let objects = if objects == 1 { "1 object".to_owned() } else { format!("{objects} objects") };
        let _ = writeln!(err, "{}: {objects} removed", shown(folder));
    }
}

/// A folder takes as long as it has objects.
fn patient(client: Client) -> Client {
    client.set_timeouts(ClientTimeouts { reply: std::time::Duration::ZERO, ..ClientTimeouts::default() });
    client
}

pub(crate) fn rename(args: &MoveArgs) -> Outcome {
    change(args, "move")
}

pub(crate) fn copy(args: &MoveArgs) -> Outcome {
    change(args, "copy")
}

fn change(args: &MoveArgs, act: &str) -> Outcome {
    let client = patient(connect::client(&args.server)?);
    let from = args.from.strip_prefix('/').unwrap_or(&args.from);
    let leaf = from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if leaf.is_empty() {
        return Err(not_everything().into());
    }
    let mut path = format!("{}?{act}=", path_of(from));
    let mut headers = Vec::new();
    let mut to = Place::parse(&args.to).name_of(leaf);
    if from.ends_with('/') {
        to.push('/');
        path.push_str(&encoded(&to).to_string());
        if args.force {
            path.push_str("&replace");
        }
    } else {
        path.push_str(&encoded(&to).to_string());
        if !args.force {
            headers.push(("If-None-Match", "*"));
        }
    }
    match client.ask_with("POST", &path, &headers) {
        Err(ClientError::Refused { status: 412, code, message }) => {
            let message = match from.ends_with('/') {
                true => format!("{message}; give --force to replace what is there"),
                false => format!("{} is there: give --force to replace it", shown(&to)),
            };
            Err(ClientError::Refused { status: 412, code, message }.into())
        }
        Err(ClientError::Refused { status, code, message })
            if code == "is_folder" && !from.ends_with('/') =>
        {
            // The server says so of either.
            let is_from = page(&client, &Wanted::new(&format!("{from}/"), false).path(None, 1)).is_ok();
            let message = match is_from {
                true => message,
                false => {
                    let to = shown(&to);
                    format!("{to} is a folder: to put it into the folder, write {to}/")
                }
            };
            Err(ClientError::Refused { status, code, message }.into())
        }
        done => Ok(done.map(|_| ExitCode::SUCCESS)?),
    }
}

pub(crate) fn stat(args: &StatArgs) -> Outcome {
    let client = connect::client(&args.server)?;
    let mut out = io::stdout();
    let code = each(&args.names, |name| {
        let entry = entry(&client, name)?;
        let text = if args.json { format!("{}\n", json(&entry)) } else { described(&entry) };
        out.write_all(text.as_bytes()).map_err(ClientError::Write)
    });
    out.flush().map_err(ClientError::Write)?;
    Ok(code)
}

/// What the listing of its folder says; asking for the object itself would count as reading it.
fn entry(client: &Client, name: &str) -> Result<Entry, ClientError> {
    if !name.is_empty() && !name.ends_with('/') {
        let page = page(client, &Wanted::new(name, false).path(None, 1))?;
        if let Some(entry) = page.entries.into_iter().find(|entry| entry.name == name) {
            return Ok(entry);
        }
    }
    let folder = if name.is_empty() || name.ends_with('/') { name.to_owned() } else { format!("{name}/") };
    match page(client, &Wanted::new(&folder, false).path(None, 1)) {
        Ok(_) => Ok(Entry {
            name: if folder.is_empty() { "/".to_owned() } else { folder },
            kind: "folder".to_owned(),
            size: None,
            more: serde_json::Map::new(),
        }),
        Err(ClientError::Refused { status: 404, code, .. }) => {
            let message = format!("there is no object or folder {}", shown(name));
            Err(ClientError::Refused { status: 404, code, message })
        }
        Err(error) => Err(error),
    }
}

fn described(entry: &Entry) -> String {
    let mut text = format!("{}\n  type      {}\n", shown(&entry.name), shown(&entry.kind));
    if let Some(size) = entry.size {
        text.push_str(&format!("  size      {size} ({})\n", in_words(size)));
    }
    for (key, value) in &entry.more {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = match key.as_str() {
            "modified" | "created" | "accessed" => local_time(&value),
            _ => value,
        };
        text.push_str(&format!("  {:9} {}\n", shown(key), shown(&value)));
    }
    text
}
