//! What user code may do while it is called: anything but run the base. Bufferevents; listeners have theirs beside
//! their other tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use reactor::evbuffer::Change;
use reactor::{
    BevEvent, BevOptions, Bufferevent, Direction, Error, Evbuffer, EventBase, FlushMode, LoopFlags, Outcome,
    TriggerOptions,
};
use socket2::Socket;
use streams::*;

/// The places from which user code is called for a bufferevent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Read,
    Write,
    Event,
    InputWatcher,
    OutputWatcher,
}

const PLACES: [Place; 5] =
    [Place::Read, Place::Write, Place::Event, Place::InputWatcher, Place::OutputWatcher];

impl Place {
    /// Sets `act` to run there, the first time only.
    fn set(self, bev: &Bufferevent, act: impl FnOnce(&Bufferevent) + 'static) {
        let mut act = Some(act);
        let mut once = move |bev: &Bufferevent| {
            if let Some(act) = act.take() {
                act(bev);
            }
        };
        let own = bev.clone();
        match self {
            Place::Read => bev.on_read(once),
            Place::Write => bev.on_write(once),
            Place::Event => bev.on_event(move |bev, _| once(bev)),
            Place::InputWatcher => drop(bev.input().on_change(move |_, _| once(&own))),
            Place::OutputWatcher => drop(bev.output().on_change(move |_, change| {
                if change.deleted > 0 {
                    once(&own);
                }
            })),
        }
    }
}

/// Has each place of `f` called, once the loop runs.
fn provoke(f: &Fixture) {
    f.bev.enable(READ).unwrap();
    f.bev.write(b"out").unwrap();
    let _ = (&f.peer).write(b"in");
    let _ = f.peer.shutdown(Shutdown::Write);
}

/// All that a freed handle answers.
fn assert_quiet(bev: &Bufferevent) {
    assert!(bev.is_freed());
    let freed =
        |outcome: reactor::Result<()>| assert!(matches!(outcome, Err(Error::Freed { what: "bufferevent" })));
    assert_eq!((bev.input().len(), bev.output().len()), (0, 0));
    assert_eq!((bev.enabled(), bev.raw_fd()), (Direction::empty(), None));
    freed(bev.enable(READ | WRITE));
    freed(bev.write(b"x"));
    freed(bev.write_buffer(&Evbuffer::new()));
    freed(bev.read_buffer(&Evbuffer::new()));
    freed(bev.set_priority(0));
    freed(bev.connect(&reactor::Address::Unnamed));
    freed(bev.flush(READ, FlushMode::Flush).map(drop));
    freed(bev.replace_socket(None).map(drop));
    assert!(bev.take_socket().is_none() && bev.partner().is_none());
    assert_eq!(bev.read(&mut [0; 4]), 0);
    let (log, dropped) = (Log::default(), Count::default());
    log.watch(bev);
    let token = Dropped(dropped.clone());
    bev.on_read(move |_| assert_eq!(token.0.get(), 0));
    assert_eq!(dropped.get(), 1, "a closure that is set too late is dropped");
    bev.trigger(READ | WRITE, TriggerOptions::IGNORE_WATERMARKS);
    bev.trigger_event(BevEvent::EOF, TriggerOptions::DEFER_CALLBACKS);
    bev.set_timeouts(Some(std::time::Duration::from_secs(1)), None);
    bev.set_read_marks(0, 1);
    bev.disable(WRITE);
    bev.free();
    assert_eq!(bev.base().dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(log.len(), 0);
}

#[test]
fn bev_48_and_50_freed_in_its_own_callback_it_goes_when_that_returns() {
    each_mode(|mode| {
        for place in PLACES {
            let f = fixture(mode);
            f.log.take();
            let dropped = Count::default();
            let (token, own, peer) = (Dropped(dropped.clone()), f.bev.clone(), f.peer.try_clone().unwrap());
            let log = f.log.clone();
            place.set(&f.bev, move |bev| {
                log.take();
                bev.free();
                assert!(own.is_freed() && bev.input().is_empty() && bev.output().is_empty());
                assert!(matches!(bev.write(b"x"), Err(Error::Freed { .. })));
                assert_eq!(token.0.get(), 0, "the closure that runs is not dropped under its own feet");
                drop(peer);
            });
            provoke(&f);
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.log.len(), 0, "{place:?}: nothing runs afterwards");
            assert_eq!(dropped.get(), 1, "{place:?}: a closure that owns its own handle leaks nothing");
            assert!(is_closed(&f.base, &f.peer));
            assert_quiet(&f.bev);
        }
    });
}

