//! Changes become visible and lasting here, many at a time.
//!
//! One job at a time takes all changes that wait: one batch of flushes of their files, one link or rename for each, one
//! flush for each folder, one commit of the index for all; then their links in the stage go, and each is answered. What fails in between leaves
//! links in the stage, and the next batch begins with finishing or undoing what they stand for.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Opening;
use super::engine::{Engine, READ_PRECISION, lock_of};
use super::error::StoreError;
use super::index::Rows;
use super::meta::{Class, Meta, Row, Tag, Version};
use super::name::{Folder, Name};
use super::recovery;
use super::stage::{Staged, leaf_of};
use super::tier::{Unsynced, is_absent, path_of};

/// What must be true of an object for a change to happen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// There is no such object: create only.
    Absent,
    /// There is such an object: replace only.
    Present,
    /// It has one of these versions.
    OneOf(Vec<Version>),
    /// It does not exist, or has none of these versions.
    NoneOf(Vec<Version>),
}

impl Precondition {
    /// Whether it holds for what is there.
    pub fn holds(&self, found: Option<Version>) -> bool {
        match self {
            Precondition::None => true,
            Precondition::Absent => found.is_none(),
            Precondition::Present => found.is_some(),
            Precondition::OneOf(versions) => found.is_some_and(|found| versions.contains(&found)),
            Precondition::NoneOf(versions) => found.is_none_or(|found| !versions.contains(&found)),
        }
    }

    pub(super) fn check(&self, name: &Name, row: Option<&Row>) -> Result<(), StoreError> {
        let found = row.map(|row| row.meta.version);
        if self.holds(found) { Ok(()) } else { Err(StoreError::Precondition { name: name.clone(), found }) }
    }
}

/// What a change did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// What is there now; None if it was removed.
    pub now: Option<Meta>,
    /// What was there before, at the name that was written or removed.
    pub before: Option<Meta>,
}

pub(crate) enum Act {
    /// Sealed.
    Put {
        staged: Staged,
        precondition: Precondition,
    },
    Remove {
        name: Name,
        precondition: Precondition,
    },
    Move {
        from: Name,
        to: Name,
        from_is: Precondition,
        to_is: Precondition,
    },
    /// Nothing but what waits anyway: reads to be noted.
    Nothing,
    /// Looks at rows and files while they agree, before the changes of its batch; what it does to them agrees too.
    Look(Look),
}

pub(crate) type Look =
    Box<dyn FnOnce(&Arc<Engine>, &mut Rows<'_>, &mut Unsynced) -> Result<(), StoreError> + Send>;

pub(crate) type Reply = Box<dyn FnOnce(Result<Changed, StoreError>) + Send>;

pub(crate) struct Op {
    pub(crate) act: Act,
    pub(crate) reply: Reply,
}

/// Changes that wait.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// The stage holds something that is neither finished nor undone.
    is_broken: AtomicBool,
    /// The index refused something, and must be opened anew.
    has_index_failed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    ops: Vec<Op>,
    /// A job works through them.
    is_running: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("is_broken", &self.is_broken).finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn mark_broken(&self) {
        self.is_broken.store(true, Ordering::Release);
    }

    fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Index { .. }) {
            self.has_index_failed.store(true, Ordering::Release);
        }
    }
}

/// Changes that one batch takes at most: more would only make the first of them wait.
const MOST: usize = 512;
/// From so many files on, one flush of the whole disk is cheaper than one of each.
const SYNC_ALL_FROM: usize = 4;

/// Queues a change; its reply is called on a thread of the pool.
pub(crate) fn submit(engine: &Arc<Engine>, op: Op) {
    let mut waiting = lock_of(&engine.queue.waiting);
    waiting.ops.push(op);
    if !waiting.is_running {
        waiting.is_running = true;
        drop(waiting);
        let running = Running { engine: Arc::clone(engine), is_finished: false };
        engine.jobs.submit_urgent(move || running.work());
    }
}

/// The one job that works.
struct Running {
    engine: Arc<Engine>,
    is_finished: bool,
}

impl Running {
    fn work(mut self) {
        loop {
            let mut waiting = lock_of(&self.engine.queue.waiting);
            if waiting.ops.is_empty() {
                waiting.is_running = false;
                self.is_finished = true;
                return;
            }
            let count = waiting.ops.len().min(MOST);
            let ops: Vec<Op> = waiting.ops.drain(..count).collect();
            drop(waiting);
            run(&self.engine, ops);
        }
    }
}

