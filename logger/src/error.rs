//! What can go wrong in this crate.

use std::io;
use std::path::PathBuf;

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This text names no level.
    #[error("{text:?} is no level: write trace, debug, info, warn, error or fatal")]
    Level {
        /// What was given.
        text: String,
    },
    /// This text is no list of target levels.
    #[error("{text:?} is no target level: write target=level, or a level alone, with commas between")]
    Filter {
        /// The part that was not understood.
        text: String,
    },
    /// A buffer's size is out of bounds.
    #[error("a half of {bytes} bytes is not possible: give it {least} to {most}")]
    HalfSize {
        /// What was given.
        bytes: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// A logger of this name exists.
    #[error("there is a logger named {name:?} already: take another name, or shut that one down first")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// `log` has a logger already.
    #[error("the log facade has a logger already: call logger::init once")]
    FacadeTaken,
    /// The worker's thread could not be started.
    #[error("cannot start the worker of logger {name:?}: {source}")]
    Spawn {
        /// The logger's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A pool cannot have this number of clients.
    #[cfg(feature = "forward")]
    #[error("a pool of {clients} clients is not possible: give it 1 to {most}")]
    Clients {
        /// What was given.
        clients: usize,
        /// The most.
        most: usize,
    },
    /// Nobody can listen at this address.
    #[cfg(feature = "forward")]
    #[error(
        "no collector can be at {address:?}: give its address and port, as 127.0.0.1:8080, or unix:/path"
    )]
    Collector {
        /// What was given.
        address: String,
    },
    /// A client's thread could not be started.
    #[cfg(feature = "forward")]
    #[error("cannot start the thread {name:?}: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A client could not be made.
    #[cfg(feature = "forward")]
    #[error("cannot make client {number} of the pool: {source}")]
    Client {
        /// Which, from 0.
        number: usize,
        /// Why.
        source: reactor::Error,
    },
    /// A file could not be opened, or its folder not made.
    #[error("cannot open the file {path:?}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the folder of a spool could not be used.
    #[cfg(feature = "forward")]
    #[error("the spool cannot {what} {path:?}: {source}")]
    Spool {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another pool of this one, has this spool.
    #[cfg(feature = "forward")]
    #[error("the spool {path:?} is in use: give each pool a folder of its own, or stop the other one")]
    SpoolInUse {
        /// The folder.
        path: PathBuf,
    },
    /// Another version of this crate wrote this spool.
    #[cfg(feature = "forward")]
    #[error(
        "the spool {path:?} is of format {format:?}, not 1: take another folder, or the program that wrote it"
    )]
    SpoolFormat {
        /// The folder.
        path: PathBuf,
        /// What it says of itself.
        format: String,
    },
    /// The event loop refused.
    #[cfg(feature = "forward")]
    #[error(transparent)]
    Loop(#[from] reactor::Error),
}
