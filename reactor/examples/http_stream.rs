//! Bodies that stream: a server that holds a few hundred kilobytes, whatever their size.
//!
//!     cargo run --release -p reactor --example http_stream -- 8000
//!
//! prints `listening on 127.0.0.1:8000`. Then
//!
//!     curl -T large.bin http://127.0.0.1:8000/count     prints how many bytes it had
//!     curl http://127.0.0.1:8000/numbers?1000000        prints the numbers up to a million, made as they are taken
//!     curl http://127.0.0.1:8000/file?large.bin         prints a file of the current folder, sent by the kernel
//!
//! Ctrl-C ends it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what it does")]

use std::fs::File;
use std::io;

use reactor::evbuffer::FileSegment;
use reactor::http::{BodyEvent, Http, Request};
use reactor::{Address, EventBase};

fn main() {
    if let Err(error) = run() {
        eprintln!("http_stream: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8000".to_owned());
    let address: Address = format!("127.0.0.1:{port}").parse()?;

    let base = EventBase::new()?;
    let http = Http::bind(&base, &address)?;
    http.route("/count", count);
    http.route_for("GET", "/numbers", numbers);
    http.route_for("GET", "/file", |req| match open(req.query().unwrap_or_default()) {
        Ok(file) => req.reply(200).file(file).send(),
        Err(error) => req.reply(404).body(format!("{error}\n")).send(),
    });
    println!("listening on {}", http.local_address()?);
    base.dispatch()?;
    Ok(())
}

/// Counts a body as it comes.
fn count(req: Request) {
    let mut bytes = 0;
    req.on_body(move |_body, event| match event {
        BodyEvent::Data(data) => bytes += data.drain(usize::MAX).unwrap_or(0),
        BodyEvent::End(req) => req.reply(200).body(format!("{bytes} bytes\n")).send(),
        BodyEvent::Failed(error) => eprintln!("after {bytes} bytes: {error}"),
    });
}

/// Makes a reply as it is taken.
fn numbers(req: Request) {
    let Some(last) = req.query().and_then(|query| query.parse::<u64>().ok()) else {
        return req.reply(400).body("how many? try /numbers?10\n").send();
    };
    let mut next = 1;
    req.reply(200).header("Content-Type", "text/plain").stream().on_drained(move |stream| {
        let until = last.min(next + 10_000);
        let lines: String = (next..=until).map(|n| format!("{n}\n")).collect();
        next = until + 1;
        if stream.write(lines.as_bytes()).is_ok() && next > last {
            stream.finish();
        }
    });
}

/// A file of the current folder, by its plain name.
fn open(name: &str) -> io::Result<FileSegment> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) || name.starts_with('.') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only plain names of files here"));
    }
    let file = File::open(name)?;
    let len = file.metadata()?.len();
    FileSegment::new(file, 0, len).map_err(io::Error::other)
}
