//! What few active among many watched descriptors cost: the work of libevent's own `bench` program.
//!
//! * `-n PAIRS` (100): socket pairs, each with a persistent read event
//! * `-a ACTIVE` (1): pairs that get a byte at the start of a round
//! * `-w WRITES` (n): bytes that the callbacks forward to the next pair, in all
//!
//! Each of 25 rounds deletes and adds all events again, then steps the loop until every byte was read. One line a
//! round: microseconds of the dispatching part. The last lines are for programs. Twin of `c/pipes.c`.
#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

mod util;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Instant;

use reactor::{Event, EventBase, EventFlags, LoopFlags};
use rustix::process::{Resource, getrlimit, setrlimit};
use util::cpu_ns;

const ROUNDS: usize = 25;
const SPARE_FDS: u64 = 50;

struct Work {
    writers: Vec<UnixStream>,
    received: Cell<usize>,
    sent: Cell<usize>,
    left: Cell<usize>,
}

impl Work {
    fn send_to(&self, to: usize) {
        assert_eq!((&self.writers[to]).write(b"x").unwrap(), 1);
        self.sent.set(self.sent.get() + 1);
    }

    fn receive(&self, from: usize, mut reader: &UnixStream) {
        assert_eq!(reader.read(&mut [0]).unwrap(), 1);
        self.received.set(self.received.get() + 1);
        if let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            self.send_to((from + 1) % self.writers.len());
        }
    }
}

fn main() {
    let pairs = util::option("-n").unwrap_or(100);
    let active = util::option("-a").unwrap_or(1);
    let writes = util::option("-w").unwrap_or(pairs);
    assert!(
        (1..=pairs).contains(&active),
        "usage: pipes [-n PAIRS] [-a ACTIVE] [-w WRITES], 1 <= ACTIVE <= PAIRS"
    );

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(pairs as u64 * 2 + SPARE_FDS);
    setrlimit(Resource::Nofile, limit).unwrap();

    let base = EventBase::new().unwrap();
    let (readers, writers): (Vec<_>, Vec<_>) = (0..pairs).map(|_| nonblocking_pair()).unzip();
    let work = Rc::new(Work { writers, received: Cell::new(0), sent: Cell::new(0), left: Cell::new(0) });
    let events: Vec<Event> = readers
        .into_iter()
        .enumerate()
        .map(|(nth, reader)| {
            let (work, reader) = (work.clone(), Rc::new(reader));
            let flags = EventFlags::READ | EventFlags::PERSIST;
            Event::fd(&base, reader.clone(), flags, move |_, _| work.receive(nth, &reader)).unwrap()
        })
        .collect();

    let (mut all_wall, mut all_cpu) = (0, 0);
    for _ in 0..ROUNDS {
        for event in &events {
            event.del();
            event.add(None).unwrap();
        }
        base.run(LoopFlags::ONCE | LoopFlags::NONBLOCK).unwrap();

        work.received.set(0);
        work.sent.set(0);
        work.left.set(writes);
        (0..active).for_each(|nth| work.send_to(nth * (pairs / active)));
        let (wall, cpu) = (Instant::now(), cpu_ns());
        while work.received.get() != work.sent.get() {
            base.run(LoopFlags::ONCE | LoopFlags::NONBLOCK).unwrap();
        }
        all_cpu += cpu_ns() - cpu;
        let wall = wall.elapsed().as_micros();
        all_wall += wall;
        assert_eq!(work.received.get(), active + writes);
        println!("{wall}");
    }
    println!(
        "pipes n={pairs} a={active} w={writes} rounds={ROUNDS} dispatch_wall_us={all_wall} dispatch_cpu_us={} \
         process_cpu_us={}",
        all_cpu / 1000,
        cpu_ns() / 1000,
    );
}

fn nonblocking_pair() -> (UnixStream, UnixStream) {
    let pair = UnixStream::pair().unwrap();
    pair.0.set_nonblocking(true).unwrap();
    pair.1.set_nonblocking(true).unwrap();
    pair
}
