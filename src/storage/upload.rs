//! An object on its way in.

use std::cell::RefCell;
use std::fmt;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;

use reactor::Evbuffer;
use sha2::{Digest, Sha256};

use super::Shared;
use super::commit::{Act, Changed, Op, Precondition, Tried, submit, try_now};
use super::engine::{Engine, now};
use super::error::StoreError;
use super::manifest::hex;
use super::meta::{Class, Meta, Tag};
use super::name::Name;
use super::pack::{BLOCK, Press};
use super::packing::Packing;
use super::stage::Staged;
use crate::jobs::{Desk, Lost, Ticket};

/// What an upload is to be, beside its bytes.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// What must be true of the name when the upload is complete.
    pub precondition: Precondition,
    /// When the content was last changed, in microseconds since 1970; now if none is given.
    pub modified: Option<i64>,
    /// Compute the SHA-256 and keep it.
    pub sha256: bool,
    /// Fail unless the SHA-256 is this; it is kept.
    pub expected_sha256: Option<[u8; 32]>,
    /// Fail unless the CRC-32C is this.
    pub expected_crc32c: Option<u32>,
    /// Fail unless there are so many bytes.
    pub expected_size: Option<u64>,
}

/// Whether an upload takes more now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Flow {
    /// It does.
    Open,
    /// It took these bytes and works on them: write the next when its `on_room` is called.
    Full,
}

/// An object on its way in, made by [`Store::begin_put`](super::Store::begin_put).
///
/// Nothing of it is seen before [`finish`](Self::finish) succeeds. Dropping it ends it: the old object stays as it was,
/// and nothing stays behind.
pub struct Upload {
    core: Rc<RefCell<Core>>,
}

struct Core {
    shared: Arc<Shared>,
    desk: Desk,
    name: Name,
    class: Class,
    options: PutOptions,
    sha256: Option<Sha256>,
    body: Body,
    /// Its first failure; all later calls repeat it.
    failed: Option<StoreError>,
}

enum Body {
    Low {
        staged: Staged,
        size: u64,
        crc32c: u32,
    },
    Deep(Deep),
    /// Finished, or failed.
    Over,
}

type Done = Box<dyn FnOnce(Result<Changed, StoreError>)>;

struct Deep {
    packing: Arc<Packing>,
    /// The block that is not full yet.
    block: Vec<u8>,
    next: u64,
    /// Blocks that are in the file. One that is late keeps those behind it in memory.
    written: u64,
    /// Blocks that the pool works on.
    working: usize,
    /// Blocks that may be on their way to the file.
    most: u64,
    /// What the pool does not use at the moment. All its memory comes from the loop's thread, and is used again: an
    /// allocator keeps some of what each thread frees.
    spare: Spare,
    is_full: bool,
    on_room: Option<Box<dyn FnMut()>>,
    /// Set when all bytes are in.
    done: Option<Done>,
}

#[derive(Default)]
struct Spare {
    blocks: Vec<Vec<u8>>,
    presses: Vec<Press>,
}

/// A larger file is flushed before it waits for its commit, so that small ones do not wait for it.
const FLUSHED_APART: u64 = 4 * 1024 * 1024;

/// Blocks of one upload that are packed at a time at most: it stays small also where there are many processors.
const MOST_LANES: usize = 6;

/// Pieces of a buffer that one call writes: more than a body is read in at once.
const SLICES: usize = 128;

impl Upload {
    pub(super) fn begin(
        staged: Staged,
        shared: &Arc<Shared>,
        desk: &Desk,
        name: &Name,
        class: Class,
        options: PutOptions,
        on_room: impl FnMut() + 'static,
    ) -> Result<Upload, StoreError> {
        let body = match class {
            Class::Low => Body::Low { staged, size: 0, crc32c: 0 },
            Class::Deep => Body::Deep(Deep {
                packing: Arc::new(Packing::new(staged)?),
                block: Vec::new(),
                next: 0,
                written: 0,
                working: 0,
                most: shared.lanes.min(MOST_LANES) as u64 + 1,
                spare: Spare::default(),
                is_full: false,
                on_room: Some(Box::new(on_room)),
                done: None,
            }),
        };
        let sha256 = (options.sha256 || options.expected_sha256.is_some()).then(Sha256::new);
        let (shared, desk, name) = (Arc::clone(shared), desk.clone(), name.clone());
        let core = Core { shared, desk, name, class, options, sha256, body, failed: None };
        Ok(Upload { core: Rc::new(RefCell::new(core)) })
    }

