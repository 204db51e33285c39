//! Bounds, not loggers: lines that are ready, written one by one (`variant=line`), or gathered under a lock and written
//! 64 KiB at a time (`variant=64k`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

use log_peers::{Peer, Plan, Values};

const LINE: &str = concat!(
    "2026-09-12T14:03:55.123456Z INFO  [raw] [t1] benches/peers/src/bin/raw.rs:42 ",
    log_peers::message!(),
    "\n"
);
const BLOCK: usize = 64 * 1024;

enum Raw {
    Line(File),
    Block(Mutex<(Vec<u8>, File)>),
}

impl Peer for Raw {
    fn constant(&self) {
        match self {
            Raw::Line(file) => {
                let mut file = file;
                file.write_all(LINE.as_bytes()).expect("room on the disk");
            }
            Raw::Block(block) => {
                let mut block = block.lock().expect("no panic under the lock");
                let (bytes, file) = &mut *block;
                if bytes.len() + LINE.len() > BLOCK {
                    file.write_all(bytes).expect("room on the disk");
                    bytes.clear();
                }
                bytes.extend_from_slice(LINE.as_bytes());
            }
        }
    }
    fn text(&self, _: &str) {
        self.constant();
    }
    fn values(&self, _: Values) {
        self.constant();
    }
    fn finish(self) {
        if let Raw::Block(block) = self {
            let (bytes, mut file) = block.into_inner().expect("no panic under the lock");
            file.write_all(&bytes).expect("room on the disk");
        }
    }
}

fn main() {
    log_peers::run("raw", |plan: &Plan| {
        let file = OpenOptions::new().append(true).create(true).open(&plan.file).expect("a file");
        match plan.variant.as_str() {
            "line" => Raw::Line(file),
            "64k" => Raw::Block(Mutex::new((Vec::with_capacity(BLOCK), file))),
            other => panic!("variant={other}: line or 64k"),
        }
    });
}
