//! Buffers. Each operation prints one line with its result and the length afterwards.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::rc::Rc;

use reactor::evbuffer::{Change, End, Eol, Evbuffer, FileSegment, WatchId};
use reactor::{Error, Result};

use super::{Named, Op, World, op};
use crate::names::err_suffix;
use crate::script::{num, size, unescape};
use crate::trace::Digest;

#[derive(Default)]
pub(super) struct Buffers {
    named: Named<Evbuffer>,
    watchers: Named<WatchId>,
    references: Named<Rc<[u8]>>,
    segments: Named<FileSegment>,
}

pub(super) const OPS: &[Op] = &[
    op("buffer", 1, 8, |world, arg| {
        arg.iter().for_each(|name| world.buffers.named.put(name, Evbuffer::new()))
    }),
    op("bfree", 1, 1, |world, arg| {
        drop(world.buffers.named.take(arg[0]));
        world.say(format!("bfree {}", arg[0]));
    }),
    op("show", 1, 1, show),
    op("append", 2, 2, append),
    op("appends", 3, 3, appends),
    op("text", 2, 2, |world, arg| {
        world.result("text", arg[0], world.buffer(arg[0]).append(&unescape(arg[1])));
    }),
    op("pieces", 2, 2, pieces),
    op("format", 2, 2, format_number),
    op("vectors", 2, 2, vectors),
    op("prepend", 2, 2, prepend),
    op("drain", 2, 2, |world, arg| {
        world.result("drain", arg[0], world.buffer(arg[0]).drain(size(arg[1])));
    }),
    op("remove", 2, 2, remove),
    op("copyout", 2, 3, copyout),
    op("pullup", 2, 2, pullup),
    op("move", 2, 2, |world, arg| {
        let moved = world.buffer(arg[0]).append_buffer(&world.buffer(arg[1]));
        world.both("move", arg, outcome(moved));
    }),
    op("movefront", 2, 2, |world, arg| {
        let moved = world.buffer(arg[0]).prepend_buffer(&world.buffer(arg[1]));
        world.both("movefront", arg, outcome(moved));
    }),
    op("moven", 3, 3, moven),
    op("freeze", 2, 2, |world, arg| world.buffer(arg[0]).freeze(end(arg[1]))),
    op("unfreeze", 2, 2, |world, arg| world.buffer(arg[0]).unfreeze(end(arg[1]))),
    op("expand", 2, 2, |world, arg| {
        world.result("expand", arg[0], world.buffer(arg[0]).expand(size(arg[1])));
    }),
    op("readln", 2, 2, readln),
    op("eol", 3, 3, find_eol),
    op("find", 2, 4, find),
    op("position", 2, 3, position),
    op("peek", 4, 4, peek),
    op("reserve", 4, 5, reserve),
    op("ref", 3, 3, add_reference),
    op("memory", 1, 1, |world, arg| {
        let digest = Digest::of(&world.buffers.references.get(arg[0]));
        world.say(format!("memory {} digest={digest}", arg[0]));
    }),
    op("nocopy", 2, 2, nocopy),
    op("refbuf", 2, 2, |world, arg| {
        let added = world.buffer(arg[0]).append_shared_from(&world.buffer(arg[1]));
        world.both("refbuf", arg, outcome(added));
    }),
    op("addfile", 4, 4, addfile),
    op("segment", 4, 4, segment),
    op("addsegment", 4, 4, addsegment),
    op("freesegment", 1, 1, |world, arg| {
        drop(world.buffers.segments.take(arg[0]));
        world.say(format!("freesegment {}", arg[0]));
    }),
    op("readfd", 3, 3, readfd),
    op("writefd", 3, 3, writefd),
    op("watch", 2, 2, watch),
    op("unwatch", 2, 2, |world, arg| {
        world.buffer(arg[0]).remove_watcher(world.buffers.watchers.get(arg[1])).expect("a watcher");
    }),
    op("unwatchunknown", 1, 1, unwatchunknown),
    op("mute", 3, 3, |world, arg| {
        let watcher = world.buffers.watchers.get(arg[1]);
        world.buffer(arg[0]).enable_watcher(watcher, num(arg[2]) == 0).expect("a watcher");
    }),
    op("defer", 1, 1, |world, arg| {
        world.base().defer_changes(&world.buffer(arg[0])).expect("a live base");
    }),
];

impl World {
    /// `NAME.in` and `NAME.out` are the two buffers of a bufferevent.
    pub(super) fn buffer(&self, name: &str) -> Evbuffer {
        match name.rsplit_once('.') {
            Some((owner, "in")) => self.bev(owner).input().clone(),
            Some((owner, "out")) => self.bev(owner).output().clone(),
            _ => self.buffers.named.get(name),
        }
    }

