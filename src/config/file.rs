//! The configuration file: one JSON object with our keys, the original's, or both.
//!
//! | The original's key | Here |
//! |---|---|
//! | `server_ip`, `server_port` | `listen` |
//! | `download_prefix` | the same |
//! | `low_storage_dir`, `deep_storage_dir` | `data`, the folder that both are in; they are `low_storage` and `deep_storage` there |
//! | `storage_info` | `index` |
//! | `backlog_ip_addr`, `backlog_port` | `backlog` |
//! | `init_threadsize` | `backlog_clients` |
//! | `bundle_format`, `thread_size_threshhold`, `logque_max_threshhold`, `init_buffer_size`, `effective_expansion_times` | checked, without effect |

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::{Origin, Problem};
use super::keys::{KEYS, suggestion};
use super::paths::same_place;

/// A setting that somebody made, as text.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) key: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) given: Vec<Given>,
    /// Keys that are accepted and do nothing, and why.
    pub(super) notes: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

/// The original's keys that mean nothing here.
const WITHOUT_EFFECT: [(&str, &str); 5] = [
    ("bundle_format", "deep objects are always packed with gzip; level says how hard"),
    ("thread_size_threshhold", "there are exactly as many threads as backlog_clients"),
    ("logque_max_threshhold", "records wait in the spool, on the disk"),
    ("init_buffer_size", "each thread that logs has a small buffer of its own"),
    ("effective_expansion_times", "a buffer keeps its size, and a record that does not fit goes past it"),
];

/// Those that mean a setting of ours.
const ORIGINAL: [&str; 8] = [
    "server_ip",
    "server_port",
    "low_storage_dir",
    "deep_storage_dir",
    "storage_info",
    "backlog_ip_addr",
    "backlog_port",
    "init_threadsize",
];

/// Where the original listens, and looks for its backlog server, if only the other half is said.
const SERVER: (&str, &str) = ("127.0.0.1", "8081");
const BACKLOG: (&str, &str) = ("127.0.0.1", "8080");

/// Reads a file; none if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Contents>, Problem> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Problem::Read { path: path.to_owned(), source: Arc::new(error) }),
    };
    parse(path, &bytes).map(Some)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let members: Members = serde_json::from_slice(bytes)
        .map_err(|error| Problem::Form { path: path.to_owned(), why: error.to_string() })?;
    let mut reading = Reading { path, contents: Contents::default(), original: Vec::new() };
    for (key, value) in members.0 {
        reading.take(key, value);
    }
    reading.translate();
    let Reading { mut contents, .. } = reading;
    twice(path, &mut contents);
    Ok(contents)
}

/// Two keys of ours for one setting, or one of ours and one of the original's.
fn twice(path: &Path, contents: &mut Contents) {
    for (n, given) in contents.given.iter().enumerate() {
        if let Some(first) = contents.given[..n].iter().find(|other| other.key == given.key) {
            contents.problems.push(Problem::Twice {
                path: path.to_owned(),
                first: first.origin.key(first.key).to_owned(),
                second: given.origin.key(given.key).to_owned(),
            });
        }
    }
}

/// An object's members in their order; a map would lose all but the last of equal keys.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

struct Reading<'a> {
    path: &'a Path,
    contents: Contents,
    /// The original's keys, which make sense only together.
    original: Vec<(&'static str, String)>,
}

