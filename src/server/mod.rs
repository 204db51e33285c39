//! The HTTP interface of the store.
//!
//! A [`Server`] runs on one or several loops that share a port; each has its own [`Http`] and sees the same store. Requests
//! never wait for the disk on a loop's thread longer than reading a cached file takes.
//!
//! | Room | What |
//! |---|---|
//! | `routes`, `target` | which path means what |
//! | `upload`, `download`, `stream`, `listing`, `change` | the calls of `/files/` |
//! | `page` | what browsers are shown |
//! | `index` | the index of the store, for its keeper |
//! | `original` | the calls of the program that this one follows |
//! | `admission`, `origin` | which pages and names may ask; the latter is pure |
//! | `authority`, `needs`, `grant` | who asks, what a call needs, and what is granted |
//! | `keeper`, `doorman` | the users of all loops, and how often somebody may be wrong |
//! | [`range`], [`conditions`], [`digest`], [`media`], [`accept`], `field` | what headers say; pure |
//! | `entity`, `json`, `problem` | what is answered |
//! | `access`, `meter`, `metrics` | what is told of it |

pub mod accept;
mod access;
mod admission;
mod authority;
mod change;
pub mod conditions;
pub mod digest;
mod doorman;
mod download;
mod entity;
mod field;
pub mod form;
mod grant;
mod index;
mod json;
mod keeper;
mod listing;
pub mod media;
mod meter;
mod metrics;
mod needs;
mod origin;
mod original;
mod page;
mod problem;
pub mod range;
mod routes;
mod service;
mod site;
mod stream;
pub mod structured;
mod target;
mod upload;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use logger::forward::Pool;
use logger::{debug, error, warn};
use reactor::http::{Census, Http, Limits};
use reactor::{Address, Diagnostic, Event, EventBase, EventFlags, EventTicket, ListenOptions, Notifier};

use crate::storage::{self, SharedStore, Store, StoreError};
use crate::users::UsersError;
use keeper::Keeper;
use origin::Policy;
use service::Service;
use site::Site;

/// How a server runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where it listens.
    pub listen: Address,
    /// How many loops share the port, each on a thread of its own but the first; 1. A Unix socket has one.
    pub loops: usize,
    /// The store.
    pub storage: storage::Options,
    /// What requests are allowed.
    pub limits: Limits,
    /// Where the original's clients download from; `/download/`. It begins and ends with a slash.
    pub download_prefix: String,
    /// Bytes of the disk that uploads leave free; 64 MiB.
    pub min_free_disk: u64,
    /// Whether each request becomes a record of the target `access`; true.
    pub access_log: bool,
    /// Origins whose pages may read answers and change objects, in lower case and without a default port, or `*` for
    /// all; none. Pages of the server itself may always, others may change nothing.
    pub cors: Vec<String>,
    /// Names that requests may be for besides IP addresses and `localhost`, in lower case and without a port; others are
    /// refused. None, the default, for any. It keeps pages out whose name was made to point at the server.
    pub hosts: Option<Vec<String>>,
    /// The file of [users](crate::users). Where it is not there, everybody may do everything; from when on it is, nobody may
    /// but they, also if it goes again. None, the default, for no users ever.
    pub users: Option<PathBuf>,
    /// Forwards records, and is asked to connect again by `/reload`.
    pub pool: Option<Arc<Pool>>,
    /// How long requests that are under way may take when the server ends; 30 s.
    pub grace: Duration,
}

