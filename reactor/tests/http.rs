//! The HTTP server over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use reactor::evbuffer::FileSegment;
use reactor::http::{Body, BodyError, BodyEvent, BodyStream, Limits, Request};
use reactor::{EventBase, Outcome, SteppedClock};
use web::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// A server that says what it was asked: method, path, query and body.
fn echo() -> World {
    let w = world();
    w.http.fallback(|req| {
        req.collect_body(1 << 20, |req, body| {
            let mut bytes = format!("{} {} {:?} ", req.method(), req.path(), req.query()).into_bytes();
            bytes.extend_from_slice(
                &body.pull_up(usize::MAX).unwrap().map_or(Vec::new(), |front| front.to_vec()),
            );
            req.reply(200).body(bytes).send();
        });
    });
    w
}

#[test]
fn a_connection_is_used_again() {
    let w = echo();
    let client = w.client();
    for n in 0..5 {
        let answer = client.ask(&w, &format!("GET /a/{n}?q={n} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((answer.status, answer.text()), (200, &*format!("GET /a/{n} Some(\"q={n}\") ")));
        assert!(answer.header("date").unwrap().ends_with(" GMT"));
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(w.http.connections(), 1);
}

#[test]
fn connection_close_and_old_clients_end_with_the_reply() {
    let w = echo();
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, keep-alive\r\n\r\n",
    ] {
        let words = w.last_words(request.as_bytes());
        assert!(words.starts_with("HTTP/1.1 200 OK\r\n"), "{words}");
        assert!(words.contains("\r\nConnection: close\r\n") && words.ends_with("GET / None "), "{words}");
    }
    assert_eq!(w.http.connections(), 0);
}

#[test]
fn an_old_client_may_keep_its_connection() {
    let w = echo();
    w.http.route("/stream", |req| {
        let stream = req.reply(200).stream();
        stream.write(b"until the end").unwrap();
        stream.finish();
    });
    let client = w.client();
    for n in 0..3 {
        let answer = client.ask(&w, &format!("GET /{n} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert_eq!(answer.text(), format!("GET /{n} None "));
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    // What has no length can only end with the connection.
    let answer = client.ask(&w, "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((answer.text(), answer.header("connection")), ("until the end", Some("close")));
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let requests = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
        PUT /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1;x\r\nf\r\n0\r\nT: x\r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\nHost: h\r\n\r\n"
        .as_bytes();
    let w = echo();
    let check = |client: &Client, cut: usize| {
        for expected in ["GET /1 None ", "POST /2 None abc", "PUT /3 None def", "GET /4 None "] {
            assert_eq!(client.answer(&w, false).text(), expected, "cut at {cut}");
        }
        assert!(client.rest(&w).is_empty());
    };
    for cut in 0..requests.len() {
        let client = w.client();
        client.send(&w, &requests[..cut]);
        client.send(&w, &requests[cut..]);
        check(&client, cut);
    }
    let client = w.client();
    for byte in requests.chunks(1) {
        client.send(&w, byte);
    }
    check(&client, usize::MAX);
}

#[test]
fn malformed_requests_are_refused_and_the_connection_closed() {
    let w = echo();
    let (told, hears) = shared::<Vec<u16>>();
    w.http.on_refusal(move |peer, status| {
        assert!(peer.to_string().starts_with("127.0.0.1:"));
        hears.borrow_mut().push(status.code());
    });
    let refusals = RefCell::new(Vec::new());
    let host = "Host: h\r\n";
    for (request, status) in [
        (
            format!(
                "GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: 1, 1\r\n\r\na"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\na"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Content-Length : 1\r\n\r\na"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\rc\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}A: b\0c\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, gzip\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n"), 501),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/2.0\r\n{host}\r\n"), 505),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(9000)), 414),
        (format!("GET / HTTP/1.1\r\n{host}A: {}\r\n\r\n", "b".repeat(40_000)), 431),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(128)), 431),
        (format!("GET / HTTP/1.1\r\n{host}Expect: a-miracle\r\n\r\n"), 417),
        (format!("PUT / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\nab"), 400),
        (format!("PUT / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"), 400),
        (format!("PUT / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400),
        (
            format!("PUT / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n"),
            400,
        ),
        ("\x16\x03\x01\x02\n".to_owned(), 400),
    ] {
        refusals.borrow_mut().push(status);
        let words = w.last_words(format!("{request}GET /smuggled HTTP/1.1\r\n{host}\r\n").as_bytes());
        assert!(words.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {words}");
        assert!(
            words.contains("\r\nConnection: close\r\n") && words.contains("\r\nContent-Length: 0\r\n"),
            "{words}"
        );
        assert!(!words.contains("smuggled"), "{request:?}");
        assert_eq!(words.matches("HTTP/1.1 ").count(), 1, "{request:?}: {words}");
    }
    assert_eq!(*told.borrow(), *refusals.borrow());
}

#[test]
fn limits_hold_at_the_byte() {
    let w = echo();
    w.limit(|limits| {
        limits.max_target_bytes = 100;
        limits.max_header_bytes = 400;
        limits.max_body_bytes = 10;
    });
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(n - 1));
    let head = |n: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(n - rest))
    };
    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a:\r\n".repeat(n - 1));
    let sized =
        |n: usize| format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n{}", "c".repeat(n));
    let chunked = |n: usize| {
        let chunks: String = (0..n).map(|_| "1\r\nc\r\n").collect();
        format!("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    for (request, status) in [
        (target(100), 200),
        (target(101), 414),
        (head(400), 200),
        (head(401), 431),
        (format!("\r\n\r\n\r\n\r\n{}", head(400)), 200),
        (sized(10), 200),
        (sized(11), 413),
        (chunked(10), 200),
        (chunked(11), 413),
    ] {
        // At once, byte by byte, and behind another one.
        let client = w.client();
        client.send(&w, request.as_bytes());
        assert_eq!(client.answer(&w, false).status, status, "{request}");
        let client = w.client();
        for byte in request.as_bytes().chunks(1) {
            client.send(&w, byte);
        }
        assert_eq!(client.answer(&w, false).status, status, "byte by byte: {request}");
        let client = w.client();
        client.send(&w, format!("{GET}{request}").as_bytes());
        assert_eq!(client.answer(&w, false).status, 200);
        assert_eq!(client.answer(&w, false).status, status, "behind another: {request}");
    }
    w.limit(|limits| limits.max_header_bytes = 4000);
    assert_eq!(w.ask(&fields(128)).status, 200);
    assert_eq!(w.ask(&fields(129)).status, 431);
}

