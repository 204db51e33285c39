//! The pool: a fixed number of threads, each with a base and one client.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reactor::Address;

use super::client::{Client, Line, Settings};
use super::feed::Feed;
use super::flood::Floods;
use super::inlet::Inlet;
use super::report::{self, Report, Reporter};
use super::shared::{Counters, Shared};
use super::spool::{Reader, Spool, SpoolOptions};
use super::syslog::Origin;
use crate::error::Error;
use crate::filter::{Filter, Gate};
use crate::level::Level;
use crate::producer::hastily;

/// How records go over the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wire {
    /// RELP, rsyslog's protocol: each record is acknowledged, and sent again until it is. To our backlog server, and to
    /// rsyslog's `imrelp`.
    #[default]
    Relp,
    /// Plain syslog, each record after its length (RFC 6587, section 3.4.1). Nothing is acknowledged: records that were on
    /// their way when a connection broke are lost.
    OctetCounted,
    /// Plain syslog, each record on its line (RFC 6587, section 3.4.2). As lossy.
    Newline,
}

/// A fixed number of threads that forward records to a collector, each over a connection of its own.
///
/// A logger's records come in through [`sink`](Self::sink), which writes them to the spool, a folder. From there each
/// client sends one stream of them and keeps them until the collector has acknowledged them: through crashes of the
/// collector, of the network and of this program. Nobody who logs waits for the network. With RELP every accepted record
/// reaches the collector at least once, and stands once in the file of our [backlog server](crate::backlog).
///
/// A client whose connection fails comes back after 100 ms, then after twice as long each time, up to 30 s.
///
/// Dropping the pool ends its threads at once, whatever they do, and returns when they are gone. What is not
/// acknowledged stays in the spool, for the next pool there; [`drain`](Self::drain) waits for it before.
///
/// ```
/// use logger::forward::Pool;
/// use logger::{Logger, error};
/// use std::time::Duration;
///
/// # let folder = tempfile::tempdir()?;
/// # let spool = folder.path().join("spool");
/// let collector = "127.0.0.1:8080".parse()?;
/// let pool = Pool::builder(collector, spool).start()?;
/// let logger = Logger::builder("forwarding").sink(pool.sink()).build()?;
/// error!(logger: logger, "disk gone");
/// logger.flush();
/// assert_eq!(pool.counters().spooled, 1); // accepted, whether somebody listens or not
/// # assert!(!pool.drain(Duration::ZERO));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Configures a [`Pool`].
#[must_use]
pub struct Builder {
    collector: Address,
    folder: PathBuf,
    clients: usize,
    wire: Wire,
    filter: Filter,
    app: Option<String>,
    window: usize,
    patience: Duration,
    max_record: usize,
    floods: Option<Floods>,
    max_spool: u64,
    report: Reporter,
}

const DEFAULT_CLIENTS: usize = 4;
const MOST_CLIENTS: usize = 1024;
/// Enough that a collector which writes in batches always has some waiting.
const DEFAULT_WINDOW: usize = 4096;
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
const DEFAULT_MAX_RECORD: usize = 256 * 1024;
const LEAST_MAX_RECORD: usize = 480;
const MOST_MAX_RECORD: usize = 1024 * 1024 - 4096;
const DEFAULT_MAX_SPOOL: u64 = 256 * 1024 * 1024;

impl Builder {
    /// The number of clients, which is the number of threads, of connections and of streams: 1 to 1024. Each thread's
    /// records go over one of them, and all records of a logger in [`Mode::Shared`](crate::Mode::Shared). Default 4.
    pub fn clients(mut self, clients: usize) -> Builder {
        self.clients = clients;
        self
    }

    /// How records go over the network. Default: RELP.
    pub fn wire(mut self, wire: Wire) -> Builder {
        self.wire = wire;
        self
    }

    /// The least level that is forwarded, for all targets. Default: [`Level::Error`].
    pub fn level(self, level: Level) -> Builder {
        self.filter(Filter::new(level))
    }

    /// Which levels of which targets are forwarded, of the records that pass the logger's own gate. Records about the
    /// target `logger` and below it are never forwarded. Default: ERROR and FATAL of all.
    pub fn filter(mut self, filter: Filter) -> Builder {
        self.filter = filter;
        self
    }

    /// The program's name, as collectors show it. Default: the name of the program's file.
    pub fn app(mut self, name: &str) -> Builder {
        self.app = Some(name.to_owned());
        self
    }

