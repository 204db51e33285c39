//! Structured fields (RFC 9651): dictionaries, as far as this server reads any.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The value of a member. Parameters are checked and left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// An integer, at most 15 digits.
    Integer(i64),
    /// A byte sequence.
    Bytes(Vec<u8>),
    /// Anything else.
    Other,
}

/// The members of a dictionary from all lines of a field, in the order of their keys' first appearance; the last of equal
/// keys counts. None if a line is malformed, by which the whole field is.
pub fn dictionary<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<(&'a str, Value)>> {
    let mut members: Vec<(&str, Value)> = Vec::new();
    for line in lines {
        let mut text = Text(line.trim_ascii());
        while !text.0.is_empty() {
            let key = text.key()?;
            let value = if text.skip(b'=') { text.item_or_list()? } else { Value::Other };
            text.parameters()?;
            match members.iter_mut().find(|(have, _)| *have == key) {
                Some(member) => member.1 = value,
                None => members.push((key, value)),
            }
            text.0 = text.0.trim_ascii_start();
            if !text.0.is_empty() {
                let is_followed = text.skip(b',') && !text.0.trim_ascii_start().is_empty();
                if !is_followed {
                    return None;
                }
                text.0 = text.0.trim_ascii_start();
            }
        }
    }
    Some(members)
}

/// As the RFC asks of parsers: padding may be missing, and bits behind the last byte may be set.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What is left of a line.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    fn skip(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take_while(&mut self, takes: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !takes(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// What is before the delimiter, which goes too.
    fn take_until(&mut self, delimiter: u8) -> Option<&'a [u8]> {
        let taken = self.take_while(|byte| byte != delimiter);
        self.skip(delimiter).then_some(taken)
    }

    fn key(&mut self) -> Option<&'a str> {
        if !matches!(self.0.first()?, b'a'..=b'z' | b'*') {
            return None;
        }
        let is_key = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*');
        std::str::from_utf8(self.take_while(is_key)).ok()
    }

    fn parameters(&mut self) -> Option<()> {
        while self.skip(b';') {
            self.take_while(|byte| byte == b' ');
            self.key()?;
            if self.skip(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Value> {
        if !self.skip(b'(') {
            return self.item();
        }
        loop {
            self.take_while(|byte| byte == b' ');
            if self.skip(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b':' => {
                self.skip(b':');
                let text = self.take_until(b':')?;
                BASE64.decode(text).ok().map(Value::Bytes)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => {
                self.skip(b'"');
                self.string()
            }
            b'?' => {
                self.skip(b'?');
                (self.skip(b'0') || self.skip(b'1')).then_some(Value::Other)
            }
            b'@' => {
                self.skip(b'@');
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            b'%' => {
                self.skip(b'%');
                self.skip(b'"').then_some(())?;
                let text = self.take_until(b'"')?;
                text.iter().all(|byte| matches!(byte, b' '..=b'~')).then_some(Value::Other)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                let is_token =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
                self.take_while(is_token);
                Some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let is_negative = self.skip(b'-');
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 15 {
            return None;
        }
        if self.skip(b'.') {
            let fraction = self.take_while(|byte| byte.is_ascii_digit());
            let is_decimal = whole.len() <= 12 && (1..=3).contains(&fraction.len());
            return is_decimal.then_some(Value::Other);
        }
        let number = whole.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
        Some(Value::Integer(if is_negative { -number } else { number }))
    }

    /// After the first quote.
    fn string(&mut self) -> Option<Value> {
        loop {
            self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
            if self.skip(b'"') {
                return Some(Value::Other);
            }
            let is_escape = self.skip(b'\\') && (self.skip(b'"') || self.skip(b'\\'));
            if !is_escape {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&'static str]) -> Option<Vec<(&'static str, Value)>> {
        dictionary(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn members_of_every_type() {
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        for (text, expected) in [
            ("", vec![]),
            ("a=1", vec![("a", Value::Integer(1))]),
            (" a=-999999999999999 ", vec![("a", Value::Integer(-999_999_999_999_999))]),
            ("a=007", vec![("a", Value::Integer(7))]),
            ("a=:aGVsbG8=:", vec![("a", bytes("hello"))]),
            ("a=:aGVsbG8:", vec![("a", bytes("hello"))]),
            ("a=:aGVsbG9=:", vec![("a", bytes("hello"))]),
            ("a=::", vec![("a", bytes(""))]),
            (
                "sha-256=1,\tb.c_*=2 ,*d=3",
                vec![("sha-256", Value::Integer(1)), ("b.c_*", Value::Integer(2)), ("*d", Value::Integer(3))],
            ),
            (
                "a, b;x, c=?0;y=1; z=\"q\\\"\\\\,\"",
                vec![("a", Value::Other), ("b", Value::Other), ("c", Value::Other)],
            ),
            ("a=1;q=0.5", vec![("a", Value::Integer(1))]),
            (
                "a=1.5, b=tok/en:x, c=\"s,t\", d=@12, e=%\"f%c3%bc\"",
                vec![
                    ("a", Value::Other),
                    ("b", Value::Other),
                    ("c", Value::Other),
                    ("d", Value::Other),
                    ("e", Value::Other),
                ],
            ),
            (
                "a=(), b=(1 2), c=( \"x\";y=1   :aGVsbG8=: );z",
                vec![("a", Value::Other), ("b", Value::Other), ("c", Value::Other)],
            ),
            ("a=1,b=2,a=3", vec![("a", Value::Integer(3)), ("b", Value::Integer(2))]),
        ] {
            assert_eq!(read(&[text]), Some(expected), "{text}");
        }
        let both = vec![("a", Value::Integer(2)), ("b", Value::Integer(3))];
        assert_eq!(read(&["a=1", "", "a=2, b=3"]), Some(both));
        assert_eq!(read(&[]), Some(vec![]));
    }

    #[test]
    fn what_is_malformed() {
        for text in [
            ",",
            "a,",
            ",a",
            "a,,b",
            "a b",
            "A=1",
            "1=1",
            "-a",
            "a=",
            "a =1",
            "a= 1",
            "a=:aGVsbG8=",
            "a=:a\u{e9}:",
            "a=:*:",
            "a=:aGVsbG8==:",
            "a=1000000000000000",
            "a=1.",
            "a=1.2345",
            "a=1234567890123.1",
            "a=-",
            "a=\"x",
            "a=\"\\x\"",
            "a=\"\t\"",
            "a=?2",
            "a=@1.5",
            "a=@",
            "a=%x",
            "a=%\"x",
            "a=(",
            "a=(1",
            "a=(1,2)",
            "a=(1\"x\")",
            "a=(1);",
            "a=1;",
            "a=1;B",
            "a=1;b=",
            "a=\u{e9}",
            "a=1 ;b",
        ] {
            assert_eq!(read(&[text]), None, "{text}");
        }
        assert_eq!(read(&["a=1", "b,"]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(line in "[a-b0-9=:;,.()@%\"\\\\? -]{0,20}", bytes in any::<Vec<u8>>()) {
            let _ = dictionary([line.as_bytes(), &bytes].into_iter());
            let _ = dictionary([&bytes[..]].into_iter());
        }
    }
}
