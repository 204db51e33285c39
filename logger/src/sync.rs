//! The primitives under the swap protocol. `pair.rs` and `exchange.rs` import nothing else of the system, so that the
//! model checkers can run those very files over primitives of their own.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread::{Thread, current, park};

pub(crate) use crossbeam_utils::CachePadded;

/// Words of spilled records that the worker takes at a time; one record in the models.
pub(crate) const SPILL_TAKEN: usize = 32 * 1024;

/// Nothing panics under the protocol's locks, so a poisoned one is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condvar`, spurious wake-ups included.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
