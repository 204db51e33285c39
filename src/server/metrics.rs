//! `/metrics`, in the text format of Prometheus, and whether the server is well.

use std::fmt::Write;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use reactor::http::Request;

use super::meter::{BOUNDS, Meter};
use super::service::Service;
use super::site::Site;

/// Answers `/healthz`: the process serves.
pub(crate) fn health(request: Request) {
    text(request, 200, "ok\n");
}

/// Answers `/readyz`: requests should be sent here.
pub(crate) fn readiness(service: &Rc<Service>, request: Request) {
    if service.site().is_draining() {
        return text(request, 503, "the server is about to end\n");
    }
    match service.check_room(0) {
        Ok(()) => text(request, 200, "ok\n"),
        Err(problem) => text(request, 503, &format!("{}\n", problem.message())),
    }
}

fn text(request: Request, status: u16, text: &str) {
    request
        .reply(status)
        .header("Content-Type", "text/plain; charset=utf-8")
        .header("Cache-Control", "no-store")
        .body(text)
        .send();
}

/// Answers `/metrics`.
pub(crate) fn get(service: &Rc<Service>, request: Request) {
    request
        .reply(200)
        .header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        .header("Cache-Control", "no-store")
        .body(render(service))
        .send();
}

fn render(service: &Service) -> String {
    let mut page = Page { out: String::with_capacity(4096) };
    let site = service.site();
    requests(&mut page, site);
    let uptime = site.uptime().as_secs_f64();
    page.one("cloudstore_uptime_seconds", "gauge", "Since the server started.", uptime);
    if let Ok(objects) = service.store().count() {
        page.one("cloudstore_objects", "gauge", "Objects that are stored.", objects);
    }
    if let Ok(space) = service.store().space() {
        page.one("cloudstore_disk_free_bytes", "gauge", "Free on the disk of the data folder.", space.free);
        page.one("cloudstore_disk_size_bytes", "gauge", "Size of that disk.", space.total);
    }
    let help = "Requests whose credentials were wrong, or too many to be looked at.";
    page.one("cloudstore_credentials_refused_total", "counter", help, site.doorman().refused());
    if let Some(logger) = logger::default() {
        let help = "Records that the log had no room for.";
        page.one("cloudstore_log_dropped_total", "counter", help, logger.rejected());
    }
    if let Some(forwarding) = site.forwarding() {
        let counters = forwarding.counters();
        for (name, kind, help, value) in [
            ("connected", "gauge", "Forwarders that have a connection.", counters.connected as u64),
            ("spooled_total", "counter", "Records accepted for the backlog server.", counters.spooled),
            ("sent_total", "counter", "Records sent to it, repeats included.", counters.sent),
            ("acknowledged_total", "counter", "Records that it has.", counters.acknowledged),
            ("dropped_total", "counter", "Records dropped because the spool was full.", counters.dropped),
        ] {
            page.one(&format!("cloudstore_forward_{name}"), kind, help, value);
        }
    }
    page.out
}

fn requests(page: &mut Page, site: &Site) {
    let sum = |count: fn(&Meter) -> u64| site.meters().map(count).sum::<u64>();
    let name = "cloudstore_http_answers_total";
    page.head(name, "counter", "Answers, by the class of their status.");
    for class in 1..=5_u64 {
        let place = class as usize - 1;
        let count: u64 = site.meters().map(|meter| meter.answers[place].load(Relaxed)).sum();
        page.line(&format!("{name}{{status=\"{class}xx\"}}"), count);
    }
    let help = "Answers that ended before they were whole.";
    page.one("cloudstore_http_cut_total", "counter", help, sum(|meter| meter.cut.load(Relaxed)));
    let help = "Bytes of bodies that came.";
    page.one(
        "cloudstore_http_received_bytes_total",
        "counter",
        help,
        sum(|meter| meter.received.load(Relaxed)),
    );
    let help = "Bytes of bodies that went out.";
    page.one("cloudstore_http_sent_bytes_total", "counter", help, sum(|meter| meter.sent.load(Relaxed)));
    let help = "Connections that are open.";
    page.one("cloudstore_http_connections", "gauge", help, site.census().connections());
    let help = "Uploads that are on their way.";
    page.one("cloudstore_uploads", "gauge", help, sum(|meter| meter.uploads.load(Relaxed)));

    let name = "cloudstore_http_duration_seconds";
    page.head(name, "histogram", "From a request's head to the last byte of its answer.");
    let mut counts = [0; BOUNDS.len() + 1];
    let mut micros = 0;
    for meter in site.meters() {
        let (took, more) = meter.took();
        counts.iter_mut().zip(took).for_each(|(count, more)| *count += more);
        micros += more;
    }
    let mut total = 0;
    for (bound, count) in BOUNDS.iter().zip(counts) {
        total += count;
        page.line(&format!("{name}_bucket{{le=\"{}\"}}", *bound as f64 / 1e6), total);
    }
    total += counts[BOUNDS.len()];
    page.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), total);
    page.line(&format!("{name}_sum"), micros as f64 / 1e6);
    page.line(&format!("{name}_count"), total);
}

struct Page {
    out: String,
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes all.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{name} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, value);
    }
}
