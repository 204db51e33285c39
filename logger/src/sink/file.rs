//! Lines in one file.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Lines, Sink, Unwritten};
use crate::error::Error;

/// Appends lines to a file, which is made with its folders if it does not exist. `reopen` opens the path anew, for
/// programs that move log files away.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    file: fs::File,
    kept: Unwritten,
}

/// Lines are gathered up to this many bytes, unless they are flushed before.
const GATHERED: usize = 64 * 1024;

impl File {
    /// Opens a file for appending.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref().to_owned();
        let file = open(&path).map_err(|source| Error::Open { path: path.clone(), source })?;
        Ok(File { path, file, kept: Unwritten::new() })
    }

    /// Bytes that are in the file or go there.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len() + self.kept.len() as u64)
    }

    /// When the file was last written.
    pub(super) fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn open(path: &Path) -> io::Result<fs::File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

impl Sink for File {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        if self.kept.len() + lines.bytes().len() < GATHERED {
            self.kept.push(lines.bytes());
            return Ok(());
        }
        self.kept.write_through(lines.bytes(), &mut self.file)
    }

    fn retry(&mut self) -> io::Result<()> {
        self.kept.write_to(&mut self.file)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.retry()?;
        self.file.sync_data()
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn reopen(&mut self) -> io::Result<()> {
        // What the old file does not take, as on a full disk, goes into the new one.
        let _ = self.retry();
        self.file = open(&self.path)?;
        Ok(())
    }
}
