//! The sink that takes a logger's records into the spool.

use std::io;
use std::sync::Arc;

use super::mark::Mark;
use super::report::is_own;
use super::shared::Shared;
use super::spool::Writer;
use super::syslog;
use crate::parts::Parts;
use crate::sink::{Lines, Sink};

/// Takes records into the spool of a [`Pool`](super::Pool), which gives it out by [`sink`](super::Pool::sink).
///
/// A record is accepted when it is written there: when a logger's `flush` returns, and with
/// [`Durability::Sync`](crate::Durability::Sync) when it is on the disk. Each thread's records go to one stream. A spool
/// on a full disk is tried again and again, as any sink.
///
/// The sink outlives its pool: records that come then wait in the spool for the next one.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>) -> Feed {
        Feed { shared }
    }

    /// Writes what every stream has, and wakes the clients of those that got something new. The first failure counts.
    fn write_all(&self, writers: &mut [Writer]) -> io::Result<()> {
        let lines = self.shared.lines();
        let mut outcome = Ok(());
        for (nth, writer) in writers.iter_mut().enumerate() {
            let written = writer.write();
            // Where writing failed, some records may have come to the spool before.
            if let (Ok(true) | Err(_), Some(line)) = (&written, lines.get(nth)) {
                line.feed();
            }
            outcome = outcome.and(written.map(|_| ()));
        }
        outcome
    }
}

/// What is forwarded of a text, and the note behind it if that is not all.
fn cut(text: &[u8], max: usize) -> (&[u8], String) {
    if text.len() <= max {
        return (text, String::new());
    }
    let is_boundary = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (0..=max).rev().find(is_boundary).unwrap_or(0);
    (&text[..end], format!(" [cut, {} bytes]", text.len()))
}

impl Sink for Feed {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        let shared = &*self.shared;
        let Some(least) = shared.gate.least() else { return Ok(()) };
        let mut chosen = lines.with_pairs().filter(|(_, level, _)| *level >= least).peekable();
        if chosen.peek().is_none() {
            return Ok(());
        }
        let mut writers = shared.writers();
        let streams = writers.len().max(1);
        for (pair, level, line) in chosen {
            let Some(parts) = Parts::of(line) else { continue };
            // Escapes alone keep a target from being UTF-8, and they are ASCII.
            let target = str::from_utf8(parts.target).unwrap_or_default();
            if is_own(parts.target) || !shared.gate.admits(level, target) {
                continue;
            }
            let Some(writer) = writers.get_mut(pair as usize % streams) else { continue };
            let (sender, stream) = (shared.sender, writer.stream().number());
            let (text, note) = cut(parts.rest, shared.max_record);
            if !note.is_empty() {
                shared.count_cut();
            }
            let encode = |sequence, out: &mut Vec<u8>| {
                let mark = Mark { sender, stream, sequence };
                syslog::write_message(out, &shared.origin, level, parts.stamp, mark, text);
                out.extend_from_slice(note.as_bytes());
            };
            // Only a record of megabytes would be too long for the spool, and it was cut.
            let _ = writer.push(encode);
        }
        self.write_all(&mut writers)
    }

    fn retry(&mut self) -> io::Result<()> {
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_all(&mut self.shared.writers())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut writers = self.shared.writers();
        self.write_all(&mut writers)?;
        writers.iter_mut().try_for_each(|writer| writer.sync().map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "a\u{6a21}b".as_bytes();
        for (max, kept) in [(0, ""), (1, "a"), (2, "a"), (3, "a"), (4, "a\u{6a21}")] {
            assert_eq!(cut(text, max), (kept.as_bytes(), " [cut, 5 bytes]".to_owned()));
        }
        assert_eq!(cut(text, 5), (text, String::new()));
    }
}
