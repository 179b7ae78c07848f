//! Settings that operators change while the server runs, and configuration keys that the server may
//! change for its next start.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::blocking::blocking;
use crate::config;
use crate::config::Config;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::event::NewEvent;
use crate::domain::machine::ClientContext;
use crate::domain::settings::{KEYS, check};
use crate::services::event_log::EventLog;
use crate::services::snapshot::Snapshots;
use crate::store::Database;
use crate::store::settings;

/// A setting.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Setting {
    /// Its key, such as `backup.cadence`.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Its value if nobody has changed it.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
}

/// Reads and changes settings.
#[derive(Clone)]
pub struct SettingEdits {
    db: Database,
    snapshots: Arc<Snapshots>,
    config: Arc<Config>,
    events: EventLog,
}

impl SettingEdits {
    pub(crate) fn new(
        db: Database,
        snapshots: Arc<Snapshots>,
        config: Arc<Config>,
        events: EventLog,
    ) -> Self {
        Self { db, snapshots, config, events }
    }

    /// Returns all settings with their values and defaults.
    #[must_use]
    pub fn list(&self) -> Vec<Setting> {
        let snapshot = self.snapshots.current();
        let setting = |(key, default, about): &(&'static str, &'static str, &'static str)| {
            Setting { key, value: snapshot.settings.get(key).to_owned(), default, about }
        };
        KEYS.iter().map(setting).collect()
    }

    /// Changes the settings in `changes`: all of them, or none if any is invalid. Returns all
    /// settings.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with a problem for each key
    /// that is unknown or whose value is invalid.
    pub async fn put(
        &self,
        who: &ClientContext,
        changes: Map<String, Value>,
    ) -> Result<Vec<Setting>> {
        let changes = self.checked(changes)?;
        let before = self.snapshots.current();
        let (author, now) = (who.author(), who.now);
        self.db
            .write(move |transaction| {
                for (key, value) in changes {
                    settings::put(transaction, &key, &value, now)?;
                    let details =
                        json!({ "key": key, "old": before.settings.get(&key), "new": value });
                    let event = NewEvent::new(
                        event_kind(&key),
                        key.clone(),
                        format!("set {key} to {value:?}"),
                    );
                    transaction.record(&event.caused_by(&author).with(details))?;
                }
                Ok(())
            })
            .await?;
        self.snapshots.refresh().await?;
        Ok(self.list())
    }

    /// Changes the settings in `values` that differ from the current ones, like
    /// [`put`](Self::put). Returns the earlier values of those; empty if none differs.
    ///
    /// # Errors
    /// The errors of [`put`](Self::put).
    pub async fn put_changed(
        &self,
        who: &ClientContext,
        mut values: Map<String, Value>,
    ) -> Result<Vec<(String, String)>> {
        let snapshot = self.snapshots.current();
        let current = |key: &str| snapshot.settings.get(key).to_owned();
        values.retain(|key, value| value.as_str() != Some(&*current(key)));
        let before: Vec<_> = values.keys().map(|key| (key.clone(), current(key))).collect();
        if !before.is_empty() {
            self.put(who, values).await?;
        }
        Ok(before)
    }

    fn checked(&self, changes: Map<String, Value>) -> Result<Vec<(String, String)>> {
        let mut valid = Vec::new();
        let mut problems = Vec::new();
        for (key, value) in changes.into_iter().take(CHANGES_MAX) {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(is) => i32::from(is).to_string(),
                _ => {
                    problems.push(Problem::new(key, "must be text, a number, true or false"));
                    continue;
                }
            };
            match check(&key, &text) {
                Ok(())
                    if key == "plans.default" && self.snapshots.current().plan(&text).is_none() =>
                {
                    problems.push(Problem::new(key, format!("the plan {text} does not exist")));
                }
                Ok(()) => valid.push((key, text)),
                Err(error) => {
                    let shown: String = key.chars().take(KEY_CHARS_SHOWN).collect();
                    problems.push(Problem::new(shown, error.detail));
                }
            }
        }
        if problems.is_empty() {
            Ok(valid)
        } else {
            Err(Error::invalid("the settings were not changed").with_problems(problems))
        }
    }

    /// Sets a configuration key in the file that the server may write. The value takes effect at
    /// the next start.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when the key cannot be
    /// changed here, or the value is invalid.
    pub async fn configure(&self, who: &ClientContext, key: String, value: String) -> Result<()> {
        let (service, edited_key, text) = (self.clone(), key.clone(), value.clone());
        let edited = blocking(move || {
            let env = |name: &str| std::env::var(name).ok();
            config::edit::set(&service.config, &env, &edited_key, &text)
        });
        edited.await??;
        let event = NewEvent::new(
            "settings.configuration.updated",
            key.clone(),
            format!("set {key} to {value:?}, from the next start on"),
        );
        let details =
            json!({ "key": key, "old": self.config.values[key.as_str()].0, "new": value });
        self.events.record(event.caused_by(&who.author()).with(details)).await
    }
}

/// Maximum number of settings in one request, which exceeds the number of keys.
const CHANGES_MAX: usize = 64;

const KEY_CHARS_SHOWN: usize = 64;

fn event_kind(key: &str) -> &'static str {
    match key.split('.').next() {
        Some("upstream") => "settings.upstream.updated",
        Some("backup") => "settings.backup.updated",
        Some("netboot") => "settings.netboot.updated",
        Some("plans") => "settings.plans.updated",
        Some("machines") => "settings.machines.updated",
        _ => "settings.display.updated",
    }
}
