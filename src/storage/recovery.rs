//! What a start, or a failure, finds: links in the stage are finished or undone, a lost index is made from the objects.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use logger::{info, warn};
use redb::Database;
use rustix::fs::FileType;

use super::disk::Opening;
use super::engine::{Engine, next};
use super::error::StoreError;
use super::index::{self, Opened, Place, RowSet, Rows};
use super::manifest::{Decoder, Entry};
use super::meta::{Class, Meta, Row, Tag, Version};
use super::name::Name;
use super::stage::id_of;
use super::tier::{Tiers, Unsynced, is_absent, path_of, read_range};
use super::walk::{self, Kind, Met, Walk, changed_at, recognise};

/// Finishes or undoes everything in the stage that nobody works on. It may be broken off anywhere and run again.
pub(crate) fn settle_stage(engine: &Engine) -> Result<(), StoreError> {
    let (tiers, disk) = (&engine.tiers, &*engine.tiers.disk);
    let cannot = |error| StoreError::disk("look through the folder", "stage")(error);
    let mut names = BTreeSet::new();
    let mut leaves = Vec::new();
    for found in disk.list(tiers.stage.as_fd()).map_err(cannot)? {
        let found = found.map_err(cannot)?;
        let Some(leaf) = found.name else { continue };
        if id_of(&leaf).is_none_or(|id| engine.is_active(id)) || found.kind != FileType::RegularFile {
            continue;
        }
        let file: File = match disk.open(tiers.stage.as_fd(), &leaf, Opening::File) {
            Ok(file) => file.into(),
            // Its owner removed it after the look at who is active.
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(cannot(error)),
        };
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
        match disk.unlink(tiers.stage.as_fd(), &leaf) {
            Err(error) if !is_absent(&error) => {
                return Err(StoreError::disk("remove in the stage", leaf)(error));
            }
            _ => (),
        }
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
        let meta = if tag.name == *name {
            tag.meta
        } else if let Some(tag) = tag.undone(name) {
            // A move that had not moved it yet.
            retag(tiers, &file, &tag)?;
            if engine.is_synced() {
                tiers.disk.sync(file.as_fd()).map_err(StoreError::disk("put on the disk", name))?;
            }
            tag.meta
        } else {
            continue;
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

pub(crate) fn retag(tiers: &Tiers, file: &File, tag: &Tag) -> Result<(), StoreError> {
    let set = tiers.disk.set_tag(file, &tag.encode());
    set.map_err(StoreError::disk("write the metadata of", &tag.name))
}

/// Gives a file that says nothing of itself a tag: it is an object from then on.
pub(crate) fn take_in(
    tiers: &Tiers,
    class: Class,
    file: &File,
    name: &Name,
    content: (u64, u32),
    version: Version,
) -> Result<Meta, StoreError> {
    let stat = file.metadata().map_err(StoreError::disk("look at", name))?;
    let ((size, crc32c), modified) = (content, changed_at(&stat));
    let stored = stat.len();
    let meta = Meta { version, class, size, stored, crc32c, sha256: None, modified, created: modified };
    retag(tiers, file, &Tag { name: name.clone(), meta, from: None })?;
    Ok(meta)
}

/// Opens the index, or makes it from the objects. What is in its place and is no index is kept aside.
pub(crate) fn open_index(tiers: &Tiers, place: &Place, high: &AtomicU64) -> Result<Database, StoreError> {
    let aside = match place.open()? {
        Opened::Index(database) => {
            high.fetch_max(index::high(&database)?, Ordering::AcqRel);
            return Ok(*database);
        }
        Opened::Missing => None,
        Opened::Damaged => Some(place.read()?),
    };
    let database = place.create()?;
    let mut found = Vec::new();
    let mut files = 0_u64;
    for class in [Class::Low, Class::Deep] {
        let mut walk = Walk::new(class);
        while let Some((path, met)) = walk.next(tiers)? {
            files += 1;
            let what = match met {
                Met::File(file) => look(tiers, class, &path, &file, high)?,
                Met::Foreign(why) => Err(why),
            };
            found.push((path, what));
            if found.len() >= ROWS_AT_ONCE {
                fill(&database, high, class, &mut found)?;
            }
        }
        fill(&database, high, class, &mut found)?;
    }
    if let Some(old) = aside {
        let is_original = take_over(&database, high, tiers, &old)?;
        let ending = if is_original { "original" } else { "damaged" };
        place.put_aside(ending)?;
        tell_aside(&place.path, ending);
    }
    place.put_in_place()?;
    if files > 0 {
        info!(target: "storage", files = files; "there was no index; it is made from the files");
    }
    Ok(database)
}

fn tell_aside(path: &Path, ending: &str) {
    let path = path.display();
    match ending {
        "original" => {
            info!(target: "storage", "{} was a list of the original; it is kept as {}.{}", path, path, ending)
        }
        _ => {
            warn!(target: "storage", "{} cannot be read as an index; it is kept as {}.{}", path, path, ending)
        }
    }
}

/// Rows that are written at once, so that their number does not matter for memory.
const ROWS_AT_ONCE: usize = 10_000;

/// An object, or why a file is none.
type What = Result<(Name, Meta), &'static str>;

/// The object that a file is, or will be from now on; or why it is none.
fn look(tiers: &Tiers, class: Class, path: &str, file: &File, high: &AtomicU64) -> Result<What, StoreError> {
    let (name, meta) = match recognise(tiers, class, path, file)? {
        Kind::Object(name, meta) => (name, meta),
        Kind::Renamed(tag) => {
            retag(tiers, file, &tag)?;
            (tag.name, tag.meta)
        }
        Kind::Untagged(name) => {
            let content = walk::content(tiers, class, file).map_err(StoreError::disk("read", path))?;
            let Some(content) = content else { return Ok(Err(walk::UNKNOWN)) };
            let meta = take_in(tiers, class, file, &name, content, Version(next(high)))?;
            (name, meta)
        }
        Kind::CutShort(_) => return Ok(Err(walk::CUT_SHORT)),
        Kind::Foreign(why) => return Ok(Err(why)),
    };
    high.fetch_max(meta.version.0, Ordering::AcqRel);
    Ok(Ok((name, meta)))
}

fn fill(
    database: &Database,
    high: &AtomicU64,
    class: Class,
    found: &mut Vec<(String, What)>,
) -> Result<(), StoreError> {
    let high = || high.load(Ordering::Acquire);
    index::write(database, high, |rows| {
        for (path, what) in found.drain(..) {
            let path = format!("{}/{path}", class.folder());
            let (name, meta) = match what {
                Ok(object) => object,
                Err(why) => {
                    rows.add_foreign(&path, why)?;
                    continue;
                }
            };
            match rows.get(name.as_str())? {
                Some(row) if row.meta.version > meta.version => rows.add_foreign(&path, OLDER)?,
                Some(row) => {
                    rows.add_foreign(&place_of(row.meta.class, &name), OLDER)?;
                    rows.insert(&name, &Row { meta, accessed: 0 })?;
                }
                None => match rows.check_free(&name) {
                    Ok(()) => rows.insert(&name, &Row { meta, accessed: 0 })?,
                    Err(StoreError::IsFolder { .. } | StoreError::BelowObject { .. }) => {
                        rows.add_foreign(&path, CLASHES)?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(())
    })
}

pub(crate) const OLDER: &str = "the same name has a later object in the other class";
pub(crate) const CLASHES: &str = "its name is a folder of an object in the other class, or lies below one";

/// Where the file of an object is, beneath the data folder.
pub(crate) fn place_of(class: Class, name: &Name) -> String {
    format!("{}/{}", class.folder(), path_of(class, name))
}

/// Takes from the original's list what the files themselves do not tell; false if it is no such list.
fn take_over(database: &Database, high: &AtomicU64, tiers: &Tiers, list: &File) -> Result<bool, StoreError> {
    // Whole before any of it counts.
    if !each_entry(tiers, list, |_| Ok(()))? {
        return Ok(false);
    }
    let mut page = Vec::new();
    let write = |page: &mut Vec<Entry>| {
        index::write(
            database,
            || high.load(Ordering::Acquire),
            |rows| {
                for entry in page.drain(..) {
                    let Entry::Original { path, name, accessed } = entry else { continue };
                    let row = name.and_then(|name| Some((rows.get(name.as_str()).transpose()?, name)));
                    match row {
                        Some((row, name)) => rows.insert(&name, &Row { accessed, ..row? })?,
                        None => rows.add_foreign(&path, index::LISTED)?,
                    }
                }
                Ok(())
            },
        )
    };
    each_entry(tiers, list, |entry| {
        page.push(entry);
        if page.len() < ROWS_AT_ONCE { Ok(()) } else { write(&mut page) }
    })?;
    write(&mut page)?;
    Ok(true)
}

/// Reads a list; false if it is none of the original's.
fn each_entry(
    tiers: &Tiers,
    list: &File,
    mut each: impl FnMut(Entry) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let cannot = |error| StoreError::disk("read", "the index of the original")(error);
    let (mut decoder, mut at) = (Decoder::new(), 0);
    loop {
        let piece = read_range(tiers, list, at, at + PIECE).map_err(cannot)?;
        at += piece.len() as u64;
        let mut failed = Ok(());
        let mut each = |entry| {
            if failed.is_ok() {
                failed = each(entry);
            }
        };
        let fed = match piece.is_empty() {
            true => decoder.end(&mut each),
            false => decoder.feed(&piece, &mut each),
        };
        failed?;
        if fed.is_err() || piece.is_empty() {
            return Ok(fed.is_ok() && decoder.is_original());
        }
    }
}

/// Bytes that are read at a time.
const PIECE: u64 = 256 * 1024;
