//! Threads that come and go. On its own, since it reads the memory of the process.
#![allow(clippy::unwrap_used)]

mod util;

use std::thread;

use logger::sink::File;
use logger::{Logger, info};
use util::status;

const THREADS: usize = 10_000;
const RECORDS: usize = 10;
const AT_A_TIME: usize = 8;
/// What malloc may add on the way; a pair is 128 KiB, all of them would be 1.2 GiB.
const SLACK_KIB: u64 = 6 * 1024;

#[test]
fn ten_thousand_threads_lose_nothing_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("threads.log");
    let logger = Logger::builder("threads").sink(File::open(&path).unwrap()).build().unwrap();
    let run = |threads: usize| {
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    for _ in 0..threads / AT_A_TIME {
                        let log = || (0..RECORDS).for_each(|nth| info!(logger: logger, "record {nth}"));
                        thread::scope(|scope| scope.spawn(log).join().unwrap());
                    }
                });
            }
        });
    };
    run(THREADS / 5);
    let before = status("/proc/self/status", "VmRSS");
    run(THREADS - THREADS / 5);
    let after = status("/proc/self/status", "VmRSS");
    logger.flush();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), THREADS * RECORDS);
    println!("{THREADS} threads: {} lines, {before} KiB, then {after} KiB", THREADS * RECORDS);
    assert!(after < before + SLACK_KIB, "{before} KiB, then {after} KiB");
}
