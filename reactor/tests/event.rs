//! One event: what makes it pending and active, what its closure is told, how it ends.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use reactor::{Error, Event, EventFlags, LoopFlags, Outcome};
use world::*;

#[test]
fn ev_25_an_event_is_idle_while_its_callback_runs() {
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"xy");
    let calls = Rc::new(Cell::new(0));
    let event = Event::fd(&w.base, theirs.clone(), READ, {
        let calls = calls.clone();
        move |event, _| {
            assert_eq!(event.pending(EventFlags::all()), EventFlags::empty());
            assert_eq!(event.base().counts().added, 0);
            read(&theirs, 1);
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                event.add(None).unwrap();
            }
        }
    })
    .unwrap();
    event.add(None).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(calls.get(), 2);
}

#[test]
fn ev_26_a_persistent_event_stays_pending() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ | PERSIST, "event");
    event.add(None).unwrap();
    for _ in 0..3 {
        write(&ours, b"x");
        w.step();
        read(&theirs, 9);
    }
    assert_eq!(w.trace.take(), "event:READ event:READ event:READ");
    assert_eq!(event.pending(EventFlags::all()), READ);
    event.del();
    write(&ours, b"x");
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "");
}

#[test]
fn ev_27_a_callback_silences_another_that_is_ready() {
    let w = World::new();
    let (a, b) = (pair(), pair());
    write(&a.0, b"x");
    write(&b.0, b"x");
    let second = w.on(&b.1, READ | PERSIST, "second");
    let also = w.timer("also");
    let first = Event::fd(&w.base, a.1.clone(), READ, {
        let (second, also, trace) = (second.clone(), also.clone(), w.trace.clone());
        move |_, _| {
            trace.note("first");
            assert!(second.is_active() && also.is_active());
            second.del();
            also.del();
        }
    })
    .unwrap();
    // Ready in this order, in one poll.
    first.add(None).unwrap();
    second.add(None).unwrap();
    also.add(Some(ms(0))).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "first");
}

#[test]
fn ev_29_deleting_what_is_not_pending_changes_nothing() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&ours, READ, "event");
    event.del();
    event.add(None).unwrap();
    event.del();
    event.del();
    drop(theirs);
    event.del();
    event.free();
    event.del();
    assert_eq!((w.base.counts().added, w.dispatch()), (0, Outcome::NoEvents));
}

#[test]
fn ev_31_a_removed_timer_does_not_come_back() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ | PERSIST, "event");
    event.add(Some(ms(100))).unwrap();
    event.remove_timer();
    assert_eq!(event.pending(READ | TIMEOUT), READ);
    assert_eq!(event.deadline(), None);
    write(&ours, b"x");
    w.step();
    assert_eq!(event.pending(READ | TIMEOUT), READ, "not after a trigger either");
    read(&theirs, 9);
    w.base.once(Some(ms(500)), |base| base.loop_break()).unwrap();
    w.dispatch();
    assert_eq!(w.trace.take(), "event:READ");
}

