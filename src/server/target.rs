//! What a path or a parameter of a query names.

use reactor::http::{Request, percent_decode, query_pairs};

use super::problem::Problem;
use crate::storage::{Folder, Name, NameError};

/// What the path of a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Object(Name),
    /// With a slash at the end, or nothing.
    Folder(Folder),
}

impl Target {
    /// Takes the part of a path behind its route, still percent-encoded.
    pub(crate) fn parse(encoded: &str) -> Result<Target, Problem> {
        let text = decode(encoded)?;
        match text.is_empty() || text.ends_with('/') {
            true => Folder::parse(&text).map(Target::Folder).map_err(|error| invalid(&text, error)),
            false => Name::parse(&text).map(Target::Object).map_err(|error| invalid(&text, error)),
        }
    }

    pub(crate) fn object(self) -> Result<Name, Problem> {
        match self {
            Target::Object(name) => Ok(name),
            Target::Folder(folder) => {
                let message = "the path ends with a slash, which names a folder: name an object";
                Err(Problem::new(400, "name_invalid", message).about(folder.prefix()))
            }
        }
    }
}

/// Takes a name that was decoded from whatever carried it.
pub(crate) fn name(text: &[u8]) -> Result<Name, Problem> {
    Name::parse_bytes(text).map_err(|error| invalid(&String::from_utf8_lossy(text), error))
}

pub(crate) fn invalid(text: &str, error: NameError) -> Problem {
    Problem::from(error).about(shown(text))
}

/// What is shown of a text that may be long.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn decode(encoded: &str) -> Result<String, Problem> {
    let bytes = percent_decode(encoded).ok_or_else(|| {
        let message = "a % is not followed by two hexadecimal digits: write %25 for the character itself";
        Problem::new(400, "name_invalid", message).about(shown(encoded))
    })?;
    String::from_utf8(bytes.into_owned())
        .map_err(|error| invalid(&String::from_utf8_lossy(error.as_bytes()), NameError::NotUtf8))
}

/// A parameter of the query, decoded; an empty text if it has no value.
pub(crate) fn parameter(request: &Request, name: &str) -> Result<Option<String>, Problem> {
    let mut values = query_pairs(request.query().unwrap_or_default()).filter(|(have, _)| *have == name);
    let Some((_, value)) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let message = format!("the parameter {name} stands there twice: send it once");
        return Err(Problem::new(400, "parameter_invalid", message));
    }
    // In a query `+` is a space, as forms send it.
    let spaced = value.replace('+', "%20");
    let bytes = percent_decode(&spaced).map(|bytes| bytes.into_owned());
    match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(text) => Ok(Some(text)),
        None => {
            let message =
                format!("the parameter {name} is not percent-encoded UTF-8: {}", value.escape_debug());
            Err(Problem::new(400, "parameter_invalid", message))
        }
    }
}

/// A parameter that is there or not; `?name=false` is as good as none.
pub(crate) fn flag(request: &Request, name: &str) -> Result<bool, Problem> {
    match parameter(request, name)?.as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(text) => {
            let message =
                format!("{name}={} is not known: write {name}, or {name}=false", text.escape_debug());
            Err(Problem::new(400, "parameter_invalid", message))
        }
    }
}

/// A parameter that is one of some words.
pub(crate) fn word<T: Copy>(
    request: &Request,
    name: &str,
    words: &[(&str, T)],
) -> Result<Option<T>, Problem> {
    let Some(text) = parameter(request, name)? else { return Ok(None) };
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let shown = |word: &&str| if word.is_empty() { "nothing".to_owned() } else { (*word).to_owned() };
            let allowed: Vec<String> = words.iter().map(|(word, _)| shown(word)).collect();
            let message =
                format!("{name}={} is not known: write {}", text.escape_debug(), allowed.join(" or "));
            Err(Problem::new(400, "parameter_invalid", message))
        }
    }
}

/// The path of an object or folder behind a route, percent-encoded.
pub(crate) fn path(route: &str, name: &str) -> String {
    let mut out = String::with_capacity(route.len() + name.len() + 8);
    out.push_str(route);
    out.extend(percent_encoding::utf8_percent_encode(name, IN_PATHS));
    out
}

/// What RFC 3986 lets stand in a path stays.
const IN_PATHS: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'(')
    .remove(b')')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_objects_and_folders() {
        let object = |text| Target::Object(Name::parse(text).unwrap());
        let folder = |text| Target::Folder(Folder::parse(text).unwrap());
        for (encoded, expected) in [
            ("a", object("a")),
            ("a%20b/%E6%A8%A1.bin", object("a b/模.bin")),
            ("a%2Fb", object("a/b")),
            ("%252e%252e", object("%2e%2e")),
            ("模", object("模")),
            ("", Target::Folder(Folder::root())),
            ("a/", folder("a")),
            ("a%2F", folder("a")),
        ] {
            assert_eq!(Target::parse(encoded).unwrap(), expected, "{encoded}");
        }
        for encoded in [
            "..", "%2e%2e/x", "a/../b", "/a", "a//b", "//", "/", "a%00b", "a%5cb", "%", "%f", "%zz", "%ff",
            "./",
        ] {
            assert_eq!(Target::parse(encoded).unwrap_err().status(), 400, "{encoded}");
        }
    }

    #[test]
    fn encoded_paths_come_back() {
        let name = "a b%#?\"'<>&+;[]{}|^`模🙂/~.x";
        let encoded = path("/files/", name);
        assert!(encoded.is_ascii());
        let Target::Object(back) = Target::parse(encoded.strip_prefix("/files/").unwrap()).unwrap() else {
            panic!("a folder")
        };
        assert_eq!(back.as_str(), name);
    }
}
