//! Signals as events. A raise is delivered before it returns; each test has signals of its own, since they belong to
//! the whole process.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::cell::Cell;
use std::rc::Rc;

use reactor::{Error, Event, EventBase, EventFlags, LoopFlags, Outcome};
use rustix::process::Signal;
use signal_hook::low_level::raise;
use world::*;

const USR1: i32 = Signal::USR1.as_raw();
const USR2: i32 = Signal::USR2.as_raw();
const WINCH: i32 = Signal::WINCH.as_raw();
const URG: i32 = Signal::URG.as_raw();
const IO: i32 = Signal::IO.as_raw();
const CONT: i32 = Signal::CONT.as_raw();
const CHILD: i32 = Signal::CHILD.as_raw();
const HUP: i32 = Signal::HUP.as_raw();
const ALARM: i32 = Signal::ALARM.as_raw();
const VTALARM: i32 = Signal::VTALARM.as_raw();
const PROF: i32 = Signal::PROF.as_raw();
const PIPE: i32 = Signal::PIPE.as_raw();
const POWER: i32 = Signal::POWER.as_raw();
const TRAP: i32 = Signal::TRAP.as_raw();
const XCPU: i32 = Signal::XCPU.as_raw();
const INT: i32 = Signal::INT.as_raw();

fn deliver(signal: i32, times: usize) {
    (0..times).for_each(|_| raise(signal).unwrap());
}

/// A persistent event that notes its name at each call, then acts.
fn noting(w: &World, signal: i32, name: &'static str, mut act: impl FnMut(&Event) + 'static) -> Event {
    let trace = w.trace.clone();
    let event = Event::signal(&w.base, signal, move |event, what| {
        assert_eq!(what, SIGNAL);
        trace.note(name);
        act(event);
    });
    let event = event.unwrap();
    event.add(None).unwrap();
    event
}

#[test]
fn ev_75_a_signal_is_a_call_from_the_loop() {
    let w = World::new();
    let event = noting(&w, USR1, "usr1", |event| assert_eq!(event.signal_number(), Some(USR1)));
    assert_eq!(event.pending(EventFlags::all()), SIGNAL);
    assert_eq!(w.base.counts().added, 1);
    deliver(USR1, 1);
    assert_eq!(w.trace.take(), "", "not before the loop runs");
    w.step();
    assert_eq!(w.trace.take(), "usr1");
    w.step();
    assert_eq!(w.trace.take(), "", "one delivery, one call");
    event.del();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn ev_75_a_signal_ends_a_wait() {
    let base = EventBase::new().unwrap();
    let event = Event::signal(&base, USR2, |event, _| event.base().loop_break()).unwrap();
    event.add(None).unwrap();
    let sender = std::thread::spawn(|| deliver(USR2, 1));
    assert_eq!(base.dispatch().unwrap(), Outcome::Stopped);
    sender.join().unwrap();
}

#[test]
fn ev_76_deliveries_run_in_a_row_last_added_first() {
    let w = World::new();
    let _events = [noting(&w, WINCH, "a", |_| ()), noting(&w, WINCH, "b", |_| ())];
    deliver(WINCH, 2);
    w.step();
    assert_eq!(w.trace.take(), "b b a a");
}

#[test]
fn ev_78_deleting_takes_back_the_calls_that_are_left() {
    let ends = [(URG, Event::del as fn(&Event)), (IO, Event::free)];
    for (signal, end) in ends {
        let w = World::new();
        let event = noting(&w, signal, "call", end);
        deliver(signal, 3);
        assert_eq!(w.dispatch(), Outcome::NoEvents);
        assert_eq!(w.trace.take(), "call");
        assert_eq!(event.pending(EventFlags::all()), EventFlags::empty());
    }
}

#[test]
fn ev_79_a_break_loses_the_calls_that_are_left() {
    let w = World::new();
    let _event = noting(&w, CONT, "call", |event| event.base().loop_break());
    deliver(CONT, 3);
    assert_eq!(w.dispatch(), Outcome::Stopped);
    w.step();
    assert_eq!(w.trace.take(), "call");
    deliver(CONT, 1);
    w.step();
    assert_eq!(w.trace.take(), "call", "a new delivery is one call");
}

#[test]
fn ev_80_an_event_that_does_not_persist_answers_all_deliveries() {
    let w = World::new();
    let trace = w.trace.clone();
    let event = Event::signal_with(&w.base, CHILD, EventFlags::empty(), move |event, _| {
        assert_eq!(event.pending(EventFlags::all()), EventFlags::empty());
        trace.note("call");
    })
    .unwrap();
    event.add(None).unwrap();
    deliver(CHILD, 3);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "call call call");
    event.add(None).unwrap();
    w.step();
    assert_eq!(w.trace.take(), "", "nothing is left over");
}

