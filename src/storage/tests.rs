//! The store on disks that die, fail, or have no extended attributes.

#[path = "../../tests/util/rig.rs"]
pub(super) mod rig;

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reactor::EventBase;
use rustix::io::Errno;

use super::disk::{Disk, Listing, Opening, RealDisk, open_by, open_by_segments};
use super::*;
use rig::{Contents, Rig};

fn open(disk: Arc<dyn Disk>, options: &Options) -> Result<Rig, StoreError> {
    let base = EventBase::new().unwrap();
    let store = Store::open_with(&base, options, |jobs| Engine::open_on(disk, options, jobs))?;
    Ok(Rig { store, base })
}

/// What happens at the n-th operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// It and all after it are refused, as after the end of the process.
    Death(u64),
    /// It fails, those after it do not.
    Error(u64, Errno),
    /// It is done, and fails nevertheless.
    Late(u64, Errno),
}

/// A disk that counts, and goes wrong when it is told to.
#[derive(Debug)]
struct FaultyDisk {
    count: AtomicU64,
    fault: std::sync::Mutex<Fault>,
    has_attributes: bool,
    has_openat2: bool,
    tripped: AtomicBool,
    syncs: AtomicU64,
    /// Calls that wrote several slices.
    writes: AtomicU64,
    /// Looks through folders: recovery begins with one.
    lists: AtomicU64,
    /// The index does not grow.
    is_full: AtomicBool,
}

impl FaultyDisk {
    fn new(has_attributes: bool) -> Arc<FaultyDisk> {
        Arc::new(FaultyDisk {
            count: AtomicU64::new(0),
            fault: std::sync::Mutex::new(Fault::None),
            has_attributes,
            has_openat2: true,
            tripped: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
        })
    }

    fn arm(&self, fault: Fault) {
        self.count.store(0, Ordering::SeqCst);
        self.syncs.store(0, Ordering::SeqCst);
        self.tripped.store(false, Ordering::SeqCst);
        *self.fault.lock().unwrap() = fault;
    }

    /// Fails, or says what it fails with when it is done.
    fn step(&self) -> io::Result<Option<Errno>> {
        let n = self.count.fetch_add(1, Ordering::SeqCst);
        let (error, is_late) = match *self.fault.lock().unwrap() {
            Fault::Death(at) if n >= at => (Errno::IO, false),
            Fault::Error(at, errno) if n == at => (errno, false),
            Fault::Late(at, errno) if n == at => (errno, true),
            _ => return Ok(None),
        };
        self.tripped.store(true, Ordering::SeqCst);
        if is_late { Ok(Some(error)) } else { Err(error.into()) }
    }

    fn done<T>(late: Option<Errno>, result: io::Result<T>) -> io::Result<T> {
        late.map_or(result, |errno| Err(errno.into()))
    }
}

macro_rules! counted {
    ($($name:ident(&self $(, $arg:ident: $ty:ty)*) -> $out:ty;)*) => {
        $(fn $name(&self $(, $arg: $ty)*) -> io::Result<$out> {
            let late = self.step()?;
            Self::done(late, RealDisk.$name($($arg),*))
        })*
    };
}

