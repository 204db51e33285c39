//! Settings of a server: read from the command line, the environment and a file, and checked once.
//!
//! An option wins over a variable, a variable over the file, the file over the default. [`ServeArgs`] names all settings.
//! Relative paths are relative to the folder that the program was started in, wherever they stand.
//!
//! ```
//! use cloudstore::config::{Config, ServeArgs};
//!
//! let args = ServeArgs { listen: Some("127.0.0.1:0".into()), idle_timeout: Some("5m".into()), ..ServeArgs::default() };
//! let config = Config::load(&args)?;
//! assert_eq!(config.limits.idle_timeout.as_secs(), 300);
//! # Ok::<(), cloudstore::config::ConfigError>(())
//! ```

mod error;
mod file;
mod keys;
mod paths;
#[cfg(test)]
mod tests;
pub mod units;
mod value;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use logger::Filter;
use logger::forward::Wire;
use reactor::Address;
use reactor::http::Limits;
use serde_json::Value;

pub use error::{ConfigError, Origin, Problem};
pub use keys::{Effect, ServeArgs};

use crate::storage::{self, Durability};
use file::{Contents, Given};
use keys::{KEYS, suggestion};
use value::{Bytes, Count, FilterText, Hosts, Origins, Prefix, Setting};

/// The form of a log record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// The settings of a server, checked: nothing behind this door checks them again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen. Only loopback or a Unix socket, unless there are users or [`open`](Self::open) is set.
    pub listen: Address,
    /// Listen also where other machines reach it, without users.
    pub open: bool,
    /// The data folder.
    pub data: PathBuf,
    /// The file of users, whether it is there or not.
    pub users: PathBuf,
    /// Loops, 1 to 256.
    pub threads: usize,
    /// Threads for work that blocks, 1 to 256.
    pub jobs: usize,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How hard deep objects are packed, 0 to 9.
    pub level: u32,
    /// The file of the index, if it is not in the data folder.
    pub index: Option<PathBuf>,
    /// Bytes of memory for the index.
    pub index_cache: usize,
    /// Below which path objects are found too; it begins and ends with a slash.
    pub download_prefix: String,
    /// Where records are forwarded to.
    pub backlog: Option<Address>,
    /// How they are.
    pub backlog_wire: Wire,
    /// Connections that forward, 1 to 64.
    pub backlog_clients: usize,
    /// The folder of records that are not acknowledged yet; none of the store's own.
    pub spool: PathBuf,
    /// The log file; none for stderr alone.
    pub log_file: Option<PathBuf>,
    /// What is logged.
    pub log_level: Filter,
    /// The form of a record.
    pub log_format: LogFormat,
    /// The most bytes of a log file; none for no bound.
    pub log_max_bytes: Option<u64>,
    /// Old log files that are kept.
    pub log_keep: usize,
    /// Each request is logged.
    pub access_log: bool,
    /// What a client may do, and how long the server waits for it.
    pub limits: Limits,
    /// Bytes of disk space that uploads leave free.
    pub min_free_disk: u64,
    /// Origins whose pages may call the server, in lower case and without a default port, or `*`; none if it is empty.
    pub cors: Vec<String>,
    /// Names that requests may be for besides IP addresses and `localhost`, in lower case; none for any.
    pub hosts: Option<Vec<String>>,
    /// All settings as they are shown, in the order of the options.
    settings: Vec<Shown>,
    notes: Vec<String>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Shown {
    key: &'static str,
    value: Value,
    origin: Origin,
}

/// What is around a program besides its arguments.
struct Surroundings {
    variables: Vec<(OsString, OsString)>,
    /// What relative paths of configuration files are relative to; empty for the folder that the program is in.
    folder: PathBuf,
}

/// Some 25 MB of idle connections.
const MAX_CONNECTIONS: usize = 12_000;
/// The data folder, and the users in it, if nothing is said.
const DATA: &str = "./data";
const USERS: &str = "users.json";
const PREFIX: &str = "CLOUDSTORE_";
/// Variables that are no settings of a server: where its file is, where clients find it, and what they say of themselves.
const OTHERS: [&str; 5] = ["CONFIG", "SERVER", "USER", "PASSWORD", "TOKEN"];

impl Config {
    /// Reads the settings from these options, the environment and the file that they name. Called again it reads them
    /// again: see [`changes`](Self::changes) for which of them a running server can take over.
    ///
    /// # Errors
    /// Everything that is wrong, at once. A file that is named must be there.
    pub fn load(args: &ServeArgs) -> Result<Config, ConfigError> {
        let variables = std::env::vars_os().collect();
        Config::load_in(args, &Surroundings { variables, folder: PathBuf::new() })
    }

