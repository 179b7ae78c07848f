//! Webhooks: requests that report events to other servers, by the Standard Webhooks convention:
//! <https://www.standardwebhooks.com>. What is sent, and what follows from the response.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::domain::event::Event;
use crate::domain::time::Time;

/// Maximum size of a request body in bytes. A larger event is sent without its details.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A webhook of the configuration.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Name, which identifies its position in the log of events.
    pub name: String,
    /// Address of the receiver. It may be a secret, so it is never shown as a whole.
    pub url: String,
    /// Kinds of events to send.
    pub events: Vec<EventPattern>,
    /// Form of the requests.
    pub format: WebhookFormat,
    /// Keys that sign the requests; several while a receiver changes from one to another.
    pub secrets: Vec<WebhookSecret>,
    /// Token for the header `authorization`.
    pub token: Option<String>,
}

/// Form of a webhook's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// JSON with `type`, `timestamp` and `data`, signed.
    Standard,
    /// Plain text with the headers of ntfy.
    Ntfy,
    /// JSON with `text`, as Slack, Mattermost and Rocket.Chat receive.
    Slack,
}

impl WebhookFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Ntfy, Self::Slack];

    /// Returns the name in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Ntfy => "ntfy",
            Self::Slack => "slack",
        }
    }
}

/// Selects kinds of events: one kind, or all that begin or end with a text, such as `machine.*` or
/// `*.failed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPattern(String);

impl EventPattern {
    /// Returns the pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if the pattern selects `kind`.
    #[must_use]
    pub fn matches(&self, kind: &str) -> bool {
        match (self.0.strip_prefix('*'), self.0.strip_suffix('*')) {
            (Some(end), _) => kind.ends_with(end),
            (None, Some(start)) => kind.starts_with(start),
            (None, None) => self.0 == kind,
        }
    }
}

impl FromStr for EventPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let middle = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        let is_plain = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_');
        if text.is_empty() || !middle.chars().all(is_plain) {
            return Err(());
        }
        Ok(Self(text.to_owned()))
    }
}

/// A key that signs requests.
#[derive(Clone)]
pub struct WebhookSecret(hmac::Key);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(set)")
    }
}

/// Sizes of keys in bytes, by the convention.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

impl FromStr for WebhookSecret {
    type Err = ();

    /// Parses `whsec_` followed by the base64 of 24 to 64 bytes.
    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = BASE64.decode(text.strip_prefix("whsec_").ok_or(())?).map_err(drop)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(());
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

/// Returns the headers that identify and sign a request with `body`. `id` stays the same when the
/// request is repeated, and contains no full stop.
#[must_use]
pub fn signed_headers(
    id: &str,
    now: Time,
    body: &[u8],
    secrets: &[WebhookSecret],
) -> Vec<(&'static str, String)> {
    let seconds = now.seconds();
    let mut content = format!("{id}.{seconds}.").into_bytes();
    content.extend_from_slice(body);
    let sign = |secret: &WebhookSecret| {
        format!("v1,{}", BASE64.encode(hmac::sign(&secret.0, &content).as_ref()))
    };
    let signatures: Vec<String> = secrets.iter().map(sign).collect();
    let mut headers =
        vec![("webhook-id", id.to_owned()), ("webhook-timestamp", seconds.to_string())];
    if !signatures.is_empty() {
        headers.push(("webhook-signature", signatures.join(" ")));
    }
    headers
}

/// A request to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookMessage {
    /// Headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Webhook {
    /// True if the webhook sends events of this kind.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.events.iter().any(|pattern| pattern.matches(kind))
    }

    /// Returns scheme, host and port of the address. The rest of it may be a secret.
    #[must_use]
    pub fn origin(&self) -> String {
        let url = self.url.parse::<url::Url>();
        url.map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }

    /// Returns the request that reports `event`.
    #[must_use]
    pub fn message(&self, event: &Event, now: Time) -> WebhookMessage {
        let (mut headers, content_type, body) = match self.format {
            WebhookFormat::Standard => (Vec::new(), "application/json", standard_body(event)),
            WebhookFormat::Ntfy => {
                (ntfy_headers(event), "text/plain; charset=utf-8", event.summary.clone())
            }
            WebhookFormat::Slack => (Vec::new(), "application/json", slack_body(event)),
        };
        let body = body.into_bytes();
        let id = format!("evt_{}_{}", event.id, event.ts.0);
        headers.extend(signed_headers(&id, now, &body, &self.secrets));
        headers.extend(self.token.iter().map(|token| ("authorization", format!("Bearer {token}"))));
        WebhookMessage { headers, content_type, body }
    }
}