impl Disk for FaultyDisk {
    counted! {
        create(&self, folder: BorrowedFd<'_>, leaf: &str) -> File;
        read_at(&self, file: &File, at: u64, into: &mut [u8]) -> usize;
        copy(&self, from: &File, to: &File, at: u64, len: usize) -> usize;
        link(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> ();
        rename(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> ();
        exchange(&self, one: (BorrowedFd<'_>, &str), other: (BorrowedFd<'_>, &str)) -> ();
        rename_new(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> ();
        unlink(&self, folder: BorrowedFd<'_>, leaf: &str) -> ();
        make_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> ();
        remove_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> ();
    }

    fn list(&self, folder: BorrowedFd<'_>) -> io::Result<Listing> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let late = self.step()?;
        Self::done(late, RealDisk.list(folder))
    }

    fn open(&self, folder: BorrowedFd<'_>, path: &str, what: Opening) -> io::Result<OwnedFd> {
        let late = self.step()?;
        let opened = match self.has_openat2 {
            true => RealDisk.open(folder, path, what),
            false => open_by(open_by_segments, folder, path, what).map_err(io::Error::from),
        };
        Self::done(late, opened)
    }

    // Only counted: no power is lost here, and real ones take long.
    fn sync(&self, _file: BorrowedFd<'_>) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Self::done(self.step()?, Ok(()))
    }

    fn sync_all(&self, _folder: BorrowedFd<'_>) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        Self::done(self.step()?, Ok(()))
    }

    fn reserve(&self, _: &File, _: u64) {}

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) && file.metadata()?.len() < len {
            return Err(Errno::NOSPC.into());
        }
        let late = self.step()?;
        Self::done(late, RealDisk.set_len(file, len))
    }

    /// A write that dies has written half.
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let was_whole = !self.tripped.load(Ordering::SeqCst);
        let late = self.step().inspect_err(|_| {
            if was_whole {
                let _ = RealDisk.write_at(file, at, &bytes[..bytes.len() / 2]);
            }
        })?;
        Self::done(late, RealDisk.write_at(file, at, bytes))
    }

    /// As `write_at`: at death, the first of them is half written.
    fn write_slices_at(&self, file: &File, at: u64, slices: &mut [io::IoSlice<'_>]) -> io::Result<()> {
        let was_whole = !self.tripped.load(Ordering::SeqCst);
        self.step().inspect_err(|_| {
            if let Some(first) = slices.first().filter(|_| was_whole) {
                let _ = RealDisk.write_at(file, at, &first[..first.len() / 2]);
            }
        })?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        RealDisk.write_slices_at(file, at, slices)
    }

    fn tag(&self, file: &File) -> io::Result<Option<Vec<u8>>> {
        if !self.has_attributes {
            return Err(Errno::OPNOTSUPP.into());
        }
        Self::done(self.step()?, RealDisk.tag(file))
    }

    fn set_tag(&self, file: &File, tag: &[u8]) -> io::Result<()> {
        if !self.has_attributes {
            return Err(Errno::OPNOTSUPP.into());
        }
        let late = self.step()?;
        Self::done(late, RealDisk.set_tag(file, tag))
    }
}

fn options(data: &Path) -> Options {
    Options { threads: 2, index_cache: 1 << 20, ..Options::new(data) }
}

/// What a test does while the disk goes wrong.
struct Scene {
    name: &'static str,
    before: fn(&Rig),
    during: fn(&Rig) -> Result<Changed, StoreError>,
}

const SCENES: &[Scene] = &[
    Scene { name: "upload", before: |_| (), during: |rig| rig.put("a/b/new", Class::Low, b"new") },
    Scene { name: "deep upload", before: |_| (), during: |rig| rig.put("a/b/new", Class::Deep, b"new") },
    Scene {
        name: "overwrite",
        before: |rig| {
            rig.put("f/x", Class::Low, b"old").unwrap();
        },
        during: |rig| rig.put("f/x", Class::Low, b"the new one"),
    },
    Scene {
        name: "deep overwrite",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"old").unwrap();
        },
        during: |rig| rig.put("f/x", Class::Deep, b"the new one"),
    },
    Scene {
        name: "overwrite in the other class",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"old").unwrap();
        },
        during: |rig| rig.put("f/x", Class::Low, b"the new one"),
    },
    Scene {
        name: "deep overwrite of a low one",
        before: |rig| {
            rig.put("f/x", Class::Low, b"old").unwrap();
        },
        during: |rig| rig.put("f/x", Class::Deep, b"the new one"),
    },
    Scene {
        name: "deep delete",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"old").unwrap();
        },
        during: |rig| rig.delete("f/x"),
    },
    Scene {
        name: "deep move",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"moved").unwrap();
        },
        during: |rig| rig.rename("f/x", "f/y/z"),
    },
    Scene {
        name: "deep move over another",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"moved").unwrap();
            rig.put("f/y", Class::Deep, b"replaced").unwrap();
        },
        during: |rig| rig.rename("f/x", "f/y"),
    },
    Scene {
        name: "copy over another",
        before: |rig| {
            rig.put("f/x", Class::Low, b"copied").unwrap();
            rig.put("g/y", Class::Deep, b"replaced").unwrap();
        },
        during: |rig| rig.copy("f/x", "g/y"),
    },
    Scene {
        name: "delete",
        before: |rig| {
            rig.put("f/x", Class::Low, b"old").unwrap();
        },
        during: |rig| rig.delete("f/x"),
    },
    Scene {
        name: "move",
        before: |rig| {
            rig.put("f/x", Class::Low, b"moved").unwrap();
        },
        during: |rig| rig.rename("f/x", "g/y"),
    },
    Scene {
        name: "move over another",
        before: |rig| {
            rig.put("f/x", Class::Low, b"moved").unwrap();
            rig.put("g/y", Class::Low, b"replaced").unwrap();
        },
        during: |rig| rig.rename("f/x", "g/y"),
    },
    Scene {
        name: "move over a younger one of the other class",
        before: |rig| {
            rig.put("f/x", Class::Low, b"moved").unwrap();
            rig.put("g/y", Class::Deep, b"replaced").unwrap();
        },
        during: |rig| rig.rename("f/x", "g/y"),
    },
    Scene {
        name: "copy",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"copied").unwrap();
        },
        during: |rig| rig.copy("f/x", "f/z"),
    },
    Scene {
        name: "to deep",
        before: |rig| {
            rig.put("f/x", Class::Low, b"class").unwrap();
        },
        during: |rig| rig.change_class("f/x", Class::Deep),
    },
    Scene {
        name: "to low",
        before: |rig| {
            rig.put("f/x", Class::Deep, b"class").unwrap();
        },
        during: |rig| rig.change_class("f/x", Class::Low),
    },
];

