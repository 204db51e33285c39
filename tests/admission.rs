//! Who may ask: pages of other origins, and names that are not the server's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/host.rs"]
mod host;

use host::{Host, Reply, options};

/// What a page at `origin` sends, to a server that is called `test`.
fn from(host: &Host, origin: &str, method: &str, target: &str) -> Reply {
    host.ask(method, target, &[("Origin", origin)], b"")
}

fn with(change: impl FnOnce(&mut cloudstore::server::Options)) -> (Host, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    change(&mut options);
    (Host::with(options), folder)
}

#[test]
fn a_foreign_page_changes_nothing() {
    let host = Host::new();
    assert_eq!(host.put("/files/a", b"kept").status, 201);
    for (method, target) in [
        ("PUT", "/files/a"),
        ("DELETE", "/files/a"),
        ("DELETE", "/files/?recursive"),
        ("POST", "/files/a?move=b"),
        ("POST", "/upload"),
        ("POST", "/remove"),
        ("GET", "/remove"),
        ("GET", "/reload"),
        ("POST", "/index?rebuild"),
        ("POST", "/no/such/path"),
        ("PATCH", "/files/a"),
    ] {
        for headers in [
            &[("Origin", "http://evil")][..],
            &[("Origin", "null")],
            &[("Sec-Fetch-Site", "cross-site")],
            &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://test")],
        ] {
            let reply = host.ask(method, target, headers, b"");
            assert_eq!(reply.status, 403, "{method} {target} {headers:?}");
            assert_eq!(reply.json()["error"], "foreign_origin");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
    let reply = from(&host, "http://evil", "GET", "/files/a");
    assert_eq!((reply.status, reply.text()), (200, "kept"));
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("vary")), (None, None));
    let preflight = [("Origin", "http://evil"), ("Access-Control-Request-Method", "PUT")];
    let reply = host.ask("OPTIONS", "/files/a", &preflight, b"");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, None));
    assert_eq!(from(&host, "http://test", "PUT", "/files/a").status, 200);
    assert_eq!(host.ask("PUT", "/files/a", &[("Sec-Fetch-Site", "same-origin")], b"").status, 200);
}

#[test]
fn a_large_body_of_a_foreign_page_is_refused_early() {
    let host = Host::new();
    let mut client = host.connect();
    client.send("PUT", "/files/a", &[("Origin", "http://evil"), ("Content-Length", "9999999999")], b"x");
    assert_eq!(client.read(false).unwrap().status, 403);
    assert_eq!(host.get("/files/a").status, 404);
}

#[test]
fn a_granted_page_reads_and_changes() {
    let (host, _folder) = with(|options| options.cors = vec!["https://app.example".to_owned()]);
    let origin = "https://app.example";
    let fields = "content-type, x-oc-mtime";
    let preflight = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", fields),
    ];
    for target in ["/files/a", "/index", "/list", "/none"] {
        let reply = host.ask("OPTIONS", target, &preflight, b"");
        assert_eq!(
            (reply.status, reply.header("access-control-allow-origin")),
            (204, Some(origin)),
            "{target}"
        );
        assert_eq!(reply.header("access-control-allow-methods"), Some("GET, HEAD, PUT, POST, DELETE"));
        assert_eq!(reply.header("access-control-allow-headers"), Some(fields));
        assert_eq!(reply.header("access-control-max-age"), Some("600"));
        assert_eq!(reply.header("vary"), Some("Origin"));
    }
    let cross = [("Origin", origin), ("Sec-Fetch-Site", "cross-site")];
    for (method, target, body, status) in [
        ("PUT", "/files/a", &b"hello"[..], 201),
        ("GET", "/files/a", b"", 200),
        ("GET", "/files/none", b"", 404),
        ("GET", "/files/", b"", 200),
        ("GET", "/index", b"", 200),
        ("GET", "/none", b"", 404),
        ("DELETE", "/files/a", b"", 204),
        ("OPTIONS", "/files/a", b"", 204),
    ] {
        let reply = host.ask(method, target, &cross, body);
        assert_eq!(reply.status, status, "{method} {target}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin), "{method} {target}");
        let exposed = reply.header("access-control-expose-headers").unwrap();
        assert!(["ETag", "Content-Range", "Repr-Digest"].iter().all(|name| exposed.contains(name)));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    for other in ["http://app.example", "https://app.example:444", "null"] {
        let reply = from(&host, other, "GET", "/files/");
        assert_eq!(
            (reply.header("access-control-allow-origin"), reply.header("vary")),
            (None, Some("Origin"))
        );
        assert_eq!(from(&host, other, "PUT", "/files/b").status, 403);
    }
    assert_eq!(host.get("/files/").header("vary"), Some("Origin"), "caches keep answers apart");
}

#[test]
fn every_page_may_all_if_all_are_granted() {
    let (host, _folder) = with(|options| options.cors = vec!["*".to_owned()]);
    for origin in ["http://anything", "null"] {
        let reply = from(&host, origin, "PUT", "/files/a");
        assert_eq!((reply.status / 100, reply.header("access-control-allow-origin")), (2, Some("*")));
        assert_eq!(reply.header("vary"), None);
    }
    assert_eq!(host.get("/files/a").header("access-control-allow-origin"), None);
}

#[test]
fn names_of_others_are_refused() {
    let (host, _folder) = with(|options| options.hosts = Some(vec!["test".to_owned()]));
    assert_eq!(host.put("/files/a", b"x").status, 201);
    let ask = |name: &str| {
        let mut client = host.connect();
        client.send("GET", &format!("http://{name}/files/a"), &[], b"");
        client.read(false).unwrap()
    };
    for name in ["test", "TEST:99", "localhost:8081", "127.0.0.1", "[::1]:8081"] {
        assert_eq!(ask(name).status, 200, "{name}");
    }
    for name in ["evil", "127.0.0.1.evil:8081"] {
        let reply = ask(name);
        assert_eq!((reply.status, reply.json()["error"].as_str()), (421, Some("misdirected")), "{name}");
    }
}
