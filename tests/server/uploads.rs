//! What an upload may say of itself, and how much of it is taken.

use std::io::{BufRead, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::Digest as _;

use crate::host::{Host, options, sample};

#[test]
fn digests_are_checked_before_anything_is_stored() {
    let host = Host::new();
    let content = sample(150_000);
    let text = |sum: &[u8]| BASE64_STANDARD.encode(sum);
    let md5 = text(&md5::Md5::digest(&content));
    let sha256 = format!("sha-256=:{}:", text(&sha2::Sha256::digest(&content)));
    let sha512 = format!("sha-512=:{}:", text(&sha2::Sha512::digest(&content)));
    let crc32c = format!("crc32c=:{}:", text(&crc32c::crc32c(&content).to_be_bytes()));
    let all = format!("{sha256}, {sha512}, {crc32c}, md5=:{md5}:");
    for class in ["low", "deep"] {
        for (field, value) in [
            ("Content-MD5", &md5),
            ("Repr-Digest", &sha256),
            ("Content-Digest", &sha512),
            ("Repr-Digest", &crc32c),
            ("Content-Digest", &all),
        ] {
            let headers = [("Storage-Class", class), (field, &value[..])];
            let mut broken = content.clone();
            broken[70_000] ^= 1;
            for wrong in [&broken[..], &content[..content.len() - 1], b""] {
                let reply = host.ask("PUT", "/files/a", &headers, wrong);
                assert_eq!(
                    (reply.status, reply.json()["error"].as_str()),
                    (400, Some("digest_mismatch")),
                    "{field}"
                );
                assert_eq!(host.get("/files/a").status, 404);
                host.until(|host| host.files("stage").is_empty());
            }
            assert_eq!(host.ask("PUT", "/files/a", &headers, &content).status, 201, "{field} {value}");
            assert_eq!(host.ask("DELETE", "/files/a", &[], b"").status, 204);
        }
    }
    // What cannot be checked by this server is not held against the upload.
    let other = [("Repr-Digest", "sha=:AAAA:, unixsum=:AAAA:")];
    assert_eq!(host.ask("PUT", "/files/a", &other, &content).status, 201);
}

#[test]
fn digests_are_told_to_those_who_want_them() {
    let host = Host::new();
    host.put("/files/plain", b"hello");
    host.ask("PUT", "/files/summed", &[("Want-Repr-Digest", "sha-256=5")], b"hello");
    let crc32c = "crc32c=:mnG7TA==:";
    let sha256 = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    for (target, wanted, expected) in [
        ("/files/plain", "crc32c=1", Some(crc32c)),
        ("/files/plain", "sha-256=9, crc32c=1", Some(crc32c)),
        ("/files/summed", "sha-256=9, crc32c=1", Some(sha256)),
        ("/files/summed", "sha-256=1, crc32c=9", Some(crc32c)),
        ("/files/plain", "sha-256=1", None),
        ("/files/plain", "md5=1", None),
        ("/files/plain", "nonsense;", None),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = host.ask(method, target, &[("Want-Repr-Digest", wanted)], b"");
            assert_eq!((reply.status, reply.header("repr-digest")), (200, expected), "{target} {wanted}");
        }
    }
    assert_eq!(host.get("/files/summed").header("repr-digest"), None, "nobody asked");
    // That of the whole, also with a part.
    let headers = [("Want-Repr-Digest", "crc32c=1"), ("Range", "bytes=0-1")];
    let part = host.ask("GET", "/files/plain", &headers, b"");
    assert_eq!((part.status, part.header("repr-digest")), (206, Some(crc32c)));
}

