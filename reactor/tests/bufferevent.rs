//! Socket bufferevents: what they read, write and report. Names carry the ids of the conformance list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use reactor::evbuffer::FileSegment;
use reactor::{
    BevEvent, BevOptions, Bufferevent, Direction, Error, Evbuffer, Event, EventBase, EventFlags, FlushMode,
    LoopFlags, Outcome, TriggerOptions,
};
use socket2::{SockRef, Socket};
use static_assertions::assert_not_impl_any;
use streams::*;

assert_not_impl_any!(Bufferevent: Send, Sync);

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn bev_01_a_new_one_has_write_enabled_and_reports_nothing() {
    each_mode(|mode| {
        let f = fixture(mode);
        assert_eq!(f.bev.enabled(), WRITE);
        f.send(b"unread");
        f.settle();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.log.len(), f.bev.input().len()), (0, 0));
    });
}

#[test]
fn bev_02_enabling_write_with_nothing_to_send_brings_one_write_callback() {
    each_mode(|mode| {
        let f = fixture(mode);
        for _ in 0..2 {
            f.bev.enable(WRITE).unwrap();
            assert_eq!(f.log.len(), 0, "never inside the call");
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.log.take(), ["write"]);
        }
    });
}

#[test]
fn bev_11_the_read_callback_follows_the_bytes_and_what_it_leaves_is_not_told_again() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.enable(READ).unwrap();
        f.send_and_see(b"12345");
        f.settle();
        assert_eq!(f.log.take(), ["read 5"]);
        f.send_and_see(b"678");
        assert_eq!(f.log.take(), ["read 8"]);
        assert_eq!(f.input(), b"12345678");
    });
}

#[test]
fn bev_12_and_13_a_pass_reads_no_more_than_the_maximum() {
    each_mode(|mode| {
        let f = fixture(mode);
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let seen = sizes.clone();
        let sent = pattern(40_000);
        f.send(&sent);
        let turns = Count::default();
        let turn = turns.clone();
        f.bev.on_read(move |bev| {
            seen.borrow_mut().push(take_input(bev).len());
            turn.up();
        });
        f.bev.enable(READ).unwrap();
        f.until(|| sizes.borrow().iter().sum::<usize>() == 40_000);
        assert!(sizes.borrow().iter().all(|&n| n <= 16_384));
        if mode.kind == Kind::Unix {
            assert_eq!(*sizes.borrow(), [16_384, 16_384, 7_232]);
        }
        sizes.borrow_mut().clear();
        f.bev.set_max_single_read(100);
        assert_eq!(f.bev.max_single_read(), 100);
        f.send(&sent[..250]);
        f.until(|| sizes.borrow().iter().sum::<usize>() == 250);
        assert_eq!(*sizes.borrow(), [100, 100, 50]);
        f.bev.set_max_single_read(0);
        assert_eq!((f.bev.max_single_read(), f.bev.max_single_write()), (16_384, 16_384));
    });
}

/// Each turn reads one piece and writes one piece, so that nobody waits for a busy neighbour.
#[test]
fn a_busy_connection_leaves_the_others_their_turn() {
    let base = EventBase::new().unwrap();
    let order = Log::default();
    let ends: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|name| {
            let (ours, peer) = connected(Kind::Unix);
            (&peer).write_all(&pattern(50_000)).unwrap();
            let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
            let order = order.clone();
            bev.on_read(move |_| order.note(name));
            bev.enable(READ).unwrap();
            (bev, peer)
        })
        .collect();
    until(&base, || ends.iter().all(|(bev, _)| bev.input().len() == 50_000));
    let order = order.take();
    assert_eq!(order.len(), 8);
    assert!(order.chunks(2).all(|turn| turn[0] != turn[1]), "{order:?}");
}

#[test]
fn bev_14_data_and_an_end_in_one_go_are_told_in_this_order_in_two_turns() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.send(b"last words");
        f.peer.shutdown(Shutdown::Write).unwrap();
        f.bev.enable(READ).unwrap();
        // What is posted from the read callback runs in its turn.
        let log = f.log.clone();
        f.bev.on_read(move |bev| {
            log.note("read");
            let log = log.clone();
            bev.base().once(None, move |_| log.note("end of turn")).unwrap();
        });
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["read", "end of turn", "READING|EOF"]);
        assert_eq!(f.input(), b"last words");
        assert!(f.bev.take_error().is_none());
    });
}

#[test]
fn bev_15_an_end_is_told_once_for_each_time_that_read_is_enabled() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.peer.shutdown(Shutdown::Write).unwrap();
        for _ in 0..3 {
            f.bev.enable(READ).unwrap();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.log.take(), ["READING|EOF"]);
            assert_eq!(f.bev.enabled(), WRITE);
        }
    });
}

