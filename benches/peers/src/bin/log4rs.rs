//! log4rs, which formats and writes on the caller's thread.

use log_peers::{Peer, Plan, Values};
use log4rs::append::file::FileAppender;
use log4rs::config::{Appender, Config, Root};
use log4rs::encode::pattern::PatternEncoder;

struct Log4rs;

impl Peer for Log4rs {
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
        log::logger().flush();
    }
}

fn main() {
    log_peers::run("log4rs", |plan: &Plan| {
        let pattern = PatternEncoder::new("{d(%Y-%m-%dT%H:%M:%S%.6f)} {l} [{t}] [{T}] {f}:{L} {m}{n}");
        let file = FileAppender::builder().append(false).encoder(Box::new(pattern));
        let file = file.build(&plan.file).expect("a file");
        let root = Root::builder().appender("file").build(log::LevelFilter::Info);
        let config =
            Config::builder().appender(Appender::builder().build("file", Box::new(file))).build(root);
        log4rs::init_config(config.expect("a configuration")).expect("no other logger");
        Log4rs
    });
}
