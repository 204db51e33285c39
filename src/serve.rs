//! `cloudstore serve`: the storage server, until a signal ends it.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudstore::config::{Config, Effect, LogFormat, ServeArgs};
use cloudstore::server::{Options, Server};
use logger::forward::{Pool, Report};
use logger::sink::{Console, Rolling, RollingOptions};
use logger::{Durability, Layout, Level, Logger, Overflow, error, info, log, warn};
use reactor::{Address, Event, EventBase};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::supervisor;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What the log holds for a disk that is full or slow, before records are dropped and counted.
const MOST_UNWRITTEN: usize = 64 * 1024 * 1024;
/// Of the errors of one kind, as of a scanner that asks for missing files, so many go to the backlog server in each
/// [`FLOOD_PERIOD`]; the rest is counted.
const MOST_ALIKE: u32 = 100;
const FLOOD_PERIOD: Duration = Duration::from_secs(10);
/// What a server has open without a connection, with some to spare.
const OWN_DESCRIPTORS: usize = 40;
/// How long the end waits for the backlog server. What it has not acknowledged by then is forwarded by the next run.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &ServeArgs) -> Result<(), Box<dyn Error>> {
    let config = Config::load(args)?;
    raise_descriptors();
    let pool = config.backlog.as_ref().map(|_| start_pool(&config)).transpose()?.map(Arc::new);
    let logger = start_logger(&config, pool.as_deref())?;
    tell_early();
    for note in config.notes() {
        warn!(target: "config", "{}", note);
    }
    let most = most_connections();
    if most < config.limits.max_connections {
        warn!(
            target: "config", wanted = config.limits.max_connections, most = most;
            "there are descriptors for fewer connections than the settings allow: raise `ulimit -n`"
        );
    }
    let base = EventBase::new()?;
    let server = Rc::new(Server::start(&base, options(&config, pool.clone()))?);
    let place = match server.address() {
        Address::Inet(address) => format!("http://{address}/"),
        address => address.to_string(),
    };
    let place = format!("{place}, data in {}", config.data.display());
    // Before anybody is told that it runs, and may send one.
    let signals = on_signals(&base, &server, &logger, args, config)?;
    // A closed stdout is no reason not to serve.
    let mut out = io::stdout();
    let _ = writeln!(out, "listening on {place}").and_then(|()| out.flush());
    supervisor::ready();
    info!(target: "server", "listening on {}", place);

    // Until then a second signal can cut short what the first one waits for.
    server.on_end(move || signals.iter().for_each(Event::free));
    base.dispatch()?;
    if let Some(server) = Rc::into_inner(server) {
        server.join();
    }
    info!(target: "server", "the server ends");
    logger.shutdown();
    if let Some(pool) = pool {
        pool.drain(LAST_WAIT);
    }
    Ok(())
}

/// SIGTERM and SIGINT end the server in order, a second one at once; SIGHUP reads the settings again and opens the log anew.
fn on_signals(
    base: &EventBase,
    server: &Rc<Server>,
    logger: &Logger,
    args: &ServeArgs,
    config: Config,
) -> reactor::Result<Vec<Event>> {
    let mut signals = Vec::new();
    let is_ending = Rc::new(Cell::new(false));
    for signal in [SIGINT, SIGTERM] {
        let (drainer, is_ending) = (server.drainer(), Rc::clone(&is_ending));
        let event = Event::signal(base, signal, move |_, _| {
            if is_ending.replace(true) {
                warn!(target: "server", "asked to end once more: what is under way is cut off");
                return drainer.stop();
            }
            supervisor::stopping();
            info!(target: "server", "ends when the requests that are under way are answered; once more ends them");
            drainer.drain();
        })?;
        event.add(None)?;
        signals.push(event);
    }
    let (server, logger, args) = (Rc::downgrade(server), logger.clone(), args.clone());
    let started = config;
    let mut read = started.clone();
    let event = Event::signal(base, SIGHUP, move |_, _| {
        logger.reopen();
        let Some(server) = server.upgrade() else { return };
        match Config::load(&args) {
            Ok(config) => {
                server.change(&options(&config, None));
                logger.set_filter(config.log_level.clone());
                tell_changes(&started, &read, &config);
                read = config;
            }
            Err(error) => error!(target: "config", "the settings stay as they are: {error}"),
        }
    })?;
    event.add(None)?;
    signals.push(event);
    Ok(signals)
}

