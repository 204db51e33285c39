//! Names of objects and of folders. A [`Name`] that exists is safe: nothing behind it checks again.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Bytes that a name may have.
pub const MAX_NAME: usize = 1024;
/// Bytes that one segment may have: with `.gz` behind it, it still fits a file name of 255.
pub const MAX_SEGMENT: usize = 250;

/// Why a text is no name. The rules stand at [`Name`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It has no byte.
    #[error("the name is empty: give the object a name")]
    Empty,
    /// It is longer than [`MAX_NAME`].
    #[error("the name has {bytes} bytes: shorten it to {MAX_NAME}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// One segment is longer than [`MAX_SEGMENT`].
    #[error("a part of the name has {bytes} bytes: shorten each part between slashes to {MAX_SEGMENT}")]
    SegmentTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It begins or ends with a slash, or has two in a row.
    #[error("the name has an empty part: write one slash between parts, none in front and none behind")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("the name has a part `.` or `..`: write the path without them")]
    Dots,
    /// It holds a control character, NUL included.
    #[error("the name holds the control character {found:?}: take it out")]
    Control {
        /// The first one.
        found: char,
    },
    /// It holds a backslash.
    #[error("the name holds a backslash: write `/` between parts")]
    Backslash,
    /// It is not UTF-8.
    #[error("the name is not UTF-8: encode it so")]
    NotUtf8,
}

/// The name of an object: segments with `/` between them, as in `photos/2026/a.jpg`.
///
/// At most 1024 bytes of UTF-8 and 250 a segment; no empty, `.` or `..` segment, no control character, no backslash.
/// Nothing is decoded or folded: `%2e%2e` is a name like any other, and names that differ in a byte are two names.
///
/// ```
/// use cloudstore::storage::{Name, NameError};
///
/// assert_eq!(Name::parse("photos/a.jpg")?.as_str(), "photos/a.jpg");
/// assert_eq!(Name::parse("../etc/passwd"), Err(NameError::Dots));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Takes a text that is a name already, decoded from whatever carried it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong { bytes: text.len() });
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Name(text.into()))
    }

    /// As [`parse`](Self::parse), for bytes.
    ///
    /// # Errors
    /// [`NameError::NotUtf8`], or the rule that it breaks.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Name, NameError> {
        Name::parse(std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the last slash.
    pub fn leaf(&self) -> &str {
        self.split().1
    }

    /// The names that would have to be objects for this one to be impossible: `a` and `a/b` for `a/b/c`.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// The folder (empty for the top one) and the leaf.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A folder: the top one, or what stands in front of a slash of names. It exists as long as an object is below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Folder {
    /// Empty, or the folder's name and a slash.
    prefix: Arc<str>,
}

impl Folder {
    /// The top folder.
    pub fn root() -> Folder {
        Folder { prefix: "".into() }
    }

    /// Takes `photos/2026` or `photos/2026/`; an empty text is the top folder.
    ///
    /// # Errors
    /// The rule that it breaks; they are those of a [`Name`].
    pub fn parse(text: &str) -> Result<Folder, NameError> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Folder::root());
        }
        let name = Name::parse(bare)?;
        Ok(Folder { prefix: format!("{name}/").into() })
    }

    /// What the names of its objects begin with: empty, or ending in a slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// Its prefix, or a slash for the top one.
impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.prefix.is_empty() { "/" } else { &self.prefix })
    }
}

fn check_segment(segment: &str) -> Result<(), NameError> {
    match segment {
        "" => return Err(NameError::EmptySegment),
        "." | ".." => return Err(NameError::Dots),
        _ if segment.len() > MAX_SEGMENT => return Err(NameError::SegmentTooLong { bytes: segment.len() }),
        _ => (),
    }
    match segment.chars().find(|c| c.is_control() || *c == '\\') {
        Some('\\') => Err(NameError::Backslash),
        Some(found) => Err(NameError::Control { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_taken_as_they_are() {
        let segment = "x".repeat(MAX_SEGMENT);
        let longest = [&segment[..], &segment, &segment, &segment, &"y".repeat(20)].join("/");
        assert_eq!(longest.len(), MAX_NAME);
        for text in [
            "a",
            "a.b",
            "...",
            "..a",
            ".hidden",
            "a/b/c",
            "%2e%2e/x",
            "~",
            "-rf",
            " ",
            "名前/😀",
            "a:b",
            "C:",
        ] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Name::parse(&longest).unwrap().as_str(), longest);
    }

    #[test]
    fn every_rule_is_kept() {
        use NameError::*;
        let cases: [(&str, NameError); 20] = [
            ("", Empty),
            ("/", EmptySegment),
            ("/a", EmptySegment),
            ("a/", EmptySegment),
            ("a//b", EmptySegment),
            (".", Dots),
            ("..", Dots),
            ("../a", Dots),
            ("a/..", Dots),
            ("a/../b", Dots),
            ("a/./b", Dots),
            ("/../a", EmptySegment),
            ("..\\a", Backslash),
            ("a\\b", Backslash),
            ("a\0", Control { found: '\0' }),
            ("a\0/../b", Control { found: '\0' }),
            ("a\nb", Control { found: '\n' }),
            ("\u{7f}", Control { found: '\u{7f}' }),
            ("a\u{85}", Control { found: '\u{85}' }),
            ("a/\t", Control { found: '\t' }),
        ];
        for (text, error) in cases {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Name::parse(&"a".repeat(251)), Err(SegmentTooLong { bytes: 251 }));
        assert_eq!(Name::parse(&"a/".repeat(513)), Err(TooLong { bytes: 1026 }));
        for overlong in [&b"\xc0\xae\xc0\xae/a"[..], b"\xff", b"a\xe0\x80\xaf"] {
            assert_eq!(Name::parse_bytes(overlong), Err(NotUtf8));
        }
    }

    #[test]
    fn folders_end_in_one_slash() {
        for (text, prefix) in [("", ""), ("a", "a/"), ("a/", "a/"), ("a/b", "a/b/")] {
            assert_eq!(Folder::parse(text).unwrap().prefix(), prefix);
        }
        for text in ["/", "a//", "../", "..", "/a"] {
            assert!(Folder::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ancestors_are_the_folders_above() {
        let name = Name::parse("a/b/c").unwrap();
        assert_eq!(name.ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(name.split(), ("a/b", "c"));
        assert_eq!(Name::parse("a").unwrap().split(), ("", "a"));
    }

    proptest! {
        /// Whatever passes stays below the folder that it is joined to.
        #[test]
        fn a_name_never_leaves_its_folder(text in "([./\\\\a%\0]|\\PC){0,12}") {
            if let Ok(name) = Name::parse(&text) {
                let mut depth = 0;
                for part in std::path::Path::new("root").join(name.as_str()).components() {
                    prop_assert!(matches!(part, std::path::Component::Normal(_)));
                    depth += 1;
                }
                prop_assert_eq!(depth, 2 + name.ancestors().count());
            }
        }
    }
}
