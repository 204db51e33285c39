//! A list of objects on its way in: what it knows and the objects lack.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use reactor::Evbuffer;

use super::commit::{self, Act, Op};
use super::engine::{Engine, lock_of};
use super::error::StoreError;
use super::index::Rows;
use super::manifest::{Decoder, Entry};
use super::meta::{Meta, Row, Tag};
use super::tier::Unsynced;
use super::upload::Flow;
use super::{Name, Shared};
use crate::jobs::{Desk, Lost, Ticket};

/// What an import did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImportReport {
    /// Entries of the list.
    pub entries: u64,
    /// Of these, objects that learned something.
    pub updated: u64,
    /// Of these, entries without an object: there is none of that name, or it has other content.
    pub missing: u64,
}

/// A list on its way in, made by [`Store::import_index`](super::Store::import_index).
///
/// What came before it was dropped, or failed, stays.
pub struct Import {
    core: Rc<RefCell<Core>>,
}

type Done = Box<dyn FnOnce(Result<ImportReport, StoreError>)>;

struct Core {
    shared: Arc<Shared>,
    desk: Desk,
    /// At the pool while it works.
    work: Option<Work>,
    piece: Vec<u8>,
    is_full: bool,
    on_room: Option<Box<dyn FnMut()>>,
    done: Option<Done>,
    failed: Option<StoreError>,
}

#[derive(Default)]
struct Work {
    decoder: Decoder,
    report: ImportReport,
}

/// Bytes that are worked on at a time.
const PIECE: usize = 256 * 1024;

impl Import {
    pub(super) fn new(shared: &Arc<Shared>, desk: &Desk, on_room: impl FnMut() + 'static) -> Import {
        let core = Core {
            shared: Arc::clone(shared),
            desk: desk.clone(),
            work: Some(Work::default()),
            piece: Vec::new(),
            is_full: false,
            on_room: Some(Box::new(on_room)),
            done: None,
            failed: None,
        };
        Import { core: Rc::new(RefCell::new(core)) }
    }

    /// Takes bytes of the list.
    ///
    /// # Errors
    /// [`StoreError::Manifest`], or what went wrong with bytes before.
    pub fn write(&self, bytes: &[u8]) -> Result<Flow, StoreError> {
        let mut core = self.core.borrow_mut();
        if let Some(error) = &core.failed {
            return Err(error.clone());
        }
        core.piece.extend_from_slice(bytes);
        if core.piece.len() >= PIECE {
            core.work_on(&self.core, false);
        }
        core.is_full = core.piece.len() >= PIECE;
        Ok(if core.is_full { Flow::Full } else { Flow::Open })
    }

    /// Takes all bytes of a buffer, which is empty then.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_buffer(&self, buffer: &Evbuffer) -> Result<Flow, StoreError> {
        let mut flow = Flow::Open;
        while !buffer.is_empty() {
            let mut taken = 0;
            for slice in buffer.peek(..)?.slices() {
                flow = self.write(slice)?;
                taken += slice.len();
            }
            buffer.drain(taken)?;
        }
        Ok(flow)
    }

    /// Ends the list: `done` is called from the loop when all of it was worked on, or with what is wrong with it.
    pub fn finish(self, done: impl FnOnce(Result<ImportReport, StoreError>) + 'static) {
        let mut core = self.core.borrow_mut();
        core.on_room = None;
        core.done = Some(Box::new(done));
        core.work_on(&self.core, true);
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if let Ok(mut core) = self.core.try_borrow_mut()
            && core.done.is_none()
        {
            core.piece = Vec::new();
            let closure = core.on_room.take();
            drop(core);
            drop(closure);
        }
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}

impl Core {
    /// Sends what has come to the pool, if nothing is there.
    fn work_on(&mut self, this: &Rc<RefCell<Core>>, is_end: bool) {
        let Some(mut work) = self.work.take() else { return };
        let (piece, this) = (std::mem::take(&mut self.piece), Rc::clone(this));
        let ticket = self.desk.ticket(move |result: Result<_, Lost>| worked(&this, is_end, result));
        if let Some(error) = self.failed.clone() {
            return ticket.redeem((work, Err(error)));
        }
        let engine = Arc::clone(&self.shared.engine);
        self.shared.engine.jobs.submit(move || {
            let mut entries = Vec::new();
            let mut each = |entry| entries.push(entry);
            let mut fed = work.decoder.feed(&piece, &mut each);
            if is_end && fed.is_ok() {
                fed = work.decoder.end(&mut each);
            }
            work.report.entries += entries.len() as u64;
            let fed = fed.map_err(|source| StoreError::Manifest { source });
            match news(&engine, &entries, &mut work.report) {
                Err(error) => ticket.redeem((work, Err(error))),
                Ok(news) if news.is_empty() => ticket.redeem((work, fed)),
                Ok(news) => apply(&engine, news, work, fed, ticket),
            }
        });
    }
}

