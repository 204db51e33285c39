//! The index as text, for somebody to keep.

use std::sync::Arc;

use reactor::Evbuffer;

use super::Shared;
use super::engine::Engine;
use super::error::StoreError;
use super::manifest::write_line;
use super::name::Name;
use crate::jobs::Desk;

/// Hands out the index as lines of JSON, one object each, made by [`Store::export_index`](super::Store::export_index).
#[derive(Clone)]
pub struct Export {
    shared: Arc<Shared>,
    desk: Desk,
    after: Option<Name>,
}

/// Rows that are handed out at a time.
const PAGE: usize = 1000;

impl Export {
    pub(super) fn new(shared: &Arc<Shared>, desk: &Desk) -> Export {
        Export { shared: Arc::clone(shared), desk: desk.clone(), after: None }
    }

    /// Appends the next lines to a buffer, at most some 100 KiB of usual names, then calls `done` from the loop with the
    /// number of bytes; 0 at the end. Call again when they have been sent.
    ///
    /// `done` gets the export back, unless it failed. An error has appended nothing.
    pub fn next(mut self, to: &Evbuffer, done: impl FnOnce(Result<(Export, u64), StoreError>) + 'static) {
        let (engine, after, to) = (Arc::clone(&self.shared.engine), self.after.clone(), to.clone());
        let (jobs, desk) = (self.shared.engine.jobs.clone(), self.desk.clone());
        desk.run(
            &jobs,
            move || page(&engine, after.as_ref()),
            move |page| {
                let page = page.unwrap_or_else(|lost| Err(lost.into()));
                done(page.and_then(|(text, last)| {
                    let len = text.len() as u64;
                    to.append_shared(text)?;
                    self.after = last.or(self.after);
                    Ok((self, len))
                }));
            },
        );
    }
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("after", &self.after).finish_non_exhaustive()
    }
}

/// The next lines, and the name of the last.
fn page(engine: &Engine, after: Option<&Name>) -> Result<(Vec<u8>, Option<Name>), StoreError> {
    let rows = engine.index.read(|rows| rows.behind(after.map_or("", Name::as_str), PAGE))?;
    let mut text = Vec::new();
    let last = rows.last().map(|(name, _)| name.clone());
    for (name, row) in rows {
        let row = row.ok_or_else(|| super::index::damaged_row(name.as_str()))?;
        write_line(&mut text, name.as_str(), &row);
    }
    Ok((text, last))
}
