//! Logs numbered records to a file and waits for them: `cargo run -p logger --example log_numbers -- a.log 1000`
//!
//! With `roll` as a third argument the file rolls at 512 KiB. `scripts/log_disk_full` runs this on a disk that is full.
#![allow(clippy::print_stdout)]

use std::error::Error;

use logger::sink::{File, Rolling, RollingOptions};
use logger::{Logger, info};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(count)) = (args.next(), args.next()) else {
        return Err("usage: log_numbers FILE COUNT [roll]".into());
    };
    let count: u64 = count.parse()?;
    let builder = Logger::builder("numbers");
    let logger = if args.next().is_some() {
        let options = RollingOptions {
            max_bytes: Some(512 * 1024),
            keep: None,
            compress: false,
            ..RollingOptions::default()
        };
        builder.sink(Rolling::open(path, options)?)
    } else {
        builder.sink(File::open(path)?)
    }
    .build()?;
    for number in 0..count {
        info!(logger: logger, number = number; "a record");
    }
    logger.shutdown();
    println!("{} accepted", count - logger.rejected());
    Ok(())
}
