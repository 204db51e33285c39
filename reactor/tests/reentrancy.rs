//! What a callback, a panic or a captured value's `Drop` may do to the base that is at work.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::cell::{Cell, RefCell};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Error, Event, EventBase, EventFlags, LoopFlags, Outcome};
use signal_hook::low_level::raise;
use world::*;

type Callback = Box<dyn FnMut(&Event, EventFlags)>;

/// Every kind of event, made ready; the other end of its socket, if it has one, keeps it open.
fn every_kind(
    w: &World,
    mut callback: impl FnMut() -> Callback,
) -> Vec<(&'static str, Event, Option<Rc<UnixStream>>)> {
    let signal = rustix::process::Signal::USR1.as_raw();
    let mut kinds = Vec::new();
    for (name, flags) in [("fd", READ), ("persistent fd", READ | PERSIST), ("edge", READ | PERSIST | EDGE)] {
        let (ours, theirs) = pair();
        write(&ours, b"x");
        kinds.push((name, Event::fd(&w.base, theirs, flags, callback()).unwrap(), Some(ours)));
    }
    let mut push = |name, event: Event| kinds.push((name, event, None));
    push("timer", Event::timer(&w.base, callback()).unwrap());
    push("interval", Event::interval(&w.base, callback()).unwrap());
    push("manual", Event::manual(&w.base, PERSIST, callback()).unwrap());
    push("signal", Event::signal(&w.base, signal, callback()).unwrap());
    push("signal once", Event::signal_with(&w.base, signal, SIGNAL, callback()).unwrap());
    for (name, event, _) in &kinds {
        let timeout = matches!(*name, "timer" | "interval" | "manual").then_some(ms(1));
        event.add(timeout).unwrap();
    }
    raise(signal).unwrap();
    raise(signal).unwrap();
    kinds
}

#[test]
fn ev_28_an_event_may_free_itself_in_its_callback() {
    let (w, census, calls) = (World::new(), Census::default(), Rc::new(Cell::new(0)));
    let kinds = every_kind(&w, || {
        let (member, calls) = (census.join(), calls.clone());
        Box::new(move |event, _| {
            calls.set(calls.get() + 1);
            event.free();
            assert!(event.is_freed());
            assert_eq!(member.census().alive(), 8 - calls.get() + 1, "the closure lives until it returns");
        })
    });
    assert_eq!((kinds.len(), census.alive()), (8, 8));
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((calls.get(), census.alive()), (8, 0));
}

#[test]
fn ev_28_an_event_may_delete_itself_in_its_callback() {
    let (w, calls) = (World::new(), Rc::new(Cell::new(0)));
    let kinds = every_kind(&w, || {
        let calls = calls.clone();
        Box::new(move |event, _| {
            calls.set(calls.get() + 1);
            event.del();
        })
    });
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(calls.get(), 8);
    assert!(kinds.iter().all(|(_, event, _)| event.pending(EventFlags::all()).is_empty()));
}

#[test]
fn an_event_may_free_any_other_that_is_ready() {
    let w = World::new();
    let (census, calls) = (Census::default(), Rc::new(Cell::new(0)));
    let others: Rc<RefCell<Vec<Event>>> = Rc::default();
    let kinds = every_kind(&w, || {
        let (member, calls, others) = (census.join(), calls.clone(), others.clone());
        Box::new(move |event, _| {
            calls.set(calls.get() + 1);
            others.borrow().iter().filter(|other| *other != event).for_each(Event::free);
            assert_eq!(member.census().alive(), 1);
            event.free();
        })
    });
    others.borrow_mut().extend(kinds.iter().map(|(_, event, _)| event.clone()));
    w.clock.advance(ms(1));
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((calls.get(), census.alive()), (1, 0));
}

#[test]
fn a_callback_may_drop_its_own_last_handle() {
    let w = World::new();
    let (ours, theirs) = pair();
    let held: Rc<RefCell<Option<Event>>> = Rc::default();
    let trace = w.trace.clone();
    let event = Event::fd(&w.base, theirs, READ | PERSIST, {
        let held = held.clone();
        move |_, _| {
            trace.note("call");
            held.take();
        }
    })
    .unwrap();
    event.add(None).unwrap();
    held.replace(Some(event));
    write(&ours, b"x");
    w.steps(3);
    assert_eq!(w.trace.take(), "call call call", "dropping a handle stops nothing");
}