    fn result<T>(&self, op: &str, name: &str, result: Result<T>) {
        self.say(format!("{op} {name} {} len={}", outcome(result), self.buffer(name).len()));
    }

    fn both(&self, op: &str, names: &[&str], how: impl Display) {
        let [to, from] = [names[0], names[1]];
        let (one, other) = (self.buffer(to).len(), self.buffer(from).len());
        self.say(format!("{op} {to}<-{from} {how} len={one},{other}"));
    }

    fn print_bytes(&self, op: &str, name: &str, got: Result<usize>, bytes: &[u8]) {
        let len = self.buffer(name).len();
        match got {
            Ok(got) => {
                let digest = Digest::of(&bytes[..got]);
                self.say(format!("{op} {name} got={got} digest={digest} len={len}"));
            }
            Err(_) => self.say(format!("{op} {name} failed len={len}")),
        }
    }

    fn print_io(&self, op: &str, arg: &[&str], done: Result<usize>) {
        let (name, fd) = (arg[0], arg[1]);
        let len = self.buffer(name).len();
        match done {
            Ok(n) => self.say(format!("{op} {name} {fd} n={n} len={len}")),
            Err(error) => self.say(format!("{op} {name} {fd} failed{} len={len}", err_suffix(Some(&error)))),
        }
    }
}

fn outcome<T>(result: Result<T>) -> &'static str {
    if result.is_ok() { "ok" } else { "failed" }
}

fn end(name: &str) -> End {
    if name == "front" { End::Front } else { End::Back }
}

fn eol(name: &str) -> Eol {
    match name {
        "ANY" => Eol::Any,
        "CRLF" => Eol::Crlf,
        "CRLF_STRICT" => Eol::CrlfStrict,
        "LF" => Eol::Lf,
        "NUL" => Eol::Nul,
        _ => panic!("no such line end: {name}"),
    }
}

/// By peeking: copying out of a buffer with a frozen front fails.
fn show(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let mut digest = Digest::of(b"");
    buffer.peek(..).expect("a look").slices().for_each(|piece| digest.add(piece));
    world.say(format!("show {} len={} digest={digest}", arg[0], buffer.len()));
}

fn append(world: &'static World, arg: &[&str]) {
    let bytes = world.trace.pattern(arg[0], size(arg[1]));
    world.result("append", arg[0], world.buffer(arg[0]).append(&bytes));
}

/// `appends:NAME:COUNT:SIZE`, one line for all.
fn appends(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let all: Result<()> =
        (0..num(arg[1])).try_for_each(|_| buffer.append(&world.trace.pattern(arg[0], size(arg[2]))));
    world.result("appends", arg[0], all);
}

/// Texts that stay in chunks of their own.
fn pieces(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let all: Result<()> = arg[1].split(',').try_for_each(|piece| buffer.append_shared(unescape(piece)));
    world.result("pieces", arg[0], all);
}

fn format_number(world: &'static World, arg: &[&str]) {
    let mut buffer = world.buffer(arg[0]);
    let before = buffer.len();
    let ret = match write!(buffer, "<{}>", num(arg[1])) {
        Ok(()) => (buffer.len() - before).to_string(),
        Err(_) => "-1".to_owned(),
    };
    world.say(format!("format {} ret={ret} len={}", arg[0], buffer.len()));
}

/// `vectors:NAME:10,20,30`
fn vectors(world: &'static World, arg: &[&str]) {
    let parts: Vec<_> = arg[1].split(',').map(|n| world.trace.pattern(arg[0], size(n))).collect();
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let buffer = world.buffer(arg[0]);
    let added = buffer.append_vectored(&slices).unwrap_or(0);
    world.say(format!("vectors {} added={added} len={}", arg[0], buffer.len()));
}

fn prepend(world: &'static World, arg: &[&str]) {
    let bytes = world.trace.pattern(arg[0], size(arg[1]));
    world.result("prepend", arg[0], world.buffer(arg[0]).prepend(&bytes));
}

fn remove(world: &'static World, arg: &[&str]) {
    let mut bytes = vec![0; size(arg[1])];
    let got = world.buffer(arg[0]).remove(&mut bytes);
    world.print_bytes("remove", arg[0], got, &bytes);
}

/// `copyout:NAME:N[:AT]`
fn copyout(world: &'static World, arg: &[&str]) {
    let mut bytes = vec![0; size(arg[1])];
    let got = world.buffer(arg[0]).copy_out(arg.get(2).map_or(0, |at| size(at)), &mut bytes);
    world.print_bytes("copyout", arg[0], got, &bytes);
}

