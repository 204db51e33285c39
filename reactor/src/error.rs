//! What can go wrong in this crate.

use std::io;

/// The result of a call into this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object was freed, or the base it lived on is gone.
    #[error("this {what} was freed, or its EventBase was dropped: create a new one")]
    Freed {
        /// The kind of object: `event`, `bufferevent`, `listener`, `event base`.
        what: &'static str,
    },
    /// This end of an [`Evbuffer`](crate::Evbuffer) belongs to somebody else, as the input's back and the
    /// output's front of a bufferevent do.
    #[error("the {end} of this evbuffer is frozen: its owner alone may change it")]
    Frozen {
        /// `front` or `back`.
        end: &'static str,
    },
    /// A guard of this [`Evbuffer`](crate::Evbuffer) (from `pull_up`, `peek` or `reserve`) is still alive.
    #[error("this evbuffer is lent out by a guard of pull_up, peek or reserve: drop the guard first")]
    Lent,
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, source }
    }
}
