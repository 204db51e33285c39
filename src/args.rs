//! What the commands that ask a server are told.

use std::path::PathBuf;

use clap::Args;
use cloudstore::client::ServerUrl;

/// Where the server is, and who asks.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server, as in http://127.0.0.1:8081 or unix:/path. Else CLOUDSTORE_SERVER, else where the settings of a server
    /// that is started here have it listen.
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) server: Option<ServerUrl>,
    /// The file with the settings that say where the server listens [default: as in serve]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub(crate) config: Option<PathBuf>,
    /// Ask as this user, else as CLOUDSTORE_USER. The password is that of CLOUDSTORE_PASSWORD, else it is asked for.
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub(crate) user: Option<String>,
    /// Ask with this token. Others see it in the list of processes; they do not see CLOUDSTORE_TOKEN.
    #[arg(long, value_name = "TOKEN", help_heading = "Server", conflicts_with = "user")]
    pub(crate) token: Option<String>,
}

/// A name that is empty is a slip, of a script most often, and would stand for all there is.
fn name(text: &str) -> Result<String, &'static str> {
    match text.is_empty() {
        true => Err("an empty name is none: / is the top"),
        false => Ok(text.to_owned()),
    }
}

/// How files are sent and fetched.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    /// So many files at a time.
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) jobs: u16,
    /// Try again for so long when nothing gets further: the connection breaks, the server is started again. 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) retry: u32,
    /// Print a line with a JSON object for each file that is done or failed, on stdout.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress bars and no summary; failures are told.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(crate) const PUT_EXAMPLES: &str = "\
Examples:
  cloudstore put report.pdf                    as report.pdf
  cloudstore put report.pdf --to docs/         as docs/report.pdf
  cloudstore put report.pdf --to docs/may.pdf  as docs/may.pdf
  cloudstore put photos                        the folder, as photos/…
  cloudstore put photos --to 2026              the folder, as 2026/…
  cloudstore put *.jpg --to photos/ --deep     several, packed
  tar c src | cloudstore put - --to src.tar    what comes from a pipe

Exit codes: 0 done, 1 failed, 2 wrongly used, 3 not found, 4 not allowed, 5 the server cannot be reached; of several failures the
first decides.";

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// Files, folders, or - for stdin. A symlink is followed only if it is named here.
    #[arg(value_name = "SOURCE", required = true)]
    pub(crate) sources: Vec<PathBuf>,
    /// Where they go. With a slash at the end: into this folder, each under its own name. Without: the name that the one source
    /// gets. [default: the top, each under its own name]
    #[arg(short, long, value_name = "NAME|FOLDER/", value_parser = name)]
    pub(crate) to: Option<String>,
    /// Pack them on the server, for what is rarely read.
    #[arg(long)]
    pub(crate) deep: bool,
    /// Store only what has no such name there yet: nothing is replaced. What is there and is the same is no failure, so that
    /// this goes on with a put that was stopped.
    #[arg(short, long)]
    pub(crate) no_replace: bool,
    /// Folders are sent whole anyway.
    #[arg(short = 'r', long = "recursive", hide = true)]
    _recursive: bool,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

pub(crate) const GET_EXAMPLES: &str = "\
Examples:
  cloudstore get docs/report.pdf               to ./report.pdf
  cloudstore get docs/report.pdf -o may.pdf    to ./may.pdf
  cloudstore get docs/report.pdf -o /tmp/      to /tmp/report.pdf
  cloudstore get docs/a docs/b -o /tmp/        to /tmp/a and /tmp/b
  cloudstore get photos/                       the folder, to ./photos/…
  cloudstore get photos/ -o 2026               the folder, to ./2026/…
  cloudstore get / -o backup                   all there is, to ./backup/…
  cloudstore get src.tar -o - | tar x          to a pipe

Until a file is whole it is called .NAME.VERSION.part, beside its place. The same command goes on with it, unless the object is
another one by now.

Exit codes: 0 done, 1 failed, 2 wrongly used, 3 not found, 4 not allowed, 5 the server cannot be reached, 130 stopped by Ctrl-C; of
several failures the first decides.";

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Objects; with a slash at the end, folders with all that is in them.
    #[arg(value_name = "NAME|FOLDER/", required = true, value_parser = name)]
    pub(crate) names: Vec<String>,
    /// Where they go. With a slash at the end: into this folder, each under its own name. Without: the file or folder that the one
    /// object or folder becomes. - for stdout. [default: the folder that one is in]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace files that are there. Else one that is the same is left alone, and one that is another is a failure.
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

pub(crate) const LS_EXAMPLES: &str = "\
Examples:
  cloudstore ls                what is at the top
  cloudstore ls photos/        what is in the folder
  cloudstore ls photos/2026 -r all whose names begin so, in folders too
  cloudstore ls --json         for programs";

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// A folder with a slash at the end, or how names begin. [default: the top]
    #[arg(value_name = "PREFIX", value_parser = name)]
    pub(crate) prefix: Option<String>,
    /// With size, time and class.
    #[arg(short)]
    pub(crate) long: bool,
    /// What is in folders too, and not the folders.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Print each entry as JSON, on a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(crate) const RM_EXAMPLES: &str = "\
Examples:
  cloudstore rm docs/report.pdf docs/old.pdf
  cloudstore rm -r photos/                     the folder with all that is in it";

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Objects; with -r also folders, with a slash at the end.
    #[arg(value_name = "NAME|FOLDER/", required = true, value_parser = name)]
    pub(crate) names: Vec<String>,
    /// Remove folders with all that is in them.
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Nothing is asked anyway.
    #[arg(short = 'f', long = "force", hide = true)]
    _force: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(crate) const MOVE_EXAMPLES: &str = "\
Examples, the same for mv and cp:
  cloudstore mv a.txt b.txt         to this name
  cloudstore mv a.txt docs/         to docs/a.txt
  cloudstore mv photos/ old/photos  the folder, to old/photos/…
  cloudstore mv photos/ old/        the folder, to old/photos/… too";

#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// An object, or a folder with a slash at the end.
    #[arg(value_name = "FROM", value_parser = name)]
    pub(crate) from: String,
    /// The new name; with a slash at the end, the folder that it goes into under its own name.
    #[arg(value_name = "TO", value_parser = name)]
    pub(crate) to: String,
    /// Replace what is there.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// A slash says it.
    #[arg(short = 'r', long = "recursive", hide = true)]
    _recursive: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    /// Objects, or folders with a slash at the end.
    #[arg(value_name = "NAME", required = true, value_parser = name)]
    pub(crate) names: Vec<String>,
    /// Print each as JSON, on a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}
