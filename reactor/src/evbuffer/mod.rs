//! A queue of bytes in a chain of segments: owned blocks, shared memory and parts of files.
//!
//! [`Evbuffer`] is libevent's `evbuffer`. A buffer can be used on its own; it knows of no event loop.

mod block;
mod chain;
mod file;
mod io;
mod lend;
mod search;
mod watch;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::io::IoSlice;
use std::ops::{Bound, Range, RangeBounds};
use std::rc::Rc;

use crate::error::{Error, Result};
use chain::{Chain, Segment, Shared, Trash};
use file::FileRange;
use watch::Watch;

pub use file::FileSegment;
pub(crate) use io::Pass;
pub use lend::{Front, Peek, Reservation};
pub use search::Eol;
pub(crate) use watch::BufferOwner;
pub use watch::{Change, WatchId};

/// A queue of bytes: appended at the back, drained from the front, moved between buffers without copying.
///
/// This is a handle: a clone is the same buffer, which goes away with its last handle. All methods take `&self`. It
/// belongs to one thread.
///
/// Memory comes in blocks of 4, 16 or 64 KiB from a store of the thread, and returns there when drained: a warm buffer
/// allocates nothing, an empty one holds no block.
///
/// # Callbacks
/// After each call that changed the length, the watchers ([`on_change`](Self::on_change)) run before the call returns.
///
/// # Errors
/// Guards of [`pull_up`](Self::pull_up), [`peek`](Self::peek) and [`reserve`](Self::reserve) lend the content out: until
/// they are dropped, calls that would change it return [`Error::Lent`]. An end that its owner froze is refused with
/// [`Error::Frozen`]. After any error the buffer is as it was before the call.
///
/// ```
/// use reactor::Evbuffer;
/// use reactor::evbuffer::Eol;
///
/// let input = Evbuffer::new();
/// input.append(b"GET / HTTP/1.1\r\nHost: x\r\n")?;
/// assert_eq!(input.read_line(Eol::Crlf)?.as_deref(), Some(&b"GET / HTTP/1.1"[..]));
///
/// let output = Evbuffer::new();
/// output.append_buffer(&input)?;
/// assert!(input.is_empty());
/// assert_eq!(output.len(), 9);
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Evbuffer(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// Always the sum of the segments' lengths; beside the chain, so that it can be read while that is lent out.
    len: Cell<usize>,
    front_frozen: Cell<bool>,
    back_frozen: Cell<bool>,
    /// Whether there is a watcher or an owner to tell.
    watched: Cell<bool>,
    chain: RefCell<Chain>,
    watch: Watch,
}

/// An end of an [`Evbuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where bytes are drained.
    Front,
    /// Where bytes are appended.
    Back,
}

impl Evbuffer {
    /// An empty buffer. It allocates its handle, no room for bytes.
    #[doc(alias = "evbuffer_new")]
    pub fn new() -> Evbuffer {
        Evbuffer::default()
    }

    /// How many bytes it holds.
    #[doc(alias = "evbuffer_get_length")]
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len.get()
    }

    /// Whether it holds no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of the first bytes are in one piece of memory; zero if they are in a file, or lent out for writing.
    #[doc(alias = "evbuffer_get_contiguous_space")]
    pub fn contiguous_len(&self) -> usize {
        let Ok(chain) = self.chain() else { return 0 };
        chain.front().and_then(Segment::memory).map_or(0, <[u8]>::len)
    }

    /// Whether `other` is a handle to the same buffer.
    pub fn is_same(&self, other: &Evbuffer) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Forbids to change one end, for everybody but those who can unfreeze it.
    ///
    /// A frozen back refuses what appends, a frozen front what drains and what prepends, and `copy_out` as in libevent.
    /// `peek`, `find`, `find_eol`, `pull_up` and `expand` stay allowed.
    #[doc(alias = "evbuffer_freeze")]
    pub fn freeze(&self, end: End) {
        self.frozen(end).set(true);
    }

    /// Allows to change an end again.
    #[doc(alias = "evbuffer_unfreeze")]
    pub fn unfreeze(&self, end: End) {
        self.frozen(end).set(false);
    }
}

/// Adding.
impl Evbuffer {
    /// Copies `bytes` to the end.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the back is frozen, even for no bytes; [`Error::Lent`].
    #[doc(alias = "evbuffer_add")]
    #[inline]
    pub fn append(&self, bytes: &[u8]) -> Result<()> {
        self.check_thawed(End::Back)?;
        self.append_thawed(bytes)
    }

