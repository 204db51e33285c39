//! A server that runs out of descriptors. One test, since the limit is the process's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use reactor::{Diagnostic, SteppedClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use web::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_when_one_is_free() {
    let clock = SteppedClock::new();
    let w = stepped(&clock);
    w.http.route("/", |req| req.reply(200).body("hello").send());
    let (told, tells) = shared::<Vec<String>>();
    w.base.on_diagnostic(move |_, what| {
        assert!(matches!(what, Diagnostic::Accept { .. }), "{what}");
        tells.borrow_mut().push(what.to_string());
    });
    let clients: Vec<_> = (0..20).map(|_| w.client()).collect();

    // Room for five more.
    let free = std::fs::File::open("/dev/null").unwrap();
    let next = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
    drop(free);
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + 5), maximum }).unwrap();
    for client in &clients {
        client.send(&w, GET.as_bytes());
    }
    w.until(|| !told.borrow().is_empty());
    assert_eq!(w.http.connections(), 5);
    for _ in 0..1000 {
        w.turn();
    }
    assert_eq!(told.borrow().len(), 1, "it spins: {:?}", told.borrow());

    // Each one that ends lets the next in, with no time in between.
    for (n, client) in clients.iter().enumerate() {
        assert_eq!(client.answer(&w, false).text(), "hello", "{n}");
        client.end();
        assert!(client.rest(&w).is_empty());
    }
    w.until(|| w.http.connections() == 0);
    assert_eq!(told.borrow().len(), 1, "{:?}", told.borrow());

    // So does time, when something else gives one back.
    drop(clients);
    let late = w.client();
    let others: Vec<_> =
        std::iter::repeat_with(|| std::fs::File::open("/dev/null")).map_while(Result::ok).collect();
    told.take();
    clock.advance(std::time::Duration::from_secs(1));
    late.send(&w, GET.as_bytes());
    w.until(|| !told.borrow().is_empty());
    drop(others);
    for _ in 0..100 {
        w.turn();
    }
    assert_eq!(w.http.connections(), 0);
    w.pass_until(&clock, || late.has_something());
    assert_eq!(late.answer(&w, false).text(), "hello");
}
