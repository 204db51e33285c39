//! Who asks, and whether they may: the one way to the handlers.
//!
//! A request that has come in goes to its handler if the users file is known as it is now, its credentials were found to be
//! right, and its user has the rights that its route [needs](super::needs). Until then nothing of its body is read.
//!
//! - **A password is looked at once.** The hash takes some 30 ms on a thread of its own; a request with the same header is then
//!   known by a keyed hash of it, for some minutes and as long as the user's password stays.
//! - **A change of the file holds for every request that comes a second later**, and when settings are read again.
//!   Requests wait while it is read. Nobody looks at the file while nobody asks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logger::kv::Value;
use logger::{debug, error, warn};
use reactor::EventBase;
use reactor::http::Request;
use sha2::{Digest as _, Sha256};

use super::doorman::Place;
use super::grant::Grant;
use super::keeper::Known;
use super::needs::{Needs, NeedsOf};
use super::problem::Problem;
use super::service::Service;
use super::site::Site;
use crate::jobs::Desk;
use crate::users::credentials::Credentials;
use crate::users::file::Identity;
use crate::users::{PasswordHash, User, token};

/// What answers requests of a path.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) needs: NeedsOf,
    pub(crate) handler: fn(&Rc<Service>, Request, Grant),
}

/// How old what is known of the file may be.
const FILE_PRECISION: Duration = Duration::from_secs(1);
/// How long a password that was right is not looked at again.
const REMEMBERED: Duration = Duration::from_secs(5 * 60);
/// Of how many that is remembered.
const MOST_REMEMBERED: usize = 1024;
/// Of a name that somebody made up, so much is written down.
const MOST_TOLD_OF_NAME: usize = 100;

type Key = [u8; 32];

/// Knows the users, for one loop.
pub(crate) struct Authority {
    site: Arc<Site>,
    desk: Desk,
    known: RefCell<Known>,
    /// When the file was looked at.
    looked: Cell<Option<Instant>>,
    /// Requests that wait until the file is read; None if it is not.
    reading: RefCell<Option<Vec<(Request, Route)>>>,
    /// Headers that were right, by a hash that nobody can foresee.
    remembered: RefCell<HashMap<Key, Remembered>>,
    /// Requests that wait until a password is looked at.
    checking: RefCell<HashMap<Key, Vec<Pending>>>,
    secret: Key,
}

struct Remembered {
    user: Arc<User>,
    since: Instant,
}

/// A request whose needs are known.
struct Pending {
    request: Request,
    needs: Needs,
    handler: fn(&Rc<Service>, Request, Grant),
}

impl Authority {
    /// None where there can be no users.
    pub(crate) fn new(base: &EventBase, site: &Arc<Site>) -> Result<Option<Authority>, reactor::Error> {
        let Some(keeper) = site.keeper() else { return Ok(None) };
        let mut secret = Key::default();
        getrandom::fill(&mut secret).map_err(|error| reactor::Error::Io {
            what: "get random numbers",
            source: io::Error::other(error.to_string()),
        })?;
        Ok(Some(Authority {
            known: RefCell::new(keeper.known()),
            site: Arc::clone(site),
            desk: Desk::new(base)?,
            looked: Cell::new(None),
            reading: RefCell::default(),
            remembered: RefCell::default(),
            checking: RefCell::default(),
            secret,
        }))
    }

    /// The file is looked at before the next request is let through.
    pub(crate) fn distrust(&self) {
        self.looked.set(None);
    }

    fn key(&self, header: &[u8]) -> Key {
        Sha256::new().chain_update(self.secret).chain_update(header).finalize().into()
    }

    /// Whether the file must be read before somebody is let through.
    fn is_outdated(&self, now: Instant) -> bool {
        let Some(keeper) = self.site.keeper() else { return false };
        if keeper.generation() != self.known.borrow().generation {
            self.refresh();
        }
        let is_fresh = |looked| now.saturating_duration_since(looked) < FILE_PRECISION;
        if self.looked.get().is_some_and(is_fresh) {
            return false;
        }
        self.looked.set(Some(now));
        let known: Identity = self.known.borrow().identity;
        keeper.identity() != known
    }

    /// Takes over what the keeper knows.
    fn refresh(&self) {
        let Some(keeper) = self.site.keeper() else { return };
        let known = keeper.known();
        let mut remembered = self.remembered.borrow_mut();
        // Whose password is still the same need not be looked at again.
        remembered.retain(|_, entry| {
            let user = known.users.as_ref().and_then(|users| users.user(entry.user.name()));
            let same = user.filter(|user| user.password() == entry.user.password());
            if let Some(user) = same {
                entry.user = Arc::clone(user);
            }
            same.is_some()
        });
        drop(remembered);
        self.known.replace(known);
    }

