//! Who the sender is, and which sequences are taken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::checked;
use crate::forward::mark::{parse_number, parse_sender};

/// Sequences that are reserved at once. A stream begins a block at every start, so a sequence is never used twice, not even
/// if the machine died with records that the collector had and the disk had not.
pub(crate) const BLOCK: u64 = 1 << 24;

/// No stream gets this far: at a start a second, it takes 17 000 years.
const END: u64 = 1 << 63;

const FORMAT: &str = "1";

/// The file `sender` of a spool.
#[derive(Debug)]
pub(crate) struct Sender {
    path: PathBuf,
    pub(crate) id: u64,
    /// Sequences from here on were never used.
    pub(crate) reserved: u64,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    Sender(Sender),
    /// A new one, since there was none.
    New(Sender),
    /// A new one, since what was there cannot be read.
    Damaged(Sender),
    /// One that another version wrote.
    Foreign(String),
}

impl Sender {
    /// Reads the file. A new sender is not written before it reserves.
    pub(crate) fn find(folder: &Path) -> io::Result<Found> {
        let path = folder.join("sender");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::New(Sender::new(path)?)),
            Err(error) => return Err(error),
        };
        let Some(text) = checked::unseal(&text) else { return Ok(Found::Damaged(Sender::new(path)?)) };
        let mut format = "";
        let mut id = None;
        let mut reserved = None;
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("format", value)) => format = value,
                Some(("sender", value)) => id = parse_sender(value),
                Some(("reserved", value)) => reserved = parse_number(value),
                _ => (),
            }
        }
        if format != FORMAT {
            return Ok(Found::Foreign(format.to_owned()));
        }
        Ok(match (id, reserved) {
            (Some(id), Some(reserved)) => Found::Sender(Sender { path, id, reserved }),
            _ => Found::Damaged(Sender::new(path)?),
        })
    }

    fn new(path: PathBuf) -> io::Result<Sender> {
        let mut id = [0; 8];
        let mut rest = &mut id[..];
        while !rest.is_empty() {
            let n = rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty())?;
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        Ok(Sender { path, id: u64::from_ne_bytes(id), reserved: 1 })
    }

    /// Sees to it that sequences below `end` are reserved, on the disk.
    pub(crate) fn reserve(&mut self, end: u64) -> io::Result<()> {
        if end <= self.reserved {
            return Ok(());
        }
        if end > END {
            return Err(io::Error::other("all sequences are used up: begin a new spool folder"));
        }
        let id = self.id;
        let text = checked::seal(&format!("format {FORMAT}\nsender {id:016x}\nreserved {end}\n"));
        let new = self.path.with_extension("new");
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            sync_folder(folder)?;
        }
        self.reserved = end;
        Ok(())
    }
}

/// Whether this may be a sequence.
pub(crate) fn is_plausible(sequence: u64) -> bool {
    (1..END).contains(&sequence)
}

/// The first sequence of the block behind the one of `sequence`.
pub(crate) fn block_behind(sequence: u64) -> u64 {
    match sequence.checked_sub(1) {
        None => 1,
        Some(index) => (index / BLOCK + 1).saturating_mul(BLOCK).saturating_add(1),
    }
}

/// Whether a block begins here, and so, perhaps, the segments of another start.
pub(crate) fn begins_block(sequence: u64) -> bool {
    sequence % BLOCK == 1
}

/// Puts names that were made or changed in a folder on the disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(folder: &Path) -> Sender {
        match Sender::find(folder).unwrap() {
            Found::Sender(sender) => sender,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let Found::New(mut sender) = Sender::find(folder.path()).unwrap() else { panic!() };
        sender.reserve(BLOCK + 1).unwrap();
        let text = fs::read_to_string(folder.path().join("sender")).unwrap();
        let id = sender.id;
        assert!(
            text.starts_with(&format!("format 1\nsender {id:016x}\nreserved 16777217\ncrc32 ")),
            "{text}"
        );

        let mut again = found(folder.path());
        assert_eq!((again.id, again.reserved), (id, BLOCK + 1));
        again.reserve(5).unwrap();
        assert_eq!(found(folder.path()).reserved, BLOCK + 1);
        again.reserve(2 * BLOCK + 1).unwrap();
        assert_eq!(found(folder.path()).reserved, 2 * BLOCK + 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn senders_differ() {
        let folder = tempfile::tempdir().unwrap();
        let ids = [0; 2].map(|_| match Sender::find(folder.path()).unwrap() {
            Found::New(sender) => sender.id,
            other => panic!("{other:?}"),
        });
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn damage_and_other_formats_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sender");
        for text in
            ["", "\0\0\0", "format 1\nsender 00c0ffee00c0ffee\nreserved 1\n", &checked::seal("format 1\n")]
        {
            fs::write(&path, text).unwrap();
            assert!(matches!(Sender::find(folder.path()).unwrap(), Found::Damaged(_)), "{text:?}");
        }
        fs::write(&path, checked::seal("format 2\nsomething else\n")).unwrap();
        assert!(matches!(Sender::find(folder.path()).unwrap(), Found::Foreign(format) if format == "2"));
    }

    #[test]
    fn blocks() {
        let starts = [(0, 1), (1, BLOCK + 1), (BLOCK, BLOCK + 1), (BLOCK + 1, 2 * BLOCK + 1)];
        for (sequence, start) in starts {
            assert_eq!(block_behind(sequence), start);
            assert!(begins_block(start));
        }
        assert!(!begins_block(0) && !begins_block(2) && !begins_block(BLOCK));
        assert!(block_behind(u64::MAX) > END);
    }

    #[test]
    fn sequences_do_not_wrap() {
        let folder = tempfile::tempdir().unwrap();
        let Found::New(mut sender) = Sender::find(folder.path()).unwrap() else { panic!() };
        assert!(sender.reserve(END + 1).is_err());
        assert!(!is_plausible(0) && is_plausible(1) && !is_plausible(END));
    }
}
