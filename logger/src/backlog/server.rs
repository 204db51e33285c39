//! The listener, its connections, and when they are served.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use reactor::{
    Address, BevEvent, BevOptions, Bufferevent, Direction, Event, EventBase, EventFlags, Listener,
};

use super::book::{Book, wall_clock};
use super::connection::Connection;
use super::echo::Echo;
use super::file::LogFile;
use super::listen::{free, listen};
use super::seen::Seen;
use crate::error::Error;
use crate::level::Level;
use crate::sink::RollingOptions;

/// What this module logs is about this.
const TARGET: &str = "logger::backlog";
/// Streams whose marks are kept; a checkpoint of so many is 8 MB.
const MAX_STREAMS: usize = 100_000;
/// One read of a connection takes at most this much, so that others get their turn.
const MAX_READ: usize = 256 * 1024;
/// Beyond the longest record, there is room for what stands around it.
const ROOM_AROUND: usize = 64 * 1024;
/// How long a connection may be in the middle of a record, send no first one, or not take an acknowledgement.
const STALLED: Duration = Duration::from_secs(60);
/// Refused connections are reported once in this time.
const BURST: Duration = Duration::from_secs(10);

/// How a [`Backlog`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where it listens. The path of a Unix socket on which nobody listens, as a killed server leaves it, is taken over.
    pub listen: Address,
    /// The file that the records go to. It is made with its folders if it does not exist; one that is no backlog is
    /// refused.
    pub file: PathBuf,
    /// When the file is put aside, and what becomes of it. The checkpoint at the beginning of a file does not count for
    /// its size.
    pub rolling: RollingOptions,
    /// Records are acknowledged when they are on the disk, not already when the system has them: they survive the
    /// machine, not only the process. Default false.
    pub sync: bool,
    /// Lines go to stdout too. A console that takes them too slowly misses some. Default false.
    pub print: bool,
    /// The most bytes of a record, at least 64. What is longer is cut at a character, and its line ends with
    /// `[cut, N bytes]`. It bounds the memory of a connection. Default 1 MiB.
    pub max_record: usize,
    /// The most connections at a time; further ones are closed at once. Default 1024.
    pub max_connections: usize,
    /// A connection that sends nothing for this long is closed. Default one hour.
    pub idle: Duration,
}

impl Options {
    /// The defaults for an address and a file.
    pub fn new(listen: Address, file: impl Into<PathBuf>) -> Options {
        Options {
            listen,
            file: file.into(),
            rolling: RollingOptions::default(),
            sync: false,
            print: false,
            max_record: 1024 * 1024,
            max_connections: 1024,
            idle: Duration::from_secs(3600),
        }
    }
}

/// What a [`Backlog`] has done since it was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that are open now.
    pub connections: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were closed at once, since there were too many.
    pub refused: u64,
    /// Records that are in the file.
    pub records: u64,
    /// Records that were there already: acknowledged, not written again.
    pub repeats: u64,
    /// Records in the file of which the end is missing, since they were too long or their sender stopped.
    pub cut: u64,
    /// Connections that were closed because what came made no sense.
    pub garbage: u64,
    /// Lines that the console was too slow for.
    pub not_printed: u64,
}

