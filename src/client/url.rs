//! Where a server is, as people write it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use reactor::Address;

/// Where a server is: `http://HOST:PORT`, `HOST:PORT`, `unix:/path` or `unix:@name`.
///
/// A path behind an `http://` URL stands before that of each request, for a server behind a proxy.
///
/// ```
/// use cloudstore::client::ServerUrl;
///
/// let url: ServerUrl = "http://nas.lan/cloud/".parse()?;
/// assert_eq!((url.to_string().as_str(), url.host()), ("http://nas.lan/cloud", "nas.lan"));
/// # Ok::<(), cloudstore::client::UrlError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    place: Place,
    /// Begins with a slash and does not end with one, or is empty.
    prefix: String,
    /// Who says so; empty if it is who asks.
    origin: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp {
        /// Without the brackets of an IPv6 address.
        name: String,
        port: u16,
        /// As `Host` has it.
        authority: String,
    },
    Socket(Address),
}

/// Why a text says not where a server is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no server: {why}; write it as in http://127.0.0.1:8081 or unix:/path")]
pub struct UrlError {
    text: String,
    why: &'static str,
}

impl ServerUrl {
    /// The server that listens there, as a program on the same machine reaches it; none if the port is still to be chosen.
    pub fn of_listener(listen: &Address) -> Option<ServerUrl> {
        let place = match listen {
            Address::Inet(address) if address.port() == 0 => return None,
            Address::Inet(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                let authority = SocketAddr::new(ip, address.port()).to_string();
                Place::Tcp { name: ip.to_string(), port: address.port(), authority }
            }
            Address::Unnamed => return None,
            address => Place::Socket(address.clone()),
        };
        Some(ServerUrl { place, prefix: String::new(), origin: String::new() })
    }

    /// The same, with who says so, which messages of a server that is not there tell.
    pub fn said_by(self, origin: impl Into<String>) -> ServerUrl {
        ServerUrl { origin: origin.into(), ..self }
    }

    /// For messages.
    pub(super) fn told(&self) -> String {
        match self.origin.is_empty() {
            true => self.to_string(),
            false => format!("{self} (from {})", self.origin),
        }
    }

    /// What `Host` says.
    pub fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { authority, .. } => authority,
            Place::Socket(_) => "localhost",
        }
    }

    /// The target of a request for this path, which begins with a slash.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Looks up where that is, which may block; each place once, in the order in which they are to be tried.
    ///
    /// # Errors
    /// What the system's resolver says; a name without an address is an error too.
    pub fn resolve(&self) -> io::Result<Vec<Address>> {
        let (name, port) = match &self.place {
            Place::Tcp { name, port, .. } => (name, port),
            Place::Socket(address) => return Ok(vec![address.clone()]),
        };
        let mut places: Vec<SocketAddr> = Vec::new();
        for place in (name.as_str(), *port).to_socket_addrs()? {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(places.into_iter().map(Address::Inet).collect())
    }
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<ServerUrl, UrlError> {
        parse(text).map_err(|why| UrlError { text: without_user(text), why })
    }
}

/// What may be shown of it: who wrote a password into it has not meant it for a log.
fn without_user(text: &str) -> String {
    let begin = text.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = text.split_at(begin);
    let end = rest.find('/').unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) if !text.starts_with("unix:") => format!("{scheme}\u{2026}{}", &rest[at..]),
        _ => text.to_owned(),
    }
}

