//! What connections cost: no allocation for a small message, no block while they are idle, nothing when they are gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reactor::{Address, BevOptions, Bufferevent, EventBase, Listener, LoopFlags};
use socket2::Socket;
use streams::*;

/// Counts what the test's own thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn note(allocations: usize, bytes: isize) {
    // A thread that is ending has nobody left to tell.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + allocations));
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract; counting uses
// thread-locals that are initialised at compile time and need no drop, so it never allocates itself.
#[allow(unsafe_code, reason = "only an unsafe trait can count allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        note(0, -(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.get()
}

fn live() -> isize {
    LIVE.get()
}

/// Descriptors are counted for the whole process, so these tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[derive(Clone, Copy, Debug)]
enum Style {
    /// Moves the input to the output.
    Move,
    /// Copies through an array.
    Copy,
}

fn serve(base: &EventBase, kind: Kind, style: Style, options: BevOptions) -> (Listener, Address) {
    let (socket, address) = bound(kind, Some(128));
    let listener = Listener::adopt(base, socket, move |listener, socket, _| {
        let bev = Bufferevent::socket(listener.base(), socket, options).unwrap();
        bev.set_timeouts(Some(Duration::from_secs(3600)), Some(Duration::from_secs(3600)));
        bev.on_read(move |bev| match style {
            Style::Move => bev.output().append_buffer(bev.input()).unwrap(),
            Style::Copy => {
                let mut bytes = [0; 256];
                let n = bev.read(&mut bytes);
                bev.write(&bytes[..n]).unwrap();
            }
        });
        bev.on_write(|_| ());
        bev.on_event(|bev, what| {
            if what.ends() {
                bev.free();
            }
        });
        bev.enable(READ).unwrap();
    })
    .unwrap();
    (listener, address)
}

/// Sends a message and reads its echo, the loop running meanwhile. Allocates nothing itself.
fn exchange(base: &EventBase, client: &Socket, message: &[u8]) {
    let mut client = client;
    assert_eq!(client.write(message).unwrap(), message.len());
    let mut echo = [0; 256];
    let mut got = 0;
    while got < message.len() {
        base.run(LoopFlags::NONBLOCK).unwrap();
        match client.read(&mut echo[got..]) {
            Ok(0) => panic!("closed"),
            Ok(n) => got += n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(echo[..got] == *message);
}

#[test]
fn ten_thousand_small_messages_allocate_nothing() {
    let _turn = turn();
    each_mode(|mode| {
        for style in [Style::Move, Style::Copy] {
            let base = EventBase::new().unwrap();
            let (_listener, address) = serve(&base, mode.kind, style, mode.options);
            let clients = [dial(&address), dial(&address)];
            let message = [7; 64];
            for _ in 0..100 {
                clients.iter().for_each(|client| exchange(&base, client, &message));
            }
            let before = allocations();
            for _ in 0..5_000 {
                clients.iter().for_each(|client| exchange(&base, client, &message));
            }
            assert_eq!(allocations() - before, 0, "{style:?}");
        }
    });
}

#[test]
fn an_idle_connection_holds_no_block() {
    let _turn = turn();
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (_listener, address) = serve(&base, kind, Style::Move, BevOptions::empty());
        let first = dial(&address);
        exchange(&base, &first, &[1; 200]);
        let clients: Vec<_> = (0..200)
            .map(|_| {
                let before = live();
                let client = dial(&address);
                exchange(&base, &client, &[1; 200]);
                (client, live() - before)
            })
            .collect();
        // Tables double now and then; most connections show what one costs.
        let mut costs: Vec<_> = clients.iter().map(|(_, cost)| *cost).collect();
        costs.sort_unstable();
        eprintln!("{kind:?}: an idle connection holds {} bytes", costs[100]);
        assert!(costs[100] < 2048, "{} bytes", costs[100]);
        let total: isize = costs.iter().sum();
        assert!(total < 200 * 2048, "{total} bytes for 200 connections");
    }
}

#[test]
fn ten_thousand_connections_leave_neither_memory_nor_descriptors() {
    let _turn = turn();
    for kind in KINDS {
        for options in [BevOptions::empty(), BevOptions::DEFER_CALLBACKS] {
            let base = EventBase::new().unwrap();
            let (_listener, address) = serve(&base, kind, Style::Move, options);
            let cycle = || {
                let client = dial(&address);
                exchange(&base, &client, b"hello");
                client.set_linger(Some(Duration::ZERO)).unwrap();
                drop(client);
                while base.counts().added > 1 {
                    base.run(LoopFlags::ONCE).unwrap();
                }
            };
            (0..100).for_each(|_| cycle());
            let before = (live(), descriptors());
            (0..2_500).for_each(|_| cycle());
            assert_eq!((live(), descriptors()), before, "{kind:?} {options:?}");
        }
    }
}

#[test]
fn ten_thousand_objects_made_and_freed_leave_nothing() {
    let _turn = turn();
    let base = EventBase::new().unwrap();
    let cycle = |nth: usize| {
        let (bev, other) = Bufferevent::pair(&base, BevOptions::empty()).unwrap();
        let own = (bev.clone(), other.clone());
        bev.on_read(move |_| assert!(own.0 != own.1));
        other.enable(READ).unwrap();
        bev.write(&[0; 100]).unwrap();
        let (ours, _theirs) = connected(Kind::Unix);
        let socket = Bufferevent::socket(&base, ours, BevOptions::empty()).unwrap();
        let (own, shared) = (socket.clone(), Rc::new(vec![0u8; 100]));
        socket.input().on_change(move |_, _| assert!(own.is_freed()));
        struct Shared(Rc<Vec<u8>>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        socket.output().append_shared(Shared(shared)).unwrap();
        socket.set_timeouts(Some(Duration::from_secs(1)), Some(Duration::from_secs(1)));
        socket.enable(READ).unwrap();
        if nth.is_multiple_of(2) {
            base.run(LoopFlags::NONBLOCK).unwrap();
        }
        [&bev, &other, &socket].into_iter().for_each(Bufferevent::free);
        base.run(LoopFlags::NONBLOCK).unwrap();
    };
    (0..200).for_each(cycle);
    let before = (live(), descriptors());
    (0..10_000).for_each(cycle);
    assert_eq!((live(), descriptors()), before);
}