/// Runs a scene with a fault at one operation; returns whether the fault happened.
fn play(
    scene: &Scene,
    changed: &Contents,
    has_attributes: bool,
    durability: Durability,
    fault: Fault,
) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(has_attributes);
    let options = Options { durability, ..options(folder.path()) };
    let rig = open(Arc::clone(&disk) as _, &options).unwrap();
    rig.put("bystander", Class::Low, b"stays").unwrap();
    (scene.before)(&rig);
    let before = rig.check(folder.path());
    disk.arm(fault);
    let result = (scene.during)(&rig);
    if durability == Durability::Relaxed {
        // What follows the answer may fail too, and what was answered stays.
        let _ = rig.settle();
    }
    let happened = disk.tripped.load(Ordering::SeqCst);
    let what = format!("{} {fault:?} {has_attributes} {durability:?}: {result:?}", scene.name);
    assert!(happened || result.is_ok(), "{what}");
    // Each object is the old or the new one; an acknowledged change is there.
    let check = |after: &Contents| {
        assert!(after == changed || (*after == before && result.is_err()), "{what}\n{after:?}");
    };
    if matches!(fault, Fault::Error(..) | Fault::Late(..)) {
        // The store goes on, and is in order after the next change at the latest.
        disk.arm(Fault::None);
        rig.put("next", Class::Low, b"next").unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut after = rig.check(folder.path());
        after.remove("next");
        check(&after);
        rig.delete("next").unwrap();
    }
    drop(rig);
    disk.arm(Fault::None);
    let rig = open(disk, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&rig.check(folder.path()));
    happened
}

/// What there is when the scene goes well.
fn rehearse(scene: &Scene) -> Contents {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(&options(folder.path())).unwrap();
    rig.put("bystander", Class::Low, b"stays").unwrap();
    (scene.before)(&rig);
    (scene.during)(&rig).unwrap();
    rig.check(folder.path())
}

fn each_operation(has_attributes: bool, fault: impl Fn(u64) -> Fault) {
    for durability in [Durability::Sync, Durability::Relaxed] {
        each_operation_of(has_attributes, durability, &fault);
    }
}

