//! The one binary: parse, build, run.

use clap::Parser;

/// Self-hosted cloud storage for a LAN.
#[derive(Debug, Parser)]
#[command(name = "cloudstore", version, arg_required_else_help = true)]
struct Cli {}

fn main() {
    Cli::parse();
}