    fn recall(&self, key: &Key, now: Instant) -> Option<Arc<User>> {
        let remembered = self.remembered.borrow();
        let entry = remembered.get(key)?;
        (now.saturating_duration_since(entry.since) < REMEMBERED).then(|| Arc::clone(&entry.user))
    }

    fn remember(&self, key: Key, user: &Arc<User>, now: Instant) {
        let mut remembered = self.remembered.borrow_mut();
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, entry| now.saturating_duration_since(entry.since) < REMEMBERED);
        }
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key, Remembered { user: Arc::clone(user), since: now });
    }
}

/// Has a request answered by its route, if whoever asks may. Nothing else calls a handler.
pub(crate) fn pass(service: &Rc<Service>, request: Request, route: Route) {
    let Some(authority) = service.authority() else {
        return (route.handler)(service, request, Grant::everybody());
    };
    if let Some(waiting) = authority.reading.borrow_mut().as_mut() {
        return waiting.push((request, route));
    }
    if authority.is_outdated(service.store().base().now()) {
        return read_file(service, authority, request, route);
    }
    judge(service, authority, request, route);
}

fn read_file(service: &Rc<Service>, authority: &Authority, request: Request, route: Route) {
    authority.reading.replace(Some(vec![(request, route)]));
    let weak = Rc::downgrade(service);
    let ticket = authority.desk.ticket(move |result: Result<(), _>| {
        let Some(service) = weak.upgrade() else { return };
        let Some(authority) = service.authority() else { return };
        authority.refresh();
        if result.is_err() {
            error!(target: "users", "there is no thread to read the users file: requests are refused until there is");
            authority.distrust();
        }
        for (request, route) in authority.reading.take().into_iter().flatten() {
            match result {
                Ok(()) => judge(&service, authority, request, route),
                Err(_) => busy(authority, request, None, service.store().base().now()),
            }
        }
    });
    let site = Arc::clone(&authority.site);
    let job = site.keeper().cloned().map(|keeper| {
        move || {
            keeper.reload();
            ticket.redeem(());
        }
    });
    // A job that is dropped says so to the ticket.
    if let Some(job) = job {
        site.doorman().run(job);
    }
}

/// Finds out who asks.
fn judge(service: &Rc<Service>, authority: &Authority, request: Request, route: Route) {
    let Some(users) = authority.known.borrow().users.clone() else {
        return (route.handler)(service, request, Grant::everybody());
    };
    let needs = match (route.needs)(service, &request) {
        Ok(needs) => needs,
        Err(problem) => return service.refuse(request, problem),
    };
    if needs.is_nothing() {
        return (route.handler)(service, request, Grant::nobody());
    }
    let now = service.store().base().now();
    let (header, is_single) = {
        let mut headers = request.headers().all("authorization");
        (headers.next(), headers.next().is_none())
    };
    let Some(header) = header else {
        let grant = users.anonymous().map_or_else(Grant::nobody, Grant::of);
        return match needs.check(&grant) {
            Ok(()) => (route.handler)(service, request, grant),
            Err(_) => ask_who(request),
        };
    };
    let key = authority.key(header);
    if let Some(user) = authority.recall(&key, now).filter(|_| is_single) {
        return decide(service, Pending { request, needs, handler: route.handler }, &user);
    }
    let credentials = Credentials::parse(header).filter(|_| is_single);
    let pending = Pending { request, needs, handler: route.handler };
    match credentials {
        None => wrong(authority, pending.request, None, now),
        Some(Credentials::Token(text)) => match users.of_token(&text, token::now()) {
            Some(user) => decide(service, pending, user),
            None => wrong(authority, pending.request, None, now),
        },
        Some(Credentials::Password { user, password }) => {
            let found = users.user(&user).cloned();
            check(service, authority, pending, Claim { key, name: user, password, user: found });
        }
    }
}

/// A name and a password that somebody sent.
struct Claim {
    key: Key,
    name: String,
    password: String,
    /// If there is such a user.
    user: Option<Arc<User>>,
}

