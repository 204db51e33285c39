//! How a stream ends in order: one direction shut down, and freed once all is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{BevOptions, Bufferevent, Direction, Error, EventBase, Outcome, SteppedClock, TriggerOptions};
use socket2::{SockRef, Socket};
use streams::*;

const SECOND: Duration = Duration::from_secs(1);
/// More than the buffers of two kernels take.
const LARGE: usize = 20_000_000;

fn is_frozen<T>(outcome: reactor::Result<T>) -> bool {
    matches!(outcome, Err(Error::Frozen { end: "back" }))
}

/// Runs the loop while the other end reads to its end, and returns what it read.
fn receive_all(base: &EventBase, peer: &Socket) -> std::io::Result<Vec<u8>> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        assert!(start.elapsed() < 30 * SECOND, "no end after {} bytes", bytes.len());
        base.run(reactor::LoopFlags::NONBLOCK).unwrap();
        match (&mut &*peer).read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn the_end_follows_the_output_and_reading_goes_on() {
    each_mode(|mode| {
        for n in [0, 5, 3_000_000] {
            let f = fixture(mode);
            f.bev.enable(READ).unwrap();
            f.settle();
            f.log.take();
            f.bev.write(&pattern(n)).unwrap();
            f.bev.shutdown(WRITE).unwrap();
            f.bev.shutdown(WRITE).unwrap();
            assert!(is_frozen(f.bev.write(b"more")));
            assert_eq!(receive_all(&f.base, &f.peer).unwrap(), pattern(n));
            f.bev.shutdown(WRITE).unwrap();
            f.settle();
            assert_eq!(f.log.has("write"), n > 0, "nothing was asked, nothing is told");
            f.send_and_see(b"still heard");
            assert_eq!(f.input(), b"still heard");
            f.peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert!(f.log.has("READING|EOF") && !f.log.has("WRITING|ERROR"));
        }
    });
}

#[test]
fn the_end_waits_for_write_to_be_enabled_and_keeps_the_loop_running_only_then() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.disable(WRITE);
        f.bev.shutdown(WRITE).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert!((&mut &f.peer).read(&mut [0]).is_err(), "not told yet");
        f.bev.enable(WRITE).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert!(receive_all(&f.base, &f.peer).unwrap().is_empty());
        assert_eq!(f.log.take(), ["write"]);
    });
}

/// When the write callback sees an empty output, the peer has been told.
#[test]
fn the_write_callback_comes_after_the_end() {
    each_mode(|mode| {
        let f = fixture(mode);
        let seen = Count::default();
        let count = seen.clone();
        f.bev.on_write(move |bev| {
            assert!(bev.output().is_empty());
            bev.with_socket(|fd| assert!((&*SockRef::from(&fd)).write(b"x").is_err())).unwrap();
            count.up();
        });
        f.bev.write(b"last").unwrap();
        f.bev.shutdown(WRITE).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(seen.get(), 1);
        assert_eq!(receive_all(&f.base, &f.peer).unwrap(), b"last");
    });
}

#[test]
fn the_end_follows_a_connect_and_the_next_socket_begins_open() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (listener, address) = bound(kind, Some(8));
        let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
        let log = Log::default();
        log.watch(&bev);
        assert!(matches!(bev.shutdown(WRITE), Err(Error::Io { .. })), "nothing to shut down");
        for _ in 0..2 {
            bev.connect(&address).unwrap();
            assert!(matches!(bev.shutdown(READ), Err(Error::Io { .. })), "that would end the connect");
            bev.write(b"hello").unwrap();
            bev.shutdown(WRITE).unwrap();
            until(&base, || log.has("CONNECTED"));
            let peer = listener.accept().unwrap().0;
            peer.set_nonblocking(true).unwrap();
            assert_eq!(receive_all(&base, &peer).unwrap(), b"hello");
            assert!(is_frozen(bev.write(b"more")));
            assert_eq!(log.take()[0], "CONNECTED");
        }
        let fd = bev.take_socket().unwrap();
        bev.write(b"a buffer of its own again").unwrap();
        assert_eq!(bev.replace_socket(Some(connected(kind).0.into())).unwrap().map(drop), None);
        bev.write(b"open").unwrap();
        drop(fd);
    }
}

