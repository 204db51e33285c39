//! `cloudstore serve`, run as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/client.rs"]
mod client;
#[path = "util/program.rs"]
mod program;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use client::{Client, sample};
use program::{Program, run};

/// So many connections have descriptors wherever this runs, and need no warning.
const FEW: [&str; 2] = ["--max-connections", "100"];

fn serve(folder: &Path, more: &[&str]) -> Program {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--durability", "relaxed"];
    Program::start(folder, &[&arguments[..], &FEW, more].concat())
}

fn connect(server: &Program) -> Client {
    // It listens on this machine alone, and knows its names.
    Client { host: "localhost".to_owned(), ..Client::to(&server.address) }
}

fn put(server: &Program, name: &str, body: &[u8]) -> u16 {
    connect(server).ask("PUT", &format!("/files/{name}"), &[], body).status
}

#[test]
fn the_first_line_says_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &["--log-file", "log/a.log"]);
    assert_eq!(server.first_line, format!("listening on http://{}/, data in data\n", server.address));
    assert_eq!(put(&server, "a", b"hello"), 201);
    assert_eq!(fs::read(folder.path().join("data/low_storage/a")).unwrap(), b"hello");
    assert_eq!(server.stop(), (Some(0), String::new(), String::new()));
    let log = fs::read_to_string(folder.path().join("log/a.log")).unwrap();
    for text in [
        " INFO  [server] ",
        " listening on http://127.0.0.1:",
        " INFO  [access] ",
        " method=\"PUT\" target=\"/files/a\" status=201 sent=",
        " received=5 ",
        " the server ends\n",
    ] {
        assert!(log.contains(text), "{text:?} is missing in {log}");
    }
}

#[test]
fn what_is_stored_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut listed = Vec::new();
    for threads in ["1", "3"] {
        let server = serve(folder.path(), &["--threads", threads]);
        if listed.is_empty() {
            for n in 0..20 {
                assert_eq!(put(&server, &format!("a/{n}"), &sample(n * 1000)), 201);
            }
            listed = connect(&server).ask("GET", "/list", &[], b"").body;
        }
        let mut client = connect(&server);
        assert_eq!(client.ask("GET", "/list", &[], b"").body, listed);
        for n in 0..20 {
            assert_eq!(client.ask("GET", &format!("/files/a/{n}"), &[], b"").body, sample(n * 1000));
        }
        // A client that does not see that it is left would be waited for.
        drop(client);
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn a_signal_ends_it_when_requests_under_way_are_answered() {
    for (signal, threads) in [("-TERM", "1"), ("-TERM", "3"), ("-INT", "2")] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = serve(folder.path(), &["--threads", threads]);
        let content = sample(12_000_000);
        assert_eq!(put(&server, "big", &content), 201);
        let mut upload = connect(&server);
        upload.send("PUT", "/files/new", &[("Content-Length", "1000000")], &content[..500_000]);
        let mut download = connect(&server);
        download.send("GET", "/files/big", &[], b"");
        download.stream.peek(&mut [0]).unwrap();
        let has_begun = || {
            let page = connect(&server).ask("GET", "/metrics", &[], b"");
            page.text().contains("cloudstore_uploads 1\n")
        };
        while !has_begun() {}
        server.signal(signal);
        server.hears_of("ends when the requests that are under way are answered");
        // It listens no more, on no loop.
        while TcpStream::connect(&server.address).is_ok() {}
        upload.stream.write_all(&content[500_000..1_000_000]).unwrap();
        assert_eq!(upload.read(false).unwrap().status, 201);
        assert!(download.read(false).unwrap().body == content);
        drop((upload, download));
        let (code, out, said) = server.ended();
        assert_eq!((code, &out[..]), (Some(0), ""), "{said}");
        assert!(said.contains("the server ends") && !said.contains(" WARN "), "{said}");
        assert_eq!(fs::read(folder.path().join("data/low_storage/new")).unwrap(), &content[..1_000_000]);
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (threads, first) in [("1", "-TERM"), ("3", "-TERM"), ("1", "-INT")] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = serve(folder.path(), &["--threads", threads]);
        assert_eq!(put(&server, "a", b"old"), 201);
        let mut uploads: Vec<_> = (0..6).map(|_| connect(&server)).collect();
        for upload in &mut uploads {
            upload.send("PUT", "/files/a", &[("Content-Length", "10")], b"half");
        }
        let have_begun = |server: &Program| {
            let page = connect(server).ask("GET", "/metrics", &[], b"");
            page.text().contains("cloudstore_uploads 6\n")
        };
        while !have_begun(&server) {}
        server.signal(first);
        server.hears_of("ends when the requests that are under way are answered");
        server.signal("-TERM");
        let (code, _, said) = server.ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("what is under way is cut off"), "{said}");
        assert!(uploads.iter_mut().all(|upload| upload.read(false).is_none()));
        assert_eq!(fs::read(folder.path().join("data/low_storage/a")).unwrap(), b"old");
        let server = serve(folder.path(), &[]);
        assert_eq!(connect(&server).ask("GET", "/files/a", &[], b"").text(), "old");
        assert_eq!(fs::read_dir(folder.path().join("data/stage")).unwrap().count(), 0);
    }
}

