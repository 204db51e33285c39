//! Trace lines: symbolic names instead of numbers, merged reads, grouping by stream, a cap.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::process;

/// Where the lines of one scenario go.
pub(crate) struct Trace {
    out: File,
    cap: i64,
    printed: Cell<i64>,
    /// The number of the current step, 0 outside of steps.
    pass: Cell<u32>,
    /// Whose callback is running.
    stream: RefCell<String>,
    /// Callbacks inside callbacks; two blanks of indent each.
    depth: Cell<usize>,
    grouping: Cell<u32>,
    held: RefCell<Vec<(String, String)>>,
    reads: RefCell<Vec<Merged>>,
    generators: RefCell<HashMap<String, u32>>,
    activity: Cell<u64>,
}

/// The reads of one stream since its last other line.
struct Merged {
    stream: String,
    bytes: usize,
    hash: Digest,
}

impl Trace {
    pub(crate) fn new(out: File, cap: i64) -> Trace {
        Trace {
            out,
            cap,
            printed: Cell::new(0),
            pass: Cell::new(0),
            stream: RefCell::default(),
            depth: Cell::new(0),
            grouping: Cell::new(0),
            held: RefCell::default(),
            reads: RefCell::default(),
            generators: RefCell::default(),
            activity: Cell::new(0),
        }
    }

    /// A line of the running callback, or of the scenario itself.
    pub(crate) fn say(&self, text: &str) {
        self.line(self.depth.get(), text);
    }

    /// The line of a callback, with the pass in front.
    pub(crate) fn say_cb(&self, text: &str) {
        self.activity.set(self.activity.get() + 1);
        let indent = self.depth.get().saturating_sub(1);
        match self.pass.get() {
            0 => self.line(indent, text),
            pass => self.line(indent, &format!("pass={pass} {text}")),
        }
    }

    /// What a stream read, to be merged with its neighbours.
    pub(crate) fn say_read(&self, stream: &str, bytes: &[u8]) {
        self.activity.set(self.activity.get() + 1);
        let mut reads = self.reads.borrow_mut();
        match reads.iter_mut().find(|read| read.stream == stream) {
            Some(read) => {
                read.bytes += bytes.len();
                read.hash.add(bytes);
            }
            None => {
                reads.push(Merged { stream: stream.to_owned(), bytes: bytes.len(), hash: Digest::of(bytes) })
            }
        }
    }

    /// Lines belong to `stream` until the guard is dropped.
    pub(crate) fn enter(&self, stream: &str) -> Inside<'_> {
        self.depth.set(self.depth.get() + 1);
        Inside { trace: self, outer: self.stream.replace(stream.to_owned()) }
    }

    /// How many callbacks are running, one inside the other.
    pub(crate) fn depth(&self) -> usize {
        self.depth.get()
    }

    /// Grows with every callback.
    pub(crate) fn activity(&self) -> u64 {
        self.activity.get()
    }

    pub(crate) fn set_pass(&self, pass: u32) {
        self.pass.set(pass);
    }

    /// Runs `act` with its lines held back, then grouped by stream.
    pub(crate) fn grouped(&self, act: impl FnOnce()) {
        self.grouping.set(self.grouping.get() + 1);
        act();
        self.flush_reads(None);
        self.grouping.set(self.grouping.get() - 1);
        if self.grouping.get() == 0 {
            self.release_held();
        }
    }

    /// The next n bytes of the name's own byte stream.
    pub(crate) fn pattern(&self, name: &str, n: usize) -> Vec<u8> {
        let mut generators = self.generators.borrow_mut();
        let state = generators.entry(name.to_owned()).or_insert_with(|| Digest::of(name.as_bytes()).0);
        let next = |_| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 24) as u8
        };
        (0..n).map(next).collect()
    }

    fn line(&self, indent: usize, text: &str) {
        let stream = self.stream.borrow().clone();
        self.flush_reads(Some(&stream));
        self.put(&stream, format!("{:1$}{text}", "", indent * 2));
    }

    fn put(&self, stream: &str, line: String) {
        self.printed.set(self.printed.get() + 1);
        if self.printed.get() > self.cap {
            self.release_held();
            self.print("cap reached");
            process::exit(0);
        }
        if self.grouping.get() == 0 {
            self.print(&line);
        } else {
            self.held.borrow_mut().push((stream.to_owned(), line));
        }
    }

    fn flush_reads(&self, stream: Option<&str>) {
        let due = |read: &mut Merged| stream.is_none_or(|stream| stream == read.stream);
        let done: Vec<_> = self.reads.borrow_mut().extract_if(.., due).collect();
        for Merged { stream, bytes, hash } in done.into_iter().filter(|read| read.bytes > 0) {
            self.put(&stream, format!("cb={stream} read bytes={bytes} digest={hash}"));
        }
    }

    fn release_held(&self) {
        let mut held = self.held.take();
        // A stable sort: the order inside a stream is the subject.
        held.sort_by(|(one, _), (other, _)| one.cmp(other));
        held.iter().for_each(|(_, line)| self.print(line));
    }

    fn print(&self, line: &str) {
        (&self.out).write_all(format!("{line}\n").as_bytes()).expect("write the trace");
    }
}

/// Hands the lines back to the outer callback.
pub(crate) struct Inside<'a> {
    trace: &'a Trace,
    outer: String,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.trace.depth.set(self.trace.depth.get() - 1);
        self.trace.stream.replace(std::mem::take(&mut self.outer));
    }
}

/// FNV-1a, 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct Digest(u32);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Digest {
        let mut digest = Digest(2_166_136_261);
        digest.add(bytes);
        digest
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(16_777_619);
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
