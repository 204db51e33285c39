//! An object written anew from another: a copy, or the same in another class.
//!
//! Each in steps, each step a job of its own, so that the pool stays free for others however large the object is. A change
//! of class works on as many blocks at a time as the pool has threads.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use super::commit::{Act, Precondition};
use super::engine::{Engine, lock_of, now};
use super::error::StoreError;
use super::meta::{Class, Meta, Tag};
use super::name::Name;
use super::object;
use super::pack::{BLOCK, Seek, pack_block};
use super::packing::Packing;
use super::stage::Staged;
use crate::jobs::Lost;

/// Gets the change to be made, on a thread of the pool.
pub(super) type Done = Box<dyn FnOnce(Result<Act, StoreError>) + Send>;

/// Bytes that one step copies.
const PIECE: usize = 16 * 1024 * 1024;

/// Opens an object that must be as the precondition says.
fn open(engine: &Engine, name: &Name, is: &Precondition) -> Result<(Meta, File), StoreError> {
    let (meta, file) = object::look(engine, name)?;
    match is.holds(Some(meta.version)) {
        true => Ok((meta, file)),
        false => Err(StoreError::Precondition { name: name.clone(), found: Some(meta.version) }),
    }
}

/// Copies the file of an object to the stage.
pub(super) fn copy(
    engine: &Arc<Engine>,
    from: Name,
    from_is: Precondition,
    to: Name,
    to_is: Precondition,
    done: Done,
) {
    let jobs = engine.jobs.clone();
    let engine = Arc::clone(engine);
    jobs.submit(move || {
        let opened = open(&engine, &from, &from_is).and_then(|opened| Ok((opened, Staged::create(&engine)?)));
        match opened {
            Ok(((meta, file), staged)) => {
                Copying { engine, from, to, to_is, meta, file, staged, at: 0, done }.step()
            }
            Err(error) => done(Err(error)),
        }
    });
}

struct Copying {
    engine: Arc<Engine>,
    from: Name,
    to: Name,
    to_is: Precondition,
    meta: Meta,
    file: File,
    staged: Staged,
    at: u64,
    done: Done,
}

impl Copying {
    fn step(mut self) {
        match self.piece() {
            Ok(true) => self.finish(),
            Ok(false) => {
                let jobs = self.engine.jobs.clone();
                jobs.submit(move || self.step());
            }
            Err(error) => self.fail(error),
        }
    }

    /// Copies a piece; true if it was the last.
    fn piece(&mut self) -> Result<bool, StoreError> {
        if self.engine.jobs.is_closing() {
            return Err(StoreError::Lost(Lost));
        }
        let end = self.meta.stored.min(self.at + PIECE as u64);
        while self.at < end {
            let len = usize::try_from(end - self.at).unwrap_or(PIECE);
            let copied = self.engine.tiers.disk.copy(&self.file, self.staged.file(), self.at, len);
            match copied.map_err(StoreError::disk("copy", &self.from))? {
                0 => {
                    let name = self.from.clone();
                    return Err(StoreError::Damaged { name, why: "its size is not what was written" });
                }
                n => self.at += n as u64,
            }
        }
        Ok(self.at == self.meta.stored)
    }

    fn finish(mut self) {
        let sealed = (|| {
            let row = self.engine.index.get(self.to.as_str())?;
            let created = row.map_or_else(now, |row| row.meta.created);
            let meta = Meta { version: self.engine.next_version(), created, ..self.meta };
            self.staged.seal(Tag { name: self.to.clone(), meta, from: None })?;
            self.staged.sync()
        })();
        match sealed {
            Ok(()) => (self.done)(Ok(Act::Put { staged: self.staged, precondition: self.to_is })),
            Err(error) => self.fail(error),
        }
    }

    /// What is staged goes first: the answer is the end of it.
    fn fail(self, error: StoreError) {
        drop(self.staged);
        (self.done)(Err(error));
    }
}

/// Writes an object to the stage in a class.
pub(super) fn change_class(
    engine: &Arc<Engine>,
    lanes: usize,
    name: Name,
    class: Class,
    is: Precondition,
    done: Done,
) {
    let jobs = engine.jobs.clone();
    let engine = Arc::clone(engine);
    jobs.submit(move || {
        let (meta, file) = match open(&engine, &name, &is) {
            Ok(opened) => opened,
            Err(error) => return done(Err(error)),
        };
        if meta.class == class {
            let (from, to_is) = (name.clone(), Precondition::None);
            return done(Ok(Act::Move { from, to: name, from_is: is, to_is }));
        }
        let target = Staged::create(&engine).and_then(|staged| match class {
            Class::Low => Ok(Target::Low(staged)),
            Class::Deep => Packing::new(staged).map(Target::Deep),
        });
        let target = match target {
            Ok(target) => target,
            Err(error) => return done(Err(error)),
        };
        let blocks = meta.size.div_ceil(BLOCK as u64);
        let lanes = usize::try_from(blocks).unwrap_or(lanes).clamp(1, lanes.max(1));
        let progress = Mutex::new(Progress { done: Some(done), ..Progress::default() });
        let seek = Mutex::new(None);
        let transcoding = Transcoding {
            engine,
            name,
            meta,
            file,
            seek,
            blocks,
            window: lanes as u64 + 1,
            target,
            progress,
        };
        let transcoding = Arc::new(transcoding);
        for _ in 1..lanes {
            transcoding.begin_lane();
        }
        transcoding.step();
    });
}