#[test]
fn sighup_reads_the_settings_again_and_opens_the_log_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = (folder.path().join("cloudstore.json"), folder.path().join("a.log"));
    fs::write(&config, r#"{"log_file": "a.log", "threads": 2}"#).unwrap();
    let server = serve(folder.path(), &[]);
    let mut client = connect(&server);
    assert_eq!(client.ask("PUT", "/files/a", &[], &sample(2000)).status, 201);

    let reread = |text: &str, settings: &str, place: &Path| {
        fs::write(&config, settings).unwrap();
        server.signal("-HUP");
        let mut said = String::new();
        while !said.contains(text) {
            said = fs::read_to_string(place).unwrap_or_default();
        }
        said
    };
    fs::rename(&log, folder.path().join("old.log")).unwrap();
    let settings = r#"{"log_file": "a.log", "threads": 3, "max_body_bytes": 1000, "access_log": false}"#;
    let said = reread("the settings are read again", settings, &log);
    assert!(
        said.contains("WARN")
            && said.contains("threads differs in the settings from what runs, and takes effect when"),
        "{said}"
    );
    assert!(
        said.contains("max_body_bytes is changed\n") && said.contains("access_log is changed\n"),
        "{said}"
    );
    // On every loop, connections that were there included.
    for _ in 0..10 {
        let mut other = connect(&server);
        while other.ask("PUT", "/files/a", &[], &sample(2000)).status != 413 {
            other = connect(&server);
        }
    }
    assert_eq!(client.ask("PUT", "/files/a", &[], &sample(2000)).status, 413);
    drop(client);

    let said = reread("the settings stay as they are", r#"{"max_body_bytes": "many"}"#, &log);
    assert!(
        said.contains(" ERROR [config] ") && said.contains("\"many\" is no value for max_body_bytes"),
        "{said}"
    );
    assert_eq!(put(&server, "a", &sample(2000)), 413);
    assert_eq!(server.stop().0, Some(0));
    let log = fs::read_to_string(&log).unwrap();
    // The first answer may be told of after the settings were read.
    assert!(!log.lines().any(|line| line.contains("[access]") && line.contains("status=413")), "{log}");
}

#[test]
fn bad_settings_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::write(folder.path().join("bad.json"), "{").unwrap();
    for (arguments, code, reason) in [
        (&["--no-such-option"][..], 2, "--no-such-option"),
        (&["--listen"], 2, "a value is required"),
        (&["--listen", "nowhere"], 1, "--listen: \"nowhere\" is no value for listen"),
        (&["--listen", "0.0.0.0:0"], 1, "0.0.0.0"),
        (&["--threads", "0"], 1, "--threads: \"0\" is no value for threads"),
        (&["--durability", "eventual"], 1, "--durability: \"eventual\" is no value for durability"),
        (&["--config", "bad.json"], 1, "bad.json"),
        (&["--config", "none.json"], 1, "none.json"),
        (&["--data", "file"], 1, "file"),
        (&["--data", "file/below"], 1, "file/below"),
        (&["--listen", "192.0.2.1:1", "--open"], 1, "cannot listen on 192.0.2.1:1"),
        (&["--log-file", "file/a.log"], 1, "file/a.log"),
        (&["--backlog", "nowhere"], 1, "--backlog: \"nowhere\" is no value for backlog"),
    ] {
        let (found, out, said) = run(folder.path(), &[&["serve"], arguments].concat());
        assert_eq!((found, &out[..]), (Some(code), ""), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_data_folder_has_one_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &[]);
    let (code, out, said) = run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert_eq!((code, &out[..]), (Some(1), ""));
    assert!(said.contains("the data folder \"data\" is in use: stop the other server"), "{said}");
    assert_eq!(put(&server, "a", b""), 201, "the first one goes on");
    drop(server);
    // Killed, it holds nothing any more.
    let server = serve(folder.path(), &[]);
    assert_eq!(put(&server, "a", b""), 200);
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (first, second) in [("1", "1"), ("3", "3"), ("1", "3"), ("3", "1")] {
        let server = serve(folder.path(), &["--threads", first]);
        let arguments = ["serve", "--listen", &server.address, "--data", "other", "--threads", second];
        let (code, out, said) = run(folder.path(), &[&arguments[..], &FEW].concat());
        assert_eq!((code, &out[..]), (Some(1), ""), "{first} {second}: {said}");
        assert!(said.starts_with(&format!("cloudstore: cannot listen on {}: ", server.address)), "{said}");
        assert_eq!(put(&server, "a", b""), if first == "1" && second == "1" { 201 } else { 200 });
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn it_listens_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--listen", "unix:socket", "--data", "data"];
    let server = Program::start(folder.path(), &arguments);
    assert_eq!(server.first_line, "listening on unix:socket, data in data\n");
    let mut stream = std::os::unix::net::UnixStream::connect(folder.path().join("socket")).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\nok\n"), "{reply}");
    drop(stream);
    drop(server);
    // Killed, it has left its name.
    let server = Program::start(folder.path(), &arguments);
    let other = ["serve", "--listen", "unix:socket", "--data", "other"];
    let (code, _, said) = run(folder.path(), &[&other[..], &FEW].concat());
    assert_eq!(code, Some(1));
    assert!(said.starts_with("cloudstore: cannot listen on unix:socket: "), "{said}");
    assert_eq!(server.stop().0, Some(0));
}

/// Promise 14.
#[test]
fn missing_file_reaches_the_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["backlog", "--listen", "127.0.0.1:0", "--file", "backlog.log", "--print"];
    let mut backlog = Program::start(folder.path(), &arguments);
    // One loop, so one thread whose records are counted together.
    let server = serve(folder.path(), &["--backlog", &backlog.address, "--threads", "1"]);
    let mut client = connect(&server);
    for target in ["/files/no%20such/%E6%96%87%E4%BB%B6", "/download/gone.txt"] {
        assert_eq!(client.ask("GET", target, &[], b"").status, 404);
    }
    let said = backlog.prints("gone.txt");
    let lines: Vec<&str> = said.lines().collect();
    for (line, name) in lines.iter().zip(["no such/文件", "gone.txt"]) {
        assert!(line.contains(" ERROR [storage] "), "{line}");
        assert!(
            line.contains(&format!(" a missing object was asked for name=\"{name}\" peer=\"127.0.0.1:")),
            "{line}"
        );
    }
    // What is there, what is no object, and who only asks whether something is there, are no errors.
    assert_eq!(put(&server, "a", b""), 201);
    for target in ["/files/a", "/files/none/", "/nothing", "/files/..", "/healthz"] {
        client.ask("GET", target, &[], b"");
    }
    client.ask("HEAD", "/files/none", &[], b"");
    // A scanner: the first records go, the others are counted.
    for n in 0..500 {
        client.send("GET", &format!("/files/scan/{n}"), &[], b"");
    }
    (0..500).for_each(|_| assert_eq!(client.read(false).unwrap().status, 404));
    let reply = client.ask("POST", "/reload", &[], b"");
    assert_eq!((reply.status, reply.json()["status"].as_str()), (200, Some("success")));
    drop(client);
    assert_eq!(server.stop().0, Some(0));
    // How many were held back is said when their time is over, or at the end: then the next run brings it.
    let server = serve(folder.path(), &["--backlog", &backlog.address, "--threads", "1"]);
    let out = backlog.prints(" more records from storage ");
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(backlog.stop().0, Some(0));
    let passed =
        out.lines().filter(|line| line.contains(" a missing object was asked for name=\"scan/")).count();
    let held = out.lines().last().unwrap().split(" more records from storage ").next().unwrap();
    let held: usize = held.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(passed < 150 && passed + held == 500, "{passed} {held}");
    for line in out.lines() {
        assert!(line.contains("scan/") || line.contains("more records from"), "{line}");
    }
}

#[test]
fn a_backlog_server_that_is_away_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["backlog", "--listen", "127.0.0.1:0", "--file", "backlog.log", "--print"];
    let address = Program::start(folder.path(), &arguments).address.clone();
    let server = serve(folder.path(), &["--backlog", &address]);
    assert_eq!(connect(&server).ask("GET", "/files/early", &[], b"").status, 404);
    assert_eq!(put(&server, "a", b""), 201);
    assert_eq!(server.stop().0, Some(0));
    // The next run brings what waits.
    let mut backlog = Program::start(folder.path(), &arguments);
    let server = serve(folder.path(), &["--backlog", &backlog.address]);
    backlog.prints("a missing object was asked for name=\"early\"");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn every_record_is_one_line_at_the_level_that_it_deserves() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &["--log-file", "a.log", "--log-level", "debug"]);
    let ask = |bytes: &[u8]| {
        let mut client = connect(&server);
        client.stream.write_all(bytes).unwrap();
        client.read(bytes.starts_with(b"HEAD")).map_or(0, |reply| reply.status)
    };
    let odd = "GET /files/a\u{85}\u{9b}31m\u{2028}b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (request, status) in [
        (odd, 400),
        ("GET /files/a%0d%0a2026-11-22T14:03:55.123456Z%20ERROR HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("PUT /files/a HTTP/1.1\r\nHost: localhost\r\nStorage-Class: a\tb\u{85}\u{1b}\r\n\r\n", 400),
        ("PUT /files/a HTTP/1.1\r\nHost: localhost\r\nStorage-Class: a\tb\u{85}\r\n\r\n", 400),
        ("POST /files/a?move=b%0ac HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /files/?limit=%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("POST /upload HTTP/1.1\r\nHost: localhost\r\nFileName: YQpi\r\n\r\n", 400),
        ("GET /files/missing%E2%80%AEtxt HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("HEAD /files/probed HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("garbage\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
    ] {
        assert_eq!(ask(request.as_bytes()), status, "{request:?}");
    }
    let mut leaver = connect(&server);
    leaver.send("PUT", "/files/left", &[("Content-Length", "10")], b"half");
    drop(leaver);
    // Its end is told when it is noticed.
    let log = folder.path().join("a.log");
    while !fs::read_to_string(&log).unwrap().contains("an upload ended before it was whole") {}
    assert_eq!(server.stop().0, Some(0));
    let log = fs::read_to_string(&log).unwrap();
    for line in log.lines() {
        let (time, rest) = line.split_at(27);
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        let level = rest.split_whitespace().next().unwrap();
        assert!(["DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    for (level, text) in [
        ("ERROR", "a missing object was asked for name=\"missing\u{202e}txt\""),
        ("DEBUG", "there is no object probed"),
        ("WARN", "the name holds the control character"),
        ("WARN", "an upload ended before it was whole, and nothing of it was kept"),
        ("DEBUG", "refused: Bad Request"),
        ("DEBUG", "refused: HTTP Version Not Supported"),
        ("INFO", "method=\"PUT\" target=\"/files/left\" status=499"),
    ] {
        let found =
            log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"));
        assert!(found.contains(&format!(" {level} ")), "{found}");
    }
    assert_eq!(log.lines().filter(|line| line.contains(" ERROR ")).count(), 1, "{log}");
}

#[test]
fn a_service_manager_is_told_of_its_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let arguments = [&["serve", "--listen", "127.0.0.1:0", "--data", "data"][..], &FEW].concat();
    let mut command = program::cloudstore(folder.path(), &arguments);
    let server = Program::run(command.env("NOTIFY_SOCKET", &path));
    let heard = || {
        let mut message = [0; 64];
        let len = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    assert_eq!(heard(), "READY=1\n");
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(heard(), "STOPPING=1\n");
}

#[test]
fn an_index_that_is_made_anew_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), &[]);
    assert_eq!(put(&server, "a", b"hello"), 201);
    server.stop();
    let index = folder.path().join("data/storage.data");
    fs::write(&index, vec![7; 10_000]).unwrap();
    let server = serve(folder.path(), &[]);
    assert_eq!(connect(&server).ask("GET", "/files/a", &[], b"").status, 200);
    let (_, _, said) = server.stop();
    for text in [
        "storage.data cannot be read as an index; it is kept as ",
        "storage.data.damaged",
        "made from the files files=1",
    ] {
        assert!(said.contains(text), "{text:?} is missing in {said}");
    }
    assert_eq!(fs::read(folder.path().join("data/storage.data.damaged")).unwrap(), vec![7; 10_000]);
}

/// Fault 2, of the server: with a client that keeps its connection, and one that has left.
#[test]
fn an_idle_server_uses_no_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let backlog = Program::start(folder.path(), &["backlog", "--listen", "127.0.0.1:0", "--file", "b.log"]);
    let server = serve(folder.path(), &["--threads", "2", "--backlog", &backlog.address]);
    assert_eq!(put(&server, "a", b"hello"), 201);
    let mut client = connect(&server);
    assert_eq!(client.ask("GET", "/files/missing", &[], b"").status, 404);
    let wakes = |program: &Program| {
        let threads = fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
        let status = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
        let lines: String = status.collect();
        let counts = lines.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        counts.map(|count| count.trim().parse::<u64>().unwrap()).sum::<u64>()
    };
    // Late rows, the last records and threads that end for want of work have this long.
    let until = Instant::now() + Duration::from_secs(60);
    let mut before = (0, 0);
    while before != (wakes(&server), wakes(&backlog)) {
        assert!(Instant::now() < until, "it is never idle: {before:?}");
        before = (wakes(&server), wakes(&backlog));
        thread::sleep(Duration::from_secs(2));
    }
    thread::sleep(Duration::from_secs(5));
    assert_eq!((wakes(&server), wakes(&backlog)), before);
    assert_eq!(client.ask("GET", "/files/a", &[], b"").body, b"hello");
    server.stop();
}
