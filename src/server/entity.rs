//! What is told of an object: its headers, and its entry in JSON.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use reactor::http::Reply;
use serde::Serialize;

use super::conditions::{self, EntityTag};
use crate::storage::{Class, Meta, Name};

/// An object, for those who ask.
#[derive(Clone, Copy)]
pub(crate) struct Entity<'a> {
    pub(crate) name: &'a Name,
    pub(crate) meta: &'a Meta,
}

/// An object in JSON.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    /// Bytes on the disk.
    stored: u64,
    class: &'static str,
    etag: String,
    modified: String,
    created: String,
    crc32c: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl<'a> Entity<'a> {
    pub(crate) fn shown(&self) -> Shown<'a> {
        let meta = self.meta;
        Shown {
            name: self.name.as_str(),
            kind: "file",
            size: meta.size,
            stored: meta.stored,
            class: class_name(meta.class),
            etag: etag(meta).to_string(),
            modified: rfc3339(meta.modified),
            created: rfc3339(meta.created),
            crc32c: format!("{:08x}", meta.crc32c),
            sha256: meta.sha256.map(|sum| hex(&sum)),
        }
    }

    /// Headers of an answer that is about the object, but does not bring it. Digests stand in its JSON: in a header they
    /// would be those of the JSON.
    pub(crate) fn describe(&self, reply: Reply) -> Reply {
        reply.header("ETag", etag(self.meta).to_string()).header("Storage-Class", class_name(self.meta.class))
    }
}

pub(crate) fn class(text: &str) -> Option<Class> {
    [Class::Low, Class::Deep].into_iter().find(|class| text.eq_ignore_ascii_case(class_name(*class)))
}

pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Low => "low",
        Class::Deep => "deep",
    }
}

/// The tag of an object as it is.
pub(crate) fn etag(meta: &Meta) -> EntityTag {
    EntityTag { version: meta.version, is_gzip: false }
}

/// The value of `Last-Modified`, if there is one.
pub(crate) fn last_modified(meta: &Meta, now: SystemTime) -> Option<String> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    conditions::last_modified(meta.modified.div_euclid(1_000_000), i64::try_from(now).unwrap_or(i64::MAX))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Whether a time can be written so.
pub(crate) fn is_time(micros: i64) -> bool {
    jiff::Timestamp::from_microsecond(micros).is_ok()
}

/// `2026-09-12T14:03:55.123456Z`
pub(crate) fn rfc3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
}
