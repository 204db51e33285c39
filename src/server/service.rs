//! What the handlers of one loop work with.

use std::cell::{Cell, Ref, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use logger::kv::Value;
use logger::{debug, error, warn};
use reactor::http::Request;

use super::authority::Authority;
use super::meter::Meter;
use super::origin::Policy;
use super::problem::Problem;
use super::site::Site;
use super::{page, target};
use crate::storage::{Name, Space, Store, StoreError};

/// The store as one loop sees it, and what its handlers share.
pub(crate) struct Service {
    store: Store,
    site: Arc<Site>,
    meter: Arc<Meter>,
    policy: RefCell<Policy>,
    /// None where there can be no users.
    authority: Option<Authority>,
    /// The room on the disk, and when it was looked at.
    space: Cell<Option<(Instant, Space)>>,
}

/// How old the known room on the disk may be.
const SPACE_PRECISION: Duration = Duration::from_secs(1);

impl Service {
    pub(crate) fn new(
        store: Store,
        site: Arc<Site>,
        meter: Arc<Meter>,
        policy: Policy,
    ) -> Result<Service, reactor::Error> {
        let authority = Authority::new(store.base(), &site)?;
        Ok(Service { store, site, meter, policy: RefCell::new(policy), authority, space: Cell::new(None) })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Who knows the users, where there can be some.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Who may ask. Let go before anything else is called.
    pub(crate) fn policy(&self) -> Ref<'_, Policy> {
        self.policy.borrow()
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy.replace(policy);
    }

    /// Counts an upload of so many bytes, as far as is known, as long as what it gives lives.
    pub(crate) fn begin_upload(&self, announced: Option<u64>) -> Uploading {
        let promised = announced.unwrap_or(0);
        self.meter.uploads.fetch_add(1, Ordering::Relaxed);
        self.site.promise(promised);
        Uploading { meter: Arc::clone(&self.meter), site: Arc::clone(&self.site), promised }
    }

    /// Refuses to fill the disk: what is free must not go below the floor, also when all that is on its way has come.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<(), Problem> {
        let floor = self.site.min_free_disk();
        let now = self.store.base().now();
        let known = self
            .space
            .get()
            .filter(|(at, _)| bytes < SMALL && now.saturating_duration_since(*at) < SPACE_PRECISION);
        let space = match known {
            Some((_, space)) => space,
            None => {
                let space = self.store.space()?;
                self.space.set(Some((now, space)));
                space
            }
        };
        let promised = self.site.promised();
        if space.free.saturating_sub(promised).saturating_sub(bytes) >= floor {
            return Ok(());
        }
        let message = format!(
            "the disk is too full: {} bytes are free, {promised} of them for uploads on their way, and {floor} are kept \
                free; remove something first",
            space.free
        );
        Err(Problem::new(507, "disk_full", message))
    }

    /// Refuses a body of so many bytes, if it is longer than allowed.
    pub(crate) fn check_length(&self, bytes: u64) -> Result<(), Problem> {
        let most = self.site.max_body_bytes();
        if bytes <= most {
            return Ok(());
        }
        let message = format!("the body is too long: this server takes objects of at most {most} bytes");
        Err(Problem::new(413, "too_large", message))
    }

    /// Answers a request that is not done, and notes why as loud as it deserves.
    pub(crate) fn refuse(&self, request: Request, problem: Problem) {
        let is_probe = request.method() == "HEAD";
        let Some(name) = problem.missing().filter(|_| !is_probe) else { return self.tell(request, problem) };
        if let Err(StoreError::IsFolder { .. }) = self.store.check_free(name) {
            if request.method() == "GET" && page::is_for(&request) {
                let folder = target::path("/files/", &format!("{name}/"));
                return request.reply(303).header("Location", folder).header("Vary", "Accept").send();
            }
            // Who reads finds nothing, who writes is in the way of what is there.
            let status = if request.method() == "GET" { 404 } else { 409 };
            let problem = Problem::is_folder(status, name);
            return self.tell(request, problem);
        }
        // Somebody believes in an object that is not there.
        error!(target: "storage", name = name.as_str(), peer = Value::from_display(request.peer()); "a missing object was asked for");
        problem.send(request);
    }

    fn tell(&self, request: Request, problem: Problem) {
        self.note(&request, &problem);
        problem.send(request);
    }

    /// Notes a problem as loud as it deserves.
    pub(crate) fn note(&self, request: &Request, problem: &Problem) {
        let (method, target, peer) =
            (request.method(), request.target(), Value::from_display(request.peer()));
        let (status, why) = (problem.status(), problem.message());
        match status {
            500.. => {
                error!(target: "server", status = status, method = method, target = target, peer = peer; "{}", why)
            }
            // What clients ask for to find out.
            404 | 412 | 416 => {
                debug!(target: "server", status = status, method = method, target = target, peer = peer; "{}", why)
            }
            _ => {
                warn!(target: "server", status = status, method = method, target = target, peer = peer; "{}", why)
            }
        }
    }

    /// Notes a failure behind the head of an answer, which cannot be told to the client any more.
    pub(crate) fn report(&self, name: &Name, error: &StoreError) {
        error!(target: "storage", name = name.as_str(); "a download was cut short: {error}");
    }
}

/// Smaller uploads go by what was known of the disk a moment ago.
const SMALL: u64 = 64 * 1024;

/// An upload that is counted, and the room that is kept for it.
pub(crate) struct Uploading {
    meter: Arc<Meter>,
    site: Arc<Site>,
    /// What of it has not come yet.
    promised: u64,
}

impl Uploading {
    /// Whether room is kept for what is to come.
    pub(crate) fn is_announced(&self) -> bool {
        self.promised > 0
    }

    /// So many bytes have come, and are in the file or about to be.
    pub(crate) fn arrived(&mut self, bytes: u64) {
        let kept = bytes.min(self.promised);
        self.promised -= kept;
        self.site.keep_promise(kept);
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.meter.uploads.fetch_sub(1, Ordering::Relaxed);
        self.site.keep_promise(self.promised);
    }
}
