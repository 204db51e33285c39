//! The loop: how it is entered and left, in what order it calls, what other threads can ask of it.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{
    CommonTimeout, Error, Event, EventBase, EventFlags, EventTicket, LoopFlags, Notifier, Outcome,
    SteppedClock,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use world::*;

#[test]
fn base_and_handles_are_not_send() {
    assert_not_impl_any!(EventBase: Send, Sync);
    assert_not_impl_any!(Event: Send, Sync);
    assert_not_impl_any!(SteppedClock: Send, Sync);
    assert_impl_all!(Notifier: Send, Sync, Clone);
    assert_impl_all!(EventTicket: Send, Sync, Copy);
    assert_impl_all!(CommonTimeout: Copy);
    assert_impl_all!(Error: Send, Sync, std::error::Error);
}

#[test]
fn dispatch_without_events_returns_no_events() {
    let base = EventBase::new().unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
}

#[test]
fn ev_01_an_empty_base_returns_at_once() {
    let w = World::new();
    for flags in [LoopFlags::empty(), LoopFlags::NONBLOCK, LoopFlags::ONCE] {
        assert_eq!(w.base.run(flags).unwrap(), Outcome::NoEvents);
        assert!(!w.base.got_exit() && !w.base.got_break());
    }
}

#[test]
fn ev_02_the_outcome_says_why_the_loop_ended() {
    let w = World::new();
    w.activate([&w.timer("ran")]);
    assert_eq!((w.dispatch(), w.trace.take().as_str()), (Outcome::NoEvents, "ran"));

    let later = w.timer("later");
    later.add(Some(ms(10))).unwrap();
    assert_eq!(w.base.run(LoopFlags::NONBLOCK).unwrap(), Outcome::Stopped);
    assert_eq!(w.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
    assert_eq!(w.trace.take(), "later");

    let breaks = w.timer_that("breaks", |event| event.base().loop_break());
    w.activate([&breaks]);
    assert_eq!(w.dispatch(), Outcome::Stopped);

    // An error: the base went while its loop ran.
    let base = w.base.handle();
    let owner = RefCell::new(Some(w.base));
    let ends = Event::timer(&base, move |_, _| drop(owner.take())).unwrap();
    ends.activate(READ);
    assert!(matches!(base.run(LoopFlags::NO_EXIT_ON_EMPTY), Err(Error::Freed { .. })));
}

#[test]
fn ev_03_no_exit_on_empty_serves_other_threads() {
    let base = EventBase::new().unwrap();
    let trace = Trace::default();
    let event = Event::timer(&base, {
        let trace = trace.clone();
        move |_, what| trace.note(show("event", what))
    })
    .unwrap();
    let (notifier, ticket) = (base.notifier(), event.ticket());
    let (ran, has_run) = mpsc::channel();
    let other = thread::spawn(move || {
        for _ in 0..3 {
            notifier.activate(ticket, READ).unwrap();
            let ran = ran.clone();
            notifier.post(move |_| ran.send(()).unwrap()).unwrap();
        }
        notifier
    });
    // The loop serves what was posted and keeps waiting: somebody else ends it afterwards.
    let ends = base.notifier();
    let ender = thread::spawn(move || {
        (0..3).for_each(|_| has_run.recv().unwrap());
        ends.loop_exit().unwrap();
    });
    assert_eq!(base.run(LoopFlags::NO_EXIT_ON_EMPTY).unwrap(), Outcome::Stopped);
    assert!(base.got_exit());
    ender.join().unwrap();
    drop(other.join().unwrap());
    assert!(trace.take().starts_with("event:READ"));
}

#[test]
fn ev_04_exit_lets_the_pass_finish() {
    let w = World::new();
    let a = w.timer_that("a", |event| event.base().loop_exit(None).unwrap());
    let (b, c, later) = (w.timer("b"), w.timer("c"), w.timer("later"));
    later.add(Some(ms(1))).unwrap();
    w.activate([&a, &b, &c]);
    assert_eq!(w.dispatch(), Outcome::Stopped);
    assert_eq!(w.trace.take(), "a b c");
    assert!(w.base.got_exit() && !w.base.got_break());
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert!(!w.base.got_exit(), "the next loop starts afresh");
    assert_eq!(w.trace.take(), "later");
}

#[test]
fn ev_04_exit_after_a_delay() {
    let w = World::new();
    let tick = w.timer_that("tick", |event| event.add(Some(ms(40))).unwrap());
    tick.add(Some(ms(40))).unwrap();
    w.base.loop_exit(Some(ms(100))).unwrap();
    assert_eq!(w.dispatch(), Outcome::Stopped);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("tick tick", ms(100)));
}