    fn load_in(args: &ServeArgs, around: &Surroundings) -> Result<Config, ConfigError> {
        let (contents, given, file) = gather(args, around);
        let Contents { notes, problems, .. } = contents;
        Checking { given, problems, settings: Vec::new() }.check(notes, file, &around.folder)
    }

    /// Where these options, the environment and the file have the users; what else they say is not looked at, so that users
    /// can be made for a server that does not start without.
    ///
    /// # Errors
    /// What is wrong with these settings, or with the configuration file.
    pub fn users_file(args: &ServeArgs) -> Result<PathBuf, ConfigError> {
        let around = Surroundings { variables: std::env::vars_os().collect(), folder: PathBuf::new() };
        Config::users_in(args, &around)
    }

    fn users_in(args: &ServeArgs, around: &Surroundings) -> Result<PathBuf, ConfigError> {
        let (contents, given, _) = gather(args, around);
        let mut checking = Checking { given, problems: contents.problems, settings: Vec::new() };
        let data = checking.take("data", || PathBuf::from(DATA));
        let users = checking.take("users", || data.join(USERS));
        match checking.problems.is_empty() {
            true => Ok(users),
            false => Err(ConfigError { problems: checking.problems }),
        }
    }

    /// What is not wrong, but worth to be known: keys without effect, and variables that name no setting.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The settings whose values differ in `new`, and when a server that runs with `self` can take them over.
    pub fn changes(&self, new: &Config) -> Vec<(&'static str, Effect)> {
        let differs = |key: &str| {
            let value = |config: &Config| {
                config.settings.iter().find(|shown| shown.key == key).map(|shown| shown.value.clone())
            };
            value(self) != value(new)
        };
        KEYS.iter().copied().filter(|(key, _)| differs(key)).collect()
    }

    /// The settings as a JSON object, with where each comes from: `{"listen": {"value": …, "from": "default"}, …}`. It ends
    /// without a line end.
    pub fn to_json(&self) -> String {
        let line = |shown: &Shown| {
            let from = match &shown.origin {
                Origin::File(_, key) if key != shown.key => format!("{}, {key}", shown.origin),
                origin => origin.to_string(),
            };
            let (key, value) = (shown.key, &shown.value);
            format!("  \"{key}\": {{\"value\": {value}, \"from\": {}}}", Value::from(from))
        };
        let lines: Vec<String> = self.settings.iter().map(line).collect();
        format!("{{\n{}\n}}", lines.join(",\n"))
    }

    /// How the store is opened.
    pub fn storage(&self) -> storage::Options {
        storage::Options {
            index: self.index.clone(),
            durability: self.durability,
            threads: self.jobs,
            level: self.level,
            index_cache: self.index_cache,
            ..storage::Options::new(&self.data)
        }
    }
}

/// All that is said, and the file that says some of it. Of one setting the later wins.
fn gather(args: &ServeArgs, around: &Surroundings) -> (Contents, Vec<Given>, Option<PathBuf>) {
    let mut contents = Contents::default();
    let mut file = None;
    match find_file(args, around) {
        Ok(Some((path, read))) => {
            file = Some(path);
            contents = read;
        }
        Ok(None) => (),
        Err(problem) => contents.problems.push(problem),
    }
    let mut given = std::mem::take(&mut contents.given);
    read_environment(around, &mut given, &mut contents);
    for (key, _) in KEYS {
        if let Some(text) = args.get(key) {
            let origin = Origin::Flag(format!("--{}", key.replace('_', "-")));
            given.push(Given { key, text: text.to_owned(), origin });
        }
    }
    (contents, given, file)
}

/// The file that is named, else the first of those that are looked for.
fn find_file(args: &ServeArgs, around: &Surroundings) -> Result<Option<(PathBuf, Contents)>, Problem> {
    let variable = |name: &str| {
        let found = around.variables.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| PathBuf::from(value)).filter(|path| path.as_os_str() != "")
    };
    if let Some(path) = args.config.clone().or_else(|| variable("CLOUDSTORE_CONFIG")) {
        return match file::read(&around.folder.join(&path)) {
            Ok(Some(contents)) => Ok(Some((path, contents))),
            Ok(None) => {
                let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
                Err(Problem::Read { path, source: missing.into() })
            }
            Err(problem) => Err(problem),
        };
    }
    // The XDG specification: a relative path there is no path.
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let xdg = variable("XDG_CONFIG_HOME").and_then(absolute);
    let xdg = xdg.or_else(|| variable("HOME").and_then(absolute).map(|home| home.join(".config")));
    let places =
        [Some(around.folder.join("cloudstore.json")), xdg.map(|xdg| xdg.join("cloudstore/config.json"))];
    for path in places.into_iter().flatten() {
        if let Some(contents) = file::read(&path)? {
            return Ok(Some((path, contents)));
        }
    }
    Ok(None)
}