#[test]
fn bev_16_a_reset_is_an_error_while_reading() {
    for deferred in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let f = fixture(Mode { kind: Kind::Tcp, options: deferred });
        f.bev.enable(READ).unwrap();
        f.peer.set_linger(Some(Duration::ZERO)).unwrap();
        drop(f.peer);
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["READING|ERROR"]);
        assert_eq!(f.bev.enabled(), WRITE);
        let error = f.bev.take_error().unwrap();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(libc::ECONNRESET))
        );
        assert!(f.bev.take_error().is_none(), "taken once");
    }
}

#[test]
fn bev_18_after_the_peers_half_close_our_side_still_sends() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.enable(READ).unwrap();
        f.peer.shutdown(Shutdown::Write).unwrap();
        f.until(|| f.log.has("READING|EOF"));
        let sent = pattern(100_000);
        f.bev.write(&sent).unwrap();
        assert_eq!(f.receive(sent.len()), sent);
    });
}

#[test]
fn bev_19_the_inner_ends_of_the_buffers_are_frozen() {
    each_mode(|mode| {
        let f = fixture(mode);
        assert!(matches!(f.bev.input().append(b"x"), Err(Error::Frozen { .. })));
        assert_eq!(f.bev.output().drain(1).unwrap(), 0, "there is nothing to drain");
        f.bev.disable(WRITE);
        f.bev.write(b"kept").unwrap();
        assert!(matches!(f.bev.output().drain(1), Err(Error::Frozen { .. })));
        assert!(matches!(f.bev.output().prepend(b"x"), Err(Error::Frozen { .. })));
        assert_eq!((f.bev.input().len(), f.bev.output().len()), (0, 4));
    });
}

#[test]
fn bev_20_read_and_read_buffer_take_from_the_input() {
    each_mode(|mode| {
        let f = fixture(mode);
        let mut bytes = [0; 4];
        assert_eq!(f.bev.read(&mut bytes), 0);
        f.bev.enable(READ).unwrap();
        f.send_and_see(b"123456");
        assert_eq!((f.bev.read(&mut bytes), &bytes), (4, b"1234"));
        let rest = Evbuffer::new();
        rest.append(b"rest: ").unwrap();
        f.bev.read_buffer(&rest).unwrap();
        assert_eq!((rest.len(), f.bev.input().len()), (8, 0));
        f.bev.write_buffer(&rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(f.receive(8), b"rest: 56");
    });
}

#[test]
fn bev_21_a_write_is_queued_and_leaves_from_the_loop() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.write(b"hello").unwrap();
        assert_eq!((f.bev.output().len(), f.log.len()), (5, 0));
        assert_eq!(f.receive(5), b"hello");
        f.settle();
        assert_eq!(f.log.take(), ["write"]);
        f.bev.set_write_mark(60_000);
        assert_eq!(f.bev.write_mark(), 60_000);
        let left = Rc::new(RefCell::new(Vec::new()));
        let seen = left.clone();
        f.bev.on_write(move |bev| seen.borrow_mut().push(bev.output().len()));
        f.bev.write(&pattern(100_000)).unwrap();
        assert_eq!(f.receive(100_000), pattern(100_000));
        f.settle();
        let left = left.borrow();
        assert!(left.iter().all(|&n| n <= 60_000) && left.first() > Some(&0) && left.last() == Some(&0));
    });
}

#[test]
fn bev_23_what_is_written_while_write_is_off_waits() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.disable(WRITE);
        f.bev.write(b"later").unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.bev.output().len(), f.log.len()), (5, 0));
        f.bev.enable(WRITE).unwrap();
        assert_eq!(f.receive(5), b"later");
        f.settle();
        assert_eq!(f.log.take(), ["write"]);
    });
}

#[test]
fn bev_24_a_write_to_a_closed_peer_is_an_error_while_writing() {
    each_mode(|mode| {
        let Fixture { base, bev, peer, log } = fixture(mode);
        bev.enable(READ).unwrap();
        (&peer).write_all(b"farewell").unwrap();
        until(&base, || log.has("read 8"));
        bev.disable(READ);
        drop(peer);
        // The first write may still be taken; the reset that answers it fails a later one.
        while bev.enabled().contains(WRITE) {
            bev.write(b"x").unwrap();
            base.run(reactor::LoopFlags::NONBLOCK).unwrap();
        }
        settle(&base);
        let log = log.take();
        assert_eq!(log.iter().filter(|entry| *entry == "WRITING|ERROR").count(), 1, "{log:?}");
        let broken = [Some(libc::EPIPE), Some(libc::ECONNRESET)];
        assert!(matches!(bev.take_error().unwrap(),
            Error::Io { source, .. } if broken.contains(&source.raw_os_error())));
        assert!(!bev.output().is_empty(), "what was not sent is kept");
        assert_eq!(take_input(&bev), b"farewell");
    });
}