#[test]
fn ev_05_break_stops_after_the_callback() {
    let w = World::new();
    let a = w.timer_that("a", |event| event.base().loop_break());
    let (b, c, d) = (w.timer("b"), w.timer("c"), w.timer("d"));
    w.activate([&a, &b, &c]);
    assert_eq!(w.dispatch(), Outcome::Stopped);
    assert_eq!(w.trace.take(), "a");
    assert!(w.base.got_break() && !w.base.got_exit());
    assert!(b.is_active() && c.is_active());
    w.activate([&d]);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "b c d");
    assert!(!w.base.got_break());
}

#[test]
fn ev_06_a_break_before_the_loop_is_forgotten() {
    let w = World::new();
    let a = w.timer("a");
    a.add(Some(ms(5))).unwrap();
    w.base.loop_break();
    w.base.notifier().loop_break().unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "a");
}

#[test]
fn ev_06_an_exit_before_the_loop_makes_it_one_pass() {
    let w = World::new();
    let (now, later) = (w.timer("now"), w.timer("later"));
    later.add(Some(ms(5))).unwrap();
    now.add(Some(Duration::ZERO)).unwrap();
    w.base.loop_exit(None).unwrap();
    assert_eq!(w.dispatch(), Outcome::Stopped);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("now", Duration::ZERO));
}

#[test]
fn ev_08_continue_polls_before_the_rest() {
    let w = World::with_priorities(2);
    let (ours, theirs) = pair();
    let urgent = w.on(&theirs, READ, "socket");
    urgent.set_priority(0).unwrap();
    urgent.add(None).unwrap();
    let writes = w.timer_that("writes", move |_| write(&ours, b"x"));
    let a = w.timer_that("a", |event| event.base().loop_continue());
    let b = w.timer("b");
    w.activate([&writes, &a, &b]);
    w.dispatch();
    assert_eq!(w.trace.take(), "writes a socket:READ b");
}

#[test]
fn ev_09_continue_outside_a_pass_does_nothing() {
    let w = World::with_priorities(2);
    let (ours, theirs) = pair();
    let urgent = w.on(&theirs, READ, "socket");
    urgent.set_priority(0).unwrap();
    urgent.add(None).unwrap();
    let (a, b) = (w.timer_that("a", move |_| write(&ours, b"x")), w.timer("b"));
    w.activate([&a, &b]);
    w.base.loop_continue();
    w.dispatch();
    assert_eq!(
        w.trace.take(),
        "a b socket:READ",
        "had the request been kept, the poll would have come before b"
    );
}

#[test]
fn ev_10_once_waits_for_a_callback_and_finishes_the_pass() {
    let w = World::new();
    let (a, b, c) = (w.timer("a"), w.timer("b"), w.timer("c"));
    a.add(Some(ms(10))).unwrap();
    b.add(Some(ms(10))).unwrap();
    c.add(Some(ms(11))).unwrap();
    assert_eq!(w.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("a b", ms(10)));
}

