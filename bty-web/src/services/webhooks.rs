//! Delivers events to webhooks. The log of events is the queue: each webhook has a position in it,
//! which the database keeps. Events are sent in order, one at a time, and repeated until the
//! receiver accepts them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bty::Client;
use bty::client::{Reply, Request};
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Event, NewEvent};
use crate::domain::time::Time;
use crate::domain::webhook::{DeliveryStep, EventPattern, Webhook, WebhookMessage, next_step};
use crate::services::event_bus::EventBus;
use crate::services::event_log::EventLog;
use crate::services::metrics::Metrics;
use crate::services::shutdown::Shutdown;
use crate::store::Database;
use crate::store::events;
use crate::store::webhooks::{self, WebhookPosition};

/// Time limit for a request and its response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum size of a response in bytes. Only its status and its beginning are used.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// Number of failures in a row after which an event records them.
const FAILURES_RECORDED: u32 = 3;

/// Number of events that are read but not sent after which the position is stored, so that a
/// restart need not read them again.
const UNSAVED_MAX: i64 = 1_000;

/// Delay after a failure of the database.
const DATABASE_RETRY: Duration = Duration::from_secs(10);

/// Sends events to webhooks. Clones share the webhooks.
#[derive(Clone)]
pub struct Webhooks {
    hooks: Arc<Vec<Hook>>,
    db: Database,
    bus: EventBus,
    client: Client,
    events: EventLog,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

struct Hook {
    webhook: Webhook,
    progress: Mutex<HookProgress>,
}

/// How far a webhook has come.
#[derive(Clone, Debug, Default)]
struct HookProgress {
    position: WebhookPosition,
    /// The last stored position.
    saved_id: i64,
    /// Failures in a row.
    failures: u32,
    failing_since: Option<Time>,
    last_error: Option<String>,
    is_disabled: bool,
}

/// The state of a webhook.
#[derive(Serialize, utoipa::ToSchema)]
pub struct WebhookStatus {
    /// Its name in the configuration.
    name: String,
    /// Scheme, host and port of its address; the rest may be a secret.
    origin: String,
    /// `standard`, `ntfy` or `slack`.
    format: &'static str,
    /// Kinds of events that it sends.
    events: Vec<String>,
    /// Number of the last event that needs no delivery any more.
    last_id: i64,
    /// Number of later events, which it has yet to send or to skip.
    behind: i64,
    /// When the receiver last accepted an event.
    #[schema(value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Time>,
    /// Number of failures in a row.
    failures: u32,
    /// When the first of these failures happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    failing_since: Option<Time>,
    /// Why the last delivery failed.
    last_error: Option<String>,
    /// True if the receiver wants no more events (410). A restart enables it again.
    is_disabled: bool,
}

/// The receiver's response to a test.
#[derive(Serialize, utoipa::ToSchema)]
pub struct WebhookTest {
    /// Status code of the response.
    status: u16,
}

impl Webhooks {
    pub(crate) fn new(
        config: &Config,
        db: Database,
        bus: EventBus,
        client: Client,
        events: EventLog,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        let hook = |webhook: &Webhook| Hook {
            webhook: webhook.clone(),
            progress: Mutex::new(HookProgress::default()),
        };
        let hooks = Arc::new(config.webhooks.iter().map(hook).collect());
        Self { hooks, db, bus, client, events, metrics, shutdown }
    }

    /// Returns the state of all webhooks, in the order of the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database fails.
    pub async fn list(&self) -> Result<Vec<WebhookStatus>> {
        let newest = self.db.read(events::newest).await?;
        Ok(self.hooks.iter().map(|hook| hook.status(newest)).collect())
    }

    /// Updates the metric of how far each webhook is behind the event with the number `newest`.
    pub fn measure(&self, newest: i64) {
        for hook in &*self.hooks {
            self.metrics.webhook_behind(&hook.webhook.name, hook.behind(newest));
        }
    }

