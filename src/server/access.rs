//! A record and some counts of each answer, and records of those that no handler gave.

use std::rc::Rc;

use logger::kv::Value;
use logger::{debug, error, info, warn};
use reactor::Address;
use reactor::http::{Exchange, Http, Status};

use super::service::Service;

/// Has each answer of a loop counted and, if wanted, written down.
pub(crate) fn mount(http: &Http, service: &Rc<Service>) {
    let service = Rc::clone(service);
    http.on_exchange(move |exchange: &Exchange<'_>| {
        // As other servers note a client that left before it was answered.
        let status = exchange.status.map_or(499, Status::code);
        let (received, sent, took) = (exchange.received, exchange.sent, exchange.duration);
        service.meter().answered(status, exchange.is_whole, received, sent, took);
        if service.site().has_access_log() {
            info!(
                target: "access",
                peer = Value::from_display(exchange.peer),
                method = exchange.method,
                target = exchange.target,
                status = status,
                sent = sent,
                received = received,
                us = took.as_micros() as u64,
                whole = exchange.is_whole;
                "answered"
            );
        }
    });
    http.on_refusal(refused);
}

/// The connection answered for the handlers: to what is no request, at a limit, or for a handler that failed.
fn refused(peer: &Address, status: Status) {
    let (code, peer) = (status.code(), Value::from_display(peer));
    match code {
        500 => error!(target: "server", status = code, peer = peer; "a handler failed to answer"),
        503 => {
            warn!(target: "server", status = code, peer = peer; "turned away: there are as many connections as allowed")
        }
        // What clients send is their concern.
        _ => debug!(target: "server", status = code, peer = peer; "refused: {}", status.reason()),
    }
}
