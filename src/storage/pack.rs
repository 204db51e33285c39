//! The form of deep objects, to bytes and back. No file, no thread.
//!
//! A deep object is a gzip file whose first member, the body, holds all of its bytes: `gunzip` reads the file, and the body alone is a
//! whole gzip stream. The member is one deflate stream with a full flush
//! after each [`BLOCK`] of input, so that each block can be packed and unpacked alone. Behind it stand empty members, whose
//! extra fields (subfield `CS`) hold the seek table. Numbers are little-endian.
//!
//! | Part | Bytes |
//! |---|---|
//! | header of the body | 10: `1f 8b 08 00`, no time, `00 ff` |
//! | the blocks | each raw deflate, ending in a full flush |
//! | end of the body | 10: `03 00`, CRC-32, length modulo 2^32 |
//! | table members, each | 12 header with the extra field's length, 4 of subfield head, entries, 10 end (`03 00` and zeros) |
//! | an entry | 12: offset of the block in the file (8), CRC-32C of its input (4) |
//! | behind the entries of the last member | 32: number of blocks (8), bytes of input (8), where the table begins (8), CRC-32C of all entries and these three (4), `cst1` |
//!
//! Each member but the last is full ([`MEMBER_ENTRIES`]); an empty object has no block and one table member.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// Bytes of input in each block but the last.
pub const BLOCK: usize = 1024 * 1024;

const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
const TABLE_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
/// An empty final block, and the checksum and length of nothing.
const EMPTY_END: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SUBFIELD: [u8; 2] = *b"CS";
const MAGIC: [u8; 4] = *b"cst1";
const ENTRY: usize = 12;
const TRAILER: usize = 32;
/// Entries of a full table member: an extra field has at most 65 535 bytes.
pub(crate) const MEMBER_ENTRIES: usize = 5400;
/// Bytes at the end of a file that tell where its table is.
pub(crate) const TAIL: usize = TRAILER + EMPTY_END.len();
/// More than a block's bytes can become: fast levels code noise with up to nine bits a byte.
pub(crate) const MOST_PACKED: usize = BLOCK + BLOCK / 8 + 64;

/// What is wrong with a packed file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// There is no seek table at its end.
    #[error("it has no seek table: it was cut short, or another program wrote it")]
    NoTable,
    /// The seek table contradicts itself.
    #[error("its seek table is damaged: restore the object from a copy")]
    Table,
    /// A block does not unpack to what was packed.
    #[error("its block {block} is damaged: restore the object from a copy")]
    Block {
        /// Which, from 0.
        block: u64,
    },
}

/// A block that is packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) input: usize,
    crc32: u32,
    crc32c: u32,
}

/// Packs one block, on any thread. All blocks of an object but the last have [`BLOCK`] bytes of input.
pub(crate) fn pack_block(input: &[u8], level: u32) -> Packed {
    Press::new(level).pack(input, Vec::new())
}

/// Packs blocks, one after the other.
#[derive(Debug)]
pub(crate) struct Press(Compress);

impl Press {
    pub(crate) fn new(level: u32) -> Press {
        Press(Compress::new(Compression::new(level.min(9)), false))
    }

    /// The packed bytes go to `room`, whose capacity is used and whose content is lost.
    pub(crate) fn pack(&mut self, input: &[u8], room: Vec<u8>) -> Packed {
        let Press(deflate) = self;
        deflate.reset();
        let mut bytes = room;
        bytes.clear();
        bytes.reserve(input.len() / 2 + 64);
        loop {
            let done = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
            let rest = input.get(done..).unwrap_or_default();
            let room = bytes.capacity() - bytes.len();
            // It fails only on misuse, and then leaves no progress: the block is cut short and its reader says so.
            let status = deflate.compress_vec(rest, &mut bytes, FlushCompress::Full);
            // A flush is complete when it left room.
            if status.is_err() || (room > 0 && bytes.len() < bytes.capacity()) {
                break;
            }
            bytes.reserve(input.len() / 4 + 64);
        }
        Packed { bytes, input: input.len(), crc32: crc32fast::hash(input), crc32c: crc32c::crc32c(input) }
    }
}

