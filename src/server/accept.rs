//! What a client would rather have: `Accept-Encoding`, `Accept` and `Accept-Language` (RFC 9110, section 12.5).

use reactor::http::Headers;

/// In which language people are spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// Whether to send the packed form, with `Content-Encoding: gzip`: the client takes it, and does not say that it likes the
/// content as it is better. A client that says nothing gets the content as it is.
pub fn prefers_gzip(headers: &Headers) -> bool {
    is_gzip_preferred(headers.all("accept-encoding"))
}

fn is_gzip_preferred<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for (coding, weight) in weighted(lines) {
        let is = |known: &str| coding.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            gzip = gzip.max(Some(weight));
        } else if is("identity") {
            identity = identity.max(Some(weight));
        } else if is("*") {
            any = any.max(Some(weight));
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    // Always acceptable unless it is excluded, but nobody asks for it by not naming it.
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Whether a person's browser asks, and not a program: HTML is wanted more than JSON. A client that says nothing, or that
/// both are alike, gets JSON.
pub fn prefers_html(headers: &Headers) -> bool {
    is_html_preferred(headers.all("accept"))
}

fn is_html_preferred<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut html, mut json) = ([None; 3], [None; 3]);
    for (range, weight) in weighted(lines) {
        let is = |known: &str| range.eq_ignore_ascii_case(known.as_bytes());
        let note = |weights: &mut [Option<u16>; 3], at: usize| weights[at] = weights[at].max(Some(weight));
        if is("text/html") {
            note(&mut html, 0);
        } else if is("application/json") {
            note(&mut json, 0);
        } else if is("text/*") {
            note(&mut html, 1);
        } else if is("application/*") {
            note(&mut json, 1);
        } else if is("*/*") {
            note(&mut html, 2);
            note(&mut json, 2);
        }
    }
    // The most specific range counts, whatever a wider one says.
    let weight = |weights: [Option<u16>; 3]| weights.into_iter().flatten().next().unwrap_or(0);
    weight(html) > weight(json)
}

/// The language that the client likes best of those that there are: Chinese for `zh` and whatever begins with it, else
/// English.
pub fn language(headers: &Headers) -> Language {
    best_language(headers.all("accept-language"))
}

fn best_language<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Language {
    let mut best = (0, Language::En);
    for (range, weight) in weighted(lines) {
        let primary = range.split(|&byte| byte == b'-').next().unwrap_or_default();
        let language = match primary {
            _ if primary.eq_ignore_ascii_case(b"zh") => Language::Zh,
            _ if primary.eq_ignore_ascii_case(b"en") => Language::En,
            b"*" => Language::En,
            _ => continue,
        };
        // Of equal ones the first, as browsers list them.
        if weight > best.0 {
            best = (weight, language);
        }
    }
    best.1
}

/// The members of a list with their weights in thousandths, 1000 if none is given. Parameters are left out, and members
/// whose weight is malformed.
fn weighted<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a [u8], u16)> {
    lines.flat_map(|line| split(line, b',')).filter_map(|member| {
        let mut parts = split(member, b';');
        let name = parts.next()?;
        let mut weight = 1000;
        for parameter in parts {
            let mut halves = parameter.splitn(2, |&byte| byte == b'=');
            if halves.next().is_some_and(|key| key.eq_ignore_ascii_case(b"q")) {
                weight = parse_weight(halves.next()?)?;
                break;
            }
        }
        (!name.is_empty()).then_some((name, weight))
    })
}

/// The parts of a value between separators that are not in quotes, trimmed.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return byte == separator && !is_quoted,
        }
        false
    });
    parts.map(<[u8]>::trim_ascii)
}

/// `0`, `1` or a fraction between them with at most three digits.
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] => (whole, fraction),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    let thousandths = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
        lines.iter().map(|line| line.as_bytes())
    }

    #[test]
    fn who_gets_gzip() {
        for yes in [
            &["gzip"][..],
            &["gzip, deflate, br"],
            &["deflate", "GZIP"],
            &["x-gzip"],
            &["*"],
            &["gzip;q=0.001"],
            &["gzip ; Q=1.000 , br;q=0.1"],
            &["br, *;q=0.5"],
            &["gzip;q=0.5, *;q=0"],
            &["identity;q=0.5, gzip;q=1.0, *;q=0"],
            &["identity, gzip"],
            &["identity;q=0, gzip;q=0.1"],
            &["gzip;x=1;q=0.3"],
            &["gzip;q=0, gzip;q=1"],
        ] {
            assert!(is_gzip_preferred(lines(yes)), "{yes:?}");
        }
        for no in [
            &[][..],
            &[""],
            &["identity"],
            &["deflate, br"],
            &["gzip;q=0"],
            &["gzip;q=0.000"],
            &["*;q=0"],
            &["gzip;q=0, *"],
            &["identity;q=1, *;q=0"],
            &["identity, gzip;q=0.9"],
            &["gzip;q=2"],
            &["gzip;q="],
            &["gzip;q"],
            &["gzip;q=0.1234"],
            &["gzip;q=-1"],
            &["gzip;q=x"],
            &["gzip;q=1.001"],
            &["\"gzip\""],
            &["gzipped"],
            &[";q=1"],
        ] {
            assert!(!is_gzip_preferred(lines(no)), "{no:?}");
        }
    }

    #[test]
    fn who_gets_html() {
        for yes in [
            &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"][..],
            &["text/html"],
            &["TEXT/HTML;charset=utf-8"],
            &["text/*"],
            &["application/json;q=0.5, text/html;q=0.6"],
            &["*/*;q=0.1", "text/html;q=0.2"],
            &["*/*, application/json;q=0.9"],
            &["text/html;level=\"1,2;q=0\", application/json;q=0.9"],
        ] {
            assert!(is_html_preferred(lines(yes)), "{yes:?}");
        }
        for no in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/json"],
            &["text/html, application/json"],
            &["text/html;q=0, */*"],
            &["text/html;q=0.5, */*"],
            &["text/*, text/html;q=0"],
            &["text/plain"],
            &["application/json, text/html;q=0.9"],
            &["html"],
        ] {
            assert!(!is_html_preferred(lines(no)), "{no:?}");
        }
    }

    #[test]
    fn who_reads_chinese() {
        for yes in [
            &["zh"][..],
            &["zh-CN,zh;q=0.9,en;q=0.8"],
            &["ZH-hant-TW"],
            &["en;q=0.5, zh;q=0.6"],
            &["fr, zh;q=0.1"],
            &["en;q=0, zh;q=0.1"],
            &["zh, en"],
        ] {
            assert_eq!(best_language(lines(yes)), Language::Zh, "{yes:?}");
        }
        for no in [
            &[][..],
            &[""],
            &["en"],
            &["en-GB,en;q=0.9,zh;q=0.8"],
            &["fr"],
            &["*"],
            &["zh;q=0"],
            &["zhx"],
            &["en, zh"],
            &["*, zh;q=0.5"],
        ] {
            assert_eq!(best_language(lines(no)), Language::En, "{no:?}");
        }
    }

    #[test]
    fn nothing_is_asked_for() {
        let headers = Headers::default();
        assert!(!prefers_gzip(&headers) && !prefers_html(&headers));
        assert_eq!(language(&headers), Language::En);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            let lines = || [&line[..]].into_iter();
            for (name, weight) in weighted(lines()) {
                prop_assert!(!name.is_empty() && weight <= 1000);
            }
            let _ = (is_gzip_preferred(lines()), is_html_preferred(lines()), best_language(lines()));
        }
    }
}
