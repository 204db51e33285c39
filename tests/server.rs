//! What the HTTP interface promises, call by call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;

use host::{Host, options};

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(31) ^ (n >> 8)) as u8).collect()
}

/// Promise 19.
#[test]
fn range_is_exact() {
    let host = Host::new();
    let content = sample(3_000_000);
    for class in ["low", "deep"] {
        let target = format!("/files/{class}.bin");
        assert_eq!(host.ask("PUT", &target, &[("Storage-Class", class)], &content).status, 201);
        let size = content.len();
        for (field, start, end) in [
            ("bytes=0-0", 0, 1),
            ("bytes=0-4094", 0, 4095),
            ("bytes=1048575-1048576", 1_048_575, 1_048_577),
            ("bytes=1000000-", 1_000_000, size),
            ("bytes=-1", size - 1, size),
            ("bytes=2999999-9999999", size - 1, size),
        ] {
            let reply = host.ask("GET", &target, &[("Range", field)], b"");
            assert_eq!(reply.status, 206, "{field}");
            assert_eq!(reply.header("content-range").unwrap(), format!("bytes {start}-{}/{size}", end - 1));
            assert!(reply.body == content[start..end], "{class} {field}");
        }
        let reply = host.ask("GET", &target, &[("Range", "bytes=3000000-")], b"");
        assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */3000000")));

        let reply = host.ask("GET", &target, &[("Range", "bytes=0-9,1048570-1048585,-5")], b"");
        assert_eq!(reply.status, 206);
        let boundary = reply.header("content-type").unwrap().split("boundary=").nth(1).unwrap().to_owned();
        let mut expected = Vec::new();
        for (start, end) in [(0, 10), (1_048_570, 1_048_586), (size - 5, size)] {
            let lead = if expected.is_empty() { "--" } else { "\r\n--" };
            let last = end - 1;
            let kind = "application/octet-stream";
            expected.extend_from_slice(
                format!("{lead}{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{last}/{size}\r\n\r\n")
                    .as_bytes(),
            );
            expected.extend_from_slice(&content[start..end]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(reply.body == expected, "{class}");
    }
}

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
fn a_folder_is_listed_page_by_page() {
    let host = Host::new();
    for n in 0..5 {
        assert_eq!(host.put(&format!("/files/a/{n}.txt"), &sample(n)).status, 201);
        assert_eq!(host.put(&format!("/files/a/sub{n}/x"), b"").status, 201);
    }
    let names = |reply: &host::Reply| -> Vec<String> {
        let json = reply.json();
        json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = names(&host.get("/files/a/"));
    assert_eq!(all.len(), 10);
    let mut paged = Vec::new();
    let mut target = "/files/a/?limit=3".to_owned();
    loop {
        let reply = host.get(&target);
        paged.extend(names(&reply));
        let json = reply.json();
        let Some(next) = json["next"].as_str() else { break };
        target = format!("/files/a/?limit=3&after={}", next.replace('/', "%2F"));
    }
    assert_eq!(paged, all);
    assert_eq!(names(&host.get("/files/a/?delimiter=")).len(), 10);
    assert_eq!(names(&host.get("/files/a/?prefix=sub")).len(), 5);
    assert_eq!(names(&host.get("/files/a/?sort=-size&prefix=3")), ["a/3.txt"]);
    assert_eq!(names(&host.get("/files/")), ["a/"]);
    assert_eq!(host.get("/files/none/").status, 404);
    assert_eq!(host.ask("HEAD", "/files/a/", &[], b"").status, 200);
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