#[test]
fn bev_24_an_end_follows_when_read_is_on() {
    let Fixture { base, bev, peer, log } = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    bev.enable(READ).unwrap();
    drop(peer);
    bev.write(b"x").unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    let mut log = log.take();
    log.sort();
    assert_eq!(log, ["READING|EOF", "WRITING|ERROR"]);
    assert_eq!(bev.enabled(), Direction::empty());
}

/// A writer that is far ahead of its reader: everything comes, in order, and memory goes as it leaves.
#[test]
fn an_error_can_be_taken_after_the_end_that_follows_it() {
    each_mode(|mode| {
        let Fixture { base, bev, peer, log } = fixture(mode);
        drop(peer);
        bev.write(b"to nobody").unwrap();
        until(&base, || log.has("WRITING|ERROR") || bev.write(b"more").is_err());
        bev.enable(READ).unwrap();
        until(&base, || log.has("READING|EOF") || log.has("READING|ERROR"));
        assert!(matches!(bev.take_error(), Some(Error::Io { .. })));
        assert!(bev.take_error().is_none());
    });
}

#[test]
fn bev_25_many_megabytes_to_a_slow_reader() {
    each_mode(|mode| {
        let f = fixture(mode);
        let sent = pattern(8 << 20);
        for piece in sent.chunks(100_000) {
            f.bev.write(piece).unwrap();
        }
        let mut got = Vec::new();
        let mut last = f.bev.output().len();
        while got.len() < sent.len() {
            got.extend(f.receive((sent.len() - got.len()).min(300_000)));
            assert!(f.bev.output().len() <= last);
            last = f.bev.output().len();
        }
        assert!(got == sent);
        f.settle();
        assert_eq!(f.log.take(), ["write"]);
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    });
}

#[test]
fn both_directions_at_once_are_byte_exact() {
    each_mode(|mode| {
        let base = EventBase::new().unwrap();
        let (one, other) = connected(mode.kind);
        let ends = [one, other].map(|socket| Bufferevent::socket(&base, socket, mode.options).unwrap());
        let sent = [pattern(3 << 20), pattern((3 << 20) + 1)];
        let got = [Evbuffer::new(), Evbuffer::new()];
        for (bev, got) in ends.iter().zip(&got) {
            let got = got.clone();
            bev.on_read(move |bev| bev.read_buffer(&got).unwrap());
            bev.enable(READ).unwrap();
        }
        for (bev, sent) in ends.iter().zip(&sent) {
            bev.write(sent).unwrap();
        }
        until(&base, || got[0].len() == sent[1].len() && got[1].len() == sent[0].len());
        for (got, sent) in got.iter().zip([&sent[1], &sent[0]]) {
            let mut bytes = vec![0; got.len()];
            got.remove(&mut bytes).unwrap();
            assert!(bytes == *sent);
        }
    });
}

#[test]
fn bev_26_a_file_in_the_output_obeys_the_maximum() {
    each_mode(|mode| {
        let f = fixture(mode);
        let content = pattern(1 << 20);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let segment = FileSegment::new(file, 0, content.len() as u64).unwrap();
        let most = 10_000;
        f.bev.set_max_single_write(most);
        assert_eq!(f.bev.max_single_write(), most);
        let largest = Count::default();
        let seen = largest.clone();
        f.bev.output().on_change(move |_, change| seen.set(seen.get().max(change.deleted)));
        f.bev.write(b"head").unwrap();
        f.bev.output().append_file(&segment, 0..segment.len()).unwrap();
        f.bev.write(b"tail").unwrap();
        let got = f.receive(content.len() + 8);
        assert!(got[..4] == *b"head" && got[4..content.len() + 4] == content && got.ends_with(b"tail"));
        assert!(largest.get() > 0 && largest.get() <= most, "{} in one pass", largest.get());
    });
}

#[test]
fn a_file_that_is_too_short_is_an_error_while_writing() {
    each_mode(|mode| {
        let f = fixture(mode);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"short").unwrap();
        let segment = FileSegment::new(file, 0, 100).unwrap();
        f.bev.output().append_file(&segment, 0..100).unwrap();
        assert_eq!(f.receive(5), b"short");
        f.until(|| f.log.has("WRITING|ERROR"));
        assert!(matches!(f.bev.take_error(), Some(Error::FileShort { needed: 100, end: 5, .. })));
        assert_eq!(f.bev.enabled(), Direction::empty());
    });
}

#[test]
fn bev_27_a_write_from_any_callback_is_sent_without_more_ado() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.on_read(|bev| {
            take_input(bev);
            bev.write(b"R").unwrap();
        });
        let once = Count::default();
        f.bev.on_write(move |bev| {
            if once.up() == 1 {
                bev.write(b"W").unwrap();
            }
        });
        f.bev.on_event(|bev, _| bev.write(b"E").unwrap());
        f.bev.enable(READ).unwrap();
        f.send(b"x");
        assert_eq!(f.receive(2), b"RW");
        f.peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(f.receive(1), b"E");
    });
}

