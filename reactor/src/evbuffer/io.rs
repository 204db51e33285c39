//! Reading from and writing to descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, readv, retry_on_intr, write, writev};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::block::{Block, LARGE, MEDIUM, SMALL};
use super::chain::{Chain, Segment, Trash};
use super::file::FileRange;
use super::{End, Evbuffer};
use crate::error::{Error, Result};

/// New blocks offered to one read: a small one and five of 64 KiB, which bounds a read to 324 KiB.
const READ_BLOCKS: usize = 6;
/// Pieces of memory given to one write.
const WRITE_PIECES: usize = 64;

/// What became of a read or a write that did not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Bytes read or written.
    pub(crate) moved: usize,
    /// Bytes that could have been. If more than `moved`, the descriptor has no more to give or take for now.
    pub(crate) offered: usize,
}

/// Descriptors.
impl Evbuffer {
    /// Reads once from `fd`, at most `max` bytes, and appends them. `Ok(0)` is the end of the stream, unless `max` is
    /// zero. An interrupted call is tried again.
    ///
    /// libevent's default maximum of 4096 bytes a read has no counterpart: `max` says it all, up to 324 KiB a call.
    ///
    /// # Errors
    /// [`Error::Frozen`] if the back is frozen; [`Error::Lent`]; [`Error::Io`] with what the system said, which for a
    /// descriptor that has nothing now is [`WouldBlock`](std::io::ErrorKind::WouldBlock). Nothing changes then.
    #[doc(alias = "evbuffer_read")]
    pub fn read_from(&self, fd: impl AsFd, max: usize) -> Result<usize> {
        self.check_thawed(End::Back)?;
        self.read_thawed(fd, max).map(|pass| pass.moved)
    }

    /// Writes to `fd` from the front, at most `max` bytes (`None` for all), and drains what was written: until all is
    /// written, or `fd` takes no more for now. Memory goes out by up to 64 pieces a call, files by `sendfile`;
    /// to a socket, memory and the file behind it go into one packet where they fit.
    ///
    /// `max` is honoured for files too, which libevent sends whole.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is nothing to write, as in libevent; [`Error::Frozen`] if the front is frozen;
    /// [`Error::Lent`]; [`Error::Io`] with what the system said; [`Error::FileShort`] when a file segment turns out
    /// shorter than promised. Nothing changes then: a failure after something was written is told by the next call.
    #[doc(alias = "evbuffer_write_atmost")]
    #[doc(alias = "evbuffer_write")]
    pub fn write_to(&self, fd: impl AsFd, max: Option<usize>) -> Result<usize> {
        self.check_thawed(End::Front)?;
        self.write_thawed(fd, max).map(|pass| pass.moved)
    }

    /// [`read_from`](Self::read_from) for the owner of the back.
    pub(crate) fn read_thawed(&self, fd: impl AsFd, max: usize) -> Result<Pass> {
        let mut chain = self.chain_mut()?;
        let pass = read_into(&mut chain, fd.as_fd(), max.min(usize::MAX - self.len()))?;
        // Not held while watchers run: one of them may want the descriptor for itself.
        drop(fd);
        let original = self.grow(pass.moved)?;
        drop(chain);
        self.note(original, pass.moved, 0);
        self.deliver();
        Ok(pass)
    }

    /// [`write_to`](Self::write_to) for the owner of the front.
    pub(crate) fn write_thawed(&self, fd: impl AsFd, max: Option<usize>) -> Result<Pass> {
        let mut trash = Trash::default();
        let mut chain = self.chain_mut()?;
        let original = self.len();
        let goal = max.unwrap_or(original).min(original);
        if goal == 0 {
            return Err(Error::Empty);
        }
        let pass = write_from(&mut chain, fd.as_fd(), goal, &mut trash)?;
        drop(fd);
        self.0.len.set(original - pass.moved);
        drop(chain);
        self.note(original, 0, pass.moved);
        drop(trash);
        self.deliver();
        Ok(pass)
    }
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::io(what)(errno.into())
}

