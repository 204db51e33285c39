//! The worker: swaps what was produced to its side, puts it in order, and writes it to the sinks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::NO_FIELDS;
use crate::clock::{Source, Timeline};
use crate::exchange::{Exchange, Task};
use crate::format::{Layout, Offset, Site, Stamper, Thread};
use crate::header::Header;
use crate::level::Level;
use crate::output::{Output, Trouble};
use crate::pair::{Batch, HEAD_WORDS, Record};
use crate::round::{ReadWord, Round};
use crate::sink::{Durability, Lines, Sink, Span};
use crate::starts::Starts;

/// What a logger's handles and its worker share beside the exchange.
pub(crate) struct Shared {
    pub(crate) exchange: Exchange,
    /// Bytes in spills.
    pub(crate) spilled: AtomicUsize,
    /// Sinks are to open their files anew.
    pub(crate) reopens: AtomicBool,
    /// The process ends: a sink that fails is not waited for longer than at shutdown.
    pub(crate) is_ending: AtomicBool,
    /// The worker is in a nap that an urgent record should not wait for.
    pub(crate) dozes: AtomicBool,
}

impl Shared {
    /// Flushes, as the last thing before the process ends: a sink that fails is given up as at shutdown.
    pub(crate) fn flush_at_end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.exchange.flush();
    }
}

pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) layout: Layout,
    pub(crate) timeline: Timeline,
    pub(crate) source: Source,
    stamper: Stamper,
    starts: Starts,
    pub(crate) give_up_after: Duration,
    round: Round,
    /// Bytes of the current round that are with the sinks already.
    written: usize,
    nap: Nap,
}

/// After the last record the worker looks again at these intervals, doubling, before it sleeps for good. Each look that
/// finds something takes cache lines from the callers' cores; a full half wakes the worker at once in any case.
const FIRST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(4);
/// How long it lingers in all.
const LINGER: Duration = Duration::from_millis(40);
/// A round this large is written before other pairs are looked at.
const MAX_ROUND: usize = 1024 * 1024;
/// A round with this many bytes means that producers are busy: no nap.
const BUSY: usize = 16 * 1024;
/// The longest pause before a sink that fails is tried again, at the end.
const LAST_RETRY: Duration = Duration::from_millis(100);
/// Of no pair: the worker's own records.
const OWN_PAIR: u32 = 0;

impl Worker {
    pub(crate) fn new(
        name: String,
        shared: Arc<Shared>,
        outputs: Vec<Output>,
        layout: Layout,
        offset: Offset,
        source: Source,
        give_up_after: Duration,
    ) -> Worker {
        Worker {
            name,
            shared,
            outputs,
            layout,
            timeline: Timeline::new(source),
            source,
            stamper: Stamper::new(offset),
            starts: Starts::new(),
            give_up_after,
            round: Round::default(),
            written: 0,
            nap: Nap::new(),
        }
    }

    /// The life of the worker's thread.
    pub(crate) fn run(mut self) {
        let shared = self.shared.clone();
        shared.exchange.work(&mut self);
    }

    fn decode<W: ReadWord>(&mut self, pair: u32, mut words: &[W]) {
        if self.round.bytes() == 0 {
            self.timeline.follow();
        }
        let round = &mut self.round;
        round.begin_run(pair);
        while let [head, stamp, origin, ..] = words {
            let (head, stamp) = (head.read(), stamp.read());
            let header = Header::read(head, origin.read());
            let words_of = Record::words_of(head).min(words.len());
            let at = self.timeline.micros(stamp);
            let start = self.starts.of(header, at, self.layout, &mut self.stamper);
            let end = self.layout.end(header.has_fields);
            let place = round.text.push(start, &words[HEAD_WORDS..words_of], head as u32 as usize, end);
            round.push(Span { stamp, start: place.start, end: place.end, pair, level: header.level });
            words = &words[words_of..];
        }
    }

    /// A record of the logger itself.
    fn say(&mut self, level: Level, message: std::fmt::Arguments<'_>) {
        let mut text = Vec::new();
        let site = Site { level, target: "logger", file: "", line: 0 };
        self.layout.write_start(&mut text, &site, Thread::Worker);
        let has_fields = self.layout.write_rest(&mut text, message, &NO_FIELDS);
        let header = Header::of_whole(level, has_fields);
        self.decode(OWN_PAIR, &header.record(self.source.stamp(), &text).to_words());
    }

    /// Writes the round to the sinks; how many bytes it was.
    fn emit(&mut self) -> usize {
        let written = self.round.bytes();
        if written == 0 {
            return 0;
        }
        let mut round = std::mem::take(&mut self.round);
        round.sort();
        for nth in 0..self.outputs.len() {
            let least = self.outputs[nth].level;
            let lines = round.lines_from(least);
            if !lines.is_empty() {
                self.offer(nth, &lines);
            }
        }
        round.clear();
        self.round = round;
        written
    }