/// Extensions may be as long as the body, and a little longer.
#[test]
fn chunk_extensions_are_bounded_by_the_body() {
    let w = echo();
    let ask = |chunk: &str, n: usize| {
        let chunks = chunk.repeat(n);
        let text =
            format!("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
        w.ask(&text).status
    };
    let signed = format!("64;signature={}\r\n{}\r\n", "s".repeat(80), "x".repeat(100));
    assert_eq!(ask(&signed, 1000), 200);
    let bloated = format!("1;{}\r\nx\r\n", "s".repeat(80));
    assert_eq!(ask(&bloated, 100), 200);
    assert_eq!(ask(&bloated, 1000), 400);
}

#[test]
fn paths_and_methods_choose_the_handler() {
    let w = world();
    let (told, hears) = shared::<Vec<u16>>();
    w.http.on_refusal(move |_, status| hears.borrow_mut().push(status.code()));
    let say = |what: &'static str| move |req: Request| req.reply(200).body(what).send();
    w.http.route_for("GET", "/a", say("get a"));
    w.http.route_for("DELETE", "/a", say("delete a"));
    w.http.route("/a/*", say("below a"));
    let ask = |line: &str| w.ask(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(ask("GET /a?x").text(), "get a");
    assert_eq!(ask("GET http://other/a").text(), "get a");
    assert_eq!(ask("DELETE /a").text(), "delete a");
    assert_eq!(ask("BREW /a/b").text(), "below a");
    let refused = ask("PUT /a");
    assert_eq!((refused.status, refused.header("allow")), (405, Some("DELETE, GET, HEAD")));
    assert_eq!(ask("BREW /a").status, 501);
    assert_eq!(ask("GET /nowhere").status, 404);
    assert_eq!(ask("BREW /nowhere").status, 501);
    assert_eq!(*told.borrow(), [405, 501, 404, 501]);
    w.http.fallback(say("anything"));
    assert_eq!(ask("OPTIONS *").text(), "anything");
    let tunnel = ask("CONNECT other:443");
    assert_eq!((tunnel.status, tunnel.header("connection")), (501, Some("close")));
    w.http.route_for("GET", "/a", say("replaced"));
    assert_eq!(ask("GET /a").text(), "replaced");
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let w = world();
    w.http.route_for("GET", "/whole", |req| req.reply(200).body("four").send());
    w.http.route("/chunks", |req| {
        let stream = req.reply(200).stream();
        stream.write(b"four").unwrap();
        stream.finish();
    });
    let client = w.client();
    for (path, name, value) in
        [("/whole", "content-length", "4"), ("/chunks", "transfer-encoding", "chunked")]
    {
        let head = client.ask(&w, &format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let get = client.ask(&w, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(head.header(name), Some(value));
        assert_eq!(get.header(name), Some(value));
        assert_eq!((head.status, get.status, get.text()), (200, 200, "four"));
    }
    w.http.route("/none", |req| req.reply(204).body("no").send());
    w.http.route("/same", |req| req.reply(304).header("ETag", "\"x\"").body("no").send());
    let none = client.ask(&w, "GET /none HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((none.status, none.header("content-length")), (204, None));
    let same = client.ask(&w, "GET /same HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((same.status, same.header("etag"), same.header("content-length")), (304, Some("\"x\""), None));
    assert_eq!(client.ask(&w, "GET /whole HTTP/1.1\r\nHost: h\r\n\r\n").text(), "four");
}

#[test]
fn headers_can_be_added_before_the_answer_is_known() {
    let w = world();
    w.http.route("/plain", |mut req| {
        req.add_reply_header("A", "1");
        req.add_reply_header("Content-Length", "99");
        req.add_reply_header("Date", "long ago");
        req.reply(200).header("Date", "now").header("B", "2").body("x").send();
    });
    w.http.route("/late", |mut req| {
        req.add_reply_header("A", "1");
        req.collect_body(9, |req, _| req.reply(200).header("Date", "now").header("B", "2").body("x").send());
    });
    w.http.route("/broken", |mut req| {
        req.add_reply_header("A", "1\r\nB: 2");
        req.collect_body(9, |req, _| req.reply(200).body("x").send());
    });
    let client = w.client();
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nA: 1\r\nDate: now\r\nB: 2\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(client.ask(&w, "GET /plain HTTP/1.1\r\nHost: h\r\n\r\n").head, expected);
        let late = client.ask(&w, "PUT /late HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(late.head, expected);
        let broken = client.ask(&w, "PUT /broken HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!((broken.status, broken.text(), broken.header("b")), (500, "", None));
    }
}

#[test]
fn headers_that_cannot_be_sent_are_not() {
    let w = world();
    w.http.route("/split", |req| req.reply(200).header("A", "b\r\nSet-Cookie: x").body("secret").send());
    w.http.route("/name", |req| req.reply(200).header("A b", "c").send());
    w.http.route("/own", |req| {
        let reply = req.reply(200).header("Content-Length", "99").header("Transfer-Encoding", "x");
        reply
            .header("Connection", "keep-alive")
            .header("Date", "long ago")
            .header("X", "1")
            .header("X", "2")
            .send();
    });
    for path in ["/split", "/name"] {
        let answer = w.ask(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((answer.status, answer.text()), (500, ""));
        assert!(!answer.head.contains("Cookie"));
    }
    let own = w.ask("GET /own HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(own.head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: long ago\r\nX: 1\r\nX: 2\r\n\r\n");
}

#[test]
fn a_continue_is_said_when_the_body_is_asked_for() {
    let w = echo();
    w.http.route("/no", |req| req.reply(403).send());
    let client = w.client();
    let expect = "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.send(&w, format!("PUT /a HTTP/1.1\r\nHost: h\r\n{expect}").as_bytes());
    let answer = client.answer(&w, false);
    assert_eq!(answer.head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(&w, b"abc");
    assert_eq!(client.answer(&w, false).text(), "PUT /a None abc");
    // Whoever does not wait for it needs none.
    let answer = client.ask(&w, &format!("PUT /a HTTP/1.1\r\nHost: h\r\n{expect}abc"));
    assert_eq!(answer.text(), "PUT /a None abc");
    // Refused: the body may come or not, so the connection ends.
    let words = w.last_words(format!("PUT /no HTTP/1.1\r\nHost: h\r\n{expect}").as_bytes());
    assert!(words.starts_with("HTTP/1.1 403 ") && words.contains("Connection: close"), "{words}");
    assert!(!words.contains("100"));
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let w = world();
    let (lost, count) = shared::<Vec<BodyError>>();
    w.http.route("/small", |req| req.collect_body(10, |req, _| req.reply(200).send()));
    w.http.route("/pieces", move |mut req| {
        req.set_body_limit(10);
        let lost = lost.clone();
        req.on_body(move |_, event| match event {
            BodyEvent::Data(data) => _ = data.drain(usize::MAX),
            BodyEvent::End(req) => req.reply(200).send(),
            BodyEvent::Failed(error) => lost.borrow_mut().push(error),
        });
    });
    for path in ["/small", "/pieces"] {
        let announced =
            format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
        assert!(w.last_words(announced.as_bytes()).starts_with("HTTP/1.1 413 "), "before it is sent");
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        let words = w.last_words(format!("{head}6\r\n012345\r\n6\r\n012345\r\n").as_bytes());
        assert!(words.starts_with("HTTP/1.1 413 "), "{words}");
        let fits = format!("{head}a\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(w.ask(&fits).status, 200);
    }
    assert_eq!(*count.borrow(), [BodyError::TooLarge]);
    w.limit(|limits| limits.max_body_bytes = 5);
    let words = w.last_words(b"PUT /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    assert!(words.starts_with("HTTP/1.1 413 "), "{words}");
}

/// A client that sends all of a large body before it reads gets the answer, not a reset.
#[test]
fn an_early_refusal_reaches_a_client_that_goes_on_sending() {
    let w = world();
    w.http.route("/", |req| req.reply(403).body("no").send());
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n");
    client.send(&w, &pattern(4_000_000));
    client.end();
    let words = String::from_utf8(client.rest(&w)).unwrap();
    assert!(words.starts_with("HTTP/1.1 403 ") && words.ends_with("\r\n\r\nno"), "{words}");
}

#[test]
fn a_small_body_that_nobody_read_is_skipped() {
    let w = world();
    w.http.route("/", |req| req.reply(200).body("ok").send());
    let client = w.client();
    let request = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n{}", "x".repeat(60_000));
    for _ in 0..3 {
        assert_eq!(client.ask(&w, &request).text(), "ok");
    }
    assert_eq!(client.ask(&w, GET).text(), "ok");
    let large = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 66000\r\n\r\n";
    assert_eq!(client.ask(&w, large).header("connection"), Some("close"));
}

#[test]
fn a_large_body_comes_in_pieces_and_a_pause_holds_the_client_up() {
    const SIZE: usize = 20_000_000;
    let w = world();
    let (held, body) = shared::<Option<Body>>();
    let seen = Rc::new(Cell::new(0));
    let count = seen.clone();
    w.http.route("/", move |req| {
        let (held, count) = (held.clone(), count.clone());
        req.on_body(move |body, event| match event {
            BodyEvent::Data(data) => {
                let bytes = data.pull_up(usize::MAX).unwrap().unwrap().to_vec();
                data.drain(usize::MAX).unwrap();
                for (i, byte) in bytes.iter().enumerate() {
                    assert_eq!(usize::from(*byte), (count.get() + i) % 251);
                }
                count.set(count.get() + bytes.len());
                if count.get() > 1_000_000 && held.borrow().is_none() {
                    body.pause();
                    held.replace(Some(body.clone()));
                }
            }
            BodyEvent::End(req) => req.reply(200).body(count.get().to_string()).send(),
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
    let client = w.client();
    client.send(&w, format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
    let bytes = pattern(SIZE);
    let mut sent = 0;
    // Until the client is held up: its socket takes nothing, while the loop runs.
    while body.borrow().is_none() || sent < seen.get() {
        match (&client.stream).write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(_) => w.turn(),
        }
    }
    let before = seen.get();
    for _ in 0..100 {
        sent += (&client.stream).write(&bytes[sent..]).unwrap_or(0);
        w.turn();
    }
    assert_eq!(seen.get(), before, "nothing is delivered in a pause");
    assert!(sent < SIZE, "the client is held up");
    assert_eq!(body.borrow().as_ref().unwrap().received(), before as u64);
    body.borrow().as_ref().unwrap().resume();
    client.send(&w, &bytes[sent..]);
    assert_eq!(client.answer(&w, false).text(), SIZE.to_string());
}

/// What a reader leaves stops the reading at a bound, and is delivered again.
#[test]
fn bytes_that_a_reader_leaves_are_bounded() {
    let w = world();
    let (held, body) = shared::<Option<Body>>();
    let (most, seen) = shared::<usize>();
    w.http.route("/", move |req| {
        let (held, most) = (held.clone(), most.clone());
        let mut is_hungry = false;
        req.on_body(move |body, event| match event {
            BodyEvent::Data(data) => {
                let have = data.len();
                most.replace_with(|most| (*most).max(have));
                if is_hungry {
                    data.drain(usize::MAX).unwrap();
                }
                is_hungry |= have >= 256 * 1024;
                held.replace(Some(body.clone()));
            }
            BodyEvent::End(req) => req.reply(200).send(),
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n");
    let bytes = pattern(8_000_000);
    let mut sent = 0;
    w.until(|| {
        sent += (&client.stream).write(&bytes[sent..]).unwrap_or(0);
        *seen.borrow() >= 256 * 1024
    });
    for _ in 0..50 {
        w.turn();
    }
    assert!(*seen.borrow() <= 512 * 1024, "{}", seen.borrow());
    let body = body.borrow().clone().unwrap();
    body.resume();
    w.until(|| {
        body.resume();
        sent += (&client.stream).write(&bytes[sent..]).unwrap_or(0);
        !client.got().is_empty()
    });
    assert_eq!(client.answer(&w, false).status, 200);
}

#[test]
fn a_request_may_be_taken_back_before_its_body_is_whole() {
    let w = world();
    w.http.route("/", |req| {
        req.on_body(|body, event| {
            if let BodyEvent::Data(_) = event {
                body.take_request().unwrap().reply(422).body("enough").send();
                assert!(body.take_request().is_none());
            }
        });
    });
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc");
    client.send(&w, &pattern(500_000));
    let answer = client.answer(&w, false);
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (422, "enough", Some("close")));
    client.end();
    assert!(client.rest(&w).is_empty());
}

#[test]
fn a_client_that_leaves_is_told_to_the_reader_and_a_late_reply_goes_nowhere() {
    let w = world();
    let (lost, errors) = shared::<Vec<BodyError>>();
    let (held, late) = shared::<Option<Request>>();
    w.http.route("/body", move |req| {
        let lost = lost.clone();
        req.on_body(move |_, event| {
            if let BodyEvent::Failed(error) = event {
                lost.borrow_mut().push(error);
            }
        });
    });
    w.http.route("/late", move |req| drop(held.replace(Some(req))));
    let client = w.client();
    client.send(&w, b"PUT /body HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    drop(client);
    w.until(|| !errors.borrow().is_empty());
    assert_eq!(*errors.borrow(), [BodyError::Disconnected]);

    let client = w.client();
    client.send(&w, b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n");
    w.until(|| late.borrow().is_some());
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    w.until(|| w.http.connections() == 0);
    let req = late.take().unwrap();
    assert!(!req.is_connected());
    assert_eq!(req.path(), "/late");
    req.reply(200).body("nobody hears").send();
    w.turn();
}

#[test]
fn a_late_reply_answers_and_what_was_pipelined_follows() {
    let w = world();
    let (held, late) = shared::<Option<Request>>();
    w.http.route("/late", move |req| drop(held.replace(Some(req))));
    w.http.route("/", |req| req.reply(200).body("soon").send());
    let client = w.client();
    client.send(&w, format!("GET /late HTTP/1.1\r\nHost: h\r\n\r\n{GET}").as_bytes());
    client.end();
    w.until(|| late.borrow().is_some());
    for _ in 0..10 {
        w.turn();
    }
    assert!(client.got().is_empty());
    late.take().unwrap().reply(200).body("late").send();
    assert_eq!(client.answer(&w, false).text(), "late");
    assert_eq!(client.answer(&w, false).text(), "soon");
    assert!(client.rest(&w).is_empty(), "the client had ended its side");
}

#[test]
fn a_dropped_request_and_a_panic_are_500_and_the_route_stays() {
    let w = world();
    let (told, hears) = shared::<Vec<u16>>();
    w.http.on_refusal(move |_, status| hears.borrow_mut().push(status.code()));
    w.http.route("/drop", drop);
    w.http.route("/reply", |req| drop(req.reply(200).body("never")));
    let mut calls = 0;
    w.http.route("/panic", move |req| {
        calls += 1;
        assert!(calls > 2, "the first two calls panic");
        req.reply(200).body(calls.to_string()).send();
    });
    w.http.route("/body", |req| req.on_body(|_, _| panic!("in a body")));
    w.http.route("/whole", |req| req.collect_body(10, |_, _| panic!("at the end of a body")));
    let client = w.client();
    for path in ["/drop", "/reply", "/panic", "/panic", "/body", "/whole"] {
        let answer = client.ask(&w, &format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"));
        assert_eq!((answer.status, answer.text()), (500, ""), "{path}");
    }
    w.until(|| *told.borrow() == [500; 6]);
    assert_eq!(client.ask(&w, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").text(), "3");
    w.http.route("/half", |req| {
        let stream = req.reply(200).stream();
        stream.write(b"half").unwrap();
        panic!("the head is out");
    });
    w.http.route("/drained", |req| {
        let stream = req.reply(200).stream();
        stream.on_drained(|_| panic!("in a stream"));
    });
    for path in ["/half", "/drained"] {
        let words = w.last_words(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert!(!words.ends_with("0\r\n\r\n"), "{words}");
    }
    assert_eq!(client.ask(&w, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").text(), "4");
}

#[test]
fn a_stream_is_produced_as_the_client_takes_it() {
    const SIZE: usize = 8_000_000;
    let w = world();
    let most = Rc::new(Cell::new(0));
    let peak = most.clone();
    let produce = move |stream: &BodyStream, left: &mut usize| {
        let n = (*left).min(100_000);
        let start = SIZE - *left;
        let piece: Vec<u8> = (start..start + n).map(|i| (i % 251) as u8).collect();
        stream.write(&piece).unwrap();
        *left -= n;
        peak.set(peak.get().max(stream.pending()));
        if *left == 0 {
            stream.finish();
            assert!(!stream.is_open() && stream.write(b"more").is_err());
        }
    };
    let (chunked, sized) = (produce.clone(), produce);
    w.http.route("/chunked", move |req| {
        let (mut left, produce) = (SIZE, chunked.clone());
        req.reply(200).stream().on_drained(move |stream| produce(stream, &mut left));
    });
    w.http.route("/sized", move |req| {
        let (mut left, produce) = (SIZE, sized.clone());
        req.reply(200).stream_sized(SIZE as u64).on_drained(move |stream| produce(stream, &mut left));
    });
    let client = w.client();
    let expected = pattern(SIZE);
    for path in ["/chunked", "/sized"] {
        let answer = client.ask(&w, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(answer.body == expected, "{path}");
    }
    assert!(most.get() < 400_000, "{} bytes waited", most.get());
    let old = w.last_words_bytes(b"GET /chunked HTTP/1.0\r\n\r\n");
    let body = find(&old, b"\r\n\r\n").unwrap() + 4;
    assert!(old[body..] == expected, "an old client reads until the end");
}

#[test]
fn a_stream_keeps_to_its_length() {
    let w = world();
    w.http.route("/more", |req| {
        let stream = req.reply(200).stream_sized(4);
        assert!(stream.write(b"12345").is_err());
        stream.write(b"12").unwrap();
        assert!(stream.write(b"345").is_err());
        stream.write(b"34").unwrap();
        stream.finish();
    });
    w.http.route("/less", |req| {
        let stream = req.reply(200).stream_sized(4);
        stream.write(b"12").unwrap();
        stream.finish();
    });
    w.http.route("/dropped", |req| drop(req.reply(200).stream()));
    let client = w.client();
    assert_eq!(client.ask(&w, "GET /more HTTP/1.1\r\nHost: h\r\n\r\n").text(), "1234");
    for path in ["/less", "/dropped"] {
        let words = w.last_words(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert!(!words.ends_with("0\r\n\r\n"), "{path}: cut short");
    }
}

#[test]
fn files_and_their_parts_are_sent() {
    let bytes = pattern(3_000_000);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let segment = FileSegment::new(file, 0, bytes.len() as u64).unwrap();
    let w = world();
    let whole = segment.clone();
    w.http.route("/whole", move |req| req.reply(200).file(whole.clone()).send());
    let part = segment.clone();
    w.http.route("/part", move |req| req.reply(206).file_range(part.clone(), 10..1_000_010).send());
    let outside = segment.clone();
    w.http.route("/outside", move |req| req.reply(206).file_range(outside.clone(), 10..4_000_000).send());
    w.http.route("/mixed", move |req| {
        let stream = req.reply(200).stream();
        stream.write(b"<").unwrap();
        stream.write_file(&segment, 5..10).unwrap();
        stream.write(b">").unwrap();
        stream.finish();
    });
    let client = w.client();
    let ask = |line: &str| client.ask(&w, &format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(ask("GET /whole").body == bytes);
    assert!(ask("GET /part").body == bytes[10..1_000_010]);
    assert_eq!(ask("HEAD /whole").header("content-length"), Some("3000000"));
    assert_eq!(ask("GET /mixed").body, [&b"<"[..], &bytes[5..10], b">"].concat());
    assert_eq!(ask("GET /outside").status, 500);
}

#[test]
fn shared_memory_and_buffers_are_bodies_too() {
    let w = world();
    let page: std::sync::Arc<[u8]> = std::sync::Arc::from(pattern(100_000));
    let shared = page.clone();
    w.http.route("/shared", move |req| req.reply(200).shared(shared.clone()).send());
    w.http.route("/buffer", |req| {
        let buffer = reactor::Evbuffer::new();
        buffer.append(b"moved").unwrap();
        req.reply(200).buffer(&buffer).send();
    });
    let client = w.client();
    assert!(client.ask(&w, "GET /shared HTTP/1.1\r\nHost: h\r\n\r\n").body == *page);
    assert_eq!(client.ask(&w, "GET /buffer HTTP/1.1\r\nHost: h\r\n\r\n").text(), "moved");
}

/// A time of this many seconds, give or take the turns in which it is noticed.
fn is_about(time: Duration, seconds: u64) -> bool {
    let exact = Duration::from_secs(seconds);
    (exact..exact + Duration::from_secs(1)).contains(&time)
}

#[test]
fn time_outs() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.route("/", |req| req.reply(200).body("soon").send());
    w.http.route("/body", |req| req.collect_body(1 << 20, |req, _| req.reply(200).send()));
    w.http.route("/wait", |req| {
        let base = req.base().handle();
        base.once(Some(Duration::from_secs(1000)), move |_| req.reply(200).body("at last").send()).unwrap();
    });
    // A client that says nothing is closed without a word.
    let silent = w.client();
    w.until(|| w.http.connections() == 1);
    let time = w.pass_until(&clock, || silent.is_over());
    assert!(is_about(time, 75) && silent.got().is_empty(), "{time:?}");
    // Between requests too.
    let silent = w.client();
    assert_eq!(silent.ask(&w, GET).text(), "soon");
    let time = w.pass_until(&clock, || silent.is_over());
    assert!(is_about(time, 75) && silent.got().is_empty(), "{time:?}");
    // A head that does not end, however busily it grows.
    let slow = w.client();
    slow.send(&w, b"GET / HTTP/1.1\r\n");
    w.until(|| w.http.connections() == 1);
    let time = w.pass_until(&clock, || {
        let _ = (&slow.stream).write(b"a: b\r\n");
        slow.is_over()
    });
    let words = String::from_utf8(slow.got()).unwrap();
    assert!(words.starts_with("HTTP/1.1 408 ") && words.contains("Connection: close"), "{words}");
    assert!(is_about(time, 30), "{time:?}");
    // A body that stops.
    let stuck = w.client();
    stuck.send(&w, b"PUT /body HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc");
    let time = w.pass_until(&clock, || !stuck.got().is_empty());
    assert!(is_about(time, 30) && stuck.got().starts_with(b"HTTP/1.1 408 "), "{time:?}");
    // The rest of a body that nobody wants.
    let rest = w.client();
    rest.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc");
    assert_eq!(rest.answer(&w, false).header("connection"), None);
    let time = w.pass_until(&clock, || rest.is_over());
    assert!(is_about(time, 30), "{time:?}");
    // A handler that takes its time is not the client's fault.
    let patient = w.client();
    patient.send(&w, b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n");
    let time = w.pass_until(&clock, || !patient.got().is_empty());
    assert!(is_about(time, 1000), "{time:?}");
    assert_eq!(patient.answer(&w, false).text(), "at last");
    let time = w.pass_until(&clock, || patient.is_over());
    assert!(is_about(time, 75), "{time:?}: all of the idle time, from the reply on");
}

#[test]
fn a_body_that_only_drips_is_given_up() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.route("/", |req| req.collect_body(1 << 20, |req, _| req.reply(200).send()));
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    w.until(|| w.http.connections() == 1);
    // Ten bytes a second: never silent for long.
    let time = w.pass_until(&clock, || {
        let _ = (&client.stream).write(b"x");
        !client.got().is_empty()
    });
    assert!(is_about(time, 30), "{time:?}");
    assert!(client.got().starts_with(b"HTTP/1.1 408 "));
    // Fast enough.
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let mut left = 100_000;
    let time = w.pass_until(&clock, || {
        let n = left.min(100);
        left -= (&client.stream).write(&vec![b'x'; n]).unwrap();
        !client.got().is_empty()
    });
    assert!(is_about(time, 100), "{time:?}");
    assert!(client.got().starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.route("/", |req| req.reply(200).shared(vec![0; 50_000_000]).send());
    let client = w.client();
    client.send(&w, GET.as_bytes());
    w.until(|| w.http.connections() == 1);
    let time = w.pass_until(&clock, || w.http.connections() == 0);
    assert!(is_about(time, 60), "{time:?}");
    assert!(client.rest(&w).len() < 50_000_000);
}

/// Clients that drip heads and bodies neither hold up another one nor stay.
#[test]
fn dripping_clients_are_cut_while_another_is_served() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.limit(|limits| {
        limits.head_timeout = Duration::from_secs(10);
        limits.body_timeout = Duration::from_secs(10);
        limits.idle_timeout = Duration::from_secs(10);
    });
    w.http.route("/body", |req| {
        req.on_body(|_, event| {
            if let BodyEvent::Data(data) = event {
                data.drain(usize::MAX).unwrap();
            }
        });
    });
    w.http.route("/ignored", |req| req.reply(200).send());
    w.http.route("/", |req| req.reply(200).body("hello").send());
    let begins = [
        "GET / HTTP/1.1\r\nHost: h\r\nA: ",
        "PUT /body HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n",
        "PUT /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n",
        "PUT /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        "PUT /ignored HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n",
        "",
    ];
    let dripping: Vec<_> = (0..60)
        .map(|n| {
            let client = w.client();
            client.send(&w, begins[n % begins.len()].as_bytes());
            client
        })
        .collect();
    let normal = w.client();
    for tick in 0..=200 {
        assert_eq!(normal.ask(&w, GET).text(), "hello");
        if tick % 10 == 0 {
            dripping.iter().filter(|client| !client.is_over()).for_each(|client| client.send(&w, b"a"));
        }
        clock.advance(Duration::from_millis(100));
    }
    w.turn();
    assert!(dripping.iter().all(Client::is_over));
    assert_eq!(w.http.connections(), 1);
    for (n, client) in dripping.iter().enumerate() {
        let words = client.got();
        let expected = if n % begins.len() == 4 { 200 } else { 408 };
        assert!(words.starts_with(format!("HTTP/1.1 {expected} ").as_bytes()), "{n}: {words:?}");
    }
}

/// A client that takes a little, again and again, holds what waits for it no longer than one that takes nothing.
#[test]
fn a_client_that_takes_too_little_is_dropped() {
    const RATE: u64 = 100_000_000;
    for (min_reply_rate, is_dropped) in [(RATE, true), (0, false)] {
        let clock = SteppedClock::new();
        let w = stepped(&clock);
        w.limit(|limits| limits.min_reply_rate = min_reply_rate);
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        let file = FileSegment::new(file, 0, 1 << 30).unwrap();
        let last = file.clone();
        w.http.route("/", move |req| req.reply(200).file(file.clone()).send());
        w.http.route("/last", move |req| req.reply(200).file(last.clone()).close().send());
        for path in ["/", "/last"] {
            let (told, tells) = shared::<Vec<bool>>();
            w.http.on_exchange(move |it| tells.borrow_mut().push(it.is_whole));
            let client = w.client();
            client.send(&w, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
            w.until(|| client.has_something());
            let start = clock.elapsed();
            let mut piece = vec![0; 300_000];
            w.until(|| {
                // Some, so that writing goes on; never all that there is. Time passes with the bytes.
                if (&client.stream).read(&mut piece).is_ok() {
                    clock.advance(Duration::from_millis(100));
                }
                !told.borrow().is_empty() || clock.elapsed() - start > Duration::from_secs(100)
            });
            let time = clock.elapsed() - start;
            if is_dropped {
                assert!(is_about(time, 60), "{path}: {time:?}");
                assert_eq!(told.take(), [false]);
            } else {
                assert_eq!(told.take(), [false; 0], "{path}");
            }
            drop(client);
            w.until(|| is_dropped || !told.borrow().is_empty());
        }
    }
}

/// What lingers with its last reply holds a place.
#[test]
fn a_connection_that_lingers_counts() {
    let w = echo();
    for change in [
        |limits: &mut Limits| limits.max_connections = 2,
        |limits: &mut Limits| limits.max_connections_per_address = 2,
    ] {
        w.http.set_limits(Limits::default());
        w.limit(change);
        let last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let clients = [w.client(), w.client()];
        assert_eq!(clients[0].ask(&w, last).status, 200);
        clients[1].send(&w, b"malformed\r\n\r\n");
        assert!(clients[1].rest(&w).starts_with(b"HTTP/1.1 400 "));
        assert_eq!(w.http.connections(), 0, "no request can come on them");
        assert!(w.client().rest(&w).starts_with(b"HTTP/1.1 503 "));
        drop(clients);
        w.until(|| {
            let client = w.client();
            client.ask(&w, last).status == 200
        });
    }
}

/// Those that are one too many do not become too many themselves.
#[test]
fn turning_away_is_bounded() {
    let w = echo();
    w.limit(|limits| limits.max_connections = 40);
    let served: Vec<_> = (0..40).map(|_| w.client()).collect();
    served.iter().for_each(|client| assert_eq!(client.ask(&w, GET).status, 200));
    let clients: Vec<_> = (0..100).map(|_| w.client()).collect();
    let words: Vec<_> = clients.iter().map(|client| client.rest(&w)).collect();
    let answered = words.iter().filter(|words| words.starts_with(b"HTTP/1.1 503 ")).count();
    assert_eq!((answered, words.iter().filter(|words| words.is_empty()).count()), (11, 89));
    drop(clients);
    w.until(|| w.client().rest(&w).starts_with(b"HTTP/1.1 503 "));
    drop(served);
}

#[test]
fn one_connection_too_many_is_told() {
    let w = echo();
    for change in [
        |limits: &mut Limits| limits.max_connections = 2,
        |limits: &mut Limits| limits.max_connections_per_address = 2,
    ] {
        w.http.set_limits(Limits::default());
        w.limit(change);
        let clients = [w.client(), w.client()];
        clients.iter().for_each(|client| _ = client.ask(&w, GET));
        let words = String::from_utf8(w.client().rest(&w)).unwrap();
        assert!(words.starts_with("HTTP/1.1 503 ") && words.contains("Connection: close"), "{words}");
        drop(clients);
        w.until(|| w.http.connections() == 0);
        assert_eq!(w.ask(GET).status, 200);
        w.until(|| w.http.connections() == 0);
    }
}

/// A client that asks much and reads nothing does not fill memory.
#[test]
fn pipelined_replies_that_nobody_reads_are_bounded() {
    let w = world();
    let calls = Rc::new(Cell::new(0));
    let count = calls.clone();
    w.http.route("/", move |req| {
        count.set(count.get() + 1);
        req.reply(200).body(vec![b'x'; 100_000]).send();
    });
    let client = w.client();
    client.send(&w, GET.repeat(1000).as_bytes());
    for _ in 0..100 {
        w.turn();
    }
    assert!(calls.get() < 200, "{} answered into memory", calls.get());
    for _ in 0..1000 {
        assert_eq!(client.answer(&w, false).body.len(), 100_000);
    }
    assert_eq!(calls.get(), 1000);
}

#[test]
fn a_shutdown_lets_replies_finish_and_ends_the_loop() {
    let w = world();
    let (held, late) = shared::<Option<Request>>();
    w.http.route("/late", move |req| drop(held.replace(Some(req))));
    w.http.route("/", |req| req.reply(200).send());
    let (idle, busy) = (w.client(), w.client());
    assert_eq!(idle.ask(&w, GET).status, 200);
    busy.send(&w, b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n");
    w.until(|| late.borrow().is_some());
    w.http.shutdown();
    assert!(idle.rest(&w).is_empty());
    assert_eq!(w.http.connections(), 1);
    late.take().unwrap().reply(200).body("last").send();
    let answer = busy.answer(&w, false);
    assert_eq!((answer.text(), answer.header("connection")), ("last", Some("close")));
    drop((idle, busy));
    assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(w.http.connections(), 0);
}

/// A handler may end everything, its own connection included.
#[test]
fn a_handler_may_free_the_server() {
    let w = world();
    let http = w.http.clone();
    let alive = Rc::new(());
    let captured = alive.clone();
    w.http.route("/", move |req| {
        let _ = &captured;
        http.free();
        assert!(!req.is_connected());
        req.reply(200).send();
    });
    let client = w.client();
    client.send(&w, GET.as_bytes());
    assert!(client.rest(&w).is_empty());
    assert_eq!(Rc::strong_count(&alive), 1, "the handler is gone");
    assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents);
}

/// So may the closure that reads a body, which hears of it once it has returned.
#[test]
fn a_reader_may_free_the_server() {
    let w = world();
    let (told, hears) = shared::<Vec<String>>();
    let http = w.http.clone();
    w.http.route("/", move |req| {
        let (http, hears) = (http.clone(), hears.clone());
        req.on_body(move |_, event| match event {
            BodyEvent::Data(data) => {
                data.drain(usize::MAX).unwrap();
                http.free();
                hears.borrow_mut().push("freed".to_owned());
            }
            BodyEvent::End(_) => panic!("whole"),
            BodyEvent::Failed(error) => hears.borrow_mut().push(error.to_string()),
        });
    });
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    assert!(client.rest(&w).is_empty());
    assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(*told.borrow(), ["freed", "the connection ended before the body did"]);
    assert_eq!(Rc::strong_count(&told), 1, "the closures are gone");
}

#[test]
fn nothing_is_left_when_the_base_goes() {
    let alive = Rc::new(RefCell::new(Vec::<Body>::new()));
    let base = EventBase::new().unwrap();
    {
        let w =
            World { http: reactor::http::Http::bind(&base, &"127.0.0.1:0".parse().unwrap()).unwrap(), base };
        let kept = alive.clone();
        w.http.route("/body", move |req| {
            let kept = kept.clone();
            req.on_body(move |body, _| kept.borrow_mut().push(body.clone()));
        });
        let captured = alive.clone();
        w.http.route("/stream", move |req| {
            let captured = captured.clone();
            let stream = req.reply(200).stream();
            let own = stream.clone();
            stream.on_drained(move |_| _ = (&captured, &own));
        });
        let (one, other) = (w.client(), w.client());
        one.send(&w, b"PUT /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
        other.send(&w, b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
        w.until(|| alive.borrow().len() == 1 && other.got().len() > 10);
        drop(w);
    }
    let bodies = alive.take();
    assert!(bodies.iter().all(|body| body.take_request().is_none()));
    drop(bodies);
    assert_eq!(Rc::strong_count(&alive), 1);
}

/// What a body is known by.
fn digest(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    format!("{} {sum:x}", bytes.len())
}

/// Handlers of every temper: at once and late, with the body whole, in pieces with pauses, or not read at all.
fn tempers(w: &World) {
    w.http.route("/ignore", |req| req.reply(200).body("ignored").send());
    w.http.route("/ignore-late", |req| {
        let base = req.base().handle();
        base.once(None, move |_| req.reply(200).body("ignored").send()).unwrap();
    });
    w.http.route("/collect", |req| {
        req.collect_body(u64::MAX, |req, body| {
            let digest = digest(&body.pull_up(usize::MAX).unwrap().map_or(Vec::new(), |all| all.to_vec()));
            req.reply(200).body(digest).send();
        });
    });
    w.http.route("/late", |req| {
        let base = req.base().handle();
        base.once(None, move |_| {
            req.collect_body(u64::MAX, |req, body| {
                let digest =
                    digest(&body.pull_up(usize::MAX).unwrap().map_or(Vec::new(), |all| all.to_vec()));
                let base = req.base().handle();
                base.once(None, move |_| req.reply(200).body(digest).send()).unwrap();
            });
        })
        .unwrap();
    });
    w.http.route("/pieces", |req| {
        let (base, mut all) = (req.base().handle(), Vec::new());
        req.on_body(move |body, event| match event {
            BodyEvent::Data(data) => {
                all.extend_from_slice(&data.pull_up(usize::MAX).unwrap().unwrap());
                data.drain(usize::MAX).unwrap();
                body.pause();
                let body = body.clone();
                base.once(None, move |_| body.resume()).unwrap();
            }
            BodyEvent::End(req) => {
                let (stream, digest) = (req.reply(200).stream(), digest(&all));
                let mut letters = digest.into_bytes().into_iter();
                stream.on_drained(move |stream| match letters.next() {
                    Some(letter) => stream.write(&[letter]).unwrap(),
                    None => stream.finish(),
                });
            }
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
}

/// Any requests, to handlers of every temper, cut anywhere: the replies are right and in order.
#[test]
fn any_pipeline_is_answered_right() {
    let mut seed = 1u64;
    let mut below = move |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let w = world();
    tempers(&w);
    const PATHS: [&str; 5] = ["/ignore", "/ignore-late", "/collect", "/late", "/pieces"];
    for _ in 0..60 {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=below(8) {
            let path = PATHS[below(PATHS.len())];
            let size = [0, 1, 100, 5000, 60_000, 300_000][below(6)];
            let ignores = path.starts_with("/ignore");
            let body = pattern(if ignores { size.min(60_000) } else { size });
            bytes.extend_from_slice(format!("PUT {path} HTTP/1.1\r\nHost: h\r\n").as_bytes());
            if below(2) == 0 || ignores {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(&body);
            } else {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(1 + below(100_000)) {
                    bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
            expected.push(if ignores { "ignored".to_owned() } else { digest(&body) });
        }
        let client = w.client();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = rest.len().min([1, 30, 1000, 70_000, 1_000_000][below(5)]);
            client.send(&w, &rest[..n]);
            rest = &rest[n..];
        }
        if below(2) == 0 {
            client.end();
        }
        for digest in expected {
            assert_eq!(client.answer(&w, false).text(), digest);
        }
    }
}

/// A reply to one connection from the handler of another, whose route both have.
#[test]
fn connections_answer_each_other() {
    let w = world();
    let (held, _) = shared::<Vec<Request>>();
    w.http.route("/", move |req| {
        let other = held.borrow_mut().pop();
        match other {
            Some(other) => {
                other.reply(200).body("for you").send();
                req.reply(200).body("for me").send();
            }
            None => held.borrow_mut().push(req),
        }
    });
    let (one, other) = (w.client(), w.client());
    one.send(&w, GET.repeat(3).as_bytes());
    w.until(|| w.http.connections() == 2);
    other.send(&w, GET.repeat(3).as_bytes());
    let answers: Vec<_> = (0..3).flat_map(|_| [one.answer(&w, false), other.answer(&w, false)]).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(answers.iter().filter(|answer| answer.text() == "for me").count(), 3);
}

/// A reader that is paused when its client leaves hears of it when it goes on.
#[test]
fn a_client_that_leaves_in_a_pause() {
    let w = world();
    let (held, body) = shared::<Option<Body>>();
    let (lost, errors) = shared::<Vec<BodyError>>();
    w.http.route("/", move |req| {
        let (held, lost) = (held.clone(), lost.clone());
        req.on_body(move |body, event| match event {
            BodyEvent::Data(data) => {
                data.drain(usize::MAX).unwrap();
                body.pause();
                held.replace(Some(body.clone()));
            }
            BodyEvent::End(_) => panic!("whole"),
            BodyEvent::Failed(error) => lost.borrow_mut().push(error),
        });
    });
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    w.until(|| body.borrow().is_some());
    drop(client);
    body.take().unwrap().resume();
    w.until(|| !errors.borrow().is_empty());
    assert_eq!(*errors.borrow(), [BodyError::Disconnected]);
    assert_eq!(w.http.connections(), 0);
}

/// An upload that waits, for a disk say, is dropped when its client is gone; one that is whole in the kernel is not.
#[test]
fn a_client_that_leaves_in_a_pause_is_noticed() {
    let sized = |n: usize| format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\nabc");
    let chunked = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_owned();
    for (request, more, resets, is_lost) in [
        (sized(10), "", false, true),
        (sized(10), "defg", false, true),
        (sized(10), "defghij", false, false),
        (sized(10), "defg", true, true),
        (chunked.clone(), "3\r\nabc\r\n", true, true),
        (chunked.clone(), "3\r\nabc\r\n0\r\n\r\n", false, false),
    ] {
        for at_once in [false, true] {
            let w = world();
            let (held, body) = shared::<Option<Body>>();
            let (outcome, tells) = shared::<Vec<Option<BodyError>>>();
            w.http.route("/", move |req| {
                let (held, tells) = (held.clone(), tells.clone());
                let mut is_paused = false;
                req.on_body(move |body, event| match event {
                    BodyEvent::Data(data) => {
                        data.drain(usize::MAX).unwrap();
                        if !is_paused {
                            is_paused = true;
                            body.pause();
                            held.replace(Some(body.clone()));
                        }
                    }
                    BodyEvent::End(req) => {
                        tells.borrow_mut().push(None);
                        req.reply(200).send();
                    }
                    BodyEvent::Failed(error) => tells.borrow_mut().push(Some(error)),
                });
            });
            let client = w.client();
            if at_once && !resets {
                // The end comes in the same poll as the body.
                (&client.stream).write_all(format!("{request}{more}").as_bytes()).unwrap();
                client.end();
                w.until(|| body.borrow().is_some());
            } else {
                client.send(&w, request.as_bytes());
                w.until(|| body.borrow().is_some());
                client.send(&w, more.as_bytes());
                if resets {
                    client.reset();
                    w.until(|| !outcome.borrow().is_empty());
                    assert_eq!(outcome.take(), [Some(BodyError::Disconnected)]);
                    continue;
                }
                client.end();
            }
            for _ in 0..10 {
                w.turn();
            }
            let case = format!("{request:?} {more:?} {at_once}");
            if is_lost {
                w.until(|| !outcome.borrow().is_empty());
                assert_eq!(outcome.take(), [Some(BodyError::Disconnected)], "{case}");
            } else {
                assert!(outcome.borrow().is_empty(), "{case}");
                body.take().unwrap().resume();
                assert_eq!(client.answer(&w, false).status, 200, "{case}");
                assert_eq!(outcome.take(), [None], "{case}");
            }
        }
    }
}

#[test]
fn listeners_and_connections_may_come_from_elsewhere() {
    let w = echo();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = w.http.adopt(socket).unwrap();
    assert_eq!(listener.local_address().unwrap().to_string(), address.to_string());
    let client = Client::on(std::net::TcpStream::connect(address).unwrap());
    assert_eq!(client.ask(&w, GET).text(), "GET / None ");

    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    w.http.serve(ours, reactor::Address::Unnamed).unwrap();
    theirs.write_all(b"GET /pair HTTP/1.0\r\n\r\n").unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut words = Vec::new();
    w.until(|| std::io::Read::read_to_end(&mut theirs, &mut words).is_ok());
    assert!(words.ends_with(b"GET /pair None "));
}

/// A client that takes a long reply at its own pace is not idle.
#[test]
fn a_long_reply_outlives_the_idle_time() {
    const SIZE: usize = 30_000_000;
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    // Its pace is that of this machine's kernel, not of the clock.
    w.limit(|limits| limits.write_timeout = Duration::ZERO);
    w.http.route("/", |req| req.reply(200).shared(vec![b'x'; SIZE]).send());
    let out = Rc::new(Cell::new(None));
    let (when, time) = (out.clone(), clock.clone());
    w.http.on_exchange(move |_| when.set(Some(time.elapsed())));
    let client = w.client();
    client.send(&w, GET.as_bytes());
    w.until(|| w.http.connections() == 1);
    let head =
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 30000000\r\n\r\n".len();
    let (mut piece, mut got) = (vec![0; 100_000], 0);
    while out.get().is_none() {
        if let Ok(n) = (&client.stream).read(&mut piece) {
            assert_ne!(n, 0, "closed after {got} bytes");
            got += n;
            clock.advance(Duration::from_secs(2));
        }
        w.turn();
    }
    assert!(clock.elapsed() > Duration::from_secs(300));
    // The time for the next request begins when the last byte has left.
    let left = out.get().unwrap() + Duration::from_secs(74) - clock.elapsed();
    clock.advance(left);
    w.until(|| client.is_idle_after(SIZE + head - got));
    assert_eq!(client.ask(&w, GET).status, 200);
}

/// A file that is shorter than promised cuts the reply short; the server goes on.
#[test]
fn a_file_that_shrinks_ends_the_connection() {
    let w = world();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"short").unwrap();
    let segment = FileSegment::new(file, 0, 100).unwrap();
    w.http.route("/file", move |req| req.reply(200).file(segment.clone()).send());
    w.http.route("/", |req| req.reply(200).body("on").send());
    let words = w.last_words(b"GET /file HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(words.contains("Content-Length: 100\r\n") && words.ends_with("\r\n\r\nshort"), "{words}");
    assert_eq!(w.ask(GET).text(), "on");
}
