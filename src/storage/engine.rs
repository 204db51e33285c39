//! What the loops and the jobs of a store share.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::cache::Epochs;
use super::commit::Queue;
use super::disk::{Disk, Opening, RealDisk, Sidecars};
use super::error::StoreError;
use super::index::{self, Index, Place};
use super::meta::{Class, Version};
use super::name::Name;
use super::recovery;
use super::tier::Tiers;
use crate::jobs::Submitter;

/// What an acknowledged write has survived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// The loss of power.
    #[default]
    Sync,
    /// The end of the process, but not of the machine: nothing is flushed. For data that can be had again.
    Relaxed,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder. It is made if it does not exist.
    pub data: PathBuf,
    /// The file of the index; `storage.data` in the data folder if none is given.
    pub index: Option<PathBuf>,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Threads for work that blocks; 4.
    pub threads: usize,
    /// How hard deep objects are packed, 0 to 9; 6.
    pub level: u32,
    /// Bytes of index pages that are kept in memory, as far as they are used; 128 MiB.
    pub index_cache: usize,
    /// Bytes of small objects that each loop keeps in memory once they were read; 4 MiB. 0 keeps none, and no larger
    /// ones open either.
    pub hot_bytes: usize,
}

impl Options {
    /// The defaults, for a data folder.
    pub fn new(data: impl Into<PathBuf>) -> Options {
        Options {
            data: data.into(),
            index: None,
            durability: Durability::Sync,
            threads: 4,
            level: 6,
            index_cache: 128 * 1024 * 1024,
            hot_bytes: 4 * 1024 * 1024,
        }
    }
}

/// The shared half of a store.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) tiers: Tiers,
    pub(crate) place: Place,
    pub(crate) index: Index,
    pub(crate) durability: Durability,
    pub(crate) level: u32,
    pub(crate) jobs: Submitter,
    pub(crate) queue: Queue,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) hot_bytes: usize,
    /// Somebody compares the index with the objects.
    pub(crate) is_audited: AtomicBool,
    /// Files of the stage that somebody works on; recovery leaves them alone.
    active: Mutex<HashSet<u64>>,
    /// The last version that was given out.
    pub(crate) high: AtomicU64,
    stage_id: AtomicU64,
    /// When objects were last read, as far as the index does not say so yet.
    reads: Mutex<HashMap<Name, i64>>,
    /// Held for its lock, until the last of the above is gone.
    _lock: File,
}

/// Reads that are remembered before they are written at the latest.
const MOST_READS: usize = 10_000;
/// A read is not worth a write of the index if the one before is younger: microseconds of an hour.
pub(crate) const READ_PRECISION: i64 = 3_600_000_000;

impl Engine {
    pub(crate) fn open(options: &Options, jobs: Submitter) -> Result<Engine, StoreError> {
        Engine::open_on(Arc::new(RealDisk), options, jobs)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        options: &Options,
        jobs: Submitter,
    ) -> Result<Engine, StoreError> {
        let data = &options.data;
        let shown = data.display();
        std::fs::create_dir_all(data).map_err(StoreError::disk("make the data folder", shown))?;
        let root: OwnedFd =
            File::open(data).map_err(StoreError::disk("open the data folder", data.display()))?.into();
        let lock = lock(data)?;
        let open = |leaf: &str| open_folder(&*disk, &root, leaf);
        let (low, deep, stage) = (open(Class::Low.folder())?, open(Class::Deep.folder())?, open("stage")?);
        let disk = with_tags(&disk, &root, &stage)?;
        let is_synced = options.durability == Durability::Sync;
        let path = options.index.clone().unwrap_or_else(|| data.join("storage.data"));
        let (folder, leaf) = index::open_folder(&path)
            .map_err(StoreError::disk("open the folder of the index", path.display()))?;
        let cache = options.index_cache;
        let place = Place { disk: Arc::clone(&disk), folder, leaf, path, is_synced, cache };
        let tiers = Tiers { disk, root, low, deep, stage };
        if is_synced {
            tiers
                .disk
                .sync(tiers.root.as_fd())
                .map_err(StoreError::disk("put on the disk the folder", data.display()))?;
        }
        let high = AtomicU64::new(0);
        let database = recovery::open_index(&tiers, &place, &high)?;
        high.fetch_max(index::high(&database)?, Ordering::AcqRel);
        let engine = Engine {
            tiers,
            place,
            index: Index::new(database, !is_synced),
            durability: options.durability,
            level: options.level,
            jobs,
            queue: Queue::default(),
            epochs: Epochs::new(),
            hot_bytes: options.hot_bytes,
            is_audited: AtomicBool::new(false),
            active: Mutex::default(),
            high,
            stage_id: AtomicU64::new(0),
            reads: Mutex::default(),
            _lock: lock,
        };
        recovery::settle_stage(&engine)?;
        Ok(engine)
    }

