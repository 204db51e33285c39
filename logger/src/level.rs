//! How urgent a record is.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How urgent a record is, from `Trace` to `Fatal`.
///
/// ```
/// use logger::Level;
///
/// assert!(Level::Error > Level::Warn);
/// assert_eq!("warn".parse::<Level>()?, Level::Warn);
/// # Ok::<(), logger::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Level {
    /// Every step, for following a single request.
    Trace = 0,
    /// What helps to find a fault.
    Debug = 1,
    /// What an operator wants to see.
    Info = 2,
    /// Something is odd, the work goes on.
    Warn = 3,
    /// Some work failed.
    Error = 4,
    /// The program cannot go on.
    Fatal = 5,
}

impl Level {
    /// All levels, the least urgent first.
    pub const ALL: [Level; 6] =
        [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Fatal];

    /// The name in capitals: `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
            Level::Fatal => "FATAL",
        }
    }

    pub(crate) fn from_bits(bits: u32) -> Level {
        Level::ALL.get(bits as usize).copied().unwrap_or(Level::Fatal)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Error;

    /// Any case; `WARNING` is `WARN`.
    fn from_str(text: &str) -> Result<Level, Error> {
        if text.eq_ignore_ascii_case("warning") {
            return Ok(Level::Warn);
        }
        let found = Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Error::Level { text: text.to_owned() })
    }
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Level {
        match level {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse::<Level>().unwrap(), level);
            assert_eq!(level.as_str().to_lowercase().parse::<Level>().unwrap(), level);
            assert_eq!(Level::from_bits(level as u32), level);
        }
        assert_eq!("Warning".parse::<Level>().unwrap(), Level::Warn);
        let error = "loud".parse::<Level>().unwrap_err().to_string();
        assert!(error.contains("\"loud\"") && error.contains("fatal"), "{error}");
    }
}
