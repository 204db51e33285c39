//! `cloudstore`, run as a user runs it: a child process that ends with its test.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "signals.rs"]
mod signals;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// The program in a folder of its own, with nothing in its environment.
pub fn cloudstore(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudstore"));
    command.args(arguments).env_clear().current_dir(folder);
    command
}

/// Runs it to its end: exit code, stdout, stderr.
pub fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = cloudstore(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A server that runs.
pub struct Program {
    child: Child,
    pub stdout: BufReader<ChildStdout>,
    /// Its lines; they are taken at once, so that it never waits for somebody to listen.
    stderr: Receiver<String>,
    /// What it said first.
    pub first_line: String,
    pub address: String,
}

impl Program {
    pub fn start(folder: &Path, arguments: &[&str]) -> Program {
        Program::run(&mut cloudstore(folder, arguments))
    }

    /// As [`start`](Self::start), of a command that is made up already.
    pub fn run(command: &mut Command) -> Program {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (sender, stderr) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|len| len > 0) && sender.send(line).is_ok() {
                line = String::new();
            }
        });
        let mut first_line = String::new();
        stdout.read_line(&mut first_line).unwrap();
        let said = first_line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("it did not start: {}", stderr.iter().collect::<String>()));
        let said = said.strip_prefix("http://").unwrap_or(said);
        let address = said.split(['/', ',']).next().unwrap().to_owned();
        Program { child, stdout, stderr, first_line, address }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signals::send(name, self.id());
    }

    /// What it says on stderr, up to a line with this text.
    pub fn hears_of(&mut self, text: &str) -> String {
        let mut said = String::new();
        loop {
            let Ok(line) = self.stderr.recv() else { panic!("it ended after {said:?}") };
            said.push_str(&line);
            if line.contains(text) {
                return said;
            }
        }
    }

    /// What it prints on stdout, up to a line with this text.
    pub fn prints(&mut self, text: &str) -> String {
        let mut said = String::new();
        loop {
            let start = said.len();
            assert_ne!(self.stdout.read_line(&mut said).unwrap(), 0, "it ended after {said:?}");
            if said[start..].contains(text) {
                return said;
            }
        }
    }

    /// Waits for its end: exit code, and what was left to hear on stdout and stderr.
    pub fn ended(mut self) -> (Option<i32>, String, String) {
        let mut out = String::new();
        self.stdout.read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, self.stderr.iter().collect())
    }

    /// Ends it, and waits for that.
    pub fn stop(self) -> (Option<i32>, String, String) {
        self.signal("-TERM");
        self.ended()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
