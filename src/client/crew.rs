//! Several transfers at a time, each on a connection of its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use reactor::http::{ClientTimeouts, Connection};

use super::error::ClientError;
use super::get::{self, Fetched, Get, place_below};
use super::listing::{Page, Wanted, page};
use super::pace::Pace;
use super::parts::LeftOver;
use super::progress::{Ending, Watch};
use super::put::{self, Put, Stored};
use super::remote::Remote;
use super::retry::Retry;

/// Something to be done.
#[derive(Debug)]
pub enum Task {
    /// Send a file of so many bytes, if that is known.
    Put(Put, Option<u64>),
    /// Fetch an object.
    Get(Get),
    /// Fetch all that is in a folder.
    GetFolder {
        /// Ends with a slash; empty for all there is.
        folder: String,
        /// The folder that it becomes.
        top: PathBuf,
        /// Files that are there are replaced.
        replaces: bool,
    },
}

/// What has become of a file or an object.
#[derive(Debug)]
pub struct Report {
    /// The object.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// How it went.
    pub result: Result<Done, ClientError>,
}

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// It was sent.
    Stored(Stored),
    /// It was fetched.
    Fetched(Fetched),
}

/// A server may take long to put what it has taken onto its disk.
const STORING: Duration = Duration::from_secs(600);
/// More of a folder is asked for when so few of its objects wait.
const FEW: usize = 500;

/// Does tasks on a loop, some at a time, in their order. It ends the loop when all are done, or when the server cannot be
/// asked any more: what is left of them is [`left`](Self::left).
pub struct Crew {
    remote: Remote,
    pace: Rc<Pace>,
    left_over: Rc<LeftOver>,
    tasks: RefCell<VecDeque<Task>>,
    /// What folders have given; it goes first.
    found: RefCell<VecDeque<Task>>,
    /// The folder that is being read.
    reading: RefCell<Option<Reading>>,
    is_asking: Cell<bool>,
    idle: RefCell<Vec<Job>>,
    lister: Connection,
    /// Of all jobs.
    connections: Vec<Connection>,
    count: Cell<usize>,
    on_report: Box<dyn Fn(Report)>,
}

/// Something that transfers one after the other.
struct Job {
    connection: Connection,
    /// The server has taken it, as far as is known.
    is_through: bool,
    /// How long it waits, while others work, when the server takes no more connections; none if it was not refused.
    refused: Option<Retry>,
}

struct Reading {
    wanted: Wanted,
    folder: String,
    top: PathBuf,
    replaces: bool,
    after: Option<String>,
}

impl Crew {
    /// Begins; `on_report` runs from the loop for each file that is done or failed.
    ///
    /// # Errors
    /// [`ClientError::Loop`].
    pub fn start(
        remote: &Remote,
        jobs: usize,
        tasks: impl IntoIterator<Item = Task>,
        watch: Rc<dyn Watch>,
        on_report: impl Fn(Report) + 'static,
    ) -> Result<Rc<Crew>, ClientError> {
        let jobs = jobs.max(1);
        let job = |_| Ok(Job { connection: remote.connection()?, is_through: false, refused: None });
        let idle = (0..jobs).map(job).collect::<Result<Vec<Job>, ClientError>>()?;
        let crew = Rc::new(Crew {
            remote: remote.clone(),
            pace: Rc::new(Pace::new(watch, !remote.retry().is_zero())),
            left_over: Rc::default(),
            tasks: RefCell::new(tasks.into_iter().collect()),
            found: RefCell::default(),
            reading: RefCell::default(),
            is_asking: Cell::new(false),
            connections: idle.iter().map(|job| job.connection.clone()).collect(),
            idle: RefCell::new(idle),
            lister: remote.connection()?,
            count: Cell::new(0),
            on_report: Box::new(on_report),
        });
        let me = Rc::clone(&crew);
        remote.base().once(Some(Duration::ZERO), move |_| me.go_on())?;
        Ok(crew)
    }

