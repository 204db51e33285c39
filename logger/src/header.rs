//! What the words before a record's text say: the one thing that callers and the worker's decoder agree on.

use crate::level::Level;
use crate::pair::Record;

/// A record but for its time and its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) level: Level,
    pub(crate) has_fields: bool,
    /// Where it was logged; 0 if the text says that itself, and who logged it.
    pub(crate) place: u32,
    pub(crate) thread: u32,
}

/// In the tag, over the level's bits.
const HAS_FIELDS: u32 = 1 << 3;

impl Header {
    /// For a text that has everything behind the time stamp.
    pub(crate) fn of_whole(level: Level, has_fields: bool) -> Header {
        Header { level, has_fields, place: 0, thread: 0 }
    }

    #[inline]
    pub(crate) fn record(self, stamp: u64, text: &[u8]) -> Record<'_> {
        let tag = self.level as u32 | if self.has_fields { HAS_FIELDS } else { 0 };
        let origin = u64::from(self.place) << 32 | u64::from(self.thread);
        Record::new(tag, stamp, text).of(origin)
    }

    /// From a record's first and third word.
    #[inline]
    pub(crate) fn read(head: u64, origin: u64) -> Header {
        let tag = (head >> 32) as u32;
        Header {
            level: Level::from_bits(tag & !HAS_FIELDS),
            has_fields: tag & HAS_FIELDS != 0,
            place: (origin >> 32) as u32,
            thread: origin as u32,
        }
    }
}
