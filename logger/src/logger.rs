//! The logger: gate, policy, and the way of a record to its pair.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::kv;

use crate::NO_FIELDS;
use crate::clock::Source;
use crate::cpu;
use crate::error::Error;
use crate::exchange::Exchange;
use crate::facade;
use crate::filter::{Filter, Gate};
use crate::format::{Layout, Offset, Site, Thread};
use crate::header::Header;
use crate::level::Level;
use crate::output::Output;
use crate::pair::{Append, MAX_HALF_WORDS, Pair, Record};
use crate::place::Place;
use crate::producer::Producer;
use crate::registry;
use crate::sink::{Durability, Sink};
use crate::worker::{Shared, Worker};

/// Whether producers have buffers of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// A pair of halves for each thread, without a lock. The order within a thread is exact; records of several
    /// threads are put in the order of their time stamps within one round of the worker.
    #[default]
    PerThread,
    /// One pair for all threads, behind a lock: less memory, one order for all, slower with several threads.
    Shared,
}

/// What happens to a record when its buffer is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// The caller waits until the worker has made room; nothing is lost.
    #[default]
    Block,
    /// The record waits outside of the buffer, as long as at most `limit` bytes do; beyond it, as `DropNewest`. The last
    /// eighth of the limit is for records of [`Level::Error`] and [`Level::Fatal`], so that a flood of others does not
    /// take their room.
    Grow {
        /// Bytes, of all threads together, with the 24 that each record has beside its text.
        limit: usize,
    },
    /// The record is dropped and counted; the count becomes a record.
    DropNewest,
}

/// An asynchronous logger: callers format records into buffers, a worker of its own writes them to the sinks.
///
/// `Logger` is a handle, cheap to clone. When the last one goes, everything accepted is written before the drop
/// returns.
///
/// ```
/// use logger::sink::Memory;
/// use logger::{Level, Logger, info};
///
/// let memory = Memory::new();
/// let logger = Logger::builder("example").sink(memory.clone()).build()?;
/// info!(logger: logger, size = 1048576; "stored {}", "a.bin");
/// logger.flush();
/// assert!(memory.text().ends_with("stored a.bin size=1048576\n"));
/// # Ok::<(), logger::Error>(())
/// ```
#[derive(Clone)]
pub struct Logger {
    core: Arc<Core>,
}

pub(crate) struct Core {
    id: u64,
    name: String,
    gate: Gate,
    layout: Layout,
    overflow: Overflow,
    source: Source,
    shared: Arc<Shared>,
    /// `Mode::Shared`'s pair, but for threads that must not wait; in `Mode::PerThread` the one of threads that have taken
    /// their own down.
    common: Mutex<Option<Arc<Pair>>>,
    mode: Mode,
    rejected: AtomicU64,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// Configures a [`Logger`].
#[must_use]
pub struct Builder {
    name: String,
    filter: Filter,
    mode: Mode,
    overflow: Overflow,
    half: usize,
    layout: Layout,
    offset: Offset,
    outputs: Vec<Output>,
    give_up_after: Duration,
}

/// Both halves of a few threads fit into a core's L2 cache.
const DEFAULT_HALF: usize = 128 * 1024;
const LEAST_HALF: usize = 256;
/// The worker's core still holds the lines of a half that it has read, and publishing a record waits for all of its lines.
/// So they are asked for this many words early: some records' worth, about the time that it takes.
const CLAIMED_AHEAD: usize = 128;
const DEFAULT_GIVE_UP: Duration = Duration::from_secs(5);
/// Under [`Overflow::Grow`], this part of the limit is kept for ERROR and FATAL.
const KEPT_FOR_ERRORS: usize = 8;

impl Builder {
    /// What passes the gate. Default: `info` for all targets.
    pub fn filter(mut self, filter: Filter) -> Builder {
        self.filter = filter;
        self
    }

    /// The least level that passes, for all targets.
    pub fn level(self, level: Level) -> Builder {
        self.filter(Filter::new(level))
    }

    /// Whether threads have buffers of their own. Default: they do.
    pub fn mode(mut self, mode: Mode) -> Builder {
        self.mode = mode;
        self
    }

    /// What happens when a buffer is full. Default: the caller waits.
    pub fn overflow(mut self, overflow: Overflow) -> Builder {
        self.overflow = overflow;
        self
    }

    /// The size of one half of a buffer in bytes, 256 to 128 Mi. Default 128 KiB. Each thread has two.
    pub fn half(mut self, bytes: usize) -> Builder {
        self.half = bytes;
        self
    }