fn each_operation_of(has_attributes: bool, durability: Durability, fault: impl Fn(u64) -> Fault) {
    for scene in SCENES {
        let changed = rehearse(scene);
        let mut n = 0;
        while play(scene, &changed, has_attributes, durability, fault(n)) {
            n += 1;
        }
        assert!(n > 10, "{}: {n}", scene.name);
    }
}

#[test]
fn a_death_at_any_operation_leaves_old_or_new() {
    each_operation(true, Fault::Death);
}

#[test]
fn an_io_error_at_any_operation_leaves_old_or_new() {
    each_operation(true, |n| Fault::Error(n, Errno::IO));
}

#[test]
fn a_full_disk_at_any_operation_leaves_old_or_new() {
    each_operation(true, |n| Fault::Error(n, Errno::NOSPC));
}

#[test]
fn an_error_of_an_operation_that_was_done_leaves_old_or_new() {
    each_operation(true, |n| Fault::Late(n, Errno::IO));
}

#[test]
fn a_death_without_extended_attributes_leaves_old_or_new() {
    each_operation(false, Fault::Death);
}

#[test]
fn an_io_error_without_extended_attributes_leaves_old_or_new() {
    each_operation(false, |n| Fault::Error(n, Errno::IO));
}

/// The old class of an object goes before the next change of it in the same batch.
#[test]
fn classes_may_alternate_in_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let any = Precondition::None;
    for durability in [Durability::Sync, Durability::Relaxed] {
        let rig = open(Arc::new(RealDisk), &Options { durability, ..options(folder.path()) }).unwrap();
        for _ in 0..20 {
            rig.put("a/b", Class::Deep, b"first").unwrap();
            rig.put("x", Class::Deep, b"third").unwrap();
            let answered = std::rc::Rc::new(std::cell::Cell::new(0));
            let done = || {
                let answered = std::rc::Rc::clone(&answered);
                move |result: Result<Changed, StoreError>| {
                    result.unwrap();
                    answered.set(answered.get() + 1);
                }
            };
            // While one is written, the others come together.
            for (text, bytes) in [("other", &b"other"[..]), ("a/b", b"second")] {
                let upload =
                    rig.store.begin_put(&rig::name(text), Class::Low, PutOptions::default(), || ()).unwrap();
                assert_eq!(upload.write(bytes).unwrap(), Flow::Open);
                upload.finish(done());
            }
            rig.store.rename(&rig::name("x"), &rig::name("a/b"), any.clone(), any.clone(), done());
            rig.base.dispatch().unwrap();
            assert_eq!(answered.get(), 3);
            let all = rig.check(folder.path());
            assert_eq!((all.len(), &all["a/b"]), (2, &(Class::Deep, b"third".to_vec())));
        }
    }
}