#[test]
fn bev_29_an_end_below_the_low_mark_is_told_and_the_bytes_stay() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_read_marks(10, 0);
        f.bev.enable(READ).unwrap();
        f.send(b"four");
        f.peer.shutdown(Shutdown::Write).unwrap();
        f.until(|| f.log.len() > 0);
        f.settle();
        assert_eq!(f.log.take(), ["READING|EOF"]);
        assert_eq!(f.input(), b"four");
    });
}

#[test]
fn bev_30_the_input_never_passes_the_high_mark_and_draining_resumes() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_read_marks(0, 20);
        assert_eq!(f.bev.read_marks(), (0, 20));
        let sent = pattern(100);
        f.send(&sent);
        f.bev.enable(READ).unwrap();
        let mut got = Vec::new();
        while got.len() < 100 {
            f.until(|| f.bev.input().len() == 20.min(100 - got.len()));
            f.settle();
            assert!(f.bev.input().len() <= 20);
            let mut some = [0; 7];
            let n = f.bev.read(&mut some);
            got.extend_from_slice(&some[..n]);
        }
        assert_eq!(got, sent);
    });
}

/// Edges tell once; what a high mark left in the socket must be fetched by whoever makes room, wherever that happens.
#[test]
fn a_high_mark_never_stalls_wherever_the_input_is_drained() {
    each_mode(|mode| {
        let sent = pattern(10_000);
        for place in ["outside", "a timer", "another's callback", "its own callback", "a watcher"] {
            let f = fixture(mode);
            f.bev.set_read_marks(0, 64);
            f.bev.enable(READ).unwrap();
            f.send(&sent);
            let got = Evbuffer::new();
            let drain = {
                let (bev, got) = (f.bev.clone(), got.clone());
                move || assert!(bev.input().remove_buffer(&got, 13).unwrap() <= 13)
            };
            match place {
                "a timer" => {
                    let tick = reactor::Event::interval(&f.base, move |_, _| drain()).unwrap();
                    tick.add(Some(Duration::from_micros(100))).unwrap();
                }
                "another's callback" => {
                    let (one, other) = Bufferevent::pair(&f.base, BevOptions::empty()).unwrap();
                    one.on_read(move |one| {
                        drain();
                        one.output().append_buffer(one.input()).unwrap();
                        one.base().loop_break();
                    });
                    other.on_read(|other| other.output().append_buffer(other.input()).unwrap());
                    one.enable(READ).unwrap();
                    other.enable(READ).unwrap();
                    one.write(b"round and round").unwrap();
                }
                "its own callback" => {
                    // Leaves the input above nothing, yet below the mark: the rest must come by itself.
                    let got = got.clone();
                    f.bev.on_read(move |bev| assert!(bev.input().remove_buffer(&got, 13).unwrap() <= 13));
                }
                "a watcher" => {
                    let got = got.clone();
                    f.bev.input().on_change(move |input, change| {
                        if change.added > 0 {
                            input.remove_buffer(&got, 13).unwrap();
                        }
                    });
                }
                _ => (),
            }
            let drain = {
                let (bev, got) = (f.bev.clone(), got.clone());
                move || assert!(bev.input().remove_buffer(&got, 13).unwrap() <= 13)
            };
            if place == "outside" {
                while got.len() < sent.len() {
                    f.until(|| !f.bev.input().is_empty());
                    drain();
                }
            } else {
                f.until(|| got.len() + f.bev.input().len() == sent.len());
                while got.len() < sent.len() {
                    drain();
                }
            }
            let mut bytes = vec![0; got.len()];
            got.remove(&mut bytes).unwrap();
            assert!(bytes == sent, "drained from {place}");
        }
    });
}

#[test]
fn bev_31_a_mark_below_the_input_suspends_and_its_removal_resumes() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.enable(READ).unwrap();
        f.send_and_see(b"0123456789");
        f.bev.set_read_marks(0, 5);
        f.send(b"more");
        f.settle();
        assert_eq!(f.bev.input().len(), 10);
        f.bev.set_read_marks(0, 0);
        f.until(|| f.bev.input().len() == 14);
    });
}

#[test]
fn bev_32_a_callback_that_leaves_the_input_full_is_not_called_in_circles() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_read_marks(0, 20);
        f.send(&pattern(100));
        f.bev.enable(READ).unwrap();
        f.until(|| f.bev.input().len() == 20);
        f.settle();
        assert_eq!(f.log.take(), ["read 20"]);
        assert_eq!(
            f.base.dispatch().unwrap(),
            Outcome::NoEvents,
            "nothing can come but from outside the loop"
        );
    });
}

#[test]
fn bev_34_a_read_timeout_turns_read_off_and_enabling_arms_it_again() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (f, clock) = stepped(options);
        f.bev.set_timeouts(Some(SECOND), None);
        for nth in 1..=2 {
            f.bev.enable(READ).unwrap();
            assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
            assert_eq!(f.log.take(), ["READING|TIMEOUT"]);
            assert_eq!((f.bev.enabled(), clock.elapsed()), (WRITE, nth * SECOND));
        }
    }
}

