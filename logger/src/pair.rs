//! Two halves of a buffer that change places between one producer and the worker.
//!
//! The producer appends whole records to the *active* half and publishes each with one compare-and-swap of the state
//! word. The other half is *free*, or *retired*: full of records for the worker alone. The halves change places when the
//! active one is full (by the producer) or when the worker asks for what is there (by the worker), and only while the
//! other one is free. So a half that is not consumed is never swapped away, and nobody holds a lock.
//!
//! Everything that the two sides tell each other is in the one state word, so no order between several words has to be
//! argued: whoever sees a bit sees everything that was written before it was set. Records are words that are written
//! and read one by one; a producer that loses against a swap has written behind the end of a retired half, where the
//! worker does not read, and writes again into the new one.

use std::collections::VecDeque;

use crate::sync::{AtomicU64, CachePadded, Condvar, Mutex, Ordering, SPILL_TAKEN, lock, wait};

/// One word of a record.
pub(crate) type Word = AtomicU64;

/// The buffer of one producing thread, or of several that take turns under a lock.
pub(crate) struct Pair {
    number: u32,
    state: CachePadded<AtomicU64>,
    halves: [Box<[Word]>; 2],
    /// Held while `WAITING` is set, and before `has_room` is notified. A condition variable rather than parking: the
    /// thread is the user's, and so is its token.
    waiting: Mutex<()>,
    has_room: Condvar,
    /// Records that did not go through the halves; filled while `SPILLED` is set, which closes the halves.
    spill: Mutex<VecDeque<Box<[u64]>>>,
}

/// A record on its way into a half: three words that only the worker's decoder understands, and text. The first word's
/// lower half is the text's length in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    head: [u64; HEAD_WORDS],
    text: &'a [u8],
}

/// The words before a record's text.
pub(crate) const HEAD_WORDS: usize = 3;

impl<'a> Record<'a> {
    /// `tag` goes into the upper half of the first word. Text beyond 4 GiB is cut.
    #[inline]
    pub(crate) fn new(tag: u32, stamp: u64, text: &'a [u8]) -> Record<'a> {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Record { head: [u64::from(tag) << 32 | u64::from(len), stamp, 0], text: &text[..len as usize] }
    }

    /// The same with a third word.
    #[inline]
    pub(crate) fn of(self, origin: u64) -> Record<'a> {
        let [first, stamp, _] = self.head;
        Record { head: [first, stamp, origin], ..self }
    }

    /// The words that a record with this first word takes.
    pub(crate) fn words_of(head: u64) -> usize {
        HEAD_WORDS + (head as u32 as usize).div_ceil(8)
    }

    fn words(&self) -> usize {
        Record::words_of(self.head[0])
    }

    /// The memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.words() * 8
    }

    #[inline]
    fn store(&self, room: &[Word]) {
        let (head, text) = room.split_at(HEAD_WORDS);
        head.iter().zip(self.head).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        let whole = self.text.chunks_exact(8);
        let rest = whole.remainder();
        for (word, bytes) in text.iter().zip(whole) {
            word.store(as_word(bytes), Ordering::Relaxed);
        }
        if let (Some(word), false) = (text.last(), rest.is_empty()) {
            word.store(as_word(rest), Ordering::Relaxed);
        }
    }

    /// The same words on their own.
    pub(crate) fn to_words(self) -> Box<[u64]> {
        self.head.into_iter().chain(self.text.chunks(8).map(as_word)).collect()
    }
}

/// Up to eight bytes, in memory order, with zeros behind them.
#[inline]
fn as_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// What became of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Append {
    /// The record is published; the worker is awake or will look by itself.
    Done,
    /// The record is published, and the worker has a reason to wake: it sleeps, or a half is full.
    Wake,
    /// No room: one half is full, the other not consumed yet, or older records wait in the spill.
    Full,
    /// It would not fit into an empty half.
    TooLong,
    /// The worker takes no more records from here.
    Stopped,
}

/// A copy of the state word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State(u64);

const LEN_BITS: u32 = 24;
/// The most words that a half may have: 128 MiB.
pub(crate) const MAX_HALF_WORDS: usize = (1 << LEN_BITS) - 1;
const LEN: u64 = (1 << LEN_BITS) - 1;
const RETIRED_LEN_SHIFT: u32 = LEN_BITS;
/// Which half is the active one.
const ACTIVE: u64 = 1 << 48;
/// The other half is full and not consumed.
const RETIRED: u64 = 1 << 49;
/// The worker sleeps; whoever publishes clears the bit and wakes it.
const SLEEPING: u64 = 1 << 50;
/// The producer waits for room; whoever makes room clears the bit and wakes it.
const WAITING: u64 = 1 << 51;
/// Newer records are in the spill; the halves take none until it is empty.
const SPILLED: u64 = 1 << 52;
/// The producer is gone.
const CLOSED: u64 = 1 << 53;
/// The worker takes no more.
const STOPPED: u64 = 1 << 54;

