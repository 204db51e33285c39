//! Guards that lend a buffer's memory out.

use std::cell::{Ref, RefMut};
use std::io::IoSlice;
use std::ops::{Deref, DerefMut, Range};

use super::block::Block;
use super::chain::{Chain, Segment, Trash};
use super::{End, Evbuffer};
use crate::error::{Error, Result};

/// The first bytes of an [`Evbuffer`] in one piece, from [`pull_up`](Evbuffer::pull_up).
///
/// Reads as `[u8]`. Writing through it changes the buffer's bytes; if they are shared memory, they are copied first, so
/// the owner's memory is never written.
#[must_use]
pub struct Front<'a> {
    // Released before what the user's owners of shared memory do when they are dropped.
    chain: RefMut<'a, Chain>,
    trash: Trash,
    len: usize,
}

impl Deref for Front<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let bytes = self.chain.front().and_then(Segment::memory).unwrap_or_default();
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

impl DerefMut for Front<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.chain.front_mut(self.len, &mut self.trash);
        let n = self.len.min(bytes.len());
        &mut bytes[..n]
    }
}

/// A look at bytes of an [`Evbuffer`] where they are, from [`peek`](Evbuffer::peek).
#[must_use]
pub struct Peek<'a> {
    chain: Ref<'a, Chain>,
    range: Range<usize>,
}

impl Peek<'_> {
    /// The pieces in order. Their number and sizes are the library's business; none is empty.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut base = 0;
        self.chain.segments().map_while(Segment::memory).filter_map(move |bytes| {
            let from = self.range.start.clamp(base, base + bytes.len());
            let to = self.range.end.clamp(from, base + bytes.len());
            let piece = &bytes[from - base..to - base];
            base += bytes.len();
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// Points the first of `slots` at the pieces, and says how many pieces there are, which may be more.
    pub fn fill<'b>(&'b self, slots: &mut [IoSlice<'b>]) -> usize {
        let mut count = 0;
        for piece in self.slices() {
            if let Some(slot) = slots.get_mut(count) {
                *slot = IoSlice::new(piece);
            }
            count += 1;
        }
        count
    }

    /// How many bytes can be seen: fewer than asked for where the buffer ends or content in a file begins.
    pub fn len(&self) -> usize {
        self.slices().map(<[u8]>::len).sum()
    }

    /// Whether no byte can be seen.
    pub fn is_empty(&self) -> bool {
        self.slices().next().is_none()
    }
}

/// Room at the end of an [`Evbuffer`], from [`reserve`](Evbuffer::reserve): write into it as a `[u8]`, then
/// [`commit`](Self::commit). Dropped without a commit it leaves the buffer as it was.
///
/// The room may be longer than asked for. What it holds before you write is unspecified, and may be bytes that passed
/// through other buffers: commit only what you wrote.
#[must_use]
pub struct Reservation<'a> {
    buffer: &'a Evbuffer,
    chain: RefMut<'a, Chain>,
    /// The room, unless it is behind the data of the last block.
    fresh: Option<Block>,
}

impl Reservation<'_> {
    /// Makes the first `n` bytes of the room the end of the buffer. Zero is fine and changes nothing.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the room is shorter, [`Error::Frozen`] if the back was frozen meanwhile; nothing
    /// changes then.
    #[doc(alias = "evbuffer_commit_space")]
    #[inline]
    pub fn commit(self, n: usize) -> Result<()> {
        let Reservation { buffer, mut chain, fresh } = self;
        buffer.check_thawed(End::Back)?;
        let room = match &fresh {
            Some(block) => block.room(),
            None => chain.tail_with_room(0).map_or(0, |tail| tail.room()),
        };
        if n > room {
            return Err(Error::OutOfRange { at: n as u64, len: room as u64 });
        }
        if n == 0 {
            return Ok(());
        }
        let original = buffer.grow(n)?;
        match fresh {
            Some(mut block) => {
                block.commit(n);
                chain.push(Segment::Owned(block));
            }
            None => {
                if let Some(tail) = chain.tail_with_room(0) {
                    tail.commit(n);
                }
            }
        }
        drop(chain);
        buffer.note(original, n, 0);
        buffer.deliver();
        Ok(())
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.fresh {
            Some(block) => block.spare(),
            None => self.chain.tail_spare(),
        }
    }
}