#[test]
fn bev_35_a_write_timeout_counts_only_while_something_is_to_be_sent() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (f, clock) = stepped(options);
        f.bev.set_timeouts(None, Some(SECOND));
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((f.log.len(), clock.elapsed()), (0, Duration::ZERO), "an idle writer");
        let sent = pattern(4 << 20);
        f.bev.write(&sent).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["WRITING|TIMEOUT"]);
        assert_eq!((f.bev.enabled(), clock.elapsed()), (Direction::empty(), SECOND));
        assert!(!f.bev.output().is_empty());
        f.bev.set_timeouts(None, None);
        f.bev.enable(WRITE).unwrap();
        assert!(f.receive(sent.len()) == sent, "the data was kept");
    }
}

#[test]
fn bev_36_timeouts_apply_to_what_is_enabled_and_a_transfer_starts_them_again() {
    let (f, clock) = stepped(BevOptions::empty());
    f.bev.enable(READ).unwrap();
    f.bev.set_timeouts(Some(SECOND), None);
    for nth in 1..=5u32 {
        let peer = f.peer.try_clone().unwrap();
        f.base.once(Some(SECOND * 4 / 5), move |_| (&peer).write_all(b"x").unwrap()).unwrap();
        f.until(|| f.bev.input().len() == nth as usize);
        assert_eq!(clock.elapsed(), SECOND * 4 / 5 * nth);
    }
    f.log.take();
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["READING|TIMEOUT"]);
    assert_eq!(clock.elapsed(), SECOND * 4 + SECOND, "exactly one second after the last byte");
}

#[test]
fn bev_36_a_transfer_starts_the_write_timeout_again() {
    let (f, clock) = stepped(BevOptions::empty());
    f.bev.set_timeouts(None, Some(SECOND));
    let sent = pattern(3 << 20);
    f.bev.write(&sent).unwrap();
    let got = Count::default();
    let (peer, read) = (f.peer.try_clone().unwrap(), got.clone());
    let reader = reactor::Event::interval(&f.base, move |reader, _| {
        let mut some = vec![0; 500_000];
        if let Ok(n) = (&peer).read(&mut some) {
            read.set(read.get() + n);
        }
        if read.get() >= 2 << 20 {
            reader.free();
        }
    })
    .unwrap();
    reader.add(Some(SECOND * 4 / 5)).unwrap();
    f.until(|| reader.is_freed());
    assert_eq!(f.log.len(), 0, "it went on all the time");
    let last = clock.elapsed();
    assert!(last > 2 * SECOND);
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["WRITING|TIMEOUT"]);
    assert_eq!(clock.elapsed(), last + SECOND);
}

#[test]
fn bev_37_the_read_timeout_does_not_run_while_the_high_mark_holds_reading_up() {
    let (f, clock) = stepped(BevOptions::empty());
    f.bev.set_timeouts(Some(SECOND), None);
    f.bev.set_read_marks(0, 4);
    f.bev.enable(READ).unwrap();
    f.send(b"1234");
    f.until(|| f.bev.input().len() == 4);
    f.base.once(Some(10 * SECOND), |_| ()).unwrap();
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["read 4"]);
    assert_eq!(clock.elapsed(), 10 * SECOND);
    f.input();
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["READING|TIMEOUT"]);
    assert_eq!(clock.elapsed(), 11 * SECOND, "it counts from when reading went on");
}

#[test]
fn bev_38_data_in_the_turn_of_the_timeout_wins() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let (f, clock) = stepped(options);
        f.bev.enable(READ).unwrap();
        f.settle();
        f.bev.set_timeouts(Some(SECOND), None);
        f.send(b"in time");
        clock.advance(SECOND);
        f.until(|| f.log.len() > 0);
        f.settle();
        assert_eq!(f.log.take()[0], "read 7");
    }
}

#[test]
fn a_timeout_that_was_overtaken_is_not_told() {
    type Act = fn(&Bufferevent);
    let overtake: [(&str, Act); 3] = [
        ("disabled", |bev| bev.disable(READ)),
        ("set anew", |bev| bev.set_timeouts(Some(5 * SECOND), None)),
        ("taken away", |bev| drop(bev.take_socket())),
    ];
    for (how, act) in overtake {
        let (f, clock) = stepped(BevOptions::empty());
        f.bev.set_timeouts(Some(SECOND), None);
        let bev = f.bev.clone();
        // Due at the same time and made first, so it runs first.
        f.base.once(Some(SECOND), move |_| act(&bev)).unwrap();
        f.bev.enable(READ).unwrap();
        f.until(|| clock.elapsed() == SECOND);
        f.settle();
        let log = f.log.take();
        let early = log.iter().any(|entry| entry == "READING|TIMEOUT") && clock.elapsed() == SECOND;
        assert!(!early, "{how}: {log:?}");
    }
}

