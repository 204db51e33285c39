//! The one door to the disk. Tests put a disk behind it that dies or fails at the n-th operation.
//!
//! Every call names a folder by its handle and a file in it by one segment, or opens a path beneath a handle without
//! following a link: so no name leads out of the data folder, whatever somebody planted in it.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

/// What is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    Folder,
    /// A regular file, for reading.
    File,
}

/// What stands in a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// None if it is not UTF-8.
    pub(crate) name: Option<String>,
    pub(crate) kind: FileType,
}

/// What stands in a folder, read as it is asked for.
pub(crate) type Listing = Box<dyn Iterator<Item = io::Result<Found>> + Send>;

/// A disk. Everything that changes it, and everything that makes a change last, goes through here.
pub(crate) trait Disk: Send + Sync + Debug {
    /// Opens what lies beneath a folder; links are never followed.
    fn open(&self, folder: BorrowedFd<'_>, path: &str, what: Opening) -> io::Result<OwnedFd>;
    /// Makes a file that did not exist, for reading and writing.
    fn create(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<File>;
    fn read_at(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize>;
    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes all of these, at most 1024, one behind the other; in one call, if the system takes them so.
    fn write_slices_at(&self, file: &File, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Cuts a file, or lengthens it by room that the disk keeps for it: what is written there later finds some.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Has the disk keep room behind the end of a file for it to be doubled, within limits, if the disk can and has it.
    fn reserve(&self, file: &File, len: u64);
    /// Copies at most `len` bytes from the same place in `from`; shares the blocks where the disk can. 0 at its end.
    fn copy(&self, from: &File, to: &File, at: u64, len: usize) -> io::Result<usize>;
    /// What the file says of itself; None if nothing.
    fn tag(&self, file: &File) -> io::Result<Option<Vec<u8>>>;
    /// Replaces it as a whole.
    fn set_tag(&self, file: &File, tag: &[u8]) -> io::Result<()>;
    /// Makes a file or a folder last.
    fn sync(&self, file: BorrowedFd<'_>) -> io::Result<()>;
    /// Makes all that was written to the disk of this folder last.
    fn sync_all(&self, folder: BorrowedFd<'_>) -> io::Result<()>;
    fn link(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()>;
    fn rename(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()>;
    /// Lets two plain files change their names in one step.
    fn exchange(&self, one: (BorrowedFd<'_>, &str), other: (BorrowedFd<'_>, &str)) -> io::Result<()>;
    /// As `rename`, if nothing has the new name.
    fn rename_new(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()>;
    fn unlink(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()>;
    fn make_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()>;
    fn remove_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()>;
    /// What stands in a folder. What is made or removed meanwhile may be in it or not.
    fn list(&self, folder: BorrowedFd<'_>) -> io::Result<Listing>;
}

/// The extended attribute that holds a file's tag.
const ATTRIBUTE: &str = "user.cloudstore";
/// A tag has two names of at most 1024 bytes and some numbers.
const LONGEST_TAG: usize = 4096;

/// What is kept behind the end of a file, in bytes: an index doubles, but one that is large does so rarely, and has free pages.
const LEAST_RESERVED: u64 = 1024 * 1024;
const MOST_RESERVED: u64 = 64 * 1024 * 1024;

/// The real disk.
#[derive(Debug)]
pub(crate) struct RealDisk;

fn allocate(file: &File, how: FallocateFlags, at: u64, len: u64) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, how, at, len))
}

/// Whether the kernel resolves paths beneath a folder by itself.
static HAS_OPENAT2: AtomicBool = AtomicBool::new(true);

pub(crate) type OpenPath = fn(BorrowedFd<'_>, &str, OFlags) -> rustix::io::Result<OwnedFd>;

/// Opens a folder or a file with a call that follows no link.
pub(crate) fn open_by(
    open: OpenPath,
    folder: BorrowedFd<'_>,
    path: &str,
    what: Opening,
) -> rustix::io::Result<OwnedFd> {
    let flags = match what {
        Opening::Folder => OFlags::DIRECTORY,
        // A planted FIFO must not make the opener wait.
        Opening::File => OFlags::NONBLOCK | OFlags::NOFOLLOW,
    };
    let fd = open(folder, path, flags | OFlags::RDONLY | OFlags::CLOEXEC)?;
    let is_file = || Ok(FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::RegularFile);
    if what == Opening::File && !is_file()? {
        return Err(Errno::ISDIR);
    }
    Ok(fd)
}

fn open_beneath(folder: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
            // A rename elsewhere raced with the look-up.
            Err(Errno::AGAIN) if tries < 100 => tries += 1,
            Err(Errno::INTR) => (),
            other => return other,
        }
    }
}

/// The same, segment by segment; names hold no `..`, so it stays beneath.
pub(crate) fn open_by_segments(
    folder: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW;
    let open = |at: BorrowedFd<'_>, leaf: &str, flags| loop {
        match rustix::fs::openat(at, leaf, flags, Mode::empty()) {
            Err(Errno::INTR) => (),
            other => return other,
        }
    };
    let Some((above, leaf)) = path.rsplit_once('/') else {
        return open(folder, if path.is_empty() { "." } else { path }, flags);
    };
    let mut at: Option<OwnedFd> = None;
    for segment in above.split('/') {
        let folder = at.as_ref().map_or(folder, AsFd::as_fd);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = Some(open(folder, segment, flags)?);
    }
    open(at.as_ref().map_or(folder, AsFd::as_fd), leaf, flags)
}

impl Disk for RealDisk {
    fn open(&self, folder: BorrowedFd<'_>, path: &str, what: Opening) -> io::Result<OwnedFd> {
        if HAS_OPENAT2.load(Ordering::Relaxed) {
            match open_by(open_beneath, folder, path, what) {
                // An old kernel, or a sandbox that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => (),
                other => return Ok(other?),
            }
        }
        let opened = open_by(open_by_segments, folder, path, what)?;
        HAS_OPENAT2.store(false, Ordering::Relaxed);
        Ok(opened)
    }

    fn create(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(folder, leaf, flags, Mode::from_raw_mode(0o640))?))
    }

    fn read_at(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        file.read_at(into, at)
    }

    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn write_slices_at(&self, file: &File, mut at: u64, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Empty ones in front would look like a full disk.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match rustix::io::pwritev(file, slices, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut slices, n);
                }
                Err(Errno::INTR) => (),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        let have = file.metadata()?.len();
        if len <= have {
            return file.set_len(len);
        }
        match allocate(file, FallocateFlags::empty(), have, len - have) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(len),
            done => Ok(done?),
        }
    }

    fn reserve(&self, file: &File, len: u64) {
        let _ = allocate(file, FallocateFlags::KEEP_SIZE, len, len.clamp(LEAST_RESERVED, MOST_RESERVED));
    }

    fn copy(&self, from: &File, to: &File, at: u64, len: usize) -> io::Result<usize> {
        let (mut from_at, mut to_at) = (at, at);
        match rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len) {
            // This file system does not know the call.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::XDEV | Errno::PERM) => {
                let mut piece = vec![0; len.min(256 * 1024)];
                let n = from.read_at(&mut piece, at)?;
                to.write_all_at(piece.get(..n).unwrap_or_default(), at)?;
                Ok(n)
            }
            other => Ok(other?),
        }
    }

