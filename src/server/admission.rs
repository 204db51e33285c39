//! What is looked at before any handler: who asks, and for which name.

use std::rc::Rc;

use reactor::http::Request;

use super::origin::{Ask, Verdict};
use super::problem::Problem;
use super::service::Service;

/// What pages of granted origins may ask for.
const METHODS: &str = "GET, HEAD, PUT, POST, DELETE";
/// What they may read of an answer, besides what every page may.
const EXPOSED: &str = "Accept-Ranges, Content-Disposition, Content-Encoding, Content-Range, ETag, Location, Repr-Digest, \
    Storage-Class, X-OC-MTime";
/// How long a browser may remember what it is granted, in seconds: a change of the setting shows after that.
const REMEMBERED: &str = "600";
/// Calls that change something by GET too.
const CHANGING: [&str; 2] = ["/remove", "/reload"];

/// Gives back a request that may go to its handler; answers another.
pub(crate) fn admit(service: &Rc<Service>, mut request: Request) -> Option<Request> {
    let is_change =
        !matches!(request.method(), "GET" | "HEAD" | "OPTIONS") || CHANGING.contains(&request.path());
    let policy = service.policy();
    // The way of most requests is short.
    let (origin, site) = match is_change || policy.grants_any() {
        true => (text(&request, "origin"), text(&request, "sec-fetch-site")),
        false => (None, None),
    };
    let ask = Ask { is_change, host: request.host(), origin, site };
    let verdict = policy.judge(ask);
    let granted =
        origin.filter(|_| verdict == Verdict::Grant).map(|origin| policy.allowed(origin).to_owned());
    let varies = policy.varies();
    drop(policy);
    if varies {
        request.add_reply_header("Vary", "Origin");
    }
    match verdict {
        Verdict::Pass => Some(request),
        Verdict::Grant => {
            let granted = granted.unwrap_or_default();
            if request.method() == "OPTIONS" && request.header("access-control-request-method").is_some() {
                allow(request, &granted);
                return None;
            }
            request.add_reply_header("Access-Control-Allow-Origin", granted);
            request.add_reply_header("Access-Control-Expose-Headers", EXPOSED);
            Some(request)
        }
        Verdict::Foreign => {
            let message = format!(
                "a page of another origin ({}) may change nothing here: if it should, name its origin in the setting cors",
                text(&request, "origin").unwrap_or("unnamed").escape_debug()
            );
            service.refuse(request, Problem::new(403, "foreign_origin", message));
            None
        }
        Verdict::Misdirected => {
            let message = format!(
                "{} is no name of this server: use its address, or have the setting hosts name it",
                request.host().unwrap_or_default().escape_debug()
            );
            service.refuse(request, Problem::new(421, "misdirected", message));
            None
        }
    }
}

/// What is no text is nothing that a browser of the user sends.
fn text<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers().get(name).map(|value| std::str::from_utf8(value).unwrap_or_default())
}

/// Answers a browser that asks whether a page may ask (a preflight).
fn allow(request: Request, granted: &str) {
    let fields = text(&request, "access-control-request-headers").unwrap_or_default().to_owned();
    let mut reply = request
        .reply(204)
        .header("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
        .header("Access-Control-Allow-Origin", granted)
        .header("Access-Control-Allow-Methods", METHODS)
        .header("Access-Control-Max-Age", REMEMBERED);
    // An origin that may ask may say all that it likes.
    if !fields.is_empty() {
        reply = reply.header("Access-Control-Allow-Headers", fields);
    }
    reply.send();
}
