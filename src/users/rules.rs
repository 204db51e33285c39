//! What users may do, by verb and path. Pure.
//!
//! A rule is `VERBS:/PATH`. `/` is everything; `/team/` is what is below the folder; `/team` is the object of that name, or
//! the folder and all below it. Never `/teamwork`: a path ends where a segment does. A user may do what any of its rules
//! allows; there are none that forbid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::UsersError;
use crate::storage::{Folder, Name, Scope};

/// Something that is done to an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verb {
    /// Give it out, and list it.
    Read,
    /// Store it where nothing is.
    Create,
    /// Store it over what is there.
    Replace,
    /// Remove it.
    Delete,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 4] = [Verb::Read, Verb::Create, Verb::Replace, Verb::Delete];

    /// As it stands in rules.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Read => "read",
            Verb::Create => "create",
            Verb::Replace => "replace",
            Verb::Delete => "delete",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of verbs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// None of them.
    pub const NONE: Verbs = Verbs(0);
    /// All of them.
    pub const ALL: Verbs = Verbs(0b1111);

    /// Whether a verb is among them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & Verbs::from(verb).0 != 0
    }

    /// These and others.
    #[must_use]
    pub fn with(self, others: impl Into<Verbs>) -> Verbs {
        Verbs(self.0 | others.into().0)
    }
}

impl From<Verb> for Verbs {
    fn from(verb: Verb) -> Verbs {
        Verbs(1 << verb as u8)
    }
}

/// `all`, or the verbs with commas between.
impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Verbs::ALL {
            return f.write_str("all");
        }
        let verbs = Verb::ALL.into_iter().filter(|verb| self.has(*verb));
        for (n, verb) in verbs.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{verb}")?;
        }
        Ok(())
    }
}

impl FromStr for Verbs {
    /// The word that is no verb.
    type Err = String;

    fn from_str(text: &str) -> Result<Verbs, String> {
        text.split(',').map(str::trim).try_fold(Verbs::NONE, |verbs, word| match word {
            "all" => Ok(Verbs::ALL),
            _ => match Verb::ALL.into_iter().find(|verb| verb.as_str() == word) {
                Some(verb) => Ok(verbs.with(verb)),
                None => Err(word.to_owned()),
            },
        })
    }
}

/// Some verbs, for what is at a path and below it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    verbs: Verbs,
    /// Without the slash in front.
    path: String,
}

impl Rule {
    /// What it allows.
    pub fn verbs(&self) -> Verbs {
        self.verbs
    }

    /// Whether an object is of this rule.
    fn covers(&self, name: &str) -> bool {
        self.path == name || self.covers_below(name)
    }

    /// Whether all that begins with this, which ends at the end of a segment or of a folder, is of this rule.
    fn covers_below(&self, prefix: &str) -> bool {
        match prefix.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path.is_empty() || self.path.ends_with('/') || rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether something below a folder can be of this rule.
    fn reaches_below(&self, prefix: &str) -> bool {
        self.covers_below(prefix) || self.path.starts_with(prefix)
    }
}

impl FromStr for Rule {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Rule, UsersError> {
        let refuse = |why: String| UsersError::Rule { rule: text.chars().take(200).collect(), why };
        let (verbs, path) = text.split_once(':').ok_or_else(|| refuse("it has no colon".to_owned()))?;
        let verbs = verbs.parse().map_err(|word| refuse(format!("{word:?} is no verb")))?;
        let path = path
            .strip_prefix('/')
            .ok_or_else(|| refuse("its path does not begin with a slash".to_owned()))?;
        if !path.is_empty() {
            let bare = path.strip_suffix('/').unwrap_or(path);
            Name::parse(bare).map_err(|error| refuse(error.to_string()))?;
        }
        Ok(Rule { verbs, path: path.to_owned() })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:/{}", self.verbs, self.path)
    }
}

impl TryFrom<String> for Rule {
    type Error = UsersError;

    fn try_from(text: String) -> Result<Rule, UsersError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> String {
        rule.to_string()
    }
}

/// What somebody may do: all that one of the rules allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rights {
    rules: Vec<Rule>,
    is_admin: bool,
    /// What listings show.
    scope: Scope,
}

impl Rights {
    /// By these rules; an admin may do everything, whatever they say.
    pub fn new(rules: impl IntoIterator<Item = Rule>, is_admin: bool) -> Rights {
        let rules: Vec<Rule> = rules.into_iter().collect();
        let readable = rules.iter().filter(|rule| rule.verbs.has(Verb::Read));
        let scope = if is_admin { Scope::all() } else { Scope::new(readable.map(|rule| rule.path.as_str())) };
        Rights { rules, is_admin, scope }
    }

    /// Whether it may look after the server too.
    pub fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether this may be done to the object of this name.
    pub fn may(&self, verb: Verb, name: &str) -> bool {
        self.is_admin || self.rules.iter().any(|rule| rule.verbs.has(verb) && rule.covers(name))
    }

    /// Whether this may be done to all that is in a folder, whatever its name.
    pub fn may_below(&self, verb: Verb, folder: &Folder) -> bool {
        let prefix = folder.prefix();
        self.is_admin || self.rules.iter().any(|rule| rule.verbs.has(verb) && rule.covers_below(prefix))
    }

    /// Whether this may be done to something in a folder, or in one below it.
    pub fn may_somewhere(&self, verb: Verb, folder: &Folder) -> bool {
        let prefix = folder.prefix();
        self.is_admin || self.rules.iter().any(|rule| rule.verbs.has(verb) && rule.reaches_below(prefix))
    }

