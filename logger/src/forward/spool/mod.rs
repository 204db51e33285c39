//! Records on disk, on their way to a collector.
//!
//! A spool is a folder with one folder for each of its streams. A stream has a [`Writer`], on the logger's worker thread, and a
//! [`Reader`], on the thread of a client; they share a [`Stream`].
//!
//! | File | What |
//! |---|---|
//! | `lock` | locked by the process that has the spool |
//! | `sender` | the sender's id, and up to where sequences are reserved; text with a checksum, replaced as a whole |
//! | `stream-0/acked` | the highest acknowledged sequence; text with a checksum, rewritten in place |
//! | `stream-0/00000000000000000001.seg` | records, the first of which has this sequence; see [`segment`] |
//!
//! - A stream's sequences grow by one from record to record, and jump to a new block at each start. They are never used twice.
//! - A segment belongs to one run. So it has no gaps, a record without its end can only stand at the end of one, and the name
//!   of the next segment tells where it ends, unless that begins a block.
//! - A record that is damaged costs itself alone.

mod acked;
mod checked;
pub(crate) mod cursor;
mod leftover;
mod reader;
pub(crate) mod segment;
mod sender;
mod sequences;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::FlockOperation;

pub(crate) use reader::Reader;
pub(crate) use stream::Stream;
pub(crate) use writer::Writer;

use super::mark::parse_number;
use super::report::{Report, Reporter};
use crate::error::Error;
use leftover::Leftover;
use sender::{BLOCK, Found, block_behind, sync_folder};
use stream::State;
use writer::Files;

/// How much a spool holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpoolOptions {
    /// At least one.
    pub(crate) streams: u32,
    /// Bytes after which a segment is followed by the next. Less if a stream's share is less than two of them.
    pub(crate) segment_bytes: u64,
    /// Bytes of all segments; each stream has an equal share, and may go beyond it for a moment, by one segment.
    pub(crate) max_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> SpoolOptions {
        SpoolOptions { streams: 4, segment_bytes: 4 * 1024 * 1024, max_bytes: 256 * 1024 * 1024 }
    }
}

/// A smaller segment is not worth its file.
const LEAST_SEGMENT: u64 = 4096;

/// An open spool.
#[derive(Debug)]
pub(crate) struct Spool {
    sender: u64,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl Spool {
    /// Opens the spool in a folder, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::Spool`], [`Error::SpoolInUse`], [`Error::SpoolFormat`].
    pub(crate) fn open(folder: &Path, options: &SpoolOptions, reporter: Reporter) -> Result<Spool, Error> {
        let cannot = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Spool { path, what, source }
        };
        fs::create_dir_all(folder).map_err(cannot("make the folder", folder))?;

        let path = folder.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(cannot("open", &path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => (),
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::SpoolInUse { path: folder.to_owned() }),
            Err(errno) => return Err(cannot("lock", &path)(errno.into())),
        }
        let lock = Arc::new(lock);

        let path = folder.join("sender");
        let found = sender::Sender::find(folder).map_err(cannot("read", &path))?;
        let (mut sender, trouble) = match found {
            Found::Sender(sender) => (sender, None),
            Found::New(sender) => (sender, Some("missing")),
            Found::Damaged(sender) => (sender, Some("damaged")),
            Found::Foreign(format) => return Err(Error::SpoolFormat { path: folder.to_owned(), format }),
        };

        let count = options.streams.max(1);
        let mut numbers = stream_numbers(folder).map_err(cannot("list", folder))?;
        numbers.retain(|number| *number >= count);
        numbers.extend(0..count);
        numbers.sort_unstable();
        let mut leftovers = Vec::new();
        for number in numbers {
            let leftover = Leftover::find(&folder.join(stream_name(number)), &reporter)
                .map_err(|(path, source)| cannot("read", &path)(source))?;
            leftovers.push((number, leftover));
        }
        let highest = leftovers.iter().map(|(_, leftover)| leftover.highest).max().unwrap_or(0);
        if let Some(trouble) = trouble.filter(|trouble| *trouble == "damaged" || highest > 0) {
            let reason = format!("it is {trouble}; the sender is {:016x} from now on", sender.id);
            reporter(&Report::Failed { path: path.clone(), reason });
        }
        let first = sender.reserved.max(block_behind(highest));
        sender.reserve(first.saturating_add(BLOCK)).map_err(cannot("write", &path))?;

        let id = sender.id;
        let sender = Arc::new(Mutex::new(sender));
        let share = (options.max_bytes / u64::from(count)).max(2 * LEAST_SEGMENT);
        let segment_bytes = options.segment_bytes.clamp(LEAST_SEGMENT, share / 2);
        let (mut writers, mut readers) = (Vec::new(), Vec::new());
        for (number, leftover) in leftovers {
            let path = folder.join(stream_name(number));
            let is_orphan = number >= count;
            if !is_orphan {
                fs::create_dir_all(&path).map_err(cannot("make the folder", &path))?;
            }
            let Leftover { segments, waiting, acknowledged, .. } = leftover;
            let is_empty = segments.is_empty();
            let state = State { segments, waiting, ..State::default() };
            let sizes = (segment_bytes, share);
            let stream =
                Arc::new(Stream::new(number, path, sizes, Arc::clone(&reporter), Arc::clone(&lock), state));
            let mut reader = Reader::new(Arc::clone(&stream), acknowledged, is_orphan);
            if is_orphan && is_empty {
                reader.tidy();
                continue;
            }
            readers.push(reader);
            if !is_orphan {
                writers.push(Writer::new(stream, Arc::clone(&sender), first, Files));
            }
        }
        sync_folder(folder).map_err(cannot("put on the disk", folder))?;
        Ok(Spool { sender: id, writers, readers })
    }

    /// The sender's id, which stays as long as the folder does.
    pub(crate) fn sender(&self) -> u64 {
        self.sender
    }

    /// The ends of its streams, by number. There are more readers than writers if an earlier run had more streams and their
    /// records are not all acknowledged; when they are, the folder of such a stream is removed.
    pub(crate) fn into_streams(self) -> (Vec<Writer>, Vec<Reader>) {
        (self.writers, self.readers)
    }
}

const STREAM: &str = "stream-";

fn stream_name(number: u32) -> String {
    format!("{STREAM}{number}")
}

/// The streams that have a folder.
fn stream_numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number: Option<u32> = name.to_str().and_then(|name| parse_number(name.strip_prefix(STREAM)?));
        if entry.file_type()?.is_dir() {
            numbers.extend(number);
        }
    }
    Ok(numbers)
}
