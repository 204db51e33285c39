//! The segments of a buffer, without watchers, freezing or descriptors.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::block::{Block, LARGE, MEDIUM, SMALL, memory_for};
use super::file::FileRange;
use crate::error::{Error, Result};

/// An emptied chain keeps room for this many segments: enough for request and reply, little for an idle connection.
pub(super) const IDLE_SEGMENTS: usize = 16;

/// Invariant: no segment is empty, so a chain without bytes holds no block, owner or file.
#[derive(Default)]
pub(super) struct Chain {
    segments: VecDeque<Segment>,
    /// Room that `expand` promised; the next block that is needed.
    spare: Option<Block>,
}

pub(super) enum Segment {
    Owned(Block),
    Shared(Shared),
    /// Shared by `append_shared_from`: libevent refuses to reference such content again.
    Reference(Shared),
    File(FileRange),
}

/// Memory that others may hold too, and that is therefore never written.
pub(super) struct Shared {
    owner: Rc<dyn AsRef<[u8]>>,
    start: usize,
    end: usize,
}

/// Segments that left a chain. Their owners' `Drop` is user code, so they are dropped once the chain is released.
#[derive(Default)]
#[must_use]
pub(super) struct Trash(Vec<Segment>);

impl Shared {
    pub(super) fn new(owner: Rc<dyn AsRef<[u8]>>, range: Range<usize>) -> Shared {
        Shared { owner, start: range.start, end: range.end }
    }

    /// Shorter than the range if the owner's bytes became fewer since.
    #[inline]
    fn data(&self) -> &[u8] {
        let all = (*self.owner).as_ref();
        all.get(self.start..self.end).or_else(|| all.get(self.start..)).unwrap_or_default()
    }

    fn part(&self, start: usize, end: usize) -> Shared {
        Shared { owner: self.owner.clone(), start, end }
    }
}

impl Segment {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Segment::Owned(block) => block.len(),
            Segment::Shared(shared) | Segment::Reference(shared) => shared.end - shared.start,
            Segment::File(file) => file.len(),
        }
    }

    /// Its bytes, unless they are in a file.
    #[inline]
    pub(super) fn memory(&self) -> Option<&[u8]> {
        match self {
            Segment::Owned(block) => Some(block.data()),
            Segment::Shared(shared) | Segment::Reference(shared) => Some(shared.data()),
            Segment::File(_) => None,
        }
    }

    /// Drops the first `n` bytes, fewer than it has.
    #[inline]
    fn advance(&mut self, n: usize) {
        match self {
            Segment::Owned(block) => block.advance(n),
            Segment::Shared(shared) | Segment::Reference(shared) => shared.start += n,
            Segment::File(file) => file.advance(n),
        }
    }

    fn copy_at(&self, at: usize, dst: &mut [u8]) -> Result<()> {
        let memory = match self {
            Segment::File(file) => return file.read_exact_at(at, dst),
            Segment::Owned(block) => block.data(),
            Segment::Shared(shared) | Segment::Reference(shared) => shared.data(),
        };
        let bytes = memory.get(at..at + dst.len()).ok_or(Error::SharedShrank)?;
        dst.copy_from_slice(bytes);
        Ok(())
    }

    /// A second hold on its bytes; an owned block becomes shared and is not written any more.
    fn reference(&mut self) -> Option<Segment> {
        if let Segment::Owned(block) = self {
            let block = std::mem::replace(block, Block::hollow());
            let range = block.range();
            *self = Segment::Shared(Shared::new(Rc::new(block), range));
        }
        match self {
            Segment::Shared(s) => Some(Segment::Reference(s.part(s.start, s.end))),
            _ => None,
        }
    }

    fn is_referable(&self) -> bool {
        matches!(self, Segment::Owned(_) | Segment::Shared(_))
    }

    fn fault(&self) -> Option<&'static str> {
        let sound = match self {
            Segment::Owned(block) => block.range().end <= block.capacity(),
            Segment::Shared(shared) | Segment::Reference(shared) => {
                shared.end <= (*shared.owner).as_ref().len()
            }
            Segment::File(file) => file.is_sound(),
        };
        match (sound, self.len()) {
            (false, _) => Some("a segment reaches beyond its memory or file"),
            (true, 0) => Some("a segment is empty"),
            (true, _) => None,
        }
    }
}

