//! Requests that ask for something to be true first.

use std::thread;

use crate::host::Host;

const PAST: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const FUTURE: &str = "Fri, 31 Dec 2100 23:59:59 GMT";

#[test]
fn reads_are_answered_by_their_conditions() {
    let host = Host::new();
    let tag = host.put("/files/a", b"hello").header("etag").unwrap().to_owned();
    let date = host.get("/files/a").header("last-modified").unwrap().to_owned();
    let (weak, listed) = (format!("W/{tag}"), format!("\"0\", {tag}"));
    for (headers, status) in [
        (&[("If-Match", &tag[..])][..], 200),
        (&[("If-Match", &listed)], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", &weak)], 412),
        (&[("If-Match", "\"0\"")], 412),
        (&[("If-None-Match", &tag)], 304),
        (&[("If-None-Match", &weak)], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"0\"")], 200),
        (&[("If-Modified-Since", &date)], 304),
        (&[("If-Modified-Since", PAST)], 200),
        (&[("If-Modified-Since", "nonsense")], 200),
        (&[("If-None-Match", "\"0\""), ("If-Modified-Since", &date)], 200),
        (&[("If-Unmodified-Since", &date)], 200),
        (&[("If-Unmodified-Since", PAST)], 412),
        (&[("If-Match", &tag), ("If-Unmodified-Since", PAST)], 200),
        (&[("If-Match", &tag), ("If-None-Match", &tag)], 304),
        (&[("Range", "bytes=9-"), ("If-None-Match", &tag)], 304),
        (&[("Range", "bytes=0-1"), ("If-None-Match", "\"0\"")], 206),
    ] {
        let reply = host.ask("GET", "/files/a", headers, b"");
        assert_eq!(reply.status, status, "{headers:?}");
        if status == 304 {
            let shown =
                ["etag", "last-modified", "cache-control", "date"].map(|name| reply.header(name).is_some());
            assert_eq!(shown, [true; 4], "{headers:?}");
            assert_eq!(reply.header("content-length"), None, "{headers:?}");
        }
        // What is not there is not there, whatever is asked of it.
        assert_eq!(host.ask("GET", "/files/none", headers, b"").status, 404, "{headers:?}");
    }
}

#[test]
fn writes_are_done_if_their_conditions_hold() {
    let host = Host::new();
    let tag = |target: &str| host.get(target).header("etag").unwrap().to_owned();
    let put =
        |headers: &[(&str, &str)], body: &str| host.ask("PUT", "/files/a", headers, body.as_bytes()).status;
    assert_eq!(put(&[("If-Match", "*")], "1"), 412);
    assert_eq!(put(&[("If-Match", "\"0\"")], "1"), 412);
    assert_eq!(put(&[("If-None-Match", "*")], "1"), 201);
    assert_eq!(put(&[("If-None-Match", "*")], "2"), 412);
    let first = tag("/files/a");
    assert_eq!(put(&[("If-Match", &first)], "2"), 200);
    assert_eq!(put(&[("If-Match", &first)], "3"), 412);
    assert_eq!(put(&[("If-Match", &format!("W/{}", tag("/files/a")))], "3"), 412);
    assert_eq!(put(&[("If-None-Match", &tag("/files/a"))], "3"), 412);
    assert_eq!(put(&[("If-None-Match", &first)], "3"), 200);
    assert_eq!(put(&[("If-Match", "*")], "4"), 200);
    assert_eq!(put(&[("If-Match", "nonsense")], "5"), 412);
    assert_eq!(put(&[("If-Unmodified-Since", PAST)], "5"), 412);
    assert_eq!(put(&[("If-Unmodified-Since", FUTURE)], "5"), 200);
    assert_eq!(host.get("/files/a").text(), "5");
    assert_eq!(host.ask("DELETE", "/files/a", &[("If-Match", &first)], b"").status, 412);
    assert_eq!(host.ask("DELETE", "/files/a", &[("If-Match", &tag("/files/a"))], b"").status, 204);
    assert_eq!(host.files("low_storage"), [""; 0]);
}

#[test]
fn of_many_who_create_one_does() {
    let host = Host::new();
    for class in ["low", "deep"] {
        let target = format!("/files/{class}");
        let headers = [("If-None-Match", "*"), ("Storage-Class", class)];
        let mut statuses: Vec<(u16, Vec<u8>)> = thread::scope(|scope| {
            let clients: Vec<_> = (0..8_u8)
                .map(|n| {
                    let (host, target, headers) = (&host, &target, &headers);
                    scope.spawn(move || {
                        let body = vec![n; 200_000];
                        (host.ask("PUT", target, headers, &body).status, body)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        statuses.sort();
        assert_eq!(statuses.iter().filter(|(status, _)| *status == 201).count(), 1);
        assert!(statuses[1..].iter().all(|(status, _)| *status == 412));
        assert!(host.get(&target).body == statuses[0].1, "that of the one who was told so");
    }
}

#[test]
fn no_update_is_lost_by_those_who_say_what_they_have_read() {
    let host = Host::new();
    host.put("/files/count", b"0");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                let mut client = host.connect();
                while done < 20 {
                    let read = client.ask("GET", "/files/count", &[], b"");
                    let next = read.text().parse::<u32>().unwrap() + 1;
                    let condition = [("If-Match", read.header("etag").unwrap())];
                    match client.ask("PUT", "/files/count", &condition, next.to_string().as_bytes()).status {
                        200 => done += 1,
                        412 => (),
                        status => panic!("{status}"),
                    }
                }
            });
        }
    });
    assert_eq!(host.get("/files/count").text(), "80");
}
