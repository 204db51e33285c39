//! Which record of which sender: what lets a collector tell a repeat from a new one.

use std::fmt;
use std::str::FromStr;

/// A record's place among all records. The numbers of one sender's stream only grow, through restarts of the sender too,
/// but not always by one: they jump at a restart, and where records were dropped or damaged.
///
/// As text: `00c0ffee00c0ffee/2/17`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mark {
    /// A random number that the sender's spool got when it was made.
    pub(crate) sender: u64,
    pub(crate) stream: u32,
    /// From 1 on.
    pub(crate) sequence: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}/{}", self.sender, self.stream, self.sequence)
    }
}

/// This text is no mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;

    /// Exactly what `Display` writes.
    fn from_str(text: &str) -> Result<Mark, NoMark> {
        let mut parts = text.split('/');
        let (Some(sender), Some(stream), Some(sequence), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoMark);
        };
        let mark = Mark {
            sender: parse_sender(sender).ok_or(NoMark)?,
            stream: parse_number(stream).ok_or(NoMark)?,
            sequence: parse_number(sequence).ok_or(NoMark)?,
        };
        Ok(mark)
    }
}

/// A sender as 16 digits.
pub(crate) fn parse_sender(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_sender = text.len() == 16 && text.bytes().all(is_digit);
    is_sender.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A number without sign or leading zeros.
pub(crate) fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (sender, stream, sequence) in [(0, 0, 1), (0xc0_ffee, 3, 17), (u64::MAX, u32::MAX, u64::MAX)] {
            let mark = Mark { sender, stream, sequence };
            assert_eq!(mark.to_string().parse(), Ok(mark));
        }
    }

    #[test]
    fn nothing_else_is_a_mark() {
        for text in [
            "",
            "-",
            "00c0ffee00c0ffee/2",
            "00c0ffee00c0ffee/2/",
            "00c0ffee00c0ffee/2/17/",
            "00c0ffee00c0ffee/02/17",
            "00c0ffee00c0ffee/2/+17",
            "00c0ffee00c0ffee/2/18446744073709551616",
            "00C0FFEE00C0FFEE/2/17",
            "0c0ffee00c0ffee/2/17",
        ] {
            assert_eq!(text.parse::<Mark>(), Err(NoMark), "{text:?}");
        }
    }
}