    fn offer(&mut self, nth: usize, lines: &Lines<'_>) {
        let output = &mut self.outputs[nth];
        output.is_dirty = true;
        if let Some(trouble) = &mut output.trouble {
            trouble.hold(lines);
            return;
        }
        let durability = output.durability;
        self.serve(nth, |sink| sink.write(lines));
        match durability {
            Durability::Buffered => (),
            Durability::Flush | Durability::Sync => self.flush_one(nth),
        }
    }

    /// Flushes what a sink has, or syncs it if it asks for that. One that fails keeps it.
    fn flush_one(&mut self, nth: usize) {
        let output = &mut self.outputs[nth];
        if output.trouble.is_some() || !std::mem::take(&mut output.is_dirty) {
            return;
        }
        let durability = output.durability;
        self.serve(nth, |sink| settle(sink, durability));
    }

    /// Has the sinks open their files anew. One that fails is tried at once: the old file may have been moved away to
    /// make room.
    fn reopen(&mut self) {
        for nth in 0..self.outputs.len() {
            if let Some(trouble) = &mut self.outputs[nth].trouble {
                trouble.next_try = Instant::now();
            }
            let outcome = self.call(nth, |sink| sink.reopen());
            if let Err(error) = outcome {
                self.complain(
                    nth,
                    format_args!("cannot reopen its file, and goes on with the old one: {error}"),
                );
            }
        }
    }

    /// Calls a sink. One that fails keeps its lines and is tried again later, while the others go on.
    fn serve(&mut self, nth: usize, act: impl FnOnce(&mut dyn Sink) -> io::Result<()>) {
        if let Err(error) = self.call(nth, act) {
            self.complain(nth, format_args!("fails, its lines are kept and tried again: {error}"));
            self.outputs[nth].trouble = Some(Trouble::new());
        }
    }

    /// Tries a sink that failed again, and gives it what was held for it.
    fn try_again(&mut self, nth: usize) -> io::Result<()> {
        let durability = self.outputs[nth].durability;
        self.call(nth, |sink| {
            sink.retry()?;
            settle(sink, durability)
        })?;
        let output = &mut self.outputs[nth];
        if let Some(trouble) = &mut output.trouble {
            output.settled = output.settled.max(trouble.advance());
            let (bytes, spans) = trouble.release();
            let lines = Lines::new(&bytes, &spans);
            if !lines.is_empty() {
                self.call(nth, |sink| {
                    sink.write(&lines)?;
                    settle(sink, durability)
                })?;
            }
        }
        let output = &mut self.outputs[nth];
        output.trouble = None;
        output.is_dirty = false;
        if !output.is_broken {
            self.complain(nth, format_args!("works again, nothing was lost"));
        }
        Ok(())
    }

    /// Tries the sinks that failed some time ago again.
    fn tend(&mut self) {
        for nth in 0..self.outputs.len() {
            let is_due = |trouble: &Trouble| trouble.next_try <= Instant::now();
            if self.outputs[nth].trouble.as_ref().is_some_and(is_due)
                && self.try_again(nth).is_err()
                && let Some(trouble) = &mut self.outputs[nth].trouble
            {
                trouble.put_off();
            }
        }
    }

    /// The last tries of a sink that fails: until it recovers, or is given up.
    fn recover(&mut self, nth: usize) {
        let start = Instant::now();
        while let Some(trouble) = &self.outputs[nth].trouble {
            thread::sleep(trouble.next_try.saturating_duration_since(Instant::now()).min(LAST_RETRY));
            if self.shared.reopens.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            let Err(error) = self.try_again(nth) else { return };
            if start.elapsed() >= self.give_up_after {
                self.complain(nth, format_args!("still fails at the end, its last lines are lost: {error}"));
                let output = &mut self.outputs[nth];
                (output.is_broken, output.trouble) = (true, None);
            } else if let Some(trouble) = &mut self.outputs[nth].trouble {
                trouble.put_off();
            }
        }
    }

    fn recover_all(&mut self) {
        (0..self.outputs.len()).for_each(|nth| self.recover(nth));
    }

    /// What is to be done when all sinks are flushed.
    fn finish_flush(&mut self) {
        if self.is_last_call() {
            self.recover_all();
        }
        if self.shared.reopens.swap(false, Ordering::AcqRel) {
            self.reopen();
            self.tend();
        }
    }

