//! No record that is received allocates once the buffers are warm.
#![cfg(feature = "forward")]
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use logger::backlog::{Backlog, Options};
use logger::sink::RollingOptions;
use reactor::{Address, EventBase};

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

const WINDOW: usize = 100;
const WINDOWS: usize = 100;

/// One test: the counter is the process's.
#[test]
fn warm_records_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backlog.log");
    let (sender, started) = mpsc::channel();
    let thread = thread::spawn(move || {
        let base = EventBase::new().unwrap();
        let rolling = RollingOptions { max_bytes: None, ..RollingOptions::default() };
        let options = Options { rolling, ..Options::new("127.0.0.1:0".parse().unwrap(), file) };
        let backlog = Backlog::bind(&base, options).unwrap();
        let Address::Inet(address) = backlog.local_address().unwrap() else { panic!("no port") };
        sender.send((address, base.notifier())).unwrap();
        base.dispatch().unwrap();
        backlog.close();
        backlog.counters().records
    });
    let (address, notifier) = started.recv().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"1 open 0\n").unwrap();
    let mut answers = [0; 64 * 1024];
    assert!(client.read(&mut answers).unwrap() > 0);

    // All of it is made beforehand, so that only the server could allocate.
    let mut sequence = 0;
    let mut windows = || -> Vec<Vec<u8>> {
        let mut window = || {
            let mut bytes = Vec::new();
            for txnr in 2..2 + WINDOW {
                sequence += 1;
                let text = format!(
                    "<11>1 2026-11-22T14:03:56.234567Z web1 server 4711 - [cloudstore@32473 \
                     sender=\"00c0ffee00c0ffee\" stream=\"2\" sequence=\"{sequence}\"] ERROR [client] \u{e9}"
                );
                writeln!(bytes, "{txnr} syslog {} {text}", text.len()).unwrap();
            }
            bytes
        };
        (0..WINDOWS).map(|_| window()).collect()
    };
    let mut measure = || {
        let windows = windows();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for window in &windows {
            client.write_all(window).unwrap();
            let mut acknowledged = 0;
            while acknowledged < WINDOW {
                let n = client.read(&mut answers).unwrap();
                assert!(n > 0);
                acknowledged += answers[..n].iter().filter(|&&byte| byte == b'\n').count();
            }
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    // Until a time has passed without an allocation: how much comes in one read depends on the scheduler.
    let counts: Vec<u64> = (0..20).map(|_| measure()).take_while(|&count| count > 0).collect();
    assert!(counts.len() < 20, "{counts:?}");
    notifier.loop_break().unwrap();
    assert_eq!(thread.join().unwrap(), sequence);
}
