//! What `Authorization` says. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Who somebody says to be.
#[derive(PartialEq, Eq)]
pub enum Credentials {
    /// `Basic`: a name and a password, both UTF-8.
    Password {
        /// The name; it cannot have a colon.
        user: String,
        /// All behind the first colon.
        password: String,
    },
    /// `Bearer`: a token.
    Token(String),
}

impl Credentials {
    /// Takes the value of the header; None if it is of another kind, or not as it should be.
    ///
    /// ```
    /// use cloudstore::users::credentials::Credentials;
    ///
    /// let said = Credentials::parse(b"Basic YW5uYTpzZWNyZXQ=");
    /// assert_eq!(said, Some(Credentials::Password { user: "anna".into(), password: "secret".into() }));
    /// assert_eq!(Credentials::parse(b"Digest username=anna"), None);
    /// ```
    pub fn parse(value: &[u8]) -> Option<Credentials> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (scheme, rest) = text.split_once(' ')?;
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Credentials::Token(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let bytes = STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest)).ok()?;
        let pair = String::from_utf8(bytes).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

/// It shows no secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password({user:?})"),
            Credentials::Token(_) => f.write_str("Token(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_schemes_are_known() {
        let password = |user: &str, password: &str| {
            Some(Credentials::Password { user: user.into(), password: password.into() })
        };
        let token = |text: &str| Some(Credentials::Token(text.into()));
        for (value, expected) in [
            (&b"Basic YTpi"[..], password("a", "b")),
            (b"basic   YTpi ", password("a", "b")),
            (b"BASIC YTpiOmM=", password("a", "b:c")),
            (b"Basic YTpiOmM", password("a", "b:c")),
            (b"Basic Og==", password("", "")),
            (b"Basic 5qihOuWeiw==", password("模", "型")),
            (b"Bearer cs_x", token("cs_x")),
            (b"bearer cs_x", token("cs_x")),
            (b"Basic", None),
            (b"Basic ", None),
            (b"Basic YQ==", None),
            (b"Basic !!!!", None),
            (b"Basic /zpi", None),
            (b"Digest YTpi", None),
            (b"YTpi", None),
            (b"", None),
            (b"Basic \xff", None),
        ] {
            assert_eq!(Credentials::parse(value), expected, "{value:?}");
        }
        let shown = format!("{:?} {:?}", password("a", "secret"), token("secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
