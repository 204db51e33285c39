//! Lines in a file that is put aside when it is full or a day is over.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{File, Lines, Sink};
use crate::error::Error;
use crate::format::civil;

/// When a rolling file is put aside, and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollingOptions {
    /// The most bytes of the file: lines that would pass it go into a new one. Default 64 MiB; `None` for no bound. A
    /// line that is longer has a file of its own.
    pub max_bytes: Option<u64>,
    /// A new file for each day, UTC. Default false.
    pub daily: bool,
    /// How many old files are kept, the newest. Default 10; `None` for all.
    pub keep: Option<usize>,
    /// Old files are compressed, on a thread of their own. Default true.
    pub compress: bool,
}

impl Default for RollingOptions {
    fn default() -> RollingOptions {
        RollingOptions { max_bytes: Some(64 * 1024 * 1024), daily: false, keep: Some(10), compress: true }
    }
}

/// Appends lines to a file that rolls over.
///
/// Old files stand beside it as `NAME-20260912-000001.EXT`, with the day on which they were put aside and a number that
/// only grows, and `.gz` behind that once they are compressed. An old file that was not compressed when the program
/// ended is compressed after the next start.
#[derive(Debug)]
pub struct Rolling {
    file: File,
    options: RollingOptions,
    size: u64,
    day: i64,
    archive: Archive,
    janitor: Option<Janitor>,
}

impl Rolling {
    /// Opens a file for appending.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open(path: impl AsRef<Path>, options: RollingOptions) -> Result<Rolling, Error> {
        let file = File::open(path)?;
        let refused = |source| Error::Open { path: file.path().to_owned(), source };
        let size = file.size().map_err(refused)?;
        let archive = Archive::of(file.path()).map_err(refused)?;
        // A file that was written yesterday rolls with the first line of today.
        let day = day_of(file.modified().map_err(refused)?);
        let mut rolling = Rolling { file, options, size, day, archive, janitor: None };
        rolling.tidy_later(None);
        Ok(rolling)
    }

    /// Whether this many more bytes belong into the file. A line of any length belongs into an empty one, several lines
    /// only if they fit.
    fn has_room(&self, more: u64, is_one_line: bool) -> bool {
        if self.size == 0 && is_one_line {
            return true;
        }
        let fits = self.options.max_bytes.is_none_or(|max| self.size.saturating_add(more) <= max);
        fits && !(self.options.daily && self.size > 0 && today() != self.day)
    }

    fn roll(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let aside = self.archive.next();
        match fs::rename(self.file.path(), &aside) {
            // Somebody has removed it: there is nothing to put aside.
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            outcome => outcome?,
        }
        self.file.reopen()?;
        (self.size, self.day) = (0, today());
        self.tidy_later(Some(aside));
        Ok(())
    }

    /// Has old files compressed and superfluous ones removed.
    fn tidy_later(&mut self, aside: Option<PathBuf>) {
        if self.janitor.is_none() {
            self.janitor = Janitor::start(self.archive.clone(), &self.options);
        }
        if let (Some(janitor), Some(aside)) = (&self.janitor, aside) {
            janitor.tell(aside);
        }
    }
}

impl Sink for Rolling {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        let bytes = lines.bytes().len() as u64;
        if self.has_room(bytes, lines.len() == 1) {
            self.size += bytes;
            return self.file.write(lines);
        }
        // Line by line, so that each file is as full as it may be.
        let mut outcome = Ok(());
        for line in lines.each() {
            let line = line.lines();
            let bytes = line.bytes().len() as u64;
            if outcome.is_ok() && !self.has_room(bytes, true) {
                outcome = self.roll();
            }
            self.size += bytes;
            let written = self.file.write(&line);
            outcome = outcome.and(written);
        }
        outcome
    }

    fn retry(&mut self) -> io::Result<()> {
        self.file.retry()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn name(&self) -> String {
        self.file.name()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file.reopen()?;
        self.size = self.file.size()?;
        Ok(())
    }
}

/// The old files of one log file, by their names.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    folder: PathBuf,
    stem: String,
    extension: String,
    last: u64,
}

