//! What a start, or a failure, finds: links in the stage are finished or undone, a lost index is made from the objects.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::Database;
use rustix::fs::FileType;

use super::disk::Opening;
use super::engine::{Engine, next};
use super::error::StoreError;
use super::index::{self, Opened, Place, Rows};
use super::meta::{Class, Meta, Row, Tag, Version};
use super::name::Name;
use super::original::{self, Listed};
use super::pack::{self, Seek};
use super::stage::id_of;
use super::tier::{Tiers, Unsynced, path_of};

/// Finishes or undoes everything in the stage that nobody works on. It may be broken off anywhere and run again.
pub(crate) fn settle_stage(engine: &Engine) -> Result<(), StoreError> {
    let (tiers, disk) = (&engine.tiers, &*engine.tiers.disk);
    let cannot = |error| StoreError::disk("look through the folder", "stage")(error);
    let mut names = BTreeSet::new();
    let mut leaves = Vec::new();
    for found in disk.list(tiers.stage.as_fd()).map_err(cannot)? {
        let Some(leaf) = found.name else { continue };
        if id_of(&leaf).is_none_or(|id| engine.is_active(id)) || found.kind != FileType::RegularFile {
            continue;
        }
        let file: File = disk.open(tiers.stage.as_fd(), &leaf, Opening::File).map_err(cannot)?.into();
        if let Some(tag) = tiers.tag(&file, &leaf)? {
            engine.high.fetch_max(tag.meta.version.0, Ordering::AcqRel);
            names.insert(tag.name);
            names.extend(tag.from.map(|(name, _)| name));
        }
        leaves.push(leaf);
    }
    if leaves.is_empty() {
        return Ok(());
    }
    if !names.is_empty() {
        engine.index.write(
            || engine.high(),
            |rows| {
                let mut unsynced = Unsynced::default();
                for name in &names {
                    reconcile(engine, rows, name, &mut unsynced)?;
                }
                if engine.is_synced() { unsynced.sync(disk) } else { Ok(()) }
            },
        )?;
        for name in &names {
            tiers.prune(Class::Low, name)?;
            tiers.prune(Class::Deep, name)?;
        }
    }
    for leaf in leaves {
        disk.unlink(tiers.stage.as_fd(), &leaf).map_err(StoreError::disk("remove in the stage", leaf))?;
    }
    Ok(())
}

/// Makes the row of a name say what is on the disk; of two classes, the later write is the object.
fn reconcile(
    engine: &Engine,
    rows: &mut Rows<'_>,
    name: &Name,
    unsynced: &mut Unsynced,
) -> Result<(), StoreError> {
    let tiers = &engine.tiers;
    let mut found: Option<Meta> = None;
    for class in [Class::Low, Class::Deep] {
        let Some(file) = tiers.open(class, name)? else { continue };
        let Some(tag) = tiers.tag(&file, name.as_str())? else { continue };
        let meta = match tag {
            Tag { name: says, meta, .. } if says == *name => meta,
            // A move that had not moved it yet.
            Tag { meta, from: Some((from, version)), .. } if from == *name => {
                let meta = Meta { version, ..meta };
                retag(tiers, &file, name, meta)?;
                if engine.is_synced() {
                    tiers.disk.sync(file.as_fd()).map_err(StoreError::disk("put on the disk", name))?;
                }
                meta
            }
            _ => continue,
        };
        if let Some((parent, _)) = tiers.parent(class, name)? {
            tiers.changed(&parent, name, unsynced)?;
        }
        match found {
            Some(other) if other.version > meta.version => tiers.unlink(class, name, unsynced)?,
            Some(other) => {
                tiers.unlink(other.class, name, unsynced)?;
                found = Some(meta);
            }
            None => found = Some(meta),
        }
    }
    match found {
        Some(meta) => {
            engine.high.fetch_max(meta.version.0, Ordering::AcqRel);
            let accessed = rows.get(name.as_str())?.map_or(0, |row| row.accessed);
            rows.insert(name, &Row { meta, accessed })
        }
        None => rows.remove(name.as_str()),
    }
}

