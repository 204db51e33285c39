//! Telling watchers and the owner what changed.

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Evbuffer;
use crate::error::{Error, Result};
use crate::slot::Slot;

/// What a change did to the length of an evbuffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[doc(alias = "evbuffer_cb_info")]
pub struct Change {
    /// The length before the change, or before the first of several that are told at once.
    #[doc(alias = "orig_size")]
    pub original: usize,
    /// How many bytes were added.
    #[doc(alias = "n_added")]
    pub added: usize,
    /// How many bytes were removed.
    #[doc(alias = "n_deleted")]
    pub deleted: usize,
}

/// Names a watcher of one evbuffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "evbuffer_cb_entry")]
pub struct WatchId(u64);

/// The part of the library that an evbuffer works for. It is told after the user's watchers, and never deferred.
pub(crate) trait BufferOwner {
    fn changed(&self, buffer: &Evbuffer, change: &Change);
}

type Closure = dyn FnMut(&Evbuffer, &Change);
type Deferral = Rc<dyn Fn(&Evbuffer)>;

struct Watcher {
    id: WatchId,
    enabled: Cell<bool>,
    slot: Slot<Closure>,
}

#[derive(Default)]
pub(super) struct Watch {
    /// Oldest first. Whoever walks it holds a count, so that a change of the list makes a new one.
    watchers: RefCell<Option<Rc<Vec<Rc<Watcher>>>>>,
    owner: RefCell<Option<Weak<dyn BufferOwner>>>,
    deferral: RefCell<Option<Deferral>>,
    /// Merged changes that nobody was told yet.
    pending: Cell<Option<Change>>,
    /// Merged changes that the owner was told, and the watchers will be by `deliver_deferred`.
    deferred: Cell<Option<Change>>,
    delivering: Cell<bool>,
}

impl Change {
    fn merged(self, earlier: Option<Change>) -> Change {
        match earlier {
            None => self,
            Some(e) => Change {
                original: e.original,
                added: e.added.saturating_add(self.added),
                deleted: e.deleted.saturating_add(self.deleted),
            },
        }
    }
}

fn merge(into: &Cell<Option<Change>>, change: Change) {
    into.set(Some(change.merged(into.get())));
}

/// Ends a round of calls, also when one of them panics.
struct Round<'a>(&'a Cell<bool>);

impl<'a> Round<'a> {
    fn begin(delivering: &'a Cell<bool>) -> Round<'a> {
        delivering.set(true);
        Round(delivering)
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Tells the owner of a change that a watcher's panic keeps from being told in order: else its stream would stall.
struct OnPanic<'a>(&'a Evbuffer, Change);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        self.0.tell_owner(&self.1);
    }
}

/// Watchers.
impl Evbuffer {
    /// Has `watcher` called after every change of the length, with what changed. The most recently added one is called
    /// first.
    ///
    /// It runs inside the call that changed the buffer, after the change is complete and with nothing borrowed: it may
    /// change this buffer or others, and add or remove watchers, itself included. What it changes in this buffer is
    /// told after all have been told of the first change, in one call with the sums; libevent would call from within
    /// the call instead. If it panics, the panic reaches the caller of the changing method and this watcher is lost;
    /// the buffer and the other watchers stay usable.
    ///
    /// A watcher that owns a clone of its own buffer keeps it alive for ever: use the one it is given.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use reactor::Evbuffer;
    ///
    /// let total = Rc::new(Cell::new(0));
    /// let buffer = Evbuffer::new();
    /// let sum = total.clone();
    /// let watch = buffer.on_change(move |_, change| sum.set(sum.get() + change.added));
    /// buffer.append(b"12345")?;
    /// buffer.drain(2)?;
    /// assert_eq!(total.get(), 5);
    /// buffer.remove_watcher(watch)?;
    /// # Ok::<(), reactor::Error>(())
    /// ```
    #[doc(alias = "evbuffer_add_cb")]
    pub fn on_change(&self, watcher: impl FnMut(&Evbuffer, &Change) + 'static) -> WatchId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = WatchId(NEXT.fetch_add(1, Ordering::Relaxed));
        let watcher = Watcher { id, enabled: Cell::new(true), slot: Slot::new(Box::new(watcher)) };
        let mut list = self.0.watch.list().as_deref().cloned().unwrap_or_default();
        list.push(Rc::new(watcher));
        self.0.watch.watchers.replace(Some(Rc::new(list)));
        self.mark_watched();
        id
    }

    /// Removes a watcher and drops its closure, or lets it end first if it is running.
    ///
    /// # Errors
    /// [`Error::UnknownWatcher`] if it is not one of this buffer.
    #[doc(alias = "evbuffer_remove_cb_entry")]
    #[doc(alias = "evbuffer_remove_cb")]
    pub fn remove_watcher(&self, watcher: WatchId) -> Result<()> {
        let watch = &self.0.watch;
        let removed = watch.find(watcher)?;
        let rest: Vec<_> =
            watch.list().iter().flat_map(|l| l.iter()).filter(|w| w.id != watcher).cloned().collect();
        let rest = (!rest.is_empty()).then(|| Rc::new(rest));
        drop(watch.watchers.replace(rest));
        self.mark_watched();
        removed.slot.set(None);
        Ok(())
    }