/// The socket is closed when the outermost callback has returned, not before.
#[test]
fn the_socket_stays_open_until_the_callback_that_frees_returns() {
    each_mode(|mode| {
        let f = fixture(mode);
        let peer = f.peer.try_clone().unwrap();
        f.bev.on_read(move |bev| {
            let again = bev.clone();
            bev.on_event(move |bev, _| {
                bev.free();
                assert!(again.raw_fd().is_some());
            });
            bev.trigger_event(BevEvent::EOF, TriggerOptions::empty());
            // With deferral the event is still to come, and the free with it.
            assert!(bev.raw_fd().is_some());
            let mut byte = [std::mem::MaybeUninit::uninit()];
            assert!(peer.recv(&mut byte).is_err(), "not closed yet");
        });
        f.bev.enable(READ).unwrap();
        f.send(b"x");
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert!(f.bev.is_freed() && f.bev.raw_fd().is_none());
        assert!(is_closed(&f.base, &f.peer));
    });
}

#[test]
fn bev_48_one_that_is_ready_already_can_be_freed_by_another() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        let bevs: Rc<RefCell<Vec<Bufferevent>>> = Rc::default();
        let calls = Count::default();
        let peers: Vec<Socket> = (0..3)
            .map(|_| {
                let (ours, peer) = connected(mode.kind);
                (&peer).write_all(b"x").unwrap();
                peer.shutdown(Shutdown::Write).unwrap();
                let bev = Bufferevent::socket(&base, ours, mode.options).unwrap();
                let (others, calls) = (bevs.clone(), calls.clone());
                bev.on_read(move |me| {
                    calls.up();
                    let others: Vec<_> =
                        others.borrow().iter().filter(|other| *other != me).cloned().collect();
                    others.iter().for_each(Bufferevent::free);
                });
                bev.on_event(|me, _| me.free());
                bev.enable(READ).unwrap();
                bevs.borrow_mut().push(bev);
                peer
            })
            .collect();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(calls.get(), 1);
        for (bev, peer) in bevs.borrow().iter().zip(&peers) {
            assert!(is_closed(&base, peer));
            assert_quiet(bev);
        }
        bevs.take();
    });
}

#[test]
fn bev_48_free_drops_deferred_work_timers_and_output() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_timeouts(
            Some(std::time::Duration::from_secs(3600)),
            Some(std::time::Duration::from_secs(3600)),
        );
        f.bev.enable(READ | WRITE).unwrap();
        f.bev.trigger(READ | WRITE, TriggerOptions::IGNORE_WATERMARKS | TriggerOptions::DEFER_CALLBACKS);
        f.bev.trigger_event(BevEvent::EOF, TriggerOptions::DEFER_CALLBACKS);
        f.bev.disable(WRITE);
        f.bev.write(b"unsent").unwrap();
        f.bev.free();
        assert_eq!(f.base.counts().added, 0);
        assert_quiet(&f.bev);
        assert_eq!(f.log.len(), 0);
        assert!(is_closed(&f.base, &f.peer));
    });
}

#[test]
fn bev_47_replaced_in_a_callback_only_the_new_ones_run_also_for_what_was_deferred() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let f = fixture(Mode { kind: Kind::Unix, options });
        let (log, dropped) = (f.log.clone(), Count::default());
        let token = Dropped(dropped.clone());
        f.bev.on_read(move |bev| {
            let (new, newer) = (log.clone(), log.clone());
            bev.on_read(move |_| new.note("new read"));
            bev.on_write(move |_| newer.note("new write"));
            assert_eq!(token.0.get(), 0);
            log.note("old read");
        });
        let all = TriggerOptions::IGNORE_WATERMARKS | TriggerOptions::DEFER_CALLBACKS;
        f.bev.trigger(READ | WRITE, all);
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.log.take(), dropped.get()), (vec!["old read".into(), "new write".into()], 1));
        f.bev.trigger(READ, all);
        f.bev.trigger_event(BevEvent::EOF, all);
        f.bev.clear_callbacks();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.len(), 0);
    }
}