/// Changes of several objects at once, of which some share a batch: each is old or new by itself.
#[test]
fn a_death_amid_a_batch_leaves_each_old_or_new() {
    let mut n = 0;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let (disk, options) = (FaultyDisk::new(true), options(folder.path()));
        let rig = open(Arc::clone(&disk) as _, &options).unwrap();
        for (text, class) in [
            ("a/over", Class::Low),
            ("a/gone", Class::Deep),
            ("b/from", Class::Low),
            ("b/class", Class::Low),
            ("b/twice", Class::Low),
        ] {
            rig.put(text, class, b"old").unwrap();
        }
        let before = rig.check(folder.path());
        disk.arm(Fault::Death(n));
        let acked = std::rc::Rc::new(std::cell::RefCell::new(std::collections::BTreeSet::new()));
        let any = Precondition::None;
        let done = |what: &'static str| {
            let acked = std::rc::Rc::clone(&acked);
            move |result: Result<Changed, StoreError>| {
                if result.is_ok() {
                    acked.borrow_mut().insert(what);
                }
            }
        };
        let put = |text: &str, class, bytes: &[u8], what| {
            let upload = rig.store.begin_put(&rig::name(text), class, PutOptions::default(), || ());
            if let Ok(upload) = upload
                && upload.write(bytes).is_ok()
            {
                upload.finish(done(what));
            }
        };
        put("a/over", Class::Deep, b"new", "over");
        put("c/d/new", Class::Low, b"new", "new");
        rig.store.delete(&rig::name("a/gone"), any.clone(), done("gone"));
        rig.store.rename(&rig::name("b/from"), &rig::name("e/to"), any.clone(), any.clone(), done("move"));
        rig.store.change_class(&rig::name("b/class"), Class::Deep, any.clone(), done("class"));
        put("b/twice", Class::Low, b"first", "first");
        put("b/twice", Class::Low, b"second", "second");
        rig.base.dispatch().unwrap();
        drop(rig);
        let happened = disk.tripped.load(Ordering::SeqCst);
        disk.arm(Fault::None);
        let rig = open(disk, &options).unwrap();
        let after = rig.check(folder.path());
        let acked = acked.borrow();
        let is = |text: &str, class, bytes: &[u8]| after.get(text) == Some(&(class, bytes.to_vec()));
        let was = |text: &str| after.contains_key(text) && after.get(text) == before.get(text);
        let either = |what: &str, new: bool, old: bool| {
            assert!(new || (old && !acked.contains(what)), "{n} {what} {acked:?} {after:?}");
        };
        either("over", is("a/over", Class::Deep, b"new"), was("a/over"));
        either("new", is("c/d/new", Class::Low, b"new"), !after.contains_key("c/d/new"));
        either("gone", !after.contains_key("a/gone"), was("a/gone"));
        either(
            "move",
            is("e/to", Class::Low, b"old") && !after.contains_key("b/from"),
            was("b/from") && !after.contains_key("e/to"),
        );
        either("class", is("b/class", Class::Deep, b"old"), was("b/class"));
        let (first, second) = (is("b/twice", Class::Low, b"first"), is("b/twice", Class::Low, b"second"));
        either("second", second, first || was("b/twice"));
        either("first", first || second, was("b/twice"));
        if !happened {
            assert_eq!(acked.len(), 7);
            break;
        }
        n += 1;
    }
    assert!(n > 60, "{n}");
}

/// Every rule of names holds on a kernel that cannot resolve paths beneath a folder by itself.
#[test]
fn an_old_kernel_follows_no_link_either() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk { has_openat2: false, ..Arc::into_inner(FaultyDisk::new(true)).unwrap() });
    let rig = open(Arc::clone(&disk) as _, &options(folder.path())).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    let low = folder.path().join("low_storage");
    std::os::unix::fs::symlink(outside.path(), low.join("out")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), low.join("leaf")).unwrap();
    for text in ["out/secret", "leaf", "out", "leaf/x"] {
        let read = rig.store.open_read(&rig::name(text));
        assert!(matches!(read, Err(StoreError::NotFound { .. })), "{text}: {read:?}");
        assert!(matches!(rig.put(text, Class::Low, b"x"), Err(StoreError::Occupied { .. })), "{text}");
    }
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
    std::fs::remove_file(low.join("out")).unwrap();
    std::fs::remove_file(low.join("leaf")).unwrap();
    for text in ["a", "b/c/d", "b/c/e"] {
        rig.put(text, Class::Low, b"low").unwrap();
        rig.put(text, Class::Deep, b"deep").unwrap();
    }
    rig.rename("b/c/d", "x/y").unwrap();
    rig.delete("a").unwrap();
    assert_eq!(rig.check(folder.path()).len(), 2);
}

/// A start that dies while it recovers is followed by one that does not.
#[test]
fn a_death_during_recovery_is_recovered_from() {
    for scene in SCENES {
        let changed = rehearse(scene);
        // Somewhere in the middle: the change is visible and the index does not know.
        for first in [13, 20] {
            let mut n = 0;
            loop {
                let folder = tempfile::tempdir().unwrap();
                let (disk, options) = (FaultyDisk::new(true), options(folder.path()));
                let rig = open(Arc::clone(&disk) as _, &options).unwrap();
                rig.put("bystander", Class::Low, b"stays").unwrap();
                (scene.before)(&rig);
                let before = rig.check(folder.path());
                disk.arm(Fault::Death(first));
                let _ = (scene.during)(&rig);
                drop(rig);
                disk.arm(Fault::Death(n));
                let opened = open(Arc::clone(&disk) as _, &options);
                let happened = disk.tripped.load(Ordering::SeqCst);
                drop(opened);
                disk.arm(Fault::None);
                let rig = open(Arc::clone(&disk) as _, &options).unwrap();
                let after = rig.check(folder.path());
                assert!(after == changed || after == before, "{} {first} {n}: {after:?}", scene.name);
                if !happened {
                    break;
                }
                n += 4;
            }
        }
    }
}

