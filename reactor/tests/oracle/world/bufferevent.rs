//! Bufferevents: sockets and pairs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::{Address, BevEvent, BevOptions, Bufferevent, Direction, FlushMode, TriggerOptions};

use super::sock::millis;
use super::{Named, Op, World, op};
use crate::names::{Names, direction, direction_text, err_suffix, flags, flags_text};
use crate::script::size;
use crate::trace::Digest;

#[derive(Default)]
pub(super) struct Bufferevents {
    named: Named<Rc<NamedBev>>,
}

struct NamedBev {
    name: String,
    /// `None` after `bevfree`.
    bev: RefCell<Option<Bufferevent>>,
    reads: Cell<u32>,
    writes: Cell<u32>,
    events: Cell<u32>,
}

const EVENTS: &Names<BevEvent> = &[
    ("READING", BevEvent::READING),
    ("WRITING", BevEvent::WRITING),
    ("CONNECTED", BevEvent::CONNECTED),
    ("EOF", BevEvent::EOF),
    ("ERROR", BevEvent::ERROR),
    ("TIMEOUT", BevEvent::TIMEOUT),
];

const TRIGGERS: &Names<TriggerOptions> =
    &[("IGNORE_WATERMARKS", TriggerOptions::IGNORE_WATERMARKS), ("DEFER", TriggerOptions::DEFER_CALLBACKS)];

pub(super) const OPS: &[Op] = &[
    op("bev", 2, 3, bev),
    op("bevpair", 2, 3, bevpair),
    op("partner", 1, 1, partner),
    op("bevfree", 1, 1, bevfree),
    op("setcb", 2, 2, |world, arg| world.set_callbacks(&world.bufferevents.named.get(arg[0]), arg[1])),
    op("recall", 1, 1, recall),
    op("connect", 2, 2, connect),
    op("connectnothing", 1, 1, connectnothing),
    op("enable", 2, 2, |world, arg| {
        if world.bev(arg[0]).enable(direction(arg[1])).is_err() {
            world.say(format!("enable {} failed", arg[0]));
        }
    }),
    op("disable", 2, 2, |world, arg| world.bev(arg[0]).disable(direction(arg[1]))),
    op("enabled", 1, 1, |world, arg| {
        world.say(format!("enabled {}={}", arg[0], direction_text(world.bev(arg[0]).enabled())));
    }),
    op("marks", 4, 4, marks),
    op("getmarks", 2, 2, getmarks),
    op("timeouts", 3, 3, timeouts),
    op("write", 2, 2, write),
    op("writebuf", 2, 2, writebuf),
    op("read", 2, 2, read),
    op("readbuf", 2, 2, readbuf),
    op("take", 1, 1, take),
    op("lens", 1, 1, lens),
    op("trigger", 2, 3, trigger),
    op("triggerevent", 2, 3, triggerevent),
    op("flush", 3, 3, flush),
    op("setfd", 2, 2, setfd),
    op("getfd", 1, 1, getfd),
    op("maxread", 2, 2, maxread),
];

/// Callbacks.
impl World {
    pub(super) fn bev(&self, name: &str) -> Bufferevent {
        self.bufferevents.named.get(name).bev.borrow().clone().expect("a bufferevent that was not freed")
    }

    fn new_bev(&'static self, name: &str, bev: Bufferevent) {
        let named = Rc::new(NamedBev {
            name: name.to_owned(),
            bev: RefCell::new(Some(bev)),
            reads: Cell::new(0),
            writes: Cell::new(0),
            events: Cell::new(0),
        });
        self.bufferevents.named.put(name, named.clone());
        self.set_callbacks(&named, "rwe");
    }

    fn set_callbacks(&'static self, named: &Rc<NamedBev>, which: &str) {
        let bev = self.bev(&named.name);
        bev.clear_callbacks();
        if which.contains('r') {
            let own = named.clone();
            bev.on_read(move |bev| self.on_read(&own, bev));
        }
        if which.contains('w') {
            let own = named.clone();
            bev.on_write(move |bev| self.on_write(&own, bev));
        }
        if which.contains('e') {
            let own = named.clone();
            bev.on_event(move |bev, what| self.on_what(&own, bev, what));
        }
    }

    /// A read callback whose reaction starts with `take` empties the input and is merged with its neighbours.
    fn on_read(&'static self, named: &NamedBev, bev: &Bufferevent) {
        let mut reaction = self.scenario.reaction(&named.name, Some("r"), count(&named.reads));
        let _inside = self.trace.enter(&named.name);
        let after_take = reaction.and_then(|list| list.strip_prefix("take"));
        match after_take.filter(|rest| rest.is_empty() || rest.starts_with(';')) {
            Some(rest) => {
                self.trace.say_read(&named.name, &take_all(bev));
                reaction = Some(rest);
            }
            None => self.trace.say_cb(&format!("cb={} read len={}", named.name, bev.input().len())),
        }
        self.run(reaction);
    }