    /// Turns a watcher off or on again. While it is off it is skipped, and it is not told later what it missed.
    ///
    /// # Errors
    /// [`Error::UnknownWatcher`] if it is not one of this buffer.
    #[doc(alias = "evbuffer_cb_set_flags")]
    #[doc(alias = "evbuffer_cb_clear_flags")]
    pub fn enable_watcher(&self, watcher: WatchId, enabled: bool) -> Result<()> {
        self.0.watch.find(watcher)?.enabled.set(enabled);
        Ok(())
    }

    fn mark_watched(&self) {
        let watch = &self.0.watch;
        let watched = watch.watchers.borrow().is_some() || watch.owner.borrow().is_some();
        self.0.watched.set(watched);
        if !watched {
            // What nobody was told, for example after a panic, is not for those who come later.
            watch.pending.set(None);
            watch.deferred.set(None);
        }
    }

    /// Records a change, to be told by the next `deliver`.
    #[inline]
    pub(super) fn note(&self, original: usize, added: usize, deleted: usize) {
        if self.0.watched.get() && (added, deleted) != (0, 0) {
            merge(&self.0.watch.pending, Change { original, added, deleted });
        }
    }

    /// Tells what was recorded. Nothing of any buffer may be borrowed.
    #[inline]
    pub(super) fn deliver(&self) {
        if self.0.watched.get() {
            self.deliver_pending();
        }
    }

    #[inline(never)]
    fn deliver_pending(&self) {
        let watch = &self.0.watch;
        if watch.delivering.get() {
            // From within a watcher: the call that is under way goes round once more.
            return;
        }
        let _round = Round::begin(&watch.delivering);
        while let Some(change) = watch.pending.take() {
            let on_panic = OnPanic(self, change);
            let deferral = watch.deferral.borrow().clone();
            match deferral {
                None => self.call_watchers(&change.merged(watch.deferred.take())),
                Some(schedule) => {
                    let scheduled = watch.deferred.get().is_some();
                    merge(&watch.deferred, change);
                    if !scheduled {
                        schedule(self);
                    }
                }
            }
            mem::forget(on_panic);
            self.tell_owner(&change);
        }
    }

    fn tell_owner(&self, change: &Change) {
        let owner = self.0.watch.owner.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(owner) = owner {
            owner.changed(self, change);
        }
    }

    /// Tells two buffers' watchers of a move, `first` before this one's.
    pub(super) fn deliver_after(&self, first: &Evbuffer) {
        let on_panic = self.0.watch.pending.get().map(|change| OnPanic(self, change));
        first.deliver();
        mem::forget(on_panic);
        self.deliver();
    }

    fn call_watchers(&self, change: &Change) {
        let watchers = self.0.watch.list();
        for watcher in watchers.iter().flat_map(|list| list.iter().rev()) {
            if watcher.enabled.get() {
                // Empty: removed meanwhile. It cannot be busy, since rounds do not nest.
                let _ = watcher.slot.call(|closure| closure(self, change));
            }
        }
    }
}

/// What the owner of a buffer installs.
impl Evbuffer {
    /// Sets who is told of every change at once, after the watchers.
    pub(crate) fn set_owner(&self, owner: Option<Weak<dyn BufferOwner>>) {
        drop(self.0.watch.owner.replace(owner));
        self.mark_watched();
    }

    /// Removes every watcher and what they were still to be told.
    pub(crate) fn clear_watchers(&self) {
        let watch = &self.0.watch;
        drop(watch.deferral.replace(None));
        watch.deferred.set(None);
        let watchers = watch.watchers.replace(None);
        watchers.iter().flat_map(|list| list.iter()).for_each(|watcher| watcher.slot.set(None));
    }

    /// With a hook, watchers are told later: changes are merged, and the hook is called once to have
    /// [`deliver_deferred`](Self::deliver_deferred) called, on a clone of the buffer if it is to survive until then.
    #[doc(alias = "evbuffer_defer_callbacks")]
    pub(crate) fn set_deferral(&self, schedule: Option<Deferral>) {
        drop(self.0.watch.deferral.replace(schedule));
    }

    /// Tells the watchers what was merged since the hook was called. What they change is deferred again.
    pub(crate) fn deliver_deferred(&self) {
        let watch = &self.0.watch;
        if watch.delivering.get() {
            return;
        }
        if let Some(change) = watch.deferred.take() {
            let round = Round::begin(&watch.delivering);
            self.call_watchers(&change);
            drop(round);
        }
        self.deliver();
    }
}

impl Watch {
    fn list(&self) -> Option<Rc<Vec<Rc<Watcher>>>> {
        self.watchers.borrow().clone()
    }