#[test]
fn ev_10_once_finishes_less_urgent_work_too() {
    let w = World::with_priorities(2);
    let (a, b) = (w.timer("a"), w.timer("b"));
    a.set_priority(1).unwrap();
    b.set_priority(0).unwrap();
    w.activate([&a, &b]);
    assert_eq!(w.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
    assert_eq!(w.trace.take(), "b a");
}

#[test]
fn ev_12_nonblock_leaves_timers_that_are_not_due() {
    let w = World::new();
    let a = w.timer("a");
    a.add(Some(ms(10))).unwrap();
    assert_eq!(w.base.run(LoopFlags::NONBLOCK).unwrap(), Outcome::Stopped);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("", Duration::ZERO));
    assert_eq!(a.pending(TIMEOUT), TIMEOUT);
}

#[test]
fn ev_14_callbacks_run_in_the_order_of_activation() {
    let w = World::new();
    let (a, b, c) = (w.timer("a"), w.timer("b"), w.timer("c"));
    w.activate([&c, &a, &b, &c]);
    w.dispatch();
    assert_eq!(w.trace.take(), "c a b");
}

#[test]
fn ev_15_events_of_one_fd_run_last_added_first() {
    let w = World::new();
    let (ours, theirs) = pair();
    let events = [w.on(&theirs, READ, "a"), w.on(&theirs, WRITE, "b"), w.on(&theirs, READ | WRITE, "c")];
    events.iter().for_each(|event| event.add(None).unwrap());
    write(&ours, b"x");
    w.step();
    assert_eq!(w.trace.take(), "c:READ|WRITE b:WRITE a:READ");
}

#[test]
fn ev_17_fds_run_in_the_order_in_which_they_became_ready() {
    let w = World::new();
    let pairs: Vec<_> = (0..3).map(|_| pair()).collect();
    let names = ["a", "b", "c"];
    let events: Vec<_> =
        pairs.iter().zip(names).map(|((_, theirs), name)| w.on(theirs, READ, name)).collect();
    events.iter().for_each(|event| event.add(None).unwrap());
    w.step();
    [2, 0, 1].into_iter().for_each(|nth: usize| write(&pairs[nth].0, b"x"));
    w.step();
    assert_eq!(w.trace.take(), "c:READ a:READ b:READ");
}

#[test]
fn ev_18_only_the_most_urgent_queue_runs_in_a_pass() {
    let w = World::with_priorities(3);
    let turns = Rc::new(Cell::new(0));
    let urgent = w.timer_that("0", {
        let turns = turns.clone();
        move |event| {
            turns.set(turns.get() + 1);
            if turns.get() < 3 {
                event.activate(READ);
            }
        }
    });
    let (middle, least) = (w.timer("1"), w.timer("2"));
    urgent.set_priority(0).unwrap();
    least.set_priority(2).unwrap();
    w.activate([&least, &middle, &urgent]);
    w.dispatch();
    assert_eq!(w.trace.take(), "0 0 0 1 2");
}

#[test]
fn ev_18_polls_between_priorities() {
    let w = World::with_priorities(2);
    let (ours, theirs) = pair();
    let socket = w.on(&theirs, READ, "socket");
    socket.set_priority(0).unwrap();
    socket.add(None).unwrap();
    let (a, b) = (w.timer_that("a", move |_| write(&ours, b"x")), w.timer("b"));
    a.set_priority(0).unwrap();
    w.activate([&b, &a]);
    w.dispatch();
    assert_eq!(w.trace.take(), "a socket:READ b");
}

#[test]
fn ev_19_something_more_urgent_interrupts_the_queue() {
    let w = World::with_priorities(8);
    let (x, y, z) = (w.timer("x"), w.timer("y"), w.timer("z"));
    y.set_priority(0).unwrap();
    let (x2, y2) = (x.clone(), y.clone());
    let first = w.timer_that("first", move |_| {
        x2.activate(READ);
        y2.activate(READ);
    });
    w.activate([&first, &z]);
    w.dispatch();
    assert_eq!(w.trace.take(), "first y z x");
}

