//! One sink of a worker: how it is served, and what it is owed while it fails.

use std::time::{Duration, Instant};

use crate::level::Level;
use crate::sink::{Durability, Lines, Sink, Span};

/// A sink and how it is served.
pub(crate) struct Output {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) level: Level,
    pub(crate) durability: Durability,
    /// Panicked, and not called again.
    pub(crate) is_broken: bool,
    /// Has lines that were not flushed.
    pub(crate) is_dirty: bool,
    /// It fails.
    pub(crate) trouble: Option<Trouble>,
    /// Up to which flush it has put out everything.
    pub(crate) settled: u64,
}

/// A sink that fails is tried again while the others go on.
pub(crate) struct Trouble {
    /// Lines that it is offered when it works again.
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Up to which flush there is nothing but what is held, and what the sink keeps.
    pub(crate) held: u64,
    /// Up to which flush the sink keeps it.
    offered: u64,
    pause: Duration,
    pub(crate) next_try: Instant,
}

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// With more bytes that are held for a sink that fails, beside what it keeps itself, the worker takes no more records.
const MAX_HELD: usize = 1024 * 1024;

impl Output {
    pub(crate) fn new(sink: Box<dyn Sink>, level: Level, durability: Durability) -> Output {
        Output { sink, level, durability, is_broken: false, is_dirty: false, trouble: None, settled: 0 }
    }
}

impl Trouble {
    pub(crate) fn new() -> Trouble {
        Trouble {
            bytes: Vec::new(),
            spans: Vec::new(),
            held: 0,
            offered: 0,
            pause: FIRST_RETRY,
            next_try: Instant::now() + FIRST_RETRY,
        }
    }

    /// The next pause is longer.
    pub(crate) fn put_off(&mut self) {
        self.pause = (self.pause * 2).min(LONGEST_RETRY);
        self.next_try = Instant::now() + self.pause;
    }

    /// What the sink kept is out; up to which flush that is everything.
    pub(crate) fn advance(&mut self) -> u64 {
        // So that the next pause is the first one again.
        self.pause = FIRST_RETRY / 2;
        self.offered
    }

    pub(crate) fn hold(&mut self, lines: &Lines<'_>) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(lines.bytes());
        let moved = |span: &Span| Span { start: span.start + at, end: span.end + at, ..*span };
        self.spans.extend(lines.spans().iter().map(moved));
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() > MAX_HELD
    }

    /// What was held, which is then the sink's.
    pub(crate) fn release(&mut self) -> (Vec<u8>, Vec<Span>) {
        self.offered = self.held;
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.spans))
    }
}
