//! What is told when nobody else hears of a failure, and what its callback may do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Address, BevOptions, Bufferevent, EventBase, Outcome};
use streams::*;

const SECOND: Duration = Duration::from_secs(1);

/// Keeps what `base` tells, as text.
fn listen(base: &EventBase) -> Log {
    let log = Log::default();
    let told = log.clone();
    base.on_diagnostic(move |_, diagnostic| told.note(diagnostic.to_string()));
    log
}

/// A bufferevent whose connect will fail.
fn refused(base: &EventBase, mode: Mode) -> (Bufferevent, Address) {
    let bev = Bufferevent::unconnected(base, mode.options).unwrap();
    let address = refuse(&bev, mode);
    (bev, address)
}

fn refuse(bev: &Bufferevent, mode: Mode) -> Address {
    let (socket, address) = bound(mode.kind, None);
    bev.connect(&address).unwrap();
    drop(socket);
    address
}

#[test]
fn a_failure_without_an_event_callback_is_told_and_one_with_it_is_not() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        let log = listen(&base);
        let (bev, address) = refused(&base, mode);
        assert_eq!(log.len(), 0, "never inside the call");
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        let told = log.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("a stream whose peer is not known has no event callback and failed: cannot")
        );
        assert!(told[0].contains(&address.to_string()), "{told:?}");
        assert!(bev.take_error().is_some(), "it can be asked for all the same");
        let heard = Count::default();
        let count = heard.clone();
        let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
        bev.on_event(move |_, _| assert_eq!(count.up(), 1));
        refuse(&bev, mode);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((heard.get(), log.len()), (1, 0));
        base.clear_on_diagnostic();
        refused(&base, mode);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.len(), 0);
    });
}

#[test]
fn a_time_out_is_told_and_an_end_is_not() {
    let (f, _clock) = stepped(BevOptions::empty());
    let log = listen(&f.base);
    f.bev.clear_callbacks();
    f.bev.set_timeouts(Some(SECOND), Some(SECOND));
    f.bev.enable(READ).unwrap();
    f.bev.write(&pattern(10_000_000)).unwrap();
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    let start = "a stream to a peer without a name has no event callback and failed: the";
    assert_eq!(
        log.take(),
        [format!("{start} read time-out passed"), format!("{start} write time-out passed")]
    );
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    let log = listen(&f.base);
    f.bev.clear_callbacks();
    f.bev.enable(READ).unwrap();
    drop(f.peer);
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!((f.bev.enabled(), log.len()), (WRITE, 0));
}

#[test]
fn what_a_freed_stream_could_not_send_is_told() {
    let base = EventBase::new().unwrap();
    let log = listen(&base);
    let (ours, peer) = connected(Kind::Tcp);
    let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
    let to = bev.peer_address().unwrap();
    bev.write(&pattern(20_000_000)).unwrap();
    bev.free_when_sent();
    settle(&base);
    // Closed with unread bytes: a reset.
    drop(peer);
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    let told = log.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!(" bytes were not sent to a stream to {to}: cannot ")), "{told:?}");
    // One that was sent says nothing, whatever becomes of it afterwards.
    let (ours, mut peer) = connected(Kind::Tcp);
    let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
    bev.write(b"bye").unwrap();
    bev.free_when_sent();
    until(&base, || bev.output().is_empty());
    peer.write_all(b"unread").unwrap();
    drop(peer);
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(log.len(), 0);
}

#[test]
fn its_callback_may_do_anything_and_what_fails_in_it_is_told_from_the_loop() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        let log = Log::default();
        let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
        let (told, failing) = (log.clone(), RefCell::new(Some(bev.clone())));
        base.on_diagnostic(move |base, _| {
            told.note("begin");
            if let Some(bev) = failing.take() {
                bev.free();
                assert!(base.dispatch().is_err());
                refused(base, mode);
                refused(base, mode);
            }
            told.note("end");
        });
        refuse(&bev, mode);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["begin", "end", "begin", "end", "begin", "end"]);
        // It replaces itself from the next one on.
        let (first, second) = (log.clone(), log.clone());
        base.on_diagnostic(move |base, _| {
            let second = second.clone();
            base.on_diagnostic(move |_, _| second.note("second"));
            first.note("first");
        });
        for _ in 0..3 {
            refused(&base, mode);
        }
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["first", "second", "second"]);
    });
}

#[test]
fn it_never_runs_inside_itself_nor_inside_a_call() {
    let base = EventBase::new().unwrap();
    let log = Log::default();
    let told = log.clone();
    base.on_diagnostic(move |base, diagnostic| {
        told.note("begin");
        if told.len() == 1 {
            give_up(base);
        }
        told.note(diagnostic.to_string());
    });
    give_up(&base);
    assert_eq!(log.len(), 0);
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    let text = "9 bytes were not sent to a stream whose peer is not known: there is no connection";
    assert_eq!(log.take(), ["begin", text, "begin", text]);
}

/// A failure that is known within the call.
fn give_up(base: &EventBase) {
    let bev = Bufferevent::unconnected(base, BevOptions::empty()).unwrap();
    bev.write(b"to nobody").unwrap();
    bev.free_when_sent();
    assert!(bev.is_freed() && bev.output().is_empty());
}

#[test]
fn a_panic_in_it_loses_it_and_nothing_else() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        base.on_diagnostic(|_, _| panic!("in a diagnostic"));
        let (bev, _) = refused(&base, mode);
        assert!(catch_unwind(AssertUnwindSafe(|| base.dispatch())).is_err());
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert!(bev.take_error().is_some());
        let log = listen(&base);
        refused(&base, mode);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.len(), 1);
    });
}

#[test]
fn it_goes_with_the_base_although_it_holds_it() {
    let base = EventBase::new().unwrap();
    let dropped = Count::default();
    let (token, own) = (Dropped(dropped.clone()), Rc::new(base.handle()));
    let held = own.clone();
    base.on_diagnostic(move |_, _| assert!(held.counts().added > 0 && token.0.get() == 0));
    let (ours, _peer) = connected(Kind::Unix);
    let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
    bev.write(b"unsent").unwrap();
    bev.free_when_sent();
    drop(base);
    assert_eq!(dropped.get(), 1);
    let late = Count::default();
    let token = Dropped(late.clone());
    own.on_diagnostic(move |_, _| assert_eq!(token.0.get(), 0));
    assert_eq!((late.get(), Rc::strong_count(&own)), (1, 1));
}