/// Takes the variables that name settings. One that names none is an error only if it looks like a slip: systems that
/// run containers make up `CLOUDSTORE_PORT` and others for a service of this name.
fn read_environment(around: &Surroundings, given: &mut Vec<Given>, contents: &mut Contents) {
    let mut variables: Vec<(&str, &OsString)> =
        around.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value))).collect();
    variables.sort_unstable();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !OTHERS.contains(rest)) else { continue };
        let origin = Origin::Environment(name.to_owned());
        let lower = rest.to_ascii_lowercase();
        let is_upper = !rest.bytes().any(|byte| byte.is_ascii_lowercase());
        match KEYS.iter().find(|(key, _)| is_upper && *key == lower) {
            Some((key, _)) => match value.to_str() {
                Some(text) => given.push(Given { key, text: text.to_owned(), origin }),
                None => contents.problems.push(Problem::Value {
                    origin,
                    key: (*key).to_owned(),
                    value: value.to_string_lossy().into_owned(),
                    allowed: "write it in UTF-8".to_owned(),
                }),
            },
            None => match suggestion(rest, KEYS.iter().map(|(key, _)| *key)) {
                Some(key) => contents.problems.push(Problem::UnknownKey {
                    origin,
                    key: name.to_owned(),
                    suggestion: Some(key),
                }),
                None => contents.notes.push(format!("{origin} names no setting, and is ignored")),
            },
        }
    }
}

/// Settings on their way to a [`Config`].
struct Checking {
    /// Later ones win.
    given: Vec<Given>,
    problems: Vec<Problem>,
    settings: Vec<Shown>,
}

impl Checking {
    fn check(
        mut self,
        mut notes: Vec<String>,
        file: Option<PathBuf>,
        folder: &Path,
    ) -> Result<Config, ConfigError> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let defaults = Limits::default();
        // In the order of the options, in which they are shown.
        let listen = self.take("listen", || Address::Inet(([127, 0, 0, 1], 8081).into()));
        let open = self.take("open", || false);
        let data = self.take("data", || PathBuf::from(DATA));
        let users = self.take("users", || data.join(USERS));
        let threads: Count<1, 256> = self.take("threads", || Count(processors.min(4)));
        let jobs: Count<1, 256> = self.take("jobs", || Count(processors.clamp(4, 256)));
        let durability = self.take("durability", Durability::default);
        let level: Count<0, 9> = self.take("level", || Count(6));
        let index: Option<PathBuf> = self.take("index", || None);
        let index_cache: Bytes<{ 1 << 20 }, { 1 << 40 }> = self.take("index_cache", || Bytes(128 << 20));
        let download_prefix = self.take("download_prefix", || Prefix("/download/".to_owned()));
        let backlog = self.take("backlog", || None);
        let backlog_wire = self.take("backlog_wire", Wire::default);
        let backlog_clients: Count<1, 64> = self.take("backlog_clients", || Count(4));
        let spool = self.take("spool", || data.join("spool"));
        let log_file: Option<PathBuf> = self.take("log_file", || None);
        let log_level = self.take("log_level", || FilterText("info".to_owned(), Filter::default()));
        let log_format = self.take("log_format", LogFormat::default);
        let log_max_bytes: Bytes<0, { u64::MAX }> = self.take("log_max_bytes", || Bytes(64 << 20));
        let log_keep: Count<0, { usize::MAX }> = self.take("log_keep", || Count(10));
        let access_log = self.take("access_log", || true);
        let limits = self.limits(&defaults);
        let min_free_disk: Bytes<0, { u64::MAX }> = self.take("min_free_disk", || Bytes(64 << 20));
        let cors = self.take("cors", || Origins(Vec::new()));
        // A page from anywhere can have its name point at this machine. Where others reach the server, they do so by names
        // that it does not know; and a path has none.
        let hosts = self.take("hosts", || match &listen {
            Address::Inet(_) if value::is_local(&listen) => Hosts::Known(Vec::new()),
            _ => Hosts::Any,
        });

