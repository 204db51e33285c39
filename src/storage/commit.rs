//! Changes become visible and lasting here, many at a time.
//!
//! One job at a time takes all changes that wait: one batch of flushes of their files, one link or rename for each, one
//! flush for each folder, one commit of the index for all; then their links in the stage go, and each is answered. What
//! fails in between leaves links in the stage, and the next batch begins with finishing or undoing what they stand for.
//!
//! A store that does not wait for its disk answers when the file is in place, if it can on the calling thread; the rows
//! of many changes are written later, and until then their links stay. A crash finds them there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::disk::Opening;
use super::engine::{Engine, READ_PRECISION, lock_of};
use super::error::StoreError;
use super::index::{RowSet, Rows};
use super::late::Late;
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

impl Act {
    /// The names that it changes.
    fn names(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Act::Put { staged, .. } => (staged.tag().map(|tag| &tag.name), None),
            Act::Remove { name, .. } => (Some(name), None),
            Act::Move { from, to, .. } => (Some(from), Some(to)),
            Act::Nothing | Act::Look(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
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
    /// Links in the stage that stand for rows which are late.
    links: Mutex<LateLinks>,
    /// A job will write what is late.
    is_scheduled: AtomicBool,
}

#[derive(Default)]
struct LateLinks {
    /// Their numbers.
    ids: Vec<u64>,
    /// Large files that go with them, see [`Done`].
    outgoing: Vec<File>,
    /// Names that files came to by moves.
    arrived: BTreeSet<Name>,
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
            let count = batch(&waiting.ops);
            let ops: Vec<Op> = waiting.ops.drain(..count).collect();
            drop(waiting);
            run(&self.engine, ops);
        }
    }
}

