//! What a loop has read lately, kept ready: small objects as bytes, others as open descriptors.
//!
//! No lock and no message keeps it true. All loops share the [`Epochs`]: each change counts in the slot of its name when
//! it is on the disk and before it is answered. A loop reads the slot before it opens an object, keeps the count with
//! what it opened, and compares at each use. So what was opened before a change, or beside it, is not used after its
//! answer; at worst something that is true is opened again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use reactor::{Event, EventBase, EventFlags, EventTicket, Notifier};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::engine::lock_of;
use super::name::Name;
use super::object::Object;
use crate::jobs::Submitter;

/// Slots of the epochs. Names that share one only make each other be opened again.
const SLOTS: usize = 4096;
/// Descriptors that a loop keeps at most.
const MOST_FILES: u64 = 256;
/// The part of the process's descriptors that a loop may keep: connections need the rest.
const PART_OF_FILES: u64 = 8;
/// Bytes that an entry takes beside its content, for the bound.
const OVERHEAD: usize = 512;
/// From so many bytes on, a file is closed elsewhere.
const LARGE: u64 = 1024 * 1024;
/// Milliseconds until an object is opened again although nothing of ours changed it: what an administrator did to its
/// file is seen then.
const MOST_AGE: i64 = 1000;

/// How often the names of each slot changed.
pub(crate) struct Epochs {
    slots: Box<[Slot]>,
    loops: Mutex<Loops>,
}

#[derive(Default)]
struct Slot {
    epoch: AtomicU64,
    /// Descriptors that loops keep, or are about to.
    held: AtomicU32,
}

#[derive(Default)]
struct Loops {
    next: u64,
    /// Whom to tell that something which it keeps open is gone.
    all: Vec<(u64, Notifier, EventTicket)>,
}

impl Epochs {
    pub(crate) fn new() -> Arc<Epochs> {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Arc::new(Epochs { slots, loops: Mutex::default() })
    }

    fn slot_of(&self, name: &Name) -> usize {
        crc32c::crc32c(name.as_str().as_bytes()) as usize % SLOTS
    }

    fn slot(&self, slot: usize) -> &Slot {
        // A number from `slot_of`.
        &self.slots[slot]
    }

    /// Counts a change of each of these names. It comes behind the change and before its answer.
    pub(crate) fn changed<'n>(&self, names: impl IntoIterator<Item = &'n Name>) {
        let mut is_held = false;
        for name in names {
            is_held |= self.slot(self.slot_of(name)).bump();
        }
        if is_held {
            self.tell();
        }
    }

    /// Counts a change of all names.
    pub(crate) fn changed_all(&self) {
        let held = self.slots.iter().filter(|slot| slot.bump()).count();
        if held > 0 {
            self.tell();
        }
    }

    /// Lets all loops close what is gone: a descriptor keeps the room of a removed file.
    fn tell(&self) {
        for (_, notifier, ticket) in &lock_of(&self.loops).all {
            // Fails when the loop is gone, and its descriptors with it.
            let _ = notifier.activate(*ticket, EventFlags::empty());
        }
    }
}

impl Slot {
    /// Whether a loop keeps a descriptor. The order of both sides (hold, read the epoch, open; change, count, look for
    /// holders) is total, so that a loop which opened what was just replaced is told.
    fn bump(&self) -> bool {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.held.load(Ordering::SeqCst) > 0
    }
}

impl fmt::Debug for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").finish_non_exhaustive()
    }
}

