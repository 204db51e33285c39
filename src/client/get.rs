//! An object on its way to a file.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use reactor::http::{self, Connection, ReplyEvent, ReplyHead};
use reactor::{Evbuffer, EventBase};

use super::error::ClientError;
use super::exchange::{Collected, ask, crc32c_of};
use super::pace::Pace;
use super::parts::{self, LeftOver};
use super::progress::Watch;
use super::remote::{self, Remote};
use super::retry::Retry;

/// What is to be fetched, and where to.
#[derive(Clone, Debug)]
pub struct Get {
    /// The object.
    pub name: String,
    /// The file; `-` for stdout.
    pub path: PathBuf,
    /// A file that is there is replaced.
    pub replaces: bool,
    /// Size and CRC-32C, if a listing told them.
    pub known: Option<(u64, u32)>,
}

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub crc32c: u32,
    /// How many of them an earlier run had fetched.
    pub resumed_from: u64,
    /// The file was there, and is the same.
    pub was_there: bool,
    /// The server has said what the digest is, and it is that.
    pub is_verified: bool,
}

/// What is read of a file at a time, to digest it.
const PIECE: usize = 1024 * 1024;

type OnFetched = Box<dyn FnOnce(Result<Fetched, ClientError>)>;

/// Fetches an object, and goes on where it was if the connection breaks. It is in its place when it is whole and its digest
/// is right.
pub(super) fn start(
    remote: &Remote,
    connection: &Connection,
    get: Get,
    left_over: &Rc<LeftOver>,
    (watch, transfer): (Rc<Pace>, usize),
    on_done: impl FnOnce(Result<Fetched, ClientError>) + 'static,
) {
    let getting = Getting {
        remote: remote.clone(),
        connection: connection.clone(),
        get,
        left_over: Rc::clone(left_over),
        watch,
        transfer,
        retry: RefCell::new(Retry::new(remote.retry())),
        furthest: Cell::new(0),
        started: Cell::new(remote.base().now()),
        has_moved: Cell::new(false),
        state: RefCell::default(),
        on_done: Cell::new(Some(Box::new(on_done))),
    };
    let getting = Rc::new(getting);
    match getting.is_to_stdout() {
        true => getting.begin(),
        false => getting.look_at_target(),
    }
}

struct Getting {
    remote: Remote,
    connection: Connection,
    get: Get,
    left_over: Rc<LeftOver>,
    watch: Rc<Pace>,
    transfer: usize,
    retry: RefCell<Retry>,
    /// The most that was ever there.
    furthest: Cell<u64>,
    /// When this try began, and whether anything of the object came.
    started: Cell<Instant>,
    has_moved: Cell<bool>,
    state: RefCell<State>,
    on_done: Cell<Option<OnFetched>>,
}

/// What is there of one version.
#[derive(Default)]
struct State {
    etag: Option<String>,
    total: Option<u64>,
    digest: Option<u32>,
    modified: Option<SystemTime>,
    position: u64,
    crc32c: u32,
    /// What comes again and is there already.
    skip: u64,
    resumed_from: u64,
    out: Option<Out>,
}

struct Out {
    path: PathBuf,
    file: File,
}

impl Getting {
    fn is_to_stdout(&self) -> bool {
        self.get.path.as_os_str() == "-"
    }

    fn look_at_target(self: Rc<Getting>) {
        let meta = match fs::symlink_metadata(&self.get.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.look_for_part(),
            Err(source) => return self.done(Err(ClientError::local("find", &self.get.path, source))),
            Ok(meta) => meta,
        };
        // What a link leads to is what somebody who names it means; one that leads nowhere is only a link.
        let kind = fs::metadata(&self.get.path).unwrap_or(meta);
        if kind.is_dir() {
            return self.is_folder_here();
        }
        // A device or a pipe would be lost, or opening it would wait for ever.
        if !kind.is_file() && !kind.is_symlink() {
            let why =
                "is a device, a pipe or a socket, which no file takes the place of: write -o - for stdout";
            return self.done(Err(ClientError::file(&self.get.path, why)));
        }
        if self.get.replaces {
            return self.look_for_part();
        }
        if let Some((size, crc32c)) = self.get.known {
            return self.compare(size, Some(crc32c));
        }
        let path = remote::path_of(&self.get.name);
        let me = Rc::clone(&self);
        ask(
            &self.remote,
            &self.connection,
            move |remote, connection| {
                remote.request(connection, "HEAD", &path).header("Want-Repr-Digest", "crc32c=1")
            },
            move |result| match result {
                Ok(answer) => {
                    let size = answer.headers.text("content-length").and_then(|text| text.parse().ok());
                    me.compare(size.unwrap_or(u64::MAX), crc32c_of(&answer.headers));
                }
                // What is wrong is said in the answer to GET.
                Err(_) => me.begin(),
            },
        );
    }

