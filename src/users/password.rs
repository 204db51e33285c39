//! Passwords, and the hashes that they are checked against.
//!
//! Argon2id with 19 MiB, two passes and one lane: the least that OWASP asks for, and what fits when two checks run at a time
//! on a small machine. One try costs some 30 ms there; a stolen file is as slow to try.

use std::fmt;

use argon2::password_hash::{PasswordHash as Phc, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use super::error::UsersError;

/// The fewest characters of a password.
pub const MIN_CHARACTERS: usize = 8;
/// The most bytes: nobody types more, and each is hashed.
pub const MAX_BYTES: usize = 1024;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A hash in the file may ask for so much memory: two at a time are taken.
const MOST_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 64;
/// Asks for as much as those that are made here; what it is of, nobody knows.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5LW5vYm9keS0tLQ$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
/// Bytes, as the specification of the hash recommends.
const SALT: usize = 16;

/// What a password is checked against: a salted hash, as text in PHC form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Of a new password. It takes its time, and 19 MiB.
    ///
    /// # Errors
    /// [`UsersError::Password`] if it is shorter than 8 characters, longer than 1024 bytes, or has control characters, which
    /// no client can send; [`UsersError::Random`].
    pub fn new(password: &str) -> Result<PasswordHash, UsersError> {
        let refuse = |why| Err(UsersError::Password { why });
        if password.chars().count() < MIN_CHARACTERS {
            return refuse("is too short: take at least 8 characters, as of some words");
        }
        if password.len() > MAX_BYTES {
            return refuse("is too long: take at most 1024 bytes");
        }
        if password.chars().any(char::is_control) {
            return refuse("has a control character, which cannot be sent: take it out");
        }
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|error| UsersError::Random { why: error.to_string() })?;
        let refuse = |error: argon2::password_hash::Error| UsersError::Hash { why: error.to_string() };
        let salt = SaltString::encode_b64(&salt).map_err(refuse)?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .map_err(|error| UsersError::Hash { why: error.to_string() })?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon2.hash_password(password.as_bytes(), &salt).map_err(refuse)?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// Of no password: to spend the time of a check for a user that does not exist, or has none.
    pub fn of_nobody() -> PasswordHash {
        PasswordHash(NOBODY.to_owned())
    }

    /// Whether it is of this password. It takes its time, and as much memory as the hash says; the comparison takes the
    /// same time whatever it finds.
    pub fn is_of(&self, password: &str) -> bool {
        let Ok(hash) = Phc::new(&self.0) else { return false };
        password.len() <= MAX_BYTES && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = UsersError;

    fn try_from(text: String) -> Result<PasswordHash, UsersError> {
        let refuse = |why: String| UsersError::Hash { why };
        let hash = Phc::new(&text).map_err(|error| refuse(error.to_string()))?;
        let is_argon2 = Algorithm::try_from(hash.algorithm).is_ok();
        let params = Params::try_from(&hash).map_err(|error| refuse(error.to_string()))?;
        if !is_argon2 || hash.salt.is_none() || hash.hash.is_none() {
            return Err(refuse("it is none of argon2 with a salt".to_owned()));
        }
        if params.m_cost() > MOST_KIB || params.t_cost() > MOST_PASSES || params.p_cost() > 16 {
            return Err(refuse("it asks for more than 256 MiB, 64 passes or 16 lanes".to_owned()));
        }
        Ok(PasswordHash(text))
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> String {
        hash.0
    }
}

/// It does not show the hash.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password_alone() {
        let hash = PasswordHash::new("correct horse 模型").unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(hash.is_of("correct horse 模型"));
        for other in ["", "correct horse", "correct horse 模型 ", "Correct horse 模型"] {
            assert!(!hash.is_of(other), "{other}");
        }
        assert_ne!(PasswordHash::new("correct horse 模型").unwrap(), hash, "each has its own salt");
        let back = PasswordHash::try_from(String::from(hash.clone())).unwrap();
        assert_eq!(back, hash);
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
        let nobody = PasswordHash::of_nobody();
        assert_eq!(PasswordHash::try_from(nobody.0.clone()).unwrap(), nobody, "it can be checked");
        assert_eq!(nobody.0.len(), hash.0.len());
        assert!(!nobody.is_of(""));
    }

    #[test]
    fn passwords_that_cannot_be_used_are_refused() {
        let long = "x".repeat(MAX_BYTES + 1);
        for (text, why) in [
            ("", "short"),
            ("1234567", "short"),
            ("模型模型模型模", "short"),
            (&long, "long"),
            ("1234567\n", "control"),
        ] {
            assert!(PasswordHash::new(text).unwrap_err().to_string().contains(why), "{why}");
        }
    }

    #[test]
    fn hashes_that_cannot_be_checked_are_refused() {
        let salt = "c29tZXNhbHRzb21lc2FsdA";
        let hash = "0".repeat(43);
        for text in [
            "".to_owned(),
            "secret".to_owned(),
            format!("$argon2id$v=19$m=19456,t=2,p=1${salt}"),
            format!("$argon2id$v=19$m=9999999,t=2,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=19456,t=999,p=1${salt}${hash}"),
            format!("$scrypt$ln=15,r=8,p=1${salt}${hash}"),
            "$2b$12$abcdefghijklmnopqrstuvabcdefghijklmnopqrstuvabcdefghijk".to_owned(),
        ] {
            assert!(PasswordHash::try_from(text.clone()).is_err(), "{text}");
        }
        assert!(PasswordHash::try_from(format!("$argon2id$v=19$m=8,t=1,p=1${salt}${hash}")).is_ok());
    }
}
