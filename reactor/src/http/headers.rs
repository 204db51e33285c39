//! Header fields as places in the bytes of one head.

use std::fmt;
use std::ops::Range;

/// The header fields of a message that was received, in their order.
///
/// Names are compared without regard to case. Values come without the white space around them.
#[derive(Clone, Default)]
pub struct Headers {
    /// The whole head.
    pub(super) bytes: Vec<u8>,
    pub(super) fields: Vec<Field>,
}

#[derive(Clone)]
pub(super) struct Field {
    pub(super) name: Range<u32>,
    pub(super) value: Range<u32>,
}

impl Headers {
    /// The value of the first field of this name. Fields that may be repeated are in [`all`](Self::all).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first field of this name, if it is text; `None` also for one that is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The values of all fields of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Every field, name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.str(&field.name), self.slice(&field.value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    pub(super) fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.bytes.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// Text that was checked when the head was parsed.
    pub(super) fn str(&self, range: &Range<u32>) -> &str {
        std::str::from_utf8(self.slice(range)).unwrap_or_default()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

/// The members of a comma-separated list (RFC 9110, 5.6.1), trimmed; empty ones are left out. Quotes are not looked at.
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether a comma-separated list has this member, without regard to case.
pub(super) fn has_member(value: &[u8], member: &[u8]) -> bool {
    members(value).any(|have| have.eq_ignore_ascii_case(member))
}

/// Whether this can be a field's name or a method.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&b| is_token_byte(b))
}

pub(super) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Whether this can be a field's value as it stands.
pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().all(|&b| is_value_byte(b)) && value.trim_ascii().len() == value.len()
}

pub(super) fn is_value_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart() {
        let list = b" a, B ,,c d , ";
        assert_eq!(members(list).collect::<Vec<_>>(), [&b"a"[..], b"B", b"c d"]);
        assert!(has_member(list, b"b") && has_member(list, b"C D") && !has_member(list, b"c"));
    }

    #[test]
    fn what_may_stand_in_a_field() {
        assert!(is_token(b"X-Name_1!") && !is_token(b"") && !is_token(b"a b") && !is_token(b"a:"));
        assert!(is_value(b"") && is_value(b"a\tb \xff") && !is_value(b" a") && !is_value(b"a\r\nb"));
        assert!(!is_value(b"\0") && !is_value(b"a\n") && !is_value(b"\x7f"));
    }
}
