//! The index beside the objects of a store that goes on working: compared, or made right.
//!
//! Page by page, each a short job: the files of both classes, then the rows. What looks wrong is looked at again between
//! two batches of changes, where files and rows stand still; there it is noted, or mended.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::commit::{self, Act, Op};
use super::engine::{Engine, lock_of};
use super::error::StoreError;
use super::index::{RowSet, Rows};
use super::meta::{Class, Meta, Row, Tag};
use super::name::Name;
use super::recovery::{CLASHES, OLDER, place_of, retag, take_in};
use super::tier::{Unsynced, path_of};
use super::walk::{self, Kind, Met, Walk, recognise};
use crate::jobs::Ticket;

/// What a comparison of the index with the objects found, made by [`Store::check_index`](super::Store::check_index) and
/// [`Store::rebuild_index`](super::Store::rebuild_index).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IndexReport {
    /// Objects that the index knows, after what was mended.
    pub objects: u64,
    /// Files that are no objects; [`Store::foreign`](super::Store::foreign) names them.
    pub foreign: u64,
    /// Names at which index and objects differ, or differed.
    pub different: u64,
    /// The first 1000 of them.
    pub differences: Vec<(Name, Difference)>,
}

/// How the index and an object differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Difference {
    /// The object is there, and the index does not know it. A rebuild takes it in.
    NotInIndex,
    /// The index knows an object that is not there. A rebuild forgets it.
    NoFile,
    /// The object says something else of itself than the index does. A rebuild believes the object.
    OtherMetadata,
    /// A file that can be an object says nothing of itself. A rebuild makes it one.
    NoMetadata,
    /// The file of the object is not as long as it was written. A rebuild leaves it alone.
    CutShort,
}

/// Differences that are named.
const MOST_NAMED: usize = 1000;
/// Files or rows that one job looks at.
const PAGE: usize = 256;

/// A comparison that goes on.
pub(crate) struct Audit {
    engine: Arc<Engine>,
    turn: Turn,
    is_repair: bool,
    phase: Phase,
    report: Arc<Mutex<IndexReport>>,
    ticket: Ticket<Result<IndexReport, StoreError>>,
}

/// Whose turn it is, until it is dropped.
struct Turn(Arc<Engine>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_audited.store(false, Ordering::Release);
    }
}

enum Phase {
    Files(Walk),
    /// Behind this name.
    Rows(Option<Name>),
    Over,
}

/// What a page leaves to be looked at again.
#[derive(Default)]
struct Page {
    names: Vec<(Name, Option<Content>)>,
    /// By path beneath the data folder.
    foreign: Vec<(String, &'static str)>,
}

/// What a file held that says nothing of itself, and which file that was.
struct Content {
    class: Class,
    file: (u64, u64, i64),
    content: (u64, u32),
}

impl Audit {
    /// Begins; one at a time.
    pub(crate) fn begin(
        engine: &Arc<Engine>,
        is_repair: bool,
        ticket: Ticket<Result<IndexReport, StoreError>>,
    ) {
        if engine.is_audited.swap(true, Ordering::AcqRel) {
            return ticket.redeem(Err(StoreError::Busy));
        }
        let phase = Phase::Files(Walk::new(Class::Low));
        let (turn, report) = (Turn(Arc::clone(engine)), Arc::default());
        let audit = Audit { engine: Arc::clone(engine), turn, is_repair, phase, report, ticket };
        audit.queue(|_, rows, _| rows.forget_new_foreign());
    }

