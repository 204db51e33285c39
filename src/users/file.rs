//! The file of users: JSON that people can read, changed by one at a time and never half written.
//!
//! ```json
//! {
//!   "version": 1,
//!   "users": [
//!     {
//!       "name": "anna",
//!       "password": "$argon2id$v=19$m=19456,t=2,p=1$…",
//!       "rules": ["read:/", "all:/team/"]
//!     }
//!   ]
//! }
//! ```

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::error::UsersError;
use super::{Draft, token};

/// The format that is written.
const VERSION: u64 = 1;
/// Only who has the file may read it: hashes can be tried.
const MODE: u32 = 0o600;

/// Where users are kept.
#[derive(Clone, Debug)]
pub struct UsersFile {
    path: PathBuf,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// There is no file.
    Absent,
    /// Whether there is one cannot be said.
    Unknown,
    /// Device and number, bytes, and when content and entry were changed.
    File(u64, u64, u64, [i64; 4]),
}

/// What a file says.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its users; their names differ.
    pub users: Vec<Draft>,
    /// What is not wrong, but worth to be known.
    pub warning: Option<String>,
    /// The state that was read.
    pub identity: Identity,
}

#[derive(Deserialize)]
struct Form {
    version: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u64,
    users: &'a [Draft],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(deserialize_with = "distinct")]
    users: Vec<Draft>,
}

impl UsersFile {
    /// At this place, whether there is one or not.
    pub fn new(path: impl Into<PathBuf>) -> UsersFile {
        UsersFile { path: path.into() }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state that it is in now.
    pub fn identity(&self) -> Identity {
        match fs::metadata(&self.path) {
            Ok(found) => identity(&found),
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_link() => Identity::Absent,
            Err(_) => Identity::Unknown,
        }
    }

    /// Reads it; None if it is not there.
    ///
    /// # Errors
    /// [`UsersError::Damaged`] names the line, [`UsersError::Version`], [`UsersError::Io`].
    pub fn read(&self) -> Result<Option<Contents>, UsersError> {
        let io = || UsersError::io("read", &self.path);
        // Opening a pipe would wait.
        let found = match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.is_link() => return Ok(None),
            found => found.map_err(io())?,
        };
        if !found.is_file() {
            return Err(io()(io::Error::other("it is no file")));
        }
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io())?,
        };
        let found = file.metadata().map_err(io())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io())?;
        let mode = found.mode() & 0o777;
        let warning = (mode & 0o077 != 0).then(|| {
            let path = self.path.display();
            format!("others can read the users file {path} (mode {mode:o}), and try its passwords: chmod 600 {path}")
        });
        Ok(Some(Contents { users: self.parse(&bytes)?, warning, identity: identity(&found) }))
    }

    /// Whether it is a link. One that leads nowhere does not say that there are no users: a disk may be missing.
    fn is_link(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_symlink())
    }

    fn parse(&self, bytes: &[u8]) -> Result<Vec<Draft>, UsersError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        // What another version writes is not damaged.
        if let Ok(Form { version }) = serde_json::from_slice(bytes)
            && version != VERSION
        {
            return Err(UsersError::Version { path: self.path.clone(), found: version, known: VERSION });
        }
        let whole: Whole = serde_json::from_slice(bytes)
            .map_err(|error| UsersError::Damaged { path: self.path.clone(), why: error.to_string() })?;
        Ok(whole.users)
    }

    /// Has the users changed while nobody else changes them, and writes them in one step: a reader finds the old ones or
    /// the new ones. What `change` refuses changes nothing. The file is made if it is not there, with its folder.
    ///
    /// Others that change it are waited for, by a lock on a file beside it.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), and of `change`.
    pub fn change<T, E: From<UsersError>>(
        &self,
        change: impl FnOnce(&mut Vec<Draft>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Not a link to it that somebody made.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let place = UsersFile { path };
        let lock = place.lock()?;
        let before = place.read()?;
        let mut users = before.map(|contents| contents.users).unwrap_or_default();
        let result = change(&mut users)?;
        place.write(&users)?;
        drop(lock);
        Ok(result)
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(extension);
        name.into()
    }

    fn lock(&self) -> Result<File, UsersError> {
        let io = || UsersError::io("lock", &self.path);
        DirBuilder::new().recursive(true).mode(0o755).create(self.folder()).map_err(io())?;
        let path = self.beside(".lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(MODE);
        let file = match options.clone().create_new(true).open(&path) {
            // Only what was made here is given away: whoever has the folder can put other files there.
            Ok(made) => self.hand_over(&made).map(|()| made),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path)
            }
            Err(error) => Err(error),
        };
        let file = file.map_err(io())?;
        file.lock().map_err(io())?;
        Ok(file)
    }

    fn write(&self, users: &[Draft]) -> Result<(), UsersError> {
        let io = || UsersError::io("write", &self.path);
        let text = serde_json::to_string_pretty(&Written { version: VERSION, users });
        let text = text.map_err(|error| io()(error.into()))?;
        let new = self.beside(".new");
        // Of a command that was killed; nobody else is here.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io()(error)),
            _ => (),
        }
        let written = self.fill(&new, &text).and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            // It is not there, or is removed the next time.
            let _ = fs::remove_file(&new);
            return Err(io()(error));
        }
        File::open(self.folder()).and_then(|folder| folder.sync_all()).map_err(io())
    }

    fn fill(&self, new: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
        self.hand_over(&file)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    }

    /// Gives what root has made to whom the users file belongs, or will: a server under another account must be able to
    /// read it, and its owner to change it.
    fn hand_over(&self, made: &File) -> io::Result<()> {
        let owner = fs::metadata(&self.path).or_else(|_| fs::metadata(self.folder()))?;
        let mine = made.metadata()?;
        match mine.uid() == 0 && (owner.uid(), owner.gid()) != (mine.uid(), mine.gid()) {
            true => fchown(made, Some(owner.uid()), Some(owner.gid())),
            false => Ok(()),
        }
    }
}