impl Options {
    /// The defaults.
    pub fn new(listen: Address, storage: storage::Options) -> Options {
        Options {
            listen,
            loops: 1,
            storage,
            limits: Limits::default(),
            download_prefix: "/download/".to_owned(),
            min_free_disk: 64 * 1024 * 1024,
            access_log: true,
            cors: Vec::new(),
            hosts: None,
            users: None,
            pool: None,
            grace: Duration::from_secs(30),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The users cannot be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// It cannot listen.
    #[error("cannot listen on {address}: {source}; take another address, or end what listens there")]
    Listen {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A loop cannot be made.
    #[error("cannot start an event loop: {0}")]
    Loop(#[from] reactor::Error),
    /// A thread cannot be started.
    #[error("cannot start the thread of a loop: {0}")]
    Thread(#[source] io::Error),
}

/// A storage server. Dropping it ends its loops at once.
///
/// ```
/// use cloudstore::server::{Options, Server};
/// use cloudstore::storage;
/// use reactor::EventBase;
/// use std::io::{Read, Write};
///
/// # let folder = tempfile::tempdir()?;
/// let base = EventBase::new()?;
/// let options = Options::new("127.0.0.1:0".parse()?, storage::Options::new(folder.path()));
/// let server = Server::start(&base, options)?;
/// let address = server.address().to_string();
/// let drain = server.drainer();
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = std::net::TcpStream::connect(&address)?;
///     stream.write_all(b"PUT /files/a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")?;
///     let mut reply = String::new();
///     stream.read_to_string(&mut reply)?;
///     drain.drain();
///     Ok(reply)
/// });
/// base.dispatch()?;
/// assert!(client.join().unwrap()?.starts_with("HTTP/1.1 201 Created\r\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    address: Address,
    site: Arc<Site>,
    drainer: Drainer,
    end: End,
    on_end: OnEnd,
    /// Tells of the end; it lives as long as this handle.
    _ended: Event,
    threads: Vec<JoinHandle<()>>,
}

/// What runs when all loops have ended.
type OnEnd = Rc<Cell<Option<Box<dyn FnOnce()>>>>;

/// How a loop says that it has ended.
#[derive(Clone)]
struct End {
    left: Arc<AtomicUsize>,
    notifier: Notifier,
    event: EventTicket,
}

impl End {
    fn tell(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody waits on a loop that is gone.
            let _ = self.notifier.activate(self.event, EventFlags::empty());
        }
    }
}

/// Tells of the end of a thread, also if that is a panic.
struct EndOfThread(End);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// Ends a server in order, from any thread.
#[derive(Clone)]
pub struct Drainer {
    site: Arc<Site>,
    loops: Vec<Remote>,
}

/// What a loop is told.
#[derive(Clone)]
enum Order {
    Drain,
    Stop,
    Change(Limits, Policy),
}

/// Reaches a loop from another thread.
#[derive(Clone)]
struct Remote {
    orders: Sender<Order>,
    notifier: Notifier,
    event: EventTicket,
}

impl Remote {
    fn send(&self, order: Order) {
        // A loop that has ended needs no orders.
        if self.orders.send(order).is_ok() {
            let _ = self.notifier.activate(self.event, EventFlags::empty());
        }
    }
}

/// What a loop begins with.
struct Seat {
    number: usize,
    listen: Address,
    options: ListenOptions,
    limits: Limits,
    policy: Policy,
    grace: Duration,
    site: Arc<Site>,
}

impl Server {
    /// Opens the store and begins to listen; the caller's loop serves when it is dispatched, the others do at once.
    /// What [`EventBase::on_diagnostic`] tells of either is logged from then on.
    ///
    /// # Errors
    /// [`ServerError`]. Nothing is left running then.
    pub fn start(base: &EventBase, options: Options) -> Result<Server, ServerError> {
        let loops = match options.listen {
            Address::Inet(_) => options.loops.max(1),
            _ => 1,
        };
        let policy = Policy::new(&options.cors, options.hosts.as_deref());
        let keeper = options.users.clone().map(Keeper::open).transpose()?;
        let site = Arc::new(Site::new(&options, loops, keeper.map(Arc::new)));
        let store = Store::open(base, options.storage)?;
        let limits = of_http(&options.limits);
        if loops > 1 {
            refuse_taken(&options.listen)?;
        }
        let listen =
            ListenOptions { reuse_port: loops > 1, replace_left_over: true, ..ListenOptions::default() };
        let mut seat = Seat {
            number: 0,
            listen: options.listen,
            options: listen,
            limits: limits.clone(),
            policy: policy.clone(),
            grace: options.grace,
            site: Arc::clone(&site),
        };
        let shared = store.share();
        let on_end = OnEnd::default();
        let told = Rc::clone(&on_end);
        let ended = Event::manual(base, EventFlags::empty(), move |_, _| {
            if let Some(on_end) = told.take() {
                on_end();
            }
        })?;
        let left = Arc::new(AtomicUsize::new(1));
        let end = End { left, notifier: base.notifier(), event: ended.ticket() };
        let first = end.clone();
        let (remote, address) = seat.take(base, store, move || first.tell())?;
        let drainer = Drainer { site: Arc::clone(&site), loops: vec![remote] };
        let mut server = Server {
            address: address.clone(),
            site,
            drainer,
            end,
            on_end,
            _ended: ended,
            threads: Vec::new(),
        };
        for number in 1..loops {
            let seat = Seat {
                number,
                listen: address.clone(),
                options: ListenOptions { reuse_port: true, ..ListenOptions::default() },
                limits: limits.clone(),
                policy: policy.clone(),
                grace: options.grace,
                site: Arc::clone(&server.site),
            };
            server.start_loop(seat, shared.clone())?;
        }
        Ok(server)
    }

    fn start_loop(&mut self, mut seat: Seat, store: SharedStore) -> Result<(), ServerError> {
        let (sender, started) = channel();
        let name = format!("loop-{}", seat.number);
        let end = self.end.clone();
        end.left.fetch_add(1, Ordering::AcqRel);
        let ended = EndOfThread(end);
        let run = move || {
            let _ended = ended;
            let begun = EventBase::new().map_err(ServerError::from).and_then(|base| {
                let store = store.attach(&base)?;
                seat.take(&base, store, || ()).map(|(remote, _)| (base, remote))
            });
            match begun {
                Ok((base, remote)) => {
                    if sender.send(Ok(remote)).is_ok()
                        && let Err(error) = base.dispatch()
                    {
                        error!(target: "server", "a loop has failed and ended: {error}");
                    }
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
            }
        };
        self.threads.push(thread::Builder::new().name(name).spawn(run).map_err(ServerError::Thread)?);
        let ended = || ServerError::Thread(io::Error::other("it ended before it began"));
        self.drainer.loops.push(started.recv().map_err(|_| ended())??);
        Ok(())
    }

    /// Where it listens; with the port that the system chose, if it did.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What ends it in order.
    pub fn drainer(&self) -> Drainer {
        self.drainer.clone()
    }

    /// Sets what runs on the caller's loop, if that still runs, when all loops have served their last request after
    /// [`Drainer::drain`]: the place to end what else keeps the loop from ending.
    pub fn on_end(&self, on_end: impl FnOnce() + 'static) {
        let old = self.on_end.replace(Some(Box::new(on_end)));
        drop(old);
    }

    /// Takes over what may change while it runs, from the next connection or request on: [`Options::limits`],
    /// [`min_free_disk`](Options::min_free_disk), [`access_log`](Options::access_log), [`cors`](Options::cors) and
    /// [`hosts`](Options::hosts). The users file is looked at. The rest of the options is not.
    pub fn change(&self, options: &Options) {
        self.site.change(&options.limits, options.min_free_disk, options.access_log);
        let policy = Policy::new(&options.cors, options.hosts.as_deref());
        self.drainer.send(&Order::Change(of_http(&options.limits), policy));
        self.site.reload_users();
    }

    /// Waits until the loops on threads of their own have ended, after [`Drainer::drain`].
    pub fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        for thread in self.threads.drain(..) {
            // Its panic is told by the hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Loops that have ended hear nothing.
        self.drainer.stop();
        self.wait();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drainer {
    /// The server listens no more, and its loops end when the requests that are under way are answered, after
    /// [`Options::grace`] at the latest.
    pub fn drain(&self) {
        self.site.set_draining();
        self.send(&Order::Drain);
    }

    /// The loops end now; what is under way is cut.
    pub fn stop(&self) {
        self.site.set_draining();
        self.send(&Order::Stop);
    }

    fn send(&self, order: &Order) {
        self.loops.iter().for_each(|remote| remote.send(order.clone()));
    }
}

impl fmt::Debug for Drainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drainer").field("loops", &self.loops.len()).finish_non_exhaustive()
    }
}

impl Seat {
    /// Serves on a loop.
    fn take(
        &mut self,
        base: &EventBase,
        store: Store,
        on_closed: impl FnOnce() + 'static,
    ) -> Result<(Remote, Address), ServerError> {
        let mut noted = None;
        base.on_diagnostic(move |base, what| note(what, base.now(), &mut noted));
        let http = Http::with_census(base, self.site.census())?;
        http.set_limits(self.limits.clone());
        let meter = self.site.meter(self.number);
        let service = Service::new(store, Arc::clone(&self.site), meter, self.policy.clone())?;
        let service = Rc::new(service);
        routes::mount(&http, &service);
        access::mount(&http, &service);
        let listener = http.listen(&self.listen, &self.options).map_err(|error| match error {
            reactor::Error::Listen { source, .. } => {
                ServerError::Listen { address: self.listen.clone(), source }
            }
            error => error.into(),
        })?;
        let address = listener.local_address()?;
        let (orders, received) = channel();
        let (grace, served, told) = (self.grace, http.clone(), Rc::downgrade(&service));
        let census = self.site.census().clone();
        let deadline: Rc<Cell<Option<Event>>> = Rc::default();
        let set = Rc::clone(&deadline);
        // It is never added: it must not keep the loop alive.
        let event = Event::manual(base, EventFlags::empty(), move |_, _| {
            for order in received.try_iter() {
                match order {
                    // Once: the time does not begin anew.
                    Order::Drain => set.set(set.take().or_else(|| drain(&served, &census, grace))),
                    Order::Stop => cut(&served),
                    Order::Change(limits, policy) => {
                        served.set_limits(limits);
                        if let Some(service) = told.upgrade() {
                            service.set_policy(policy);
                            if let Some(authority) = service.authority() {
                                authority.distrust();
                            }
                        }
                    }
                }
            }
        })?;
        let remote = Remote { orders, notifier: base.notifier(), event: event.ticket() };
        http.on_closed(move || {
            event.free();
            if let Some(deadline) = deadline.take() {
                deadline.free();
            }
            on_closed();
        });
        Ok((remote, address))
    }
}

/// A server that lacks descriptors says so once in this time, on each loop.
const NOTED_EVERY: Duration = Duration::from_secs(10);

/// Writes down what nobody else is told of a loop.
fn note(what: &Diagnostic, now: Instant, noted: &mut Option<Instant>) {
    match what {
        // Of clients that left.
        Diagnostic::Stream { .. } | Diagnostic::Unsent { .. } => debug!(target: "server", "{}", what),
        Diagnostic::Accept { .. } => {
            if noted.is_none_or(|noted| now.saturating_duration_since(noted) >= NOTED_EVERY) {
                *noted = Some(now);
                warn!(target: "server", "{}", what);
            }
        }
        _ => warn!(target: "server", "{}", what),
    }
}

/// Ends a loop when its last request is answered, or so much later by what is returned.
fn drain(http: &Http, census: &Census, grace: Duration) -> Option<Event> {
    http.shutdown();
    let (late, census) = (http.clone(), census.clone());
    // Refused only by a base that is gone.
    let deadline = Event::timer(http.base(), move |_, _| {
        warn!(target: "server", connections = census.connections(); "requests took too long to end, and are cut off");
        cut(&late);
    });
    let deadline = deadline.ok()?;
    deadline.add(Some(grace)).ok()?;
    Some(deadline)
}

/// Ends a loop now.
fn cut(http: &Http) {
    http.free();
    // Also without what connections that are closing have still to send.
    http.base().loop_break();
}

/// What the connections enforce. How long a body may be is left to who takes it, and can say so.
fn of_http(limits: &Limits) -> Limits {
    Limits { max_body_bytes: u64::MAX, ..limits.clone() }
}

/// Loops of one server share a port, which lets those of another server share it too.
fn refuse_taken(address: &Address) -> Result<(), ServerError> {
    let Address::Inet(inet) = address else { return Ok(()) };
    match TcpListener::bind(inet) {
        Ok(_) => Ok(()),
        Err(source) => Err(ServerError::Listen { address: address.clone(), source }),
    }
}