    fn find(&self, id: WatchId) -> Result<Rc<Watcher>> {
        let list = self.list();
        list.iter().flat_map(|l| l.iter()).find(|w| w.id == id).cloned().ok_or(Error::UnknownWatcher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Rc<RefCell<Vec<(&'static str, usize, usize, usize)>>>;

    struct Owner(Told);

    impl BufferOwner for Owner {
        fn changed(&self, buffer: &Evbuffer, c: &Change) {
            self.0.borrow_mut().push(("owner", c.original, c.added, c.deleted));
            if c.original == 100 {
                buffer.append(b"from the owner").unwrap();
            }
        }
    }

    fn watch(buffer: &Evbuffer, told: &Told) -> WatchId {
        let told = told.clone();
        buffer.on_change(move |_, c| told.borrow_mut().push(("watcher", c.original, c.added, c.deleted)))
    }

    fn owner(buffer: &Evbuffer, told: &Told) -> Rc<Owner> {
        let owner = Rc::new(Owner(told.clone()));
        let as_owner: Rc<dyn BufferOwner> = owner.clone();
        buffer.set_owner(Some(Rc::downgrade(&as_owner)));
        owner
    }

    #[test]
    fn the_owner_is_told_after_the_watchers_until_it_is_gone() {
        let (buffer, told) = (Evbuffer::new(), Told::default());
        let owner = owner(&buffer, &told);
        buffer.append(b"abc").unwrap();
        let id = watch(&buffer, &told);
        buffer.drain(1).unwrap();
        assert_eq!(told.take(), [("owner", 0, 3, 0), ("watcher", 3, 0, 1), ("owner", 3, 0, 1)]);
        buffer.remove_watcher(id).unwrap();
        drop(owner);
        buffer.append(b"d").unwrap();
        buffer.set_owner(None);
        assert!(told.take().is_empty() && !buffer.0.watched.get());
    }

    #[test]
    fn what_the_owner_changes_is_told_in_turn() {
        let (buffer, told) = (Evbuffer::new(), Told::default());
        let _owner = owner(&buffer, &told);
        watch(&buffer, &told);
        buffer.append(&[0; 100]).unwrap();
        told.take();
        buffer.drain(50).unwrap();
        let expected =
            [("watcher", 100, 0, 50), ("owner", 100, 0, 50), ("watcher", 50, 14, 0), ("owner", 50, 14, 0)];
        assert_eq!(told.take(), expected);
    }

    /// A buffer whose watchers are deferred, and what its hook was given to deliver.
    fn deferred(told: &Told) -> (Evbuffer, Rc<RefCell<Vec<Evbuffer>>>) {
        let (buffer, queue) = (Evbuffer::new(), Rc::new(RefCell::new(Vec::new())));
        let later = queue.clone();
        buffer.set_deferral(Some(Rc::new(move |b: &Evbuffer| later.borrow_mut().push(b.clone()))));
        watch(&buffer, told);
        (buffer, queue)
    }

    #[test]
    fn buf_59_deferred_changes_are_merged_into_one_call() {
        let told = Told::default();
        let (buffer, queue) = deferred(&told);
        let _owner = owner(&buffer, &told);
        buffer.append(b"abc").unwrap();
        buffer.append(b"de").unwrap();
        buffer.drain(4).unwrap();
        assert_eq!(told.take(), [("owner", 0, 3, 0), ("owner", 3, 2, 0), ("owner", 5, 0, 4)]);
        assert_eq!(queue.borrow().len(), 1, "asked for once");
        queue.take()[0].deliver_deferred();
        assert_eq!(told.take(), [("watcher", 0, 5, 4)]);
        buffer.deliver_deferred();
        assert!(told.take().is_empty());
        buffer.append(b"f").unwrap();
        assert_eq!(queue.take().len(), 1, "and again for the next change");
    }

    #[test]
    fn buf_59_a_deferred_call_survives_the_last_handle_of_the_user() {
        let told = Told::default();
        let (buffer, queue) = deferred(&told);
        buffer.append(b"abc").unwrap();
        drop(buffer);
        queue.take()[0].deliver_deferred();
        assert_eq!(told.take(), [("watcher", 0, 3, 0)]);
    }

    #[test]
    fn a_change_from_a_deferred_watcher_is_deferred_again() {
        let told = Told::default();
        let (buffer, queue) = deferred(&told);
        buffer.on_change(|b, c| {
            if c.original == 0 {
                b.drain(1).unwrap();
            }
        });
        buffer.append(b"abc").unwrap();
        queue.take()[0].deliver_deferred();
        assert_eq!(told.take(), [("watcher", 0, 3, 0)]);
        queue.take()[0].deliver_deferred();
        assert_eq!(told.take(), [("watcher", 3, 0, 1)]);
        assert!(queue.take().is_empty());
    }

    #[test]
    fn once_nothing_is_deferred_what_was_merged_is_told_with_the_next_change() {
        let told = Told::default();
        let (buffer, _queue) = deferred(&told);
        buffer.append(b"abc").unwrap();
        buffer.set_deferral(None);
        buffer.append(b"d").unwrap();
        buffer.deliver_deferred();
        assert_eq!(told.take(), [("watcher", 0, 4, 0)]);
    }
}
