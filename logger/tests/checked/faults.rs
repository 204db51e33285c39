//! The original's faults, each in a pair of buffers under a lock as small as it can be. A checker that misses one proves
//! nothing about ours.

use std::fmt::{self, Display};

use crate::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, spawn, wait};

/// Numbered as in the list of promises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    BothFlagsTrue = 2,
    SwapsTwice = 4,
    ExitNoticeLost = 5,
    FullThrowsAway = 12,
    WaitsTheWrongWay = 13,
}

pub(crate) const ALL: [Fault; 5] = [
    Fault::BothFlagsTrue,
    Fault::SwapsTwice,
    Fault::ExitNoticeLost,
    Fault::FullThrowsAway,
    Fault::WaitsTheWrongWay,
];

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// What a lost record is reported as.
pub(crate) const LOST: &str = "a record was lost";
/// What a worker that goes round and round is reported as.
pub(crate) const SPINS: &str = "the worker spins with nothing to do";
/// Rounds for nothing that are no fault: a wake-up that came late.
const IDLE_ROUNDS: usize = 4;

const RECORDS: [u64; 3] = [1, 2, 3];

#[derive(Default)]
struct Buffers {
    producer: Vec<u64>,
    consumer: Vec<u64>,
    /// The worker may read.
    is_ready: bool,
    /// The producer may swap.
    is_consumed: bool,
}

struct Faulty {
    fault: Option<Fault>,
    buffers: Mutex<Buffers>,
    changed: Condvar,
    is_stopping: AtomicBool,
}

/// One producer, which stops the worker in the end, and the worker. Without a fault nothing goes wrong.
pub(crate) fn run(fault: Option<Fault>) {
    let faulty = Arc::new(Faulty {
        fault,
        buffers: Mutex::new(Buffers {
            is_ready: fault == Some(Fault::BothFlagsTrue),
            is_consumed: true,
            ..Buffers::default()
        }),
        changed: Condvar::new(),
        is_stopping: AtomicBool::new(false),
    });
    let worker = {
        let faulty = faulty.clone();
        spawn(move || faulty.work())
    };
    for id in RECORDS {
        faulty.put(id);
    }
    faulty.is_stopping.store(true, Ordering::Release);
    if fault != Some(Fault::ExitNoticeLost) {
        drop(faulty.buffers.lock().unwrap());
    }
    faulty.changed.notify_all();
    assert_eq!(worker.join().unwrap(), RECORDS, "{LOST}");
}

impl Faulty {
    /// Room for one record.
    fn put(&self, id: u64) {
        let mut buffers = self.buffers.lock().unwrap();
        let length = 1;
        let available = |buffers: &Buffers| 1 - buffers.producer.len();
        match self.fault {
            Some(Fault::FullThrowsAway) if available(&buffers) < length => return,
            Some(Fault::WaitsTheWrongWay) => {
                while available(&buffers) >= length {
                    buffers = wait(&self.changed, buffers);
                }
            }
            // The swap below makes the room, consumed or not.
            Some(Fault::SwapsTwice | Fault::FullThrowsAway) => (),
            Some(Fault::BothFlagsTrue | Fault::ExitNoticeLost) | None => {
                while available(&buffers) < length {
                    buffers = wait(&self.changed, buffers);
                }
            }
        }
        buffers.producer.push(id);
        if buffers.is_consumed || self.fault == Some(Fault::SwapsTwice) {
            swap(&mut buffers);
        }
        drop(buffers);
        self.changed.notify_all();
    }

    fn work(&self) -> Vec<u64> {
        let (mut read, mut idle) = (Vec::new(), 0);
        loop {
            let is_stopping = self.is_stopping.load(Ordering::Acquire);
            let mut buffers = self.buffers.lock().unwrap();
            if is_stopping && buffers.consumer.is_empty() && buffers.producer.is_empty() {
                return read;
            }
            let has_news = |buffers: &Buffers| {
                let knows_stop = self.fault != Some(Fault::ExitNoticeLost);
                buffers.is_ready || (knows_stop && self.is_stopping.load(Ordering::Acquire))
            };
            while !has_news(&buffers) {
                buffers = wait(&self.changed, buffers);
            }
            idle = if buffers.consumer.is_empty() { idle + 1 } else { 0 };
            assert!(idle < IDLE_ROUNDS, "{SPINS}");
            read.append(&mut buffers.consumer);
            buffers.is_consumed = true;
            // Nobody ever clears it: there is news for ever.
            buffers.is_ready = self.fault == Some(Fault::BothFlagsTrue);
            if !buffers.producer.is_empty() {
                swap(&mut buffers);
            }
            drop(buffers);
            self.changed.notify_all();
        }
    }
}

fn swap(buffers: &mut Buffers) {
    buffers.consumer.clear();
    std::mem::swap(&mut buffers.producer, &mut buffers.consumer);
    (buffers.is_ready, buffers.is_consumed) = (true, false);
}
