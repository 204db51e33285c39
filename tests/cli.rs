//! The binary's command line, run as a user runs it.
#![allow(clippy::unwrap_used, reason = "a failure is a panic here")]

use std::process::{Command, Output};

fn cloudstore(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cloudstore")).args(arguments).output().unwrap()
}

#[test]
fn version_names_the_program_and_its_version() {
    let output = cloudstore(&["--version"]);
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("cloudstore {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn help_goes_to_stdout_and_says_what_it_is() {
    let output = cloudstore(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("Self-hosted cloud storage"), "{text}");
    assert!(text.contains("--version"), "{text}");
    assert!(text.contains("backlog      Receive the records"), "{text}");
}

#[test]
fn the_backlog_s_help_says_what_one_has_to_know() {
    let output = cloudstore(&["backlog", "--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "60 seconds for its first record (RELP: its open)",
        "own messages go to stderr",
        "unix:/path or unix:@name",
        "made with its folders",
        "on stdout, behind the line",
        "K, M or G (powers of 1024); 0 for never",
        "NAME-YYYYMMDD-NNNNNN.EXT.gz",
        "at least 64",
        "[default: 64M]",
        "[default: 1M]",
        "put aside are kept",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn an_unknown_option_is_a_usage_error_that_names_it() {
    let output = cloudstore(&["--no-such-option"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--no-such-option"));
}

#[test]
fn no_arguments_show_the_help_as_a_usage_error() {
    let output = cloudstore(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("Usage: cloudstore"));
}

/// In a folder of its own, with nothing in the environment.
fn config(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cloudstore"))
        .arg("config")
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn good_settings_are_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let none = "the settings are good; there is no configuration file\n";
    assert_eq!(config(folder.path(), &["check"]), (Some(0), none.to_owned(), String::new()));
    let text = r#"{"server_port": 8082, "bundle_format": 4}"#;
    std::fs::write(folder.path().join("cloudstore.json"), text).unwrap();
    let expected = "file cloudstore.json: bundle_format is accepted, and has no effect: deep objects are always packed \
        with gzip; level says how hard\nthe settings are good; cloudstore.json was read\n";
    assert_eq!(config(folder.path(), &["check"]), (Some(0), expected.to_owned(), String::new()));
    let (code, shown, errors) = config(folder.path(), &["show", "--max-body-bytes", "5G"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for line in [
        "  \"listen\": {\"value\": \"127.0.0.1:8082\", \"from\": \"file cloudstore.json, server_port\"},\n",
        "  \"max_body_bytes\": {\"value\": 5368709120, \"from\": \"option --max-body-bytes\"},\n",
        "  \"level\": {\"value\": 6, \"from\": \"default\"},\n",
    ] {
        assert!(shown.contains(line), "{line:?} is missing in {shown}");
    }
    assert!(shown.starts_with("{\n") && shown.ends_with("}\n}\n"), "{shown}");
}

#[test]
fn bad_settings_are_named_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), r#"{"lissten": "x", "level": 11}"#).unwrap();
    let errors = "cloudstore: file a.json: there is no setting \"lissten\"; did you mean \"listen\"?\n\
        file a.json: \"11\" is no value for level: write a number from 0 to 9\n";
    for act in ["check", "show"] {
        let expected = (Some(1), String::new(), errors.to_owned());
        assert_eq!(config(folder.path(), &[act, "--config", "a.json"]), expected);
    }
    assert_eq!(config(folder.path(), &["check", "--no-such"]).0, Some(2));
    assert_eq!(config(folder.path(), &[]).0, Some(2));
}

#[test]
fn every_shell_is_told_what_completes() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = cloudstore(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["serve", "backlog", "durability"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    assert_eq!(cloudstore(&["completions", "nosh"]).status.code(), Some(2));
}

#[test]
fn each_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let output = cloudstore(&["man", "--out", pages.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty());
    for (page, text) in [
        ("cloudstore.1", "cloudstore\\-serve(1)"),
        ("cloudstore-serve.1", "SIGHUP reads the settings again"),
        ("cloudstore-index-check.1", "Say where the index and the objects differ"),
    ] {
        let written = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(written.starts_with(".ie ") && written.contains(text), "{page}: {written}");
    }
    let output = cloudstore(&["man"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("Self\\-hosted cloud storage"));

    let output = cloudstore(&["man", "--out", pages.join("cloudstore.1").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.starts_with("cloudstore: cannot write manual pages to "), "{message}");
}