    /// A version above all before it.
    pub(crate) fn next_version(&self) -> Version {
        Version(next(&self.high))
    }

    pub(crate) fn high(&self) -> u64 {
        self.high.load(Ordering::Acquire)
    }

    /// A new number in the stage, which recovery leaves alone until [`release`](Self::release).
    pub(crate) fn claim(&self) -> u64 {
        let id = self.stage_id.fetch_add(1, Ordering::Relaxed);
        lock_of(&self.active).insert(id);
        id
    }

    pub(crate) fn release(&self, id: u64) {
        lock_of(&self.active).remove(&id);
    }

    pub(crate) fn is_active(&self, id: u64) -> bool {
        lock_of(&self.active).contains(&id)
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.durability == Durability::Sync
    }

    /// Remembers that an object was read.
    pub(crate) fn note_read(&self, name: &Name) {
        let mut reads = lock_of(&self.reads);
        if reads.len() < MOST_READS || reads.contains_key(name) {
            reads.insert(name.clone(), now());
        }
    }

    pub(crate) fn take_reads(&self) -> HashMap<Name, i64> {
        std::mem::take(&mut lock_of(&self.reads))
    }

    /// Finds the file of an object, of either class.
    pub(crate) fn open_file(&self, name: &Name) -> Result<Option<(Class, File)>, StoreError> {
        // Twice, for a change of class in between.
        for class in [Class::Low, Class::Deep, Class::Low] {
            if let Some(file) = self.tiers.open(class, name)? {
                return Ok(Some((class, file)));
            }
        }
        Ok(None)
    }
}

pub(crate) fn lock_of<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Follows the clock, so that versions differ even from those of an index that was lost.
pub(crate) fn next(high: &AtomicU64) -> u64 {
    let now = now().unsigned_abs();
    let step = |high: u64| Some(now.max(high.saturating_add(1)));
    let before = high.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).unwrap_or_default();
    now.max(before.saturating_add(1))
}

fn lock(data: &Path) -> Result<File, StoreError> {
    let path = data.join("lock");
    let cannot = |error| StoreError::disk("open the lock", path.display())(error);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(cannot)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: data.to_owned() }),
        Err(errno) => Err(cannot(errno.into())),
    }
}

fn open_folder(disk: &dyn Disk, root: &OwnedFd, leaf: &str) -> Result<OwnedFd, StoreError> {
    let opened = match disk.make_folder(root.as_fd(), leaf) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => disk.open(root.as_fd(), leaf, Opening::Folder),
    };
    opened.map_err(StoreError::disk("open the folder", leaf))
}

/// The disk, with tags beside the files if it has no extended attributes.
fn with_tags(disk: &Arc<dyn Disk>, root: &OwnedFd, stage: &OwnedFd) -> Result<Arc<dyn Disk>, StoreError> {
    const PROBE: &str = "probe";
    let cannot = |error| StoreError::disk("try the folder", "stage")(error);
    match disk.unlink(stage.as_fd(), PROBE) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => (),
    }
    let probe = disk.create(stage.as_fd(), PROBE).map_err(cannot)?;
    let tried = disk.set_tag(&probe, b"probe");
    disk.unlink(stage.as_fd(), PROBE).map_err(cannot)?;
    match tried {
        Ok(()) => Ok(Arc::clone(disk)),
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
            let folder = open_folder(&**disk, root, "metadata")?;
            Ok(Arc::new(Sidecars::new(Arc::clone(disk), folder)))
        }
        Err(error) => Err(cannot(error)),
    }
}
