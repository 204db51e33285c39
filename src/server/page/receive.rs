//! A form whose files become objects, one after the other, as they come.

use std::cell::RefCell;
use std::rc::Rc;

use logger::warn;
use reactor::http::{Body, BodyEvent, Request};

use crate::server::form::{self, Form, FormError, Head, Step};
use crate::server::grant::Grant;
use crate::server::problem::{Problem, upload_ended};
use crate::server::service::{Service, Uploading};
use crate::server::upload::CHECKED_EVERY;
use crate::server::{entity, target};
use crate::storage::{Changed, Class, Flow, Folder, Name, Precondition, PutOptions, StoreError, Upload};

/// Of a field that is no file, in bytes: a class, or the path of a folder.
const MOST_VALUE: usize = 1100;
/// Files whose failure is told one by one.
const MOST_TOLD: usize = 100;

/// What became of a form.
pub(crate) struct Outcome {
    pub(crate) folder: Folder,
    pub(crate) stored: u64,
    /// The names and problems of files that were not stored; the first hundred.
    pub(crate) failed: Vec<(String, Problem)>,
    pub(crate) more_failed: u64,
}

/// Answers the request of a form that was read.
type Answer = fn(&Rc<Service>, Request, Outcome);

/// Reads a form into a folder.
pub(crate) fn receive(service: &Rc<Service>, request: Request, folder: Folder, grant: Grant, answer: Answer) {
    let form = match check(service, &request) {
        Ok(form) => form,
        Err(problem) => return service.refuse(request, problem),
    };
    let uploading = service.begin_upload(request.body_length());
    let intake = Intake {
        service: Rc::clone(service),
        grant,
        form,
        answer,
        uploading,
        pending: Vec::new(),
        body: None,
        is_paused: false,
        ended: None,
        into: folder.clone(),
        class: Class::Low,
        replaces: false,
        has_file: false,
        late: None,
        part: Part::None,
        outcome: Outcome { folder, stored: 0, failed: Vec::new(), more_failed: 0 },
    };
    let intake = Rc::new(RefCell::new(intake));
    request.on_body(move |body, event| match event {
        BodyEvent::Data(data) => {
            {
                let mut intake = intake.borrow_mut();
                intake.body.get_or_insert_with(|| body.clone());
                let (at, len) = (intake.pending.len(), data.len());
                intake.pending.resize(at + len, 0);
                let n = intake.pending.get_mut(at..).map_or(0, |room| data.remove(room).unwrap_or(0));
                intake.pending.truncate(at + n);
                intake.uploading.arrived(n as u64);
            }
            advance(&intake);
        }
        BodyEvent::End(request) => {
            intake.borrow_mut().ended = Some(request);
            advance(&intake);
        }
        BodyEvent::Failed(error) => {
            let part = std::mem::replace(&mut intake.borrow_mut().part, Part::Over);
            if let Part::File(file) = &part {
                warn!(target: "storage", name = file.name.as_str(); "{}", upload_ended(error));
            }
            drop(part);
        }
    });
}

fn check(service: &Service, request: &Request) -> Result<Form, Problem> {
    let content_type = request.header("content-type").unwrap_or_default();
    if !form::is_form(content_type) {
        let message = "this takes a form of the type multipart/form-data; PUT stores plain bytes";
        return Err(Problem::new(415, "form_expected", message));
    }
    if let Some(coding) = request.headers().get("content-encoding").filter(|coding| !coding.is_empty()) {
        let message =
            format!("a form of the content coding {} is not taken: send it plain", coding.escape_ascii());
        return Err(Problem::new(415, "content_coding", message).header("Accept-Encoding", "identity"));
    }
    let form = Form::new(content_type).map_err(invalid)?;
    service.check_room(request.body_length().unwrap_or(0))?;
    Ok(form)
}

fn invalid(error: FormError) -> Problem {
    Problem::new(400, "form_invalid", format!("{error}: send it again"))
}