/// Blocks on their way from one class to the other, on several lanes.
struct Transcoding {
    engine: Arc<Engine>,
    name: Name,
    meta: Meta,
    file: File,
    seek: Mutex<Option<Arc<Seek>>>,
    blocks: u64,
    /// How far a lane may be ahead of what is written.
    window: u64,
    target: Target,
    progress: Mutex<Progress>,
}

enum Target {
    Low(Staged),
    Deep(Packing),
}

#[derive(Default)]
struct Progress {
    next: u64,
    /// All blocks before it are written.
    written: u64,
    /// CRC-32C of each block, if the target does not keep it.
    sums: Vec<u32>,
    /// Lanes that ended since they were too far ahead.
    parked: usize,
    failed: Option<StoreError>,
    done: Option<Done>,
}

impl Transcoding {
    fn begin_lane(self: &Arc<Transcoding>) {
        let lane = Arc::clone(self);
        self.engine.jobs.submit(move || lane.step());
    }

    fn step(self: Arc<Transcoding>) {
        let Some(block) = self.take() else {
            // The last of all lanes gets it.
            if let Some(all) = Arc::into_inner(self) {
                all.finish();
            }
            return;
        };
        let result = self.transcode(block);
        let mut progress = lock_of(&self.progress);
        match result {
            Ok(written) => progress.written = progress.written.max(written),
            Err(error) => {
                progress.failed.get_or_insert(error);
            }
        }
        let parked = std::mem::take(&mut progress.parked);
        drop(progress);
        for _ in 0..parked {
            self.begin_lane();
        }
        let jobs = self.engine.jobs.clone();
        jobs.submit(move || self.step());
    }

    /// The next block; None if this lane has nothing more to do.
    fn take(&self) -> Option<u64> {
        let mut progress = lock_of(&self.progress);
        if self.engine.jobs.is_closing() {
            progress.failed.get_or_insert(StoreError::Lost(Lost));
        }
        if progress.failed.is_some() || progress.next == self.blocks {
            return None;
        }
        if matches!(self.target, Target::Deep(_)) && progress.next >= progress.written + self.window {
            progress.parked += 1;
            return None;
        }
        progress.next += 1;
        Some(progress.next - 1)
    }

    /// Returns up to where all blocks are written.
    fn transcode(&self, block: u64) -> Result<u64, StoreError> {
        let bytes = object::read_block(&self.engine, &self.name, &self.meta, &self.file, &self.seek, block)?;
        match &self.target {
            Target::Low(staged) => {
                staged.write_at(block * BLOCK as u64, &bytes)?;
                let sum = crc32c::crc32c(&bytes);
                let sums = &mut lock_of(&self.progress).sums;
                let at = usize::try_from(block).unwrap_or(usize::MAX);
                if sums.len() <= at {
                    sums.resize(at + 1, 0);
                }
                if let Some(slot) = sums.get_mut(at) {
                    *slot = sum;
                }
                Ok(0)
            }
            Target::Deep(packing) => packing.add(block, pack_block(&bytes, self.engine.level)),
        }
    }

    fn finish(self) {
        let progress = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (engine, name, meta) = (self.engine, self.name, self.meta);
        let Some(done) = progress.done else { return };
        let target = match progress.failed {
            Some(error) => {
                drop(self.target);
                return done(Err(error));
            }
            None => self.target,
        };
        let whole = match target {
            Target::Low(staged) => {
                let mut left = meta.size;
                let crc32c = progress.sums.iter().fold(0, |all, sum| {
                    let len = left.min(BLOCK as u64);
                    left -= len;
                    crc32c::crc32c_combine(all, *sum, len as usize)
                });
                Ok((staged, Class::Low, meta.size, crc32c))
            }
            Target::Deep(packing) => {
                packing.into_staged().map(|(staged, stored, _, crc32c)| (staged, Class::Deep, stored, crc32c))
            }
        };
        let sealed = whole.and_then(|(mut staged, class, stored, crc32c)| {
            if crc32c != meta.crc32c {
                return Err(StoreError::Damaged {
                    name: name.clone(),
                    why: "its checksum is not what was written",
                });
            }
            let version = engine.next_version();
            staged.seal(Tag { name, meta: Meta { version, class, stored, ..meta }, from: None })?;
            staged.sync()?;
            Ok(staged)
        });
        // What was read is what is replaced.
        let precondition = Precondition::OneOf(vec![meta.version]);
        done(sealed.map(|staged| Act::Put { staged, precondition }));
    }
}