    /// What listings show: the objects that may be read.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rights(rules: &[&str]) -> Rights {
        Rights::new(rules.iter().map(|rule| rule.parse().unwrap()), false)
    }

    fn folder(text: &str) -> Folder {
        Folder::parse(text).unwrap()
    }

    #[test]
    fn paths_end_where_segments_do() {
        for (path, name, is_covered) in [
            ("/", "a", true),
            ("/", "a/b", true),
            ("/team/", "team/x", true),
            ("/team/", "team/x/y", true),
            ("/team/", "team", false),
            ("/team", "team", true),
            ("/team", "team/x", true),
            ("/te", "team", false),
            ("/te", "team/x", false),
            ("/te/", "team/x", false),
            ("/team", "teamwork", false),
            ("/team/x", "team", false),
            ("/team/x", "team/xy", false),
            ("/team", "a/team", false),
            ("/Team", "team", false),
            ("/团队/", "团队/模.bin", true),
            ("/a b", "a b/c", true),
        ] {
            let rights = rights(&[&format!("read:{path}")]);
            assert_eq!(rights.may(Verb::Read, name), is_covered, "{path} {name}");
            assert!(!rights.may(Verb::Delete, name), "{path} {name}");
        }
    }

    #[test]
    fn folders_are_covered_whole_or_only_entered() {
        for (path, prefix, is_whole, is_entered) in [
            ("/", "", true, true),
            ("/", "a/", true, true),
            ("/team/", "team/", true, true),
            ("/team", "team/", true, true),
            ("/team/", "team/x/", true, true),
            ("/team", "team/x/", true, true),
            ("/team/", "", false, true),
            ("/team", "", false, true),
            ("/a/b/", "a/", false, true),
            ("/a/b", "a/", false, true),
            ("/a/b", "a/b/", true, true),
            ("/a/b", "a/bc/", false, false),
            ("/te", "team/", false, false),
            ("/team/", "te/", false, false),
            ("/team/", "other/", false, false),
        ] {
            let rights = rights(&[&format!("read:{path}")]);
            assert_eq!(rights.may_below(Verb::Read, &folder(prefix)), is_whole, "{path} {prefix}");
            assert_eq!(rights.may_somewhere(Verb::Read, &folder(prefix)), is_entered, "{path} {prefix}");
        }
    }

    #[test]
    fn rules_add_up_and_admins_need_none() {
        let some = rights(&["read:/", "create,replace:/team/", "delete:/team/old"]);
        assert!(some.may(Verb::Read, "x") && some.may(Verb::Create, "team/x"));
        assert!(some.may(Verb::Delete, "team/old/x") && !some.may(Verb::Delete, "team/x"));
        assert!(!some.may(Verb::Create, "x") && !some.is_admin());
        let none = rights(&[]);
        assert!(!none.may(Verb::Read, "x") && !none.may_somewhere(Verb::Read, &Folder::root()));
        // One that only creates sees nothing.
        assert!(!rights(&["create:/drop/"]).may_somewhere(Verb::Read, &Folder::root()));
        let admin = Rights::new([], true);
        assert!(admin.may(Verb::Delete, "x") && admin.may_below(Verb::Replace, &Folder::root()));
    }

    #[test]
    fn rules_as_text_and_back() {
        for (text, shown) in [
            ("read:/", "read:/"),
            ("all:/team/", "all:/team/"),
            ("delete,read:/a", "read,delete:/a"),
            ("read,create,replace,delete:/a", "all:/a"),
            ("read, create:/a b:c/", "read,create:/a b:c/"),
            ("read,read:/模型", "read:/模型"),
        ] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), shown);
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        }
        for (text, why) in [
            ("", "colon"),
            ("read", "colon"),
            ("/team/", "colon"),
            (":/", "verb"),
            ("write:/", "\"write\" is no verb"),
            ("read,:/", "verb"),
            ("READ:/", "verb"),
            ("read:", "slash"),
            ("read:team/", "slash"),
            ("read://", "empty"),
            ("read:/a//b", "empty part"),
            ("read:/../a", ".."),
            ("read:/a\\b", "backslash"),
            ("read:/a\nb", "control"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// Segments that are beginnings of each other.
    fn path() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(vec!["a", "ab", "b", "a-"]), 1..4)
    }

    proptest! {
        /// The model compares lists of segments.
        #[test]
        fn rules_agree_with_segments(
            rules in prop::collection::vec((path(), any::<bool>(), 0_u8..16), 0..4),
            name in path(),
        ) {
            let texts: Vec<String> = rules.iter().filter(|(_, _, verbs)| *verbs != 0).map(|(path, is_folder, verbs)| {
                format!("{}:/{}{}", Verbs(*verbs), path.join("/"), if *is_folder { "/" } else { "" })
            }).collect();
            let rights = Rights::new(texts.iter().map(|text| text.parse().unwrap()), false);
            let text = name.join("/");
            let folder = Folder::parse(&text).unwrap();
            for verb in Verb::ALL {
                let of_verb = || rules.iter().filter(|(_, _, verbs)| Verbs(*verbs).has(verb));
                let may = of_verb().any(|(path, is_folder, _)| {
                    name.starts_with(path) && !(*is_folder && path.len() == name.len())
                });
                prop_assert_eq!(rights.may(verb, &text), may);
                prop_assert_eq!(rights.may_below(verb, &folder), of_verb().any(|(path, ..)| name.starts_with(path)));
                let reaches = of_verb().any(|(path, is_folder, _)| {
                    name.starts_with(path) || (path.starts_with(&name) && (path.len() > name.len() || *is_folder))
                });
                prop_assert_eq!(rights.may_somewhere(verb, &folder), reaches);
            }
            prop_assert_eq!(rights.scope().has(&text), rights.may(Verb::Read, &text));
        }
    }
}