/// Joins blocks into a file: [`HEAD_BYTES`](Packer::HEAD_BYTES), the blocks in order, then [`finish`](Self::finish).
#[derive(Clone, Debug)]
pub(crate) struct Packer {
    entries: Vec<u8>,
    /// Where the next block begins in the file.
    end: u64,
    input: u64,
    crc32: crc32fast::Hasher,
    crc32c: u32,
}

impl Packer {
    /// What the file begins with.
    pub(crate) const HEAD_BYTES: [u8; 10] = HEAD;

    pub(crate) fn new() -> Packer {
        let (end, crc32) = (HEAD.len() as u64, crc32fast::Hasher::new());
        Packer { entries: Vec::new(), end, input: 0, crc32, crc32c: 0 }
    }

    /// Takes note of the next block and returns where its bytes belong in the file.
    pub(crate) fn push(&mut self, block: &Packed) -> u64 {
        let at = self.end;
        self.entries.extend_from_slice(&at.to_le_bytes());
        self.entries.extend_from_slice(&block.crc32c.to_le_bytes());
        self.end += block.bytes.len() as u64;
        self.input += block.input as u64;
        self.crc32.combine(&crc32fast::Hasher::new_with_initial_len(block.crc32, block.input as u64));
        self.crc32c = crc32c::crc32c_combine(self.crc32c, block.crc32c, block.input);
        at
    }

    /// Bytes of input so far.
    pub(crate) fn input(&self) -> u64 {
        self.input
    }

    /// CRC-32C of the input so far.
    pub(crate) fn crc32c(&self) -> u32 {
        self.crc32c
    }

    /// What stands behind the last block, and where it begins.
    pub(crate) fn finish(self) -> (u64, Vec<u8>) {
        let mut out = vec![3, 0];
        out.extend_from_slice(&self.crc32.finalize().to_le_bytes());
        out.extend_from_slice(&(self.input as u32).to_le_bytes());
        let table = self.end + out.len() as u64;
        let mut trailer = Vec::with_capacity(TRAILER);
        trailer.extend_from_slice(&((self.entries.len() / ENTRY) as u64).to_le_bytes());
        trailer.extend_from_slice(&self.input.to_le_bytes());
        trailer.extend_from_slice(&table.to_le_bytes());
        let check = crc32c::crc32c_append(crc32c::crc32c(&self.entries), &trailer);
        trailer.extend_from_slice(&check.to_le_bytes());
        trailer.extend_from_slice(&MAGIC);
        let mut rest = &self.entries[..];
        loop {
            let (now, later) = rest.split_at(rest.len().min(MEMBER_ENTRIES * ENTRY));
            rest = later;
            let is_last = rest.is_empty();
            let end = if is_last { &trailer[..] } else { &[] };
            // At most 5400 entries of 12 bytes and 32 more, so it fits.
            let payload = (now.len() + end.len()) as u16;
            out.extend_from_slice(&TABLE_HEAD);
            out.extend_from_slice(&(payload + 4).to_le_bytes());
            out.extend_from_slice(&SUBFIELD);
            out.extend_from_slice(&payload.to_le_bytes());
            out.extend_from_slice(now);
            out.extend_from_slice(end);
            out.extend_from_slice(&EMPTY_END);
            if is_last {
                return (self.end, out);
            }
        }
    }
}

/// Where the seek table begins, read from the last [`TAIL`] bytes (or fewer) of a file of `file_len` bytes.
pub(crate) fn table_start(tail: &[u8], file_len: u64) -> Result<u64, PackError> {
    let trailer = trailer(tail)?;
    let start = u64_at(trailer, 16).ok_or(PackError::NoTable)?;
    let table_len = file_len.checked_sub(start).ok_or(PackError::Table)?;
    let blocks = u64_at(trailer, 0).ok_or(PackError::NoTable)?;
    // Checked before anybody makes room for that many bytes.
    if start < (HEAD.len() + EMPTY_END.len()) as u64 || Some(table_len) != table_len_of(blocks) {
        return Err(PackError::Table);
    }
    Ok(start)
}

fn table_len_of(blocks: u64) -> Option<u64> {
    let members = blocks.div_ceil(MEMBER_ENTRIES as u64).max(1);
    let overhead = (TABLE_HEAD.len() + 6 + EMPTY_END.len()) as u64;
    blocks.checked_mul(ENTRY as u64)?.checked_add(members.checked_mul(overhead)?)?.checked_add(TRAILER as u64)
}