/// A server that keeps the records of many senders in one file.
///
/// One port takes four wires, told apart by the first bytes: RELP, syslog with octet counting or line ends (RFC 6587), and
/// lines of bare text. Messages are read as RFC 5424 or RFC 3164, or as text if they are neither.
///
/// **The file.** One record is one line, whatever it holds: `TIMESTAMP HOST APP[PID] MARK TEXT`, with `-` for what is
/// missing, as in
///
/// ```text
/// 2026-11-22T14:03:56.234567Z web1 server[4711] 00c0ffee00c0ffee/2/17 ERROR [client] [t1] src/server.rs:152 disk gone
/// 2026-11-22T14:03:57.000000Z 192.0.2.7 - - INFO  a bare line
/// ```
///
/// A record without a time has that of its receipt, one without a host its peer's address, or `unix`. TEXT begins with a
/// level word that fits the record's severity. Then come, for records of others, a time without zone and year, a message
/// id and structured data, if there are any. Control characters are escaped as a [`Logger`](crate::Logger) does, and bytes
/// that are not UTF-8 are written as `\xNN`.
///
/// **What is promised.** A RELP record is acknowledged when its line is in the file, with [`Options::sync`] when it is
/// on the disk. A record with a mark (`SENDER/STREAM/SEQUENCE`) is in the file once, however often it is sent: the
/// sequence of a stream only grows, and what is not beyond the highest one is a repeat. The marks survive a crash, since
/// each new file begins with those of all before it (lines that begin with `#`). Of 100 000 streams and more, those not
/// heard of for the longest time are forgotten.
///
/// **Other programs.** When the file is removed, renamed or emptied, as by logrotate with and without `copytruncate`, the
/// next record that comes a second or more after the last look notices: it goes to the path, to a new file or the emptied
/// one, behind all marks. What came before it did is where the file went; [`reopen`](Self::reopen) looks at once.
///
/// While the file cannot be written, as on a full disk, nothing is acknowledged and nothing is read; it is tried again
/// after 100 ms, then less often, at least every 5 s.
///
/// **Limits.** Beside those in [`Options`], a connection that has not sent its first record (RELP: its `open`) after 60 s,
/// is in the middle of a record for that long or does not take its acknowledgements is closed.
///
/// What there is to say is logged by the [default logger](crate::default), with the target `logger::backlog`.
///
/// `Backlog` is a handle, cheap to clone. The base keeps the server until [`close`](Self::close), handle or not. When the
/// base is dropped before, what waits for a disk is lost, unacknowledged.
///
/// ```
/// use logger::backlog::{Backlog, Options};
/// use reactor::{Address, Event, EventBase};
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// let file = folder.path().join("backlog.log");
/// let base = EventBase::new()?;
/// let backlog = Backlog::bind(&base, Options::new("127.0.0.1:0".parse()?, &file))?;
///
/// let Address::Inet(address) = backlog.local_address()? else { unreachable!() };
/// TcpStream::connect(address)?.write_all(b"hello\n")?;
///
/// let watched = backlog.clone();
/// Event::interval(&base, move |event, _| {
///     if watched.counters().records == 1 {
///         watched.close();
///         event.free();
///     }
/// })?
/// .add(Some(Duration::from_millis(1)))?;
/// base.dispatch()?;
/// assert!(std::fs::read_to_string(&file)?.ends_with(" 127.0.0.1 - - INFO  hello\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Backlog {
    server: Rc<Server>,
}

impl Backlog {
    /// Takes the address, opens the file, and learns from it and the old ones what was received before. Connections are
    /// accepted when the loop runs. What is refused leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Open`] if the file or its folder cannot be used, it is no backlog, or another server uses it;
    /// [`Error::Loop`] if the address is taken or the base is gone; [`Error::Spawn`] if there is no thread for the
    /// console.
    pub fn bind(base: &EventBase, options: Options) -> Result<Backlog, Error> {
        Ok(Backlog { server: Server::bind(base, options)? })
    }

    /// Where it listens, with the port that the system chose for 0.
    ///
    /// # Errors
    /// [`Error::Loop`] once it is closed.
    pub fn local_address(&self) -> Result<Address, Error> {
        match self.server.parts.get() {
            Some(parts) => Ok(parts.listener.local_address()?),
            None => Err(reactor::Error::Freed { what: "listener" }.into()),
        }
    }

    /// What it has done.
    pub fn counters(&self) -> Counters {
        let connections = self.server.connections.borrow().len();
        Counters { connections, ..self.server.book.borrow().counters }
    }

    /// Opens the file anew, after another program has moved it away: for `SIGHUP`. The new file begins with all marks.
    ///
    /// # Errors
    /// [`Error::Open`]. The next record tries again, and is not acknowledged before that works.
    pub fn reopen(&self) -> Result<(), Error> {
        let path = self.server.options.file.clone();
        self.server.book.borrow_mut().reopen().map_err(|source| Error::Open { path, source })
    }

