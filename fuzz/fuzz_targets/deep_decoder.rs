//! A deep file from any bytes. The first byte says what they are: the file itself, the file with a seek table that has
//! right checksums, or content that is packed and then changed at the places that the next bytes name.

#![no_main]

use cloudstore::storage::fuzzing::{Table, pack};
use cloudstore::storage::{BLOCK, PackError};
use libfuzzer_sys::fuzz_target;

/// What stands behind a seek table's checksum and mark.
const END: usize = 10;
const TRAILER: usize = 32;
/// Bit by bit, the sum of more would take most of the time.
const MOST_SUMMED: usize = 64 * 1024;
/// More than an object of the fuzzer's can have.
const MOST_BLOCKS: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&mode, bytes)) = input.split_first() else { return };
    match mode % 3 {
        0 => read(bytes),
        1 => {
            let mut file = bytes.to_vec();
            mend(&mut file);
            read(&file);
        }
        _ => damage(bytes),
    }
});

/// Unpacks what can be unpacked; every block is as long as it should be.
fn read(file: &[u8]) {
    let Ok(table) = Table::parse(file) else { return };
    let blocks = table.input().div_ceil(BLOCK as u64);
    // Each block has an entry in the file.
    assert!(blocks <= file.len() as u64 && blocks < MOST_BLOCKS);
    assert!(table.block_range(blocks).is_empty());
    let (mut all, mut is_whole) = (Vec::new(), true);
    let mut end = None;
    for block in 0..blocks {
        let range = table.block_range(block);
        assert!(range.start < range.end && range.end <= file.len() as u64);
        assert!(end.is_none_or(|end| end == range.start));
        end = Some(range.end);
        let packed = &file[range.start as usize..range.end as usize];
        match table.unpack(block, packed) {
            Ok(bytes) => {
                let left = table.input() - block * BLOCK as u64;
                assert_eq!(bytes.len() as u64, left.min(BLOCK as u64));
                all.extend_from_slice(&bytes);
            }
            Err(error) => {
                assert_eq!(error, PackError::Block { block });
                is_whole = false;
            }
        }
    }
    if is_whole {
        assert_eq!(all.len() as u64, table.input());
        assert!(all.len() > MOST_SUMMED || crc32c(&all) == table.crc32c());
    }
}

/// Puts the right checksum into what may be a seek table of one member.
fn mend(file: &mut [u8]) {
    let Some(trailer) = file.len().checked_sub(TRAILER + END) else { return };
    let start = u64::from_le_bytes(file[trailer + 16..trailer + 24].try_into().unwrap());
    let entries = usize::try_from(start).ok().and_then(|start| start.checked_add(16));
    let Some(entries) = entries.filter(|entries| *entries <= trailer) else { return };
    let check = crc32c(&file[entries..trailer + 24]);
    file[trailer + 24..trailer + 28].copy_from_slice(&check.to_le_bytes());
}

/// What comes out of a changed file is what went in, or an error.
fn damage(bytes: &[u8]) {
    let Some((&[level, copies, changes], bytes)) = bytes.split_first_chunk() else { return };
    let Some((places, content)) = bytes.split_at_checked(usize::from(changes % 8) * 5) else { return };
    // Some of them long enough for several blocks.
    let content = content.repeat(if copies == 255 { BLOCK / content.len().max(1) + 2 } else { 1 });
    let good = pack(&content, u32::from(level % 10));
    let mut file = good.clone();
    for place in places.chunks_exact(5) {
        let at = u32::from_le_bytes([place[0], place[1], place[2], place[3]]) as usize % file.len();
        match place[4] {
            0 => file.truncate(at.max(1)),
            mask => file[at] ^= mask,
        }
    }
    let Ok(table) = Table::parse(&file) else {
        assert_ne!(file, good);
        return;
    };
    let (mut all, mut is_whole) = (Vec::new(), true);
    for block in 0..content.len().div_ceil(BLOCK) as u64 {
        let range = table.block_range(block);
        match table.unpack(block, &file[range.start as usize..range.end as usize]) {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(_) => is_whole = false,
        }
    }
    if is_whole {
        assert_eq!(table.input(), content.len() as u64);
        assert!(all == content);
    } else {
        assert_ne!(file, good);
    }
}

/// Bit by bit, beside the table-driven one.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}
