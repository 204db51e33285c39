//! What is known of an object, to bytes and back.
//!
//! | Part of a tag | Bytes |
//! |---|---|
//! | `c5`, format (1) | 2 |
//! | flags: 1 deep, 2 SHA-256, 4 moved | 1 |
//! | version, size, bytes on the disk, modified, created | varints; times as zigzag differences to the version |
//! | CRC-32C of the content | 4 |
//! | SHA-256, if flagged | 32 |
//! | name; if moved, the name before and the version before | varint length and bytes, each; varint |
//! | CRC-32C of all before | 4 |
//!
//! Short, so that it fits in the inode of a small name. The index holds the same without first, name and last part.

use std::fmt;

use super::name::Name;

/// Which of its contents a name has. Each write makes a new one, greater than all before it, also across restarts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// How an object lies on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Class {
    /// As it is, in a plain file.
    Low,
    /// Packed, in a file that `gunzip` reads.
    Deep,
}

impl Class {
    /// The name of its folder in the data folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Class::Low => "low_storage",
            Class::Deep => "deep_storage",
        }
    }
}

/// What is known of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Which content this is.
    pub version: Version,
    /// How it lies on the disk.
    pub class: Class,
    /// Bytes of its content.
    pub size: u64,
    /// Bytes of its file.
    pub stored: u64,
    /// CRC-32C of its content.
    pub crc32c: u32,
    /// SHA-256 of its content, if the writer asked for it.
    pub sha256: Option<[u8; 32]>,
    /// When its content was last changed, as the writer says: microseconds since 1970.
    pub modified: i64,
    /// When its name came to be: microseconds since 1970.
    pub created: i64,
}

/// What a file says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    pub(crate) name: Name,
    pub(crate) meta: Meta,
    /// Where it was, and as which version, before the move that made this one.
    pub(crate) from: Option<(Name, Version)>,
}

const FIRST: u8 = 0xc5;
const FORMAT: u8 = 1;
const DEEP: u8 = 1;
const SHA256: u8 = 2;
const MOVED: u8 = 4;

impl Tag {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![FIRST, FORMAT];
        push_meta(&mut out, &self.meta, if self.from.is_some() { MOVED } else { 0 });
        push_name(&mut out, &self.name);
        if let Some((name, version)) = &self.from {
            push_name(&mut out, name);
            push_varint(&mut out, version.0);
        }
        let check = crc32c::crc32c(&out);
        out.extend_from_slice(&check.to_le_bytes());
        out
    }

    /// The tag of an object that did not move away from `name` after all; None if it was not about to. It goes on naming the
    /// other place, so that recovery, run again, looks there too.
    pub(crate) fn undone(self, name: &Name) -> Option<Tag> {
        let (from, version) = self.from.filter(|(from, _)| from == name)?;
        Some(Tag { name: from, meta: Meta { version, ..self.meta }, from: Some((self.name, version)) })
    }

    /// None for anything but a whole tag.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Tag> {
        let (body, check) = bytes.split_last_chunk()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*check) {
            return None;
        }
        let mut rest = body.strip_prefix(&[FIRST, FORMAT])?;
        let (meta, flags) = take_meta(&mut rest)?;
        let name = take_name(&mut rest)?;
        let from = match flags & MOVED {
            0 => None,
            _ => Some((take_name(&mut rest)?, Version(take_varint(&mut rest)?))),
        };
        rest.is_empty().then_some(Tag { name, meta, from })
    }
}

/// A row of the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) meta: Meta,
    /// When it was last read: microseconds since 1970, 0 if never.
    pub(crate) accessed: i64,
}

impl Row {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        push_meta(&mut out, &self.meta, 0);
        push_varint(&mut out, zigzag(self.accessed));
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Row> {
        let (meta, _) = take_meta(&mut bytes)?;
        let accessed = unzigzag(take_varint(&mut bytes)?);
        bytes.is_empty().then_some(Row { meta, accessed })
    }
}

