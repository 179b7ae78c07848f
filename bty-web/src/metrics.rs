//! What is counted, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// Counters and gauges.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Histogram,
    events: Family<Kind, Counter>,
    machines: Gauge,
    failures: Gauge,
    bytes: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        // half a millisecond to eight seconds
        let durations = Histogram::new((0..15).map(|n| 0.0005 * f64::from(1 << n)));
        let (requests, events) = (Family::default(), Family::default());
        let (machines, failures) = (Gauge::default(), Gauge::default());
        let bytes = Counter::default();
        let mut registry = Registry::with_prefix("bty");
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register_with_unit("http_request_duration", "Time to the answer", Unit::Seconds, durations.clone());
        registry.register("events", "Events that were written", events.clone());
        registry.register("machines", "Machines that are known", machines.clone());
        registry.register("unacknowledged_failures", "Failures that nobody has acknowledged", failures.clone());
        registry.register_with_unit("boot_sent", "Artifacts that were sent to machines", Unit::Bytes, bytes.clone());
        Self { registry, requests, durations, events, machines, failures, bytes }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        // a client can make up methods, and each would be counted for ever
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = known.into_iter().find(|known| *known == method).unwrap_or("other").to_owned();
        let labels = Request { method, route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.observe(seconds);
    }

    /// An event was written.
    pub fn event(&self, kind: &str) {
        self.events.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// Bytes of an artifact were sent.
    pub fn sent(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    /// All of it as text, with what only the database knows.
    #[must_use]
    pub fn render(&self, machines: i64, failures: i64) -> String {
        self.machines.set(machines);
        self.failures.set(failures);
        let mut rendered = String::new();
        // writing into a string does not fail
        let _ = text::encode(&mut rendered, &self.registry);
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_somebody_makes_up_are_one() {
        let metrics = Metrics::default();
        for method in ["GET", "BREW", "WHEN"] {
            metrics.request(method, "/machines", 405, 0.001);
        }
        metrics.event("machine.created");
        let text = metrics.render(7, 1);
        assert!(
            text.contains("bty_http_requests_total{method=\"other\",route=\"/machines\",status=\"405\"} 2"),
            "{text}"
        );
        assert!(text.contains("bty_machines 7") && text.contains("bty_unacknowledged_failures 1"), "{text}");
        assert!(!text.contains("BREW"), "{text}");
    }
}
