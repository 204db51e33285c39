//! Paths compared by their words: nothing is looked up on the disk, and links are not followed.

use std::path::{Component, Path, PathBuf};

/// From the root, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    // An empty path has no absolute form, and means this folder where one is joined to it.
    let path = if path == Path::new("") { Path::new(".") } else { path };
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => (),
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}

/// Whether both are one place.
pub(super) fn same_place(a: &Path, b: &Path) -> bool {
    plain(a) == plain(b)
}

/// Whether a path is this place, or in it.
pub(super) fn is_within(path: &Path, place: &Path) -> bool {
    plain(path).starts_with(plain(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_their_words() {
        let same = |a: &str, b: &str| same_place(Path::new(a), Path::new(b));
        assert!(same("a/b", "./a//b/") && same("a/../b", "b") && same(".", "") && same("/..", "/"));
        assert!(!same("a", "b") && !same("a", "/a"));
        let within = |a: &str, b: &str| is_within(Path::new(a), Path::new(b));
        assert!(within("a/b", "a") && within("./a", "a/") && within("a/c/../b", "a"));
        assert!(!within("a/../b", "a") && !within("ab", "a") && !within("a", "a/b"));
    }
}
