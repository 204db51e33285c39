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

/// An object that was opened for reading, made by [`Store::open_read`](super::Store::open_read).
///
/// It stays this version when the object is replaced, moved or removed meanwhile.
#[derive(Clone)]
pub struct Object {
    name: Name,
    meta: Meta,
    /// The bytes as they lie on the disk; of a deep object, those that are a gzip stream.
    raw: FileSegment,
    deep: Option<Rc<DeepFile>>,
    shared: Arc<Shared>,
    desk: Desk,
}

struct DeepFile {
    file: Arc<File>,
    /// Read when it is needed first.
    seek: Arc<Mutex<Option<Arc<Seek>>>>,
}

impl Object {
    pub(super) fn open(shared: &Arc<Shared>, desk: &Desk, name: &Name) -> Result<Object, StoreError> {
        let (meta, file) = look(&shared.engine, name)?;
        let mut deep = None;
        let raw = match meta.class {
            Class::Low => FileSegment::new(file, 0, meta.stored)?,
            Class::Deep => {
                let body = body_len(&shared.engine, name, &file, meta.stored)?;
                let second = file.try_clone().map_err(StoreError::disk("open", name))?;
                deep = Some(Rc::new(DeepFile { file: Arc::new(second), seek: Arc::default() }));
                FileSegment::new(file, 0, body)?
            }
        };
        shared.engine.note_read(name);
        let (name, shared, desk) = (name.clone(), Arc::clone(shared), desk.clone());
        Ok(Object { name, meta, raw, deep, shared, desk })
    }

    /// Its name when it was opened.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What is known of it.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Bytes of [`append_raw`](Self::append_raw).
    pub fn raw_len(&self) -> u64 {
        self.raw.len()
    }

    /// Appends bytes as they lie on the disk, without reading them: those of a low object are its content, those of a
    /// deep one are its content as one gzip stream.
    ///
    /// # Errors
    /// [`StoreError::Loop`] if the range is beyond the end, or as [`Evbuffer::append_file`].
    pub fn append_raw(&self, to: &Evbuffer, range: Range<u64>) -> Result<(), StoreError> {
        Ok(to.append_file(&self.raw, range)?)
    }

    /// Reads a range of the content, piece by piece; of a deep object only the blocks that it touches.
    ///
    /// # Errors
    /// [`StoreError::Range`].
    pub fn read(&self, range: Range<u64>) -> Result<Reader, StoreError> {
        if range.start > range.end || range.end > self.meta.size {
            let (name, size) = (self.name.clone(), self.meta.size);
            return Err(StoreError::Range { name, start: range.start, end: range.end, size });
        }
        Ok(Reader { object: self.clone(), range })
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").field("name", &self.name).field("meta", &self.meta).finish_non_exhaustive()
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
        let desk = self.object.desk.clone();
        let Some(deep) = self.object.deep.clone().filter(|_| !self.range.is_empty()) else {
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
        let shared = Arc::clone(&self.object.shared);
        let (engine, name) = (Arc::clone(&shared.engine), self.object.name.clone());
        let (file, seek, stored) = (Arc::clone(&deep.file), Arc::clone(&deep.seek), self.object.meta.stored);
        let block = start / BLOCK as u64;
        let work = move || unpack(&engine, &name, &file, &seek, stored, block);
        desk.run(&shared.engine.jobs, work, move |result| {
            let bytes = result.unwrap_or_else(|lost| Err(lost.into()));
            let appended = bytes.and_then(|bytes| {
                let base = block * BLOCK as u64;
                let end = self.range.end.min(base + bytes.len() as u64);
                let from = usize::try_from(start - base).unwrap_or(usize::MAX);
                let until = usize::try_from(end.saturating_sub(base)).unwrap_or(usize::MAX);
                let damaged = StoreError::Packed { name: self.object.name.clone(), source: PackError::Table };
                if from >= until {
                    return Err(damaged);
                }
                to.append_shared(Piece { bytes, from, until })?;
                self.range.start = end;
                Ok((self, end - start))
            });
            done(appended);
        });
    }
}

/// A part of a block, kept as it was unpacked.
struct Piece {
    bytes: Vec<u8>,
    from: usize,
    until: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.from..self.until).unwrap_or_default()
    }
}

/// Opens the file of an object and reads what it says of itself.
pub(super) fn look(engine: &Engine, name: &Name) -> Result<(Meta, File), StoreError> {
    let (class, file) = engine.open_file(name)?.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let damaged = |why| StoreError::Damaged { name: name.clone(), why };
    let no_tag = || damaged("it has no metadata; rebuild the index to take it in");
    let tag = engine.tiers.tag(&file, name.as_str())?.ok_or_else(no_tag)?;
    let len = file.metadata().map_err(StoreError::disk("look at", name))?.size();
    if tag.meta.class != class || tag.meta.stored != len {
        return Err(damaged("its size is not what was written"));
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
        false => Err(StoreError::Damaged { name: name.clone(), why: "its size is not what was written" }),
    }
}
