//! tracing-appender's non-blocking writer, without losses; `variant=buffered` gives its worker a `BufWriter`.

use std::fs::File;
use std::io::BufWriter;

use log_peers::{Peer, Plan, Values};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

struct Appender(WorkerGuard);

impl Peer for Appender {
    fn constant(&self) {
        tracing::info!(log_peers::message!());
    }
    fn text(&self, text: &str) {
        tracing::info!("{}", text);
    }
    fn values(&self, values: Values) {
        log_peers::with_values!(tracing::info, values);
    }
    fn finish(self) {
        drop(self.0);
    }
}

fn main() {
    log_peers::run("tracing-appender", |plan: &Plan| {
        let file = File::create(&plan.file).expect("a file");
        let mut builder = NonBlockingBuilder::default().lossy(false);
        if plan.queue > 0 {
            builder = builder.buffered_lines_limit(plan.queue);
        }
        let (writer, guard) = match plan.variant.as_str() {
            "buffered" => builder.finish(BufWriter::with_capacity(64 * 1024, file)),
            _ => builder.finish(file),
        };
        let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(false);
        lines.with_thread_ids(true).with_file(true).with_line_number(true).init();
        Appender(guard)
    });
}
