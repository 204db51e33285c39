//! Random interleavings of all that holds a stream up and lets it go on: every byte arrives, in order, and nothing
//! stalls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::RefCell;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use reactor::{BevEvent, BevOptions, Bufferevent, Direction, Evbuffer, EventBase, LoopFlags, Outcome};
use socket2::Socket;
use streams::*;

/// Connections at a time.
const PAIRS: usize = 3;
const ENDS: usize = 2 * PAIRS;

#[derive(Clone, Debug)]
enum Step {
    Write { end: usize, n: usize },
    Enable { end: usize, what: u8 },
    Disable { end: usize, what: u8 },
    Marks { end: usize, low: usize, high: usize },
    MaxRead { end: usize, n: usize },
    MaxWrite { end: usize, n: usize },
    Drain { end: usize, n: usize },
    TakeSocket { end: usize },
    GiveSocket { end: usize },
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let end = 0..ENDS;
    let what = prop_oneof![Just(2u8), Just(4), Just(6)];
    prop_oneof![
        4 => (end.clone(), prop_oneof![0..100usize, 1000..200_000usize]).prop_map(|(end, n)| Step::Write { end, n }),
        2 => (end.clone(), what.clone()).prop_map(|(end, what)| Step::Enable { end, what }),
        2 => (end.clone(), what).prop_map(|(end, what)| Step::Disable { end, what }),
        1 => (end.clone(), 0..50usize, prop_oneof![Just(0), 50..20_000usize])
            .prop_map(|(end, low, high)| Step::Marks { end, low, high }),
        1 => (end.clone(), 0..40_000usize).prop_map(|(end, n)| Step::MaxRead { end, n }),
        1 => (end.clone(), 0..40_000usize).prop_map(|(end, n)| Step::MaxWrite { end, n }),
        2 => (end.clone(), 0..30_000usize).prop_map(|(end, n)| Step::Drain { end, n }),
        1 => end.clone().prop_map(|end| Step::TakeSocket { end }),
        1 => end.prop_map(|end| Step::GiveSocket { end }),
        5 => Just(Step::Turn),
    ]
}

struct End {
    bev: Bufferevent,
    /// The same socket, to shut it down.
    socket: Socket,
    taken: Option<OwnedFd>,
    sent: Vec<u8>,
    got: Evbuffer,
    ends: Rc<RefCell<Vec<BevEvent>>>,
}

fn ends(base: &EventBase, mode: Mode, eager: bool) -> Vec<End> {
    let connected = (0..PAIRS).flat_map(|_| <[Socket; 2]>::from(connected(mode.kind)));
    connected
        .map(|socket| {
            let bev = Bufferevent::socket(base, socket.try_clone().unwrap(), mode.options).unwrap();
            let (got, ends) = (Evbuffer::new(), Rc::<RefCell<Vec<_>>>::default());
            if eager {
                let got = got.clone();
                bev.on_read(move |bev| bev.read_buffer(&got).unwrap());
            }
            let events = ends.clone();
            bev.on_event(move |_, what| events.borrow_mut().push(what));
            End { bev, socket, taken: None, sent: Vec::new(), got, ends }
        })
        .collect()
}

fn act(base: &EventBase, ends: &mut [End], step: &Step) {
    let direction = |what: u8| Direction::from_bits(what).unwrap();
    match *step {
        Step::Write { end, n } => {
            let end = &mut ends[end];
            let bytes: Vec<u8> = (end.sent.len()..end.sent.len() + n).map(|i| (i ^ (i >> 9)) as u8).collect();
            // While it has no socket, the user could take the output apart; it only adds to it here.
            end.bev.write(&bytes).unwrap();
            end.sent.extend_from_slice(&bytes);
        }
        Step::Enable { end, what } => ends[end].bev.enable(direction(what)).unwrap(),
        Step::Disable { end, what } => ends[end].bev.disable(direction(what)),
        Step::Marks { end, low, high } => ends[end].bev.set_read_marks(low, high),
        Step::MaxRead { end, n } => ends[end].bev.set_max_single_read(n),
        Step::MaxWrite { end, n } => ends[end].bev.set_max_single_write(n),
        Step::Drain { end, n } => {
            ends[end].bev.input().remove_buffer(&ends[end].got, n).unwrap();
        }
        Step::TakeSocket { end } => {
            if let Some(socket) = ends[end].bev.take_socket() {
                ends[end].taken = Some(socket);
            }
        }
        Step::GiveSocket { end } => {
            if let Some(socket) = ends[end].taken.take() {
                ends[end].bev.replace_socket(Some(socket)).unwrap();
            }
        }
        Step::Turn => assert_ne!(
            base.run(LoopFlags::NONBLOCK | LoopFlags::NO_EXIT_ON_EMPTY).unwrap(),
            Outcome::NoEvents
        ),
    }
}

/// Lets everything go on, whatever held it, and waits for every byte.
fn finish(base: &EventBase, ends: &mut [End], mode: Mode) {
    let start = Instant::now();
    for end in ends.iter_mut() {
        if let Some(socket) = end.taken.take() {
            end.bev.replace_socket(Some(socket)).unwrap();
        }
        end.bev.enable(Direction::all()).unwrap();
    }
    let total = |ends: &[End]| ends.iter().map(|end| end.got.len()).sum::<usize>();
    let expected: usize = ends.iter().map(|end| end.sent.len()).sum();
    let mut quiet = 0;
    while total(ends) < expected {
        let before = total(ends);
        base.run(LoopFlags::NONBLOCK).unwrap();
        for end in ends.iter() {
            end.bev.input().remove_buffer(&end.got, 10_000).unwrap();
        }
        quiet = if total(ends) == before { quiet + 1 } else { 0 };
        // Between Unix sockets everything happens in the calls themselves; TCP may take its time.
        let has_stalled = match mode.kind {
            Kind::Unix => quiet > 50,
            Kind::Tcp => start.elapsed() > Duration::from_secs(30),
        };
        assert!(!has_stalled, "stalled at {} of {expected} bytes", total(ends));
    }
    for end in ends.iter() {
        assert!(end.ends.borrow().is_empty() && end.bev.output().is_empty());
        end.bev.set_read_marks(0, 0);
        end.socket.shutdown(Shutdown::Write).unwrap();
    }
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
    for (nth, end) in ends.iter().enumerate() {
        let partner = &ends[nth ^ 1];
        let mut got = vec![0; end.got.len()];
        end.got.remove(&mut got).unwrap();
        assert!(got == partner.sent, "end {nth} got {} of {} bytes", got.len(), partner.sent.len());
        assert_eq!(*end.ends.borrow(), [BevEvent::READING | BevEvent::EOF]);
        assert_eq!(end.bev.enabled(), WRITE);
        end.bev.free();
    }
    assert_eq!(base.counts().added, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_in_order_and_nothing_stalls(
        steps in proptest::collection::vec(step(), 1..120),
        is_tcp in any::<bool>(),
        is_deferred in any::<bool>(),
        is_eager in any::<bool>(),
    ) {
        let kind = if is_tcp { Kind::Tcp } else { Kind::Unix };
        let options = if is_deferred { BevOptions::DEFER_CALLBACKS } else { BevOptions::empty() };
        let mode = Mode { kind, options };
        let base = EventBase::new().unwrap();
        let mut ends = ends(&base, mode, is_eager);
        for step in &steps {
            act(&base, &mut ends, step);
        }
        finish(&base, &mut ends, mode);
    }
}
