//! The audit log: an event is written in the same transaction as the change that it records.

use bty::redact;
use serde::Serialize;
use serde_json::Value;

use crate::domain::time::Time;

/// All kinds of events. Kinds that end in `failed` are failures.
pub const KINDS: [&str; 83] = [
    "machine.discovered",
    "machine.created",
    "machine.upserted",
    "machine.deleted",
    "machine.flashed",
    "machine.flash_failed",
    "machine.boot_failed",
    "machine.completed",
    "machine.inventory",
    "machine.inventory_failed",
    "machine.stalled",
    "machine.power",
    "machine.power.failed",
    "machine.identity.suggested",
    "machine.identity.changed",
    "machine.merged",
    "machine.split",
    "netboot.pxe.offered",
    "netboot.pxe.plan",
    "netboot.flasher.armed",
    "pxe.client.orphan",
    "pxe.client.refused",
    "plan.created",
    "plan.saved",
    "plan.rolled_back",
    "plan.deleted",
    "plan.failed",
    "catalog.entry.added",
    "catalog.entry.add.failed",
    "catalog.entry.deleted",
    "catalog.entry.moved",
    "catalog.entries.imported",
    "catalog.entries.import.failed",
    "catalog.entries.refreshed",
    "netboot.artifacts.fetched",
    "netboot.artifacts.fetch.requested",
    "netboot.artifacts.fetch.started",
    "netboot.artifacts.fetch.cancelled",
    "netboot.artifacts.fetch.failed",
    "netboot.artifact.uploaded",
    "cache.object.filled",
    "cache.object.deleted",
    "cache.object.evicted",
    "cache.object.outdated",
    "cache.object.lost",
    "cache.object.pinned",
    "cache.object.unpinned",
    "cache.object.packed",
    "cache.fill.cancelled",
    "cache.fill.failed",
    "cache.pack.failed",
    "cache.tag.moved",
    "tftp.client.first",
    "tftp.failed",
    "settings.upstream.updated",
    "settings.backup.updated",
    "settings.display.updated",
    "settings.netboot.updated",
    "settings.plans.updated",
    "settings.machines.updated",
    "settings.configuration.updated",
    "backup.created",
    "backup.create.requested",
    "backup.create.started",
    "backup.create.cancelled",
    "backup.failed",
    "backup.pruned",
    "state.imported",
    "state.import.failed",
    "auth.login.succeeded",
    "auth.login.failed",
    "auth.login.throttled",
    "auth.logout",
    "auth.token.created",
    "auth.token.revoked",
    "auth.sessions.revoked",
    "auth.user.added",
    "auth.user.changed",
    "auth.user.removed",
    "system.started",
    "system.schema.upgraded",
    "webhook.failed",
    "webhook.recovered",
];

/// Kinds that any client on the network can cause without limit. The store merges repetitions about
/// the same subject into one event with a count.
pub const REPEATABLE: [&str; 15] = [
    "machine.discovered",
    "machine.inventory",
    "machine.inventory_failed",
    "machine.identity.suggested",
    "machine.identity.changed",
    "netboot.pxe.offered",
    "netboot.pxe.plan",
    "netboot.flasher.armed",
    "pxe.client.orphan",
    "pxe.client.refused",
    "plan.failed",
    "cache.fill.failed",
    "tftp.client.first",
    "auth.login.failed",
    "auth.login.throttled",
];

/// Who caused an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A person, or a program with a token.
    Operator,
    /// The server itself.
    System,
    /// A machine.
    PxeClient,
}

impl Actor {
    /// The name in the database and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::System => "system",
            Self::PxeClient => "pxe-client",
        }
    }
}

/// The originator of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// What it is.
    pub actor: Actor,
    /// Name of the user or token; `None` if the server knows none, as without a password.
    pub name: Option<String>,
    /// Address of the client.
    pub ip: Option<String>,
}

