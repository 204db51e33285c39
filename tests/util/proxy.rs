//! A way to a server that breaks where a test wants it to.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of a connection.
pub enum Fate {
    /// It ends when so many bytes went up, or down.
    CutUp(u64),
    CutDown(u64),
    /// Nothing more comes down.
    StallDown(u64),
    /// Something happens when so many bytes went up.
    At(u64, Box<dyn FnOnce() + Send>),
}

/// Listens until the test's process ends. Connections meet the fates in their order, those behind the last go through.
pub struct Proxy {
    pub address: String,
    pub up: Arc<AtomicU64>,
    pub down: Arc<AtomicU64>,
}

impl Proxy {
    pub fn to(server: &str, fates: Vec<Fate>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let proxy = Proxy { address, up: Arc::clone(&up), down: Arc::clone(&down) };
        let server = server.to_owned();
        let fates = Mutex::new(VecDeque::from(fates));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let fate = fates.lock().unwrap().pop_front();
                let (mut up_fate, mut down_fate) = (None, None);
                match fate {
                    Some(Fate::CutDown(_) | Fate::StallDown(_)) => down_fate = fate,
                    fate => up_fate = fate,
                }
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let count = Arc::clone(&up);
                std::thread::spawn(move || carry(client, server, up_fate, &count));
                let count = Arc::clone(&down);
                std::thread::spawn(move || carry(ends.1, ends.0, down_fate, &count));
            }
        });
        proxy
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut fate: Option<Fate>, count: &AtomicU64) {
    let mut carried = 0;
    let mut piece = vec![0; 64 * 1024];
    loop {
        let at = match &fate {
            Some(Fate::CutUp(at) | Fate::CutDown(at) | Fate::StallDown(at) | Fate::At(at, _)) => Some(*at),
            None => None,
        };
        if at == Some(carried) {
            match fate.take() {
                Some(Fate::At(_, act)) => act(),
                Some(Fate::StallDown(_)) => {
                    // The other direction notices that the client leaves.
                    loop {
                        std::thread::park();
                    }
                }
                _ => break,
            }
            continue;
        }
        let most = at.map_or(piece.len(), |at| piece.len().min((at - carried) as usize));
        match from.read(&mut piece[..most]) {
            Ok(n @ 1..) if to.write_all(&piece[..n]).is_ok() => {
                carried += n as u64;
                count.fetch_add(n as u64, Ordering::SeqCst);
            }
            _ => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A server that says what a test has it say: `answer` gets the head of a request and its body, and gives the answer's bytes.
/// Each connection has one request.
pub fn fake(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut piece = vec![0; 64 * 1024];
                let end = loop {
                    if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                        break at + 4;
                    }
                    match stream.read(&mut piece) {
                        Ok(n @ 1..) => bytes.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                };
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
                let mut body = bytes.split_off(end);
                let field = |name: &str| {
                    let found = head.lines().find_map(|line| line.strip_prefix(name));
                    found.map(|value| value.trim().to_owned())
                };
                if field("Expect:").is_some() {
                    let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                let length = field("Content-Length:").map_or(0, |length| length.parse().unwrap());
                while body.len() < length {
                    match stream.read(&mut piece) {
                        Ok(n @ 1..) => body.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(&answer(&head, &body));
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    address
}

/// An answer with a body.
pub fn reply(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}
