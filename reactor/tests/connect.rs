//! Connecting: one outcome for each attempt, whatever becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::time::Duration;

use reactor::{
    Address, BevEvent, BevOptions, Bufferevent, Direction, Error, EventBase, Outcome, SteppedClock,
};
use streams::*;

const SECOND: Duration = Duration::from_secs(1);

fn unconnected(mode: Mode) -> (EventBase, Bufferevent, Log) {
    let base = EventBase::new().unwrap();
    let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
    let log = Log::default();
    log.watch(&bev);
    (base, bev, log)
}

/// The number of the system's error inside a refused connect, which names the address too.
fn refusal(error: Option<Error>, address: &Address) -> Option<i32> {
    let error = error?;
    assert!(error.to_string().contains(&format!("cannot connect to {address}: ")), "{error}");
    match error {
        Error::Connect { source, .. } => source.raw_os_error(),
        other => panic!("{other}"),
    }
}

#[test]
fn bev_03_connected_comes_first_and_once() {
    each_mode(|mode| {
        let (listener, address) = bound(mode.kind, Some(8));
        let (base, bev, log) = unconnected(mode);
        bev.enable(READ).unwrap();
        bev.connect(&address).unwrap();
        assert_eq!(log.len(), 0, "the outcome comes from the loop");
        until(&base, || log.len() > 0);
        settle(&base);
        assert_eq!(log.take(), ["CONNECTED"], "and no write callback, with nothing queued");
        let peer = listener.accept().unwrap().0;
        peer.send(b"welcome").unwrap();
        until(&base, || log.has("read 7"));
        assert_eq!(log.take(), ["read 7"]);
    });
}

#[test]
fn bev_03_what_was_written_before_is_sent_after_it() {
    each_mode(|mode| {
        let (listener, address) = bound(mode.kind, Some(8));
        let (base, bev, log) = unconnected(mode);
        bev.write(b"queued without a socket, ").unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        bev.connect(&address).unwrap();
        bev.write(b"queued while connecting").unwrap();
        until(&base, || log.has("write"));
        assert_eq!(log.take(), ["CONNECTED", "write"]);
        let peer = listener.accept().unwrap().0;
        peer.set_nonblocking(true).unwrap();
        assert_eq!(receive(&base, &peer, 48), b"queued without a socket, queued while connecting");
    });
}

#[test]
fn bev_04_a_refused_connect_is_one_error_without_direction() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (_holder, address) = bound(Kind::Tcp, None);
        let (base, bev, log) = unconnected(Mode { kind: Kind::Tcp, options });
        bev.enable(READ).unwrap();
        bev.write(b"kept").unwrap();
        bev.connect(&address).unwrap();
        assert_eq!(log.len(), 0);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["ERROR"]);
        assert_eq!(refusal(bev.take_error(), &address), Some(libc::ECONNREFUSED));
        assert_eq!((bev.enabled(), bev.output().len()), (READ | WRITE, 4));
        assert!(bev.raw_fd().is_some());
    }
}

#[test]
fn bev_05_connected_comes_with_write_disabled_too() {
    each_mode(|mode| {
        let (_listener, address) = bound(mode.kind, Some(8));
        let (base, bev, log) = unconnected(mode);
        bev.disable(WRITE);
        bev.write(b"held back").unwrap();
        bev.connect(&address).unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["CONNECTED"]);
        assert_eq!((bev.enabled(), bev.output().len()), (Direction::empty(), 9));
    });
}

#[test]
fn bev_06_a_connect_to_no_address_is_refused_at_once() {
    let (base, bev, log) = unconnected(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    assert_eq!(
        refusal(Some(bev.connect(&Address::Unnamed).unwrap_err()), &Address::Unnamed),
        Some(libc::EINVAL)
    );
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!((log.len(), bev.raw_fd()), (0, None));
    let (one, _other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    assert!(matches!(one.connect(&Address::Unnamed), Err(Error::NotASocket)));
    assert!(matches!(one.replace_socket(None), Err(Error::NotASocket)));
    assert!(one.take_socket().is_none());
}

#[test]
fn bev_09_a_connect_that_is_done_inside_the_call_is_told_from_the_loop() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (listener, address) = bound(Kind::Unix, Some(8));
        let (base, bev, log) = unconnected(Mode { kind: Kind::Unix, options });
        bev.connect(&address).unwrap();
        assert!(listener.accept().is_ok(), "connected already");
        assert_eq!(log.len(), 0);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["CONNECTED"]);
    }
}