    /// The most records of one client that are sent and not acknowledged, at least 1. Default 4096.
    pub fn window(mut self, records: usize) -> Builder {
        self.window = records.max(1);
        self
    }

    /// How long a collector may leave records unanswered, or take none, before the connection counts as broken, at least
    /// 1 ms. Default 30 s.
    pub fn patience(mut self, patience: Duration) -> Builder {
        self.patience = patience.max(Duration::from_millis(1));
        self
    }

    /// The longest text of a record in bytes, 480 to 1044480. Of a longer one the beginning is forwarded, with a note.
    /// Default 256 KiB.
    pub fn max_record(mut self, bytes: usize) -> Builder {
        self.max_record = bytes.clamp(LEAST_MAX_RECORD, MOST_MAX_RECORD);
        self
    }

    /// Of the records of one kind (the same level and target, from the same line of the source), only the first `limit` of
    /// each `period` are forwarded; when it is over, or the pool ends, one record says how many more there were. For a
    /// program whose ERRORs others can cause as they like. Default: all are forwarded.
    pub fn limit_floods(mut self, limit: u32, period: Duration) -> Builder {
        self.floods = Some(Floods::new(limit, period));
        self
    }

    /// The most that the spool takes on the disk, in bytes, of all streams together. Each stream has an equal
    /// share, at least 8 KiB; beyond it, its oldest records go. What a run with more clients has left comes on top until it
    /// is acknowledged. Default 256 MiB.
    pub fn max_spool(mut self, bytes: u64) -> Builder {
        self.max_spool = bytes;
        self
    }

    /// What is told about connections and the spool, on the pool's threads and those of loggers. It must not wait for the
    /// pool, nor drop it. If it panics, forwarding goes on. What it logs waits for no room: beyond a full buffer it goes
    /// to memory. Default: a record about `logger::forward` in the [default logger](crate::default), or, for warnings
    /// and errors, a line on stderr while there is none.
    pub fn on_report(mut self, report: impl Fn(&Report) + Send + Sync + 'static) -> Builder {
        self.report = Arc::new(move |told| {
            // The panic hook has said so, and neither a client nor a sink is to end by it.
            let _ = catch_unwind(AssertUnwindSafe(|| report(told)));
        });
        self
    }

    /// Opens the spool, starts the threads and has them connect. Whether there is a collector is not waited for.
    ///
    /// # Errors
    /// [`Error::Clients`] for a number that is out of bounds, [`Error::Collector`] for an address where nobody can listen;
    /// [`Error::Spool`] if the folder cannot be used, [`Error::SpoolInUse`] if another pool has it; [`Error::Thread`] and
    /// [`Error::Client`] if the system has no thread or no descriptor left.
    pub fn start(self) -> Result<Pool, Error> {
        if !(1..=MOST_CLIENTS).contains(&self.clients) {
            return Err(Error::Clients { clients: self.clients, most: MOST_CLIENTS });
        }
        let is_nowhere = match &self.collector {
            Address::Inet(address) => address.port() == 0,
            Address::Unnamed => true,
            Address::Path(_) | Address::Abstract(_) => false,
        };
        if is_nowhere {
            return Err(Error::Collector { address: self.collector.to_string() });
        }
        let options = SpoolOptions {
            streams: u32::try_from(self.clients).unwrap_or(u32::MAX),
            max_bytes: self.max_spool,
            ..SpoolOptions::default()
        };
        let spool = Spool::open(&self.folder, &options, self.report.clone())?;
        let sender = spool.sender();
        let (writers, readers) = spool.into_streams();
        let streams = readers.iter().map(|reader| reader.shared().clone()).collect();
        let gate = Arc::new(Gate::new(self.filter));
        let origin = origin(self.app.as_deref());
        let inlet = Inlet::new(gate.clone(), origin, sender, self.max_record, writers, self.floods);
        let shared = Arc::new(Shared::new(gate, self.folder, inlet, self.report, streams));
        let settings = Arc::new(Settings {
            collector: self.collector,
            wire: self.wire,
            window: self.window,
            patience: self.patience,
        });
        let mut pool = Pool { shared: shared.clone(), threads: Vec::new() };
        let (started, starts) = mpsc::channel();
        let mut outcome = Ok(());
        for (number, streams) in divide(readers, self.clients).into_iter().enumerate() {
            let (settings, shared, started) = (settings.clone(), shared.clone(), started.clone());
            let name = format!("forward {number}");
            // A report must not wait for a logger: its worker may wait for the room that this client makes in the spool.
            let life = move || hastily(|| live(number, settings, shared, streams, &started));
            match thread::Builder::new().name(name.clone()).spawn(life) {
                Ok(handle) => pool.threads.push(handle),
                Err(source) => {
                    outcome = Err(Error::Thread { name, source });
                    break;
                }
            }
        }
        // Ends when all threads have said how they started, or have ended.
        drop(started);
        let mut lines = Vec::new();
        for (number, start) in starts.iter().take(pool.threads.len()) {
            match start {
                Ok(line) => lines.push((number, line)),
                Err(source) => outcome = outcome.and(Err(Error::Client { number, source })),
            }
        }
        lines.sort_by_key(|(number, _)| *number);
        shared.set_lines(lines.into_iter().map(|(_, line)| line).collect());
        outcome.map(|()| pool)
    }
}

