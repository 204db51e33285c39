//! The users that all loops of a server share, as the file has them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logger::{error, info, warn};

use crate::users::file::{Contents, Identity};
use crate::users::{Users, UsersError, UsersFile};

/// Keeps the users, and takes over what is changed in their file. Once there are users there always are: neither a file that
/// is gone nor one that is damaged opens a server.
#[derive(Debug)]
pub(crate) struct Keeper {
    file: UsersFile,
    known: Mutex<Known>,
    /// Counts the states of the file that were looked at.
    generation: AtomicU64,
    /// One at a time reads the file.
    reading: Mutex<()>,
}

/// A state of the file, and what is made of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// None where there are no users: everybody may do everything.
    pub(crate) users: Option<Arc<Users>>,
    pub(crate) identity: Identity,
    pub(crate) generation: u64,
}

impl Keeper {
    /// Reads the file.
    pub(crate) fn open(path: PathBuf) -> Result<Keeper, UsersError> {
        let file = UsersFile::new(path);
        let known = match file.read()? {
            Some(contents) => {
                let (identity, users) = (contents.identity, take(contents));
                let path = file.path().display();
                info!(target: "users", users = users.len(); "users come from {}", path);
                Known { users: Some(Arc::new(users)), identity, generation: 0 }
            }
            None => Known { users: None, identity: Identity::Absent, generation: 0 },
        };
        Ok(Keeper {
            file,
            known: Mutex::new(known),
            generation: AtomicU64::new(0),
            reading: Mutex::default(),
        })
    }

    /// Grows when there is something new to be known.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// The state of the file now.
    pub(crate) fn identity(&self) -> Identity {
        self.file.identity()
    }

    /// Reads the file if it is not as it was; it waits for the disk.
    pub(crate) fn reload(&self) {
        let reading = lock(&self.reading);
        let before = self.known();
        let found = self.file.identity();
        if found == before.identity {
            return;
        }
        let path = self.file.path().display();
        let (users, identity) = match self.file.read() {
            Ok(Some(contents)) => {
                let (identity, users) = (contents.identity, take(contents));
                info!(target: "users", users = users.len(); "changed users come from {}", path);
                (Some(Arc::new(users)), identity)
            }
            Ok(None) => {
                if before.users.is_some() {
                    error!(target: "users", "the users file {} is gone; those that it had last stay", path);
                }
                (before.users, Identity::Absent)
            }
            Err(error) => {
                error!(target: "users", "the users stay as they are: {error}");
                // There are some, and nobody knows who.
                (before.users.or_else(|| Some(Arc::default())), found)
            }
        };
        let generation = before.generation + 1;
        *lock(&self.known) = Known { users, identity, generation };
        self.generation.store(generation, Ordering::Release);
        drop(reading);
    }
}

fn take(contents: Contents) -> Users {
    if let Some(warning) = &contents.warning {
        warn!(target: "users", "{}", warning);
    }
    Users::new(contents.users)
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
