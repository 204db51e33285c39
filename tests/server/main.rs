//! What the HTTP interface promises, call by call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bytes;
mod changes;
mod conditions;
mod folders;
#[path = "../util/host.rs"]
mod host;
mod names;
mod original;
mod packed;
mod page;
mod ranges;
mod told;
mod uploads;

use host::{Host, options, sample};

#[test]
fn an_object_comes_back_as_it_was_sent() {
    let host = Host::new();
    for class in ["low", "deep"] {
        for size in [0, 1, 4095, 1 << 20, (1 << 20) + 1] {
            let content = sample(size);
            let target = format!("/files/{class}/{size}");
            let stored = host.ask("PUT", &target, &[("Storage-Class", class)], &content);
            assert_eq!(stored.status, 201);
            assert_eq!(stored.header("location").unwrap(), target);
            let reply = host.get(&target);
            assert_eq!(reply.status, 200);
            assert!(reply.body == content, "{class} {size}");
            assert_eq!(reply.header("etag"), stored.header("etag"));
            assert_eq!(reply.header("storage-class"), Some(class));
            let head = host.ask("HEAD", &target, &[], b"");
            assert_eq!(head.header("content-length").unwrap(), size.to_string());
            assert_eq!(host.put(&target, b"other").status, 200);
        }
    }
}

#[test]
fn loops_share_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.loops = 3;
    let host = Host::with(options);
    for n in 0..50 {
        assert_eq!(host.put(&format!("/files/{n}"), &sample(n)).status, 201);
        assert_eq!(host.get(&format!("/files/{n}")).body, sample(n));
    }
}

