//! Objects by name, kept on a disk so that a crash leaves each of them whole.
//!
//! A [`Store`] belongs to one loop and never blocks it: what must wait for the disk runs on a small pool and is answered by
//! a callback. [`Store::share`] gives the same objects to other loops.
//!
//! | In the data folder | What |
//! |---|---|
//! | `low_storage/<name>` | an object as it is |
//! | `deep_storage/<name>.gz` | a packed object; `gunzip` reads it |
//! | `stage/` | what is on its way; empty when nothing is |
//! | `storage.data` | the index, a table made from the objects |
//! | `lock` | locked by the process that has the folder |
//! | `metadata/` | what objects say of themselves, on a disk without extended attributes |
//!
//! - **The object is the truth.** Its file says its name, version, size, checksums and times (attribute `user.cloudstore`).
//!   The index is made anew from the files when it is missing or damaged, and no file is removed because the index does not
//!   know it.
//! - **Each change happens or does not.** Until it is complete its file keeps a link in `stage/`; what is found there
//!   after a crash is finished or undone.
//! - **Reads are ready.** Each loop keeps what it read lately, small objects as bytes and others open, and uses it until
//!   the object changes.
//! - **Versions** grow with every write, also across restarts.
//! - **A reader keeps its version** when the object is replaced, moved or removed.
//!
//! ```
//! use cloudstore::storage::{Class, Name, Options, PutOptions, Store};
//! use reactor::EventBase;
//!
//! # let folder = tempfile::tempdir()?;
//! let base = EventBase::new()?;
//! let store = Store::open(&base, Options::new(folder.path()))?;
//! let name = Name::parse("notes/today.txt")?;
//! let upload = store.begin_put(&name, Class::Low, PutOptions::default(), || ())?;
//! let _ = upload.write(b"hello")?;
//! let reader = store.clone();
//! upload.finish(move |result| {
//!     let meta = result.unwrap().now.unwrap();
//!     assert_eq!(meta.size, 5);
//!     assert_eq!(reader.stat(&name).unwrap(), meta);
//! });
//! base.dispatch()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod audit;
mod cache;
mod commit;
mod disk;
mod engine;
mod error;
mod export;
mod folder;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod import;
mod index;
mod late;
mod list;
mod manifest;
mod meta;
mod name;
mod object;
mod pack;
mod packing;
mod recovery;
mod rewrite;
mod scope;
mod stage;
#[cfg(test)]
mod tests;
mod tier;
mod upload;
mod walk;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use reactor::EventBase;

pub use audit::{Difference, IndexReport};
pub use commit::{Changed, Precondition};
pub use engine::{Durability, Options};
pub use error::StoreError;
pub use export::Export;
pub use import::{Import, ImportReport};
pub use list::{Entry, ListOptions, Page};
pub use manifest::ManifestError;
pub use meta::{Class, Meta, Version};
pub use name::{Folder, MAX_NAME, MAX_SEGMENT, Name, NameError};
pub use object::{Object, PIECE, Reader};
pub use pack::{BLOCK, PackError};
pub use scope::Scope;
pub use upload::{Flow, PutOptions, Upload};

use crate::jobs::{Desk, Jobs};
use audit::Audit;
use cache::Cache;
use commit::{Act, Op, Tried, submit, try_now};
use engine::Engine;
use stage::Staged;

/// A store, as one loop sees it. Cheap to clone; the last handle of all loops closes it, which waits for what the pool does.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    desk: Desk,
    cache: Rc<Cache>,
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What this process may still fill.
    pub free: u64,
    /// What there is, full or not.
    pub total: u64,
}

/// A store on its way to another loop.
#[derive(Clone)]
pub struct SharedStore {
    shared: Arc<Shared>,
}

/// In this order: the pool ends before what its jobs use.
struct Shared {
    _jobs: Jobs,
    engine: Arc<Engine>,
    /// Blocks of one object that are packed at a time.
    lanes: usize,
}

impl Store {
    /// Opens the store in a data folder. What a crash left half done is finished or undone before it returns, and a lost
    /// index is made anew; so it may block, in the latter case until all objects were looked at.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Format`], [`StoreError::Disk`], [`StoreError::Index`].
    pub fn open(base: &EventBase, options: Options) -> Result<Store, StoreError> {
        Store::open_with(base, &options, |jobs| Engine::open(&options, jobs))
    }

