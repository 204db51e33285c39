//! What a server takes over when it is told to read its settings again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/program.rs"]
mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use program::Program;

struct Serve {
    folder: tempfile::TempDir,
    program: Program,
}

impl Serve {
    fn start(settings: &str) -> Serve {
        Serve::start_in(tempfile::tempdir().unwrap(), settings)
    }

    fn start_in(folder: tempfile::TempDir, settings: &str) -> Serve {
        fs::write(folder.path().join("cloudstore.json"), settings).unwrap();
        let program = Program::start(folder.path(), &["serve", "--listen", "127.0.0.1:0"]);
        Serve { folder, program }
    }

    /// What it says of these settings when it has read them.
    fn reload(&mut self, settings: &str) -> Vec<String> {
        self.reload_until(settings, "the settings are read again")
    }

    fn reload_until(&mut self, settings: &str, last: &str) -> Vec<String> {
        fs::write(self.folder.path().join("cloudstore.json"), settings).unwrap();
        self.program.signal("-HUP");
        let said = self.program.hears_of(last);
        // Behind the thread and the place.
        let text = |line: &str| line.split_once("[config] ")?.1.splitn(3, ' ').nth(2).map(str::to_owned);
        said.lines().filter_map(text).filter(|text| !text.starts_with("the settings ")).collect()
    }

    fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.program.address).unwrap();
        write!(stream, "{head}\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
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
    assert_eq!(serve.reload_until("{", "the settings stay as they are"), [""; 0]);
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

/// Nobody waits for the log's file, which is opened anew all the same.
#[test]
fn a_full_log_disk_stops_neither_the_server_nor_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("full.log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let settings = r#"{"log_file": "full.log", "log_level": "info"}"#;
    let mut serve = Serve::start_in(folder, settings);
    serve.program.hears_of("fails, its lines are kept and tried again");
    for _ in 0..3 {
        serve.reload_until("{", "the settings stay as they are");
        assert!(serve.ask("GET /files/ HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 200 "));
    }
    fs::remove_file(&log).unwrap();
    fs::write(serve.folder.path().join("cloudstore.json"), settings).unwrap();
    serve.program.signal("-HUP");
    serve.program.hears_of("works again, nothing was lost");
    let Serve { folder, program } = serve;
    assert_eq!(program.stop().0, Some(0));
    let text = fs::read_to_string(folder.path().join("full.log")).unwrap();
    for (record, times) in
        [(" listening on ", 1), ("target=\"/files/\" status=200", 3), (" stay as they are", 3)]
    {
        assert_eq!(text.matches(record).count(), times, "{record:?} in {text}");
    }
}
