//! A file on its way into the store: complete and named, or gone.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::engine::Engine;
use super::error::StoreError;
use super::meta::Tag;

/// A file in the stage. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    engine: Arc<Engine>,
    id: u64,
    file: Arc<File>,
    tag: Option<Tag>,
    is_synced: bool,
    is_left: bool,
    /// Somebody else has its number now.
    is_kept: bool,
}

impl Staged {
    pub(crate) fn create(engine: &Arc<Engine>) -> Result<Staged, StoreError> {
        let id = engine.claim();
        let leaf = leaf_of(id);
        match engine.tiers.disk.create(engine.tiers.stage.as_fd(), &leaf) {
            Ok(file) => Ok(Staged {
                engine: Arc::clone(engine),
                id,
                file: Arc::new(file),
                tag: None,
                is_synced: !engine.is_synced(),
                is_left: false,
                is_kept: false,
            }),
            Err(error) => {
                engine.release(id);
                let error = StoreError::disk("make in the stage the file", leaf)(error);
                // Perhaps it was made nevertheless; but a descriptor comes before the file.
                if !error.lacks_descriptors() {
                    engine.queue.mark_broken();
                }
                Err(error)
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn leaf(&self) -> String {
        leaf_of(self.id)
    }

    /// The second link, which is renamed over an object.
    pub(crate) fn second_leaf(&self) -> String {
        format!("{}.x", self.id)
    }

    pub(crate) fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.engine
            .tiers
            .disk
            .write_at(&self.file, at, bytes)
            .map_err(StoreError::disk("write in the stage to", self.leaf()))
    }

    pub(crate) fn write_slices_at(&self, at: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StoreError> {
        self.engine
            .tiers
            .disk
            .write_slices_at(&self.file, at, slices)
            .map_err(StoreError::disk("write in the stage to", self.leaf()))
    }

    /// Writes what the file says of itself: from now on it could be finished after a crash.
    pub(crate) fn seal(&mut self, tag: Tag) -> Result<(), StoreError> {
        let sealed = self.engine.tiers.disk.set_tag(&self.file, &tag.encode());
        sealed.map_err(StoreError::disk("write the metadata of", &tag.name))?;
        self.tag = Some(tag);
        Ok(())
    }

    pub(crate) fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Whether nothing of it waits to be flushed, or need not be.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    pub(crate) fn set_synced(&mut self) {
        self.is_synced = true;
    }

    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        if !self.is_synced {
            let synced = self.engine.tiers.disk.sync(self.file.as_fd());
            synced.map_err(StoreError::disk("put on the disk in the stage", self.leaf()))?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Closes the file and leaves its link, which is still worked on, to the caller.
    pub(crate) fn into_id(mut self) -> u64 {
        self.is_left = true;
        self.is_kept = true;
        self.id
    }

    /// Leaves its links for recovery to look at.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_left
            && let Err(error) = self.engine.tiers.disk.unlink(self.engine.tiers.stage.as_fd(), &self.leaf())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.engine.queue.mark_broken();
        }
        if !self.is_kept {
            self.engine.release(self.id);
        }
    }
}

pub(crate) fn leaf_of(id: u64) -> String {
    id.to_string()
}

/// Whose link this is; None for what is none of ours.
pub(crate) fn id_of(leaf: &str) -> Option<u64> {
    let id = leaf.strip_suffix(".x").unwrap_or(leaf);
    id.bytes().all(|byte| byte.is_ascii_digit()).then(|| id.parse().ok()).flatten()
}