    /// What was meant may be a folder there, too: then the server says so.
    fn is_folder_here(self: Rc<Getting>) {
        let path = remote::path_of(&self.get.name);
        let me = Rc::clone(&self);
        ask(
            &self.remote,
            &self.connection,
            move |remote, connection| remote.request(connection, "HEAD", &path),
            move |result| match result {
                Ok(_) => {
                    let why = "is a folder: to put the file into it, write a slash behind";
                    me.done(Err(ClientError::file(&me.get.path, why)));
                }
                Err(_) => me.begin(),
            },
        );
    }

    /// Looks whether the file that is there is what would be fetched.
    fn compare(self: Rc<Getting>, size: u64, crc32c: Option<u32>) {
        let file = match File::open(&self.get.path) {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == size) => file,
            _ => return self.done(Err(parts::exists(&self.get.path))),
        };
        let me = Rc::clone(&self);
        sum(self.remote.base(), file, size, move |summed| match summed {
            Ok((_, found)) if Some(found) == crc32c => {
                me.watch.has_size(me.transfer, size);
                me.watch.is_at(me.transfer, size);
                let fetched =
                    Fetched { size, crc32c: found, resumed_from: 0, was_there: true, is_verified: true };
                me.done(Ok(fetched));
            }
            Ok(_) => me.done(Err(parts::exists(&me.get.path))),
            Err(source) => me.done(Err(ClientError::local("read", &me.get.path, source))),
        });
    }

    /// Goes on with what an earlier run has left.
    fn look_for_part(self: Rc<Getting>) {
        let Some((path, tag)) = self.left_over.take(&self.get.path) else { return self.begin() };
        let file = match parts::open(&path, false) {
            Ok(file) => file,
            Err(error) => return self.done(Err(error)),
        };
        // The last byte is asked for again: a range that begins at the end would be refused.
        let len = file.metadata().map_or(0, |meta| meta.len()).saturating_sub(1);
        let again = file.try_clone();
        let again = match again {
            Ok(again) => again,
            Err(source) => return self.done(Err(ClientError::local("open", &path, source))),
        };
        let me = Rc::clone(&self);
        sum(self.remote.base(), again, len, move |summed| {
            let (position, crc32c) = match summed {
                Ok(summed) => summed,
                Err(source) => return me.done(Err(ClientError::local("read", &path, source))),
            };
            let cut = file.set_len(position).and_then(|()| (&file).seek(SeekFrom::Start(position)));
            if let Err(source) = cut {
                return me.done(Err(ClientError::local("cut", &path, source)));
            }
            me.furthest.set(position);
            me.state.replace(State {
                etag: Some(format!("\"{tag}\"")),
                position,
                crc32c,
                resumed_from: position,
                out: Some(Out { path, file }),
                ..State::default()
            });
            me.begin();
        });
    }

    fn begin(self: Rc<Getting>) {
        self.started.set(self.remote.base().refresh_now());
        self.has_moved.set(false);
        let mut request = self
            .remote
            .request(&self.connection, "GET", &remote::path_of(&self.get.name))
            .header("Want-Repr-Digest", "crc32c=1");
        {
            let state = self.state.borrow();
            if let Some(etag) = state.etag.as_ref().filter(|_| state.position > 0) {
                request =
                    request.header("Range", format!("bytes={}-", state.position)).header("If-Range", etag);
            }
        }
        let me = Rc::clone(&self);
        let mut refused: Option<Collected> = None;
        let sent = request.send(move |connection, event| match event {
            ReplyEvent::Head(head) => {
                me.remote.answered();
                match head.status().code() {
                    200 | 206 => {
                        if let Err(error) = me.head(head) {
                            me.stop(connection, error);
                        }
                    }
                    _ => refused.get_or_insert_default().begin(head.status(), head.headers()),
                }
            }
            ReplyEvent::Data(data) => match &mut refused {
                Some(refused) => _ = refused.take(data),
                None => {
                    if let Err(error) = me.take(data) {
                        me.stop(connection, error);
                    }
                }
            },
            ReplyEvent::End => match refused.take().map(|refused| refused.end(&me.remote)) {
                Some(Err(error)) => me.failed(error),
                Some(Ok(_)) => {
                    let error =
                        ClientError::strange(me.remote.server(), "it answers with a status of no use");
                    me.failed(error);
                }
                None => me.finish(),
            },
            ReplyEvent::Failed(error) => {
                let error = me.remote.failure(error);
                me.failed(error);
            }
        });
        if let Err(error) = sent {
            let error = self.remote.failure(error);
            self.failed(error);
        }
    }

    /// What comes next is no use.
    fn stop(self: &Rc<Getting>, connection: &Connection, error: Stop) {
        connection.close();
        match error {
            Stop::Failed(error) => self.failed(error),
            Stop::Anew => self.begin_anew(),
        }
    }

    fn begin_anew(self: &Rc<Getting>) {
        if let Err(error) = self.discard() {
            return self.done(Err(error));
        }
        let me = Rc::clone(self);
        if let Err(error) = self.remote.base().once(Some(Duration::ZERO), move |_| me.begin()) {
            self.done(Err(error.into()));
        }
    }

    /// Throws away what came.
    fn discard(&self) -> Result<(), ClientError> {
        let state = self.state.take();
        self.watch.is_at(self.transfer, 0);
        match state.out {
            Some(out) if !self.is_to_stdout() => {
                fs::remove_file(&out.path).map_err(|source| ClientError::local("remove", &out.path, source))
            }
            _ => Ok(()),
        }
    }

    fn head(&self, head: &ReplyHead) -> Result<(), Stop> {
        let headers = head.headers();
        let etag = headers.text("etag").map(str::to_owned);
        let position = self.state.borrow().position;
        let is_same = etag.is_some() && etag == self.state.borrow().etag;
        if head.status().code() == 206 {
            let range = headers.text("content-range").and_then(range_of);
            if position == 0 {
                // To ask anew would bring the same again, for ever.
                let error =
                    ClientError::strange(self.remote.server(), "it sends a part and was asked for all");
                return Err(error.into());
            }
            if !is_same {
                return Err(if self.is_to_stdout() { self.other_version() } else { Stop::Anew });
            }
            let Some((first, total)) = range.filter(|&(first, _)| first == position) else {
                let error =
                    ClientError::strange(self.remote.server(), "it sends another part than it was asked for");
                return Err(error.into());
            };
            let mut state = self.state.borrow_mut();
            state.total = total.or(head.body_length().map(|length| first.saturating_add(length)));
        } else if position > 0 && self.is_to_stdout() {
            // What is written cannot be taken back.
            if !is_same {
                return Err(self.other_version());
            }
            let mut state = self.state.borrow_mut();
            state.skip = position;
        } else {
            if position > 0 {
                self.discard()?;
            }
            let old = self.state.take();
            // A new part of a try that brought nothing is used again.
            let mut state = State { etag, total: head.body_length(), ..State::default() };
            state.out = match old.out {
                Some(out) if self.is_to_stdout() || out.path == self.part_path(&state) => Some(out),
                Some(out) => {
                    let _ = fs::remove_file(&out.path);
                    Some(self.open(&state)?)
                }
                None => Some(self.open(&state)?),
            };
            self.state.replace(state);
        }
        let mut state = self.state.borrow_mut();
        state.digest = crc32c_of(headers).or(state.digest);
        let modified = headers.text("last-modified").and_then(|text| httpdate::parse_http_date(text).ok());
        state.modified = modified.or(state.modified);
        let total = state.total;
        drop(state);
        if let Some(total) = total {
            self.watch.has_size(self.transfer, total);
        }
        Ok(())
    }

    fn other_version(&self) -> Stop {
        let why = format!("{} changed while it was written to stdout: get it again", self.get.name);
        ClientError::Failed(why).into()
    }

    fn part_path(&self, state: &State) -> PathBuf {
        parts::path_of(&self.get.path, state.etag.as_deref().and_then(parts::tag_of))
    }

    fn open(&self, state: &State) -> Result<Out, ClientError> {
        if self.is_to_stdout() {
            let file = stdout().map_err(ClientError::Write)?;
            return Ok(Out { path: self.get.path.clone(), file });
        }
        let folder = parts::folder_of(&self.get.path);
        fs::create_dir_all(folder).map_err(|source| ClientError::local("make the folder", folder, source))?;
        let path = self.part_path(state);
        Ok(Out { file: parts::open(&path, true)?, path })
    }

    fn take(&self, data: &Evbuffer) -> Result<(), Stop> {
        self.has_moved.set(true);
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if let Ok(bytes) = data.peek(..) {
            for mut slice in bytes.slices() {
                let known = slice.len().min(usize::try_from(state.skip).unwrap_or(usize::MAX));
                state.skip -= known as u64;
                slice = &slice[known..];
                if let Some(out) = &mut state.out {
                    out.file
                        .write_all(slice)
                        .map_err(|source| ClientError::local("write", &out.path, source))?;
                }
                state.crc32c = crc32c::crc32c_append(state.crc32c, slice);
                state.position += slice.len() as u64;
            }
        }
        let position = state.position;
        drop(guard);
        // Nothing of it is lent any more.
        let _ = data.drain(usize::MAX);
        if position > self.furthest.get() {
            self.furthest.set(position);
            self.retry.borrow_mut().advanced();
        }
        self.watch.is_at(self.transfer, position);
        Ok(())
    }

    /// A try has ended with an answer.
    fn finish(self: &Rc<Getting>) {
        let is_whole = {
            let state = self.state.borrow();
            state.skip == 0 && state.total.is_none_or(|total| total == state.position)
        };
        if !is_whole {
            let error = self.remote.failure(http::ClientError::Closed);
            return self.failed(error);
        }
        let is_wrong = {
            let state = self.state.borrow();
            state.digest.is_some_and(|digest| digest != state.crc32c)
        };
        if is_wrong {
            return self.arrived_wrong();
        }
        let State { position, crc32c, digest, modified, resumed_from, out, .. } = self.state.take();
        let fetched =
            Fetched { size: position, crc32c, resumed_from, was_there: false, is_verified: digest.is_some() };
        let placed = match out {
            Some(out) if !self.is_to_stdout() => {
                parts::place(&out.path, &out.file, &self.get.path, modified, self.get.replaces)
            }
            _ => Ok(()),
        };
        self.done(placed.map(|()| fetched));
    }

    fn arrived_wrong(self: &Rc<Getting>) {
        let (found, expected, resumed_from) = {
            let state = self.state.borrow();
            (state.crc32c, state.digest.unwrap_or_default(), state.resumed_from)
        };
        // The part of an earlier run may have lost something with the power.
        if resumed_from > 0 {
            return self.begin_anew();
        }
        let advice = match self.is_to_stdout() {
            true => "do not use what was written, and get it again",
            false => "what came is thrown away: get it again",
        };
        let mismatch = ClientError::Mismatch { name: self.get.name.clone(), found, expected, advice };
        let discarded = self.discard();
        self.done(Err(discarded.err().unwrap_or(mismatch)));
    }

    fn failed(self: &Rc<Getting>, error: ClientError) {
        let position = self.state.borrow().position;
        if matches!(error, ClientError::Refused { status: 416, .. }) && position > 0 && !self.is_to_stdout() {
            return self.begin_anew();
        }
        if !self.remote.may_recover(&error) {
            return self.done(Err(error));
        }
        if position == 0 && self.watch.is_for_others(self.transfer, &error) {
            return self.done(Err(error));
        }
        let now = self.remote.base().now();
        let lost = match self.has_moved.get() {
            true => Duration::ZERO,
            false => now.saturating_duration_since(self.started.get()),
        };
        let wait = self.retry.borrow_mut().failed(lost);
        let Some(wait) = wait else { return self.done(Err(error)) };
        self.watch.waits(self.transfer, &error, wait);
        let me = Rc::clone(self);
        if let Err(error) = self.remote.base().once(Some(wait), move |_| me.resume()) {
            self.done(Err(error.into()));
        }
    }

    /// Only a version with a strong tag can be gone on with.
    fn resume(self: Rc<Getting>) {
        let is_resumable = {
            let state = self.state.borrow();
            state.position == 0 || state.etag.as_ref().is_some_and(|etag| etag.starts_with('"'))
        };
        match is_resumable {
            true => self.begin(),
            false if self.is_to_stdout() => {
                let why = format!("{} has no version to go on with: get it again", self.get.name);
                self.done(Err(ClientError::Failed(why)));
            }
            false => self.begin_anew(),
        }
    }

    fn done(&self, result: Result<Fetched, ClientError>) {
        let state = self.state.take();
        let is_resumable = state.position > 0 && state.etag.as_deref().and_then(parts::tag_of).is_some();
        if let Some(out) = state.out.filter(|_| !is_resumable && !self.is_to_stdout()) {
            let _ = fs::remove_file(&out.path);
        }
        if let Some(on_done) = self.on_done.take() {
            on_done(result);
        }
    }
}