    fn tag(&self, file: &File) -> io::Result<Option<Vec<u8>>> {
        let mut tag = [0; LONGEST_TAG];
        match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut tag[..]) {
            Ok(len) => Ok(Some(tag.get(..len).unwrap_or_default().to_vec())),
            Err(Errno::NODATA | Errno::RANGE) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn set_tag(&self, file: &File, tag: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(file, ATTRIBUTE, tag, XattrFlags::empty())?)
    }

    fn sync(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    fn sync_all(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::fs::syncfs(folder)?)
    }

    fn link(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        Ok(rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?)
    }

    fn rename(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        Ok(rustix::fs::renameat(from.0, from.1, to.0, to.1)?)
    }

    fn rename_new(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
            // This file system does not know the flag. Nobody else of this program makes names meanwhile.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST.into()),
                    Err(Errno::NOENT) => self.rename(from, to),
                    Err(errno) => Err(errno.into()),
                }
            }
            other => Ok(other?),
        }
    }

    fn exchange(&self, one: (BorrowedFd<'_>, &str), other: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        // It would move folders too.
        let stat = rustix::fs::statat(other.0, other.1, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::OPNOTSUPP.into());
        }
        Ok(rustix::fs::renameat_with(one.0, one.1, other.0, other.1, RenameFlags::EXCHANGE)?)
    }

    fn unlink(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, leaf, AtFlags::empty())?)
    }

    fn make_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(folder, leaf, Mode::from_raw_mode(0o750))?)
    }

    fn remove_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, leaf, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, folder: BorrowedFd<'_>) -> io::Result<Listing> {
        let mut entries = rustix::fs::Dir::read_from(folder)?;
        let folder = folder.try_clone_to_owned()?;
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                let entry = match entries.next()? {
                    Ok(entry) => entry,
                    Err(errno) => return Some(Err(errno.into())),
                };
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                let mut kind = entry.file_type();
                if kind == FileType::Unknown {
                    kind = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        // Gone meanwhile.
                        Err(Errno::NOENT) => continue,
                        Err(errno) => return Some(Err(errno.into())),
                    };
                }
                return Some(Ok(Found { name: name.to_str().ok().map(str::to_owned), kind }));
            }
        })))
    }
}

