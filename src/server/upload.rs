//! Objects on their way in.

use std::cell::RefCell;
use std::rc::Rc;

use logger::warn;
use reactor::Evbuffer;
use reactor::http::{Body, BodyEvent, Request};

use super::conditions::{Conditions, Current};
use super::digest::{Algorithm, Expected, Verifier, Wanted};
use super::entity::{self, Entity};
use super::json;
use super::problem::{Problem, upload_ended};
use super::service::Service;
use super::target;
use crate::storage::{Changed, Class, Flow, Name, Precondition, PutOptions, StoreError, Upload};

/// On what terms a body becomes an object.
pub(crate) struct Terms {
    pub(crate) class: Class,
    pub(crate) options: PutOptions,
    /// Checks what the store does not.
    pub(crate) verifier: Option<Verifier>,
}

/// How a stored object is answered.
pub(crate) type Answer = fn(Request, &Name, &Changed);

/// Takes the body of a request in as an object.
pub(crate) fn put(service: &Rc<Service>, request: Request, name: Name) {
    match check(service, &request, &name) {
        Ok(terms) => receive(service, request, name, terms, stored),
        Err(problem) => service.refuse(request, problem),
    }
}

/// A smaller body is read before the store is asked whether its name is free: that is cheaper than to ask twice.
const LOOKED_AHEAD: u64 = 64 * 1024;

/// What can be refused before a byte of the body is read.
fn check(service: &Service, request: &Request, name: &Name) -> Result<Terms, Problem> {
    let headers = request.headers();
    if headers.get("content-range").is_some() {
        let message = "a part of an object cannot be written: send the whole";
        return Err(Problem::new(400, "partial_put", message).about(name.as_str()));
    }
    if let Some(coding) = request.header("content-encoding")
        && !coding.eq_ignore_ascii_case("identity")
    {
        let message =
            format!("the content coding {} would be stored: send the plain bytes", coding.escape_debug());
        return Err(Problem::new(415, "content_coding", message)
            .about(name.as_str())
            .header("Accept-Encoding", "identity"));
    }
    let class = class_of(request)?;
    let precondition = precondition(service, &Conditions::of(headers), name)?;
    if request.body_length().is_none_or(|length| length > LOOKED_AHEAD) {
        service.store().check_free(name)?;
    }
    let expected = Expected::of(headers)
        .map_err(|error| Problem::new(400, "digest_invalid", error.to_string()).about(name.as_str()))?;
    let options = PutOptions {
        precondition,
        modified: modified_of(request)?,
        sha256: Wanted::of(headers).has(Algorithm::Sha256),
        expected_sha256: expected.sha256,
        expected_crc32c: expected.crc32c,
        expected_size: None,
    };
    service.check_room(request.body_length().unwrap_or(0)).map_err(|problem| problem.about(name.as_str()))?;
    Ok(Terms { class, options, verifier: expected.verifier() })
}

