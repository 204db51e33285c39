//! Where a syslog message ends on a stream: RFC 6587's octet counting, and line ends.

use memchr::memchr;

use super::relp::Excerpt;
use crate::format::push_number;

/// Digits of a length.
const MAX_DIGITS: usize = 9;

/// These bytes are no frame of a syslog message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FramingError {
    #[error(
        "{0} where a message's length belongs, which has 1 to 9 digits, no 0 first, and a space behind it"
    )]
    Len(Excerpt),
    #[error("a line of {len} bytes, when at most {max} are taken")]
    TooLong { len: usize, max: usize },
}

/// The length of a message in `LEN SP MSG`, and how many bytes stand before it. `None`: more bytes are needed, which
/// there are never more than 10 of.
pub(crate) fn parse_len(bytes: &[u8]) -> Result<Option<(usize, usize)>, FramingError> {
    let refused = || FramingError::Len(Excerpt::of(bytes));
    let digits = bytes.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits > MAX_DIGITS || bytes.first() == Some(&b'0') {
        return Err(refused());
    }
    match bytes.get(digits) {
        None => Ok(None),
        Some(b' ') if digits > 0 => {
            let len = bytes[..digits].iter().fold(0, |len, digit| len * 10 + usize::from(digit - b'0'));
            Ok(Some((len, digits + 1)))
        }
        Some(_) => Err(refused()),
    }
}

/// Appends a message behind its length. An empty one has no such frame, and nothing is appended.
pub(crate) fn write_counted(out: &mut Vec<u8>, message: &[u8]) {
    if !message.is_empty() {
        push_number(out, message.len() as u64);
        out.push(b' ');
        out.extend_from_slice(message);
    }
}

/// A message without its line end, LF or CR LF, and how many bytes they are together. `None`: more bytes are needed;
/// the first `seen` are known to hold no LF.
pub(crate) fn parse_line(
    bytes: &[u8],
    seen: usize,
    max: usize,
) -> Result<Option<(&[u8], usize)>, FramingError> {
    let unseen = bytes.get(seen..).unwrap_or_default();
    let Some(end) = memchr(b'\n', unseen).map(|at| seen + at) else {
        // One more may be the CR.
        return match bytes.len() > max.saturating_add(1) {
            true => Err(FramingError::TooLong { len: bytes.len(), max }),
            false => Ok(None),
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.len() > max {
        return Err(FramingError::TooLong { len: line.len(), max });
    }
    Ok(Some((line, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counted_messages_as_they_stand_on_the_wire() {
        let mut out = Vec::new();
        write_counted(&mut out, b"<13>a\nb");
        write_counted(&mut out, b"");
        assert_eq!(out, b"7 <13>a\nb");
    }

    #[test]
    fn what_is_no_length_is_refused_with_what_came() {
        for bytes in [&b" "[..], b"0 ", b"01 a", b"x", b"12x", b"1234567890", b"-1 a", b"12\n"] {
            assert_eq!(parse_len(bytes), Err(FramingError::Len(Excerpt::of(bytes))));
        }
        for bytes in [&b""[..], b"1", b"123456789"] {
            assert_eq!(parse_len(bytes), Ok(None));
        }
        assert_eq!(parse_len(b"999999999 <"), Ok(Some((999_999_999, 10))));
    }

    #[test]
    fn lines_end_with_lf_or_cr_lf_and_have_a_bound() {
        assert_eq!(parse_line(b"ab\r\ncd", 0, 2), Ok(Some((&b"ab"[..], 4))));
        assert_eq!(parse_line(b"a\rb\n", 2, 3), Ok(Some((&b"a\rb"[..], 4))));
        assert_eq!(parse_line(b"\n", 0, 0), Ok(Some((&b""[..], 1))));
        assert_eq!(parse_line(b"ab\r", 0, 2), Ok(None));
        assert_eq!(parse_line(b"abcd", 0, 2), Err(FramingError::TooLong { len: 4, max: 2 }));
        assert_eq!(parse_line(b"abc\n", 0, 2), Err(FramingError::TooLong { len: 3, max: 2 }));
        assert_eq!(parse_line(b"abc", 9, 5), Ok(None));
    }

    proptest! {
        #[test]
        fn lengths_come_back_and_every_beginning_is_incomplete(
            message in proptest::collection::vec(any::<u8>(), 1..200),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            write_counted(&mut bytes, &message);
            let start = bytes.len() - message.len();
            for end in 0..start {
                prop_assert_eq!(parse_len(&bytes[..end]), Ok(None));
            }
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(parse_len(&bytes), Ok(Some((message.len(), start))));
        }

        #[test]
        fn lines_are_what_std_says_whatever_was_seen(text in "[ab\\r\\n]{0,20}") {
            let bytes = text.as_bytes();
            let lf = bytes.iter().position(|&byte| byte == b'\n');
            let expected = lf.map(|lf| (text.lines().next().unwrap_or_default().as_bytes(), lf + 1));
            for seen in 0..=lf.unwrap_or(bytes.len()) {
                prop_assert_eq!(parse_line(bytes, seen, 99), Ok(expected));
            }
        }
    }
}
