//! The logger in a few lines.
//!
//! ```text
//! $ cargo run -q --example log_basic
//! 2026-09-12T14:03:55.123456Z INFO  [log_basic] [t1] examples/log_basic.rs:20 listening on port 8000
//! 2026-09-12T14:03:55.123459Z WARN  [storage] [t1] examples/log_basic.rs:21 nearly full free=1048576 disk="sda"
//! 2026-09-12T14:03:55.123461Z DEBUG [storage] [t1] examples/log_basic.rs:22 one record\nstays one line
//! 2026-09-12T14:03:55.123507Z ERROR [log_basic] [t2] examples/log_basic.rs:23 from another thread
//! ```

use std::thread;

use logger::sink::Console;
use logger::{Logger, debug, error, info, warn};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let filter = "info,storage=debug".parse()?;
    // What is accepted is written before `main` is over.
    Logger::builder("basic").filter(filter).sink(Console::stdout()).install()?;
    info!("listening on port {}", 8000);
    warn!(target: "storage", free = 1048576, disk = "sda"; "nearly full");
    debug!(target: "storage", "one record\nstays one line");
    let other = thread::spawn(|| error!("from another thread"));
    debug!("below the level of this target: not logged");
    other.join().map_err(|_| "the other thread panicked")?;
    Ok(())
}
