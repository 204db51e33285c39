//! Where objects lie: `low_storage/<name>`, `deep_storage/<name>.gz`, and `stage/` for what is on its way.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::disk::{Disk, Opening};
use super::error::StoreError;
use super::meta::{Class, Tag};
use super::name::Name;
use super::pack::{self, Seek};

/// The folders of a store, open.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: OwnedFd,
    pub(crate) low: OwnedFd,
    pub(crate) deep: OwnedFd,
    pub(crate) stage: OwnedFd,
}

/// Folders, and files, that must be made to last, each once.
#[derive(Default, Debug)]
pub(crate) struct Unsynced {
    folders: Vec<((u64, u64), OwnedFd, String)>,
    /// Nothing waits for the disk.
    is_off: bool,
}

impl Unsynced {
    /// One that remembers nothing, for a store that does not wait for its disk.
    pub(crate) fn off() -> Unsynced {
        Unsynced { folders: Vec::new(), is_off: true }
    }

    fn add(&mut self, folder: BorrowedFd<'_>, path: &str) -> io::Result<()> {
        if self.is_off {
            return Ok(());
        }
        let stat = rustix::fs::fstat(folder)?;
        let key = (stat.st_dev, stat.st_ino);
        if self.folders.iter().all(|(known, ..)| *known != key) {
            self.folders.push((key, folder.try_clone_to_owned()?, path.to_owned()));
        }
        Ok(())
    }

    /// Remembers a file whose metadata changed.
    pub(crate) fn add_file(&mut self, file: &File, path: &str) -> Result<(), StoreError> {
        self.add(file.as_fd(), path).map_err(StoreError::disk("look at", path))
    }

    /// Makes all of them last.
    pub(crate) fn sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        for (_, folder, path) in self.folders.drain(..) {
            disk.sync(folder.as_fd()).map_err(StoreError::disk("put on the disk", path))?;
        }
        Ok(())
    }
}

/// The folder of an object's file, open.
pub(crate) enum Parent<'t> {
    Top(BorrowedFd<'t>),
    Below(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Parent::Top(top) => top.as_fd(),
            Parent::Below(folder) => folder.as_fd(),
        }
    }
}

