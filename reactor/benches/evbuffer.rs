//! CPU time of the evbuffer's operations; `c/evbuffer.c` does exactly the same on libevent.
//!
//! `cargo bench -p reactor --bench evbuffer` prints lines of `name size ns_per_op MB_per_s`, the least of several
//! rounds each. The twin: `cc -O2 -o evbuffer_c reactor/benches/c/evbuffer.c -levent_core && ./evbuffer_c`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program to be read, not linked"
)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use reactor::Evbuffer;
use reactor::evbuffer::Eol;
use rustix::time::{ClockId, clock_gettime};

/// What is queued at most while adding and draining.
const QUEUE: usize = 1024 * 1024;
const SIZES: [usize; 6] = [1, 16, 64, 512, 4096, 65_536];
const ROUNDS: usize = 7;
/// Operations a round, unless they move so many bytes that fewer do.
const OPERATIONS: usize = 200_000;
const BYTES: usize = 64 * 1024 * 1024;
/// A header line of 32 bytes, of which the searched texts are made.
const LINE: &[u8; 32] = b"Accept-Something: text/html;q=\r\n";

fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn operations(size: usize) -> usize {
    OPERATIONS.min(BYTES / size)
}

/// Prints the least CPU time an operation took; `round` does some and returns how many, and the time.
fn report(name: &str, size: usize, mut round: impl FnMut() -> (usize, u64)) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (count, ns) = round();
        best = best.min(ns as f64 / count as f64);
    }
    println!("{name} {size} {best:.2} {:.0}", size as f64 * 1e3 / best);
}

fn timed(f: impl FnOnce()) -> u64 {
    let start = cpu_ns();
    f();
    cpu_ns() - start
}

/// As many as fit the queue, over and over.
fn in_batches(size: usize, mut batch: impl FnMut(usize) -> u64) -> (usize, u64) {
    let per_batch = (QUEUE / size).min(operations(size));
    let batches = operations(size).div_ceil(per_batch);
    let ns = (0..batches).map(|_| batch(per_batch)).sum();
    (batches * per_batch, ns)
}

fn fill(b: &Evbuffer, size: usize, n: usize) {
    let bytes = vec![b'x'; size];
    for _ in 0..n {
        b.append(&bytes).unwrap();
    }
}

