//! Records as JSON, one object a line.
//!
//! ```text
//! $ cargo run -q --example log_json
//! {"time":"2026-09-12T14:03:55.123456Z","level":"INFO","target":"storage","thread":"t1","file":"examples/log_json.rs","line":16,"message":"stored","fields":{"name":"a.bin","size":1048576}}
//! {"time":"2026-09-12T14:03:55.123459Z","level":"WARN","target":"log_json","thread":"t1","file":"examples/log_json.rs","line":17,"message":"a \"quoted\" word"}
//! {"time":"2026-09-12T14:03:55.123460Z","level":"ERROR","target":"log_json","thread":"t1","file":"examples/log_json.rs","line":18,"message":"by the log facade","fields":{"code":5}}
//! ```

use logger::sink::Console;
use logger::{Layout, Logger, info, warn};

fn main() -> Result<(), logger::Error> {
    // What is accepted is written before `main` is over.
    Logger::builder("json").layout(Layout::Json).sink(Console::stdout()).install()?;
    info!(target: "storage", name = "a.bin", size = 1048576; "stored");
    warn!("a \"{}\" word", "quoted");
    log::error!(code = 5; "by the log facade");
    Ok(())
}