/// An event that is not yet written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// `machine`, `plan`, `catalog`, `cache`, `netboot`, `settings`, `auth`, `backup` or `system`.
    pub subject_kind: &'static str,
    /// The subject's address or name, such as the MAC address of a machine.
    pub subject_id: String,
    /// Who caused it.
    pub actor: Actor,
    /// Name of the user or token that caused it.
    pub actor_name: Option<String>,
    /// Address of the client that caused it.
    pub source_ip: Option<String>,
    /// One sentence for people.
    pub summary: String,
    /// Details for programs: a JSON object.
    pub details: Value,
}

impl NewEvent {
    /// Creates an event with the server as its actor and without details. The kind of its subject
    /// follows from `kind`.
    ///
    /// # Panics
    /// In debug builds, when `kind` is not one of [`KINDS`].
    #[must_use]
    pub fn new(
        kind: &'static str,
        subject_id: impl Into<String>,
        summary: impl Into<String>,
    ) -> Self {
        debug_assert!(KINDS.contains(&kind), "unknown kind of event: {kind}");
        let subject_kind = match kind.split('.').next() {
            Some("machine" | "pxe") => "machine",
            Some("netboot")
                if kind.starts_with("netboot.pxe") || kind.starts_with("netboot.flasher") =>
            {
                "machine"
            }
            Some("netboot") => "netboot",
            Some("plan") => "plan",
            Some("catalog") => "catalog",
            Some("cache") => "cache",
            Some("tftp") => "netboot",
            Some("settings") => "settings",
            Some("backup" | "state") => "backup",
            Some("auth") => "auth",
            _ => "system",
        };
        Self {
            kind,
            subject_kind,
            subject_id: subject_id.into(),
            actor: Actor::System,
            actor_name: None,
            source_ip: None,
            summary: summary.into(),
            details: Value::Object(serde_json::Map::new()),
        }
    }

    /// Sets the actor, and the client's address.
    #[must_use]
    pub fn by(mut self, actor: Actor, ip: Option<&str>) -> Self {
        self.actor = actor;
        self.source_ip = ip.map(str::to_owned);
        self
    }

    /// Sets the actor with its name, and the client's address.
    #[must_use]
    pub fn caused_by(mut self, author: &Author) -> Self {
        self.actor_name.clone_from(&author.name);
        self.by(author.actor, author.ip.as_deref())
    }

    /// Sets the subject.
    #[must_use]
    pub fn about(mut self, kind: &'static str, id: impl Into<String>) -> Self {
        self.subject_kind = kind;
        self.subject_id = id.into();
        self
    }

    /// Sets the details; drops fields that are null.
    #[must_use]
    pub fn with(mut self, details: Value) -> Self {
        self.details = match details {
            Value::Object(fields) => {
                fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
            }
            other => other,
        };
        self
    }
}

/// Redacts passwords in all URLs in `details`.
#[must_use]
pub fn without_passwords(details: Value) -> Value {
    match details {
        Value::String(text) => Value::String(redact::text(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(without_passwords).collect(),
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, value)| (name, without_passwords(value))).collect(),
        ),
        other => other,
    }
}

/// A written event.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Sequence number; later events have larger numbers.
    pub id: i64,
    /// Time of the first occurrence.
    #[schema(value_type = String, format = DateTime)]
    pub ts: Time,
    /// One of the kinds of events, such as `machine.flashed`.
    pub kind: String,
    /// `machine`, `plan`, `catalog`, `cache`, `netboot`, `settings`, `auth`, `backup` or `system`.
    pub subject_kind: String,
    /// The subject's address or name, such as the MAC address of a machine.
    pub subject_id: String,
    /// `operator`, `system` or `pxe-client`.
    pub actor: String,
    /// Name of the user, or `token` and the name of the token; null if the server knows none.
    pub actor_name: Option<String>,
    /// Address of the client that caused it.
    pub source_ip: Option<String>,
    /// One sentence for people.
    pub summary: String,
    /// Details for programs: a JSON object.
    #[schema(value_type = Object)]
    pub details: Value,
    /// True if an operator has acknowledged the event.
    pub acknowledged: bool,
    /// Number of occurrences: the server merges rapid repetitions by one client into one event.
    pub count: i64,
    /// Time of the last occurrence.
    #[schema(value_type = String, format = DateTime)]
    pub last_ts: Time,
}
