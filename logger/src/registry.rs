//! Loggers by name, and the default one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::error::Error;
use crate::logger::{Core, Logger};

static LOGGERS: LazyLock<Mutex<HashMap<String, Weak<Core>>>> = LazyLock::new(Mutex::default);
static DEFAULT: OnceLock<Logger> = OnceLock::new();

/// The logger of this name, while a handle of it is alive.
pub fn get(name: &str) -> Option<Logger> {
    loggers().get(name).and_then(Weak::upgrade).map(Logger::from_core)
}

/// The logger that the macros use when they are given none, once there is one.
#[inline]
pub fn default() -> Option<&'static Logger> {
    DEFAULT.get()
}

pub(crate) fn set_default(logger: Logger) -> Result<(), Logger> {
    DEFAULT.set(logger)
}

/// All loggers that are alive.
pub(crate) fn all() -> Vec<Logger> {
    let cores: Vec<_> = loggers().values().filter_map(Weak::upgrade).collect();
    cores.into_iter().map(Logger::from_core).collect()
}

pub(crate) fn enter(name: &str, core: &Arc<Core>) -> Result<(), Error> {
    let mut loggers = loggers();
    if loggers.get(name).is_some_and(|other| other.strong_count() > 0) {
        return Err(Error::NameTaken { name: name.to_owned() });
    }
    loggers.insert(name.to_owned(), Arc::downgrade(core));
    Ok(())
}

/// Frees the name, if it is still this one's.
pub(crate) fn leave(name: &str, core: &Core) {
    let mut loggers = loggers();
    if loggers.get(name).is_some_and(|other| std::ptr::eq(other.as_ptr(), core)) {
        loggers.remove(name);
    }
}

fn loggers() -> MutexGuard<'static, HashMap<String, Weak<Core>>> {
    LOGGERS.lock().unwrap_or_else(PoisonError::into_inner)
}
