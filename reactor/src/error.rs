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
    /// An offset or a range reaches beyond what there is.
    #[error("offset {at} is beyond the end at {len}")]
    OutOfRange {
        /// What was asked for.
        at: u64,
        /// How much there is.
        len: u64,
    },
    /// The length would not fit its type.
    #[error("the length of the evbuffer would exceed what can be addressed")]
    TooLong,
    /// There is nothing to write.
    #[error("the evbuffer has nothing to write")]
    Empty,
    /// Bytes in files, and bytes that are references themselves, cannot be referenced from another evbuffer.
    #[error(
        "this evbuffer holds file segments or references, or is the target itself: it cannot be referenced"
    )]
    NotReferable,
    /// The watcher is not, or no longer, one of this evbuffer.
    #[error("this evbuffer has no such watcher")]
    UnknownWatcher,
    /// The owner of shared memory gave fewer bytes than when the memory was added.
    #[error("shared memory became shorter after it was added to an evbuffer")]
    SharedShrank,
    /// A file is shorter than the file segment made of it.
    #[error("{file} is too short for its file segment: it ends at byte {end}, byte {needed} was promised")]
    FileShort {
        /// Its path if that can be found out, else its descriptor.
        file: Box<str>,
        /// Where the segment ends in the file.
        needed: u64,
        /// Where the file ends.
        end: u64,
    },
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