    /// How records look. Default: text.
    pub fn layout(mut self, layout: Layout) -> Builder {
        self.layout = layout;
        self
    }

    /// The offset of time stamps. Default: UTC.
    pub fn offset(mut self, offset: Offset) -> Builder {
        self.offset = offset;
        self
    }

    /// Adds a sink for all records that pass the gate, with the default [`Durability`].
    pub fn sink(self, sink: impl Sink + 'static) -> Builder {
        self.sink_with(sink, Level::Trace, Durability::default())
    }

    /// Adds a sink for records of `level` or a more urgent one.
    pub fn sink_with(mut self, sink: impl Sink + 'static, level: Level, durability: Durability) -> Builder {
        self.outputs.push(Output::new(Box::new(sink), level, durability));
        self
    }

    /// How long a sink that fails is tried at shutdown before its lines are given up, with a message on stderr.
    /// Default 5 s.
    pub fn give_up_after(mut self, limit: Duration) -> Builder {
        self.give_up_after = limit;
        self
    }

    /// Starts the worker.
    ///
    /// # Errors
    /// [`Error::NameTaken`] while another logger has the name, [`Error::HalfSize`], [`Error::Spawn`].
    pub fn build(self) -> Result<Logger, Error> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let most = MAX_HALF_WORDS * 8;
        if !(LEAST_HALF..=most).contains(&self.half) {
            return Err(Error::HalfSize { bytes: self.half, least: LEAST_HALF, most });
        }
        let source = Source::detect();
        let shared = Arc::new(Shared {
            exchange: Exchange::new(self.half / 8),
            spilled: AtomicUsize::new(0),
            reopens: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            dozes: AtomicBool::new(false),
        });
        let core = Arc::new(Core {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            name: self.name.clone(),
            gate: Gate::new(self.filter),
            layout: self.layout,
            overflow: self.overflow,
            source,
            shared: shared.clone(),
            common: Mutex::new(None),
            mode: self.mode,
            rejected: AtomicU64::new(0),
            worker: Mutex::new(None),
        });
        registry::enter(&self.name, &core, &shared)?;
        let worker = Worker::new(
            self.name.clone(),
            shared.clone(),
            self.outputs,
            self.layout,
            self.offset,
            source,
            self.give_up_after,
        );
        let thread = thread::Builder::new().name(format!("log {}", self.name));
        let handle = thread
            .spawn(move || worker.run())
            // Whoever has found the logger by its name meanwhile must not wait for a worker.
            .inspect_err(|_| shared.exchange.leave())
            .map_err(|error| Error::Spawn { name: self.name, source: error })?;
        *core.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        facade::flush_at_end();
        Ok(Logger { core })
    }
}

impl Logger {
    /// Configures a logger. Its name is for [`logger::get`](crate::get) and for messages about it.
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            filter: Filter::default(),
            mode: Mode::default(),
            overflow: Overflow::default(),
            half: DEFAULT_HALF,
            layout: Layout::default(),
            offset: Offset::default(),
            outputs: Vec::new(),
            give_up_after: DEFAULT_GIVE_UP,
        }
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Logger {
        Logger { core }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Whether a record would pass the gate.
    #[inline]
    pub fn admits(&self, level: Level, target: &str) -> bool {
        self.core.gate.admits(level, target)
    }

    /// What passes the gate now.
    pub fn filter(&self) -> Filter {
        self.core.gate.filter()
    }

    /// Changes what passes the gate, from the next record on.
    pub fn set_filter(&self, filter: Filter) {
        self.core.gate.set(filter);
        if registry::default().is_some_and(|logger| Arc::ptr_eq(&logger.core, &self.core)) {
            facade::set_max_level(self);
        }
    }

    pub(crate) fn least_level(&self) -> Option<Level> {
        self.core.gate.least()
    }

    /// Logs a record, if it passes the gate.
    ///
    /// A [`Level::Fatal`] record is at the sinks when this returns.
    #[inline]
    pub fn log(&self, site: &Site<'_>, message: fmt::Arguments<'_>, fields: &dyn kv::Source) {
        if self.admits(site.level, site.target) {
            self.core.put_at_site(site, message, fields);
        }
    }

    /// What the macros do with a record that has passed the gate.
    #[doc(hidden)]
    pub fn put(
        &self,
        place: &'static Place,
        level: Level,
        message: fmt::Arguments<'_>,
        fields: &dyn kv::Source,
    ) {
        self.core.put(place, level, message, fields);
    }

    /// As `put` for a text without fields.
    #[doc(hidden)]
    pub fn put_text(&self, place: &'static Place, level: Level, text: &str) {
        self.core.put_text(place, level, text);
    }

    /// Returns when every record that was logged before is at the sinks, flushed; at once if a sink calls it. A sink that
    /// fails is waited for, by the caller alone.
    pub fn flush(&self) {
        self.core.shared.exchange.flush();
    }

    /// Has the sinks open their files anew, after another program has moved them away. Returns when it is done, and what
    /// was logged before is at the sinks; while one of them fails, without waiting for it and for what it holds up.
    pub fn reopen(&self) {
        self.core.shared.reopens.store(true, Ordering::Release);
        self.core.shared.exchange.try_flush();
    }

    /// Writes what was accepted and ends the worker; returns when it is done, whoever else has called it, or at once if
    /// a sink calls it. Records that come later are not accepted, and counted in [`rejected`](Self::rejected); so are
    /// those whose callers wait for room at that moment.
    pub fn shutdown(&self) {
        self.core.shutdown();
    }

    /// Records that came too late for [`shutdown`](Self::shutdown).
    pub fn rejected(&self) -> u64 {
        self.core.rejected.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("name", &self.core.name)
            .field("filter", &self.filter())
            .field("mode", &self.core.mode)
            .field("overflow", &self.core.overflow)
            .finish_non_exhaustive()
    }
}