    /// [`append`](Self::append) for the owner of the back.
    // Left to itself it becomes a call, which costs a byte's append half as much again.
    #[inline(always)]
    pub(crate) fn append_thawed(&self, bytes: &[u8]) -> Result<()> {
        let mut chain = self.chain_mut()?;
        let original = self.grow(bytes.len())?;
        chain.append(bytes);
        drop(chain);
        self.note(original, bytes.len(), 0);
        self.deliver();
        Ok(())
    }

    /// Copies several slices to the end and returns their total length. Watchers are told once a slice.
    ///
    /// # Errors
    /// As [`append`](Self::append). If a watcher froze the buffer between two slices, those before it were added.
    #[doc(alias = "evbuffer_add_iovec")]
    pub fn append_vectored(&self, slices: &[IoSlice<'_>]) -> Result<usize> {
        self.check_thawed(End::Back)?;
        let mut total = 0;
        for slice in slices {
            self.append(slice)?;
            total += slice.len();
        }
        Ok(total)
    }

    /// Adds memory to the end without copying. `owner` is dropped once, when the last of its bytes has left the last
    /// buffer that holds them: that is libevent's cleanup callback. No borrow is alive then, so its `Drop` may use any
    /// buffer.
    ///
    /// `owner.as_ref()` must give the same bytes every time and must not touch this buffer; if it gives fewer later,
    /// calls that need the missing ones return [`Error::SharedShrank`]. If it is empty, `owner` is dropped at once;
    /// libevent keeps it until the next append.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use reactor::Evbuffer;
    ///
    /// let page: Arc<[u8]> = Arc::from(*b"the same bytes for everybody");
    /// let (one, two) = (Evbuffer::new(), Evbuffer::new());
    /// one.append_shared(page.clone())?;
    /// two.append_shared(page.clone())?;
    /// assert_eq!(Arc::strong_count(&page), 3);
    /// one.drain(usize::MAX)?;
    /// assert_eq!(Arc::strong_count(&page), 2);
    /// # Ok::<(), reactor::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Frozen`] if the back is frozen; [`Error::Lent`]. `owner` is dropped then.
    #[doc(alias = "evbuffer_add_reference")]
    #[doc(alias = "evbuffer_add_reference_with_offset")]
    pub fn append_shared(&self, owner: impl AsRef<[u8]> + 'static) -> Result<()> {
        self.check_thawed(End::Back)?;
        let owner: Rc<dyn AsRef<[u8]>> = Rc::new(owner);
        let len = (*owner).as_ref().len();
        self.append_segment(Segment::Shared(Shared::new(owner, 0..len)))
    }

    /// Adds part of a file to the end; `range` is relative to the segment.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the segment is shorter; [`Error::TooLong`] if the buffer's length would not fit
    /// `usize`; [`Error::Frozen`] if the back is frozen; [`Error::Lent`].
    #[doc(alias = "evbuffer_add_file")]
    #[doc(alias = "evbuffer_add_file_segment")]
    pub fn append_file(&self, segment: &FileSegment, range: Range<u64>) -> Result<()> {
        self.check_thawed(End::Back)?;
        if usize::try_from(range.end).is_err() {
            return Err(Error::TooLong);
        }
        self.append_segment(Segment::File(FileRange::new(segment, range)?))
    }

    /// Adds the current bytes of `source` to the end without copying or removing them. Both go on independently.
    ///
    /// # Errors
    /// [`Error::NotReferable`] if `source` holds file segments or bytes that were added this way themselves, or is this
    /// buffer and not empty; [`Error::Frozen`] if the back is frozen; [`Error::Lent`]. An empty source always
    /// succeeds.
    #[doc(alias = "evbuffer_add_buffer_reference")]
    pub fn append_shared_from(&self, source: &Evbuffer) -> Result<()> {
        if source.is_empty() {
            return Ok(());
        }
        self.check_thawed(End::Back)?;
        if self.is_same(source) {
            return Err(Error::NotReferable);
        }
        let (mut from, mut chain) = (source.chain_mut()?, self.chain_mut()?);
        let added = source.len();
        self.len().checked_add(added).ok_or(Error::TooLong)?;
        chain.reference_chain(&mut from)?;
        let original = self.grow(added)?;
        drop((from, chain));
        self.note(original, added, 0);
        self.deliver();
        Ok(())
    }

    /// Copies `bytes` to the front, into the room that drained bytes left there if it is enough.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the front is frozen, unless `bytes` is empty; [`Error::Lent`].
    #[doc(alias = "evbuffer_prepend")]
    #[inline]
    pub fn prepend(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.check_thawed(End::Front)?;
        let mut chain = self.chain_mut()?;
        let original = self.grow(bytes.len())?;
        chain.prepend(bytes);
        drop(chain);
        self.note(original, bytes.len(), 0);
        self.deliver();
        Ok(())
    }

    fn append_segment(&self, segment: Segment) -> Result<()> {
        let added = segment.len();
        let mut chain = self.chain_mut()?;
        let original = self.grow(added)?;
        if added > 0 {
            chain.push(segment);
        }
        drop(chain);
        self.note(original, added, 0);
        self.deliver();
        Ok(())
    }
}

/// Moving between buffers.
impl Evbuffer {
    /// Moves all of `source` to the end, without copying. Watchers of `source` are told first. If it is this buffer or
    /// empty, nothing happens.
    ///
    /// # Errors
    /// [`Error::Frozen`] if this back or the front of `source` is frozen; [`Error::Lent`] for either.
    #[doc(alias = "evbuffer_add_buffer")]
    pub fn append_buffer(&self, source: &Evbuffer) -> Result<()> {
        if source.is_empty() || self.is_same(source) {
            return Ok(());
        }
        self.check_thawed(End::Back)?;
        source.check_thawed(End::Front)?;
        self.append_buffer_thawed(source)
    }