#[test]
fn ev_32_a_regular_file_cannot_be_polled() {
    let w = World::new();
    let event = Event::fd(&w.base, tempfile::tempfile().unwrap(), READ, |_, _| ()).unwrap();
    match event.add(Some(ms(1))) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::PermissionDenied),
        other => panic!("{other:?}"),
    }
    assert_eq!(event.pending(EventFlags::all()), EventFlags::empty());
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn ev_33_an_event_without_descriptor_keeps_the_loop_alive() {
    let w = World::new();
    let trace = w.trace.clone();
    let event = Event::manual(&w.base, PERSIST, move |_, what| trace.note(show("event", what))).unwrap();
    event.add(None).unwrap();
    assert_eq!(event.pending(EventFlags::all()), READ);
    assert_eq!((event.raw_fd(), w.base.counts().added), (None, 1));
    assert_eq!(w.base.run(LoopFlags::NONBLOCK).unwrap(), Outcome::Stopped);
    event.activate(WRITE);
    w.step();
    event.add(Some(ms(10))).unwrap();
    w.base.run(LoopFlags::ONCE).unwrap();
    assert_eq!(w.trace.take(), "event:WRITE event:TIMEOUT");
    event.del();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn ev_34_pending_tells_kinds_timer_and_activity() {
    let w = World::new();
    let (ours, _theirs) = pair();
    let event = w.on(&ours, READ | WRITE | PERSIST, "event");
    let all = EventFlags::all();
    assert_eq!(event.pending(all), EventFlags::empty());
    event.add(None).unwrap();
    assert_eq!(event.pending(all), READ | WRITE);
    event.add(Some(ms(10))).unwrap();
    assert_eq!(event.pending(all), READ | WRITE | TIMEOUT);
    assert_eq!(event.pending(WRITE | CLOSED), WRITE);
    event.activate(CLOSED);
    assert_eq!(event.pending(all), READ | WRITE | TIMEOUT | CLOSED);
    event.del();
    assert_eq!(event.pending(all), EventFlags::empty());
    let timer = w.timer("timer");
    timer.add(Some(ms(10))).unwrap();
    assert_eq!(timer.pending(all), TIMEOUT);
    timer.del();
    timer.activate(SIGNAL);
    assert_eq!(timer.pending(all), SIGNAL);
}

#[test]
fn ev_35_the_deadline_can_be_read() {
    let w = World::new();
    let timer = w.timer("timer");
    assert_eq!(timer.deadline(), None);
    w.clock.advance(ms(30));
    timer.add(Some(ms(500))).unwrap();
    assert_eq!(timer.deadline(), Some(w.base.now() + ms(500)));
    timer.add(None).unwrap();
    assert_eq!(timer.deadline(), Some(w.base.now() + ms(500)), "no time-out leaves the old one");
    let queue = w.base.common_timeout(ms(200)).unwrap();
    timer.add_common(queue).unwrap();
    assert_eq!(timer.deadline(), Some(w.base.now() + ms(200)));
    timer.del();
    assert_eq!(timer.deadline(), None);
}

#[test]
fn ev_36_flags_that_do_not_go_together_are_refused() {
    let w = World::new();
    let (ours, _theirs) = pair();
    let nothing = EventFlags::empty();
    for flags in [nothing, PERSIST, EDGE | PERSIST, SIGNAL, SIGNAL | READ, READ | TIMEOUT] {
        let made = Event::fd(&w.base, ours.clone(), flags, |_, _| ());
        assert!(matches!(made, Err(Error::Flags { .. })), "{flags:?}");
    }
    for flags in [READ, WRITE, CLOSED, EDGE, SIGNAL | READ, TIMEOUT] {
        assert!(
            matches!(Event::signal_with(&w.base, 10, flags, |_, _| ()), Err(Error::Flags { .. })),
            "{flags:?}"
        );
        assert!(matches!(Event::manual(&w.base, flags, |_, _| ()), Err(Error::Flags { .. })), "{flags:?}");
    }
    assert_eq!(Rc::strong_count(&ours), 1, "a refused descriptor is given back");
}

#[test]
fn ev_37_activation_by_hand_merges_into_one_call() {
    let w = World::new();
    let trace = w.trace.clone();
    let event = Event::timer(&w.base, move |_, what| trace.note(show("event", what))).unwrap();
    event.activate(WRITE);
    event.activate(TIMEOUT);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "event:TIMEOUT|WRITE");
    event.activate(READ);
    w.dispatch();
    assert_eq!(w.trace.take(), "event:READ", "old flags are forgotten");
}

#[test]
fn ev_39_a_new_timeout_withdraws_the_call_for_the_old_one() {
    let w = World::new();
    let event = w.timer("event");
    let again = w.timer_that("again", {
        let event = event.clone();
        move |_| {
            assert_eq!(event.pending(TIMEOUT), TIMEOUT);
            assert!(event.is_active());
            event.add(Some(ms(50))).unwrap();
            assert!(!event.is_active());
        }
    });
    again.add(Some(ms(10))).unwrap();
    event.add(Some(ms(10))).unwrap();
    w.base.run(LoopFlags::ONCE).unwrap();
    assert_eq!(w.trace.take(), "again");
    w.dispatch();
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("event", ms(60)));
}

#[test]
fn ev_39_other_reasons_for_the_call_stay() {
    let w = World::new();
    let trace = w.trace.clone();
    let event = Event::timer(&w.base, move |_, what| trace.note(show("event", what))).unwrap();
    event.activate(TIMEOUT);
    event.activate(WRITE);
    event.add(Some(ms(50))).unwrap();
    w.step();
    assert_eq!(w.trace.take(), "event:WRITE");
}

