//! `cloudstore backlog`, run as a user runs it.
#![allow(clippy::unwrap_used, reason = "a failure is a panic here")]

#[path = "util/signals.rs"]
mod signals;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// A running server, stopped at the end of the test whatever happens.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Server {
    fn start(file: &Path, arguments: &[&str]) -> Server {
        Server::spawn(Command::new(env!("CARGO_BIN_EXE_cloudstore")), file, arguments)
    }

    /// With files of at most a few KiB, as on a disk that is full.
    fn start_without_room(file: &Path) -> Server {
        let mut shell = Command::new("sh");
        let script = "trap '' XFSZ; ulimit -S -f 8; exec \"$0\" \"$@\"";
        shell.args(["-c", script, env!("CARGO_BIN_EXE_cloudstore")]);
        Server::spawn(shell, file, &[])
    }

    fn spawn(mut command: Command, file: &Path, arguments: &[&str]) -> Server {
        let mut child = command
            .args(["backlog", "--listen", "127.0.0.1:0", "--file"])
            .arg(file)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap();
        let address = address.strip_suffix(&format!(", writing to {}\n", file.display())).unwrap().to_owned();
        Server { child, stdout, stderr, address }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    fn signal(&self, name: &str) {
        signals::send(name, self.child.id());
    }

    /// What it says on stderr, up to a line with this text.
    fn hears_of(&mut self, text: &str) -> String {
        let mut said = String::new();
        loop {
            let from = said.len();
            assert_ne!(self.stderr.read_line(&mut said).unwrap(), 0, "the server ended after {said:?}");
            if said[from..].contains(text) {
                return said;
            }
        }
    }

    /// Ends it, and what was left to hear on stdout and stderr.
    fn stop(mut self, signal: &str) -> (String, String) {
        self.signal(signal);
        let (mut out, mut said) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{said}");
        (out, said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(txnr: usize, command: &str, data: &str) -> String {
    match data {
        "" => format!("{txnr} {command} 0\n"),
        data => format!("{txnr} {command} {} {data}\n", data.len()),
    }
}

fn record(sequence: usize) -> String {
    format!(
        "<11>1 2026-11-22T14:03:56.234567Z web1 server 4711 - [cloudstore@32473 sender=\"00c0ffee00c0ffee\" \
         stream=\"0\" sequence=\"{sequence}\"] ERROR [client] record {sequence} {}",
        "x".repeat(200)
    )
}

/// A RELP client that sends records from `first` to `last`.
fn send(server: &Server, first: usize, last: usize) -> BufReader<TcpStream> {
    let mut client = server.connect();
    client.write_all(frame(1, "open", "relp_version=0\ncommands=syslog").as_bytes()).unwrap();
    let frames: String =
        (first..=last).zip(2..).map(|(sequence, txnr)| frame(txnr, "syslog", &record(sequence))).collect();
    client.write_all(frames.as_bytes()).unwrap();
    BufReader::new(client)
}

/// Reads acknowledgements until that of this frame.
fn acknowledged(client: &mut BufReader<TcpStream>, txnr: usize) {
    let expected = format!("{txnr} rsp 6 200 OK\n");
    let mut line = String::new();
    while line != expected {
        line.clear();
        assert_ne!(client.read_line(&mut line).unwrap(), 0, "the server closed before {expected:?}");
    }
}

/// The numbers of the records with a mark in these files, in order; a last line that a crash has torn is none.
fn sequences(paths: &[&Path]) -> Vec<usize> {
    let text: String = paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| {
        let mark = line.split(' ').nth(3).unwrap();
        (mark != "-").then(|| mark.strip_prefix("00c0ffee00c0ffee/0/").unwrap().parse().unwrap())
    };
    records.filter_map(number).collect()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    (folder, file)
}

#[test]
fn records_are_written_and_printed() {
    for signal in ["-TERM", "-INT"] {
        let (_folder, file) = folder();
        let mut server = Server::start(&file, &["--print", "--sync"]);
        let mut client = server.connect();
        client.write_all(b"<11>Nov 22 14:03:55 web1 sshd[42]: no entry\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# cloudstore backlog 1 marks=0\n"), "{text}");
        assert!(text.ends_with(" web1 sshd[42] - ERROR Nov 22 14:03:55 no entry\n"), "{text}");
        let mut printed = String::new();
        server.stdout.read_line(&mut printed).unwrap();
        assert!(text.ends_with(&printed) && !printed.is_empty());
        let (out, said) = server.stop(signal);
        assert_eq!(out, "");
        assert!(said.contains(" INFO  [backlog] ") && said.contains("records=1"), "{said}");
    }
}

#[test]
fn folders_are_made() {
    let (folder, _) = folder();
    let file = folder.path().join("no/such/folder/b.log");
    let server = Server::start(&file, &["--sync"]);
    acknowledged(&mut send(&server, 1, 1), 2);
    assert_eq!(sequences(&[&file]), [1]);
    server.stop("-TERM");
}

#[test]
fn sizes_may_have_a_unit() {
    let (folder, file) = folder();
    let server = Server::start(&file, &["--max-bytes", "2K", "--max-record", "1K", "--keep", "0"]);
    acknowledged(&mut send(&server, 1, 20), 21);
    let mut bare = server.connect();
    bare.write_all("x".repeat(1500).as_bytes()).unwrap();
    bare.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bare.read(&mut [0]).unwrap(), 0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.ends_with("x [cut, 476 bytes]\n"), "{text}");
    // The file was put aside on the way.
    assert!(!sequences(&[&file]).contains(&1));
    server.stop("-TERM");
    drop(folder);
}

#[test]
fn a_full_disk_stops_acknowledgements_until_there_is_room() {
    let (_folder, file) = folder();
    let mut server = Server::start_without_room(&file);
    let mut client = send(&server, 1, 100);
    server.hears_of("cannot write the backlog: File too large");
    // Only whole lines are there, and nothing is acknowledged that is not.
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.len() <= 8 * 1024 && (text.is_empty() || text.ends_with('\n')));
    let mut more = send(&server, 101, 110);
    let mut bare = server.connect();
    bare.write_all(b"bare\n".repeat(1000).as_slice()).unwrap();
    bare.shutdown(Shutdown::Write).unwrap();
    let id = Pid::from_raw(i32::try_from(server.child.id()).unwrap());
    prlimit(id, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    let said = server.hears_of("works again");
    assert!(!said.contains("cannot write"), "{said}");
    acknowledged(&mut client, 101);
    acknowledged(&mut more, 11);
    assert_eq!(bare.read(&mut [0]).unwrap(), 0);
    assert_eq!(sequences(&[&file]), (1..=110).collect::<Vec<_>>());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with(" 127.0.0.1 - - INFO  bare")).count(), 1000);
    server.stop("-TERM");
}