#[test]
fn an_end_that_cannot_be_told_is_reported() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let f = fixture(Mode { kind: Kind::Tcp, options });
        f.bev.with_socket(|fd| SockRef::from(&fd).shutdown(Shutdown::Both)).unwrap().unwrap();
        f.peer.shutdown(Shutdown::Both).unwrap();
        // Both ends have ended: as soon as the kernel knows that, the connection is no more.
        let start = Instant::now();
        while f.bev.peer_address().is_ok() {
            assert!(start.elapsed() < 30 * SECOND);
            std::thread::yield_now();
        }
        f.bev.shutdown(WRITE).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["WRITING|ERROR"]);
        let error = f.bev.take_error().unwrap().to_string();
        assert!(error.contains("cannot shut down the sending side of a socket"), "{error}");
        assert!(!f.bev.enabled().contains(WRITE));
    }
    let base = EventBase::new().unwrap();
    let (one, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    assert!(matches!(one.shutdown(WRITE), Err(Error::NotASocket)));
    other.free();
    assert!(matches!(other.shutdown(WRITE), Err(Error::Freed { .. })));
}

#[test]
fn reading_can_be_shut_down_with_what_has_arrived_still_read() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.send(b"arrived");
        if mode.kind == Kind::Tcp {
            f.bev.enable(READ).unwrap();
            f.until(|| f.log.has("read 7"));
        }
        f.bev.shutdown(READ).unwrap();
        f.bev.enable(READ).unwrap();
        f.until(|| f.log.has("READING|EOF"));
        assert_eq!(f.input(), b"arrived");
        f.bev.write(b"still sent").unwrap();
        assert_eq!(f.receive(10), b"still sent");
        if mode.kind == Kind::Unix {
            assert_eq!((&f.peer).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        }
    });
}

#[test]
fn freed_when_sent_all_is_sent_and_nobody_hears_of_it() {
    each_mode(|mode| {
        for n in [0, 5, LARGE] {
            let f = fixture(mode);
            let (dropped, heard) = (Count::default(), Count::default());
            let (token, own) = (Dropped(dropped.clone()), f.bev.clone());
            f.bev.on_event(move |_, _| assert!(own.is_freed() && token.0.get() == 0));
            let count = heard.clone();
            f.bev.output().on_change(move |_, _| assert!(count.up() > 0));
            f.bev.enable(READ).unwrap();
            f.bev.set_read_marks(0, 3);
            f.send_and_see(b"in");
            f.bev.trigger(READ | WRITE, TriggerOptions::DEFER_CALLBACKS);
            f.bev.write(&pattern(n)).unwrap();
            f.log.take();
            let changes = heard.get();
            f.bev.free_when_sent();
            assert_eq!(dropped.get(), 1, "closures go at once");
            assert!(f.bev.is_freed() && f.bev.input().is_empty());
            assert_eq!((f.bev.output().len(), f.bev.enabled()), (n, Direction::empty()));
            assert!(matches!(f.bev.write(b"x"), Err(Error::Freed { what: "bufferevent" })));
            assert!(is_frozen(f.bev.output().append(b"x")));
            f.bev.free_when_sent();
            f.bev.disable(READ | WRITE);
            f.bev.set_timeouts(Some(Duration::from_nanos(1)), Some(Duration::from_nanos(1)));
            f.log.watch(&f.bev);
            assert_eq!(receive_all(&f.base, &f.peer).unwrap(), pattern(n));
            assert!(f.bev.raw_fd().is_some(), "it waits for the peer's end");
            f.peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.bev.raw_fd(), None);
            assert_eq!((f.log.len(), heard.get()), (0, changes));
        }
    });
}

/// Closed at once, the reply would be lost to the reset that unread bytes cause.
#[test]
fn a_reply_before_the_end_of_the_request_arrives() {
    for kind in KINDS {
        let f = fixture(Mode { kind, options: BevOptions::empty() });
        f.bev.on_read(|bev| {
            bev.write(b"413").unwrap();
            bev.free_when_sent();
        });
        f.bev.enable(READ).unwrap();
        // A client that reads only when all is written.
        let request = pattern(5_000_000);
        let mut written = 0;
        while written < request.len() {
            f.base.run(reactor::LoopFlags::NONBLOCK).unwrap();
            match (&f.peer).write(&request[written..]) {
                Ok(n) => written += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "after {written} bytes"),
            }
        }
        assert_eq!(receive_all(&f.base, &f.peer).unwrap(), b"413");
        drop(f.peer);
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.bev.raw_fd(), None);
    }
}

