//! Parts of files as buffer content.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A part of a file that can be added to any number of evbuffers.
///
/// Cloning it counts; the file is closed when the last clone is gone and the last byte added from it has left its
/// buffer. Nothing is read before it is needed: [`write_to`](crate::Evbuffer::write_to) lets the kernel copy straight
/// to the socket, and the calls that must see bytes (`copy_out`, `remove`, `pull_up`, `find`, `read_line`) read them.
/// The file's own position is neither used nor moved.
///
/// The file should not change meanwhile: what is sent is what it holds at that moment, and if it turns out shorter
/// than promised the call that finds out returns [`Error::FileShort`].
///
/// Unlike libevent there is no mapping into memory (a truncated file would kill the process), and no flag says who
/// closes: the segment owns the file, so it is closed on failure too.
///
/// ```
/// use std::io::Write;
/// use reactor::Evbuffer;
/// use reactor::evbuffer::FileSegment;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"0123456789")?;
/// let segment = FileSegment::new(file, 2, 8)?;
///
/// let buffer = Evbuffer::new();
/// buffer.append_file(&segment, 0..4)?;
/// buffer.append_file(&segment, 6..8)?;
/// let mut out = [0; 6];
/// assert_eq!(buffer.remove(&mut out)?, 6);
/// assert_eq!(&out, b"234589");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "evbuffer_file_segment")]
pub struct FileSegment(Arc<Part>);

#[derive(Debug)]
struct Part {
    file: File,
    offset: u64,
    len: u64,
}

impl FileSegment {
    /// The `len` bytes of `file` that begin at `offset`.
    ///
    /// The file is not looked at: bytes beyond its end are missed only when they are needed.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `offset + len` is more than a file can have (`i64::MAX`). The file is closed then.
    #[doc(alias = "evbuffer_file_segment_new")]
    pub fn new(file: File, offset: u64, len: u64) -> Result<FileSegment> {
        match offset.checked_add(len) {
            Some(end) if i64::try_from(end).is_ok() => Ok(FileSegment(Arc::new(Part { file, offset, len }))),
            _ => Err(Error::OutOfRange { at: offset, len: i64::MAX as u64 }),
        }
    }

    /// Its length in bytes, as given to [`new`](Self::new).
    pub fn len(&self) -> u64 {
        self.0.len
    }

    /// Whether its length is zero.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }
}

/// What of a segment is in a buffer: `start..end`, relative to the segment.
#[derive(Clone)]
pub(super) struct FileRange {
    segment: FileSegment,
    start: u64,
    end: u64,
}

impl FileRange {
    pub(super) fn new(segment: &FileSegment, range: Range<u64>) -> Result<FileRange> {
        if range.start > range.end || range.end > segment.len() {
            return Err(Error::OutOfRange { at: range.end.max(range.start), len: segment.len() });
        }
        Ok(FileRange { segment: segment.clone(), start: range.start, end: range.end })
    }

    /// In bytes. The buffer checked when it took it in that this fits.
    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.start += n as u64;
    }

    pub(super) fn truncate(&mut self, n: usize) {
        self.end = self.start + n as u64;
    }

    pub(super) fn is_sound(&self) -> bool {
        self.start < self.end && self.end <= self.segment.len()
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.segment.0.file.as_fd()
    }

    /// Where its first byte stands in the file.
    pub(super) fn position(&self) -> u64 {
        self.segment.0.offset + self.start
    }

    /// Fills `dst` with the bytes that begin `at` bytes into the range.
    pub(super) fn read_exact_at(&self, at: usize, dst: &mut [u8]) -> Result<()> {
        let position = self.position() + at as u64;
        self.segment.0.file.read_exact_at(dst, position).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.short(),
            _ => Error::io("read the file of a file segment")(e),
        })
    }

    /// The error for a file that ends before the range does.
    pub(super) fn short(&self) -> Error {
        let file = &self.segment.0.file;
        let fd = file.as_raw_fd();
        let name = std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .map_or_else(|_| format!("descriptor {fd}"), |path| path.display().to_string());
        Error::FileShort {
            file: name.into(),
            needed: self.segment.0.offset + self.end,
            end: file.metadata().map_or(0, |m| m.len()),
        }
    }
}
