//! An object that was opened for reading: one version, whatever happens to its name.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use reactor::Evbuffer;
use reactor::evbuffer::FileSegment;

use super::Shared;
use super::engine::{Engine, lock_of};
use super::error::StoreError;
use super::meta::{Class, Meta};
use super::name::Name;
use super::pack::{self, BLOCK, PackError, Seek};
use super::tier::{read_range, read_seek};
use crate::jobs::Desk;

/// An object that was opened for reading, made by [`Store::open_read`](super::Store::open_read). Cheap to clone.
///
/// It stays this version when the object is replaced, moved or removed meanwhile.
#[derive(Clone)]
pub struct Object {
    core: Rc<Core>,
}

struct Core {
    name: Name,
    meta: Meta,
    raw: Raw,
    deep: Option<DeepFile>,
    shared: Arc<Shared>,
    desk: Desk,
}

/// The bytes as they lie on the disk; of a deep object, those that are a gzip stream.
enum Raw {
    /// All of them, of a small low object.
    Bytes(Rc<Vec<u8>>),
    File(FileSegment),
}

struct DeepFile {
    file: Arc<File>,
    /// Read when it is needed first.
    seek: Arc<Mutex<Option<Arc<Seek>>>>,
}

/// A low object of at most so many bytes is read when it is opened: its reply leaves in one piece, and costs less than a
/// `sendfile`.
pub(super) const SMALL: u64 = 16 * 1024;
/// So many bytes are copied rather than shared: an allocation costs as much.
const COPIED: u64 = 2048;

impl Object {
    pub(super) fn open(shared: &Arc<Shared>, desk: &Desk, name: &Name) -> Result<Object, StoreError> {
        let engine = &shared.engine;
        let (meta, file) = look(engine, name)?;
        let mut deep = None;
        let raw = match meta.class {
            Class::Low if meta.stored <= SMALL => {
                let bytes = read_range(&engine.tiers, &file, 0, meta.stored);
                let bytes = bytes.map_err(StoreError::disk("read", name))?;
                if bytes.len() as u64 != meta.stored {
                    return Err(cut(name));
                }
                Raw::Bytes(Rc::new(bytes))
            }
            Class::Low => Raw::File(FileSegment::new(file, 0, meta.stored)?),
            Class::Deep => {
                let body = body_len(engine, name, &file, meta.stored)?;
                let second = file.try_clone().map_err(StoreError::disk("open", name))?;
                deep = Some(DeepFile { file: Arc::new(second), seek: Arc::default() });
                Raw::File(FileSegment::new(file, 0, body)?)
            }
        };
        engine.note_read(name);
        let (name, shared, desk) = (name.clone(), Arc::clone(shared), desk.clone());
        Ok(Object { core: Rc::new(Core { name, meta, raw, deep, shared, desk }) })
    }

    /// Its name when it was opened.
    pub fn name(&self) -> &Name {
        &self.core.name
    }

    /// What is known of it.
    pub fn meta(&self) -> &Meta {
        &self.core.meta
    }

    /// Bytes of [`append_raw`](Self::append_raw).
    pub fn raw_len(&self) -> u64 {
        match &self.core.raw {
            Raw::Bytes(bytes) => bytes.len() as u64,
            Raw::File(segment) => segment.len(),
        }
    }

    /// Descriptors that it keeps open.
    pub(super) fn descriptors(&self) -> usize {
        usize::from(matches!(self.core.raw, Raw::File(_))) + usize::from(self.core.deep.is_some())
    }

    /// What keeps its file open.
    pub(super) fn files(&self) -> (Option<FileSegment>, Option<Arc<File>>) {
        let segment = match &self.core.raw {
            Raw::Bytes(_) => None,
            Raw::File(segment) => Some(segment.clone()),
        };
        (segment, self.core.deep.as_ref().map(|deep| Arc::clone(&deep.file)))
    }

    /// Appends bytes as they lie on the disk, without waiting for it: those of a low object are its content, those of a
    /// deep one are its content as one gzip stream. Small objects are in memory, others are appended as a part of their
    /// file.
    ///
    /// # Errors
    /// [`StoreError::Loop`] if the range is beyond the end, or as [`Evbuffer::append_file`].
    pub fn append_raw(&self, to: &Evbuffer, range: Range<u64>) -> Result<(), StoreError> {
        let bytes = match &self.core.raw {
            Raw::Bytes(bytes) => bytes,
            Raw::File(segment) => return Ok(to.append_file(segment, range)?),
        };
        let len = bytes.len() as u64;
        if range.start > range.end || range.end > len {
            return Err(reactor::Error::OutOfRange { at: range.end.max(range.start), len }.into());
        }
        let (from, until) = (range.start as usize, range.end as usize);
        let appended = match range.end - range.start <= COPIED {
            true => to.append(bytes.get(from..until).unwrap_or_default()),
            false => to.append_shared(Part { bytes: Rc::clone(bytes), from, until }),
        };
        Ok(appended?)
    }

    /// Reads a range of the content, piece by piece; of a deep object only the blocks that it touches.
    ///
    /// # Errors
    /// [`StoreError::Range`].
    pub fn read(&self, range: Range<u64>) -> Result<Reader, StoreError> {
        let meta = self.meta();
        if range.start > range.end || range.end > meta.size {
            let (name, size) = (self.name().clone(), meta.size);
            return Err(StoreError::Range { name, start: range.start, end: range.end, size });
        }
        Ok(Reader { object: self.clone(), range })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("name", self.name()).field("meta", self.meta()).finish_non_exhaustive()
    }
}