    /// How many tasks are not done; a folder that is not read to its end counts as one.
    pub fn left(&self) -> usize {
        let waiting = self.tasks.borrow().len() + self.found.borrow().len();
        waiting + usize::from(self.reading.borrow().is_some()) + self.pace.busy()
    }

    /// Leaves what is under way, once the loop has ended; nothing of it is reported.
    pub fn leave(&self) {
        // What a request is asked for holds its connection, and the connection the request.
        self.connections.iter().chain([&self.lister]).for_each(Connection::close);
    }

    /// Begins what can be begun.
    fn go_on(self: &Rc<Crew>) {
        loop {
            self.read_on();
            if self.idle.borrow().is_empty() {
                return;
            }
            let found = self.found.borrow_mut().pop_front();
            let task = match found {
                Some(task) => Some(task),
                // The order of what was asked for is kept.
                None if self.reading.borrow().is_some() => None,
                None => self.tasks.borrow_mut().pop_front(),
            };
            let Some(task) = task else { break };
            let Some(job) = self.next_job() else { return };
            match task {
                Task::GetFolder { folder, top, replaces } => {
                    self.rest(job);
                    let wanted = Wanted::new(&folder, true);
                    self.reading.replace(Some(Reading { wanted, folder, top, replaces, after: None }));
                }
                Task::Put(put, size) => self.put(job, put, size),
                Task::Get(get) => self.get(job, get),
            }
        }
        if self.pace.busy() == 0 && !self.is_asking.get() {
            self.remote.base().loop_break();
        }
    }

