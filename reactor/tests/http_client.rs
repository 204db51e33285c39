//! The HTTP client, against the server of this crate and against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use reactor::evbuffer::FileSegment;
use reactor::http::{Body, BodyEvent, BodyStream, ClientError, ClientTimeouts, Connection, ReplyEvent};
use reactor::{EventBase, Outcome, SteppedClock};
use web::*;

/// What came of a request.
#[derive(Clone, Default)]
struct Outcomes(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    status: u16,
    length: Option<u64>,
    body: Vec<u8>,
    /// `end`, or what failed.
    ends: Vec<String>,
}

impl Outcomes {
    fn listener(&self) -> impl for<'a> FnMut(&Connection, ReplyEvent<'a>) + 'static {
        let state = self.0.clone();
        move |_, event| {
            let mut state = state.borrow_mut();
            match event {
                ReplyEvent::Head(head) => {
                    state.status = head.status().code();
                    state.length = head.body_length();
                }
                ReplyEvent::Data(data) => {
                    let bytes = data.pull_up(usize::MAX).unwrap().unwrap().to_vec();
                    data.drain(usize::MAX).unwrap();
                    state.body.extend(bytes);
                }
                ReplyEvent::End => state.ends.push("end".to_owned()),
                ReplyEvent::Failed(error) => state.ends.push(error.to_string()),
            }
        }
    }

    fn is_over(&self) -> bool {
        !self.0.borrow().ends.is_empty()
    }

    /// Waits for the end and gives status and body.
    fn done(&self, w: &World) -> (u16, String) {
        w.until(|| self.is_over());
        let state = self.0.take();
        assert_eq!(state.ends, ["end"]);
        (state.status, String::from_utf8(state.body).unwrap())
    }

    fn failed(&self, w: &World) -> String {
        w.until(|| self.is_over());
        let state = self.0.take();
        assert_eq!(state.ends.len(), 1);
        assert_ne!(state.ends[0], "end");
        state.ends[0].clone()
    }
}

fn client_of(w: &World) -> Connection {
    Connection::new(&w.base, &w.http.local_address().unwrap()).unwrap()
}

/// A server that answers with method, path, host, framing and body.
fn mirror() -> World {
    let w = world();
    w.http.fallback(|req| {
        let head = format!("{} {} {:?} ", req.method(), req.target(), req.body_length());
        req.collect_body(1 << 30, move |req, body| {
            let reply = req.reply(200).header("X-Host", req_host(body.len()));
            let out = reactor::Evbuffer::new();
            out.append(head.as_bytes()).unwrap();
            out.append_buffer(body).unwrap();
            reply.buffer(&out).send();
        });
    });
    w
}

fn req_host(len: usize) -> String {
    len.to_string()
}

#[test]
fn a_connection_is_made_once_and_kept() {
    let w = mirror();
    let conn = client_of(&w);
    for n in 0..5 {
        let out = Outcomes::default();
        conn.request("GET", &format!("/{n}?q")).header("Accept", "*/*").send(out.listener()).unwrap();
        assert!(conn.is_busy());
        assert!(matches!(conn.request("GET", "/").send(|_, _| ()), Err(ClientError::Busy)));
        assert_eq!(out.done(&w), (200, format!("GET /{n}?q Some(0) ")));
        assert!(!conn.is_busy());
    }
    assert_eq!(w.http.connections(), 1);
    let out = Outcomes::default();
    conn.request("POST", "/").body("some").send(out.listener()).unwrap();
    assert_eq!(out.done(&w).1, "POST / Some(4) some");
    conn.request("PUT", "/").send(out.listener()).unwrap();
    assert_eq!(out.done(&w).1, "PUT / Some(0) ");
    conn.request("HEAD", "/").send(out.listener()).unwrap();
    assert_eq!(out.done(&w), (200, String::new()));
    conn.request("PUT", "/").body("x").expect_continue().send(out.listener()).unwrap();
    assert_eq!(out.done(&w).1, "PUT / Some(1) x");
    assert_eq!(w.http.connections(), 1);
    conn.close();
    w.until(|| w.http.connections() == 0);
    conn.request("GET", "/again").send(out.listener()).unwrap();
    assert_eq!(out.done(&w).1, "GET /again Some(0) ");
}