    /// Takes bytes. Low ones are in the file when it returns, deep ones are packed elsewhere.
    ///
    /// # Errors
    /// [`StoreError::Disk`]; the upload has failed then, and is best dropped.
    pub fn write(&self, bytes: &[u8]) -> Result<Flow, StoreError> {
        self.write_slices(&mut [IoSlice::new(bytes)])
    }

    /// Takes all bytes of a buffer, which is empty then. Nothing is copied but what stands in files.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_buffer(&self, buffer: &Evbuffer) -> Result<Flow, StoreError> {
        let mut flow = Flow::Open;
        while !buffer.is_empty() {
            let taken = {
                let peek = buffer.peek(..)?;
                let mut slots = [IoSlice::new(&[]); SLICES];
                let count = peek.fill(&mut slots).min(SLICES);
                let slices = slots.get_mut(..count).unwrap_or_default();
                let taken = slices.iter().map(|slice| slice.len()).sum();
                if taken > 0 {
                    flow = self.write_slices(slices)?;
                }
                taken
            };
            if taken > 0 {
                buffer.drain(taken)?;
            } else {
                let mut bytes = vec![0; 64 * 1024];
                let n = buffer.remove(&mut bytes)?;
                flow = self.write(bytes.get(..n).unwrap_or_default())?;
            }
        }
        Ok(flow)
    }

    /// Takes bytes that lie in several places; low ones reach the file in one call.
    fn write_slices(&self, slices: &mut [IoSlice<'_>]) -> Result<Flow, StoreError> {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        if let Some(error) = &core.failed {
            return Err(error.clone());
        }
        if let Some(sha256) = &mut core.sha256 {
            slices.iter().for_each(|bytes| sha256.update(&bytes[..]));
        }
        let written = match &mut core.body {
            Body::Low { staged, size, crc32c } => {
                let at = *size;
                for bytes in slices.iter() {
                    *size += bytes.len() as u64;
                    *crc32c = crc32c::crc32c_append(*crc32c, bytes);
                }
                let written = match slices {
                    [bytes] => staged.write_at(at, bytes),
                    slices => staged.write_slices_at(at, slices),
                };
                written.map(|()| Flow::Open)
            }
            Body::Deep(deep) => {
                for bytes in slices.iter() {
                    deep.take(bytes, &core.shared, &core.desk, &self.core);
                }
                deep.is_full = deep.is_ahead();
                Ok(if deep.is_full { Flow::Full } else { Flow::Open })
            }
            Body::Over => Err(StoreError::Lost(Lost)),
        };
        if let Err(error) = &written {
            core.failed = Some(error.clone());
        }
        written
    }

    /// Ends the upload: `done` is called from the loop when the object is there, as lasting as the store's durability
    /// says, or when it is not and the old one is.
    pub fn finish(self, done: impl FnOnce(Result<Changed, StoreError>) + 'static) {
        let failed = self.core.borrow().failed.clone();
        if let Some(error) = failed {
            let desk = self.core.borrow().desk.clone();
            let ticket = desk.ticket(move |result| done(result.unwrap_or_else(|lost| Err(lost.into()))));
            return ticket.redeem(Err(error));
        }
        // Dropped with nothing borrowed.
        let _on_room = match &mut self.core.borrow_mut().body {
            Body::Deep(deep) => deep.on_room.take(),
            _ => None,
        };
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        match &mut core.body {
            Body::Low { .. } => core.finish_low(Box::new(done)),
            Body::Deep(deep) => {
                if !deep.block.is_empty() {
                    deep.pack(&core.shared, &core.desk, Rc::clone(&self.core));
                }
                deep.done = Some(Box::new(done));
                if deep.working == 0 {
                    core.finish_deep();
                }
            }
            Body::Over => (),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(mut core) = self.core.try_borrow_mut() else { return };
        let is_finished = matches!(&core.body, Body::Deep(Deep { done: Some(_), .. }));
        if !is_finished {
            let body = std::mem::replace(&mut core.body, Body::Over);
            let jobs = core.shared.engine.jobs.clone();
            drop(core);
            // To remove a large file takes long.
            match body {
                Body::Low { staged, .. } => jobs.submit(move || drop(staged)),
                Body::Deep(deep) => {
                    let packing = Arc::clone(&deep.packing);
                    drop(deep);
                    jobs.submit(move || drop(packing));
                }
                Body::Over => (),
            }
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core.borrow();
        f.debug_struct("Upload").field("name", &core.name).field("class", &core.class).finish_non_exhaustive()
    }
}

impl Core {
    fn finish_low(&mut self, done: Done) {
        let Body::Low { mut staged, size, crc32c } = std::mem::replace(&mut self.body, Body::Over) else {
            return;
        };
        let seal = self.seal();
        let engine = Arc::clone(&self.shared.engine);
        let prepare = move |staged: &mut Staged| {
            let tag = seal.tag(&engine, Class::Low, size, size, crc32c)?;
            staged.seal(tag)?;
            if size >= FLUSHED_APART { staged.sync() } else { Ok(()) }
        };
        let engine = Arc::clone(&self.shared.engine);
        let precondition = std::mem::take(&mut self.options.precondition);
        // Also where nothing is flushed: if it is refused, removing it takes long.
        if size >= FLUSHED_APART {
            let ticket = self.ticket(done);
            return self.shared.engine.jobs.submit(move || match prepare(&mut staged) {
                Ok(()) => {
                    let reply = Box::new(move |result| ticket.redeem(result));
                    submit(&engine, Op { act: Act::Put { staged, precondition }, reply });
                }
                Err(error) => {
                    drop(staged);
                    ticket.redeem(Err(error));
                }
            });
        }
        // Sealing is one quick call.
        if let Err(error) = prepare(&mut staged) {
            drop(staged);
            return self.desk.soon(move || done(Err(error)));
        }
        match try_now(&engine, Act::Put { staged, precondition }) {
            Tried::Answered(changed) => self.desk.soon(move || done(changed)),
            Tried::Not(act) => {
                let ticket = self.ticket(done);
                submit(&engine, Op { act, reply: Box::new(move |result| ticket.redeem(result)) });
            }
        }
    }

    fn ticket(&self, done: Done) -> Ticket<Result<Changed, StoreError>> {
        self.desk.ticket(|result| done(result.unwrap_or_else(|lost| Err(lost.into()))))
    }

    fn finish_deep(&mut self) {
        let Body::Deep(deep) = std::mem::replace(&mut self.body, Body::Over) else { return };
        let Some(done) = deep.done else { return };
        let ticket = self.ticket(done);
        let failed = self.failed.clone();
        let seal = self.seal();
        let engine = Arc::clone(&self.shared.engine);
        let precondition = std::mem::take(&mut self.options.precondition);
        let packing = deep.packing;
        self.shared.engine.jobs.submit(move || {
            let prepared = failed.map_or_else(|| Arc::into_inner(packing).ok_or(StoreError::Lost(Lost)), Err);
            let prepared = prepared.and_then(Packing::into_staged).and_then(|packed| {
                let (mut staged, stored, size, crc32c) = packed;
                staged.seal(seal.tag(&engine, Class::Deep, size, stored, crc32c)?)?;
                if stored >= FLUSHED_APART {
                    staged.sync()?;
                }
                Ok(staged)
            });
            match prepared {
                Ok(staged) => {
                    let reply = Box::new(move |result| ticket.redeem(result));
                    submit(&engine, Op { act: Act::Put { staged, precondition }, reply });
                }
                Err(error) => ticket.redeem(Err(error)),
            }
        });
    }

    fn seal(&mut self) -> Seal {
        let sha256 = self.sha256.take().map(|sha256| sha256.finalize().into());
        Seal { name: self.name.clone(), sha256, options: self.options.clone() }
    }
}

impl Deep {
    fn take(&mut self, bytes: &[u8], shared: &Arc<Shared>, desk: &Desk, core: &Rc<RefCell<Core>>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.block.capacity() == 0 {
                self.block = self.spare.blocks.pop().unwrap_or_default();
                self.block.reserve_exact(BLOCK);
            }
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            rest = later;
            if self.block.len() == BLOCK {
                self.pack(shared, desk, Rc::clone(core));
            }
        }
    }

    /// Sends the block to the pool.
    fn pack(&mut self, shared: &Arc<Shared>, desk: &Desk, core: Rc<RefCell<Core>>) {
        let block = std::mem::take(&mut self.block);
        let number = self.next;
        self.next += 1;
        self.working += 1;
        let packing = Arc::clone(&self.packing);
        let level = shared.engine.level;
        let mut press = self.spare.presses.pop().unwrap_or_else(|| Press::new(level));
        let room = packing.room();
        let work = move || {
            let written = packing.add(number, press.pack(&block, room));
            (written, block, press)
        };
        desk.run(&shared.engine.jobs, work, move |result| packed(&core, result));
    }

    fn is_ahead(&self) -> bool {
        self.next - self.written >= self.most
    }
}