#[test]
fn a_replaced_callback_runs_from_the_next_event_on() {
    let (w, census) = (World::new(), Census::default());
    let (trace, member) = (w.trace.clone(), census.join());
    let event = Event::timer(&w.base, move |event, _| {
        let trace2 = trace.clone();
        event.set_callback(move |_, _| trace2.note("new")).unwrap();
        event.activate(READ);
        trace.note("old");
        assert_eq!(member.census().alive(), 1, "it lives until it returns");
    })
    .unwrap();
    event.activate(READ);
    w.base.run(LoopFlags::ONCE).unwrap();
    assert_eq!((w.trace.take().as_str(), census.alive()), ("old new", 0));
}

#[test]
fn a_closure_that_owns_its_own_handle_leaks_nothing() {
    let census = Census::default();
    let make = |w: &World| {
        let member = census.join();
        let itself: Rc<RefCell<Option<Event>>> = Rc::default();
        let event = Event::timer(&w.base, {
            let itself = itself.clone();
            move |_, _| assert!(itself.borrow().is_some() && member.census().alive() > 0)
        })
        .unwrap();
        itself.replace(Some(event.clone()));
        event
    };
    let w = World::new();
    make(&w).free();
    assert_eq!(census.alive(), 0, "freed by hand");
    let (idle, pending, active) = (make(&w), make(&w), make(&w));
    pending.add(Some(ms(1))).unwrap();
    active.activate(READ);
    drop((idle, pending, active));
    w.step();
    assert_eq!(census.alive(), 3, "the base remembers them");
    drop(w);
    assert_eq!(census.alive(), 0, "freed with the base");
}

#[test]
fn a_nested_dispatch_is_refused() {
    let w = World::new();
    let inner = World::new();
    let other = inner.base.handle();
    let event = w.timer_that("outer", move |event| {
        assert!(matches!(event.base().dispatch(), Err(Error::AlreadyRunning)));
        assert!(matches!(event.base().run(LoopFlags::NONBLOCK), Err(Error::AlreadyRunning)));
        assert_eq!(other.dispatch().unwrap(), Outcome::NoEvents, "another base may run");
        assert_eq!(event.base().running_event().as_ref(), Some(event));
    });
    w.activate([&event, &w.timer("rest")]);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "outer rest");
}

#[test]
fn a_panic_leaves_the_base_usable() {
    let w = World::with_priorities(3);
    let boom = w.timer_that("boom", |_| panic!("boom"));
    let (rest, urgent) = (w.timer("rest"), w.timer("urgent"));
    urgent.set_priority(0).unwrap();
    w.activate([&boom, &rest]);
    assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    assert_eq!(w.trace.take(), "boom");
    assert_eq!(w.base.running_event(), None);
    w.activate([&boom, &urgent]);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "urgent rest", "the closure that panicked is lost");
    let trace = w.trace.clone();
    boom.set_callback(move |_, _| trace.note("again")).unwrap();
    boom.activate(READ);
    w.dispatch();
    assert_eq!(w.trace.take(), "again");
}

#[test]
fn a_panic_ends_the_wait_of_its_event() {
    let (w, census) = (World::new(), Census::default());
    let kinds = every_kind(&w, || {
        let member = census.join();
        Box::new(move |_, _| panic!("{}", member.census().alive()))
    });
    for _ in 0..kinds.len() {
        assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    }
    // A persistent event that stayed pending on its descriptor would spin here.
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(census.alive(), 0);
}

#[test]
fn a_panic_after_freeing_closes_the_descriptor() {
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"x");
    let event = Event::fd(&w.base, theirs.clone(), READ, |event, _| {
        event.free();
        panic!("boom");
    })
    .unwrap();
    event.add(None).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    assert_eq!(Rc::strong_count(&theirs), 1);
}

#[test]
fn a_panicking_task_is_lost_and_the_others_run() {
    let w = World::new();
    let trace = w.trace.clone();
    w.base.once(None, |_| panic!("boom")).unwrap();
    w.base.notifier().post(|_| panic!("boom")).unwrap();
    w.base.once(None, move |_| trace.note("rest")).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "rest");
}

