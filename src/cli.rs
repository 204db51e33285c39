//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use reactor::Address;

/// Self-hosted cloud storage for a LAN.
#[derive(Debug, Parser)]
#[command(name = "cloudstore", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive the records of other programs and keep them in a file.
    ///
    /// One port takes RELP, syslog (octet-counted or by lines) and lines of bare text. SIGINT and SIGTERM end it, SIGHUP
    /// opens the file anew.
    Backlog(BacklogArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BacklogArgs {
    /// Where to listen: an IP address and a port (0 for a free one), or unix:/path.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: Address,
    /// The file that the records go to; it is made with its folders. One that is no backlog is refused.
    #[arg(long, value_name = "FILE", default_value = "./backlog.log")]
    pub(crate) file: PathBuf,
    /// Acknowledge a record when it is on the disk, not when the system has it.
    #[arg(long)]
    pub(crate) sync: bool,
    /// Print the records too.
    #[arg(long)]
    pub(crate) print: bool,
    /// Begin a new file when this one would get larger; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 64 * 1024 * 1024)]
    pub(crate) max_bytes: u64,
    /// How many old files are kept.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep: usize,
    /// Cut longer records, in bytes.
    #[arg(long, value_name = "N", default_value_t = 1024 * 1024, value_parser = clap::value_parser!(u32).range(64..))]
    pub(crate) max_record: u32,
    /// The most connections at a time.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: u32,
    /// Close a connection that sends nothing for so long.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub(crate) idle: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|&seconds: &u64| (1..=u64::from(u32::MAX)).contains(&seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("write whole seconds from 1 to {}", u32::MAX))
}