fn read_into(chain: &mut Chain, fd: BorrowedFd<'_>, max: usize) -> Result<Pass> {
    let mut fresh: [Option<Block>; READ_BLOCKS] = Default::default();
    let tail = chain.tail_with_room(0).map_or(&mut [][..], Block::room_mut);
    let tail_room = tail.len().min(max);
    let offered = tail_room + offer_blocks(&mut fresh, max - tail_room, tail_room);
    if offered == 0 {
        return Ok(Pass::default());
    }
    let mut pieces: [IoSliceMut<'_>; READ_BLOCKS + 1] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let mut left = offered;
    let mut used = 0;
    for room in std::iter::once(tail).chain(fresh.iter_mut().flatten().map(Block::room_mut)) {
        let n = room.len().min(left);
        if n > 0 {
            pieces[used] = IoSliceMut::new(&mut room[..n]);
            used += 1;
            left -= n;
        }
    }
    let moved = retry_on_intr(|| readv(fd, &mut pieces[..used])).map_err(failed("read into an evbuffer"))?;
    accept(chain, fresh, tail_room, moved);
    Ok(Pass { moved, offered })
}

/// Takes out blocks for `wanted` bytes: first a small one, unless there is about as much room already, so that a short
/// message holds little memory.
fn offer_blocks(fresh: &mut [Option<Block>; READ_BLOCKS], wanted: usize, already: usize) -> usize {
    let mut left = wanted;
    for (i, slot) in fresh.iter_mut().enumerate() {
        if left == 0 {
            break;
        }
        let size = if i == 0 && already < SMALL / 2 { SMALL } else { left.clamp(MEDIUM, LARGE) };
        let block = slot.insert(Block::with_room(size));
        left -= block.room().min(left);
    }
    wanted - left
}

/// Makes `n` bytes that were read into the tail's room and the fresh blocks part of the chain.
fn accept(chain: &mut Chain, fresh: [Option<Block>; READ_BLOCKS], tail_room: usize, n: usize) {
    let in_tail = n.min(tail_room);
    if let Some(tail) = chain.tail_with_room(0) {
        tail.commit(in_tail);
    }
    let mut left = n - in_tail;
    for mut block in fresh.into_iter().flatten() {
        if left == 0 {
            break;
        }
        let part = left.min(block.room());
        block.commit(part);
        left -= part;
        chain.push(Segment::Owned(block));
    }
}

/// Writes up to `goal` bytes, at most what the chain has. Fails only if nothing was written.
fn write_from(chain: &mut Chain, fd: BorrowedFd<'_>, goal: usize, trash: &mut Trash) -> Result<Pass> {
    let mut moved = 0;
    let mut is_socket = true;
    while moved < goal {
        match write_once(chain, fd, goal - moved, &mut is_socket) {
            Ok(pass) => {
                chain.drain(pass.moved, trash);
                moved += pass.moved;
                if pass.moved < pass.offered {
                    break;
                }
            }
            Err(e) if moved == 0 => return Err(e),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => break,
            // To the caller this looks complete, so that it comes again at once and hears of the failure.
            Err(_) => return Ok(Pass { moved, offered: moved }),
        }
    }
    Ok(Pass { moved, offered: goal })
}

/// `is_socket`: whether it can be, as far as is known.
fn write_once(chain: &Chain, fd: BorrowedFd<'_>, max: usize, is_socket: &mut bool) -> Result<Pass> {
    if let Some(Segment::File(file)) = chain.front() {
        return send_file(file, fd, max.min(file.len()));
    }
    let mut pieces = [IoSlice::new(&[]); WRITE_PIECES];
    let mut used = 0;
    let mut offered = 0;
    for memory in chain.segments().map_while(Segment::memory).take(WRITE_PIECES) {
        let n = memory.len().min(max - offered);
        if n == 0 {
            break;
        }
        pieces[used] = IoSlice::new(&memory[..n]);
        used += 1;
        offered += n;
    }
    if offered == 0 {
        return Err(Error::SharedShrank);
    }
    let pieces = &pieces[..used];
    let is_before_file = offered < max && matches!(chain.segments().nth(used), Some(Segment::File(_)));
    let outcome = if *is_socket && is_before_file {
        match send_more(fd, pieces) {
            Err(Errno::NOTSOCK) => {
                *is_socket = false;
                retry_on_intr(|| writev(fd, pieces))
            }
            outcome => outcome,
        }
    } else {
        retry_on_intr(|| writev(fd, pieces))
    };
    let moved = outcome.map_err(failed("write from an evbuffer"))?;
    Ok(Pass { moved, offered })
}

/// Writes what a part of a file is about to follow: both leave in one packet where they fit into one.
fn send_more(fd: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let flags = SendFlags::empty();
    retry_on_intr(|| sendmsg(fd, pieces, &mut SendAncillaryBuffer::default(), flags))
}

/// Sends file content. A short count is not an end: either the next call would block, or the file is short, and only
/// another call tells.
fn send_file(file: &FileRange, fd: BorrowedFd<'_>, n: usize) -> Result<Pass> {
    match kernel_copy(file, fd, n) {
        Ok(0) => Err(file.short()),
        Ok(moved) => Ok(Pass { moved, offered: moved }),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => copy_through_memory(file, fd, n),
        Err(errno) => Err(failed("send a file from an evbuffer")(errno)),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn kernel_copy(file: &FileRange, fd: BorrowedFd<'_>, n: usize) -> rustix::io::Result<usize> {
    let mut position = file.position();
    retry_on_intr(|| rustix::fs::sendfile(fd, file.fd(), Some(&mut position), n))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn kernel_copy(_: &FileRange, _: BorrowedFd<'_>, _: usize) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

fn copy_through_memory(file: &FileRange, fd: BorrowedFd<'_>, n: usize) -> Result<Pass> {
    let offered = n.min(LARGE);
    let mut window = Block::with_room(offered);
    let bytes = &mut window.room_mut()[..offered];
    file.read_exact_at(0, bytes)?;
    let moved = retry_on_intr(|| write(fd, bytes)).map_err(failed("write from an evbuffer"))?;
    Ok(Pass { moved, offered })
}
