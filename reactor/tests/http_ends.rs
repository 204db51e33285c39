//! The server freed, shut down, or left by its client, from each closure and in each state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod web;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::Outcome;
use reactor::evbuffer::FileSegment;
use reactor::http::{BodyEvent, Http, Request};
use web::*;

/// The closures that a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Handler,
    Fallback,
    Data,
    End,
    Whole,
    Drained,
    Refusal,
    Exchange,
    Dropped,
}

const PLACES: [Place; 9] = [
    Place::Handler,
    Place::Fallback,
    Place::Data,
    Place::End,
    Place::Whole,
    Place::Drained,
    Place::Refusal,
    Place::Exchange,
    Place::Dropped,
];

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Free,
    Shutdown,
    Panic,
    /// Answers all requests that are held.
    AnswerOthers,
    /// Sets all closures anew.
    Replace,
}

const DEEDS: [Deed; 5] = [Deed::Free, Deed::Shutdown, Deed::Panic, Deed::AnswerOthers, Deed::Replace];

struct Scene {
    http: Http,
    place: Place,
    deed: Deed,
    is_done: Cell<bool>,
    held: RefCell<Vec<Request>>,
    alive: Rc<()>,
}

impl Scene {
    fn at(self: &Rc<Self>, place: Place) {
        if place != self.place || self.is_done.replace(true) {
            return;
        }
        match self.deed {
            Deed::Free => self.http.free(),
            Deed::Shutdown => self.http.shutdown(),
            Deed::Panic => panic!("on purpose"),
            Deed::AnswerOthers => self.held.take().into_iter().for_each(|req| req.reply(202).send()),
            Deed::Replace => self.set(),
        }
    }

    /// Does its deed when it is dropped.
    fn bomb(self: &Rc<Self>) -> Bomb {
        Bomb(self.clone())
    }

    fn set(self: &Rc<Self>) {
        let scene = || (self.clone(), self.alive.clone());
        let s = scene();
        self.http.route("/handler", move |req| {
            s.0.at(Place::Handler);
            req.reply(200).body("x").send();
        });
        let s = scene();
        self.http.fallback(move |req| {
            s.0.at(Place::Fallback);
            req.reply(200).body("x").send();
        });
        let s = scene();
        self.http.route("/held", move |req| s.0.held.borrow_mut().push(req));
        let s = scene();
        self.http.route("/body", move |req| {
            let (s, bomb) = (s.clone(), s.0.bomb());
            req.on_body(move |_, event| match event {
                BodyEvent::Data(data) => {
                    let _ = &bomb;
                    data.drain(usize::MAX).unwrap();
                    s.0.at(Place::Data);
                }
                BodyEvent::End(req) => {
                    s.0.at(Place::End);
                    req.reply(200).body("x").send();
                }
                BodyEvent::Failed(_) => (),
            });
        });
        let s = scene();
        self.http.route("/whole", move |req| {
            let s = s.clone();
            req.collect_body(100, move |req, _| {
                s.0.at(Place::Whole);
                req.reply(200).body("x").send();
            });
        });
        let s = scene();
        self.http.route("/drained", move |req| {
            let s = s.clone();
            req.reply(200).stream().on_drained(move |stream| {
                s.0.at(Place::Drained);
                let _ = stream.write(b"x");
                stream.finish();
            });
        });
        let s = scene();
        self.http.on_refusal(move |_, _| s.0.at(Place::Refusal));
        let s = scene();
        self.http.on_exchange(move |_| s.0.at(Place::Exchange));
    }
}

struct Bomb(Rc<Scene>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.0.deed != Deed::Panic {
            self.0.at(Place::Dropped);
        }
    }
}

#[test]
fn each_closure_may_do_anything() {
    for place in PLACES {
        for deed in DEEDS {
            let case = format!("{place:?} {deed:?}");
            let w = world();
            let alive = Rc::new(());
            let scene = Rc::new(Scene {
                http: w.http.clone(),
                place,
                deed,
                is_done: Cell::new(place == Place::Dropped && deed == Deed::Panic),
                held: RefCell::default(),
                alive: alive.clone(),
            });
            scene.set();
            let other = w.client();
            other.send(&w, b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n");
            w.until(|| scene.held.borrow().len() == 1);
            let client = w.client();
            let body = "HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
            let requests = [
                "GET /handler HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
                "GET /other HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
                format!("PUT /body {body}"),
                format!("PUT /whole {body}"),
                "GET /drained HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
                "GET /held HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
                "malformed\r\n\r\n".to_owned(),
            ]
            .concat();
            client.send(&w, requests.as_bytes());
            let start = std::time::Instant::now();
            w.until(|| {
                // What is held answers, so that what was pipelined behind it comes too.
                let held = scene.held.take();
                held.into_iter().for_each(|req| req.reply(200).send());
                scene.is_done.get() && client.is_over() || start.elapsed().as_secs() > 20
            });
            assert!(scene.is_done.get(), "{case}: it never came to it");
            drop((client, other));
            w.http.free();
            scene.held.take();
            drop(scene);
            assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents, "{case}");
            drop(w);
            assert_eq!(Rc::strong_count(&alive), 1, "{case}: something is left");
        }
    }
}

/// A client that ends or resets its connection at each byte of its requests, and after each byte that it read.
#[test]
fn a_client_may_leave_at_any_byte() {
    let w = world();
    let file = tempfile::tempfile().unwrap();
    file.set_len(100_000).unwrap();
    let file = FileSegment::new(file, 0, 100_000).unwrap();
    w.http.route("/file", move |req| req.reply(200).file(file.clone()).send());
    w.http.route("/body", |req| req.collect_body(100, |req, _| req.reply(200).body("x").send()));
    w.http.route("/stream", |req| {
        let mut n = 0;
        req.reply(200).stream().on_drained(move |stream| {
            n += 1;
            let _ = stream.write(b"piece");
            if n == 3 {
                stream.finish();
            }
        });
    });
    let told = Rc::new(Cell::new(0));
    let count = told.clone();
    w.http.on_exchange(move |_| count.set(count.get() + 1));
    let requests = "PUT /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n\
        GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for cut in 0..=requests.len() {
        for how in 0..3 {
            let client = w.client();
            client.send(&w, &requests.as_bytes()[..cut]);
            match how {
                0 => {
                    client.end();
                    client.rest(&w);
                }
                1 => client.reset(),
                _ => drop(client),
            }
            w.turn();
        }
    }
    w.until(|| w.http.connections() == 0);
    // A last one is served as the first.
    assert_eq!(w.ask("GET /file HTTP/1.1\r\nHost: h\r\n\r\n").body.len(), 100_000);
    assert!(told.get() > 0);
    w.http.free();
    assert_eq!(w.base.dispatch().unwrap(), Outcome::NoEvents);
}