fn retag(tiers: &Tiers, file: &File, name: &Name, meta: Meta) -> Result<(), StoreError> {
    let tag = Tag { name: name.clone(), meta, from: None };
    let set = tiers.disk.set_tag(file, &tag.encode());
    set.map_err(StoreError::disk("write the metadata of", name))
}

/// Opens the index, or makes it from the objects. What is in its place and is no index is kept aside.
pub(crate) fn open_index(tiers: &Tiers, place: &Place, high: &AtomicU64) -> Result<Database, StoreError> {
    let listed = match place.open()? {
        Opened::Index(database) => {
            high.fetch_max(index::high(&database)?, Ordering::AcqRel);
            return Ok(*database);
        }
        Opened::Missing => None,
        Opened::Damaged => {
            let listed = original::parse(&place.peek(MOST_ORIGINAL)?);
            place.put_aside(if listed.is_some() { "original" } else { "damaged" })?;
            listed
        }
    };
    let database = place.create()?;
    let mut found = Vec::new();
    for class in [Class::Low, Class::Deep] {
        walk(tiers, class, high, &mut |path, what| {
            found.push((path, what));
            if found.len() >= ROWS_AT_ONCE {
                fill(&database, high, class, &mut found)?;
            }
            Ok(())
        })?;
        fill(&database, high, class, &mut found)?;
    }
    if let Some(listed) = listed {
        index::write(&database, || high.load(Ordering::Acquire), |rows| take_over(rows, &listed))?;
    }
    place.put_in_place()?;
    Ok(database)
}

/// Bytes of an index of the original that are read at most: some million objects.
const MOST_ORIGINAL: usize = 256 * 1024 * 1024;
/// Rows that are written at once, so that their number does not matter for memory.
const ROWS_AT_ONCE: usize = 10_000;

/// What a file in the folders is.
enum Kind {
    Object(Name, Meta),
    Foreign(&'static str),
}

fn fill(
    database: &Database,
    high: &AtomicU64,
    class: Class,
    found: &mut Vec<(String, Kind)>,
) -> Result<(), StoreError> {
    let folder = folder_of(class);
    let high = || high.load(Ordering::Acquire);
    index::write(database, high, |rows| {
        for (path, kind) in found.drain(..) {
            match kind {
                Kind::Object(name, meta) => match rows.get(name.as_str())? {
                    Some(row) if row.meta.version > meta.version => {
                        rows.add_foreign(&format!("{folder}/{path}"), OLDER)?;
                    }
                    Some(row) => {
                        let path = path_of(row.meta.class, &name);
                        rows.add_foreign(&format!("{}/{path}", folder_of(row.meta.class)), OLDER)?;
                        rows.insert(&name, &Row { meta, accessed: 0 })?;
                    }
                    None => rows.insert(&name, &Row { meta, accessed: 0 })?,
                },
                Kind::Foreign(why) => rows.add_foreign(&format!("{folder}/{path}"), why)?,
            }
        }
        Ok(())
    })
}

const OLDER: &str = "the same name has a later object in the other class";

fn folder_of(class: Class) -> &'static str {
    match class {
        Class::Low => "low_storage",
        Class::Deep => "deep_storage",
    }
}

/// Looks at every file of a class.
fn walk(
    tiers: &Tiers,
    class: Class,
    high: &AtomicU64,
    each: &mut dyn FnMut(String, Kind) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let disk = &*tiers.disk;
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let cannot = |error| StoreError::disk("look through the folder", &folder)(error);
        let opened = disk.open(tiers.folder(class), &folder, Opening::Folder).map_err(cannot)?;
        for found in disk.list(opened.as_fd()).map_err(cannot)? {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let Some(leaf) = found.name else {
                each(prefix, Kind::Foreign("it holds a name that is not UTF-8"))?;
                continue;
            };
            let path = format!("{prefix}{leaf}");
            match found.kind {
                FileType::Directory if Name::parse(&path).is_ok() => folders.push(path),
                FileType::Directory => each(path, Kind::Foreign("the folder's name is not allowed"))?,
                FileType::RegularFile => {
                    let cannot = |error| StoreError::disk("open", &path)(error);
                    let file = disk.open(opened.as_fd(), &leaf, Opening::File).map_err(cannot)?.into();
                    let kind = recognise(tiers, class, &path, &file, high)?;
                    each(path, kind)?;
                }
                _ => each(path, Kind::Foreign("it is no plain file"))?,
            }
        }
    }
    Ok(())
}