/// What the conditions of a request ask of an object when it is changed.
pub(crate) fn precondition(
    service: &Service,
    conditions: &Conditions,
    name: &Name,
) -> Result<Precondition, Problem> {
    if *conditions == Conditions::default() {
        return Ok(Precondition::None);
    }
    let current = match service.store().stat(name) {
        Ok(meta) => Some(Current::of(&meta, false)),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    conditions.for_write(current).map_err(|_| conflict(name))
}

pub(crate) fn conflict(name: &Name) -> Problem {
    let message = format!("{name} is not as the request's condition says: read it again, then decide");
    Problem::new(412, "precondition_failed", message).about(name.as_str())
}

fn class_of(request: &Request) -> Result<Class, Problem> {
    match request.header("storage-class") {
        None => Ok(Class::Low),
        Some(text) => entity::class(text).ok_or_else(|| {
            let message = format!("Storage-Class: {} is not known: write low or deep", text.escape_debug());
            Problem::new(400, "class_invalid", message)
        }),
    }
}

/// `X-OC-Mtime`, which sync clients send: seconds since 1970.
fn modified_of(request: &Request) -> Result<Option<i64>, Problem> {
    let Some(text) = request.header("x-oc-mtime") else { return Ok(None) };
    let seconds = text.split('.').next().unwrap_or_default();
    let micros = seconds.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    micros.filter(|micros| *micros >= 0).map(Some).ok_or_else(|| {
        let message =
            format!("X-OC-Mtime: {} is no time: write whole seconds since 1970", text.escape_debug());
        Problem::new(400, "time_invalid", message)
    })
}

/// Streams the body of a request into the store.
pub(crate) fn receive(service: &Rc<Service>, request: Request, name: Name, terms: Terms, answer: Answer) {
    let Terms { class, options, verifier } = terms;
    // The body whose reading goes on when the store has room.
    let reading: Rc<RefCell<Option<Body>>> = Rc::default();
    let paused = Rc::clone(&reading);
    let on_room = move || {
        let body = paused.borrow().clone();
        if let Some(body) = body {
            body.resume();
        }
    };
    let upload = match service.store().begin_put(&name, class, options, on_room) {
        Ok(upload) => upload,
        Err(error) => return service.refuse(request, error.into()),
    };
    let mut intake =
        Intake { service: Rc::clone(service), name, upload: Some(upload), verifier, unchecked: 0 };
    let mut is_known = false;
    let progress = service.begin_upload();
    request.on_body(move |body, event| {
        let _ = &progress;
        if !is_known {
            reading.replace(Some(body.clone()));
            is_known = true;
        }
        match event {
            BodyEvent::Data(data) => intake.take(body, data),
            BodyEvent::End(request) => intake.finish(request, answer),
            BodyEvent::Failed(error) => {
                intake.upload = None;
                warn!(target: "storage", name = intake.name.as_str(); "{}", upload_ended(error));
            }
        }
    });
}

/// One upload of one request.
struct Intake {
    service: Rc<Service>,
    name: Name,
    /// None once it has failed.
    upload: Option<Upload>,
    verifier: Option<Verifier>,
    /// Bytes since the room on the disk was looked at.
    unchecked: u64,
}

/// How much of a body may come before the room on the disk is looked at again.
const CHECKED_EVERY: u64 = 64 * 1024 * 1024;

impl Intake {
    fn take(&mut self, body: &Body, data: &Evbuffer) {
        let Some(upload) = &self.upload else { return };
        self.unchecked += data.len() as u64;
        let room = match self.unchecked >= CHECKED_EVERY {
            true => {
                self.unchecked = 0;
                self.service.check_room(CHECKED_EVERY)
            }
            false => Ok(()),
        };
        if let Some(verifier) = &mut self.verifier
            && let Ok(bytes) = data.peek(..)
        {
            bytes.slices().for_each(|slice| verifier.update(slice));
        }
        let flow = room.and_then(|()| upload.write_buffer(data).map_err(Problem::from));
        match flow {
            Ok(Flow::Open) => (),
            Ok(Flow::Full) => body.pause(),
            Err(problem) => {
                self.upload = None;
                if let Some(request) = body.take_request() {
                    self.service.refuse(request, problem.about(self.name.as_str()));
                }
            }
        }
    }

    fn finish(&mut self, request: Request, answer: Answer) {
        let Some(upload) = self.upload.take() else { return };
        let (service, name) = (Rc::clone(&self.service), self.name.clone());
        if let Some(Err(mismatch)) = self.verifier.take().map(Verifier::finish) {
            let problem = Problem::new(400, "digest_mismatch", mismatch.to_string());
            return service.refuse(request, problem.about(name.as_str()));
        }
        upload.finish(move |result| match result {
            Ok(changed) => answer(request, &name, &changed),
            Err(error) => service.refuse(request, error.into()),
        });
    }
}

/// 201 for a new object, 200 for one that was replaced.
pub(crate) fn stored(request: Request, name: &Name, changed: &Changed) {
    let Some(meta) = changed.now else { return request.reply(204).send() };
    let status = if changed.before.is_some() { 200 } else { 201 };
    let had_time = request.header("x-oc-mtime").is_some();
    let entity = Entity { name, meta: &meta };
    let mut reply = entity.describe(request.reply(status));
    if status == 201 {
        reply = reply.header("Location", target::path("/files/", name.as_str()));
    }
    if had_time {
        reply = reply.header("X-OC-MTime", "accepted");
    }
    json::body(reply, &entity.shown()).send();
}