impl Drop for Running {
    /// Early, by a panic or with the pool: what waits is lost, and the next one begins with mending.
    fn drop(&mut self) {
        if !self.is_finished {
            self.engine.queue.mark_broken();
            let mut waiting = lock_of(&self.engine.queue.waiting);
            waiting.is_running = false;
            let lost = std::mem::take(&mut waiting.ops);
            drop(waiting);
            drop(lost);
        }
    }
}

/// A change that is on the disk and not yet in the index.
struct Applied {
    reply: Reply,
    changed: Changed,
    /// What goes when the index knows.
    links: Links,
    /// Places where a folder may be empty now.
    vacated: Vec<(Class, Name)>,
    outgoing: Option<File>,
}

enum Links {
    None,
    Put(Staged),
    /// The number of a link that was made in the stage.
    Other(u64),
}

fn run(engine: &Arc<Engine>, ops: Vec<Op>) {
    if engine.queue.is_broken.load(Ordering::Acquire)
        && let Err(error) = mend(engine)
    {
        for op in ops {
            // What is staged goes first: the answer is the end of it.
            drop(op.act);
            (op.reply)(Err(error.clone()));
        }
        return;
    }
    let mut ops = flush(engine, ops);
    if ops.is_empty() {
        return;
    }
    ops.sort_by_key(|op| !matches!(op.act, Act::Look(_)));
    let mut applied = Vec::with_capacity(ops.len());
    let committed = engine.index.write(
        || engine.high(),
        |rows| {
            let mut unsynced = Unsynced::default();
            let mut replaced = Vec::new();
            for op in ops {
                match apply(engine, rows, op.act, &mut unsynced, &mut replaced) {
                    Ok(Done { changed, links, vacated, outgoing }) => {
                        applied.push(Applied { reply: op.reply, changed, links, vacated, outgoing });
                    }
                    Err(error) => {
                        engine.queue.note(&error);
                        (op.reply)(Err(error));
                    }
                }
            }
            sync(engine, &mut unsynced)?;
            // Only now that the new ones last.
            for (class, name) in &replaced {
                engine.tiers.unlink(*class, name, &mut unsynced)?;
            }
            sync(engine, &mut unsynced)?;
            note_reads(engine, rows)
        },
    );
    match committed {
        Ok(()) => applied.into_iter().for_each(|applied| finish(engine, applied)),
        Err(error) => {
            let mut replies = Vec::with_capacity(applied.len());
            for applied in applied {
                leave(engine, applied.links);
                replies.push(applied.reply);
            }
            engine.queue.mark_broken();
            engine.queue.note(&error);
            // If this fails too, the next batch begins with it.
            let _ = mend(engine);
            replies.into_iter().for_each(|reply| reply(Err(error.clone())));
        }
    }
}

/// Flushes the files of all puts. One that cannot be flushed is answered and gone: a flush that failed is never tried again.
fn flush(engine: &Engine, ops: Vec<Op>) -> Vec<Op> {
    let waits = |op: &Op| matches!(&op.act, Act::Put { staged, .. } if !staged.is_synced());
    let count = ops.iter().filter(|op| waits(op)).count();
    let all = match count >= SYNC_ALL_FROM {
        true => {
            let synced = engine.tiers.disk.sync_all(engine.tiers.root.as_fd());
            Some(synced.map_err(StoreError::disk("put on the disk", "the data folder")))
        }
        false => None,
    };
    let mut left = Vec::with_capacity(ops.len());
    for mut op in ops {
        let flushed = match (&mut op.act, &all) {
            (Act::Put { staged, .. }, None) => staged.sync(),
            (Act::Put { staged, .. }, Some(Ok(()))) => {
                staged.set_synced();
                Ok(())
            }
            (Act::Put { staged, .. }, Some(Err(error))) if !staged.is_synced() => Err(error.clone()),
            _ => Ok(()),
        };
        match flushed {
            Ok(()) => left.push(op),
            Err(error) => {
                drop(op.act);
                (op.reply)(Err(error));
            }
        }
    }
    let has_put = left.iter().any(|op| matches!(op.act, Act::Put { .. }));
    if has_put
        && engine.is_synced()
        && let Err(error) = engine.tiers.disk.sync(engine.tiers.stage.as_fd())
    {
        let error = StoreError::disk("put on the disk the folder", "stage")(error);
        for op in left.drain(..) {
            drop(op.act);
            (op.reply)(Err(error.clone()));
        }
    }
    left
}

