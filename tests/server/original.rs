//! The original's calls, as its clients make them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::host::{Host, options, sample};

fn file_name(name: &str) -> String {
    BASE64_STANDARD.encode(name)
}

#[test]
fn its_five_calls_do_what_they_did() {
    let host = Host::new();
    for (name, storage) in [("a.txt", Some("low")), ("文件 1.bin", Some("deep")), ("c", None)] {
        let encoded = file_name(name);
        let mut headers =
            vec![("FileName", &encoded[..]), ("Content-Type", "application/x-www-form-urlencoded")];
        headers.extend(storage.map(|storage| ("StorageType", storage)));
        let reply = host.ask("POST", "/upload", &headers, &sample(5000));
        assert_eq!(reply.status, 200);
        let expected =
            json!({"status": "success", "message": "File uploaded successfully", "filename": name});
        assert_eq!(reply.json(), expected);
        // Once more: it replaces.
        assert_eq!(host.ask("POST", "/upload", &headers, &sample(5000)).status, 200);
        let stored = host.get(&format!("/download/{}", name.replace(' ', "%20")));
        assert!(stored.status == 200 && stored.body == sample(5000));
        assert_eq!(stored.header("storage-class"), Some(storage.unwrap_or("low")));
        assert!(stored.header("etag").is_some() && stored.header("accept-ranges") == Some("bytes"));
    }
    let listed = host.get("/list");
    assert_eq!((listed.status, listed.header("content-type")), (200, Some("application/json")));
    let expected = json!({"files": [
        {"url": "/download/a.txt", "name": "a.txt", "size": 5000},
        {"url": "/download/c", "name": "c", "size": 5000},
        {"url": "/download/%E6%96%87%E4%BB%B6%201.bin", "name": "文件 1.bin", "size": 5000},
    ]});
    assert_eq!(listed.json(), expected);
    // Its own client removes by GET, without padding too.
    for (method, name) in [("GET", "a.txt"), ("POST", "文件 1.bin"), ("DELETE", "c")] {
        let encoded = file_name(name);
        let reply = host.ask(method, "/remove", &[("FileName", encoded.trim_end_matches('='))], b"");
        let expected = json!({"status": "success", "message": "File removed successfully", "filename": name});
        assert_eq!((reply.status, reply.json()), (200, expected));
        assert_eq!(host.ask(method, "/remove", &[("FileName", &encoded)], b"").status, 404);
    }
    assert_eq!(host.get("/list").json(), json!({"files": []}));
}

#[test]
fn an_upload_of_its_is_checked_as_any_other() {
    let host = Host::new();
    let name = file_name("a");
    for (headers, status, code) in [
        (&[("FileName", &name[..]), ("StorageType", "medium")][..], 400, "class_invalid"),
        (&[("FileName", &name), ("FileName", &name)], 400, "header_invalid"),
        (&[("FileName", &name), ("Content-Encoding", "gzip")], 415, "content_coding"),
        (&[("FileName", "")], 400, "name_invalid"),
        (&[("FileName", "not base64!")], 400, "name_invalid"),
        (&[("FileName", "/w==")], 400, "name_invalid"),
        (&[], 400, "name_missing"),
    ] {
        let reply = host.ask("POST", "/upload", headers, b"x");
        assert_eq!((reply.status, reply.json()["error"].as_str()), (status, Some(code)), "{headers:?}");
    }
    assert_eq!(host.get("/list").json(), json!({"files": []}));
}

#[test]
fn its_prefix_of_downloads_can_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.download_prefix = "/d/e/".to_owned();
    let host = Host::with(options);
    host.put("/files/a%20b", b"hello");
    let url = host.get("/list").json()["files"][0]["url"].as_str().unwrap().to_owned();
    assert_eq!(url, "/d/e/a%20b");
    assert_eq!(host.get(&url).text(), "hello");
    assert_eq!(host.get("/download/a%20b").status, 404);
}