/// How many changes the next batch takes: at least one, if there is one.
///
/// A file tells one name that it had before. Moved twice before the index knows, it would tell the second alone, and after
/// a crash nobody would know that the row of the first must go.
fn batch(ops: &[Op]) -> usize {
    let mut arrived = BTreeSet::new();
    let most = ops.len().min(MOST);
    for (count, op) in ops.iter().take(most).enumerate() {
        if let Act::Move { from, to, .. } = &op.act {
            if arrived.contains(from) {
                return count;
            }
            arrived.insert(to);
        }
    }
    most
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

/// What became of a change that was tried at once.
pub(crate) enum Tried {
    Answered(Result<Changed, StoreError>),
    /// It is to be queued.
    Not(Act),
}

/// Makes a change on the calling thread, if the store waits for neither its disk nor its index.
pub(crate) fn try_now(engine: &Arc<Engine>, act: Act) -> Tried {
    if !engine.index.is_late() || engine.queue.is_broken.load(Ordering::Acquire) {
        return Tried::Not(act);
    }
    let mut act = Some(act);
    let changed = engine.index.change_late(true, |late| match late.waiting() < MOST_LATE {
        true => act.take().map(|act| change_late(engine, late, act)).transpose(),
        false => Ok(None),
    });
    match (changed, act) {
        (Some(Ok(Some(changed))), None) => Tried::Answered(Ok(changed)),
        (Some(Err(error)), None) => Tried::Answered(Err(error)),
        (Some(Err(error)), Some(act)) => {
            engine.queue.note(&error);
            engine.queue.mark_broken();
            Tried::Not(act)
        }
        (_, Some(act)) => Tried::Not(act),
        (_, None) => Tried::Answered(Err(StoreError::Lost(crate::jobs::Lost))),
    }
}

/// Rows that are late at most: then changes wait until they are written.
const MOST_LATE: usize = 16 * 1024;
/// How late rows are. The more there are the less each costs, and what was removed keeps its room for so long.
const LATE_BY: Duration = Duration::from_millis(50);
/// When it is tried again, if they could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// As a batch of one, but the index's file and the links in the stage follow later.
fn change_late(engine: &Arc<Engine>, late: &mut Late, act: Act) -> Result<Changed, StoreError> {
    let names: [Option<Name>; 2] = {
        let mut names = act.names().cloned();
        [names.next(), names.next()]
    };
    let arrived = match &act {
        Act::Move { to, .. } => Some(to.clone()),
        _ => None,
    };
    let (mut unsynced, mut replaced) = (Unsynced::off(), Vec::new());
    let applied = apply(engine, late, act, &mut unsynced, &mut replaced).and_then(|applied| {
        let Done { changed, links, vacated, outgoing } = applied;
        let mut ids = match links {
            Links::None => Vec::new(),
            Links::Put(staged) => vec![staged.into_id()],
            Links::Other(id) => vec![id],
        };
        lock_of(&engine.queue.links).arrived.extend(arrived);
        // A large file takes long to go: it does so from the stage.
        let cleared = replaced.iter().try_for_each(|(class, name)| {
            ids.extend(to_stage(engine, *class, name)?);
            Ok(())
        });
        let cleared = cleared
            .and_then(|()| vacated.iter().try_for_each(|(class, name)| engine.tiers.prune(*class, name)));
        if let Err(error) = cleared {
            ids.into_iter().for_each(|id| engine.release(id));
            engine.queue.mark_broken();
            close_elsewhere(engine, outgoing);
            return if replaced.is_empty() { Ok(changed) } else { Err(error) };
        }
        let mut links = lock_of(&engine.queue.links);
        links.ids.extend(ids);
        links.outgoing.extend(outgoing);
        Ok(changed)
    });
    write_later(engine, LATE_BY);
    engine.epochs.changed(names.iter().flatten());
    applied.inspect_err(|error| engine.queue.note(error))
}

/// Sees to it that what is late is written, once for all that come before.
fn write_later(engine: &Arc<Engine>, delay: Duration) {
    // A pool that ends does not wait for the time of a job: what failed would be tried again without end. The links tell
    // the next start.
    if delay == RETRY_AFTER && engine.jobs.is_closing() {
        return;
    }
    if engine.queue.is_scheduled.swap(true, Ordering::AcqRel) {
        return;
    }
    let mine = Arc::clone(engine);
    engine.jobs.submit_later(delay, move || {
        mine.queue.is_scheduled.store(false, Ordering::Release);
        submit(&mine, Op { act: Act::Nothing, reply: Box::new(|_| ()) });
    });
}

/// Writes the rows that are late, then lets their links go.
fn write_late(engine: &Arc<Engine>) -> Result<(), StoreError> {
    // In this order: the rows of these links are there.
    let links = std::mem::take(&mut *lock_of(&engine.queue.links));
    if let Some(Err(error)) = engine.index.change_late(false, |late| note_reads(engine, late)) {
        engine.queue.note(&error);
    }
    if let Err(error) = engine.index.write_late() {
        engine.queue.note(&error);
        engine.queue.mark_broken();
        let mut kept = lock_of(&engine.queue.links);
        kept.ids.extend(links.ids);
        kept.outgoing.extend(links.outgoing);
        kept.arrived.extend(links.arrived);
        drop(kept);
        write_later(engine, RETRY_AFTER);
        return Err(error);
    }
    for id in links.ids {
        if engine.tiers.disk.unlink(engine.tiers.stage.as_fd(), &leaf_of(id)).is_err() {
            engine.queue.mark_broken();
        }
        engine.release(id);
    }
    close_elsewhere(engine, links.outgoing);
    Ok(())
}

/// Closes large files that are gone: that frees their blocks.
fn close_elsewhere(engine: &Engine, files: impl IntoIterator<Item = File>) {
    for file in files {
        engine.jobs.submit(move || drop(file));
    }
}

/// Writes the rows that are late if a change has to wait for that.
fn make_room(engine: &Arc<Engine>, act: &Act) -> Result<(), StoreError> {
    // As within a batch.
    if matches!(act, Act::Move { from, .. } if lock_of(&engine.queue.links).arrived.contains(from)) {
        return write_late(engine);
    }
    let is_much = |late: &mut Late| Ok(late.waiting() >= MOST_LATE);
    if matches!(engine.index.change_late(false, is_much), Some(Ok(true))) {
        // What it could not write is tried again.
        let _ = write_late(engine);
    }
    Ok(())
}

/// A batch of a store that waits for neither its disk nor its index.
fn run_late(engine: &Arc<Engine>, ops: Vec<Op>) {
    for op in ops {
        let changed = match op.act {
            Act::Look(_) => {
                run_all(engine, vec![op]);
                continue;
            }
            Act::Nothing => write_late(engine).map(|()| Changed { now: None, before: None }),
            act => {
                let changed = make_room(engine, &act).and_then(|()| {
                    engine.index.change_late(false, |late| change_late(engine, late, act)).transpose()
                });
                changed.and_then(|changed| changed.ok_or(StoreError::Lost(crate::jobs::Lost)))
            }
        };
        if let Err(error) = &changed {
            engine.queue.note(error);
        }
        (op.reply)(changed);
    }
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
    if engine.index.is_late() {
        return run_late(engine, ops);
    }
    let ops = flush(engine, ops);
    if !ops.is_empty() {
        run_all(engine, ops);
    }
}

/// Makes changes of files that are flushed, in one commit of the index.
fn run_all(engine: &Arc<Engine>, mut ops: Vec<Op>) {
    let names: Vec<Name> = ops.iter().flat_map(|op| op.act.names()).cloned().collect();
    let is_look = |op: &Op| matches!(op.act, Act::Look(_));
    ops.sort_by_key(|op| !is_look(op));
    let has_looked = ops.first().is_some_and(is_look);
    let mut applied = Vec::with_capacity(ops.len());
    let committed = engine.index.write(
        || engine.high(),
        |rows| {
            let mut unsynced = Unsynced::default();
            let mut replaced = Vec::new();
            for op in ops {
                // Another class of it may be in the way of one that is to come.
                let is_replaced = |(_, name): &(Class, Name)| op.act.names().any(|changed| changed == name);
                if replaced.iter().any(is_replaced) {
                    clear(engine, &mut replaced, &mut unsynced)?;
                }
                let done = match op.act {
                    Act::Look(look) => look(engine, rows, &mut unsynced).map(|()| Done::nothing(None)),
                    act => apply(engine, rows, act, &mut unsynced, &mut replaced),
                };
                match done {
                    Ok(Done { changed, links, vacated, outgoing }) => {
                        applied.push(Applied { reply: op.reply, changed, links, vacated, outgoing });
                    }
                    Err(error) => {
                        engine.queue.note(&error);
                        (op.reply)(Err(error));
                    }
                }
            }
            clear(engine, &mut replaced, &mut unsynced)?;
            sync(engine, &mut unsynced)?;
            note_reads(engine, rows)
        },
    );
    // Also if it failed: what is in place may be old or new.
    match has_looked {
        true => engine.epochs.changed_all(),
        false => engine.epochs.changed(&names),
    }
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

/// Removes what is replaced, when the new ones last.
fn clear(
    engine: &Engine,
    replaced: &mut Vec<(Class, Name)>,
    unsynced: &mut Unsynced,
) -> Result<(), StoreError> {
    sync(engine, unsynced)?;
    replaced.drain(..).try_for_each(|(class, name)| engine.tiers.unlink(class, &name, unsynced))
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
    engine: &Engine,
    rows: &mut dyn RowSet,
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
        Act::Look(_) | Act::Nothing => Ok(Done::nothing(None)),
    }
}

fn put(
    engine: &Engine,
    rows: &mut dyn RowSet,
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
    // What is replaced goes with the link, on the pool.
    let exchanged = match replaces && engine.index.is_late() {
        true => Some(disk.exchange((stage, &staged.leaf()), target)).filter(|done| !is_refused(done)),
        false => None,
    };
    let placed = if let Some(done) = exchanged {
        done
    } else if replaces {
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

/// Whether an exchange cannot be done here, and has surely not been.
fn is_refused(done: &io::Result<()>) -> bool {
    use rustix::io::Errno;
    let code = done.as_ref().err().and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOENT))
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
    rows: &dyn RowSet,
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
    rows: &mut dyn RowSet,
    name: &Name,
    precondition: &Precondition,
    unsynced: &mut Unsynced,
) -> Result<Done, StoreError> {
    let row = rows.get(name.as_str())?;
    precondition.check(name, row.as_ref())?;
    let row = row.ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let class = row.meta.class;
    let outgoing = hold_if_large(engine, name, Some(&row));
    if let Some((parent, _)) = engine.tiers.parent(class, name)? {
        engine.tiers.changed_stage(unsynced)?;
        engine.tiers.changed(&parent, name, unsynced)?;
    }
    // If somebody took the file away, the row follows.
    let links = to_stage(engine, class, name)?.map_or(Links::None, Links::Other);
    if let Err(error) = rows.remove(name) {
        if let Links::Other(id) = links {
            engine.release(id);
        }
        engine.queue.mark_broken();
        return Err(error);
    }
    let changed = Changed { now: None, before: Some(row.meta) };
    Ok(Done { changed, links, vacated: vec![(class, name.clone())], outgoing })
}

/// Moves the file of an object to the stage, under the number that is returned; None if there is no file.
fn to_stage(engine: &Engine, class: Class, name: &Name) -> Result<Option<u64>, StoreError> {
    let Some((parent, leaf)) = engine.tiers.parent(class, name)? else { return Ok(None) };
    let id = engine.claim();
    let stage = (engine.tiers.stage.as_fd(), &leaf_of(id)[..]);
    let renamed = engine.tiers.disk.rename((parent.as_fd(), &leaf), stage);
    if renamed.is_err() {
        engine.release(id);
    }
    match renamed {
        Ok(()) => Ok(Some(id)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            engine.queue.mark_broken();
            Err(StoreError::disk("remove", name)(error))
        }
    }
}

fn rename(
    engine: &Engine,
    rows: &mut dyn RowSet,
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
        rows.remove(from)?;
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
    close_elsewhere(engine, applied.outgoing);
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

fn note_reads(engine: &Engine, rows: &mut dyn RowSet) -> Result<(), StoreError> {
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
    engine.epochs.changed_all();
    match &settled {
        Ok(()) => queue.is_broken.store(false, Ordering::Release),
        Err(error) => queue.note(error),
    }
    settled
}