#[test]
fn bev_10_a_refusal_at_once_turns_both_directions_off_and_comes_from_the_loop() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (_holder, address) = bound(Kind::Unix, None);
        let (base, bev, log) = unconnected(Mode { kind: Kind::Unix, options });
        bev.enable(READ).unwrap();
        bev.connect(&address).unwrap();
        assert_eq!((log.len(), bev.enabled()), (0, Direction::empty()));
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["ERROR"]);
        assert_eq!(refusal(bev.take_error(), &address), Some(libc::ECONNREFUSED));

        let missing = Address::Path("/nonexistent/socket".into());
        assert_eq!(refusal(Some(bev.connect(&missing).unwrap_err()), &missing), Some(libc::ENOENT));
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((log.len(), bev.raw_fd()), (0, None));
    }
}

/// An address where a TCP connect neither succeeds nor fails: its queue is full. Lives as long as the sockets do.
fn silent() -> (Vec<socket2::Socket>, Address) {
    let (listener, address) = bound(Kind::Tcp, Some(0));
    let filler = dial(&address);
    (vec![listener, filler], address)
}

/// How an attempt to connect may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Success,
    Refusal,
    Impossible,
    Timeout,
    FreeAtOnce,
    FreeInOwnCallback,
    FreeByAnother,
    Again,
}

const FATES: [Fate; 8] = [
    Fate::Success,
    Fate::Refusal,
    Fate::Impossible,
    Fate::Timeout,
    Fate::FreeAtOnce,
    Fate::FreeInOwnCallback,
    Fate::FreeByAnother,
    Fate::Again,
];

fn target(kind: Kind, fate: Fate) -> (Vec<socket2::Socket>, Address) {
    let one = |(socket, address)| (vec![socket], address);
    match (fate, kind) {
        (Fate::Refusal, _) => one(bound(kind, None)),
        (Fate::Impossible, Kind::Tcp) => (Vec::new(), "255.255.255.255:9".parse().unwrap()),
        (Fate::Impossible, Kind::Unix) => (Vec::new(), Address::Path("/nonexistent/socket".into())),
        (Fate::Timeout, _) => silent(),
        _ => one(bound(kind, Some(8))),
    }
}

/// Each attempt has one outcome: an error of the call, or one event on the loop; none if it was freed before. That is
/// all that ever comes, and the loop ends by itself afterwards.
#[test]
fn connect_outcome_arrives_exactly_once() {
    each_mode(|mode| {
        for fate in FATES {
            if fate == Fate::Timeout && mode.kind == Kind::Unix {
                continue; // A Unix socket connects inside the call, or not at all.
            }
            let clock = SteppedClock::new();
            let mut builder = EventBase::builder();
            if fate == Fate::Timeout {
                builder = builder.clock(&clock);
            }
            let base = builder.build().unwrap();
            let (_sockets, address) = target(mode.kind, fate);
            let outcomes = Log::default();
            let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
            let log = outcomes.clone();
            bev.on_event(move |bev, what| {
                log.note(names(what));
                if fate == Fate::FreeInOwnCallback {
                    bev.free();
                }
            });
            bev.set_timeouts(None, Some(SECOND * 60));
            if fate == Fate::FreeByAnother {
                let bev = bev.clone();
                base.once(None, move |_| bev.free()).unwrap();
            }
            if bev.connect(&address).is_err() {
                outcomes.note("refused by the call");
            }
            match fate {
                Fate::FreeAtOnce => bev.free(),
                Fate::Again => bev.connect(&address).unwrap(),
                _ => (),
            }
            assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents, "{fate:?}");
            assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents, "{fate:?}");
            let expected: &[&str] = match fate {
                Fate::Success | Fate::FreeInOwnCallback | Fate::Again => &["CONNECTED"],
                Fate::Refusal => &["ERROR"],
                Fate::Impossible => &["refused by the call"],
                Fate::Timeout => &["WRITING|TIMEOUT"],
                Fate::FreeAtOnce | Fate::FreeByAnother => &[],
            };
            assert_eq!(outcomes.take(), expected, "{fate:?}");
            assert_eq!(clock.elapsed(), if fate == Fate::Timeout { SECOND * 60 } else { Duration::ZERO });
        }
    });
}

