//! The example server, run as a user runs it.
#![allow(clippy::unwrap_used, reason = "a failure is a panic here")]

#[path = "util/signals.rs"]
mod signals;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A running server, stopped at the end of the test whatever happens.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    _folder: tempfile::TempDir,
    log: PathBuf,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/server.log");
        let mut child = Command::new(example())
            .args(["--listen", "127.0.0.1:0", "--log"])
            .arg(&log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().split(',').next().unwrap().to_owned();
        Server { child, stdout, address, _folder: folder, log }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// The next lines on the console.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the server ended");
            lines.push(line);
        }
        lines
    }

    /// Ends the server as Ctrl-C does; what is in the file then, and what was left for the console.
    fn stop(mut self) -> (String, String) {
        signals::send("-INT", self.child.id());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        (fs::read_to_string(&self.log).unwrap(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `cargo test` builds the examples beside the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/server");
    assert!(path.exists(), "build it first: cargo build --example server");
    path
}

/// A record without its time stamp and place: level and message.
fn record(line: &str) -> (&str, &str) {
    let level = line.split_whitespace().nth(1).unwrap();
    let message = line.split_once("server.rs:").unwrap().1.split_once(' ').unwrap().1;
    (level, message.rsplit_once(" peer=\"").unwrap().0)
}

#[test]
fn each_line_is_a_record_on_the_console_and_in_the_file() {
    let mut server = Server::start();
    let mut client = server.connect();
    client
        .write_all(b"hello\nERROR disk gone\r\nWARNING is no level\n\nFATAL\nDEBUG  two  blanks\n")
        .unwrap();
    let console = server.lines(6);
    let records: Vec<_> = console.iter().map(|line| record(line)).collect();
    assert_eq!(
        records,
        [
            ("INFO", "hello"),
            ("ERROR", "disk gone"),
            ("INFO", "WARNING is no level"),
            ("INFO", ""),
            ("FATAL", ""),
            ("DEBUG", "two  blanks"),
        ]
    );
    let (file, rest) = server.stop();
    assert_eq!(file, console.concat());
    assert_eq!(rest, "");
}

#[test]
fn a_missing_last_newline_loses_nothing() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.write_all(b"first\nlast").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let lines = server.lines(2);
    assert_eq!(record(&lines[1]), ("INFO", "last"));
    // The server closed its side as well.
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_sudden_disconnect_loses_nothing_and_stops_nothing() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.write_all(b"before\nthe reset").unwrap();
    assert_eq!(record(&server.lines(1)[0]), ("INFO", "before"));
    reset(client);
    assert_eq!(record(&server.lines(1)[0]), ("INFO", "the reset"));
    server.connect().write_all(b"still here\n").unwrap();
    assert_eq!(record(&server.lines(1)[0]), ("INFO", "still here"));
}

/// Closes with a reset instead of an end of stream.
fn reset(client: TcpStream) {
    let socket = socket2::Socket::from(client);
    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

#[test]
fn binary_bytes_are_written_in_full() {
    let mut server = Server::start();
    let every: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
    server.connect().write_all(&[&every[..], b"\n", "模型 🦀\n".as_bytes()].concat()).unwrap();
    let lines = server.lines(2);
    let (_, message) = record(&lines[0]);
    for text in ["\\u{0}", "\\u{1b}", " !\"#$", "\\x80", "\\xff"] {
        assert!(message.contains(text), "{text} in {message}");
    }
    assert_eq!(record(&lines[1]), ("INFO", "模型 🦀"));
}

#[test]
fn a_line_without_end_is_split_at_the_cap() {
    const MAX_LINE: usize = 64 * 1024;
    let mut server = Server::start();
    let mut client = server.connect();
    let long = vec![b'x'; 3 * MAX_LINE + 10];
    let writer = std::thread::spawn(move || {
        client.write_all(&long).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let mut left = 3 * MAX_LINE + 10;
    while left > 0 {
        let line = &server.lines(1)[0];
        let (level, message) = record(line);
        assert!(level == "INFO" && message.len() <= MAX_LINE && message.bytes().all(|byte| byte == b'x'));
        left -= message.len();
    }
    drop(writer.join().unwrap());
}

#[test]
fn an_interrupt_keeps_what_clients_had_sent_of_a_line() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.write_all(b"whole\npart of a li").unwrap();
    assert_eq!(record(&server.lines(1)[0]), ("INFO", "whole"));
    let (file, _) = server.stop();
    assert_eq!(file.lines().map(|line| record(line).1).collect::<Vec<_>>(), ["whole", "part of a li"]);
}

#[test]
fn many_clients_at_once_lose_nothing() {
    let server = Server::start();
    let clients: Vec<_> = (0..50)
        .map(|nth| {
            let mut client = server.connect();
            std::thread::spawn(move || {
                for line in 0..100 {
                    client.write_all(format!("client {nth} line {line}\n").as_bytes()).unwrap();
                }
                client.shutdown(Shutdown::Write).unwrap();
                // Its end of stream comes when everything was read.
                assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
            })
        })
        .collect();
    let mut server = server;
    let console = server.lines(5000);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (file, _) = server.stop();
    assert_eq!(file, console.concat());
    for nth in 0..50 {
        let marker = format!("client {nth} line ");
        let lines: Vec<usize> = file
            .lines()
            .filter_map(|line| record(line).1.strip_prefix(&marker))
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(lines.into_iter().eq(0..100), "client {nth}: each line once, in order");
    }
}
