//! What is in a folder, page by page.

use std::ops::Bound;

use super::error::StoreError;
use super::index::{Snapshot, Step, scan};
use super::meta::Meta;
use super::name::{Folder, Name};
use super::scope::{Scope, Seek};

/// What of a folder is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Only names that go on with this behind the folder's slash.
    pub prefix: String,
    /// Go on behind this name, as a [`Page`] said; from the beginning if none is given.
    pub after: Option<String>,
    /// At most so many entries; 1000.
    pub limit: usize,
    /// List what is in folders of the folder too, rather than the folders.
    pub is_deep: bool,
    /// Only what is in it, and folders in which something is; all.
    pub scope: Scope,
}

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions { prefix: String::new(), after: None, limit: 1000, is_deep: false, scope: Scope::all() }
    }
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An object.
    Object {
        /// Its whole name.
        name: Name,
        /// What is known of it.
        meta: Meta,
        /// When it was last read, in microseconds since 1970 and to the hour; none if never.
        accessed: Option<i64>,
    },
    /// A folder.
    Folder(Folder),
}

/// A part of a listing, in the order of the bytes of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What is in it.
    pub entries: Vec<Entry>,
    /// Where the next page begins: give it as [`ListOptions::after`]. None if this is the last.
    pub next: Option<String>,
}

/// Reads a page; its cost does not depend on how much is in the folders that it names.
pub(crate) fn page(rows: &Snapshot, folder: &Folder, options: &ListOptions) -> Result<Page, StoreError> {
    let top = folder.prefix();
    let prefix = format!("{top}{}", options.prefix);
    let mut page = Page::default();
    let mut last = None;
    // Behind a folder means behind all that it holds.
    let jump = options.after.as_deref().and_then(behind);
    let from = match (&jump, &options.after) {
        (Some(jump), _) => Bound::Included(jump.as_str()),
        (None, Some(after)) => Bound::Excluded(after.as_str()),
        (None, None) => Bound::Unbounded,
    };
    let begin = Bound::Included(prefix.as_str());
    let from = match (&from, &begin) {
        (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b)) if a >= b => from,
        _ => begin,
    };
    scan(rows, from, |name, row| {
        let Some(rest) = name.strip_prefix(top).filter(|_| name.starts_with(&prefix)) else {
            return Step::End;
        };
        match options.scope.seek(name) {
            Seek::Here => (),
            Seek::At(next) => return Step::Jump(next.to_owned()),
            Seek::End => return Step::End,
        }
        if page.entries.len() >= options.limit {
            page.next = last.take();
            return Step::End;
        }
        if let Some((first, _)) = rest.split_once('/').filter(|_| !options.is_deep)
            && let Ok(below) = Folder::parse(&format!("{top}{first}"))
        {
            let jump = behind(below.prefix());
            last = Some(below.prefix().to_owned());
            page.entries.push(Entry::Folder(below));
            return jump.map_or(Step::Next, Step::Jump);
        }
        if let Ok(parsed) = Name::parse(name) {
            let accessed = Some(row.accessed).filter(|at| *at != 0);
            page.entries.push(Entry::Object { name: parsed, meta: row.meta, accessed });
            last = Some(name.to_owned());
        }
        Step::Next
    })?;
    Ok(page)
}

/// The least text behind all that begin with this prefix of a folder; None if it is no such prefix.
fn behind(prefix: &str) -> Option<String> {
    // The character behind the slash.
    prefix.strip_suffix('/').map(|bare| format!("{bare}0"))
}