/// What a peer goes on sending is thrown away up to a bound, then it is closed.
#[test]
fn a_peer_that_never_stops_is_cut_off() {
    for kind in KINDS {
        let f = fixture(Mode { kind, options: BevOptions::empty() });
        f.bev.write(b"bye").unwrap();
        f.bev.free_when_sent();
        let piece = pattern(1 << 16);
        let mut written = 0;
        while f.bev.raw_fd().is_some() {
            f.base.run(reactor::LoopFlags::NONBLOCK).unwrap();
            match (&f.peer).write(&piece) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(_) => break,
            }
            assert!(written < 64 << 20, "{written} bytes taken");
        }
        assert!(written >= 16 << 20);
        f.until(|| f.bev.raw_fd().is_none());
    }
}

/// Beyond the bound nothing is read any more, but the output goes on.
#[test]
fn a_peer_that_sends_too_much_gets_its_answer_still() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    f.bev.write(&pattern(LARGE)).unwrap();
    f.bev.free_when_sent();
    let piece = pattern(1 << 16);
    let mut written = 0;
    let mut refused = 0;
    // It is full when the loop takes nothing more in many turns.
    while refused < 10 {
        f.base.run(reactor::LoopFlags::NONBLOCK).unwrap();
        match (&f.peer).write(&piece) {
            Ok(n) => (written, refused) = (written + n, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refused += 1;
            }
        }
        assert!(written < 64 << 20, "{written} bytes taken");
    }
    assert!(f.bev.raw_fd().is_some() && written >= 16 << 20);
    assert_eq!(f.receive(LARGE), pattern(LARGE));
    f.until(|| f.bev.raw_fd().is_none());
}

fn leaving(options: BevOptions) -> (Fixture, SteppedClock) {
    let (f, clock) = stepped(options);
    f.bev.set_timeouts(Some(SECOND / 2), None);
    (f, clock)
}

#[test]
fn a_peer_that_stays_is_left_after_five_seconds() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (f, clock) = leaving(options);
        f.bev.write(b"bye").unwrap();
        f.bev.free_when_sent();
        // What it sends does not prolong the time.
        let peer = f.peer.try_clone().unwrap();
        let nag = reactor::Event::interval(&f.base, move |nag, _| {
            if (&peer).write(b"still here").is_err() {
                nag.free();
            }
        })
        .unwrap();
        nag.add(Some(SECOND)).unwrap();
        f.until(|| f.bev.raw_fd().is_none());
        assert_eq!(clock.elapsed(), 5 * SECOND);
        assert_eq!(f.log.len(), 0);
        nag.free();
    }
}

/// Bytes in the very turn in which the time is over change nothing.
#[test]
fn bytes_that_come_with_the_time_out_do_not_prolong_it() {
    let (f, clock) = leaving(BevOptions::empty());
    f.bev.write(b"bye").unwrap();
    f.bev.free_when_sent();
    assert_eq!(f.receive(3), b"bye");
    f.settle();
    clock.advance(5 * SECOND);
    f.send(b"still here");
    f.settle();
    assert_eq!((f.bev.raw_fd(), clock.elapsed()), (None, 5 * SECOND));
}

#[test]
fn a_peer_that_takes_nothing_is_left_after_the_write_time_out() {
    for (length, expected) in [(Some(2 * SECOND), 2 * SECOND), (None, 60 * SECOND)] {
        let (f, clock) = leaving(BevOptions::empty());
        f.bev.set_timeouts(None, length);
        f.bev.write(&pattern(LARGE)).unwrap();
        f.bev.free_when_sent();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.bev.raw_fd(), f.bev.output().len()), (None, 0));
        assert_eq!(clock.elapsed(), expected);
        assert_eq!(f.log.len(), 0);
    }
}

#[test]
fn a_connection_that_fails_is_freed_at_once() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.write(&pattern(LARGE)).unwrap();
        f.bev.free_when_sent();
        f.settle();
        assert!(f.bev.raw_fd().is_some());
        drop(f.peer);
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.bev.raw_fd(), f.log.len()), (None, 0));
    });
}