    /// [`append_buffer`](Self::append_buffer) for the owner of both.
    pub(crate) fn append_buffer_thawed(&self, source: &Evbuffer) -> Result<()> {
        self.take_all(source, Chain::append_chain)
    }

    /// Moves all of `source` to the front, without copying. Watchers of `source` are told first. If it is this buffer
    /// or empty, nothing happens.
    ///
    /// # Errors
    /// [`Error::Frozen`] if either front is frozen; [`Error::Lent`] for either.
    #[doc(alias = "evbuffer_prepend_buffer")]
    pub fn prepend_buffer(&self, source: &Evbuffer) -> Result<()> {
        if source.is_empty() || self.is_same(source) {
            return Ok(());
        }
        self.check_thawed(End::Front)?;
        source.check_thawed(End::Front)?;
        self.take_all(source, Chain::prepend_chain)
    }

    /// Moves the first `n` bytes, or all if there are fewer, to the end of `target`, and returns how many. Only the
    /// beginning of a block that does not move whole is copied. Watchers of `target` are told first. If it is this
    /// buffer, nothing happens.
    ///
    /// # Errors
    /// [`Error::Frozen`] if this front or the back of `target` is frozen, unless `n` is zero; [`Error::Lent`] for
    /// either.
    #[doc(alias = "evbuffer_remove_buffer")]
    pub fn remove_buffer(&self, target: &Evbuffer, n: usize) -> Result<usize> {
        if n == 0 || self.is_same(target) {
            return Ok(0);
        }
        target.check_thawed(End::Back)?;
        self.check_thawed(End::Front)?;
        self.remove_buffer_thawed(target, n)
    }

    /// [`remove_buffer`](Self::remove_buffer) for the owner of both.
    pub(crate) fn remove_buffer_thawed(&self, target: &Evbuffer, n: usize) -> Result<usize> {
        if self.is_same(target) {
            return Ok(0);
        }
        let before = self.len();
        if n >= before {
            // libevent takes this short cut too, so the order of the two calls is that of a whole move.
            target.append_buffer_thawed(self)?;
            return Ok(before);
        }
        let (mut from, mut to) = (self.chain_mut()?, target.chain_mut()?);
        let original = target.grow(n)?;
        from.move_front(&mut to, n);
        self.0.len.set(before - n);
        drop((from, to));
        self.note(before, 0, n);
        target.note(original, n, 0);
        self.deliver_after(target);
        Ok(n)
    }

    fn take_all(&self, source: &Evbuffer, take: impl FnOnce(&mut Chain, &mut Chain)) -> Result<()> {
        if self.is_same(source) {
            return Ok(());
        }
        let (mut from, mut to) = (source.chain_mut()?, self.chain_mut()?);
        let moved = source.len();
        let original = self.grow(moved)?;
        take(&mut to, &mut from);
        source.0.len.set(0);
        drop((from, to));
        source.note(moved, 0, moved);
        self.note(original, moved, 0);
        self.deliver_after(source);
        Ok(())
    }
}

/// Taking out and looking.
impl Evbuffer {
    /// Drops the first `n` bytes, or all if there are fewer, and returns how many.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the front is frozen and the buffer is not empty; [`Error::Lent`].
    #[doc(alias = "evbuffer_drain")]
    #[inline]
    pub fn drain(&self, n: usize) -> Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        self.check_thawed(End::Front)?;
        self.drain_thawed(n)
    }

