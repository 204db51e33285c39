//! Files on their way in: each beside its place, under a name that says of which version it is a part.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::error::ClientError;

/// The longest tag that a name has room for.
const MAX_TAG: usize = 40;
/// The longest stem that stands in a name as it is.
const MAX_STEM: usize = 180;
const END: &[u8] = b".part";

/// The parts that earlier runs have left, by folder; each folder is read once.
#[derive(Debug, Default)]
pub(super) struct LeftOver {
    folders: RefCell<HashMap<PathBuf, Vec<OsString>>>,
}

impl LeftOver {
    /// The part that there is for `target`, with its tag; the next call has it no more.
    pub(super) fn take(&self, target: &Path) -> Option<(PathBuf, String)> {
        let folder = folder_of(target);
        let mut folders = self.folders.borrow_mut();
        let names = folders.entry(folder.to_owned()).or_insert_with(|| parts_in(folder));
        let stem = stem_of(target);
        let found = names.iter().position(|name| tag_in(name, &stem).is_some())?;
        let name = names.swap_remove(found);
        let tag = tag_in(&name, &stem)?;
        Some((folder.join(name), tag))
    }
}

/// The folder that a path is in.
pub(super) fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn parts_in(folder: &Path) -> Vec<OsString> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter(|name| name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(END)).collect()
}

/// What a part's name has of its target's.
fn stem_of(target: &Path) -> Vec<u8> {
    let name = target.file_name().unwrap_or_default().as_bytes();
    if name.len() <= MAX_STEM {
        return name.to_vec();
    }
    // It need not be read by people, but be the same each time.
    let mut stem: Vec<u8> = String::from_utf8_lossy(&name[..MAX_STEM - 20]).into_owned().into_bytes();
    stem.truncate(MAX_STEM);
    stem.extend_from_slice(format!("~{:08x}", crc32c::crc32c(name)).as_bytes());
    stem
}

fn tag_in(name: &OsStr, stem: &[u8]) -> Option<String> {
    let tag =
        name.as_bytes().strip_prefix(b".")?.strip_prefix(stem)?.strip_prefix(b".")?.strip_suffix(END)?;
    let tag = std::str::from_utf8(tag).ok()?;
    is_tag(tag).then(|| tag.to_owned())
}

/// A tag has no dot, so that a part's name is that of one target only.
fn is_tag(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= MAX_TAG && text.bytes().all(is_plain)
}

/// What stands in a strong entity tag, if a name can have it.
pub(super) fn tag_of(etag: &str) -> Option<&str> {
    etag.strip_prefix('"')?.strip_suffix('"').filter(|tag| is_tag(tag))
}

/// The file that a version of `target` is written to; without a tag it is begun anew each time.
pub(super) fn path_of(target: &Path, tag: Option<&str>) -> PathBuf {
    let mut name = b".".to_vec();
    name.extend(stem_of(target));
    if let Some(tag) = tag {
        name.push(b'.');
        name.extend_from_slice(tag.as_bytes());
    }
    name.extend_from_slice(END);
    folder_of(target).join(OsString::from_vec(name))
}

/// Opens a part, and keeps other programs of this kind from it.
pub(super) fn open(path: &Path, is_new: bool) -> Result<File, ClientError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(is_new);
    // Whoever can write to the folder is not to choose what is overwritten.
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = options.open(path).map_err(|source| ClientError::local("open", path, source))?;
    match file.try_lock() {
        Ok(()) => (),
        Err(TryLockError::WouldBlock) => {
            return Err(ClientError::file(
                path,
                "is being written by another cloudstore get: wait for its end",
            ));
        }
        // Some disks have no locks.
        Err(TryLockError::Error(_)) => (),
    }
    let meta = file.metadata().map_err(|source| ClientError::local("look at", path, source))?;
    // Nor what is in another place too, or who can change it when it is whole.
    let is_strange = !meta.is_file() || meta.nlink() > 1 || is_planted(path, &meta);
    if is_strange {
        return Err(ClientError::file(path, "was not made by cloudstore get: remove it, and get again"));
    }
    // The one that held it may just have put it in its place.
    let is_there = |now: fs::Metadata| {
        file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (now.dev(), now.ino()))
    };
    if !fs::symlink_metadata(path).is_ok_and(is_there) {
        return Err(ClientError::file(path, "was just finished by another cloudstore get: look at it first"));
    }
    if is_new {
        file.set_len(0).map_err(|source| ClientError::local("empty", path, source))?;
    }
    Ok(file)
}