#[test]
fn a_peer_that_has_ended_before_is_answered_and_left() {
    each_mode(|mode| {
        for hears in [false, true] {
            let f = fixture(mode);
            f.peer.shutdown(Shutdown::Write).unwrap();
            if hears {
                f.bev.enable(READ).unwrap();
                f.until(|| f.log.has("READING|EOF"));
            }
            f.bev.write(b"answer").unwrap();
            f.bev.free_when_sent();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.bev.raw_fd(), None);
            assert_eq!(receive_all(&f.base, &f.peer).unwrap(), b"answer");
        }
    });
}

#[test]
fn with_nothing_to_wait_for_it_is_freed_at_once() {
    let base = EventBase::new().unwrap();
    let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
    bev.write(b"to nobody").unwrap();
    bev.free_when_sent();
    assert!(bev.is_freed() && bev.output().is_empty());
    bev.free_when_sent();
    let (closed, address) = bound(Kind::Unix, Some(1));
    drop(closed);
    let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
    bev.connect(&address).unwrap();
    bev.write(b"to nobody").unwrap();
    bev.free_when_sent();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert!(bev.is_freed() && bev.output().is_empty());
}

#[test]
fn a_connect_that_is_under_way_is_waited_for() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (listener, address) = bound(kind, Some(8));
        let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
        bev.connect(&address).unwrap();
        bev.write(b"hello and goodbye").unwrap();
        bev.free_when_sent();
        until(&base, || bev.output().is_empty());
        let peer = listener.accept().unwrap().0;
        peer.set_nonblocking(true).unwrap();
        assert_eq!(receive_all(&base, &peer).unwrap(), b"hello and goodbye");
        drop(peer);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(bev.raw_fd(), None);
    }
}

#[test]
fn it_can_be_freed_before_that_by_hand_and_by_its_base() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.write(&pattern(LARGE)).unwrap();
        f.bev.free_when_sent();
        f.settle();
        f.bev.free();
        assert_eq!((f.bev.raw_fd(), f.bev.output().len()), (None, 0));
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        let f = fixture(mode);
        f.bev.write(&pattern(LARGE)).unwrap();
        f.bev.free_when_sent();
        drop(f.base);
        assert_eq!((f.bev.raw_fd(), f.bev.output().len()), (None, 0));
    });
}

#[test]
fn any_callback_may_free_it_when_sent() {
    each_mode(|mode| {
        type Set = fn(&Bufferevent, Rc<RefCell<Vec<Dropped>>>);
        let places: [Set; 3] = [
            |bev, held| bev.on_read(move |bev| finish(bev, &held)),
            |bev, held| bev.on_write(move |bev| finish(bev, &held)),
            |bev, held| bev.on_event(move |bev, _| finish(bev, &held)),
        ];
        for set in places {
            let f = fixture(mode);
            let dropped = Count::default();
            let held = Rc::new(RefCell::new(vec![Dropped(dropped.clone())]));
            set(&f.bev, held);
            f.bev.enable(READ | WRITE).unwrap();
            f.send(b"in");
            f.peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!((dropped.get(), f.bev.raw_fd()), (1, None));
            assert_eq!(receive_all(&f.base, &f.peer).unwrap(), b"!");
        }
    });
}

fn finish(bev: &Bufferevent, held: &Rc<RefCell<Vec<Dropped>>>) {
    bev.write(b"!").unwrap();
    bev.free_when_sent();
    assert_eq!(held.borrow()[0].0.get(), 0, "the closure that runs is not dropped under its own feet");
}

#[test]
fn one_end_of_a_pair_goes_when_its_partner_took_all() {
    let base = EventBase::new().unwrap();
    let (one, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    let log = Log::default();
    log.watch(&other);
    one.write(b"last words").unwrap();
    one.free_when_sent();
    settle(&base);
    assert_eq!((one.output().len(), log.len()), (10, 0));
    other.enable(READ).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(log.take(), ["read 10", "READING|EOF"]);
    assert!(other.partner().is_none());
    // A partner that goes takes nothing any more.
    let (one, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    one.write(b"to nobody").unwrap();
    one.free_when_sent();
    other.free();
    assert!(one.output().is_empty());
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
}
