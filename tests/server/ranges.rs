//! Parts of objects.

use crate::host::{Host, Reply, sample};

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
    }
}

/// The boundary of a reply with several ranges, and what its body has to be.
fn multipart(reply: &Reply, content: &[u8], ranges: &[(usize, usize)]) -> Vec<u8> {
    let boundary =
        reply.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for &(start, end) in ranges {
        let lead = if expected.is_empty() { "--" } else { "\r\n--" };
        let (last, size) = (end - 1, content.len());
        let head = format!(
            "{lead}{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {start}-{last}/{size}\r\n\r\n"
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&content[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    expected
}

#[test]
fn several_ranges_come_in_parts() {
    let host = Host::new();
    let content = sample(5_000_000);
    let size = content.len();
    for class in ["low", "deep"] {
        let target = format!("/files/{class}.bin");
        host.ask("PUT", &target, &[("Storage-Class", class)], &content);
        for (field, ranges) in [
            ("bytes=0-9,1048570-1048585,-5", &[(0, 10), (1_048_570, 1_048_586), (size - 5, size)][..]),
            // As they were asked for, over several blocks each.
            ("bytes=3000000-4999999,0-2500000", &[(3_000_000, size), (0, 2_500_001)]),
            // What is not there is left out.
            ("bytes=0-0,9000000-,2-2", &[(0, 1), (2, 3)]),
        ] {
            let mut client = host.connect();
            let reply = client.ask("GET", &target, &[("Range", field)], b"");
            assert_eq!((reply.status, reply.header("content-range")), (206, None), "{field}");
            assert!(reply.body == multipart(&reply, &content, ranges), "{class} {field}");
            assert_eq!(client.ask("GET", "/healthz", &[], b"").status, 200, "the connection is in step");
        }
    }
}

#[test]
fn what_is_no_range_brings_the_whole() {
    let host = Host::new();
    host.put("/files/a", b"hello");
    let many = format!("bytes={}", (0..17).map(|_| "0-0").collect::<Vec<_>>().join(","));
    for field in ["bytes=4-2", "items=0-1", "bytes", "bytes=0-1;2-3", "0-1", &many] {
        let reply = host.ask("GET", "/files/a", &[("Range", field)], b"");
        assert_eq!((reply.status, reply.text()), (200, "hello"), "{field}");
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    }
    let twice = [("Range", "bytes=0-1"), ("Range", "bytes=0-1")];
    assert_eq!(host.ask("GET", "/files/a", &twice, b"").status, 200);
    host.put("/files/empty", b"");
    assert_eq!(host.ask("GET", "/files/empty", &[("Range", "bytes=0-")], b"").status, 416);
    assert_eq!(host.ask("GET", "/files/empty", &[("Range", "bytes=-5")], b"").status, 200);
}

#[test]
fn a_download_goes_on_where_it_was_cut_if_it_is_the_same() {
    let host = Host::new();
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        host.ask("PUT", &target, &[("Storage-Class", class)], b"hello");
        let first = host.get(&target);
        let (tag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
        let resume = |validator: &str| {
            host.ask("GET", &target, &[("Range", "bytes=2-"), ("If-Range", validator)], b"")
        };
        assert_eq!((resume(tag).status, resume(tag).text()), (206, "llo"));
        host.ask("PUT", &target, &[("Storage-Class", class)], b"other");
        for stale in [tag, date, "W/\"1\"", "\"\"", "*", "nonsense"] {
            let reply = resume(stale);
            assert_eq!((reply.status, reply.text()), (200, "other"), "{class} {stale}");
        }
        // A second is long enough for two versions.
        let now = host.get(&target);
        assert_eq!(resume(now.header("last-modified").unwrap()).status, 200, "{class}");
        // What may have changed meanwhile is not mixed either.
        let with_match = [("Range", "bytes=2-"), ("If-Match", tag)];
        assert_eq!(host.ask("GET", &target, &with_match, b"").status, 412);
    }
}
