//! What is sent: files and folders of this machine, with the names that they get.

use std::collections::HashMap;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::error::{ClientError, shown};
use crate::storage::Name;

/// Where things go: a name ends with a slash if they go into it as a folder, and is their own name else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// They get this name.
    As(String),
    /// They go in there under their own last part; it is empty, or ends with a slash.
    Into(String),
}

impl Place {
    /// Reads what people write; nothing, and `/`, is the top.
    pub fn parse(text: &str) -> Place {
        let text = text.strip_prefix('/').unwrap_or(text);
        match text.is_empty() || text.ends_with('/') {
            true => Place::Into(text.to_owned()),
            false => Place::As(text.to_owned()),
        }
    }

    /// The name of something whose last part is `leaf`.
    pub fn name_of(&self, leaf: &str) -> String {
        match self {
            Place::As(name) => name.clone(),
            Place::Into(folder) => format!("{folder}{leaf}"),
        }
    }
}

/// A file to be sent.
#[derive(Debug)]
pub struct Source {
    /// The file; `-` for stdin.
    pub path: PathBuf,
    /// Bytes, if it is a plain file.
    pub size: Option<u64>,
    /// The name that it gets.
    pub name: Name,
}

/// What there is to send.
#[derive(Debug, Default)]
pub struct Sources {
    /// In the order of their names.
    pub files: Vec<Source>,
    /// What is left out, in a sentence each: symlinks in folders, and what is no file.
    pub notes: Vec<String>,
    /// What cannot be sent.
    pub failures: Vec<(PathBuf, ClientError)>,
}

impl Sources {
    /// Looks at `path`, and at all that is in it if it is a folder. A symlink is followed if it is `path` itself, and left out
    /// in a folder.
    ///
    /// # Errors
    /// It is not there, or nothing that can be sent.
    pub fn add(&mut self, path: &Path, to: &Place) -> Result<(), ClientError> {
        if path.as_os_str() == "-" {
            let Place::As(name) = to else {
                return Err(ClientError::Usage(
                    "what comes from stdin has no name: give it one by --to NAME".into(),
                ));
            };
            let name = parsed(name)?;
            self.files.push(Source { path: path.to_owned(), size: None, name });
            return Ok(());
        }
        let meta = fs::metadata(path).map_err(|source| ClientError::local("find", path, source))?;
        let name = to.name_of(&leaf(path, to)?);
        if meta.is_dir() {
            let top = parsed(&name)?;
            self.walk(path.to_owned(), top.as_str().to_owned());
            return Ok(());
        }
        let name = parsed(&name)?;
        if meta.file_type().is_socket() || meta.file_type().is_block_device() {
            return Err(ClientError::file(path, "is no file"));
        }
        let size = meta.is_file().then_some(meta.len());
        self.files.push(Source { path: path.to_owned(), size, name });
        Ok(())
    }

    /// Refuses two files that would get the same name: the one sent later would replace the other.
    ///
    /// # Errors
    /// [`ClientError::Usage`] with both of them.
    pub fn refuse_same_names(&self) -> Result<(), ClientError> {
        let mut known = HashMap::with_capacity(self.files.len());
        for file in &self.files {
            if let Some(first) = known.insert(&file.name, &file.path) {
                let (name, second) = (&file.name, file.path.display());
                let why = format!(
                    "{} and {second} would both be {name}, and one replace the other: send them to different folders",
                    first.display()
                );
                return Err(ClientError::Usage(why));
            }
        }
        Ok(())
    }

    fn walk(&mut self, top: PathBuf, name: String) {
        let mut folders = vec![(top, name)];
        while let Some((folder, name)) = folders.pop() {
            let entries = match entries_of(&folder) {
                Ok(entries) => entries,
                Err(source) => {
                    let error = ClientError::local("read", &folder, source);
                    self.failures.push((folder, error));
                    continue;
                }
            };
            let mut below = Vec::new();
            for (path, kind) in entries {
                let leaf = path.file_name().unwrap_or_default();
                let Some(leaf) = leaf.to_str() else {
                    let error = ClientError::file(&path, "has a name that is not UTF-8: rename it");
                    self.failures.push((path, error));
                    continue;
                };
                let name = format!("{name}/{leaf}");
                if kind.is_dir() {
                    below.push((path, name));
                } else if kind.is_file() {
                    match Name::parse(&name) {
                        Ok(name) => match fs::symlink_metadata(&path) {
                            Ok(meta) => self.files.push(Source { path, size: Some(meta.len()), name }),
                            Err(source) => {
                                let error = ClientError::local("find", &path, source);
                                self.failures.push((path, error));
                            }
                        },
                        Err(error) => {
                            let error = ClientError::file(&path, format!("cannot be stored: {error}"));
                            self.failures.push((path, error));
                        }
                    }
                } else {
                    let what = if kind.is_symlink() { "a symlink, which is not followed" } else { "no file" };
                    self.notes.push(format!("{} is left out: it is {what}", shown(&path.to_string_lossy())));
                }
            }
            // The last one is looked at first.
            folders.extend(below.into_iter().rev());
        }
    }
}

