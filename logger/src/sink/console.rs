//! Lines on the terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use super::{Lines, Sink, Unwritten};
use crate::level::Level;

/// Writes lines to stdout or stderr, coloured by level if that is a terminal and the environment variable `NO_COLOR` is
/// not set.
///
/// When the reader of a pipe is gone, lines are dropped from then on: there is nobody to lose them.
///
/// The worker locks the stream while it writes. A thread that logs while it holds that lock itself may wait for ever, as
/// soon as its buffer is full.
#[derive(Debug)]
pub struct Console {
    stream: Stream,
    is_coloured: bool,
    kept: Unwritten,
    is_gone: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stream {
    Stdout,
    Stderr,
}

impl Console {
    /// To stdout.
    pub fn stdout() -> Console {
        Console::new(Stream::Stdout, io::stdout().is_terminal())
    }

    /// To stderr.
    pub fn stderr() -> Console {
        Console::new(Stream::Stderr, io::stderr().is_terminal())
    }

    fn new(stream: Stream, is_terminal: bool) -> Console {
        let is_coloured = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Console { stream, is_coloured, kept: Unwritten::new(), is_gone: false }
    }

    /// Colours or not, whatever the terminal and the environment say.
    #[must_use]
    pub fn coloured(mut self, is_coloured: bool) -> Console {
        self.is_coloured = is_coloured;
        self
    }

    fn with_stream(
        &mut self,
        act: impl FnOnce(&mut Unwritten, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let outcome = match self.stream {
            Stream::Stdout => act(&mut self.kept, &mut io::stdout().lock()),
            Stream::Stderr => act(&mut self.kept, &mut io::stderr().lock()),
        };
        match outcome {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_gone = true;
                self.kept = Unwritten::new();
                Ok(())
            }
            outcome => outcome,
        }
    }
}

impl Sink for Console {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        if self.is_gone {
            return Ok(());
        }
        if self.is_coloured {
            for (level, line) in lines.iter() {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                self.kept.push(colour(level));
                self.kept.push(text);
                self.kept.push(b"\x1b[0m\n");
            }
        } else {
            self.kept.push(lines.bytes());
        }
        self.retry()
    }

    fn retry(&mut self) -> io::Result<()> {
        self.with_stream(|kept, mut stream| kept.write_to(&mut stream))
    }

    fn name(&self) -> String {
        match self.stream {
            Stream::Stdout => "stdout".to_owned(),
            Stream::Stderr => "stderr".to_owned(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with_stream(|kept, mut stream| {
            kept.write_to(&mut stream)?;
            stream.flush()
        })
    }
}

fn colour(level: Level) -> &'static [u8] {
    match level {
        Level::Trace => b"\x1b[2m",
        Level::Debug => b"\x1b[36m",
        Level::Info => b"\x1b[32m",
        Level::Warn => b"\x1b[33m",
        Level::Error => b"\x1b[31m",
        Level::Fatal => b"\x1b[1;31m",
    }
}