impl Tiers {
    pub(crate) fn folder(&self, class: Class) -> BorrowedFd<'_> {
        match class {
            Class::Low => self.low.as_fd(),
            Class::Deep => self.deep.as_fd(),
        }
    }

    /// Opens the file of an object; None if there is none.
    pub(crate) fn open(&self, class: Class, name: &Name) -> Result<Option<File>, StoreError> {
        match self.disk.open(self.folder(class), &path_of(class, name), Opening::File) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(StoreError::disk("open", name)(error)),
        }
    }

    /// What the file of an object says of itself; None if it says nothing that makes sense.
    pub(crate) fn tag(&self, file: &File, path: &str) -> Result<Option<Tag>, StoreError> {
        let bytes = self.disk.tag(file).map_err(StoreError::disk("read the metadata of", path))?;
        Ok(bytes.and_then(|bytes| Tag::decode(&bytes)))
    }

    /// The folder of an object's file, and the file's name in it. Folders that are missing are made.
    pub(crate) fn make_parent(
        &self,
        class: Class,
        name: &Name,
        unsynced: &mut Unsynced,
    ) -> Result<(Parent<'_>, String), StoreError> {
        let (folder, leaf) = name.split();
        let cannot = |error: io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            // A file or a link where the folder would be.
            Some(Errno::NOTDIR | Errno::LOOP) => StoreError::Occupied { name: name.clone() },
            _ => StoreError::disk("make the folder of", name)(error),
        };
        let parent = self.make_folders(class, folder, unsynced).map_err(cannot)?;
        Ok((parent, leaf_of(class, leaf)))
    }

    fn make_folders(&self, class: Class, folder: &str, unsynced: &mut Unsynced) -> io::Result<Parent<'_>> {
        let top = self.folder(class);
        if folder.is_empty() {
            unsynced.add(top, folder)?;
            return Ok(Parent::Top(top));
        }
        match self.disk.open(top, folder, Opening::Folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            opened => {
                let opened = opened?;
                unsynced.add(opened.as_fd(), folder)?;
                return Ok(Parent::Below(opened));
            }
        }
        let mut at = top.try_clone_to_owned()?;
        for segment in folder.split('/') {
            match self.disk.make_folder(at.as_fd(), segment) {
                Ok(()) => unsynced.add(at.as_fd(), folder)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
                Err(error) => return Err(error),
            }
            at = self.disk.open(at.as_fd(), segment, Opening::Folder)?;
        }
        unsynced.add(at.as_fd(), folder)?;
        Ok(Parent::Below(at))
    }

    /// The folder of an object's file, and the file's name in it; None if there is no such folder.
    pub(crate) fn parent(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Option<(Parent<'_>, String)>, StoreError> {
        let (folder, leaf) = name.split();
        if folder.is_empty() {
            return Ok(Some((Parent::Top(self.folder(class)), leaf_of(class, leaf))));
        }
        match self.disk.open(self.folder(class), folder, Opening::Folder) {
            Ok(parent) => Ok(Some((Parent::Below(parent), leaf_of(class, leaf)))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(StoreError::disk("open the folder of", name)(error)),
        }
    }

    /// Removes the file of an object, if it is there.
    pub(crate) fn unlink(
        &self,
        class: Class,
        name: &Name,
        unsynced: &mut Unsynced,
    ) -> Result<(), StoreError> {
        let Some((parent, leaf)) = self.parent(class, name)? else { return Ok(()) };
        let unlinked = match self.disk.unlink(parent.as_fd(), &leaf) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => unsynced.add(parent.as_fd(), name.split().0),
        };
        unlinked.map_err(StoreError::disk("remove", name))
    }

    /// Remembers that the folder of an object changed.
    pub(crate) fn changed(
        &self,
        parent: &Parent<'_>,
        name: &Name,
        unsynced: &mut Unsynced,
    ) -> Result<(), StoreError> {
        unsynced.add(parent.as_fd(), name.split().0).map_err(StoreError::disk("look at the folder of", name))
    }

    /// Remembers that the stage changed.
    pub(crate) fn changed_stage(&self, unsynced: &mut Unsynced) -> Result<(), StoreError> {
        unsynced.add(self.stage.as_fd(), "stage").map_err(StoreError::disk("look at the folder", "stage"))
    }

    /// Removes the folders of a name that hold nothing any more, from the deepest up.
    pub(crate) fn prune(&self, class: Class, name: &Name) -> Result<(), StoreError> {
        let mut folder = name.split().0;
        while !folder.is_empty() {
            let (above, leaf) = folder.rsplit_once('/').unwrap_or(("", folder));
            let removed = self
                .disk
                .open(self.folder(class), above, Opening::Folder)
                .and_then(|above| self.disk.remove_folder(above.as_fd(), leaf));
            match removed {
                Ok(()) => (),
                Err(error) if is_absent(&error) => (),
                // Something is in it.
                Err(error)
                    if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) =>
                {
                    break;
                }
                Err(error) => return Err(StoreError::disk("remove the empty folder", folder)(error)),
            }
            folder = above;
        }
        Ok(())
    }
}

/// The seek table of a packed file; None if it has none that makes sense.
pub(crate) fn read_seek(tiers: &Tiers, file: &File, len: u64) -> io::Result<Option<Seek>> {
    let tail = read_range(tiers, file, len.saturating_sub(pack::TAIL as u64), len)?;
    let Ok(start) = pack::table_start(&tail, len) else { return Ok(None) };
    let table = read_range(tiers, file, start, len)?;
    Ok(Seek::parse(&table, len).ok())
}

/// These bytes of a file; fewer if it ends before.
pub(crate) fn read_range(tiers: &Tiers, file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match tiers.disk.read_at(file, start + done as u64, rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Where the file of an object is, beneath the folder of its class.
pub(crate) fn path_of(class: Class, name: &Name) -> Cow<'_, str> {
    match class {
        Class::Low => Cow::Borrowed(name.as_str()),
        Class::Deep => Cow::Owned(format!("{name}.gz")),
    }
}

fn leaf_of(class: Class, leaf: &str) -> String {
    match class {
        Class::Low => leaf.to_owned(),
        Class::Deep => format!("{leaf}.gz"),
    }
}

/// Nothing of ours is there: no file, a file for a folder, a folder or a link for a file.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO)
    )
}
