//! `cloudstore index`: the index of a server's objects, looked after while it runs.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cloudstore::client::{Client, ClientError, shown};
use reactor::http::ClientTimeouts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::args::ServerArgs;
use crate::cli::{AuditArgs, IndexCommand};
use crate::connect;

type Outcome = Result<ExitCode, Box<dyn Error>>;

pub(crate) fn run(command: IndexCommand) -> Outcome {
    match command {
        IndexCommand::Check(args) => {
            let report = audit(&args, "check")?;
            Ok(if report.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        IndexCommand::Rebuild(args) => audit(&args, "rebuild").map(|_| ExitCode::SUCCESS),
        IndexCommand::Export(args) => {
            connect::client(&args)?.fetch("/index", io::stdout())?;
            Ok(ExitCode::SUCCESS)
        }
        IndexCommand::Import(args) => import(&args.server, &args.file),
    }
}

/// What a check or a rebuild has found, as the server writes it.
#[derive(Deserialize)]
struct Report {
    objects: u64,
    different: u64,
    differences: Vec<Difference>,
    foreign: u64,
    foreign_files: Vec<ForeignFile>,
}

#[derive(Deserialize)]
struct Difference {
    name: String,
    what: String,
}

#[derive(Deserialize)]
struct ForeignFile {
    path: String,
    why: String,
}

fn audit(args: &AuditArgs, act: &str) -> Result<Report, Box<dyn Error>> {
    let client = patient_client(&args.server)?;
    let answer = client.ask("POST", &format!("/index?{act}"))?;
    let report: Report = parse(&client, &answer)?;
    print(&if args.json { String::from_utf8_lossy(&answer).into_owned() } else { described(&report, act) })?;
    Ok(report)
}

fn described(report: &Report, act: &str) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for Difference { name, what } in &report.differences {
        let what = match what.as_str() {
            "not_in_index" => "the index does not know it",
            "no_file" => "the index knows it, and it is not there",
            "other_metadata" => "the index says something else than the object",
            "no_metadata" => "a file that says nothing of itself",
            "cut_short" => "the file is not as long as it was written",
            other => other,
        };
        let _ = writeln!(text, "{}: {}", shown(name), shown(what));
    }
    for ForeignFile { path, why } in &report.foreign_files {
        let _ = writeln!(text, "{}: no object: {}", shown(path), shown(why));
    }
    for (named, all, what) in [
        (report.differences.len(), report.different, "differences"),
        (report.foreign_files.len(), report.foreign, "files that are no objects"),
    ] {
        let rest = all.saturating_sub(named as u64);
        if rest > 0 {
            let _ = writeln!(text, "and {rest} more {what}");
        }
    }
    let differed = if act == "check" { "differ" } else { "differed" };
    let _ = writeln!(
        text,
        "objects {}, names that {differed} {}, files that are no objects {}",
        report.objects, report.different, report.foreign
    );
    text
}

/// What an import has done, as the server writes it.
#[derive(Deserialize)]
struct Imported {
    entries: u64,
    updated: u64,
    missing: u64,
}

fn import(server: &ServerArgs, file: &Path) -> Outcome {
    let list: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => match File::open(file) {
            Ok(file) => Box::new(file),
            Err(error) => return Err(format!("cannot open {}: {error}", file.display()).into()),
        },
    };
    let client = patient_client(server)?;
    let answer = client.send("POST", "/index?import", list)?;
    let Imported { entries, updated, missing } = parse(&client, &answer)?;
    print(&format!(
        "entries {entries}, objects that learned something {updated}, entries without object {missing}\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn parse<T: DeserializeOwned>(client: &Client, answer: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(answer).map_err(|error| ClientError::strange(client.server(), error))
}

fn print(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ClientError::Write)
}

/// For what takes as long as there are objects.
fn patient_client(args: &ServerArgs) -> Result<Client, Box<dyn Error>> {
    let client = connect::client(args)?;
    client.set_timeouts(ClientTimeouts { reply: Duration::ZERO, ..ClientTimeouts::default() });
    Ok(client)
}
