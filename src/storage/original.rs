//! The list of objects that the original kept: a JSON array. No file.

use serde_json::Value;

use super::name::Name;

/// An entry of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    /// Where it said that the file is.
    pub(crate) path: String,
    /// Its last part, if that is a name.
    pub(crate) name: Option<Name>,
    /// Microseconds since 1970.
    pub(crate) accessed: i64,
}

/// Reads a list; None if it is none. Entries without a path are skipped.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<Listed>> {
    let Ok(Value::Array(entries)) = serde_json::from_slice(bytes) else { return None };
    let listed = entries.iter().filter_map(|entry| {
        let path = entry.get("storage_path_")?.as_str()?;
        let leaf = path.rsplit('/').next().unwrap_or(path);
        let accessed = entry.get("atime_").and_then(Value::as_i64).unwrap_or(0).saturating_mul(1_000_000);
        Some(Listed { path: path.to_owned(), name: Name::parse(leaf).ok(), accessed })
    });
    Some(listed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_anything_else_is_not() {
        let list =
            br#"[{"atime_":1700000000,"mtime_":1700000001,"fsize_":5,"storage_path_":"./low_storage/a b.txt",
            "url_":"/download/a b.txt"},{"storage_path_":"x/.."},{"url_":"/download/x"},7]"#;
        let listed = parse(list).unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].name.as_ref().unwrap().as_str(), "a b.txt");
        assert_eq!(listed[0].accessed, 1_700_000_000_000_000);
        assert_eq!(listed[1].name, None);
        assert_eq!(parse(b"[]").unwrap(), []);
        for other in [&b""[..], b"{}", b"[", b"redb", b"null"] {
            assert_eq!(parse(other), None);
        }
        for end in 0..list.len() {
            assert_eq!(parse(&list[..end]), None);
        }
    }
}