impl Reading<'_> {
    fn take(&mut self, key: String, value: Value) {
        if let Some((known, _)) = KEYS.iter().find(|(known, _)| *known == key) {
            match text_of(&value) {
                Some(text) => self.give(known, text, key),
                None => self.refuse(&key, value.to_string(), "write text, a number, true or false"),
            }
        } else if let Some(known) = ORIGINAL.iter().find(|known| **known == key) {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                other => return self.refuse(&key, other.to_string(), "write text or a number"),
            };
            if self.original.iter().any(|(have, _)| have == known) {
                let path = self.path.to_owned();
                self.contents.problems.push(Problem::Twice { path, first: key.clone(), second: key });
            } else {
                self.original.push((known, text));
            }
        } else if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == key) {
            match value.as_u64() {
                Some(_) => {
                    let place = self.path.display();
                    self.contents
                        .notes
                        .push(format!("file {place}: {key} is accepted, and has no effect: {why}"));
                }
                None => self.refuse(&key, value.to_string(), "write a number from 0 on"),
            }
        } else {
            let ours = KEYS.iter().map(|(known, _)| *known);
            let known = ours.chain(ORIGINAL).chain(WITHOUT_EFFECT.map(|(known, _)| known));
            let suggestion = suggestion(&key, known);
            let origin = Origin::File(self.path.to_owned(), key.clone());
            self.contents.problems.push(Problem::UnknownKey { origin, key, suggestion });
        }
    }

    fn give(&mut self, key: &'static str, text: String, written: String) {
        let origin = Origin::File(self.path.to_owned(), written);
        self.contents.given.push(Given { key, text, origin });
    }

    fn refuse(&mut self, key: &str, value: String, allowed: &str) {
        let origin = Origin::File(self.path.to_owned(), key.to_owned());
        let value = value.trim_matches('"').to_owned();
        self.contents.problems.push(Problem::Value {
            origin,
            key: key.to_owned(),
            value,
            allowed: allowed.to_owned(),
        });
    }

    fn original(&self, key: &str) -> Option<String> {
        self.original.iter().find(|(have, _)| *have == key).map(|(_, text)| text.clone())
    }

    /// Says with our keys what the original's say.
    fn translate(&mut self) {
        self.address("listen", ("server_ip", "server_port"), SERVER);
        self.address("backlog", ("backlog_ip_addr", "backlog_port"), BACKLOG);
        for (key, original) in [("index", "storage_info"), ("backlog_clients", "init_threadsize")] {
            if let Some(text) = self.original(original) {
                self.give(key, text, original.to_owned());
            }
        }
        let mut data: Option<(PathBuf, &str)> = None;
        for (original, leaf) in [("low_storage_dir", "low_storage"), ("deep_storage_dir", "deep_storage")] {
            let Some(text) = self.original(original) else { continue };
            let folder = Path::new(&text);
            let parent = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == leaf));
            let Some(parent) = parent else {
                let allowed = format!(
                    "write a path that ends in {leaf}; both classes lie in one folder, as low_storage and deep_storage"
                );
                self.refuse(original, text, &allowed);
                continue;
            };
            let parent = if parent == Path::new("") { PathBuf::from(".") } else { parent.to_owned() };
            match &data {
                Some((other, _)) if !same_place(other, &parent) => {
                    let allowed = format!("write a folder in {}, where low_storage_dir is", other.display());
                    self.refuse(original, text, &allowed);
                }
                Some(_) => data = Some((parent, "low_storage_dir and deep_storage_dir")),
                None => data = Some((parent, original)),
            }
        }
        if let Some((data, written)) = data {
            self.give("data", data.display().to_string(), written.to_owned());
        }
    }

    /// An address of which the original's keys say one half each.
    fn address(&mut self, key: &'static str, keys: (&str, &str), defaults: (&str, &str)) {
        let (ip, port) = (self.original(keys.0), self.original(keys.1));
        let written = match (&ip, &port) {
            (None, None) => return,
            (Some(_), Some(_)) => format!("{} and {}", keys.0, keys.1),
            (Some(_), None) => keys.0.to_owned(),
            (None, Some(_)) => keys.1.to_owned(),
        };
        let ip = ip.unwrap_or_else(|| defaults.0.to_owned());
        let port = port.unwrap_or_else(|| defaults.1.to_owned());
        let parsed_ip: Result<IpAddr, _> = ip.parse();
        let parsed_port: Result<u16, _> = port.parse();
        match (parsed_ip, parsed_port) {
            (Ok(ip), Ok(port)) => self.give(key, std::net::SocketAddr::new(ip, port).to_string(), written),
            (ip_result, port_result) => {
                if ip_result.is_err() {
                    self.refuse(keys.0, ip, "write an IP address, as in 127.0.0.1");
                }
                if port_result.is_err() {
                    self.refuse(keys.1, port, "write a port, 0 to 65535");
                }
            }
        }
    }
}

/// As it would stand on the command line.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("none".to_owned()),
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(members) if members.is_empty() => Some("none".to_owned()),
        Value::Array(members) => {
            let members: Option<Vec<&str>> = members.iter().map(Value::as_str).collect();
            members.map(|members| members.join(","))
        }
        Value::Object(_) => None,
    }
}
