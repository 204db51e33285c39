//! The one binary: parse, build, run.

mod backlog;
mod cli;
mod index;
mod manual;
mod serve;
mod settings;
mod supervisor;
mod user;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use cloudstore::client::ClientError;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Backlog(args) => backlog::run(args).map(|()| ExitCode::SUCCESS),
        Command::User(command) => user::run(command).map(|()| ExitCode::SUCCESS),
        Command::Index(command) => index::run(command),
        Command::Config(command) => settings::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => manual::complete(shell).map(|()| ExitCode::SUCCESS),
        Command::Man { out } => manual::pages(out.as_deref()).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "cloudstore: {error}");
        error.downcast_ref().map_or(ExitCode::FAILURE, |error: &ClientError| error.exit_code().into())
    })
}
