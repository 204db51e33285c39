//! The index over HTTP, and by the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use host::Host;
use serde_json::{Value, json};

const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn names(list: &str) -> Vec<String> {
    let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned();
    list.lines().map(name).collect()
}

fn post(host: &Host, query: &str, body: &[u8]) -> host::Reply {
    host.ask("POST", &format!("/index?{query}"), &[], body)
}

#[test]
fn an_export_has_every_object() {
    let host = Host::new();
    let reply = host.get("/index");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    let mut expected: Vec<String> = (0..1050).map(|n| format!("f/{n:04}")).collect();
    let mut client = host.connect();
    for name in &expected {
        assert_eq!(client.ask("PUT", &format!("/files/{name}"), &[], b"hello").status, 201);
    }
    expected.push("z \u{6a21}\"".to_owned());
    assert_eq!(host.put("/files/z%20%E6%A8%A1%22", b"hello").status, 201);
    let reply = host.get("/index");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    assert!(reply.header("transfer-encoding").is_some());
    assert_eq!(names(reply.text()), expected);
    let head = host.ask("HEAD", "/index", &[], b"");
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/x-ndjson")));
}

#[test]
fn a_check_tells_and_a_rebuild_mends() {
    let host = Host::new();
    for name in ["a", "b"] {
        assert_eq!(host.put(&format!("/files/{name}"), b"hello").status, 201);
    }
    let clean = json!({"objects": 2, "different": 0, "differences": [], "foreign": 0, "foreign_files": []});
    assert_eq!(post(&host, "check", b"").json(), clean);
    fs::remove_file(host.data().join("low_storage/a")).unwrap();
    fs::write(host.data().join("low_storage/new"), b"came by hand").unwrap();
    fs::write(host.data().join("deep_storage/foreign.gz"), b"no gzip").unwrap();
    let report = post(&host, "check", b"").json();
    let differences = json!([{"name": "a", "what": "no_file"}, {"name": "new", "what": "no_metadata"}]);
    let mut found = report["differences"].as_array().unwrap().clone();
    found.sort_by_key(|difference| difference["name"].as_str().unwrap().to_owned());
    assert_eq!((report["different"].as_u64(), Value::from(found)), (Some(2), differences));
    assert_eq!(report["foreign_files"][0]["path"], "deep_storage/foreign.gz");
    let rebuilt = post(&host, "rebuild", b"").json();
    assert_eq!((rebuilt["objects"].as_u64(), rebuilt["different"].as_u64()), (Some(2), Some(2)));
    assert_eq!(host.get("/files/new").text(), "came by hand");
    assert_eq!(post(&host, "check", b"").json()["different"], 0);
}

#[test]
fn an_import_brings_what_the_objects_lack() {
    let host = Host::new();
    assert_eq!(host.put("/files/a", b"hello").status, 201);
    let line =
        host.get("/index").text().replace("\"modified\"", &format!("\"sha256\":\"{SUM}\",\"modified\""));
    let report = json!({"entries": 1, "updated": 1, "missing": 0});
    assert_eq!(post(&host, "import", line.as_bytes()).json(), report);
    assert!(host.get("/index").text().contains(SUM));
    let other = line.replace("\"a\"", "\"none\"");
    let report = json!({"entries": 2, "updated": 0, "missing": 1});
    assert_eq!(post(&host, "import", [line, other].concat().as_bytes()).json(), report);

    let refused = post(&host, "import", b"{\"name\":");
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("list_invalid")));
    assert!(refused.json()["message"].as_str().unwrap().starts_with("entry 1 of the list "));
}

/// Much longer than what the store works on at a time, in a body that stops and goes on.
#[test]
fn a_long_import_is_held_back_and_taken_whole() {
    let host = Host::new();
    for n in 0..20 {
        assert_eq!(host.put(&format!("/files/{n:02}"), b"hello").status, 201);
    }
    let list =
        host.get("/index").text().replace("\"modified\"", &format!("\"sha256\":\"{SUM}\",\"modified\""));
    let mut long = list.repeat(300);
    let report = post(&host, "import", long.as_bytes()).json();
    assert_eq!((report["entries"].as_u64(), report["missing"].as_u64()), (Some(6000), Some(0)));
    assert!(report["updated"].as_u64().unwrap() >= 20);
    // What is wrong in the middle of a list that is still being sent is told.
    let at = long.len() / 2;
    long.insert_str(long[..at].rfind('\n').unwrap() + 1, "?\n");
    let refused = post(&host, "import", long.as_bytes());
    assert_eq!((refused.status, refused.json()["error"].as_str()), (400, Some("list_invalid")));
}

#[test]
fn what_is_to_be_done_must_be_said() {
    let host = Host::new();
    for query in ["", "checks", "check&rebuild", "import=1&check"] {
        let reply = post(&host, query, b"");
        assert_eq!(
            (reply.status, reply.json()["error"].as_str()),
            (400, Some("parameter_invalid")),
            "{query}"
        );
    }
    let reply = host.ask("DELETE", "/index", &[], b"");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, POST, OPTIONS")));
}

