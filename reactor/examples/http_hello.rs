//! A web server that greets.
//!
//!     cargo run -p reactor --example http_hello -- 8000
//!
//! prints `listening on 127.0.0.1:8000`. Then `curl http://127.0.0.1:8000/hello?you` prints `hello you`. Ctrl-C ends it
//! when the replies under way are sent, and it prints `bye`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example that shows what it does")]

use reactor::http::{Http, percent_decode};
use reactor::{Address, Event, EventBase};

/// `SIGINT`, what Ctrl-C sends.
const INTERRUPT: i32 = 2;

fn main() {
    if let Err(error) = run() {
        eprintln!("http_hello: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8000".to_owned());
    let address: Address = format!("127.0.0.1:{port}").parse()?;

    let base = EventBase::new()?;
    let http = Http::bind(&base, &address)?;
    http.route_for("GET", "/hello", |req| {
        let Some(name) = percent_decode(req.query().unwrap_or("world")) else { return req.reply(400).send() };
        let greeting = format!("hello {}\n", String::from_utf8_lossy(&name));
        req.reply(200).header("Content-Type", "text/plain; charset=utf-8").body(greeting).send();
    });
    println!("listening on {}", http.local_address()?);

    let interrupt = Event::signal(&base, INTERRUPT, move |interrupt, _| {
        http.shutdown();
        interrupt.free();
    })?;
    interrupt.add(None)?;

    base.dispatch()?;
    println!("bye");
    Ok(())
}
