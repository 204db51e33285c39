//! A file on its way to the server.

use std::cell::{Cell, RefCell};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::http::{BodyStream, Connection, RequestBuilder};
use reactor::{Event, EventFlags};
use serde::Deserialize;

use super::error::{ClientError, shown};
use super::exchange::{Answer, ask, collect, crc32c_of, digest_of};
use super::get::sum;
use super::pace::Pace;
use super::progress::Watch;
use super::remote::{Remote, path_of};
use super::retry::Retry;

/// What is to be sent, and how.
#[derive(Clone, Debug)]
pub struct Put {
    /// Where from; `-` for stdin.
    pub path: PathBuf,
    /// The object.
    pub name: String,
    /// Packed on the server.
    pub is_deep: bool,
    /// Only if there is no such object yet.
    pub is_new_only: bool,
}

/// What was stored.
#[derive(Debug)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// Of its content.
    pub crc32c: u32,
    /// The version, as the server calls it.
    pub etag: String,
    /// It was there and is the same: nothing was replaced.
    pub was_there: bool,
}

/// What is read of a file before it is sent. Two of them wait at most.
const PIECE: usize = 256 * 1024;
/// A file of so many bytes goes out in one piece, with its digest in front: the server refuses it if it does not arrive so.
const SMALL: u64 = 64 * 1024;
/// Above it, the server is asked whether it takes the file before it is sent.
const LARGE: u64 = 1024 * 1024;

type OnStored = Box<dyn FnOnce(Result<Stored, ClientError>)>;

/// Sends a file, again and again if the connection breaks. What the server says it has is compared with what was sent.
pub(super) fn start(
    remote: &Remote,
    connection: &Connection,
    put: Put,
    (watch, transfer): (Rc<Pace>, usize),
    on_done: impl FnOnce(Result<Stored, ClientError>) + 'static,
) {
    let putting = Putting {
        remote: remote.clone(),
        connection: connection.clone(),
        put,
        watch,
        transfer,
        retry: RefCell::new(Retry::new(remote.retry())),
        furthest: Cell::new(0),
        sent: Cell::new(0),
        crc32c: Cell::new(0),
        is_whole: Cell::new(false),
        was_whole: Cell::new(None),
        is_used_up: Cell::new(false),
        failed: Cell::new(None),
        started: Cell::new(remote.base().now()),
        has_moved: Cell::new(false),
        on_done: Cell::new(Some(Box::new(on_done))),
    };
    Rc::new(putting).begin();
}

struct Putting {
    remote: Remote,
    connection: Connection,
    put: Put,
    watch: Rc<Pace>,
    transfer: usize,
    retry: RefCell<Retry>,
    /// The most that any try has sent.
    furthest: Cell<u64>,
    /// What this try has sent, and its digest.
    sent: Cell<u64>,
    crc32c: Cell<u32>,
    is_whole: Cell<bool>,
    /// The length and digest of what an earlier try had sent to its end: it may be stored.
    was_whole: Cell<Option<(u64, u32)>>,
    /// Bytes of what can be read only once are gone.
    is_used_up: Cell<bool>,
    /// Why this side has given up.
    failed: Cell<Option<ClientError>>,
    /// When this try began, and whether the server has taken anything of it.
    started: Cell<Instant>,
    has_moved: Cell<bool>,
    on_done: Cell<Option<OnStored>>,
}

impl Putting {
    fn begin(self: Rc<Putting>) {
        self.sent.set(0);
        self.crc32c.set(0);
        self.is_whole.set(false);
        self.started.set(self.remote.base().refresh_now());
        self.has_moved.set(false);
        let opened = match self.put.path.as_os_str() == "-" {
            true => stdin(),
            false => File::open(&self.put.path),
        };
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (meta, file) = match opened {
            Ok(opened) => opened,
            Err(source) => return self.give_up("open", source),
        };
        if meta.is_dir() {
            let error = ClientError::file(&self.put.path, "is a folder by now");
            return self.done(Err(error));
        }
        let begun = match meta.is_file() && self.put.path.as_os_str() != "-" {
            true if meta.len() <= SMALL => self.send_small(file, &meta),
            true => self.send_large(file, meta),
            false => self.send_stream(file),
        };
        if let Err(error) = begun {
            self.ended(Err(error));
        }
    }