    /// Lets `look` run between two batches, then goes on.
    fn queue(
        self,
        look: impl FnOnce(&Arc<Engine>, &mut Rows<'_>, &mut Unsynced) -> Result<(), StoreError> + Send + 'static,
    ) {
        let engine = Arc::clone(&self.engine);
        let reply = Box::new(move |result: Result<_, _>| match result {
            Ok(_) => self.go_on(),
            Err(error) => self.end(Err(error)),
        });
        commit::submit(&engine, Op { act: Act::Look(Box::new(look)), reply });
    }

    fn go_on(self) {
        let jobs = self.engine.jobs.clone();
        jobs.submit(move || self.step());
    }

    fn step(mut self) {
        // A store that closes does not wait for all of it.
        if self.engine.jobs.is_closing() {
            return self.end(Err(StoreError::Lost(crate::jobs::Lost)));
        }
        let page = match &mut self.phase {
            Phase::Files(walk) => files(&self.engine, walk, self.is_repair),
            Phase::Rows(after) => rows(&self.engine, after, &self.report),
            Phase::Over => {
                let report = std::mem::take(&mut *lock_of(&self.report));
                return self.end(Ok(report));
            }
        };
        let (page, is_last) = match page {
            Ok(page) => page,
            Err(error) => return self.end(Err(error)),
        };
        let is_end = is_last && self.turn();
        if page.names.is_empty() && page.foreign.is_empty() && !is_end {
            return self.go_on();
        }
        let (report, is_repair) = (Arc::clone(&self.report), self.is_repair);
        self.queue(move |engine, rows, unsynced| {
            let mut report = lock_of(&report);
            settle_page(engine, rows, &page, is_repair, &mut report, unsynced)?;
            if is_end { rows.take_new_foreign() } else { Ok(()) }
        });
    }

    /// Goes to the next phase; true if that is the end.
    fn turn(&mut self) -> bool {
        self.phase = match &self.phase {
            Phase::Files(walk) if walk.class() == Class::Low => Phase::Files(Walk::new(Class::Deep)),
            Phase::Files(_) => Phase::Rows(None),
            Phase::Rows(_) | Phase::Over => Phase::Over,
        };
        matches!(self.phase, Phase::Over)
    }

    fn end(self, result: Result<IndexReport, StoreError>) {
        // First: who is answered may begin another.
        drop(self.turn);
        self.ticket.redeem(result);
    }
}

/// Looks at the next files; true with the last.
fn files(engine: &Engine, walk: &mut Walk, is_repair: bool) -> Result<(Page, bool), StoreError> {
    let (tiers, class) = (&engine.tiers, walk.class());
    let mut page = Page::default();
    let mut objects = Vec::new();
    let mut is_last = true;
    while let Some((path, met)) = walk.next(tiers)? {
        let kind = match &met {
            Met::File(file) => recognise(tiers, class, &path, file)?,
            Met::Foreign(why) => Kind::Foreign(why),
        };
        match (kind, met) {
            (Kind::Object(name, meta), _) => objects.push((name, meta)),
            (Kind::Untagged(name), Met::File(file)) if is_repair => {
                let cannot = |error| StoreError::disk("read", &path)(error);
                let id = identity(&file).map_err(cannot)?;
                let content = walk::content(tiers, class, &file).map_err(cannot)?;
                page.names.push((name, content.map(|content| Content { class, file: id, content })));
                // That took long enough.
                is_last = false;
                break;
            }
            (Kind::Renamed(Tag { name, .. }) | Kind::Untagged(name) | Kind::CutShort(name), _) => {
                page.names.push((name, None));
            }
            (Kind::Foreign(why), _) => page.foreign.push((format!("{}/{path}", class.folder()), why)),
        }
        if objects.len() + page.names.len() + page.foreign.len() >= PAGE {
            is_last = false;
            break;
        }
    }
    engine.index.read(|rows| {
        for (name, meta) in objects {
            if rows.get(name.as_str())?.is_none_or(|row| row.meta != meta) {
                page.names.push((name, None));
            }
        }
        Ok(())
    })?;
    Ok((page, is_last))
}

/// Looks at the next rows; true with the last.
fn rows(
    engine: &Engine,
    after: &mut Option<Name>,
    report: &Mutex<IndexReport>,
) -> Result<(Page, bool), StoreError> {
    let found = engine.index.read(|rows| rows.behind(after.as_ref().map_or("", Name::as_str), PAGE))?;
    let mut page = Page::default();
    let is_last = found.len() < PAGE;
    for (name, row) in found {
        match row.map(|row| engine.tiers.open(row.meta.class, &name)).transpose()? {
            Some(Some(_)) => lock_of(report).objects += 1,
            _ => page.names.push((name.clone(), None)),
        }
        *after = Some(name);
    }
    Ok((page, is_last))
}

/// A file is the same, and unchanged, as long as this is.
fn identity(file: &std::fs::File) -> std::io::Result<(u64, u64, i64)> {
    let stat = file.metadata()?;
    Ok((stat.ino(), stat.len(), walk::changed_at(&stat)))
}

fn settle_page(
    engine: &Engine,
    rows: &mut Rows<'_>,
    page: &Page,
    is_repair: bool,
    report: &mut IndexReport,
    unsynced: &mut Unsynced,
) -> Result<(), StoreError> {
    for (path, why) in &page.foreign {
        report.foreign += u64::from(rows.add_new_foreign(path, why)?);
    }
    for (name, content) in &page.names {
        let settled = settle(engine, rows, name, content.as_ref(), is_repair, unsynced)?;
        for (path, why) in settled.foreign {
            report.foreign += u64::from(rows.add_new_foreign(&path, why)?);
        }
        if let Some(difference) = settled.difference {
            report.different += 1;
            if report.differences.len() < MOST_NAMED {
                report.differences.push((name.clone(), difference));
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Settled {
    difference: Option<Difference>,
    foreign: Vec<(String, &'static str)>,
}

/// Compares a row with what is there, while nothing changes, and mends it if asked to.
fn settle(
    engine: &Engine,
    rows: &mut Rows<'_>,
    name: &Name,
    content: Option<&Content>,
    is_repair: bool,
    unsynced: &mut Unsynced,
) -> Result<Settled, StoreError> {
    let tiers = &engine.tiers;
    let mut settled = Settled::default();
    let mut best: Option<Meta> = None;
    let mut best_renamed = None;
    let (mut untagged, mut cut_short) = (None, None);
    for class in [Class::Low, Class::Deep] {
        let Some(file) = tiers.open(class, name)? else { continue };
        let (meta, renamed) = match recognise(tiers, class, &path_of(class, name), &file)? {
            Kind::Object(_, meta) => (meta, None),
            Kind::Renamed(tag) => (tag.meta, Some(tag)),
            Kind::Untagged(_) => {
                untagged = Some((class, file));
                continue;
            }
            Kind::CutShort(_) => {
                cut_short = Some(class);
                continue;
            }
            // A walk met it.
            Kind::Foreign(_) => continue,
        };
        match best {
            Some(other) if other.version > meta.version => {
                settled.foreign.push((place_of(class, name), OLDER));
                continue;
            }
            Some(other) => settled.foreign.push((place_of(other.class, name), OLDER)),
            None => (),
        }
        best = Some(meta);
        best_renamed = renamed.map(|tag| (file, tag));
    }
    let row = rows.look(name.as_str())?;
    if let Some(meta) = best {
        if row.flatten().is_some_and(|row| row.meta == meta) && best_renamed.is_none() {
            return Ok(settled);
        }
        if row.is_none() && !is_free(rows, name)? {
            settled.foreign.push((place_of(meta.class, name), CLASHES));
            return Ok(settled);
        }
        settled.difference =
            Some(if row.is_none() { Difference::NotInIndex } else { Difference::OtherMetadata });
        if is_repair {
            if let Some((file, tag)) = best_renamed {
                retag(tiers, &file, &tag)?;
                unsynced.add_file(&file, name.as_str())?;
            }
            engine.high.fetch_max(meta.version.0, Ordering::AcqRel);
            rows.insert(name, &Row { meta, accessed: row.flatten().map_or(0, |row| row.accessed) })?;
        }
    } else if let Some((class, file)) = untagged {
        if row.is_none() && !is_free(rows, name)? {
            settled.foreign.push((place_of(class, name), CLASHES));
            return Ok(settled);
        }
        settled.difference = Some(Difference::NoMetadata);
        let is_known = |content: &&Content| {
            content.class == class && identity(&file).is_ok_and(|file| file == content.file)
        };
        if let Some(content) = content.filter(is_known).filter(|_| is_repair) {
            let meta = take_in(tiers, class, &file, name, content.content, engine.next_version())?;
            unsynced.add_file(&file, name.as_str())?;
            rows.insert(name, &Row { meta, accessed: row.flatten().map_or(0, |row| row.accessed) })?;
        }
    } else if let Some(class) = cut_short {
        match row {
            Some(_) => settled.difference = Some(Difference::CutShort),
            None => settled.foreign.push((place_of(class, name), walk::CUT_SHORT)),
        }
    } else if row.is_some() {
        settled.difference = Some(Difference::NoFile);
        if is_repair {
            rows.remove(name.as_str())?;
        }
    }
    Ok(settled)
}

fn is_free(rows: &Rows<'_>, name: &Name) -> Result<bool, StoreError> {
    match rows.check_free(name) {
        Ok(()) => Ok(true),
        Err(StoreError::IsFolder { .. } | StoreError::BelowObject { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