#[test]
fn an_answer_has_no_digest_of_something_else() {
    let host = Host::new();
    let stored = host.ask("PUT", "/files/a", &[("Want-Repr-Digest", "sha-256=5")], b"hello");
    assert_eq!(stored.header("repr-digest"), None, "its body is not the object's");
    assert_eq!(stored.json()["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn times_of_files_are_kept() {
    let host = Host::new();
    for (time, modified) in [
        ("0", "1970-01-01T00:00:00.000000Z"),
        ("1000000000", "2001-09-09T01:46:40.000000Z"),
        ("1000000000.5", "2001-09-09T01:46:40.500000Z"),
        ("1000000000.123456789", "2001-09-09T01:46:40.123456Z"),
        ("253402207199", "9999-12-30T21:59:59.000000Z"),
    ] {
        let reply = host.ask("PUT", "/files/a", &[("X-OC-Mtime", time)], b"");
        assert_eq!(
            (reply.header("x-oc-mtime"), &reply.json()["modified"]),
            (Some("accepted"), &modified.into())
        );
    }
    // What has not come yet is no time of a last change.
    assert!(host.get("/files/a").header("last-modified").unwrap().contains(" 20"));
    for time in [
        "",
        "-1",
        "+1",
        "1e9",
        "0x1",
        "1.",
        ".5",
        "1.5.5",
        "1,5",
        " ",
        "253402300800",
        "99999999999999999999",
    ] {
        let reply = host.ask("PUT", "/files/a", &[("X-OC-Mtime", time)], b"");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some("time_invalid")), "{time:?}");
    }
    assert_eq!(host.put("/files/a", b"").header("x-oc-mtime"), None);
}

#[test]
fn a_part_or_a_packed_body_is_no_object() {
    let host = Host::new();
    for (headers, status) in [
        (&[("Content-Range", "bytes 0-4/10")][..], 400),
        (&[("Content-Encoding", "gzip")], 415),
        (&[("Content-Encoding", "identity, gzip")], 415),
        (&[("Content-Encoding", "identity"), ("Content-Encoding", "br")], 415),
        (&[("Content-Encoding", "\u{e9}")], 415),
        (&[("Content-Encoding", "identity")], 201),
        (&[("Content-Encoding", "")], 200),
    ] {
        let reply = host.ask("PUT", "/files/a", headers, b"hello");
        assert_eq!(reply.status, status, "{headers:?}");
        assert_eq!(reply.header("accept-encoding").is_some(), status == 415, "{headers:?}");
    }
}

#[test]
fn a_body_longer_than_allowed_is_413() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits.max_body_bytes = 1000;
    let host = Host::with(options);
    assert_eq!(host.put("/files/a", &sample(1000)).status, 201);
    let announced = host.put("/files/a", &sample(1001));
    assert_eq!((announced.status, announced.json()["error"].as_str()), (413, Some("too_large")));
    // Nothing says how long it will be.
    let body = format!("3e8\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1000));
    let reply = host.ask("PUT", "/files/a", &[("Transfer-Encoding", "chunked")], body.as_bytes());
    assert_eq!((reply.status, reply.json()["error"].as_str()), (413, Some("too_large")));
    let name = [("FileName", "YQ==")];
    assert_eq!(host.ask("POST", "/upload", &name, &sample(2000)).status, 413);
    assert!(host.get("/files/a").body == sample(1000));
    host.until(|host| host.files("stage").is_empty());
}

#[test]
fn a_disk_that_would_be_too_full_is_507() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.min_free_disk = u64::MAX;
    let host = Host::with(options);
    let reply = host.put("/files/a", b"x");
    assert_eq!((reply.status, reply.json()["error"].as_str()), (507, Some("disk_full")));
    assert_eq!(host.ask("POST", "/upload", &[("FileName", "YQ==")], b"x").status, 507);
    // What is there can be moved and removed, and not be made twice.
    drop(host);
    assert_eq!(Host::at(folder.path()).put("/files/b", b"x").status, 201);
    let mut options = crate::host::options(folder.path());
    options.min_free_disk = u64::MAX;
    let host = Host::with(options);
    for (target, status) in [
        ("/files/b?copy=c", 507),
        ("/files/b?class=deep", 507),
        ("/files/?copy=c/", 507),
        ("/files/b?move=c", 201),
    ] {
        assert_eq!(host.ask("POST", target, &[], b"").status, status, "{target}");
    }
    assert_eq!(host.ask("DELETE", "/files/c", &[], b"").status, 204);
    let ready = host.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("remove something first"), "{}", ready.text());
    assert_eq!(host.get("/healthz").text(), "ok\n");
    // More than any disk has.
    let mut client = host.connect();
    client.send("PUT", "/files/a", &[("Content-Length", "1000000000000000000")], b"x");
    assert_eq!(client.read(false).unwrap().status, 507);
}