/// Whether it belongs to somebody else, in a folder that everybody can write to.
fn is_planted(path: &Path, meta: &fs::Metadata) -> bool {
    let is_open = fs::metadata(folder_of(path)).is_ok_and(|folder| folder.mode() & 0o002 != 0);
    is_open && meta.uid() != rustix::process::geteuid().as_raw()
}

/// Puts a whole part in its place.
pub(super) fn place(
    part: &Path,
    file: &File,
    target: &Path,
    modified: Option<SystemTime>,
    replaces: bool,
) -> Result<(), ClientError> {
    if let Some(modified) = modified {
        // A disk that keeps no times keeps the content all the same.
        let _ = file.set_modified(modified);
    }
    let placed = match replaces {
        true => fs::rename(part, target),
        false => rename_to_free(part, target),
    };
    placed.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => exists(target),
        _ => ClientError::local("put in its place", target, source),
    })
}

pub(super) fn exists(target: &Path) -> ClientError {
    ClientError::file(target, "is there and is another: give --force to replace it, or -o another place")
}

fn rename_to_free(part: &Path, target: &Path) -> io::Result<()> {
    match renameat_with(CWD, part, CWD, target, RenameFlags::NOREPLACE) {
        // Not every disk can.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(part, target)?;
            fs::remove_file(part)
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_part_is_found_by_its_target_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let long = "模".repeat(83);
        for (target, tag) in [("a", "1f"), ("a.b", "2f"), (&long, "3f")] {
            drop(open(&path_of(&at(target), Some(tag)), true).unwrap());
        }
        drop(open(&path_of(&at("c"), None), true).unwrap());
        let left = LeftOver::default();
        for (target, tag) in
            [("a", Some("1f")), ("a", None), ("a.b", Some("2f")), (&long, Some("3f")), ("c", None)]
        {
            let found = left.take(&at(target));
            assert_eq!(found.as_ref().map(|(_, tag)| tag.as_str()), tag, "{target}");
            assert!(found.is_none_or(|(path, _)| path.exists()));
        }
        assert_eq!(left.take(&at("none/a")), None);
    }

    #[test]
    fn a_part_that_somebody_has_put_there_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (part, other) = (folder.path().join(".a.1f.part"), folder.path().join("other"));
        fs::write(&other, "other").unwrap();
        for is_new in [false, true] {
            for plant in [fs::hard_link::<&Path, &Path>, std::os::unix::fs::symlink::<&Path, &Path>] {
                plant(&other, &part).unwrap();
                assert!(open(&part, is_new).is_err());
                fs::remove_file(&part).unwrap();
            }
            rustix::fs::mknodat(CWD, &part, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
            assert!(open(&part, is_new).unwrap_err().to_string().contains("remove it"));
            fs::remove_file(&part).unwrap();
        }
        assert_eq!(fs::read(&other).unwrap(), b"other");
        // Only root can give files to others.
        if std::os::unix::fs::chown(&other, Some(65_534), None).is_ok() {
            fs::rename(&other, &part).unwrap();
            drop(open(&part, false).unwrap());
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
            assert!(open(&part, false).unwrap_err().to_string().contains("remove it"));
        }
    }

    #[test]
    fn only_plain_strong_tags_stand_in_names() {
        for (etag, tag) in [
            ("\"1-fA_\"", Some("1-fA_")),
            ("W/\"1\"", None),
            ("\"\"", None),
            ("\"a.b\"", None),
            ("\"a/b\"", None),
            ("\"../x\"", None),
            ("1", None),
        ] {
            assert_eq!(tag_of(etag), tag, "{etag}");
        }
        assert_eq!(tag_of(&format!("\"{}\"", "a".repeat(41))), None);
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_when_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let (part, target) = (folder.path().join(".a.part"), folder.path().join("a"));
        let file = open(&part, true).unwrap();
        assert!(open(&part, false).unwrap_err().to_string().contains("another cloudstore get"));
        fs::write(&target, "mine").unwrap();
        let error = place(&part, &file, &target, None, false).unwrap_err();
        assert!(error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        place(&part, &file, &target, Some(time), true).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(!part.exists());
    }
}
