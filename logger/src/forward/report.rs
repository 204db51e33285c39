//! What a pool has to say about itself.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reactor::Address;

use crate::level::Level;

/// Something that whoever runs the program wants to know. [`Display`](fmt::Display) says it in a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Report {
    /// A client has a connection and the collector takes records.
    Connected {
        /// Which client, from 0.
        client: usize,
        /// Where to.
        collector: Address,
    },
    /// A client has lost its connection, or gets none. Said once, not for every further try.
    Disconnected {
        /// Which client, from 0.
        client: usize,
        /// Where to.
        collector: Address,
        /// Why.
        reason: String,
        /// When it tries again.
        retry_in: Duration,
    },
    /// A client cannot go on, and its records stay in the spool until the next start.
    Stopped {
        /// Which client, from 0.
        client: usize,
        /// Why.
        reason: String,
    },
    /// The spool was at its bound, and the oldest records went.
    Dropped {
        /// Which stream.
        stream: u32,
        /// How many were neither acknowledged nor on their way.
        records: u64,
        /// How many bytes of the spool they were.
        bytes: u64,
    },
    /// A part of the spool cannot be read as what was written there. What follows it is read again.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// How many records are missing, if that can be told.
        records: Option<u64>,
    },
    /// The spool cannot be read or tidied up; it is tried again.
    Failed {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, and what the system said.
        reason: String,
    },
}

impl Report {
    /// How urgent it is.
    pub fn level(&self) -> Level {
        match self {
            Report::Connected { .. } => Level::Info,
            Report::Disconnected { .. } => Level::Warn,
            Report::Stopped { .. }
            | Report::Dropped { .. }
            | Report::Damaged { .. }
            | Report::Failed { .. } => Level::Error,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Connected { client, collector } => {
                write!(f, "client {client} forwards to {collector}")
            }
            Report::Disconnected { client, collector, reason, retry_in } => write!(
                f,
                "client {client} does not forward to {collector}: {reason}; records wait in the spool, next try in {} ms",
                retry_in.as_millis()
            ),
            Report::Stopped { client, reason } => {
                write!(f, "client {client} cannot go on, its records stay in the spool: {reason}")
            }
            Report::Dropped { stream, records, bytes } => write!(
                f,
                "the spool is full: the oldest {} of stream {stream} ({bytes} bytes) had to go; give it more room, or \
                 bring the collector back",
                Many(*records)
            ),
            Report::Damaged { path, offset, bytes, records } => {
                write!(f, "{path:?} is damaged: {bytes} bytes at {offset} are skipped, with ")?;
                match records {
                    Some(records) => Many(*records).fmt(f),
                    None => f.write_str("an unknown number of records"),
                }
            }
            Report::Failed { path, reason } => write!(f, "cannot use {path:?}: {reason}"),
        }
    }
}

/// So many records.
struct Many(u64);

impl fmt::Display for Many {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "record" } else { "records" })
    }
}

/// Takes reports, on whichever thread has something to say.
pub(crate) type Reporter = Arc<dyn Fn(&Report) + Send + Sync>;

/// What reports are about, for filters. Records about it and everything else of this crate are never forwarded.
pub(super) const TARGET: &str = "logger::forward";

/// To the default logger if there is one, else, if it is a warning or worse, to stderr.
pub(crate) fn say(report: &Report) {
    if crate::default().is_some() {
        crate::log!(target: TARGET, report.level(), "{report}");
    } else if report.level() >= Level::Warn {
        // Nothing can be done about a stderr that fails.
        let _ = writeln!(io::stderr(), "{TARGET}: {report}");
    }
}

/// Whether records about this are the logger's or the forwarder's own.
pub(crate) fn is_own(target: &[u8]) -> bool {
    let rest = target.strip_prefix(b"logger");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"::"))
}
