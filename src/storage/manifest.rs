//! The list of objects as text, to bytes and back. No file, no thread.
//!
//! An export has one object a line, each a JSON object and a line feed; in this order, with the keys in brackets left out
//! where there is nothing to say:
//!
//! `{"name":"a/b","class":"low","size":5,"stored":5,"version":"65c1e0…","crc32c":"3610a686","sha256":"…","modified":…,"created":…,"accessed":…}`
//!
//! | Key | What |
//! |---|---|
//! | `name` | the whole name |
//! | `class` | `low` or `deep` |
//! | `size`, `stored` | bytes of the content, and of the file |
//! | `version` | hexadecimal |
//! | `crc32c`, \[`sha256`\] | of the content, hexadecimal |
//! | `modified`, `created`, \[`accessed`\] | microseconds since 1970 |
//!
//! What is read is such lines, or the list that the original kept: one JSON array of objects with `atime_` (seconds) and
//! `storage_path_`. Unknown keys are passed over.

use std::fmt::Write;

use serde_json::Value;

use super::meta::{Class, Row};
use super::name::Name;

/// Why a list cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("entry {entry} of the list {why}")]
pub struct ManifestError {
    /// Which entry, from 1.
    pub entry: u64,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Appends the line of an object.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &str, row: &Row) {
    let meta = &row.meta;
    let class = match meta.class {
        Class::Low => "low",
        Class::Deep => "deep",
    };
    let mut line = format!(
        "{{\"name\":{},\"class\":\"{class}\",\"size\":{},\"stored\":{},\"version\":\"{}\",\"crc32c\":\"{:08x}\"",
        Value::from(name),
        meta.size,
        meta.stored,
        meta.version,
        meta.crc32c
    );
    if let Some(sum) = &meta.sha256 {
        let _ = write!(line, ",\"sha256\":\"{}\"", hex(sum));
    }
    let _ = write!(line, ",\"modified\":{},\"created\":{}", meta.modified, meta.created);
    if row.accessed != 0 {
        let _ = write!(line, ",\"accessed\":{}", row.accessed);
    }
    line.push_str("}\n");
    out.extend_from_slice(line.as_bytes());
}

/// What an entry tells that its object may lack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Ours(Known),
    /// Of the original's list: where it said that the file is, the last part of that if it is a name, and when it was
    /// read last, in microseconds since 1970.
    Original {
        path: String,
        name: Option<Name>,
        accessed: i64,
    },
}

/// An object as an export knew it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) name: Name,
    /// These two say whether it is still the same.
    pub(crate) size: u64,
    pub(crate) crc32c: u32,
    pub(crate) sha256: Option<[u8; 32]>,
    /// 0 if never.
    pub(crate) accessed: i64,
}

/// Bytes that an entry may have: names have 1024, and JSON can make six of each.
const MAX_ENTRY: usize = 16 * 1024;

/// Reads a list that comes in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoder {
    form: Form,
    /// The entry that has begun.
    entry: Vec<u8>,
    /// How many began before.
    entries: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Form {
    /// Nothing but white space so far.
    #[default]
    Unknown,
    Lines,
    Array(At),
    /// Behind the end of an array.
    Ended,
    Failed(ManifestError),
}

