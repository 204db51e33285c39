//! Pairs: two bufferevents, each the other's peer. Names carry the ids of the conformance list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::rc::Rc;
use std::time::Duration;

use reactor::{
    BevOptions, Bufferevent, Direction, Error, EventBase, FlushMode, LoopFlags, Outcome, SteppedClock,
};
use streams::*;

const SECOND: Duration = Duration::from_secs(1);

struct Ends {
    base: EventBase,
    one: Bufferevent,
    other: Bufferevent,
    log: Log,
    other_log: Log,
}

fn ends() -> Ends {
    on(EventBase::new().unwrap())
}

fn on(base: EventBase) -> Ends {
    let (one, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    let (log, other_log) = (Log::default(), Log::default());
    log.watch(&one);
    other_log.watch(&other);
    Ends { base, one, other, log, other_log }
}

impl Ends {
    fn run(&self) {
        assert_eq!(self.base.dispatch().unwrap(), Outcome::NoEvents);
    }
}

#[test]
fn bev_54_bytes_move_without_a_copy_and_callbacks_come_from_the_loop() {
    let e = ends();
    let owner: Rc<Vec<u8>> = Rc::new(pattern(1000));
    struct Shared(Rc<Vec<u8>>);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    e.one.output().append_shared(Shared(owner.clone())).unwrap();
    assert_eq!((e.one.output().len(), e.other.input().len()), (1000, 0), "nobody reads yet");
    e.other.enable(READ).unwrap();
    assert_eq!((e.one.output().len(), e.other.input().len()), (0, 1000));
    assert_eq!((e.log.len(), e.other_log.len()), (0, 0));
    assert_eq!(Rc::strong_count(&owner), 2, "moved, not copied");
    e.run();
    assert_eq!((e.log.take(), e.other_log.take()), (vec!["write".into()], vec!["read 1000".into()]));
    assert!(take_input(&e.other) == *owner);
    assert_eq!(Rc::strong_count(&owner), 1);
}

#[test]
fn bev_54_writing_waits_for_write_to_be_enabled() {
    let e = ends();
    e.other.enable(READ).unwrap();
    e.one.disable(WRITE);
    e.one.write(b"held").unwrap();
    e.run();
    assert_eq!((e.one.output().len(), e.other_log.len()), (4, 0));
    e.one.enable(WRITE).unwrap();
    e.run();
    assert_eq!(e.other_log.take(), ["read 4"]);
}

#[test]
fn bev_56_the_high_mark_holds_the_rest_back_and_a_flush_ignores_it() {
    let e = ends();
    e.other.set_read_marks(0, 10);
    e.other.enable(READ).unwrap();
    e.one.write(&pattern(35)).unwrap();
    e.run();
    assert_eq!((e.other.input().len(), e.one.output().len()), (10, 25));
    e.other.input().drain(4).unwrap();
    assert_eq!((e.other.input().len(), e.one.output().len()), (10, 21), "the room is used at once");
    assert!(e.one.flush(WRITE, FlushMode::Flush).unwrap());
    assert_eq!((e.other.input().len(), e.one.output().len()), (31, 0));
    assert_eq!(take_input(&e.other), pattern(35)[4..]);
}

#[test]
fn bev_57_a_normal_flush_does_nothing_and_others_call_even_without_data() {
    let e = ends();
    e.one.write(b"x").unwrap();
    assert!(!e.one.flush(READ | WRITE, FlushMode::Normal).unwrap());
    e.run();
    assert_eq!((e.log.len(), e.other_log.len(), e.other.input().len()), (0, 0, 0));
    assert!(e.one.flush(WRITE, FlushMode::Flush).unwrap());
    e.run();
    assert_eq!((e.log.take(), e.other_log.take()), (vec!["write".into()], vec!["read 1".into()]));
    for mode in [FlushMode::Flush, FlushMode::Finished] {
        assert!(e.one.flush(WRITE, mode).unwrap());
        e.run();
        assert_eq!(e.log.take(), ["write"]);
        assert_eq!(e.other_log.take()[0], "read 1");
    }
}

#[test]
fn bev_58_a_finished_flush_ends_the_partners_stream_after_its_data() {
    for (direction, told) in
        [(WRITE, "READING|EOF"), (READ, "WRITING|EOF"), (READ | WRITE, "READING|WRITING|EOF")]
    {
        let e = ends();
        e.other.enable(READ).unwrap();
        e.one.write(b"bye").unwrap();
        assert!(e.one.flush(direction, FlushMode::Finished).unwrap());
        e.run();
        let log = e.other_log.take();
        assert_eq!((log.first().unwrap().as_str(), log.last().unwrap().as_str()), ("read 3", told));
        assert_eq!(log.iter().filter(|entry| entry.contains("EOF")).count(), 1);
    }
}

#[test]
fn bev_59_after_one_end_is_freed_the_other_stands_alone() {
    let e = ends();
    assert_eq!(e.one.partner().as_ref(), Some(&e.other));
    e.other.free();
    assert_eq!((e.one.partner(), e.other.partner()), (None, None));
    e.one.write(b"kept").unwrap();
    assert_eq!(e.one.output().len(), 4);
    assert!(matches!(e.one.flush(WRITE, FlushMode::Flush), Err(Error::NoPartner)));
    assert!(matches!(e.other.flush(WRITE, FlushMode::Flush), Err(Error::Freed { .. })));
    e.run();
    assert_eq!(e.log.len(), 0);
}

#[test]
fn bev_39_each_direction_that_waits_reports_its_own_timeout() {
    let clock = SteppedClock::new();
    let e = on(EventBase::builder().clock(&clock).build().unwrap());
    for bev in [&e.one, &e.other] {
        bev.set_timeouts(Some(SECOND), Some(2 * SECOND));
    }
    e.one.enable(READ).unwrap();
    e.one.write(b"to nobody who reads").unwrap();
    e.run();
    assert_eq!(e.log.take(), ["READING|TIMEOUT", "WRITING|TIMEOUT"]);
    assert_eq!(e.other_log.take(), [""; 0], "it neither reads nor has anything to write");
    assert_eq!((e.one.enabled(), clock.elapsed()), (Direction::empty(), 2 * SECOND));
}

#[test]
fn a_transfer_starts_both_ends_timeouts_again() {
    let clock = SteppedClock::new();
    let e = on(EventBase::builder().clock(&clock).build().unwrap());
    e.other.set_timeouts(Some(SECOND), None);
    e.other.enable(READ).unwrap();
    for _ in 0..4 {
        let one = e.one.clone();
        e.base.once(Some(SECOND * 4 / 5), move |_| one.write(b"x").unwrap()).unwrap();
        e.base.run(LoopFlags::ONCE).unwrap();
    }
    let last = clock.elapsed();
    e.run();
    assert_eq!(e.other_log.take().last().unwrap(), "READING|TIMEOUT");
    assert_eq!((last, clock.elapsed()), (SECOND * 16 / 5, last + SECOND));
}

/// What a watcher adds to the output while a transfer takes from it must not be left behind.
#[test]
fn bytes_that_a_watcher_adds_during_a_transfer_move_too() {
    let e = ends();
    e.one.disable(WRITE);
    e.one.write(b"first ").unwrap();
    let (one, times) = (e.one.clone(), Count::default());
    e.one.output().on_change(move |output, change| {
        if change.added > 0 && times.up() == 1 {
            one.enable(WRITE).unwrap();
            output.append(b" third").unwrap();
        }
    });
    e.other.enable(READ).unwrap();
    e.one.write(b"second").unwrap();
    e.run();
    assert_eq!(take_input(&e.other), b"first second third");
    e.one.free();
}

/// Callbacks of a pair are deferred, so that a conversation neither recurses nor starves the poll.
#[test]
fn bytes_that_meet_a_lent_input_move_when_the_callback_has_returned() {
    let e = ends();
    let (one, log) = (e.one.clone(), e.other_log.clone());
    e.other.on_read(move |other| {
        log.note(format!("read {}", other.input().len()));
        if other.input().len() == 2 {
            let front = other.input().pull_up(2).unwrap().unwrap();
            one.write(&front).unwrap();
            assert!(matches!(one.flush(Direction::WRITE, FlushMode::Flush), Err(Error::Lent)));
        }
    });
    e.other.enable(READ).unwrap();
    e.one.write(b"hi").unwrap();
    assert_eq!(e.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(e.other_log.take(), ["read 2", "read 4"]);
    assert_eq!(take_input(&e.other), b"hihi");

    // A guard around the loop itself does not keep it busy.
    let look = e.other.input().peek(..).unwrap();
    e.one.write(b"held up").unwrap();
    assert_eq!(e.base.dispatch().unwrap(), Outcome::NoEvents);
    drop(look);
    e.one.write(b"!").unwrap();
    assert_eq!(take_input(&e.other), b"held up!");
}

#[test]
fn an_endless_conversation_leaves_the_loop_its_turns() {
    let e = ends();
    for bev in [&e.one, &e.other] {
        bev.on_read(|bev| bev.output().append_buffer(bev.input()).unwrap());
        bev.enable(READ).unwrap();
    }
    e.one.write(b"ball").unwrap();
    let ticks = Count::default();
    let tick = reactor::Event::interval(&e.base, move |tick, _| {
        if ticks.up() == 3 {
            tick.base().loop_break();
        }
    })
    .unwrap();
    tick.add(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(e.base.dispatch().unwrap(), Outcome::Stopped);
    let held = [e.one.input(), e.one.output(), e.other.input(), e.other.output()].map(|b| b.len());
    assert_eq!(held.iter().sum::<usize>(), 4);
}

#[test]
fn either_end_may_be_freed_in_any_callback() {
    for which in 0..4 {
        let e = ends();
        let (one, other) = (e.one.clone(), e.other.clone());
        let victim = if which % 2 == 0 { one } else { other };
        let log = e.other_log.clone();
        let free = move |_: &Bufferevent| {
            log.note("freed");
            victim.free();
        };
        if which < 2 {
            e.other.on_read(free);
        } else {
            e.one.on_write(free);
        }
        e.other.enable(READ).unwrap();
        e.one.write(b"x").unwrap();
        e.run();
        assert_eq!(e.other_log.count("freed"), 1);
        assert!(e.one.is_freed() != e.other.is_freed());
    }
    // In a watcher, in the middle of the transfer.
    let e = ends();
    let (one, other) = (e.one.clone(), e.other.clone());
    e.other.input().on_change(move |_, _| {
        one.free();
        other.free();
    });
    e.other.enable(READ).unwrap();
    e.one.write(b"x").unwrap();
    e.run();
    assert!(e.one.is_freed() && e.other.is_freed());
    assert_eq!((e.log.len(), e.other_log.len(), e.other.input().len()), (0, 0, 0));
}
