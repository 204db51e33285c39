//! No record allocates once the buffers are warm, neither on its caller's side nor on the worker's.
#![allow(unsafe_code, clippy::unwrap_used)]

mod util;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use logger::sink::File;
use logger::{Layout as Look, Logger, Mode, info};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came; the counter is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, by `alloc` or `realloc` here.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as in `dealloc`, and the caller keeps the rest of the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test: the counter is the process's, so it counts the producer and the worker.
#[test]
fn warm_records_allocate_nothing() {
    const RECORDS: u64 = 30_000;
    let folder = tempfile::tempdir().unwrap();
    for mode in [Mode::PerThread, Mode::Shared] {
        for look in [Look::Text, Look::Json] {
            let path = folder.path().join("allocation.log");
            let logger = Logger::builder("allocation")
                .mode(mode)
                .layout(look)
                .sink(File::open(&path).unwrap())
                .build()
                .unwrap();
            let log = |records: u64| {
                for nth in 0..records {
                    info!(logger: logger, size = nth, name = "a.bin"; "stored {nth} with \"quotes\"");
                }
                logger.flush();
            };
            // Until a time has passed without an allocation: how large a round may be depends on the scheduler.
            let measure = || {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                log(RECORDS);
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            let counts: Vec<_> = std::iter::repeat_with(measure).take(5).collect();
            println!("{mode:?} {look:?}: {counts:?} allocations for {RECORDS} records each");
            assert!(counts.contains(&0), "{counts:?}");
            // The warm-up is a few buffers that double.
            assert!(counts.iter().sum::<u64>() < 200, "{counts:?}");
        }
    }
}
