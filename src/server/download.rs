//! Objects on their way out.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::SystemTime;

use reactor::Evbuffer;
use reactor::http::{BodyStream, Reply, Request};

use super::accept;
use super::conditions::{Conditions, Current, Verdict};
use super::digest::Wanted;
use super::entity;
use super::media;
use super::problem::Problem;
use super::range::{self, Multipart, Piece, Selection};
use super::service::Service;
use super::stream::{Part, Pump};
use super::{target, upload};
use crate::storage::{Class, Meta, Name, Object};

/// Answers GET and HEAD for an object.
pub(crate) fn get(service: &Rc<Service>, request: Request, name: &Name) {
    match service.store().open_read(name) {
        Ok(object) => send(service, request, object),
        Err(error) => service.refuse(request, error.into()),
    }
}

fn send(service: &Rc<Service>, request: Request, object: Object) {
    let headers = request.headers();
    let meta = *object.meta();
    // A range is one of the content; the packed bytes go out whole, to those who unpack them.
    let has_range = request.method() == "GET" && headers.get("range").is_some();
    let conditions = Conditions::of(headers);
    let is_gzip = meta.class == Class::Deep
        && !has_range
        && accept::prefers_gzip(headers)
        && !is_about_content(&conditions, &meta);
    let current = Current::of(&meta, is_gzip);
    let is_download = match target::flag(&request, "download") {
        Ok(is_download) => is_download,
        Err(problem) => return service.refuse(request, problem),
    };
    let selection = match conditions.for_read(current) {
        Verdict::NotModified => return common(request.reply(304), &object, current).send(),
        Verdict::Failed => return service.refuse(request, upload::conflict(object.name())),
        Verdict::Proceed { allows_range: true } if has_range => Selection::of(headers, meta.size),
        Verdict::Proceed { .. } => Selection::Whole,
    };
    let content_type = media::content_type(object.name().as_str());
    match selection {
        Selection::Unsatisfiable => {
            let message = format!("the object has {} bytes, and none of the range is among them", meta.size);
            let problem = Problem::new(416, "range_not_satisfiable", message)
                .about(object.name().as_str())
                .header("Content-Range", range::unsatisfied_range(meta.size));
            service.refuse(request, problem);
        }
        Selection::Whole if is_gzip => {
            let reply = describe(request, 200, &object, current, content_type, is_download)
                .header("Content-Encoding", "gzip")
                .header("Accept-Ranges", "none");
            reply_raw(reply, &object, 0..object.raw_len());
        }
        Selection::Whole => {
            let reply = describe(request, 200, &object, current, content_type, is_download)
                .header("Accept-Ranges", "bytes");
            reply_range(service, reply, object, 0..meta.size);
        }
        Selection::One(bytes) => {
            let reply = describe(request, 206, &object, current, content_type, is_download)
                .header("Accept-Ranges", "bytes")
                .header("Content-Range", range::content_range(&bytes, meta.size));
            reply_range(service, reply, object, bytes);
        }
        Selection::Several(ranges) => {
            let parts = Multipart::new(ranges, meta.size, content_type);
            let reply = describe(request, 206, &object, current, &parts.content_type(), is_download)
                .header("Accept-Ranges", "bytes");
            let stream = reply.stream_sized(parts.content_length());
            let queue = parts.pieces().map(|piece| match piece {
                Piece::Text(text) => Part::Bytes(text.as_bytes().to_vec()),
                Piece::Content(bytes) => Part::Content(bytes),
            });
            pump(service, stream, object, queue.collect());
        }
    }
}

/// Whether the conditions name the content as it is, and not the packed form: then it is what the client has or wants, also
/// if it would take the packed form as well.
fn is_about_content(conditions: &Conditions, meta: &Meta) -> bool {
    let [packed, content] = [true, false].map(|is_gzip| conditions.for_read(Current::of(meta, is_gzip)));
    match packed {
        Verdict::Proceed { .. } => content == Verdict::NotModified,
        Verdict::Failed => content != Verdict::Failed,
        Verdict::NotModified => false,
    }
}

/// The headers of 200, 206 and 304.
fn common(reply: Reply, object: &Object, current: Current) -> Reply {
    let mut reply = reply
        .header("ETag", current.tag.to_string())
        // Stored by anybody, changed at any time: ask before each use.
        .header("Cache-Control", "no-cache");
    if let Some(modified) = entity::last_modified(object.meta(), SystemTime::now()) {
        reply = reply.header("Last-Modified", modified);
    }
    if object.meta().class == Class::Deep {
        reply = reply.header("Vary", "Accept-Encoding");
    }
    reply
}

fn describe(
    request: Request,
    status: u16,
    object: &Object,
    current: Current,
    content_type: &str,
    is_download: bool,
) -> Reply {
    // The digests of the packed form are not known.
    let digest = match current.tag.is_gzip {
        true => None,
        false => Wanted::of(request.headers()).repr_digest(object.meta()),
    };
    let mut reply = common(request.reply(status), object, current)
        .header("Content-Type", content_type)
        .header("Storage-Class", entity::class_name(object.meta().class))
        // What is stored must not run as a page of ours.
        .header("X-Content-Type-Options", "nosniff");
    // Browsers show no PDF in a sandbox; their viewers are one.
    if content_type != media::PDF {
        reply = reply.header("Content-Security-Policy", "sandbox");
    }
    if is_download {
        reply = reply.header("Content-Disposition", media::attachment(object.name().leaf()));
    }
    if let Some(digest) = digest {
        reply = reply.header("Repr-Digest", digest);
    }
    reply
}

/// Sends bytes as they lie on the disk.
fn reply_raw(reply: Reply, object: &Object, bytes: Range<u64>) {
    let buffer = Evbuffer::new();
    match object.append_raw(&buffer, bytes) {
        Ok(()) => reply.buffer(&buffer).send(),
        // A range within the file, into a buffer of ours.
        Err(_) => drop(reply),
    }
}

/// Sends a range of the content.
fn reply_range(service: &Rc<Service>, reply: Reply, object: Object, bytes: Range<u64>) {
    if object.meta().class == Class::Low {
        return reply_raw(reply, &object, bytes);
    }
    let length = bytes.end - bytes.start;
    let is_head = reply.request().method() == "HEAD";
    let stream = reply.stream_sized(length);
    if is_head {
        // Nothing is unpacked to be thrown away.
        return stream.finish();
    }
    pump(service, stream, object, [Part::Content(bytes)].into());
}

fn pump(service: &Rc<Service>, stream: BodyStream, object: Object, parts: VecDeque<Part>) {
    let name = object.name().clone();
    let service = Rc::clone(service);
    Pump::start(stream, object, parts, move |error| service.report(&name, &error));
}
