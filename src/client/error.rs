//! What can go wrong in this room, and with which code a program ends then.

use std::io;

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
    /// It has refused, or failed.
    #[error("{message}")]
    Refused {
        /// The status of its answer.
        status: u16,
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
    /// The event loop refused.
    #[error("cannot use the event loop: {0}")]
    Loop(#[from] reactor::Error),
}

impl ClientError {
    /// The code with which a program ends: 1 failed, 2 wrongly used, 3 not found, 4 not allowed, 5 unreachable.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Url(_) => 2,
            ClientError::Refused { status: 404 | 410, .. } => 3,
            ClientError::Refused { status: 401 | 403, .. } => 4,
            ClientError::Unknown { .. } | ClientError::Unreachable { .. } => 5,
            _ => 1,
        }
    }

    /// For an answer that is none of this server's kind.
    pub fn strange(server: &ServerUrl, why: impl ToString) -> ClientError {
        ClientError::Strange { server: server.to_string(), why: why.to_string() }
    }

    pub(super) fn of_exchange(server: &ServerUrl, source: http::ClientError) -> ClientError {
        let name = server.to_string();
        match source {
            http::ClientError::Malformed(why) => ClientError::strange(server, why),
            source @ (http::ClientError::Busy | http::ClientError::Invalid(_)) => {
                ClientError::Request { server: name, source }
            }
            source => ClientError::Unreachable { server: name, source },
        }
    }
}
