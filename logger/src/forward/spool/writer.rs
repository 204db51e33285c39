//! The end of a stream where records come in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::segment::{self, TooLong};
use super::sender::{BLOCK, Sender, sync_folder};
use super::stream::{Segment, Stream};
use crate::forward::report::Report;

/// Adds records to a stream.
///
/// A record is *accepted* when [`write`](Self::write) has handed it to the system: then it survives the death of this
/// process. Until then it is in memory, where it stays through any failure.
#[derive(Debug)]
pub(crate) struct Writer<D: Disk = Files> {
    stream: Arc<Stream>,
    /// Locked only by the writers of one spool, which are all on one thread; so it may be held over its writes.
    sender: Arc<Mutex<Sender>>,
    disk: D,
    current: Option<Current<D::File>>,
    /// Records that are not accepted, behind `accepted` bytes of ones that are.
    pending: Vec<u8>,
    accepted: usize,
    /// Bytes of `pending` that are in the current segment. Beyond `accepted`, they are the beginning of a record.
    written: usize,
    /// The sequence of the next record to be accepted.
    head: u64,
    /// The sequence of the next record to be pushed.
    next: u64,
    /// Sequences below are reserved.
    bound: u64,
    /// Whether the folder holds a name that may not be on the disk.
    has_new_name: bool,
}

/// The segment being written.
#[derive(Debug)]
struct Current<F> {
    file: F,
    first: u64,
    /// Bytes of accepted records.
    size: u64,
    is_synced: bool,
}

/// Room that is kept when there is nothing to keep.
const KEPT_CAPACITY: usize = 256 * 1024;

/// What a writer asks of the disk.
pub(crate) trait Disk {
    type File: Write;
    /// Makes an empty file, or empties it.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;
    /// Whether somebody has removed the file.
    fn is_gone(&self, file: &Self::File) -> bool;
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Files;

impl Disk for Files {
    type File = File;

    fn create(&mut self, path: &Path) -> io::Result<File> {
        let open = || OpenOptions::new().write(true).create(true).truncate(true).open(path);
        match (open(), path.parent()) {
            // Somebody has removed the folder.
            (Err(error), Some(folder)) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                open()
            }
            (outcome, _) => outcome,
        }
    }

