//! What can go wrong in this room, and with which code a program ends then.

use std::io;
use std::path::{Path, PathBuf};

use reactor::http;

use super::url::{ServerUrl, UrlError};

/// Why something asked of a server was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no server of this form.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Its name could not be looked up.
    #[error("cannot find {server}: {source}")]
    Unknown {
        /// The server.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be reached, or left before it had answered.
    #[error("cannot reach {server}: {source}; is it running?")]
    Unreachable {
        /// The server.
        server: String,
        /// What happened.
        source: http::ClientError,
    },
    /// It broke the connection, and has never answered.
    #[error("{server} does not answer as a cloudstore server does ({source})")]
    Silent {
        /// The server.
        server: String,
        /// What happened.
        source: io::Error,
    },
    /// It has refused, or failed.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: u16,
        /// What a program tells cases apart by, as in `not_found`; empty if it says none.
        code: String,
        /// What it says, in a sentence.
        message: String,
    },
    /// What has answered is no such server.
    #[error("{server} is no cloudstore server: {why}")]
    Strange {
        /// The server.
        server: String,
        /// How it showed.
        why: String,
    },
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Read(#[source] io::Error),
    /// What came could not be written.
    #[error("cannot write what came: {0}")]
    Write(#[source] io::Error),
    /// The request was not possible.
    #[error("cannot ask {server}: {source}")]
    Request {
        /// The server.
        server: String,
        /// Why.
        source: http::ClientError,
    },
    /// A file of this machine could not be opened, read, written or put in its place.
    #[error("cannot {act} {}: {source}", .path.display())]
    Local {
        /// What was to be done with it.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of this machine is not touched as it is.
    #[error("{} {why}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is the matter, and what to do.
        why: String,
    },
    /// What can be read only once was read, and did not arrive.
    #[error("{} {why}", .path.display())]
    Broken {
        /// What was read.
        path: PathBuf,
        /// What is the matter, and what to do.
        why: String,
        /// What has happened.
        source: Box<ClientError>,
    },
    /// What arrived is not what was sent.
    #[error("{name} did not arrive as it was sent: its CRC-32C is {found:08x}, not {expected:08x}; {advice}")]
    Mismatch {
        /// The object.
        name: String,
        /// That of what arrived.
        found: u32,
        /// That of what was sent.
        expected: u32,
        /// What to do.
        advice: &'static str,
    },
    /// It cannot be gone on with.
    #[error("{0}")]
    Failed(String),
    /// Something is wrong with what was asked for.
    #[error("{0}")]
    Usage(String),
    /// The event loop refused.
    #[error("cannot use the event loop: {0}")]
    Loop(#[from] reactor::Error),
}

impl ClientError {
    /// The code with which a program ends: 1 failed, 2 wrongly used, 3 not found, 4 not allowed, 5 unreachable.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Url(_) | ClientError::Usage(_) => 2,
            ClientError::Refused { status: 404 | 410, .. } => 3,
            ClientError::Refused { status: 401 | 403, .. } => 4,
            ClientError::Unknown { .. } | ClientError::Unreachable { .. } | ClientError::Silent { .. } => 5,
            ClientError::Broken { source, .. } => source.exit_code(),
            _ => 1,
        }
    }

    /// For an answer that is none of this server's kind.
    pub fn strange(server: &ServerUrl, why: impl ToString) -> ClientError {
        ClientError::Strange { server: server.to_string(), why: why.to_string() }
    }

    pub(super) fn local(act: &'static str, path: &Path, source: io::Error) -> ClientError {
        ClientError::Local { act, path: path.to_owned(), source }
    }

    pub(super) fn file(path: &Path, why: impl Into<String>) -> ClientError {
        ClientError::File { path: path.to_owned(), why: why.into() }
    }

    /// Whether the same may go well a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable { .. }
                | ClientError::Silent { .. }
                | ClientError::Refused { status: 408 | 429 | 502 | 503 | 504, .. }
        )
    }

    /// Whether the server has too much to do for this one.
    pub(super) fn is_overload(&self) -> bool {
        matches!(self, ClientError::Refused { status: 503, .. })
    }

    /// Whether nobody takes connections there.
    pub(super) fn is_no_server(&self) -> bool {
        let ClientError::Unreachable { source, .. } = self else { return false };
        matches!(source, http::ClientError::Io(reactor::Error::Connect { .. }) | http::ClientError::TimedOut)
    }

    /// Whether it would meet everything else that is asked, too.
    pub fn is_about_the_server(&self) -> bool {
        matches!(
            self,
            ClientError::Unknown { .. }
                | ClientError::Unreachable { .. }
                | ClientError::Silent { .. }
                | ClientError::Strange { .. }
                | ClientError::Refused { status: 401, .. }
        )
    }

    pub(super) fn of_exchange(server: &ServerUrl, source: http::ClientError) -> ClientError {
        let name = server.to_string();
        match source {
            http::ClientError::Malformed(why) => ClientError::strange(server, why),
            source @ (http::ClientError::Busy | http::ClientError::Invalid(_)) => {
                ClientError::Request { server: name, source }
            }
            source => ClientError::Unreachable { server: server.told(), source },
        }
    }
}

/// Text of a server for a terminal, which is not told what to do by it: control characters are escaped.
pub fn shown(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() || is_directional(c) {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// What has a terminal show text in another order than it has.
fn is_directional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
