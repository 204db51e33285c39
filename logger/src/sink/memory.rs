//! Lines in memory, for tests.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Lines, Sink};

/// Keeps lines in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Memory {
    /// No lines.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// All lines so far. What is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    /// Takes all lines so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Memory {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.lock().extend_from_slice(lines.bytes());
        Ok(())
    }

    fn retry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