impl DerefMut for Reservation<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.fresh {
            Some(block) => block.room_mut(),
            None => self.chain.tail_with_room(0).map_or(&mut [], Block::room_mut),
        }
    }
}

/// Direct access. While a guard is alive, calls that need to change the buffer return [`Error::Lent`].
impl Evbuffer {
    /// Makes the first `n` bytes contiguous and lends them; `usize::MAX` stands for all. `None` if there are fewer,
    /// or if `n` is zero. The content does not change and nobody is told. A frozen front does not prevent it.
    ///
    /// Shared memory that is absorbed this way is copied, and its owner dropped; so are bytes of files.
    ///
    /// # Errors
    /// [`Error::Lent`], or the failure to read a file segment.
    #[doc(alias = "evbuffer_pullup")]
    #[inline]
    pub fn pull_up(&self, n: usize) -> Result<Option<Front<'_>>> {
        let mut trash = Trash::default();
        let mut chain = self.chain_mut()?;
        let len = if n == usize::MAX { self.len() } else { n };
        if len == 0 || len > self.len() {
            return Ok(None);
        }
        chain.pull_up(len, &mut trash)?;
        Ok(Some(Front { chain, trash, len }))
    }

    /// Lends the bytes of `range` where they are, without copying. What lies beyond the end is left out, and so is
    /// everything from the first segment that is in a file: [`copy_out`](Self::copy_out) reads those.
    ///
    /// Unlike libevent's, the last piece never shows more than was asked for.
    ///
    /// # Errors
    /// [`Error::Lent`] if a `pull_up` or `reserve` guard is alive; several of `peek` may be.
    #[doc(alias = "evbuffer_peek")]
    pub fn peek(&self, range: impl std::ops::RangeBounds<usize>) -> Result<Peek<'_>> {
        let chain = self.chain()?;
        let range = super::clip(&range, self.len());
        Ok(Peek { chain, range: range.start..range.end.max(range.start) })
    }

    /// Lends room for `n` or more bytes at the end, in one piece, to be filled and then committed.
    ///
    /// ```
    /// use reactor::Evbuffer;
    ///
    /// let buffer = Evbuffer::new();
    /// let mut room = buffer.reserve(100)?;
    /// room[..5].copy_from_slice(b"hello");
    /// room.commit(5)?;
    /// assert_eq!(buffer.len(), 5);
    /// # Ok::<(), reactor::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Frozen`] if the back is frozen; [`Error::TooLong`] if no memory can be that large; [`Error::Lent`].
    #[doc(alias = "evbuffer_reserve_space")]
    #[inline]
    pub fn reserve(&self, n: usize) -> Result<Reservation<'_>> {
        self.check_thawed(End::Back)?;
        check_room(n)?;
        let mut chain = self.chain_mut()?;
        let fresh = match chain.tail_with_room(n) {
            Some(_) => None,
            None => Some(chain.take_spare(n).unwrap_or_else(|| Block::with_room(n))),
        };
        Ok(Reservation { buffer: self, chain, fresh })
    }

    /// Sets memory aside so that the next `n` bytes can be appended without allocating. The content does not change,
    /// and a frozen back does not prevent it.
    ///
    /// # Errors
    /// [`Error::TooLong`] if no memory can be that large; [`Error::Lent`].
    #[doc(alias = "evbuffer_expand")]
    pub fn expand(&self, n: usize) -> Result<()> {
        check_room(n)?;
        self.chain_mut()?.expand(n);
        Ok(())
    }
}

/// Refuses what the allocator panics on. A block is up to twice as long as it is asked for.
#[inline]
fn check_room(n: usize) -> Result<()> {
    if n <= isize::MAX as usize / 2 { Ok(()) } else { Err(Error::TooLong) }
}