impl State {
    fn len(self) -> usize {
        (self.0 & LEN) as usize
    }

    fn retired_len(self) -> usize {
        ((self.0 >> RETIRED_LEN_SHIFT) & LEN) as usize
    }

    fn active(self) -> usize {
        usize::from(self.has(ACTIVE))
    }

    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    fn with(self, bit: u64) -> State {
        State(self.0 | bit)
    }

    fn without(self, bits: u64) -> State {
        State(self.0 & !bits)
    }

    fn longer_by(self, words: usize) -> State {
        State(self.0 + words as u64)
    }

    /// The halves change places. Only while the other one is free.
    fn swapped(self) -> State {
        let flags = self.0 & !(LEN | LEN << RETIRED_LEN_SHIFT);
        State((flags ^ ACTIVE) | RETIRED | (self.0 & LEN) << RETIRED_LEN_SHIFT)
    }

    /// The retired half is consumed.
    fn freed(self) -> State {
        self.without(RETIRED | WAITING | LEN << RETIRED_LEN_SHIFT)
    }

    fn is_drained(self) -> bool {
        self.len() == 0 && !self.has(RETIRED | SPILLED)
    }
}

impl Pair {
    /// A pair of two halves of this many words each, at most [`MAX_HALF_WORDS`].
    pub(crate) fn new(number: u32, words: usize) -> Pair {
        let half = || (0..words.min(MAX_HALF_WORDS)).map(|_| Word::new(0)).collect();
        Pair {
            number,
            state: CachePadded::new(AtomicU64::new(0)),
            halves: [half(), half()],
            waiting: Mutex::new(()),
            has_room: Condvar::new(),
            spill: Mutex::default(),
        }
    }

    /// The same for all records of one thread. Threads that were not alive at a time may share it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    fn load(&self) -> State {
        State(self.state.load(Ordering::Acquire))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Changes the state to what `to` makes of it, until it makes nothing of it; the state before and whether it was
    /// changed.
    fn update(&self, to: impl Fn(State) -> Option<State>) -> (State, bool) {
        loop {
            let from = self.load();
            match to(from) {
                None => return (from, false),
                Some(to) if self.change(from, to) => return (from, true),
                Some(_) => (),
            }
        }
    }
}

/// The producer's side. One thread at a time.
impl Pair {
    /// Puts a record into the active half, after a swap if need be.
    #[inline]
    pub(crate) fn append(&self, record: Record<'_>) -> Append {
        let words = record.words();
        let mut swapped = false;
        loop {
            let state = self.load();
            if state.has(STOPPED) {
                return Append::Stopped;
            }
            if state.has(SPILLED) {
                return Append::Full;
            }
            let half = &self.halves[state.active()];
            if let Some(room) = half.get(state.len()..state.len() + words) {
                record.store(room);
                if self.change(state, state.longer_by(words).without(SLEEPING)) {
                    return if swapped || state.has(SLEEPING) { Append::Wake } else { Append::Done };
                }
            } else if words > half.len() {
                return Append::TooLong;
            } else if state.has(RETIRED) {
                return Append::Full;
            } else {
                // A failure means that the worker swapped first.
                swapped |= self.change(state, state.swapped());
            }
        }
    }

    /// As many words as the record takes, `by` words behind the last one: where a later record will go unless the halves
    /// change places before. Only a hint; the caller reads and writes nothing there.
    #[inline]
    pub(crate) fn ahead(&self, by: usize, record: Record<'_>) -> &[Word] {
        let state = self.load();
        let half = &self.halves[state.active()];
        let from = (state.len() + by).min(half.len());
        &half[from..(from + record.words()).min(half.len())]
    }

    /// Whether records wait in the spill.
    pub(crate) fn has_spill(&self) -> bool {
        self.load().has(SPILLED)
    }

    /// Puts a record behind everything that is in the halves, whatever its length. Until the worker has taken it the
    /// halves are full. `Wake` or `Stopped`.
    pub(crate) fn spill(&self, record: Box<[u64]>) -> Append {
        let mut spill = lock(&self.spill);
        let (_, is_open) =
            self.update(|state| (!state.has(STOPPED)).then(|| state.with(SPILLED).without(SLEEPING)));
        if !is_open {
            return Append::Stopped;
        }
        spill.push_back(record);
        Append::Wake
    }

    /// Returns when the worker has made room, or takes no more.
    pub(crate) fn wait_for_room(&self) {
        let mut waiting = lock(&self.waiting);
        loop {
            let is_full = |state: State| state.has(RETIRED | SPILLED) && !state.has(STOPPED);
            let (_, is_waiting) = self.update(|state| is_full(state).then(|| state.with(WAITING)));
            if !is_waiting {
                return;
            }
            waiting = wait(&self.has_room, waiting);
        }
    }