/// The index goes with the failure, and comes back with the disk.
#[test]
fn a_disk_that_was_full_is_used_again() {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(true);
        let options = Options { durability, ..options(folder.path()) };
        let rig = open(Arc::clone(&disk) as _, &options).unwrap();
        rig.put("a", Class::Low, b"1").unwrap();
        disk.arm(Fault::Death(3));
        for _ in 0..3 {
            assert!(rig.put("a", Class::Low, b"2").is_err());
        }
        disk.arm(Fault::None);
        rig.put("b", Class::Deep, b"3").unwrap();
        let contents = rig.check(folder.path());
        assert_eq!(contents.len(), 2);
    }
}

/// What was answered while the index could not be written is in it when it can.
#[test]
fn late_rows_outlive_an_index_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(true);
    let options = Options { durability: Durability::Relaxed, ..options(folder.path()) };
    let rig = open(Arc::clone(&disk) as _, &options).unwrap();
    rig.put("gone", Class::Low, b"0").unwrap();
    rig.settle().unwrap();
    for n in 0..20 {
        rig.put(&format!("{n}"), Class::Low, b"1").unwrap();
    }
    rig.delete("gone").unwrap();
    // They may have been written just before the disk fails.
    loop {
        disk.arm(Fault::None);
        rig.put("last", Class::Low, b"1").unwrap();
        disk.arm(Fault::Death(0));
        if rig.settle().is_err() {
            break;
        }
    }
    assert!(rig.settle().is_err());
    disk.arm(Fault::None);
    rig.settle().unwrap();
    assert_eq!(rig.check(folder.path()).len(), 21);
    drop(rig);
    let rig = open(disk, &options).unwrap();
    assert_eq!(rig.check(folder.path()).len(), 21);
}

/// A file remembers one former name; the index must forget all of them.
#[test]
fn a_death_after_two_moves_of_one_object_leaves_none_of_its_former_names() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(true);
    let options = Options { durability: Durability::Relaxed, ..options(folder.path()) };
    let rig = open(Arc::clone(&disk) as _, &options).unwrap();
    rig.put("a", Class::Low, b"moved").unwrap();
    rig.settle().unwrap();
    rig.rename("a", "b").unwrap();
    rig.rename("b", "c").unwrap();
    disk.arm(Fault::Death(0));
    drop(rig);
    disk.arm(Fault::None);
    let rig = open(disk, &options).unwrap();
    assert_eq!(rig.check(folder.path()).into_keys().collect::<Vec<_>>(), ["c"]);
}

/// The same when both moves wait for one commit.
#[test]
fn a_death_within_two_moves_of_one_object_leaves_one_of_its_names() {
    for n in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(true);
        let options = options(folder.path());
        let rig = open(Arc::clone(&disk) as _, &options).unwrap();
        rig.put("a", Class::Low, b"moved").unwrap();
        // Two threads and the urgent one wait until both moves are there.
        let gate = Arc::new(std::sync::Barrier::new(4));
        for _ in 0..3 {
            let gate = Arc::clone(&gate);
            rig.store.engine().jobs.submit_urgent(move || {
                gate.wait();
            });
        }
        for (from, to) in [("a", "b"), ("b", "c")] {
            let any = Precondition::None;
            rig.store.rename(&rig::name(from), &rig::name(to), any.clone(), any, |_| ());
        }
        disk.arm(Fault::Death(n));
        gate.wait();
        rig.base.dispatch().unwrap();
        let happened = disk.tripped.load(Ordering::SeqCst);
        drop(rig);
        disk.arm(Fault::None);
        let rig = open(disk, &options).unwrap();
        assert_eq!(rig.check(folder.path()).len(), 1, "{n}");
        if !happened {
            break;
        }
    }
}