fn standard_body(event: &Event) -> String {
    let body = |data: Value| {
        json!({ "type": event.kind, "timestamp": event.ts.to_string(), "data": data }).to_string()
    };
    let data = json!(event);
    let whole = body(data.clone());
    if whole.len() <= BODY_BYTES_MAX {
        return whole;
    }
    let mut shorter = data;
    shorter["details"] = json!({ "is_omitted": true });
    body(shorter)
}

fn ntfy_headers(event: &Event) -> Vec<(&'static str, String)> {
    let (priority, tag) = match () {
        () if event.kind.ends_with("failed") => ("high", "warning"),
        () if event.kind == "machine.flashed" => ("default", "white_check_mark"),
        () => ("default", "information_source"),
    };
    vec![
        ("title", format!("bty: {}", event.kind)),
        ("priority", priority.to_owned()),
        ("tags", tag.to_owned()),
    ]
}

/// Machines choose a part of the summary, so what Slack would read as a mention or a link is
/// escaped.
fn slack_body(event: &Event) -> String {
    let summary = event.summary.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    json!({ "text": format!("{}: {summary}", event.kind) }).to_string()
}

/// What follows from a response, or from the lack of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStep {
    /// The receiver has the event.
    Delivered,
    /// Send it again after this time.
    Retry(Duration),
    /// Give this event up, and go on with the next one.
    Skip,
    /// The receiver wants no more events.
    Disable,
}

/// Delay before the second attempt. Doubles with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Maximum delay between attempts that the server chooses.
const RETRY_MAX: Duration = Duration::from_secs(15 * 60);