/// This process.
fn origin(app: Option<&str>) -> Origin {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let program = || {
        let path = std::env::current_exe().ok()?;
        Some(path.file_stem()?.to_string_lossy().into_owned())
    };
    let app = app.map(str::to_owned).or_else(program).unwrap_or_default();
    Origin::new(&host, &app, &process::id().to_string())
}

/// Each client's own stream, and before it what earlier runs left on streams beyond them.
fn divide(readers: Vec<Reader>, clients: usize) -> Vec<VecDeque<Reader>> {
    let mut divided: Vec<VecDeque<Reader>> = (0..clients).map(|_| VecDeque::new()).collect();
    for (nth, reader) in readers.into_iter().enumerate() {
        if let Some(streams) = divided.get_mut(nth % clients) {
            if nth < clients { streams.push_back(reader) } else { streams.push_front(reader) }
        }
    }
    divided
}

/// The life of a client's thread.
fn live(
    number: usize,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    streams: VecDeque<Reader>,
    started: &Sender<(usize, reactor::Result<Line>)>,
) {
    let (base, line) = match Client::start(number, settings, shared.clone(), streams) {
        Ok(client) => client,
        Err(error) => {
            let _ = started.send((number, Err(error)));
            return;
        }
    };
    let _ = started.send((number, Ok(line)));
    // The panic hook says what a panic was; that nobody sends this stream any more is for the reports.
    let reason = match catch_unwind(AssertUnwindSafe(|| base.dispatch())) {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    shared.report(&Report::Stopped { client: number, reason });
}

impl Pool {
    /// Configures a pool that forwards to `collector` what waits in the spool `folder`, which is made if it does not exist.
    pub fn builder(collector: Address, folder: impl AsRef<Path>) -> Builder {
        Builder {
            collector,
            folder: folder.as_ref().to_owned(),
            clients: DEFAULT_CLIENTS,
            wire: Wire::default(),
            filter: Filter::new(Level::Error),
            app: None,
            window: DEFAULT_WINDOW,
            patience: DEFAULT_PATIENCE,
            max_record: DEFAULT_MAX_RECORD,
            floods: None,
            max_spool: DEFAULT_MAX_SPOOL,
            report: Arc::new(report::say),
        }
    }

    /// A sink for a logger, or several: give it to [`logger::Builder::sink`](crate::Builder::sink).
    pub fn sink(&self) -> Feed {
        Feed::new(self.shared.clone())
    }

    /// The figures of this moment.
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// What is forwarded now.
    pub fn filter(&self) -> Filter {
        self.shared.gate.filter()
    }

    /// Changes what is forwarded of the records that loggers write from now on.
    pub fn set_filter(&self, filter: Filter) {
        self.shared.gate.set(filter);
    }

    /// Has clients that wait for their next try, try now.
    pub fn reconnect_now(&self) {
        self.shared.lines().iter().for_each(Line::reconnect_now);
    }

    /// Waits until the collector has acknowledged all that is in the spool, at most this long; whether it came to that.
    /// What loggers have not written yet is not waited for: [`flush`](crate::Logger::flush) them first.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.wait_until_drained(limit)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lines().iter().for_each(Line::stop);
        for handle in self.threads.drain(..) {
            // A report that drops the pool runs on one of them, which cannot wait for itself.
            if handle.thread().id() != thread::current().id() {
                // One that panicked has said so.
                let _ = handle.join();
            }
        }
        self.shared.end_floods();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("clients", &self.threads.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}
