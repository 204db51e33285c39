//! Every file in the folders of a class, one by one, and what each of them is.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::FileType;

use super::disk::{Listing, Opening};
use super::error::StoreError;
use super::meta::{Class, Meta, Tag};
use super::name::Name;
use super::tier::{Tiers, is_absent, read_range, read_seek};

/// A walk through the folders of a class. Folders and files that go meanwhile are passed over.
///
/// It keeps one folder open, and the paths of those that wait.
pub(crate) struct Walk {
    class: Class,
    folders: Vec<String>,
    open: Option<Open>,
}

struct Open {
    folder: OwnedFd,
    /// With the slash behind it.
    prefix: String,
    listing: Listing,
}

/// What a walk meets.
pub(crate) enum Met {
    File(File),
    /// It cannot be an object, and why.
    Foreign(&'static str),
}

impl Walk {
    pub(crate) fn new(class: Class) -> Walk {
        Walk { class, folders: vec![String::new()], open: None }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// The next file, by its path beneath the folder of the class; None at the end.
    pub(crate) fn next(&mut self, tiers: &Tiers) -> Result<Option<(String, Met)>, StoreError> {
        loop {
            let Some(open) = &mut self.open else {
                match self.folders.pop() {
                    Some(folder) => self.open = open(tiers, self.class, folder)?,
                    None => return Ok(None),
                }
                continue;
            };
            let cannot = |error| StoreError::disk("look through the folder", &open.prefix)(error);
            let Some(found) = open.listing.next().transpose().map_err(cannot)? else {
                self.open = None;
                continue;
            };
            let Some(leaf) = found.name else {
                return Ok(Some((open.prefix.clone(), Met::Foreign("it holds a name that is not UTF-8"))));
            };
            let path = format!("{}{leaf}", open.prefix);
            match found.kind {
                FileType::Directory if Name::parse(&path).is_ok() => self.folders.push(path),
                FileType::Directory => {
                    return Ok(Some((path, Met::Foreign("the folder's name is not allowed"))));
                }
                FileType::RegularFile => match tiers.disk.open(open.folder.as_fd(), &leaf, Opening::File) {
                    Ok(file) => return Ok(Some((path, Met::File(file.into())))),
                    Err(error) if is_absent(&error) => (),
                    Err(error) => return Err(StoreError::disk("open", path)(error)),
                },
                _ => return Ok(Some((path, Met::Foreign("it is no plain file")))),
            }
        }
    }
}

fn open(tiers: &Tiers, class: Class, path: String) -> Result<Option<Open>, StoreError> {
    let opened = tiers.disk.open(tiers.folder(class), &path, Opening::Folder);
    match opened.and_then(|folder| Ok((tiers.disk.list(folder.as_fd())?, folder))) {
        Ok((listing, folder)) => {
            let prefix = if path.is_empty() { path } else { format!("{path}/") };
            Ok(Some(Open { folder, prefix, listing }))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(StoreError::disk("look through the folder", path)(error)),
    }
}

/// What a plain file is.
pub(crate) enum Kind {
    /// An object.
    Object(Name, Meta),
    /// An object that somebody renamed: this is to be its tag.
    Renamed(Tag),
    /// It says nothing of itself, and can be made an object.
    Untagged(Name),
    /// An object that has lost its end.
    CutShort(Name),
    Foreign(&'static str),
}

pub(crate) const CUT_SHORT: &str = "it is not as long as it was written: restore it from a copy";
pub(crate) const UNKNOWN: &str = "it is in no format that this program packs";

/// Says what a file is, by its path beneath the folder of its class.
pub(crate) fn recognise(tiers: &Tiers, class: Class, path: &str, file: &File) -> Result<Kind, StoreError> {
    let name = match class {
        Class::Low => path,
        Class::Deep => match path.strip_suffix(".gz") {
            Some(name) => name,
            None => return Ok(Kind::Foreign(UNKNOWN)),
        },
    };
    let Ok(name) = Name::parse(name) else { return Ok(Kind::Foreign("its name is not allowed")) };
    let cannot = |error| StoreError::disk("read", path)(error);
    let stat = file.metadata().map_err(cannot)?;
    if let Some(tag) = tiers.tag(file, path)?.filter(|tag| tag.meta.class == class) {
        let meta = tag.meta;
        if meta.stored == stat.len() {
            return Ok(match tag.name == name {
                true => Kind::Object(name, meta),
                // A move that had not moved it yet, or somebody's rename.
                false => Kind::Renamed(tag.clone().undone(&name).unwrap_or(Tag { name, from: None, ..tag })),
            });
        }
        // Versions follow the clock: nobody wrote it since, so its end was lost, with the power perhaps.
        if changed_at(&stat).unsigned_abs() <= meta.version.0 {
            return Ok(Kind::CutShort(name));
        }
    }
    match class {
        Class::Low => Ok(Kind::Untagged(name)),
        Class::Deep if read_seek(tiers, file, stat.len()).map_err(cannot)?.is_some() => {
            Ok(Kind::Untagged(name))
        }
        Class::Deep => Ok(Kind::Foreign(UNKNOWN)),
    }
}

/// Bytes and CRC-32C of the content of a file that says nothing of itself; None if it is none of ours. Reads all of it.
pub(crate) fn content(tiers: &Tiers, class: Class, file: &File) -> std::io::Result<Option<(u64, u32)>> {
    if class == Class::Deep {
        let seek = read_seek(tiers, file, file.metadata()?.len())?;
        return Ok(seek.map(|seek| (seek.input(), seek.crc32c())));
    }
    let (mut at, mut sum) = (0, 0);
    loop {
        let piece = read_range(tiers, file, at, at + PIECE)?;
        if piece.is_empty() {
            return Ok(Some((at, sum)));
        }
        sum = crc32c::crc32c_append(sum, &piece);
        at += piece.len() as u64;
    }
}

/// Bytes that are read at a time.
const PIECE: u64 = 256 * 1024;

/// When a file was last written: microseconds since 1970.
pub(crate) fn changed_at(stat: &std::fs::Metadata) -> i64 {
    stat.mtime().saturating_mul(1_000_000).saturating_add(stat.mtime_nsec() / 1000)
}