fn pullup(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let front = buffer.pull_up(size(arg[1])).expect("nothing lent");
    let Some((len, digest)) = front.as_ref().map(|front| (front.len(), Digest::of(front))) else {
        drop(front);
        return world.say(format!("pullup {} {} none", arg[0], arg[1]));
    };
    drop(front);
    let contiguous = u8::from(buffer.contiguous_len() >= len);
    world.say(format!("pullup {} {} digest={digest} contiguous={contiguous}", arg[0], arg[1]));
}

/// `moven:TO:FROM:N`
fn moven(world: &'static World, arg: &[&str]) {
    let moved = world.buffer(arg[1]).remove_buffer(&world.buffer(arg[0]), size(arg[2]));
    world.both("moven", arg, moved.map_or_else(|_| "failed".to_owned(), |n| format!("moved={n}")));
}

fn readln(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let line = buffer.read_line(eol(arg[1])).ok().flatten();
    let len = buffer.len();
    match line {
        Some(line) => {
            let (size, digest) = (line.len(), Digest::of(&line));
            world.say(format!("readln {} {} size={size} digest={digest} len={len}", arg[0], arg[1]));
        }
        None => world.say(format!("readln {} {} none size=0 len={len}", arg[0], arg[1])),
    }
}

/// An offset as libevent's positions show it: -1 for none.
fn offset(found: Option<usize>) -> i64 {
    found.map_or(-1, |at| at as i64)
}

/// `eol:NAME:AT:STYLE`
fn find_eol(world: &'static World, arg: &[&str]) {
    let found = world.buffer(arg[0]).find_eol(size(arg[1]), eol(arg[2])).ok().flatten();
    let (at, size) = (offset(found.map(|(at, _)| at)), found.map_or(0, |(_, size)| size));
    world.say(format!("eol {} from={} {} at={at} size={size}", arg[0], arg[1], arg[2]));
}

/// `find:NAME:TEXT[:FROM[:TO]]`
fn find(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let from = arg.get(2).map_or(0, |from| size(from));
    let pattern = unescape(arg[1]);
    let found = match arg.get(3) {
        Some(to) => buffer.find(&pattern, from..size(to)),
        None => buffer.find(&pattern, from..),
    };
    world.say(format!(
        "find {} {} from={} to={} at={}",
        arg[0],
        arg[1],
        arg.get(2).unwrap_or(&"0"),
        arg.get(3).unwrap_or(&"end"),
        offset(found.ok().flatten())
    ));
}

/// `position:NAME:AT[:ADVANCE]`. Positions are plain offsets here; whether one is valid is told by where nothing is
/// found.
fn position(world: &'static World, arg: &[&str]) {
    let at = size(arg[1]) + arg.get(2).map_or(0, |advance| size(advance));
    let found = world.buffer(arg[0]).find(b"", at..);
    let words = arg[1..].join("+");
    let how = if found.is_ok() { "ok" } else { "failed" };
    world.say(format!("position {} {words} {how} at={}", arg[0], offset(found.ok().flatten())));
}

/// `peek:NAME:AT:LEN:VECTORS`
fn peek(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let at = size(arg[1]);
    let look = buffer.peek(at..at.saturating_add(size(arg[2]))).expect("a look");
    let mut slots = vec![IoSlice::new(&[]); size(arg[3])];
    let needs = look.fill(&mut slots);
    let (mut bytes, mut digest) = (0, Digest::of(b""));
    for slot in slots.iter().take(needs) {
        bytes += slot.len();
        digest.add(slot);
    }
    world.say(format!(
        "peek {} at={} len={} vectors={} needs={needs} bytes={bytes} digest={digest}",
        arg[0], arg[1], arg[2], arg[3]
    ));
}

/// `reserve:NAME:N:VECTORS:COMMIT[:CHANGE]` where CHANGE is an operation key to run in between.
fn reserve(world: &'static World, arg: &[&str]) {
    let buffer = world.buffer(arg[0]);
    let (want, commit) = (size(arg[1]), size(arg[3]));
    let line = format!("reserve {} {} vectors={}", arg[0], arg[1], arg[2]);
    // A reservation is one extent here: it can be had or left.
    let room = Some(&buffer).filter(|_| num(arg[2]) > 0).and_then(|buffer| buffer.reserve(want).ok());
    let Some(mut room) = room else {
        return world.say(format!("{line} failed len={}", buffer.len()));
    };
    world.say(format!("{line} enough={} len={}", u8::from(room.len() >= want), buffer.len()));
    match arg.get(4) {
        Some(&"foreign") => panic!("a reservation commits its own memory alone"),
        Some(key) => world.run(world.scenario.get(key)),
        None if commit <= room.len() => {
            room[..commit].copy_from_slice(&world.trace.pattern(arg[0], commit));
        }
        None => (),
    }
    world.result("commit", arg[0], room.commit(commit));
}