/// What was taken over is told once; what needs another start each time, as long as it differs from what runs.
fn tell_changes(started: &Config, read: &Config, config: &Config) {
    for (key, _) in read.changes(config).iter().filter(|(_, effect)| *effect == Effect::Reload) {
        info!(target: "config", "{key} is changed");
    }
    for (key, _) in started.changes(config).iter().filter(|(_, effect)| *effect == Effect::Restart) {
        warn!(
            target: "config",
            "{key} differs in the settings from what runs, and takes effect when the server is started again"
        );
    }
    info!(target: "config", "the settings are read again, and the log is opened anew");
}

fn options(config: &Config, pool: Option<Arc<Pool>>) -> Options {
    let mut options = Options::new(config.listen.clone(), config.storage());
    options.loops = config.threads;
    options.limits = config.limits.clone();
    options.limits.max_connections = options.limits.max_connections.min(most_connections());
    options.download_prefix.clone_from(&config.download_prefix);
    options.min_free_disk = config.min_free_disk;
    options.access_log = config.access_log;
    options.cors.clone_from(&config.cors);
    options.hosts.clone_from(&config.hosts);
    options.users = Some(config.users.clone());
    options.pool = pool;
    options
}

fn start_pool(config: &Config) -> Result<Pool, Box<dyn Error>> {
    let Some(backlog) = &config.backlog else { return Err("no backlog server is set".into()) };
    let pool = Pool::builder(backlog.clone(), &config.spool)
        .clients(config.backlog_clients)
        .wire(config.backlog_wire)
        .app("cloudstore")
        .limit_floods(MOST_ALIKE, FLOOD_PERIOD)
        .on_report(tell)
        .start()?;
    Ok(pool)
}

/// What forwarders said before there was a logger, which they are a sink of.
static EARLY: Mutex<Vec<Report>> = Mutex::new(Vec::new());

/// Logs what a forwarder says, by a target that is never forwarded.
fn tell(report: &Report) {
    let mut early = EARLY.lock().unwrap_or_else(PoisonError::into_inner);
    if logger::default().is_none() {
        return early.push(report.clone());
    }
    drop(early);
    log!(target: "logger::forward", report.level(), "{report}");
}

fn tell_early() {
    let early = std::mem::take(&mut *EARLY.lock().unwrap_or_else(PoisonError::into_inner));
    early.iter().for_each(tell);
}

/// Records go to the file, if there is one; the terminal gets all without one, else warnings and what is worse.
fn start_logger(config: &Config, pool: Option<&Pool>) -> Result<Logger, Box<dyn Error>> {
    let layout = match config.log_format {
        LogFormat::Text => Layout::Text,
        LogFormat::Json => Layout::Json,
    };
    let mut builder = Logger::builder("cloudstore")
        .filter(config.log_level.clone())
        .layout(layout)
        // A full log disk must not stop the server.
        .overflow(Overflow::Grow { limit: MOST_UNWRITTEN });
    let mut console = Level::Trace;
    if let Some(path) = &config.log_file {
        let rolling = RollingOptions {
            max_bytes: config.log_max_bytes,
            keep: Some(config.log_keep),
            ..RollingOptions::default()
        };
        builder = builder.sink_with(Rolling::open(path, rolling)?, Level::Trace, Durability::Flush);
        console = Level::Warn;
    }
    builder = builder.sink_with(Console::stderr(), console, Durability::Flush);
    if let Some(pool) = pool {
        builder = builder.sink(pool.sink());
    }
    Ok(builder.install()?)
}

/// A quarter of the descriptors, and what loops, log and index need, stays for files. One connection too many is told so,
/// rather than left waiting where no descriptor is left for it.
fn most_connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(usize::MAX, |limit| (limit.saturating_sub(OWN_DESCRIPTORS) / 4 * 3).max(1))
}

/// Each connection takes a descriptor, so as many as the system gives.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Refused only where something forbids it: then the limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
