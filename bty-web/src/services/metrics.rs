//! Metrics for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::cache::CacheHost;
use crate::domain::limit::Limit;
pub use crate::store::machines::MachineCounts;
use crate::tftp;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl EncodeLabelValue for Limit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    reason: Limit,
}

/// All metrics of the server.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histogram,
    events: Family<EventLabels, Counter>,
    refused: Family<LimitLabels, Counter>,
    machines: Family<PhaseLabels, Gauge>,
    stalled: Gauge,
    failures: Gauge,
    bytes: Counter<u64, AtomicU64>,
    cache: CacheMetrics,
    tftp: TftpMetrics,
}

/// Metrics of the cache host, copied from its own counters before rendering.
#[derive(Default)]
struct CacheMetrics {
    answers: Family<OutcomeLabels, Counter>,
    fills: Family<OutcomeLabels, Counter>,
    sent: Counter,
    fetched: Counter,
    evictions: Counter,
    used: Gauge,
}

/// Metrics of TFTP, copied in the same way.
#[derive(Default)]
struct TftpMetrics {
    transfers: Family<OutcomeLabels, Counter>,
    sent: Counter,
}

fn set(counter: &Counter, count: &AtomicU64) {
    counter.inner().store(count.load(Ordering::Relaxed), Ordering::Relaxed);
}

fn set_of(family: &Family<OutcomeLabels, Counter>, outcome: &'static str, count: &AtomicU64) {
    set(&family.get_or_create(&OutcomeLabels { outcome }), count);
}

impl Default for Metrics {
    fn default() -> Self {
        // half a millisecond to eight seconds
        let durations = Histogram::new((0..15).map(|n| 0.0005 * f64::from(1 << n)));
        let (requests, events, refused) =
            (Family::default(), Family::default(), Family::<LimitLabels, Counter>::default());
        let (machines, stalled) = (Family::<PhaseLabels, Gauge>::default(), Gauge::default());
        let failures = Gauge::default();
        let bytes = Counter::default();
        let mut registry = Registry::with_prefix("bty");
        registry.register("http_requests", "HTTP requests", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time until the response",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("events", "Recorded events", events.clone());
        registry.register("refused", "Requests refused because of a limit", refused.clone());
        registry.register("machines", "Known machines by their phase", machines.clone());
        registry.register("stalled_machines", "Stalled machines", stalled.clone());
        registry.register("unacknowledged_failures", "Unacknowledged failures", failures.clone());
        registry.register_with_unit(
            "boot_sent",
            "Boot files sent to machines",
            Unit::Bytes,
            bytes.clone(),
        );
        let (cache, tftp) = (CacheMetrics::default(), TftpMetrics::default());
        registry.register("cache_answers", "Requests for objects", cache.answers.clone());
        registry.register("cache_fills", "Fetched objects", cache.fills.clone());
        registry.register("cache_evictions", "Evicted objects", cache.evictions.clone());
        registry.register_with_unit(
            "cache_sent",
            "Objects sent to clients",
            Unit::Bytes,
            cache.sent.clone(),
        );
        registry.register_with_unit(
            "cache_fetched",
            "Objects received from origins",
            Unit::Bytes,
            cache.fetched.clone(),
        );
        registry.register_with_unit(
            "cache_used",
            "Space used by objects",
            Unit::Bytes,
            cache.used.clone(),
        );
        registry.register("tftp_transfers", "Requests for files", tftp.transfers.clone());
        registry.register_with_unit(
            "tftp_sent",
            "Files sent to clients",
            Unit::Bytes,
            tftp.sent.clone(),
        );
        Self {
            registry,
            requests,
            durations,
            events,
            refused,
            machines,
            stalled,
            failures,
            bytes,
            cache,
            tftp,
        }
    }
}

impl Metrics {
    /// Counts a request and the time to its response.
    pub fn request(&self, method: &str, route: &str, status: u16, seconds: f64) {
        // clients can invent methods, and each would create a permanent time series
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let method = known.into_iter().find(|known| *known == method).unwrap_or("other").to_owned();
        let labels = RequestLabels { method, route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.observe(seconds);
    }

    /// Counts an event of this kind.
    pub fn event(&self, kind: &str) {
        self.events.get_or_create(&EventLabels { kind: kind.to_owned() }).inc();
    }

    /// Counts a refusal because of the limit `reason`.
    pub fn refuse(&self, reason: Limit) {
        self.refused.get_or_create(&LimitLabels { reason }).inc();
    }

    /// Counts sent bytes of boot files.
    pub fn sent(&self, bytes: u64) {
        self.bytes.inc_by(bytes);
    }

    /// Copies the counters of the cache host.
    pub fn cache(&self, cache: &CacheHost) {
        let (counts, own) = (cache.counters(), &self.cache);
        for (outcome, count) in [
            ("hit", &counts.hits),
            ("stale", &counts.stale),
            ("joined", &counts.joined),
            ("miss", &counts.misses),
        ] {
            set_of(&own.answers, outcome, count);
        }
        set_of(&own.fills, "filled", &counts.fills);
        set_of(&own.fills, "failed", &counts.failures);
        set(&own.evictions, &counts.evictions);
        set(&own.sent, &counts.sent_bytes);
        set(&own.fetched, &counts.fetched_bytes);
        own.used.set(i64::try_from(cache.used_bytes()).unwrap_or(i64::MAX));
    }

    /// Copies the counters of TFTP.
    pub fn tftp(&self, counts: &tftp::TftpCounters) {
        let own = &self.tftp;
        for (outcome, count) in [
            ("sent", &counts.sent),
            ("broken", &counts.broken),
            ("unknown", &counts.unknown),
            ("refused", &counts.refused),
        ] {
            set_of(&own.transfers, outcome, count);
        }
        set(&own.sent, &counts.sent_bytes);
    }

    /// Renders all metrics as text. The caller reads the numbers of machines and of unacknowledged
    /// failures from the database.
    #[must_use]
    pub fn render(&self, machines: &MachineCounts, failures: i64) -> String {
        for (phase, count) in &machines.phases {
            let labels = PhaseLabels { phase: phase.as_str() };
            self.machines.get_or_create(&labels).set(*count);
        }
        self.stalled.set(machines.stalled);
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
    use crate::domain::machine::Phase;

    #[test]
    fn unknown_methods_share_one_label() {
        let metrics = Metrics::default();
        for method in ["GET", "BREW", "WHEN"] {
            metrics.request(method, "/machines", 405, 0.001);
        }
        metrics.event("machine.created");
        let counts =
            MachineCounts { phases: vec![(Phase::Trouble, 7), (Phase::Idle, 2)], stalled: 3 };
        let text = metrics.render(&counts, 1);
        assert!(
            text.contains(
                "bty_http_requests_total{method=\"other\",route=\"/machines\",status=\"405\"} 2"
            ),
            "{text}"
        );
        assert!(
            text.contains("bty_machines{phase=\"trouble\"} 7")
                && text.contains("bty_stalled_machines 3")
                && text.contains("bty_unacknowledged_failures 1"),
            "{text}"
        );
        assert!(!text.contains("BREW"), "{text}");
    }
}