    /// One that is through, if there is one.
    fn next_job(&self) -> Option<Job> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|job| job.is_through);
        let job = at.map(|at| idle.swap_remove(at)).or_else(|| idle.pop());
        self.pace.set_resting(idle.iter().filter(|job| job.is_through).count());
        job
    }

    fn rest(&self, job: Job) {
        let mut idle = self.idle.borrow_mut();
        idle.push(job);
        self.pace.set_resting(idle.iter().filter(|job| job.is_through).count());
    }

    fn enter(&self, job: &Job, name: &str, size: Option<u64>, reply: ClientTimeouts) -> usize {
        let number = self.count.replace(self.count.get() + 1);
        self.pace.enter(number, job.refused.is_some());
        self.pace.begins(number, name, size);
        job.connection.set_timeouts(reply);
        number
    }

    fn put(self: &Rc<Crew>, job: Job, put: Put, size: Option<u64>) {
        let timeouts = ClientTimeouts { reply: STORING, ..ClientTimeouts::default() };
        let number = self.enter(&job, &put.name, size, timeouts);
        let (me, again, connection) = (Rc::clone(self), put.clone(), job.connection.clone());
        put::start(&self.remote, &connection, put, (Rc::clone(&self.pace), number), move |result| {
            me.ended(number, job, Task::Put(again, size), result.map(Done::Stored));
        });
    }

    fn get(self: &Rc<Crew>, job: Job, get: Get) {
        let size = get.known.map(|(size, _)| size);
        let number = self.enter(&job, &get.name, size, ClientTimeouts::default());
        let (me, again, connection) = (Rc::clone(self), get.clone(), job.connection.clone());
        let pace = (Rc::clone(&self.pace), number);
        get::start(&self.remote, &connection, get, &self.left_over, pace, move |result| {
            me.ended(number, job, Task::Get(again), result.map(Done::Fetched));
        });
    }

    fn ended(self: &Rc<Crew>, number: usize, mut job: Job, task: Task, result: Result<Done, ClientError>) {
        let result = result.map_err(|error| self.advised(error));
        if let Err(error) = &result
            && self.pace.is_for_others(number, error)
        {
            // It waits as long as others work: what it would have done they do.
            let retry = job.refused.get_or_insert_with(|| Retry::new(Duration::MAX));
            let wait = retry.failed(Duration::ZERO).unwrap_or_default();
            self.pace.waits(number, error, wait);
            self.pace.ends(number, Ending::GivenBack);
            self.found.borrow_mut().push_front(task);
            job.is_through = false;
            self.begin_later(job, wait);
            // One may have nothing to do.
            let me = Rc::clone(self);
            let _ = self.remote.base().once(Some(Duration::ZERO), move |_| me.go_on());
            return;
        }
        job.is_through = !result.as_ref().is_err_and(ClientError::is_overload);
        if job.is_through {
            job.refused = None;
        }
        self.pace.ends(number, if result.is_ok() { Ending::Done } else { Ending::Failed });
        let (name, path) = match task {
            Task::Put(Put { name, path, .. }, _) | Task::Get(Get { name, path, .. }) => (name, path),
            Task::GetFolder { folder, top, .. } => (folder, top),
        };
        self.report(Report { name, path, result });
        // What comes next begins when this is done.
        self.begin_later(job, Duration::ZERO);
    }

    fn begin_later(self: &Rc<Crew>, job: Job, wait: Duration) {
        let me = Rc::clone(self);
        let _ = self.remote.base().once(Some(wait), move |_| {
            me.rest(job);
            me.go_on();
        });
    }

    /// Who is one too many can ask for less.
    fn advised(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { status: 503, code, message } if self.connections.len() > 1 => {
                ClientError::Refused { status: 503, code, message: format!("{message}; take fewer --jobs") }
            }
            error => error,
        }
    }

    fn report(&self, report: Report) {
        let is_over = report.result.as_ref().is_err_and(ClientError::is_about_the_server);
        (self.on_report)(report);
        if is_over {
            self.remote.base().loop_break();
        }
    }

    /// Asks for more of the folder that is being read, if little is left of it.
    fn read_on(self: &Rc<Crew>) {
        if self.is_asking.get() || self.found.borrow().len() >= FEW {
            return;
        }
        let (wanted, after) = match &*self.reading.borrow() {
            Some(reading) => (reading.wanted.clone(), reading.after.clone()),
            None => return,
        };
        self.is_asking.set(true);
        let me = Rc::clone(self);
        page(&self.remote, &self.lister, &wanted, after.as_deref(), move |result| {
            me.is_asking.set(false);
            me.read(result);
            me.go_on();
        });
    }

    fn read(&self, result: Result<Page, ClientError>) {
        let Some(mut reading) = self.reading.take() else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                let name = if reading.folder.is_empty() { "/".to_owned() } else { reading.folder };
                return self.report(Report { name, path: reading.top, result: Err(error) });
            }
        };
        let mut refused = Vec::new();
        let mut found = (0, 0);
        for entry in page.entries {
            if entry.is_folder() {
                continue;
            }
            match place_below(&reading.top, &reading.folder, &entry.name) {
                Ok(path) => {
                    let known = entry.size.zip(entry.crc32c());
                    found = (found.0 + 1, known.map_or(found.1, |(size, _)| size.saturating_add(found.1)));
                    let get = Get { name: entry.name, path, replaces: reading.replaces, known };
                    self.found.borrow_mut().push_back(Task::Get(get));
                }
                Err(error) => {
                    refused.push(Report { name: entry.name, path: reading.top.clone(), result: Err(error) })
                }
            }
        }
        self.pace.finds(found.0, found.1);
        if let Some(next) = page.next {
            // A listing that goes on where it was would never end.
            match reading.after.as_ref().is_some_and(|after| *after >= next) {
                true => {
                    let result = Err(ClientError::strange(self.remote.server(), "its listing has no end"));
                    refused.push(Report { name: reading.folder.clone(), path: reading.top.clone(), result });
                }
                false => {
                    reading.after = Some(next);
                    self.reading.replace(Some(reading));
                }
            }
        } else {
            // A server may take few connections.
            self.lister.close();
        }
        refused.into_iter().for_each(|report| self.report(report));
    }
}
