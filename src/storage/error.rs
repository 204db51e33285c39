//! What can go wrong in this room.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::manifest::ManifestError;
use super::meta::Version;
use super::name::{Folder, Name, NameError};
use super::pack::PackError;
use crate::jobs::Lost;

/// Why a call was refused or failed. A refused or failed write has left the object as it was, unless it says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such object.
    #[error("there is no object {name}")]
    NotFound {
        /// Its name.
        name: Name,
    },
    /// The object is not in the state that the caller asked for.
    #[error("{name} is not as the precondition says: read it again, then decide")]
    Precondition {
        /// Its name.
        name: Name,
        /// The version that is there, if one is.
        found: Option<Version>,
    },
    /// The name is a folder of other objects.
    #[error("{name} is a folder: take another name, or remove what is below it")]
    IsFolder {
        /// The name.
        name: Name,
    },
    /// A folder of the name is an object.
    #[error("{object} is an object, so nothing can lie below it: take another name than {name}")]
    BelowObject {
        /// The name that was asked for.
        name: Name,
        /// The object that is in the way.
        object: Name,
    },
    /// The packed file of an object, which ends in `.gz`, would be where a folder of another object is.
    #[error(
        "the packed file of {object} and the folder {folder} have one place: take another name, or the class low"
    )]
    PackedClash {
        /// The object that is or would be deep.
        object: Name,
        /// The folder, of another name in the class deep.
        folder: Folder,
    },
    /// A folder was to go below itself, or an object of it to a place in it.
    #[error("the folder {from} cannot go to {to}, since one is in the other: take a folder beside it")]
    IntoItself {
        /// The folder.
        from: Folder,
        /// Where it was to go.
        to: Folder,
    },
    /// An object would have a name that is not allowed, in the folder that it was to go to.
    #[error("an object of the folder cannot be {name:?}: {source}")]
    NameInvalid {
        /// What it would be called.
        name: String,
        /// The rule that this breaks.
        source: NameError,
    },
    /// A file that is no object of this store is in the way. It is not touched.
    #[error(
        "a file that the index does not know is in the way of {name}: move it, or rebuild the index to take it in"
    )]
    Occupied {
        /// The name that was asked for.
        name: Name,
    },
    /// What arrived is not what was announced.
    #[error("{name} did not arrive as announced: {what} is {found}, not {expected}; send it again")]
    Mismatch {
        /// The name.
        name: Name,
        /// Which property differs.
        what: &'static str,
        /// What it is.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// The file of an object is not what it was written as.
    #[error("the file of {name} is damaged: {why}")]
    Damaged {
        /// The object.
        name: Name,
        /// What is wrong.
        why: &'static str,
    },
    /// A packed file cannot be unpacked.
    #[error("{name} cannot be unpacked: {source}")]
    Packed {
        /// The object.
        name: Name,
        /// What is wrong.
        source: PackError,
    },
    /// A range reaches beyond the end.
    #[error("bytes {start} to {end} of {name} are asked for, and it has {size}")]
    Range {
        /// The object.
        name: Name,
        /// The first byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
        /// How many it has.
        size: u64,
    },
    /// A system call failed. If it was a flush or a rename, the object is the old or the new one, whole.
    #[error("cannot {what} {path}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The index cannot be used. It is mended from the objects at the next write.
    #[error("cannot {what} the index: {source}")]
    Index {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: Arc<redb::Error>,
    },
    /// Another server has this data folder.
    #[error("the data folder {path:?} is in use: stop the other server, or take another folder")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The index was written by a later program.
    #[error(
        "the index {path:?} is of format {format}, not {known}: use the program that wrote it, or move the index away"
    )]
    Format {
        /// The index.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The latest that is understood.
        known: u64,
    },
    /// The index is compared with the objects already.
    #[error("the index is being checked or rebuilt already: wait until that has ended")]
    Busy,
    /// A list of objects cannot be read. What stands before the entry was taken.
    #[error(transparent)]
    Manifest {
        /// Which entry, and why.
        source: ManifestError,
    },
    /// The work ended without a result.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The event loop refused.
    #[error("cannot use the event loop: {source}")]
    Loop {
        /// Why.
        source: Arc<reactor::Error>,
    },
}

impl StoreError {
    pub(crate) fn disk(what: &'static str, path: impl ToString) -> impl FnOnce(io::Error) -> StoreError {
        move |source| StoreError::Disk { what, path: path.to_string(), source: Arc::new(source) }
    }

    pub(crate) fn index<E: Into<redb::Error>>(what: &'static str) -> impl FnOnce(E) -> StoreError {
        move |source| StoreError::Index { what, source: Arc::new(source.into()) }
    }

    /// Whether the process, or the machine, has no descriptor left.
    pub(crate) fn lacks_descriptors(&self) -> bool {
        use rustix::io::Errno;
        let StoreError::Disk { source, .. } = self else { return false };
        let code = source.raw_os_error().map(Errno::from_raw_os_error);
        matches!(code, Some(Errno::MFILE | Errno::NFILE))
    }

    /// Whether the disk, or the quota, is full.
    pub fn is_disk_full(&self) -> bool {
        let kind = match self {
            StoreError::Disk { source, .. } => source.kind(),
            StoreError::Index { source, .. } => match &**source {
                redb::Error::Io(source) => source.kind(),
                _ => return false,
            },
            _ => return false,
        };
        matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<reactor::Error> for StoreError {
    fn from(source: reactor::Error) -> StoreError {
        StoreError::Loop { source: Arc::new(source) }
    }
}
