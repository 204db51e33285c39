//! The end of a stream where records go out.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::acked::Acked;
use super::cursor::{Cursor, Step};
use super::segment::Record;
use super::stream::{Segment, Stream};
use crate::forward::report::Report;

/// Takes records from a stream, in order.
///
/// What cannot be read is dealt with so that the rest goes on:
/// - damaged records are skipped, counted and reported;
/// - the same holds for the records of a segment that has vanished, and for the rest of one that the disk cannot read (its
///   file stays). Going on without skipping them is impossible: an acknowledgement is for all records up to one;
/// - any other failure, such as too many open files, *stalls* the reader: [`next`](Self::next) has nothing and tries again
///   when it is called again. It is reported once.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: Arc<Stream>,
    cursor: Cursor,
    place: Place,
    /// The segment of the place.
    file: Option<File>,
    /// Damage in front of the place, not yet accounted for.
    damage: Option<(u64, u64)>,
    /// A record without its end, at the end of the segment.
    torn: Option<(u64, u64)>,
    acked: Acked,
    acknowledged: u64,
    /// The highest sequence ever handed out.
    handed_out: u64,
    /// Where damage was reported last: segment and offset.
    reported: (u64, u64),
    is_stalled: bool,
    acked_has_failed: bool,
    /// Whether nobody writes to the stream, so that its folder can go.
    is_orphan: bool,
}

/// In which segment, and what it was when last looked at.
#[derive(Debug)]
enum Place {
    /// Before the first one.
    Front,
    In {
        segment: Segment,
        /// The last sequence that was passed.
        passed: u64,
    },
    /// Behind the segment of this first sequence, in front of the next.
    Behind(u64),
}

impl Reader {
    pub(super) fn new(stream: Arc<Stream>, acknowledged: u64, is_orphan: bool) -> Reader {
        let acked = Acked::new(stream.folder());
        Reader {
            stream,
            cursor: Cursor::new(),
            place: Place::Front,
            file: None,
            damage: None,
            torn: None,
            acked,
            acknowledged,
            handed_out: acknowledged,
            reported: (0, 0),
            is_stalled: false,
            acked_has_failed: false,
            is_orphan,
        }
    }

    /// Which stream.
    #[cfg(test)]
    pub(crate) fn stream(&self) -> u32 {
        self.stream.number()
    }

    pub(crate) fn shared(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Whether records wait that were not handed out since the last rewind. [`next`](Self::next) may still have nothing: if
    /// they turn out to be damaged, or if the reader is stalled.
    #[cfg(test)]
    pub(crate) fn has_more(&self) -> bool {
        let state = self.stream.state();
        state.waiting.last().is_some_and(|last| last > state.sent)
    }

    /// Whether the last [`next`](Self::next) failed in a way that may pass. Then it should be called again, in a while.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Whether nothing waits for its acknowledgement.
    #[cfg(test)]
    pub(crate) fn is_drained(&self) -> bool {
        let state = self.stream.state();
        state.waiting.is_empty() && state.segments.iter().all(|segment| segment.is_open)
    }

    /// Whether this stream is from an earlier run and gets no new records.
    #[cfg(test)]
    pub(crate) fn is_orphan(&self) -> bool {
        self.is_orphan
    }

    /// The next record; None if there is none now.
    pub(crate) fn next(&mut self) -> Option<Record<'_>> {
        loop {
            let Some(sequences) = self.enter() else {
                self.tidy();
                return None;
            };
            let Place::In { segment, .. } = &self.place else { return None };
            let Some(file) = &self.file else { return None };
            let step = self.cursor.step(file, segment.end, &sequences);
            self.is_stalled &= step.is_err();
            match step {
                Ok(Step::Record { sequence, payload }) => {
                    if self.take(sequence) {
                        return Some(Record { sequence, payload: self.cursor.bytes(payload) });
                    }
                }
                Ok(Step::Damage { offset, bytes }) => self.damage = Some((offset, bytes)),
                Ok(Step::Torn { offset, bytes }) => self.torn = Some((offset, bytes)),
                Ok(Step::End) => {
                    if !self.leave() {
                        self.tidy();
                        return None;
                    }
                }
                Err(error) => {
                    if !self.give_up("cannot read it", &error) {
                        return None;
                    }
                }
            }
        }
    }

