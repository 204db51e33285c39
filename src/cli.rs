//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use cloudstore::config::ServeArgs;
use cloudstore::config::units::bytes;
use reactor::Address;

use crate::args::{
    GET_EXAMPLES, GetArgs, LS_EXAMPLES, LsArgs, MOVE_EXAMPLES, MoveArgs, PUT_EXAMPLES, PutArgs, RM_EXAMPLES,
    RmArgs, ServerArgs, StatArgs,
};
use crate::user::UserCommand;

/// Self-hosted cloud storage for a LAN.
#[derive(Debug, Parser)]
#[command(name = "cloudstore", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store files and give them back, over HTTP.
    ///
    /// Prints one line with its address on stdout when it is ready, and its records on stderr; with a log file those go
    /// there, and only warnings and errors to stderr. SIGTERM and SIGINT end it when the requests that are under way are
    /// answered, a second one ends it at once. SIGHUP reads the settings again and opens the log file anew.
    Serve(Box<ServeArgs>),
    /// Receive the records of other programs and keep them in a file.
    ///
    /// One port takes RELP, syslog (octet-counted or by lines) and lines of bare text. A connection has 60 seconds for its
    /// first record (RELP: its open) and for each that it has begun. SIGINT and SIGTERM end it, SIGHUP opens the file anew;
    /// without one, a file that was moved away or emptied is noticed within a second.
    ///
    /// Its own messages go to stderr.
    Backlog(BacklogArgs),
    /// Send files and folders to a server.
    ///
    /// What is there under the same name is replaced when all of the new has arrived; --no-replace says otherwise. A put whose
    /// connection breaks is begun again. The server's CRC-32C of what it has stored is compared with that of what was sent;
    /// the time of the file is kept. A file that changes while it is sent is a failure, and not stored. Symlinks in folders are
    /// left out, and told of.
    #[command(alias = "upload", after_help = PUT_EXAMPLES)]
    Put(PutArgs),
    /// Fetch objects and folders from a server.
    ///
    /// A get whose connection breaks goes on where it was, also in a later run. A file is in its place when it is whole and its
    /// CRC-32C is what the server says; it has the time of the object.
    #[command(alias = "download", after_help = GET_EXAMPLES)]
    Get(GetArgs),
    /// List what a server has.
    #[command(alias = "list", after_help = LS_EXAMPLES)]
    Ls(LsArgs),
    /// Remove objects, or folders.
    #[command(alias = "delete", after_help = RM_EXAMPLES)]
    Rm(RmArgs),
    /// Give an object or a folder another name.
    #[command(after_help = MOVE_EXAMPLES)]
    Mv(MoveArgs),
    /// Copy an object or a folder, on the server.
    #[command(after_help = MOVE_EXAMPLES)]
    Cp(MoveArgs),
    /// Say what a server knows of objects.
    Stat(StatArgs),
    /// Say who may do what on a server: users, their passwords, rules and tokens.
    ///
    /// A rule is VERBS:/PATH. VERBS are of read, create, replace and delete, with commas between, or all. / is everything,
    /// /PATH/ is what is below a folder, /PATH also the object of that name. The user anonymous stands for requests without
    /// credentials: what it may do, everybody may. A server that runs takes over what is changed within a second.
    #[command(subcommand)]
    User(UserCommand),
    /// Look after the index of a server's objects, while it runs.
    #[command(subcommand)]
    Index(IndexCommand),
    /// Check the settings of a server, or show them.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what a shell completes the command line by.
    #[command(after_help = "\
        bash: cloudstore completions bash > ~/.local/share/bash-completion/completions/cloudstore\n\
        zsh:  cloudstore completions zsh > _cloudstore, in a folder of $fpath\n\
        fish: cloudstore completions fish > ~/.config/fish/completions/cloudstore.fish")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands to a folder.
    ///
    /// To read it: cloudstore man | man -l -
    Man {
        /// Write cloudstore.1 and one page for each command here; the folder is made.
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
}

/// Exit codes of all: 0 done, 1 failed, 2 wrongly used, 4 not allowed, 5 the server cannot be reached.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Say where the index and the objects differ, and which files are no objects. Nothing is changed.
    ///
    /// Contents are not read. Exit code 0 if they agree, 1 if they differ.
    Check(AuditArgs),
    /// Make the index say what the objects say, and take in files that can be objects. No file is removed.
    Rebuild(AuditArgs),
    /// Write the index to stdout, an object in JSON a line.
    Export(ServerArgs),
    /// Take what a list knows and the objects lack: when they were read last, and checksums.
    ///
    /// The list is an export, or the storage.data of the original. No object is made, changed or removed.
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print the report as JSON, on one line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The list; - for stdin.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with the settings: all of it, or what is worth to be known.
    ///
    /// Nothing is started, made or changed. Exit code 0 if they are good, 1 if not.
    Check(Box<ServeArgs>),
    /// Print all settings as JSON, with where each comes from.
    Show(Box<ServeArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct BacklogArgs {
    /// Where to listen: an IP address and a port (0 for a free one), unix:/path or unix:@name.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: Address,
    /// The file that the records go to; it is made with its folders. One that is no backlog is refused.
    #[arg(long, value_name = "FILE", default_value = "./backlog.log")]
    pub(crate) file: PathBuf,
    /// Acknowledge a record when it is on the disk, not when the system has it.
    #[arg(long)]
    pub(crate) sync: bool,
    /// Print the records too, on stdout, behind the line that says where it listens.
    #[arg(long)]
    pub(crate) print: bool,
    /// Begin a new file when this one would get larger: bytes, or a number with K, M or G (powers of 1024); 0 for never.
    /// The old one is put aside as NAME-YYYYMMDD-NNNNNN.EXT.gz.
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = bytes)]
    pub(crate) max_bytes: u64,
    /// How many of the files that were put aside are kept, the newest; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep: usize,
    /// Cut longer records: bytes, at least 64, or a number with K, M or G (powers of 1024).
    #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = record_bytes)]
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

fn record_bytes(text: &str) -> Result<u32, String> {
    let bytes = u32::try_from(bytes(text)?).ok().filter(|&bytes| bytes >= 64);
    bytes.ok_or_else(|| format!("write 64 to {} bytes", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_room_for_a_header() {
        assert_eq!((record_bytes("64"), record_bytes("4294967295")), (Ok(64), Ok(u32::MAX)));
        for text in ["0", "63", "4G", "99999999999999999999"] {
            assert!(record_bytes(text).unwrap_err().starts_with("write "), "{text}");
        }
    }
}
