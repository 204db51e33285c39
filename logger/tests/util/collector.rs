//! A collector that speaks RELP, or breaks its rules as a case wants.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a test waits for what must happen, before it fails.
pub const LONG: Duration = Duration::from_secs(60);

/// One frame of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub txnr: u32,
    pub command: String,
    pub data: Vec<u8>,
}

/// A client's connection, seen from the collector.
pub struct Connection {
    reader: BufReader<TcpStream>,
    pub stream: TcpStream,
    /// Which connection of this collector it is, from 0.
    pub nth: usize,
    received: Arc<Received>,
}

#[derive(Default)]
struct Received {
    messages: Mutex<Vec<String>>,
    grew: Condvar,
}

/// Accepts connections until it is dropped, each served by `serve` on a thread of its own.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Received>,
    connections: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    /// The client's next frame; `None` when it has gone.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = Vec::new();
        for _ in 0..3 {
            let before = head.len();
            loop {
                let mut byte = [0];
                match self.reader.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return None,
                }
                if byte[0] == b' ' || byte[0] == b'\n' {
                    break;
                }
            }
            assert!(head.len() > before + 1, "an empty part in {:?}", head.escape_ascii().to_string());
        }
        let text = String::from_utf8(head).unwrap();
        let parts: Vec<&str> = text.trim_end().split(' ').collect();
        let length: usize = parts[2].parse().unwrap();
        let mut data = vec![0; length];
        self.reader.read_exact(&mut data).ok()?;
        if length > 0 {
            let mut end = [0];
            self.reader.read_exact(&mut end).ok()?;
            assert_eq!(end, *b"\n");
        }
        Some(Frame { txnr: parts[0].parse().unwrap(), command: parts[1].to_owned(), data })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // A client that has gone needs nothing.
        let _ = self.stream.write_all(bytes);
    }

    pub fn respond(&mut self, txnr: u32, data: &str) {
        self.send(format!("{txnr} rsp {} {data}\n", data.len()).as_bytes());
    }

    /// Takes the client's `open` and accepts it.
    pub fn open(&mut self) -> Option<()> {
        let frame = self.frame()?;
        assert_eq!((frame.txnr, frame.command.as_str()), (1, "open"));
        self.respond(1, "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog");
        Some(())
    }

    /// The next `syslog` frame, kept by the collector.
    pub fn record(&mut self) -> Option<Frame> {
        let frame = self.frame()?;
        assert_eq!(frame.command, "syslog");
        self.keep(&frame);
        Some(frame)
    }

    pub fn keep(&self, frame: &Frame) {
        let message = String::from_utf8(frame.data.clone()).unwrap();
        self.received.messages.lock().unwrap().push(message);
        self.received.grew.notify_all();
    }

    /// Serves the client as it should be.
    pub fn serve_well(&mut self) {
        if self.open().is_none() {
            return;
        }
        while let Some(frame) = self.record() {
            self.respond(frame.txnr, "200 OK");
        }
    }

    /// Takes lines of plain syslog.
    pub fn take_lines(&mut self) {
        let mut line = String::new();
        while self.reader.read_line(&mut line).is_ok_and(|n| n > 0) {
            let message = line.strip_suffix('\n').unwrap().to_owned();
            self.received.messages.lock().unwrap().push(message);
            self.received.grew.notify_all();
            line.clear();
        }
    }

    /// The next message behind its length.
    pub fn counted(&mut self) -> Option<Vec<u8>> {
        let mut length = Vec::new();
        self.reader.read_until(b' ', &mut length).ok().filter(|n| *n > 0)?;
        let length: usize = std::str::from_utf8(&length).unwrap().trim_end().parse().unwrap();
        let mut message = vec![0; length];
        self.reader.read_exact(&mut message).ok()?;
        Some(message)
    }

    /// Takes whatever comes, until the client goes.
    pub fn hang(&mut self) {
        let mut sink = [0; 4096];
        while self.reader.read(&mut sink).is_ok_and(|n| n > 0) {}
    }
}

impl Collector {
    pub fn well() -> Collector {
        Collector::new(|connection| connection.serve_well())
    }

    pub fn new(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Collector {
        Collector::at("127.0.0.1:0".parse().unwrap(), serve)
    }

    pub fn at(address: SocketAddr, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Collector {
        let listener = bind(address);
        let address = listener.local_addr().unwrap();
        let received = Arc::<Received>::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let open = Arc::<Mutex<Vec<TcpStream>>>::default();
        let serve = Arc::new(serve);
        let (theirs, count, end, streams) =
            (received.clone(), connections.clone(), ends.clone(), open.clone());
        let accept = move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if end.load(Ordering::Acquire) {
                    break;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let mut connection = Connection {
                    reader: BufReader::new(stream.try_clone().unwrap()),
                    stream,
                    nth: count.fetch_add(1, Ordering::AcqRel),
                    received: theirs.clone(),
                };
                let serve = serve.clone();
                threads.push(thread::spawn(move || {
                    serve(&mut connection);
                    let _ = connection.stream.shutdown(Shutdown::Both);
                }));
            }
            drop(listener);
            for stream in streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            for thread in threads {
                thread.join().expect("a connection went wrong");
            }
        };
        Collector { address, received, connections, ends, open, thread: Some(thread::spawn(accept)) }
    }

    pub fn address(&self) -> reactor::Address {
        self.address.into()
    }

    pub fn socket_address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<String> {
        self.received.messages.lock().unwrap().clone()
    }

    /// Waits until this many messages are there.
    pub fn wait_for(&self, many: usize) -> Vec<String> {
        let messages = self.received.messages.lock().unwrap();
        let (messages, outcome) =
            self.received.grew.wait_timeout_while(messages, LONG, |messages| messages.len() < many).unwrap();
        assert!(!outcome.timed_out(), "{} of {many} messages came", messages.len());
        messages.clone()
    }

    /// Ends it and all its connections; its messages.
    pub fn end(mut self) -> Vec<String> {
        self.stop();
        self.messages()
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.ends.store(true, Ordering::Release);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        let outcome = thread.join();
        if !thread::panicking() {
            outcome.expect("the collector went wrong");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address that a collector just had may be busy for a moment.
fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && address.port() != 0 => thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

/// The texts of messages, behind their structured data.
pub fn texts(messages: &[String]) -> Vec<&str> {
    messages.iter().map(|message| message.split_once("\"] ").unwrap().1).collect()
}

/// The stream and the sequence number of a message.
pub fn mark(message: &str) -> (u32, u64) {
    let value = |name: &str| {
        let from = message.find(name).unwrap() + name.len();
        message[from..].split('"').next().unwrap().to_owned()
    };
    (value("stream=\"").parse().unwrap(), value("sequence=\"").parse().unwrap())
}