#[test]
fn ev_40_an_event_tells_what_it_was_made_of() {
    let w = World::with_priorities(3);
    let (ours, _theirs) = pair();
    let event = Event::fd(&w.base, ours.clone(), READ | PERSIST, |event, _| {
        assert_eq!(event.base().running_event().as_ref(), Some(event));
    })
    .unwrap();
    event.set_priority(2).unwrap();
    assert_eq!(event.raw_fd(), Some(ours.as_raw_fd()));
    assert_eq!((event.flags(), event.priority(), event.signal_number()), (READ | PERSIST, 2, None));
    assert_eq!(format!("{:?}", event.base()), format!("{:?}", w.base));
    event.activate(READ);
    assert_eq!(w.base.running_event(), None);
    w.step();
    assert_eq!(w.base.running_event(), None);
    let signal = Event::signal(&w.base, 10, |_, _| ()).unwrap();
    assert_eq!((signal.signal_number(), signal.raw_fd()), (Some(10), None));
    assert_eq!(signal.flags(), SIGNAL | PERSIST);
    event.free();
    assert_eq!(event.raw_fd(), None);
}

#[test]
fn ev_52_a_descriptor_number_may_come_again() {
    let w = World::new();
    let (ours, theirs) = pair();
    let first = w.on(&theirs, READ | PERSIST, "first");
    first.add(None).unwrap();
    let duplicate = theirs.as_fd().try_clone_to_owned().unwrap();
    let number = duplicate.as_raw_fd();
    let trace = w.trace.clone();
    let second =
        Event::fd(&w.base, duplicate, READ | PERSIST, move |_, what| trace.note(show("second", what)));
    let second = second.unwrap();
    second.add(None).unwrap();
    write(&ours, b"x");
    w.step();
    assert_eq!(sorted(&w), "first:READ second:READ");

    second.free();
    // Other tests of this process may take the number first; the case needs it.
    let again = rustix::io::fcntl_dupfd_cloexec(&*theirs, number).unwrap();
    let trace = w.trace.clone();
    let third =
        Event::fd(&w.base, again, WRITE | PERSIST, move |_, what| trace.note(show("third", what))).unwrap();
    third.add(None).unwrap();
    w.step();
    assert_eq!(sorted(&w), "first:READ third:WRITE");
}

/// Two descriptors of one socket: the kernel tells them in either order.
fn sorted(w: &World) -> String {
    let trace = w.trace.take();
    let mut ran: Vec<_> = trace.split(' ').collect();
    ran.sort_unstable();
    ran.join(" ")
}

#[test]
fn ev_53_level_triggering_reports_what_is_left_fairly() {
    let w = World::new();
    let sockets = [pair(), pair()];
    let events: Vec<_> = (sockets.iter().zip(["a", "b"]))
        .map(|((_, theirs), name)| {
            let (trace, socket) = (w.trace.clone(), theirs.clone());
            Event::fd(&w.base, theirs.clone(), READ | PERSIST, move |_, what| {
                trace.note(show(name, what));
                read(&socket, 1);
            })
            .unwrap()
        })
        .collect();
    events.iter().for_each(|event| event.add(None).unwrap());
    sockets.iter().for_each(|(ours, _)| write(ours, b"123"));
    let mut polls = 0;
    while w.base.run(LoopFlags::NONBLOCK | LoopFlags::ONCE).is_ok() {
        let ran = w.trace.take();
        if ran.is_empty() {
            break;
        }
        polls += 1;
        assert_eq!(ran, "a:READ b:READ");
    }
    assert_eq!(polls, 3);
}

#[test]
fn ev_54_a_closed_peer_is_readable_on_every_pass() {
    let w = World::new();
    let (ours, theirs) = pair();
    drop(ours);
    let event = w.on(&theirs, READ | PERSIST, "event");
    event.add(None).unwrap();
    w.steps(4);
    assert_eq!(w.trace.take(), "event:READ event:READ event:READ event:READ");
    event.del();
    assert_eq!(w.step(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "");
}

#[test]
fn ev_55_edge_triggering_waits_for_news() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ | PERSIST | EDGE, "event");
    event.add(None).unwrap();
    write(&ours, b"123");
    for _ in 0..3 {
        w.step();
        read(&theirs, 1);
    }
    assert_eq!(w.trace.take(), "event:READ|EDGE");
    write(&ours, b"4");
    w.step();
    w.step();
    assert_eq!(w.trace.take(), "event:READ|EDGE");
}

