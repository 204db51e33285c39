//! What an earlier run left in the folder of a stream.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::acked::Acked;
use super::cursor::{Cursor, Step};
use super::segment::HEADER;
use super::sender::{begins_block, is_plausible};
use super::sequences::Sequences;
use super::stream::{Segment, parse_segment_name, segment_name};
use crate::forward::report::{Report, Reporter};

/// A stream as it was found.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(super) segments: VecDeque<Segment>,
    /// In them, and not acknowledged.
    pub(super) waiting: Sequences,
    pub(crate) acknowledged: u64,
    /// The highest sequence that anything here speaks of.
    pub(crate) highest: u64,
}

impl Leftover {
    /// Looks at a stream's folder, and removes the segments of which nothing is left to send. A folder that does not exist
    /// is an empty one.
    ///
    /// A segment is named by its first sequence and has no gaps, so the next one's name says where it ends. Only the last
    /// segment of each run is read to see that: the one with none behind it, or in front of one that begins a block, as
    /// every run does.
    pub(crate) fn find(folder: &Path, reporter: &Reporter) -> Result<Leftover, (PathBuf, io::Error)> {
        let at_folder = |error| (folder.to_owned(), error);
        let failed = |path: PathBuf, reason: String| reporter(&Report::Failed { path, reason });

        let mut acked = Acked::new(folder);
        let acknowledged = acked.read().map_err(|error| (acked.path().to_owned(), error))?;
        let acknowledged = acknowledged.filter(|sequence| *sequence == 0 || is_plausible(*sequence));
        if acknowledged.is_none() {
            failed(acked.path().to_owned(), "damaged; what is in the spool is sent again".to_owned());
            acked.remove().map_err(|error| (acked.path().to_owned(), error))?;
        }
        let acknowledged = acknowledged.unwrap_or(0);

        let mut firsts = Vec::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(at_folder(error)),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(at_folder)?;
            let Some(first) = entry.file_name().to_str().and_then(parse_segment_name) else { continue };
            let is_file = entry.file_type().map_err(at_folder)?.is_file();
            if is_file && is_plausible(first) {
                firsts.push(first);
            } else {
                failed(entry.path(), "not a segment that this spool wrote; it is left alone".to_owned());
            }
        }
        firsts.sort_unstable();

        let mut found = Leftover {
            segments: VecDeque::new(),
            waiting: Sequences::default(),
            acknowledged,
            highest: firsts.last().copied().unwrap_or(0).max(acknowledged),
        };
        for (index, first) in firsts.iter().copied().enumerate() {
            let path = folder.join(segment_name(first));
            let next = firsts.get(index + 1).copied();
            let (segment, is_over) = match look(&path, first, next) {
                Ok((segment, is_clean)) => {
                    let is_over = is_clean && segment.last <= acknowledged.max(first - 1);
                    (segment, is_over)
                }
                Err(error) => {
                    failed(path.clone(), format!("cannot look at it, it is left alone: {error}"));
                    continue;
                }
            };
            found.highest = found.highest.max(segment.last);
            if is_over {
                if let Err(error) = fs::remove_file(&path) {
                    failed(path, format!("cannot remove it, it stays until the next start: {error}"));
                }
                continue;
            }
            if segment.first <= segment.last {
                found.waiting.push(segment.first..=segment.last);
            }
            found.segments.push_back(segment);
        }
        found.waiting.remove(0..=acknowledged);
        Ok(found)
    }
}

/// Where a segment ends, and whether it can go once its records are acknowledged without being read once more.
fn look(path: &Path, first: u64, next: Option<u64>) -> io::Result<(Segment, bool)> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let (last, is_clean) = match next {
        Some(next) if !begins_block(next) => (next - 1, true),
        _ => {
            // More records than this cannot be there.
            let most = first.saturating_add(end / HEADER as u64);
            scan(&file, end, first, most.min(next.unwrap_or(u64::MAX) - 1))?
        }
    };
    let segment =
        Segment { first, last, end, is_open: false, is_synced: true, is_certain: is_clean, is_kept: false };
    Ok((segment, is_clean))
}

/// The last sequence in a segment, and whether its end is as it should be.
fn scan(file: &File, end: u64, first: u64, most: u64) -> io::Result<(u64, bool)> {
    let mut cursor = Cursor::new();
    let mut passed = first - 1;
    let mut is_clean = true;
    loop {
        match cursor.step(file, end, &(passed + 1..=most))? {
            Step::Record { sequence, .. } => {
                passed = sequence;
                is_clean = true;
            }
            Step::Damage { .. } => is_clean = false,
            Step::Torn { .. } => (),
            Step::End => return Ok((passed.max(cursor.highest()), is_clean)),
        }
    }
}
