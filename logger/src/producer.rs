//! One thread's side: its number, its scratch, and its pair for each logger it has written to.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::pair::Pair;
use crate::worker::Shared;

thread_local! {
    static PRODUCER: Producer = Producer::new();
}

/// What a thread keeps for logging.
pub(crate) struct Producer {
    /// The thread's number.
    number: u32,
    /// Taken while a record is formatted, so that a `Display` that logs gets another one.
    scratch: Cell<Vec<u8>>,
    /// It waits for no logger's room now.
    is_hasty: Cell<bool>,
    joined: RefCell<Vec<Joined>>,
}

/// A pair of this thread's, given back when the thread ends.
struct Joined {
    logger: u64,
    pair: Arc<Pair>,
    shared: Arc<Shared>,
}

/// Room that a scratch keeps after a long record.
const KEPT_SCRATCH: usize = 64 * 1024;

impl Producer {
    fn new() -> Producer {
        static THREADS: AtomicU32 = AtomicU32::new(1);
        Producer {
            number: THREADS.fetch_add(1, Ordering::Relaxed),
            scratch: Cell::new(Vec::new()),
            is_hasty: Cell::new(false),
            joined: RefCell::new(Vec::new()),
        }
    }

    /// Acts as this thread's producer; `None` when the thread has taken it down already.
    #[inline]
    pub(crate) fn with<R>(act: impl FnOnce(&Producer) -> R) -> Option<R> {
        PRODUCER.try_with(act).ok()
    }

    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    #[inline]
    pub(crate) fn is_hasty(&self) -> bool {
        self.is_hasty.get()
    }

    /// Formats with `write`, then hands the bytes, and what `write` says of them, to `act`.
    #[inline]
    pub(crate) fn format<T, R>(
        &self,
        write: impl FnOnce(&mut Vec<u8>) -> T,
        act: impl FnOnce(&[u8], T) -> R,
    ) -> R {
        let mut scratch = self.scratch.take();
        scratch.clear();
        let about = write(&mut scratch);
        let outcome = act(&scratch, about);
        if scratch.capacity() > KEPT_SCRATCH {
            scratch.clear();
            scratch.shrink_to(KEPT_SCRATCH);
        }
        self.scratch.set(scratch);
        outcome
    }

    /// Acts on this thread's pair for a logger; `None` once that logger's worker is gone. No user code runs in `act`.
    #[inline(always)]
    pub(crate) fn with_pair<R>(
        &self,
        logger: u64,
        shared: &Arc<Shared>,
        act: impl FnOnce(&Pair) -> R,
    ) -> Option<R> {
        if let Some(joined) = self.joined.borrow().iter().find(|joined| joined.logger == logger) {
            return Some(act(&joined.pair));
        }
        self.join(logger, shared).map(|pair| act(&pair))
    }

    #[cold]
    fn join(&self, logger: u64, shared: &Arc<Shared>) -> Option<Arc<Pair>> {
        let pair = shared.exchange.join()?;
        let mut joined = self.joined.borrow_mut();
        // Loggers that are gone: their pairs are of no use any more.
        joined.retain(|joined| !joined.shared.exchange.is_stopping());
        joined.push(Joined { logger, pair: pair.clone(), shared: shared.clone() });
        Some(pair)
    }
}

/// Acts without waiting for any logger's room, whatever is logged meanwhile: records that would have to wait go to
/// memory. For threads that a logger's worker may wait for.
#[cfg(feature = "forward")]
pub(crate) fn hastily<R>(act: impl FnOnce() -> R) -> R {
    struct Restore(bool);

    impl Drop for Restore {
        fn drop(&mut self) {
            Producer::with(|producer| producer.is_hasty.set(self.0));
        }
    }

    let _restore = Restore(Producer::with(|producer| producer.is_hasty.replace(true)).unwrap_or(false));
    act()
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.pair.close() {
            self.shared.exchange.ring();
        }
    }
}
