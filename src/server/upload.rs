//! Objects on their way in.

use std::cell::RefCell;
use std::rc::Rc;

use logger::warn;
use reactor::Evbuffer;
use reactor::http::{Body, BodyEvent, Request};

use super::conditions::{Conditions, Current};
use super::digest::{Algorithm, Expected, Verifier, Wanted};
use super::entity::{self, Entity};
use super::field;
use super::form;
use super::grant::Grant;
use super::json;
use super::problem::{Problem, upload_ended};
use super::service::{Service, Uploading};
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
pub(crate) fn put(service: &Rc<Service>, request: Request, name: Name, grant: Grant) {
    match check(service, &request, &name) {
        Ok(terms) => receive(service, request, name, terms, grant, stored),
        Err(problem) => service.refuse(request, problem.about(name.as_str())),
    }
}

pub(crate) const CLASSES: &[(&str, Class)] = &[("low", Class::Low), ("deep", Class::Deep)];

/// A smaller body is read before the store is asked whether its name is free: that is cheaper than to ask twice.
const LOOKED_AHEAD: u64 = 64 * 1024;

/// What can be refused before a byte of the body is read.
fn check(service: &Service, request: &Request, name: &Name) -> Result<Terms, Problem> {
    let headers = request.headers();
    for what in ["move", "copy", "delete"] {
        if target::parameter(request, what)?.is_some() {
            let message = format!("?{what} is for POST, and PUT stores its body: ask by POST");
            return Err(Problem::new(400, "parameter_invalid", message));
        }
    }
    let class = match target::word(request, "class", CLASSES)? {
        Some(class) => class,
        None => class_of(field::single(headers, "storage-class")?, "Storage-Class")?,
    };
    let expected =
        Expected::of(headers).map_err(|error| Problem::new(400, "digest_invalid", error.to_string()))?;
    let modified = modified_of(field::single(headers, "x-oc-mtime")?)?;
    check_body(service, request, name)?;
    let conditions = Conditions::of(headers);
    let precondition = match conditions == Conditions::default() {
        true => Precondition::None,
        // Where nothing can be stored anyway, they do not count.
        false => service.store().check_free(name).map_err(Problem::from).and_then(|()| {
            let current = match service.store().stat(name) {
                Ok(meta) => Some(Current::of(&meta, false)),
                Err(StoreError::NotFound { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            conditions.for_write(current).map_err(|_| conflict(name))
        })?,
    };
    let options = PutOptions {
        precondition,
        modified,
        sha256: Wanted::of(headers).has(Algorithm::Sha256),
        expected_sha256: expected.sha256,
        expected_crc32c: expected.crc32c,
        expected_size: None,
    };
    Ok(Terms { class, options, verifier: expected.verifier() })
}

/// Whether the body can be the whole of an object, and has room.
pub(crate) fn check_body(service: &Service, request: &Request, name: &Name) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.get("content-range").is_some() {
        let message = "a part of an object cannot be written: send the whole";
        return Err(Problem::new(400, "partial_put", message));
    }
    if request.body_length() == Some(0)
        && headers.get("content-length").is_none()
        && headers.get("transfer-encoding").is_none()
    {
        let message = "there is no body: send one, or Content-Length: 0 for an object without content";
        return Err(Problem::new(411, "length_required", message));
    }
    if request.header("content-type").is_some_and(form::is_form) {
        let message = "the body is a form, which would be stored as it is: send the plain bytes";
        return Err(Problem::new(415, "form_body", message));
    }
    let codings: Vec<&[u8]> = headers.all("content-encoding").collect();
    let codings = codings.join(&b", "[..]);
    if codings.split(|&byte| byte == b',').any(|coding| !is_no_coding(coding.trim_ascii())) {
        let codings = codings.escape_ascii();
        let message = format!("the content coding {codings} would be stored: send the plain bytes");
        return Err(Problem::new(415, "content_coding", message).header("Accept-Encoding", "identity"));
    }
    let length = request.body_length();
    service.check_length(length.unwrap_or(0))?;
    if length.is_none_or(|length| length > LOOKED_AHEAD) {
        service.store().check_free(name)?;
    }
    service.check_room(length.unwrap_or(0))
}

fn is_no_coding(coding: &[u8]) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

pub(crate) fn conflict(name: &Name) -> Problem {
    let message = format!("{name} is not as the request's condition says: read it again, then decide");
    Problem::new(412, "precondition_failed", message).about(name.as_str())
}

/// The class that a field asks for; low without it.
pub(crate) fn class_of(value: Option<&str>, field: &str) -> Result<Class, Problem> {
    let Some(text) = value else { return Ok(Class::Low) };
    entity::class(text).ok_or_else(|| {
        let message = format!("{field}: {} is not known: write low or deep", text.escape_debug());
        Problem::new(400, "class_invalid", message)
    })
}

/// `X-OC-Mtime`, which sync clients send: seconds since 1970, and some with a fraction.
fn modified_of(value: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = value else { return Ok(None) };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0, |micros, digit| micros * 10 + i64::from(digit.wrapping_sub(b'0')));
    let time = whole
        .parse::<i64>()
        .ok()
        .filter(|_| is_number(whole) && is_number(fraction))
        .and_then(|seconds| seconds.checked_mul(1_000_000)?.checked_add(micros))
        .filter(|time| entity::is_time(*time));
    time.map(Some).ok_or_else(|| {
        let message = format!(
            "X-OC-Mtime: {} is no time: write seconds since 1970, before the year 9999",
            text.escape_debug()
        );
        Problem::new(400, "time_invalid", message)
    })
}

/// Streams the body of a request into the store, where it is granted to be placed.
pub(crate) fn receive(
    service: &Rc<Service>,
    request: Request,
    name: Name,
    terms: Terms,
    grant: Grant,
    answer: Answer,
) {
    let Terms { class, mut options, verifier } = terms;
    match grant.placing(service.store(), &name, options.precondition) {
        Ok(precondition) => options.precondition = precondition,
        Err(problem) => return service.refuse(request, problem),
    }
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
    let mut intake = Intake {
        service: Rc::clone(service),
        name,
        grant,
        upload: Some(upload),
        verifier,
        uploading: service.begin_upload(request.body_length()),
        received: 0,
        checked: 0,
    };
    let mut is_known = false;
    request.on_body(move |body, event| {
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
    grant: Grant,
    /// None once it has failed.
    upload: Option<Upload>,
    verifier: Option<Verifier>,
    uploading: Uploading,
    received: u64,
    /// What had been received when the room on the disk was looked at.
    checked: u64,
}

/// How much of a body may come before the room on the disk is looked at again.
pub(crate) const CHECKED_EVERY: u64 = 4 * 1024 * 1024;

impl Intake {
    fn take(&mut self, body: &Body, data: &Evbuffer) {
        let Some(upload) = &self.upload else { return };
        self.received += data.len() as u64;
        self.uploading.arrived(data.len() as u64);
        let room = self.service.check_length(self.received).and_then(|()| {
            if self.received - self.checked < CHECKED_EVERY {
                return Ok(());
            }
            self.checked = self.received;
            // What was announced has its room.
            self.service.check_room(if self.uploading.is_announced() { 0 } else { CHECKED_EVERY })
        });
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
        let (service, name, grant) = (Rc::clone(&self.service), self.name.clone(), self.grant.clone());
        if let Some(Err(mismatch)) = self.verifier.take().map(Verifier::finish) {
            drop(upload);
            let problem = Problem::new(400, "digest_mismatch", mismatch.to_string());
            return service.refuse(request, problem.about(name.as_str()));
        }
        upload.finish(move |result| match result {
            Ok(changed) => answer(request, &name, &changed),
            Err(error) => service.refuse(request, grant.explain(error, &name)),
        });
    }
}

/// 201 for a new object, 200 for one that was replaced.
pub(crate) fn stored(request: Request, name: &Name, changed: &Changed) {
    let Some(meta) = changed.now else { return request.reply(204).send() };
    let status = if changed.before.is_some() { 200 } else { 201 };
    let has_time = request.method() == "PUT" && request.headers().get("x-oc-mtime").is_some();
    let entity = Entity { name, meta: &meta };
    let mut reply = entity.describe(request.reply(status));
    if status == 201 {
        reply = reply.header("Location", target::path("/files/", name.as_str()));
    }
    if has_time {
        reply = reply.header("X-OC-MTime", "accepted");
    }
    json::body(reply, &entity.shown()).send();
}