#[test]
fn both_timeouts_pass_each_for_itself() {
    let (f, clock) = stepped(BevOptions::empty());
    f.bev.set_timeouts(Some(SECOND), Some(2 * SECOND));
    f.bev.enable(READ).unwrap();
    f.bev.write(&pattern(4 << 20)).unwrap();
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["READING|TIMEOUT", "WRITING|TIMEOUT"]);
    assert_eq!(clock.elapsed(), 2 * SECOND);
}

#[test]
fn bev_41_deferred_callbacks_run_from_the_loop_merged_and_in_order() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::DEFER_CALLBACKS });
    let options = TriggerOptions::IGNORE_WATERMARKS;
    f.bev.trigger_event(BevEvent::TIMEOUT | BevEvent::READING, options);
    f.bev.trigger(WRITE, options);
    f.bev.trigger(READ, options);
    f.bev.trigger(READ, options);
    f.bev.trigger_event(BevEvent::CONNECTED, options);
    f.bev.trigger_event(BevEvent::EOF, options);
    assert_eq!(f.log.len(), 0);
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.take(), ["CONNECTED", "read 0", "write", "READING|EOF|TIMEOUT"]);
}

#[test]
fn bev_42_deferred_data_comes_before_the_end_that_follows_it() {
    for kind in KINDS {
        let f = fixture(Mode { kind, options: BevOptions::DEFER_CALLBACKS });
        f.bev.enable(READ).unwrap();
        f.send(b"bye");
        f.peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(f.log.take(), ["read 3", "READING|EOF"]);
    }
}

#[test]
fn bev_44_a_trigger_obeys_the_low_marks_unless_told_otherwise() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    f.bev.disable(WRITE);
    f.bev.set_read_marks(5, 0);
    f.bev.write(b"queued").unwrap();
    f.bev.trigger(READ | WRITE, TriggerOptions::empty());
    assert_eq!(f.log.len(), 0);
    f.bev.trigger(READ | WRITE, TriggerOptions::IGNORE_WATERMARKS);
    assert_eq!(f.log.take(), ["read 0", "write"]);
    f.bev.set_write_mark(6);
    f.bev.trigger(WRITE, TriggerOptions::empty());
    assert_eq!(f.log.take(), ["write"]);
}

#[test]
fn bev_45_a_trigger_calls_at_once_or_from_the_loop_when_asked() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    f.bev.trigger(WRITE, TriggerOptions::empty());
    assert_eq!(f.log.take(), ["write"]);
    f.bev.trigger(WRITE, TriggerOptions::DEFER_CALLBACKS);
    f.bev.trigger_event(BevEvent::EOF, TriggerOptions::DEFER_CALLBACKS);
    assert_eq!(f.log.len(), 0);
    f.base.dispatch().unwrap();
    assert_eq!(f.log.take(), ["write", "EOF"]);
}

#[test]
fn bev_46_an_event_trigger_gives_exactly_its_flags_and_changes_nothing() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    f.bev.enable(READ).unwrap();
    let all = BevEvent::all();
    f.bev.trigger_event(all, TriggerOptions::empty());
    assert_eq!(f.log.take(), [names(all)]);
    assert_eq!(f.bev.enabled(), READ | WRITE);
    f.send_and_see(b"still reading");
}

#[test]
fn bev_51_without_a_socket_nothing_is_polled_and_the_input_is_the_users() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.enable(READ).unwrap();
        f.settle();
        let socket = f.bev.take_socket().unwrap();
        assert_eq!(f.bev.raw_fd(), None);
        f.send(b"unheard");
        assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
        f.bev.input().append(b"by hand").unwrap();
        f.bev.write(b"out").unwrap();
        f.bev.output().drain(1).unwrap();
        assert_eq!((f.input(), f.log.len()), (b"by hand".to_vec(), 0));
        assert!(f.bev.take_socket().is_none());
        assert!(f.bev.replace_socket(Some(socket)).unwrap().is_none());
        assert!(matches!(f.bev.input().append(b"x"), Err(Error::Frozen { .. })));
        f.until(|| f.bev.input().len() == 7);
        assert_eq!((f.input(), f.receive(2)), (b"unheard".to_vec(), b"ut".to_vec()));
    });
}

#[test]
fn bev_52_flushing_a_socket_does_nothing() {
    let f = fixture(Mode { kind: Kind::Unix, options: BevOptions::empty() });
    f.bev.write(b"queued").unwrap();
    for mode in [FlushMode::Normal, FlushMode::Flush, FlushMode::Finished] {
        assert!(!f.bev.flush(READ | WRITE, mode).unwrap());
    }
    assert_eq!((f.bev.output().len(), f.log.len()), (6, 0));
}