    /// Whether the worker takes no more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.load().has(STOPPED)
    }

    /// The producer is gone: the worker may give the pair to another once it is empty. True if the worker sleeps and
    /// is to be woken.
    pub(crate) fn close(&self) -> bool {
        let (before, _) = self.update(|state| Some(state.with(CLOSED).without(SLEEPING)));
        before.has(SLEEPING)
    }
}

/// The worker's side. One thread.
impl Pair {
    /// Hands over everything that was published before the call, in order: each half or spilled record on its own.
    /// What is handed over is the worker's until `take` returns; then its place is free. `take` says whether there is room
    /// for more: if not, the rest stays where it is, and this is false.
    pub(crate) fn drain(&self, mut take: impl FnMut(Batch<'_>) -> bool) -> bool {
        // Looked at first: once it is set, nothing is published into the halves behind the spilled records.
        let has_spill = self.load().has(SPILLED);
        self.consume(&mut take)
            && (!self.retire() || self.consume(&mut take))
            && (!has_spill || self.consume_spill(&mut take))
    }

    /// Swaps, if there is something in the active half; the other one is free then, since only the worker retires it
    /// without the active one being full.
    fn retire(&self) -> bool {
        let can_swap = |state: State| state.len() > 0 && !state.has(RETIRED);
        let (before, swapped) = self.update(|state| can_swap(state).then(|| state.swapped()));
        // The producer may have been faster; then there is a retired half all the same.
        swapped || before.has(RETIRED)
    }

    fn consume(&self, take: &mut impl FnMut(Batch<'_>) -> bool) -> bool {
        let state = self.load();
        if !state.has(RETIRED) {
            return true;
        }
        // Only the worker frees a retired half, so this one stays what it is.
        let has_room = take(Batch::Half(&self.halves[state.active() ^ 1][..state.retired_len()]));
        let (before, _) = self.update(|state| Some(state.freed()));
        self.wake_if(before.has(WAITING));
        has_room
    }

    fn consume_spill(&self, take: &mut impl FnMut(Batch<'_>) -> bool) -> bool {
        // No more than is there now: producers may be as fast.
        let mut left = lock(&self.spill).len();
        loop {
            let (records, waiting) = self.take_spill(left);
            left -= records.len();
            let mut has_room = true;
            records.iter().for_each(|record| has_room = take(Batch::Spilled(record)));
            self.wake_if(waiting);
            if left == 0 || !has_room {
                return has_room;
            }
        }
    }

    /// Takes the oldest spilled records, some of them and at most so many, and with the last one opens the halves again;
    /// then true if somebody waits for that.
    fn take_spill(&self, most: usize) -> (Vec<Box<[u64]>>, bool) {
        let mut spill = lock(&self.spill);
        let mut words = 0;
        let fitting = spill.iter().take(most).take_while(|record| {
            let fits = words < SPILL_TAKEN;
            words += record.len();
            fits
        });
        let count = fitting.count();
        let records = spill.drain(..count).collect();
        if !spill.is_empty() {
            return (records, false);
        }
        *spill = VecDeque::new();
        let (before, _) = self.update(|state| Some(state.without(SPILLED | WAITING)));
        (records, before.has(WAITING))
    }

    fn wake_if(&self, is_waiting: bool) {
        if is_waiting {
            // Whoever has set the bit holds the lock until it waits.
            drop(lock(&self.waiting));
            self.has_room.notify_one();
        }
    }

    /// Notes that the worker will sleep: false, and no note, if there is something to drain.
    pub(crate) fn note_sleep(&self) -> bool {
        self.update(|state| state.is_drained().then(|| state.with(SLEEPING))).1
    }

    /// The worker is awake.
    pub(crate) fn note_awake(&self) {
        self.update(|state| state.has(SLEEPING).then(|| state.without(SLEEPING)));
    }

    /// Takes no more from the producer. What is published stays until it is drained.
    pub(crate) fn stop(&self) {
        let (before, _) = self.update(|state| Some(state.with(STOPPED).without(WAITING)));
        self.wake_if(before.has(WAITING));
    }

    /// Whether the producer is gone and everything of it was taken.
    pub(crate) fn is_finished(&self) -> bool {
        let state = self.load();
        state.has(CLOSED) && state.is_drained()
    }

    /// Gives the pair of an ended producer to another, whose records go behind what is still there. False, and nothing
    /// changed, if it is not closed.
    pub(crate) fn reopen(&self) -> bool {
        self.update(|state| state.has(CLOSED).then(|| state.without(CLOSED | SLEEPING))).1
    }
}

/// What the worker is handed.
#[derive(Clone, Copy)]
pub(crate) enum Batch<'a> {
    /// A retired half, with records back to back.
    Half(&'a [Word]),
    /// One record that came past the halves.
    Spilled(&'a [u64]),
}