fn push_meta(out: &mut Vec<u8>, meta: &Meta, flags: u8) {
    let deep = if meta.class == Class::Deep { DEEP } else { 0 };
    let sha256 = if meta.sha256.is_some() { SHA256 } else { 0 };
    out.push(flags | deep | sha256);
    push_varint(out, meta.version.0);
    push_varint(out, meta.size);
    push_varint(out, meta.stored);
    for time in [meta.modified, meta.created] {
        push_varint(out, zigzag(time.wrapping_sub(meta.version.0 as i64)));
    }
    out.extend_from_slice(&meta.crc32c.to_le_bytes());
    out.extend_from_slice(meta.sha256.as_ref().map_or(&[], |sum| &sum[..]));
}

fn take_meta(rest: &mut &[u8]) -> Option<(Meta, u8)> {
    let flags = *rest.split_off_first()?;
    if flags & !(DEEP | SHA256 | MOVED) != 0 {
        return None;
    }
    let class = if flags & DEEP == 0 { Class::Low } else { Class::Deep };
    let version = take_varint(rest)?;
    let (size, stored) = (take_varint(rest)?, take_varint(rest)?);
    let mut time = || Some(unzigzag(take_varint(rest)?).wrapping_add(version as i64));
    let (modified, created) = (time()?, time()?);
    let (crc32c, behind) = rest.split_first_chunk()?;
    *rest = behind;
    let sha256 = match flags & SHA256 {
        0 => None,
        _ => {
            let (sum, behind) = rest.split_first_chunk()?;
            *rest = behind;
            Some(*sum)
        }
    };
    let crc32c = u32::from_le_bytes(*crc32c);
    let version = Version(version);
    Some((Meta { version, class, size, stored, crc32c, sha256, modified, created }, flags))
}

fn push_name(out: &mut Vec<u8>, name: &Name) {
    push_varint(out, name.as_str().len() as u64);
    out.extend_from_slice(name.as_str().as_bytes());
}

fn take_name(rest: &mut &[u8]) -> Option<Name> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (name, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Name::parse_bytes(name).ok()
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metas() -> impl Strategy<Value = Meta> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<i64>(), any::<i64>());
        (numbers, any::<bool>(), any::<Option<[u8; 32]>>()).prop_map(|(n, is_deep, sha256)| Meta {
            version: Version(n.0),
            class: if is_deep { Class::Deep } else { Class::Low },
            size: n.1,
            stored: n.2,
            crc32c: n.3,
            sha256,
            modified: n.4,
            created: n.5,
        })
    }

    proptest! {
        #[test]
        fn there_and_back(meta in metas(), name in "[a-z/]{1,9}x", from in "[a-z]{0,3}", at in any::<usize>(), accessed in any::<i64>()) {
            let Ok(name) = Name::parse(&name) else { return Ok(()) };
            let from = Name::parse(&from).ok().map(|from| (from, Version(9)));
            let tag = Tag { name, meta, from };
            let bytes = tag.encode();
            prop_assert_eq!(Tag::decode(&bytes), Some(tag));
            for len in 0..bytes.len() {
                prop_assert_eq!(Tag::decode(&bytes[..len]), None);
            }
            let mut flipped = bytes.clone();
            flipped[at % bytes.len()] ^= 1;
            prop_assert_eq!(Tag::decode(&flipped), None);
            let row = Row { meta, accessed };
            prop_assert_eq!(Row::decode(&row.encode()), Some(row));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(Tag::decode(&bytes), None);
            let _ = Row::decode(&bytes);
        }
    }

    #[test]
    fn the_format_stays_and_is_short() {
        let meta = Meta {
            version: Version(1_795_000_000_000_000),
            class: Class::Low,
            size: 4095,
            stored: 4095,
            crc32c: 0x1234_5678,
            sha256: None,
            modified: 1_795_000_000_000_000 - 300,
            created: 1_795_000_000_000_000,
        };
        let tag = Tag { name: Name::parse("photos/a.jpg").unwrap(), meta, from: None };
        let bytes = tag.encode();
        let expected = br"\xc5\x01\x00\x80\xe0\xfc\x8a\xb0\x91\x98\x03\xff\x1f\xff\x1f\xd7\x04\x00xV4\x12\x0cphotos/a.jpg";
        assert_eq!(bytes[..bytes.len() - 4].escape_ascii().to_string().as_bytes(), expected);
        assert!(bytes.len() < 40);
    }
}