/// Where in an array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct At {
    depth: u32,
    is_text: bool,
    is_escaped: bool,
    /// Behind a comma.
    must_go_on: bool,
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder::default()
    }

    /// Whether it is the original's form.
    pub(crate) fn is_original(&self) -> bool {
        matches!(self.form, Form::Array(_) | Form::Ended)
    }

    /// Takes more, and hands out the entries that are whole now. After an error, every call repeats it.
    pub(crate) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Entry)) -> Result<(), ManifestError> {
        for &byte in bytes {
            self.take(byte, each).inspect_err(|error| self.form = Form::Failed(*error))?;
        }
        Ok(())
    }

    /// Says that nothing follows; hands out a last line that has no line feed.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(Entry)) -> Result<(), ManifestError> {
        match self.form {
            Form::Unknown | Form::Ended => Ok(()),
            Form::Lines => self.line(each).inspect_err(|error| self.form = Form::Failed(*error)),
            Form::Array(_) => {
                self.fail("is not there: the list is cut off, so send it whole").inspect_err(|error| {
                    self.form = Form::Failed(*error);
                })
            }
            Form::Failed(error) => Err(error),
        }
    }

    fn take(&mut self, byte: u8, each: &mut dyn FnMut(Entry)) -> Result<(), ManifestError> {
        match &mut self.form {
            Form::Unknown if byte.is_ascii_whitespace() => Ok(()),
            Form::Unknown => match byte {
                b'[' => {
                    self.form = Form::Array(At::default());
                    Ok(())
                }
                b'{' => {
                    self.form = Form::Lines;
                    self.keep(byte)
                }
                _ => self.fail("is no JSON object: send an export, or the storage.data of the original"),
            },
            Form::Lines if byte == b'\n' => self.line(each),
            Form::Lines => self.keep(byte),
            Form::Array(at) => match (byte, *at) {
                (b',' | b']', At { depth: 0, is_text: false, must_go_on, .. }) => {
                    let is_end = byte == b']';
                    let is_none = self.entry.is_empty();
                    self.form = if is_end {
                        Form::Ended
                    } else {
                        Form::Array(At { must_go_on: true, ..At::default() })
                    };
                    match is_none && (!is_end || must_go_on) {
                        true => self.fail("is missing: take out the comma"),
                        false if is_none => Ok(()),
                        false => self.element(each),
                    }
                }
                _ => {
                    at.step(byte);
                    match self.entry.is_empty() && byte.is_ascii_whitespace() {
                        true => Ok(()),
                        false => self.keep(byte),
                    }
                }
            },
            Form::Ended if byte.is_ascii_whitespace() => Ok(()),
            Form::Ended => self.fail("stands behind the end of the list: take it out"),
            Form::Failed(error) => Err(*error),
        }
    }

    fn keep(&mut self, byte: u8) -> Result<(), ManifestError> {
        if self.entry.len() >= MAX_ENTRY {
            return self.fail("is longer than 16 KiB: it is no entry of such a list");
        }
        self.entry.push(byte);
        Ok(())
    }

    fn fail<T>(&self, why: &'static str) -> Result<T, ManifestError> {
        Err(ManifestError { entry: self.entries + 1, why })
    }

    fn line(&mut self, each: &mut dyn FnMut(Entry)) -> Result<(), ManifestError> {
        if self.entry.iter().all(u8::is_ascii_whitespace) {
            self.entry.clear();
            return Ok(());
        }
        match self.value()? {
            Some(entry) => each(entry),
            None => return self.fail("has no name: send an export, or the storage.data of the original"),
        }
        self.next();
        Ok(())
    }

    /// What is no object of the original's is passed over.
    fn element(&mut self, each: &mut dyn FnMut(Entry)) -> Result<(), ManifestError> {
        if let Some(entry) = self.value()? {
            each(entry);
        }
        self.next();
        Ok(())
    }

    fn next(&mut self) {
        self.entry.clear();
        self.entries += 1;
    }

    fn value(&self) -> Result<Option<Entry>, ManifestError> {
        let Ok(value) = serde_json::from_slice::<Value>(&self.entry) else {
            return self.fail("is not JSON: the list is damaged, so send it anew");
        };
        if let Some(path) = value.get("storage_path_").and_then(Value::as_str) {
            let leaf = path.rsplit('/').next().unwrap_or(path);
            let seconds = value.get("atime_").and_then(Value::as_i64).unwrap_or(0);
            let accessed = seconds.saturating_mul(1_000_000);
            return Ok(Some(Entry::Original {
                path: path.to_owned(),
                name: Name::parse(leaf).ok(),
                accessed,
            }));
        }
        let Some(name) = value.get("name") else { return Ok(None) };
        let Some(name) = name.as_str().and_then(|name| Name::parse(name).ok()) else {
            return self.fail("has a name that is not allowed");
        };
        let text = |key: &str| value.get(key).map(|value| value.as_str().unwrap_or(""));
        let Some(size) = value.get("size").and_then(Value::as_u64) else {
            return self.fail("has no size, or none in bytes");
        };
        let Some(crc32c) = text("crc32c").and_then(unhex::<4>) else {
            return self.fail("has no crc32c of 8 hexadecimal digits");
        };
        let sha256 = match text("sha256") {
            None => None,
            Some(sum) => match unhex(sum) {
                None => return self.fail("has a sha256 that is not 64 hexadecimal digits"),
                sum => sum,
            },
        };
        let accessed = match value.get("accessed") {
            None => 0,
            Some(at) => match at.as_i64() {
                None => return self.fail("has a time accessed that is not in whole microseconds"),
                Some(at) => at,
            },
        };
        let crc32c = u32::from_be_bytes(crc32c);
        Ok(Some(Entry::Ours(Known { name, size, crc32c, sha256, accessed })))
    }
}

