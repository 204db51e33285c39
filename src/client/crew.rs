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
use super::parts::LeftOver;
use super::progress::Watch;
use super::put::{self, Put, Stored};
use super::remote::Remote;

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
    watch: Rc<dyn Watch>,
    left_over: Rc<LeftOver>,
    tasks: RefCell<VecDeque<Task>>,
    /// What folders have given; it goes first.
    found: RefCell<VecDeque<Task>>,
    /// The folder that is being read.
    reading: RefCell<Option<Reading>>,
    is_asking: Cell<bool>,
    idle: RefCell<Vec<Connection>>,
    lister: Connection,
    busy: Cell<usize>,
    count: Cell<usize>,
    on_report: Box<dyn Fn(Report)>,
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
        let idle = (0..jobs.max(1)).map(|_| remote.connection()).collect::<Result<_, ClientError>>()?;
        let crew = Rc::new(Crew {
            remote: remote.clone(),
            watch,
            left_over: Rc::default(),
            tasks: RefCell::new(tasks.into_iter().collect()),
            found: RefCell::default(),
            reading: RefCell::default(),
            is_asking: Cell::new(false),
            idle: RefCell::new(idle),
            lister: remote.connection()?,
            busy: Cell::new(0),
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
        waiting + usize::from(self.reading.borrow().is_some()) + self.busy.get()
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
            let connection = self.idle.borrow_mut().pop();
            let Some(connection) = connection else { return };
            match task {
                Task::GetFolder { folder, top, replaces } => {
                    self.idle.borrow_mut().push(connection);
                    let wanted = Wanted::new(&folder, true);
                    self.reading.replace(Some(Reading { wanted, folder, top, replaces, after: None }));
                }
                Task::Put(put, size) => self.put(connection, put, size),
                Task::Get(get) => self.get(connection, get),
            }
        }
        if self.busy.get() == 0 && !self.is_asking.get() {
            self.remote.base().loop_break();
        }
    }

    fn next_number(&self) -> usize {
        self.busy.set(self.busy.get() + 1);
        self.count.replace(self.count.get() + 1)
    }

    fn put(self: &Rc<Crew>, connection: Connection, put: Put, size: Option<u64>) {
        let number = self.next_number();
        self.watch.begins(number, &put.name, size);
        connection.set_timeouts(ClientTimeouts { reply: STORING, ..ClientTimeouts::default() });
        let (me, name, path) = (Rc::clone(self), put.name.clone(), put.path.clone());
        let kept = connection.clone();
        put::start(&self.remote, &connection, put, (Rc::clone(&self.watch), number), move |result| {
            me.ended(number, kept, Report { name, path, result: result.map(Done::Stored) });
        });
    }

    fn get(self: &Rc<Crew>, connection: Connection, get: Get) {
        let number = self.next_number();
        connection.set_timeouts(ClientTimeouts::default());
        self.watch.begins(number, &get.name, get.known.map(|(size, _)| size));
        let (me, name, path) = (Rc::clone(self), get.name.clone(), get.path.clone());
        let kept = connection.clone();
        let watch = (Rc::clone(&self.watch), number);
        get::start(&self.remote, &connection, get, &self.left_over, watch, move |result| {
            me.ended(number, kept, Report { name, path, result: result.map(Done::Fetched) });
        });
    }

    fn ended(self: &Rc<Crew>, number: usize, connection: Connection, report: Report) {
        self.watch.ends(number);
        self.busy.set(self.busy.get() - 1);
        self.idle.borrow_mut().push(connection);
        self.report(report);
        // What comes next begins when this is done.
        let me = Rc::clone(self);
        let _ = self.remote.base().once(Some(Duration::ZERO), move |_| me.go_on());
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
        self.watch.finds(found.0, found.1);
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
        }
        refused.into_iter().for_each(|report| self.report(report));
    }
}