    /// [`drain`](Self::drain) for the owner of the front.
    #[inline]
    pub(crate) fn drain_thawed(&self, n: usize) -> Result<usize> {
        let chain = self.chain_mut()?;
        Ok(self.drain_locked(chain, n))
    }

    #[inline]
    fn drain_locked(&self, mut chain: RefMut<'_, Chain>, n: usize) -> usize {
        let original = self.len();
        if chain.advance(n) {
            self.0.len.set(original - n);
            drop(chain);
            self.note(original, 0, n);
        } else {
            self.drain_segments(chain, n.min(original));
        }
        self.deliver();
        n.min(original)
    }

    fn drain_segments(&self, mut chain: RefMut<'_, Chain>, n: usize) {
        let original = self.len();
        let mut trash = Trash::default();
        chain.drain(n, &mut trash);
        self.0.len.set(original - n);
        drop(chain);
        self.note(original, 0, n);
        drop(trash);
    }

    /// Copies bytes from the front into `into`, drops them, and returns how many there were.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the front is frozen and there is something to remove; [`Error::Lent`]; the failure to read
    /// a file segment.
    #[doc(alias = "evbuffer_remove")]
    #[inline]
    pub fn remove(&self, into: &mut [u8]) -> Result<usize> {
        if self.is_empty() || into.is_empty() {
            return Ok(0);
        }
        self.check_thawed(End::Front)?;
        let chain = self.chain_mut()?;
        let n = chain.copy_out(0, into)?;
        Ok(self.drain_locked(chain, n))
    }

    /// Copies the bytes that begin at offset `at` into `into`, as far as there are any, and returns how many. The
    /// buffer does not change.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `at` is beyond the end; [`Error::Frozen`] if the front is frozen and there is something
    /// to copy, as in libevent; [`Error::Lent`]; the failure to read a file segment.
    #[doc(alias = "evbuffer_copyout")]
    #[doc(alias = "evbuffer_copyout_from")]
    pub fn copy_out(&self, at: usize, into: &mut [u8]) -> Result<usize> {
        self.check_offset(at)?;
        if at == self.len() || into.is_empty() {
            return Ok(0);
        }
        self.check_thawed(End::Front)?;
        self.chain()?.copy_out(at, into)
    }

    /// Removes the first line and returns it without its end, or returns `None` and removes nothing if there is no
    /// line end yet. Watchers are told once, of line and end together; libevent tells twice.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the front is frozen; [`Error::Lent`]; the failure to read a file segment.
    #[doc(alias = "evbuffer_readln")]
    pub fn read_line(&self, eol: Eol) -> Result<Option<Vec<u8>>> {
        self.check_thawed(End::Front)?;
        let chain = self.chain_mut()?;
        let Some((at, mark)) = search::eol(&chain, 0..self.len(), eol)? else { return Ok(None) };
        let mut line = Vec::with_capacity(at);
        chain.scan(0..at, |_, piece| {
            line.extend_from_slice(piece);
            None::<()>
        })?;
        self.drain_locked(chain, at + mark);
        Ok(Some(line))
    }

    /// The offset and length of the first line end at or after offset `at`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if `at` is beyond the end; [`Error::Lent`]; the failure to read a file segment.
    #[doc(alias = "evbuffer_search_eol")]
    pub fn find_eol(&self, at: usize, eol: Eol) -> Result<Option<(usize, usize)>> {
        self.check_offset(at)?;
        search::eol(&*self.chain()?, at..self.len(), eol)
    }

    /// The offset of the first occurrence of `pattern` that lies wholly inside `range`. An empty pattern is found where
    /// the range begins. A range that ends beyond the buffer ends with it.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the range begins beyond the end; [`Error::Lent`]; the failure to read a file segment.
    #[doc(alias = "evbuffer_search")]
    #[doc(alias = "evbuffer_search_range")]
    #[doc(alias = "evbuffer_ptr_set")]
    #[inline]
    pub fn find(&self, pattern: impl AsRef<[u8]>, range: impl RangeBounds<usize>) -> Result<Option<usize>> {
        let range = clip(&range, self.len());
        self.check_offset(range.start)?;
        search::pattern(&*self.chain()?, range, pattern.as_ref())
    }
}