/// What a file is; one that says nothing of itself, and can be an object, becomes one.
fn recognise(
    tiers: &Tiers,
    class: Class,
    path: &str,
    file: &File,
    high: &AtomicU64,
) -> Result<Kind, StoreError> {
    let name = match class {
        Class::Low => path,
        Class::Deep => match path.strip_suffix(".gz") {
            Some(name) => name,
            None => return Ok(Kind::Foreign("it is in no format that this program packs")),
        },
    };
    let Ok(name) = Name::parse(name) else { return Ok(Kind::Foreign("its name is not allowed")) };
    let cannot = |error| StoreError::disk("read", path)(error);
    let stat = file.metadata().map_err(cannot)?;
    if let Some(tag) =
        tiers.tag(file, path)?.filter(|tag| tag.meta.class == class && tag.meta.stored == stat.len())
    {
        let mut meta = tag.meta;
        if tag.name != name {
            // A move that had not moved it yet, or somebody's rename.
            if let Some((_, version)) = tag.from.filter(|(from, _)| *from == name) {
                meta.version = version;
            }
            retag(tiers, file, &name, meta)?;
        }
        high.fetch_max(meta.version.0, Ordering::AcqRel);
        return Ok(Kind::Object(name, meta));
    }
    let content = match class {
        Class::Low => checksum(tiers, file).map_err(cannot)?,
        Class::Deep => match read_seek(tiers, file, stat.len()).map_err(cannot)? {
            Some(seek) => (seek.input(), seek.crc32c()),
            None => return Ok(Kind::Foreign("it is in no format that this program packs")),
        },
    };
    let modified = stat.mtime().saturating_mul(1_000_000).saturating_add(stat.mtime_nsec() / 1000);
    let (size, crc32c) = content;
    let version = Version(next(high));
    let stored = stat.len();
    let meta = Meta { version, class, size, stored, crc32c, sha256: None, modified, created: modified };
    retag(tiers, file, &name, meta)?;
    Ok(Kind::Object(name, meta))
}

fn checksum(tiers: &Tiers, file: &File) -> std::io::Result<(u64, u32)> {
    let (mut at, mut sum) = (0, 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match tiers.disk.read_at(file, at, &mut buffer)? {
            0 => return Ok((at, sum)),
            n => {
                sum = crc32c::crc32c_append(sum, buffer.get(..n).unwrap_or_default());
                at += n as u64;
            }
        }
    }
}

/// The seek table of a packed file; None if it has none that makes sense.
pub(crate) fn read_seek(tiers: &Tiers, file: &File, len: u64) -> std::io::Result<Option<Seek>> {
    let tail = read_range(tiers, file, len.saturating_sub(pack::TAIL as u64), len)?;
    let Ok(start) = pack::table_start(&tail, len) else { return Ok(None) };
    let table = read_range(tiers, file, start, len)?;
    Ok(Seek::parse(&table, len).ok())
}

/// These bytes of a file; fewer if it ends before.
pub(crate) fn read_range(tiers: &Tiers, file: &File, start: u64, end: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match tiers.disk.read_at(file, start + done as u64, rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Takes from the original's list what the files themselves do not tell.
fn take_over(rows: &mut Rows<'_>, listed: &[Listed]) -> Result<(), StoreError> {
    for entry in listed {
        let row = match &entry.name {
            Some(name) => rows.get(name.as_str())?.map(|row| (name, row)),
            None => None,
        };
        match row {
            Some((name, row)) => rows.insert(name, &Row { accessed: entry.accessed, ..row })?,
            None => {
                rows.add_foreign(&entry.path, "the original listed it, and there is no object of its name")?
            }
        }
    }
    Ok(())
}
