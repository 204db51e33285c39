//! What the two ends of a stream share.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sequences::Sequences;
use crate::forward::report::{Report, Reporter};

/// One stream: a folder of segments, the writer that adds to them, and the reader that takes them away.
///
/// A record is in `waiting` from the moment it is accepted until it is acknowledged, dropped or found damaged. It leaves
/// once, and only what waits is handed out; so the counts add up, at any time:
/// found at the start + spooled = acknowledged + dropped + damaged + waiting.
pub(crate) struct Stream {
    number: u32,
    folder: PathBuf,
    /// Bytes that a segment should not go beyond.
    pub(super) segment_bytes: u64,
    /// Bytes that all segments together should not go beyond.
    pub(super) max_bytes: u64,
    pub(super) reporter: Reporter,
    /// Held for as long as there is a stream.
    pub(super) _lock: Arc<File>,
    /// For bookkeeping only: never held while a file is read, written or removed.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By their first sequences. Only the last may be open.
    pub(super) segments: VecDeque<Segment>,
    pub(super) waiting: Sequences,
    /// The highest sequence that was handed out since the last rewind.
    pub(super) sent: u64,
    /// The reader is done with segments up to this first sequence.
    pub(super) passed: u64,
    /// The first sequence of an open segment that the reader cannot read, so that the writer begins another.
    pub(super) unreadable: Option<u64>,
    /// Bytes of dropped segments with records on their way, of which nothing was reported.
    pub(super) unreported_bytes: u64,
    pub(super) spooled: u64,
    pub(super) acknowledged: u64,
    pub(super) dropped: u64,
    pub(super) damaged: u64,
}

/// A file of records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    /// The sequence of its first record, and its name.
    pub(super) first: u64,
    /// The sequence of its last record; one less than `first` if there is none.
    pub(super) last: u64,
    /// Bytes that may be read.
    pub(super) end: u64,
    /// Whether the writer may add to it.
    pub(super) is_open: bool,
    /// Whether it is on the disk as far as the writer was asked to see to it.
    pub(super) is_synced: bool,
    /// Whether `last` is surely right. It is not if the end of a segment of an earlier run is damaged.
    pub(super) is_certain: bool,
    /// Whether the file stays where it is when it is done with, since it could not be read.
    pub(super) is_kept: bool,
}

/// What became of a stream's records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Accepted, since the spool was opened.
    pub(crate) spooled: u64,
    pub(crate) acknowledged: u64,
    /// Gone at the bound, unacknowledged. Those on their way count when they turn out not to have arrived.
    pub(crate) dropped: u64,
    pub(crate) damaged: u64,
    /// Accepted, now or earlier, and nothing of the above yet.
    pub(crate) waiting: u64,
    /// Bytes in segments.
    pub(crate) bytes: u64,
}

impl Stream {
    pub(super) fn new(
        number: u32,
        folder: PathBuf,
        (segment_bytes, max_bytes): (u64, u64),
        reporter: Reporter,
        lock: Arc<File>,
        state: State,
    ) -> Stream {
        Stream { number, folder, segment_bytes, max_bytes, reporter, _lock: lock, state: Mutex::new(state) }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// All at one moment.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            spooled: state.spooled,
            acknowledged: state.acknowledged,
            dropped: state.dropped,
            damaged: state.damaged,
            waiting: state.waiting.len(),
            bytes: state.bytes(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.folder.join(segment_name(first))
    }

    pub(super) fn report(&self, report: &Report) {
        (self.reporter)(report);
    }

    pub(super) fn failed(&self, path: PathBuf, what: &str, why: &dyn std::fmt::Display) {
        self.report(&Report::Failed { path, reason: format!("{what}: {why}") });
    }

    /// Removes the files of segments that were taken out of the list.
    pub(super) fn remove(&self, segments: &[Segment]) {
        for segment in segments.iter().filter(|segment| !segment.is_kept) {
            let path = self.path(segment.first);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    self.failed(path, "cannot remove it, it stays until the next start", &error);
                }
                _ => (),
            }
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("folder", &self.folder)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// Takes out the oldest segments of which nothing is left to send or to say.
    pub(super) fn tidy(&mut self) -> Vec<Segment> {
        let mut done = Vec::new();
        let is_done = |segment: &Segment| {
            let is_known = segment.is_certain || segment.first <= self.passed;
            !segment.is_open && is_known && !self.waiting.touches(&(segment.first..=segment.last))
        };
        while self.segments.front().is_some_and(is_done) {
            done.extend(self.segments.pop_front());
        }
        done
    }

    /// Takes out the oldest segments until the rest is within `max_bytes`, but not the one being written. Counts their
    /// records but those on their way, and says how many they were in how many bytes.
    pub(super) fn shed(&mut self, max_bytes: u64) -> (Vec<Segment>, u64, u64) {
        let (mut gone, mut records, mut bytes) = (Vec::new(), 0, 0);
        let mut kept = self.bytes();
        while kept > max_bytes {
            let Some(segment) = self.segments.front().filter(|segment| !segment.is_open).cloned() else {
                break;
            };
            self.segments.pop_front();
            let unsent = segment.first.max(self.sent.saturating_add(1))..=segment.last;
            records += self.waiting.remove(unsent);
            bytes += segment.end;
            kept -= segment.end;
            gone.push(segment);
        }
        self.dropped += records;
        if records == 0 {
            self.unreported_bytes += std::mem::take(&mut bytes);
        }
        (gone, records, bytes)
    }

    /// Forgets what was sent. Counts the records that were on their way and are no longer there.
    pub(super) fn unsend(&mut self) -> (u64, u64) {
        self.sent = 0;
        let kept_from = self.segments.front().map_or(u64::MAX, |segment| segment.first);
        let records = self.waiting.remove(0..=kept_from.saturating_sub(1));
        self.dropped += records;
        (records, std::mem::take(&mut self.unreported_bytes))
    }
}

const SUFFIX: &str = ".seg";

pub(super) fn segment_name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first sequence of the segment with this name.
pub(super) fn parse_segment_name(name: &str) -> Option<u64> {
    let first = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(first) == name).then_some(first)
}
