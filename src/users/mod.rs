//! Who may do what: users with passwords, tokens and rules, kept in a file.
//!
//! | Room | What |
//! |---|---|
//! | [`rules`] | verbs, paths, and what they allow together; pure |
//! | [`password`] | hashes that are slow to try |
//! | [`token`] | secrets for programs |
//! | [`credentials`] | what `Authorization` says; pure |
//! | [`mod@file`] | the file: read, checked, changed by one at a time |
//!
//! ```
//! use cloudstore::users::{Draft, Users};
//!
//! let mut draft = Draft::new("anna".parse()?);
//! draft.rules.push("read,create:/team/".parse()?);
//! let users = Users::new([draft]);
//! let anna = users.user("anna").ok_or("no anna")?;
//! assert!(anna.rights().may(cloudstore::users::Verb::Read, "team/plan.txt"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod credentials;
mod error;
pub mod file;
pub mod password;
pub mod rules;
pub mod token;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::UsersError;
pub use file::UsersFile;
pub use password::PasswordHash;
pub use rules::{Rights, Rule, Verb, Verbs};
pub use token::Token;

/// The user whose rules hold for requests without credentials, and for all others too.
pub const ANONYMOUS: &str = "anonymous";

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64;

/// The name of a user: 1 to 64 bytes of letters and digits of any script, `.`, `_` and `-`, not with `-` in front. Names
/// that differ in a byte are two.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for requests without credentials.
    pub fn is_anonymous(&self) -> bool {
        self.0 == ANONYMOUS
    }
}

impl FromStr for UserName {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<UserName, UsersError> {
        let is_known = |c: char| c.is_alphanumeric() || ".-_".contains(c);
        let is_good =
            (1..=MAX_NAME).contains(&text.len()) && !text.starts_with('-') && text.chars().all(is_known);
        match is_good {
            true => Ok(UserName(text.to_owned())),
            false => Err(UsersError::Name { name: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for UserName {
    type Error = UsersError;

    fn try_from(text: String) -> Result<UserName, UsersError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user as the file has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Its name.
    pub name: UserName,
    /// What its password is checked against; it has none without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    /// It may do everything, also look after the server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// What it may do.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What programs use in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

impl Draft {
    /// A user that may do nothing and has neither password nor token.
    pub fn new(name: UserName) -> Draft {
        Draft { name, password: None, admin: false, rules: Vec::new(), tokens: Vec::new() }
    }
}

/// A user that requests can be of.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    name: UserName,
    password: Option<PasswordHash>,
    rights: Rights,
}

impl User {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// What its password is checked against, if it has one.
    pub fn password(&self) -> Option<&PasswordHash> {
        self.password.as_ref()
    }

    /// What it may do: by its own rules, and by those of `anonymous`.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }
}

/// All users, ready to be asked.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashMap<String, Arc<User>>,
    /// By the hash of the token: with the user, and the second since 1970 at which it is worth nothing any more.
    by_token: HashMap<token::Digest, (Arc<User>, Option<i64>)>,
}

impl Users {
    /// Takes users whose names differ; of two with one name, the later. Of `anonymous` only the rules count.
    pub fn new(drafts: impl IntoIterator<Item = Draft>) -> Users {
        let drafts: Vec<Draft> = drafts.into_iter().collect();
        let common: Vec<Rule> = drafts
            .iter()
            .filter(|draft| draft.name.is_anonymous())
            .flat_map(|draft| draft.rules.clone())
            .collect();
        let mut users = Users::default();
        for draft in drafts {
            let rules = draft.rules.into_iter().chain(common.iter().cloned());
            let is_anonymous = draft.name.is_anonymous();
            let rights = Rights::new(rules, draft.admin && !is_anonymous);
            let user = Arc::new(User { name: draft.name, password: draft.password, rights });
            for token in draft.tokens.into_iter().filter(|_| !is_anonymous) {
                users.by_token.insert(token.digest, (Arc::clone(&user), token.expires_at()));
            }
            users.by_name.insert(user.name().to_owned(), user);
        }
        users
    }

    /// The user of this name; `anonymous` is none.
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name).filter(|user| !user.name.is_anonymous())
    }

    /// Whose rules hold for requests without credentials, if they may do anything.
    pub fn anonymous(&self) -> Option<&Arc<User>> {
        self.by_name.get(ANONYMOUS)
    }

    /// The user of a token, as its text was sent, unless it has expired by `now`, in seconds since 1970.
    ///
    /// It is found by the hash of a secret that nobody can guess, so the time that it takes tells nothing of others.
    pub fn of_token(&self, text: &str, now: i64) -> Option<&Arc<User>> {
        let (user, expires) = self.by_token.get(&token::digest(text))?;
        expires.is_none_or(|expires| now < expires).then_some(user)
    }

    /// How many there are, `anonymous` included.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none: then nobody may do anything.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_and_digits_of_any_script() {
        let longest = "x".repeat(MAX_NAME);
        for text in ["a", "anna", "Anna.B-c_9", "änna", "模型", "anonymous", longest.as_str()] {
            assert_eq!(text.parse::<UserName>().unwrap().as_str(), text);
        }
        let too_long = "x".repeat(MAX_NAME + 1);
        for text in
            ["", "a b", "a:b", "a/b", "-a", "a\n", "a\0", "a\"", "a@b", "🙂", "\u{202e}a", too_long.as_str()]
        {
            assert!(text.parse::<UserName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn everybody_may_what_anonymous_may() {
        let draft = |name: &str, rule: &str| Draft {
            rules: vec![rule.parse().unwrap()],
            ..Draft::new(name.parse().unwrap())
        };
        let users = Users::new([draft("anna", "all:/anna/"), draft("anonymous", "read:/public/")]);
        let anna = users.user("anna").unwrap().rights();
        assert!(anna.may(Verb::Read, "public/a") && anna.may(Verb::Delete, "anna/a"));
        assert!(!anna.may(Verb::Delete, "public/a") && !anna.may(Verb::Read, "b"));
        assert!(users.user(ANONYMOUS).is_none(), "nobody signs in as that");
        let others = users.anonymous().unwrap().rights();
        assert!(others.may(Verb::Read, "public/a") && !others.may(Verb::Read, "anna/a"));
    }

    #[test]
    fn a_token_is_worth_nothing_from_the_second_that_it_expires() {
        let (text, mut token) = Token::new("", None).unwrap();
        token.expires = Some(token::rfc3339(1000));
        let (lasting, second) = Token::new("", None).unwrap();
        let mut draft = Draft::new("anna".parse().unwrap());
        draft.tokens.extend([token, second]);
        let users = Users::new([draft]);
        for (text, now, is_known) in
            [(&text, 999, true), (&text, 1000, false), (&text, 1001, false), (&lasting, i64::MAX, true)]
        {
            assert_eq!(users.of_token(text, now).is_some(), is_known, "{now}");
        }
        assert!(users.of_token("", 0).is_none() && users.of_token(&text[1..], 0).is_none());
    }
}