/// Why an answer is not read on.
enum Stop {
    Failed(ClientError),
    /// It is about another version.
    Anew,
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        Stop::Failed(error)
    }
}

fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// The first byte that a `Content-Range` has, and of how many.
fn range_of(field: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = field.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

/// Digests the first `len` bytes of a file, a piece in each turn of the loop: how many there were, and their CRC-32C.
pub(super) fn sum(
    base: &EventBase,
    file: File,
    len: u64,
    on_done: impl FnOnce(io::Result<(u64, u32)>) + 'static,
) {
    Summing { file, left: len, read: 0, crc32c: 0, piece: vec![0; PIECE], on_done }.step(base);
}

struct Summing<F> {
    file: File,
    left: u64,
    read: u64,
    crc32c: u32,
    piece: Vec<u8>,
    on_done: F,
}

impl<F: FnOnce(io::Result<(u64, u32)>) + 'static> Summing<F> {
    fn step(mut self, base: &EventBase) {
        let wanted = usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE));
        match self.file.read(&mut self.piece[..wanted]) {
            Ok(0) => (self.on_done)(Ok((self.read, self.crc32c))),
            Ok(n) => {
                self.crc32c = crc32c::crc32c_append(self.crc32c, &self.piece[..n]);
                self.read += n as u64;
                self.left -= n as u64;
                // A base that is gone runs nothing any more.
                let _ = base.once(Some(Duration::ZERO), move |base| self.step(base));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                let _ = base.once(Some(Duration::ZERO), move |base| self.step(base));
            }
            Err(error) => (self.on_done)(Err(error)),
        }
    }
}