#[test]
fn the_base_may_go_before_or_after_its_handles() {
    let census = Census::default();
    for handles_first in [false, true] {
        let w = World::new();
        let kinds = every_kind(&w, || {
            let member = census.join();
            Box::new(move |_, _| panic!("{}", member.census().alive()))
        });
        let handle = w.base.handle();
        kinds.iter().for_each(|(_, event, _)| event.activate(READ));
        if handles_first {
            drop(kinds);
            assert_eq!(census.alive(), 8, "pending ones stay");
            drop(w);
        } else {
            drop(w);
            assert_eq!(census.alive(), 0);
            assert!(kinds.iter().all(|(_, event, _)| event.is_freed()));
            drop(kinds);
        }
        assert_eq!((census.alive(), handle.counts().added, handle.counts().active), (0, 0, 0));
        poke(&handle);
        assert!(matches!(handle.run(LoopFlags::NONBLOCK), Err(Error::Freed { .. })));
        assert!(matches!(Event::timer(&handle, |_, _| ()), Err(Error::Freed { .. })));
    }
}

#[test]
fn the_base_may_go_while_its_loop_runs() {
    let census = Census::default();
    let World { base, trace, .. } = World::new();
    let handle = base.handle();
    let (ours, theirs) = pair();
    write(&ours, b"x");
    let member = census.join();
    Event::fd(&handle, theirs, READ, move |_, _| panic!("{}", member.census().alive()))
        .unwrap()
        .add(None)
        .unwrap();
    let owner = RefCell::new(Some(base));
    let member = census.join();
    let ends = Event::timer(&handle, {
        let trace = trace.clone();
        move |event, _| {
            drop(owner.take());
            assert!(event.is_freed());
            poke(event.base());
            trace.note(member.census().alive());
        }
    })
    .unwrap();
    ends.activate(READ);
    handle.once(None, |_| panic!("ran")).unwrap();
    assert!(matches!(handle.dispatch(), Err(Error::Freed { .. })));
    assert_eq!((trace.take().as_str(), census.alive()), ("1", 0));
}

/// Calls everything that a base answers, whatever its state. A borrow that is held somewhere makes this panic.
fn poke(base: &EventBase) {
    let (ours, theirs) = pair();
    base.counts();
    base.reset_peaks();
    base.now();
    base.refresh_now();
    base.got_break();
    base.got_exit();
    base.running_event();
    base.activate_by_fd(std::os::fd::AsRawFd::as_raw_fd(&*ours), READ);
    base.activate_by_signal(1);
    let _ = base.set_priorities(base.priorities());
    let _ = base.common_timeout(ms(7));
    let _ = base.dispatch().map(|_| panic!("a nested dispatch"));
    let _ = base.once(None, |_| ());
    let _ = base.once(Some(ms(1)), |_| ());
    let _ = base.once_fd(ours.clone(), WRITE, None, |_, _| ());
    let _ = base.defer(|_| ());
    let _ = base.notifier().post(|_| ());
    let signal = rustix::process::Signal::USR2.as_raw();
    if let Ok(event) = Event::signal(base, signal, |_, _| ()) {
        event.add(Some(ms(1))).unwrap();
        event.activate(SIGNAL);
        event.free();
    }
    if let Ok(event) = Event::fd(base, theirs, READ | WRITE | PERSIST, |_, _| ()) {
        event.add(Some(ms(1))).unwrap();
        event.activate(READ);
        event.set_callback(|_, _| ()).unwrap();
        assert_eq!(base.event(event.ticket()).as_ref(), Some(&event));
        event.del();
    }
}

/// Something to capture whose drop pokes the base, and counts that it did.
fn poker(base: &EventBase, drops: &Rc<Cell<usize>>) -> impl Sized + use<> {
    let (base, drops) = (base.handle(), drops.clone());
    // A poke in a loop cannot nest one; outside of it, what it asked for would run in the poke itself.
    OnDrop::new(move || {
        drops.set(drops.get() + 1);
        if base.run(LoopFlags::NONBLOCK).is_err() {
            poke(&base);
        }
    })
}

