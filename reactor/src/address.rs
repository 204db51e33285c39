//! Where a stream socket is: an Internet address or a name of a Unix socket.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg as _;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

use crate::error::{Error, Result};

/// The address of a stream socket, to listen on, to connect to, or of a peer.
///
/// As text: `127.0.0.1:8080`, `[::1]:8080`, `unix:/run/app.sock`, `unix:@name` (Linux's abstract names) and `unix:`
/// (a peer that has no name).
///
/// ```
/// use reactor::Address;
///
/// let address: Address = "unix:/run/app.sock".parse()?;
/// assert_eq!(address, Address::from(std::path::Path::new("/run/app.sock")));
/// assert_eq!(address.to_string(), "unix:/run/app.sock");
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix socket in the file system.
    Path(PathBuf),
    /// A Unix socket in Linux's abstract name space; without the zero byte that marks it.
    Abstract(Vec<u8>),
    /// A Unix socket without a name, as most connecting ones are.
    Unnamed,
}

impl Address {
    pub(crate) fn family(&self) -> AddressFamily {
        match self {
            Address::Inet(SocketAddr::V4(_)) => AddressFamily::INET,
            Address::Inet(SocketAddr::V6(_)) => AddressFamily::INET6,
            Address::Path(_) | Address::Abstract(_) | Address::Unnamed => AddressFamily::UNIX,
        }
    }

    pub(crate) fn is_inet(&self) -> bool {
        matches!(self, Address::Inet(_))
    }

    pub(crate) fn to_any(&self) -> std::result::Result<SocketAddrAny, Errno> {
        match self {
            Address::Inet(address) => Ok(address.as_any()),
            Address::Path(path) => Ok(SocketAddrUnix::new(path)?.as_any()),
            Address::Abstract(name) => Ok(SocketAddrUnix::new_abstract_name(name)?.as_any()),
            Address::Unnamed => Err(Errno::INVAL),
        }
    }

    /// The address that the system reported; one of another family, which no stream here has, is `Unnamed`.
    pub(crate) fn from_any(any: Option<SocketAddrAny>) -> Address {
        let Some(any) = any else { return Address::Unnamed };
        if let Ok(address) = SocketAddr::try_from(any.clone()) {
            return Address::Inet(address);
        }
        match SocketAddrUnix::try_from(any) {
            Ok(unix) => match (unix.path(), unix.abstract_name()) {
                (Some(path), _) => Address::Path(PathBuf::from(OsStr::from_bytes(path.to_bytes()))),
                (None, Some(name)) if !name.is_empty() => Address::Abstract(name.to_vec()),
                (None, _) => Address::Unnamed,
            },
            Err(_) => Address::Unnamed,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Inet(address)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Address::Path(path.to_owned())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Address::Path(path)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix("unix:") {
            Some("") => Ok(Address::Unnamed),
            Some(name) => Ok(match name.strip_prefix('@') {
                Some(name) => Address::Abstract(name.as_bytes().to_vec()),
                None => Address::Path(PathBuf::from(name)),
            }),
            None => text.parse().map(Address::Inet).map_err(|_| Error::Address { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Path(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "unix:@{}", name.escape_ascii()),
            Address::Unnamed => f.write_str("unix:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/a/b.sock", "unix:@name", "unix:"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "localhost", "127.0.0.1", "1.2.3.4:99999", "/a/b.sock"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn the_system_gets_and_gives_the_same() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/a/b.sock", "unix:@name"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(Address::from_any(Some(address.to_any().unwrap())), address);
        }
        assert_eq!(Address::from_any(None), Address::Unnamed);
        assert!(Address::Path(PathBuf::from("x".repeat(200))).to_any().is_err());
    }
}
