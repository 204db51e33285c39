//! Progress on a terminal: a bar for all, and one for each transfer that takes a while.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::Duration;

use cloudstore::client::{ClientError, Ending, Watch, shown};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars on stderr, or nothing if that is no terminal.
pub(crate) struct Bars {
    lines: Option<Lines>,
    running: RefCell<HashMap<usize, Running>>,
    /// Whether it was told that the server is away.
    is_waiting: Cell<bool>,
    says_waits: bool,
}

struct Lines {
    multi: MultiProgress,
    total: ProgressBar,
    /// Bytes of what is known, and of that what is there.
    size: Cell<u64>,
    there: Cell<u64>,
    files: Cell<(u64, u64)>,
    failed: Cell<u64>,
}

#[derive(Default)]
struct Running {
    name: String,
    size: Option<u64>,
    /// It counted for so much from the start.
    counted: u64,
    position: u64,
    bar: Option<ProgressBar>,
}

/// A smaller one is over before its bar is seen.
const SEEN: u64 = 1024 * 1024;

impl Bars {
    /// `known` is how many files there are, and their bytes, as far as that is known.
    pub(crate) fn new(is_quiet: bool, known: (u64, u64)) -> Bars {
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let lines = is_shown.then(|| {
            let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let total = multi.add(ProgressBar::new(known.1));
            total.set_style(style(
                "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left",
            ));
            let (size, there, files) = (Cell::new(known.1), Cell::new(0), Cell::new((0, known.0)));
            Lines { multi, total, size, there, files, failed: Cell::new(0) }
        });
        // Nothing is drawn yet: a password may be asked for.
        Bars {
            lines,
            running: RefCell::default(),
            is_waiting: Cell::new(false),
            says_waits: !is_quiet && !is_shown,
        }
    }

    pub(crate) fn are_shown(&self) -> bool {
        self.lines.is_some()
    }

    /// Rates go down also when nothing comes.
    pub(crate) fn tick(&self) {
        if let Some(lines) = &self.lines {
            lines.show();
            lines.total.tick();
        }
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        if let Some(lines) = &self.lines {
            self.running
                .take()
                .into_values()
                .filter_map(|running| running.bar)
                .for_each(|bar| bar.finish_and_clear());
            lines.total.finish_and_clear();
        }
    }

    /// Writes something else, between bars.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.lines {
            Some(lines) => lines.multi.suspend(write),
            None => write(),
        }
    }
}

impl Lines {
    fn add_bar(&self, running: &mut Running) {
        if running.bar.is_some() {
            return;
        }
        let bar = self.multi.add(ProgressBar::no_length());
        bar.set_style(match running.size {
            Some(_) => style(
                "  {wide_msg} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left",
            ),
            None => style("  {wide_msg} {binary_bytes} {binary_bytes_per_sec}"),
        });
        bar.set_message(running.name.clone());
        running.bar = Some(bar);
    }

    fn show(&self) {
        let (done, all) = self.files.get();
        let failed = match self.failed.get() {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.total.set_message(format!("{done}/{all} files{failed}"));
        self.total.set_length(self.size.get());
        self.total.set_position(self.there.get());
    }
}

/// All templates are ours, and good.
fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

impl Watch for Bars {
    fn finds(&self, transfers: u64, bytes: u64) {
        let Some(lines) = &self.lines else { return };
        let (done, all) = lines.files.get();
        lines.files.set((done, all.saturating_add(transfers)));
        lines.size.set(lines.size.get().saturating_add(bytes));
        lines.show();
    }

    fn begins(&self, transfer: usize, name: &str, size: Option<u64>) {
        let Some(lines) = &self.lines else { return };
        let mut running = Running { name: shown(name), size, ..Running::default() };
        let (done, all) = lines.files.get();
        let begun = done + lines.failed.get() + self.running.borrow().len() as u64;
        // One that was not counted before.
        if begun >= all {
            lines.files.set((done, begun + 1));
            lines.size.set(lines.size.get().saturating_add(size.unwrap_or(0)));
        }
        running.counted = size.unwrap_or(0);
        self.running.borrow_mut().insert(transfer, running);
    }

    fn has_size(&self, transfer: usize, size: u64) {
        let Some(lines) = &self.lines else { return };
        if let Some(running) = self.running.borrow_mut().get_mut(&transfer) {
            // What a server says may be any number.
            lines.size.set(lines.size.get().saturating_add(size).saturating_sub(running.counted));
            (running.size, running.counted) = (Some(size), size);
            lines.show();
        }
    }

    fn is_at(&self, transfer: usize, position: u64) {
        if position > 0 {
            self.is_waiting.set(false);
        }
        let Some(lines) = &self.lines else { return };
        let mut all = self.running.borrow_mut();
        let Some(running) = all.get_mut(&transfer) else { return };
        lines.there.set((lines.there.get() + position).saturating_sub(running.position));
        running.position = position;
        if running.size.is_none_or(|size| size > position && size > SEEN) {
            lines.add_bar(running);
        }
        if let Some(bar) = &running.bar {
            if let Some(size) = running.size {
                bar.set_length(size);
            }
            if position > 0 {
                bar.set_message(running.name.clone());
            }
            bar.set_position(position);
        }
        lines.show();
    }

    fn waits(&self, transfer: usize, why: &ClientError, _wait: Duration) {
        if let Some(lines) = &self.lines {
            if let Some(running) = self.running.borrow_mut().get_mut(&transfer) {
                lines.add_bar(running);
                running.bar.iter().for_each(|bar| bar.set_message(format!("waiting: {why}")));
            }
        } else if self.says_waits && !self.is_waiting.replace(true) {
            crate::transfer::say(&format!("{why}; trying again"));
        }
    }

    fn ends(&self, transfer: usize, ending: Ending) {
        let Some(lines) = &self.lines else { return };
        let ended = self.running.borrow_mut().remove(&transfer);
        if let Some(bar) = ended.as_ref().and_then(|running| running.bar.as_ref()) {
            bar.finish_and_clear();
            lines.multi.remove(bar);
        }
        let (done, all) = lines.files.get();
        match ending {
            Ending::Done => lines.files.set((done + 1, all)),
            Ending::Failed => lines.failed.set(lines.failed.get() + 1),
            Ending::GivenBack => (),
        }
        lines.show();
    }
}