    /// Ends it: accepts no more, takes what was read as records, a line without an end included, writes and syncs the
    /// file, and closes the connections, with the acknowledgements that they take at once. A second `close` does nothing.
    pub fn close(&self) {
        self.server.close();
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("options", &self.server.options)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

struct Server {
    me: Weak<Server>,
    options: Options,
    book: RefCell<Book>,
    parts: OnceCell<Parts>,
    connections: RefCell<Vec<Rc<Connection>>>,
    /// Those that have something to do once the turn's records are written.
    waiting: RefCell<Vec<Rc<Connection>>>,
    /// When a refused connection was reported last, while more are refused.
    burst: Cell<Option<Instant>>,
    is_closed: Cell<bool>,
}

/// What lives on the base.
struct Parts {
    listener: Listener,
    /// Runs at the end of a turn in which records came.
    commit: Event,
    /// Runs when the file is tried again.
    retry: Event,
    /// Looks for connections that are quiet for too long, while there are any.
    sweep: Event,
}

impl Server {
    fn bind(base: &EventBase, mut options: Options) -> Result<Rc<Server>, Error> {
        options.max_record = options.max_record.max(64);
        // The address first: what is refused leaves no file behind. Connections wait until there is one.
        let listener = listen(base, &options.listen)?;
        let built = Server::build(base, options, &listener);
        if built.is_err() {
            free(&listener);
        }
        built
    }

    fn build(base: &EventBase, options: Options, listener: &Listener) -> Result<Rc<Server>, Error> {
        let echo = match options.print {
            true => Some(
                Echo::start(io::stdout())
                    .map_err(|source| Error::Spawn { name: "backlog echo".to_owned(), source })?,
            ),
            false => None,
        };
        let mut seen = Seen::new(MAX_STREAMS);
        let (file, found) = LogFile::open(&options.file, options.rolling.clone(), options.sync, &mut seen)?;
        let path = options.file.display().to_string();
        if found.torn > 0 {
            crate::log!(
                target: TARGET, Level::Warn, file = path, bytes = found.torn;
                "the last line was not finished and is cut off: it was never acknowledged"
            );
        }
        for (path, reason) in found.unread {
            let path = path.display().to_string();
            crate::log!(target: TARGET, Level::Warn, file = path; "cannot read an old file for its marks: {reason}");
        }
        let server = Rc::new_cyclic(|me| Server {
            me: me.clone(),
            options,
            book: RefCell::new(Book::new(file, seen, echo)),
            parts: OnceCell::new(),
            connections: RefCell::default(),
            waiting: RefCell::default(),
            burst: Cell::new(None),
            is_closed: Cell::new(false),
        });
        // The closures are what keeps the server while its handles are gone.
        let (accepts, commits, retries, sweeps) =
            (server.clone(), server.clone(), server.clone(), server.clone());
        let commit = Event::manual(base, EventFlags::empty(), move |_, _| commits.commit())?;
        let retry = Event::timer(base, move |_, _| retries.retry())?;
        let sweep = Event::interval(base, move |event, _| sweeps.sweep(event.base().now()))?;
        listener.on_accept(move |listener, socket, peer| accepts.accept(listener.base(), socket, &peer));
        listener.on_error(
            |_, error| crate::log!(target: TARGET, Level::Error, "cannot accept a connection: {error}"),
        );
        let _ = server.parts.set(Parts { listener: listener.clone(), commit, retry, sweep });
        listener.enable();
        Ok(server)
    }

    fn accept(&self, base: &EventBase, socket: OwnedFd, peer: &Address) {
        let count = self.connections.borrow().len();
        let now = base.now();
        if count >= self.options.max_connections {
            self.book.borrow_mut().counters.refused += 1;
            let last = self.burst.get();
            if last.is_none_or(|last| now.saturating_duration_since(last) >= BURST) {
                let peer = peer.to_string();
                crate::log!(
                    target: TARGET, Level::Warn, peer = peer, max = self.options.max_connections;
                    "there are too many connections: this one and those that follow are closed"
                );
                self.burst.set(Some(now));
            }
            return;
        }
        if let Err(error) = self.welcome(base, socket, peer, now) {
            let peer = peer.to_string();
            crate::log!(target: TARGET, Level::Error, peer = peer; "cannot serve a connection: {error}");
        }
    }

    fn welcome(
        &self,
        base: &EventBase,
        socket: OwnedFd,
        peer: &Address,
        now: Instant,
    ) -> reactor::Result<()> {
        let (Some(me), Some(parts)) = (self.me.upgrade(), self.parts.get()) else { return Ok(()) };
        let bev = Bufferevent::socket(base, socket, BevOptions::empty())?;
        let max_record = self.options.max_record;
        bev.set_max_single_read(MAX_READ);
        bev.set_max_single_write(MAX_READ);
        bev.set_read_marks(0, max_record.saturating_add(ROOM_AROUND).max(MAX_READ));
        bev.set_timeouts(None, Some(STALLED));
        let connection = Rc::new(Connection::new(bev.clone(), peer, max_record, now));
        let (server, reads) = (me.clone(), connection.clone());
        bev.on_read(move |_| server.read(&reads));
        let (server, writes) = (me.clone(), connection.clone());
        bev.on_write(move |_| server.written(&writes));
        let (server, ends) = (me, connection.clone());
        bev.on_event(move |_, what| server.ended(&ends, what));
        self.connections.borrow_mut().push(connection);
        self.book.borrow_mut().counters.accepted += 1;
        if self.connections.borrow().len() == 1 {
            let period = self.options.idle.min(STALLED) / 4;
            parts.sweep.add(Some(period.max(Duration::from_millis(1))))?;
        }
        if !self.is_stuck() {
            bev.enable(Direction::READ)?;
        }
        Ok(())
    }

    /// Whether nothing is read because the file cannot be written.
    fn is_stuck(&self) -> bool {
        self.book.borrow().retry_in().is_some()
    }

    /// Bytes have come.
    fn read(&self, connection: &Rc<Connection>) {
        if self.is_stuck() {
            connection.bev.disable(Direction::READ);
            return;
        }
        let base = connection.bev.base();
        let outcome = connection.read(&mut self.book.borrow_mut(), wall_clock(), base.now());
        match outcome {
            Ok(false) => return,
            Ok(true) => (),
            Err(garbage) => {
                self.book.borrow_mut().counters.garbage += 1;
                let peer = connection.peer.as_str();
                crate::log!(target: TARGET, Level::Warn, peer = peer; "a connection is closed: {garbage}");
                connection.end();
            }
        }
        self.wait(connection);
    }

    /// Sees to a connection when the turn's records are written.
    fn wait(&self, connection: &Rc<Connection>) {
        if !connection.is_waiting.replace(true) {
            self.waiting.borrow_mut().push(connection.clone());
        }
        let is_large = self.book.borrow().is_large();
        if is_large {
            self.commit();
        } else if let Some(parts) = self.parts.get() {
            parts.commit.activate(EventFlags::empty());
        }
    }

    /// The output has run down.
    fn written(&self, connection: &Rc<Connection>) {
        if connection.is_done() && !connection.is_waiting.get() {
            self.remove(connection);
        } else if connection.unclog() && !self.is_stuck() {
            connection.excuse(connection.bev.base().now());
            let _ = connection.bev.enable(Direction::READ);
            // What had come before does not come again.
            self.read(connection);
        }
    }

    fn ended(&self, connection: &Rc<Connection>, what: BevEvent) {
        if what.contains(BevEvent::WRITING) {
            let peer = connection.peer.as_str();
            if what.contains(BevEvent::TIMEOUT) {
                crate::log!(target: TARGET, Level::Warn, peer = peer; "a connection is closed: it takes no acknowledgements");
            }
            // Nobody can be told of what follows, but records are records.
            connection.finish(&mut self.book.borrow_mut(), wall_clock());
            self.remove(connection);
            self.wait_for_records();
            return;
        }
        connection.finish(&mut self.book.borrow_mut(), wall_clock());
        self.wait(connection);
    }

    /// Has records written of which nobody is told.
    fn wait_for_records(&self) {
        if let Some(parts) = self.parts.get() {
            parts.commit.activate(EventFlags::empty());
        }
    }

    /// Writes what the turn brought, then acknowledges it.
    fn commit(&self) {
        if self.is_stuck() || self.is_closed.get() {
            return;
        }
        self.write();
    }

    fn retry(&self) {
        if !self.is_closed.get() && self.write() {
            let now = self.parts.get().map(|parts| parts.listener.base().now());
            let connections = self.connections.borrow().clone();
            for connection in connections {
                if let Some(now) = now {
                    connection.excuse(now);
                }
                if connection.is_reading() && !self.is_stuck() {
                    let _ = connection.bev.enable(Direction::READ);
                    self.read(&connection);
                }
            }
        }
    }

    /// Whether it worked.
    fn write(&self) -> bool {
        let Some(parts) = self.parts.get() else { return false };
        let outcome = self.book.borrow_mut().write(parts.listener.base().now());
        if outcome.is_err() {
            let wait = self.book.borrow().retry_in();
            self.connections.borrow().iter().for_each(|connection| connection.bev.disable(Direction::READ));
            let _ = parts.retry.add(wait);
            return false;
        }
        let mut waiting = mem::take(&mut *self.waiting.borrow_mut());
        for connection in waiting.drain(..) {
            if connection.acknowledge() {
                self.remove(&connection);
            }
        }
        // The room is used again.
        let mut empty = self.waiting.borrow_mut();
        if empty.is_empty() {
            *empty = waiting;
        }
        true
    }

    fn remove(&self, connection: &Rc<Connection>) {
        connection.bev.free();
        let mut connections = self.connections.borrow_mut();
        if let Some(at) = connections.iter().position(|other| Rc::ptr_eq(other, connection)) {
            connections.swap_remove(at);
        }
        if connections.is_empty()
            && let Some(parts) = self.parts.get()
        {
            parts.sweep.del();
        }
    }

    fn sweep(&self, now: Instant) {
        let is_stuck = self.is_stuck();
        let connections = self.connections.borrow().clone();
        for connection in connections {
            if is_stuck || !connection.is_reading() {
                connection.excuse(now);
            } else if let Some(reason) = connection.overdue(now, self.options.idle, STALLED) {
                let peer = connection.peer.as_str();
                crate::log!(target: TARGET, Level::Info, peer = peer; "a connection is closed: {reason}");
                connection.finish(&mut self.book.borrow_mut(), wall_clock());
                connection.announce_end();
                self.wait(&connection);
            }
        }
    }

    fn close(&self) {
        let Some(parts) = self.parts.get() else { return };
        if self.is_closed.replace(true) {
            return;
        }
        free(&parts.listener);
        let connections = mem::take(&mut *self.connections.borrow_mut());
        let mut book = self.book.borrow_mut();
        for connection in &connections {
            connection.finish(&mut book, wall_clock());
        }
        book.look_soon();
        let outcome = book.write(parts.listener.base().now()).and_then(|()| book.flush());
        if let Err(error) = &outcome {
            let records = book.waiting();
            crate::log!(
                target: TARGET, Level::Error, records = records;
                "the backlog ends with records that it cannot write and has not acknowledged: {error}"
            );
        }
        drop(book);
        for connection in connections {
            if outcome.is_ok() {
                connection.say_goodbye();
            }
            connection.bev.free();
        }
        self.waiting.borrow_mut().clear();
        [&parts.commit, &parts.retry, &parts.sweep].into_iter().for_each(Event::free);
    }
}