/// One form on its way in.
struct Intake {
    service: Rc<Service>,
    grant: Grant,
    form: Form,
    answer: Answer,
    uploading: Uploading,
    /// What has come and is not looked at yet: what is read at once, and the end of what was before.
    pending: Vec<u8>,
    body: Option<Body>,
    is_paused: bool,
    /// The body is whole.
    ended: Option<Request>,
    /// Where files go, what they become, and whether they may replace others; fields say so.
    into: Folder,
    class: Class,
    replaces: bool,
    /// A file has come.
    has_file: bool,
    /// What was said behind the last file, and is of no use.
    late: Option<String>,
    part: Part,
    outcome: Outcome,
}

enum Part {
    None,
    Value {
        field: String,
        value: Vec<u8>,
    },
    File(File),
    /// The rest of it is thrown away.
    Refused,
    /// The store finishes a file, or has no room: nothing is read meanwhile.
    Waiting,
    /// The form is answered, or given up.
    Over,
}

struct File {
    name: Name,
    upload: Upload,
    received: u64,
    checked: u64,
    /// The store works on what it has.
    is_full: bool,
}

/// Takes what is there, as far as the store does.
fn advance(intake: &Rc<RefCell<Intake>>) {
    let mut used = 0;
    loop {
        let mut me = intake.borrow_mut();
        let me = &mut *me;
        let is_held = match &me.part {
            Part::Waiting => true,
            Part::File(file) => file.is_full,
            Part::Over => return,
            _ => false,
        };
        if is_held {
            me.pending.drain(..used);
            return me.hold();
        }
        let step = me.form.step(me.pending.get(used..).unwrap_or_default());
        let (n, step) = match step {
            Ok(found) => found,
            Err(error) => return me.give_up(invalid(error)),
        };
        let range = used..used + n;
        used += n;
        match step {
            Step::More if n == 0 => {
                me.pending.drain(..used);
                break;
            }
            Step::More | Step::End => (),
            Step::Part(head) => me.begin(head, intake),
            Step::Data(_) => me.take(range),
            Step::PartEnd => match std::mem::replace(&mut me.part, Part::None) {
                Part::Value { field, value } => {
                    if let Err(problem) = me.set(&field, &value) {
                        return me.give_up(problem);
                    }
                }
                Part::File(file) => me.finish(file, intake),
                _ => (),
            },
        }
    }
    let mut me = intake.borrow_mut();
    if let Some(request) = me.ended.take() {
        me.part = Part::Over;
        let whole = me.form.finish();
        if let Some(field) = me.late.take() {
            let message = format!(
                "the field {field} stands behind the files, and says nothing of them: send it in front"
            );
            me.fail(&field, Problem::new(400, "form_invalid", message));
        }
        let (service, answer) = (Rc::clone(&me.service), me.answer);
        let folder = me.outcome.folder.clone();
        let empty = Outcome { folder, stored: 0, failed: Vec::new(), more_failed: 0 };
        let outcome = std::mem::replace(&mut me.outcome, empty);
        drop(me);
        match whole {
            Ok(()) => answer(&service, request, outcome),
            Err(error) => service.refuse(request, invalid(error)),
        }
    } else if std::mem::take(&mut me.is_paused)
        && let Some(body) = me.body.clone()
    {
        drop(me);
        body.resume();
    }
}

impl Intake {
    /// Has the client wait.
    fn hold(&mut self) {
        if let Some(body) = self.body.as_ref().filter(|_| self.ended.is_none()) {
            self.is_paused = true;
            body.pause();
        }
    }

    /// Answers before the form is whole; what was stored of it stays.
    fn give_up(&mut self, problem: Problem) {
        self.part = Part::Over;
        self.pending = Vec::new();
        let request = self.ended.take().or_else(|| self.body.as_ref().and_then(Body::take_request));
        if let Some(request) = request {
            self.service.refuse(request, problem);
        }
    }

    fn fail(&mut self, name: &str, problem: Problem) {
        match self.outcome.failed.len() < MOST_TOLD {
            true => self.outcome.failed.push((name.chars().take(300).collect(), problem)),
            false => self.outcome.more_failed += 1,
        }
    }

    fn begin(&mut self, head: Head, me: &Rc<RefCell<Intake>>) {
        if head.file.is_some() {
            self.has_file = true;
            self.late = None;
        }
        self.part = match head.file {
            None => Part::Value { field: head.name, value: Vec::new() },
            // A field where no file was chosen.
            Some(file) if file.is_empty() => Part::Refused,
            Some(file) => match self.open(&file, me) {
                Ok(file) => Part::File(file),
                Err(problem) => {
                    self.fail(&String::from_utf8_lossy(&file), problem);
                    Part::Refused
                }
            },
        };
    }