fn trailer(tail: &[u8]) -> Result<&[u8], PackError> {
    let at = tail.len().checked_sub(TAIL).ok_or(PackError::NoTable)?;
    let (trailer, end) = tail[at..].split_at(TRAILER);
    match end == EMPTY_END && trailer.ends_with(&MAGIC) {
        true => Ok(trailer),
        false => Err(PackError::NoTable),
    }
}

/// The seek table of a packed file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seek {
    /// Where each block begins, and the CRC-32C of its input.
    entries: Vec<(u64, u32)>,
    input: u64,
    body: u64,
}

impl Seek {
    /// Reads the table: `table` is the file from [`table_start`] to its end.
    pub(crate) fn parse(table: &[u8], file_len: u64) -> Result<Seek, PackError> {
        let start = table_start(table, file_len)?;
        let trailer = trailer(table)?;
        let (blocks, input) = match (u64_at(trailer, 0), u64_at(trailer, 8), u32_at(trailer, 24)) {
            (Some(blocks), Some(input), Some(check)) if file_len - start == table.len() as u64 => {
                let mut sum = 0;
                for entries in members(table) {
                    sum = crc32c::crc32c_append(sum, entries?);
                }
                if crc32c::crc32c_append(sum, &trailer[..24]) != check {
                    return Err(PackError::Table);
                }
                (blocks, input)
            }
            _ => return Err(PackError::Table),
        };
        let mut entries = Vec::with_capacity(table.len() / ENTRY);
        for member in members(table) {
            for entry in member?.chunks_exact(ENTRY) {
                let (at, check) = (u64_at(entry, 0), u32_at(entry, 8));
                entries.extend(at.zip(check));
            }
        }
        let seek = Seek { entries, input, body: start };
        let is_sound = seek.entries.len() as u64 == blocks
            && input.div_ceil(BLOCK as u64) == blocks
            && seek.entries.first().is_none_or(|(at, _)| *at == HEAD.len() as u64)
            && (0..blocks).all(|block| {
                let range = seek.block_range(block);
                range.start < range.end && range.end - range.start <= MOST_PACKED as u64
            });
        if is_sound { Ok(seek) } else { Err(PackError::Table) }
    }

    /// Bytes of input.
    pub(crate) fn input(&self) -> u64 {
        self.input
    }

    /// Bytes of the first member, which is a gzip stream by itself.
    #[cfg(test)]
    fn body_len(&self) -> u64 {
        self.body
    }

    /// How many blocks there are.
    #[cfg(test)]
    fn blocks(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Where a block stands in the file; empty if there is no such block.
    pub(crate) fn block_range(&self, block: u64) -> std::ops::Range<u64> {
        let at = |n: u64| usize::try_from(n).ok().and_then(|n| self.entries.get(n)).map(|(at, _)| *at);
        let start = at(block).unwrap_or(0);
        let end =
            at(block.saturating_add(1)).unwrap_or_else(|| self.body.saturating_sub(EMPTY_END.len() as u64));
        start..if at(block).is_some() { end } else { start }
    }

    /// Unpacks a block from the bytes at its [`block_range`](Self::block_range).
    pub(crate) fn unpack(&self, block: u64, packed: &[u8]) -> Result<Vec<u8>, PackError> {
        let mut unpacking = self.unpacking(block)?;
        let mut out = vec![0; unpacking.len()];
        while !unpacking.is_complete() {
            let rest = packed.get(unpacking.taken()..).unwrap_or_default();
            let made = unpacking.made();
            unpacking.step(rest, out.get_mut(made..).unwrap_or_default())?;
        }
        match unpacking.taken() == packed.len() {
            true => Ok(out),
            false => Err(PackError::Block { block }),
        }
    }

    /// Begins to unpack a block piece by piece.
    pub(crate) fn unpacking(&self, block: u64) -> Result<Unpacking, PackError> {
        let damaged = PackError::Block { block };
        let entry = usize::try_from(block).ok().and_then(|block| self.entries.get(block));
        let (_, check) = *entry.ok_or(damaged)?;
        let range = self.block_range(block);
        let packed = usize::try_from(range.end - range.start).map_err(|_| damaged)?;
        let len = self.input.saturating_sub(block * BLOCK as u64).min(BLOCK as u64) as usize;
        Ok(Unpacking { block, packed, len, check, inflate: Decompress::new(false), sum: 0 })
    }

    /// CRC-32C of the whole input.
    pub(crate) fn crc32c(&self) -> u32 {
        let mut left = self.input;
        self.entries.iter().fold(0, |sum, (_, check)| {
            let len = left.min(BLOCK as u64);
            left -= len;
            crc32c::crc32c_combine(sum, *check, len as usize)
        })
    }
}

/// A block that is unpacked piece by piece.
#[derive(Debug)]
pub(crate) struct Unpacking {
    block: u64,
    /// Bytes of it, packed and not.
    packed: usize,
    len: usize,
    check: u32,
    inflate: Decompress,
    /// CRC-32C of what was made.
    sum: u32,
}

impl Unpacking {
    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    /// Bytes of the block.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of it that were made.
    pub(crate) fn made(&self) -> usize {
        usize::try_from(self.inflate.total_out()).unwrap_or(usize::MAX)
    }

