//! The text of a setting to its value, and back to what is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use logger::Filter;
use logger::forward::Wire;
use reactor::Address;
use serde_json::Value;

use super::LogFormat;
use super::units;
use crate::storage::Durability;

/// What to write instead, of text that is no value.
pub(super) type Refused = String;

/// A kind of value: how it is read, and shown.
pub(super) trait Setting: Sized {
    fn parse(text: &str) -> Result<Self, Refused>;
    fn show(&self) -> Value;
}

impl Setting for Address {
    fn parse(text: &str) -> Result<Address, Refused> {
        match text.parse() {
            Ok(Address::Unnamed) | Err(_) => {
                Err("write an IP address and a port, as in 127.0.0.1:8081 or [::1]:8081, or unix:/path"
                    .to_owned())
            }
            Ok(address) => Ok(address),
        }
    }

    fn show(&self) -> Value {
        self.to_string().into()
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<PathBuf, Refused> {
        if text.is_empty() || text.contains('\0') {
            Err("write a path".to_owned())
        } else {
            Ok(PathBuf::from(text))
        }
    }

    fn show(&self) -> Value {
        self.display().to_string().into()
    }
}

/// `none` stands for none.
impl<T: Setting> Setting for Option<T> {
    fn parse(text: &str) -> Result<Option<T>, Refused> {
        match text {
            "none" => Ok(None),
            _ => T::parse(text).map(Some).map_err(|refused| format!("{refused}; or none")),
        }
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::show)
    }
}

impl Setting for bool {
    fn parse(text: &str) -> Result<bool, Refused> {
        match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err("write on or off".to_owned()),
        }
    }

    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Setting for Durability {
    fn parse(text: &str) -> Result<Durability, Refused> {
        match text {
            "sync" => Ok(Durability::Sync),
            "relaxed" => Ok(Durability::Relaxed),
            _ => Err("write sync or relaxed".to_owned()),
        }
    }

    fn show(&self) -> Value {
        match self {
            Durability::Sync => "sync".into(),
            Durability::Relaxed => "relaxed".into(),
        }
    }
}

impl Setting for Wire {
    fn parse(text: &str) -> Result<Wire, Refused> {
        match text {
            "relp" => Ok(Wire::Relp),
            "octet-counted" => Ok(Wire::OctetCounted),
            "newline" => Ok(Wire::Newline),
            _ => Err("write relp, octet-counted or newline".to_owned()),
        }
    }

    fn show(&self) -> Value {
        match self {
            Wire::Relp => "relp".into(),
            Wire::OctetCounted => "octet-counted".into(),
            Wire::Newline => "newline".into(),
        }
    }
}

impl Setting for LogFormat {
    fn parse(text: &str) -> Result<LogFormat, Refused> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("write text or json".to_owned()),
        }
    }

    fn show(&self) -> Value {
        match self {
            LogFormat::Text => "text".into(),
            LogFormat::Json => "json".into(),
        }
    }
}

/// A filter cannot be shown from its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FilterText(pub(super) String, pub(super) Filter);

impl Setting for FilterText {
    fn parse(text: &str) -> Result<FilterText, Refused> {
        let filter = text.parse().ok().filter(|_| !text.trim().is_empty());
        filter.map(|filter| FilterText(text.to_owned(), filter)).ok_or_else(|| {
            "write trace, debug, info, warn, error, fatal or off, and others by target, as in info,storage=debug"
                .to_owned()
        })
    }

    fn show(&self) -> Value {
        self.0.as_str().into()
    }
}

impl Setting for Duration {
    fn parse(text: &str) -> Result<Duration, Refused> {
        units::duration(text)
    }

    fn show(&self) -> Value {
        units::duration_text(*self).into()
    }
}

/// A number from `LEAST` to `MOST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count<const LEAST: usize, const MOST: usize>(pub(super) usize);

impl<const LEAST: usize, const MOST: usize> Setting for Count<LEAST, MOST> {
    fn parse(text: &str) -> Result<Self, Refused> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_number && (LEAST..=MOST).contains(number));
        number.map(Count).ok_or_else(|| match MOST {
            usize::MAX => format!("write a number from {LEAST} on"),
            _ => format!("write a number from {LEAST} to {MOST}"),
        })
    }

    fn show(&self) -> Value {
        self.0.into()
    }
}

/// Bytes, from `LEAST` to `MOST`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes<const LEAST: u64, const MOST: u64>(pub(super) u64);

