//! What all loops of a server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logger::forward::{Counters, Pool};
use reactor::http::{Census, Limits};

use super::Options;
use super::doorman::Doorman;
use super::keeper::Keeper;
use super::meter::Meter;

/// Shared by all loops; what may change while the server runs is atomic.
#[derive(Debug)]
pub(crate) struct Site {
    download_prefix: String,
    min_free_disk: AtomicU64,
    max_body_bytes: AtomicU64,
    has_access_log: AtomicBool,
    is_draining: AtomicBool,
    /// Bytes that uploads have announced and that have not come yet.
    promised: AtomicU64,
    started: Instant,
    census: Census,
    meters: Vec<Arc<Meter>>,
    forwarding: Option<Forwarding>,
    /// None where there can be no users.
    keeper: Option<Arc<Keeper>>,
    doorman: Doorman,
}

/// The forwarders, as far as requests reach them.
#[derive(Clone, Debug)]
pub(crate) struct Forwarding(pub(crate) Arc<Pool>);

impl Forwarding {
    pub(crate) fn reconnect(&self) {
        self.0.reconnect_now();
    }

    pub(crate) fn counters(&self) -> Counters {
        self.0.counters()
    }

    pub(crate) fn connected(&self) -> usize {
        self.counters().connected
    }
}

impl Site {
    pub(crate) fn new(options: &Options, loops: usize, keeper: Option<Arc<Keeper>>) -> Site {
        Site {
            download_prefix: options.download_prefix.clone(),
            min_free_disk: AtomicU64::new(options.min_free_disk),
            max_body_bytes: AtomicU64::new(options.limits.max_body_bytes),
            has_access_log: AtomicBool::new(options.access_log),
            is_draining: AtomicBool::new(false),
            promised: AtomicU64::new(0),
            started: Instant::now(),
            census: Census::new(),
            meters: (0..loops).map(|_| Arc::default()).collect(),
            forwarding: options.pool.clone().map(Forwarding),
            keeper,
            doorman: Doorman::default(),
        }
    }

    /// Counts the connections of all loops, for which one limit holds.
    pub(crate) fn census(&self) -> &Census {
        &self.census
    }

    /// Begins and ends with a slash.
    pub(crate) fn download_prefix(&self) -> &str {
        &self.download_prefix
    }

    pub(crate) fn min_free_disk(&self) -> u64 {
        self.min_free_disk.load(Ordering::Relaxed)
    }

    pub(crate) fn has_access_log(&self) -> bool {
        self.has_access_log.load(Ordering::Relaxed)
    }

    pub(crate) fn max_body_bytes(&self) -> u64 {
        self.max_body_bytes.load(Ordering::Relaxed)
    }

    /// Takes over what may change.
    pub(crate) fn change(&self, limits: &Limits, min_free_disk: u64, has_access_log: bool) {
        self.max_body_bytes.store(limits.max_body_bytes, Ordering::Relaxed);
        self.min_free_disk.store(min_free_disk, Ordering::Relaxed);
        self.has_access_log.store(has_access_log, Ordering::Relaxed);
    }

    /// Room on the disk that is spoken for.
    pub(crate) fn promised(&self) -> u64 {
        self.promised.load(Ordering::Relaxed)
    }

    pub(crate) fn promise(&self, bytes: u64) {
        self.promised.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn keep_promise(&self, bytes: u64) {
        self.promised.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    pub(crate) fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn meter(&self, number: usize) -> Arc<Meter> {
        self.meters.get(number).cloned().unwrap_or_default()
    }

    pub(crate) fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.meters.iter().map(|meter| &**meter)
    }

    pub(crate) fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.as_ref()
    }

    pub(crate) fn doorman(&self) -> &Doorman {
        &self.doorman
    }

    /// Has the users file looked at now, off the loops.
    pub(crate) fn reload_users(&self) {
        if let Some(keeper) = self.keeper.clone() {
            self.doorman.run(move || keeper.reload());
        }
    }

    pub(crate) fn forwarding(&self) -> Option<&Forwarding> {
        self.forwarding.as_ref()
    }
}
