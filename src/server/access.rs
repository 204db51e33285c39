//! A record and some counts of each answer, and records of those that no handler gave.

use std::rc::Rc;
use std::time::{Duration, Instant};

use logger::kv::Value;
use logger::{debug, error, info, warn};
use reactor::Address;
use reactor::http::{Exchange, Http, Status};

use super::service::Service;

/// Has each answer of a loop counted and, if wanted, written down.
pub(crate) fn mount(http: &Http, service: &Rc<Service>) {
    let counting = Rc::clone(service);
    http.on_exchange(move |exchange: &Exchange<'_>| {
        // As other servers note a client that left before it was answered.
        let status = exchange.status.map_or(499, Status::code);
        let (received, sent, took) = (exchange.received, exchange.sent, exchange.duration);
        counting.meter().answered(status, exchange.is_whole, received, sent, took);
        if !counting.site().has_access_log() {
            return;
        }
        if exchange.user.is_empty() {
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
        } else {
            info!(
                target: "access",
                peer = Value::from_display(exchange.peer),
                user = exchange.user,
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
    let mut turned_away = TurnedAway::default();
    let service = Rc::clone(service);
    http.on_refusal(move |peer, status| match status.code() {
        // Whoever comes between the order to end and its end on this loop.
        503 if service.site().is_draining() => {
            debug!(target: "server", peer = Value::from_display(peer); "turned away: the server ends");
        }
        503 => turned_away.note(peer, service.store().base().now()),
        _ => refused(peer, status),
    });
}

/// Connections that were one too many.
#[derive(Default)]
struct TurnedAway {
    noted: Option<Instant>,
    /// Since then.
    count: u64,
}

/// Where everybody comes at once, one record in this time tells it.
const NOTED_EVERY: Duration = Duration::from_secs(10);

impl TurnedAway {
    fn note(&mut self, peer: &Address, now: Instant) {
        self.count += 1;
        if self.noted.is_none_or(|noted| now.saturating_duration_since(noted) >= NOTED_EVERY) {
            let (peer, count) = (Value::from_display(peer), self.count);
            warn!(
                target: "server", status = 503, connections = count, peer = peer;
                "turned away: there are as many connections as allowed"
            );
            *self = TurnedAway { noted: Some(now), count: 0 };
        }
    }
}

/// The connection answered for the handlers: to what is no request, at a limit, or for a handler that failed.
fn refused(peer: &Address, status: Status) {
    let (code, peer) = (status.code(), Value::from_display(peer));
    match code {
        500 => error!(target: "server", status = code, peer = peer; "a handler failed to answer"),
        // What clients send is their concern.
        _ => debug!(target: "server", status = code, peer = peer; "refused: {}", status.reason()),
    }
}
