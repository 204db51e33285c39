//! A record and some counts of each answer.

use std::rc::Rc;

use logger::info;
use logger::kv::Value;
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
}
