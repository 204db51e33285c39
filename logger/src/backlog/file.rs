//! The file that records go to: whole lines, rolled over, each file with what is known of the senders before it.

use std::fs::{self, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memrchr};
use rustix::fs::{FlockOperation, flock};

use super::checkpoint::{LONGEST_HEAD, checkpoint, is_ours, note_lines, read_marks};
use super::seen::Seen;
use crate::error::Error;
use crate::sink::{Archive, Janitor, RollingOptions, day_of, today};

const READ_SIZE: usize = 256 * 1024;

/// An open file, as far as it is needed here.
pub(crate) trait Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn sync(&mut self) -> io::Result<()>;
    fn metadata(&self) -> io::Result<fs::Metadata>;
    fn set_len(&mut self, len: u64) -> io::Result<()>;
}

impl Disk for fs::File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
    fn metadata(&self) -> io::Result<fs::Metadata> {
        fs::File::metadata(self)
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }
}

/// Opens a file for appending.
pub(crate) type Opener = Box<dyn FnMut(&Path) -> io::Result<Box<dyn Disk>>>;

/// Lines that are to be written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// How many of them are in the file: whole lines.
    done: usize,
    /// How many bytes of the next line are in the file and cannot be taken out.
    torn: usize,
    /// How many of those that are done are in the file that is open, and not known to be on the disk.
    unsynced: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is to be written still.
    fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Lets go of what is written; a little room is kept.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        (self.done, self.torn, self.unsynced) = (0, 0, 0);
    }
}

/// Room of a batch that is kept from one to the next.
const KEPT_CAPACITY: usize = 8 * 1024 * 1024;

pub(crate) struct LogFile {
    path: PathBuf,
    opener: Opener,
    open: Option<Box<dyn Disk>>,
    /// Which file that is.
    place: Place,
    /// How long it is, unless another program changes it.
    len: u64,
    /// When it was last looked whether another program has changed it.
    looked: Option<Instant>,
    rolling: RollingOptions,
    sync: bool,
    archive: Archive,
    janitor: Option<Janitor>,
    /// Bytes of lines, without those of a checkpoint, which may be large where files are small.
    size: u64,
    /// The day of its last line.
    day: i64,
    /// The checkpoint that is still to be written, and how much of it is.
    checkpoint: Option<(Vec<u8>, usize)>,
    /// The file has none yet.
    wants_checkpoint: bool,
    /// The file before this one, which may go when this one has its checkpoint.
    aside: Option<PathBuf>,
}

/// A file's device and number on it.
type Place = (u64, u64);

fn place(data: &fs::Metadata) -> Place {
    (data.dev(), data.ino())
}

/// What another program has done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was removed or renamed.
    Moved,
    /// It lost its end, or all of it.
    Shrunk,
}

/// It is looked this often, at most.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What was noticed when a file was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bytes of a last line without its end, which were cut off.
    pub(crate) torn: u64,
    /// Old files that could not be read, and why.
    pub(crate) unread: Vec<(PathBuf, String)>,
}

impl LogFile {
    /// Opens the file, or makes it, and learns from it and the old ones how far each stream has come.
    pub(crate) fn open(
        path: &Path,
        rolling: RollingOptions,
        sync: bool,
        seen: &mut Seen,
    ) -> Result<(LogFile, Found), Error> {
        let refused = |source| Error::Open { path: path.to_owned(), source };
        let file = open(path).map_err(refused)?;
        let archive = Archive::of(path).map_err(refused)?;
        let mut found = Found::default();
        let read = read_marks(BufReader::with_capacity(READ_SIZE, &file), seen).map_err(refused)?;
        if read.torn > 0 {
            let len = file.metadata().map_err(refused)?.len();
            file.set_len(len.saturating_sub(read.torn)).map_err(refused)?;
            found.torn = read.torn;
        }
        if sync {
            sync_folder(path).map_err(refused)?;
        }
        if !read.has_checkpoint {
            learn_from_old(&archive, seen, &mut found).map_err(refused)?;
        }
        let data = file.metadata().map_err(refused)?;
        let day = day_of(data.modified().map_err(refused)?);
        let mut opened = LogFile {
            path: path.to_owned(),
            opener: Box::new(|path| Ok(Box::new(open(path)?))),
            open: Some(Box::new(file)),
            place: place(&data),
            len: data.len(),
            looked: None,
            rolling,
            sync,
            archive,
            janitor: None,
            size: read.bytes,
            day,
            checkpoint: None,
            wants_checkpoint: !read.has_checkpoint,
            aside: None,
        };
        if !opened.wants_checkpoint {
            opened.tidy_later(None);
        }
        Ok((opened, found))
    }