fn identity(found: &Metadata) -> Identity {
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
    Identity::File(found.dev(), found.ino(), found.size(), times)
}

/// Users whose names and tokens differ; what stands there twice is told with its line.
fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Draft>, D::Error> {
    struct Distinct;
    impl<'de> Visitor<'de> for Distinct {
        type Value = Vec<Draft>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of users")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Draft>, A::Error> {
            let twice = |what: String| serde::de::Error::custom(format!("{what} stands there twice"));
            let mut users: Vec<Draft> = Vec::new();
            let (mut names, mut tokens) = (HashSet::new(), HashSet::<token::Digest>::new());
            while let Some(user) = seq.next_element::<Draft>()? {
                if !names.insert(user.name.clone()) {
                    return Err(twice(format!("the user {}", user.name)));
                }
                if user.name.is_anonymous()
                    && (user.admin || user.password.is_some() || !user.tokens.is_empty())
                {
                    let why = "anonymous stands for everybody who asks, and has rules alone";
                    return Err(serde::de::Error::custom(why));
                }
                if let Some(token) = user.tokens.iter().find(|token| !tokens.insert(token.digest)) {
                    return Err(twice(format!("the token {}", token.id)));
                }
                users.push(user);
            }
            Ok(users)
        }
    }
    deserializer.deserialize_seq(Distinct)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::{PasswordHash, Token};
    use super::*;

    fn file() -> (tempfile::TempDir, UsersFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = UsersFile::new(folder.path().join("some/where/users.json"));
        (folder, file)
    }

    fn add(file: &UsersFile, name: &str) -> Result<(), UsersError> {
        file.change(|users| {
            users.push(Draft::new(name.parse()?));
            Ok(())
        })
    }

    #[test]
    fn users_come_back_as_they_were_written() {
        let (_folder, file) = file();
        assert!(file.read().unwrap().is_none());
        assert_eq!(file.identity(), Identity::Absent);
        let (_, token) = Token::new("backup", None).unwrap();
        let anna = Draft {
            password: Some(PasswordHash::new("some password").unwrap()),
            admin: true,
            rules: vec!["read:/".parse().unwrap(), "all:/团队/".parse().unwrap()],
            tokens: vec![token],
            ..Draft::new("anna".parse().unwrap())
        };
        let users = vec![anna, Draft::new("anonymous".parse().unwrap())];
        let given = users.clone();
        file.change(|users| {
            *users = given;
            Ok::<_, UsersError>(())
        })
        .unwrap();
        let read = file.read().unwrap().unwrap();
        assert_eq!((read.users, read.warning, read.identity), (users, None, file.identity()));
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(text.contains("\n      \"name\": \"anna\",\n"), "people can read it: {text}");
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing() {
        let (_folder, file) = file();
        add(&file, "anna").unwrap();
        let before = file.identity();
        let refused = file.change(|users| {
            users.clear();
            add(&UsersFile::new("/nonexistent/x/y"), "a:b")
        });
        assert!(refused.is_err());
        assert_eq!(file.identity(), before);
    }

    #[test]
    fn changes_at_one_time_do_not_lose_each_other() {
        let (_folder, file) = file();
        std::thread::scope(|scope| {
            for n in 0..8 {
                let file = &file;
                scope.spawn(move || (0..5).for_each(|m| add(file, &format!("u{n}-{m}")).unwrap()));
            }
        });
        assert_eq!(file.read().unwrap().unwrap().users.len(), 40);
    }

    #[test]
    fn what_a_killed_command_left_is_no_obstacle_and_links_stay() {
        let (folder, file) = file();
        add(&file, "anna").unwrap();
        fs::write(file.beside(".new"), "{").unwrap();
        fs::remove_file(file.beside(".lock")).unwrap();
        symlink(file.path(), file.beside(".lock")).unwrap();
        assert!(add(&file, "bob").is_err(), "a lock is no link");
        fs::remove_file(file.beside(".lock")).unwrap();
        let link = UsersFile::new(folder.path().join("link.json"));
        symlink(file.path(), link.path()).unwrap();
        add(&link, "bob").unwrap();
        assert!(fs::symlink_metadata(link.path()).unwrap().is_symlink());
        assert_eq!(file.read().unwrap().unwrap().users.len(), 2);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_no_sign_that_there_are_no_users() {
        let (folder, file) = file();
        let link = UsersFile::new(folder.path().join("link.json"));
        symlink(file.path(), link.path()).unwrap();
        assert!(link.read().is_err());
        assert_eq!(link.identity(), Identity::Unknown);
        assert!(add(&link, "anna").is_err());
        add(&file, "anna").unwrap();
        assert_eq!(link.read().unwrap().unwrap().users.len(), 1);
        fs::remove_file(file.path()).unwrap();
        assert_eq!(link.identity(), Identity::Unknown);
    }

    #[test]
    fn a_file_that_others_can_read_is_told() {
        let (_folder, file) = file();
        add(&file, "anna").unwrap();
        for (mode, is_told) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let warning = file.read().unwrap().unwrap().warning;
            assert_eq!(warning.is_some(), is_told, "{mode:o}");
            assert!(warning.is_none_or(|warning| warning.contains("chmod 600")), "{mode:o}");
        }
    }

    #[test]
    fn damage_is_told_with_its_line() {
        let (_folder, file) = file();
        add(&file, "x").unwrap();
        for (text, line, why) in [
            ("", 1, "EOF"),
            ("{", 1, "EOF"),
            ("[]", 1, ""),
            ("{\"version\": 1}", 1, "users"),
            ("{\"users\": []}", 1, "version"),
            ("{\"version\": 1,\n\"users\": [],\n\"more\": 1}", 3, "more"),
            ("{\"version\": 1,\n\"users\": [\n{\"name\": \"a b\"}]}", 3, "no name for a user"),
            (
                "{\"version\": 1,\n\"users\": [\n{\"name\": \"a\"},\n{\"name\": \"a\"}]}",
                4,
                "a stands there twice",
            ),
            ("{\"version\": 1,\n\"users\": [\n{\"name\": \"a\",\n\"rules\": [\"write:/\"]}]}", 4, "no verb"),
            ("{\"version\": 1,\n\"users\": [\n{\"name\": \"a\",\n\"password\": \"secret\"}]}", 4, "hash"),
            ("{\"version\": 1,\n\"users\": [\n{\"name\": \"a\",\n\"pasword\": \"x\"}]}", 4, "pasword"),
            ("{\"version\": 1,\n\"users\": [\n{\"rules\": []}]}", 3, "name"),
            (
                "{\"version\": 1,\n\"users\": [\n{\"name\": \"anonymous\", \"admin\": true}]}",
                3,
                "rules alone",
            ),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = file.read().unwrap_err();
            assert!(matches!(error, UsersError::Damaged { .. }), "{text}");
            let told = error.to_string();
            assert!(told.contains(&format!("line {line} ")) && told.contains(why), "{text}: {told}");
            assert!(add(&file, "new").is_err(), "nothing is written over it");
        }
        fs::write(file.path(), "{\"version\": 2, \"people\": []}").unwrap();
        assert!(matches!(file.read().unwrap_err(), UsersError::Version { found: 2, .. }));
    }
}