#[test]
fn the_next_request_may_begin_where_the_last_one_ends() {
    let w = mirror();
    let conn = client_of(&w);
    let count = Rc::new(Cell::new(0));
    fn again(conn: &Connection, count: &Rc<Cell<u32>>) {
        let seen = count.clone();
        let ask = conn.request("GET", "/");
        ask.send(move |conn, event| {
            if let ReplyEvent::End = event {
                seen.set(seen.get() + 1);
                if seen.get() < 100 { again(conn, &seen) } else { conn.close() }
            }
        })
        .unwrap();
    }
    again(&conn, &count);
    w.until(|| count.get() == 100);
    assert!(!conn.is_busy());
    assert_eq!(Rc::strong_count(&count), 1, "closures are dropped");
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let w = mirror();
    let conn = client_of(&w);
    for request in [
        conn.request("G T", "/"),
        conn.request("", "/"),
        conn.request("GET", "/a b"),
        conn.request("GET", "/\r\nX: y"),
        conn.request("GET", ""),
        conn.request("GET", "/").header("A\r\n", "b"),
        conn.request("GET", "/").header("A", "b\r\nc: d"),
    ] {
        assert!(matches!(request.send(|_, _| ()), Err(ClientError::Invalid(_))));
    }
    conn.set_host("a b");
    assert!(matches!(conn.request("GET", "/").send(|_, _| ()), Err(ClientError::Invalid("host"))));
    assert_eq!(w.http.connections(), 0);
}