fn sync(engine: &Engine, unsynced: &mut Unsynced) -> Result<(), StoreError> {
    if engine.is_synced() {
        return unsynced.sync(&*engine.tiers.disk);
    }
    *unsynced = Unsynced::default();
    Ok(())
}

/// What a change did.
struct Done {
    changed: Changed,
    links: Links,
    vacated: Vec<(Class, Name)>,
    /// A large file that goes: held open here and closed by another job, since to free its blocks takes long.
    outgoing: Option<File>,
}

impl Done {
    fn nothing(there: Option<Meta>) -> Done {
        let changed = Changed { now: there, before: there };
        Done { changed, links: Links::None, vacated: Vec::new(), outgoing: None }
    }
}

/// Bytes from which on a file is large.
const LARGE: u64 = 64 * 1024 * 1024;

fn hold_if_large(engine: &Engine, name: &Name, row: Option<&Row>) -> Option<File> {
    let row = row.filter(|row| row.meta.stored >= LARGE)?;
    engine.tiers.open(row.meta.class, name).ok().flatten()
}

/// Does a change to the files, then to the rows. An error has changed nothing, or has marked the queue as broken.
fn apply(
    engine: &Arc<Engine>,
    rows: &mut Rows<'_>,
    act: Act,
    unsynced: &mut Unsynced,
    replaced: &mut Vec<(Class, Name)>,
) -> Result<Done, StoreError> {
    match act {
        Act::Put { staged, precondition } => put(engine, rows, staged, &precondition, unsynced, replaced),
        Act::Remove { name, precondition } => remove(engine, rows, &name, &precondition, unsynced),
        Act::Move { from, to, from_is, to_is } => {
            rename(engine, rows, (&from, &from_is), (&to, &to_is), unsynced, replaced)
        }
        Act::Look(look) => look(engine, rows, unsynced).map(|()| Done::nothing(None)),
        Act::Nothing => Ok(Done::nothing(None)),
    }
}

fn put(
    engine: &Engine,
    rows: &mut Rows<'_>,
    staged: Staged,
    precondition: &Precondition,
    unsynced: &mut Unsynced,
    replaced: &mut Vec<(Class, Name)>,
) -> Result<Done, StoreError> {
    let Some(tag) = staged.tag() else { return Err(StoreError::Lost(crate::jobs::Lost)) };
    let (name, meta) = (tag.name.clone(), tag.meta);
    let before = rows.get(name.as_str())?;
    precondition.check(&name, before.as_ref())?;
    rows.check_free(&name)?;
    let replaces = before.is_some_and(|row| row.meta.class == meta.class);
    check_place(engine, rows, meta.class, &name, replaces)?;
    let outgoing = hold_if_large(engine, &name, before.as_ref());
    let (parent, leaf) = match engine.tiers.make_parent(meta.class, &name, unsynced) {
        Ok(parent) => parent,
        Err(error) => {
            prune_for(engine, meta.class, &name, staged);
            return Err(error);
        }
    };
    let (disk, stage, target) =
        (&*engine.tiers.disk, engine.tiers.stage.as_fd(), (parent.as_fd(), &leaf[..]));
    let placed = if replaces {
        let second = staged.second_leaf();
        disk.link((stage, &staged.leaf()), (stage, &second))
            .and_then(|()| disk.rename((stage, &second), target))
    } else {
        disk.link((stage, &staged.leaf()), target)
    };
    if let Err(error) = placed {
        return Err(match error.kind() {
            ErrorKind::AlreadyExists if !replaces => {
                prune_for(engine, meta.class, &name, staged);
                StoreError::Occupied { name }
            }
            kind => {
                // Recovery finds out how far it came.
                staged.leave();
                engine.queue.mark_broken();
                match kind {
                    ErrorKind::IsADirectory => StoreError::Occupied { name },
                    _ => StoreError::disk("put in place", &name)(error),
                }
            }
        });
    }
    let mut vacated = Vec::new();
    if let Some(row) = before.filter(|row| row.meta.class != meta.class) {
        replaced.push((row.meta.class, name.clone()));
        vacated.push((row.meta.class, name.clone()));
    }
    let accessed = before.map_or(0, |row| row.accessed);
    if let Err(error) = rows.insert(&name, &Row { meta, accessed }) {
        engine.queue.mark_broken();
        staged.leave();
        return Err(error);
    }
    let changed = Changed { now: Some(meta), before: before.map(|row| row.meta) };
    Ok(Done { changed, links: Links::Put(staged), vacated, outgoing })
}

