//! Tokens: secrets that programs send in place of a name and a password.
//!
//! A token is `cs_` and 256 random bits. Nobody can guess it, so its plain SHA-256 is kept, and checked at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::UsersError;

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// What a token begins with, so that people and scanners know it for one.
pub const PREFIX: &str = "cs_";

/// The longest label, in characters.
pub const MAX_LABEL: usize = 100;

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is removed by.
    pub id: String,
    /// What it is for, in the words of who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Of its text.
    #[serde(rename = "sha256")]
    pub digest: Digest,
    /// When it was made, as in `2026-09-12T14:03:55Z`.
    pub created: Time,
    /// From when on it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// A time in the file, to the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(Timestamp);

impl Token {
    /// A new one, that lasts so long, if it does not last for ever. Gives its text, which nobody can find out again.
    ///
    /// # Errors
    /// [`UsersError::Token`] if the label is longer than 100 characters, has control characters, or it lasts beyond the year
    /// 9999; [`UsersError::Random`].
    pub fn new(label: &str, lifetime: Option<Duration>) -> Result<(String, Token), UsersError> {
        let refuse = |part, text: &str| UsersError::Token { part, text: text.chars().take(200).collect() };
        if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
            return Err(refuse("label", label));
        }
        let created = now();
        let expires = lifetime.map(|lifetime| {
            let seconds = i64::try_from(lifetime.as_secs()).ok();
            let at = seconds.and_then(|seconds| created.checked_add(seconds));
            let at = at.and_then(|at| Timestamp::from_second(at).ok());
            at.map(Time).ok_or_else(|| refuse("lifetime", &format!("{} seconds", lifetime.as_secs())))
        });
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| UsersError::Random { why: error.to_string() })?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let digest = digest(&text);
        // Says nothing of the text.
        let id = hex(&digest.0[..4]);
        let token = Token {
            id,
            label: label.to_owned(),
            digest,
            created: rfc3339(created),
            expires: expires.transpose()?,
        };
        Ok((text, token))
    }

    /// The second since 1970 from which on it is worth nothing, if there is one.
    pub fn expires_at(&self) -> Option<i64> {
        self.expires.map(|time| time.0.as_second())
    }
}

/// The hash by which a token is found.
pub fn digest(text: &str) -> Digest {
    Digest(Sha256::digest(text.as_bytes()).into())
}

/// The second since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A second since 1970, as it stands in the file; the last that can, if it is later.
pub fn rfc3339(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap_or(Timestamp::MAX))
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TryFrom<String> for Time {
    type Error = UsersError;

    fn try_from(text: String) -> Result<Time, UsersError> {
        text.parse().map(Time).map_err(|_| UsersError::Token { part: "time", text })
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = UsersError;

    fn try_from(text: String) -> Result<Digest, UsersError> {
        let digits = text.as_bytes();
        let value = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; 32];
        let is_good = digits.len() == 64
            && bytes.iter_mut().zip(digits.chunks(2)).all(|(byte, pair)| {
                let both = pair.first().copied().and_then(value).zip(pair.last().copied().and_then(value));
                both.map(|(high, low)| *byte = high << 4 | low).is_some()
            });
        if is_good { Ok(Digest(bytes)) } else { Err(UsersError::Token { part: "sha256", text }) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        hex(&digest.0)
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_256_bits_and_only_its_hash_is_kept() {
        let (text, token) = Token::new("backup of 模型", Some(Duration::from_secs(86_400))).unwrap();
        assert_eq!((text.len(), text.starts_with("cs_")), (46, true));
        assert_eq!(digest(&text), token.digest);
        let json = serde_json::to_string(&token).unwrap();
        assert!(!json.contains(&text[3..]), "{json}");
        assert_eq!(serde_json::from_str::<Token>(&json).unwrap(), token);
        assert_eq!(token.id.len(), 8);
        let days = token.expires_at().unwrap() - token.created.0.as_second();
        assert_eq!(days, 86_400);
        assert_ne!(Token::new("", None).unwrap().0, Token::new("", None).unwrap().0);
        for label in ["x".repeat(101).as_str(), "a\nb"] {
            assert!(Token::new(label, None).is_err());
        }
        assert!(Token::new("", Some(Duration::from_secs(u64::MAX))).is_err());
    }

    #[test]
    fn parts_are_checked_as_they_are_read() {
        let known = "ab".repeat(32);
        assert_eq!(String::from(Digest::try_from(known.clone()).unwrap()), known);
        for text in ["", "ab", &"ag".repeat(32), &"+a".repeat(32), &"ab".repeat(33)] {
            assert!(Digest::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(rfc3339(1_000_000_000).to_string(), "2001-09-09T01:46:40Z");
        assert!(Time::try_from("yesterday".to_owned()).is_err());
    }
}