impl Chain {
    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Segment> {
        self.segments.front()
    }

    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let taken = match self.segments.back_mut() {
            Some(Segment::Owned(tail)) => tail.append(bytes),
            _ => 0,
        };
        if taken < bytes.len() {
            self.append_blocks(&bytes[taken..]);
        }
    }

    fn append_blocks(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The block is made when its content is known: changed on its way it would travel through memory, which
            // takes longer than the rest of a small append.
            let mut memory = self.next_memory(bytes.len());
            let n = bytes.len().min(memory.len());
            memory[..n].copy_from_slice(&bytes[..n]);
            self.push(Segment::Owned(Block::filled(memory, n)));
            bytes = &bytes[n..];
        }
    }

    /// Memory for more data behind the tail. Blocks grow with the queue.
    #[inline]
    fn next_memory(&mut self, n: usize) -> Box<[u8]> {
        if let Some(block) = self.spare.take() {
            return block.into_memory();
        }
        let grown = match self.segments.back() {
            Some(Segment::Owned(tail)) if tail.capacity() >= MEDIUM => LARGE,
            Some(Segment::Owned(_)) => MEDIUM,
            _ => SMALL,
        };
        memory_for(n.clamp(grown, LARGE))
    }

    #[inline]
    pub(super) fn push(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    #[inline]
    pub(super) fn prepend(&mut self, bytes: &[u8]) {
        let taken = match self.segments.front_mut() {
            Some(Segment::Owned(head)) => head.prepend(bytes),
            _ => 0,
        };
        if taken < bytes.len() {
            self.prepend_blocks(&bytes[..bytes.len() - taken]);
        }
    }

    fn prepend_blocks(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut block = Block::for_prepend(bytes.len().min(LARGE));
            let taken = block.prepend(bytes);
            bytes = &bytes[..bytes.len() - taken];
            self.segments.push_front(Segment::Owned(block));
        }
    }

    /// Drops the first `n` bytes if they are less than the first segment, and says whether they were.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) -> bool {
        match self.segments.front_mut() {
            Some(front) if n < front.len() => {
                front.advance(n);
                true
            }
            _ => false,
        }
    }

    /// Drops `n` bytes, or all there are, from the front.
    pub(super) fn drain(&mut self, mut n: usize, trash: &mut Trash) {
        while let Some(front) = self.segments.front_mut() {
            let len = front.len();
            if n < len {
                return front.advance(n);
            }
            n -= len;
            if let Segment::Owned(block) = front {
                // In place, and nothing is left to drop: to move it out first costs as much as all the rest.
                block.retire();
                std::mem::forget(self.segments.pop_front());
            } else {
                trash.0.extend(self.segments.pop_front());
            }
        }
        self.settle();
    }

    /// After it became empty: gives up the room of a long queue of segments.
    #[inline]
    fn settle(&mut self) {
        if self.segments.capacity() > IDLE_SEGMENTS {
            self.segments = VecDeque::new();
        }
    }

    /// Takes all of `from`, behind what is here.
    pub(super) fn append_chain(&mut self, from: &mut Chain) {
        if self.segments.is_empty() {
            std::mem::swap(&mut self.segments, &mut from.segments);
        } else {
            self.segments.append(&mut from.segments);
        }
        from.settle();
    }

    /// Takes all of `from`, before what is here.
    pub(super) fn prepend_chain(&mut self, from: &mut Chain) {
        from.segments.append(&mut self.segments);
        std::mem::swap(&mut self.segments, &mut from.segments);
        from.settle();
    }

    /// Moves the first `n` bytes, fewer than there are, behind those of `to`.
    pub(super) fn move_front(&mut self, to: &mut Chain, mut n: usize) {
        while let Some(front) = self.segments.front_mut() {
            let len = front.len();
            if n < len {
                match front {
                    Segment::Owned(block) => to.append(&block.data()[..n]),
                    Segment::Shared(s) if n > 0 => to.push(Segment::Shared(s.part(s.start, s.start + n))),
                    Segment::Reference(s) if n > 0 => {
                        to.push(Segment::Reference(s.part(s.start, s.start + n)))
                    }
                    Segment::File(file) if n > 0 => {
                        let mut part = file.clone();
                        part.truncate(n);
                        to.push(Segment::File(part));
                    }
                    _ => (),
                }
                return front.advance(n);
            }
            n -= len;
            to.segments.extend(self.segments.pop_front());
        }
        self.settle();
    }

    /// Adds a second hold on all of `from`, or refuses if it holds files or such references itself.
    pub(super) fn reference_chain(&mut self, from: &mut Chain) -> Result<()> {
        if !from.segments.iter().all(Segment::is_referable) {
            return Err(Error::NotReferable);
        }
        self.segments.extend(from.segments.iter_mut().filter_map(Segment::reference));
        Ok(())
    }

    /// Fills `dst` with what begins `at` bytes from the front, as far as there is any.
    pub(super) fn copy_out(&self, at: usize, dst: &mut [u8]) -> Result<usize> {
        let (mut skip, mut done) = (at, 0);
        for segment in &self.segments {
            if done == dst.len() {
                break;
            }
            let len = segment.len();
            if skip >= len {
                skip -= len;
                continue;
            }
            let n = (len - skip).min(dst.len() - done);
            segment.copy_at(skip, &mut dst[done..done + n])?;
            done += n;
            skip = 0;
        }
        Ok(done)
    }

    /// The bytes of `range`, if they are in the first segment and that is memory.
    #[inline]
    pub(super) fn in_first(&self, range: &Range<usize>) -> Option<&[u8]> {
        self.segments.front()?.memory()?.get(range.clone())
    }

    /// Shows the bytes of `range` piece by piece until `visit` returns something. Files are read a window at a time.
    #[inline]
    pub(super) fn scan<T>(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(usize, &[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut base = 0;
        for segment in &self.segments {
            if base >= range.end {
                break;
            }
            let end = base + segment.len();
            let (from, to) = (range.start.max(base), range.end.min(end));
            if from < to {
                let found = match segment {
                    Segment::Owned(block) => visit(from, &block.data()[from - base..to - base]),
                    Segment::Shared(s) | Segment::Reference(s) => {
                        visit(from, s.data().get(from - base..to - base).ok_or(Error::SharedShrank)?)
                    }
                    Segment::File(file) => scan_file(file, base, from..to, &mut visit)?,
                };
                if found.is_some() {
                    return Ok(found);
                }
            }
            base = end;
        }
        Ok(None)
    }

    /// Makes the first `n` bytes, of at least that many, one piece of memory. On failure nothing changed.
    #[inline]
    pub(super) fn pull_up(&mut self, n: usize, trash: &mut Trash) -> Result<()> {
        match self.segments.front().and_then(Segment::memory) {
            Some(bytes) if bytes.len() >= n => Ok(()),
            _ => self.gather(n, trash),
        }
    }

    fn gather(&mut self, n: usize, trash: &mut Trash) -> Result<()> {
        let mut block = self.take_front_with_room(n).unwrap_or_else(|| Block::with_room(n));
        let missing = n - block.len();
        if let Err(e) = self.copy_out(0, &mut block.room_mut()[..missing]) {
            if block.len() > 0 {
                self.segments.push_front(Segment::Owned(block));
            }
            return Err(e);
        }
        block.commit(missing);
        self.drain(missing, trash);
        self.segments.push_front(Segment::Owned(block));
        Ok(())
    }

    /// Takes the front block out if it has memory for `n` bytes from its beginning.
    fn take_front_with_room(&mut self, n: usize) -> Option<Block> {
        if !matches!(self.segments.front(), Some(Segment::Owned(block)) if block.capacity() >= n) {
            return None;
        }
        let Some(Segment::Owned(mut block)) = self.segments.pop_front() else { return None };
        if block.len() + block.room() < n {
            block.align();
        }
        Some(block)
    }

    /// The first bytes, writable. Shared memory is copied first, `n` bytes of it.
    pub(super) fn front_mut(&mut self, n: usize, trash: &mut Trash) -> &mut [u8] {
        if let Some(Segment::Shared(shared) | Segment::Reference(shared)) = self.segments.front() {
            let bytes = shared.data();
            let mut block = Block::with_room(n);
            if block.append(&bytes[..n.min(bytes.len())]) == 0 {
                return &mut [];
            }
            self.drain(block.len(), trash);
            self.segments.push_front(Segment::Owned(block));
        }
        match self.segments.front_mut() {
            Some(Segment::Owned(block)) => block.data_mut(),
            _ => &mut [],
        }
    }

    /// The block at the back, if it has room for `n` bytes and one at least.
    #[inline]
    pub(super) fn tail_with_room(&mut self, n: usize) -> Option<&mut Block> {
        match self.segments.back_mut() {
            Some(Segment::Owned(tail)) if tail.room() >= n.max(1) => Some(tail),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn tail_spare(&self) -> &[u8] {
        match self.segments.back() {
            Some(Segment::Owned(tail)) => tail.spare(),
            _ => &[],
        }
    }

    /// Takes the room that `expand` set aside, if it is enough.
    pub(super) fn take_spare(&mut self, n: usize) -> Option<Block> {
        self.spare.take_if(|spare| spare.room() >= n)
    }

    /// Sets aside room for `n` more bytes.
    pub(super) fn expand(&mut self, n: usize) {
        let set_aside = self.spare.as_ref().is_some_and(|spare| spare.room() >= n);
        if n > 0 && !set_aside && self.tail_with_room(n).is_none() {
            self.spare = Some(Block::with_room(n));
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.segments.capacity()
    }

    /// What is wrong with it, and its length in bytes.
    pub(super) fn check(&self) -> (Option<&'static str>, usize) {
        let fault = self.segments.iter().find_map(Segment::fault);
        (fault, self.segments.iter().map(Segment::len).sum())
    }
}

fn scan_file<T>(
    file: &FileRange,
    base: usize,
    range: Range<usize>,
    visit: &mut impl FnMut(usize, &[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let mut window = Block::with_room(MEDIUM.min(range.len()));
    let mut at = range.start;
    while at < range.end {
        let n = window.room().min(range.end - at);
        let bytes = &mut window.room_mut()[..n];
        file.read_exact_at(at - base, bytes)?;
        if let Some(found) = visit(at, bytes) {
            return Ok(Some(found));
        }
        at += n;
    }
    Ok(None)
}