#[test]
fn triggered_from_within_itself_it_runs_once_more_from_the_loop_with_merged_flags() {
    each_mode(|mode| {
        let f = fixture(mode);
        let (log, times) = (f.log.clone(), Count::default());
        let again = times.clone();
        f.bev.on_event(move |bev, what| {
            log.note(format!("enter {}", names(what)));
            if again.up() == 1 {
                bev.trigger_event(BevEvent::EOF, TriggerOptions::empty());
                bev.trigger_event(BevEvent::READING, TriggerOptions::empty());
            }
            log.note("leave");
        });
        f.bev.trigger_event(BevEvent::ERROR, TriggerOptions::empty());
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["enter ERROR", "leave", "enter READING|EOF", "leave"]);
        let (log, again) = (f.log.clone(), Count::default());
        f.bev.on_read(move |bev| {
            log.note("enter");
            if again.up() == 1 {
                bev.trigger(READ, TriggerOptions::empty());
                bev.trigger(READ, TriggerOptions::empty());
            }
            log.note("leave");
        });
        f.bev.trigger(READ, TriggerOptions::empty());
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["enter", "leave", "enter", "leave"]);
    });
}

#[test]
fn a_nested_run_is_refused() {
    each_mode(|mode| {
        let f = fixture(mode);
        let refused = Count::default();
        let count = refused.clone();
        f.bev.on_read(move |bev| {
            assert!(matches!(bev.base().dispatch(), Err(Error::AlreadyRunning)));
            count.up();
        });
        provoke(&f);
        f.until(|| refused.get() == 1);
    });
}

/// A panic costs its closure. What else was to happen, on this bufferevent and others, still does.
#[test]
fn a_panic_in_any_callback_leaves_all_else_as_it_was() {
    each_mode(|mode| {
        for place in PLACES {
            for frees in [false, true] {
                let f = fixture(mode);
                let (ours, peer) = connected(mode.kind);
                let bystander = Bufferevent::socket(&f.base, ours, mode.options).unwrap();
                let heard = Count::default();
                let count = heard.clone();
                bystander.on_read(move |_| assert!(count.up() > 0));
                bystander.enable(READ).unwrap();
                place.set(&f.bev, move |bev| {
                    if frees {
                        bev.free();
                    }
                    panic!("in a callback");
                });
                provoke(&f);
                (&peer).write_all(b"x").unwrap();
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    loop {
                        f.base.run(LoopFlags::ONCE).unwrap();
                    }
                }));
                assert!(panicked.is_err());
                // The closure is gone; a new one hears of the rest.
                f.bev.trigger_event(BevEvent::empty(), TriggerOptions::empty());
                let log = Log::default();
                log.watch(&f.bev);
                if !frees && place == Place::Read {
                    assert!(!f.bev.enabled().contains(READ), "nobody was left to empty the input");
                    f.bev.enable(READ).unwrap();
                }
                until(&f.base, || heard.get() == 1);
                if frees {
                    assert!(is_closed(&f.base, &f.peer));
                    assert_eq!(f.log.len() + log.len(), f.log.len());
                } else {
                    assert_eq!(f.receive(3), b"out", "{place:?}");
                    f.until(|| f.bev.input().len() == 2 && !f.bev.enabled().contains(READ));
                    let told = f.log.count("READING|EOF") + log.count("READING|EOF");
                    assert_eq!(told, usize::from(place != Place::Event), "{place:?}");
                }
                bystander.free();
                f.bev.free();
                assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents, "{place:?}");
            }
        }
    });
}

