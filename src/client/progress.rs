//! How transfers tell of themselves.

use std::time::Duration;

use super::error::ClientError;

/// Hears how transfers go on, from the loop.
pub trait Watch {
    /// So many more are to be done, with so many bytes: those of a folder.
    fn finds(&self, transfers: u64, bytes: u64);
    /// One begins; `size` in bytes if it is known.
    fn begins(&self, transfer: usize, name: &str, size: Option<u64>);
    /// Its size is known by now, in bytes.
    fn has_size(&self, transfer: usize, size: u64);
    /// It has come so far, in bytes; it may also go back.
    fn is_at(&self, transfer: usize, position: u64);
    /// It waits to be tried again.
    fn waits(&self, transfer: usize, why: &ClientError, wait: Duration);
    /// It is over.
    fn ends(&self, transfer: usize, ending: Ending);
}

/// How a transfer is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is done.
    Done,
    /// It has failed.
    Failed,
    /// It waits for another connection to be free, and begins again then as another transfer.
    GivenBack,
}
