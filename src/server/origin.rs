//! Whether a request comes from a page of another site, as a browser tells.

use reactor::http::Headers;

/// Whether a browser sends this for a page that is not of this server: such a page must not change anything here, though
/// the browser can reach the server and the page cannot read the answer.
///
/// Programs that are no browsers send neither `Sec-Fetch-Site` nor `Origin`. Browsers send the first one to this machine
/// and over TLS only, the second one with everything that can change something.
pub(crate) fn is_foreign(headers: &Headers, host: Option<&str>) -> bool {
    let text = |name| headers.get(name).map(|value| std::str::from_utf8(value).unwrap_or_default());
    judge(text("sec-fetch-site"), text("origin"), host)
}

fn judge(site: Option<&str>, origin: Option<&str>, host: Option<&str>) -> bool {
    match (site, origin) {
        (Some(site), _) => !matches!(site, "same-origin" | "none"),
        (None, None) => false,
        (None, Some(origin)) => {
            // `null`, of a page in a sandbox, has no authority.
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            !authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_foreign() {
        for (site, origin, is_foreign) in [
            (None, None, false),
            (None, Some("http://a.example:8081"), false),
            (None, Some("HTTPS://A.Example:8081"), false),
            (None, Some("http://a.example"), true),
            (None, Some("http://b.example:8081"), true),
            (None, Some("http://a.example:8081.b.example"), true),
            (None, Some("a.example:8081"), true),
            (None, Some("null"), true),
            (None, Some(""), true),
            (Some("same-origin"), Some("http://a.example:8081"), false),
            // Behind a proxy the names differ, and the browser knows.
            (Some("same-origin"), Some("https://files.example"), false),
            (Some("none"), None, false),
            (Some("same-site"), Some("http://a.example:9"), true),
            (Some("cross-site"), Some("http://a.example:8081"), true),
            (Some("cross-site"), None, true),
            (Some(""), None, true),
        ] {
            assert_eq!(judge(site, origin, Some("a.example:8081")), is_foreign, "{site:?} {origin:?}");
        }
        assert!(judge(None, Some("http://a.example"), None));
    }
}
