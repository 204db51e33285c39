//! The one binary: parse, build, run.

mod args;
mod backlog;
mod bars;
mod cli;
mod connect;
mod index;
mod manual;
mod objects;
mod serve;
mod settings;
mod supervisor;
mod transfer;
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
        Command::Put(args) => transfer::put(&args),
        Command::Get(args) => transfer::get(&args),
        Command::Ls(args) => objects::list(&args),
        Command::Rm(args) => objects::remove(&args),
        Command::Mv(args) => objects::rename(&args),
        Command::Cp(args) => objects::copy(&args),
        Command::Stat(args) => objects::stat(&args),
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
