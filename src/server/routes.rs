//! Which path is answered by what.

use std::rc::Rc;

use reactor::http::{Http, Request};

use super::authority::{self, Route};
use super::grant::Grant;
use super::needs::{self, NeedsOf};
use super::problem::Problem;
use super::service::Service;
use super::target::{self, Target};
use super::{admission, change, download, index, listing, metrics, original, page, upload};
use crate::storage::Folder;

/// Has the server's requests go to the handlers.
pub(crate) fn mount(http: &Http, service: &Rc<Service>) {
    let on = |pattern: &str, needs: NeedsOf, handler: fn(&Rc<Service>, Request, Grant)| {
        let service = Rc::clone(service);
        let route = Route { needs, handler };
        http.route(pattern, move |request| {
            if let Some(request) = admission::admit(&service, request) {
                authority::pass(&service, request, route);
            }
        });
    };
    on("/", needs::of_top, |service, request, grant| {
        gated(service, request, "GET, HEAD, POST, OPTIONS", |service, request| match request.method() {
            "POST" => page::upload(service, request, Folder::root(), grant),
            _ => page::folder(service, request, Folder::root(), &grant),
        });
    });
    on("/page/*", needs::nothing, |service, request, _| gated(service, request, READ, asset));
    // Browsers ask for it beside whatever they show that names no icon.
    on("/favicon.ico", needs::nothing, |service, request, _| {
        gated(service, request, READ, |_, request| page::assets::icon().send_fresh(request));
    });
    on("/files/*", needs::of_files, files);
    on("/files", needs::nothing, |_, request, _| {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        request.reply(308).header("Location", format!("/files/{query}")).send();
    });
    let downloads = format!("{}*", service.site().download_prefix());
    on(&downloads, needs::of_download, |service, request, _| {
        let prefix = service.site().download_prefix().len();
        gated(service, request, READ, |service, request| {
            let target = request.path().get(prefix..).map_or_else(|| Target::parse(""), Target::parse);
            match target.and_then(Target::object) {
                Ok(name) => download::get(service, request, &name),
                Err(problem) => service.refuse(request, problem),
            }
        });
    });
    on("/upload", needs::of_upload, |service, request, grant| {
        gated(service, request, "POST, PUT, OPTIONS", |service, request| {
            original::upload(service, request, &grant)
        });
    });
    on("/list", needs::of_list, |service, request, grant| {
        gated(service, request, READ, |service, request| original::list(service, request, &grant));
    });
    on("/remove", needs::of_remove, |service, request, _| {
        gated(service, request, "POST, DELETE, GET, OPTIONS", original::remove);
    });
    on("/reload", needs::admin, |service, request, _| {
        gated(service, request, "POST, GET, OPTIONS", original::reload);
    });
    on("/index", needs::admin, |service, request, _| {
        gated(service, request, "GET, HEAD, POST, OPTIONS", index::answer);
    });
    on("/healthz", needs::nothing, |service, request, _| {
        gated(service, request, READ, |_, request| metrics::health(request));
    });
    on("/readyz", needs::nothing, |service, request, _| gated(service, request, READ, metrics::readiness));
    on("/metrics", needs::admin, |service, request, _| gated(service, request, READ, metrics::get));
    let service = Rc::clone(service);
    http.fallback(move |request| {
        if (request.method(), request.path()) == ("OPTIONS", "*") {
            return request.reply(204).header("Allow", OF_OBJECTS).send();
        }
        let Some(request) = admission::admit(&service, request) else { return };
        nothing(&service, request);
    });
}

fn nothing(service: &Service, request: Request) {
    let message = format!("nothing is at {}: objects are below /files/", request.path().escape_debug());
    service.refuse(request, Problem::new(404, "no_such_path", message));
}

fn asset(service: &Rc<Service>, request: Request) {
    match page::assets::at(request.path()) {
        Some(asset) => asset.send(request),
        None => nothing(service, request),
    }
}

/// Lets through what has one of the methods.
fn gated(
    service: &Rc<Service>,
    request: Request,
    allowed: &'static str,
    handler: impl FnOnce(&Rc<Service>, Request),
) {
    match request.method() {
        "OPTIONS" => request.reply(204).header("Allow", allowed).send(),
        method if allowed.split(", ").any(|have| have == method) => handler(service, request),
        method => {
            let problem = Problem::method_not_allowed(method, allowed);
            service.refuse(request, problem);
        }
    }
}

const READ: &str = "GET, HEAD, OPTIONS";
const OF_OBJECTS: &str = "GET, HEAD, PUT, DELETE, POST, OPTIONS";
const OF_FOLDERS: &str = "GET, HEAD, DELETE, POST, OPTIONS";

fn files(service: &Rc<Service>, request: Request, grant: Grant) {
    let target = match Target::parse(request.path().strip_prefix("/files/").unwrap_or_default()) {
        Ok(target) => target,
        Err(problem) => return service.refuse(request, problem),
    };
    match (request.method(), target) {
        ("GET" | "HEAD", target) if asks_to_confirm(&request) => {
            page::confirm(service, request, target, &grant)
        }
        ("GET" | "HEAD", Target::Folder(folder)) if page::is_for(&request) => {
            page::folder(service, request, folder, &grant);
        }
        ("POST", Target::Folder(folder)) if page::takes_form(&request) => {
            page::upload(service, request, folder, grant);
        }
        ("GET" | "HEAD", Target::Object(name)) => download::get(service, request, &name),
        ("GET" | "HEAD", Target::Folder(folder)) => listing::get(service, request, folder, &grant),
        ("PUT", target) => match target.object() {
            Ok(name) => upload::put(service, request, name, grant),
            Err(problem) => service.refuse(request, problem),
        },
        ("DELETE", target) => change::delete(service, request, target),
        ("POST", target) => change::post(service, request, target, grant),
        ("OPTIONS", Target::Object(_)) => request.reply(204).header("Allow", OF_OBJECTS).send(),
        ("OPTIONS", Target::Folder(_)) => request.reply(204).header("Allow", OF_FOLDERS).send(),
        (method, target) => {
            let allowed = if matches!(target, Target::Object(_)) { OF_OBJECTS } else { OF_FOLDERS };
            let problem = Problem::method_not_allowed(method, allowed);
            service.refuse(request, problem);
        }
    }
}

/// Whether a person wants to remove something, and has not been asked yet whether it is meant so.
fn asks_to_confirm(request: &Request) -> bool {
    let is_about_delete = request.query().is_some_and(|query| query.contains("delete"));
    is_about_delete && page::is_for(request) && matches!(target::flag(request, "delete"), Ok(true))
}