    fn is_gone(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

impl<D: Disk> Writer<D> {
    /// A writer whose first record gets the sequence `first`; the block behind it is reserved.
    pub(super) fn new(stream: Arc<Stream>, sender: Arc<Mutex<Sender>>, first: u64, disk: D) -> Writer<D> {
        Writer {
            stream,
            sender,
            disk,
            current: None,
            pending: Vec::new(),
            accepted: 0,
            written: 0,
            head: first,
            next: first,
            bound: first.saturating_add(BLOCK),
            has_new_name: false,
        }
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Adds a record in memory, whose payload `encode` appends, and returns its sequence.
    ///
    /// # Errors
    /// [`TooLong`], and the record is not added.
    pub(crate) fn push(&mut self, encode: impl FnOnce(u64, &mut Vec<u8>)) -> Result<u64, TooLong> {
        let sequence = self.next;
        segment::push(&mut self.pending, sequence, encode)?;
        self.next += 1;
        Ok(sequence)
    }

    /// Bytes that are not accepted yet.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len() - self.accepted
    }

    /// Writes all that is pending, with one call for as many records as a segment takes. True if there is something new for
    /// the reader.
    ///
    /// # Errors
    /// What the system said; what it did not take is kept, and the next call goes on with exactly that. Records before it may
    /// be accepted, so the reader should be told then, too.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        let head = self.head;
        let unreadable = self.stream.state().unreadable;
        let is_lost = |current: &Current<D::File>| {
            Some(current.first) == unreadable || self.pending() > 0 && self.disk.is_gone(&current.file)
        };
        if self.current.as_ref().is_some_and(is_lost) {
            self.retire();
        }
        while self.accepted < self.pending.len() {
            if let Err(error) = self.write_some() {
                match error.kind() {
                    ErrorKind::Interrupted => continue,
                    // A full disk takes the rest later. Anything else may be the matter of this file alone.
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (),
                    _ => self.retire(),
                }
                return Err(error);
            }
        }
        self.pending.clear();
        self.pending.shrink_to(KEPT_CAPACITY);
        self.accepted = 0;
        self.written = 0;
        Ok(self.head > head)
    }

    /// Writes all that is pending, and puts everything written through this writer on the disk.
    ///
    /// # Errors
    /// As [`write`](Self::write), and what the disk said. That is said once: the system forgets what it could not put on the
    /// disk, so asking again proves nothing. The records stay accepted, and the next ones go to another segment.
    pub(crate) fn sync(&mut self) -> io::Result<bool> {
        let has_news = self.write()?;
        self.sync_closed()?;
        if let Some(current) = self.current.as_mut().filter(|current| !current.is_synced) {
            current.is_synced = true;
            if let Err(error) = self.disk.sync(&current.file) {
                self.retire();
                return Err(error);
            }
        }
        if self.has_new_name {
            sync_folder(self.stream.folder())?;
            self.has_new_name = false;
        }
        Ok(has_news)
    }

    fn sync_closed(&self) -> io::Result<()> {
        let is_due = |segment: &&Segment| !segment.is_open && !segment.is_synced;
        let due: Vec<u64> = self.stream.state().segments.iter().filter(is_due).map(|due| due.first).collect();
        let mut outcome = Ok(());
        for first in due {
            match File::open(self.stream.path(first)).and_then(|file| file.sync_data()) {
                // Acknowledged or dropped meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => (),
                Err(error) => outcome = Err(error),
                Ok(()) => (),
            }
            let mut state = self.stream.state();
            if let Some(segment) = state.segments.iter_mut().find(|segment| segment.first == first) {
                segment.is_synced = true;
            }
        }
        outcome
    }

    /// One write, of whole records but for the rest of one.
    fn write_some(&mut self) -> io::Result<()> {
        let is_between = self.written == self.accepted;
        let next = self.fitting(u64::MAX, 1).0 as u64;
        let limit = self.stream.segment_bytes;
        if is_between
            && self.current.as_ref().is_some_and(|current| current.size > 0 && current.size + next > limit)
        {
            self.retire();
        }
        let size = self.current.as_ref().map_or(0, |current| current.size);
        let (bytes, records) = self.fitting(limit.saturating_sub(size), usize::MAX);
        self.reserve(self.head + records)?;
        let current = match &mut self.current {
            Some(current) => current,
            none => {
                let file = self.disk.create(&self.stream.path(self.head))?;
                self.has_new_name = true;
                none.insert(Current { file, first: self.head, size: 0, is_synced: false })
            }
        };
        let upto = self.accepted + bytes;
        let n = current.file.write(self.pending.get(self.written..upto).unwrap_or_default())?;
        if n == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        current.is_synced = false;
        self.written += n;
        self.publish();
        Ok(())
    }

    /// How many bytes are the pending records that fit, at least one and at most so many; and how many they are.
    fn fitting(&self, room: u64, most: usize) -> (usize, u64) {
        let (mut bytes, mut records) = (0, 0);
        let pending = self.pending.get(self.accepted..).unwrap_or_default();
        while let Some(len) = pending.get(bytes..).and_then(segment::encoded_len) {
            if records > 0 && (bytes + len) as u64 > room || records >= most as u64 {
                break;
            }
            bytes += len;
            records += 1;
        }
        (bytes, records)
    }

    fn reserve(&mut self, end: u64) -> io::Result<()> {
        while self.bound < end {
            let bound = self.bound.saturating_add(BLOCK);
            self.sender.lock().unwrap_or_else(PoisonError::into_inner).reserve(bound)?;
            self.bound = bound;
        }
        Ok(())
    }

    /// Counts as accepted what is written as a whole, and drops the oldest segments if that was too much.
    fn publish(&mut self) {
        let Some(current) = &mut self.current else { return };
        let first = self.head;
        let before = self.accepted;
        while let Some(len) = self.pending.get(self.accepted..self.written).and_then(segment::encoded_len) {
            if self.accepted + len > self.written {
                break;
            }
            self.accepted += len;
            self.head += 1;
        }
        if self.head == first {
            return;
        }
        let last = self.head - 1;
        let is_new = current.size == 0;
        current.size += (self.accepted - before) as u64;
        let mut state = self.stream.state();
        match state.segments.back_mut() {
            Some(segment) if !is_new => {
                segment.last = last;
                segment.end = current.size;
                segment.is_synced = false;
            }
            _ => state.segments.push_back(Segment {
                first: current.first,
                last,
                end: current.size,
                is_open: true,
                is_synced: false,
                is_certain: true,
                is_kept: false,
            }),
        }
        state.waiting.push(first..=last);
        state.spooled += last - first + 1;
        let (gone, records, bytes) = state.shed(self.stream.max_bytes);
        drop(state);
        self.stream.remove(&gone);
        if records > 0 {
            self.stream.report(&Report::Dropped { stream: self.stream.number(), records, bytes });
        }
    }

    /// Leaves the current segment as it is. A record of which a beginning is written will be written whole elsewhere.
    fn retire(&mut self) {
        self.written = self.accepted;
        let Some(current) = self.current.take() else { return };
        if current.size == 0 {
            // If that fails, a later start removes it.
            let _ = fs::remove_file(self.stream.path(current.first));
            return;
        }
        let mut state = self.stream.state();
        if let Some(segment) = state.segments.back_mut() {
            segment.is_open = false;
            segment.is_synced = current.is_synced;
        }
        let done = state.tidy();
        drop(state);
        self.stream.remove(&done);
    }
}

#[cfg(test)]
impl Writer {
    /// The same on another disk, before anything is written.
    pub(super) fn on<D: Disk>(self, disk: D) -> Writer<D> {
        Writer::new(Arc::clone(&self.stream), Arc::clone(&self.sender), self.head, disk)
    }

    /// Gives the next record this sequence, before anything is written.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.head = sequence;
        self.next = sequence;
    }
}

impl<D: Disk> Drop for Writer<D> {
    fn drop(&mut self) {
        self.retire();
    }
}