#[test]
fn who_waits_for_leave_to_send_is_refused_before() {
    let host = Host::new();
    host.put("/files/a/b", b"");
    let ask = |target: &str, more: &str| {
        let mut client = host.connect();
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n{more}\r\n"
        );
        client.stream.write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        client.reader.read_line(&mut line).unwrap();
        (client, line)
    };
    for (target, more, expected) in [
        ("/files/a", "", "HTTP/1.1 409 "),
        ("/files/a/b/c", "", "HTTP/1.1 409 "),
        ("/files/a/b", "If-None-Match: *\r\n", "HTTP/1.1 412 "),
        ("/files/a/..", "", "HTTP/1.1 400 "),
        ("/files/a/b", "Content-Encoding: gzip\r\n", "HTTP/1.1 415 "),
        ("/files/a/b", "Origin: http://evil.example\r\n", "HTTP/1.1 403 "),
        ("/files/a/b", "Expect: something\r\n", "HTTP/1.1 417 "),
    ] {
        let (_, line) = ask(target, more);
        assert!(line.starts_with(expected), "{target}: {line}");
    }
    let (mut client, line) = ask("/files/a/b", "");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    client.reader.read_line(&mut String::new()).unwrap();
    client.stream.write_all(&sample(100_000)).unwrap();
    assert_eq!(client.read(false).unwrap().status, 200);
}

/// What one upload was promised is not given to another.
#[test]
fn room_is_kept_for_what_was_announced() {
    let folder = tempfile::tempdir().unwrap();
    let stat = rustix::fs::statvfs(folder.path()).unwrap();
    let free = stat.f_bavail * stat.f_frsize;
    let mut options = options(folder.path());
    // Half of what is free may be filled: others use the disk too.
    options.min_free_disk = free / 2;
    let host = Host::with(options);
    let share = (free / 8 * 3).to_string();
    let mut first = host.connect();
    first.send("PUT", "/files/a", &[("Content-Length", &share)], b"x");
    // Its bytes have been taken when the server knows of it.
    while !host.get("/metrics").text().contains("cloudstore_uploads 1\n") {}
    let mut second = host.connect();
    second.send("PUT", "/files/b", &[("Content-Length", &share)], b"x");
    let reply = second.read(false).unwrap();
    assert_eq!((reply.status, reply.json()["error"].as_str()), (507, Some("disk_full")));
    drop(first);
    while !host.get("/metrics").text().contains("cloudstore_uploads 0\n") {}
    let mut third = host.connect();
    third.send("PUT", "/files/b", &[("Content-Length", &share), ("Expect", "100-continue")], b"");
    let mut line = String::new();
    third.reader.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
}

#[test]
fn a_put_without_a_body_replaces_nothing() {
    let host = Host::new();
    host.put("/files/a", b"old");
    let mut client = host.connect();
    client.stream.write_all(b"PUT /files/a HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let reply = client.read(false).unwrap();
    assert_eq!((reply.status, reply.json()["error"].as_str()), (411, Some("length_required")));
    assert_eq!(host.get("/files/a").body, b"old");
    assert_eq!(host.put("/files/a", b"").status, 200);
    assert_eq!(host.get("/files/a").body, b"");
}

#[test]
fn a_form_is_no_object() {
    let host = Host::new();
    let form = [("FileName", "YQ=="), ("Content-Type", "multipart/form-data; boundary=x")];
    for (method, target) in [("POST", "/upload"), ("PUT", "/files/a")] {
        let reply = host.ask(method, target, &form, b"--x--\r\n");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (415, Some("form_body")), "{target}");
    }
    assert_eq!(host.get("/files/a").status, 404);
}

#[test]
fn the_class_may_stand_in_the_query() {
    let host = Host::new();
    assert_eq!(host.put("/files/a?class=deep", b"x").json()["class"], "deep");
    assert_eq!(host.put("/files/a?class=low", b"x").json()["class"], "low");
    let reply = host.put("/files/a?class=lower", b"x");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("write low or deep"), "{}", reply.text());
}
