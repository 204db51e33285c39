//! Blocks of owned memory, and the thread's store of drained ones.

use std::cell::RefCell;

/// Room for a short message: what a first read or a small append takes.
pub(super) const SMALL: usize = 4 * 1024;
/// What follows a full small block, so that a queue of a few kilobytes does not hold 64.
pub(super) const MEDIUM: usize = 16 * 1024;
/// The largest block that is kept for reuse; longer data is spread over several.
pub(super) const LARGE: usize = 64 * 1024;

/// At most this many blocks of each class wait in a thread's store: 1, 1 and 2 MiB. It covers what one turn of a
/// busy loop has in flight, and what stays behind after a burst is small beside the burst.
const KEPT: [usize; 3] = [256, 64, 32];

/// Exclusively owned memory: `start..end` holds data, what lies before and after is room.
///
/// Its memory returns to the thread's store when it is dropped. Room holds whatever was there before.
pub(super) struct Block {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Block {
    /// An empty block with room for `n` bytes or more.
    #[inline]
    pub(super) fn with_room(n: usize) -> Block {
        Block::filled(memory_for(n), 0)
    }

    /// A block without memory, to stand in while another is moved out of its place.
    pub(super) fn hollow() -> Block {
        Block { memory: Box::default(), start: 0, end: 0 }
    }

    /// An empty block whose room lies wholly in front, for prepends.
    pub(super) fn for_prepend(n: usize) -> Block {
        let mut block = Block::with_room(n);
        block.start = block.memory.len();
        block.end = block.start;
        block
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn capacity(&self) -> usize {
        self.memory.len()
    }

    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    #[inline]
    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// Room behind the data.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.memory.len() - self.end
    }

    #[inline]
    pub(super) fn spare(&self) -> &[u8] {
        &self.memory[self.end..]
    }

    #[inline]
    pub(super) fn room_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    /// Makes the first `n` bytes of the room data.
    #[inline]
    pub(super) fn commit(&mut self, n: usize) {
        self.end += n.min(self.room());
    }

    /// Takes as much of the beginning of `bytes` as there is room behind, and says how much.
    #[inline]
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        match bytes {
            // Spares the call that copies: bytes are often added one by one.
            &[byte] if n == 1 => self.memory[self.end] = byte,
            _ => self.memory[self.end..self.end + n].copy_from_slice(&bytes[..n]),
        }
        self.end += n;
        n
    }

    /// A block of which the first `n` bytes of memory are data.
    #[inline]
    pub(super) fn filled(memory: Box<[u8]>, n: usize) -> Block {
        Block { end: n.min(memory.len()), memory, start: 0 }
    }

    /// Takes its memory out and leaves it hollow.
    #[inline]
    pub(super) fn into_memory(mut self) -> Box<[u8]> {
        std::mem::take(&mut self.memory)
    }

    /// Gives its memory back and leaves it hollow.
    #[inline]
    pub(super) fn retire(&mut self) {
        give_back(std::mem::take(&mut self.memory));
    }

    /// Takes as much of the end of `bytes` as there is room in front, and says how much.
    #[inline]
    pub(super) fn prepend(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.start);
        match bytes {
            &[byte] if n == 1 => self.memory[self.start - 1] = byte,
            _ => self.memory[self.start - n..self.start].copy_from_slice(&bytes[bytes.len() - n..]),
        }
        self.start -= n;
        n
    }

    /// Drops the first `n` bytes of the data.
    #[inline]
    pub(super) fn advance(&mut self, n: usize) {
        self.start += n;
    }

    /// Moves the data to the beginning of the memory, so that all room lies behind.
    pub(super) fn align(&mut self) {
        self.memory.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        if !self.memory.is_empty() {
            self.retire();
        }
    }
}

impl Block {
    /// The range that holds data.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.start..self.end
    }
}

thread_local! {
    static STORE: RefCell<[Vec<Box<[u8]>>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
}

/// Memory for a block of `n` bytes or more, from the store if it has some.
#[inline]
pub(super) fn memory_for(n: usize) -> Box<[u8]> {
    match class_for(n) {
        Some((class, size)) => reuse(class).unwrap_or_else(|| zeroed(size)),
        None => zeroed(n.checked_next_power_of_two().unwrap_or(n)),
    }
}

fn zeroed(n: usize) -> Box<[u8]> {
    vec![0; n].into_boxed_slice()
}

#[inline]
fn class_for(n: usize) -> Option<(usize, usize)> {
    if n <= SMALL {
        Some((0, SMALL))
    } else if n <= MEDIUM {
        Some((1, MEDIUM))
    } else if n <= LARGE {
        Some((2, LARGE))
    } else {
        None
    }
}

#[inline]
fn reuse(class: usize) -> Option<Box<[u8]>> {
    // Nobody can hold the store: no foreign code runs inside it. It is gone only while the thread ends.
    STORE.try_with(|store| store.try_borrow_mut().ok()?[class].pop()).ok().flatten()
}

#[inline]
fn give_back(memory: Box<[u8]>) {
    let class = match memory.len() {
        SMALL => 0,
        MEDIUM => 1,
        LARGE => 2,
        _ => return,
    };
    // On failure the closure is dropped with the memory in it, which is all that is left to do.
    let _ = STORE.try_with(move |store| {
        if let Ok(mut store) = store.try_borrow_mut()
            && store[class].len() < KEPT[class]
        {
            store[class].push(memory);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> [usize; 3] {
        STORE.with_borrow(|s| [s[0].len(), s[1].len(), s[2].len()])
    }

    #[test]
    fn dropped_blocks_are_kept_up_to_a_bound() {
        assert_eq!(kept(), [0; 3]);
        let blocks: Vec<_> = (0..KEPT[0] + 10).map(|_| Block::with_room(1)).collect();
        drop(blocks);
        assert_eq!(kept(), [KEPT[0], 0, 0]);
        let first = Block::with_room(SMALL);
        assert_eq!(first.room(), SMALL);
        assert_eq!(kept()[0], KEPT[0] - 1);
        drop((first, Block::with_room(SMALL + 1), Block::with_room(MEDIUM + 1), Block::with_room(LARGE + 1)));
        assert_eq!(kept(), [KEPT[0], 1, 1], "longer ones are not kept");
        drop(Block::hollow());
        assert_eq!(kept(), [KEPT[0], 1, 1]);
    }

    #[test]
    fn both_ends_take_what_fits() {
        let mut block = Block::for_prepend(10);
        assert_eq!((block.room(), block.prepend(b"world")), (0, 5));
        assert_eq!(block.append(b"!"), 0);
        assert_eq!(block.prepend(b"hello "), 6);
        assert_eq!(block.data(), b"hello world");
        block.advance(6);
        block.align();
        assert_eq!((block.data(), block.range()), (&b"world"[..], 0..5));
        assert_eq!(block.append(&vec![7; 2 * SMALL]), SMALL - 5);
        assert_eq!(block.room(), 0);
    }
}