/// The right to keep what is opened from now on, in [`Cache::keep`].
pub(crate) struct Hold {
    epochs: Arc<Epochs>,
    slot: usize,
    epoch: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.epochs.slot(self.slot).held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The objects that a loop keeps.
pub(crate) struct Cache {
    epochs: Arc<Epochs>,
    id: u64,
    /// Activated when a descriptor may have to be closed.
    sweep: Event,
    inner: Rc<RefCell<Inner>>,
    is_off: bool,
    /// For tests.
    hits: Cell<u64>,
}

struct Inner {
    jobs: Submitter,
    places: HashMap<Name, Place>,
    /// Costs bytes.
    bytes: Ring,
    /// Costs descriptors.
    files: Ring,
}

#[derive(Clone, Copy)]
struct Place {
    is_file: bool,
    at: usize,
}

struct Entry {
    object: Object,
    cost: usize,
    slot: usize,
    epoch: u64,
    /// When it was opened, in milliseconds.
    since: i64,
    /// Used since the hand passed.
    is_used: bool,
    /// What it is kept by, if it is a descriptor.
    _hold: Option<Hold>,
}

impl Entry {
    /// To close a large file that was removed takes long: the last to do so is the pool.
    fn let_go(self, jobs: &Submitter) {
        if self.object.raw_len() >= LARGE {
            let files = self.object.files();
            drop(self);
            jobs.submit(move || drop(files));
        }
    }
}

/// Entries up to a bound; a hand goes around and takes those that were not used since it passed last (CLOCK).
struct Ring {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    cost: usize,
    most: usize,
}

impl Cache {
    /// A cache of at most so many bytes for small objects; 0 keeps nothing at all.
    pub(crate) fn new(
        base: &EventBase,
        epochs: &Arc<Epochs>,
        jobs: &Submitter,
        bytes: usize,
    ) -> reactor::Result<Cache> {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = (limit / PART_OF_FILES).min(MOST_FILES) as usize;
        let (jobs, places) = (jobs.clone(), HashMap::new());
        let inner = Inner { jobs, places, bytes: Ring::new(bytes), files: Ring::new(files) };
        let inner = Rc::new(RefCell::new(inner));
        let (weak, mine) = (Rc::downgrade(&inner), Arc::clone(epochs));
        let sweep = Event::manual(base, EventFlags::PERSIST, move |_, _| {
            if let Some(inner) = weak.upgrade() {
                inner.borrow_mut().close_stale(&mine);
            }
        })?;
        let mut loops = lock_of(&epochs.loops);
        let id = loops.next;
        loops.next += 1;
        loops.all.push((id, base.notifier(), sweep.ticket()));
        drop(loops);
        let epochs = Arc::clone(epochs);
        Ok(Cache { epochs, id, sweep, inner, is_off: bytes == 0, hits: Cell::new(0) })
    }

    /// The object of a name, if it is kept and as true as one that would be opened now.
    pub(crate) fn get(&self, name: &Name) -> Option<Object> {
        if self.is_off {
            return None;
        }
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let place = *inner.places.get(name.as_str())?;
        let entry = inner.ring(place.is_file).entries.get_mut(place.at)?.as_mut()?;
        let is_true = self.epochs.slot(entry.slot).epoch.load(Ordering::Acquire) == entry.epoch;
        if is_true && now() - entry.since < MOST_AGE {
            entry.is_used = true;
            self.hits.set(self.hits.get() + 1);
            return Some(entry.object.clone());
        }
        inner.remove(name);
        None
    }

    /// To be called before an object is opened that [`keep`](Self::keep) is to keep.
    pub(crate) fn hold(&self, name: &Name) -> Option<Hold> {
        if self.is_off {
            return None;
        }
        let slot = self.epochs.slot_of(name);
        self.epochs.slot(slot).held.fetch_add(1, Ordering::SeqCst);
        let epoch = self.epochs.slot(slot).epoch.load(Ordering::SeqCst);
        Some(Hold { epochs: Arc::clone(&self.epochs), slot, epoch })
    }

    /// Keeps an object.
    pub(crate) fn keep(&self, hold: Hold, object: &Object) {
        let mut inner = self.inner.borrow_mut();
        inner.remove(object.name());
        let (slot, epoch) = (hold.slot, hold.epoch);
        let is_file = object.descriptors() > 0;
        let (cost, hold) = match is_file {
            true => (object.descriptors(), Some(hold)),
            false => (object.raw_len() as usize + object.name().as_str().len() + OVERHEAD, None),
        };
        let entry =
            Entry { object: object.clone(), cost, slot, epoch, since: now(), is_used: false, _hold: hold };
        inner.insert(is_file, entry);
    }