    fn open_with(
        base: &EventBase,
        options: &Options,
        open: impl FnOnce(crate::jobs::Submitter) -> Result<Engine, StoreError>,
    ) -> Result<Store, StoreError> {
        let threads = options.threads.max(1);
        let jobs = Jobs::new(threads).map_err(StoreError::disk("start the threads of", "the store"))?;
        let engine = Arc::new(open(jobs.submitter())?);
        // More would only hold more blocks in memory.
        let lanes = std::thread::available_parallelism().map_or(1, usize::from).min(threads);
        SharedStore { shared: Arc::new(Shared { _jobs: jobs, engine, lanes }) }.attach(base)
    }

    /// What another loop's thread [attaches](SharedStore::attach).
    pub fn share(&self) -> SharedStore {
        SharedStore { shared: Arc::clone(&self.shared) }
    }

    /// Begins to write an object. `on_room` is called from the loop when an upload that was [`Flow::Full`] takes more.
    ///
    /// The precondition is looked at when the upload is complete, beside all other changes; [`stat`](Self::stat) tells
    /// before.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn begin_put(
        &self,
        name: &Name,
        class: Class,
        options: PutOptions,
        on_room: impl FnMut() + 'static,
    ) -> Result<Upload, StoreError> {
        let staged = match Staged::create(self.engine()) {
            Err(error) if error.lacks_descriptors() && self.cache.close_all() => {
                Staged::create(self.engine())
            }
            staged => staged,
        };
        Upload::begin(staged?, &self.shared, &self.desk, name, class, options, on_room)
    }

    /// Whether an object of this name could be put now: worth to be asked before a large one is sent.
    ///
    /// # Errors
    /// [`StoreError::IsFolder`], [`StoreError::BelowObject`], [`StoreError::Index`].
    pub fn check_free(&self, name: &Name) -> Result<(), StoreError> {
        self.shared.engine.index.check_free(name)
    }

    /// Opens an object for reading, as it is now.
    ///
    /// What this loop opened lately is kept ready, within [`Options::hot_bytes`]: an answered change is seen at once, what
    /// others did to the files within a second.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Packed`], [`StoreError::Disk`].
    pub fn open_read(&self, name: &Name) -> Result<Object, StoreError> {
        if let Some(object) = self.cache.get(name) {
            return Ok(object);
        }
        let hold = self.cache.hold(name);
        let mut opened = Object::open(&self.shared, &self.desk, name);
        if matches!(&opened, Err(error) if error.lacks_descriptors()) && self.cache.close_all() {
            opened = Object::open(&self.shared, &self.desk, name);
        }
        if let (Ok(object), Some(hold)) = (&opened, hold) {
            self.cache.keep(hold, object);
        }
        opened
    }

    /// What is known of an object now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Damaged`], [`StoreError::Disk`].
    pub fn stat(&self, name: &Name) -> Result<Meta, StoreError> {
        match self.cache.get(name) {
            Some(object) => Ok(*object.meta()),
            None => object::look(&self.shared.engine, name).map(|(meta, _)| meta),
        }
    }

    /// Removes an object.
    ///
    /// `done` gets [`StoreError::NotFound`], [`StoreError::Precondition`] or what the disk said.
    pub fn delete(
        &self,
        name: &Name,
        precondition: Precondition,
        done: impl FnOnce(Result<Changed, StoreError>) + 'static,
    ) {
        self.change(Act::Remove { name: name.clone(), precondition }, done);
    }

    /// Gives an object another name, and another version. An object of that name is replaced.
    ///
    /// `done` gets [`StoreError::NotFound`], [`StoreError::Precondition`] of either, [`StoreError::IsFolder`],
    /// [`StoreError::BelowObject`], [`StoreError::Occupied`] or what the disk said.
    pub fn rename(
        &self,
        from: &Name,
        to: &Name,
        from_is: Precondition,
        to_is: Precondition,
        done: impl FnOnce(Result<Changed, StoreError>) + 'static,
    ) {
        self.change(Act::Move { from: from.clone(), to: to.clone(), from_is, to_is }, done);
    }

    /// Copies an object as it is now, in its class.
    ///
    /// `done` gets what [`rename`](Self::rename)'s gets.
    pub fn copy(
        &self,
        from: &Name,
        to: &Name,
        from_is: Precondition,
        to_is: Precondition,
        done: impl FnOnce(Result<Changed, StoreError>) + 'static,
    ) {
        let engine = &self.shared.engine;
        rewrite::copy(engine, from.clone(), from_is, to.clone(), to_is, self.change_when_made(done));
    }

    /// Moves an object to the other class; its content, and its time of change, stay.
    ///
    /// `done` gets [`StoreError::NotFound`], [`StoreError::Precondition`] (also if somebody wrote the object meanwhile)
    /// or what the disk said.
    pub fn change_class(
        &self,
        name: &Name,
        class: Class,
        precondition: Precondition,
        done: impl FnOnce(Result<Changed, StoreError>) + 'static,
    ) {
        let (engine, lanes) = (&self.shared.engine, self.shared.lanes);
        rewrite::change_class(engine, lanes, name.clone(), class, precondition, self.change_when_made(done));
    }

    /// Removes all objects of a folder, each by itself, in the order of their names. `done` gets how many there were; if
    /// it fails, some may be gone. What is written to the folder meanwhile may stay.
    pub fn delete_folder(&self, folder: &Folder, done: impl FnOnce(Result<u64, StoreError>) + 'static) {
        folder::begin(self.clone(), folder.clone(), folder::Act::Remove, Box::new(done));
    }

    /// Moves all objects of a folder to another, each by itself as [`rename`](Self::rename) does, in the order of their
    /// names. `to_is` must hold for each name there: with [`Precondition::Absent`] nothing is replaced.
    ///
    /// `done` gets how many were moved, or what `rename`'s gets, [`StoreError::IntoItself`] or [`StoreError::NameInvalid`].
    /// What can be refused is refused before the first is moved; if it fails later, or somebody writes to either folder
    /// meanwhile, some may be moved and others not.
    pub fn rename_folder(
        &self,
        from: &Folder,
        to: &Folder,
        to_is: Precondition,
        done: impl FnOnce(Result<u64, StoreError>) + 'static,
    ) {
        let target = folder::Target { folder: to.clone(), is: to_is };
        folder::begin(self.clone(), from.clone(), folder::Act::Move(target), Box::new(done));
    }

    /// Copies all objects of a folder to another, each by itself as [`copy`](Self::copy) does. Else as
    /// [`rename_folder`](Self::rename_folder).
    pub fn copy_folder(
        &self,
        from: &Folder,
        to: &Folder,
        to_is: Precondition,
        done: impl FnOnce(Result<u64, StoreError>) + 'static,
    ) {
        let target = folder::Target { folder: to.clone(), is: to_is };
        folder::begin(self.clone(), from.clone(), folder::Act::Copy(target), Box::new(done));
    }

    /// Reads a page of what is in a folder. A folder that does not exist has an empty page.
    ///
    /// Changes that are not answered yet may be missing.
    pub fn list(
        &self,
        folder: &Folder,
        options: ListOptions,
        done: impl FnOnce(Result<Page, StoreError>) + 'static,
    ) {
        let (engine, folder) = (Arc::clone(&self.shared.engine), folder.clone());
        let work = move || engine.index.read(|rows| list::page(rows, &folder, &options));
        let done =
            |result: Result<_, crate::jobs::Lost>| done(result.unwrap_or_else(|lost| Err(lost.into())));
        self.desk.run(&self.shared.engine.jobs, work, done);
    }

    /// How many objects there are.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn count(&self) -> Result<u64, StoreError> {
        self.shared.engine.index.len()
    }

    /// The room on the disk of the data folder, as it is now.
    ///
    /// # Errors
    /// [`StoreError::Disk`].
    pub fn space(&self) -> Result<Space, StoreError> {
        let engine = &self.shared.engine;
        let failed = StoreError::disk("look at the room on the disk of", engine.place.path.display());
        let stat = rustix::fs::fstatvfs(&engine.tiers.root).map_err(|error| failed(error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }

    /// The loop that it belongs to.
    pub fn base(&self) -> &EventBase {
        self.desk.base()
    }

    /// Files in the folders of the store that are no objects, by path, and why; as of when the index was made, checked or
    /// rebuilt last. They are never touched.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn foreign(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.shared.engine.index.foreign()
    }

    /// Compares the index with the objects, while the store goes on working, and changes neither. Contents are not read.
    ///
    /// `done` gets what it found, [`StoreError::Busy`] if somebody is at it already, or what the disk said.
    pub fn check_index(&self, done: impl FnOnce(Result<IndexReport, StoreError>) + 'static) {
        self.audit(false, done);
    }

    /// Makes the index say what the objects say, while the store goes on working, and takes in files that can be objects.
    /// The objects win; no file is removed.
    ///
    /// `done` gets what it mended, [`StoreError::Busy`] if somebody is at it already, or what the disk said.
    pub fn rebuild_index(&self, done: impl FnOnce(Result<IndexReport, StoreError>) + 'static) {
        self.audit(true, done);
    }

    fn audit(&self, is_repair: bool, done: impl FnOnce(Result<IndexReport, StoreError>) + 'static) {
        let ticket = self.desk.ticket(|result| done(result.unwrap_or_else(|lost| Err(lost.into()))));
        Audit::begin(&self.shared.engine, is_repair, ticket);
    }

    /// The index as text: one object a line, each a JSON object, in the order of the bytes of the names:
    ///
    /// `{"name":"a/b","class":"low","size":5,"stored":5,"version":"65c1e0a","crc32c":"3610a686","modified":…,"created":…}`
    ///
    /// Sizes are in bytes (`stored` is that of the file), times in microseconds since 1970, the version and the checksums
    /// hexadecimal. `sha256` stands behind `crc32c` if it is known, `accessed` at the end if the object was read.
    ///
    /// Each line is as of when it was handed out.
    pub fn export_index(&self) -> Export {
        Export::new(&self.shared, &self.desk)
    }

    /// Takes what a list knows and the objects lack: when they were read last, and SHA-256s of content that is still the
    /// same by size and CRC-32C. Nothing is removed or replaced; entries without an object are counted.
    ///
    /// The list is an export, or the `storage.data` of the original. `on_room` is called from the loop when an import
    /// that was [`Flow::Full`] takes more.
    pub fn import_index(&self, on_room: impl FnMut() + 'static) -> Import {
        Import::new(&self.shared, &self.desk, on_room)
    }

    /// Writes to the index when objects were last read; other changes take this along.
    pub fn note_reads(&self, done: impl FnOnce(Result<(), StoreError>) + 'static) {
        self.change(Act::Nothing, |result| done(result.map(|_| ())));
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// Answers from the loop, as every call does.
    fn refuse<T: Send + 'static>(
        &self,
        error: StoreError,
        done: impl FnOnce(Result<T, StoreError>) + 'static,
    ) {
        let ticket = self.desk.ticket(|result| done(result.unwrap_or_else(|lost| Err(lost.into()))));
        ticket.redeem(Err(error));
    }

    fn change(&self, act: Act, done: impl FnOnce(Result<Changed, StoreError>) + 'static) {
        let act = match act {
            Act::Remove { .. } => match try_now(&self.shared.engine, act) {
                Tried::Answered(changed) => return self.desk.soon(move || done(changed)),
                Tried::Not(act) => act,
            },
            _ => act,
        };
        let ticket = self.desk.ticket(|result| done(result.unwrap_or_else(|lost| Err(lost.into()))));
        submit(&self.shared.engine, Op { act, reply: Box::new(move |result| ticket.redeem(result)) });
    }

    /// Queues a change that the pool makes.
    fn change_when_made(&self, done: impl FnOnce(Result<Changed, StoreError>) + 'static) -> rewrite::Done {
        let ticket = self.desk.ticket(|result| done(result.unwrap_or_else(|lost| Err(lost.into()))));
        let engine = Arc::clone(&self.shared.engine);
        Box::new(move |made| match made {
            Ok(act) => submit(&engine, Op { act, reply: Box::new(move |result| ticket.redeem(result)) }),
            Err(error) => ticket.redeem(Err(error)),
        })
    }
}

impl SharedStore {
    /// The store on this loop.
    ///
    /// # Errors
    /// [`StoreError::Loop`].
    pub fn attach(&self, base: &EventBase) -> Result<Store, StoreError> {
        let engine = &self.shared.engine;
        let cache = Rc::new(Cache::new(base, &engine.epochs, &engine.jobs, engine.hot_bytes)?);
        Ok(Store { shared: Arc::clone(&self.shared), desk: Desk::new(base)?, cache })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("data", &self.shared.engine.place.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").field("data", &self.shared.engine.place.path).finish_non_exhaustive()
    }
}