/// As [`poker`], from inside the loop.
fn in_loop(w: &World, act: impl FnOnce(&EventBase) + 'static) {
    w.base.once(None, act).unwrap();
    w.dispatch();
}

#[test]
fn captured_values_may_use_the_base_when_they_are_dropped() {
    let drops = Rc::new(Cell::new(0));
    let holding = |base: &EventBase| {
        let held = poker(base, &drops);
        move |_: &Event, _: EventFlags| {
            let _ = &held;
        }
    };
    let expect = |n: usize, place: &str| assert_eq!(drops.replace(0), n, "{place}");
    let w = World::new();
    let (ours, theirs) = pair();
    write(&ours, b"x");

    let event = Event::timer(&w.base, holding(&w.base)).unwrap();
    let replacement = holding(&w.base);
    let (event2, drops2) = (event.clone(), drops.clone());
    in_loop(&w, move |_| {
        event2.set_callback(replacement).unwrap();
        assert_eq!(drops2.get(), 1);
        event2.add(Some(ms(1))).unwrap();
        event2.activate(READ);
        event2.free();
    });
    expect(2, "replacing and freeing");
    drop(event);

    let event = Event::fd(&w.base, theirs.clone(), READ | PERSIST, holding(&w.base)).unwrap();
    event.add(Some(ms(5))).unwrap();
    in_loop(&w, move |_| {
        event.del();
        drop(event);
    });
    expect(1, "the last handle of an idle event");

    Event::fd(&w.base, theirs.clone(), READ, holding(&w.base)).unwrap().add(None).unwrap();
    w.dispatch();
    expect(1, "after the last call of an event without handles");

    let held = poker(&w.base, &drops);
    Event::timer(&w.base, move |event, _| {
        let _ = &held;
        event.free();
    })
    .unwrap()
    .activate(READ);
    w.dispatch();
    expect(1, "freeing itself");

    let held = poker(&w.base, &drops);
    w.base.once(None, move |_| drop(held)).unwrap();
    let held = poker(&w.base, &drops);
    w.base
        .once(Some(ms(1)), move |_| {
            let _ = &held;
        })
        .unwrap();
    let held = poker(&w.base, &drops);
    w.base.defer(move |_| drop(held)).unwrap();
    w.dispatch();
    expect(3, "tasks");

    let held = poker(&w.base, &drops);
    let event = Event::timer(&w.base, move |_, _| {
        let _ = &held;
        panic!("boom");
    })
    .unwrap();
    event.activate(READ);
    assert!(catch_unwind(AssertUnwindSafe(|| w.base.dispatch())).is_err());
    expect(1, "a panic");
    w.dispatch();
}

#[test]
fn captured_values_may_use_the_base_while_it_is_torn_down() {
    let (drops, census) = (Rc::new(Cell::new(0)), Census::default());
    let w = World::new();
    let kinds = every_kind(&w, || {
        let (held, member) = (poker(&w.base, &drops), census.join());
        Box::new(move |_, _| {
            let _ = (&held, &member);
        })
    });
    kinds.iter().for_each(|(_, event, _)| event.activate(READ));
    for after in [None, Some(ms(1)), Some(Duration::MAX)] {
        let held = poker(&w.base, &drops);
        w.base.once(after, move |_| drop(held)).unwrap();
    }
    let held = poker(&w.base, &drops);
    w.base.defer(move |_| drop(held)).unwrap();
    let (ours, _theirs) = pair();
    let held = poker(&w.base, &drops);
    w.base.once_fd(ours, READ, None, move |_, _| drop(held)).unwrap();
    drop(w);
    assert_eq!((drops.get(), census.alive()), (8 + 3 + 1 + 1, 0));
}