    /// Closes all descriptors that it keeps; whether there were any.
    pub(crate) fn close_all(&self) -> bool {
        self.inner.borrow_mut().close_if(|_| true)
    }

    /// Uses that needed no disk.
    #[cfg(test)]
    pub(crate) fn hits(&self) -> u64 {
        self.hits.get()
    }

    /// Bytes and descriptors that are kept.
    #[cfg(test)]
    pub(crate) fn costs(&self) -> (usize, usize) {
        let inner = self.inner.borrow();
        (inner.bytes.cost, inner.files.cost)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        lock_of(&self.epochs.loops).all.retain(|(id, ..)| *id != self.id);
        self.sweep.free();
    }
}

impl Inner {
    fn ring(&mut self, is_file: bool) -> &mut Ring {
        if is_file { &mut self.files } else { &mut self.bytes }
    }

    fn insert(&mut self, is_file: bool, entry: Entry) {
        let ring = if is_file { &mut self.files } else { &mut self.bytes };
        if entry.cost > ring.most {
            return;
        }
        while ring.cost + entry.cost > ring.most {
            let Some(evicted) = ring.evict() else { return };
            self.places.remove(evicted.object.name());
        }
        let name = entry.object.name().clone();
        let at = ring.insert(entry);
        self.places.insert(name, Place { is_file, at });
    }

    fn remove(&mut self, name: &Name) {
        if let Some(place) = self.places.remove(name)
            && let Some(entry) = self.ring(place.is_file).take(place.at)
        {
            entry.let_go(&self.jobs);
        }
    }

    fn close_stale(&mut self, epochs: &Epochs) {
        self.close_if(|entry| epochs.slot(entry.slot).epoch.load(Ordering::Acquire) != entry.epoch);
    }

    fn close_if(&mut self, is_over: impl Fn(&Entry) -> bool) -> bool {
        let before = self.files.cost;
        for at in 0..self.files.entries.len() {
            if self.files.entries.get(at).and_then(Option::as_ref).is_some_and(&is_over)
                && let Some(entry) = self.files.take(at)
            {
                self.places.remove(entry.object.name());
                entry.let_go(&self.jobs);
            }
        }
        self.files.cost < before
    }
}

impl Ring {
    fn new(most: usize) -> Ring {
        Ring { entries: Vec::new(), free: Vec::new(), hand: 0, cost: 0, most }
    }

    fn insert(&mut self, entry: Entry) -> usize {
        self.cost += entry.cost;
        if let Some(at) = self.free.pop()
            && let Some(place) = self.entries.get_mut(at)
        {
            *place = Some(entry);
            return at;
        }
        self.entries.push(Some(entry));
        self.entries.len() - 1
    }

    fn take(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(at)?.take()?;
        self.cost -= entry.cost;
        self.free.push(at);
        Some(entry)
    }

    /// Ends within two rounds: in the second, nothing is used any more.
    fn evict(&mut self) -> Option<Entry> {
        for _ in 0..=2 * self.entries.len() {
            let at = self.hand;
            self.hand = if at + 1 < self.entries.len() { at + 1 } else { 0 };
            match self.entries.get_mut(at)?.as_mut() {
                Some(entry) if entry.is_used => entry.is_used = false,
                Some(_) => return self.take(at),
                None => (),
            }
        }
        None
    }
}

/// Milliseconds of a clock that is read in a few nanoseconds, and is some milliseconds late.
fn now() -> i64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use reactor::Evbuffer;

    use super::super::tests::rig::{Rig, name, sample};
    use super::super::{Class, Options, StoreError};
    use super::*;