impl Evbuffer {
    /// Drops all content, frozen or not, for an owner that is freed.
    pub(crate) fn discard(&self) {
        // Lent out only if user code that holds a guard frees the owner: then the content goes with the buffer.
        let _ = self.drain_thawed(usize::MAX);
    }

    /// What is wrong with the inner state, for tests.
    #[doc(hidden)]
    pub fn validate(&self) -> std::result::Result<(), String> {
        let chain = self.chain().map_err(|e| e.to_string())?;
        let (fault, sum) = chain.check();
        if let Some(fault) = fault {
            return Err(fault.to_owned());
        }
        if sum != self.len() {
            return Err(format!("the segments hold {sum} bytes, the length is {}", self.len()));
        }
        Ok(())
    }

    #[inline]
    fn chain(&self) -> Result<Ref<'_, Chain>> {
        self.0.chain.try_borrow().map_err(|_| Error::Lent)
    }

    #[inline]
    fn chain_mut(&self) -> Result<RefMut<'_, Chain>> {
        self.0.chain.try_borrow_mut().map_err(|_| Error::Lent)
    }

    /// Adds to the length and returns what it was.
    #[inline]
    fn grow(&self, n: usize) -> Result<usize> {
        let original = self.len();
        self.0.len.set(original.checked_add(n).ok_or(Error::TooLong)?);
        Ok(original)
    }

    #[inline]
    fn frozen(&self, end: End) -> &Cell<bool> {
        match end {
            End::Front => &self.0.front_frozen,
            End::Back => &self.0.back_frozen,
        }
    }

    #[inline]
    fn check_thawed(&self, end: End) -> Result<()> {
        match (self.frozen(end).get(), end) {
            (false, _) => Ok(()),
            (true, End::Front) => Err(Error::Frozen { end: "front" }),
            (true, End::Back) => Err(Error::Frozen { end: "back" }),
        }
    }

    fn check_offset(&self, at: usize) -> Result<()> {
        if at > self.len() {
            return Err(Error::OutOfRange { at: at as u64, len: self.len() as u64 });
        }
        Ok(())
    }
}

/// The part of `0..len` that `range` names. It begins where the range does, even if that is beyond the end.
fn clip(range: &impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => len,
    };
    start..end.min(len)
}

impl fmt::Debug for Evbuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evbuffer")
            .field("len", &self.len())
            .field("front_frozen", &self.0.front_frozen.get())
            .field("back_frozen", &self.0.back_frozen.get())
            .finish_non_exhaustive()
    }
}

/// Writing appends, and never takes less than it is given. `write!` tells watchers once.
impl std::io::Write for &Evbuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    #[doc(alias = "evbuffer_add_printf")]
    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> std::io::Result<()> {
        // The values' own formatting is foreign code, so it runs before anything is borrowed.
        let appended = match args.as_str() {
            Some(text) => self.append(text.as_bytes()),
            None => self.append(args.to_string().as_bytes()),
        };
        appended.map_err(std::io::Error::other)
    }
}

/// As for `&Evbuffer`.
impl std::io::Write for Evbuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> std::io::Result<()> {
        (&*self).write_fmt(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand idle connections of two buffers each are to cost less than 3 KiB a connection.
    #[test]
    fn an_emptied_buffer_is_small() {
        let segments = chain::IDLE_SEGMENTS * size_of::<Segment>();
        assert!(size_of::<Inner>() + segments <= 1024, "{} + {segments}", size_of::<Inner>());
        let b = Evbuffer::new();
        for _ in 0..1000 {
            b.append_shared([0]).unwrap();
        }
        b.append(&[0; 1_000_000]).unwrap();
        b.drain(usize::MAX).unwrap();
        assert!(b.chain().unwrap().capacity() <= chain::IDLE_SEGMENTS);
    }

    #[test]
    fn the_owner_of_an_end_passes_its_frost() {
        let (b, other) = (Evbuffer::new(), Evbuffer::new());
        b.freeze(End::Back);
        b.freeze(End::Front);
        b.append_thawed(b"abcdef").unwrap();
        assert_eq!(b.drain_thawed(1).unwrap(), 1);
        assert_eq!(b.remove_buffer_thawed(&other, 2).unwrap(), 2);
        b.append_buffer_thawed(&other).unwrap();
        assert_eq!((b.len(), other.len()), (5, 0));
        b.discard();
        assert!(b.is_empty());
    }
}
