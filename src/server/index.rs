//! The index of the store, for its keeper: compared, rebuilt, written out and read in while the store works.
//!
//! | Call | What |
//! |---|---|
//! | `GET /index` | the index, an object in JSON a line |
//! | `POST /index?check` | what differs from the objects |
//! | `POST /index?rebuild` | the same, mended |
//! | `POST /index?import` | takes the body, such a list, for what it knows and the objects lack |

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use logger::{error, info, warn};
use reactor::Evbuffer;
use reactor::http::{Body, BodyEvent, BodyStream, Request};
use serde::Serialize;

use super::json;
use super::problem::Problem;
use super::service::Service;
use super::target;
use crate::storage::{Difference, Export, Flow, Import, ImportReport, IndexReport, StoreError};

/// Foreign files that are named.
const MOST_NAMED: usize = 1000;

/// Answers GET, HEAD and POST.
pub(crate) fn answer(service: &Rc<Service>, request: Request) {
    if request.method() != "POST" {
        return export(service, request);
    }
    let asked = |act| target::flag(&request, act);
    let asked = (|| Ok::<_, Problem>([asked("check")?, asked("rebuild")?, asked("import")?]))();
    match asked {
        Ok([true, false, false]) => audit(service, request, false),
        Ok([false, true, false]) => audit(service, request, true),
        Ok([false, false, true]) => import(service, request),
        Err(problem) => service.refuse(request, problem),
        Ok(_) => {
            let message = "say what is to be done: one of ?check, ?rebuild and ?import";
            service.refuse(request, Problem::new(400, "parameter_invalid", message));
        }
    }
}

#[derive(Serialize)]
struct ReportShown<'a> {
    /// That the index knows.
    objects: u64,
    /// Names at which index and objects differ, or differed before they were mended.
    different: u64,
    /// The first 1000 of them.
    differences: Vec<DifferenceShown<'a>>,
    /// Files that are no objects.
    foreign: u64,
    /// The first 1000 of them.
    foreign_files: Vec<ForeignShown<'a>>,
}

#[derive(Serialize)]
struct DifferenceShown<'a> {
    name: &'a str,
    what: &'static str,
}

#[derive(Serialize)]
struct ForeignShown<'a> {
    path: &'a str,
    why: &'a str,
}

fn difference_name(difference: Difference) -> &'static str {
    match difference {
        Difference::NotInIndex => "not_in_index",
        Difference::NoFile => "no_file",
        Difference::OtherMetadata => "other_metadata",
        Difference::NoMetadata => "no_metadata",
        Difference::CutShort => "cut_short",
    }
}

fn audit(service: &Rc<Service>, request: Request, is_repair: bool) {
    let store = service.store().clone();
    let service = Rc::clone(service);
    let done = move |result: Result<IndexReport, StoreError>| {
        let reported = result.and_then(|report| Ok((report, service.store().foreign()?)));
        match reported {
            Ok((report, files)) => {
                let what = if is_repair { "rebuilt" } else { "checked" };
                info!(
                    target: "storage",
                    objects = report.objects, different = report.different, foreign = report.foreign;
                    "the index was {}", what
                );
                report_to(request, &report, &files);
            }
            Err(error) => service.refuse(request, error.into()),
        }
    };
    if is_repair { store.rebuild_index(done) } else { store.check_index(done) }
}

fn report_to(request: Request, report: &IndexReport, files: &[(String, String)]) {
    let differences = report.differences.iter();
    let shown = ReportShown {
        objects: report.objects,
        different: report.different,
        differences: differences
            .map(|(name, what)| DifferenceShown { name: name.as_str(), what: difference_name(*what) })
            .collect(),
        foreign: report.foreign,
        foreign_files: files.iter().take(MOST_NAMED).map(|(path, why)| ForeignShown { path, why }).collect(),
    };
    json::body(request.reply(200).header("Cache-Control", "no-store"), &shown).send();
}

fn export(service: &Rc<Service>, request: Request) {
    let piece = Evbuffer::new();
    let (service, first) = (Rc::clone(service), piece.clone());
    // What fails at once can be told.
    service.store().export_index().next(&piece, move |result| match result {
        Ok((export, n)) => begin_export(request, export, n, first),
        Err(error) => service.refuse(request, error.into()),
    });
}

fn begin_export(request: Request, export: Export, n: u64, piece: Evbuffer) {
    let is_head = request.method() == "HEAD";
    let reply = request
        .reply(200)
        .header("Content-Type", "application/x-ndjson")
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-store");
    let stream = reply.stream();
    if is_head || n == 0 {
        return stream.finish();
    }
    let writer = Rc::new(ExportWriter { export: Cell::new(Some(export)), piece });
    writer.write(&stream);
    stream.on_drained(move |stream| writer.advance(stream));
}

/// Writes piece after piece, as the client takes them.
struct ExportWriter {
    /// None while the store is at work on the next piece.
    export: Cell<Option<Export>>,
    piece: Evbuffer,
}

impl ExportWriter {
    fn write(&self, stream: &BodyStream) {
        // A client that has left ends the stream by itself.
        let _ = stream.write_buffer(&self.piece);
    }

    fn advance(self: &Rc<ExportWriter>, stream: &BodyStream) {
        let Some(export) = self.export.take() else { return };
        let (me, stream) = (Rc::clone(self), stream.clone());
        export.next(&self.piece, move |result| match result {
            Ok((_, 0)) => stream.finish(),
            Ok((export, _)) => {
                me.export.set(Some(export));
                me.write(&stream);
            }
            Err(error) => {
                error!(target: "storage", "an export of the index was cut short: {error}");
                stream.abort();
            }
        });
    }
}

#[derive(Serialize)]
struct ImportShown {
    entries: u64,
    updated: u64,
    missing: u64,
}

fn import(service: &Rc<Service>, request: Request) {
    // The body whose reading goes on when the store has room.
    let reading: Rc<RefCell<Option<Body>>> = Rc::default();
    let paused = Rc::clone(&reading);
    let import = service.store().import_index(move || {
        let body = paused.borrow().clone();
        if let Some(body) = body {
            body.resume();
        }
    });
    let service = Rc::clone(service);
    let mut import = Some(import);
    request.on_body(move |body, event| match event {
        BodyEvent::Data(data) => {
            reading.borrow_mut().get_or_insert_with(|| body.clone());
            let Some(writing) = &import else { return };
            match writing.write_buffer(data) {
                Ok(Flow::Open) => (),
                Ok(Flow::Full) => body.pause(),
                Err(error) => {
                    import = None;
                    if let Some(request) = body.take_request() {
                        service.refuse(request, error.into());
                    }
                }
            }
        }
        BodyEvent::End(request) => {
            if let Some(import) = import.take() {
                finish(&service, request, import);
            }
        }
        BodyEvent::Failed(error) => {
            import = None;
            warn!(target: "storage", "a list of objects ended before it was whole, and what came was taken: {error}");
        }
    });
}

fn finish(service: &Rc<Service>, request: Request, import: Import) {
    let service = Rc::clone(service);
    import.finish(move |result| match result {
        Ok(ImportReport { entries, updated, missing }) => {
            info!(target: "storage", entries = entries, updated = updated, missing = missing; "a list of objects was taken in");
            json::body(request.reply(200), &ImportShown { entries, updated, missing }).send();
        }
        Err(error) => service.refuse(request, error.into()),
    });
}
