//! What can be wrong with settings.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use reactor::Address;

/// Everything that is wrong with the settings, so that it can be mended at once. As text: a line for each.
#[derive(Clone, Debug)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
}

impl ConfigError {
    /// Each thing that is wrong, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let line_end = if n == 0 { "" } else { "\n" };
            write!(f, "{line_end}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> ConfigError {
        ConfigError { problems: vec![problem] }
    }
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The file is not JSON, or no object.
    #[error("the configuration {} is not as it should be: {why}; write one JSON object, as in {{\"data\": \"./data\"}}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// There is no such setting.
    #[error("{origin}: there is no setting \"{key}\"{}", did_you_mean(*suggestion))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// Its name, as it stands there.
        key: String,
        /// The setting that was probably meant, as it is written there.
        suggestion: Option<&'static str>,
    },
    /// A setting has a value that it cannot have.
    #[error("{origin}: \"{value}\" is no value for {key}: {allowed}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The setting's name, as it stands there.
        key: String,
        /// Its value.
        value: String,
        /// What to write instead.
        allowed: String,
    },
    /// Two keys of one file say the same thing.
    #[error("{}: \"{first}\" and \"{second}\" set the same thing: keep one of them", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// One key.
        first: String,
        /// The other.
        second: String,
    },
    /// Anybody could reach the server, and nobody would have to say who they are.
    #[error(
        "listen is {listen}, where other machines reach it, and there are no users: listen on 127.0.0.1, or set open to \
         let everybody read, write and remove everything, or make users by `cloudstore user add NAME` ({} is not there)", users.display()
    )]
    Open {
        /// Where it would listen.
        listen: Address,
        /// Where users would be.
        users: PathBuf,
    },
    /// The folder of the data is none.
    #[error("data is {}, which is no folder: name one, or a path where one can be made", data.display())]
    NoFolder {
        /// Its value.
        data: PathBuf,
    },
    /// A path lies where the store keeps its own.
    #[error("{key} is {}, which belongs to the store in {}: take another place", path.display(), data.display())]
    Occupied {
        /// The setting.
        key: &'static str,
        /// Its value.
        path: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
}

fn did_you_mean(suggestion: Option<&'static str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean \"{key}\"?"),
        None => "; `cloudstore config show` lists all settings".to_owned(),
    }
}

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file, under this key or these keys.
    File(PathBuf, String),
    /// An environment variable.
    Environment(String),
    /// An option of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, _) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "option {name}"),
        }
    }
}

impl Origin {
    /// The setting's name where it stands; the key itself if nobody set it.
    pub(super) fn key<'a>(&'a self, key: &'a str) -> &'a str {
        match self {
            Origin::File(_, key) => key,
            Origin::Default | Origin::Environment(_) | Origin::Flag(_) => key,
        }
    }
}