/// A piece was worked on.
fn worked(this: &Rc<RefCell<Core>>, is_end: bool, result: Result<(Work, Result<(), StoreError>), Lost>) {
    let (work, result) = result.unwrap_or_else(|lost| (Work::default(), Err(lost.into())));
    let mut core = this.borrow_mut();
    let report = work.report;
    core.work = Some(work);
    if let Err(error) = result {
        core.failed.get_or_insert(error);
        core.piece = Vec::new();
    }
    if core.done.is_some() {
        if !is_end {
            return core.work_on(this, true);
        }
        let (done, failed) = (core.done.take(), core.failed.clone());
        drop(core);
        if let Some(done) = done {
            done(failed.map_or(Ok(report), Err));
        }
        return;
    }
    if core.piece.len() >= PIECE {
        core.work_on(this, false);
    }
    if !core.is_full || core.piece.len() >= PIECE {
        return;
    }
    core.is_full = false;
    let on_room = core.on_room.take();
    drop(core);
    // The caller's closure runs with nothing borrowed, and may have ended the import.
    if let Some(mut run) = on_room {
        run();
        let mut core = this.borrow_mut();
        if core.done.is_none() && core.on_room.is_none() {
            core.on_room = Some(run);
        }
    }
}

/// What an object is to learn.
struct News {
    name: Name,
    /// Of its content, if it lacks it.
    sha256: Option<[u8; 32]>,
    /// Which content that is; any if none is given.
    content: Option<(u64, u32)>,
    accessed: i64,
}

impl News {
    /// The row with what is new; None if nothing is.
    fn put_into(&self, row: &Row) -> Option<Row> {
        let accessed = row.accessed.max(self.accessed);
        let sha256 = row.meta.sha256.or(self.sha256);
        let new = Row { meta: Meta { sha256, ..row.meta }, accessed };
        (new != *row).then_some(new)
    }

    fn is_of(&self, row: &Row) -> bool {
        self.content.is_none_or(|content| content == (row.meta.size, row.meta.crc32c))
    }
}

/// Which entries tell something new.
fn news(engine: &Engine, entries: &[Entry], report: &mut ImportReport) -> Result<Vec<News>, StoreError> {
    engine.index.read(|rows| {
        let mut all = Vec::new();
        for entry in entries {
            let news = match entry {
                Entry::Original { name: None, .. } => {
                    report.missing += 1;
                    continue;
                }
                Entry::Original { name: Some(name), accessed, .. } => {
                    News { name: name.clone(), sha256: None, content: None, accessed: *accessed }
                }
                Entry::Ours(known) => News {
                    name: known.name.clone(),
                    sha256: known.sha256,
                    content: Some((known.size, known.crc32c)),
                    accessed: known.accessed,
                },
            };
            match rows.get(news.name.as_str())?.filter(|row| news.is_of(row)) {
                None => report.missing += 1,
                Some(row) if news.put_into(&row).is_some() => all.push(news),
                Some(_) => (),
            }
        }
        Ok(all)
    })
}

/// Writes it between two batches of changes.
fn apply(
    engine: &Arc<Engine>,
    news: Vec<News>,
    mut work: Work,
    fed: Result<(), StoreError>,
    ticket: Ticket<(Work, Result<(), StoreError>)>,
) {
    let updated = Arc::new(Mutex::new(0));
    let mine = Arc::clone(&updated);
    let look = move |engine: &Arc<Engine>, rows: &mut Rows<'_>, unsynced: &mut Unsynced| {
        for news in &news {
            *lock_of(&mine) += u64::from(learn(engine, rows, news, unsynced)?);
        }
        Ok(())
    };
    let reply = Box::new(move |result: Result<_, _>| {
        work.report.updated += *lock_of(&updated);
        ticket.redeem((work, result.and(fed)));
    });
    commit::submit(engine, Op { act: Act::Look(Box::new(look)), reply });
}

/// The object learns first, then its row; false if it is another by now.
fn learn(
    engine: &Engine,
    rows: &mut Rows<'_>,
    news: &News,
    unsynced: &mut Unsynced,
) -> Result<bool, StoreError> {
    let name = &news.name;
    let Some(row) = rows.get(name.as_str())?.filter(|row| news.is_of(row)) else { return Ok(false) };
    let Some(new) = news.put_into(&row) else { return Ok(false) };
    if new.meta != row.meta {
        let tiers = &engine.tiers;
        let Some(file) = tiers.open(row.meta.class, name)? else { return Ok(false) };
        match tiers.tag(&file, name.as_str())? {
            Some(tag) if tag.name == *name && tag.meta == row.meta => {
                let tag = Tag { meta: new.meta, ..tag };
                let set = tiers.disk.set_tag(&file, &tag.encode());
                set.map_err(StoreError::disk("write the metadata of", name))?;
                unsynced.add_file(&file, name.as_str())?;
            }
            _ => return Ok(false),
        }
    }
    rows.insert(name, &new)?;
    Ok(true)
}