    /// Sends a message to a webhook at once, whatever else waits for delivery.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when there is no webhook `name`.
    /// - [`ErrorKind::Upstream`] when the receiver does not accept the message.
    pub async fn test(&self, name: &str) -> Result<WebhookTest> {
        let hook = self.hooks.iter().find(|hook| hook.webhook.name == name);
        let hook = hook.ok_or_else(|| Error::not_found(format!("the webhook {name:?}")))?;
        let now = Time::now();
        let event = Event {
            id: 0,
            ts: now,
            kind: "webhook.test".into(),
            subject_kind: "system".into(),
            subject_id: name.into(),
            actor: "operator".into(),
            actor_name: None,
            source_ip: None,
            summary: format!("a test of the webhook {name}"),
            details: serde_json::json!({}),
            acknowledged: false,
            count: 1,
            last_ts: now,
        };
        match self.send(&hook.webhook, &event).await {
            Ok(reply) if reply.is_success() => Ok(WebhookTest { status: reply.status }),
            sent => {
                let why = failure(&sent);
                let detail = format!("the webhook {name} failed: {why}");
                Err(Error::new(ErrorKind::Upstream, detail))
            }
        }
    }

    /// Delivers events until the server stops.
    pub async fn deliver(self) {
        if self.hooks.is_empty() {
            return;
        }
        let names: Vec<String> = self.hooks.iter().map(|hook| hook.webhook.name.clone()).collect();
        let positions = match self.db.write(move |t| webhooks::begin(t, &names)).await {
            Ok(positions) => positions,
            Err(error) => return tracing::error!(%error, "cannot deliver events to webhooks"),
        };
        for (index, position) in positions.into_iter().enumerate() {
            let mut progress = self.hooks[index].progress();
            (progress.position, progress.saved_id) = (position, position.last_id);
            drop(progress);
            let service = self.clone();
            tokio::spawn(async move { service.follow(&service.hooks[index]).await });
        }
    }

    /// Delivers events to one webhook until the server stops. A delivery that this interrupts is
    /// repeated after the next start.
    async fn follow(&self, hook: &Hook) {
        // before the first events are read, so that none is missed
        let mut news = self.bus.listen();
        tokio::select! {
            () = self.shutdown.stopped() => {}
            () = self.deliver_to(hook, &mut news) => {}
        }
    }

