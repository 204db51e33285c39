//! Clients that leave in the middle, bytes that come in any portions, and readers beside writers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::host::{Host, options, sample};

fn put_head(target: &str, class: &str, framing: &str) -> String {
    format!("PUT {target} HTTP/1.1\r\nHost: test\r\nStorage-Class: {class}\r\n{framing}\r\n\r\n")
}

/// Bytes as a body in chunks, without the last one.
fn chunks(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(100_000) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn an_aborted_overwrite_keeps_the_old_object() {
    let host = Host::new();
    let (old, new) = (sample(2_100_000), sample(2_500_001).split_off(1));
    let size = new.len();
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        let tag =
            host.ask("PUT", &target, &[("Storage-Class", class)], &old).header("etag").unwrap().to_owned();
        for sent in [0, 1, size / 2, size - 1] {
            for is_chunked in [false, true] {
                for is_reset in [false, true] {
                    let (framing, body) = match is_chunked {
                        true => ("Transfer-Encoding: chunked".to_owned(), chunks(&new[..sent])),
                        false => (format!("Content-Length: {size}"), new[..sent].to_vec()),
                    };
                    let mut stream = host.connect().stream;
                    stream.write_all(put_head(&target, class, &framing).as_bytes()).unwrap();
                    stream.write_all(&body).unwrap();
                    // It has all of it, and waits for more.
                    host.until(|host| host.metric("cloudstore_uploads") == 1.0);
                    if is_reset {
                        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                    } else {
                        stream.shutdown(Shutdown::Write).unwrap();
                        let mut reply = Vec::new();
                        stream.read_to_end(&mut reply).unwrap();
                        assert!(reply.is_empty(), "{}", String::from_utf8_lossy(&reply));
                    }
                    drop(stream);
                    host.until(|host| host.metric("cloudstore_uploads") == 0.0);
                    let reply = host.get(&target);
                    assert!(reply.body == old, "{class} {sent} {is_chunked} {is_reset}");
                    assert_eq!(reply.header("etag"), Some(&tag[..]));
                    host.until(|host| host.files("stage").is_empty());
                }
            }
        }
    }
    // All of it, and it is the new one.
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        let body = [chunks(&new), b"0\r\n\r\n".to_vec()].concat();
        let headers = [("Storage-Class", class), ("Transfer-Encoding", "chunked")];
        assert_eq!(host.ask("PUT", &target, &headers, &body).status, 200);
        assert!(host.get(&target).body == new);
    }
}

#[test]
fn an_upload_that_comes_to_nothing_leaves_nothing() {
    let host = Host::new();
    for class in ["low", "deep"] {
        for sent in [0, 1, 1_500_000] {
            let mut stream = host.connect().stream;
            let head = put_head("/files/a/b/c", class, "Content-Length: 3000000");
            stream.write_all(&[head.as_bytes(), &sample(sent)].concat()).unwrap();
            host.until(|host| host.metric("cloudstore_uploads") == 1.0);
            drop(stream);
            host.until(|host| host.metric("cloudstore_uploads") == 0.0);
            host.until(|host| host.files("stage").is_empty());
            assert_eq!(host.get("/files/").json()["entries"].as_array().unwrap().len(), 0);
            for folder in ["low_storage", "deep_storage"] {
                assert_eq!(std::fs::read_dir(host.data().join(folder)).unwrap().count(), 0, "{folder}");
            }
        }
    }
}

#[test]
fn readers_of_an_object_under_replacement_read_one_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.loops = 2;
    let host = Host::with(options);
    // Version n is n times its own byte, so a mixture of two is seen.
    let version = |n: u8| vec![n; 1_100_000 + usize::from(n)];
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        let is_over = AtomicBool::new(false);
        assert_eq!(host.ask("PUT", &target, &[("Storage-Class", class)], &version(0)).status, 201);
        thread::scope(|scope| {
            for reader in 0..3 {
                let (host, target, is_over) = (&host, &target, &is_over);
                scope.spawn(move || {
                    let mut client = host.connect();
                    loop {
                        let is_last = is_over.load(Ordering::Relaxed);
                        let headers: &[(&str, &str)] = match reader {
                            0 => &[],
                            1 => &[("Accept-Encoding", "gzip")],
                            _ => &[("Range", "bytes=0-99,1048500-1048600,-50")],
                        };
                        let reply = client.ask("GET", target, headers, b"");
                        let bytes = match reply.header("content-encoding") {
                            Some(_) => {
                                let mut bytes = Vec::new();
                                flate2::read::GzDecoder::new(&reply.body[..])
                                    .read_to_end(&mut bytes)
                                    .unwrap();
                                bytes
                            }
                            None => reply.body.clone(),
                        };
                        if reader < 2 {
                            assert!(bytes.len() >= 1_100_000 && bytes == version(bytes[0]), "{class}");
                        } else {
                            let text = String::from_utf8_lossy(&bytes);
                            let size = text.split("bytes 0-99/").nth(1).unwrap().split('\r').next().unwrap();
                            let n = u8::try_from(size.parse::<usize>().unwrap() - 1_100_000).unwrap();
                            assert!(bytes.iter().filter(|byte| **byte == n).count() >= 251, "{class}");
                        }
                        if is_last {
                            break;
                        }
                    }
                });
            }
            let mut writer = host.connect();
            for n in 1..25 {
                let status = writer.ask("PUT", &target, &[("Storage-Class", class)], &version(n)).status;
                assert_eq!(status, 200);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(host.get(&target).body == version(24));
    }
}

#[test]
fn a_download_keeps_its_version_to_the_end() {
    let host = Host::new();
    let old = sample(12_000_000);
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        host.ask("PUT", &target, &[("Storage-Class", class)], &old);
        let mut slow = host.connect();
        slow.send("GET", &target, &[], b"");
        let mut first = [0; 1];
        slow.stream.peek(&mut first).unwrap();
        // More than the kernel holds is still to come, and the object is replaced, moved and removed meanwhile.
        assert_eq!(host.put(&target, b"new").status, 200);
        assert_eq!(host.ask("POST", &format!("{target}?move=elsewhere"), &[], b"").status, 201);
        assert_eq!(host.ask("DELETE", "/files/elsewhere", &[], b"").status, 204);
        assert!(slow.read(false).unwrap().body == old, "{class}");
    }
}

