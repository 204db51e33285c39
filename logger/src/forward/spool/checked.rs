//! Small text files with a checksum.

/// Adds the line that says the checksum of `text`, whose lines are all ended.
pub(crate) fn seal(text: &str) -> String {
    format!("{text}crc32 {:08x}\n", crc32fast::hash(text.as_bytes()))
}

/// What was sealed, if nothing has changed.
pub(crate) fn unseal(sealed: &[u8]) -> Option<&str> {
    let sealed = std::str::from_utf8(sealed).ok()?;
    let text = &sealed[..sealed.rfind("crc32 ")?];
    (seal(text) == sealed).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_shows() {
        let sealed = seal("one\ntwo\n").into_bytes();
        assert_eq!(unseal(&sealed), Some("one\ntwo\n"));
        for at in 0..sealed.len() {
            assert_eq!(unseal(&sealed[..at]), None);
            for mask in 1..=255 {
                let mut changed = sealed.clone();
                changed[at] ^= mask;
                assert_eq!(unseal(&changed), None);
            }
        }
        assert_eq!(unseal(b""), None);
    }
}