/// A read stops at urgent data although more follows it, and no further edge comes for that.
#[test]
fn urgent_data_does_not_stall_what_follows_it() {
    for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
        let f = fixture(Mode { kind: Kind::Tcp, options });
        f.send(b"before");
        f.peer.send_out_of_band(b"!").unwrap();
        f.send(b"after");
        f.bev.enable(READ).unwrap();
        f.until(|| f.bev.input().len() >= 11);
        assert_eq!(f.input(), b"beforeafter");
    }
}

/// The turn that finds out that a full read was the last one does not make `ONCE` wait for another.
#[test]
fn once_returns_after_a_read_that_only_looked_like_having_more_behind_it() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_max_single_read(8);
        f.bev.enable(READ).unwrap();
        f.send(b"8 bytes!");
        assert_eq!(f.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
        assert_eq!(f.input(), b"8 bytes!");
    });
}

#[test]
fn once_is_one_pass_of_a_stream_that_has_more_to_read() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.set_max_single_read(8);
        f.bev.enable(READ).unwrap();
        f.send(&[0; 20]);
        for passed in [8, 16, 20] {
            assert_eq!(f.base.run(LoopFlags::ONCE).unwrap(), Outcome::Stopped);
            assert_eq!(f.log.take(), [format!("read {passed}")]);
        }
    });
}

#[test]
fn an_unknown_priority_is_refused_and_priorities_order_the_callbacks() {
    let base = EventBase::builder().priorities(3).build().unwrap();
    let order = Log::default();
    let ends: Vec<_> = [(2, "last"), (0, "first")]
        .into_iter()
        .map(|(priority, name)| {
            let (ours, peer) = connected(Kind::Unix);
            (&peer).write_all(b"x").unwrap();
            let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
            assert_eq!(bev.priority(), 1);
            bev.set_priority(priority).unwrap();
            assert!(matches!(bev.set_priority(3), Err(Error::Priority { priority: 3, count: 3 })));
            let order = order.clone();
            bev.on_read(move |_| order.note(name));
            bev.enable(READ).unwrap();
            (bev, peer)
        })
        .collect();
    until(&base, || order.len() == 2);
    assert_eq!(order.take(), ["first", "last"]);
    drop(ends);
}

#[test]
fn a_socket_that_cannot_be_polled_leaves_the_old_one_in_its_place() {
    each_mode(|mode| {
        let f = fixture(mode);
        f.bev.enable(READ).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(f.bev.replace_socket(Some(file.into())), Err(Error::Io { .. })));
        f.send_and_see(b"still here");
    });
}

#[test]
fn a_priority_that_is_set_while_it_is_active_counts_from_the_next_turn() {
    let base = EventBase::builder().priorities(2).build().unwrap();
    let log = Log::default();
    let (bev, _partner) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    log.watch(&bev);
    bev.trigger(READ, TriggerOptions::empty());
    let noted = log.clone();
    let urgent = Event::timer(&base, move |_, _| noted.note("urgent")).unwrap();
    urgent.set_priority(0).unwrap();
    urgent.activate(EventFlags::TIMEOUT);
    bev.set_priority(0).unwrap();
    // It leaves the queue that it is in, not the one of its new priority, where another event has its place.
    bev.free();
    assert_eq!(base.counts().active, 1);
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(log.take(), ["urgent"]);
}

#[test]
fn a_write_callback_that_is_owed_is_forgotten_when_write_is_turned_off() {
    let (f, _clock) = stepped(BevOptions::empty());
    f.bev.set_timeouts(None, Some(SECOND));
    f.bev.enable(WRITE).unwrap();
    assert_eq!(f.base.counts().added - f.base.counts().active, 2, "the callback and the time-out");
    f.bev.disable(WRITE);
    assert_eq!(f.base.counts().added - f.base.counts().active, 0);
    assert_eq!(f.base.dispatch().unwrap(), Outcome::NoEvents);
    assert_eq!(f.log.len(), 0);
}

#[test]
fn a_loop_ends_exactly_when_nothing_can_come_any_more() {
    each_mode(|mode| {
        let Fixture { base, bev, peer, log } = fixture(mode);
        let idle = || base.dispatch().unwrap() == Outcome::NoEvents;
        assert!(idle());
        bev.enable(READ).unwrap();
        assert_eq!(base.counts().added, 1);
        bev.disable(READ);
        assert!(idle());
        bev.enable(READ).unwrap();
        assert_eq!(base.counts().added, 1);
        let socket = bev.take_socket();
        assert!(idle());
        bev.replace_socket(socket).unwrap();
        // Reading, and the write callback that is owed for turning writing on again.
        assert_eq!(base.counts().added, 2);
        // A failed connect leaves neither a socket nor a reason to wait.
        let nowhere = reactor::Address::Path("/nonexistent/socket".into());
        assert!(matches!(bev.connect(&nowhere), Err(Error::Connect { .. })));
        assert_eq!((base.counts().added, bev.raw_fd()), (0, None));
        assert!(idle());
        drop(peer);
        bev.free();
        assert!(idle());
        assert_eq!(log.len(), 0);
    });
}