impl Core {
    fn put_text(&self, place: &'static Place, level: Level, text: &str) {
        if !self.layout.takes_as_it_is(text) {
            return self.put(place, level, format_args!("{text}"), &NO_FIELDS);
        }
        let put = |producer: &Producer| {
            let header =
                Header { level, has_fields: false, place: place.number(), thread: producer.number() };
            self.accept(producer, header, text.as_bytes());
        };
        if Producer::with(put).is_none() {
            self.put_late(&place.site(level), format_args!("{text}"), &NO_FIELDS);
        }
        self.settle(level);
    }

    fn put(&self, place: &'static Place, level: Level, message: fmt::Arguments<'_>, fields: &dyn kv::Source) {
        let put = |producer: &Producer| {
            let (place, thread) = (place.number(), producer.number());
            producer.format(
                |out| self.layout.write_rest(out, message, fields),
                |text, has_fields| {
                    self.accept(producer, Header { level, has_fields, place, thread }, text);
                },
            );
        };
        if Producer::with(put).is_none() {
            self.put_late(&place.site(level), message, fields);
        }
        self.settle(level);
    }

    fn put_at_site(&self, site: &Site<'_>, message: fmt::Arguments<'_>, fields: &dyn kv::Source) {
        let put = |producer: &Producer| {
            producer.format(
                |out| {
                    self.layout.write_start(out, site, Thread::Numbered(producer.number()));
                    self.layout.write_rest(out, message, fields)
                },
                |text, has_fields| self.accept(producer, Header::of_whole(site.level, has_fields), text),
            );
        };
        if Producer::with(put).is_none() {
            self.put_late(site, message, fields);
        }
        self.settle(site.level);
    }

    /// For a thread that has taken its thread-locals down: a destructor logs.
    #[cold]
    fn put_late(&self, site: &Site<'_>, message: fmt::Arguments<'_>, fields: &dyn kv::Source) {
        let mut text = Vec::new();
        self.layout.write_start(&mut text, site, Thread::Ending);
        let has_fields = self.layout.write_rest(&mut text, message, fields);
        self.accept_common(self.lock_common(), Header::of_whole(site.level, has_fields), &text);
    }

    #[inline]
    fn settle(&self, level: Level) {
        if level >= Level::Error {
            self.settle_urgent(level);
        }
    }

    /// A FATAL is waited for. An ERROR ends a long nap; the short ones between busy rounds are not worth a wake-up.
    #[cold]
    fn settle_urgent(&self, level: Level) {
        if level == Level::Fatal {
            self.shared.exchange.flush();
        } else if self.shared.dozes.load(Ordering::Acquire) && self.shared.dozes.swap(false, Ordering::AcqRel)
        {
            self.shared.exchange.ring();
        }
    }

    #[inline(always)]
    fn accept(&self, producer: &Producer, header: Header, text: &[u8]) {
        match self.mode {
            Mode::PerThread => self.accept_own(producer, header, text),
            Mode::Shared => self.accept_shared(producer, header, text),
        }
    }