#[test]
fn ev_55_an_edge_event_that_is_added_again_hears_of_what_is_there() {
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"123");
    // Between two polls, which costs a level event no system call, and from its own callback.
    let event = w.on(&theirs, READ | PERSIST | EDGE, "again");
    event.add(None).unwrap();
    w.step();
    event.del();
    event.add(None).unwrap();
    w.step();
    w.step();
    assert_eq!(w.trace.take(), "again:READ|EDGE again:READ|EDGE");
    event.free();

    let trace = w.trace.clone();
    let single = Event::fd(&w.base, theirs.clone(), READ | EDGE, move |event, _| {
        trace.note("single");
        event.add(None).unwrap();
    })
    .unwrap();
    single.add(None).unwrap();
    w.steps(3);
    assert_eq!(w.trace.take(), "single single single");

    let second = w.on(&theirs, READ | EDGE, "second");
    second.add(None).unwrap();
    w.step();
    assert_eq!(w.trace.take(), "second:READ|EDGE single");
}

#[test]
fn ev_57_edge_and_level_do_not_mix_on_one_descriptor() {
    let w = World::new();
    let (ours, theirs) = pair();
    let level = w.on(&theirs, READ | PERSIST, "level");
    let edge = w.on(&theirs, READ | PERSIST | EDGE, "edge");
    level.add(None).unwrap();
    assert!(matches!(edge.add(Some(ms(5))), Err(Error::MixedTrigger)));
    assert_eq!(edge.pending(EventFlags::all()), EventFlags::empty());
    write(&ours, b"x");
    w.step();
    assert_eq!(w.trace.take(), "level:READ");
    // One after the other they may.
    level.del();
    edge.add(None).unwrap();
    assert!(level.add(None).is_err());
    w.step();
    w.step();
    assert_eq!(w.trace.take(), "edge:READ|EDGE");
}

#[test]
fn ev_58_each_interest_gets_its_own_flag_when_the_peer_closes() {
    let w = World::new();
    let (ours, theirs) = pair();
    let events = [w.on(&theirs, READ, "r"), w.on(&theirs, WRITE, "w"), w.on(&theirs, CLOSED, "c")];
    drop(ours);
    events.iter().for_each(|event| event.add(None).unwrap());
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "c:CLOSED w:WRITE r:READ");
}

#[test]
fn ev_58_a_half_close_is_seen_by_who_asks_for_it() {
    for flags in [CLOSED, CLOSED | READ, CLOSED | WRITE, CLOSED | READ | WRITE] {
        let w = World::new();
        let (ours, theirs) = pair();
        let event = w.on(&theirs, flags, "event");
        event.add(None).unwrap();
        let others = flags & WRITE;
        w.step();
        assert_eq!(w.trace.take(), if others.is_empty() { String::new() } else { show("event", WRITE) });
        event.add(None).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        w.step();
        assert_eq!(w.trace.take(), show("event", flags), "{flags:?}");
    }
}

#[test]
fn ev_59_a_closing_peer_makes_a_full_socket_writable() {
    let w = World::new();
    let (ours, theirs) = pair();
    while (&*ours).write(&[0; 4096]).is_ok() {}
    let event = w.on(&ours, WRITE, "event");
    event.add(None).unwrap();
    w.step();
    assert_eq!(w.trace.take(), "");
    drop(theirs);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "event:WRITE");
}

#[test]
fn ev_60_data_and_timeout_of_one_pass_are_one_call() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ, "event");
    event.add(Some(ms(10))).unwrap();
    write(&ours, b"x");
    w.clock.advance(ms(11));
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "event:TIMEOUT|READ");
}

#[test]
fn a_pending_event_needs_no_handle() {
    let w = World::new();
    let (ours, theirs) = pair();
    w.timer("timer").add(Some(ms(10))).unwrap();
    w.on(&theirs, READ, "socket").add(None).unwrap();
    w.timer("active").activate(READ);
    let trace = w.trace.clone();
    Event::signal_with(&w.base, 10, EventFlags::empty(), move |_, _| trace.note("signal"))
        .unwrap()
        .add(None)
        .unwrap();
    write(&ours, b"x");
    w.base.activate_by_signal(10);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "active signal socket:READ timer");
    assert_eq!(Rc::strong_count(&theirs), 1, "they went when they were idle");
}

