//! Sinks and readings that several tests use.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use logger::Sink;
use logger::sink::{Lines, Memory};

/// Keeps lines in memory, and the worker waiting while it is shut.
#[derive(Clone)]
pub struct Gated {
    pub memory: Memory,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    is_open: bool,
    waits: bool,
}

impl Gated {
    pub fn shut() -> Gated {
        Gated { memory: Memory::new(), gate: Arc::default() }
    }

    /// Returns when the worker is held.
    pub fn wait_until_held(&self) {
        let gate = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(gate, |gate| !gate.waits).unwrap());
    }

    pub fn open(&self) {
        self.gate.0.lock().unwrap().is_open = true;
        self.gate.1.notify_all();
    }
}

impl Sink for Gated {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        let mut gate = self.gate.0.lock().unwrap();
        gate.waits = true;
        self.gate.1.notify_all();
        drop(self.gate.1.wait_while(gate, |gate| !gate.is_open).unwrap());
        self.memory.write(lines)
    }

    fn retry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink from a closure that is called with each offer of lines.
pub struct Calls<F>(F);

pub fn calls<F: FnMut(&Lines<'_>) + Send>(act: F) -> Calls<F> {
    Calls(act)
}

impl<F: FnMut(&Lines<'_>) + Send> Sink for Calls<F> {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        (self.0)(lines);
        Ok(())
    }

    fn retry(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What stands behind the source line of each text record.
pub fn messages(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.split_once(".rs:").map_or(line, |(_, rest)| rest).split_once(' ').unwrap().1)
        .collect()
}

/// The sum of all counts of dropped records, and the other messages.
pub fn without_drops(text: &str) -> (usize, Vec<&str>) {
    let is_count = |line: &&str| line.contains("records were dropped");
    let count = |line: &str| line.split(' ').find_map(|word| word.parse::<usize>().ok()).unwrap();
    let dropped = text.lines().filter(is_count).map(count).sum();
    let others = text.lines().filter(|line| !is_count(line));
    (dropped, others.map(|line| messages(line)[0]).collect())
}

/// The system's number of this thread.
pub fn thread_number() -> String {
    let path = std::fs::read_link("/proc/thread-self").unwrap();
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Whether a thread of this process sleeps.
pub fn sleeps(number: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

/// A line's value in a status file of this process.
pub fn status(path: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}