/// Has a password looked at, off the loop.
fn check(service: &Rc<Service>, authority: &Authority, pending: Pending, claim: Claim) {
    let Claim { key, name, password, user } = claim;
    if let Some(waiting) = authority.checking.borrow_mut().get_mut(&key) {
        return waiting.push(pending);
    }
    let now = service.store().base().now();
    let doorman = authority.site.doorman();
    let place = Place::of(pending.request.peer(), &name);
    if let Err(delay) = doorman.attempt(&place, now) {
        let seconds = delay.as_secs() + 1;
        let message = format!("too many wrong passwords came from where you are: try again in {seconds} s");
        let problem =
            Problem::new(429, "too_many_attempts", message).header("Retry-After", seconds.to_string());
        tell(authority, &pending.request, Some(&name), "refused: too many wrong passwords", now);
        return problem.send(pending.request);
    }
    let known = user.as_ref().and_then(|user| user.password()).cloned();
    let (has_password, hash) = (known.is_some(), known.unwrap_or_else(PasswordHash::of_nobody));
    authority.checking.borrow_mut().insert(key, vec![pending]);
    let (weak, counted) = (Rc::downgrade(service), place.clone());
    let ticket = authority.desk.ticket(move |result| {
        let outcome = match result {
            Ok(true) => Outcome::Right,
            Ok(false) => Outcome::Wrong,
            Err(_) => Outcome::Unknown,
        };
        checked(&weak, &key, &counted, user.filter(|_| has_password), &name, outcome);
    });
    // One that cannot be taken is dropped, and says so to the ticket.
    doorman.look(move || {
        let is_right = hash.is_of(&password);
        ticket.redeem(is_right && has_password);
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    /// Too many waited.
    Unknown,
}

/// A password was looked at.
fn checked(
    service: &Weak<Service>,
    key: &Key,
    place: &Place,
    user: Option<Arc<User>>,
    name: &str,
    outcome: Outcome,
) {
    let Some(service) = service.upgrade() else { return };
    let Some(authority) = service.authority() else { return };
    let now = service.store().base().now();
    let waiting = authority.checking.borrow_mut().remove(key).unwrap_or_default();
    if outcome != Outcome::Wrong {
        authority.site.doorman().right(place);
    }
    if authority
        .site
        .keeper()
        .is_some_and(|keeper| keeper.generation() != authority.known.borrow().generation)
    {
        authority.refresh();
    }
    // The user may have changed meanwhile.
    let users = authority.known.borrow().users.clone();
    let user = user.filter(|_| outcome == Outcome::Right).and_then(|before| {
        let now = users.as_ref().and_then(|users| users.user(before.name()))?;
        (now.password() == before.password()).then(|| Arc::clone(now))
    });
    if let Some(user) = &user {
        authority.remember(*key, user, now);
    }
    for pending in waiting {
        match (&user, outcome) {
            (Some(user), _) => decide(&service, pending, user),
            (None, Outcome::Unknown) => busy(authority, pending.request, Some(name), now),
            (None, _) => wrong(authority, pending.request, Some(name), now),
        }
    }
}

/// Lets through whom the rules let through.
fn decide(service: &Rc<Service>, pending: Pending, user: &Arc<User>) {
    let Pending { mut request, needs, handler } = pending;
    request.set_user(user.name());
    let grant = Grant::of(user);
    match needs.check(&grant) {
        Ok(()) => handler(service, request, grant),
        Err(problem) => service.refuse(request, problem),
    }
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(401, "unauthorized", message)
        .header("WWW-Authenticate", "Basic realm=\"cloudstore\", charset=\"UTF-8\"")
        .header("WWW-Authenticate", "Bearer realm=\"cloudstore\"")
}

/// Refuses what nobody has the time to look at.
fn busy(authority: &Authority, request: Request, name: Option<&str>, now: Instant) {
    tell(authority, &request, name, "refused: too many passwords wait to be looked at", now);
    Problem::new(503, "too_many_logins", "too many passwords are being looked at: try again in a second")
        .header("Retry-After", "1")
        .send(request);
}

/// A browser sends nothing until it is asked: that is no reason to raise an alarm.
fn ask_who(request: Request) {
    let (method, target) = (request.method(), request.target());
    let peer = Value::from_display(request.peer());
    debug!(target: "users", status = 401, method = method, target = target, peer = peer; "asked who it is");
    unauthorized("say who you are: send a name and a password (Basic) or a token (Bearer)").send(request);
}

/// Refuses credentials that are not right.
fn wrong(authority: &Authority, request: Request, name: Option<&str>, now: Instant) {
    tell(authority, &request, name, "refused: a wrong name, password or token", now);
    let message = "the name, the password or the token is wrong, or the token has expired";
    unauthorized(message).send(request);
}

fn tell(authority: &Authority, request: &Request, name: Option<&str>, what: &str, now: Instant) {
    let Some(untold) = authority.site.doorman().tells(now) else { return };
    let peer = Value::from_display(request.peer());
    match name {
        Some(name) => {
            let name: String = name.chars().take(MOST_TOLD_OF_NAME).collect();
            warn!(target: "users", user = name.as_str(), peer = peer; "{}", what);
        }
        None => warn!(target: "users", peer = peer; "{}", what),
    }
    if untold > 0 {
        warn!(target: "users", refusals = untold; "more were refused before");
    }
}
