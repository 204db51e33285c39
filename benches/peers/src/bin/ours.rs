//! This project's logger; `variant=shared` for one pair behind a lock, `queue` for the bytes of a half.

use log_peers::{Peer, Plan, Values};
use logger::sink::File;
use logger::{Logger, Mode};

struct Ours(Logger);

impl Peer for Ours {
    fn constant(&self) {
        logger::info!(logger: self.0, log_peers::message!());
    }
    fn text(&self, text: &str) {
        logger::info!(logger: self.0, "{}", text);
    }
    fn values(&self, values: Values) {
        log_peers::with_values!(logger::info, values, logger: self.0,);
    }
    fn finish(self) {
        self.0.shutdown();
    }
}

fn main() {
    log_peers::run("ours", |plan: &Plan| {
        let mode = if plan.variant == "shared" { Mode::Shared } else { Mode::PerThread };
        let mut builder = Logger::builder("bench").mode(mode).sink(File::open(&plan.file).expect("a file"));
        if plan.queue > 0 {
            builder = builder.half(plan.queue);
        }
        Ours(builder.build().expect("a logger"))
    });
}
