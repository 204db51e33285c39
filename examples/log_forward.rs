//! Records to another machine: ERROR and FATAL records go to a backlog server, through a spool that keeps them until the
//! server has acknowledged them.
//!
//! ```text
//! $ cargo run -- backlog                    # in another terminal
//! $ cargo run -q --example log_forward
//! 2026-09-12T14:03:55.123456Z INFO  [log_forward] [t1] examples/log_forward.rs:45 stays on this machine
//! 2026-09-12T14:03:55.123459Z ERROR [log_forward] [t1] examples/log_forward.rs:46 goes to the backlog server
//! 2026-09-12T14:03:55.123461Z ERROR [log_forward] [t2] examples/log_forward.rs:47 from another thread
//! 2 accepted, 2 acknowledged, 0 wait in spool/log_forward
//! ```
//!
//! Without a server they wait, and go with the next run.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Parser;
use logger::forward::Pool;
use logger::sink::Console;
use logger::{Logger, error, info};
use reactor::Address;

#[derive(Parser)]
struct Options {
    /// Where the backlog server listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    backlog: Address,
    /// Where records wait.
    #[arg(long, default_value = "spool/log_forward")]
    spool: PathBuf,
    /// How many seconds to wait for the server.
    #[arg(long, default_value_t = 2)]
    wait: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let pool = Pool::builder(options.backlog, &options.spool).start()?;
    // The order of the sinks does not matter: each gets every record.
    let logger = Logger::builder("forwarding").sink(Console::stdout()).sink(pool.sink()).install()?;

    info!("stays on this machine");
    error!("goes to the backlog server");
    let other = thread::spawn(|| error!("from another thread"));
    other.join().map_err(|_| "the other thread panicked")?;

    // Accepted: in the spool, where a crash of this program or of the server cannot harm them.
    logger.flush();
    pool.drain(Duration::from_secs(options.wait));
    let counters = pool.counters();
    println!(
        "{} accepted, {} acknowledged, {} wait in {}",
        counters.spooled,
        counters.acknowledged,
        counters.waiting,
        options.spool.display()
    );
    Ok(())
}
