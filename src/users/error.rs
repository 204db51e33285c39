//! What can be wrong with users and their file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What can be wrong with users and their file.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// It cannot be the name of a user.
    #[error(
        "{name:?} is no name for a user: write 1 to 64 bytes of letters, digits, `.`, `_` and `-`, and no `-` in front"
    )]
    Name {
        /// The text.
        name: String,
    },
    /// It is no rule.
    #[error(
        "{rule:?} is no rule: {why}; write VERBS:/PATH, as in read,create:/team/ or all:/, with verbs of read, create, \
         replace and delete"
    )]
    Rule {
        /// The text.
        rule: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is too easy, or no text.
    #[error("the password {why}")]
    Password {
        /// What is wrong with it, and what to do.
        why: &'static str,
    },
    /// It is not what a password is checked against.
    #[error("the password's hash cannot be used: {why}; set it anew by `cloudstore user passwd`")]
    Hash {
        /// What is wrong with it.
        why: String,
    },
    /// A part of a token is not as it was written.
    #[error(
        "the token's {part} cannot be used: {text:?}; remove the token, and make another by `cloudstore user token add`"
    )]
    Token {
        /// Which.
        part: &'static str,
        /// What stands there.
        text: String,
    },
    /// The file is not as it should be.
    #[error("the users file {} is damaged: {why}; mend that line, or bring back a copy: nobody is let in without", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        why: String,
    },
    /// The file was written by another version.
    #[error("the users file {} has the format {found}, and this program knows {known}: use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// The file cannot be read or written.
    #[error("cannot {act} the users file {}: {source}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {why}")]
    Random {
        /// What it said.
        why: String,
    },
}

impl UsersError {
    pub(super) fn io(act: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> UsersError {
        let path = path.to_owned();
        move |source| UsersError::Io { act, path, source: Arc::new(source) }
    }
}