type Operation = (&'static str, fn(&str, usize));

fn main() {
    // Cargo's own flags (`--bench`) are of no use here; a name selects operations.
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let all: [Operation; 13] = [
        ("add", add),
        ("drain", drain),
        ("add_drain", add_drain),
        ("remove", remove),
        ("prepend", prepend),
        ("move", move_all),
        ("move_some", move_some),
        ("reserve_commit", reserve_commit),
        ("pull_up", pull_up),
        ("search", search),
        ("search_absent", search_absent),
        ("read_line", read_line),
        ("echo", echo),
    ];
    for (name, run) in all.into_iter().filter(|(name, _)| wanted.is_empty() || wanted == *name) {
        for size in SIZES {
            run(name, size);
        }
    }
}

fn add(name: &str, size: usize) {
    let (b, bytes) = (Evbuffer::new(), vec![b'x'; size]);
    report(name, size, || {
        in_batches(size, |n| {
            let ns = timed(|| {
                for _ in 0..n {
                    b.append(black_box(&bytes)).unwrap();
                }
            });
            assert_eq!(b.drain(usize::MAX).unwrap(), n * size);
            ns
        })
    });
}

fn drain(name: &str, size: usize) {
    let b = Evbuffer::new();
    report(name, size, || {
        in_batches(size, |n| {
            fill(&b, size, n);
            let ns = timed(|| {
                for _ in 0..n {
                    b.drain(black_box(size)).unwrap();
                }
            });
            assert!(b.is_empty());
            ns
        })
    });
}

fn add_drain(name: &str, size: usize) {
    let (b, bytes) = (Evbuffer::new(), vec![b'x'; size]);
    let n = operations(size);
    report(name, size, || {
        let ns = timed(|| {
            for _ in 0..n {
                b.append(black_box(&bytes)).unwrap();
                b.drain(black_box(size)).unwrap();
            }
        });
        assert!(b.is_empty());
        (n, ns)
    });
}

fn remove(name: &str, size: usize) {
    let (b, mut bytes) = (Evbuffer::new(), vec![0; size]);
    report(name, size, || {
        in_batches(size, |n| {
            fill(&b, size, n);
            let ns = timed(|| {
                for _ in 0..n {
                    b.remove(black_box(&mut bytes)).unwrap();
                }
            });
            assert!(b.is_empty() && bytes[size - 1] == b'x');
            ns
        })
    });
}

fn prepend(name: &str, size: usize) {
    let (b, bytes) = (Evbuffer::new(), vec![b'x'; size]);
    report(name, size, || {
        in_batches(size, |n| {
            let ns = timed(|| {
                for _ in 0..n {
                    b.prepend(black_box(&bytes)).unwrap();
                }
            });
            assert_eq!(b.drain(usize::MAX).unwrap(), n * size);
            ns
        })
    });
}

fn move_all(name: &str, size: usize) {
    let (a, b) = (Evbuffer::new(), Evbuffer::new());
    fill(&a, size, 1);
    report(name, size, || {
        let ns = timed(|| {
            for _ in 0..OPERATIONS / 2 {
                b.append_buffer(black_box(&a)).unwrap();
                a.append_buffer(black_box(&b)).unwrap();
            }
        });
        assert_eq!(a.len(), size);
        (OPERATIONS, ns)
    });
}

fn move_some(name: &str, size: usize) {
    let (a, b) = (Evbuffer::new(), Evbuffer::new());
    report(name, size, || {
        in_batches(size, |n| {
            fill(&a, size, n);
            let ns = timed(|| {
                for _ in 0..n {
                    a.remove_buffer(black_box(&b), size).unwrap();
                }
            });
            assert_eq!(b.drain(usize::MAX).unwrap(), n * size);
            ns
        })
    });
}

fn reserve_commit(name: &str, size: usize) {
    let b = Evbuffer::new();
    report(name, size, || {
        in_batches(size, |n| {
            let ns = timed(|| {
                for _ in 0..n {
                    let mut room = b.reserve(black_box(size)).unwrap();
                    room[0] = b'x';
                    room.commit(size).unwrap();
                }
            });
            assert_eq!(b.drain(usize::MAX).unwrap(), n * size);
            ns
        })
    });
}

fn pull_up(name: &str, size: usize) {
    let b = Evbuffer::new();
    fill(&b, size, 1);
    report(name, size, || {
        let mut sum = 0usize;
        let ns = timed(|| {
            for _ in 0..OPERATIONS {
                let front = b.pull_up(black_box(size)).unwrap().unwrap();
                sum += usize::from(front[size - 1]);
            }
        });
        assert_eq!(sum, OPERATIONS * usize::from(b'x'));
        (OPERATIONS, ns)
    });
}

/// Header lines of `size` bytes in all, and an empty line behind them.
fn headers(size: usize) -> Evbuffer {
    let b = Evbuffer::new();
    let text: Vec<u8> = LINE.iter().copied().cycle().take(size).collect();
    b.append(&text).unwrap();
    b.append(b"\r\n\r\n").unwrap();
    b
}

fn search(name: &str, size: usize) {
    let b = headers(size);
    let expected = if size >= 32 { size - 2 } else { size };
    let n = operations(size).min(50_000);
    report(name, size, || {
        let mut sum = 0;
        let ns = timed(|| {
            for _ in 0..n {
                sum += b.find(black_box(b"\r\n\r\n"), ..).unwrap().unwrap();
            }
        });
        assert_eq!(sum, n * expected);
        (n, ns)
    });
}

/// No byte of the pattern is there but at the end.
fn search_absent(name: &str, size: usize) {
    let b = Evbuffer::new();
    fill(&b, size, 1);
    b.append(b"\r\n\r\n").unwrap();
    let n = operations(size).min(50_000);
    report(name, size, || {
        let mut sum = 0;
        let ns = timed(|| {
            for _ in 0..n {
                sum += b.find(black_box(b"\r\n\r\n"), ..).unwrap().unwrap();
            }
        });
        assert_eq!(sum, n * size);
        (n, ns)
    });
}

fn read_line(name: &str, size: usize) {
    let b = Evbuffer::new();
    report(name, size, || {
        in_batches(size + 2, |n| {
            for _ in 0..n {
                fill(&b, size, 1);
                b.append(b"\r\n").unwrap();
            }
            let ns = timed(|| {
                for _ in 0..n {
                    let line = b.read_line(Eol::Crlf).unwrap().unwrap();
                    assert_eq!(line.len(), size);
                }
            });
            assert!(b.is_empty());
            ns
        })
    });
}

/// Reads what a peer sent, moves it to another buffer and writes it back; the peer's own calls are counted too.
fn echo(name: &str, size: usize) {
    let (input, output) = (Evbuffer::new(), Evbuffer::new());
    let (mut peer, here) = UnixStream::pair().unwrap();
    let mut bytes = vec![b'x'; size];
    let n = operations(size).min(10_000);
    report(name, size, || {
        let ns = timed(|| {
            for _ in 0..n {
                peer.write_all(&bytes).unwrap();
                let mut got = 0;
                while got < size {
                    got += input.read_from(&here, 16_384).unwrap();
                    output.append_buffer(&input).unwrap();
                    output.write_to(&here, None).unwrap();
                }
                peer.read_exact(&mut bytes).unwrap();
            }
        });
        assert!(output.is_empty() && bytes[size - 1] == b'x');
        (n, ns)
    });
}