    fn open(&self, file: &[u8], me: &Rc<RefCell<Intake>>) -> Result<File, Problem> {
        let name = target::name(&[self.into.prefix().as_bytes(), file].concat())?;
        let store = self.service.store();
        let asked = if self.replaces { Precondition::None } else { Precondition::Absent };
        let precondition = self.grant.placing(store, &name, asked)?;
        store.check_free(&name)?;
        self.service.check_room(0)?;
        if !self.replaces {
            match store.stat(&name) {
                Err(StoreError::NotFound { .. }) => (),
                Ok(meta) => {
                    let found = StoreError::Precondition { name: name.clone(), found: Some(meta.version) };
                    let message =
                        format!("{name} is there already: send replace=yes before the file to replace it");
                    return Err(Problem::from(found).saying(message));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let waiting = Rc::downgrade(me);
        let on_room = move || {
            let Some(me) = waiting.upgrade() else { return };
            if let Part::File(file) = &mut me.borrow_mut().part {
                file.is_full = false;
            }
            advance(&me);
        };
        let options = PutOptions { precondition, ..PutOptions::default() };
        let upload = store.begin_put(&name, self.class, options, on_room)?;
        Ok(File { name, upload, received: 0, checked: 0, is_full: false })
    }

    fn take(&mut self, range: std::ops::Range<usize>) {
        let data = self.pending.get(range).unwrap_or_default();
        let failed = match &mut self.part {
            Part::Value { value, .. } => {
                // One that is longer is none of ours, or wrong.
                let room = (MOST_VALUE + 1).saturating_sub(value.len());
                value.extend_from_slice(data.get(..room).unwrap_or(data));
                None
            }
            Part::File(file) => file.take(&self.service, data).err(),
            _ => None,
        };
        if let Some(problem) = failed
            && let Part::File(file) = std::mem::replace(&mut self.part, Part::Refused)
        {
            self.fail(file.name.as_str(), problem);
        }
    }

    fn finish(&mut self, file: File, me: &Rc<RefCell<Intake>>) {
        self.part = Part::Waiting;
        let (name, me, grant) = (file.name, Rc::clone(me), self.grant.clone());
        file.upload.finish(move |result: Result<Changed, StoreError>| {
            {
                let mut me = me.borrow_mut();
                match result {
                    Ok(_) => me.outcome.stored += 1,
                    Err(error) => me.fail(name.as_str(), grant.explain(error, &name)),
                }
                // Given up meanwhile, it stays so.
                if matches!(me.part, Part::Waiting) {
                    me.part = Part::None;
                }
            }
            advance(&me);
        });
    }

    /// Takes a field that says what becomes of the files behind it.
    fn set(&mut self, field: &str, value: &[u8]) -> Result<(), Problem> {
        let text = String::from_utf8_lossy(value);
        if self.has_file && matches!(field, "class" | "replace" | "folder") {
            self.late = Some(field.to_owned());
        }
        match field {
            "class" => {
                self.class = entity::class(&text).ok_or_else(|| {
                    let message = format!("class={} is not known: write low or deep", text.escape_debug());
                    Problem::new(400, "class_invalid", message)
                })?;
            }
            "replace" => self.replaces = !matches!(&*text, "" | "no" | "false" | "0"),
            "folder" => {
                let whole = format!("{}{}", self.outcome.folder.prefix(), text.trim().trim_matches('/'));
                self.into = Folder::parse(&whole).map_err(|error| target::invalid(&whole, error))?;
            }
            _ => (),
        }
        Ok(())
    }
}

impl File {
    fn take(&mut self, service: &Service, data: &[u8]) -> Result<(), Problem> {
        self.received += data.len() as u64;
        service.check_length(self.received)?;
        if self.received - self.checked >= CHECKED_EVERY {
            self.checked = self.received;
            service.check_room(0)?;
        }
        self.is_full = self.upload.write(data)? == Flow::Full;
        Ok(())
    }
}