#[test]
fn ev_23_an_event_has_the_middle_priority_unless_told() {
    for (priorities, middle) in [(1, 0), (2, 1), (3, 1), (8, 4), (255, 127)] {
        let w = World::with_priorities(priorities);
        assert_eq!(w.timer("").priority(), middle);
    }
    let w = World::with_priorities(3);
    let event = w.timer("event");
    assert!(matches!(event.set_priority(3), Err(Error::Priority { priority: 3, count: 3 })));
    event.add(Some(ms(1))).unwrap();
    event.set_priority(2).unwrap();
    event.activate(READ);
    assert!(matches!(event.set_priority(0), Err(Error::Active { .. })));
    assert_eq!(event.priority(), 2);
}

#[test]
fn ev_24_a_base_has_1_to_255_priorities() {
    let w = World::new();
    for wrong in [0, 256, 1000, usize::MAX] {
        assert!(matches!(w.base.set_priorities(wrong), Err(Error::Priorities { most: 255, .. })));
        assert!(EventBase::builder().priorities(wrong).build().is_err());
    }
    for right in [1, 255, 2] {
        w.base.set_priorities(right).unwrap();
        assert_eq!(w.base.priorities(), right);
    }
    let event = w.timer("event");
    event.activate(READ);
    assert!(matches!(w.base.set_priorities(3), Err(Error::Active { .. })));
    assert_eq!(w.base.priorities(), 2);
}

#[test]
fn ev_41_once_runs_each_in_the_next_pass() {
    let w = World::new();
    for (name, after) in [("a", None), ("b", Some(Duration::ZERO)), ("c", None)] {
        let trace = w.trace.clone();
        w.base.once(after, move |_| trace.note(name)).unwrap();
    }
    assert_eq!(w.trace.take(), "");
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("a b c", Duration::ZERO));
}

#[test]
fn ev_41_once_after_a_delay_keeps_the_loop() {
    let w = World::new();
    let trace = w.trace.clone();
    w.base.once(Some(ms(30)), move |base| trace.note(base.counts().added)).unwrap();
    assert_eq!(w.base.counts().added, 1);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("0", ms(30)));
}

#[test]
fn ev_42_once_on_a_descriptor_is_one_call() {
    let w = World::new();
    let (ours, theirs) = pair();
    let once = || {
        let trace = w.trace.clone();
        w.base
            .once_fd(theirs.clone(), READ, Some(ms(20)), move |_, what| trace.note(show("once", what)))
            .unwrap();
    };
    once();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("once:TIMEOUT", ms(20)));
    write(&ours, b"x");
    once();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("once:READ", ms(20)));
    assert_eq!(w.base.counts().added, 0);
}

#[test]
fn ev_43_once_refuses_flags_that_make_no_sense() {
    let w = World::new();
    let (ours, _theirs) = pair();
    for flags in [SIGNAL, READ | SIGNAL, READ | PERSIST, EDGE, TIMEOUT, EventFlags::empty()] {
        let refused = w.base.once_fd(ours.clone(), flags, None, |_, _| ());
        assert!(matches!(refused, Err(Error::Flags { .. })), "{flags:?}");
    }
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn ev_44_a_once_that_never_came_vanishes_with_the_base() {
    let census = Census::default();
    let (ours, _theirs) = pair();
    let w = World::new();
    let (a, b, c, d) = (census.join(), census.join(), census.join(), census.join());
    w.base.once(Some(ms(1)), move |_| panic!("{:p}", &a)).unwrap();
    w.base.once(None, move |_| panic!("{:p}", &b)).unwrap();
    w.base.once_fd(ours.clone(), READ, None, move |_, _| panic!("{:p}", &c)).unwrap();
    w.base.defer(move |_| panic!("{:p}", &d)).unwrap();
    assert_eq!(census.alive(), 4);
    drop(w);
    assert_eq!((census.alive(), Rc::strong_count(&ours)), (0, 1));
}

#[test]
fn ev_45_activation_by_descriptor_asks_for_the_interest() {
    let w = World::new();
    let (ours, theirs) = pair();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&*ours);
    let (reads, writes, idle) =
        (w.on(&ours, READ, "reads"), w.on(&ours, READ | WRITE, "both"), w.on(&ours, READ, "idle"));
    let other = w.on(&theirs, READ, "other");
    [&reads, &writes, &other].iter().for_each(|event| event.add(None).unwrap());
    w.base.activate_by_fd(fd, WRITE | CLOSED);
    assert_eq!(writes.pending(EventFlags::all()), READ | WRITE);
    assert!(writes.is_active() && !reads.is_active() && !idle.is_active());
    w.base.activate_by_fd(fd, READ | WRITE);
    assert!(reads.is_active() && !idle.is_active() && !other.is_active());
    for unknown in [-1, i32::MIN, i32::MAX, 100_000] {
        w.base.activate_by_fd(unknown, READ | WRITE);
    }
    w.base.activate_by_signal(12);
    w.base.activate_by_signal(-1);
    assert_eq!(w.base.counts().active, 2);
    w.step();
    assert_eq!(w.trace.take(), "both:READ|WRITE reads:READ");
}

