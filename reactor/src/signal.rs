//! Signals as events: each delivery writes one byte into a pipe that the loop polls.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use signal_hook::SigId;
use signal_hook::low_level;

use crate::active::Callback;
use crate::selector::Selector;

/// The signals that one base waits for. Every base that waits for a signal gets each delivery.
pub(crate) struct Signals {
    watched: Vec<Watched>,
}

struct Watched {
    signal: i32,
    id: SigId,
    pipe: OwnedFd,
    waiting: Vec<Rc<dyn Callback>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        low_level::unregister(self.id);
    }
}

impl Signals {
    pub(crate) fn new() -> Self {
        Signals { watched: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        selector: &Selector,
        signal: i32,
        callback: Rc<dyn Callback>,
    ) -> io::Result<()> {
        if let Some(watched) = self.watched.iter_mut().find(|watched| watched.signal == signal) {
            watched.waiting.push(callback);
            return Ok(());
        }
        check(signal)?;
        // A pipe holds 64 Ki deliveries; a socket, which counts its overhead, a few hundred.
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        selector.add_signal(pipe.as_fd(), signal)?;
        let id = low_level::pipe::register(signal, writer)?;
        self.watched.push(Watched { signal, id, pipe, waiting: vec![callback] });
        Ok(())
    }

    /// Ends an event's waiting; what is returned is dropped by the caller, with nothing borrowed.
    pub(crate) fn remove(&mut self, signal: i32, callback: &dyn Callback) -> Option<Rc<dyn Callback>> {
        let at = self.watched.iter().position(|watched| watched.signal == signal)?;
        let waiting = &mut self.watched[at].waiting;
        let nth = waiting.iter().position(|other| ptr::eq(other.node(), callback.node()))?;
        let removed = waiting.remove(nth);
        if waiting.is_empty() {
            self.watched.swap_remove(at);
        }
        Some(removed)
    }

    /// Counts the deliveries of a signal since the last time, and hands each callback that waits for it to
    /// `activate`, the event added last first.
    pub(crate) fn ready(&self, signal: i32, mut activate: impl FnMut(&Rc<dyn Callback>, u32)) {
        let Some(watched) = self.watched.iter().find(|watched| watched.signal == signal) else { return };
        let times = watched.deliveries();
        if times > 0 {
            watched.waiting.iter().rev().for_each(|callback| activate(callback, times));
        }
    }

    /// Hands each callback that waits for this signal to `activate`, whether it was delivered or not.
    pub(crate) fn on_signal(&self, signal: i32, activate: impl FnMut(&Rc<dyn Callback>)) {
        let watched = self.watched.iter().find(|watched| watched.signal == signal);
        watched.into_iter().flat_map(|watched| watched.waiting.iter().rev()).for_each(activate);
    }

    /// Forgets everything; what is returned is dropped by the caller, with nothing borrowed.
    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.watched)
    }
}

impl Watched {
    fn deliveries(&self) -> u32 {
        let mut times = 0u32;
        let mut bytes = [0; 256];
        loop {
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => return times,
                Ok(n) => {
                    times = times.saturating_add(n as u32);
                    if n < bytes.len() {
                        return times;
                    }
                }
                Err(Errno::INTR) => (),
                // Empty: our own pipe fails in no other way.
                Err(_) => return times,
            }
        }
    }
}

/// Refuses what signal-hook panics on, and numbers that no signal has: the poll's tokens are made of them.
fn check(signal: i32) -> io::Result<()> {
    if !(1..=LAST_SIGNAL).contains(&signal) || signal_hook::consts::FORBIDDEN.contains(&signal) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(())
}

/// The highest real-time signal of Linux; others have fewer.
const LAST_SIGNAL: i32 = 64;
