//! The one binary: parse, build, run.

mod backlog;
mod cli;
mod serve;
mod settings;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Backlog(args) => backlog::run(args),
        Command::Config(command) => settings::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cloudstore: {error}");
            ExitCode::FAILURE
        }
    }
}