    fn request(&self, modified: Option<&Metadata>) -> RequestBuilder {
        let mut request = self.remote.request(&self.connection, "PUT", &path_of(&self.put.name));
        if let Some(meta) = modified.filter(|meta| meta.mtime() >= 0) {
            let micros = meta.mtime_nsec() / 1000;
            request = request.header("X-OC-Mtime", format!("{}.{micros:06}", meta.mtime()));
        }
        if self.put.is_deep {
            request = request.header("Storage-Class", "deep");
        }
        if self.put.is_new_only {
            request = request.header("If-None-Match", "*");
        }
        request
    }

    fn send_small(self: &Rc<Putting>, mut file: File, meta: &Metadata) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        let read = (&mut file).take(SMALL + 1).read_to_end(&mut bytes);
        read.map_err(|source| ClientError::local("read", &self.put.path, source))?;
        if !is_unchanged(&file, meta, bytes.len() as u64) {
            return Err(self.changed());
        }
        self.crc32c.set(crc32c::crc32c(&bytes));
        self.sent.set(bytes.len() as u64);
        self.is_whole.set(true);
        let me = Rc::clone(self);
        let request = self.request(Some(meta)).header("Repr-Digest", digest_of(self.crc32c.get()));
        let sent = request.body(bytes).send(collect(&self.remote, move |result| me.ended(result)));
        sent.map_err(|error| self.remote.failure(error))
    }

    fn send_large(self: &Rc<Putting>, mut file: File, meta: Metadata) -> Result<(), ClientError> {
        let size = meta.len();
        let mut request = self.request(Some(&meta));
        if size > LARGE {
            request = request.expect_continue();
        }
        let me = Rc::clone(self);
        let on_event = collect(&self.remote, move |result| me.ended(result));
        let stream = request.stream_sized(size, on_event).map_err(|error| self.remote.failure(error))?;
        let me = Rc::clone(self);
        let mut piece = vec![0; PIECE];
        stream.on_drained(move |stream| {
            me.advanced();
            let wanted = (size - me.sent.get()).min(PIECE as u64) as usize;
            let outcome = match read(&mut file, &mut piece[..wanted]) {
                Ok(n) if n as u64 == size - me.sent.get() && !is_unchanged(&file, &meta, size) => {
                    Err(me.changed())
                }
                Ok(0) if wanted > 0 => Err(me.changed()),
                Ok(n) => {
                    me.pass_on(stream, &piece[..n]);
                    Ok(())
                }
                Err(source) => Err(ClientError::local("read", &me.put.path, source)),
            };
            match outcome {
                Ok(()) if me.sent.get() == size => me.finish(stream),
                Ok(()) => (),
                Err(error) => me.abort(stream, error),
            }
        });
        Ok(())
    }

    /// What has no length, and can be read only once.
    fn send_stream(self: &Rc<Putting>, file: File) -> Result<(), ClientError> {
        let me = Rc::clone(self);
        let on_event = collect(&self.remote, move |result| me.ended(result));
        let request = self.request(None).expect_continue();
        let stream = request.stream(on_event).map_err(|error| self.remote.failure(error))?;
        let file = Rc::new(file);
        let mut piece = vec![0; PIECE];
        let me = Rc::clone(self);
        let source = Rc::clone(&file);
        let mut next = move |stream: &BodyStream| {
            me.is_used_up.set(true);
            match read(&mut &*source, &mut piece) {
                Ok(0) => me.finish(stream),
                Ok(n) => me.pass_on(stream, &piece[..n]),
                Err(source) => me.abort(stream, ClientError::local("read", &me.put.path, source)),
            }
        };
        // The loop waits until there is something to be read; files are always ready, and cannot be waited for.
        let waiting = Waiting(RefCell::default());
        let me = Rc::clone(self);
        let base = self.remote.base().handle();
        let mut is_file = false;
        let next = Rc::new(RefCell::new(move |stream: &BodyStream| next(stream)));
        stream.on_drained(move |stream| {
            me.advanced();
            if !is_file {
                let event = waiting.0.borrow().clone();
                let event = match event {
                    Some(event) => Some(event),
                    None => {
                        let (next, stream) = (Rc::clone(&next), stream.clone());
                        let event = Event::fd(&base, Rc::clone(&file), EventFlags::READ, move |_, _| {
                            if let Ok(mut next) = next.try_borrow_mut() {
                                next(&stream);
                            }
                        });
                        let event = event.ok();
                        waiting.0.replace(event.clone());
                        event
                    }
                };
                if event.is_some_and(|event| event.add(None).is_ok()) {
                    return;
                }
                is_file = true;
            }
            if let Ok(mut next) = next.try_borrow_mut() {
                next(stream);
            }
        });
        Ok(())
    }

    fn pass_on(&self, stream: &BodyStream, bytes: &[u8]) {
        self.crc32c.set(crc32c::crc32c_append(self.crc32c.get(), bytes));
        self.sent.set(self.sent.get() + bytes.len() as u64);
        // A server that has left, or wants no more, is told of by its connection.
        let _ = stream.write(bytes);
    }

    fn finish(&self, stream: &BodyStream) {
        self.is_whole.set(true);
        stream.finish();
    }

    fn abort(&self, stream: &BodyStream, error: ClientError) {
        self.failed.set(Some(error));
        stream.abort();
    }

    /// All but a little of what was passed on is sent.
    fn advanced(&self) {
        let sent = self.sent.get();
        if sent > 0 {
            self.remote.answered();
            self.has_moved.set(true);
        }
        if sent > self.furthest.get() {
            self.furthest.set(sent);
            self.retry.borrow_mut().advanced();
        }
        self.watch.is_at(self.transfer, sent);
    }

    /// A try is over.
    fn ended(self: &Rc<Putting>, result: Result<Answer, ClientError>) {
        if let Some(error) = self.failed.take() {
            return self.done(Err(error));
        }
        match result {
            Ok(answer) => {
                let stored = self.compare(&answer);
                self.done(stored);
            }
            Err(ClientError::Refused { status: 412, .. })
                if self.was_whole.get().is_some() || self.put.is_new_only =>
            {
                self.look_again()
            }
            Err(error) => self.try_again(error),
        }
    }

    fn is_taken(&self) -> ClientError {
        ClientError::Refused {
            status: 412,
            code: "precondition_failed".to_owned(),
            message: format!("there is another object {}, and it stays as it is", shown(&self.put.name)),
        }
    }

    fn compare(&self, answer: &Answer) -> Result<Stored, ClientError> {
        #[derive(Deserialize)]
        struct Entry {
            size: u64,
            crc32c: String,
            etag: String,
        }
        let strange = |why: String| ClientError::strange(self.remote.server(), why);
        let Entry { size, crc32c, etag } =
            serde_json::from_slice(&answer.body).map_err(|error| strange(error.to_string()))?;
        let found = u32::from_str_radix(&crc32c, 16).map_err(|error| strange(error.to_string()))?;
        let expected = self.crc32c.get();
        if (size, found) != (self.sent.get(), expected) {
            let (name, advice) = (self.put.name.clone(), "what is stored now is wrong: put it again");
            return Err(ClientError::Mismatch { name, found, expected, advice });
        }
        self.watch.is_at(self.transfer, size);
        Ok(Stored { size, crc32c: found, etag, was_there: false })
    }

    /// There is an object where none was to be: it may be what an earlier try has stored, whose answer was lost, or the same
    /// from another time.
    fn look_again(self: &Rc<Putting>) {
        let path = path_of(&self.put.name);
        let me = Rc::clone(self);
        ask(
            &self.remote,
            &self.connection,
            move |remote, connection| {
                remote.request(connection, "HEAD", &path).header("Want-Repr-Digest", "crc32c=1")
            },
            move |result| match result {
                Ok(answer) => me.compare_with_found(&answer),
                Err(error) => me.done(Err(error)),
            },
        );
    }

    fn compare_with_found(self: &Rc<Putting>, answer: &Answer) {
        let size = answer.headers.text("content-length").and_then(|text| text.parse().ok());
        let (Some(size), Some(crc32c)) = (size, crc32c_of(&answer.headers)) else {
            return self.done(Err(self.is_taken()));
        };
        let etag = answer.headers.text("etag").unwrap_or_default().to_owned();
        let stored = Stored { size, crc32c, etag, was_there: self.was_whole.get().is_none() };
        let sent = self.is_whole.get().then(|| (self.sent.get(), self.crc32c.get()));
        if let Some(sent) = self.was_whole.get().or(sent) {
            return self.done(if sent == (size, crc32c) { Ok(stored) } else { Err(self.is_taken()) });
        }
        // It was refused before it was read to its end.
        let file = match File::open(&self.put.path) {
            Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == size) => file,
            _ => return self.done(Err(self.is_taken())),
        };
        let me = Rc::clone(self);
        sum(self.remote.base(), file, size, move |summed| match summed {
            Ok(summed) if summed == (size, crc32c) => {
                me.watch.is_at(me.transfer, size);
                me.done(Ok(stored));
            }
            Ok(_) => me.done(Err(me.is_taken())),
            Err(source) => me.give_up("read", source),
        });
    }

    fn try_again(self: &Rc<Putting>, error: ClientError) {
        if self.is_whole.get() {
            self.was_whole.set(Some((self.sent.get(), self.crc32c.get())));
        }
        if !self.remote.may_recover(&error) {
            return self.done(Err(error));
        }
        if self.is_used_up.get() {
            let why =
                format!("cannot be read again, and was not stored: {error}; send it once more, or a file");
            let path = if self.put.path.as_os_str() == "-" { Path::new("stdin") } else { &self.put.path };
            // The exit code is that of the reason.
            return self.done(Err(ClientError::Broken {
                path: path.to_owned(),
                why,
                source: Box::new(error),
            }));
        }
        if self.watch.is_for_others(self.transfer, &error) {
            return self.done(Err(error));
        }
        // While bytes moved, no time was lost.
        let lost = match self.has_moved.get() {
            true => Duration::ZERO,
            false => self.remote.base().now().saturating_duration_since(self.started.get()),
        };
        let wait = self.retry.borrow_mut().failed(lost);
        let Some(wait) = wait else { return self.done(Err(error)) };
        self.watch.waits(self.transfer, &error, wait);
        self.watch.is_at(self.transfer, 0);
        let me = Rc::clone(self);
        if let Err(error) = self.remote.base().once(Some(wait), move |_| me.begin()) {
            self.done(Err(error.into()));
        }
    }

    fn changed(&self) -> ClientError {
        ClientError::file(
            &self.put.path,
            "changed while it was sent, and was not stored: put it again when nobody writes to it",
        )
    }

    fn give_up(&self, act: &'static str, source: io::Error) {
        self.done(Err(ClientError::local(act, &self.put.path, source)));
    }

    fn done(&self, result: Result<Stored, ClientError>) {
        if let Some(on_done) = self.on_done.take() {
            on_done(result);
        }
    }
}

/// What waits for more to be read; it ends with the body.
struct Waiting(RefCell<Option<Event>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let event = self.0.take();
        if let Some(event) = event {
            event.free();
        }
    }
}

fn stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn read(from: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            read => return read,
        }
    }
}

/// Whether a file still has so many bytes, and was not written to since.
fn is_unchanged(file: &File, before: &Metadata, size: u64) -> bool {
    let times = |meta: &Metadata| (meta.mtime(), meta.mtime_nsec(), meta.len());
    size == before.len() && file.metadata().is_ok_and(|now| times(&now) == times(before))
}