#[test]
fn head_of_everything_is_get_without_its_body() {
    let host = Host::new();
    host.put("/files/a/low.txt", b"hello");
    host.ask("PUT", "/files/a/deep.bin", &[("Storage-Class", "deep")], &sample(3 << 20));
    let tag = host.get("/files/a/low.txt").header("etag").unwrap().to_owned();
    let mut client = host.connect();
    for (target, header) in [
        ("/files/a/low.txt", ("X", "")),
        ("/files/a/low.txt?download", ("X", "")),
        ("/files/a/low.txt", ("If-None-Match", tag.as_str())),
        ("/files/a/low.txt", ("If-Match", "\"0\"")),
        ("/files/a/low.txt", ("Want-Repr-Digest", "crc32c=1")),
        ("/files/a/deep.bin", ("X", "")),
        ("/files/a/deep.bin", ("Accept-Encoding", "gzip")),
        ("/files/none", ("X", "")),
        ("/files/a/", ("X", "")),
        ("/files/none/", ("X", "")),
        ("/files/a//b", ("X", "")),
        ("/files", ("X", "")),
        ("/download/a/low.txt", ("X", "")),
        ("/list", ("X", "")),
        ("/healthz", ("X", "")),
        ("/readyz", ("X", "")),
        ("/nothing", ("X", "")),
    ] {
        let [get, head] = ["GET", "HEAD"].map(|method| client.ask(method, target, &[header], b""));
        assert_eq!(get.status, head.status, "{target} {header:?}");
        assert_eq!(without_date(&get), without_date(&head), "{target} {header:?}");
    }
    // Its length is that of each page.
    assert_eq!(client.ask("HEAD", "/metrics", &[], b"").status, 200);
    // A range is of GET alone.
    let head = client.ask("HEAD", "/files/a/low.txt", &[("Range", "bytes=1-2")], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(client.ask("GET", "/healthz", &[], b"").text(), "ok\n", "the connection is in step");
}

fn without_date(reply: &host::Reply) -> Vec<&(String, String)> {
    reply.headers.iter().filter(|(name, _)| name != "Date").collect()
}

#[test]
fn methods_that_a_path_has_not_are_405_and_named_by_options() {
    let host = Host::new();
    host.put("/files/a/b", b"");
    for (target, allowed) in [
        ("/files/a/b", "GET, HEAD, PUT, DELETE, POST, OPTIONS"),
        ("/files/not/there", "GET, HEAD, PUT, DELETE, POST, OPTIONS"),
        ("/files/a/", "GET, HEAD, DELETE, POST, OPTIONS"),
        ("/download/a/b", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, POST, OPTIONS"),
        ("/page/x", "GET, HEAD, OPTIONS"),
        ("/upload", "POST, PUT, OPTIONS"),
        ("/list", "GET, HEAD, OPTIONS"),
        ("/remove", "POST, DELETE, GET, OPTIONS"),
        ("/reload", "POST, GET, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
    ] {
        let asked = host.ask("OPTIONS", target, &[], b"");
        assert_eq!((asked.status, asked.header("allow")), (204, Some(allowed)), "{target}");
        assert_eq!(asked.header("content-length"), None, "{target}");
        for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH", "TRACE", "PROPFIND", "FOO", "get"] {
            let reply = host.ask(method, target, &[], b"");
            let is_allowed = allowed.split(", ").any(|have| have == method);
            // PUT of a folder is no method that it has not, but a bad name.
            let expected = !is_allowed && (method, target) != ("PUT", "/files/a/");
            assert_eq!(reply.status == 405, expected, "{method} {target}: {}", reply.status);
            if expected {
                assert_eq!(reply.header("allow"), Some(allowed), "{method} {target}");
            }
            host.put("/files/a/b", b"");
        }
    }
    assert_eq!(host.ask("OPTIONS", "*", &[], b"").status, 204);
    assert_eq!(host.ask("CONNECT", "test:80", &[], b"").status, 501);
}

#[test]
fn every_refusal_is_json_with_a_code() {
    let host = Host::new();
    host.put("/files/a/b", b"old");
    for (method, target, header, status, code) in [
        ("GET", "/nothing", ("X", ""), 404, "no_such_path"),
        ("POST", "/nothing", ("X", ""), 404, "no_such_path"),
        ("GET", "/files/none", ("X", ""), 404, "not_found"),
        ("GET", "/files/a", ("X", ""), 404, "is_folder"),
        ("GET", "/files/none/", ("X", ""), 404, "not_found"),
        ("GET", "/download/none", ("X", ""), 404, "not_found"),
        ("GET", "/download/", ("X", ""), 400, "name_invalid"),
        ("GET", "/files/a%zz", ("X", ""), 400, "name_invalid"),
        ("GET", "/files/a/b?download=perhaps", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/a/b", ("If-Match", "\"0\""), 412, "precondition_failed"),
        ("GET", "/files/a/b", ("Range", "bytes=9-"), 416, "range_not_satisfiable"),
        ("GET", "/files/?limit=0", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?limit=-1", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?limit=x", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?limit=99999999999999999999", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?limit=1&limit=2", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?sort=colour", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?sort=size&after=a", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?delimiter=x", ("X", ""), 400, "parameter_invalid"),
        ("GET", "/files/?prefix=%ff", ("X", ""), 400, "parameter_invalid"),
        ("PUT", "/files/a/", ("X", ""), 400, "name_invalid"),
        ("PUT", "/files/a", ("X", ""), 409, "is_folder"),
        ("PUT", "/files/n?move=b", ("X", ""), 400, "parameter_invalid"),
        ("PUT", "/files/a/b/c", ("X", ""), 409, "below_object"),
        ("PUT", "/files/a/b", ("If-None-Match", "*"), 412, "precondition_failed"),
        ("PUT", "/files/a", ("If-Match", "*"), 409, "is_folder"),
        ("PUT", "/files/a/b", ("Storage-Class", "glacier"), 400, "class_invalid"),
        ("PUT", "/files/a/b", ("Storage-Class", "\u{1f9ca}\t\""), 400, "class_invalid"),
        ("PUT", "/files/a/b", ("Storage-Class", "low\r\nStorage-Class: deep"), 400, "header_invalid"),
        ("PUT", "/files/a/b", ("X-OC-Mtime", "yesterday"), 400, "time_invalid"),
        ("PUT", "/files/a/b", ("Content-Range", "bytes 0-1/5"), 400, "partial_put"),
        ("PUT", "/files/a/b", ("Content-Encoding", "gzip"), 415, "content_coding"),
        ("PUT", "/files/a/b", ("Content-MD5", "x"), 400, "digest_invalid"),
        ("PUT", "/files/a/b", ("Repr-Digest", "sha-256=:AAAA:"), 400, "digest_invalid"),
        ("PUT", "/files/a/b", ("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg=="), 400, "digest_mismatch"),
        ("DELETE", "/files/none", ("X", ""), 404, "not_found"),
        ("DELETE", "/files/none", ("If-Match", "*"), 404, "not_found"),
        ("DELETE", "/files/a", ("X", ""), 409, "is_folder"),
        ("DELETE", "/files/a/", ("X", ""), 409, "is_folder"),
        ("DELETE", "/files/a/?recursive=false", ("X", ""), 409, "is_folder"),
        ("DELETE", "/files/a/?recursive=perhaps", ("X", ""), 400, "parameter_invalid"),
        ("DELETE", "/files/none/?recursive", ("X", ""), 404, "not_found"),
        ("DELETE", "/files/a/b", ("If-Match", "\"0\""), 412, "precondition_failed"),
        ("POST", "/files/a/b", ("X", ""), 400, "parameter_invalid"),
        ("POST", "/files/a/b?move=x&copy=y", ("X", ""), 400, "parameter_invalid"),
        ("POST", "/files/a/b?move=x&move=y", ("X", ""), 400, "parameter_invalid"),
        ("POST", "/files/a/b?move=", ("X", ""), 400, "name_invalid"),
        ("POST", "/files/a/b?move=../x", ("X", ""), 400, "name_invalid"),
        ("POST", "/files/a/b?move=%ff", ("X", ""), 400, "parameter_invalid"),
        ("POST", "/files/a/b?copy=a/b/c", ("X", ""), 409, "below_object"),
        ("POST", "/files/a/b?move=a", ("X", ""), 409, "is_folder"),
        ("POST", "/files/a/b?class=cold", ("X", ""), 400, "parameter_invalid"),
        ("POST", "/files/a/?class=deep", ("X", ""), 400, "is_folder"),
        ("POST", "/files/a/?move=a/c/", ("X", ""), 409, "into_itself"),
        ("POST", "/files/a/?move=//", ("X", ""), 400, "name_invalid"),
        ("POST", "/files/none?move=x", ("X", ""), 404, "not_found"),
        ("POST", "/files/none?move=x", ("If-Match", "\"0\""), 404, "not_found"),
        ("POST", "/files/a?copy=x", ("X", ""), 409, "is_folder"),
        ("POST", "/files/none/?move=x/", ("X", ""), 404, "not_found"),
        ("POST", "/", ("X", ""), 415, "form_expected"),
        ("GET", "/page/none.js", ("X", ""), 404, "no_such_path"),
        ("POST", "/upload", ("X", ""), 400, "name_missing"),
        ("POST", "/upload", ("FileName", "%%%"), 400, "name_invalid"),
        ("POST", "/upload", ("FileName", "Li4vYQ=="), 400, "name_invalid"),
        ("POST", "/remove", ("FileName", "bm9uZQ=="), 404, "not_found"),
        ("POST", "/reload", ("X", ""), 409, "no_backlog"),
        ("PATCH", "/files/a/b", ("X", ""), 405, "method_not_allowed"),
    ] {
        let reply = host.ask(method, target, &[header], b"");
        let case = format!("{method} {target} {header:?}");
        assert_eq!(reply.status, status, "{case}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/json"), "{case}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{case}");
        let json = reply.json();
        assert_eq!(json["error"], code, "{case}");
        assert!(json["message"].as_str().is_some_and(|message| message.len() > 10), "{case}");
    }
    assert_eq!(host.get("/files/a/b").text(), "old", "nothing of it was done");
    assert_eq!(host.files("low_storage"), ["a/b"]);
    host.until(|host| host.files("stage").is_empty());
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let host = Host::new();
    host.put("/files/a", b"old");
    let foreign = [("Origin", "http://evil.example")];
    for (method, target) in [
        ("PUT", "/files/a"),
        ("DELETE", "/files/a"),
        ("POST", "/files/a?move=b"),
        ("DELETE", "/files/?recursive"),
        ("POST", "/upload"),
        ("POST", "/remove"),
        ("POST", "/reload"),
    ] {
        for headers in [
            &foreign[..],
            &[("Origin", "null")],
            &[("Sec-Fetch-Site", "cross-site")],
            &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://test")],
        ] {
            let named = [headers, &[("FileName", "YQ==")]].concat();
            let reply = host.ask(method, target, &named, b"new");
            assert_eq!(reply.status, 403, "{method} {target} {headers:?}");
            assert_eq!(reply.json()["error"], "foreign_origin");
        }
    }
    let reply = host.ask("GET", "/files/a", &foreign, b"");
    assert_eq!((reply.status, reply.text()), (200, "old"));
    assert_eq!(reply.header("access-control-allow-origin"), None, "the page cannot read it");
    for headers in [
        &[("Origin", "http://test")][..],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://proxy.example")],
        &[("Sec-Fetch-Site", "none")],
    ] {
        assert_eq!(host.ask("PUT", "/files/a", headers, b"new").status, 200, "{headers:?}");
    }
}
