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
    assert!(text.contains("backlog  Receive the records"), "{text}");
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