/// Runs `cloudstore index` in an empty folder.
fn run(arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cloudstore"))
        .arg("index")
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // One that was refused reads no further.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_keeper_exports_and_imports_by_the_command_line() {
    let host = Host::new();
    let server = format!("http://{}", host.address);
    let none = (0, String::new(), String::new());
    assert_eq!(run(&["export", "--server", &server], &[], b""), none);
    let mut client = host.connect();
    for n in 0..1050 {
        assert_eq!(client.ask("PUT", &format!("/files/{n:04}"), &[], b"hello").status, 201);
    }
    let (code, list, errors) = run(&["export"], &[("CLOUDSTORE_SERVER", &server)], b"");
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(list, host.get("/index").text());

    let news = list.replace("\"modified\"", &format!("\"sha256\":\"{SUM}\",\"modified\""));
    let told = "entries 1050, objects that learned something 1050, entries without object 0\n";
    assert_eq!(
        run(&["import", "-", "--server", &server], &[], news.as_bytes()),
        (0, told.to_owned(), String::new())
    );
    assert!(host.get("/index").text().contains(SUM));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &news).unwrap();
    let told = "entries 1050, objects that learned something 0, entries without object 0\n";
    let path = file.path().to_str().unwrap();
    assert_eq!(run(&["import", path, "--server", &server], &[], b""), (0, told.to_owned(), String::new()));

    // It need not be sent to its end.
    let bad = ["?\n", &news.repeat(100)].concat();
    let (code, told, errors) = run(&["import", "-", "--server", &server], &[], bad.as_bytes());
    assert_eq!((code, told.as_str()), (1, ""));
    assert!(errors.starts_with("cloudstore: entry 1 of the list "), "{errors}");
}

#[test]
fn a_keeper_checks_and_rebuilds_by_the_command_line() {
    let host = Host::new();
    let server = ["--server", &host.address];
    let with = |arguments: &[&str]| run(&[arguments, &server].concat(), &[], b"");
    assert_eq!(host.put("/files/a", b"hello").status, 201);
    let good = "objects 1, names that differ 0, files that are no objects 0\n";
    assert_eq!(with(&["check"]), (0, good.to_owned(), String::new()));
    fs::write(host.data().join("low_storage/new"), b"came by hand").unwrap();
    fs::write(host.data().join("deep_storage/foreign.gz"), b"no gzip").unwrap();
    let (code, told, errors) = with(&["check"]);
    assert_eq!((code, errors.as_str()), (1, ""));
    assert!(told.starts_with("new: a file that says nothing of itself\n"), "{told}");
    assert!(told.contains("\ndeep_storage/foreign.gz: no object: "), "{told}");
    let (code, told, _) = with(&["rebuild", "--json"]);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, report["objects"].as_u64(), report["different"].as_u64()), (0, Some(2), Some(1)));
    assert_eq!(with(&["check"]).0, 0);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("http://127.0.0.1:{port}");
    let (code, told, errors) = run(&["check", "--server", &nobody], &[], b"");
    assert_eq!((code, told.as_str()), (5, ""));
    assert!(errors.starts_with(&format!("cloudstore: cannot reach {nobody}: ")), "{errors}");
    assert_eq!(run(&["export"], &[("CLOUDSTORE_LISTEN", &format!("127.0.0.1:{port}"))], b"").0, 5);
    assert_eq!(run(&["export", "--server", "unix:/no/such/socket"], &[], b"").0, 5);
    // No resolver needs to be asked for a name that cannot be.
    let no_name = format!("http://{}.invalid", "a".repeat(64));
    let (code, _, errors) = run(&["export", "--server", &no_name], &[], b"");
    assert_eq!(code, 5);
    assert!(errors.starts_with(&format!("cloudstore: cannot find {no_name}: ")), "{errors}");

    for (arguments, environment) in [
        (&["export", "--server", "nas"][..], &[][..]),
        (&["export", "--server", "https://nas"], &[]),
        (&["export"], &[("CLOUDSTORE_SERVER", "nas")]),
        (&["import"], &[]),
        (&[], &[]),
    ] {
        assert_eq!(run(arguments, environment, b"").0, 2, "{arguments:?}");
    }
    assert_eq!(run(&["export"], &[("CLOUDSTORE_LISTEN", "127.0.0.1:0")], b"").0, 1);
    assert_eq!(run(&["import", "/no/such/file", "--server", &nobody], &[], b"").0, 1);

    let host = Host::new();
    let elsewhere = format!("http://{}/no/prefix", host.address);
    let (code, _, errors) = run(&["export", "--server", &elsewhere], &[], b"");
    assert_eq!(code, 3);
    assert!(errors.contains("nothing is at /no/prefix/index"), "{errors}");
}