    fn on_write(&'static self, named: &NamedBev, bev: &Bufferevent) {
        let call = count(&named.writes);
        let _inside = self.trace.enter(&named.name);
        self.trace.say_cb(&format!("cb={} write len={}", named.name, bev.output().len()));
        self.run(self.scenario.reaction(&named.name, Some("w"), call));
    }

    fn on_what(&'static self, named: &NamedBev, bev: &Bufferevent, what: BevEvent) {
        let call = count(&named.events);
        let _inside = self.trace.enter(&named.name);
        self.say_event("event", named, bev, what);
        self.run(self.scenario.reaction(&named.name, Some("e"), call));
    }

    fn say_event(&self, label: &str, named: &NamedBev, bev: &Bufferevent, what: BevEvent) {
        let error = bev.take_error().filter(|_| what.contains(BevEvent::ERROR));
        let flags = flags_text(EVENTS, |flag| what.contains(flag));
        self.trace.say_cb(&format!("cb={} {label}={flags}{}", named.name, err_suffix(error.as_ref())));
    }
}

fn count(calls: &Cell<u32>) -> u32 {
    calls.set(calls.get() + 1);
    calls.get()
}

fn take_all(bev: &Bufferevent) -> Vec<u8> {
    let mut bytes = vec![0; bev.input().len()];
    let got = bev.read(&mut bytes);
    bytes.truncate(got);
    bytes
}

fn options(arg: Option<&&str>) -> BevOptions {
    if arg == Some(&"DEFER") { BevOptions::DEFER_CALLBACKS } else { BevOptions::empty() }
}

/// `bev:NAME:FD[:DEFER]`; the bufferevent owns the descriptor.
fn bev(world: &'static World, arg: &[&str]) {
    let (base, options) = (world.base(), options(arg.get(2)));
    let bev = match arg[1] {
        "-" => Bufferevent::unconnected(&base, options),
        fd => Bufferevent::socket(&base, world.fd_give(fd), options),
    };
    world.new_bev(arg[0], bev.expect("a bufferevent"));
}

fn bevpair(world: &'static World, arg: &[&str]) {
    let (one, other) = Bufferevent::pair(&world.base(), options(arg.get(2))).expect("a pair");
    world.new_bev(arg[0], one);
    world.new_bev(arg[1], other);
}

fn partner(world: &'static World, arg: &[&str]) {
    let is_there = if world.bev(arg[0]).partner().is_some() { "there" } else { "none" };
    world.say(format!("partner {} {is_there}", arg[0]));
}

fn bevfree(world: &'static World, arg: &[&str]) {
    let bev = world.bufferevents.named.get(arg[0]).bev.take();
    bev.expect("a bufferevent that was not freed").free();
}

/// Installs a second set of callbacks.
fn recall(world: &'static World, arg: &[&str]) {
    let bev = world.bev(arg[0]);
    let named = world.bufferevents.named.get(arg[0]);
    let own = named.clone();
    bev.on_read(move |bev| {
        let _inside = world.trace.enter(&own.name);
        world.trace.say_cb(&format!("cb={} read2 len={}", own.name, bev.input().len()));
    });
    let own = named.clone();
    bev.on_write(move |bev| {
        let _inside = world.trace.enter(&own.name);
        world.trace.say_cb(&format!("cb={} write2 len={}", own.name, bev.output().len()));
    });
    bev.on_event(move |bev, what| {
        let _inside = world.trace.enter(&named.name);
        world.say_event("event2", &named, bev, what);
    });
}

fn connect(world: &'static World, arg: &[&str]) {
    let connected = world.bev(arg[0]).connect(&world.address(arg[1]));
    world.say(format!("connect {} {}", arg[0], if connected.is_ok() { "ok" } else { "failed" }));
}

/// The address that names nothing is one without a name.
fn connectnothing(world: &'static World, arg: &[&str]) {
    let connected = world.bev(arg[0]).connect(&Address::Unnamed);
    world.say(format!("connectnothing {} {}", arg[0], if connected.is_ok() { "ok" } else { "failed" }));
}

/// `marks:NAME:DIRECTION:LOW:HIGH`; the write side has a low mark alone.
fn marks(world: &'static World, arg: &[&str]) {
    let bev = world.bev(arg[0]);
    if direction(arg[1]).contains(Direction::READ) {
        bev.set_read_marks(size(arg[2]), size(arg[3]));
    }
    if direction(arg[1]).contains(Direction::WRITE) {
        bev.set_write_mark(size(arg[2]));
    }
}