    /// Writes all of `batch` that is not written yet, and with `sync` waits for the disk. `seen` knows of each of its
    /// records.
    ///
    /// # Errors
    /// What the system said. Called again, it goes on where it was: no line is lost, none is written twice, and the
    /// file holds whole lines, unless the system does not even let it be cut.
    pub(crate) fn write(&mut self, batch: &mut Batch, seen: &mut Seen) -> io::Result<()> {
        while !batch.rest().is_empty() {
            self.write_checkpoint(seen)?;
            let fits = self.room_for(batch.rest());
            if fits == 0 {
                // What goes to the next file must not be taken for written in this one.
                self.sync_lines(batch)?;
                note_lines(&batch.bytes[..batch.done], seen);
                batch.torn = 0;
                self.roll()?;
                continue;
            }
            self.write_lines(batch, fits)?;
        }
        self.sync_lines(batch)?;
        seen.wrote_all();
        batch.clear();
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the disk has everything.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), |file| file.sync())
    }

    /// Looks whether another program has moved the file away or emptied it, unless that was done less than a second
    /// before `now`. If so, the path has a file again afterwards, and the file all marks.
    ///
    /// # Errors
    /// What the system said: nothing should be written then. The next call looks again.
    pub(crate) fn look(
        &mut self,
        batch: &mut Batch,
        seen: &mut Seen,
        now: Instant,
    ) -> io::Result<Option<Change>> {
        let is_due = self.looked.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_PERIOD);
        if self.open.is_none() || !is_due {
            return Ok(None);
        }
        let change = match fs::metadata(&self.path) {
            Ok(data) if place(&data) == self.place && data.len() >= self.len => None,
            Ok(data) if place(&data) == self.place => {
                forget_written(batch);
                self.begin_file(data.len());
                Some(Change::Shrunk)
            }
            _ => {
                self.reopen(batch, seen)?;
                Some(Change::Moved)
            }
        };
        if change.is_some() {
            self.write_checkpoint(seen)?;
        }
        self.looked = Some(now);
        Ok(change)
    }

    /// Has the next look not wait for its time.
    pub(crate) fn look_soon(&mut self) {
        self.looked = None;
    }

    /// Opens the path anew, after another program has moved the file away. If it is the same file still, nothing
    /// happens; if it cannot be opened, the old one stays open.
    pub(crate) fn reopen(&mut self, batch: &mut Batch, seen: &mut Seen) -> io::Result<()> {
        let is_same = |data: fs::Metadata| place(&data) == self.place;
        if self.open.is_some() && fs::metadata(&self.path).is_ok_and(is_same) {
            return Ok(());
        }
        let file = (self.opener)(&self.path)?;
        let data = file.metadata()?;
        if let Some(old) = &self.open
            && old.metadata()?.nlink() == 0
        {
            forget_written(batch);
        }
        self.sync_lines(batch)?;
        note_lines(&batch.bytes[..batch.done], seen);
        // A line that is torn in the old file is written whole into the new one.
        batch.torn = 0;
        if self.sync {
            sync_folder(&self.path)?;
        }
        self.open = Some(file);
        self.place = place(&data);
        self.begin_file(data.len());
        // At once, since the file that was moved away may not be found again. If that fails, the next write tries again.
        let _ = self.write_checkpoint(seen);
        Ok(())
    }

    fn begin_file(&mut self, len: u64) {
        self.size = len;
        self.len = len;
        self.day = today();
        self.checkpoint = None;
        self.wants_checkpoint = true;
    }

    /// Puts the file aside and begins a new one.
    fn roll(&mut self) -> io::Result<()> {
        let aside = self.archive.next();
        match fs::rename(&self.path, &aside) {
            // Somebody has removed it: there is nothing to put aside.
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            outcome => outcome?,
        }
        self.open = None;
        self.aside = Some(aside);
        Ok(())
    }

    /// Opens the file if that failed before, and writes its checkpoint if it has none.
    fn write_checkpoint(&mut self, seen: &Seen) -> io::Result<()> {
        if self.open.is_none() {
            let file = (self.opener)(&self.path)?;
            let data = file.metadata()?;
            self.open = Some(file);
            self.place = place(&data);
            self.begin_file(data.len());
            if self.sync {
                sync_folder(&self.path)?;
            }
        }
        if !self.wants_checkpoint {
            return Ok(());
        }
        let Some(file) = &mut self.open else { return Ok(()) };
        let (bytes, done) = match &mut self.checkpoint {
            Some(begun) => begun,
            none => {
                let mut bytes = checkpoint(seen);
                if self.len > 0 && !ends_with_line(&self.path, self.len)? {
                    bytes.insert(0, b'\n');
                }
                none.insert((bytes, 0))
            }
        };
        while *done < bytes.len() {
            match file.write(&bytes[*done..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    *done += n;
                    self.len += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        if self.sync && self.aside.is_some() {
            file.sync()?;
        }
        self.checkpoint = None;
        self.wants_checkpoint = false;
        // What older files say is here, too: now they may go.
        let aside = self.aside.take();
        self.tidy_later(aside);
        Ok(())
    }

    /// How many bytes of these lines belong into this file. A line of any length belongs into an empty one.
    fn room_for(&self, lines: &[u8]) -> usize {
        if self.size > 0 && self.rolling.daily && today() != self.day {
            return 0;
        }
        let Some(max) = self.rolling.max_bytes else { return lines.len() };
        let room = usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX);
        if lines.len() <= room {
            return lines.len();
        }
        let fits = memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1);
        if fits == 0 && self.size == 0 {
            return memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
        }
        fits
    }

    /// Writes the next `len` bytes of a batch, which are whole lines. What a failure leaves of a line in the file is cut
    /// off again.
    fn write_lines(&mut self, batch: &mut Batch, len: usize) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let from = batch.done;
        let mut at = from + batch.torn;
        let failed = loop {
            if at == from + len {
                break None;
            }
            match file.write(&batch.bytes[at..from + len]) {
                Ok(0) => break Some(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n;
                    self.len += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => break Some(error),
            }
        };
        let whole = memrchr(b'\n', &batch.bytes[from..at]).map_or(0, |end| end + 1);
        batch.done = from + whole;
        batch.unsynced += whole;
        batch.torn = at - batch.done;
        self.size += whole as u64;
        self.day = today();
        let Some(error) = failed else { return Ok(()) };
        if batch.torn > 0
            && let Ok(len) = take_back(file.as_mut(), batch.torn)
        {
            batch.torn = 0;
            self.len = len;
        }
        Err(error)
    }

    /// Waits for the disk if that is wanted. If it fails, nobody knows what is there: the lines are taken out of the file
    /// to be written again.
    fn sync_lines(&mut self, batch: &mut Batch) -> io::Result<()> {
        if self.sync
            && batch.unsynced > 0
            && let Some(file) = &mut self.open
        {
            let outcome = file.sync();
            if outcome.is_err()
                && let Ok(len) = take_back(file.as_mut(), batch.unsynced + batch.torn)
            {
                self.len = len;
                batch.torn = 0;
                batch.done -= batch.unsynced;
                self.size = self.size.saturating_sub(batch.unsynced as u64);
                batch.unsynced = 0;
            }
            outcome?;
        }
        batch.unsynced = 0;
        Ok(())
    }

    /// Has old files compressed and superfluous ones removed.
    fn tidy_later(&mut self, aside: Option<PathBuf>) {
        if self.janitor.is_none() {
            self.janitor = Janitor::start(self.archive.clone(), &self.rolling);
        }
        if let (Some(janitor), Some(aside)) = (&self.janitor, aside) {
            janitor.tell(aside);
        }
    }
}

