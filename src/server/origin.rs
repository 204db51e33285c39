//! Which pages of a browser may ask, and for which names. Pure.
//!
//! A browser lets any page send requests to any server, with whatever that server takes for its user's. So:
//!
//! - A request that changes something is refused if its `Origin` or `Sec-Fetch-Site` says that a page of another origin has
//!   made it. Programs that are no browsers send neither, and pass.
//! - What is read is given out, but the browser keeps it from such a page, unless the answer grants it (CORS).
//! - A page whose own name was made to point at this server is of its origin, for the browser (DNS rebinding). The name
//!   tells: if the names of the server are known, requests for others are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is decided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// In lower case, without a default port.
    origins: Vec<String>,
    is_for_all: bool,
    /// In lower case; None for any.
    hosts: Option<Vec<String>>,
}

/// What is asked, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// It is more than to read.
    pub(crate) is_change: bool,
    /// Host and port that it is for.
    pub(crate) host: Option<&'a str>,
    /// `Origin`.
    pub(crate) origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub(crate) site: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done. If a page of another origin has asked, its browser does not show it the answer.
    Pass,
    /// It is done, and the page that has asked may see the answer.
    Grant,
    /// It is not done: a page of another origin would change something.
    Foreign,
    /// It is not done: it is for a name that is none of the server's.
    Misdirected,
}

impl Policy {
    /// For these origins, `*` among them for all; and these names besides IP addresses and `localhost`, or any.
    pub(crate) fn new(origins: &[String], hosts: Option<&[String]>) -> Policy {
        Policy {
            origins: origins.iter().filter(|origin| *origin != "*").cloned().collect(),
            is_for_all: origins.iter().any(|origin| origin == "*"),
            hosts: hosts.map(<[String]>::to_vec),
        }
    }

    /// Whether answers differ by the origin that asks.
    pub(crate) fn varies(&self) -> bool {
        !self.origins.is_empty() && !self.is_for_all
    }

    /// Whether any origin is granted anything.
    pub(crate) fn grants_any(&self) -> bool {
        self.is_for_all || !self.origins.is_empty()
    }

    /// What `Access-Control-Allow-Origin` says to an origin that is granted.
    pub(crate) fn allowed<'a>(&self, origin: &'a str) -> &'a str {
        if self.is_for_all { "*" } else { origin }
    }

    pub(crate) fn judge(&self, ask: Ask<'_>) -> Verdict {
        if !self.is_for_us(ask.host) {
            return Verdict::Misdirected;
        }
        let is_granted = |origin: &str| self.is_for_all || self.origins.iter().any(|have| have == origin);
        if ask.origin.is_some_and(is_granted) {
            return Verdict::Grant;
        }
        let is_ours = match (ask.site, ask.origin) {
            _ if !ask.is_change => true,
            // No page can set it; `none` is for what the user has typed.
            (Some(site), _) => matches!(site, "same-origin" | "none"),
            // Browsers send it over TLS and to this machine alone.
            (None, Some(origin)) => ask.host.is_some_and(|host| is_origin_of(origin, host)),
            (None, None) => true,
        };
        if is_ours { Verdict::Pass } else { Verdict::Foreign }
    }

    /// A client that does not say whom it asks is no browser.
    fn is_for_us(&self, host: Option<&str>) -> bool {
        let (Some(hosts), Some(host)) = (&self.hosts, host) else { return true };
        let (name, _) = split_port(host);
        if is_address(name) {
            return true;
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || hosts.contains(&name)
    }
}

