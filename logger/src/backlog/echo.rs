//! Lines to the console, by a thread of its own: a terminal that is stopped stops nobody.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use memchr::{memchr_iter, memrchr};

/// What may wait for the console.
const MAX_WAITING: usize = 1024 * 1024;
/// How long the end waits for a console that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Passes lines on.
#[derive(Debug)]
pub(crate) struct Echo {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// Nothing is left.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that found no room.
    dropped: u64,
    is_busy: bool,
    is_over: bool,
}

impl Shared {
    // Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Echo {
    /// Starts the thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Echo> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        thread::Builder::new().name("backlog echo".to_owned()).spawn(move || pass_on(&theirs, out))?;
        Ok(Echo { shared })
    }

    /// Has whole lines written, those for which there is room.
    pub(crate) fn put(&self, lines: &[u8]) {
        let mut state = self.shared.lock();
        let room = MAX_WAITING - state.waiting.len();
        let fits = match lines.len() <= room {
            true => lines.len(),
            false => memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1),
        };
        state.waiting.extend_from_slice(&lines[..fits]);
        state.dropped += memchr_iter(b'\n', &lines[fits..]).count() as u64;
        drop(state);
        self.shared.work.notify_one();
    }

    /// Lines that were not written since this was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.shared.lock().dropped)
    }
}

impl Drop for Echo {
    /// Waits for what is left, but not for a console that is stuck.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.work.notify_one();
        let is_left = |state: &mut State| state.is_busy || !state.waiting.is_empty();
        let _ = self.shared.idle.wait_timeout_while(state, PATIENCE, is_left);
    }
}

fn pass_on(shared: &Shared, mut out: impl Write) {
    let mut lines = Vec::new();
    loop {
        let mut state = shared.lock();
        state.is_busy = false;
        while state.waiting.is_empty() {
            shared.idle.notify_all();
            if state.is_over {
                return;
            }
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_busy = true;
        lines.clear();
        std::mem::swap(&mut lines, &mut state.waiting);
        drop(state);
        // A console that is gone has nobody who could read of it.
        let _ = out.write_all(&lines).and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Hands on what it is given, and waits each time until it is let go on.
    struct Slow(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            let _ = self.1.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_console_drops_lines_and_counts_them() {
        let (sender, written) = mpsc::channel();
        let (go_on, pauses) = mpsc::channel();
        let echo = Echo::start(Slow(sender, pauses)).unwrap();
        echo.put(b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        echo.put(&line.repeat(1000));
        echo.put(&line.repeat(100));
        assert_eq!(echo.take_dropped(), 76);
        assert_eq!(echo.take_dropped(), 0);
        go_on.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), line.repeat(1024));
        go_on.send(()).unwrap();
        echo.put(b"last\n");
        assert_eq!(written.recv().unwrap(), b"last\n");
        drop(go_on);
        drop(echo);
    }
}
