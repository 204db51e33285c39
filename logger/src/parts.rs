//! A finished line taken apart again, for sinks that pass its parts on.

use memchr::memmem;

/// The parts of a line of either layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parts<'a> {
    /// As RFC 3339 has it, with microseconds.
    pub(crate) stamp: &'a [u8],
    /// Escaped as in the line.
    pub(crate) target: &'a [u8],
    /// The source file and the line in it, as the layout writes them. The text of a record that does not say.
    pub(crate) place: &'a [u8],
    /// A text line behind its time stamp; the whole of a JSON line. Without the line end.
    pub(crate) rest: &'a [u8],
}

/// Levels are padded to this.
const LEVEL_WIDTH: usize = 5;

impl<'a> Parts<'a> {
    /// Takes a line apart that [`Layout`](crate::Layout) has written; which one, its first byte tells. `None` for a line
    /// that none has.
    pub(crate) fn of(line: &'a [u8]) -> Option<Parts<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.first() == Some(&b'{') {
            let (stamp, _) = split_at(line.strip_prefix(br#"{"time":""#)?, br#"""#)?;
            let (_, from_target) = split_at(line, br#","target":""#)?;
            let (target, from_thread) = split_at(from_target, br#"","thread":""#)?;
            let (_, behind) = split_at(from_thread, br#"","#)?;
            let place = split_at(behind, br#","message":""#).map_or(behind, |(place, _)| place);
            return Some(Parts { stamp, target, place, rest: line });
        }
        let (stamp, rest) = split_at(line, b" ")?;
        let (target, from_thread) = split_at(rest.get(LEVEL_WIDTH..)?.strip_prefix(b" [")?, b"] [")?;
        let (_, behind) = split_at(from_thread, b"] ")?;
        let place = split_at(behind, b" ").map_or(behind, |(word, _)| word);
        let place = if is_place(place) { place } else { behind };
        Some(Parts { stamp, target, place, rest })
    }
}

/// Whether this is `FILE:LINE`.
fn is_place(word: &[u8]) -> bool {
    let Some(at) = memchr::memrchr(b':', word) else { return false };
    at > 0 && at + 1 < word.len() && word[at + 1..].iter().all(u8::is_ascii_digit)
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memmem::find(bytes, separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Memory;
    use crate::{Layout, Level, Logger};

    #[test]
    fn a_line_of_each_layout() {
        for (layout, is_whole) in [(Layout::Text, false), (Layout::Json, true)] {
            let memory = Memory::new();
            let name = format!("parts {layout:?}");
            let logger = Logger::builder(&name).layout(layout).level(Level::Trace).sink(memory.clone());
            let logger = logger.build().unwrap();
            for level in Level::ALL {
                crate::log!(logger: logger, target: "storage::index", level, size = 1; "a [b] [c] \"d\"");
            }
            logger.shutdown();
            let text = memory.text();
            assert_eq!(text.lines().count(), 6);
            for line in text.lines() {
                let parts = Parts::of(line.as_bytes()).unwrap();
                assert_eq!(parts.target, b"storage::index");
                assert_eq!(parts.stamp.len(), "2026-09-12T14:03:55.123456Z".len());
                assert_eq!(parts.stamp.last(), Some(&b'Z'));
                let start = if is_whole { 0 } else { parts.stamp.len() + 1 };
                let place = String::from_utf8(parts.place.to_vec()).unwrap();
                match layout {
                    Layout::Json => {
                        assert!(place.starts_with("\"file\":\"logger/src/parts.rs\",\"line\":"), "{place}")
                    }
                    Layout::Text => assert!(place.starts_with("logger/src/parts.rs:"), "{place}"),
                }
                assert_eq!(parts.rest, &line.as_bytes()[start..]);
            }
        }
    }

    #[test]
    fn other_lines_have_no_parts() {
        for line in
            ["", "\n", "{", "{}", "x", "x y", "x ERROR", "x ERROR [", "x ERROR y] [z", "{\"time\":\"x\"}"]
        {
            assert_eq!(Parts::of(line.as_bytes()), None, "{line:?}");
        }
    }
}