/// A disk without extended attributes: tags stand in a folder of their own, under the file's inode number.
///
/// Like an attribute, such a tag belongs to the file whatever its names are. One that outlives its file, after a crash,
/// says another size or name than the file that has the number next, or is replaced with that file's own.
#[derive(Debug)]
pub(crate) struct Sidecars {
    disk: Arc<dyn Disk>,
    folder: OwnedFd,
}

impl Sidecars {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: OwnedFd) -> Sidecars {
        Sidecars { disk, folder }
    }
}

impl Disk for Sidecars {
    fn open(&self, folder: BorrowedFd<'_>, path: &str, what: Opening) -> io::Result<OwnedFd> {
        self.disk.open(folder, path, what)
    }

    fn create(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<File> {
        let file = self.disk.create(folder, leaf)?;
        // What an earlier file of this number said is not true of this one.
        match self.disk.unlink(self.folder.as_fd(), &number(&file)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let _ = self.disk.unlink(folder, leaf);
                Err(error)
            }
            _ => Ok(file),
        }
    }

    fn read_at(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(file, at, into)
    }

    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(file, at, bytes)
    }

    fn write_slices_at(&self, file: &File, at: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.disk.write_slices_at(file, at, slices)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.disk.set_len(file, len)
    }

    fn reserve(&self, file: &File, len: u64) {
        self.disk.reserve(file, len);
    }

    fn copy(&self, from: &File, to: &File, at: u64, len: usize) -> io::Result<usize> {
        self.disk.copy(from, to, at, len)
    }

    fn tag(&self, file: &File) -> io::Result<Option<Vec<u8>>> {
        let sidecar = match self.disk.open(self.folder.as_fd(), &number(file)?, Opening::File) {
            Ok(sidecar) => File::from(sidecar),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut tag = vec![0; LONGEST_TAG];
        let len = self.disk.read_at(&sidecar, 0, &mut tag)?;
        tag.truncate(len);
        Ok(Some(tag))
    }

    fn set_tag(&self, file: &File, tag: &[u8]) -> io::Result<()> {
        let leaf = number(file)?;
        let new = format!("{leaf}.new");
        let folder = self.folder.as_fd();
        match self.disk.unlink(folder, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let sidecar = self.disk.create(folder, &new)?;
        self.disk.write_at(&sidecar, 0, tag)?;
        self.disk.sync(sidecar.as_fd())?;
        self.disk.rename((folder, &new), (folder, &leaf))
    }

    fn sync(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.disk.sync(file)?;
        self.disk.sync(self.folder.as_fd())
    }

    fn sync_all(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        self.disk.sync_all(folder)
    }

    fn link(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn rename(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        let replaced = self.disk.open(to.0, to.1, Opening::File).ok().map(File::from);
        self.disk.rename(from, to)?;
        self.forget(replaced.as_ref());
        Ok(())
    }

    fn rename_new(&self, from: (BorrowedFd<'_>, &str), to: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn exchange(&self, one: (BorrowedFd<'_>, &str), other: (BorrowedFd<'_>, &str)) -> io::Result<()> {
        self.disk.exchange(one, other)
    }

    fn unlink(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        let file = self.disk.open(folder, leaf, Opening::File).ok().map(File::from);
        self.disk.unlink(folder, leaf)?;
        self.forget(file.as_ref());
        Ok(())
    }

    fn make_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        self.disk.make_folder(folder, leaf)
    }

    fn remove_folder(&self, folder: BorrowedFd<'_>, leaf: &str) -> io::Result<()> {
        self.disk.remove_folder(folder, leaf)
    }

    fn list(&self, folder: BorrowedFd<'_>) -> io::Result<Listing> {
        self.disk.list(folder)
    }
}

impl Sidecars {
    /// Removes the tag of a file that has no name any more. A tag that stays does no harm.
    fn forget(&self, file: Option<&File>) {
        let Some(file) = file else { return };
        if let (Ok(stat), Ok(number)) = (rustix::fs::fstat(file), number(file))
            && stat.st_nlink == 0
        {
            let _ = self.disk.unlink(self.folder.as_fd(), &number);
        }
    }
}

fn number(file: &File) -> io::Result<String> {
    Ok(rustix::fs::fstat(file)?.st_ino.to_string())
}
