//! spdlog-rs with a pool of one thread that blocks when it is full.

use std::num::NonZeroUsize;
use std::sync::Arc;

use log_peers::{Peer, Plan, Values};
use spdlog::formatter::{PatternFormatter, pattern};
use spdlog::sink::{AsyncPoolSink, FileSink, OverflowPolicy, SinkPropAccess};
use spdlog::{Logger, ThreadPool};

struct Spdlog {
    logger: Arc<Logger>,
    pool: Arc<ThreadPool>,
}

impl Peer for Spdlog {
    fn constant(&self) {
        spdlog::info!(logger: self.logger, log_peers::message!());
    }
    fn text(&self, text: &str) {
        spdlog::info!(logger: self.logger, "{}", text);
    }
    fn values(&self, values: Values) {
        log_peers::with_values!(spdlog::info, values, logger: self.logger,);
    }
    fn finish(self) {
        let Spdlog { logger, pool } = self;
        logger.flush();
        drop(logger);
        // Its last owner waits for the worker, and with that goes the sink's file.
        drop(pool);
    }
}

fn main() {
    log_peers::run("spdlog-rs", |plan: &Plan| {
        let file = FileSink::builder().path(&plan.file).truncate(true).build_arc().expect("a file");
        file.set_formatter(Box::new(PatternFormatter::new(pattern!(
            "{date} {time}.{microsecond} {level} [{logger}] [{tid}] {file}:{line} {payload}{eol}"
        ))));
        let mut pool = ThreadPool::builder();
        if let Some(queue) = NonZeroUsize::new(plan.queue) {
            let _ = pool.capacity(queue);
        }
        let pool = pool.build_arc().expect("a pool");
        let sink = AsyncPoolSink::builder()
            .sink(file)
            .overflow_policy(OverflowPolicy::Block)
            .thread_pool(pool.clone())
            .build_arc()
            .expect("a sink");
        let logger = Logger::builder().name("bench").sink(sink).build_arc().expect("a logger");
        Spdlog { logger, pool }
    });
}
