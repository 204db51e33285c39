//! `cloudstore config`: the settings, checked or shown.

use std::error::Error;
use std::io::{self, Write};

use cloudstore::config::Config;
use cloudstore::users::UsersFile;

use crate::cli::ConfigCommand;

pub(crate) fn run(command: &ConfigCommand) -> Result<(), Box<dyn Error>> {
    let text = match command {
        ConfigCommand::Check(args) => {
            let config = Config::load(args)?;
            // The server does not start without those that it is to have.
            UsersFile::new(&config.users).read()?;
            let mut text: String = config.notes().iter().map(|note| format!("{note}\n")).collect();
            match config.file() {
                Some(path) => text.push_str(&format!("the settings are good; {} was read\n", path.display())),
                None => text.push_str("the settings are good; there is no configuration file\n"),
            }
            text
        }
        ConfigCommand::Show(args) => format!("{}\n", Config::load(args)?.to_json()),
    };
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
    Ok(())
}