#[test]
fn ev_47_counts_tell_places_and_peaks() {
    let w = World::new();
    let (ours, _theirs) = pair();
    let event = w.on(&ours, READ, "event");
    let counts = |w: &World| {
        let c = w.base.counts();
        [c.added, c.active, c.peak_added, c.peak_active]
    };
    event.add(Some(ms(10))).unwrap();
    assert_eq!(counts(&w), [2, 0, 2, 0]);
    event.activate(READ);
    event.activate(WRITE);
    assert_eq!(counts(&w), [3, 1, 3, 1]);
    event.del();
    assert_eq!(counts(&w), [0, 0, 3, 1]);
    w.base.reset_peaks();
    assert_eq!(counts(&w), [0, 0, 0, 0]);
    event.add(None).unwrap();
    event.add(Some(ms(5))).unwrap();
    event.add(Some(ms(6))).unwrap();
    assert_eq!(counts(&w), [2, 0, 2, 0]);
    w.dispatch();
    assert_eq!(counts(&w), [0, 0, 2, 1], "at most: the timer has left when the event is queued");
    w.base.once(Some(ms(1)), |_| ()).unwrap();
    event.free();
    assert_eq!(counts(&w)[..2], [1, 0]);
}

#[test]
fn ev_48_no_callback_runs_when_the_base_goes() {
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"x");
    let (fd, timer, active) = (w.on(&theirs, READ | PERSIST, "fd"), w.timer("timer"), w.timer("active"));
    fd.add(Some(ms(1))).unwrap();
    timer.add(Some(Duration::ZERO)).unwrap();
    active.activate(READ);
    w.base.notifier().post(|_| panic!("ran")).unwrap();
    let World { base, trace, .. } = w;
    drop(base);
    assert_eq!(trace.take(), "");
    assert!([fd, timer, active].iter().all(|event| event.is_freed() && !event.is_active()));
}

#[test]
fn ev_85_another_thread_wakes_the_loop() {
    type Ask = fn(&Notifier, EventTicket);
    let asks: [(Ask, bool, bool); 4] = [
        (|notifier, ticket| notifier.activate(ticket, WRITE).unwrap(), false, true),
        (
            |notifier, ticket| {
                let add =
                    move |base: &EventBase| base.event(ticket).unwrap().add(Some(Duration::ZERO)).unwrap();
                notifier.post(add).unwrap();
            },
            false,
            true,
        ),
        (|notifier, _| notifier.loop_break().unwrap(), true, false),
        (|notifier, _| notifier.loop_exit().unwrap(), false, false),
    ];
    for (ask, breaks, calls) in asks {
        let base = EventBase::new().unwrap();
        let called = Rc::new(Cell::new(false));
        let event = Event::timer(&base, {
            let called = called.clone();
            move |event, _| {
                called.set(true);
                event.base().loop_exit(None).unwrap();
            }
        })
        .unwrap();
        let (started, has_started) = mpsc::channel();
        base.once(None, move |_| started.send(()).unwrap()).unwrap();
        let (notifier, ticket) = (base.notifier(), event.ticket());
        let other = thread::spawn(move || {
            has_started.recv().unwrap();
            ask(&notifier, ticket);
        });
        assert_eq!(base.run(LoopFlags::NO_EXIT_ON_EMPTY).unwrap(), Outcome::Stopped);
        other.join().unwrap();
        assert_eq!((called.get(), base.got_break(), base.got_exit()), (calls, breaks, !breaks));
    }
}

