//! Who asks.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// What a client says of itself with each request. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The value of `Authorization`.
    value: String,
}

/// Why a text is of no use as credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A user's name is empty, or has a colon or a control character.
    #[error("this is no user's name: it is not empty, and has no colon and no control character")]
    User,
    /// A token has anything but letters, digits and `-._~+/=`.
    #[error("this is no token: write it as the server's keeper gave it, without spaces")]
    Token,
}

impl Credentials {
    /// A user with a password (RFC 7617).
    ///
    /// # Errors
    /// [`CredentialsError::User`].
    pub fn basic(user: &str, password: &str) -> Result<Credentials, CredentialsError> {
        if user.is_empty() || user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(CredentialsError::User);
        }
        Ok(Credentials { value: format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))) })
    }

    /// A token (RFC 6750).
    ///
    /// # Errors
    /// [`CredentialsError::Token`].
    pub fn bearer(token: &str) -> Result<Credentials, CredentialsError> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        match token.is_empty() || !token.bytes().all(is_token) {
            true => Err(CredentialsError::Token),
            false => Ok(Credentials { value: format!("Bearer {token}") }),
        }
    }

    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_as_the_rfcs_say_and_never_shown() {
        let known = Credentials::basic("Aladdin", "open sesame").unwrap();
        assert_eq!(known.value(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(Credentials::basic("test", "123\u{a3}").unwrap().value(), "Basic dGVzdDoxMjPCow==");
        assert_eq!(Credentials::bearer("a-._~+/9==").unwrap().value(), "Bearer a-._~+/9==");
        assert_eq!(format!("{known:?}"), "Credentials");
        for user in ["", "a:b", "a\nb"] {
            assert_eq!(Credentials::basic(user, "x"), Err(CredentialsError::User));
        }
        for token in ["", "a b", "a\r\nb", "\u{e9}"] {
            assert_eq!(Credentials::bearer(token), Err(CredentialsError::Token));
        }
    }
}
