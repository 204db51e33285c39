//! Every line that a client sends becomes a log record, on the console and in a file.
//!
//! ```text
//! $ cargo run --example server
//! listening on 127.0.0.1:8000, logging to logs/server.log
//! $ nc 127.0.0.1 8000          # in another terminal
//! hello
//! ERROR disk gone
//! ```
//!
//! gives, on the console and in the file,
//!
//! ```text
//! 2026-09-12T14:03:55.123456Z INFO  [client] [t1] examples/server.rs:206 hello peer="127.0.0.1:51344"
//! 2026-09-12T14:03:56.234567Z ERROR [client] [t1] examples/server.rs:206 disk gone peer="127.0.0.1:51344"
//! ```
//!
//! With `--backlog ADDRESS` its ERROR and FATAL records also go to a backlog server (`cargo run -- backlog` in a third
//! terminal), and wait in the folder `--spool` while there is none:
//!
//! ```text
//! $ cargo run --example server -- --backlog 127.0.0.1:8080 --spool spool
//! ```
//!
//! `--wire octet-counted` and `--wire newline` send plain syslog instead of RELP, to collectors that know no better.
//!
//! A level word at the beginning of a line sets the record's level; without one it is INFO. A line ends with LF or CR LF.
//! A line without an end is a record when the client goes or the server ends, and one that is longer than 64 KiB becomes
//! several. Bytes that are not UTF-8 are written as `\xNN`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::cell::RefCell;
use std::error::Error;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use logger::forward::{self, Pool};
use logger::sink::{Console, File};
use logger::{Bytes, Durability, Level, Logger, log, warn};
use reactor::evbuffer::Eol;
use reactor::{Address, BevOptions, Bufferevent, Direction, Evbuffer, Event, EventBase, Listener};

/// A longer line is split, so that one client takes a bounded amount of memory.
const MAX_LINE: usize = 64 * 1024;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: Address,
    /// The file that the records go to.
    #[arg(long, default_value = "logs/server.log")]
    log: PathBuf,
    /// The backlog server that ERROR and FATAL records are forwarded to; nothing is forwarded without it.
    #[arg(long)]
    backlog: Option<Address>,
    /// Where records wait until the backlog server has acknowledged them.
    #[arg(long, default_value = "spool")]
    spool: PathBuf,
    /// How records go to the backlog server. All but RELP lose those that are on their way when a connection breaks.
    #[arg(long, value_enum, default_value_t = Wire::Relp)]
    wire: Wire,
}

/// The wires, as the command line names them.
#[derive(Clone, Copy, ValueEnum)]
enum Wire {
    Relp,
    OctetCounted,
    Newline,
}

impl From<Wire> for forward::Wire {
    fn from(wire: Wire) -> forward::Wire {
        match wire {
            Wire::Relp => forward::Wire::Relp,
            Wire::OctetCounted => forward::Wire::OctetCounted,
            Wire::Newline => forward::Wire::Newline,
        }
    }
}

/// How long the end waits for the backlog server. What it has not acknowledged by then is forwarded by the next run.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The clients that are connected.
type Clients = Rc<RefCell<Vec<Bufferevent>>>;

fn main() -> ExitCode {
    match serve(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let pool = match &options.backlog {
        Some(address) => {
            Some(Pool::builder(address.clone(), &options.spool).wire(options.wire.into()).start()?)
        }
        None => None,
    };
    let mut builder = Logger::builder("server")
        .level(Level::Trace)
        .sink_with(Console::stdout(), Level::Trace, Durability::Flush)
        .sink_with(File::open(&options.log)?, Level::Trace, Durability::Flush);
    if let Some(pool) = &pool {
        builder = builder.sink(pool.sink());
    }
    let logger = builder.install()?;

    let base = EventBase::new()?;
    let clients = Clients::default();
    let connected = clients.clone();
    let listener = Listener::bind(&base, &options.listen, move |listener, socket, peer| {
        match welcome(listener.base(), socket, &peer, &connected) {
            Ok(client) => connected.borrow_mut().push(client),
            Err(error) => warn!(target: "server", peer = peer.to_string(); "cannot serve a client: {error}"),
        }
    })?;
    listener.on_error(|_, error| warn!(target: "server", "cannot accept a client: {error}"));
    println!("listening on {}, logging to {}", listener.local_address()?, options.log.display());

    for signal in [SIGINT, SIGTERM] {
        Event::signal(&base, signal, |event, _| event.base().loop_break())?.add(None)?;
    }
    base.dispatch()?;
    for client in clients.take() {
        end(&client, "server stops");
    }
    // A sink that fails, as on a full disk, is given up after a few seconds here, where a flush would wait for it.
    logger.shutdown();
    if let Some(pool) = pool {
        pool.drain(LAST_WAIT);
    }
    Ok(())
}

fn welcome(
    base: &EventBase,
    socket: OwnedFd,
    peer: &Address,
    clients: &Clients,
) -> reactor::Result<Bufferevent> {
    let client = Bufferevent::socket(base, socket, BevOptions::empty())?;
    client.set_max_single_read(MAX_LINE);
    let (name, clients) = (peer.to_string(), clients.clone());
    let same_name = name.clone();
    client.on_read(move |client| log_lines(client.input(), &name));
    client.on_event(move |client, what| {
        if what.ends() {
            clients.borrow_mut().retain(|other| other != client);
            end(client, &same_name);
        }
    });
    client.enable(Direction::READ)?;
    Ok(client)
}

/// Logs the lines that are complete, and pieces of one that is too long.
fn log_lines(input: &Evbuffer, peer: &str) {
    loop {
        match input.read_line(Eol::Crlf) {
            Ok(Some(line)) => log_pieces(&line, peer),
            Ok(None) if input.len() >= MAX_LINE => {
                let mut piece = vec![0; MAX_LINE];
                let taken = input.remove(&mut piece).unwrap_or(0);
                log_line(&piece[..taken], peer);
            }
            Ok(None) => return,
            Err(error) => {
                return warn!(target: "server", peer = peer; "cannot read a client's lines: {error}");
            }
        }
    }
}

/// What is left without a line end is a line too.
fn end(client: &Bufferevent, peer: &str) {
    let mut rest = vec![0; client.input().len()];
    let taken = client.read(&mut rest);
    if taken > 0 {
        log_pieces(&rest[..taken], peer);
    }
    client.free();
}

/// An empty line is a record too.
fn log_pieces(line: &[u8], peer: &str) {
    let (first, more) = line.split_at(line.len().min(MAX_LINE));
    log_line(first, peer);
    more.chunks(MAX_LINE).for_each(|piece| log_line(piece, peer));
}

fn log_line(line: &[u8], peer: &str) {
    let (level, text) = split_level(line);
    log!(target: "client", level, peer = peer; "{}", Bytes(text));
}

/// The level word at the beginning, if there is one, and the rest.
fn split_level(line: &[u8]) -> (Level, &[u8]) {
    let word = line.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let level = Level::ALL.into_iter().find(|level| level.as_str().as_bytes() == word);
    match level {
        Some(level) => (level, line[word.len()..].trim_ascii_start()),
        None => (Level::Info, line),
    }
}