/// Memory that says when its last user lets go of it.
struct Reference {
    world: &'static World,
    name: String,
    start: *const u8,
    bytes: Rc<[u8]>,
}

impl AsRef<[u8]> for Reference {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let same = u8::from(self.start == self.bytes.as_ptr());
        self.world.say(format!("cleanup {} same-start={same} len={}", self.name, self.bytes.len()));
    }
}

/// `ref:NAME:REFERENCE:N`
fn add_reference(world: &'static World, arg: &[&str]) {
    let bytes: Rc<[u8]> = world.trace.pattern(arg[1], size(arg[2])).into();
    world.buffers.references.put(arg[1], bytes.clone());
    let reference = Reference { world, name: arg[1].to_owned(), start: bytes.as_ptr(), bytes };
    world.result("ref", arg[0], world.buffer(arg[0]).append_shared(reference));
}

/// Does the buffer's front lie in the referenced memory itself, i.e. was nothing copied?
fn nocopy(world: &'static World, arg: &[&str]) {
    let memory = world.buffers.references.get(arg[1]);
    let buffer = world.buffer(arg[0]);
    let look = buffer.peek(..1).expect("a look");
    let is_in = look.slices().next().is_some_and(|front| memory.as_ptr_range().contains(&front.as_ptr()));
    world.say(format!("nocopy {} {}={}", arg[0], arg[1], u8::from(is_in)));
}

/// `addfile:NAME:FILE:OFFSET:N`; the buffer owns the descriptor. A negative offset becomes one that no file has.
fn addfile(world: &'static World, arg: &[&str]) {
    let file = File::from(world.fd_give(arg[1]));
    let len = num(arg[3]) as u64;
    let added = FileSegment::new(file, num(arg[2]) as u64, len)
        .and_then(|segment| world.buffer(arg[0]).append_file(&segment, 0..len));
    world.result("addfile", arg[0], added);
}

/// `segment:SEGMENT:FILE:OFFSET:N`; the descriptor is closed with the segment.
fn segment(world: &'static World, arg: &[&str]) {
    let file = File::from(world.fd_give(arg[1]));
    let segment = FileSegment::new(file, num(arg[2]) as u64, num(arg[3]) as u64).expect("a segment");
    world.buffers.segments.put(arg[0], segment);
}

/// `addsegment:NAME:SEGMENT:OFFSET:N`
fn addsegment(world: &'static World, arg: &[&str]) {
    let segment = world.buffers.segments.get(arg[1]);
    let from = num(arg[2]) as u64;
    let to = if arg[3] == "all" { segment.len() } else { from + num(arg[3]) as u64 };
    world.result("addsegment", arg[0], world.buffer(arg[0]).append_file(&segment, from..to));
}

/// `readfd:NAME:FD:N`
fn readfd(world: &'static World, arg: &[&str]) {
    let read = world.buffer(arg[0]).read_from(&*world.fd(arg[1]), size(arg[2]));
    world.print_io("readfd", arg, read);
}

/// `writefd:NAME:FD:N`
fn writefd(world: &'static World, arg: &[&str]) {
    let most = (arg[2] != "all").then(|| size(arg[2]));
    let written = world.buffer(arg[0]).write_to(&*world.fd(arg[1]), most);
    world.print_io("writefd", arg, written);
}

/// `watch:NAME:WATCHER`
fn watch(world: &'static World, arg: &[&str]) {
    let (name, calls) = (arg[1].to_owned(), Cell::new(0));
    let watcher = world.buffer(arg[0]).on_change(move |_, change: &Change| {
        calls.set(calls.get() + 1);
        let Change { original, added, deleted, .. } = change;
        world.say(format!("change {name} before={original} added={added} removed={deleted}"));
        world.run(world.scenario.reaction(&name, None, calls.get()));
    });
    world.buffers.watchers.put(arg[1], watcher);
}

fn unwatchunknown(world: &'static World, arg: &[&str]) {
    let foreign = Evbuffer::new().on_change(|_, _| ());
    let removed = world.buffer(arg[0]).remove_watcher(foreign);
    assert!(matches!(removed, Ok(()) | Err(Error::UnknownWatcher)));
    world.say(format!("unwatchunknown {} {}", arg[0], outcome(removed)));
}