#[test]
fn ev_85_posted_tasks_run_in_order_and_none_is_lost() {
    const TASKS: usize = 2000;
    let base = EventBase::new().unwrap();
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let notifier = base.notifier();
            thread::spawn(move || {
                let (seen, order) = mpsc::channel();
                for nth in 0..TASKS {
                    let seen = seen.clone();
                    notifier.post(move |_| seen.send(nth).unwrap()).unwrap();
                }
                drop(seen);
                assert!(order.iter().eq(0..TASKS), "in the order of posting");
            })
        })
        .collect();
    let ends = base.notifier();
    let waiter = thread::spawn(move || {
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        ends.loop_break().unwrap();
    });
    base.run(LoopFlags::NO_EXIT_ON_EMPTY).unwrap();
    waiter.join().unwrap();
}

#[test]
fn ev_86_a_nearer_timer_of_another_thread_is_on_time() {
    let base = EventBase::new().unwrap();
    let (started, has_started) = mpsc::channel();
    let far = Event::timer(&base, |_, _| panic!("an hour early")).unwrap();
    far.add(Some(Duration::from_secs(3600))).unwrap();
    base.once(None, move |_| started.send(()).unwrap()).unwrap();
    let notifier = base.notifier();
    let other = thread::spawn(move || {
        has_started.recv().unwrap();
        let asked = Instant::now();
        let task = move |base: &EventBase| {
            let check = move |base: &EventBase| {
                assert!(asked.elapsed() >= ms(20));
                base.loop_break();
            };
            base.once(Some(ms(20)), check).unwrap();
        };
        notifier.post(task).unwrap();
    });
    assert_eq!(base.dispatch().unwrap(), Outcome::Stopped);
    other.join().unwrap();
}

#[test]
fn ev_87_deleting_the_last_event_from_another_thread_ends_the_loop() {
    let (ours, _theirs) = pair();
    for is_timer in [false, true] {
        let base = EventBase::new().unwrap();
        let event = match is_timer {
            true => Event::timer(&base, |_, _| ()).unwrap(),
            false => Event::fd(&base, ours.clone(), READ, |_, _| ()).unwrap(),
        };
        event.add(Some(Duration::from_secs(3600))).unwrap();
        let (started, has_started) = mpsc::channel();
        base.once(None, move |_| started.send(()).unwrap()).unwrap();
        let (notifier, ticket) = (base.notifier(), event.ticket());
        let other = thread::spawn(move || {
            has_started.recv().unwrap();
            notifier.post(move |base| base.event(ticket).unwrap().del()).unwrap();
        });
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        other.join().unwrap();
    }
}

#[test]
fn a_ticket_of_an_event_that_is_gone_finds_nothing() {
    let w = World::new();
    let event = w.timer("old");
    let ticket = event.ticket();
    assert_eq!(w.base.event(ticket), Some(event.clone()));
    drop(event);
    let successor = w.timer("new");
    assert!(w.base.event(ticket).is_none(), "the slot is used again, by another generation");
    w.base.notifier().activate(ticket, READ).unwrap();
    w.dispatch();
    assert_eq!(w.trace.take(), "");
    let elsewhere = World::new();
    assert!(elsewhere.base.event(successor.ticket()).is_none());
}

