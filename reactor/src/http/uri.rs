//! Request targets: their four forms, and the authority that `Host` holds too.

use std::borrow::Cow;
use std::ops::Range;

/// Where the parts of a request target are, relative to its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// Empty for an absolute form without a path, which means `/`.
    pub(super) path: Range<u32>,
    pub(super) query: Option<Range<u32>>,
    /// Of an absolute or authority form.
    pub(super) authority: Option<Range<u32>>,
}

impl Target {
    /// Takes a target apart (RFC 9112, 3.2); `None` if it has no form that belongs to the method.
    pub(super) fn parse(method: &str, text: &str) -> Option<Target> {
        let bytes = text.as_bytes();
        let end = u32::try_from(bytes.len()).ok()?;
        if bytes.contains(&b'#') {
            return None;
        }
        if method == "CONNECT" {
            let has_port =
                bytes.iter().rposition(|&b| b == b':').is_some_and(|colon| colon + 1 < bytes.len());
            let authority = (has_port && is_authority(bytes)).then_some(0..end)?;
            return Some(Target { path: 0..end, query: None, authority: Some(authority) });
        }
        match bytes.first()? {
            b'/' => Some(Self::from_path(bytes, 0)),
            b'*' if bytes.len() == 1 && method == "OPTIONS" => {
                Some(Target { path: 0..1, ..Target::default() })
            }
            _ => Self::absolute(bytes),
        }
    }

    fn absolute(bytes: &[u8]) -> Option<Target> {
        let start = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| bytes.get(..scheme.len()).is_some_and(|have| have.eq_ignore_ascii_case(scheme)))?
            .len();
        let rest = &bytes[start..];
        let end = start + rest.iter().position(|b| b"/?".contains(b)).unwrap_or(rest.len());
        if end == start || !is_authority(&bytes[start..end]) {
            return None;
        }
        let mut target = Self::from_path(bytes, end);
        target.authority = Some(start as u32..end as u32);
        Some(target)
    }

    fn from_path(bytes: &[u8], start: usize) -> Target {
        let end = bytes.len() as u32;
        match memchr::memchr(b'?', &bytes[start..]) {
            Some(at) => {
                let mark = (start + at) as u32;
                Target { path: start as u32..mark, query: Some(mark + 1..end), authority: None }
            }
            None => Target { path: start as u32..end, query: None, authority: None },
        }
    }
}

/// Whether this is a host with an optional port (RFC 3986, 3.2.2 and 3.2.3), without user information.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = match bytes.strip_prefix(b"[") {
        Some(rest) => {
            let Some(close) = memchr::memchr(b']', rest) else { return false };
            let is_address = std::str::from_utf8(&rest[..close])
                .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            match (is_address, &rest[close + 1..]) {
                (true, []) => return true,
                (true, [b':', port @ ..]) => (&b""[..], port),
                _ => return false,
            }
        }
        None => match memchr::memchr(b':', bytes) {
            Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
            None => (bytes, &b""[..]),
        },
    };
    if bytes.first() != Some(&b'[') && (host.is_empty() || !is_name(host)) {
        return false;
    }
    // A port may be empty.
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit) && (port.is_empty() || is_port(port))
}

fn is_port(digits: &[u8]) -> bool {
    std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
}

fn is_name(host: &[u8]) -> bool {
    let mut rest = host;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (b'%', _) => return false,
            (b, tail) if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b) => tail,
            _ => return false,
        };
    }
    true
}

/// Decodes `%XX`, once. `None` if a `%` has no two digits behind it. A `+` stays.
///
/// The result is bytes: that they are text, and a name that may be used, is for the caller to check.
///
/// ```
/// use reactor::http::percent_decode;
///
/// assert_eq!(percent_decode("a%20b%2F").as_deref(), Some(&b"a b/"[..]));
/// assert_eq!(percent_decode("100%"), None);
/// ```
pub fn percent_decode(text: &str) -> Option<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Some(Cow::Borrowed(bytes));
    }
    let digit = |b: &u8| char::from(*b).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return Some(Cow::Owned(decoded)),
            [b'%', high, low, tail @ ..] => {
                decoded.push(digit(high)? << 4 | digit(low)?);
                tail
            }
            [b'%', ..] => return None,
            [b, tail @ ..] => {
                decoded.push(*b);
                tail
            }
        };
    }
}

/// The parameters of a query, `name=value` between `&`, as they stand; one without `=` has an empty value.
///
/// ```
/// use reactor::http::query_pairs;
///
/// assert_eq!(query_pairs("a=1&b&c=%20").collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("c", "%20")]);
/// ```
pub fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, text: &str) -> Option<(String, Option<String>, Option<String>)> {
        let part = |range: &Range<u32>| text[range.start as usize..range.end as usize].to_owned();
        let target = Target::parse(method, text)?;
        Some((part(&target.path), target.query.as_ref().map(part), target.authority.as_ref().map(part)))
    }

    #[test]
    fn the_four_forms() {
        let own = |path: &str, query: Option<&str>, authority: Option<&str>| {
            Some((path.to_owned(), query.map(str::to_owned), authority.map(str::to_owned)))
        };
        assert_eq!(parts("GET", "/"), own("/", None, None));
        assert_eq!(parts("GET", "/a%20b?c=d?e"), own("/a%20b", Some("c=d?e"), None));
        assert_eq!(parts("GET", "/?"), own("/", Some(""), None));
        assert_eq!(parts("GET", "http://h:1/a?b"), own("/a", Some("b"), Some("h:1")));
        assert_eq!(parts("GET", "HTTP://h"), own("", None, Some("h")));
        assert_eq!(parts("GET", "https://[::1]:8?q"), own("", Some("q"), Some("[::1]:8")));
        assert_eq!(parts("OPTIONS", "*"), own("*", None, None));
        assert_eq!(parts("CONNECT", "h:443"), own("h:443", None, Some("h:443")));
        for (method, text) in [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", ""),
            ("GET", "h:443"),
            ("GET", "/a#b"),
            ("GET", "http://"),
            ("GET", "http:///a"),
            ("GET", "http://u@h/"),
            ("GET", "ftp://h/"),
            ("OPTIONS", "*a"),
            ("CONNECT", "/"),
            ("CONNECT", "h"),
            ("CONNECT", "h:"),
        ] {
            assert_eq!(parts(method, text), None, "{method} {text}");
        }
    }

    #[test]
    fn hosts() {
        for host in ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:80", "a:", "a%20b", "xn--a_b", "a:65535"] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a b", "a:b", "a:65536", "a:1:2", "u@h", "a/b", "[::1", "[::1]x", "[x]", "::1", "a%2",
            "a%gg", "a,b c", "a\"", "\u{e4}", "a:-1", "a:+1",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn decoding() {
        for (text, bytes) in
            [("", Some(&b""[..])), ("%00%fF+", Some(b"\0\xff+")), ("%", None), ("%4", None), ("%4g", None)]
        {
            assert_eq!(percent_decode(text).as_deref(), bytes, "{text}");
        }
        assert_eq!(percent_decode("%252e").as_deref(), Some(&b"%2e"[..]), "once");
    }
}