#[test]
fn bodies_stream_both_ways() {
    const SIZE: usize = 10_000_000;
    let w = world();
    // An echo that holds little: what comes is what goes, once it has come.
    w.http.route("/echo", |req| {
        let held = reactor::Evbuffer::new();
        req.on_body(move |_, event| match event {
            BodyEvent::Data(data) => held.append_buffer(data).unwrap(),
            BodyEvent::End(req) => req.reply(200).buffer(&held).send(),
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
    let conn = client_of(&w);
    let expected = pattern(SIZE);
    for sized in [false, true] {
        let out = Outcomes::default();
        let request = conn.request("PUT", "/echo").expect_continue();
        let stream = match sized {
            true => request.stream_sized(SIZE as u64, out.listener()).unwrap(),
            false => request.stream(out.listener()).unwrap(),
        };
        let (mut sent, bytes) = (0, expected.clone());
        stream.on_drained(move |stream: &BodyStream| {
            assert!(stream.pending() < 300_000);
            let n = (bytes.len() - sent).min(77_777);
            stream.write(&bytes[sent..sent + n]).unwrap();
            sent += n;
            if sent == bytes.len() {
                stream.finish();
            }
        });
        w.until(|| out.is_over());
        let state = out.0.take();
        assert_eq!((state.status, state.length, &*state.ends[0]), (200, Some(SIZE as u64), "end"));
        assert!(state.body == expected);
    }
    assert_eq!(w.http.connections(), 1, "the connection was kept");
}

#[test]
fn a_pause_holds_the_server_up() {
    let w = world();
    let most = Rc::new(Cell::new(0));
    let produced = most.clone();
    w.http.route("/", move |req| {
        let produced = produced.clone();
        req.reply(200).stream().on_drained(move |stream| {
            stream.write(&[b'x'; 65_536]).unwrap();
            produced.set(produced.get() + 1);
            if produced.get() == 300 {
                stream.finish();
            }
        });
    });
    let conn = client_of(&w);
    let seen = Rc::new(Cell::new(0));
    let (count, is_paused) = (seen.clone(), Rc::new(Cell::new(false)));
    let (paused, done) = (is_paused.clone(), Rc::new(Cell::new(false)));
    let ended = done.clone();
    conn.request("GET", "/")
        .send(move |conn, event| match event {
            ReplyEvent::Data(data) => {
                count.set(count.get() + data.drain(usize::MAX).unwrap());
                if !paused.replace(true) {
                    conn.pause();
                }
            }
            ReplyEvent::End => ended.set(true),
            ReplyEvent::Head(_) => (),
            ReplyEvent::Failed(error) => panic!("{error}"),
        })
        .unwrap();
    w.until(|| is_paused.get());
    let before = seen.get();
    for _ in 0..500 {
        w.turn();
    }
    assert_eq!(seen.get(), before);
    assert!(most.get() < 300, "the server is held up");
    conn.resume();
    w.until(|| done.get());
    assert_eq!(seen.get(), 300 * 65_536);
}

#[test]
fn an_early_refusal_is_heard_while_the_body_is_sent() {
    let w = world();
    w.http.route("/", |req| req.reply(413).body("too much").send());
    let conn = client_of(&w);
    let out = Outcomes::default();
    conn.request("PUT", "/").body(vec![0; 8_000_000]).send(out.listener()).unwrap();
    assert_eq!(out.done(&w), (413, "too much".to_owned()));
    conn.request("PUT", "/").body("not sent").expect_continue().send(out.listener()).unwrap();
    assert_eq!(out.done(&w), (413, "too much".to_owned()));
}

/// What is not sent yet when a refusal comes is not sent any more.
#[test]
fn a_refusal_ends_the_upload() {
    let w = world();
    w.http.route("/", |req| req.reply(413).body("too much").send());
    let (received, counts) = shared::<Vec<u64>>();
    w.http.on_exchange(move |it| counts.borrow_mut().push(it.received));
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 32).unwrap();
    let file = FileSegment::new(file, 0, 1 << 32).unwrap();
    for expects in [false, true] {
        let conn = client_of(&w);
        let out = Outcomes::default();
        let request = conn.request("PUT", "/").file_range(&file, 0..1 << 32);
        let request = if expects { request.expect_continue() } else { request };
        request.send(out.listener()).unwrap();
        assert_eq!(conn.unsent() >> 32, 1);
        assert_eq!(out.done(&w), (413, "too much".to_owned()));
        assert_eq!(conn.unsent(), 0);

        let (asked, asks) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (count, is_alive) = (asked.clone(), asks.clone());
        let request = conn.request("PUT", "/");
        let request = if expects { request.expect_continue() } else { request };
        let stream = request.stream_sized(1 << 32, out.listener()).unwrap();
        let _own = stream.clone();
        is_alive.set(true);
        stream.on_drained(move |stream| {
            let _ = &is_alive;
            count.set(count.get() + 1);
            let _ = stream.write(&[0; 100_000]);
        });
        assert_eq!(out.done(&w), (413, "too much".to_owned()));
        assert!(!stream.is_open() && asked.get() < 200, "{} pieces", asked.get());
        assert_eq!(Rc::strong_count(&asks), 1, "what makes the body is dropped");
    }
    assert!(received.take().iter().all(|&n| n < 1 << 28));
}

/// The server's time begins when it has the request, however long that took.
#[test]
fn a_long_upload_leaves_the_server_its_time() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    let (held, kept) = shared::<Vec<reactor::http::Request>>();
    let (paused, bodies) = shared::<Vec<Body>>();
    w.http.route("/", move |req| {
        let (held, paused) = (held.clone(), paused.clone());
        let mut is_first = true;
        req.on_body(move |body, event| match event {
            BodyEvent::Data(data) => {
                data.drain(usize::MAX).unwrap();
                if std::mem::take(&mut is_first) {
                    body.pause();
                    paused.borrow_mut().push(body.clone());
                }
            }
            BodyEvent::End(req) => held.borrow_mut().push(req),
            BodyEvent::Failed(error) => panic!("{error}"),
        });
    });
    let conn = client_of(&w);
    let seconds = Duration::from_secs;
    conn.set_timeouts(ClientTimeouts { reply: seconds(10), write: seconds(60), ..ClientTimeouts::default() });
    let out = Outcomes::default();
    conn.request("PUT", "/").body(vec![0; 50_000_000]).send(out.listener()).unwrap();
    w.until(|| !bodies.borrow().is_empty());
    for _ in 0..19 {
        clock.advance(seconds(1));
        w.turn();
    }
    assert!(!out.is_over(), "it is the client's turn");
    bodies.take().iter().for_each(Body::resume);
    w.until(|| !kept.borrow().is_empty());
    let time = w.pass_until(&clock, || out.is_over());
    assert!(time >= seconds(10) && time < seconds(11), "{time:?}");
    assert!(out.failed(&w).contains("too long"));
    // The handler owns where the request is, and the request where the handler is.
    drop(kept.take());
}

/// A server that takes no more, and says nothing either.
#[test]
fn a_server_that_shuts_its_ears_is_not_waited_for_long() {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = Connection::new(&base, &reactor::Address::Inet(listener.local_addr().unwrap())).unwrap();
    let out = Outcomes::default();
    conn.request("PUT", "/").body(vec![0; 50_000_000]).send(out.listener()).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert!(out.is_over() && clock.elapsed() < Duration::from_secs(130), "{:?}", clock.elapsed());
}

/// What is done leaves no timer behind that would keep the loop running.
#[test]
fn an_answered_expectation_leaves_nothing_behind() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.route("/", |req| req.collect_body(100, |req, _| req.reply(200).send()));
    let conn = client_of(&w);
    let http = w.http.clone();
    let is_done = Rc::new(Cell::new(false));
    let done = is_done.clone();
    conn.request("PUT", "/")
        .body("body")
        .expect_continue()
        .send(move |conn, event| {
            if matches!(event, ReplyEvent::End) {
                done.set(true);
                conn.close();
                http.free();
            }
        })
        .unwrap();
    assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents);
    assert!(is_done.get());
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn a_stream_that_is_dropped_fails_the_request() {
    let w = mirror();
    let conn = client_of(&w);
    let out = Outcomes::default();
    let stream = conn.request("PUT", "/").stream(out.listener()).unwrap();
    stream.write(b"half").unwrap();
    drop(stream);
    assert!(!out.is_over(), "told from the loop");
    assert!(out.failed(&w).contains("closed"));
    assert!(!conn.is_busy());
}

#[test]
fn nobody_listens() {
    let w = mirror();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let conn = Connection::new(&w.base, &reactor::Address::Inet(gone)).unwrap();
    let out = Outcomes::default();
    conn.request("GET", "/").send(out.listener()).unwrap();
    assert!(out.failed(&w).contains("cannot connect"));
}

/// A server that takes one request and answers with these bytes, then closes.
fn answering(bytes: &'static [u8]) -> (EventBase, Connection, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reactor::Address::Inet(listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while find(&request, b"\r\n\r\n").is_none() {
            let mut piece = [0; 1000];
            let n = peer.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..n]);
        }
        peer.write_all(bytes).unwrap();
    });
    let base = EventBase::new().unwrap();
    let conn = Connection::new(&base, &address).unwrap();
    (base, conn, server)
}