#[test]
fn a_notifier_outlives_its_base() {
    let base = EventBase::new().unwrap();
    let notifier = base.notifier();
    drop(base);
    let (dropped, is_dropped) = mpsc::channel::<()>();
    assert!(matches!(notifier.post(move |_| drop(dropped)), Err(Error::Freed { .. })));
    assert!(is_dropped.recv().is_err(), "the task is gone");
    assert!(notifier.loop_break().is_err() && notifier.loop_exit().is_err());
}

#[test]
fn deferred_tasks_beyond_the_cap_wait_for_the_next_turn() {
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"x");
    let socket = w.on(&theirs, READ, "socket");
    socket.add(None).unwrap();
    let ran = Rc::new(Cell::new(0));
    let first = {
        let (ran, trace) = (ran.clone(), w.trace.clone());
        move |base: &EventBase| {
            for _ in 0..100 {
                let (ran, trace) = (ran.clone(), trace.clone());
                let task = move |_: &EventBase| {
                    ran.set(ran.get() + 1);
                    if ran.get() % 32 == 0 {
                        trace.note(ran.get());
                    }
                };
                base.defer(task).unwrap();
            }
        }
    };
    w.base.once(None, first).unwrap();
    w.dispatch();
    assert_eq!(ran.get(), 100);
    assert_eq!(w.trace.take(), "socket:READ 32 64 96");
    // In the turn itself only the first 32: the poll comes before the others.
    let trace = w.trace.clone();
    let storm = move |base: &EventBase| {
        for nth in 0..40 {
            let trace = trace.clone();
            base.defer(move |_| trace.note(nth)).unwrap();
        }
        base.loop_exit(None).unwrap();
    };
    w.base.once(None, storm).unwrap();
    w.dispatch();
    assert_eq!(w.trace.take().split(' ').count(), 32);
}

#[test]
fn a_dispatch_limit_polls_between_callbacks() {
    let clock = SteppedClock::new();
    let base = EventBase::builder()
        .priorities(2)
        .clock(&clock)
        .max_dispatch_interval(None, Some(2), 1)
        .build()
        .unwrap();
    let w = World { base, clock, trace: Trace::default() };
    let (ours, theirs) = pair();
    let socket = w.on(&theirs, READ, "socket");
    socket.set_priority(0).unwrap();
    socket.add(None).unwrap();
    let writes = w.timer_that("writes", move |_| write(&ours, b"x"));
    let (b, c, d) = (w.timer("b"), w.timer("c"), w.timer("d"));
    w.activate([&writes, &b, &c, &d]);
    w.dispatch();
    assert_eq!(w.trace.take(), "writes b socket:READ c d");
}

#[test]
fn a_dispatch_limit_by_time_polls_between_callbacks() {
    let clock = SteppedClock::new();
    let limited =
        EventBase::builder().priorities(2).clock(&clock).max_dispatch_interval(Some(ms(10)), None, 0);
    let w = World { base: limited.build().unwrap(), clock, trace: Trace::default() };
    let (ours, theirs) = pair();
    let socket = w.on(&theirs, READ, "socket");
    socket.set_priority(0).unwrap();
    socket.add(None).unwrap();
    let clock = w.clock.clone();
    let slow = w.timer_that("slow", move |_| {
        write(&ours, b"x");
        clock.advance(ms(11));
    });
    let b = w.timer("b");
    w.activate([&slow, &b]);
    w.dispatch();
    assert_eq!(w.trace.take(), "slow socket:READ b");
}

#[test]
fn errors_say_what_to_do() {
    let base = EventBase::new().unwrap();
    let event = Event::timer(&base, |_, _| ()).unwrap();
    assert_eq!(
        event.set_priority(7).unwrap_err().to_string(),
        "there is no priority 7: this event base has 0 (most urgent) to 0"
    );
    let said = base.set_priorities(0).unwrap_err().to_string();
    assert_eq!(said, "an event base cannot have 0 priorities: give it 1 to 255");
    let handle = base.handle();
    drop(base);
    assert!(handle.dispatch().unwrap_err().to_string().contains("EventBase was dropped"));
    assert!(event.add(None).unwrap_err().to_string().starts_with("this event was freed"));
}
