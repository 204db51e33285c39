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
use super::pack::{self, BLOCK, PackError, Seek, Unpacking};
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
        Ok(Reader { object: self.clone(), range, handed_out: 0, unpacking: None })
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
    handed_out: u64,
    /// The block that is handed out.
    unpacking: Option<Box<Unpacking>>,
}

/// Bytes of a deep object that are handed out first, and so held for a client that takes none.
pub const PIECE: usize = 32 * 1024;
/// Those that are handed out when much was taken before: a job for each costs the less.
const LARGE_PIECE: usize = 256 * 1024;
/// Packed bytes that are read at a time.
const PACKED_PIECE: usize = 32 * 1024;

impl Reader {
    /// What is left to hand out.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Appends the next piece to a buffer, then calls `done` from the loop with the number of bytes; 0 at the end. A low object's piece is all that is
    /// left, as a reference to the file; a deep one's is at most [`PIECE`], later on 256 KiB, so call again when it has been sent. The last piece of each block
    /// is handed out only if the whole block is what was written.
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
        let (unpacking, end) = (self.unpacking.take(), self.range.end);
        let most = usize::try_from(self.handed_out / 16).unwrap_or(LARGE_PIECE).clamp(PIECE, LARGE_PIECE);
        let work = move || {
            let seek = table(&engine, &name, &file, &seek, stored)?;
            unpack_piece(&engine, &name, &file, &seek, unpacking, start..end, most)
        };
        desk.run(&jobs, work, move |result| {
            let piece = result.unwrap_or_else(|lost| Err(lost.into()));
            let appended = piece.and_then(|(bytes, unpacking)| {
                let len = bytes.len() as u64;
                to.append_shared(bytes)?;
                self.range.start += len;
                self.handed_out += len;
                self.unpacking = unpacking;
                Ok((self, len))
            });
            done(appended);
        });
    }
}

/// A part of the bytes of a small object, which are in memory.
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

type UnpackedPiece = (Vec<u8>, Option<Box<Unpacking>>);

/// Unpacks the first bytes of a range, going on with a block that was begun.
fn unpack_piece(
    engine: &Engine,
    name: &Name,
    file: &File,
    seek: &Seek,
    begun: Option<Box<Unpacking>>,
    range: Range<u64>,
    most: usize,
) -> Result<UnpackedPiece, StoreError> {
    let cannot = |error| StoreError::disk("read", name)(error);
    let failed = |source| StoreError::Packed { name: name.clone(), source };
    let block = range.start / BLOCK as u64;
    let base = block * BLOCK as u64;
    let within = |at: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
    let begun = begun.filter(|begun| begun.block() == block && begun.made() <= within(range.start));
    let mut unpacking = match begun {
        Some(begun) => begun,
        None => Box::new(seek.unpacking(block).map_err(failed)?),
    };
    let start = within(range.start);
    let end = within(range.end).min(unpacking.len());
    if start >= end {
        return Err(failed(PackError::Table));
    }
    let mut piece = vec![0; most.min(end - start)];
    let is_last = start + piece.len() == end;
    let place = seek.block_range(block);
    let (mut packed, mut used, mut done, mut scratch) = (Vec::new(), 0, 0, Vec::new());
    // Behind the last piece, the rest of the block is looked at too.
    while done < piece.len() || (is_last && !unpacking.is_complete()) {
        if used == packed.len() {
            let at = place.start + unpacking.taken() as u64;
            packed = read_range(&engine.tiers, file, at, place.end.min(at + PACKED_PIECE as u64))
                .map_err(cannot)?;
            used = 0;
        }
        let made = unpacking.made();
        let is_wanted = made >= start && done < piece.len();
        let into = match is_wanted {
            true => piece.get_mut(done..).unwrap_or_default(),
            false => {
                scratch.resize(PIECE, 0);
                let ahead = if made < start { start - made } else { PIECE };
                scratch.get_mut(..ahead.min(PIECE)).unwrap_or_default()
            }
        };
        let taken = unpacking.taken();
        let count = unpacking.step(packed.get(used..).unwrap_or_default(), into).map_err(failed)?;
        used += unpacking.taken() - taken;
        done += if is_wanted { count } else { 0 };
    }
    Ok((piece, (!unpacking.is_complete()).then_some(unpacking)))
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

/// The seek table, read when it is needed first.
fn table(
    engine: &Engine,
    name: &Name,
    file: &File,
    seek: &Mutex<Option<Arc<Seek>>>,
    stored: u64,
) -> Result<Arc<Seek>, StoreError> {
    let mut seek = lock_of(seek);
    if let Some(seek) = &*seek {
        return Ok(Arc::clone(seek));
    }
    let read = read_seek(&engine.tiers, file, stored).map_err(StoreError::disk("read", name))?;
    let packed = StoreError::Packed { name: name.clone(), source: PackError::Table };
    Ok(Arc::clone(seek.insert(Arc::new(read.ok_or(packed)?))))
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
        Class::Deep => {
            let seek = table(engine, name, file, seek, meta.stored)?;
            let range = seek.block_range(block);
            let packed = read_range(&engine.tiers, file, range.start, range.end);
            let packed = packed.map_err(StoreError::disk("read", name))?;
            seek.unpack(block, &packed).map_err(|source| StoreError::Packed { name: name.clone(), source })?
        }
    };
    match bytes.len() as u64 == end - start {
        true => Ok(bytes),
        false => Err(cut(name)),
    }
}
