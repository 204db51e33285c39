//! Time-outs: when they pass, in what order, and what starts them again.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::cell::Cell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Event, EventBase, EventFlags, LoopFlags, Outcome};
use world::*;

/// An interval that notes when it is called, and what for; the closure acts after that.
fn interval(w: &World, mut act: impl FnMut(&Event) + 'static) -> Event {
    let (trace, clock) = (w.trace.clone(), w.clock.clone());
    Event::interval(&w.base, move |event, what| {
        trace.note(format!("{}:{}", clock.elapsed().as_millis(), if what == TIMEOUT { "t" } else { "-" }));
        act(event);
    })
    .unwrap()
}

fn until(w: &World, end: u64) -> String {
    w.base.loop_exit(Some(ms(end))).unwrap();
    w.dispatch();
    w.trace.take()
}

#[test]
fn ev_61_a_timer_fires_once_at_its_deadline() {
    let w = World::new();
    let (trace, clock) = (w.trace.clone(), w.clock.clone());
    let timer = Event::timer(&w.base, move |_, what| {
        assert_eq!(clock.elapsed(), ms(40));
        trace.note(show("timer", what));
    })
    .unwrap();
    timer.add(Some(ms(40))).unwrap();
    assert_eq!(w.base.run(LoopFlags::NONBLOCK).unwrap(), Outcome::Stopped);
    assert_eq!(w.trace.take(), "");
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "timer:TIMEOUT");
}

#[test]
fn ev_61_a_real_timer_is_not_early() {
    let base = EventBase::new().unwrap();
    for micros in [1, 300, 700, 1_000, 1_300, 7_000, 19_999, 20_001] {
        let (wanted, start) = (Duration::from_micros(micros), Instant::now());
        base.once(Some(wanted), move |_| assert!(start.elapsed() >= wanted, "{wanted:?}")).unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    }
}

#[test]
fn ev_62_a_period_counts_from_its_schedule() {
    let w = World::new();
    let clock = w.clock.clone();
    let timer = interval(&w, move |event| {
        assert_eq!(event.pending(TIMEOUT), TIMEOUT, "armed again before the call");
        clock.advance(ms(30));
    });
    timer.add(Some(ms(100))).unwrap();
    assert_eq!(until(&w, 450), "100:t 200:t 300:t 400:t");
}

#[test]
fn ev_62_a_callback_may_end_its_period() {
    let w = World::new();
    let timer = interval(&w, |event| event.del());
    timer.add(Some(ms(100))).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "100:t");
    timer.activate(READ);
    assert_eq!(w.dispatch(), Outcome::NoEvents, "activating it does not bring the period back");
}

#[test]
fn ev_63_another_trigger_starts_the_period_anew() {
    for common in [false, true] {
        let w = World::new();
        let timer = interval(&w, |_| ());
        match common {
            true => timer.add_common(w.base.common_timeout(ms(200)).unwrap()).unwrap(),
            false => timer.add(Some(ms(200))).unwrap(),
        }
        let by_hand = w.timer_that("hand", {
            let timer = timer.clone();
            move |_| timer.activate(READ)
        });
        by_hand.add(Some(ms(100))).unwrap();
        assert_eq!(until(&w, 600), "hand 100:- 300:t 500:t", "common: {common}");
    }
}

#[test]
fn ev_63_data_starts_the_period_anew() {
    let w = World::new();
    let (ours, theirs) = pair();
    let (trace, clock) = (w.trace.clone(), w.clock.clone());
    let event = Event::fd(&w.base, theirs.clone(), READ | PERSIST, move |_, what| {
        trace.note(show(&clock.elapsed().as_millis().to_string(), what));
        read(&theirs, 9);
    })
    .unwrap();
    event.add(Some(ms(200))).unwrap();
    let sender = ours.clone();
    w.base.once(Some(ms(100)), move |_| write(&sender, b"x")).unwrap();
    assert_eq!(until(&w, 600), "100:READ 300:TIMEOUT 500:TIMEOUT");
}