impl<const LEAST: u64, const MOST: u64> Setting for Bytes<LEAST, MOST> {
    fn parse(text: &str) -> Result<Self, Refused> {
        match units::bytes(text)? {
            bytes if bytes < LEAST => Err(format!("write at least {LEAST} bytes")),
            bytes if bytes > MOST => Err(format!("write at most {MOST} bytes")),
            bytes => Ok(Bytes(bytes)),
        }
    }

    fn show(&self) -> Value {
        self.0.into()
    }
}

/// Where else the server's own calls are.
const TAKEN: [&str; 10] = [
    "/files/",
    "/index/",
    "/uploads/",
    "/upload/",
    "/list/",
    "/remove/",
    "/reload/",
    "/healthz/",
    "/readyz/",
    "/metrics/",
];

/// A path of the server that ends in a slash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Prefix(pub(super) String);

impl Setting for Prefix {
    fn parse(text: &str) -> Result<Prefix, Refused> {
        let segments = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let is_segment = |segment: &str| {
            let is_plain =
                segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
            is_plain && !matches!(segment, "" | "." | "..")
        };
        if !segments.is_some_and(|segments| segments.split('/').all(is_segment)) {
            return Err(
                "write a path between slashes, of letters, digits and -._~, as in /download/".to_owned()
            );
        }
        match TAKEN.iter().find(|taken| text.starts_with(**taken)) {
            Some(taken) => Err(format!("the server has something else below {taken}; take another path")),
            None => Ok(Prefix(text.to_owned())),
        }
    }

    fn show(&self) -> Value {
        self.0.as_str().into()
    }
}

/// Origins of pages, in lower case, without a default port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Origins(pub(super) Vec<String>);

impl Setting for Origins {
    fn parse(text: &str) -> Result<Origins, Refused> {
        if matches!(text.trim(), "none" | "off" | "") {
            return Ok(Origins(Vec::new()));
        }
        let origins: Option<Vec<String>> = text.split(',').map(|part| page_origin(part.trim())).collect();
        let allowed =
            "write origins as in https://a.example or http://10.0.0.1:3000, separated by commas, * or none";
        origins.map(Origins).ok_or_else(|| allowed.to_owned())
    }

    fn show(&self) -> Value {
        self.0.clone().into()
    }
}

fn page_origin(text: &str) -> Option<String> {
    if text == "*" {
        return Some("*".to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (&authority[..address.len() + 2], port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(at);
            (!host.is_empty() && host.bytes().all(is_host)).then_some((host, port))?
        }
    };
    let is_port =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    match port {
        "" => Some(format!("{scheme}://{host}")),
        _ if port == default_port => Some(format!("{scheme}://{host}")),
        _ if port.strip_prefix(':').is_some_and(is_port) => Some(format!("{scheme}://{host}{port}")),
        _ => None,
    }
}

/// Names of a server, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hosts {
    Any,
    Known(Vec<String>),
}

impl Setting for Hosts {
    fn parse(text: &str) -> Result<Hosts, Refused> {
        match text.trim() {
            "*" => return Ok(Hosts::Any),
            "none" | "" => return Ok(Hosts::Known(Vec::new())),
            _ => (),
        }
        let is_name = |name: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !name.is_empty() && !name.ends_with('.') && name.bytes().all(is_known)
        };
        let name = |part: &str| Some(part.trim().to_ascii_lowercase()).filter(|name| is_name(name));
        let names: Option<Vec<String>> = text.split(',').map(name).collect();
        let allowed =
            "write names without a port, as in nas.lan,cloud.example, separated by commas, * or none";
        names.map(Hosts::Known).ok_or_else(|| allowed.to_owned())
    }

    fn show(&self) -> Value {
        match self {
            Hosts::Any => "*".into(),
            Hosts::Known(names) => names.clone().into(),
        }
    }
}

/// Whether only this machine can reach it.
pub(super) fn is_local(address: &Address) -> bool {
    match address {
        Address::Inet(address) => address.ip().to_canonical().is_loopback(),
        Address::Path(_) | Address::Abstract(_) | Address::Unnamed => true,
    }
}

/// Names that the store keeps in its data folder.
pub(super) const OF_THE_STORE: [&str; 6] =
    ["low_storage", "deep_storage", "stage", "metadata", "storage.data", "lock"];

/// Whether a path is one of the store's own in this data folder, or in one.
pub(super) fn is_of_the_store(path: &Path, data: &Path) -> bool {
    OF_THE_STORE.iter().any(|name| super::paths::is_within(path, &data.join(name)))
}