#[test]
fn a_put_fed_at_every_split_gives_the_same_result() {
    let host = Host::new();
    let content: Vec<u8> = b"hello, \r\n\r\n0\r\n\r\nworld".to_vec();
    for class in ["low", "deep"] {
        let sized = [
            put_head(
                "/files/a",
                class,
                &format!("X-OC-Mtime: 1000000000\r\nContent-Length: {}", content.len()),
            )
            .as_bytes(),
            &content,
        ]
        .concat();
        let mut body = Vec::new();
        for piece in content.chunks(9) {
            body.extend_from_slice(format!("{:X};x=\"y\"\r\n", piece.len()).as_bytes());
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"000\r\nX-Trailer: ignored\r\n\r\n");
        let head = put_head("/files/a", class, "X-OC-Mtime: 1000000000\r\nTransfer-Encoding: chunked");
        let chunked = [head.as_bytes(), &body].concat();
        for request in [sized, chunked] {
            for split in 1..request.len() {
                host.ask("DELETE", "/files/a", &[], b"");
                let mut client = host.connect();
                client.stream.write_all(&request[..split]).unwrap();
                // A round trip of another connection on the same loop: what was sent has been looked at by then.
                assert_eq!(host.get("/healthz").status, 200);
                client.stream.write_all(&request[split..]).unwrap();
                let reply = client.read(false).unwrap();
                assert_eq!(reply.status, 201, "{split}");
                assert_eq!(reply.header("storage-class"), Some(class));
                let json = reply.json();
                let found = (json["size"].as_u64().unwrap(), json["modified"].as_str().unwrap());
                assert_eq!(found, (content.len() as u64, "2001-09-09T01:46:40.000000Z"), "{split}");
                let crc = format!("{:08x}", crc32c::crc32c(&content));
                assert_eq!(json["crc32c"], crc.as_str(), "{split}");
                assert_eq!(client.ask("GET", "/files/a", &[], b"").body, content, "{split}");
            }
        }
    }
}

#[test]
fn uploads_follow_each_other_on_one_connection() {
    let host = Host::new();
    let mut client = host.connect();
    for n in 0..20 {
        let class = if n % 3 == 0 { "deep" } else { "low" };
        client.send("PUT", &format!("/files/{n}"), &[("Storage-Class", class)], &sample(n * 10_000));
        client.send("GET", &format!("/files/{n}"), &[], b"");
        client.send("HEAD", &format!("/files/{n}"), &[], b"");
    }
    for n in 0..20 {
        assert_eq!(client.read(false).unwrap().status, 201, "{n}");
        assert!(client.read(false).unwrap().body == sample(n * 10_000), "{n}");
        assert_eq!(client.read(true).unwrap().header("content-length").unwrap(), (n * 10_000).to_string());
    }
}

#[test]
fn who_leaves_a_download_leaves_nothing_behind() {
    let host = Host::new();
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        host.ask("PUT", &target, &[("Storage-Class", class)], &sample(20_000_000));
        for headers in [&[][..], &[("Range", "bytes=0-9000000,10000000-")], &[("Accept-Encoding", "gzip")]] {
            for _ in 0..5 {
                let mut leaver = host.connect();
                leaver.send("GET", &target, headers, b"");
                leaver.stream.peek(&mut [0]).unwrap();
            }
        }
    }
    host.until(|host| host.metric("cloudstore_http_connections") == 1.0);
    assert!(host.metric("cloudstore_http_cut_total") > 0.0);
    // Files that were read lately are kept open, and closed when their objects go.
    assert_eq!(host.ask("DELETE", "/files/?recursive", &[], b"").status, 200);
    host.until(|host| {
        let open = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let folder = host.data().to_str().unwrap().to_owned();
        !open
            .into_iter()
            .any(|path| path.starts_with(&folder) && path.to_str().unwrap().contains("_storage/"))
    });
}