impl Archive {
    pub(crate) fn of(path: &Path) -> io::Result<Archive> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map_or_else(String::new, |part| part.to_string_lossy().into_owned())
        };
        let mut archive = Archive {
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            stem: text(path.file_stem()),
            extension: text(path.extension()),
            last: 0,
        };
        archive.last = archive.list()?.last().map_or(0, |(number, _)| *number);
        Ok(archive)
    }

    /// A name for the next old file.
    pub(crate) fn next(&mut self) -> PathBuf {
        self.last += 1;
        let (year, month, day) = civil(today());
        let mut name = format!("{}-{year:04}{month:02}{day:02}-{:06}", self.stem, self.last);
        if !self.extension.is_empty() {
            name.push('.');
            name.push_str(&self.extension);
        }
        self.folder.join(name)
    }

    /// The old files, the oldest first.
    pub(crate) fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            if let Some(number) = name.to_str().and_then(|name| self.number(name)) {
                found.push((number, self.folder.join(&name)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The number of an old file of this log.
    fn number(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(self.stem.as_str())?.strip_prefix('-')?;
        let rest = rest.strip_suffix(".gz").unwrap_or(rest);
        let rest = match self.extension.as_str() {
            "" => rest,
            extension => rest.strip_suffix(extension)?.strip_suffix('.')?,
        };
        let (day, number) = rest.split_once('-')?;
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Longer numbers are not ours, and have no next one.
        let is_ours = day.len() == 8 && is_digits(day) && is_digits(number) && number.len() < 19;
        is_ours.then(|| number.parse().ok()).flatten()
    }
}

/// Compresses and removes old files on a thread of its own.
#[derive(Debug)]
pub(crate) struct Janitor {
    asides: Option<Sender<PathBuf>>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    /// `None` if there is nothing to do for it, or no thread to be had; the next roll tries again.
    pub(crate) fn start(archive: Archive, options: &RollingOptions) -> Option<Janitor> {
        let (keep, compress) = (options.keep, options.compress);
        if keep.is_none() && !compress {
            return None;
        }
        let (sender, asides) = mpsc::channel::<PathBuf>();
        let tidy = move || {
            tidy(&archive, keep, compress);
            while asides.recv().is_ok() {
                tidy(&archive, keep, compress);
            }
        };
        let thread = thread::Builder::new().name("log janitor".to_owned()).spawn(tidy).ok()?;
        Some(Janitor { asides: Some(sender), thread: Some(thread) })
    }

    pub(crate) fn tell(&self, aside: PathBuf) {
        if let Some(asides) = &self.asides {
            let _ = asides.send(aside);
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        self.asides = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What fails here is tried again at the next roll: old files stay as they are meanwhile.
fn tidy(archive: &Archive, keep: Option<usize>, compress: bool) {
    let Ok(mut old) = archive.list() else { return };
    if let Some(keep) = keep {
        // A crash may have left a file beside its compressed form: that is one old file.
        let mut numbers: Vec<u64> = old.iter().map(|(number, _)| *number).collect();
        numbers.dedup();
        let kept = &numbers[numbers.len().saturating_sub(keep)..];
        old.retain(|(number, path)| {
            let keeps = kept.contains(number);
            if !keeps {
                let _ = fs::remove_file(path);
            }
            keeps
        });
    }
    if compress {
        for (_, path) in
            old.iter().filter(|(_, path)| path.extension().is_none_or(|extension| extension != "gz"))
        {
            let _ = compress_file(path);
        }
    }
}

/// The compressed file appears whole, before the plain one goes.
fn compress_file(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    };
    let partial = with(".gz.partial");
    let outcome = (|| {
        let mut encoder = GzEncoder::new(fs::File::create(&partial)?, Compression::default());
        io::copy(&mut fs::File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_data()?;
        fs::rename(&partial, with(".gz"))?;
        fs::remove_file(path)
    })();
    if outcome.is_err() {
        let _ = fs::remove_file(&partial);
    }
    outcome
}

/// Days since 1970.
pub(crate) fn today() -> i64 {
    day_of(SystemTime::now())
}

pub(crate) fn day_of(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() / 86_400).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::Level;
    use crate::sink::Span;

    fn put(rolling: &mut Rolling, text: &str) {
        let span = Span { stamp: 0, start: 0, end: text.len(), pair: 0, level: Level::Info };
        rolling.write(&Lines::new(text.as_bytes(), &[span])).unwrap();
        rolling.flush().unwrap();
    }

    fn options() -> RollingOptions {
        RollingOptions { max_bytes: None, daily: true, keep: None, compress: false }
    }

    fn old_files(folder: &Path) -> Vec<String> {
        let archive = Archive::of(&folder.join("a.log")).unwrap();
        archive.list().unwrap().iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_new_day_rolls_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut rolling = Rolling::open(folder.path().join("a.log"), options()).unwrap();
        put(&mut rolling, "one\n");
        rolling.day -= 1;
        put(&mut rolling, "two\n");
        rolling.day = today();
        put(&mut rolling, "three\n");
        assert_eq!(old_files(folder.path()), ["one\n"]);
        assert_eq!(fs::read_to_string(folder.path().join("a.log")).unwrap(), "two\nthree\n");
    }

    #[test]
    fn yesterdays_file_is_put_aside_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "yesterday\n").unwrap();
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(86_400)).unwrap();
        let mut rolling = Rolling::open(&path, options()).unwrap();
        put(&mut rolling, "today\n");
        rolling.day = today();
        assert_eq!(old_files(folder.path()), ["yesterday\n"]);
    }

    #[test]
    fn a_removed_file_is_made_again_at_the_next_roll() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut rolling =
            Rolling::open(&path, RollingOptions { max_bytes: Some(4), daily: false, ..options() }).unwrap();
        put(&mut rolling, "one\n");
        fs::remove_file(&path).unwrap();
        put(&mut rolling, "two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn a_file_beside_its_compressed_form_is_one_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let archive =
            Archive { folder: folder.path().into(), stem: "a".into(), extension: "log".into(), last: 0 };
        for name in ["a-20260912-000001.log.gz", "a-20260912-000002.log", "a-20260912-000002.log.gz"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        tidy(&archive, Some(2), false);
        assert_eq!(archive.list().unwrap().len(), 3);
        tidy(&archive, Some(1), true);
        let left = archive.list().unwrap();
        assert_eq!(left, [(2, folder.path().join("a-20260912-000002.log.gz"))]);
    }

    #[test]
    fn names_of_old_files_are_told_from_others() {
        let archive = Archive { folder: PathBuf::new(), stem: "a".into(), extension: "log".into(), last: 0 };
        for (name, number) in [
            ("a-20260912-000001.log", Some(1)),
            ("a-20260912-1234567.log.gz", Some(1_234_567)),
            ("a-20260912-000001.log.gz.partial", None),
            ("a-20260912-.log", None),
            ("a-2026091-000001.log", None),
            ("a-20260912-+00001.log", None),
            ("a-20260912-18446744073709551615.log", None),
            ("ab-20260912-000001.log", None),
            ("a.log", None),
        ] {
            assert_eq!(archive.number(name), number, "{name}");
        }
    }
}