#[test]
fn ev_64_missed_periods_are_one_call() {
    let w = World::new();
    let (clock, calls) = (w.clock.clone(), Cell::new(0));
    let timer = interval(&w, move |_| {
        calls.set(calls.get() + 1);
        if calls.get() == 1 {
            clock.advance(ms(350));
        }
    });
    timer.add(Some(ms(100))).unwrap();
    assert_eq!(until(&w, 700), "100:t 450:t 550:t 650:t");
}

#[test]
fn ev_65_a_period_of_zero_fires_once() {
    let w = World::new();
    let timer = interval(&w, |_| ());
    timer.add(Some(Duration::ZERO)).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), timer.pending(EventFlags::all())), ("0:t", EventFlags::empty()));
}

#[test]
fn ev_66_a_timeout_ends_the_read_interest() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ, "event");
    event.add(Some(ms(10))).unwrap();
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), event.pending(READ)), ("event:TIMEOUT", EventFlags::empty()));
    write(&ours, b"x");
    assert_eq!(w.step(), Outcome::NoEvents);
    assert_eq!(w.trace.take(), "");
}

#[test]
fn ev_66_data_ends_the_timeout() {
    let w = World::new();
    let (ours, theirs) = pair();
    let event = w.on(&theirs, READ, "event");
    event.add(Some(ms(10))).unwrap();
    write(&ours, b"x");
    assert_eq!(w.dispatch(), Outcome::NoEvents);
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("event:READ", ms(0)));
}

/// libevent's ties follow its heap; first in, first out is what one expects.
#[test]
fn ev_67_equal_deadlines_fire_in_the_order_of_adding() {
    let w = World::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let timers: Vec<_> = names.iter().map(|name| w.timer(name)).collect();
    timers.iter().for_each(|timer| timer.add(Some(ms(10))).unwrap());
    timers[2].add(Some(ms(10))).unwrap();
    timers[5].del();
    w.dispatch();
    assert_eq!(w.trace.take(), "a b d e g h c");
}

