//! A storage server on a thread, for tests.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "client.rs"]
mod client;

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloudstore::server::{Drainer, Options, Server};
use cloudstore::storage::{self, Durability};
use reactor::EventBase;

pub use client::{Client, Reply, sample};

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
        Client::to(&self.address)
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
