//! The names of all settings: flags, variables and keys of the file are made from one list.

use std::path::PathBuf;

/// When a change of a setting takes effect in a server that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// When the configuration is read again.
    Reload,
    /// At the next start.
    Restart,
}

macro_rules! settings {
    ($($(#[$meta:meta])* $effect:ident $key:ident,)*) => {
        /// The settings of a server, as options. Each is also a key of the configuration file, by the same name with `_`
        /// for `-`, and an environment variable, as in `CLOUDSTORE_LOG_LEVEL`. An option wins over a variable, a variable
        /// over the file.
        #[derive(Clone, Debug, Default, clap::Args)]
        pub struct ServeArgs {
            /// The configuration, a file with a JSON object. Else CLOUDSTORE_CONFIG, else ./cloudstore.json if it is there,
            /// else cloudstore/config.json in $XDG_CONFIG_HOME or ~/.config. What the file does not say has its default.
            #[arg(long, value_name = "FILE")]
            pub config: Option<PathBuf>,
            $($(#[$meta])* #[arg(long)] pub $key: Option<String>,)*
        }

        impl ServeArgs {
            pub(super) fn get(&self, key: &str) -> Option<&str> {
                match key {
                    $(stringify!($key) => self.$key.as_deref(),)*
                    _ => None,
                }
            }
        }

        /// Every setting, and when a change of it takes effect.
        pub(super) const KEYS: &[(&str, Effect)] = &[$((stringify!($key), Effect::$effect),)*];
    };
}

settings! {
    /// Where to listen: an IP address and a port (0 for a free one), unix:/path or unix:@name [default: 127.0.0.1:8081]
    #[arg(value_name = "ADDRESS")]
    Restart listen,
    /// Listen also where other machines reach it, though there are no users: everybody may do everything [default: off]
    #[arg(value_name = "on|off", num_args = 0..=1, require_equals = true, default_missing_value = "on")]
    Restart open,
    /// The folder of all objects; it is made if it does not exist [default: ./data]
    #[arg(value_name = "FOLDER")]
    Restart data,
    /// The file of users and what they may do, as `cloudstore user` writes it; if it is there, nobody else is let in
    /// [default: users.json in the data folder]
    #[arg(value_name = "FILE")]
    Restart users,
    /// Loops, each a thread that serves connections, 1 to 256 [default: one a processor, at most 4]
    #[arg(value_name = "N")]
    Restart threads,
    /// Threads for what waits for the disk and for packing, 1 to 256 [default: one a processor, at least 4]
    #[arg(value_name = "N")]
    Restart jobs,
    /// What an acknowledged write survives: sync for the loss of power, relaxed for the end of the process alone
    /// [default: sync]
    #[arg(value_name = "sync|relaxed")]
    Restart durability,
    /// How hard deep objects are packed, 0 (not) to 9 (slowest) [default: 6]
    #[arg(value_name = "0-9")]
    Restart level,
    /// The file of the index [default: storage.data in the data folder]
    #[arg(value_name = "FILE")]
    Restart index,
    /// Memory for the index, 1M or more, taken as the index is read [default: 128M]
    #[arg(value_name = "BYTES")]
    Restart index_cache,
    /// Below which path objects are found too, for clients that know only this [default: /download/]
    #[arg(value_name = "PATH")]
    Restart download_prefix,
    /// Where records of errors are forwarded to, an address as in listen; none for nowhere [default: none]
    #[arg(value_name = "ADDRESS")]
    Restart backlog,
    /// How they are forwarded: relp (acknowledged), or as syslog that may get lost, octet-counted or newline
    /// [default: relp]
    #[arg(value_name = "relp|octet-counted|newline")]
    Restart backlog_wire,
    /// Connections that forward, each with a thread, 1 to 64 [default: 4]
    #[arg(value_name = "N")]
    Restart backlog_clients,
    /// The folder of records that are not acknowledged yet [default: spool in the data folder]
    #[arg(value_name = "FOLDER")]
    Restart spool,
    /// The log file; none for stderr alone [default: none]
    #[arg(value_name = "FILE")]
    Restart log_file,
    /// What is logged: a level, and others by target, as in info,storage=debug [default: info]
    #[arg(value_name = "FILTER")]
    Reload log_level,
    /// The form of a record: text, or json for an object a line [default: text]
    #[arg(value_name = "text|json")]
    Restart log_format,
    /// Begin a new log file when this one would get larger; 0 for never [default: 64M]
    #[arg(value_name = "BYTES")]
    Restart log_max_bytes,
    /// Old log files that are kept, the newest; 0 for none [default: 10]
    #[arg(value_name = "N")]
    Restart log_keep,
    /// Log each request [default: on]
    #[arg(value_name = "on|off")]
    Reload access_log,
    /// Connections at a time, as far as there are descriptors [default: 12000]
    #[arg(value_name = "N")]
    Reload max_connections,
    /// Connections of one IP address at a time; 0 for no such limit [default: 0]
    #[arg(value_name = "N")]
    Reload max_connections_per_address,
    /// Bytes of a request's head, 1K to 16M [default: 32K]
    #[arg(value_name = "BYTES")]
    Reload max_header_bytes,
    /// Bytes of a request's body, and so of an object; none for no limit [default: none]
    #[arg(value_name = "BYTES")]
    Reload max_body_bytes,
    /// From the first byte of a request's head to its last; 0 for ever [default: 30s]
    #[arg(value_name = "SECONDS")]
    Reload head_timeout,
    /// Without a byte of a body; 0 for ever [default: 30s]
    #[arg(value_name = "SECONDS")]
    Reload body_timeout,
    /// Between two requests of a connection; 0 for ever [default: 75s]
    #[arg(value_name = "SECONDS")]
    Reload idle_timeout,
    /// Without a byte of an answer taken by the client; 0 for ever [default: 60s]
    #[arg(value_name = "SECONDS")]
    Reload write_timeout,
    /// Disk space that uploads leave free [default: 64M]
    #[arg(value_name = "BYTES")]
    Reload min_free_disk,
    /// Origins whose pages may call the server, as in https://a.example, separated by commas; * for all, none for none
    /// [default: none]
    #[arg(value_name = "ORIGINS")]
    Reload cors,
    /// Names that the server is called by, separated by commas, besides IP addresses and localhost; requests for others
    /// are refused, so that no page can pass for one of the server's; * for any
    /// [default: none where only this machine reaches it, else any]
    #[arg(value_name = "NAMES")]
    Reload hosts,
}

/// The setting that was probably meant, if one is near.
pub(super) fn suggestion(key: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    // A third of the letters may be wrong, else anything short is like anything else.
    let most = (key.chars().count() / 3).min(3);
    let near = candidates.map(|candidate| (distance(&key, candidate), candidate));
    near.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, near)| near)
}

/// Letters that are to be added, removed or replaced to come from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("kitten", "sitting", 3),
            ("listen", "listne", 2),
            ("data", "date", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn what_was_probably_meant() {
        let suggest = |key: &str| suggestion(key, KEYS.iter().map(|(key, _)| *key));
        assert_eq!(suggest("lissten"), Some("listen"));
        assert_eq!(suggest("max-connection"), Some("max_connections"));
        assert_eq!(suggest("LOG_LEVEL"), Some("log_level"));
        assert_eq!(suggest("dta"), Some("data"));
        assert_eq!(suggest("port"), None);
        assert_eq!(suggest("x"), None);
        assert_eq!(suggest(""), None);
        assert_eq!(suggest("service_host"), None);
    }
}
