//! Loggers by name, and the default one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::error::Error;
use crate::logger::{Core, Logger};
use crate::worker::Shared;

static LOGGERS: LazyLock<Mutex<Loggers>> = LazyLock::new(Mutex::default);
static DEFAULT: OnceLock<Logger> = OnceLock::new();

type Loggers = HashMap<String, Entry>;

struct Entry {
    core: Weak<Core>,
    /// For those who only flush: a handle, however short its life, might become the last one.
    shared: Arc<Shared>,
}

/// The logger of this name, while a handle of it is alive.
pub fn get(name: &str) -> Option<Logger> {
    loggers().get(name).and_then(|entry| entry.core.upgrade()).map(Logger::from_core)
}

/// The logger that the macros use when they are given none, once there is one.
#[inline]
pub fn default() -> Option<&'static Logger> {
    DEFAULT.get()
}

pub(crate) fn set_default(logger: Logger) -> Result<(), Logger> {
    DEFAULT.set(logger)
}

/// What all loggers that are alive share with their workers.
pub(crate) fn all() -> Vec<Arc<Shared>> {
    loggers().values().map(|entry| entry.shared.clone()).collect()
}

pub(crate) fn enter(name: &str, core: &Arc<Core>, shared: &Arc<Shared>) -> Result<(), Error> {
    let mut loggers = loggers();
    if loggers.get(name).is_some_and(|other| other.core.strong_count() > 0) {
        return Err(Error::NameTaken { name: name.to_owned() });
    }
    loggers.insert(name.to_owned(), Entry { core: Arc::downgrade(core), shared: shared.clone() });
    Ok(())
}

/// Frees the name, if it is still this one's.
pub(crate) fn leave(name: &str, core: &Core) {
    let mut loggers = loggers();
    if loggers.get(name).is_some_and(|other| std::ptr::eq(other.core.as_ptr(), core)) {
        loggers.remove(name);
    }
}

fn loggers() -> MutexGuard<'static, Loggers> {
    LOGGERS.lock().unwrap_or_else(PoisonError::into_inner)
}
