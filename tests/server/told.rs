//! What the server tells of itself, and how it ends.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::{Host, options, sample};

#[test]
fn metrics_are_in_the_text_format() {
    let host = Host::new();
    host.put("/files/a", &sample(1000));
    host.get("/files/a");
    host.get("/files/none");
    host.until(|host| host.metric("cloudstore_http_answers_total{status=\"4xx\"}") == 1.0);
    let page = host.get("/metrics");
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut family: Option<(String, String)> = None;
    let mut seen = Vec::new();
    let mut last_bucket = 0.0;
    for line in page.text().lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(text.ends_with('.') && !seen.contains(&name.to_owned()), "{line}");
            seen.push(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(Some(name), seen.last().map(String::as_str));
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let (of, kind) = family.clone().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let bare = name.split('{').next().unwrap();
            match kind.as_str() {
                "histogram" => {
                    let suffix = bare.strip_prefix(&of).unwrap();
                    assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}");
                    if suffix == "_bucket" {
                        assert!(value >= last_bucket, "{line}");
                        last_bucket = value;
                    } else if suffix == "_count" {
                        assert_eq!(value, last_bucket, "{line}");
                    }
                }
                _ => assert_eq!(bare, of, "{line}"),
            }
        }
    }
    for (name, value) in [
        ("cloudstore_objects", 1.0),
        ("cloudstore_http_received_bytes_total", 1000.0),
        ("cloudstore_uploads", 0.0),
        ("cloudstore_http_cut_total", 0.0),
    ] {
        assert_eq!(host.metric(name), value, "{name}");
    }
    assert!(host.metric("cloudstore_http_sent_bytes_total") > 1000.0);
    assert!(host.metric("cloudstore_disk_free_bytes") > 0.0);
}

#[test]
fn connections_of_all_loops_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.loops = 3;
    let host = Host::with(options);
    let idle: Vec<_> = (0..30).map(|_| host.connect()).collect();
    host.until(|host| host.metric("cloudstore_http_connections") == 31.0);
    drop(idle);
    host.until(|host| host.metric("cloudstore_http_connections") == 1.0);
}

#[test]
fn requests_under_way_are_answered_when_the_server_ends() {
    for loops in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        options.loops = loops;
        let host = Host::with(options);
        let content = sample(12_000_000);
        host.put("/files/big", &content);
        // Some of each, so that every loop has something.
        let mut uploads = Vec::new();
        let mut downloads = Vec::new();
        let idle: Vec<_> = (0..8).map(|_| host.connect()).collect();
        for n in 0..8 {
            let mut upload = host.connect();
            upload.send(
                "PUT",
                &format!("/files/{n}"),
                &[("Content-Length", "2000000")],
                &content[..1_000_000],
            );
            uploads.push(upload);
            let mut download = host.connect();
            download.send("GET", "/files/big", &[], b"");
            download.stream.peek(&mut [0]).unwrap();
            downloads.push(download);
        }
        host.until(|host| host.metric("cloudstore_uploads") == 8.0);
        host.drainer().drain();
        for mut client in idle {
            assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "nothing was under way");
        }
        for mut upload in uploads {
            upload.stream.write_all(&content[1_000_000..2_000_000]).unwrap();
            let reply = upload.read(false).unwrap();
            assert_eq!((reply.status, reply.header("connection")), (201, Some("close")));
        }
        for mut download in downloads {
            assert!(download.read(false).unwrap().body == content);
        }
        let data = host.data().to_owned();
        host.ended();
        // And all of it is there.
        let host = Host::at(&data);
        for n in 0..8 {
            assert!(host.get(&format!("/files/{n}")).body == content[..2_000_000]);
        }
    }
}

#[test]
fn what_takes_too_long_is_cut_when_the_server_ends() {
    for loops in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        options.loops = loops;
        options.grace = Duration::from_millis(50);
        let host = Host::with(options);
        host.put("/files/a", b"old");
        let mut uploads = Vec::new();
        for _ in 0..4 {
            let mut upload = host.connect();
            upload.send("PUT", "/files/a", &[("Content-Length", "10")], b"half");
            uploads.push(upload);
        }
        host.until(|host| host.metric("cloudstore_uploads") == 4.0);
        host.drainer().drain();
        let data = host.data().to_owned();
        host.ended();
        assert!(uploads.iter_mut().all(|upload| upload.read(false).is_none()));
        let host = Host::at(&data);
        assert_eq!(host.get("/files/a").text(), "old");
        assert_eq!(host.files("stage"), [""; 0]);
    }
}

#[test]
fn a_server_that_is_told_twice_to_end_does_not_wait_for_its_grace() {
    for loops in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        options.loops = loops;
        options.grace = Duration::from_secs(30);
        let host = Host::with(options);
        let mut upload = host.connect();
        upload.send("PUT", "/files/a", &[("Content-Length", "10")], b"half");
        host.until(|host| host.metric("cloudstore_uploads") == 1.0);
        let began = Instant::now();
        host.drainer().drain();
        host.drainer().drain();
        upload.stream.write_all(b"theend").unwrap();
        assert_eq!(upload.read(false).unwrap().status, 201);
        drop(upload);
        host.ended();
        assert!(began.elapsed() < Duration::from_secs(25));
    }
}

#[test]
fn a_server_starts_again_where_it_was_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..5 {
        let host = Host::at(folder.path());
        assert_eq!(host.put(&format!("/files/{n}"), b"").status, 201);
        assert_eq!(host.get("/files/").json()["entries"].as_array().unwrap().len(), n + 1);
        let clients: Vec<_> = (0..3).map(|_| host.connect()).collect();
        thread::scope(|scope| scope.spawn(|| drop(clients)).join().unwrap());
    }
}
