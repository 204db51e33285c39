//! A logger as a writer: each line that is written is a record.

use std::fmt::{self, Display};
use std::io;

use crate::format::Site;
use crate::level::Level;
use crate::logger::Logger;

/// Bytes as text: those that are not UTF-8 as `\xNN`, so that nothing of them is lost.
///
/// ```
/// assert_eq!(logger::Bytes(b"caf\xc3\xa9 \xff").to_string(), "café \\xff");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Logs what is written to it, line by line; [`Logger::writer`] makes one.
///
/// A line ends with LF, or CR LF. One without an end is kept until more is written or the writer is dropped; one that is
/// longer than 64 KiB becomes several records. Writing never fails.
///
/// ```
/// use logger::sink::Memory;
/// use logger::{Level, Logger};
/// use std::io::Write;
///
/// let memory = Memory::new();
/// let logger = Logger::builder("writer").sink(memory.clone()).build()?;
/// let mut child_output = logger.writer(Level::Info, "child");
/// write!(child_output, "first\nsec")?;
/// write!(child_output, "ond\n")?;
/// logger.flush();
/// assert_eq!(memory.text().lines().count(), 2);
/// assert!(memory.text().ends_with("second\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    logger: Logger,
    level: Level,
    target: String,
    /// A line without its end.
    begun: Vec<u8>,
}

/// A longer line is split, so that a writer without line ends takes a bounded amount of memory.
const MAX_LINE: usize = 64 * 1024;

impl Logger {
    /// A writer whose lines become records of this level and target.
    pub fn writer(&self, level: Level, target: &str) -> Writer {
        Writer { logger: self.clone(), level, target: target.to_owned(), begun: Vec::new() }
    }
}

impl Writer {
    fn log(&self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let site = Site { level: self.level, target: &self.target, file: "", line: 0 };
        self.logger.log(&site, format_args!("{}", Bytes(line)), &crate::NO_FIELDS);
    }

    /// Adds to the line that is begun, and logs full pieces of it.
    fn begin(&mut self, mut bytes: &[u8]) {
        while self.begun.len() + bytes.len() > MAX_LINE {
            let (fits, rest) = bytes.split_at(MAX_LINE - self.begun.len());
            self.begun.extend_from_slice(fits);
            self.log(&self.begun);
            self.begun.clear();
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.begin(&rest[..end]);
            self.log(&self.begun);
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        self.begin(rest);
        Ok(bytes.len())
    }

    /// Returns when the lines that were ended are at the sinks.
    fn flush(&mut self) -> io::Result<()> {
        self.logger.flush();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.begun.is_empty() {
            self.log(&self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Memory;
    use std::io::Write;

    fn messages(name: &str, write: impl FnOnce(&mut Writer)) -> Vec<String> {
        let memory = Memory::new();
        let logger = Logger::builder(name).sink(memory.clone()).build().unwrap();
        write(&mut logger.writer(Level::Warn, "child"));
        logger.shutdown();
        let text = memory.text();
        let message = |line: &str| line.split_once("] [").unwrap().1.split_once("] ").unwrap().1.to_owned();
        text.lines().inspect(|line| assert!(line.contains(" WARN  [child] "))).map(message).collect()
    }

    #[test]
    fn every_split_gives_the_same_lines() {
        let text = "one\r\n\ntwo \u{6a21}\u{578b}\nthree".as_bytes();
        for at in 0..=text.len() {
            let found = messages(&format!("split {at}"), |writer| {
                let (first, second) = text.split_at(at);
                writer.write_all(first).unwrap();
                writer.write_all(second).unwrap();
            });
            assert_eq!(found, ["one", "", "two \u{6a21}\u{578b}", "three"], "split at {at}");
        }
    }

    #[test]
    fn a_line_without_end_is_split_and_nothing_of_it_lost() {
        let found = messages("long", |writer| {
            for _ in 0..100 {
                writer.write_all(&[b'x'; 1999]).unwrap();
            }
        });
        assert!(found.iter().all(|piece| piece.len() <= MAX_LINE));
        assert_eq!(found.concat().len(), 199_900);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_as_numbers() {
        assert_eq!(messages("bytes", |writer| writer.write_all(b"a\xffb\x80\n").unwrap()), ["a\\xffb\\x80"]);
    }
}
