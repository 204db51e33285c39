//! The interface of the program that this one follows, for its clients: their calls and their answers.
//!
//! | Call | What |
//! |---|---|
//! | `POST /upload` | stores the body; `FileName` is base64 of the name, `StorageType` is `low` (default) or `deep` |
//! | `GET /download/<name>` | brings an object |
//! | `GET /list` | all objects: `{"files":[{"url":…,"name":…,"size":…}]}` |
//! | `POST /remove` | removes the object `FileName` |
//! | `POST /reload` | has the forwarders connect again, now |
//!
//! Its own clients send GET for the last two; since `FileName` is needed for the first, no link can do harm.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use reactor::http::{BodyStream, Request};
use serde::Serialize;

use super::field;
use super::grant::Grant;
use super::json;
use super::problem::Problem;
use super::service::Service;
use super::target;
use super::upload::{self, Terms};
use crate::storage::{
    Changed, Entry, Folder, ListOptions, Name, Page, Precondition, PutOptions, Scope, StoreError,
};

/// Answers `POST /upload`.
pub(crate) fn upload(service: &Rc<Service>, request: Request, grant: &Grant) {
    let checked = file_name(&request).and_then(|name| {
        let class = upload::class_of(field::single(request.headers(), "storagetype")?, "StorageType")?;
        upload::check_body(service, &request, &name).map_err(|problem| problem.about(name.as_str()))?;
        Ok((name, class))
    });
    match checked {
        Ok((name, class)) => {
            let terms = Terms { class, options: PutOptions::default(), verifier: None };
            upload::receive(service, request, name, terms, grant.clone(), stored);
        }
        Err(problem) => service.refuse(request, problem),
    }
}

/// The header `FileName`: base64 of the UTF-8 name, with or without padding.
pub(crate) fn file_name(request: &Request) -> Result<Name, Problem> {
    let Some(text) = field::single(request.headers(), "filename")? else {
        let message = "the header FileName is missing: send the object's name in it, in base64";
        return Err(Problem::new(400, "name_missing", message));
    };
    let bytes = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).map_err(|_| {
        let message = format!("FileName: {} is not base64: encode the object's name so", text.escape_debug());
        Problem::new(400, "name_invalid", message)
    })?;
    target::name(&bytes)
}

#[derive(Serialize)]
struct Done<'a> {
    status: &'static str,
    message: &'static str,
    filename: &'a str,
}

fn succeed(request: Request, message: &'static str, name: &Name) {
    let done = Done { status: "success", message, filename: name.as_str() };
    json::body(request.reply(200), &done).send();
}

fn stored(request: Request, name: &Name, _: &Changed) {
    succeed(request, "File uploaded successfully", name);
}

/// Answers `POST /remove`.
pub(crate) fn remove(service: &Rc<Service>, request: Request) {
    let name = match file_name(&request) {
        Ok(name) => name,
        Err(problem) => return service.refuse(request, problem),
    };
    let store = service.store().clone();
    let (service, asked) = (Rc::clone(service), name.clone());
    store.delete(&name, Precondition::None, move |result| match result {
        Ok(_) => succeed(request, "File removed successfully", &asked),
        Err(error) => service.refuse(request, error.into()),
    });
}

#[derive(Serialize)]
struct Reloaded {
    status: &'static str,
    message: &'static str,
    /// Forwarders that are connected at this moment.
    connected: usize,
}

/// Answers `POST /reload`.
pub(crate) fn reload(service: &Rc<Service>, request: Request) {
    match service.site().forwarding() {
        Some(forwarding) => {
            forwarding.reconnect();
            let message = "The forwarders connect again now";
            let reloaded = Reloaded { status: "success", message, connected: forwarding.connected() };
            json::body(request.reply(200), &reloaded).send();
        }
        None => {
            let message = "nothing is forwarded: start the server with --backlog ADDRESS";
            service.refuse(request, Problem::new(409, "no_backlog", message));
        }
    }
}

/// Answers `GET /list`: what may be read.
pub(crate) fn list(service: &Rc<Service>, request: Request, grant: &Grant) {
    let is_head = request.method() == "HEAD";
    let stream = request
        .reply(200)
        .header("Content-Type", "application/json")
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-cache")
        .stream();
    if is_head {
        return stream.finish();
    }
    if stream.write(b"{\"files\":[").is_err() {
        return;
    }
    let listing = Rc::new(Listing {
        service: Rc::clone(service),
        scope: grant.scope(),
        after: RefCell::new(Some(None)),
        has_written: Cell::new(false),
    });
    stream.on_drained(move |stream| listing.advance(stream));
}

struct Listing {
    service: Rc<Service>,
    scope: Scope,
    /// Behind which name it goes on; None while a page is read.
    after: RefCell<Option<Option<String>>>,
    has_written: Cell<bool>,
}

#[derive(Serialize)]
struct File<'a> {
    url: &'a str,
    name: &'a str,
    size: u64,
}

impl Listing {
    fn advance(self: &Rc<Listing>, stream: &BodyStream) {
        let Some(after) = self.after.take() else { return };
        let scope = self.scope.clone();
        let options = ListOptions { after, is_deep: true, scope, ..ListOptions::default() };
        let (me, stream) = (Rc::clone(self), stream.clone());
        self.service.store().list(&Folder::root(), options, move |result| me.continued(&stream, result));
    }

    fn continued(self: &Rc<Listing>, stream: &BodyStream, result: Result<Page, StoreError>) {
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                logger::error!(target: "storage", "a listing was cut short: {error}");
                return stream.abort();
            }
        };
        let mut text = Vec::new();
        for entry in &page.entries {
            let Entry::Object { name, meta, .. } = entry else { continue };
            let separator: &[u8] = if self.has_written.replace(true) { b",\n" } else { b"\n" };
            text.extend_from_slice(separator);
            let url = target::path(self.service.site().download_prefix(), name.as_str());
            let file = File { url: &url, name: name.as_str(), size: meta.size };
            // A structure of text and a number can be written.
            let _ = serde_json::to_writer(&mut text, &file);
        }
        let is_last = page.next.is_none();
        if is_last {
            text.extend_from_slice(b"\n]}\n");
        }
        if stream.write(&text).is_err() {
            return;
        }
        if is_last {
            stream.finish();
        } else {
            self.after.replace(Some(page.next));
        }
    }
}
