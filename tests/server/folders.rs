//! Listings.

use crate::host::{Host, Reply, sample};

fn names(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    let entries = json["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_folder_is_listed_page_by_page() {
    let host = Host::new();
    for n in 0..5 {
        assert_eq!(host.put(&format!("/files/a/{n}.txt"), &sample(n)).status, 201);
        assert_eq!(host.put(&format!("/files/a/sub{n}/x"), b"").status, 201);
    }
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
    // A page that ends where the folder does is the last one.
    let exact = host.get("/files/a/?limit=10").json();
    assert_eq!((exact["entries"].as_array().unwrap().len(), exact["next"].as_str()), (10, None));
    // Behind all there is.
    assert_eq!(names(&host.get("/files/a/?after=b")), [""; 0]);
    assert_eq!(names(&host.get("/files/a/?after=0")).len(), 10);
}

#[test]
fn the_top_folder_is_there_when_it_is_empty() {
    let host = Host::new();
    let reply = host.get("/files/");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert_eq!(reply.json(), serde_json::json!({"folder": "", "entries": [], "next": null}));
    let redirected = host.get("/files?limit=1");
    assert_eq!((redirected.status, redirected.header("location")), (308, Some("/files/?limit=1")));
}

#[test]
fn entries_say_what_is_known_of_objects() {
    let host = Host::new();
    let headers =
        [("X-OC-Mtime", "1000000000.25"), ("Want-Repr-Digest", "sha-256=1"), ("Storage-Class", "deep")];
    let stored = host.ask("PUT", "/files/a/b.txt", &headers, b"hello");
    let listed = host.get("/files/a/").json();
    let entry = &listed["entries"][0];
    assert_eq!(*entry, stored.json(), "as the answer to its upload");
    for (key, value) in [
        ("name", "a/b.txt"),
        ("type", "file"),
        ("class", "deep"),
        ("modified", "2001-09-09T01:46:40.250000Z"),
        ("crc32c", "9a71bb4c"),
        ("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ] {
        assert_eq!(entry[key], value, "{key}");
    }
    assert_eq!(entry["size"], 5);
    assert_eq!(entry["etag"].as_str(), stored.header("etag"));
    assert_eq!(
        entry["stored"],
        std::fs::metadata(host.data().join("deep_storage/a/b.txt.gz")).unwrap().len()
    );
    assert_eq!(host.get("/files/").json()["entries"][0], serde_json::json!({"name": "a/", "type": "folder"}));
}

#[test]
fn listings_are_sorted_as_they_are_asked_for() {
    let host = Host::new();
    for (name, size, time) in
        [("b", 3, "30"), ("a", 2, "10"), ("c", 1, "20"), ("z/x", 9, "40"), ("d", 2, "5")]
    {
        host.ask("PUT", &format!("/files/{name}"), &[("X-OC-Mtime", time)], &sample(size));
    }
    for (query, expected) in [
        ("", ["a", "b", "c", "d", "z/"]),
        ("?sort=name", ["a", "b", "c", "d", "z/"]),
        ("?sort=-name", ["z/", "d", "c", "b", "a"]),
        ("?sort=size", ["z/", "c", "a", "d", "b"]),
        ("?sort=-size", ["z/", "b", "a", "d", "c"]),
        ("?sort=modified", ["z/", "d", "a", "c", "b"]),
        ("?sort=-modified", ["z/", "b", "c", "a", "d"]),
    ] {
        assert_eq!(names(&host.get(&format!("/files/{query}"))), expected, "{query}");
    }
    assert_eq!(names(&host.get("/files/?sort=-size&limit=2&delimiter=")), ["z/x", "b"]);
}

#[test]
fn a_long_listing_is_streamed_to_its_end() {
    let host = Host::new();
    // Many at a time, which the store puts in place together.
    let mut clients: Vec<_> = (0..50).map(|_| host.connect()).collect();
    for n in 0..2500 {
        clients[n % 50].send("PUT", &format!("/files/many/{n:05}"), &[], b"");
    }
    for n in 0..2500 {
        assert_eq!(clients[n % 50].read(false).unwrap().status, 201);
    }
    let mut client = host.connect();
    drop(clients);
    let expected: Vec<String> = (0..2500).map(|n| format!("many/{n:05}")).collect();
    for target in ["/files/many/", "/files/?delimiter=", "/files/many/?limit=2500", "/files/many/?sort=size"]
    {
        let reply = client.ask("GET", target, &[], b"");
        assert!(names(&reply) == expected, "{target}");
        assert_eq!(reply.json()["next"].as_str(), None, "{target}");
    }
    let reply = client.ask("GET", "/files/many/?limit=2001", &[], b"");
    assert!(names(&reply) == expected[..2001]);
    assert_eq!(reply.json()["next"], "many/02000");
    let listed = client.ask("GET", "/list", &[], b"").json();
    assert_eq!(listed["files"].as_array().unwrap().len(), 2500);
    // Somebody who asks for it and leaves.
    for target in ["/files/many/", "/list"] {
        let mut leaver = host.connect();
        leaver.send("GET", target, &[], b"");
        drop(leaver);
    }
    host.until(|host| host.metric("cloudstore_http_connections") <= 2.0);
}
