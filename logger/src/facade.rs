//! Under the `log` facade, and at the program's end.

use std::panic;
use std::process;
use std::sync::Once;
use std::thread;

use crate::error::Error;
use crate::format::Site;
use crate::level::Level;
use crate::logger::{Builder, Logger};
use crate::registry;
use crate::sink::Console;

/// Logs everything that passes `info` to the console: [`Builder::install`] with a [`Console`] on stderr. The filter can
/// be given in the environment variable `LOG`, as in `LOG=info,storage=debug`.
///
/// ```
/// let logger = logger::init()?;
/// log::info!("through the facade");
/// logger::info!(answer = 42; "through our own macro");
/// # Ok::<(), logger::Error>(())
/// ```
///
/// # Errors
/// As [`Builder::install`]; [`Error::Filter`] for a variable that is not understood.
pub fn init() -> Result<Logger, Error> {
    let filter = std::env::var("LOG").unwrap_or_default().parse()?;
    Logger::builder("main").filter(filter).sink(Console::stderr()).install()
}

impl Builder {
    /// Builds the logger, makes it the [default](crate::default) and the one of the `log` facade, and has panics logged
    /// as [`Level::Fatal`] before what handled them until now is called.
    ///
    /// It lives until the program's end: all loggers are flushed when the thread that called this ends, which for the
    /// main thread is the end of `main`, and by [`logger::exit`](crate::exit). A sink that fails is then tried for a
    /// while, see [`give_up_after`](Self::give_up_after); another thread than the main one does not wait for it, and if
    /// the process ends then, what it holds up is lost.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`Error::FacadeTaken`] if there is a default or a `log` logger already.
    pub fn install(self) -> Result<Logger, Error> {
        let logger = self.build()?;
        registry::set_default(logger.clone()).map_err(|_| Error::FacadeTaken)?;
        log::set_logger(&FACADE).map_err(|_| Error::FacadeTaken)?;
        set_max_level(&logger);
        hook_panics();
        Ok(logger)
    }
}

/// Flushes all loggers and ends the process with this code. `std::process::exit` does not flush unless it is called on
/// the thread that made the logger.
pub fn exit(code: i32) -> ! {
    registry::all().iter().for_each(|shared| shared.flush_at_end());
    process::exit(code)
}

/// Flushes every logger that is alive.
pub fn flush_all() {
    registry::all().iter().for_each(|shared| shared.exchange.flush());
}

/// Lets the facade skip what no target of the default logger wants.
pub(crate) fn set_max_level(logger: &Logger) {
    log::set_max_level(match logger.least_level() {
        Some(Level::Trace) => log::LevelFilter::Trace,
        Some(Level::Debug) => log::LevelFilter::Debug,
        Some(Level::Info) => log::LevelFilter::Info,
        Some(Level::Warn) => log::LevelFilter::Warn,
        Some(Level::Error | Level::Fatal) => log::LevelFilter::Error,
        None => log::LevelFilter::Off,
    });
}

/// Flushes all loggers when this thread ends.
pub(crate) fn flush_at_end() {
    thread_local! {
        static AT_END: AtEnd = AtEnd { is_main: thread::current().name() == Some("main") };
    }
    // A thread that is ending already flushes no more.
    let _ = AT_END.try_with(|_| ());
}

struct AtEnd {
    /// The process ends with this thread.
    is_main: bool,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if self.is_main {
            registry::all().iter().for_each(|shared| shared.flush_at_end());
        } else {
            // The workers go on, so one that has a sink that fails must not keep this thread from ending.
            registry::all().iter().for_each(|shared| shared.exchange.try_flush());
        }
    }
}

static FACADE: Facade = Facade;

struct Facade;

impl log::Log for Facade {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        registry::default().is_some_and(|logger| logger.admits(metadata.level().into(), metadata.target()))
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(logger) = registry::default() {
            let site = Site {
                level: record.level().into(),
                target: record.target(),
                file: record.file().unwrap_or(""),
                line: record.line().unwrap_or(0),
            };
            logger.log(&site, *record.args(), record.key_values());
        }
    }

    fn flush(&self) {
        if let Some(logger) = registry::default() {
            logger.flush();
        }
    }
}

fn hook_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(logger) = registry::default() {
                let (file, line) = info.location().map_or(("", 0), |at| (at.file(), at.line()));
                let site = Site { level: Level::Fatal, target: "panic", file, line };
                let payload = info.payload();
                let text = payload.downcast_ref::<&str>().copied();
                let what = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                let what = what.unwrap_or("a panic without a text");
                logger.log(&site, format_args!("{what}"), &crate::NO_FIELDS);
            }
            before(info);
        }));
    });
}
