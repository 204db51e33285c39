//! Where lines go.

mod console;
mod file;
mod memory;
mod rolling;
mod unwritten;

use std::io;

use crate::level::Level;

pub use console::Console;
pub use file::File;
pub use memory::Memory;
#[cfg(feature = "forward")]
pub(crate) use rolling::{Archive, Janitor, day_of, today};
pub use rolling::{Rolling, RollingOptions};
pub use unwritten::Unwritten;

/// Takes finished lines on the worker's thread.
///
/// A sink never loses what it was given: lines that it cannot pass on are kept, and [`write`](Self::write) says why. The
/// worker then reports the failure once, calls [`retry`](Self::retry) again and again with growing pauses, and offers no
/// more lines until that succeeds; about a megabyte is held for it meanwhile, and other sinks go on. Beyond that no sink gets
/// more records until it has taken those, and callers wait, or what their [`Overflow`](crate::Overflow) says, once their
/// buffers are full. [`Unwritten`] does the keeping for anything that is [`io::Write`].
///
/// A sink that panics is not called again, and the worker says so on stderr.
///
/// ```
/// use logger::sink::{Lines, Sink, Unwritten};
/// use std::io;
///
/// /// Lines to any writer.
/// struct Writer<W> {
///     writer: W,
///     kept: Unwritten,
/// }
///
/// impl<W: io::Write + Send> Sink for Writer<W> {
///     fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
///         self.kept.push(lines.bytes());
///         self.retry()
///     }
///     fn retry(&mut self) -> io::Result<()> {
///         self.kept.write_to(&mut self.writer)
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         self.retry()?;
///         self.writer.flush()
///     }
/// }
/// ```
pub trait Sink: Send {
    /// Takes all of `lines`.
    ///
    /// # Errors
    /// What kept them from being passed on; they are kept then.
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()>;

    /// Tries again to pass on what is kept.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn retry(&mut self) -> io::Result<()>;

    /// Hands everything to the system.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn flush(&mut self) -> io::Result<()>;

    /// Hands everything to the disk.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }

    /// What it is called in messages about it, such as its file. Nothing by default.
    fn name(&self) -> String {
        String::new()
    }

    /// Opens its file anew, after another program has moved it away. Nothing for sinks without one.
    ///
    /// # Errors
    /// What kept it from being opened; the old one stays in use then.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How safe lines are when the worker goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Durability {
    /// With the sink, which may gather them; handed to the system when the buffer is full or the worker has nothing
    /// else to do. A killed process may lose the last milliseconds.
    Buffered,
    /// With the system after each round of the worker: they survive the process.
    #[default]
    Flush,
    /// With the disk after each round: they survive the machine.
    Sync,
}

/// Some lines, each with its line end, and their levels.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

/// One line's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) stamp: u64,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// The pair that it came through: lines of one thread have the same. Only the forwarder asks.
    #[cfg_attr(not(feature = "forward"), allow(dead_code))]
    pub(crate) pair: u32,
    pub(crate) level: Level,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Lines<'a> {
        Lines { bytes, spans }
    }

    /// All of them, back to back.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Each with its level, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Level, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| (span.level, &bytes[span.start..span.end]))
    }

    /// Each with its level and the number of the pair that it came through.
    #[cfg(feature = "forward")]
    pub(crate) fn with_pairs(&self) -> impl Iterator<Item = (u32, Level, &'a [u8])> + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| (span.pair, span.level, &bytes[span.start..span.end]))
    }

    /// Each on its own.
    pub(crate) fn each(&self) -> impl Iterator<Item = OneLine<'a>> + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |span| {
            let line = &bytes[span.start..span.end];
            OneLine { bytes: line, span: [Span { start: 0, end: line.len(), ..*span }] }
        })
    }

    pub(crate) fn spans(&self) -> &'a [Span] {
        self.spans
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

/// A single line that can be offered as [`Lines`].
pub(crate) struct OneLine<'a> {
    bytes: &'a [u8],
    span: [Span; 1],
}

impl OneLine<'_> {
    pub(crate) fn lines(&self) -> Lines<'_> {
        Lines::new(self.bytes, &self.span)
    }
}