/// Where an object of a folder goes below `top`; the server's name for it is not believed.
///
/// # Errors
/// A name that does not begin with the folder's, or would leave it.
pub fn place_below(top: &Path, folder: &str, name: &str) -> Result<PathBuf, ClientError> {
    let rest = name.strip_prefix(folder).and_then(|rest| crate::storage::Name::parse(rest).ok());
    match rest {
        Some(rest) => Ok(top.join(rest.as_str())),
        None => Err(ClientError::Failed(format!(
            "{}: such a name cannot be that of a file below {}: it is left out",
            super::shown(name),
            top.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (field, range) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("bytes -1-9/10", None),
        ] {
            assert_eq!(range_of(field), range, "{field}");
        }
    }

    #[test]
    fn no_name_leaves_its_folder() {
        let top = Path::new("/top");
        assert_eq!(place_below(top, "a/", "a/b/c").unwrap(), Path::new("/top/b/c"));
        assert_eq!(place_below(top, "", "a").unwrap(), Path::new("/top/a"));
        for name in
            ["b/c", "a/", "a/../x", "a/..", "a//etc/passwd", "a/b\\c", "a/b\0", "a/\u{1b}[2J", "/a/b", "a"]
        {
            let error = place_below(top, "a/", name).unwrap_err().to_string();
            assert!(error.contains("left out") && !error.contains(char::is_control), "{error}");
        }
    }
}
