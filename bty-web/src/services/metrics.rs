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
use crate::domain::machine::Phase;
use crate::store::machines::MachineCounts;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookLabels {
    webhook: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    webhook: String,
    result: &'static str,
}

/// All metrics of the server.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Histogram,
    events: Family<EventLabels, Counter>,
    refused: Family<LimitLabels, Counter>,
    failures: Gauge,
    bytes: Counter<u64, AtomicU64>,
    cache: CacheMetrics,
    tftp: TftpMetrics,
    fleet: FleetMetrics,
    webhooks: WebhookMetrics,
}

/// Metrics of machines and their flashes.
struct FleetMetrics {
    machines: Family<PhaseLabels, Gauge>,
    states: Family<StateLabels, Gauge>,
    flashes: Family<ResultLabels, Counter>,
    durations: Histogram,
    written: Histogram,
}

impl FleetMetrics {
    fn new(registry: &mut Registry) -> Self {
        let (machines, states) = (Family::default(), Family::default());
        let flashes = Family::<ResultLabels, Counter>::default();
        // without a first value, the first flash would be no increase
        for result in ["flashed", "failed"] {
            flashes.get_or_create(&ResultLabels { result }).inc_by(0);
        }
        // a quarter of a minute to a bit more than two hours
        let durations = Histogram::new((0..10).map(|n| 15.0 * f64::from(1 << n)));
        // 16 MiB to 4 TiB, in steps of four
        let written = Histogram::new((0..10).map(|n| 16.0 * 1024.0 * 1024.0 * 4_f64.powi(n)));
        registry.register("machines", "Known machines by phase", Family::clone(&machines));
        registry.register("machine_states", "Machines by state", Family::clone(&states));
        registry.register("flashes", "Reported flashes", flashes.clone());
        registry.register_with_unit(
            "flash_duration",
            "Time from the network boot of a machine to the report of its flash",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register_with_unit(
            "flash_written",
            "Written to the disks of a flash",
            Unit::Bytes,
            written.clone(),
        );
        Self { machines, states, flashes, durations, written }
    }
}

/// Metrics of webhooks.
#[derive(Default)]
struct WebhookMetrics {
    deliveries: Family<DeliveryLabels, Counter>,
    behind: Family<WebhookLabels, Gauge>,
}

impl WebhookMetrics {
    fn new(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register("webhook_deliveries", "Requests to webhooks", own.deliveries.clone());
        registry.register(
            "webhook_behind",
            "Events that a webhook has yet to send or to skip",
            own.behind.clone(),
        );
        own
    }
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
        let (fleet, webhooks) =
            (FleetMetrics::new(&mut registry), WebhookMetrics::new(&mut registry));
        Self {
            registry,
            requests,
            durations,
            events,
            refused,
            failures,
            bytes,
            cache,
            tftp,
            fleet,
            webhooks,
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

    /// Counts a flash that a machine has reported, `seconds` after its network boot.
    pub fn flash(&self, has_succeeded: bool, seconds: f64, written_bytes: Option<f64>) {
        let result = if has_succeeded { "flashed" } else { "failed" };
        self.fleet.flashes.get_or_create(&ResultLabels { result }).inc();
        if has_succeeded {
            self.fleet.durations.observe(seconds);
            written_bytes.into_iter().for_each(|bytes| self.fleet.written.observe(bytes));
        }
    }

    /// Sets the numbers of machines by phase and by state.
    pub fn machines(&self, counts: &MachineCounts) {
        self.fleet.states.clear();
        for phase in Phase::ALL {
            self.fleet.machines.get_or_create(&PhaseLabels { phase: phase.as_str() }).set(0);
        }
        for (&(phase, state), &count) in counts {
            let phase = PhaseLabels { phase: phase.as_str() };
            self.fleet.machines.get_or_create(&phase).inc_by(count);
            self.fleet.states.get_or_create(&StateLabels { state }).inc_by(count);
        }
    }

    /// Counts a request to a webhook, by its result: `delivered` or `failed`.
    pub fn webhook_delivery(&self, webhook: &str, result: &'static str) {
        let labels = DeliveryLabels { webhook: webhook.to_owned(), result };
        self.webhooks.deliveries.get_or_create(&labels).inc();
    }

    /// Sets the number of events that a webhook has yet to send or to skip.
    pub fn webhook_behind(&self, webhook: &str, events: i64) {
        let labels = WebhookLabels { webhook: webhook.to_owned() };
        self.webhooks.behind.get_or_create(&labels).set(events);
    }

    /// Renders all metrics as text. The caller reads the number of unacknowledged failures from the
    /// database.
    #[must_use]
    pub fn render(&self, failures: i64) -> String {
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
    fn the_text_has_every_metric_and_unknown_methods_share_one_label() {
        let metrics = Metrics::default();
        for method in ["GET", "BREW", "WHEN"] {
            metrics.request(method, "/machines", 405, 0.001);
        }
        metrics.event("machine.created");
        metrics.flash(true, 90.0, Some(5e9));
        metrics.flash(false, 1.0, None);
        let trouble = [((Phase::Trouble, "failed"), 3), ((Phase::Trouble, "stalled"), 2)];
        metrics.machines(&[((Phase::Pending, "waiting"), 1)].into_iter().chain(trouble).collect());
        metrics.webhook_delivery("ops", "failed");
        metrics.webhook_behind("ops", 4);
        let text = metrics.render(1);
        for line in [
            "bty_flashes_total{result=\"flashed\"} 1",
            "bty_flash_duration_seconds_bucket{le=\"120.0\"} 1",
            "bty_flash_duration_seconds_count 1",
            "bty_flash_written_bytes_sum 5000000000.0",
            "bty_machines{phase=\"trouble\"} 5",
            "bty_machines{phase=\"done\"} 0",
            "bty_machine_states{state=\"stalled\"} 2",
            "bty_webhook_deliveries_total{webhook=\"ops\",result=\"failed\"} 1",
            "bty_webhook_behind{webhook=\"ops\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(
            text.contains(
                "bty_http_requests_total{method=\"other\",route=\"/machines\",status=\"405\"} 2"
            ),
            "{text}"
        );
        assert!(text.contains("bty_unacknowledged_failures 1"), "{text}");
        assert!(!text.contains("BREW"), "{text}");
    }
}