/// Maximum delay that a receiver may choose with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Time after which an event that the receiver does not accept is given up, so that one event
/// cannot block all others forever.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// Decides what follows from the `failures`-th failure in a row, or from a success. `status` is
/// `None` without a response. `jitter` is a random number, so that several servers do not retry in
/// step.
#[must_use]
pub fn next_step(
    status: Option<u16>,
    retry_after: Option<u64>,
    failures: u32,
    failing_for: Duration,
    jitter: u8,
) -> DeliveryStep {
    match status {
        Some(200..300) => return DeliveryStep::Delivered,
        Some(410) => return DeliveryStep::Disable,
        _ if failing_for >= GIVE_UP_AFTER => return DeliveryStep::Skip,
        _ => {}
    }
    let doublings = failures.saturating_sub(1).min(16);
    let delay = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX);
    // up to a fifth longer
    let delay = delay + delay * u32::from(jitter) / (5 * 255);
    let asked = Duration::from_secs(retry_after.unwrap_or(0)).min(RETRY_AFTER_MAX);
    DeliveryStep::Retry(delay.max(asked))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(kind: &str, summary: &str) -> Event {
        Event {
            id: 7,
            ts: Time(1_764_000_000_123),
            kind: kind.into(),
            subject_kind: "machine".into(),
            subject_id: "52:54:00:12:34:56".into(),
            actor: "pxe-client".into(),
            actor_name: None,
            source_ip: None,
            summary: summary.into(),
            details: json!({ "reason": "x" }),
            acknowledged: false,
            count: 1,
            last_ts: Time(1_764_000_000_123),
        }
    }

    fn webhook(format: WebhookFormat, secrets: &[&str]) -> Webhook {
        Webhook {
            name: "ops".into(),
            url: "https://hooks.example:8443/services/T0/s3cret".into(),
            events: vec!["*".parse().unwrap()],
            format,
            secrets: secrets.iter().map(|secret| secret.parse().unwrap()).collect(),
            token: None,
        }
    }

    #[test]
    fn a_signature_is_that_of_the_convention() {
        // the example of the convention's reference libraries
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let headers = signed_headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Time(1_614_265_330_000),
            br#"{"test": 2432232314}"#,
            std::slice::from_ref(&secret),
        );
        assert_eq!(
            headers[2],
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
        );
        let both = signed_headers("a", Time(0), b"", &[secret.clone(), secret]);
        assert_eq!(both[2].1.split(' ').count(), 2, "each secret signs: {both:?}");
    }

    #[test]
    fn secrets_are_long_enough_and_never_shown() {
        let of = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
        for (bytes, is_valid) in [(23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(of(bytes).parse::<WebhookSecret>().is_ok(), is_valid, "{bytes}");
        }
        assert!("whsec_?".parse::<WebhookSecret>().is_err());
        assert!(of(32).replace("whsec_", "").parse::<WebhookSecret>().is_err());
        let shown = format!("{:?}", webhook(WebhookFormat::Standard, &[&of(32)]).secrets);
        assert_eq!(shown, "[(set)]");
    }

    #[test]
    fn a_standard_message_has_type_time_and_the_event() {
        let message = webhook(WebhookFormat::Standard, &[])
            .message(&event("machine.flashed", "done"), Time(1_764_000_005_000));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(body["type"], "machine.flashed");
        assert_eq!(body["timestamp"], "2025-11-24T16:00:00.123Z");
        assert_eq!(body["data"]["id"], 7);
        let expected = [("webhook-id", "evt_7_1764000000123"), ("webhook-timestamp", "1764000005")];
        assert_eq!(message.headers, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn a_large_event_is_sent_without_its_details() {
        let mut large = event("machine.flashed", "done");
        large.details = json!({ "text": "x".repeat(BODY_BYTES_MAX) });
        let message = webhook(WebhookFormat::Standard, &[]).message(&large, Time(0));
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(body["data"]["details"], json!({ "is_omitted": true }));
        assert_eq!(body["data"]["summary"], "done");
    }

    #[test]
    fn messages_for_ntfy_and_slack_are_plain_text() {
        let failed = event("machine.flash_failed", "failed: <!channel> & more");
        let ntfy = Webhook { token: Some("tk_1".into()), ..webhook(WebhookFormat::Ntfy, &[]) };
        let message = ntfy.message(&failed, Time(0));
        assert_eq!(message.body, b"failed: <!channel> & more");
        for header in [
            ("title", "bty: machine.flash_failed"),
            ("priority", "high"),
            ("authorization", "Bearer tk_1"),
        ] {
            assert!(message.headers.contains(&(header.0, header.1.to_owned())), "{header:?}");
        }
        let message = webhook(WebhookFormat::Slack, &[]).message(&failed, Time(0));
        let expected = json!({
            "text": "machine.flash_failed: failed: &lt;!channel&gt; &amp; more",
        });
        assert_eq!(serde_json::from_slice::<Value>(&message.body).unwrap(), expected);
    }

    #[test]
    fn patterns_select_kinds_by_their_beginning_or_end() {
        let matches =
            |pattern: &str, kind: &str| pattern.parse::<EventPattern>().unwrap().matches(kind);
        assert!(matches("*", "machine.flashed") && matches("machine.*", "machine.flashed"));
        assert!(matches("*failed", "machine.flash_failed"));
        assert!(matches("machine.flashed", "machine.flashed"));
        assert!(!matches("machine.flash", "machine.flashed") && !matches("plan.*", "machine.x"));
        for invalid in ["", "a*b", "Machine", "a b", "**a"] {
            assert!(invalid.parse::<EventPattern>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn the_rest_of_an_address_is_not_shown() {
        let webhook = webhook(WebhookFormat::Slack, &[]);
        assert_eq!(webhook.origin(), "https://hooks.example:8443");
    }

    #[test]
    fn delays_double_up_to_a_quarter_of_an_hour() {
        let delay = |failures| next_step(None, None, failures, Duration::ZERO, 0);
        let retry = |seconds| DeliveryStep::Retry(Duration::from_secs(seconds));
        assert_eq!([1, 2, 3, 40].map(delay), [1, 2, 4, 900].map(retry));
        assert_eq!(next_step(None, None, 40, Duration::ZERO, 255), retry(1080));
    }

    #[test]
    fn a_response_decides_what_follows() {
        let after = |status, retry_after, failing_for| {
            next_step(Some(status), retry_after, 1, failing_for, 0)
        };
        let retry = |seconds| DeliveryStep::Retry(Duration::from_secs(seconds));
        assert_eq!(after(204, None, Duration::ZERO), DeliveryStep::Delivered);
        assert_eq!(after(302, None, Duration::ZERO), retry(1), "redirects are not followed");
        assert_eq!(after(410, None, Duration::ZERO), DeliveryStep::Disable);
        assert_eq!(after(429, Some(30), Duration::ZERO), retry(30));
        assert_eq!(after(503, Some(1_000_000), Duration::ZERO), retry(3600));
        assert_eq!(after(400, None, GIVE_UP_AFTER), DeliveryStep::Skip);
        assert_eq!(after(200, None, GIVE_UP_AFTER), DeliveryStep::Delivered);
    }

    proptest! {
        #[test]
        fn summaries_of_machines_cannot_break_a_message(summary in "\\PC{0,64}|[\\x00-\\x7f]{0,64}") {
            for format in WebhookFormat::ALL {
                let message =
                    webhook(format, &[]).message(&event("plan.failed", &summary), Time(0));
                let is_header = |value: &str| value.bytes().all(|b| (b' '..=b'~').contains(&b));
                prop_assert!(message.headers.iter().all(|(_, value)| is_header(value)));
                if format != WebhookFormat::Ntfy {
                    let body: Value = serde_json::from_slice(&message.body).unwrap();
                    prop_assert!(body.is_object());
                }
            }
        }
    }
}
