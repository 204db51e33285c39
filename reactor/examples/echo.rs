//! An echo server: what a client sends comes back to it.
//!
//!     cargo run -p reactor --example echo -- 8000
//!
//! prints `listening on 127.0.0.1:8000`. Try it with `nc 127.0.0.1 8000`: each line you type returns. Ctrl-C ends it,
//! and it prints `bye`. A small message costs two system calls, one read and one write, beside the poll.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what it does")]

use std::os::fd::OwnedFd;

use reactor::{Address, BevOptions, Bufferevent, Direction, Event, EventBase, Listener};

/// `SIGINT`, what Ctrl-C sends.
const INTERRUPT: i32 = 2;

fn main() {
    if let Err(error) = run() {
        eprintln!("echo: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8000".to_owned());
    let address: Address = format!("127.0.0.1:{port}").parse()?;

    let base = EventBase::new()?;
    let listener = Listener::bind(&base, &address, |listener, socket, peer| {
        if let Err(error) = serve(listener.base(), socket) {
            println!("cannot serve {peer}: {error}");
        }
    })?;
    listener.on_error(|_, error| println!("cannot accept, trying again soon: {error}"));
    println!("listening on {}", listener.local_address()?);

    // Without this the process would simply be killed.
    let interrupt = Event::signal(&base, INTERRUPT, |interrupt, _| interrupt.base().loop_break())?;
    interrupt.add(None)?;

    base.dispatch()?;
    println!("bye");
    Ok(())
}

/// Echoes until the client has said all, or the connection fails.
fn serve(base: &EventBase, socket: OwnedFd) -> reactor::Result<()> {
    let bev = Bufferevent::socket(base, socket, BevOptions::empty())?;
    // A client that does not read stops being read: what waits for it stays below this, and a little.
    const FULL: usize = 1 << 20;
    bev.on_read(|bev| {
        // Moves memory from one buffer to the other; no byte is copied.
        if bev.output().append_buffer(bev.input()).is_err() {
            bev.free();
        } else if bev.output().len() > FULL {
            bev.disable(Direction::READ);
        }
    });
    bev.on_write(|bev| {
        let _ = bev.enable(Direction::READ);
    });
    bev.on_event(|bev, what| {
        // The end, an error, or a time-out. What was not sent yet still goes out after a half-close.
        if what.ends() {
            if bev.output().is_empty() || bev.take_error().is_some() {
                bev.free();
            } else {
                bev.on_write(Bufferevent::free);
            }
        }
    });
    bev.enable(Direction::READ)
}