/// How far the file is written, or why it cannot be, and what can be used again.
type Written = (Result<u64, StoreError>, Vec<u8>, Press);

/// A block is packed, or cannot be.
fn packed(core: &Rc<RefCell<Core>>, result: Result<Written, Lost>) {
    let (result, spare) = match result {
        Ok((result, block, press)) => (result, Some((block, press))),
        Err(lost) => (Err(lost.into()), None),
    };
    let mut on_room = None;
    {
        let mut core = core.borrow_mut();
        let core = &mut *core;
        let Body::Deep(deep) = &mut core.body else { return };
        deep.working -= 1;
        match result {
            Ok(written) => deep.written = deep.written.max(written),
            Err(error) => {
                core.failed.get_or_insert(error);
            }
        }
        if deep.working == 0 {
            // Its client is slow; many may be.
            deep.spare = Spare::default();
            deep.packing.rest();
        } else if let Some((mut block, press)) = spare {
            block.clear();
            deep.spare.blocks.push(block);
            deep.spare.presses.push(press);
        }
        if deep.done.is_some() {
            if deep.working == 0 {
                core.finish_deep();
            }
        } else if deep.is_full && (!deep.is_ahead() || core.failed.is_some()) {
            deep.is_full = false;
            on_room = deep.on_room.take();
        }
    }
    // The caller's closure runs with nothing borrowed, and may have ended the upload.
    if let Some(mut run) = on_room {
        run();
        if let Body::Deep(deep) = &mut core.borrow_mut().body
            && deep.done.is_none()
        {
            deep.on_room = Some(run);
        }
    }
}