/// Removes the folders that were made for a file which did not come.
fn prune_for(engine: &Engine, class: Class, name: &Name, staged: Staged) {
    if engine.tiers.prune(class, name).is_err() {
        engine.queue.mark_broken();
        staged.leave();
    }
}

/// Refuses a name whose packed file would lie where a folder is, or below another packed file.
fn check_place(
    engine: &Engine,
    rows: &Rows<'_>,
    class: Class,
    name: &Name,
    replaces: bool,
) -> Result<(), StoreError> {
    if class != Class::Deep || replaces {
        return Ok(());
    }
    for above in name.ancestors() {
        let Some(object) = above.strip_suffix(".gz").and_then(|bare| Name::parse(bare).ok()) else {
            continue;
        };
        if rows.get(object.as_str())?.is_some_and(|row| row.meta.class == Class::Deep)
            && let Ok(folder) = Folder::parse(above)
        {
            return Err(StoreError::PackedClash { object, folder });
        }
    }
    let path = path_of(class, name);
    match engine.tiers.disk.open(engine.tiers.folder(class), &path, Opening::Folder) {
        Ok(_) => match Folder::parse(&path) {
            Ok(folder) => Err(StoreError::PackedClash { object: name.clone(), folder }),
            Err(_) => Err(StoreError::Occupied { name: name.clone() }),
        },
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(StoreError::disk("look for the folder", path)(error)),
    }
}

fn remove(
    engine: &Engine,
    rows: &mut Rows<'_>,
    name: &Name,
    precondition: &Precondition,
    unsynced: &mut Unsynced,
) -> Result<Done, StoreError> {
    let row = rows.get(name.as_str())?;
    precondition.check(name, row.as_ref())?;
    let row = row.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let class = row.meta.class;
    let outgoing = hold_if_large(engine, name, Some(&row));
    let mut links = Links::None;
    if let Some((parent, leaf)) = engine.tiers.parent(class, name)? {
        engine.tiers.changed_stage(unsynced)?;
        engine.tiers.changed(&parent, name, unsynced)?;
        let id = engine.claim();
        let renamed =
            engine.tiers.disk.rename((parent.as_fd(), &leaf), (engine.tiers.stage.as_fd(), &leaf_of(id)));
        match renamed {
            Ok(()) => links = Links::Other(id),
            // Somebody took the file away: the row follows.
            Err(error) if error.kind() == ErrorKind::NotFound => engine.release(id),
            Err(error) => {
                engine.release(id);
                engine.queue.mark_broken();
                return Err(StoreError::disk("remove", name)(error));
            }
        }
    }
    if let Err(error) = rows.remove(name.as_str()) {
        if let Links::Other(id) = links {
            engine.release(id);
        }
        engine.queue.mark_broken();
        return Err(error);
    }
    let changed = Changed { now: None, before: Some(row.meta) };
    Ok(Done { changed, links, vacated: vec![(class, name.clone())], outgoing })
}

