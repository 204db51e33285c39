//! Which names a listing shows.

use std::sync::Arc;

/// A part of all names: those of some folders, and single ones. Listings pass over the rest without looking at it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// In their order, none within another: a prefix of names if it is empty or ends with a slash, else one name. None for
    /// all names.
    parts: Option<Arc<[String]>>,
}

/// What a listing does with a name.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Seek<'a> {
    /// It is in the scope.
    Here,
    /// It is not, nor any before this.
    At(&'a str),
    /// It is not, nor any behind it.
    End,
}

impl Scope {
    /// All names; the default.
    pub fn all() -> Scope {
        Scope::default()
    }

    /// The names below some paths: `a/` is what is below the folder, `a` also the object of that name; an empty path is
    /// everything. Without any, no name.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a str>) -> Scope {
        let mut parts = Vec::new();
        for path in paths {
            if path.is_empty() {
                return Scope::all();
            }
            parts.push(path.to_owned());
            if !path.ends_with('/') {
                parts.push(format!("{path}/"));
            }
        }
        parts.sort_unstable();
        // What is within a part follows it.
        parts.dedup_by(|part, kept| part == kept || (kept.ends_with('/') && part.starts_with(kept.as_str())));
        Scope { parts: Some(parts.into()) }
    }

    /// Whether it is all names.
    pub fn is_all(&self) -> bool {
        self.parts.is_none()
    }

    /// Whether a name is in it.
    pub fn has(&self, name: &str) -> bool {
        self.seek(name) == Seek::Here
    }

    pub(super) fn seek(&self, name: &str) -> Seek<'_> {
        let Some(parts) = &self.parts else { return Seek::Here };
        let behind = parts.partition_point(|part| part.as_str() <= name);
        let is_in = |part: &String| part == name || (part.ends_with('/') && name.starts_with(part.as_str()));
        if behind.checked_sub(1).and_then(|last| parts.get(last)).is_some_and(is_in) {
            return Seek::Here;
        }
        parts.get(behind).map_or(Seek::End, |part| Seek::At(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_parts_is_passed_over() {
        let scope = Scope::new(["b/c", "b/", "team", "x/y/", "team/old/"]);
        for (name, expected) in [
            ("a", Seek::At("b/")),
            ("b", Seek::At("b/")),
            ("b/", Seek::Here),
            ("b/c/d", Seek::Here),
            ("b0", Seek::At("team")),
            ("team", Seek::Here),
            ("team-x", Seek::At("team/")),
            ("team/x", Seek::Here),
            ("team/old/x", Seek::Here),
            ("team0", Seek::At("x/y/")),
            ("x/y", Seek::At("x/y/")),
            ("x/y/z", Seek::Here),
            ("x/z", Seek::End),
        ] {
            assert_eq!(scope.seek(name), expected, "{name}");
        }
        assert_eq!(Scope::new([]).seek("a"), Seek::End);
        assert!(Scope::new(["a", ""]).is_all() && Scope::all().has("a") && !scope.is_all());
    }
}
