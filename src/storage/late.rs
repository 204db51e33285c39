//! Rows that are true and not in the index's file yet: a store that does not wait for its disk need not wait for its
//! index either. Many of them are written at once, later; until then a link in the stage stands for each, so that a
//! crash loses none. No file.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::error::StoreError;
use super::index::{RowSet, Snapshot, broken};
use super::meta::Row;
use super::name::Name;

/// Rows by name; None for one that is gone.
pub(crate) type Rows = BTreeMap<Name, Option<Row>>;

/// The rows as they are: what changed lately, before what the file says.
#[derive(Default)]
pub(crate) struct Late {
    rows: Rows,
    /// Being written; later changes are in `rows`.
    writing: Arc<Rows>,
    /// The file's, as of before `writing`.
    pub(crate) file: Option<Snapshot>,
    /// No row had a version above this one.
    high: u64,
}

impl Late {
    /// The highest version of any row that was late.
    pub(crate) fn high(&self) -> u64 {
        self.high
    }

    /// How many rows wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.rows.len()
    }

    /// Begins to write what waits; [`end`](Self::end) follows. None if nothing does.
    pub(crate) fn begin(&mut self) -> Option<Arc<Rows>> {
        // Left by one who panicked.
        if !self.writing.is_empty() {
            self.take_back();
        }
        if self.rows.is_empty() {
            return None;
        }
        self.writing = Arc::new(std::mem::take(&mut self.rows));
        Some(Arc::clone(&self.writing))
    }

    /// Forgets what is in the file now, as of `file`; or takes back what is not, unless it changed again.
    pub(crate) fn end(&mut self, is_written: bool, file: Option<Snapshot>) {
        match is_written {
            true => self.writing = Arc::default(),
            false => self.take_back(),
        }
        self.file = file;
    }

    fn take_back(&mut self) {
        for (name, row) in std::mem::take(&mut self.writing).iter() {
            self.rows.entry(name.clone()).or_insert(*row);
        }
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        let file = self.file.as_ref().ok_or_else(broken)?;
        let mut len = file.len()?;
        let not_again = self.writing.iter().filter(|(name, _)| !self.rows.contains_key(name.as_str()));
        for (name, row) in self.rows.iter().chain(not_again) {
            match (file.get(name.as_str())?.is_some(), row.is_some()) {
                (true, false) => len = len.saturating_sub(1),
                (false, true) => len += 1,
                _ => (),
            }
        }
        Ok(len)
    }

    /// What is known of a name without the file.
    fn recent(&self, name: &str) -> Option<Option<Row>> {
        self.rows.get(name).or_else(|| self.writing.get(name)).copied()
    }

    /// Whether an object lies below this prefix.
    fn has_below(&self, prefix: &str) -> Result<bool, StoreError> {
        for rows in [&self.rows, &*self.writing] {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            let below = rows.range::<str, _>(from).take_while(|(name, _)| name.as_str().starts_with(prefix));
            for (name, _) in below {
                if self.recent(name.as_str()).flatten().is_some() {
                    return Ok(true);
                }
            }
        }
        let file = self.file.as_ref().ok_or_else(broken)?;
        file.has_below(prefix, |name| self.recent(name).is_some())
    }
}

impl RowSet for Late {
    fn get(&self, name: &str) -> Result<Option<Row>, StoreError> {
        match self.recent(name) {
            Some(row) => Ok(row),
            None => self.file.as_ref().ok_or_else(broken)?.get(name),
        }
    }

    fn insert(&mut self, name: &Name, row: &Row) -> Result<(), StoreError> {
        self.high = self.high.max(row.meta.version.0);
        self.rows.insert(name.clone(), Some(*row));
        Ok(())
    }

    fn remove(&mut self, name: &Name) -> Result<(), StoreError> {
        self.rows.insert(name.clone(), None);
        Ok(())
    }

    fn check_free(&self, name: &Name) -> Result<(), StoreError> {
        for above in name.ancestors() {
            if self.get(above)?.is_some()
                && let Ok(object) = Name::parse(above)
            {
                return Err(StoreError::BelowObject { name: name.clone(), object });
            }
        }
        if self.has_below(&format!("{name}/"))? {
            return Err(StoreError::IsFolder { name: name.clone() });
        }
        Ok(())
    }
}
