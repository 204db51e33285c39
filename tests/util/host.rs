//! A storage server on a thread, and a client that says exactly what it is told, for tests.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloudstore::server::{Drainer, Options, Server};
use cloudstore::storage::{self, Durability};
use reactor::EventBase;

/// A server that ends with its test.
pub struct Host {
    pub address: String,
    data: PathBuf,
    drainer: Drainer,
    thread: Option<JoinHandle<()>>,
    folder: Option<tempfile::TempDir>,
}

pub fn options(data: &Path) -> Options {
    let storage =
        storage::Options { durability: Durability::Relaxed, threads: 2, ..storage::Options::new(data) };
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), storage);
    options.min_free_disk = 0;
    options.access_log = false;
    options
}

impl Host {
    pub fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let mut host = Host::with(options(folder.path()));
        host.folder = Some(folder);
        host
    }

    /// In a folder that outlives it.
    pub fn at(data: &Path) -> Host {
        Host::with(options(data))
    }

    pub fn with(options: Options) -> Host {
        let data = options.storage.data.clone();
        let (sender, started) = channel();
        let thread = std::thread::spawn(move || {
            let base = EventBase::new().unwrap();
            let server = Server::start(&base, options).unwrap();
            sender.send((server.address().to_string(), server.drainer())).unwrap();
            base.dispatch().unwrap();
            server.join();
        });
        let (address, drainer) = started.recv().unwrap();
        Host { address, data, drainer, thread: Some(thread), folder: None }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.connect().ask(method, target, headers, body)
    }

    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[], b"")
    }

    pub fn put(&self, target: &str, body: &[u8]) -> Reply {
        self.ask("PUT", target, &[], body)
    }

    /// Asks again and again until it is so.
    pub fn until(&self, mut is_so: impl FnMut(&Host) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it never came to that");
        }
    }

    /// One value of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics");
        let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {}", page.text())).parse().unwrap()
    }

    /// The files below a folder of the data folder, in order.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let top = self.data.join(folder);
        let mut folders = vec![top.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.drainer.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    pub reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// Bytes that differ from their neighbours, and those of each MiB from those of others.
pub fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(31) ^ (n >> 8)) as u8).collect()
}

impl Client {
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(method, target, headers, body);
        self.read(method == "HEAD").expect("an answer")
    }

    pub fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_length = headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !has_length && (!body.is_empty() || matches!(method, "PUT" | "POST")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        // A server that refuses early may have closed by then; its answer is there all the same.
        let _ = self.stream.write_all(&[head.as_bytes(), body].concat());
    }

    /// None if the connection ends before a whole answer.
    pub fn read(&mut self, is_head: bool) -> Option<Reply> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).ok()?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ")?;
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if status == 100 {
            return self.read(is_head);
        }
        if is_head || matches!(status, 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length") {
            reply.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut reply.body).ok()?;
        } else if reply.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                self.reader.read_line(&mut line).ok()?;
                let mut chunk = vec![0; usize::from_str_radix(line.trim_end(), 16).ok()? + 2];
                self.reader.read_exact(&mut chunk).ok()?;
                if chunk.len() == 2 {
                    break;
                }
                reply.body.extend_from_slice(&chunk[..chunk.len() - 2]);
            }
        } else {
            self.reader.read_to_end(&mut reply.body).ok()?;
        }
        Some(reply)
    }
}
