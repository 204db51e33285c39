//! evhttp's contracts by their ids: what holds here, and what RFC 9110 and 9112 make different.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use reactor::http::{
    BodyEvent, BodyStream, ClientError, Connection, ReplyEvent, Request, percent_decode, query_pairs,
};
use reactor::{Address, SteppedClock};
use web::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";

/// A server that says method, target and body.
fn echo() -> World {
    let w = world();
    w.http.fallback(|req| {
        req.collect_body(1000, |req, body| {
            let mut text = format!("{} {} ", req.method(), req.target()).into_bytes();
            text.extend(body.pull_up(usize::MAX).unwrap().map_or(Vec::new(), |bytes| bytes.to_vec()));
            req.reply(200).body(text).send();
        });
    });
    w
}

/// The status of what is refused, after which the connection ends and what follows is not looked at.
fn refused(w: &World, request: &str) -> u16 {
    let words = w.last_words(format!("{request}{NEXT}").as_bytes());
    assert!(!words.contains("/next"), "{request:?}: {words}");
    words[9..12].parse().unwrap()
}

/// What is understood, and the next one behind it.
fn served(w: &World, request: &str) -> String {
    let client = w.client();
    client.send(w, format!("{request}{NEXT}").as_bytes());
    let answer = client.answer(w, request.starts_with("HEAD"));
    assert_eq!(answer.status, 200, "{request:?}");
    assert_eq!(client.answer(w, false).text(), "GET /next ", "{request:?}");
    answer.text().to_owned()
}

#[test]
fn http_01_a_reply_to_1_1_keeps_the_connection() {
    let w = echo();
    let client = w.client();
    for _ in 0..2 {
        let answer = client.ask(&w, GET);
        assert!(answer.header("date").is_some() && answer.header("connection").is_none());
        assert_eq!((answer.header("content-length"), answer.header("content-type")), (Some("6"), None));
    }
}