/// What is known before the bytes are counted.
struct Seal {
    name: Name,
    sha256: Option<[u8; 32]>,
    options: PutOptions,
}

impl Seal {
    fn tag(
        self,
        engine: &Engine,
        class: Class,
        size: u64,
        stored: u64,
        crc32c: u32,
    ) -> Result<Tag, StoreError> {
        let Seal { name, sha256, options } = self;
        let mismatch = |what, found: String, expected: String| {
            Err(StoreError::Mismatch { name: name.clone(), what, found, expected })
        };
        if let Some(expected) = options.expected_size.filter(|expected| *expected != size) {
            return mismatch("size", size.to_string(), expected.to_string());
        }
        if let Some(expected) = options.expected_crc32c.filter(|expected| *expected != crc32c) {
            return mismatch("CRC-32C", format!("{crc32c:08x}"), format!("{expected:08x}"));
        }
        if let (Some(expected), Some(found)) = (options.expected_sha256, sha256)
            && expected != found
        {
            return mismatch("SHA-256", hex(&found), hex(&expected));
        }
        let time = now();
        let created = engine.index.get(name.as_str())?.map_or(time, |row| row.meta.created);
        let (version, modified) = (engine.next_version(), options.modified.unwrap_or(time));
        let meta = Meta { version, class, size, stored, crc32c, sha256, modified, created };
        Ok(Tag { name, meta, from: None })
    }
}