fn parse(text: &str) -> Result<ServerUrl, &'static str> {
    if text.starts_with("unix:") {
        return match text.parse() {
            Ok(address @ (Address::Path(_) | Address::Abstract(_))) => {
                Ok(ServerUrl { place: Place::Socket(address), prefix: String::new(), origin: String::new() })
            }
            _ => Err("behind unix: stands a path, or @ and a name"),
        };
    }
    let (rest, default_port) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, Some(80)),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err("TLS is not spoken here: take http, over a tunnel if others could listen");
        }
        Some(_) => return Err("the scheme is not known"),
        None => (text, None),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err("a user stands in it");
    }
    if rest.contains(['?', '#']) {
        return Err("nothing stands behind the path");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path has characters that must be percent-encoded");
    }
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
            name.parse::<Ipv6Addr>().map_err(|_| "between the brackets is no IPv6 address")?;
            (name, rest)
        }
        None => {
            let (name, port) = authority.find(':').map_or((authority, ""), |at| authority.split_at(at));
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err("the host is no name and no address");
            }
            (name, port)
        }
    };
    let port = match (port, default_port) {
        ("", Some(port)) => port,
        ("", None) => return Err("the port is missing"),
        (port, _) => match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|&port| port != 0).ok_or("the port is none from 1 to 65535")?
            }
            _ => return Err("the port is none from 1 to 65535"),
        },
    };
    let place = Place::Tcp { name: name.to_owned(), port, authority: authority.to_owned() };
    Ok(ServerUrl { place, prefix: path.trim_end_matches('/').to_owned(), origin: String::new() })
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { authority, .. } => write!(f, "http://{authority}{}", self.prefix),
            Place::Socket(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_shown() {
        for (text, name, port, shown) in [
            ("http://127.0.0.1:8081", "127.0.0.1", 8081, "http://127.0.0.1:8081"),
            ("HTTP://nas.lan", "nas.lan", 80, "http://nas.lan"),
            ("http://nas_1:81/", "nas_1", 81, "http://nas_1:81"),
            ("http://nas/a/b%20c//", "nas", 80, "http://nas/a/b%20c"),
            ("localhost:8081", "localhost", 8081, "http://localhost:8081"),
            ("[::1]:81", "::1", 81, "http://[::1]:81"),
            ("http://[::1]", "::1", 80, "http://[::1]"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            let Place::Tcp { name: read, port: at, .. } = &url.place else { panic!("{text}") };
            assert_eq!((read.as_str(), *at), (name, port), "{text}");
            assert_eq!(shown.parse(), Ok(url));
        }
        let url: ServerUrl = "http://nas/a/".parse().unwrap();
        assert_eq!((url.target("/index"), url.host()), ("/a/index".to_owned(), "nas"));
        let url: ServerUrl = "unix:/run/c.sock".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.host()), ("unix:/run/c.sock", "localhost"));
        assert_eq!(url.resolve().unwrap(), ["unix:/run/c.sock".parse().unwrap()]);
    }

    #[test]
    fn what_is_no_server_is_said_to_be_none() {
        for (text, why) in [
            ("", "no name"),
            ("nas", "the port is missing"),
            ("http://", "no name"),
            ("http://:81", "no name"),
            ("http://a b", "no name"),
            ("http://a:0", "the port"),
            ("http://a:", "the port"),
            ("http://a:65536", "the port"),
            ("http://a:+1", "the port"),
            ("http://[::1", "bracket"),
            ("http://[x]", "IPv6"),
            ("http://[::1]x", "the port"),
            ("http://u:p@a", "a user"),
            ("http://a?b", "behind the path"),
            ("http://a/b#c", "behind the path"),
            ("http://a/b c", "percent-encoded"),
            ("https://a", "TLS"),
            ("ftp://a", "scheme"),
            ("unix:", "behind unix:"),
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.ends_with("write it as in http://127.0.0.1:8081 or unix:/path"));
        }
    }

    #[test]
    fn a_password_in_it_is_not_shown() {
        for text in ["http://u:secret@a", "u:secret@a:81", "http://u:se@cret@a/x", "https://u:secret@a"] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("cret") && shown.contains("@a"), "{shown}");
        }
        assert!("unix:".parse::<ServerUrl>().unwrap_err().to_string().starts_with("\"unix:\""));
    }

    #[test]
    fn a_listener_is_reached_on_this_machine() {
        for (listen, url) in [
            ("127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("0.0.0.0:8081", "http://127.0.0.1:8081"),
            ("[::]:81", "http://[::1]:81"),
            ("10.0.0.1:80", "http://10.0.0.1:80"),
            ("unix:@name", "unix:@name"),
        ] {
            assert_eq!(ServerUrl::of_listener(&listen.parse().unwrap()).unwrap().to_string(), url);
        }
        assert_eq!(ServerUrl::of_listener(&"127.0.0.1:0".parse().unwrap()), None);
    }
}
