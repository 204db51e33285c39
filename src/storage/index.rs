//! What is stored, as a table: derived from the objects, which are the truth.

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, StorageError, Table, TableDefinition, TableError, WriteTransaction,
};

use super::disk::{Disk, Opening};
use super::engine::lock_of;
use super::error::StoreError;
use super::late::{self, Late};
use super::meta::Row;
use super::name::Name;

const OBJECTS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("objects");
/// Files in the folders that are no objects, by path, and why.
const FOREIGN: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("foreign");
/// What becomes of it while somebody looks for them.
const NEW_FOREIGN: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("foreign.new");
const STATE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("state");

/// The rows as of a commit.
pub(crate) struct Snapshot(ReadOnlyTable<&'static str, &'static [u8]>);

impl Snapshot {
    fn new(database: &Database) -> Result<Snapshot, StoreError> {
        let read = database.begin_read().map_err(StoreError::index("read"))?;
        Ok(Snapshot(read.open_table(OBJECTS).map_err(StoreError::index("read"))?))
    }

    /// The row of a name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Row>, StoreError> {
        row(&self.0, name)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        self.0.len().map_err(StoreError::index("read"))
    }

    /// As [`check_free`](RowSet::check_free).
    pub(crate) fn check_free(&self, name: &Name) -> Result<(), StoreError> {
        check_free(&self.0, name)
    }

    /// Whether a name has this prefix, beside those that are to be passed over.
    pub(crate) fn has_below(
        &self,
        prefix: &str,
        mut passes: impl FnMut(&str) -> bool,
    ) -> Result<bool, StoreError> {
        for entry in self.0.range::<&str>(prefix..).map_err(StoreError::index("read"))? {
            let (name, _) = entry.map_err(StoreError::index("read"))?;
            let name = name.value();
            if !name.starts_with(prefix) {
                break;
            }
            if !passes(name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// At most so many rows behind a name; None for one that cannot be read.
    pub(crate) fn behind(&self, after: &str, most: usize) -> Result<Vec<(Name, Option<Row>)>, StoreError> {
        let mut found = Vec::new();
        let range = (Bound::Excluded(after), Bound::Unbounded);
        for entry in self.0.range::<&str>(range).map_err(StoreError::index("read"))?.take(most) {
            let (name, value) = entry.map_err(StoreError::index("read"))?;
            let row = Row::decode(value.value());
            found.extend(Name::parse(name.value()).ok().map(|name| (name, row)));
        }
        Ok(found)
    }
}

/// Rows that can be looked at and changed.
pub(crate) trait RowSet {
    fn get(&self, name: &str) -> Result<Option<Row>, StoreError>;
    fn insert(&mut self, name: &Name, row: &Row) -> Result<(), StoreError>;
    fn remove(&mut self, name: &Name) -> Result<(), StoreError>;
    /// Refuses a name that is a folder, or that lies below an object.
    fn check_free(&self, name: &Name) -> Result<(), StoreError>;
}

const FORMAT_KEY: &str = "format";
const FORMAT: u64 = 1;
/// No version above this one was given out before the commit that wrote it.
const HIGH_KEY: &str = "high";

/// Where the file of an index is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: OwnedFd,
    pub(crate) leaf: String,
    /// For messages.
    pub(crate) path: PathBuf,
    /// Whether a commit reaches the disk before it returns.
    pub(crate) is_synced: bool,
    /// Bytes of pages that are kept in memory.
    pub(crate) cache: usize,
}

/// What is at the place of an index.
pub(crate) enum Opened {
    Index(Box<Database>),
    Missing,
    /// Not an index, or one that cannot be read.
    Damaged,
}

impl Place {
    /// Opens what is there.
    pub(crate) fn open(&self) -> Result<Opened, StoreError> {
        let file = match self.open_file(&self.leaf, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Opened::Missing),
            Err(error) => return Err(StoreError::disk("open the index", self.path.display())(error)),
        };
        if file.metadata().is_ok_and(|data| data.len() == 0) {
            return Ok(Opened::Missing);
        }
        match self.database(file) {
            Ok(database) => match self.format(&database) {
                Ok(Some(FORMAT)) => Ok(Opened::Index(Box::new(database))),
                Ok(Some(format)) => {
                    Err(StoreError::Format { path: self.path.clone(), format, known: FORMAT })
                }
                Ok(None) => Ok(Opened::Damaged),
                Err(error) => Err(StoreError::index("read")(error)),
            },
            Err(DatabaseError::Storage(StorageError::Io(error)))
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Err(StoreError::disk("read the index", self.path.display())(error))
            }
            Err(_) => Ok(Opened::Damaged),
        }
    }

    /// Makes an empty index beside the place; [`put_in_place`](Self::put_in_place) follows when it is filled.
    pub(crate) fn create(&self) -> Result<Database, StoreError> {
        let cannot = StoreError::disk("make the index", self.path.display());
        let made = self.disk.unlink(self.folder.as_fd(), &self.new_leaf());
        match made {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot(error)),
            _ => (),
        }
        let file = self.open_file(&self.new_leaf(), true).map_err(cannot)?;
        let database = self.database(file).map_err(StoreError::index("make"))?;
        let write = database.begin_write().map_err(StoreError::index("write"))?;
        write.open_table(OBJECTS).map_err(StoreError::index("write"))?;
        write.open_table(FOREIGN).map_err(StoreError::index("write"))?;
        let mut state = write.open_table(STATE).map_err(StoreError::index("write"))?;
        state.insert(FORMAT_KEY, FORMAT).map_err(StoreError::index("write"))?;
        drop(state);
        write.commit().map_err(StoreError::index("write"))?;
        Ok(database)
    }

    /// Lets what [`create`](Self::create) made take the place.
    pub(crate) fn put_in_place(&self) -> Result<(), StoreError> {
        let folder = self.folder.as_fd();
        let renamed = self.disk.rename((folder, &self.new_leaf()), (folder, &self.leaf));
        renamed
            .and_then(|()| self.disk.sync(folder))
            .map_err(StoreError::disk("put in place the index", self.path.display()))
    }

    /// Gives what is there a second name, with an ending; what was put there before is replaced. It goes from its place with
    /// [`put_in_place`](Self::put_in_place), so that a crash in between begins anew.
    pub(crate) fn put_aside(&self, ending: &str) -> Result<(), StoreError> {
        let folder = self.folder.as_fd();
        let aside = format!("{}.{ending}", self.leaf);
        let cannot = |error| StoreError::disk("keep aside the index", self.path.display())(error);
        match self.disk.unlink(folder, &aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot(error)),
            _ => (),
        }
        self.disk.link((folder, &self.leaf), (folder, &aside)).map_err(cannot)
    }

    /// What is there, as a plain file.
    pub(crate) fn read(&self) -> Result<File, StoreError> {
        let opened = self.disk.open(self.folder.as_fd(), &self.leaf, Opening::File);
        opened.map(File::from).map_err(StoreError::disk("read the index", self.path.display()))
    }

    fn new_leaf(&self) -> String {
        format!("{}.new", self.leaf)
    }

    fn open_file(&self, leaf: &str, is_new: bool) -> io::Result<File> {
        if is_new {
            return self.disk.create(self.folder.as_fd(), leaf);
        }
        // The seam opens for reading; the index is written too.
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&self.folder, leaf, flags, Mode::empty())?))
    }

    /// A file that was changed behind its back can make redb panic: that is damage too.
    fn database(&self, file: File) -> Result<Database, DatabaseError> {
        // What is removed when the disk is full makes room only after it has taken some, here.
        if let Ok(data) = file.metadata() {
            self.disk.reserve(&file, data.len());
        }
        let backend = Backend { disk: Arc::clone(&self.disk), file, is_synced: self.is_synced };
        let cache = self.cache;
        let open = move || {
            let mut builder = Database::builder();
            builder.set_cache_size(cache).set_check_integrity_on_open(true).create_with_backend(backend)
        };
        let damaged = |_: Box<dyn Any + Send>| {
            Err(DatabaseError::Storage(StorageError::Corrupted("it cannot be read".to_owned())))
        };
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(damaged)
    }

    fn format(&self, database: &Database) -> Result<Option<u64>, redb::Error> {
        let read = database.begin_read()?;
        match read.open_table(STATE) {
            Ok(state) => Ok(state.get(FORMAT_KEY)?.map(|format| format.value())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The index of a running store.
pub(crate) struct Index {
    /// None while it is broken.
    database: RwLock<Option<Database>>,
    /// The rows of a store that does not wait for them to be written. Taken before the database's lock.
    late: Option<Mutex<Late>>,
    /// Held by the one that writes what is late. Taken before `late`.
    writer: Mutex<()>,
}

/// How often a lock that others hold for some microseconds is tried.
const TRIES: usize = 64;

impl Index {
    /// With `is_late`, [`change_late`](Self::change_late) works.
    pub(crate) fn new(database: Database, is_late: bool) -> Index {
        Index {
            database: RwLock::new(Some(database)),
            late: is_late.then(Mutex::default),
            writer: Mutex::default(),
        }
    }

    /// Lets `change` see and change the rows, and commits if it succeeds; so is what is late. One at a time, and `change`
    /// must not use this index otherwise.
    pub(crate) fn write<T>(
        &self,
        high: impl FnOnce() -> u64,
        change: impl FnOnce(&mut Rows<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(late) = &self.late else {
            return write(self.guard().as_ref().ok_or_else(broken)?, high, change);
        };
        let (_writer, mut late) = (lock_of(&self.writer), lock_of(late));
        let guard = self.guard();
        let database = guard.as_ref().ok_or_else(broken)?;
        // An open snapshot keeps pages from being used again.
        late.file = None;
        let waiting = late.begin();
        let written = write(database, high, |rows| {
            waiting.iter().try_for_each(|waiting| rows.take_in(waiting))?;
            change(rows)
        });
        drop(waiting);
        late.end(written.is_ok(), Snapshot::new(database).ok());
        written
    }

    /// Lets `change` see and change the rows as they are; they are in the file after the next
    /// [`write_late`](Self::write_late). One at a time, and `change` must not use this index otherwise.
    ///
    /// None if this index does not work so, or, with `is_hurried`, if somebody has it for longer than some microseconds.
    pub(crate) fn change_late<T>(
        &self,
        is_hurried: bool,
        change: impl FnOnce(&mut Late) -> Result<T, StoreError>,
    ) -> Option<Result<T, StoreError>> {
        let late = self.late.as_ref()?;
        let mut late = match is_hurried {
            false => lock_of(late),
            true => (0..TRIES).find_map(|_| match late.try_lock() {
                Ok(late) => Some(late),
                Err(TryLockError::Poisoned(late)) => Some(late.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    (0..TRIES).for_each(|_| std::hint::spin_loop());
                    None
                }
            })?,
        };
        Some(self.look_late(&mut late).and_then(|()| change(&mut late)))
    }

    /// Whether answers do not wait for rows to be written.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Writes to the file what is late. Changes go on meanwhile.
    pub(crate) fn write_late(&self) -> Result<(), StoreError> {
        let Some(late) = &self.late else { return Ok(()) };
        let _writer = lock_of(&self.writer);
        let (waiting, high) = {
            let mut late = lock_of(late);
            (late.begin(), late.high())
        };
        let Some(waiting) = waiting else { return Ok(()) };
        let guard = self.guard();
        let written = guard
            .as_ref()
            .ok_or_else(broken)
            .and_then(|database| write(database, || high, |rows| rows.take_in(&waiting)));
        drop(waiting);
        let file = guard.as_ref().and_then(|database| Snapshot::new(database).ok());
        lock_of(late).end(written.is_ok(), file);
        written
    }

    /// Sees to it that late rows have a file to stand before.
    fn look_late(&self, late: &mut Late) -> Result<(), StoreError> {
        if late.file.is_none() {
            late.file = Some(Snapshot::new(self.guard().as_ref().ok_or_else(broken)?)?);
        }
        Ok(())
    }

    /// Lets `look` see the rows as of the last commit, after those that are late. Any number at a time, also beside a
    /// write.
    pub(crate) fn read<T>(
        &self,
        look: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write_late()?;
        look(&Snapshot::new(self.guard().as_ref().ok_or_else(broken)?)?)
    }

    /// The row of a name.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Row>, StoreError> {
        match self.change_late(false, |late| late.get(name)) {
            Some(row) => row,
            None => Snapshot::new(self.guard().as_ref().ok_or_else(broken)?)?.get(name),
        }
    }

    /// Refuses a name that is a folder, or that lies below an object.
    pub(crate) fn check_free(&self, name: &Name) -> Result<(), StoreError> {
        match self.change_late(false, |late| late.check_free(name)) {
            Some(free) => free,
            None => Snapshot::new(self.guard().as_ref().ok_or_else(broken)?)?.check_free(name),
        }
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        match self.change_late(false, |late| late.len()) {
            Some(len) => len,
            None => Snapshot::new(self.guard().as_ref().ok_or_else(broken)?)?.len(),
        }
    }

    /// The files in the folders that are no objects, by path, and why.
    pub(crate) fn foreign(&self) -> Result<Vec<(String, String)>, StoreError> {
        let cannot = "read";
        let guard = self.guard();
        let read = guard.as_ref().ok_or_else(broken)?.begin_read().map_err(StoreError::index(cannot))?;
        let table = read.open_table(FOREIGN).map_err(StoreError::index(cannot))?;
        let mut all = Vec::new();
        for entry in table.iter().map_err(StoreError::index(cannot))? {
            let (path, why) = entry.map_err(StoreError::index(cannot))?;
            all.push((path.value().to_owned(), why.value().to_owned()));
        }
        Ok(all)
    }

    /// Replaces a database that failed. The old one is closed before `open` runs.
    pub(crate) fn mend(&self, open: impl FnOnce() -> Result<Database, StoreError>) -> Result<(), StoreError> {
        let _writer = lock_of(&self.writer);
        let mut late = self.late.as_ref().map(lock_of);
        if let Some(late) = &mut late {
            late.file = None;
        }
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        *guard = Some(open()?);
        Ok(())
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn broken() -> StoreError {
    StoreError::Index { what: "use", source: Arc::new(redb::Error::DatabaseClosed) }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("is_late", &self.is_late()).finish_non_exhaustive()
    }
}

/// As [`Index::write`], on a database that is not in use yet.
pub(crate) fn write<T>(
    database: &Database,
    high: impl FnOnce() -> u64,
    change: impl FnOnce(&mut Rows<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    const WRITE: &str = "write";
    let write = database.begin_write().map_err(StoreError::index(WRITE))?;
    let mut rows = Rows {
        write: &write,
        objects: write.open_table(OBJECTS).map_err(StoreError::index(WRITE))?,
        foreign: write.open_table(FOREIGN).map_err(StoreError::index(WRITE))?,
    };
    let result = change(&mut rows)?;
    drop(rows);
    let mut state = write.open_table(STATE).map_err(StoreError::index(WRITE))?;
    let before = state.get(HIGH_KEY).map_err(StoreError::index(WRITE))?.map_or(0, |high| high.value());
    state.insert(HIGH_KEY, high().max(before)).map_err(StoreError::index(WRITE))?;
    drop(state);
    write.commit().map_err(StoreError::index(WRITE))?;
    Ok(result)
}

/// The highest version that was given out.
pub(crate) fn high(database: &Database) -> Result<u64, StoreError> {
    let read = database.begin_read().map_err(StoreError::index("read"))?;
    let state = read.open_table(STATE).map_err(StoreError::index("read"))?;
    let high = state.get(HIGH_KEY).map_err(StoreError::index("read"))?;
    Ok(high.map_or(0, |high| high.value()))
}

/// The rows, within a write.
pub(crate) struct Rows<'t> {
    write: &'t WriteTransaction,
    objects: Table<'t, &'static str, &'static [u8]>,
    foreign: Table<'t, &'static str, &'static str>,
}

impl Rows<'_> {
    pub(crate) fn get(&self, name: &str) -> Result<Option<Row>, StoreError> {
        row(&self.objects, name)
    }

    pub(crate) fn insert(&mut self, name: &Name, row: &Row) -> Result<(), StoreError> {
        self.objects.insert(name.as_str(), &row.encode()[..]).map_err(StoreError::index("write"))?;
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.objects.remove(name).map_err(StoreError::index("write"))?;
        Ok(())
    }

    fn take_in(&mut self, late: &late::Rows) -> Result<(), StoreError> {
        late.iter().try_for_each(|(name, row)| match row {
            Some(row) => self.insert(name, row),
            None => self.remove(name.as_str()),
        })
    }

    /// As [`get`](Self::get); an inner None is a row that cannot be read.
    pub(crate) fn look(&self, name: &str) -> Result<Option<Option<Row>>, StoreError> {
        let value = self.objects.get(name).map_err(StoreError::index("read"))?;
        Ok(value.map(|value| Row::decode(value.value())))
    }

    pub(crate) fn add_foreign(&mut self, path: &str, why: &str) -> Result<(), StoreError> {
        self.foreign.insert(path, why).map_err(StoreError::index("write"))?;
        Ok(())
    }

    /// Adds to those that were found since [`forget_new_foreign`](Self::forget_new_foreign); false if it was there.
    pub(crate) fn add_new_foreign(&mut self, path: &str, why: &str) -> Result<bool, StoreError> {
        let mut table = self.write.open_table(NEW_FOREIGN).map_err(StoreError::index("write"))?;
        let before = table.insert(path, why).map_err(StoreError::index("write"))?;
        Ok(before.is_none())
    }

    pub(crate) fn forget_new_foreign(&mut self) -> Result<(), StoreError> {
        self.write.delete_table(NEW_FOREIGN).map_err(StoreError::index("write"))?;
        Ok(())
    }

    /// Lets those that were found take the place of those that were known; what another program listed stays.
    pub(crate) fn take_new_foreign(&mut self) -> Result<(), StoreError> {
        let cannot = "write";
        let new = self.write.open_table(NEW_FOREIGN).map_err(StoreError::index(cannot))?;
        self.foreign.retain(|_, why| why == LISTED).map_err(StoreError::index(cannot))?;
        for entry in new.iter().map_err(StoreError::index(cannot))? {
            let (path, why) = entry.map_err(StoreError::index(cannot))?;
            self.foreign.insert(path.value(), why.value()).map_err(StoreError::index(cannot))?;
        }
        drop(new);
        self.forget_new_foreign()
    }
}

impl RowSet for Rows<'_> {
    fn get(&self, name: &str) -> Result<Option<Row>, StoreError> {
        Rows::get(self, name)
    }

    fn insert(&mut self, name: &Name, row: &Row) -> Result<(), StoreError> {
        Rows::insert(self, name, row)
    }

    fn remove(&mut self, name: &Name) -> Result<(), StoreError> {
        Rows::remove(self, name.as_str())
    }

    fn check_free(&self, name: &Name) -> Result<(), StoreError> {
        check_free(&self.objects, name)
    }
}
/// Why something is foreign that no file need stand for.
pub(crate) const LISTED: &str = "the original listed it, and there is no object of its name";

fn check_free(rows: &impl ReadableTable<&'static str, &'static [u8]>, name: &Name) -> Result<(), StoreError> {
    for above in name.ancestors() {
        if row(rows, above)?.is_some()
            && let Ok(object) = Name::parse(above)
        {
            return Err(StoreError::BelowObject { name: name.clone(), object });
        }
    }
    let prefix = format!("{name}/");
    let mut below = rows.range(&prefix[..]..).map_err(StoreError::index("read"))?;
    match below.next().transpose().map_err(StoreError::index("read"))? {
        Some((first, _)) if first.value().starts_with(&prefix) => {
            Err(StoreError::IsFolder { name: name.clone() })
        }
        _ => Ok(()),
    }
}

fn row(
    rows: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Row>, StoreError> {
    match rows.get(name).map_err(StoreError::index("read"))? {
        Some(value) => Row::decode(value.value()).map(Some).ok_or_else(|| damaged_row(name)),
        None => Ok(None),
    }
}

pub(crate) fn damaged_row(name: &str) -> StoreError {
    let source = redb::Error::Corrupted(format!("the row of {name} cannot be read"));
    StoreError::Index { what: "read", source: Arc::new(source) }
}

/// The rows from a name on (behind it, if it is excluded), decoded one by one.
pub(crate) fn scan(
    rows: &Snapshot,
    from: Bound<&str>,
    mut each: impl FnMut(&str, Row) -> Step,
) -> Result<(), StoreError> {
    let mut from = match from {
        Bound::Included(name) => Bound::Included(name.to_owned()),
        Bound::Excluded(name) => Bound::Excluded(name.to_owned()),
        Bound::Unbounded => Bound::Unbounded,
    };
    loop {
        let mut jump = None;
        let start = from.as_ref().map(String::as_str);
        let range = (start, Bound::Unbounded);
        for entry in rows.0.range::<&str>(range).map_err(StoreError::index("read"))? {
            let (name, value) = entry.map_err(StoreError::index("read"))?;
            let name = name.value();
            let row = Row::decode(value.value()).ok_or_else(|| damaged_row(name))?;
            match each(name, row) {
                Step::Next => (),
                Step::Jump(to) => {
                    jump = Some(to);
                    break;
                }
                Step::End => return Ok(()),
            }
        }
        match jump {
            Some(to) => from = Bound::Included(to),
            None => return Ok(()),
        }
    }
}

/// What a [`scan`] does next.
pub(crate) enum Step {
    Next,
    /// Go on at this name.
    Jump(String),
    End,
}

/// The file of an index, behind the same seam as all else.
#[derive(Debug)]
struct Backend {
    disk: Arc<dyn Disk>,
    file: File,
    is_synced: bool,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.disk.read_at(&self.file, offset + done as u64, rest) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(&self.file, len)?;
        self.disk.reserve(&self.file, len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_synced { self.disk.sync(self.file.as_fd()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write_at(&self.file, offset, data)
    }
}

/// The folder that an index is to be in, opened, and the name of its file there.
pub(crate) fn open_folder(path: &Path) -> io::Result<(OwnedFd, String)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let leaf = path.file_name().and_then(|leaf| leaf.to_str());
    let leaf =
        leaf.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "its name is not UTF-8, or it has none"))?;
    Ok((File::open(folder)?.into(), leaf.to_owned()))
}
