//! A packed file that grows block by block, on the threads of the pool.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::engine::lock_of;
use super::error::StoreError;
use super::pack::{MOST_PACKED, Packed, Packer};
use super::stage::Staged;

#[derive(Debug)]
pub(crate) struct Packing {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    staged: Staged,
    packer: Packer,
    next: u64,
    /// Packed before their turn.
    early: BTreeMap<u64, Packed>,
    /// Buffers of blocks that are written, to be used again.
    spare: Vec<Vec<u8>>,
}

impl Packing {
    pub(crate) fn new(staged: Staged) -> Result<Packing, StoreError> {
        staged.write_at(0, &Packer::HEAD_BYTES)?;
        let (packer, early) = (Packer::new(), BTreeMap::new());
        Ok(Packing { inner: Mutex::new(Inner { staged, packer, next: 0, early, spare: Vec::new() }) })
    }

    /// Room for a packed block.
    pub(crate) fn room(&self) -> Vec<u8> {
        let spare = lock_of(&self.inner).spare.pop();
        spare.unwrap_or_else(|| Vec::with_capacity(MOST_PACKED))
    }

    /// Frees the room that nobody uses.
    pub(crate) fn rest(&self) {
        lock_of(&self.inner).spare = Vec::new();
    }

    /// Writes a packed block, and those behind it that came before their turn. Returns how many were written so far.
    pub(crate) fn add(&self, number: u64, packed: Packed) -> Result<u64, StoreError> {
        let mut inner = lock_of(&self.inner);
        let inner = &mut *inner;
        inner.early.insert(number, packed);
        while let Some(packed) = inner.early.remove(&inner.next) {
            let at = inner.packer.push(&packed);
            inner.next += 1;
            inner.staged.write_at(at, &packed.bytes)?;
            // Not those that came from elsewhere.
            if packed.bytes.capacity() >= MOST_PACKED {
                inner.spare.push(packed.bytes);
            }
        }
        Ok(inner.next)
    }

    /// The finished file, its bytes, the bytes of its content and their CRC-32C.
    pub(crate) fn into_staged(self) -> Result<(Staged, u64, u64, u32), StoreError> {
        let Inner { staged, packer, .. } = self.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (size, crc32c) = (packer.input(), packer.crc32c());
        let (at, end) = packer.finish();
        staged.write_at(at, &end)?;
        Ok((staged, at + end.len() as u64, size, crc32c))
    }
}
