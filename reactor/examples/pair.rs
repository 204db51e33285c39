//! Two bufferevents that are each other's peer, without a socket: a dialogue inside one process.
//!
//!     cargo run -p reactor --example pair
//!
//! prints
//!
//!     server hears: 2 + 3
//!     client hears: 5
//!     server hears: 20 + 22
//!     client hears: 42
//!     server sees the end
#![allow(clippy::print_stdout, reason = "an example that shows what it does")]

use reactor::evbuffer::Eol;
use reactor::{BevEvent, BevOptions, Bufferevent, Direction, EventBase, FlushMode};

fn main() -> reactor::Result<()> {
    let base = EventBase::new()?;
    let (client, server) = Bufferevent::pair(&base, BevOptions::empty())?;

    server.on_read(|server| {
        while let Some(question) = line(server) {
            println!("server hears: {question}");
            let sum: i64 = question.split('+').filter_map(|part| part.trim().parse::<i64>().ok()).sum();
            let _ = server.write(format!("{sum}\n").as_bytes());
        }
    });
    server.on_event(|server, what| {
        if what.contains(BevEvent::EOF) {
            println!("server sees the end");
            server.free();
        }
    });
    server.enable(Direction::READ)?;

    let mut questions = ["20 + 22"].into_iter();
    client.on_read(move |client| {
        while let Some(answer) = line(client) {
            println!("client hears: {answer}");
            match questions.next() {
                Some(question) => drop(client.write(format!("{question}\n").as_bytes())),
                // Nothing more: the partner is told so, after all that was written.
                None => drop(client.flush(Direction::WRITE, FlushMode::Finished)),
            }
        }
    });
    client.enable(Direction::READ)?;
    client.write(b"2 + 3\n")?;

    // Ends by itself: when nothing is queued any more, nothing can come.
    base.dispatch()?;
    Ok(())
}

/// The next whole line of the input, if it is there.
fn line(bev: &Bufferevent) -> Option<String> {
    let line = bev.input().read_line(Eol::Lf).ok()??;
    Some(String::from_utf8_lossy(&line).into_owned())
}