/// Each attempt has the whole time-out for itself.
#[test]
fn a_second_attempt_gets_its_own_time() {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    let (_sockets, address) = silent();
    let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
    let log = Log::default();
    log.watch(&bev);
    bev.set_timeouts(None, Some(10 * SECOND));
    bev.connect(&address).unwrap();
    let (again, to) = (bev.clone(), address.clone());
    base.once(Some(9 * SECOND), move |_| again.connect(&to).unwrap()).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!((log.take(), clock.elapsed()), (vec!["WRITING|TIMEOUT".to_owned()], 19 * SECOND));
}

/// A client that tries again from its event callback, as one does.
#[test]
fn a_failed_connect_can_be_tried_again_from_its_callback() {
    each_mode(|mode| {
        let (_holder, closed) = bound(mode.kind, None);
        let (listener, open) = bound(mode.kind, Some(8));
        let (base, bev, _) = unconnected(mode);
        let tries = Count::default();
        let (count, to) = (tries.clone(), [closed.clone(), open]);
        bev.on_event(move |bev, what| match count.up() {
            nth @ 1..=3 => {
                assert_eq!(what, BevEvent::ERROR);
                bev.enable(WRITE).unwrap();
                bev.connect(&to[nth / 3]).unwrap();
            }
            _ => assert_eq!(what, BevEvent::CONNECTED),
        });
        bev.connect(&closed).unwrap();
        bev.write(b"at last").unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(tries.get(), 4);
        let peer = listener.accept().unwrap().0;
        peer.set_nonblocking(true).unwrap();
        assert_eq!(receive(&base, &peer, 7), b"at last");
    });
}

#[test]
fn a_freed_connect_closes_its_socket() {
    each_mode(|mode| {
        let (listener, address) = bound(mode.kind, Some(8));
        let (base, bev, log) = unconnected(mode);
        bev.connect(&address).unwrap();
        bev.free();
        assert_eq!(bev.raw_fd(), None);
        until_accepted_and_closed(&base, &listener);
        assert_eq!(log.len(), 0);
    });
}

fn until_accepted_and_closed(base: &EventBase, listener: &socket2::Socket) {
    // TCP may drop a connection that was closed so early from the queue.
    if let Ok((peer, _)) = listener.accept() {
        peer.set_nonblocking(true).unwrap();
        assert!(is_closed(base, &peer));
    }
}

#[test]
fn a_base_may_go_with_connects_in_flight() {
    for kind in KINDS {
        let (_sockets, address) = if kind == Kind::Tcp { silent() } else { target(kind, Fate::Success) };
        let base = EventBase::new().unwrap();
        let dropped = Count::default();
        let bevs: Vec<_> = (0..8)
            .map(|_| {
                let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
                let (own, token) = (bev.clone(), Dropped(dropped.clone()));
                bev.on_event(move |_, _| panic!("{:?} {:?}", own, token.0.get()));
                bev.set_timeouts(Some(SECOND), Some(SECOND));
                bev.connect(&address).unwrap();
                bev
            })
            .collect();
        drop(base);
        assert_eq!(dropped.get(), 8);
        for bev in &bevs {
            assert!(bev.is_freed() && bev.raw_fd().is_none());
            assert!(matches!(bev.connect(&address), Err(Error::Freed { .. })));
        }
    }
}
