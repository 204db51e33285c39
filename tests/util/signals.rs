//! Signals for child processes, without a program that sends them.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use rustix::process::{Pid, Signal, kill_process};

/// Sends one by its name, as in -TERM.
pub fn send(name: &str, id: u32) {
    let signal = match name {
        "-HUP" => Signal::HUP,
        "-INT" => Signal::INT,
        "-TERM" => Signal::TERM,
        _ => panic!("{name} is not sent here"),
    };
    kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
}