#[test]
fn ev_68_a_zero_timer_that_adds_itself_waits_for_the_next_pass() {
    let w = World::new();
    let timer = w.timer_that("timer", |event| event.add(Some(Duration::ZERO)).unwrap());
    timer.add(Some(Duration::ZERO)).unwrap();
    for _ in 0..3 {
        assert_eq!(w.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
        assert_eq!(w.trace.take(), "timer");
    }
}

#[test]
fn ev_69_one_common_timeout_for_each_duration() {
    let w = World::new();
    let queue = w.base.common_timeout(ms(1100)).unwrap();
    assert_eq!(w.base.common_timeout(Duration::from_micros(1_100_000)).unwrap(), queue);
    assert_eq!(w.base.common_timeout(queue.duration()).unwrap(), queue);
    assert_ne!(w.base.common_timeout(ms(1101)).unwrap(), queue);

    let (a, b, c, d) = (w.timer("a"), w.timer("b"), w.timer("c"), w.timer("d"));
    [&c, &a, &d, &b].into_iter().for_each(|timer| timer.add_common(queue).unwrap());
    d.add_common(queue).unwrap();
    a.del();
    w.dispatch();
    assert_eq!((w.trace.take().as_str(), w.clock.elapsed()), ("c b d", ms(1100)));
}

#[test]
fn ev_69_common_and_ordinary_timeouts_keep_their_order() {
    let w = World::new();
    let (short, long) = (w.base.common_timeout(ms(10)).unwrap(), w.base.common_timeout(ms(30)).unwrap());
    let names = ["a", "b", "c", "d", "e"];
    let timers: Vec<_> = names.iter().map(|name| w.timer(name)).collect();
    timers[4].add_common(long).unwrap();
    timers[3].add(Some(ms(20))).unwrap();
    timers[0].add_common(short).unwrap();
    timers[1].add(Some(ms(10))).unwrap();
    timers[2].add_common(short).unwrap();
    w.dispatch();
    assert_eq!(w.trace.take(), "a b c d e");
}

/// A period counts from its schedule, so it may end before what was added to the queue meanwhile.
#[test]
fn a_late_period_and_a_fresh_timer_of_one_queue_keep_their_order() {
    let w = World::new();
    let queue = w.base.common_timeout(ms(100)).unwrap();
    let (clock, fresh) = (w.clock.clone(), w.timer("fresh"));
    let period = interval(&w, |_| ());
    let slow = w.timer_that("slow", {
        let fresh = fresh.clone();
        move |event| {
            clock.advance(ms(30));
            event.base().refresh_now();
            fresh.add_common(queue).unwrap();
        }
    });
    slow.add(Some(ms(100))).unwrap();
    period.add_common(queue).unwrap();
    assert_eq!(until(&w, 250), "slow 130:t 200:t fresh");
}

#[test]
fn ev_71_the_time_is_the_same_all_through_a_pass() {
    let w = World::new();
    let (clock, seen) = (w.clock.clone(), Rc::new(Cell::new(None)));
    let a = w.timer_that("a", {
        let (clock, seen) = (clock.clone(), seen.clone());
        move |event| {
            seen.set(Some(event.base().now()));
            clock.advance(ms(50));
        }
    });
    let b = w.timer_that("b", {
        let seen = seen.clone();
        move |event| {
            let base = event.base();
            assert_eq!(Some(base.now()), seen.get());
            assert_eq!(base.refresh_now(), seen.get().unwrap() + ms(50));
            clock.advance(ms(5));
            assert_eq!(base.now(), seen.get().unwrap() + ms(50));
        }
    });
    w.activate([&a, &b]);
    w.dispatch();
    assert_eq!(w.trace.take(), "a b");
    assert_eq!(w.base.now(), seen.get().unwrap() + ms(55), "outside the loop it is current");
    w.clock.advance(ms(1));
    w.base.refresh_now();
    w.clock.advance(ms(1));
    assert_eq!(w.base.now(), seen.get().unwrap() + ms(57));
}

#[test]
fn ev_71_without_a_cache_the_time_is_current() {
    let w = World::new();
    let base = EventBase::builder().clock(&w.clock).cache_time(false).build().unwrap();
    let clock = w.clock.clone();
    let check = move |base: &EventBase| {
        let before = base.now();
        clock.advance(ms(50));
        assert_eq!(base.now(), before + ms(50));
    };
    base.once(None, check).unwrap();
    base.dispatch().unwrap();
}

/// The wait is computed from the current time, not from the one cached before the callbacks: libevent adds what they
/// took to it.
#[test]
fn ev_72_a_slow_callback_does_not_delay_another_timer() {
    let base = EventBase::new().unwrap();
    let start = Instant::now();
    base.once(None, |_| thread::sleep(ms(300))).unwrap();
    base.once(Some(ms(320)), move |_| assert!(start.elapsed() < ms(600), "{:?}", start.elapsed())).unwrap();
    base.dispatch().unwrap();
}

#[test]
fn a_timeout_too_long_for_the_clock_never_passes() {
    let w = World::new();
    let (never, soon) = (w.timer("never"), w.timer("soon"));
    w.clock.advance(ms(10));
    never.add(Some(Duration::MAX)).unwrap();
    soon.add(Some(ms(1))).unwrap();
    w.base.run(LoopFlags::ONCE).unwrap();
    assert_eq!(w.trace.take(), "soon");
    assert_eq!(never.pending(TIMEOUT), TIMEOUT);
    let real = EventBase::new().unwrap();
    let never = Event::timer(&real, |_, _| panic!("it passed")).unwrap();
    never.add(Some(Duration::MAX)).unwrap();
    assert_eq!(real.run(LoopFlags::NONBLOCK).unwrap(), Outcome::Stopped);
}

#[test]
fn a_shared_timeout_of_a_busy_connection_does_not_pile_up() {
    let w = World::new();
    let queue = w.base.common_timeout(Duration::from_secs(60)).unwrap();
    let (idle, busy) = (w.timer("idle"), w.timer("busy"));
    idle.add_common(queue).unwrap();
    for _ in 0..10_000 {
        busy.add_common(queue).unwrap();
    }
    w.clock.advance(ms(1));
    let again = w.timer("again");
    again.add_common(queue).unwrap();
    busy.del();
    w.dispatch();
    assert_eq!(w.trace.take(), "idle again");
}