    #[inline(always)]
    fn accept_own(&self, producer: &Producer, header: Header, text: &[u8]) {
        if producer.with_pair(self.id, &self.shared, |pair| self.append(pair, header, text)).is_none() {
            self.reject();
        }
    }

    /// Apart, so that the way of most records stays short.
    #[inline(never)]
    fn accept_shared(&self, producer: &Producer, header: Header, text: &[u8]) {
        if producer.is_hasty() {
            return self.accept_own(producer, header, text);
        }
        match self.common.try_lock() {
            // Whoever has the lock may wait for the worker, so the worker does not wait for the lock.
            Err(TryLockError::WouldBlock) if self.shared.exchange.is_worker() => {
                self.accept_own(producer, header, text);
            }
            Err(TryLockError::WouldBlock) => self.accept_common(self.lock_common(), header, text),
            Ok(common) => self.accept_common(common, header, text),
            Err(TryLockError::Poisoned(error)) => self.accept_common(error.into_inner(), header, text),
        }
    }

    fn lock_common(&self) -> MutexGuard<'_, Option<Arc<Pair>>> {
        self.common.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_common(&self, mut common: MutexGuard<'_, Option<Arc<Pair>>>, header: Header, text: &[u8]) {
        if common.is_none() {
            *common = self.shared.exchange.join();
        }
        match &*common {
            Some(pair) => self.append(pair, header, text),
            None => self.reject(),
        }
    }

    #[inline(always)]
    fn append(&self, pair: &Pair, header: Header, text: &[u8]) {
        let record = header.record(self.source.stamp(), text);
        cpu::claim(pair.ahead(CLAIMED_AHEAD, record));
        match pair.append(record) {
            Append::Done => (),
            Append::Wake => self.shared.exchange.ring(),
            Append::Stopped => self.reject(),
            outcome @ (Append::Full | Append::TooLong) => self.overflow(pair, header.level, record, outcome),
        }
    }

    #[cold]
    fn overflow(&self, pair: &Pair, level: Level, record: Record<'_>, mut outcome: Append) {
        loop {
            let is_too_long = outcome == Append::TooLong;
            let spills = match self.overflow {
                // The worker itself, in a sink that logs, would wait for ever.
                Overflow::Block => {
                    let is_hasty = Producer::with(Producer::is_hasty).unwrap_or(false);
                    is_too_long || is_hasty || self.shared.exchange.is_worker()
                }
                Overflow::Grow { limit } => self.reserve_spill(record, room_of(level, limit)),
                Overflow::DropNewest => is_too_long && !pair.has_spill(),
            };
            if spills {
                if self.overflow == Overflow::Block || self.overflow == Overflow::DropNewest {
                    self.shared.spilled.fetch_add(record.bytes(), Ordering::AcqRel);
                }
                match pair.spill(record.to_words()) {
                    Append::Stopped => {
                        self.shared.spilled.fetch_sub(record.bytes(), Ordering::AcqRel);
                        self.reject();
                    }
                    _ => self.shared.exchange.ring(),
                }
                return;
            }
            if self.overflow != Overflow::Block {
                if self.shared.exchange.drop_one(pair) == Append::Stopped {
                    self.reject();
                }
                return;
            }
            pair.wait_for_room();
            outcome = pair.append(record);
            match outcome {
                Append::Done => return,
                Append::Wake => return self.shared.exchange.ring(),
                Append::Stopped => return self.reject(),
                Append::Full | Append::TooLong => (),
            }
        }
    }

    fn reserve_spill(&self, record: Record<'_>, limit: usize) -> bool {
        let more = |spilled: usize| spilled.checked_add(record.bytes()).filter(|&sum| sum <= limit);
        self.shared.spilled.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    #[cold]
    fn reject(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    fn shutdown(&self) {
        self.shared.exchange.stop();
        // A sink that ends its own logger cannot wait for it.
        if !self.shared.exchange.is_worker() {
            // Held while it ends, so that everybody who calls this waits for that.
            let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(handle) = worker.take() {
                // A worker that panicked has said so.
                let _ = handle.join();
            }
        }
        registry::leave(&self.name, self);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Bytes up to which a record of this level may wait outside of its buffer.
fn room_of(level: Level, limit: usize) -> usize {
    if level >= Level::Error { limit } else { limit - limit / KEPT_FOR_ERRORS }
}