    /// Packed bytes that were used.
    pub(crate) fn taken(&self) -> usize {
        usize::try_from(self.inflate.total_in()).unwrap_or(usize::MAX)
    }

    /// Whether all of it was made, and is what was packed.
    pub(crate) fn is_complete(&self) -> bool {
        self.made() == self.len && self.taken() == self.packed
    }

    /// Makes bytes of the packed ones from [`taken`](Self::taken) on, which may be fewer than there are but not none;
    /// returns how many. The last step, which may make none, fails unless the block is what was packed.
    pub(crate) fn step(&mut self, packed: &[u8], out: &mut [u8]) -> Result<usize, PackError> {
        let damaged = PackError::Block { block: self.block };
        let packed = packed.get(..packed.len().min(self.packed - self.taken())).unwrap_or_default();
        let before = (self.taken(), self.made());
        // A byte that is too many is found out in here.
        let mut excess = [0; 1];
        let into = if before.1 == self.len { &mut excess[..] } else { &mut out[..] };
        self.inflate.decompress(packed, into, FlushDecompress::None).map_err(|_| damaged)?;
        let now = (self.taken(), self.made());
        if now == before || now.1 > self.len {
            return Err(damaged);
        }
        let count = now.1 - before.1;
        self.sum = crc32c::crc32c_append(self.sum, out.get(..count).unwrap_or_default());
        match self.is_complete() && self.sum != self.check {
            true => Err(damaged),
            false => Ok(count),
        }
    }
}

/// The entries of each table member.
fn members(table: &[u8]) -> impl Iterator<Item = Result<&[u8], PackError>> {
    let mut rest = table;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (entries, behind) = match member(rest) {
            Some(split) => split,
            None => {
                rest = &[];
                return Some(Err(PackError::Table));
            }
        };
        rest = behind;
        Some(Ok(entries))
    })
}