#[test]
fn a_pending_event_that_waits_for_nothing_needs_no_handle() {
    let w = World::new();
    let census = Census::default();
    let (member, trace) = (census.join(), w.trace.clone());
    let event = Event::manual(&w.base, EventFlags::empty(), move |_, what| {
        let _ = member.census();
        trace.note(show("event", what));
    })
    .unwrap();
    event.add(None).unwrap();
    let ticket = event.ticket();
    drop(event);
    w.base.notifier().activate(ticket, WRITE).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), census.alive()), ("event:WRITE", 0));

    let member = census.join();
    let event = Event::manual(&w.base, PERSIST, move |_, _| panic!("{}", member.census().alive())).unwrap();
    event.add(None).unwrap();
    drop((event, w));
    assert_eq!(census.alive(), 0, "it goes with its base");
}

#[test]
fn an_idle_event_goes_with_its_last_handle() {
    let w = World::new();
    let (ours, _theirs) = pair();
    let census = Census::default();
    let make = || {
        let member = census.join();
        Event::fd(&w.base, ours.clone(), READ | PERSIST, move |_, _| panic!("{:p}", &member)).unwrap()
    };
    let event = make();
    drop(event.clone());
    assert_eq!(census.alive(), 1);
    drop(event);
    assert_eq!((census.alive(), Rc::strong_count(&ours)), (0, 1));

    // The same after it was pending, for a descriptor and a time, and active.
    let event = make();
    event.add(Some(ms(5))).unwrap();
    event.activate(READ);
    event.del();
    drop(event);
    assert_eq!((census.alive(), Rc::strong_count(&ours)), (0, 1));
}

#[test]
fn a_freed_event_answers_quietly() {
    let w = World::new();
    let event = w.timer("event");
    event.add(Some(ms(1))).unwrap();
    event.free();
    event.free();
    event.activate(READ);
    event.del();
    event.remove_timer();
    assert!(event.is_freed() && !event.is_active());
    assert!(matches!(event.add(Some(ms(1))), Err(Error::Freed { what: "event" })));
    assert!(matches!(event.set_callback(|_, _| ()), Err(Error::Freed { .. })));
    assert!(matches!(event.set_priority(0), Err(Error::Freed { .. })));
    assert_eq!((event.deadline(), event.pending(EventFlags::all())), (None, EventFlags::empty()));
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "");
}

#[test]
fn freeing_closes_the_descriptor_at_once() {
    let w = World::new();
    let (ours, theirs) = pair();
    let theirs = Rc::into_inner(theirs).unwrap();
    let event = Event::fd(&w.base, theirs, READ, |_, _| ()).unwrap();
    event.add(None).unwrap();
    event.free();
    assert_eq!((&*ours).write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn an_owner_that_gives_another_descriptor_than_before_is_refused() {
    struct Switch([Rc<UnixStream>; 2], Rc<Cell<usize>>);
    impl std::os::fd::AsFd for Switch {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0[self.1.get()].as_fd()
        }
    }
    let w = World::new();
    let (nth, (one, two)) = (Rc::new(Cell::new(0)), pair());
    let event = Event::fd(&w.base, Switch([one, two], nth.clone()), READ, |_, _| ()).unwrap();
    nth.set(1);
    assert!(matches!(event.add(None), Err(Error::Io { .. })));
    assert_eq!((event.pending(READ), w.base.counts().added), (EventFlags::empty(), 0));
    nth.set(0);
    event.add(None).unwrap();
    event.free();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn a_common_timeout_belongs_to_its_base() {
    let (w, other) = (World::new(), World::new());
    let queue = other.base.common_timeout(ms(10)).unwrap();
    assert!(matches!(w.timer("").add_common(queue), Err(Error::ForeignTimeout)));
    let last: RefCell<Option<Error>> = RefCell::new(None);
    for duration in 0..300 {
        last.replace(w.base.common_timeout(ms(duration)).err());
    }
    assert!(matches!(*last.borrow(), Some(Error::TooManyCommonTimeouts { most: 256, .. })));
}
