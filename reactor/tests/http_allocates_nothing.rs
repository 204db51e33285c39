//! What a request and an idle connection cost. One test, so that nobody else allocates meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use std::alloc::System;
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use reactor::evbuffer::FileSegment;
use reactor::http::BodyEvent;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use web::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocates nothing itself.
fn exchange(w: &World, client: &Client, request: &[u8], into: &mut [u8]) -> usize {
    assert_eq!((&client.stream).write(request).unwrap(), request.len());
    loop {
        w.turn();
        match (&client.stream).read(into) {
            Ok(0) => panic!("closed"),
            Ok(n) => return n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn a_warm_request_allocates_nothing_and_an_idle_connection_is_small() {
    let w = world();
    w.http.route("/files/*", |req| {
        assert_eq!(req.header("accept"), Some("*/*"));
        req.reply(200).header("Content-Type", "text/plain").body("hello").send();
    });
    w.http.route("/dropped", drop);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"in a file").unwrap();
    let segment = FileSegment::new(file, 0, 9).unwrap();
    w.http.route("/file", move |req| req.reply(200).file(segment.clone()).send());
    let clients = [w.client(), w.client()];
    let mut into = vec![0; 4096];
    let told = Rc::new(Cell::new(0));
    let count = told.clone();
    // What sends a file is a segment of the output.
    let cases = [("/files/a", 0), ("/dropped", 0), ("/file", 4000), ("/files/told", 0)];
    for (path, most) in cases {
        if path == "/files/told" {
            let count = count.clone();
            w.http.on_exchange(move |it| count.set(count.get() + usize::from(it.target == "/files/told")));
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n").into_bytes();
        let mut run = |n: usize| {
            for _ in 0..n {
                clients.iter().for_each(|client| _ = exchange(&w, client, &request, &mut into));
            }
        };
        run(100);
        let region = Region::new(ALLOCATOR);
        run(2000);
        let change = region.change();
        assert!(change.allocations <= most && change.reallocations == 0, "{path}: {change:?}");
    }
    w.until(|| told.get() == 4200);

    let request = b"GET /files/a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n";
    let open = || {
        let client = w.client();
        exchange(&w, &client, request, &mut [0; 4096]);
        client
    };
    let mut more: Vec<_> = Vec::with_capacity(1000);
    more.extend((0..500).map(|_| open()));
    let region = Region::new(ALLOCATOR);
    more.extend((0..500).map(|_| open()));
    let change = region.change();
    let live = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    eprintln!("an idle connection holds {} bytes", live / 500);
    assert!(live / 500 < 3072, "{} bytes", live / 500);

    // Nor does one that was busy: a large body each way, and pipelined requests.
    w.http.route("/sink", |req| {
        req.on_body(|_, event| match event {
            BodyEvent::Data(data) => _ = data.drain(usize::MAX),
            BodyEvent::End(req) => req.reply(200).shared(vec![b'x'; 1_000_000]).send(),
            BodyEvent::Failed(_) => (),
        });
    });
    let busy = || {
        let client = w.client();
        let mut upload = b"PUT /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n".to_vec();
        upload.resize(upload.len() + 1_000_000, b'y');
        client.send(&w, &upload);
        assert_eq!(client.answer(&w, false).body.len(), 1_000_000);
        client.send(&w, &request.repeat(100));
        (0..100).for_each(|_| _ = client.answer(&w, false));
        client.forget()
    };
    let mut more: Vec<_> = Vec::with_capacity(100);
    more.extend((0..50).map(|_| busy()));
    let region = Region::new(ALLOCATOR);
    more.extend((0..50).map(|_| busy()));
    let change = region.change();
    let live = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
    eprintln!("one that was busy holds {} bytes", live / 50);
    assert!(live / 50 < 3072, "{} bytes", live / 50);
}
