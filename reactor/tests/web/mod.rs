//! What the tests of http share: a server in the test's thread, a raw client, and ways to run the loop up to a point.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::http::{Http, Limits};
use reactor::{Address, EventBase, LoopFlags, SteppedClock};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) base: EventBase,
    pub(crate) http: Http,
}

pub(crate) fn world() -> World {
    let base = EventBase::new().unwrap();
    on(base)
}

/// A world whose time is moved by hand.
pub(crate) fn stepped(clock: &SteppedClock) -> World {
    on(EventBase::builder().clock(clock).build().unwrap())
}

fn on(base: EventBase) -> World {
    let http = Http::bind(&base, &"127.0.0.1:0".parse().unwrap()).unwrap();
    World { base, http }
}

impl World {
    pub(crate) fn limit(&self, change: impl FnOnce(&mut Limits)) {
        let mut limits = self.http.limits();
        change(&mut limits);
        self.http.set_limits(limits);
    }

    pub(crate) fn client(&self) -> Client {
        let Address::Inet(address) = self.http.local_address().unwrap() else { panic!("not inet") };
        Client::on(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn turn(&self) {
        self.base.run(LoopFlags::NONBLOCK).unwrap();
    }

    /// Runs the loop until `is_done`.
    pub(crate) fn until(&self, mut is_done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_done() {
            assert!(start.elapsed() < PATIENCE, "it never came to it");
            self.turn();
        }
    }

    /// Lets time pass, a tenth of a second between turns, until `is_done`; how long it was.
    pub(crate) fn pass_until(&self, clock: &SteppedClock, mut is_done: impl FnMut() -> bool) -> Duration {
        let start = clock.elapsed();
        self.until(|| {
            self.turn();
            is_done() || {
                clock.advance(Duration::from_millis(100));
                false
            }
        });
        clock.elapsed() - start
    }

    /// Sends all of a request in one connection, and returns all that comes until the server closes it.
    pub(crate) fn last_words(&self, request: &[u8]) -> String {
        String::from_utf8(self.last_words_bytes(request)).unwrap()
    }

    pub(crate) fn last_words_bytes(&self, request: &[u8]) -> Vec<u8> {
        let client = self.client();
        client.send(self, request);
        client.rest(self)
    }

    /// One exchange on a new connection.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let client = self.client();
        client.ask(self, request)
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    got: RefCell<Vec<u8>>,
    is_over: Cell<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn on(stream: TcpStream) -> Client {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, got: RefCell::default(), is_over: Cell::new(false) }
    }

    /// Sends, the loop running meanwhile.
    pub(crate) fn send(&self, world: &World, bytes: &[u8]) {
        let start = Instant::now();
        let mut rest = bytes;
        while !rest.is_empty() {
            assert!(start.elapsed() < PATIENCE, "{} bytes are not taken", rest.len());
            match (&self.stream).write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    world.turn();
                    // A server that answers before it has read all is heard meanwhile.
                    self.receive();
                }
                Err(_) => return,
            }
        }
        world.turn();
    }

    pub(crate) fn end(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends it so that the server hears of a failure.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Gives back the memory of what it got.
    pub(crate) fn forget(self) -> Client {
        Client { got: RefCell::default(), ..self }
    }

    /// Whether so many bytes of what is left of an answer have come, which are forgotten then.
    pub(crate) fn is_idle_after(&self, head_and_rest: usize) -> bool {
        self.receive();
        let is_there = self.got.borrow().len() >= head_and_rest;
        if is_there {
            self.got.borrow_mut().clear();
        }
        is_there
    }

    pub(crate) fn has_something(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok()
    }

    /// Takes what there is.
    pub(crate) fn receive(&self) {
        let mut piece = [0; 1 << 16];
        loop {
            match (&self.stream).read(&mut piece) {
                Ok(0) => return self.is_over.set(true),
                Ok(n) => self.got.borrow_mut().extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_over.set(true),
            }
        }
    }

    pub(crate) fn got(&self) -> Vec<u8> {
        self.receive();
        self.got.borrow().clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.receive();
        self.is_over.get()
    }

    /// All that comes until the server closes.
    pub(crate) fn rest(&self, world: &World) -> Vec<u8> {
        world.until(|| self.is_over());
        self.got.take()
    }

    pub(crate) fn ask(&self, world: &World, request: &str) -> Answer {
        self.send(world, request.as_bytes());
        self.answer(world, request.starts_with("HEAD"))
    }

    /// The next answer.
    pub(crate) fn answer(&self, world: &World, to_head: bool) -> Answer {
        world.until(|| {
            let _ = self.is_over();
            let got = self.got.borrow();
            find(&got, b"\r\n\r\n").is_some() || self.is_over.get()
        });
        let end = find(&self.got.borrow(), b"\r\n\r\n").expect("no head before the end") + 4;
        let head: Vec<u8> = self.got.borrow_mut().drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if to_head || status < 200 || matches!(status, 204 | 304) {
            return answer;
        }
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            world.until(|| self.got().len() >= length || self.is_over.get());
            answer.body = self.got.borrow_mut().drain(..length).collect();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunked(world);
        } else {
            answer.body = self.rest(world);
        }
        answer
    }

    fn chunked(&self, world: &World) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            world.until(|| find(&self.got(), b"\r\n").is_some());
            let end = find(&self.got.borrow(), b"\r\n").unwrap();
            let line: Vec<u8> = self.got.borrow_mut().drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            world.until(|| self.got().len() >= size + 2);
            let mut chunk: Vec<u8> = self.got.borrow_mut().drain(..size + 2).collect();
            assert_eq!(chunk.split_off(size), b"\r\n");
            if size == 0 {
                return body;
            }
            body.extend(chunk);
        }
    }
}

pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// A cell that a handler and its test share.
pub(crate) fn shared<T: Default>() -> (Rc<RefCell<T>>, Rc<RefCell<T>>) {
    let cell = Rc::new(RefCell::new(T::default()));
    (cell.clone(), cell)
}

pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i % 251) as u8).collect()
}
