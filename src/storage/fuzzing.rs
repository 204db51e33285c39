//! The decoders, for the fuzz targets: plain values in and out. Built with `--cfg fuzzing` alone.

use super::manifest::{Decoder, Entry, write_line};
use super::meta::{Class, Meta, Row, Version};
use super::pack::{self, PackError, Packer, Seek, pack_block};

/// A packed file of an object's content.
pub fn pack(input: &[u8], level: u32) -> Vec<u8> {
    let mut packer = Packer::new();
    let mut file = Packer::HEAD_BYTES.to_vec();
    for block in input.chunks(pack::BLOCK) {
        let packed = pack_block(block, level);
        packer.push(&packed);
        file.extend_from_slice(&packed.bytes);
    }
    file.extend_from_slice(&packer.finish().1);
    file
}

/// The seek table of a packed file.
pub struct Table(Seek);

impl Table {
    pub fn parse(file: &[u8]) -> Result<Table, PackError> {
        let len = file.len() as u64;
        let tail = &file[file.len().saturating_sub(pack::TAIL)..];
        let start = pack::table_start(tail, len)?;
        let table = usize::try_from(start).ok().and_then(|start| file.get(start..)).unwrap_or_default();
        Seek::parse(table, len).map(Table)
    }

    /// Bytes of input.
    pub fn input(&self) -> u64 {
        self.0.input()
    }

    /// CRC-32C of all input, if its blocks are right.
    pub fn crc32c(&self) -> u32 {
        self.0.crc32c()
    }

    /// Where a block stands; empty if there is none.
    pub fn block_range(&self, block: u64) -> std::ops::Range<u64> {
        self.0.block_range(block)
    }

    pub fn unpack(&self, block: u64, packed: &[u8]) -> Result<Vec<u8>, PackError> {
        self.0.unpack(block, packed)
    }
}

/// What a list said: its entries as text, and the entry that ended it.
pub fn read_list<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<u64>) {
    let (mut decoder, mut entries) = (Decoder::new(), Vec::new());
    let mut failed = None;
    for piece in pieces {
        failed = decoder.feed(piece, &mut |entry| entries.push(entry)).err();
    }
    let failed = failed.or_else(|| decoder.end(&mut |entry| entries.push(entry)).err());
    (entries.iter().map(|entry| format!("{entry:?}")).collect(), failed.map(|error| error.entry))
}

/// The entries of a list, written as an export writes them: what an import makes of them.
pub fn write_list(list: &[u8]) -> (Vec<String>, Vec<u8>) {
    let (mut decoder, mut entries) = (Decoder::new(), Vec::new());
    let _ = decoder.feed(list, &mut |entry| entries.push(entry));
    entries.retain(|entry| matches!(entry, Entry::Ours(_)));
    let mut out = Vec::new();
    for entry in &entries {
        let Entry::Ours(known) = entry else { continue };
        let meta = Meta {
            version: Version(known.size),
            class: Class::Low,
            size: known.size,
            stored: known.size,
            crc32c: known.crc32c,
            sha256: known.sha256,
            modified: known.accessed,
            created: known.accessed,
        };
        write_line(&mut out, known.name.as_str(), &Row { meta, accessed: known.accessed });
    }
    (entries.iter().map(|entry| format!("{entry:?}")).collect(), out)
}