#[test]
fn replies_of_all_kinds() {
    for (bytes, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], Ok((200, "ok"))),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Ok((200, "until the end"))),
        (b"HTTP/1.0 404 No\r\n\r\n", Ok((404, ""))),
        (
            b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
            Ok((204, "")),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\nT: t\r\n\r\n",
            Ok((200, "ab")),
        ),
        (b"", Err("closed")),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Err("closed")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", Err("closed")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", Err("closed")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err("malformed")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", Err("malformed")),
        (b"HTTP/1.1 101 Switch\r\n\r\n", Err("malformed")),
        (b"SSH-2.0\r\n\r\n", Err("malformed")),
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\na", Err("malformed")),
    ] {
        let (base, conn, server) = answering(bytes);
        let out = Outcomes::default();
        conn.request("GET", "/").send(out.listener()).unwrap();
        // The connection ends with the server's, and the loop with the connection.
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        server.join().unwrap();
        let state = out.0.take();
        match expected {
            Ok((status, body)) => {
                assert_eq!(
                    (state.status, &*state.body, &*state.ends),
                    (status, body.as_bytes(), &["end".to_owned()][..])
                );
            }
            Err(what) => {
                assert_eq!(state.ends.len(), 1, "{}", bytes.escape_ascii());
                assert!(state.ends[0].contains(what), "{}: {}", bytes.escape_ascii(), state.ends[0]);
            }
        }
    }
}