fn member(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&TABLE_HEAD)?;
    let (extra, rest) = rest.split_first_chunk::<2>()?;
    let (id, rest) = rest.split_first_chunk::<2>()?;
    let (len, rest) = rest.split_first_chunk::<2>()?;
    let len = u16::from_le_bytes(*len);
    if *id != SUBFIELD || Some(u16::from_le_bytes(*extra)) != len.checked_add(4) {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(usize::from(len))?;
    let rest = rest.strip_prefix(&EMPTY_END)?;
    let end = if rest.is_empty() { payload.len().checked_sub(TRAILER)? } else { payload.len() };
    let entries = payload.get(..end).filter(|entries| entries.len() % ENTRY == 0)?;
    Some((entries, rest))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, MultiGzDecoder};
    use proptest::prelude::*;

    use super::*;

    fn pack(input: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new();
        let mut file = Packer::HEAD_BYTES.to_vec();
        for block in input.chunks(BLOCK) {
            let packed = pack_block(block, 6);
            assert_eq!(packer.push(&packed), file.len() as u64);
            file.extend_from_slice(&packed.bytes);
        }
        assert_eq!((packer.input(), packer.crc32c()), (input.len() as u64, crc32c::crc32c(input)));
        let (at, end) = packer.finish();
        assert_eq!(at, file.len() as u64);
        file.extend_from_slice(&end);
        file
    }

    fn seek(file: &[u8]) -> Result<Seek, PackError> {
        let len = file.len() as u64;
        let start = table_start(&file[file.len().saturating_sub(TAIL)..], len)?;
        Seek::parse(&file[start as usize..], len)
    }

    fn unpack(file: &[u8]) -> Result<Vec<u8>, PackError> {
        let seek = seek(file)?;
        let mut out = Vec::new();
        for block in 0..seek.blocks() {
            let range = seek.block_range(block);
            out.extend(seek.unpack(block, &file[range.start as usize..range.end as usize])?);
        }
        Ok(out)
    }

    /// Half of it shrinks.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..len).map(|n| if n % 128 < 64 { next() } else { b'a' }).collect()
    }

    #[test]
    fn sizes_at_the_edges_of_blocks() {
        for len in [0, 1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7] {
            let input = sample(len);
            let file = pack(&input);
            let seek = seek(&file).unwrap();
            assert_eq!((seek.input(), seek.crc32c()), (len as u64, crc32c::crc32c(&input)));
            assert!(unpack(&file).unwrap() == input, "{len}");
            let mut gunzipped = Vec::new();
            MultiGzDecoder::new(&file[..]).read_to_end(&mut gunzipped).unwrap();
            assert!(gunzipped == input, "{len}");
            gunzipped.clear();
            GzDecoder::new(&file[..seek.body_len() as usize]).read_to_end(&mut gunzipped).unwrap();
            assert!(gunzipped == input, "{len}");
        }
    }

    #[test]
    fn what_does_not_shrink_stays_within_the_bound() {
        let mut state = 88_172_645_463_325_252u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(BLOCK)
        .collect();
        for level in [0, 1, 6, 9] {
            let packed = pack_block(&noise, level);
            assert!(packed.bytes.len() < MOST_PACKED, "{level}: {}", packed.bytes.len());
        }
        assert!(unpack(&pack(&noise)).unwrap() == noise);
    }

    #[test]
    fn a_table_of_several_members() {
        for blocks in [MEMBER_ENTRIES - 1, MEMBER_ENTRIES, MEMBER_ENTRIES + 1, 2 * MEMBER_ENTRIES + 3] {
            let packed = Packed { bytes: vec![1, 0, 0, 255, 255], input: BLOCK, crc32: 0, crc32c: 0 };
            let mut packer = Packer::new();
            (0..blocks).for_each(|_| {
                packer.push(&packed);
            });
            let (at, end) = packer.finish();
            let table = &end[10..];
            let seek = Seek::parse(table, at + end.len() as u64).unwrap();
            assert_eq!(seek.blocks(), blocks as u64);
            assert_eq!(seek.block_range(blocks as u64 - 1).end, at);
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let input = sample(3000);
        let good = pack(&input);
        for at in HEAD.len()..good.len() {
            let mut file = good.clone();
            file[at] ^= 0x10;
            match unpack(&file) {
                Err(_) => (),
                // The body's own checksum, which is for gunzip, or a bit that pads the end of the block.
                Ok(out) => {
                    let end = seek(&good).unwrap().body_len() as usize;
                    assert!(out == input && (end - 15..end).contains(&at), "{at} {end}");
                }
            }
        }
    }

    #[test]
    fn every_shorter_file_is_refused() {
        let good = pack(&sample(500));
        for len in 0..good.len() {
            assert!(unpack(&good[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn there_and_back(input in proptest::collection::vec(any::<u8>(), 0..5000), level in 0u32..12) {
            let packed = pack_block(&input, level);
            let mut packer = Packer::new();
            let mut file = Packer::HEAD_BYTES.to_vec();
            if !input.is_empty() {
                packer.push(&packed);
                file.extend_from_slice(&packed.bytes);
            }
            file.extend(packer.finish().1);
            prop_assert_eq!(unpack(&file).unwrap(), input);
        }

        #[test]
        fn any_bytes_are_read_without_harm(mut file in proptest::collection::vec(any::<u8>(), 0..200), forge in any::<bool>()) {
            if forge {
                let at = file.len().saturating_sub(TAIL);
                let end = pack(b"abc");
                file.truncate(at);
                file.extend_from_slice(&end[end.len() - TAIL..]);
            }
            prop_assert!(unpack(&file).is_err());
        }
    }
}