#[test]
fn ev_83_a_handler_that_raises_its_signal_is_called_again_later() {
    let w = World::new();
    let (depth, calls) = (Cell::new(0), Rc::new(Cell::new(0)));
    let event = noting(&w, HUP, "hup", {
        let calls = calls.clone();
        move |event| {
            assert_eq!(depth.replace(1), 0, "no recursion");
            calls.set(calls.get() + 1);
            if calls.get() < 5 {
                deliver(HUP, 1);
            } else {
                event.del();
            }
            depth.set(0);
        }
    });
    deliver(HUP, 1);
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((calls.get(), event.is_active()), (5, false));
}

#[test]
fn ev_83_many_deliveries_before_the_loop_are_as_many_calls() {
    let w = World::new();
    let calls = Rc::new(Cell::new(0));
    let _event = noting(&w, ALARM, "", {
        let calls = calls.clone();
        move |_| calls.set(calls.get() + 1)
    });
    deliver(ALARM, 5000);
    w.step();
    assert_eq!(calls.get(), 5000);
}

/// libevent serves one base only; every base that waits for a signal gets each delivery here.
#[test]
fn ev_84_two_bases_get_the_same_signal() {
    let (v, w) = (World::new(), World::new());
    let _events = [noting(&v, VTALARM, "v", |_| ()), noting(&w, VTALARM, "w", |_| ())];
    deliver(VTALARM, 2);
    v.step();
    w.step();
    assert_eq!((v.trace.take().as_str(), w.trace.take().as_str()), ("v v", "w w"));
}

#[test]
fn a_signal_event_may_have_a_timeout() {
    let w = World::new();
    let trace = w.trace.clone();
    let event = Event::signal(&w.base, PROF, move |_, what| trace.note(show("prof", what))).unwrap();
    event.add(Some(ms(10))).unwrap();
    w.base.run(LoopFlags::ONCE).unwrap();
    deliver(PROF, 1);
    w.base.run(LoopFlags::ONCE).unwrap();
    assert_eq!(w.trace.take(), "prof:TIMEOUT prof:SIGNAL");
}

#[test]
fn activating_a_signal_in_its_callback_is_one_more_call() {
    let w = World::new();
    let first = Cell::new(true);
    let event = noting(&w, PIPE, "call", move |event| {
        if first.replace(false) {
            event.base().activate_by_signal(PIPE);
        }
    });
    event.base().activate_by_signal(PIPE);
    w.step();
    w.step();
    assert_eq!(w.trace.take(), "call call");
}

#[test]
fn an_event_that_is_deleted_gets_no_more_deliveries() {
    let w = World::new();
    let (a, b) = (noting(&w, POWER, "a", |_| ()), noting(&w, POWER, "b", |_| ()));
    a.del();
    deliver(POWER, 1);
    w.step();
    assert_eq!(w.trace.take(), "b");
    b.del();
    deliver(POWER, 1);
    a.add(None).unwrap();
    w.step();
    assert_eq!(w.trace.take(), "", "what was delivered to nobody stays so");
    deliver(POWER, 1);
    w.step();
    assert_eq!(w.trace.take(), "a");
}

#[test]
fn a_callback_replaced_between_deliveries_gets_the_others() {
    let w = World::new();
    let trace = w.trace.clone();
    let _event = noting(&w, TRAP, "old", move |event| {
        let trace = trace.clone();
        event.set_callback(move |_, _| trace.note("new")).unwrap();
    });
    deliver(TRAP, 3);
    w.step();
    assert_eq!(w.trace.take(), "old new new");
}

#[test]
fn a_base_that_goes_lets_go_of_its_signals() {
    let w = World::new();
    let event = noting(&w, XCPU, "", |_| ());
    deliver(XCPU, 3);
    drop(w);
    deliver(XCPU, 1);
    assert!(event.is_freed());
}

#[test]
fn numbers_that_no_signal_has_are_refused() {
    let w = World::new();
    let kill = Signal::KILL.as_raw();
    for wrong in [0, -1, kill, 65, 1023, 1024, 1025, 5000, i32::MAX, i32::MIN] {
        let event = Event::signal(&w.base, wrong, |_, _| ()).unwrap();
        match event.add(None) {
            Err(Error::Signal { signal, .. }) => assert_eq!(signal, wrong),
            other => panic!("{wrong}: {other:?}"),
        }
        assert_eq!(event.pending(EventFlags::all()), EventFlags::empty());
    }
    assert_eq!(w.dispatch(), Outcome::NoEvents);
}

#[test]
fn a_panic_forgets_the_calls_that_are_left() {
    let w = World::new();
    let event = noting(&w, INT, "call", |_| panic!("boom"));
    deliver(INT, 3);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| w.base.dispatch())).is_err());
    let trace = w.trace.clone();
    event.set_callback(move |_, _| trace.note("next")).unwrap();
    event.add(None).unwrap();
    deliver(INT, 1);
    w.step();
    assert_eq!(w.trace.take(), "call next");
}