impl At {
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_text => self.is_escaped = true,
            b'"' => self.is_text = !self.is_text,
            _ if self.is_text => (),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => (),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::{Meta, Version};

    fn read(pieces: &[&[u8]]) -> Result<Vec<Entry>, ManifestError> {
        let (mut decoder, mut entries) = (Decoder::new(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut |entry| entries.push(entry))?;
        }
        decoder.end(&mut |entry| entries.push(entry))?;
        Ok(entries)
    }

    const ORIGINAL: &[u8] =
        br#" [{"atime_":1700000000,"mtime_":1700000001,"fsize_":5,"storage_path_":"./low_storage/a b],\".txt",
        "url_":"/download/a b.txt"},{"storage_path_":"x/.."},{"url_":"/download/x"},7] "#;

    #[test]
    fn the_originals_list_is_read() {
        let entries = read(&[ORIGINAL]).unwrap();
        let [Entry::Original { name: Some(name), accessed, .. }, Entry::Original { name: None, .. }] =
            &entries[..]
        else {
            panic!("{entries:?}");
        };
        assert_eq!((name.as_str(), *accessed), ("a b],\".txt", 1_700_000_000_000_000));
        assert_eq!(read(&[b"[]"]).unwrap(), []);
        for end in 2..ORIGINAL.len() - 1 {
            assert!(read(&[&ORIGINAL[..end]]).is_err(), "{end}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_by_entry() {
        let good = r#"{"name":"a","size":1,"crc32c":"00000001"}"#;
        for (text, entry) in [
            ("redb", 1),
            ("7", 1),
            ("[,]", 1),
            ("[{},]", 2),
            ("[{}]x", 2),
            ("[{}}]", 1),
            ("{}", 1),
            ("{\"name\":\"..\",\"size\":1}", 1),
            ("{\"name\":\"a\",\"crc32c\":\"00000001\"}", 1),
            ("{\"name\":\"a\",\"size\":-1,\"crc32c\":\"00000001\"}", 1),
            ("{\"name\":\"a\",\"size\":1,\"crc32c\":\"1\"}", 1),
            ("{\"name\":\"a\",\"size\":1,\"crc32c\":\"+0000001\"}", 1),
            (&format!("{good}\n\n{good}{good}"), 2),
            (&format!("{good}\n{{\"name\":\"{}\"}}", "a".repeat(20_000)), 2),
        ] {
            assert_eq!(read(&[text.as_bytes()]).unwrap_err().entry, entry, "{text}");
        }
        assert_eq!(read(&[b""]).unwrap(), []);
        assert_eq!(read(&[good.as_bytes(), b"\r\n", good.as_bytes()]).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn lines_come_back_from_any_pieces(
            rows in proptest::collection::vec(("\\PC{1,20}", any::<u64>(), any::<u32>(), any::<Option<[u8; 32]>>(), any::<i64>()), 0..5),
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let (mut text, mut expected) = (Vec::new(), Vec::new());
            for (name, size, crc32c, sha256, accessed) in rows {
                let Ok(name) = Name::parse(&name) else { continue };
                let meta = Meta {
                    version: Version(size), class: Class::Deep, size, stored: size, crc32c, sha256,
                    modified: accessed, created: accessed,
                };
                write_line(&mut text, name.as_str(), &Row { meta, accessed });
                expected.push(Entry::Ours(Known { name, size, crc32c, sha256, accessed }));
            }
            prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), expected.len());
            for text in [&text[..], ORIGINAL] {
                let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
                cuts.sort_unstable();
                let mut pieces = Vec::new();
                let mut at = 0;
                for cut in cuts {
                    pieces.push(&text[at..cut]);
                    at = cut;
                }
                pieces.push(&text[at..]);
                prop_assert_eq!(read(&pieces), read(&[text]));
            }
            prop_assert_eq!(read(&[&text]), Ok(expected));
        }
    }
}
