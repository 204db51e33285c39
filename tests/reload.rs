//! What a server takes over when it is told to read its settings again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

struct Serve {
    folder: tempfile::TempDir,
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Serve {
    fn start(settings: &str) -> Serve {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cloudstore.json"), settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_cloudstore"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_clear()
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("listening on http://").unwrap().split('/').next().unwrap().to_owned();
        let log = BufReader::new(child.stderr.take().unwrap());
        Serve { folder, child, log, address }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("cloudstore.json")
    }

    /// What it says of its settings when it has read these.
    fn reload(&mut self, settings: &str) -> Vec<String> {
        fs::write(self.settings(), settings).unwrap();
        kill_process(self.pid(), Signal::HUP).unwrap();
        let mut told = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the server has ended");
            let Some((_, text)) = line.trim_end().split_once("[config] ") else { continue };
            // Behind the thread and the place.
            let text = text.splitn(3, ' ').nth(2).unwrap().to_owned();
            if text.starts_with("the settings ") {
                return told;
            }
            told.push(text);
        }
    }

    fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_setting_that_needs_a_restart_is_told_of_until_it_is_as_it_was() {
    let mut serve = Serve::start(r#"{"level": 6, "data": "data"}"#);
    let level =
        "level differs in the settings from what runs, and takes effect when the server is started again";
    let cors = "cors is changed";
    assert_eq!(serve.reload(r#"{"level": 6, "data": "data"}"#), [""; 0]);
    assert_eq!(serve.reload(r#"{"level": 1, "data": "data", "cors": "*"}"#), [cors, level]);
    assert_eq!(serve.reload(r#"{"level": 1, "data": "data", "cors": "*"}"#), [level]);
    assert_eq!(serve.reload(r#"{"level": 2, "data": "data", "cors": "none"}"#), [cors, level]);
    assert_eq!(serve.reload("{"), [""; 0], "nothing is taken over");
    assert_eq!(serve.reload(r#"{"level": 2, "data": "data"}"#), [level]);
    assert_eq!(serve.reload(r#"{"level": 6, "data": "data"}"#), [""; 0]);
}

#[test]
fn origins_and_names_are_taken_over() {
    let mut serve = Serve::start("{}");
    let page = "PUT /files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nOrigin: http://page";
    let name = "GET /files/ HTTP/1.1\r\nHost: nas.lan";
    assert!(serve.ask(page).starts_with("HTTP/1.1 403 "));
    assert!(serve.ask(name).starts_with("HTTP/1.1 421 "));
    assert_eq!(serve.reload(r#"{"cors": ["http://page"], "hosts": ["nas.lan"]}"#).len(), 2);
    // Each of the loops is told by itself.
    assert!((0..1000).any(|_| serve.ask(page).starts_with("HTTP/1.1 20")));
    assert!((0..1000).any(|_| serve.ask(name).starts_with("HTTP/1.1 200 ")));
}