    /// Whether a sink that fails is soon given up.
    fn is_last_call(&self) -> bool {
        self.shared.exchange.is_stopping() || self.shared.is_ending.load(Ordering::Acquire)
    }

    /// Calls a sink once. One that panics is not called again.
    fn call(&mut self, nth: usize, act: impl FnOnce(&mut dyn Sink) -> io::Result<()>) -> io::Result<()> {
        let output = &mut self.outputs[nth];
        if output.is_broken {
            return Ok(());
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| act(output.sink.as_mut())));
        outcome.unwrap_or_else(|_| {
            self.outputs[nth].is_broken = true;
            self.complain(nth, format_args!("panicked and is not used any more"));
            Ok(())
        })
    }

    fn complain(&self, nth: usize, what: std::fmt::Arguments<'_>) {
        let output = &self.outputs[nth];
        let name = catch_unwind(AssertUnwindSafe(|| output.sink.name())).unwrap_or_default();
        let name = if name.is_empty() { name } else { format!(" ({name})") };
        // Nothing can be done about a stderr that fails.
        let _ = io::Write::write_fmt(
            &mut io::stderr(),
            format_args!("logger {:?}: sink {} of {}{name} {what}\n", self.name, nth + 1, self.outputs.len()),
        );
    }
}

impl Task for Worker {
    fn take(&mut self, pair: u32, batch: Batch<'_>) {
        match batch {
            Batch::Half(words) => self.decode(pair, words),
            Batch::Spilled(words) => {
                self.shared.spilled.fetch_sub(size_of_val(words), Ordering::AcqRel);
                self.decode(pair, words);
            }
        }
        if self.round.bytes() >= MAX_ROUND {
            self.written += self.emit();
            if !self.has_room() && self.is_last_call() {
                self.recover_all();
            }
        }
    }

    /// Producers go on until their buffers are full.
    fn has_room(&self) -> bool {
        !self.outputs.iter().any(|output| output.trouble.as_ref().is_some_and(Trouble::is_full))
    }

    fn write(&mut self, dropped: u64) {
        if dropped > 0 {
            self.say(Level::Warn, format_args!("{dropped} records were dropped: the buffer was full"));
        }
        self.tend();
        self.written += self.emit();
    }

    /// Flushes every sink, or syncs those that ask for it. Waits for those that fail only at the end.
    fn flush(&mut self, taken: u64) -> u64 {
        for nth in 0..self.outputs.len() {
            // While a flush waits for one sink, the others go on gathering.
            if self.outputs[nth].settled < taken {
                self.flush_one(nth);
            }
        }
        self.finish_flush();
        for output in &mut self.outputs {
            match &mut output.trouble {
                Some(trouble) => trouble.held = taken,
                None => output.settled = taken,
            }
        }
        self.outputs.iter().map(|output| output.settled).min().unwrap_or(taken)
    }

    fn linger(&mut self) -> bool {
        if !self.has_room() {
            // Not parked: producers ring all the time, and nothing is done for them now.
            thread::sleep(LONGEST_NAP);
            return true;
        }
        let written = std::mem::take(&mut self.written);
        if written > 0 {
            self.nap.restart();
        }
        let mut is_awake = written >= BUSY || self.nap.take(&self.shared.dozes);
        if !is_awake {
            self.nap.restart();
            // One that fails is looked after: no sleep without end.
            is_awake = self.outputs.iter().any(|output| output.trouble.is_some());
        }
        is_awake
    }

    fn rest(&mut self) -> bool {
        (0..self.outputs.len()).for_each(|nth| self.flush_one(nth));
        self.finish_flush();
        self.outputs.iter().all(|output| output.trouble.is_none())
    }
}

/// Hands what a sink has to the system, or to the disk.
fn settle(sink: &mut dyn Sink, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Sync => sink.sync(),
        Durability::Buffered | Durability::Flush => sink.flush(),
    }
}

/// The pauses between rounds when little or nothing comes.
struct Nap {
    next: Duration,
    lingered: Duration,
}

impl Nap {
    fn new() -> Nap {
        Nap { next: FIRST_NAP, lingered: Duration::ZERO }
    }

    fn restart(&mut self) {
        *self = Nap::new();
    }

    /// Naps, unless it has lingered long enough.
    fn take(&mut self, dozes: &AtomicBool) -> bool {
        if self.lingered >= LINGER {
            return false;
        }
        // A record that comes between the last look and this note waits for the nap's end: a few milliseconds, rarely.
        dozes.store(self.next > FIRST_NAP, Ordering::Release);
        thread::park_timeout(self.next);
        dozes.store(false, Ordering::Release);
        self.lingered += self.next;
        self.next = (self.next * 2).min(LONGEST_NAP);
        true
    }
}