#[test]
fn its_addresses_are_those_of_its_socket() {
    for kind in KINDS {
        let (ours, peer) = connected(kind);
        let expected = [&ours, &peer].map(|socket| address_of(&socket.local_addr().unwrap()));
        let base = EventBase::new().unwrap();
        let bev = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
        assert_eq!([bev.local_address().unwrap(), bev.peer_address().unwrap()], expected);
        bev.free();
        assert!(matches!(bev.local_address(), Err(Error::Freed { .. })));
        assert!(matches!(bev.peer_address(), Err(Error::Freed { .. })));
        let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
        let error = bev.peer_address().unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot ask for the peer's address of a stream: it is not connected: connect it first"
        );
        let (one, _other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
        assert!(matches!(one.local_address(), Err(Error::NotASocket)));
    }
}

#[test]
fn its_socket_can_be_borrowed_for_what_this_crate_does_not_set() {
    each_mode(|mode| {
        let f = fixture(mode);
        let set = f.bev.with_socket(|fd| SockRef::from(&fd).set_linger(Some(SECOND)));
        set.unwrap().unwrap();
        let linger = f.bev.with_socket(|fd| SockRef::from(&fd).linger()).unwrap().unwrap();
        assert_eq!(linger, Some(SECOND));
        // Inside it, anything goes: what is lent stays open until the borrow ends.
        let taken = f.bev.with_socket(|fd| {
            let taken = f.bev.take_socket().unwrap();
            assert!(f.bev.with_socket(|_| ()).is_none());
            (&*SockRef::from(&fd)).write_all(b"one ").unwrap();
            taken
        });
        Socket::from(taken.unwrap()).write_all(b"two").unwrap();
        assert_eq!(f.receive(7), b"one two");
        assert!(is_closed(&f.base, &f.peer), "neither is left");
        let (ours, peer) = connected(mode.kind);
        f.bev.replace_socket(Some(ours.into())).unwrap();
        f.bev.with_socket(|fd| {
            f.bev.free();
            (&*SockRef::from(&fd)).write_all(b"three").unwrap();
        });
        assert_eq!(receive(&f.base, &peer, 5), b"three");
        assert!(is_closed(&f.base, &peer));
        assert!(f.bev.with_socket(|_| ()).is_none());
        let (one, _other) = Bufferevent::pair(&f.base, BevOptions::empty()).unwrap();
        assert!(one.with_socket(|_| ()).is_none());
    });
}

#[test]
fn its_keep_alive_holds_for_every_socket_it_gets() {
    let keepalive = |bev: &Bufferevent| {
        bev.with_socket(|fd| {
            let socket = SockRef::from(&fd);
            let idle = socket.keepalive().unwrap().then(|| socket.tcp_keepalive_time().unwrap());
            (idle, socket.tcp_nodelay().unwrap())
        })
    };
    let base = EventBase::new().unwrap();
    let (_listener, address) = bound(Kind::Tcp, Some(8));
    let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
    bev.connect(&address).unwrap();
    assert_eq!(keepalive(&bev), Some((None, true)));
    let rounded = [
        (Duration::ZERO, 1),
        (Duration::from_millis(1), 1),
        (Duration::from_millis(1001), 2),
        (Duration::from_secs(60), 60),
        (Duration::MAX, 32_767),
    ];
    for (given, seconds) in rounded {
        bev.set_keepalive(Some(given)).unwrap();
        assert_eq!(keepalive(&bev), Some((Some(Duration::from_secs(seconds)), true)));
    }
    bev.set_keepalive(Some(7 * SECOND)).unwrap();
    bev.connect(&address).unwrap();
    assert_eq!(keepalive(&bev), Some((Some(7 * SECOND), true)), "kept over a connect");
    bev.replace_socket(Some(connected(Kind::Tcp).0.into())).unwrap();
    assert_eq!(keepalive(&bev).unwrap().0, Some(7 * SECOND));
    bev.set_keepalive(None).unwrap();
    assert_eq!(keepalive(&bev).unwrap().0, None);
    let on = connected(Kind::Tcp).0;
    on.set_keepalive(true).unwrap();
    bev.replace_socket(Some(on.into())).unwrap();
    assert_eq!(keepalive(&bev).unwrap().0, None, "and off is kept too");
    bev.set_keepalive(Some(SECOND)).unwrap();
    bev.replace_socket(Some(connected(Kind::Unix).0.into())).unwrap();
    bev.set_keepalive(Some(SECOND)).unwrap();
    let (one, _other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
    assert!(matches!(one.set_keepalive(None), Err(Error::NotASocket)));
    bev.free();
    assert!(matches!(bev.set_keepalive(None), Err(Error::Freed { .. })));
}
