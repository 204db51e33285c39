//! flexi_logger: `variant=async` is its queue to a thread, `variant=buffered` its buffer under a lock.

use std::io::{self, Write};
use std::thread;

use flexi_logger::{DeferredNow, FileSpec, Logger, LoggerHandle, WriteMode};
use log_peers::{Peer, Plan, Values};

struct Flexi(LoggerHandle);

impl Peer for Flexi {
    fn constant(&self) {
        log::info!(log_peers::message!());
    }
    fn text(&self, text: &str) {
        log::info!("{}", text);
    }
    fn values(&self, values: Values) {
        log_peers::with_values!(log::info, values);
    }
    fn finish(self) {
        self.0.shutdown();
    }
}

fn line(out: &mut dyn Write, now: &mut DeferredNow, record: &log::Record<'_>) -> io::Result<()> {
    let (thread, at) = (thread::current(), now.format("%Y-%m-%dT%H:%M:%S%.6f"));
    let (file, line) = (record.file().unwrap_or_default(), record.line().unwrap_or_default());
    let (level, target, thread) = (record.level(), record.target(), thread.name().unwrap_or_default());
    write!(out, "{at} {level} [{target}] [{thread}] {file}:{line} {}", record.args())
}

fn main() {
    log_peers::run("flexi", |plan: &Plan| {
        let mode = match plan.variant.as_str() {
            "buffered" => WriteMode::BufferAndFlush,
            _ => WriteMode::Async,
        };
        let file = FileSpec::try_from(&plan.file).expect("a file's name");
        let builder = Logger::try_with_str("info").expect("a level").log_to_file(file);
        Flexi(builder.format(line).write_mode(mode).start().expect("a logger"))
    });
}