/// The edge that brought the socket's news came with the turn in which a deferred callback panics.
#[test]
fn a_panic_in_a_deferred_callback_loses_neither_an_edge_nor_the_other_callbacks() {
    for kind in KINDS {
        let f = fixture(Mode { kind, options: BevOptions::DEFER_CALLBACKS });
        f.bev.enable(READ).unwrap();
        f.settle();
        f.bev.on_read(|_| panic!("in a callback"));
        f.bev.trigger(READ | WRITE, TriggerOptions::empty());
        f.send(b"news");
        assert!(catch_unwind(AssertUnwindSafe(|| f.base.dispatch())).is_err());
        f.until(|| f.log.has("write"));
        f.log.watch(&f.bev);
        f.bev.enable(READ).unwrap();
        f.until(|| f.bev.input().len() == 4);
    }
}

#[test]
fn a_panic_with_more_to_read_stops_reading_until_there_is_a_callback_again() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.send(&pattern(50_000));
        f.bev.on_read(|_| panic!("in a callback"));
        f.bev.enable(READ).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| f.base.dispatch())).is_err());
        let read = f.bev.input().len();
        assert!(read > 0 && read <= 16_384 && !f.bev.enabled().contains(READ));
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents, "nothing is waited for");
        assert_eq!(f.bev.input().len(), read);
        f.log.watch(&f.bev);
        f.bev.enable(READ).unwrap();
        f.until(|| f.bev.input().len() == 50_000);
        assert_eq!(f.input(), pattern(50_000));
        // One that sets its successor before it panics leaves reading on.
        let log = f.log.clone();
        f.bev.on_read(move |bev| {
            log.watch(bev);
            panic!("in a callback");
        });
        f.send(b"x");
        assert!(catch_unwind(AssertUnwindSafe(|| f.base.dispatch())).is_err());
        assert!(f.bev.enabled().contains(READ));
        f.send_and_see(b"y");
        assert_eq!(f.input(), b"xy");
    });
}

#[test]
fn a_panic_of_a_watcher_stalls_neither_a_stream_nor_its_callbacks() {
    each_mode(|mode| {
        let f = fixture(mode);
        let panics = |_: &Evbuffer, _: &Change| panic!("a watcher");
        f.bev.output().on_change(panics);
        assert!(catch_unwind(AssertUnwindSafe(|| f.bev.write(b"one"))).is_err());
        assert_eq!(f.receive(3), b"one");
        f.until(|| f.log.has("write"));

        // The same with the bytes of a buffer whose own watcher panics, and with what the loop itself moves.
        let source = Evbuffer::new();
        source.append(b"two").unwrap();
        source.on_change(panics);
        assert!(catch_unwind(AssertUnwindSafe(|| f.bev.write_buffer(&source))).is_err());
        assert_eq!(f.receive(3), b"two");
        f.until(|| f.log.count("write") == 2);
        f.bev.write(b"three").unwrap();
        f.bev.output().on_change(panics);
        f.bev.input().on_change(panics);
        f.bev.enable(READ).unwrap();
        f.send(b"four");
        let mut panics = 0;
        while panics < 2 {
            let outcome = catch_unwind(AssertUnwindSafe(|| f.base.run(LoopFlags::ONCE)));
            panics += usize::from(outcome.is_err());
        }
        assert_eq!(f.receive(5), b"three");
        f.until(|| f.log.count("write") >= 3 && f.log.has("read 4"));
    });
}

