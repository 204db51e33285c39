//! What the command line says of itself to shells and to `man`.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;

/// `cloudstore completions`.
pub(crate) fn complete(shell: Shell) -> Result<(), Box<dyn Error>> {
    // Written at once: the generator takes a failed write for a fault of its own.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cloudstore", &mut script);
    print(&script)
}

/// `cloudstore man`.
pub(crate) fn pages(folder: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let mut command = Cli::command();
    // Names the commands by their whole line.
    command.build();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        return print(&page);
    };
    let cannot = |error| format!("cannot write manual pages to {}: {error}", folder.display());
    fs::create_dir_all(folder).and_then(|()| write_pages(&command, folder)).map_err(cannot)?;
    Ok(())
}

fn write_pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    fs::write(folder.join(man.get_filename()), page)?;
    let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
    commands.into_iter().try_for_each(|command| write_pages(command, folder))
}

fn print(text: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout();
    out.write_all(text).and_then(|()| out.flush())?;
    Ok(())
}