        // One that cannot be looked at is there: the server says why it does not start.
        let has_users = !matches!(
            fs::metadata(folder.join(&users)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound
        );
        let named = self.settings.iter().find(|shown| shown.key == "users");
        if !has_users && named.is_some_and(|shown| shown.origin != Origin::Default) {
            notes.push(format!(
                "the users file {} is not there: until it is, everybody may do everything",
                users.display()
            ));
        }
        if let Err(problem) = check_exposure(&listen, open, has_users, &users) {
            self.problems.push(problem);
        }
        if fs::metadata(folder.join(&data)).is_ok_and(|found| !found.is_dir()) {
            self.problems.push(Problem::NoFolder { data: data.clone() });
        }
        // The index may be in its usual place.
        let index_elsewhere =
            index.clone().filter(|index| !paths::same_place(index, &data.join("storage.data")));
        let occupied = [
            ("users", Some(users.clone())),
            ("spool", Some(spool.clone())),
            ("log_file", log_file.clone()),
            ("index", index_elsewhere),
        ];
        for (key, path) in occupied {
            if let Some(path) = path.filter(|path| value::is_of_the_store(path, &data)) {
                self.problems.push(Problem::Occupied { key, path, data: data.clone() });
            }
        }
        if !self.problems.is_empty() {
            return Err(ConfigError { problems: self.problems });
        }
        Ok(Config {
            listen,
            open,
            data,
            users,
            threads: threads.0,
            jobs: jobs.0,
            durability,
            level: u32::try_from(level.0).unwrap_or(9),
            index,
            index_cache: usize::try_from(index_cache.0).unwrap_or(usize::MAX),
            download_prefix: download_prefix.0,
            backlog,
            backlog_wire,
            backlog_clients: backlog_clients.0,
            spool,
            log_file,
            log_level: log_level.1,
            log_format,
            log_max_bytes: Some(log_max_bytes.0).filter(|&bytes| bytes > 0),
            log_keep: log_keep.0,
            access_log,
            limits,
            min_free_disk: min_free_disk.0,
            cors: cors.0,
            hosts: match hosts {
                Hosts::Any => None,
                Hosts::Known(names) => Some(names),
            },
            settings: self.settings,
            notes,
            file,
        })
    }

    fn limits(&mut self, defaults: &Limits) -> Limits {
        let max_connections: Count<1, { usize::MAX }> =
            self.take("max_connections", || Count(MAX_CONNECTIONS));
        let per_address: Count<0, { usize::MAX }> =
            self.take("max_connections_per_address", || Count(defaults.max_connections_per_address));
        let max_header_bytes: Bytes<{ 1 << 10 }, { 16 << 20 }> =
            self.take("max_header_bytes", || Bytes(defaults.max_header_bytes as u64));
        let max_body_bytes: Option<Bytes<0, { u64::MAX }>> = self.take("max_body_bytes", || None);
        let mut time = |key, default: Duration| self.take(key, || default);
        Limits {
            max_connections: max_connections.0,
            max_connections_per_address: per_address.0,
            max_header_bytes: usize::try_from(max_header_bytes.0).unwrap_or(usize::MAX),
            max_body_bytes: max_body_bytes.map_or(u64::MAX, |bytes| bytes.0),
            head_timeout: time("head_timeout", defaults.head_timeout),
            body_timeout: time("body_timeout", defaults.body_timeout),
            idle_timeout: time("idle_timeout", defaults.idle_timeout),
            write_timeout: time("write_timeout", defaults.write_timeout),
            ..defaults.clone()
        }
    }

    /// The value of a setting. One that is no value is a problem, wherever it stands, also if it would not win.
    fn take<T: Setting>(&mut self, key: &'static str, default: impl FnOnce() -> T) -> T {
        let mut winner = None;
        for given in self.given.iter().filter(|given| given.key == key) {
            match T::parse(&given.text) {
                Ok(value) => winner = Some((value, given.origin.clone())),
                Err(allowed) => self.problems.push(Problem::Value {
                    origin: given.origin.clone(),
                    key: given.origin.key(key).to_owned(),
                    value: given.text.clone(),
                    allowed,
                }),
            }
        }
        let (value, origin) = winner.unwrap_or_else(|| (default(), Origin::Default));
        self.settings.push(Shown { key, value: value.show(), origin });
        value
    }
}

/// Whether a server may listen there: on this machine alone, or with users, or if it is open to everybody.
///
/// # Errors
/// [`Problem::Open`].
pub fn check_exposure(listen: &Address, open: bool, has_users: bool, users: &Path) -> Result<(), Problem> {
    if open || has_users || value::is_local(listen) {
        Ok(())
    } else {
        Err(Problem::Open { listen: listen.clone(), users: users.to_owned() })
    }
}