/// A backlog file that nobody else appends to. It is made with its folders if it does not exist.
fn open(path: &Path) -> io::Result<fs::File> {
    make_folders(path)?;
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => {
            io::Error::new(ErrorKind::ResourceBusy, "another server writes to it")
        }
        errno => errno.into(),
    })?;
    if !is_ours(&read_head(&file)?) {
        let reason = "it is no backlog file and stays as it is: give another file, or move this one away";
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(file)
}

/// Makes the folders of a file and has the disk know of them.
fn make_folders(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = folder.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(sync_folder)
}

/// The beginning of a file; its position stays.
fn read_head(file: &fs::File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; LONGEST_HEAD];
    let mut len = 0;
    while len < head.len() {
        match file.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    head.truncate(len);
    Ok(head)
}

/// Cuts so many bytes off; what length is left.
fn take_back(file: &mut dyn Disk, bytes: usize) -> io::Result<u64> {
    let len = file.metadata()?.len().saturating_sub(bytes as u64);
    file.set_len(len)?;
    Ok(len)
}

/// What a batch has in a file that is gone is not acknowledged yet and is written again.
fn forget_written(batch: &mut Batch) {
    batch.done -= batch.unsynced;
    (batch.unsynced, batch.torn) = (0, 0);
}

/// Whether a line ends where a file of this length does.
fn ends_with_line(path: &Path, len: u64) -> io::Result<bool> {
    let mut last = [0];
    let n = fs::File::open(path)?.read_at(&mut last, len.saturating_sub(1))?;
    Ok(n == 0 || last == [b'\n'])
}