#[test]
fn a_file_that_is_moved_away_is_opened_anew_with_all_marks() {
    let (folder, file) = folder();
    let moved = folder.path().join("moved.log");
    let mut server = Server::start(&file, &[]);
    acknowledged(&mut send(&server, 1, 10), 11);
    fs::rename(&file, &moved).unwrap();
    acknowledged(&mut send(&server, 11, 20), 11);
    server.signal("-HUP");
    server.hears_of("the file is opened anew");
    acknowledged(&mut send(&server, 15, 30), 17);
    assert_eq!(sequences(&[&moved, &file]), (1..=30).collect::<Vec<_>>());
    // On a slow machine, the server has noticed by itself before the second ten.
    let in_moved = sequences(&[&moved]).len();
    assert!([10, 20].contains(&in_moved), "{in_moved}");
    server.stop("-TERM");
    fs::remove_file(moved).unwrap();
    let server = Server::start(&file, &[]);
    acknowledged(&mut send(&server, 1, 31), 32);
    assert_eq!(sequences(&[&file]), (in_moved + 1..=31).collect::<Vec<_>>());
    server.stop("-TERM");
}

#[test]
fn records_survive_a_kill_and_come_once() {
    let (_folder, file) = folder();
    let mut sent = 0;
    for round in 0..5 {
        let mut server = Server::start(&file, &[]);
        // From the beginning each time, as a sender that has heard of nothing.
        let mut client = send(&server, 1, sent + 500);
        acknowledged(&mut client, sent + 2 + round * 90);
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let found = sequences(&[&file]);
        assert!(found.len() > sent + round * 90 && found.is_sorted());
        assert_eq!(found, (1..=found.len()).collect::<Vec<_>>());
        sent = found.len();
    }
}

fn refused(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloudstore")).arg("backlog").args(arguments).output().unwrap()
}

#[test]
fn a_file_of_others_stays_as_it_is() {
    let (_folder, file) = folder();
    fs::write(&file, "{\"a\":1}").unwrap();
    let output = refused(&["--listen", "127.0.0.1:0", "--file", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(file.to_str().unwrap()) && said.contains("move this one away"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"a\":1}");
    // One that another program has emptied, and one that began before a crash.
    let record = "2026-11-22T14:03:57.000000Z 127.0.0.1 - - INFO  kept\n";
    for (before, kept) in [(record, 1), ("# cloudsto", 0)] {
        fs::write(&file, before).unwrap();
        Server::start(&file, &[]).stop("-TERM");
        assert_eq!(fs::read_to_string(&file).unwrap().matches(" kept\n").count(), kept);
    }
}

#[test]
fn what_cannot_be_used_is_named_in_one_sentence() {
    let (folder, file) = folder();
    let server = Server::start(&file, &[]);
    let other = folder.path().join("other.log");
    let nowhere = other.join("backlog.log");
    fs::write(&other, "").unwrap();
    let (other, nowhere, file) = (other.to_str().unwrap(), nowhere.to_str().unwrap(), file.to_str().unwrap());
    let anywhere = "127.0.0.1:0";
    for (listen, file, named) in [
        (server.address.as_str(), other, "in use"),
        (anywhere, nowhere, nowhere),
        (anywhere, file, "another server"),
    ] {
        let output = refused(&["--listen", listen, "--file", file]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("cloudstore: cannot ") && said.contains(named), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
    for (arguments, named) in [
        (["--listen", "localhost"], "localhost"),
        (["--idle", "0"], "whole seconds"),
        (["--max-record", "10"], "write 64 to 4294967295 bytes"),
        (["--max-record", "1KB"], "plain bytes, or a number with K, M or G"),
        (["--max-bytes", "64m"], "plain bytes, or a number with K, M or G"),
        (["--keep", "x"], "x"),
    ] {
        let output = refused(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(arguments[0]) && said.contains(named), "{said}");
    }
}
