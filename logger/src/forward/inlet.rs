//! Where records come into the spool: which of them, in which form, on which stream.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flood::{Floods, Held};
use super::mark::Mark;
use super::report::{TARGET, is_own};
use super::spool::Writer;
use super::syslog::{self, Origin};
use crate::NO_FIELDS;
use crate::filter::Gate;
use crate::format::{Layout, Site, Thread};
use crate::level::Level;
use crate::parts::Parts;

pub(super) struct Inlet {
    gate: Arc<Gate>,
    origin: Origin,
    sender: u64,
    /// The longest text of a record that is forwarded whole.
    max_record: usize,
    /// One for each client.
    writers: Vec<Writer>,
    floods: Option<Floods>,
    cut: u64,
    /// Records that were held back as part of a flood.
    held: u64,
}

impl Inlet {
    pub(super) fn new(
        gate: Arc<Gate>,
        origin: Origin,
        sender: u64,
        max_record: usize,
        writers: Vec<Writer>,
        floods: Option<Floods>,
    ) -> Inlet {
        Inlet { gate, origin, sender, max_record, writers, floods, cut: 0, held: 0 }
    }

    /// Records of which only the beginning was taken.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Takes a line that a thread with this pair has logged, if it is to be forwarded, as far as memory.
    pub(super) fn take(&mut self, pair: u32, level: Level, line: &[u8]) {
        let Some(parts) = Parts::of(line) else { return };
        // Escapes alone keep a target from being UTF-8, and they are ASCII.
        let target = str::from_utf8(parts.target).unwrap_or_default();
        if is_own(parts.target) || !self.gate.admits(level, target) {
            return;
        }
        if let Some(floods) = &mut self.floods {
            let mut kind = DefaultHasher::new();
            (level, parts.target, parts.place).hash(&mut kind);
            if !floods.admits(kind.finish(), Instant::now(), pair, level, line) {
                self.held += 1;
                return;
            }
        }
        self.push(pair, level, &parts);
    }

    fn push(&mut self, pair: u32, level: Level, parts: &Parts<'_>) {
        let streams = self.writers.len().max(1);
        let Some(writer) = self.writers.get_mut(pair as usize % streams) else { return };
        let (text, note) = cut(parts.rest, self.max_record);
        self.cut += u64::from(!note.is_empty());
        let (sender, stream) = (self.sender, writer.stream().number());
        let encode = |sequence, out: &mut Vec<u8>| {
            let mark = Mark { sender, stream, sequence };
            syslog::write_message(out, &self.origin, level, parts.stamp, mark, text);
            out.extend_from_slice(note.as_bytes());
        };
        // Only a record of megabytes would be too long for the spool, and it was cut.
        let _ = writer.push(encode);
    }

    /// Says how many records each flood that is over had, as a record of the same level behind them. When to look again, if
    /// there is reason to.
    pub(super) fn sweep(&mut self) -> Option<Duration> {
        let floods = self.floods.as_mut()?;
        let period = floods.period();
        let over = floods.sweep(Instant::now());
        let is_done = floods.is_empty();
        self.say(over, period);
        (!is_done).then_some(period)
    }

    /// Says what was held back so far, and holds nothing back any more: nobody would come to say it.
    pub(super) fn end_floods(&mut self) {
        if let Some(floods) = self.floods.take() {
            let period = floods.period();
            self.say(floods.end(), period);
        }
    }

    fn say(&mut self, over: Vec<(u64, Held)>, period: Duration) {
        for (many, last) in over {
            let Some(parts) = Parts::of(&last.line) else { continue };
            let layout = if last.line.starts_with(b"{") { Layout::Json } else { Layout::Text };
            let site = Site { level: last.level, target: TARGET, file: "", line: 0 };
            let mut line = [layout.lead(), parts.stamp].concat();
            layout.write_start(&mut line, &site, Thread::Worker);
            let place = String::from_utf8_lossy(parts.place);
            let target = String::from_utf8_lossy(parts.target);
            let message = format_args!(
                "{many} more records from {target} {place} within {period:?} were not forwarded"
            );
            let has_fields = layout.write_rest(&mut line, message, &NO_FIELDS);
            line.extend_from_slice(layout.end(has_fields).bytes());
            if let Some(parts) = Parts::of(&line) {
                self.push(last.pair, last.level, &parts);
            }
        }
    }

    /// Writes what was taken. `tell` hears of each stream that got something new. The first failure counts.
    pub(super) fn write(&mut self, tell: impl Fn(usize)) -> io::Result<()> {
        let mut outcome = Ok(());
        for (nth, writer) in self.writers.iter_mut().enumerate() {
            let written = writer.write();
            // Where writing failed, some records may have come to the spool before.
            if !matches!(written, Ok(false)) {
                tell(nth);
            }
            outcome = outcome.and(written.map(|_| ()));
        }
        outcome
    }

    /// Puts what was written on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.writers.iter_mut().try_for_each(|writer| writer.sync().map(|_| ()))
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