/// What cannot be written is not tried without end when the store closes.
#[test]
fn a_store_closes_although_its_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(true);
    let options = Options { durability: Durability::Relaxed, ..options(folder.path()) };
    let rig = open(Arc::clone(&disk) as _, &options).unwrap();
    disk.is_full.store(true, Ordering::SeqCst);
    let mut count = 0;
    loop {
        for _ in 0..100 {
            let name = format!("{count}/{}/{}/{}", "x".repeat(240), "y".repeat(240), "z".repeat(240));
            rig.put(&name, Class::Low, b"1").unwrap();
            count += 1;
        }
        if rig.settle().is_err() {
            break;
        }
    }
    drop(rig);
    disk.is_full.store(false, Ordering::SeqCst);
    let rig = open(disk, &options).unwrap();
    assert_eq!(rig.check(folder.path()).len(), count);
}

/// An upload that got no descriptor leaves nothing, so nobody need look for it.
#[test]
fn a_lack_of_descriptors_is_nothing_to_recover_from() {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(true);
        let options = Options { durability, ..options(folder.path()) };
        let rig = open(Arc::clone(&disk) as _, &options).unwrap();
        let lists = disk.lists.load(Ordering::SeqCst);
        disk.arm(Fault::Error(0, Errno::MFILE));
        assert!(rig.put("a", Class::Low, b"1").is_err_and(|error| error.lacks_descriptors()));
        rig.put("a", Class::Low, b"1").unwrap();
        assert_eq!(disk.lists.load(Ordering::SeqCst), lists);
        assert_eq!(rig.check(folder.path()).len(), 1);
    }
}

/// Many writes at once share their flushes.
#[test]
fn concurrent_writes_share_flushes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(true);
    let rig = open(Arc::clone(&disk) as _, &options(folder.path())).unwrap();
    disk.arm(Fault::None);
    // Two threads and the urgent one wait until all writes are there.
    let gate = Arc::new(std::sync::Barrier::new(4));
    for _ in 0..3 {
        let gate = Arc::clone(&gate);
        rig.store.engine().jobs.submit_urgent(move || {
            gate.wait();
        });
    }
    let count = 200;
    let done = std::rc::Rc::new(std::cell::Cell::new(0));
    for n in 0..count {
        let name = Name::parse(&format!("many/{n}")).unwrap();
        let upload = rig.store.begin_put(&name, Class::Low, PutOptions::default(), || ()).unwrap();
        let _ = upload.write(b"small").unwrap();
        let mine = done.clone();
        upload.finish(move |result| {
            result.unwrap();
            mine.set(mine.get() + 1);
        });
    }
    gate.wait();
    rig.base.dispatch().unwrap();
    assert_eq!(done.get(), count);
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!(syncs < count, "{syncs} flushes for {count} writes");
    assert_eq!(rig.check(folder.path()).len() as u64, count);
}

/// What the network delivers in pieces reaches the disk in one call, without a copy.
#[test]
fn a_buffer_of_many_pieces_is_written_in_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new(true);
    let rig = open(Arc::clone(&disk) as _, &options(folder.path())).unwrap();
    let name = Name::parse("large").unwrap();
    let upload = rig.store.begin_put(&name, Class::Low, PutOptions::default(), || ()).unwrap();
    let buffer = reactor::Evbuffer::new();
    let mut all = Vec::new();
    for round in 0..4u32 {
        // More pieces than one call takes in the last.
        let (pieces, len) = if round == 3 { (1500, 100) } else { (64, 4 * 1024) };
        for n in 0..pieces {
            let piece = rig::sample(len, round * 5000 + n);
            all.extend_from_slice(&piece);
            buffer.append_shared(piece).unwrap();
        }
        let _ = upload.write_buffer(&buffer).unwrap();
        assert!(buffer.is_empty());
    }
    assert_eq!(disk.writes.load(Ordering::SeqCst), 3 + 12);
    rig.wait(|done| upload.finish(done)).unwrap();
    assert!(rig.get("large").unwrap() == all);
}