/// Bytes that no request asked for would be taken for the reply to the next one.
#[test]
fn bytes_that_nobody_asked_for_end_the_connection() {
    let (base, conn, server) =
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    let out = Outcomes::default();
    conn.request("GET", "/").send(out.listener()).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    server.join().unwrap();
    assert_eq!(out.0.take().ends, ["end"]);
}

#[test]
fn a_server_that_takes_too_long() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    let (held, kept) = shared::<Vec<reactor::http::Request>>();
    w.http.route("/never", move |req| held.borrow_mut().push(req));
    w.http.route("/", |req| req.reply(200).send());
    let conn = client_of(&w);
    conn.set_timeouts(ClientTimeouts { reply: Duration::from_secs(5), ..ClientTimeouts::default() });
    let out = Outcomes::default();
    conn.request("GET", "/never").send(out.listener()).unwrap();
    w.until(|| !kept.borrow().is_empty());
    let time = w.pass_until(&clock, || out.is_over());
    assert!(time >= Duration::from_secs(5) && time < Duration::from_secs(6), "{time:?}");
    assert!(out.failed(&w).contains("too long"));
    kept.take();
    conn.request("GET", "/").send(out.listener()).unwrap();
    assert_eq!(out.done(&w).0, 200);
    // Kept for a while, then closed.
    let time = w.pass_until(&clock, || w.http.connections() == 0);
    assert!(time >= Duration::from_secs(30) && time < Duration::from_secs(32), "{time:?}");
}

/// A server that knows no `100 Continue` gets the body after a while.
#[test]
fn a_body_does_not_wait_for_ever() {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = Connection::new(&base, &reactor::Address::Inet(listener.local_addr().unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\nbody") {
            let mut piece = [0; 1000];
            let n = peer.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..n]);
        }
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    });
    let out = Outcomes::default();
    conn.set_timeouts(ClientTimeouts {
        connect: Duration::ZERO,
        reply: Duration::ZERO,
        write: Duration::ZERO,
        idle: Duration::ZERO,
    });
    conn.request("PUT", "/").body("body").expect_continue().send(out.listener()).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    server.join().unwrap();
    assert_eq!(out.0.take().ends, ["end"]);
    assert_eq!(clock.elapsed(), Duration::from_secs(1));
}

#[test]
fn nothing_is_left_when_the_base_goes() {
    let w = world();
    let (held, kept) = shared::<Vec<reactor::http::Request>>();
    w.http.route("/never", move |req| held.borrow_mut().push(req));
    let alive = Rc::new(());
    let conn = client_of(&w);
    let captured = (alive.clone(), conn.clone());
    let stream = conn.request("PUT", "/never").stream(move |_, _| _ = &captured).unwrap();
    let captured = (alive.clone(), stream.clone());
    stream.on_drained(move |_| _ = &captured);
    w.until(|| !kept.borrow().is_empty());
    drop(w);
    kept.take();
    assert!(stream.write(b"x").is_err());
    conn.close();
    drop((conn, stream));
    assert_eq!(Rc::strong_count(&alive), 1);
}