fn entries_of(folder: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.path(), entry.file_type()?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}

fn parsed(name: &str) -> Result<Name, ClientError> {
    Name::parse(name).map_err(|error| ClientError::Usage(format!("{}: {error}", shown(name))))
}

/// The last part of a path, which `..` and `.` do not have in themselves.
fn leaf(path: &Path, to: &Place) -> Result<String, ClientError> {
    if matches!(to, Place::As(_)) {
        return Ok(String::new());
    }
    let found = match path.file_name() {
        Some(name) => Some(name.to_owned()),
        None => {
            let whole = fs::canonicalize(path).map_err(|source| ClientError::local("find", path, source))?;
            whole.file_name().map(ToOwned::to_owned)
        }
    };
    let Some(found) = found else {
        return Err(ClientError::Usage(format!("{} has no name: give it one by --to NAME", path.display())));
    };
    found
        .into_string()
        .map_err(|_| ClientError::file(path, "has a name that is not UTF-8: give it one by --to NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_says_into() {
        for (text, leaf, name) in [
            ("", "a", "a"),
            ("/", "a", "a"),
            ("x", "a", "x"),
            ("/x", "a", "x"),
            ("x/", "a", "x/a"),
            ("x/y/", "a", "x/y/a"),
            ("x/y", "a", "x/y"),
        ] {
            assert_eq!(Place::parse(text).name_of(leaf), name, "{text}");
        }
    }

    #[test]
    fn no_two_files_get_one_name() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir_all(at("x/f")).unwrap();
        fs::create_dir_all(at("y/f")).unwrap();
        for name in ["x/a", "y/a", "x/f/b", "y/f/b", "y/f/c"] {
            fs::write(at(name), name).unwrap();
        }
        for (first, second, is_good) in [
            ("x/a", "y/a", false),
            ("x/f", "y/f", false),
            ("x/a", "x/a", false),
            ("x/f", "y/f/c", true),
            ("x/a", "x/f", true),
        ] {
            let mut sources = Sources::default();
            sources.add(&at(first), &Place::parse("to/")).unwrap();
            sources.add(&at(second), &Place::parse("to/")).unwrap();
            let result = sources.refuse_same_names();
            assert_eq!(result.is_ok(), is_good, "{first} {second}");
            if let Err(error) = result {
                assert_eq!(error.exit_code(), 2, "{error}");
            }
        }
    }

    #[test]
    fn folders_are_walked_and_what_is_no_file_is_told() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir_all(at("f/b/c")).unwrap();
        for name in ["f/z", "f/b/c/1", "f/b/2", "f/a\nb", "f/a\\b"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("z", at("f/link")).unwrap();
        std::os::unix::fs::symlink("b", at("f/folder")).unwrap();
        for (path, to, first) in
            [("f", "", "f"), ("f", "x", "x"), ("f/", "x/", "x/f"), ("f/b/..", "", "f"), ("f/.", "y", "y")]
        {
            let mut sources = Sources::default();
            sources.add(&at(path), &Place::parse(to)).unwrap();
            let mut names: Vec<&str> = sources.files.iter().map(|file| file.name.as_str()).collect();
            names.sort();
            let expected: Vec<String> =
                ["b/2", "b/c/1", "z"].iter().map(|name| format!("{first}/{name}")).collect();
            assert_eq!(names, expected, "{path} {to}");
            assert_eq!((sources.notes.len(), sources.failures.len()), (2, 2));
            assert!(sources.notes[0].contains("symlink"), "{:?}", sources.notes);
        }
        let mut sources = Sources::default();
        sources.add(&at("f/link"), &Place::parse("")).unwrap();
        assert_eq!((sources.files[0].name.as_str(), sources.files[0].size), ("link", Some(3)));
        assert_eq!(sources.add(&at("none"), &Place::parse("")).unwrap_err().exit_code(), 1);
        assert_eq!(sources.add(Path::new("-"), &Place::parse("x/")).unwrap_err().exit_code(), 2);
        assert_eq!(sources.add(&at("f"), &Place::parse("../x")).unwrap_err().exit_code(), 2);
        sources.add(Path::new("-"), &Place::parse("x")).unwrap();
    }
}