    /// Everything up to this sequence is with the collector. What was never handed out is not acknowledged.
    pub(crate) fn acknowledge(&mut self, through: u64) {
        let through = through.min(self.handed_out);
        if through <= self.acknowledged {
            return;
        }
        self.acknowledged = through;
        match self.acked.write(through) {
            Ok(()) => self.acked_has_failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.acked_has_failed, true) {
                    let path = self.acked.path().to_owned();
                    self.stream.failed(
                        path,
                        "cannot write it, records may be sent again after a restart",
                        &error,
                    );
                }
            }
        }
        let mut state = self.stream.state();
        let records = state.waiting.remove(0..=through);
        state.acknowledged += records;
        drop(state);
        self.tidy();
    }

    /// Begins again behind the last acknowledged record.
    pub(crate) fn rewind(&mut self) {
        let mut state = self.stream.state();
        let (records, bytes) = state.unsend();
        // With nothing to send again, what is behind needs no second look.
        let is_done = state.waiting.is_empty();
        drop(state);
        if records > 0 {
            self.stream.report(&Report::Dropped { stream: self.stream.number(), records, bytes });
        }
        if !is_done {
            self.go(Place::Front);
        }
    }

    fn go(&mut self, place: Place) {
        self.place = place;
        self.file = None;
        self.damage = None;
        self.torn = None;
        self.cursor.restart();
    }

    /// Goes into a segment, if in none, and opens its file. Says which sequences may follow.
    fn enter(&mut self) -> Option<RangeInclusive<u64>> {
        loop {
            let behind = match &self.place {
                // One more, since a record without its end may stand behind the last one.
                Place::In { segment, passed } if self.file.is_some() => {
                    return Some(passed + 1..=segment.last.saturating_add(1));
                }
                Place::In { .. } => None,
                Place::Front => Some(0),
                Place::Behind(first) => Some(*first),
            };
            if let Some(behind) = behind {
                let state = self.stream.state();
                let segment = state.segments.iter().find(|segment| segment.first > behind)?.clone();
                drop(state);
                let passed = segment.first.saturating_sub(1);
                self.go(Place::In { segment, passed });
            }
            let Place::In { segment, .. } = &self.place else { return None };
            match File::open(self.stream.path(segment.first)) {
                Ok(file) => {
                    self.is_stalled = false;
                    self.file = Some(file);
                }
                Err(error) => {
                    if !self.give_up("cannot open it", &error) {
                        return None;
                    }
                }
            }
        }
    }

    /// Passes a record. True if it is to be handed out.
    fn take(&mut self, sequence: u64) -> bool {
        let Place::In { segment, passed } = &mut self.place else { return false };
        if sequence > segment.last {
            return false;
        }
        let first = segment.first;
        let missing = *passed + 1..=sequence.saturating_sub(1);
        *passed = sequence;
        if !missing.is_empty() || self.damage.is_some() {
            let damage = self.damage.take();
            self.lose(missing, damage, true);
        }
        if sequence <= self.acknowledged {
            return false;
        }
        let mut state = self.stream.state();
        if state.waiting.contains(sequence) {
            state.sent = sequence;
            drop(state);
            self.handed_out = self.handed_out.max(sequence);
            return true;
        }
        let is_dropped = !state.segments.iter().any(|segment| segment.first == first);
        drop(state);
        if is_dropped {
            self.go(Place::Behind(first));
        }
        false
    }

    /// At the end of what was known of a segment. True if there is more, there or behind it.
    fn leave(&mut self) -> bool {
        let Place::In { segment, passed } = &mut self.place else { return true };
        let first = segment.first;
        let missing = *passed + 1..=segment.last;
        *passed = segment.last;
        let is_certain = segment.is_certain;
        let state = self.stream.state();
        let now = state.segments.iter().find(|now| now.first == first).cloned();
        drop(state);
        let (is_longer, is_open) =
            now.as_ref().map_or((false, false), |now| (now.end > segment.end, now.is_open));
        if let Some(now) = now {
            *segment = now;
        }
        let torn = self.torn.take().filter(|_| !missing.is_empty());
        let damage = self.damage.take().or(torn);
        if !missing.is_empty() || damage.is_some() {
            self.lose(missing, damage, is_certain);
        }
        if !is_longer && !is_open {
            self.pass(first);
        }
        is_longer || !is_open
    }

    /// Is done with a segment.
    fn pass(&mut self, first: u64) {
        self.go(Place::Behind(first));
        let mut state = self.stream.state();
        state.passed = state.passed.max(first);
    }

    /// Counts records that are not where they should be, and reports them once.
    fn lose(&mut self, missing: RangeInclusive<u64>, damage: Option<(u64, u64)>, is_known: bool) {
        let Place::In { segment, .. } = &self.place else { return };
        let first = segment.first;
        let (offset, bytes) = damage.unwrap_or((self.cursor.offset(), 0));
        let is_new = missing.is_empty() && (first, offset) > self.reported;
        let mut state = self.stream.state();
        let records = state.waiting.remove(missing);
        state.damaged += records;
        drop(state);
        if records > 0 || is_new {
            self.reported = self.reported.max((first, offset));
            let path = self.stream.path(first);
            let records = (is_known || records > 0).then_some(records);
            self.stream.report(&Report::Damaged { path, offset, bytes, records });
        }
    }

    /// After a failure: skips the rest of the segment if that is all there is to do, or stalls. True if it was skipped.
    fn give_up(&mut self, what: &str, error: &io::Error) -> bool {
        let Place::In { segment, passed } = &mut self.place else { return false };
        let first = segment.first;
        let path = self.stream.path(first);
        let mut state = self.stream.state();
        let Some(listed) = state.segments.iter_mut().find(|listed| listed.first == first) else {
            // It was dropped at the bound.
            drop(state);
            self.go(Place::Behind(first));
            return true;
        };
        if !is_lasting(error) {
            drop(state);
            if !std::mem::replace(&mut self.is_stalled, true) {
                self.stream.failed(path, what, error);
            }
            return false;
        }
        listed.is_kept = true;
        *segment = listed.clone();
        let rest = *passed + 1..=segment.last;
        *passed = segment.last;
        let is_open = segment.is_open;
        let records = state.waiting.remove(rest);
        state.damaged += records;
        if is_open {
            state.unreadable = Some(first);
        }
        drop(state);
        if records > 0 {
            self.stream.failed(path, what, &format_args!("{error}; records skipped: {records}"));
        }
        self.is_stalled = false;
        self.file = None;
        self.damage = None;
        self.torn = None;
        if !is_open {
            self.pass(first);
        }
        !is_open
    }

    pub(super) fn tidy(&mut self) {
        let mut state = self.stream.state();
        let done = state.tidy();
        let is_empty = state.segments.is_empty();
        drop(state);
        self.stream.remove(&done);
        if self.is_orphan && is_empty {
            self.remove_folder();
        }
    }

    fn remove_folder(&mut self) {
        let path = self.stream.folder();
        let outcome = self.acked.remove().and_then(|()| fs::remove_dir(path));
        match outcome {
            // What others have put there is theirs.
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                self.stream.failed(
                    path.to_owned(),
                    "cannot remove it, it stays until the next start",
                    &error,
                );
            }
            _ => (),
        }
    }
}

/// Whether trying again is in vain.
fn is_lasting(error: &io::Error) -> bool {
    let damage = [rustix::io::Errno::IO.raw_os_error(), rustix::io::Errno::UCLEAN.raw_os_error()];
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory)
        || error.raw_os_error().is_some_and(|code| damage.contains(&code))
}
