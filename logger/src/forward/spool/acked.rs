//! Up to where the collector has acknowledged a stream.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::checked;
use crate::forward::mark::parse_number;

/// The file `acked` of a stream. It is rewritten in place and never synced: without it, records are sent again.
#[derive(Debug)]
pub(crate) struct Acked {
    path: PathBuf,
    file: Option<File>,
}

impl Acked {
    pub(crate) fn new(folder: &Path) -> Acked {
        Acked { path: folder.join("acked"), file: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The highest acknowledged sequence, 0 for none; None if the file is damaged.
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(0)),
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            return Ok(Some(0));
        }
        let sequence =
            checked::unseal(&bytes).and_then(|text| text.strip_prefix("acked ")?.strip_suffix('\n'));
        Ok(sequence.and_then(|digits| parse_number(digits.trim_start_matches('0'))))
    }

    pub(crate) fn write(&mut self, sequence: u64) -> io::Result<()> {
        let text = checked::seal(&format!("acked {sequence:020}\n"));
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
                if file.metadata()?.len() > text.len() as u64 {
                    file.set_len(0)?;
                }
                file
            }
        };
        file.write_all_at(text.as_bytes(), 0)?;
        self.file = Some(file);
        Ok(())
    }

    /// Removes the file.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut acked = Acked::new(folder.path());
        assert_eq!(acked.read().unwrap(), Some(0));
        for sequence in [1, 9, 10, 5, u64::MAX] {
            acked.write(sequence).unwrap();
            assert_eq!(acked.read().unwrap(), Some(sequence));
            assert_eq!(Acked::new(folder.path()).read().unwrap(), Some(sequence));
        }
        acked.remove().unwrap();
        acked.remove().unwrap();
        assert_eq!(acked.read().unwrap(), Some(0));
    }

    #[test]
    fn damage_is_seen_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acked");
        for text in ["x".to_owned(), "y".repeat(500), checked::seal("acked x\n"), checked::seal("sender 1\n")]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(Acked::new(folder.path()).read().unwrap(), None);
            Acked::new(folder.path()).write(17).unwrap();
            assert_eq!(Acked::new(folder.path()).read().unwrap(), Some(17));
        }
        fs::write(&path, "").unwrap();
        assert_eq!(Acked::new(folder.path()).read().unwrap(), Some(0));
    }
}