#[test]
fn a_panic_of_a_watcher_stalls_no_pair() {
    let base = EventBase::new().unwrap();
    let (one, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    let (log, panics) = (Log::default(), |_: &Evbuffer, _: &Change| panic!("a watcher"));
    log.watch(&other);
    other.enable(READ).unwrap();
    one.output().on_change(panics);
    other.input().on_change(panics);
    assert!(catch_unwind(AssertUnwindSafe(|| one.write(b"one"))).is_err());
    // Moved by the loop, where the other watcher panics.
    assert!(catch_unwind(AssertUnwindSafe(|| base.dispatch())).is_err());
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!((log.take(), take_input(&other)), (vec!["read 3".to_owned()], b"one".to_vec()));
}

/// `Drop` of what a closure captured is user code too.
#[test]
fn captures_may_use_the_bufferevent_while_they_are_dropped() {
    struct Busy(Bufferevent, Bufferevent, Count);
    impl Drop for Busy {
        fn drop(&mut self) {
            for bev in [&self.0, &self.1] {
                bev.on_read(|_| ());
                let _ = bev.write(b"late");
                let _ = bev.enable(READ | WRITE);
                bev.trigger(
                    READ | WRITE,
                    TriggerOptions::IGNORE_WATERMARKS | TriggerOptions::DEFER_CALLBACKS,
                );
                bev.set_read_marks(0, 10);
                let _ = bev.take_socket();
                let _ = bev.input().drain(usize::MAX);
                bev.free();
            }
            let base = self.0.base();
            let _ = Bufferevent::pair(base, BevOptions::empty());
            self.2.up();
        }
    }
    impl AsRef<[u8]> for Busy {
        fn as_ref(&self) -> &[u8] {
            b"shared memory"
        }
    }
    each_mode(|mode| {
        for end in ["free", "base", "replace", "clear", "sent"] {
            let f = fixture(mode);
            let (ours, _peer) = connected(mode.kind);
            let other = Bufferevent::socket(&f.base, ours, mode.options).unwrap();
            let dropped = Count::default();
            let busy = || Busy(f.bev.clone(), other.clone(), dropped.clone());
            let (a, b, c, d) = (busy(), busy(), busy(), busy());
            f.bev.on_read(move |_| assert_eq!(a.2.get(), 0));
            f.bev.on_event(move |_, _| assert_eq!(b.2.get(), 0));
            f.bev.input().on_change(move |_, _| assert_eq!(c.2.get(), 0));
            f.bev.output().append_shared(d).unwrap();
            let Fixture { base, bev, .. } = f;
            match end {
                "free" => bev.free(),
                "base" => drop(base),
                "replace" => bev.on_read(|_| ()),
                "clear" => bev.clear_callbacks(),
                _ => until(&base, || dropped.get() == 4),
            }
            assert_eq!(dropped.get(), 4, "{end}");
            assert!(bev.is_freed() && other.is_freed());
        }
    });
}

#[test]
fn the_base_may_go_before_its_handles_or_in_their_captures() {
    each_mode(|mode| {
        let Fixture { base, bev, peer, log } = fixture(mode);
        let dropped = Count::default();
        let (token, own) = (Dropped(dropped.clone()), bev.clone());
        bev.on_write(move |_| assert!(token.0.get() == 0 && !own.is_freed()));
        bev.enable(READ | WRITE).unwrap();
        bev.write(b"unsent").unwrap();
        drop(base);
        assert_eq!((dropped.get(), log.len()), (1, 0));
        assert!(bev.is_freed() && bev.raw_fd().is_none());
        assert!(matches!(bev.write(b"x"), Err(Error::Freed { .. })));
        assert!(matches!(Bufferevent::unconnected(bev.base(), mode.options), Err(Error::Freed { .. })));
        assert!(matches!(Bufferevent::socket(bev.base(), peer, mode.options), Err(Error::Freed { .. })));
        assert!(matches!(bev.base().dispatch(), Err(Error::Freed { .. })));
        drop(bev);

        // The owner sits in a closure of its own bufferevent.
        let Fixture { base, bev, peer, .. } = fixture(mode);
        let weak = bev.clone();
        let owner = Cell::new(Some(base));
        bev.on_read(move |_| drop(owner.take()));
        bev.clear_callbacks();
        assert!(weak.is_freed());
        assert!(is_closed(&EventBase::new().unwrap(), &peer));
    });
}

/// Nobody holds a handle any more: the base does, and goes on calling.
#[test]
fn no_callback_runs_while_the_base_goes() {
    struct Triggers(Bufferevent);
    impl Drop for Triggers {
        fn drop(&mut self) {
            self.0.trigger(READ, TriggerOptions::IGNORE_WATERMARKS);
            self.0.trigger_event(BevEvent::EOF, TriggerOptions::empty());
        }
    }
    each_mode(|mode| {
        let Fixture { base, bev, peer: _peer, log } = fixture(mode);
        let held = Triggers(bev);
        base.once(None, move |_| drop(held)).unwrap();
        let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
        log.watch(&bev);
        let held = Triggers(bev);
        let _event = reactor::Event::timer(&base, move |_, _| assert!(held.0.is_freed())).unwrap();
        drop(base);
        assert_eq!(log.len(), 0);
    });
}

#[test]
fn without_a_handle_it_goes_on() {
    each_mode(|mode| {
        let Fixture { base, bev, peer, log } = fixture(mode);
        bev.enable(READ).unwrap();
        drop(bev);
        (&peer).write_all(b"still here").unwrap();
        until(&base, || log.has("read 10"));
    });
}

#[test]
fn the_socket_can_be_taken_in_any_callback_and_is_the_very_one() {
    each_mode(|mode| {
        for place in PLACES {
            let f = fixture(mode);
            let number = f.bev.raw_fd();
            let taken: Rc<Cell<Option<OwnedFd>>> = Rc::default();
            let keep = taken.clone();
            place.set(&f.bev, move |bev| keep.set(bev.take_socket()));
            provoke(&f);
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            let socket = taken.take().unwrap();
            assert_eq!(Some(socket.as_raw_fd()), number, "{place:?}");
            assert_eq!(f.bev.raw_fd(), None);
            // It works for somebody else.
            Socket::from(socket).send(b"!").unwrap();
            let got = f.receive(if f.bev.output().is_empty() { 4 } else { 1 });
            assert_eq!(got.last(), Some(&b'!'));
        }
    });
}

#[test]
fn the_socket_can_be_replaced_in_any_callback() {
    each_mode(|mode| {
        for place in PLACES {
            let f = fixture(mode);
            let (new, new_peer) = connected(mode.kind);
            let old: Rc<Cell<Option<OwnedFd>>> = Rc::default();
            let keep = old.clone();
            place.set(&f.bev, move |bev| {
                take_input(bev);
                keep.set(bev.replace_socket(Some(new.into())).unwrap());
                bev.enable(READ | WRITE).unwrap();
            });
            provoke(&f);
            let replaced = Cell::new(false);
            f.until(|| {
                let socket = old.take();
                replaced.set(socket.is_some());
                old.set(socket);
                replaced.get()
            });
            (&new_peer).write_all(b"from the new peer").unwrap();
            f.until(|| f.bev.input().len() >= 17);
            assert!(f.input().ends_with(b"from the new peer"), "{place:?}");
            f.bev.write(b"to it").unwrap();
            let all = receive(&f.base, &new_peer, 5);
            assert!(all == b"to it" || all.starts_with(b"out"), "{place:?}: {all:?}");
        }
    });
}

/// Its old socket's news must not be taken for the new one's.
#[test]
fn news_of_a_socket_that_was_replaced_meanwhile_is_forgotten() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        let log = Log::default();
        let (ours, peer) = connected(mode.kind);
        let bev = Bufferevent::unconnected(&base, mode.options).unwrap();
        log.watch(&bev);
        // Ready in the same poll, and first: it replaces the socket of the other.
        let (first, first_peer) = connected(mode.kind);
        let first = Bufferevent::socket(&base, first, BevOptions::empty()).unwrap();
        let (other, (new, new_peer)) = (bev.clone(), connected(mode.kind));
        let new = Cell::new(Some(new));
        first.on_read(move |_| {
            if let Some(new) = new.take() {
                other.replace_socket(Some(new.into())).unwrap();
            }
        });
        first.enable(READ).unwrap();
        (&first_peer).write_all(b"x").unwrap();
        bev.replace_socket(Some(ours.into())).unwrap();
        bev.enable(READ).unwrap();
        drop(peer);
        settle(&base);
        (&new_peer).write_all(b"hello").unwrap();
        until(&base, || bev.input().len() == 5);
        assert!(!log.has("READING|EOF"));
    });
}
