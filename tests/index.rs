//! The index over HTTP, and by the command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;

use std::fs;

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
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, POST")));
}