/// A file is on the disk when its name is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Learns from the old files, the newest first, until one of them knows what was before it.
fn learn_from_old(archive: &Archive, seen: &mut Seen, found: &mut Found) -> io::Result<()> {
    for (_, path) in archive.list()?.into_iter().rev() {
        let outcome = fs::File::open(&path).and_then(|file| {
            let file = BufReader::with_capacity(READ_SIZE, file);
            if path.extension().is_some_and(|extension| extension == "gz") {
                read_marks(BufReader::with_capacity(READ_SIZE, MultiGzDecoder::new(file)), seen)
            } else {
                read_marks(file, seen)
            }
        });
        match outcome {
            Ok(read) if read.has_checkpoint => break,
            Ok(_) => (),
            Err(error) => found.unread.push((path, error.to_string())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::Mark;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::str;

    fn mark(sequence: u64) -> Mark {
        Mark { sender: 0xc0ffee, stream: 1, sequence }
    }

    fn line(sequence: u64) -> String {
        format!("2026-11-22T14:03:56.234567Z web1 server[4711] {} INFO  {sequence}\n", mark(sequence))
    }

    /// A new record, as the server takes it.
    fn add(batch: &mut Batch, seen: &mut Seen, sequence: u64) {
        if seen.admit(mark(sequence), 1) {
            batch.bytes.extend_from_slice(line(sequence).as_bytes());
        }
    }

    fn options(max_bytes: Option<u64>) -> RollingOptions {
        RollingOptions { max_bytes, daily: false, keep: None, compress: false }
    }

    fn start(path: &Path, max_bytes: Option<u64>) -> (LogFile, Seen, Found) {
        let mut seen = Seen::new(100);
        let (file, found) = LogFile::open(path, options(max_bytes), false, &mut seen).unwrap();
        (file, seen, found)
    }

    /// How far the stream is known to have come.
    fn high(seen: &Seen) -> u64 {
        seen.written().map(|(mark, _)| mark.sequence).max().unwrap_or(0)
    }

    /// What all files hold but their checkpoints, the oldest file first.
    fn records(path: &Path) -> String {
        let old = Archive::of(path).unwrap().list().unwrap();
        let paths = old.into_iter().map(|(_, path)| path).chain([path.to_owned()]);
        let texts: String = paths.filter_map(|path| fs::read_to_string(path).ok()).collect();
        texts.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_new_file_begins_with_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut file, mut seen, _) = start(&path, Some(150));
        let mut batch = Batch::default();
        // Two lines fit into a file.
        (1..=3).for_each(|sequence| add(&mut batch, &mut seen, sequence));
        file.write(&mut batch, &mut seen).unwrap();
        (4..=6).for_each(|sequence| add(&mut batch, &mut seen, sequence));
        file.write(&mut batch, &mut seen).unwrap();
        assert_eq!(records(&path), (1..=6).map(line).collect::<String>());
        let old = Archive::of(&path).unwrap().list().unwrap();
        let texts: Vec<_> = old.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect();
        let time = "1970-01-01T00:00:00.000001Z";
        assert_eq!(texts[0], format!("# cloudstore backlog 1 marks=0\n{}{}", line(1), line(2)));
        for (text, before) in [(&texts[1], 2), (&fs::read_to_string(&path).unwrap(), 4)] {
            let head = format!("# cloudstore backlog 1 marks=1\n# mark {} {time}\n", mark(before));
            assert_eq!(*text, format!("{head}{}{}", line(before + 1), line(before + 2)));
        }
    }

    #[test]
    fn marks_come_back_from_the_file_the_old_ones_and_compressed_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        assert_eq!(high(&start(&path, None).1), 0);
        let old = |name: &str, text: String, compressed: bool| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            match compressed {
                true => GzEncoder::new(file, Compression::default()).write_all(text.as_bytes()).unwrap(),
                false => (&file).write_all(text.as_bytes()).unwrap(),
            }
        };
        // Without checkpoints all files count, with one the older ones do not.
        old("a-20261122-000001.log.gz", line(100), true);
        assert_eq!(high(&start(&path, None).1), 100);
        old("a-20261122-000002.log", format!("# cloudstore backlog 1 marks=0\n{}", line(5)), false);
        assert_eq!(high(&start(&path, None).1), 5);
        fs::write(&path, line(4)).unwrap();
        assert_eq!(high(&start(&path, None).1), 5);
        let torn_head = format!("# cloudstore backlog 1 marks=2\n# mark {} 2026-11-22T14:03:56Z\n", mark(6));
        fs::write(&path, &torn_head).unwrap();
        let (mut file, mut seen, _) = start(&path, None);
        assert_eq!(high(&seen), 6);
        let mut batch = Batch::default();
        add(&mut batch, &mut seen, 7);
        file.write(&mut batch, &mut seen).unwrap();
        drop(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&torn_head) && text.ends_with(&line(7)), "{text}");
        assert!(text[torn_head.len()..].starts_with("# cloudstore backlog 1 marks=1\n"), "{text}");
    }

    #[test]
    fn a_damaged_old_file_is_reported_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(folder.path().join("a-20261122-000001.log"), line(3)).unwrap();
        let damaged = folder.path().join("a-20261122-000002.log.gz");
        fs::write(&damaged, "no gzip").unwrap();
        let (_, seen, found) = start(&path, None);
        assert_eq!(high(&seen), 3);
        assert_eq!(found.unread[0].0, damaged);
    }

    #[test]
    fn a_file_of_others_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let rsyslog = "2026-11-22T14:03:56.234567+00:00 web1 sshd[42]: Failed password for root\n";
        let long = "x".repeat(2 * LONGEST_HEAD);
        let later = format!("first\n# cloudstore backlog 1 marks=0\n{}", line(1));
        let other_version = "# cloudstore backlog 2 marks=0\n";
        let no_number = "# cloudstore backlog 1 marks=\n";
        for text in [
            "{\"a\":1}",
            "{\"a\":1}\n",
            "\n",
            "# clouds\n",
            "# other",
            rsyslog,
            &rsyslog[..40],
            &long,
            &later,
            other_version,
            no_number,
            "# cloudstore backlog 1 marks=x",
            "\0\0\0",
        ] {
            fs::write(&path, text).unwrap();
            let mut seen = Seen::new(1);
            let refused = LogFile::open(&path, options(None), false, &mut seen).err().unwrap().to_string();
            assert!(refused.contains("a.log") && refused.contains("move this one away"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let head = "# cloudstore backlog 1 marks=10";
        let ours = (0..=head.len()).map(|end| head[..end].to_owned());
        let bare = "2026-11-22T14:03:57.000000Z 192.0.2.1 - - INFO  x";
        let records = [line(1), format!("{}{long}", line(1)), bare.to_owned(), format!("{bare}{long}\n")];
        for text in ours.chain(records).chain([format!("{head}\n")]) {
            fs::write(&path, &text).unwrap();
            start(&path, None);
        }
    }

    #[test]
    fn a_torn_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let whole = format!("# cloudstore backlog 1 marks=0\n{}", line(1));
        for torn in 1..line(2).len() {
            fs::write(&path, format!("{whole}{}", &line(2)[..torn])).unwrap();
            let (_, seen, found) = start(&path, None);
            assert_eq!((found.torn, high(&seen)), (torn as u64, 1));
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_with_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut file, mut seen, _) = start(&path, None);
        let mut batch = Batch::default();
        add(&mut batch, &mut seen, 1);
        file.write(&mut batch, &mut seen).unwrap();
        file.reopen(&mut batch, &mut seen).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        file.reopen(&mut batch, &mut seen).unwrap();
        add(&mut batch, &mut seen, 2);
        file.write(&mut batch, &mut seen).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("# cloudstore backlog 1 marks=1\n# mark {} ", mark(1))), "{text}");
        assert!(text.ends_with(&line(2)), "{text}");
        drop(file);
        assert_eq!(high(&start(&path, None).1), 2);
    }

    #[test]
    fn a_file_that_is_gone_is_noticed_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("logs/a.log"), folder.path().join("moved"));
        let (mut file, mut seen, _) = start(&path, None);
        let mut batch = Batch::default();
        let begin = Instant::now();
        let mut sequence = 0;
        let mut write = |millis: u64| {
            sequence += 1;
            add(&mut batch, &mut seen, sequence);
            let change = file.look(&mut batch, &mut seen, begin + Duration::from_millis(millis)).unwrap();
            file.write(&mut batch, &mut seen).unwrap();
            change
        };
        assert_eq!(write(0), None);
        fs::rename(&path, &moved).unwrap();
        // No look yet.
        assert_eq!(write(999), None);
        assert!(!path.exists());
        assert_eq!(write(1000), Some(Change::Moved));
        assert!(fs::read_to_string(&moved).unwrap().ends_with(&(line(1) + &line(2))));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("# cloudstore backlog 1 marks=1\n# mark {} ", mark(2))), "{text}");
        assert!(text.ends_with(&line(3)));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(write(2000), Some(Change::Moved));
        // Another file in its place, of ours, and one that is longer than the open one.
        fs::remove_file(&path).unwrap();
        fs::write(&path, line(1).repeat(100)).unwrap();
        assert_eq!(write(3000), Some(Change::Moved));
        assert_eq!(write(4000), None);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&line(1).repeat(100)) && text.ends_with(&(line(5) + &line(6))), "{text}");
        assert!(text.contains(&format!("# cloudstore backlog 1 marks=1\n# mark {} ", mark(4))), "{text}");
    }

    #[test]
    fn nothing_is_written_while_the_path_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut file, mut seen, _) = start(&path, None);
        let mut batch = Batch::default();
        add(&mut batch, &mut seen, 1);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "of others").unwrap();
        let now = Instant::now();
        for _ in 0..2 {
            let refused = file.look(&mut batch, &mut seen, now).unwrap_err().to_string();
            assert!(refused.contains("move this one away"), "{refused}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "of others");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.look(&mut batch, &mut seen, now).unwrap(), Some(Change::Moved));
    }

    #[test]
    fn an_emptied_file_gets_the_marks_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let begin = Instant::now();
        for kept in [0, 31, 31 + line(1).len() as u64 + 50] {
            let _ = fs::remove_file(&path);
            let (mut file, mut seen, _) = start(&path, None);
            let mut batch = Batch::default();
            (1..=3).for_each(|sequence| add(&mut batch, &mut seen, sequence));
            file.look(&mut batch, &mut seen, begin).unwrap();
            file.write(&mut batch, &mut seen).unwrap();
            let before = fs::read_to_string(&path).unwrap();
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
            // Written before the look, and more than what is missing.
            (4..=9).for_each(|sequence| add(&mut batch, &mut seen, sequence));
            file.look(&mut batch, &mut seen, begin + Duration::from_millis(999)).unwrap();
            file.write(&mut batch, &mut seen).unwrap();
            let now = begin + Duration::from_secs(1);
            assert_eq!(file.look(&mut batch, &mut seen, now).unwrap(), Some(Change::Shrunk));
            assert_eq!(file.look(&mut batch, &mut seen, now + Duration::from_secs(1)).unwrap(), None);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(&before[..kept as usize]) && text.contains(&line(9)), "{text}");
            assert!(
                text.contains(&format!("\n# cloudstore backlog 1 marks=1\n# mark {} ", mark(9))),
                "{text}"
            );
            drop(file);
            let (_, seen, found) = start(&path, None);
            assert_eq!((high(&seen), found), (9, Found::default()));
        }
    }

    #[test]
    fn a_cut_within_a_line_joins_nothing_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut file, mut seen, _) = start(&path, None);
        let mut batch = Batch::default();
        (1..=3).for_each(|sequence| add(&mut batch, &mut seen, sequence));
        file.write(&mut batch, &mut seen).unwrap();
        let len = fs::metadata(&path).unwrap().len();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 2).unwrap();
        file.look(&mut batch, &mut seen, Instant::now()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let torn = line(3);
        let torn = &torn[..torn.len() - 2];
        assert!(text.contains(&format!("{torn}\n# cloudstore backlog 1 marks=1\n")), "{text}");
    }

    #[test]
    fn what_a_failed_write_left_in_a_file_that_is_gone_is_written_again() {
        for (sync, empty) in [(false, false), (true, false), (false, true), (true, true)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.log");
            let moods = Rc::new(RefCell::new(VecDeque::new()));
            let (mut file, mut seen) = start_moody(&path, sync, &moods);
            let mut batch = Batch::default();
            (1..=2).for_each(|sequence| add(&mut batch, &mut seen, sequence));
            // The checkpoint, a line and a half; then what is half is cut off.
            moods.borrow_mut().extend([Mood::Good, Mood::Short(line(1).len() + 5), Mood::Fail]);
            file.write(&mut batch, &mut seen).unwrap_err();
            assert!(fs::read_to_string(&path).unwrap().ends_with(&line(1)));
            match empty {
                true => fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
            file.look(&mut batch, &mut seen, Instant::now()).unwrap().unwrap();
            file.write(&mut batch, &mut seen).unwrap();
            let expected = format!("# cloudstore backlog 1 marks=0\n{}{}", line(1), line(2));
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn two_servers_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let _first = start(&path, None);
        let refused =
            LogFile::open(&path, options(None), false, &mut Seen::new(1)).err().unwrap().to_string();
        assert!(refused.contains("another server writes to it"), "{refused}");
        let folder = LogFile::open(folder.path(), options(None), false, &mut Seen::new(1));
        assert!(folder.is_err());
    }

    /// What the disk does at its next calls.
    #[derive(Clone, Copy, Debug)]
    enum Mood {
        Good,
        Fail,
        /// Takes so many bytes.
        Short(usize),
    }

    /// A file on a disk that has its moods.
    struct Moody {
        file: fs::File,
        moods: Rc<RefCell<VecDeque<Mood>>>,
    }

    impl Moody {
        fn mood(&self) -> Mood {
            self.moods.borrow_mut().pop_front().unwrap_or(Mood::Good)
        }
    }

    impl Disk for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.mood() {
                Mood::Good => Disk::write(&mut self.file, bytes),
                Mood::Fail => Err(ErrorKind::StorageFull.into()),
                Mood::Short(n) => Disk::write(&mut self.file, &bytes[..bytes.len().min(n)]),
            }
        }
        fn sync(&mut self) -> io::Result<()> {
            match self.mood() {
                Mood::Fail => Err(ErrorKind::Other.into()),
                _ => Ok(()),
            }
        }
        fn metadata(&self) -> io::Result<fs::Metadata> {
            Disk::metadata(&self.file)
        }
        fn set_len(&mut self, len: u64) -> io::Result<()> {
            Disk::set_len(&mut self.file, len)
        }
    }

    /// Opens the file on a moody disk. The first mood is spent on a file that is opened.
    fn start_moody(path: &Path, sync: bool, moods: &Rc<RefCell<VecDeque<Mood>>>) -> (LogFile, Seen) {
        let mut seen = Seen::new(100);
        let (mut file, _) = LogFile::open(path, options(Some(200)), sync, &mut seen).unwrap();
        let moods = moods.clone();
        file.opener = Box::new(move |path| {
            let mood = moods.borrow_mut().pop_front();
            match mood {
                Some(Mood::Fail) => Err(ErrorKind::Other.into()),
                _ => Ok(Box::new(Moody { file: open(path)?, moods: moods.clone() })),
            }
        });
        file.open = None;
        let wants_checkpoint = file.wants_checkpoint;
        let size = file.size;
        file.open = Some((file.opener)(path).unwrap_or_else(|_| Box::new(open(path).unwrap())));
        (file.wants_checkpoint, file.size) = (wants_checkpoint, size);
        (file, seen)
    }

    fn moods() -> impl Strategy<Value = Vec<Mood>> {
        let mood = prop_oneof![
            3 => Just(Mood::Good),
            2 => Just(Mood::Fail),
            2 => (1usize..150).prop_map(Mood::Short),
        ];
        proptest::collection::vec(mood, 0..40)
    }

    proptest! {
        /// The client sends its records in order, and after a crash again from the first that was not acknowledged.
        #[test]
        fn nothing_is_lost_or_doubled_by_a_moody_disk_rolling_and_crashes(
            plan in moods(),
            sync in any::<bool>(),
            steps in proptest::collection::vec((1u64..5, 0u8..7), 1..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.log");
            let moods = Rc::new(RefCell::new(VecDeque::from(plan)));
            let (mut file, mut seen) = start_moody(&path, sync, &moods);
            let mut batch = Batch::default();
            let (mut sent, mut acknowledged, mut most_sent) = (0, 0, 0);
            let mut now = Instant::now();
            for (count, step) in steps {
                if step == 0 {
                    // A crash: what was not acknowledged is sent again.
                    drop(file);
                    (file, seen) = start_moody(&path, sync, &moods);
                    batch = Batch::default();
                    prop_assert!(high(&seen) >= acknowledged);
                    sent = acknowledged;
                }
                if batch.is_empty() {
                    (sent + 1..=sent + count).for_each(|sequence| add(&mut batch, &mut seen, sequence));
                    sent += count;
                    most_sent = most_sent.max(sent);
                }
                if step == 1 {
                    let _ = file.reopen(&mut batch, &mut seen);
                }
                if step == 2 && path.exists() {
                    // Another program moves it away.
                    fs::rename(&path, file.archive.next()).unwrap();
                }
                now += Duration::from_millis(600);
                if file.look(&mut batch, &mut seen, now).is_ok() && file.write(&mut batch, &mut seen).is_ok() {
                    acknowledged = sent;
                }
            }
            while file.look(&mut batch, &mut seen, now + LOOK_PERIOD).is_err() {}
            while file.write(&mut batch, &mut seen).is_err() {}
            (sent + 1..=most_sent).for_each(|sequence| add(&mut batch, &mut seen, sequence));
            while file.write(&mut batch, &mut seen).is_err() {}
            prop_assert_eq!(records(&path), (1..=most_sent).map(line).collect::<String>());
            drop(file);
            prop_assert_eq!(high(&start(&path, None).1), most_sent);
        }
    }

    #[test]
    fn a_file_that_was_made_anew_knows_all_before_its_first_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (mut file, mut seen, _) = start(&path, None);
        let mut batch = Batch::default();
        add(&mut batch, &mut seen, 1);
        file.write(&mut batch, &mut seen).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        file.reopen(&mut batch, &mut seen).unwrap();
        drop(file);
        assert_eq!(high(&start(&path, None).1), 1);
    }

    #[test]
    fn an_old_file_goes_when_the_new_one_knows_what_it_knew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let older = folder.path().join("a-20261122-000001.log");
        fs::write(&older, line(1)).unwrap();
        let mut seen = Seen::new(100);
        let none_kept = RollingOptions { keep: Some(0), ..options(Some(1)) };
        let (mut file, _) = LogFile::open(&path, none_kept, false, &mut seen).unwrap();
        assert!(file.janitor.is_none() && older.exists());
        let mut batch = Batch::default();
        add(&mut batch, &mut seen, 2);
        file.write(&mut batch, &mut seen).unwrap();
        while older.exists() {
            std::thread::yield_now();
        }
        // The new file cannot be made.
        file.opener = Box::new(|_| Err(ErrorKind::StorageFull.into()));
        add(&mut batch, &mut seen, 3);
        file.write(&mut batch, &mut seen).unwrap_err();
        drop(file);
        assert_eq!(high(&start(&path, None).1), 2);
    }
}
