//! What all connections share: the file, the lines that are to go there, and what was counted.

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::echo::Echo;
use super::file::{Batch, Change, LogFile};
use super::line::{Stamps, write_line};
use super::seen::Seen;
use super::server::Counters;
use super::session::Record;
use crate::forward::syslog::{self, Message};
use crate::level::Level;

const TARGET: &str = "logger::backlog";
/// The first and the longest wait before the file is tried again.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Lines are written before a turn is over when there are so many bytes of them.
const LARGE: usize = 4 * 1024 * 1024;

pub(crate) struct Book {
    file: LogFile,
    seen: Seen,
    batch: Batch,
    /// Records in the batch, and how many of them are cut.
    waiting: u64,
    waiting_cut: u64,
    stamps: Stamps,
    echo: Option<Echo>,
    pub(crate) counters: Counters,
    /// The file could not be written at the last try; the wait before the next one.
    retry_in: Option<Duration>,
    has_forgotten: bool,
}

impl Book {
    pub(crate) fn new(file: LogFile, seen: Seen, echo: Option<Echo>) -> Book {
        Book {
            file,
            seen,
            batch: Batch::default(),
            waiting: 0,
            waiting_cut: 0,
            stamps: Stamps::new(),
            echo,
            counters: Counters::default(),
            retry_in: None,
            has_forgotten: false,
        }
    }

    /// Takes a record that has come at `now`, unless it is a repeat.
    pub(crate) fn take(&mut self, record: Record<'_>, from: &str, now: u64) {
        let message = match record.is_syslog {
            true => syslog::parse(record.bytes),
            false => Message::bare(record.bytes),
        };
        if let Some(mark) = message.mark
            && !self.seen.admit(mark, now)
        {
            self.counters.repeats += 1;
            return;
        }
        write_line(&mut self.batch.bytes, &message, record.cut, from, self.stamps.stamp(now));
        self.waiting += 1;
        self.waiting_cut += u64::from(record.cut > 0);
    }

    /// Whether no more should be taken before it is written.
    pub(crate) fn is_large(&self) -> bool {
        self.batch.bytes.len() >= LARGE
    }

    /// Whether the file takes nothing; how long to wait before it is tried again.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        self.retry_in
    }

    /// Writes what was taken, by `now` of the loop's clock. Once this is done, all of it may be acknowledged.
    pub(crate) fn write(&mut self, now: Instant) -> io::Result<()> {
        if !self.batch.is_empty()
            && let Some(echo) = &self.echo
            && self.retry_in.is_none()
        {
            echo.put(&self.batch.bytes);
        }
        let looked = self.look(now);
        if let Err(error) = looked.and_then(|()| self.file.write(&mut self.batch, &mut self.seen)) {
            let wait = self.retry_in.map_or(FIRST_RETRY, |wait| (wait * 2).min(LONGEST_RETRY));
            if self.retry_in.replace(wait).is_none() {
                let path = self.file.path().display().to_string();
                crate::log!(
                    target: TARGET, Level::Error, file = path;
                    "cannot write the backlog: {error}; nothing is acknowledged or read until that works"
                );
            }
            return Err(error);
        }
        self.counters.records += std::mem::take(&mut self.waiting);
        self.counters.cut += std::mem::take(&mut self.waiting_cut);
        if self.retry_in.take().is_some() {
            let path = self.file.path().display().to_string();
            crate::log!(target: TARGET, Level::Info, file = path; "writing the backlog works again");
        }
        let forgotten = self.seen.forget();
        if forgotten > 0 && !std::mem::replace(&mut self.has_forgotten, true) {
            crate::log!(
                target: TARGET, Level::Warn, streams = forgotten;
                "there are too many streams to know them all: of those not heard of for the longest time, repeats are \
                 written again"
            );
        }
        if let Some(echo) = &self.echo {
            self.counters.not_printed += echo.take_dropped();
        }
        Ok(())
    }

    fn look(&mut self, now: Instant) -> io::Result<()> {
        let change = self.file.look(&mut self.batch, &mut self.seen, now)?;
        let path = || self.file.path().display().to_string();
        match change {
            None => (),
            Some(Change::Moved) => crate::log!(
                target: TARGET, Level::Warn, file = path();
                "the file was removed or renamed: there is a new one in its place, with all marks"
            ),
            Some(Change::Shrunk) => crate::log!(
                target: TARGET, Level::Warn, file = path();
                "another program has cut the file: it goes on with all marks"
            ),
        }
        Ok(())
    }

    /// Has the next write look at the file, however short ago that was.
    pub(crate) fn look_soon(&mut self) {
        self.file.look_soon();
    }

    /// How many records are taken and not written.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file.look_soon();
        self.file.reopen(&mut self.batch, &mut self.seen)
    }
}

/// Microseconds since 1970.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