fn rename(
    engine: &Engine,
    rows: &mut Rows<'_>,
    (from, from_is): (&Name, &Precondition),
    (to, to_is): (&Name, &Precondition),
    unsynced: &mut Unsynced,
    replaced: &mut Vec<(Class, Name)>,
) -> Result<Done, StoreError> {
    let row = rows.get(from.as_str())?;
    from_is.check(from, row.as_ref())?;
    let row = row.ok_or_else(|| StoreError::NotFound { name: from.clone() })?;
    let before = rows.get(to.as_str())?;
    to_is.check(to, before.as_ref())?;
    if from == to {
        return Ok(Done::nothing(Some(row.meta)));
    }
    rows.check_free(to)?;
    let class = row.meta.class;
    let gone = || StoreError::NotFound { name: from.clone() };
    let file = engine.tiers.open(class, from)?.ok_or_else(gone)?;
    let (parent, leaf) = engine.tiers.parent(class, from)?.ok_or_else(gone)?;
    let replaces = before.is_some_and(|before| before.meta.class == class);
    check_place(engine, rows, class, to, replaces)?;
    let outgoing = hold_if_large(engine, to, before.as_ref());
    let disk = &*engine.tiers.disk;
    let stage = engine.tiers.stage.as_fd();
    let id = engine.claim();
    if let Err(error) = disk.link((parent.as_fd(), &leaf), (stage, &leaf_of(id))) {
        engine.release(id);
        engine.queue.mark_broken();
        return Err(StoreError::disk("move", from)(error));
    }
    let meta = Meta { version: engine.next_version(), ..row.meta };
    let tag = Tag { name: to.clone(), meta, from: Some((from.clone(), row.meta.version)) };
    let moved = (|| {
        let cannot = |error| StoreError::disk("move", from)(error);
        if engine.is_synced() {
            disk.sync(stage).map_err(cannot)?;
        }
        disk.set_tag(&file, &tag.encode()).map_err(cannot)?;
        if engine.is_synced() {
            disk.sync(file.as_fd()).map_err(cannot)?;
        }
        let (new_parent, new_leaf) = engine.tiers.make_parent(class, to, unsynced)?;
        let (old, new) = ((parent.as_fd(), &leaf[..]), (new_parent.as_fd(), &new_leaf[..]));
        let renamed = if replaces { disk.rename(old, new) } else { disk.rename_new(old, new) };
        renamed.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::IsADirectory => StoreError::Occupied { name: to.clone() },
            _ => cannot(error),
        })?;
        engine.tiers.changed(&parent, from, unsynced)?;
        rows.remove(from.as_str())?;
        rows.insert(to, &Row { meta, accessed: row.accessed })
    })();
    if let Err(error) = moved {
        // Recovery finds out how far it came.
        engine.release(id);
        engine.queue.mark_broken();
        return Err(error);
    }
    let mut vacated = vec![(class, from.clone())];
    if let Some(before) = before.filter(|before| before.meta.class != class) {
        replaced.push((before.meta.class, to.clone()));
        vacated.push((before.meta.class, to.clone()));
    }
    let changed = Changed { now: Some(meta), before: before.map(|row| row.meta) };
    Ok(Done { changed, links: Links::Other(id), vacated, outgoing })
}

/// Takes away what is not needed once the index knows, and answers.
fn finish(engine: &Engine, applied: Applied) {
    let pruned = applied.vacated.iter().try_for_each(|(class, name)| engine.tiers.prune(*class, name));
    match (applied.links, pruned) {
        (Links::None, Ok(())) => (),
        (Links::Put(staged), Ok(())) => drop(staged),
        (Links::Other(id), Ok(())) => {
            if engine.tiers.disk.unlink(engine.tiers.stage.as_fd(), &leaf_of(id)).is_err() {
                engine.queue.mark_broken();
            }
            engine.release(id);
        }
        // Its link tells recovery where to try again.
        (links, Err(_)) => {
            leave(engine, links);
            engine.queue.mark_broken();
        }
    }
    if let Some(file) = applied.outgoing {
        engine.jobs.submit(move || drop(file));
    }
    (applied.reply)(Ok(applied.changed));
}

/// Leaves to recovery what is in the stage.
fn leave(engine: &Engine, links: Links) {
    match links {
        Links::None => (),
        Links::Put(staged) => staged.leave(),
        Links::Other(id) => engine.release(id),
    }
}

fn note_reads(engine: &Engine, rows: &mut Rows<'_>) -> Result<(), StoreError> {
    for (name, at) in engine.take_reads() {
        if let Some(row) = rows.get(name.as_str())?
            && at.saturating_sub(row.accessed) >= READ_PRECISION
        {
            rows.insert(&name, &Row { accessed: at, ..row })?;
        }
    }
    Ok(())
}

/// Finishes or undoes what is in the stage, in an index that works.
fn mend(engine: &Engine) -> Result<(), StoreError> {
    let queue = &engine.queue;
    if queue.has_index_failed.load(Ordering::Acquire) {
        engine.index.mend(|| recovery::open_index(&engine.tiers, &engine.place, &engine.high))?;
        queue.has_index_failed.store(false, Ordering::Release);
    }
    let settled = recovery::settle_stage(engine);
    match &settled {
        Ok(()) => queue.is_broken.store(false, Ordering::Release),
        Err(error) => queue.note(error),
    }
    settled
}