#[test]
fn http_02_a_reply_to_1_0_ends_it_unless_it_is_asked_to_stay() {
    let w = echo();
    assert!(w.last_words(b"GET / HTTP/1.0\r\n\r\n").ends_with("GET / "));
    let client = w.client();
    for _ in 0..2 {
        let answer = client.ask(&w, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(
            (answer.header("connection"), answer.header("content-length")),
            (Some("keep-alive"), Some("6"))
        );
    }
}

#[test]
fn http_03_close_is_said_once_and_done() {
    let w = echo();
    w.http.route("/closes", |req| req.reply(200).header("Connection", "close").close().send());
    for request in
        ["GET /closes HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n"]
    {
        let words = w.last_words(format!("{request}{NEXT}").as_bytes());
        assert_eq!(
            (words.matches("Connection: close\r\n").count(), words.matches("HTTP/1.1").count()),
            (1, 1)
        );
    }
}

#[test]
fn http_05_the_next_waits_for_a_late_reply() {
    let w = echo();
    let (held, keeps) = shared::<Vec<Request>>();
    w.http.route("/late", move |req| keeps.borrow_mut().push(req));
    let client = w.client();
    client.send(&w, format!("GET /late HTTP/1.1\r\nHost: h\r\n\r\n{NEXT}").as_bytes());
    (0..10).for_each(|_| w.turn());
    assert!(client.got().is_empty());
    held.take().into_iter().for_each(|req| req.reply(200).body("late").send());
    assert_eq!(client.answer(&w, false).text(), "late");
    assert_eq!(client.answer(&w, false).text(), "GET /next ");
}

#[test]
fn http_06_what_has_no_body_has_none() {
    let w = echo();
    w.http.route("/none", |req| req.reply(204).body("no").send());
    w.http.route("/same", |req| req.reply(304).body("no").send());
    let client = w.client();
    for (request, status, length) in [
        ("HEAD /", 200, Some("7")),
        ("GET /none", 204, None),
        ("GET /same", 304, None),
        ("GET /", 200, Some("6")),
    ] {
        let answer = client.ask(&w, &format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!((answer.status, answer.header("content-length")), (status, length), "{request}");
    }
}

#[test]
fn http_08_a_stream_is_chunked() {
    let w = echo();
    w.http.route("/stream", |req| {
        let stream = req.reply(200).stream();
        for piece in [&b"one"[..], b"", b"three"] {
            stream.write(piece).unwrap();
        }
        stream.finish();
    });
    let client = w.client();
    client.send(&w, b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    w.until(|| client.got().ends_with(b"\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"));
    client.got();
    assert_eq!(w.http.connections(), 1);
}

#[test]
fn http_10_a_stream_to_1_0_ends_with_the_connection() {
    let w = world();
    w.http.route("/", |req| {
        let stream = req.reply(200).stream();
        stream.write(b"all").unwrap();
        stream.finish();
    });
    let words = w.last_words(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(words.ends_with("\r\n\r\nall") && !words.contains("Content-Length"), "{words}");
}

#[test]
fn http_13_a_stream_is_paced_by_what_left() {
    let w = world();
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    w.http.route("/", move |req| {
        let (seen, mut pieces) = (seen.clone(), 0);
        req.reply(200).stream().on_drained(move |stream| {
            stream.write(&[0; 10_000]).unwrap();
            seen.set(seen.get().max(stream.pending()));
            pieces += 1;
            if pieces == 1000 {
                stream.finish();
            }
        });
    });
    assert_eq!(w.ask(GET).body.len(), 10_000_000);
    assert!(most.get() < 100_000, "{}", most.get());
}

#[test]
fn http_14_to_15_an_error_is_a_reply() {
    let w = world();
    w.http.fallback(|req| {
        let status = req.query().unwrap().parse::<u16>().unwrap();
        req.reply(status).body("said").send();
    });
    let client = w.client();
    for (status, line) in [
        (404, "404 Not Found"),
        (499, "499 "),
        (999, "500 Internal Server Error"),
        (101, "500 Internal Server Error"),
    ] {
        let answer = client.ask(&w, &format!("GET /?{status} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {line}\r\n")), "{}", answer.head);
        assert_eq!(answer.text(), "said");
    }
}

#[test]
fn http_18_the_end_is_told_once() {
    let w = echo();
    let (told, tells) = shared::<Vec<String>>();
    w.http.on_exchange(move |it| tells.borrow_mut().push(it.target.to_owned()));
    served(&w, GET);
    w.until(|| told.borrow().len() == 2);
    assert_eq!(*told.borrow(), ["/", "/next"]);
}

#[test]
fn http_19_to_22_methods() {
    let w = world();
    w.http.route_for("GET", "/get", |req| req.reply(200).send());
    w.http.route("/any", |req| req.reply(200).send());
    for (line, status) in [
        ("GET /get", 200),
        ("HEAD /get", 200),
        ("POST /get", 405),
        ("get /get", 501),
        ("BREW /get", 501),
        ("BREW /any", 200),
        ("CONNECT h:443", 501),
    ] {
        let answer = w.ask(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(answer.status, status, "{line}");
    }
    assert_eq!(refused(&w, "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"), 501);
    assert_eq!(refused(&w, "CONNECT /any HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
}

#[test]
fn http_24_to_27_request_lines() {
    let w = echo();
    let head = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
    for line in [
        "GET",
        "GET /",
        "GET HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.10",
    ] {
        assert_eq!(refused(&w, &head(line)), 400, "{line}");
    }
    for line in ["GET / HTTP/0.9", "GET / HTTP/2.0", "PRI * HTTP/2.0"] {
        assert_eq!(refused(&w, &head(line)), 505, "{line}");
    }
    assert_eq!(refused(&w, "GET / HTTP/1.1\nHost: h\n\n"), 400);
    assert_eq!(served(&w, &format!("\r\n{}", head("GET / HTTP/1.9"))), "GET / ");
}

fn refuses_lines(lines: &[&str]) {
    let w = echo();
    for line in lines {
        assert_eq!(refused(&w, &format!("GET / HTTP/1.1\r\nHost: h\r\n{line}\r\n\r\n")), 400, "{line:?}");
        assert_eq!(refused(&w, &format!("GET / HTTP/1.1\r\n{line}\r\nHost: h\r\n\r\n")), 400, "{line:?}");
    }
}

#[test]
fn http_28_to_29_header_lines() {
    refuses_lines(&["no colon", "A: b\rc", "A: b\r\n c", "A: b\r\n\tc", " A: b"]);
}

#[test]
fn http_31_names() {
    refuses_lines(&[": b", "A : b", "A\t: b", "A: b\0c", "A\0: b"]);
}

#[test]
fn http_33_the_head_is_limited() {
    let w = echo();
    w.limit(|limits| limits.max_header_bytes = 60);
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(n));
    assert_eq!(served(&w, &head(28)), "GET / ");
    assert_eq!((head(28).len(), refused(&w, &head(29))), (60, 431));
    assert_eq!(refused(&w, &format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(100))), 431);
}

#[test]
fn http_34_to_38_lengths() {
    let w = echo();
    let put = |lines: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    assert_eq!(served(&w, &format!("{}abc", put("Content-Length: 3\r\n"))), "POST / abc");
    assert_eq!(served(&w, &put("")), "POST / ");
    for lines in [
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Content-Length: x\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: unknown\r\n",
    ] {
        assert_eq!(refused(&w, &put(lines)), 400, "{lines}");
    }
    // The body of HEAD is one.
    assert_eq!(served(&w, "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"), "");
}

#[test]
fn http_39_to_43_chunks() {
    let w = echo();
    let put = |coding: &str, body: &str| {
        format!("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {coding}\r\n\r\n{body}")
    };
    assert_eq!(served(&w, &put("CHUNKED", "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")), "PUT / abc");
    assert_eq!(served(&w, &put("chunked", "2;a=b\r\nab\r\n1 ;c\r\nc\r\n0\r\n\r\n")), "PUT / abc");
    assert_eq!(served(&w, &put("chunked", "0\r\nA: b\r\nHost: other\r\n\r\n")), "PUT / ");
    for body in [
        "x\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n",
        "2\r\nabc\r\n",
        "2\r\nab0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "\r\n",
    ] {
        assert_eq!(refused(&w, &put("chunked", body)), 400, "{body:?}");
    }
    assert_eq!(refused(&w, &put("gzip, chunked", "0\r\n\r\n")), 501);
}

#[test]
fn http_44_to_45_a_body_is_limited() {
    let w = echo();
    w.limit(|limits| limits.max_body_bytes = 10);
    let sized =
        |n: usize| format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n{}", "x".repeat(n));
    let chunked = |n: usize| {
        format!(
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(n)
        )
    };
    assert!(
        served(&w, &sized(10)).ends_with(" xxxxxxxxxx") && served(&w, &chunked(10)).ends_with(" xxxxxxxxxx")
    );
    assert_eq!((w.ask(&sized(11)).status, w.ask(&chunked(11)).status), (413, 413));
    // It is read by a client that has much to send still.
    assert_eq!((w.ask(&sized(1 << 20)).status, w.ask(&chunked(1 << 20)).status), (413, 413));
}

#[test]
fn http_48_a_body_comes_in_pieces() {
    let w = world();
    let (pieces, counts) = shared::<Vec<usize>>();
    w.http.route("/", move |req| {
        let counts = counts.clone();
        req.on_body(move |_, event| match event {
            BodyEvent::Data(data) => counts.borrow_mut().push(data.drain(usize::MAX).unwrap()),
            BodyEvent::End(req) => req.reply(200).send(),
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
    let client = w.client();
    client.send(&w, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    for piece in [&b"ab"[..], b"cde"] {
        let had = pieces.borrow().len();
        client.send(&w, piece);
        w.until(|| pieces.borrow().len() > had);
    }
    assert_eq!((client.answer(&w, false).status, pieces.take()), (200, vec![2, 3]));
}

#[test]
fn http_50_half_an_end_gets_its_reply() {
    let w = echo();
    let client = w.client();
    client.send(&w, GET.as_bytes());
    client.end();
    assert!(client.rest(&w).ends_with(b"GET / "));
}

#[test]
fn http_51_silence_ends_a_connection() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.fallback(|req| req.reply(200).send());
    for (sent, said) in [("", ""), ("GET / HT", "HTTP/1.1 408 "), (GET, "HTTP/1.1 200 ")] {
        let client = w.client();
        client.send(&w, sent.as_bytes());
        w.pass_until(&clock, || client.is_over());
        let words = String::from_utf8(client.got()).unwrap();
        assert!(
            words.starts_with(said) && words.matches("HTTP/1.1").count() == usize::from(!said.is_empty()),
            "{words}"
        );
    }
}

#[test]
fn http_52_a_client_that_fails_is_noticed_while_its_reply_is_owed() {
    let w = world();
    let (held, keeps) = shared::<Vec<Request>>();
    w.http.route("/", move |req| keeps.borrow_mut().push(req));
    let client = w.client();
    client.send(&w, GET.as_bytes());
    w.until(|| held.borrow().len() == 1);
    client.reset();
    w.until(|| !held.borrow()[0].is_connected());
    held.take().into_iter().for_each(|req| req.reply(200).send());
}

#[test]
fn http_53_to_54_a_client_that_leaves_ends_its_stream() {
    let w = world();
    let (streams, keeps) = shared::<Vec<BodyStream>>();
    w.http.route("/", move |req| keeps.borrow_mut().push(req.reply(200).stream()));
    let ends = Rc::new(Cell::new(0));
    let count = ends.clone();
    w.http.on_exchange(move |it| {
        assert!(!it.is_whole);
        count.set(count.get() + 1);
    });
    let client = w.client();
    client.send(&w, GET.as_bytes());
    w.until(|| streams.borrow().len() == 1);
    let stream = streams.borrow()[0].clone();
    client.reset();
    w.until(|| !stream.is_open());
    assert!(stream.write(b"more").is_err());
    stream.finish();
    w.until(|| ends.get() == 1);
}

#[test]
fn http_56_one_too_many_is_503() {
    let w = echo();
    w.limit(|limits| limits.max_connections = 1);
    let first = w.client();
    first.ask(&w, GET);
    assert!(w.client().rest(&w).starts_with(b"HTTP/1.1 503 "));
    drop(first);
    w.until(|| w.http.connections() == 0);
    assert_eq!(w.ask(GET).status, 200);
}

#[test]
fn http_57_a_request_belongs_to_its_handler() {
    let w = world();
    let (held, keeps) = shared::<Vec<Request>>();
    w.http.route("/", move |req| keeps.borrow_mut().push(req));
    let client = w.client();
    client.send(&w, GET.as_bytes());
    w.until(|| held.borrow().len() == 1);
    let req = held.borrow_mut().pop().unwrap();
    assert_eq!((req.method(), req.path()), ("GET", "/"));
    drop(req);
    assert_eq!(client.answer(&w, false).status, 500);
}

#[test]
fn http_60_a_second_handler_replaces_the_first() {
    let w = world();
    w.http.route("/", |req| req.reply(200).body("first").send());
    w.http.route("/", |req| req.reply(200).body("second").send());
    assert_eq!(w.ask(GET).text(), "second");
}

#[test]
fn http_61_to_63_hosts_and_targets() {
    let w = world();
    w.http.fallback(|req| {
        let text = format!("{:?} {}", req.host().unwrap(), req.path());
        req.reply(200).body(text).send();
    });
    let client = w.client();
    for (target, host, said) in [
        ("/a", "h:80", "\"h:80\" /a"),
        ("/a", "[::1]:80", "\"[::1]:80\" /a"),
        ("http://other:1/a?b", "h", "\"other:1\" /a"),
        ("//other/a", "h", "\"h\" //other/a"),
    ] {
        let answer = client.ask(&w, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(answer.text(), said);
    }
}

#[test]
fn http_66_a_line_end_in_a_header_is_not_sent() {
    let w = world();
    w.http.route("/", |req| req.reply(200).header("A", "b\r\nC: d").body("no").send());
    let answer = w.ask(GET);
    assert_eq!((answer.status, answer.header("c"), answer.text()), (500, None, ""));
    let conn = Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap();
    let outcome = conn.request("GET", "/").header("A", "b\nc").send(|_, _| ());
    assert!(matches!(outcome, Err(ClientError::Invalid(_))));
}

#[test]
fn http_70_to_71_queries_and_escapes() {
    assert_eq!(
        query_pairs("a=b=c&d&=e&&a=+%20&").collect::<Vec<_>>(),
        [("a", "b=c"), ("d", ""), ("", "e"), ("a", "+%20")]
    );
    assert_eq!(percent_decode("a%20+%C3%A4").as_deref(), Some("a +ä".as_bytes()));
    assert_eq!((percent_decode("%"), percent_decode("%4"), percent_decode("%zz")), (None, None, None));
}

/// What comes of requests to a server that answers one connection after the other with these bytes and closes it.
fn asked(replies: &'static [&'static str]) -> Vec<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Inet(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for reply in replies {
            let (mut peer, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while find(&request, b"\r\n\r\n").is_none() {
                let mut piece = [0; 1000];
                let n = peer.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..n]);
            }
            assert!(find(&request, b"\r\nHost: ").is_some());
            peer.write_all(reply.as_bytes()).unwrap();
        }
    });
    let base = reactor::EventBase::new().unwrap();
    let conn = Connection::new(&base, &address).unwrap();
    let mut ends = Vec::new();
    for _ in replies {
        let (said, says) = shared::<String>();
        conn.request("GET", "/")
            .send(move |_, event| {
                let mut says = says.borrow_mut();
                match event {
                    ReplyEvent::Head(head) => says.push_str(&format!("{} ", head.status().code())),
                    ReplyEvent::Data(data) => {
                        let bytes = data.pull_up(usize::MAX).unwrap().unwrap().to_vec();
                        data.drain(usize::MAX).unwrap();
                        says.push_str(std::str::from_utf8(&bytes).unwrap());
                    }
                    ReplyEvent::End => says.push_str(" end"),
                    ReplyEvent::Failed(error) => says.push_str(&format!(" {error:?}")),
                }
            })
            .unwrap();
        assert!(matches!(conn.request("GET", "/").send(|_, _| ()), Err(ClientError::Busy)));
        while conn.is_busy() {
            base.run(reactor::LoopFlags::ONCE).unwrap();
        }
        ends.push(said.take());
    }
    conn.close();
    server.join().unwrap();
    ends
}

#[test]
fn http_73_a_client_asks_one_thing_at_a_time() {
    // It asks with Host, and refuses a second request meanwhile.
    assert_eq!(asked(&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"]), ["200 abc end"]);
}

#[test]
fn http_75_to_76_a_reply_ends_where_it_says() {
    assert_eq!(
        asked(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200\r\n\r\nabc",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ]),
        [
            "200 abc end",
            " Closed",
            "200 abc Closed",
            "200 abc Closed",
            "200 abc end",
            "200 abc end",
            "200 abc end"
        ]
    );
}

/// One exchange; what it was told, in order.
fn told(w: &World, conn: &Connection) -> Vec<&'static str> {
    let (said, says) = shared::<Vec<&'static str>>();
    let is_over = Rc::new(Cell::new(false));
    let ends = is_over.clone();
    conn.request("GET", "/")
        .send(move |_, event| {
            says.borrow_mut().push(match event {
                ReplyEvent::Head(_) => "head",
                ReplyEvent::Data(data) => {
                    data.drain(usize::MAX).unwrap();
                    "data"
                }
                ReplyEvent::End => "end",
                ReplyEvent::Failed(_) => "failed",
            });
            ends.set(matches!(event, ReplyEvent::End | ReplyEvent::Failed(_)));
        })
        .unwrap();
    w.until(|| is_over.get());
    said.take()
}

#[test]
fn http_81_head_then_pieces_then_end() {
    let w = world();
    w.http.route("/", |req| req.reply(200).body("x").send());
    let conn = Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap();
    assert_eq!(told(&w, &conn), ["head", "data", "end"]);
}

#[test]
fn http_84_a_connection_that_was_closed_is_made_again() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.limit(|limits| limits.idle_timeout = Duration::from_secs(5));
    w.http.route("/", |req| req.reply(200).body("x").send());
    let conn = Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(told(&w, &conn), ["head", "data", "end"]);
        w.pass_until(&clock, || w.http.connections() == 0);
        (0..10).for_each(|_| w.turn());
    }
}

#[test]
fn http_85_a_reply_that_is_no_http_fails() {
    let failed = asked(&["ICY 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA b\r\n\r\n"]);
    assert!(failed.iter().all(|end| end.starts_with(" Malformed")), "{failed:?}");
}

#[test]
fn http_87_a_request_that_is_given_up_is_forgotten() {
    let w = world();
    w.http.route("/", drop);
    let conn = Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap();
    let alive = Rc::new(());
    let captured = alive.clone();
    conn.request("GET", "/").send(move |_, _| panic!("{captured:?}")).unwrap();
    conn.close();
    assert_eq!(Rc::strong_count(&alive), 1);
    w.base.run(reactor::LoopFlags::NONBLOCK).unwrap();
}

#[test]
fn http_89_an_early_answer_is_heard() {
    let w = world();
    w.http.route("/", |req| req.reply(409).body("no").send());
    let conn = Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap();
    let (said, says) = shared::<Vec<u16>>();
    let is_over = Rc::new(Cell::new(false));
    let ends = is_over.clone();
    conn.request("PUT", "/")
        .body(vec![0; 50_000_000])
        .send(move |_, event| match event {
            ReplyEvent::Head(head) => says.borrow_mut().push(head.status().code()),
            ReplyEvent::Data(data) => _ = data.drain(usize::MAX),
            ReplyEvent::End => ends.set(true),
            ReplyEvent::Failed(error) => panic!("{error}"),
        })
        .unwrap();
    let start = std::time::Instant::now();
    w.until(|| is_over.get() || start.elapsed() > Duration::from_secs(20));
    assert_eq!(*said.borrow(), [409]);
}