/// An address has no name that could be made to point at it.
fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// The host, and what stands behind its colon.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether a page of this origin came from this host. Its scheme is not looked at: TLS may end before the server.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let whole = |authority| {
        let (host, port) = split_port(authority);
        (host, port.filter(|port| !port.is_empty()).unwrap_or(default))
    };
    let ((theirs, their_port), (ours, our_port)) = (whole(authority), whole(host));
    theirs.eq_ignore_ascii_case(ours) && their_port == our_port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str], hosts: Option<&[&str]>) -> Policy {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Policy::new(&owned(origins), hosts.map(owned).as_deref())
    }

    const CHANGE: Ask<'_> = Ask { is_change: true, host: Some("a:81"), origin: None, site: None };
    const READ: Ask<'_> = Ask { is_change: false, ..CHANGE };

    #[test]
    fn only_own_pages_and_programs_change_something() {
        let policy = policy(&[], None);
        for (host, origin, site, expected) in [
            ("a:81", None, None, Verdict::Pass),
            ("a:81", Some("http://a:81"), None, Verdict::Pass),
            ("a:81", Some("https://a:81"), None, Verdict::Pass),
            ("A:81", Some("http://a:81"), None, Verdict::Pass),
            ("a", Some("http://a"), None, Verdict::Pass),
            ("a:80", Some("http://a"), None, Verdict::Pass),
            ("a:", Some("http://a"), None, Verdict::Pass),
            ("a:443", Some("https://a"), None, Verdict::Pass),
            ("a", Some("https://a"), None, Verdict::Pass),
            ("[::1]:81", Some("http://[::1]:81"), None, Verdict::Pass),
            ("[::1]", Some("http://[::1]"), None, Verdict::Pass),
            ("[::1]", Some("http://[::2]"), None, Verdict::Foreign),
            ("a:81", Some("http://a"), None, Verdict::Foreign),
            ("a:81", Some("http://a:3000"), None, Verdict::Foreign),
            ("a:443", Some("http://a"), None, Verdict::Foreign),
            ("a:81", Some("http://b:81"), None, Verdict::Foreign),
            ("a:81", Some("http://x.a:81"), None, Verdict::Foreign),
            ("a:81", Some("null"), None, Verdict::Foreign),
            ("a:81", Some(""), None, Verdict::Foreign),
            ("a:81", Some("ftp://a:81"), None, Verdict::Foreign),
            ("a:81", None, Some("same-origin"), Verdict::Pass),
            ("a:81", None, Some("none"), Verdict::Pass),
            ("a:81", None, Some("cross-site"), Verdict::Foreign),
            ("a:81", None, Some("same-site"), Verdict::Foreign),
            ("a:81", None, Some("what comes next"), Verdict::Foreign),
            ("a:81", Some("http://a:81"), Some("cross-site"), Verdict::Foreign),
            // A page that says not where it came from, to its own server.
            ("a:81", Some("null"), Some("same-origin"), Verdict::Pass),
        ] {
            let ask = Ask { host: Some(host), origin, site, ..CHANGE };
            assert_eq!(policy.judge(ask), expected, "{ask:?}");
            assert_eq!(policy.judge(Ask { is_change: false, ..ask }), Verdict::Pass, "{ask:?}");
        }
        assert_eq!(policy.judge(Ask { host: None, origin: Some("http://a"), ..CHANGE }), Verdict::Foreign);
    }

    #[test]
    fn configured_origins_may_all() {
        let some = policy(&["https://b", "http://c:3000"], None);
        for ask in [CHANGE, READ] {
            for (origin, expected) in [
                ("https://b", Verdict::Grant),
                ("http://c:3000", Verdict::Grant),
                ("http://a:81", Verdict::Pass),
            ] {
                assert_eq!(some.judge(Ask { origin: Some(origin), ..ask }), expected, "{origin}");
            }
            let cross = Ask { origin: Some("https://b"), site: Some("cross-site"), ..ask };
            assert_eq!(some.judge(cross), Verdict::Grant);
        }
        for origin in ["http://b", "https://b:444", "https://b.x", "null"] {
            assert_eq!(some.judge(Ask { origin: Some(origin), ..CHANGE }), Verdict::Foreign, "{origin}");
            assert_eq!(some.judge(Ask { origin: Some(origin), ..READ }), Verdict::Pass, "{origin}");
        }
        assert_eq!(some.allowed("https://b"), "https://b");
        assert!(some.varies() && some.grants_any());

        let all = policy(&["https://b", "*"], None);
        for origin in ["https://b", "http://x", "null"] {
            assert_eq!(all.judge(Ask { origin: Some(origin), ..CHANGE }), Verdict::Grant, "{origin}");
            assert_eq!(all.allowed(origin), "*");
        }
        // It says not which page it is of.
        assert_eq!(all.judge(Ask { site: Some("cross-site"), ..CHANGE }), Verdict::Foreign);
        assert!(!all.varies() && all.grants_any());
        assert!(!policy(&[], None).varies() && !policy(&[], None).grants_any());
    }

    #[test]
    fn names_that_are_not_the_server_s_are_refused() {
        let known = policy(&["http://evil"], Some(&["nas.lan"]));
        for host in [
            "127.0.0.1",
            "127.0.0.1:8081",
            "10.0.0.1:1",
            "[::1]:8081",
            "[::1]",
            "localhost",
            "localhost:8081",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost:1",
            "nas.lan",
            "NAS.lan.:80",
        ] {
            assert_eq!(known.judge(Ask { host: Some(host), ..READ }), Verdict::Pass, "{host}");
        }
        for host in [
            "evil",
            "evil:8081",
            "127.0.0.1.evil",
            "127.0.0.1.evil:80",
            "localhost.evil",
            "notlocalhost",
            "",
            "nas",
            "x.nas.lan",
            "0x7f.1",
            "::1",
            "[::1].evil",
        ] {
            let ask = Ask { host: Some(host), origin: Some("http://evil"), ..READ };
            assert_eq!(known.judge(ask), Verdict::Misdirected, "{host}");
        }
        assert_eq!(known.judge(Ask { host: None, ..READ }), Verdict::Pass);
        assert_eq!(policy(&[], Some(&[])).judge(Ask { host: Some("nas.lan"), ..READ }), Verdict::Misdirected);
        assert_eq!(policy(&[], None).judge(Ask { host: Some("evil"), ..READ }), Verdict::Pass);
    }
}