    /// Delivers events to one webhook until its receiver wants no more.
    async fn deliver_to(&self, hook: &Hook, news: &mut Receiver<Event>) {
        loop {
            let (last_id, webhook) = (hook.progress().position.last_id, hook.webhook.clone());
            let read =
                self.db.read(move |conn| events::following(conn, last_id, |k| webhook.wants(k)));
            let (wanted, read_to) = match read.await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "cannot read the events for a webhook");
                    tokio::time::sleep(DATABASE_RETRY).await;
                    continue;
                }
            };
            for event in &wanted {
                if !self.deliver_event(hook, event).await {
                    return;
                }
            }
            self.skip_to(hook, read_to).await;
            if read_to - last_id < events::FOLLOWING_MAX {
                self.wait_for_wanted(hook, news).await;
            }
        }
    }

    /// Waits until an event is recorded that the webhook wants.
    async fn wait_for_wanted(&self, hook: &Hook, news: &mut Receiver<Event>) {
        loop {
            match news.recv().await {
                // read before it was published
                Ok(event) if event.id <= hook.progress().position.last_id => {}
                Ok(event) if hook.webhook.wants(&event.kind) => return,
                Ok(event) => self.skip_to(hook, event.id).await,
                Err(RecvError::Lagged(_)) => return,
                // the bus lives as long as this service
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Sends an event until the receiver accepts it, or it is given up. Returns false if the
    /// receiver wants no more events.
    async fn deliver_event(&self, hook: &Hook, event: &Event) -> bool {
        let begun = Instant::now();
        loop {
            let sent = self.send(&hook.webhook, event).await;
            let status = sent.as_ref().ok().map(|reply| reply.status);
            let retry_after = sent.as_ref().ok().and_then(|reply| reply.header("retry-after"));
            let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
            let failures = hook.progress().failures + 1;
            match next_step(status, retry_after, failures, begun.elapsed(), jitter()) {
                DeliveryStep::Delivered => {
                    self.delivered(hook, event.id).await;
                    return true;
                }
                DeliveryStep::Retry(after) => {
                    self.failed(hook, &failure(&sent), false).await;
                    tokio::time::sleep(after).await;
                }
                DeliveryStep::Skip => {
                    let why =
                        format!("gave up event {} after 3 days: {}", event.id, failure(&sent));
                    self.failed(hook, &why, true).await;
                    self.skip_to(hook, event.id).await;
                    return true;
                }
                DeliveryStep::Disable => {
                    let why = "the receiver wants no more events (410); remove the webhook from \
                               the configuration, or restart the server to try again";
                    self.failed(hook, why, true).await;
                    hook.progress().is_disabled = true;
                    return false;
                }
            }
        }
    }

    async fn send(&self, webhook: &Webhook, event: &Event) -> Result<Reply, String> {
        let WebhookMessage { headers, content_type, body } = webhook.message(event, Time::now());
        let mut request = Request::get(&webhook.url);
        request.headers = headers;
        request.body = Some((content_type, body));
        (request.timeout, request.limit_bytes) = (RESPONSE_TIMEOUT, RESPONSE_BYTES_MAX);
        let sent = self.client.exchange_async(&request).await;
        sent.map_err(|error| {
            let text = format!("{error:#}");
            let shown = bty::redact::address(&webhook.url);
            text.replace(&*webhook.url, &webhook.origin()).replace(&*shown, &webhook.origin())
        })
    }

    async fn delivered(&self, hook: &Hook, id: i64) {
        let failures = {
            let mut progress = hook.progress();
            progress.position = WebhookPosition { last_id: id, delivered_at: Some(Time::now()) };
            (progress.failing_since, progress.last_error) = (None, None);
            std::mem::take(&mut progress.failures)
        };
        self.metrics.webhook_delivery(&hook.webhook.name, "delivered");
        self.save(hook).await;
        if failures >= FAILURES_RECORDED {
            let name = &hook.webhook.name;
            let summary = format!("the webhook {name} works again after {failures} failures");
            self.record(NewEvent::new("webhook.recovered", name, summary)).await;
        }
    }

    /// Counts a failure. Records an event for the third one in a row, and if `is_final`.
    async fn failed(&self, hook: &Hook, why: &str, is_final: bool) {
        let failures = {
            let mut progress = hook.progress();
            progress.failures += 1;
            progress.failing_since.get_or_insert_with(Time::now);
            progress.last_error = Some(why.to_owned());
            progress.failures
        };
        self.metrics.webhook_delivery(&hook.webhook.name, "failed");
        if failures == FAILURES_RECORDED || is_final {
            let name = &hook.webhook.name;
            let summary = format!("the webhook {name} failed: {why}");
            let details = serde_json::json!({ "reason": why, "failures": failures });
            self.record(NewEvent::new("webhook.failed", name, summary).with(details)).await;
        }
    }

    async fn record(&self, event: NewEvent) {
        if let Err(error) = self.events.record(event).await {
            tracing::warn!(%error, "cannot record the state of a webhook");
        }
    }

    /// Moves the position forward over events that need no delivery.
    async fn skip_to(&self, hook: &Hook, id: i64) {
        let unsaved = {
            let mut progress = hook.progress();
            progress.position.last_id = progress.position.last_id.max(id);
            progress.position.last_id - progress.saved_id
        };
        if unsaved >= UNSAVED_MAX {
            self.save(hook).await;
        }
    }

    /// Stores the position. If that fails, a restart may deliver events again, with the same ids.
    async fn save(&self, hook: &Hook) {
        let (position, name) = (hook.progress().position, hook.webhook.name.clone());
        match self.db.write(move |t| webhooks::put(t, &name, position)).await {
            Ok(()) => hook.progress().saved_id = position.last_id,
            Err(error) => tracing::warn!(%error, "cannot store the position of a webhook"),
        }
    }
}

impl Hook {
    fn progress(&self) -> std::sync::MutexGuard<'_, HookProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behind(&self, newest: i64) -> i64 {
        (newest - self.progress().position.last_id).max(0)
    }

    fn status(&self, newest: i64) -> WebhookStatus {
        let HookProgress { position, failures, failing_since, last_error, is_disabled, .. } =
            self.progress().clone();
        let webhook = &self.webhook;
        WebhookStatus {
            name: webhook.name.clone(),
            origin: webhook.origin(),
            format: webhook.format.as_str(),
            events: webhook.events.iter().map(EventPattern::as_str).map(str::to_owned).collect(),
            last_id: position.last_id,
            behind: self.behind(newest),
            delivered_at: position.delivered_at,
            failures,
            failing_since,
            last_error,
            is_disabled,
        }
    }
}

/// Returns why a delivery failed. What the receiver says is not shown: it may repeat secrets of the
/// request.
fn failure(sent: &Result<Reply, String>) -> String {
    match sent {
        Ok(reply) => format!("the receiver responded with {}", reply.status),
        Err(error) => error.clone(),
    }
}

fn jitter() -> u8 {
    let mut byte = [0];
    // without random numbers, servers may retry in step
    let _ = getrandom::fill(&mut byte);
    byte[0]
}