/// One direction has one call here; there is none for both.
fn getmarks(world: &'static World, arg: &[&str]) {
    let bev = world.bev(arg[0]);
    let line = format!("marks {} {}", arg[0], arg[1]);
    match arg[1] {
        "READ" => {
            let (low, high) = bev.read_marks();
            world.say(format!("{line} low={low} high={high}"));
        }
        "WRITE" => world.say(format!("{line} low={}", bev.write_mark())),
        _ => world.say(format!("{line} failed")),
    }
}

/// `timeouts:NAME:READ_MS:WRITE_MS`, 0 for none.
fn timeouts(world: &'static World, arg: &[&str]) {
    world.bev(arg[0]).set_timeouts(Some(millis(arg[1])), Some(millis(arg[2])));
}

fn write(world: &'static World, arg: &[&str]) {
    let bytes = world.trace.pattern(arg[0], size(arg[1]));
    if world.bev(arg[0]).write(&bytes).is_err() {
        world.say(format!("write {} failed", arg[0]));
    }
}

fn writebuf(world: &'static World, arg: &[&str]) {
    if world.bev(arg[0]).write_buffer(&world.buffer(arg[1])).is_err() {
        world.say(format!("writebuf {} failed", arg[0]));
    }
}

fn read(world: &'static World, arg: &[&str]) {
    let mut bytes = vec![0; size(arg[1])];
    let got = world.bev(arg[0]).read(&mut bytes);
    world.say(format!("read {} bytes={got} digest={}", arg[0], Digest::of(&bytes[..got])));
}

fn readbuf(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[1]);
    let moved = world.bev(arg[0]).read_buffer(&buffer);
    let how = if moved.is_ok() { "ok" } else { "failed" };
    world.say(format!("readbuf {} {how} len={}", arg[0], buffer.len()));
}

fn take(world: &'static World, arg: &[&str]) {
    let bytes = take_all(&world.bev(arg[0]));
    world.say(format!("take {} bytes={} digest={}", arg[0], bytes.len(), Digest::of(&bytes)));
}

fn lens(world: &'static World, arg: &[&str]) {
    let bev = world.bev(arg[0]);
    world.say(format!("lens {} in={} out={}", arg[0], bev.input().len(), bev.output().len()));
}

fn trigger_options(arg: Option<&&str>) -> TriggerOptions {
    arg.map_or(TriggerOptions::empty(), |text| flags(TRIGGERS, text))
}

fn trigger(world: &'static World, arg: &[&str]) {
    world.bev(arg[0]).trigger(direction(arg[1]), trigger_options(arg.get(2)));
    world.say(format!("triggered {}", arg[0]));
}

fn triggerevent(world: &'static World, arg: &[&str]) {
    world.bev(arg[0]).trigger_event(flags(EVENTS, arg[1]), trigger_options(arg.get(2)));
    world.say(format!("triggered {}", arg[0]));
}

/// `flush:NAME:DIRECTIONS:MODE`. Of sockets and pairs libevent does not tell whether anything was done: 0 is no failure.
fn flush(world: &'static World, arg: &[&str]) {
    let mode = match arg[2] {
        "NORMAL" => FlushMode::Normal,
        "FLUSH" => FlushMode::Flush,
        "FINISHED" => FlushMode::Finished,
        other => panic!("no such flush: {other}"),
    };
    let ret = if world.bev(arg[0]).flush(direction(arg[1]), mode).is_ok() { 0 } else { -1 };
    world.say(format!("flush {} {} {} ret={ret}", arg[0], arg[1], arg[2]));
}

/// `setfd:NAME:FD`; a descriptor that is set aside goes back under its name.
fn setfd(world: &'static World, arg: &[&str]) {
    let fd = (arg[1] != "-").then(|| world.fd_give(arg[1]));
    let old = world.bev(arg[0]).replace_socket(fd).expect("a descriptor set");
    if let Some(old) = old {
        world.fd_return(old);
    }
}

fn getfd(world: &'static World, arg: &[&str]) {
    let name = match world.bev(arg[0]).raw_fd() {
        None => "none".to_owned(),
        Some(number) => world.fd_name(number).unwrap_or_else(|| "own".to_owned()),
    };
    world.say(format!("fd {}={name}", arg[0]));
}

fn maxread(world: &'static World, arg: &[&str]) {
    let bev = world.bev(arg[0]);
    bev.set_max_single_read(size(arg[1]));
    let (read, write) = (bev.max_single_read(), bev.max_single_write());
    world.say(format!("maxsingle {} read={read} write={write}", arg[0]));
}
