use std::fs;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ServeArgs,
}

/// A folder to start in, with an environment and options.
struct Start {
    folder: TempDir,
    variables: Vec<(OsString, OsString)>,
    options: Vec<String>,
}

impl Start {
    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn new() -> Start {
        Start { folder: tempfile::tempdir().unwrap(), variables: Vec::new(), options: Vec::new() }
    }

    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn write(self, path: &str, text: &str) -> Start {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn file(self, text: &str) -> Start {
        self.write("cloudstore.json", text)
    }

    fn variable(mut self, name: &str, value: impl Into<OsString>) -> Start {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn option(mut self, option: impl Into<String>) -> Start {
        self.options.push(option.into());
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load_in(&self.args(), &self.around())
    }

    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn args(&self) -> ServeArgs {
        let line = ["cloudstore".to_owned()].into_iter().chain(self.options.iter().cloned());
        Line::try_parse_from(line).unwrap().args
    }

    fn around(&self) -> Surroundings {
        Surroundings { variables: self.variables.clone(), folder: self.folder.path().to_owned() }
    }

    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn good(&self) -> Config {
        self.load().unwrap()
    }

    #[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
    fn bad(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

#[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
fn shown(config: &Config) -> serde_json::Map<String, Value> {
    let Value::Object(shown) = serde_json::from_str(&config.to_json()).unwrap() else {
        return Default::default();
    };
    shown
}

/// Each key with two good values, as text and as they are shown.
#[allow(clippy::unwrap_used, reason = "a failure is a panic here")]
fn samples() -> Vec<(&'static str, [(&'static str, Value); 2])> {
    let value = |text: &str| serde_json::from_str(text).unwrap();
    [
        ("listen", [("127.0.0.1:0", "\"127.0.0.1:0\""), ("[::1]:80", "\"[::1]:80\"")]),
        ("open", [("on", "true"), ("off", "false")]),
        ("data", [("/srv", "\"/srv\""), ("x y", "\"x y\"")]),
        ("users", [("/u.json", "\"/u.json\""), ("x y", "\"x y\"")]),
        ("threads", [("1", "1"), ("256", "256")]),
        ("jobs", [("1", "1"), ("16", "16")]),
        ("durability", [("relaxed", "\"relaxed\""), ("sync", "\"sync\"")]),
        ("level", [("0", "0"), ("9", "9")]),
        ("index", [("/i", "\"/i\""), ("none", "null")]),
        ("index_cache", [("1M", "1048576"), ("2G", "2147483648")]),
        ("download_prefix", [("/d/", "\"/d/\""), ("/a/b.c/", "\"/a/b.c/\"")]),
        ("backlog", [("10.0.0.1:514", "\"10.0.0.1:514\""), ("none", "null")]),
        ("backlog_wire", [("newline", "\"newline\""), ("octet-counted", "\"octet-counted\"")]),
        ("backlog_clients", [("1", "1"), ("64", "64")]),
        ("spool", [("/s", "\"/s\""), ("./data/spool2", "\"./data/spool2\"")]),
        ("log_file", [("/l", "\"/l\""), ("none", "null")]),
        ("log_level", [("warn,storage=debug", "\"warn,storage=debug\""), ("off", "\"off\"")]),
        ("log_format", [("json", "\"json\""), ("text", "\"text\"")]),
        ("log_max_bytes", [("0", "0"), ("3K", "3072")]),
        ("log_keep", [("0", "0"), ("3", "3")]),
        ("access_log", [("off", "false"), ("true", "true")]),
        ("max_connections", [("1", "1"), ("100000", "100000")]),
        ("max_connections_per_address", [("0", "0"), ("5", "5")]),
        ("max_header_bytes", [("1K", "1024"), ("16M", "16777216")]),
        ("max_body_bytes", [("5G", "5368709120"), ("none", "null")]),
        ("head_timeout", [("0", "\"0s\""), ("90", "\"90s\"")]),
        ("body_timeout", [("250ms", "\"250ms\""), ("5m", "\"5m\"")]),
        ("idle_timeout", [("2h", "\"2h\""), ("1", "\"1s\"")]),
        ("write_timeout", [("60s", "\"1m\""), ("61s", "\"61s\"")]),
        ("min_free_disk", [("0", "0"), ("1G", "1073741824")]),
        (
            "cors",
            [
                ("https://A.example:443, http://b:81", "[\"https://a.example\",\"http://b:81\"]"),
                ("none", "[]"),
            ],
        ),
        ("hosts", [("NAS.lan, cloud_1.example", "[\"nas.lan\",\"cloud_1.example\"]"), ("*", "\"*\"")]),
    ]
    .into_iter()
    .map(|(key, samples)| (key, samples.map(|(text, shown)| (text, value(shown)))))
    .collect()
}

fn option_of(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn variable_of(key: &str) -> String {
    format!("CLOUDSTORE_{}", key.to_ascii_uppercase())
}

#[test]
fn without_anything_all_has_its_default() {
    let start = Start::new();
    let config = start.good();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.data, Path::new("./data"));
    assert_eq!(config.spool, Path::new("./data/spool"));
    assert!(!config.open && config.access_log && config.cors.is_empty());
    assert!((1..=4).contains(&config.threads) && config.jobs >= 4);
    assert_eq!(config.download_prefix, "/download/");
    assert_eq!((config.backlog.clone(), config.backlog_wire, config.backlog_clients), (None, Wire::Relp, 4));
    assert_eq!((config.log_file.clone(), config.log_max_bytes, config.log_keep), (None, Some(64 << 20), 10));
    assert_eq!(config.limits, Limits { max_connections: 12_000, ..Limits::default() });
    assert_eq!(config.min_free_disk, 64 << 20);
    assert_eq!((config.file(), config.notes()), (None, &[][..]));
    let storage = config.storage();
    assert_eq!(
        (storage.level, storage.index_cache, storage.index),
        (6, storage::Options::new("").index_cache, None)
    );
    assert_eq!((storage.durability, storage.threads), (Durability::Sync, config.jobs));
    let shown = shown(&config);
    assert_eq!(shown.len(), KEYS.len());
    assert!(shown.values().all(|setting| setting["from"] == "default"), "{shown:?}");
}

#[test]
fn each_setting_is_an_option_a_variable_and_a_key_of_the_file() {
    let samples = samples();
    assert!(samples.iter().map(|(key, _)| key).eq(KEYS.iter().map(|(key, _)| key)));
    for (key, [(first, first_shown), (second, second_shown)]) in samples {
        let check = |start: Start, expected: &Value, from: &str| {
            let config = start.good();
            let setting = &shown(&config)[key];
            assert_eq!(&setting["value"], expected, "{key}");
            assert_eq!(
                setting["from"],
                from.replace("<file>", &start.path("cloudstore.json").display().to_string())
            );
        };
        let json = |text: &str| format!("{{\"{key}\": {}}}", Value::from(text));
        let (option, variable) = (option_of(key), variable_of(key));
        check(Start::new().file(&json(first)), &first_shown, "file <file>");
        let with_variable = || Start::new().file(&json(first)).variable(&variable, second);
        check(with_variable(), &second_shown, &format!("environment {variable}"));
        check(with_variable().option(format!("{option}={first}")), &first_shown, &format!("option {option}"));
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    for (key, samples) in samples() {
        for (text, expected) in samples {
            let start = Start::new().option(format!("{}={text}", option_of(key)));
            let first = shown(&start.good())[key]["value"].clone();
            let again = Start::new().file(&Value::from_iter([(key, first.clone())]).to_string()).good();
            assert_eq!((&first, &shown(&again)[key]["value"]), (&expected, &expected), "{key}");
        }
    }
}

#[test]
fn values_may_be_of_json_s_types() {
    let text = r#"{"threads": 2, "access_log": false, "open": true, "head_timeout": 5, "max_body_bytes": 1000,
        "log_file": null, "cors": ["https://a.example", "http://[::1]:3000"], "index_cache": 2097152}"#;
    let config = Start::new().file(text).good();
    assert_eq!((config.threads, config.access_log, config.open, config.log_file), (2, false, true, None));
    assert_eq!((config.limits.head_timeout, config.limits.max_body_bytes), (Duration::from_secs(5), 1000));
    assert_eq!((config.cors.len(), config.index_cache), (2, 2 << 20));
    assert!(Start::new().option("--open").good().open);
    assert!(!Start::new().variable("CLOUDSTORE_OPEN", "on").option("--open=off").good().open);
}

#[test]
fn names_are_checked_where_only_this_machine_is() {
    let hosts = |start: Start| start.good().hosts;
    assert_eq!(hosts(Start::new()), Some(Vec::new()));
    assert_eq!(hosts(Start::new().option("--listen=[::1]:1")), Some(Vec::new()));
    assert_eq!(hosts(Start::new().option("--listen=unix:/run/c")), None);
    assert_eq!(hosts(Start::new().option("--listen=0.0.0.0:1").option("--open")), None);
    assert_eq!(hosts(Start::new().option("--hosts=*")), None);
    let known = Some(vec!["nas.lan".to_owned()]);
    assert_eq!(hosts(Start::new().file(r#"{"hosts": ["NAS.lan"]}"#)), known);
    assert_eq!(
        hosts(Start::new().option("--listen=0.0.0.0:1").option("--open").option("--hosts=nas.lan")),
        known
    );
}

#[test]
fn bad_values_are_named_with_what_is_allowed() {
    for (key, values, allowed) in [
        (
            "listen",
            &["", "8081", "localhost:8081", "127.0.0.1", "127.0.0.1:65536", "unix:", "none"][..],
            "as in 127.0.0.1:8081",
        ),
        ("open", &["yes", "1", ""], "write on or off"),
        ("data", &[""], "write a path"),
        ("threads", &["0", "257", "-1", "+1", "x", "", "1.5", "99999999999999999999"], "from 1 to 256"),
        ("jobs", &["0", "257"], "from 1 to 256"),
        ("durability", &["fsync", "Sync", ""], "sync or relaxed"),
        ("level", &["10", "-1", "fast"], "from 0 to 9"),
        ("index", &[""], "write a path; or none"),
        ("index_cache", &["1M5", "1m", ""], "as in 64M"),
        ("index_cache", &["1023K", "0"], "at least 1048576"),
        ("index_cache", &["2000G"], "at most"),
        (
            "download_prefix",
            &["", "/", "d/", "/d", "//", "/a//b/", "/../", "/./", "/a b/", "/%41/", "/\u{e9}/"],
            "as in /download/",
        ),
        ("download_prefix", &["/files/", "/files/x/", "/list/"], "take another path"),
        ("backlog", &["", "collector:514"], "or none"),
        ("backlog_wire", &["syslog", "RELP"], "relp, octet-counted or newline"),
        ("backlog_clients", &["0", "65"], "from 1 to 64"),
        ("log_level", &["", " ", "loud", "info,storage=loud"], "as in info,storage=debug"),
        ("log_format", &["xml"], "text or json"),
        ("log_max_bytes", &["64MB", "-1", "17179869184G"], "write "),
        ("log_keep", &["all", "-1"], "from 0 on"),
        ("access_log", &["maybe"], "write on or off"),
        ("max_connections", &["0", "none"], "from 1 on"),
        ("max_header_bytes", &["1023", "17M"], "write at "),
        ("max_body_bytes", &["much"], "as in 64M; or none"),
        ("head_timeout", &["", "-1", "1d", "forever"], "as in 5m"),
        ("idle_timeout", &["8785h"], "366 days"),
        ("hosts", &["a:80", "http://a", "a,,b", "a.", "a b", "[::1]", "\u{e9}"], "as in nas.lan"),
        (
            "cors",
            &[
                "a.example",
                "ftp://a",
                "https://",
                "https://a/",
                "https://a:x",
                "https://a:",
                "https://a,,https://b",
                "https://a:70000",
                "https://[::1",
                "https://[x]",
                "https://\u{e9}",
                "null",
            ],
            "https://a.example",
        ),
    ] {
        for value in values {
            let json = Value::from_iter([(key, *value)]).to_string();
            let (option, variable) = (option_of(key), variable_of(key));
            // An empty list of origins is a list.
            for (start, place) in [
                (Start::new().option(format!("{option}={value}")), format!("option {option}: ")),
                (Start::new().variable(&variable, *value), format!("environment {variable}: ")),
                (Start::new().file(&json), "/cloudstore.json: ".to_owned()),
            ] {
                let error = start.bad();
                for part in [&place, &format!("\"{value}\" is no value for {key}: "), allowed] {
                    assert!(error.contains(part), "{part:?} is missing in {error:?}");
                }
            }
        }
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let start = Start::new()
        .file(r#"{"threads": 0, "bogus": 1, "level": {"x": 1}, "cors": [1]}"#)
        .variable("CLOUDSTORE_JOBS", "0")
        .option("--listen=0.0.0.0:80");
    let error = start.load().unwrap_err();
    assert_eq!(error.problems().len(), 6, "{error}");
    assert_eq!(error.to_string().lines().count(), 6);
    // A value that would not win is wrong all the same.
    assert!(
        Start::new().variable("CLOUDSTORE_JOBS", "0").option("--jobs=1").bad().contains("CLOUDSTORE_JOBS")
    );
}

#[test]
fn unknown_keys_are_refused_and_near_ones_named() {
    for (key, meant) in [
        ("listne", "did you mean \"listen\"?"),
        ("Listen", "did you mean \"listen\"?"),
        ("log-level", "did you mean \"log_level\"?"),
        ("server_prot", "did you mean \"server_port\"?"),
        ("thread_size_threshold", "did you mean \"thread_size_threshhold\"?"),
        ("password", "`cloudstore config show` lists all settings"),
        ("config", "`cloudstore config show` lists all settings"),
        ("", "`cloudstore config show` lists all settings"),
    ] {
        let error = Start::new().file(&Value::from_iter([(key, 1)]).to_string()).bad();
        assert!(error.contains(&format!("there is no setting \"{key}\"; {meant}")), "{error}");
    }
    let error = Start::new().variable("CLOUDSTORE_LOG_LEVLE", "info").bad();
    assert_eq!(
        error,
        "environment CLOUDSTORE_LOG_LEVLE: there is no setting \"CLOUDSTORE_LOG_LEVLE\"; did you mean \"log_level\"?"
    );
    assert!(Start::new().variable("CLOUDSTORE_listen", "127.0.0.1:1").load().is_err());
    // Made up by whoever runs containers; other programs' names are not ours.
    let config =
        Start::new().variable("CLOUDSTORE_PORT", "tcp://10.0.0.1:80").variable("CLOUDSTOR_X", "1").good();
    assert_eq!(config.notes(), ["environment CLOUDSTORE_PORT names no setting, and is ignored"]);
}

#[test]
fn values_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(b"/srv/\xff".to_vec());
    let error = Start::new().variable("CLOUDSTORE_DATA", value).bad();
    assert!(error.contains("environment CLOUDSTORE_DATA: ") && error.contains("UTF-8"), "{error}");
}

#[test]
fn files_that_are_no_object_say_where_they_break() {
    for (text, part) in [
        ("", "EOF"),
        ("{", "line 1 column 1"),
        ("{\"data\": \"x\"\n \"listen\": 1}", "line 2 column 2"),
        ("[]", "expected an object"),
        ("3", "expected an object"),
        ("{} {}", "trailing characters"),
        ("data = x", "line 1"),
    ] {
        let error = Start::new().file(text).bad();
        assert!(error.contains("cloudstore.json is not as it should be") && error.contains(part), "{error}");
    }
    assert!(Start::new().write("cloudstore.json/x", "").bad().contains("cannot be read: "));
    // What an editor may put before it.
    assert_eq!(Start::new().file("\u{feff}{\"level\": 1}").good().level, 1);
    assert_eq!(Start::new().file(" {} \n").good().level, 6);
}

#[test]
fn the_first_file_of_those_that_are_looked_for_is_read() {
    let level = |level: u32| format!("{{\"level\": {level}}}");
    let start = || Start::new().write("xdg/cloudstore/config.json", &level(1)).write("named.json", &level(2));
    let with_home = |start: Start| {
        let (home, xdg) = (start.path("home"), start.path("xdg"));
        let start = start.write("home/.config/cloudstore/config.json", &level(3)).variable("HOME", home);
        (start, xdg)
    };
    let (home, xdg) = with_home(start());
    assert_eq!(home.good().level, 3);
    let home = home.variable("XDG_CONFIG_HOME", xdg.clone());
    assert_eq!(home.good().level, 1);
    assert_eq!(home.good().file(), Some(&*xdg.join("cloudstore/config.json")));
    let here = home.file(&level(4));
    assert_eq!(here.good().level, 4);
    let variable = here.variable("CLOUDSTORE_CONFIG", "named.json");
    assert_eq!(variable.good().level, 2);
    let option = variable.option("--config=other.json");
    assert_eq!(option.bad(), "the configuration other.json cannot be read: there is no such file");
    assert_eq!(option.write("other.json", &level(5)).good().level, 5);
    // A relative path there is none.
    let (relative, _) = with_home(start());
    assert_eq!(relative.variable("XDG_CONFIG_HOME", "xdg").good().level, 3);
}

/// With the original's keys and values, as its two files have them.
const ORIGINAL_STORAGE: &str = r#"{
    "server_port": 8081,
    "server_ip": "172.30.173.126",
    "download_prefix": "/download/",
    "deep_storage_dir": "./deep_storage/",
    "low_storage_dir":  "./low_storage/",
    "bundle_format": 4,
    "storage_info": "./storage.data"
}"#;
const ORIGINAL_LOG: &str = r#"{
    "backlog_ip_addr": "10.136.108.172",
    "backlog_port": 8080,
    "init_threadsize": 6,
    "thread_size_threshhold": 4,
    "logque_max_threshhold": 24,
    "init_buffer_size": 10000000,
    "effective_expansion_times": 4
}"#;

#[test]
fn the_original_s_files_are_understood() {
    let start = Start::new().file(ORIGINAL_STORAGE);
    let error = start.bad();
    assert!(error.starts_with("listen is 172.30.173.126:8081, where other machines reach it"), "{error}");
    let start = start.option("--open");
    let config = start.good();
    assert_eq!(config.listen.to_string(), "172.30.173.126:8081");
    assert_eq!((&*config.data, config.index.as_deref()), (Path::new("."), Some(Path::new("./storage.data"))));
    assert_eq!((&*config.download_prefix, &*config.spool), ("/download/", Path::new("./spool")));
    let file = start.path("cloudstore.json").display().to_string();
    assert_eq!(shown(&config)["listen"]["from"], format!("file {file}, server_ip and server_port"));
    assert_eq!(config.notes().len(), 1);
    assert!(
        config.notes()[0]
            .starts_with(&format!("file {file}: bundle_format is accepted, and has no effect: "))
    );

    let config = Start::new().file(ORIGINAL_LOG).good();
    assert_eq!(config.backlog.map(|address| address.to_string()).as_deref(), Some("10.136.108.172:8080"));
    assert_eq!((config.backlog_clients, config.notes.len()), (6, 4));

    // Beside ours, in one file.
    let both =
        format!("{}, \"threads\": 2,{}", &ORIGINAL_STORAGE[..ORIGINAL_STORAGE.len() - 1], &ORIGINAL_LOG[1..]);
    let config = Start::new().file(&both).option("--listen=127.0.0.1:0").option("--data=/srv").good();
    assert_eq!((config.threads, config.backlog_clients, &*config.data), (2, 6, Path::new("/srv")));
}

#[test]
fn bad_values_of_the_original_s_keys_are_named() {
    for (text, parts) in [
        (r#"{"server_ip": "here"}"#, &["\"here\" is no value for server_ip: write an IP address"][..]),
        (r#"{"server_port": 80810}"#, &["\"80810\" is no value for server_port: write a port"]),
        (r#"{"server_port": "80", "server_ip": "::1"}"#, &[]),
        (r#"{"server_port": true}"#, &["\"true\" is no value for server_port: write text or a number"]),
        (r#"{"server_ip": "x", "server_port": -1}"#, &["\"x\"", "\"-1\""]),
        (r#"{"backlog_ip_addr": "x"}"#, &["no value for backlog_ip_addr"]),
        (
            r#"{"bundle_format": "lzip"}"#,
            &["\"lzip\" is no value for bundle_format: write a number from 0 on"],
        ),
        (r#"{"init_buffer_size": -4}"#, &["\"-4\" is no value for init_buffer_size"]),
        (
            r#"{"init_threadsize": 0}"#,
            &["\"0\" is no value for init_threadsize: write a number from 1 to 64"],
        ),
        (
            r#"{"low_storage_dir": "/a/low"}"#,
            &["no value for low_storage_dir: write a path that ends in low_storage"],
        ),
        (r#"{"low_storage_dir": "/a/low_storage/.."}"#, &["no value for low_storage_dir"]),
        (r#"{"deep_storage_dir": ""}"#, &["no value for deep_storage_dir"]),
        (
            r#"{"low_storage_dir": "/a/low_storage", "deep_storage_dir": "/b/deep_storage"}"#,
            &[
                "\"/b/deep_storage\" is no value for deep_storage_dir: write a folder in /a, where low_storage_dir is",
            ],
        ),
        (
            r#"{"low_storage_dir": "low_storage", "data": "x"}"#,
            &["\"data\" and \"low_storage_dir\" set the same thing"],
        ),
        (
            r#"{"listen": "[::1]:1", "server_port": 2}"#,
            &["\"listen\" and \"server_port\" set the same thing"],
        ),
        (
            r#"{"server_port": 2, "server_port": 3}"#,
            &["\"server_port\" and \"server_port\" set the same thing"],
        ),
        (r#"{"level": 2, "level": 2}"#, &["\"level\" and \"level\" set the same thing"]),
    ] {
        let outcome = Start::new().file(text).load();
        match parts {
            [] => assert_eq!(outcome.unwrap().listen.to_string(), "[::1]:80"),
            _ => {
                let error = outcome.unwrap_err();
                assert_eq!(error.problems().len(), parts.len(), "{error}");
                assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
            }
        }
    }
    let config = Start::new()
        .file(r#"{"low_storage_dir": "/a/./low_storage", "deep_storage_dir": "/a/deep_storage/"}"#)
        .good();
    assert_eq!(config.data, Path::new("/a"));
    assert_eq!(Start::new().file(r#"{"deep_storage_dir": "deep_storage"}"#).good().data, Path::new("."));
    assert_eq!(Start::new().file(r#"{"server_port": 81}"#).good().listen.to_string(), "127.0.0.1:81");
}

#[test]
fn only_this_machine_reaches_a_server_without_users() {
    for local in
        ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/run/c.sock", "unix:@c"]
    {
        assert!(Start::new().option(format!("--listen={local}")).load().is_ok(), "{local}");
    }
    for far in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
        let start = Start::new().option(format!("--listen={far}"));
        assert!(start.bad().contains("and there are no users: listen on 127.0.0.1, or set open"), "{far}");
        assert!(start.option("--open").load().is_ok());
        let address: Address = far.parse().unwrap();
        assert!(check_exposure(&address, false, true, Path::new("x")).is_ok());
    }
    let far = || Start::new().option("--listen=0.0.0.0:1");
    assert!(far().write("data/users.json", "").load().is_ok(), "what is in it is looked at by the server");
    assert!(far().write("u.json", "").option("--users=u.json").load().is_ok());
    assert!(
        far().write("data/users.json", "").option("--users=u.json").bad().contains("(u.json is not there)")
    );
}

#[test]
fn users_are_found_for_a_server_that_does_not_start_without() {
    let users =
        |start: Start| Config::users_in(&start.args(), &start.around()).map_err(|error| error.to_string());
    let found = |start| users(start).unwrap();
    assert_eq!(found(Start::new()), Path::new("./data/users.json"));
    let start = Start::new().file(r#"{"listen": "0.0.0.0:81", "data": "/srv", "level": 99}"#);
    assert_eq!(found(start), Path::new("/srv/users.json"));
    assert_eq!(found(Start::new().variable("CLOUDSTORE_USERS", "u").option("--data=x")), Path::new("u"));
    assert!(users(Start::new().file("{")).unwrap_err().contains("is not as it should be"));
}

#[test]
fn nothing_lies_among_what_the_store_keeps() {
    for option in [
        "--users=./data/lock",
        "--spool=./data/stage",
        "--spool=data/low_storage/x",
        "--spool=/../data/../x/./low_storage",
        "--log-file=./data/lock",
        "--log-file=./data/storage.data",
        "--log-file=./data/deep_storage/../low_storage/a.log",
        "--index=./data/lock",
        "--index=./data/low_storage/index",
    ] {
        let data = if option.contains("/x/") { "--data=/x" } else { "--data=./data" };
        let error = Start::new().option(data).option(option).bad();
        assert!(error.contains("which belongs to the store in "), "{option}: {error}");
    }
    for option in
        ["--spool=./data/spool", "--spool=./data", "--log-file=./data/a.log", "--index=data/storage.data"]
    {
        assert!(Start::new().option(option).load().is_ok(), "{option}");
    }
}

#[test]
fn changes_say_what_needs_a_restart() {
    let before = Start::new().good();
    assert_eq!(before.changes(&Start::new().good()), []);
    let same = Start::new().option("--head-timeout=30000ms").option("--level=6").good();
    assert_eq!(before.changes(&same), []);
    let after = Start::new().option("--head-timeout=5").option("--level=1").option("--log-level=warn").good();
    let expected =
        [("level", Effect::Restart), ("log_level", Effect::Reload), ("head_timeout", Effect::Reload)];
    assert_eq!(before.changes(&after), expected);
    assert_eq!(after.changes(&before), expected);
    // The spool's default lies in the data folder.
    let moved = Start::new().option("--data=/srv").good();
    assert_eq!(
        before.changes(&moved),
        [("data", Effect::Restart), ("users", Effect::Restart), ("spool", Effect::Restart)]
    );
}

#[test]
fn the_documentation_has_every_setting_and_when_it_changes() {
    let text = include_str!("../../docs/configuration.md");
    let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let documented = |(key, effect): &(&str, Effect)| {
        let star = if *effect == Effect::Reload { " *" } else { "" };
        let start = format!("{key}`{star} | ");
        assert!(rows.iter().any(|row| row.starts_with(&start)), "{key}");
    };
    KEYS.iter().for_each(documented);
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(Start::new().file(example).good().limits.max_body_bytes, 20 << 30);
}