    fn open(hot_bytes: usize) -> (tempfile::TempDir, Rig) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { hot_bytes, threads: 1, ..Options::new(folder.path()) };
        let rig = Rig::open(&options).unwrap();
        (folder, rig)
    }

    fn raw(object: &Object) -> Vec<u8> {
        let buffer = Evbuffer::new();
        object.append_raw(&buffer, 0..object.raw_len()).unwrap();
        let mut bytes = vec![0; buffer.len()];
        buffer.remove(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_read_is_ready_until_it_changes() {
        let (_folder, rig) = open(1 << 20);
        for len in [0, 1, 2048, 2049, 16 * 1024, 16 * 1024 + 1, 100_000] {
            let (old, new) = (sample(len, 1), sample(len, 2));
            rig.put("x", Class::Low, &old).unwrap();
            assert!(raw(&rig.store.open_read(&name("x")).unwrap()) == old);
            // It may have taken longer than an entry is good for.
            let hits = rig.store.cache.hits();
            while rig.store.cache.hits() == hits {
                assert!(raw(&rig.store.open_read(&name("x")).unwrap()) == old);
            }
            rig.put("x", Class::Low, &new).unwrap();
            assert!(raw(&rig.store.open_read(&name("x")).unwrap()) == new);
            rig.rename("x", "y").unwrap();
            assert!(matches!(rig.store.open_read(&name("x")), Err(StoreError::NotFound { .. })));
            assert!(raw(&rig.store.open_read(&name("y")).unwrap()) == new);
            rig.delete("y").unwrap();
            assert!(matches!(rig.store.stat(&name("y")), Err(StoreError::NotFound { .. })));
        }
    }

    #[test]
    fn both_bounds_are_kept() {
        let (_folder, rig) = open(100_000);
        for n in 0..300 {
            rig.put(&format!("small/{n}"), Class::Low, &sample(1000, n)).unwrap();
            rig.put(&format!("large/{n}"), Class::Low, &sample(20_000, n)).unwrap();
        }
        for n in (0..300).chain(0..300) {
            for kind in ["small", "large"] {
                rig.store.open_read(&name(&format!("{kind}/{n}"))).unwrap();
            }
            let (bytes, files) = rig.store.cache.costs();
            assert!(bytes <= 100_000 && files <= MOST_FILES as usize, "{bytes} {files}");
        }
        let (bytes, files) = rig.store.cache.costs();
        assert!(bytes > 90_000 && files > 4, "{bytes} {files}");
    }

    #[test]
    fn a_descriptor_of_what_is_gone_is_closed_by_the_loop() {
        let (_folder, rig) = open(1 << 20);
        for class in [Class::Low, Class::Deep] {
            rig.put("x", class, &sample(100_000, 1)).unwrap();
            rig.store.open_read(&name("x")).unwrap();
            assert!(rig.store.cache.costs().1 > 0);
            rig.delete("x").unwrap();
            // The loop was told before the answer, or with it.
            rig.base.dispatch().unwrap();
            assert_eq!(rig.store.cache.costs().1, 0);
        }
        let held = rig.store.cache.epochs.slots.iter().map(|slot| slot.held.load(Ordering::SeqCst));
        assert_eq!(held.sum::<u32>(), 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let (_folder, rig) = open(0);
        rig.put("x", Class::Low, b"x").unwrap();
        rig.put("y", Class::Low, &sample(20_000, 1)).unwrap();
        for text in ["x", "y", "x", "y"] {
            rig.store.open_read(&name(text)).unwrap();
        }
        assert_eq!((rig.store.cache.hits(), rig.store.cache.costs()), (0, (0, 0)));
    }

    #[test]
    fn what_is_used_stays_when_others_pass() {
        let (_folder, rig) = open(20_000);
        rig.put("hot", Class::Low, &sample(1000, 1)).unwrap();
        for n in 0..100 {
            rig.put(&format!("{n}"), Class::Low, &sample(1000, 1)).unwrap();
        }
        rig.store.open_read(&name("hot")).unwrap();
        let inner = &rig.store.cache.inner;
        for n in 0..100 {
            rig.store.open_read(&name("hot")).unwrap();
            rig.store.open_read(&name(&format!("{n}"))).unwrap();
            assert!(inner.borrow().places.contains_key("hot"));
        }
    }
}