/// Hands out a range, made by [`Object::read`].
#[derive(Debug)]
pub struct Reader {
    object: Object,
    range: Range<u64>,
}

impl Reader {
    /// What is left to hand out.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Appends the next piece to a buffer, then calls `done` from the loop with the number of bytes; 0 at the end. A low object's piece is all that is
    /// left, as a reference to the file; a deep one's is at most 1 MiB, so call again when it has been sent.
    ///
    /// `done` gets the reader back, unless it failed. An error has appended nothing.
    pub fn next(mut self, to: &Evbuffer, done: impl FnOnce(Result<(Reader, u64), StoreError>) + 'static)
    where
        Self: Sized,
    {
        let start = self.range.start;
        let to = to.clone();
        let core = Rc::clone(&self.object.core);
        let desk = core.desk.clone();
        let Some(deep) = core.deep.as_ref().filter(|_| !self.range.is_empty()) else {
            let end = self.range.end;
            let appended = match start == end {
                true => Ok(()),
                false => self.object.append_raw(&to, start..end),
            };
            let appended = appended.map(|()| {
                self.range.start = end;
                (self, end - start)
            });
            let ticket = desk.ticket(move |_: Result<(), _>| done(appended));
            return ticket.redeem(());
        };
        let jobs = core.shared.engine.jobs.clone();
        let (engine, name) = (Arc::clone(&core.shared.engine), core.name.clone());
        let (file, seek, stored) = (Arc::clone(&deep.file), Arc::clone(&deep.seek), core.meta.stored);
        let block = start / BLOCK as u64;
        let work = move || unpack(&engine, &name, &file, &seek, stored, block);
        desk.run(&jobs, work, move |result| {
            let bytes = result.unwrap_or_else(|lost| Err(lost.into()));
            let appended = bytes.and_then(|bytes| {
                let base = block * BLOCK as u64;
                let end = self.range.end.min(base + bytes.len() as u64);
                let from = usize::try_from(start - base).unwrap_or(usize::MAX);
                let until = usize::try_from(end.saturating_sub(base)).unwrap_or(usize::MAX);
                let damaged =
                    StoreError::Packed { name: self.object.name().clone(), source: PackError::Table };
                if from >= until {
                    return Err(damaged);
                }
                to.append_shared(Part { bytes: Rc::new(bytes), from, until })?;
                self.range.start = end;
                Ok((self, end - start))
            });
            done(appended);
        });
    }
}

/// A part of bytes that are in memory: a small object, or a block as it was unpacked.
struct Part {
    bytes: Rc<Vec<u8>>,
    from: usize,
    until: usize,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.from..self.until).unwrap_or_default()
    }
}

fn cut(name: &Name) -> StoreError {
    StoreError::Damaged { name: name.clone(), why: "its size is not what was written" }
}

/// Opens the file of an object and reads what it says of itself.
pub(super) fn look(engine: &Engine, name: &Name) -> Result<(Meta, File), StoreError> {
    let (class, file) = engine.open_file(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let damaged = |why| StoreError::Damaged { name: name.clone(), why };
    let no_tag = || damaged("it has no metadata; rebuild the index to take it in");
    let tag = engine.tiers.tag(&file, name.as_str())?.ok_or_else(no_tag)?;
    let len = file.metadata().map_err(StoreError::disk("look at", name))?.size();
    if tag.meta.class != class || tag.meta.stored != len {
        return Err(cut(name));
    }
    Ok((tag.meta, file))
}

fn body_len(engine: &Engine, name: &Name, file: &File, len: u64) -> Result<u64, StoreError> {
    let start = len.saturating_sub(pack::TAIL as u64);
    let tail = read_range(&engine.tiers, file, start, len).map_err(StoreError::disk("read", name))?;
    pack::table_start(&tail, len).map_err(|source| StoreError::Packed { name: name.clone(), source })
}

fn unpack(
    engine: &Engine,
    name: &Name,
    file: &File,
    seek: &Mutex<Option<Arc<Seek>>>,
    stored: u64,
    block: u64,
) -> Result<Vec<u8>, StoreError> {
    let cannot = |error| StoreError::disk("read", name)(error);
    let packed = |source| StoreError::Packed { name: name.clone(), source };
    let seek = {
        let mut seek = lock_of(seek);
        match &*seek {
            Some(seek) => Arc::clone(seek),
            None => {
                let read = read_seek(&engine.tiers, file, stored).map_err(cannot)?;
                Arc::clone(seek.insert(Arc::new(read.ok_or_else(|| packed(PackError::Table))?)))
            }
        }
    };
    let range = seek.block_range(block);
    let bytes = read_range(&engine.tiers, file, range.start, range.end).map_err(cannot)?;
    seek.unpack(block, &bytes).map_err(packed)
}

/// Reads a block of the content of a file, on a thread that may wait.
pub(super) fn read_block(
    engine: &Engine,
    name: &Name,
    meta: &Meta,
    file: &File,
    seek: &Mutex<Option<Arc<Seek>>>,
    block: u64,
) -> Result<Vec<u8>, StoreError> {
    let start = block * BLOCK as u64;
    let end = meta.size.min(start + BLOCK as u64);
    let bytes = match meta.class {
        Class::Low => read_range(&engine.tiers, file, start, end).map_err(StoreError::disk("read", name))?,
        Class::Deep => unpack(engine, name, file, seek, meta.stored, block)?,
    };
    match bytes.len() as u64 == end - start {
        true => Ok(bytes),
        false => Err(cut(name)),
    }
}