#[test]
fn a_descriptor_may_use_the_base_when_it_is_closed() {
    struct Fd(Rc<UnixStream>, Option<Box<dyn FnOnce()>>);
    impl std::os::fd::AsFd for Fd {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
    impl Drop for Fd {
        fn drop(&mut self) {
            self.1.take().into_iter().for_each(|act| act());
        }
    }
    let drops = Rc::new(Cell::new(0));
    let w = World::new();
    let (ours, _theirs) = pair();
    let make = || {
        let (held, ours) = (poker(&w.base, &drops), ours.clone());
        let event =
            Event::fd(&w.base, Fd(ours, Some(Box::new(move || drop(held)))), READ, |_, _| ()).unwrap();
        event.add(None).unwrap();
        event
    };
    let (freed, idle, _with_base) = (make(), make(), make());
    in_loop_once(&w, move || freed.free());
    in_loop_once(&w, move || idle.del());
    assert_eq!(drops.get(), 2);
    drop(w);
    assert_eq!(drops.get(), 3);
}

#[test]
fn a_descriptor_may_use_the_base_whenever_it_is_asked_for() {
    struct Asked(Rc<UnixStream>, Rc<dyn Fn()>);
    impl std::os::fd::AsFd for Asked {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            (self.1)();
            self.0.as_fd()
        }
    }
    let w = World::new();
    let (_ours, theirs) = pair();
    let (base, asked, event) = (w.base.handle(), Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
    let (counted, own) = (asked.clone(), event.clone());
    let asks = Rc::new(move || {
        counted.set(counted.get() + 1);
        if base.run(LoopFlags::ONCE | LoopFlags::NONBLOCK).is_err() {
            poke(&base);
        }
        let own: Option<Event> = own.borrow().clone();
        own.inspect(Event::remove_timer);
    });
    let fd = Rc::new(Asked(theirs, asks));
    // Interest in a half-close without reading makes the loop itself ask, and so does interest that was taken away.
    let writes = Event::fd(&w.base, fd.clone(), WRITE | CLOSED | PERSIST, |_, _| ()).unwrap();
    let reads = Event::fd(&w.base, fd, READ | PERSIST, |_, _| ()).unwrap();
    event.replace(Some(writes.clone()));
    in_loop_once(&w, {
        let writes = writes.clone();
        move || writes.add(None).unwrap()
    });
    let added = asked.get();
    w.steps(1);
    assert!(asked.get() > added, "what is writable may be half closed");
    reads.add(None).unwrap();
    reads.del();
    let narrowed = asked.get();
    w.steps(1);
    assert!(asked.get() > narrowed + 1, "and to narrow the interest");
    event.take();
    in_loop_once(&w, move || {
        reads.free();
        writes.free();
    });
}

#[test]
fn a_descriptor_may_free_its_event_when_it_is_asked_for() {
    struct Frees(Rc<UnixStream>, Rc<RefCell<Option<Event>>>);
    impl std::os::fd::AsFd for Frees {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            let event = self.1.take();
            event.inspect(Event::free);
            self.0.as_fd()
        }
    }
    let w = World::new();
    let (event, (_ours, theirs)) = (Rc::new(RefCell::new(None)), pair());
    let freed = Event::fd(&w.base, Frees(theirs, event.clone()), READ, |_, _| ()).unwrap();
    event.replace(Some(freed.clone()));
    assert!(matches!(freed.add(None), Err(Error::Freed { .. })));
    assert_eq!((freed.is_freed(), w.base.counts().added), (true, 0));
}

fn in_loop_once(w: &World, act: impl FnOnce() + 'static) {
    w.base.once(None, move |_| act()).unwrap();
    w.step();
}

#[test]
fn a_message_that_is_not_taken_is_dropped_outside_the_lock() {
    let base = EventBase::new().unwrap();
    let notifier = base.notifier();
    struct Posts(reactor::Notifier);
    impl Drop for Posts {
        fn drop(&mut self) {
            // Deadlocks if the inbox is locked meanwhile.
            assert!(self.0.post(|_| ()).is_err());
        }
    }
    let posts = Posts(notifier.clone());
    notifier.post(move |_| drop(posts)).unwrap();
    drop(base);
    let posts = Posts(notifier.clone());
    assert!(notifier.post(move |_| drop(posts)).is_err());
}

#[test]
fn lowering_the_priorities_from_a_callback_ends_its_queue() {
    let w = World::with_priorities(4);
    let event = w.timer_that("event", |event| {
        if event.base().priorities() == 4 {
            event.base().set_priorities(2).unwrap();
            event.activate(WRITE);
        }
    });
    event.set_priority(3).unwrap();
    event.activate(READ);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "event event");
    assert_eq!(w.base.priorities(), 2);
}
