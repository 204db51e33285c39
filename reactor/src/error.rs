//! What can go wrong in this crate.

use std::io;
use std::time::Duration;

use crate::flags::EventFlags;

/// The result of a call into this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call was refused or failed.
// The tag is a whole word: behind a byte the payloads begin at odd places, and a `Result` that moves by odd pieces stalls
// the processor. A `pull_up` took 14 ns with it and takes 4 ns without.
#[repr(u64)]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object was freed, or the base it lived on is gone.
    #[error("this {what} was freed, or its EventBase was dropped: create a new one")]
    Freed {
        /// The kind of object: `event`, `bufferevent`, `listener`, `event base`.
        what: &'static str,
    },
    /// The base's loop runs already: a callback tried to run it again.
    #[error(
        "this event base's loop runs already: a callback cannot run it again, post or defer the work instead"
    )]
    AlreadyRunning,
    /// These flags make no such event.
    #[error("no event can have the flags {flags:?}: use {allowed}")]
    Flags {
        /// What was given.
        flags: EventFlags,
        /// What may be given.
        allowed: &'static str,
    },
    /// The base has no such priority.
    #[error("there is no priority {priority}: this event base has 0 (most urgent) to {}", count - 1)]
    Priority {
        /// What was given.
        priority: usize,
        /// How many the base has.
        count: usize,
    },
    /// A base cannot have this number of priorities.
    #[error("an event base cannot have {priorities} priorities: give it 1 to {most}")]
    Priorities {
        /// What was given.
        priorities: usize,
        /// The most.
        most: usize,
    },
    /// It cannot change while a callback waits to run.
    #[error(
        "the {what} cannot change while it is active: change it from the callback, or delete the event first"
    )]
    Active {
        /// What cannot change.
        what: &'static str,
    },
    /// Events of level and of edge triggering cannot share a descriptor.
    #[error(
        "another event waits for this descriptor in the other triggering mode: give both EDGE, or neither"
    )]
    MixedTrigger,
    /// This signal cannot be waited for.
    #[error("cannot wait for signal {signal}: {source}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// What the system said.
        source: io::Error,
    },
    /// A common time-out works on the base that made it.
    #[error("this common time-out was made by another event base: make one on the base of the event")]
    ForeignTimeout,
    /// There is no room for another common time-out.
    #[error(
        "no common time-out for {duration:?}: an event base has at most {most}; use an ordinary time-out"
    )]
    TooManyCommonTimeouts {
        /// What was asked for.
        duration: Duration,
        /// The most.
        most: usize,
    },
    /// This text is no address.
    #[error("{text:?} is no address: write 127.0.0.1:8080, [::1]:8080, unix:/path or unix:@name")]
    Address {
        /// What was given.
        text: String,
    },
    /// Listening was refused.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A connect was refused.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// One end of a pair has no socket and takes none.
    #[error(
        "this bufferevent is one end of a pair and has no socket: make one with Bufferevent::unconnected"
    )]
    NotASocket,
    /// The other end of the pair was freed.
    #[error("the other end of this pair was freed: make a new pair")]
    NoPartner,
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

    /// Whether it only says that a descriptor has nothing to give or takes nothing now.
    pub fn would_block(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}
