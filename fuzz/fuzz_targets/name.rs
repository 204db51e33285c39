//! Names from any bytes: what is taken stays below the folder that it is joined to, and follows each rule.

#![no_main]

use std::path::{Component, Path};

use cloudstore::storage::{Folder, MAX_NAME, MAX_SEGMENT, Name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = std::str::from_utf8(bytes).ok();
    let name = Name::parse_bytes(bytes);
    assert_eq!(name.is_ok(), text.is_some_and(is_name), "{text:?}");
    let Some(text) = text else { return };
    assert_eq!(Name::parse(text), name);

    let folder = Folder::parse(text);
    let bare = text.strip_suffix('/').unwrap_or(text);
    assert_eq!(folder.is_ok(), text.is_empty() || is_name(bare), "{text:?}");
    if let Ok(folder) = folder {
        assert!(folder.prefix().is_empty() || folder.prefix().strip_suffix('/') == Some(bare));
    }

    let Ok(name) = name else { return };
    assert_eq!(name.as_str(), text);
    assert_eq!(name.leaf(), text.rsplit('/').next().unwrap_or_default());
    let mut parts = Path::new("root").join(text);
    for segment in text.split('/').rev() {
        let last = parts.components().next_back();
        assert_eq!(last, Some(Component::Normal(segment.as_ref())), "{text:?}");
        assert!(parts.pop());
    }
    assert_eq!(parts, Path::new("root"));
});

fn is_name(text: &str) -> bool {
    let is_segment = |segment: &str| !["", ".", ".."].contains(&segment) && segment.len() <= MAX_SEGMENT;
    text.len() <= MAX_NAME
        && text.split('/').all(is_segment)
        && !text.chars().any(|c| c.is_control() || c == '\\')
}
