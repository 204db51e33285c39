//! The names that traces and scenarios use for errors, signals and flags.

use std::io;

use reactor::{Direction, Error, EventFlags};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGTERM, SIGUSR1, SIGUSR2};

/// ` err=NAME`, or nothing when the system reported nothing.
pub(crate) fn err_suffix(error: Option<&Error>) -> String {
    let source = match error {
        Some(Error::Io { source, .. })
        | Some(Error::Listen { source, .. })
        | Some(Error::Connect { source, .. })
        | Some(Error::Signal { source, .. }) => source,
        _ => return String::new(),
    };
    if source.raw_os_error().is_none() { String::new() } else { format!(" err={}", err_name(source)) }
}

pub(crate) fn err_name(error: &io::Error) -> &'static str {
    const NAMES: [(Errno, &str); 14] = [
        (Errno::AGAIN, "EAGAIN"),
        (Errno::BADF, "EBADF"),
        (Errno::PERM, "EPERM"),
        (Errno::PIPE, "EPIPE"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::ADDRINUSE, "EADDRINUSE"),
        (Errno::INVAL, "EINVAL"),
        (Errno::NOENT, "ENOENT"),
        (Errno::EXIST, "EEXIST"),
        (Errno::NOTCONN, "ENOTCONN"),
        (Errno::NOTSOCK, "ENOTSOCK"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::MFILE, "EMFILE"),
    ];
    let errno = Errno::from_io_error(error);
    NAMES.iter().find(|(own, _)| Some(*own) == errno).map_or("other", |(_, name)| name)
}

const SIGNALS: [(i32, &str); 4] = [(SIGUSR1, "USR1"), (SIGUSR2, "USR2"), (SIGHUP, "HUP"), (SIGTERM, "TERM")];

pub(crate) fn signal_name(signal: i32) -> &'static str {
    SIGNALS.iter().find(|(own, _)| *own == signal).map_or("other", |(_, name)| name)
}

pub(crate) fn signal_number(name: &str) -> i32 {
    let found = SIGNALS.iter().find(|(_, own)| *own == name);
    found.unwrap_or_else(|| panic!("no such signal: {name}")).0
}

/// The names of a set of flags, in the order of its lines.
pub(crate) type Names<F> = [(&'static str, F)];

/// `A|B`, or `none`.
pub(crate) fn flags_text<F: Copy>(names: &Names<F>, contains: impl Fn(F) -> bool) -> String {
    let set: Vec<_> = names.iter().filter(|(_, flag)| contains(*flag)).map(|(name, _)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("|") }
}

pub(crate) fn flags<F: Copy + std::iter::FromIterator<F>>(names: &Names<F>, text: &str) -> F {
    let find = |word: &str| names.iter().find(|(name, _)| *name == word).map(|(_, flag)| *flag);
    text.split('|')
        .filter(|word| *word != "none")
        .map(|word| find(word).unwrap_or_else(|| panic!("no such flag: {word}")))
        .collect()
}

const EVENT_FLAGS: [(&str, EventFlags); 7] = [
    ("READ", EventFlags::READ),
    ("WRITE", EventFlags::WRITE),
    ("CLOSED", EventFlags::CLOSED),
    ("SIGNAL", EventFlags::SIGNAL),
    ("TIMEOUT", EventFlags::TIMEOUT),
    ("PERSIST", EventFlags::PERSIST),
    ("ET", EventFlags::EDGE),
];

pub(crate) fn event_flags_text(set: EventFlags) -> String {
    flags_text(&EVENT_FLAGS, |flag| set.contains(flag))
}

pub(crate) fn event_flags(text: &str) -> EventFlags {
    flags(&EVENT_FLAGS, text)
}

const DIRECTIONS: [(&str, Direction); 2] = [("READ", Direction::READ), ("WRITE", Direction::WRITE)];

pub(crate) fn direction_text(set: Direction) -> String {
    flags_text(&DIRECTIONS, |flag| set.contains(flag))
}

pub(crate) fn direction(text: &str) -> Direction {
    flags(&DIRECTIONS, text)
}
