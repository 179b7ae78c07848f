//! Settings that operators change while the server runs, and configuration keys that the server may
//! change for its next start.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::blocking::blocking;
use crate::config;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::settings::{KEYS, check};
use crate::services::app::App;
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

/// Returns all settings with their values and defaults.
#[must_use]
pub fn list(app: &App) -> Vec<Setting> {
    let snapshot = app.snapshot();
    let setting = |(key, default, about): &(&'static str, &'static str, &'static str)| Setting {
        key,
        value: snapshot.settings.get(key).to_owned(),
        default,
        about,
    };
    KEYS.iter().map(setting).collect()
}

/// Maximum number of settings in one request, which exceeds the number of keys.
const CHANGES_MAX: usize = 64;
const KEY_CHARS_SHOWN: usize = 64;

/// Changes the settings in `changes`: all of them, or none if any is invalid. Returns all settings.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with a problem for each key
/// that is unknown or whose value is invalid.
pub async fn put(
    app: &App,
    who: &ClientContext,
    changes: Map<String, Value>,
) -> Result<Vec<Setting>> {
    let changes = checked(app, changes)?;
    let before = app.snapshot();
    let (ip, now) = (who.ip.clone(), who.now);
    app.db
        .write(move |transaction| {
            for (key, value) in changes {
                settings::put(transaction, &key, &value, now)?;
                let details = json!({ "key": key, "old": before.settings.get(&key), "new": value });
                let event =
                    NewEvent::new(event_kind(&key), key.clone(), format!("set {key} to {value:?}"));
                transaction.record(&event.by(Actor::Operator, ip.as_deref()).with(details))?;
            }
            Ok(())
        })
        .await?;
    app.snapshots.refresh().await?;
    Ok(list(app))
}

fn checked(app: &App, changes: Map<String, Value>) -> Result<Vec<(String, String)>> {
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
            Ok(()) if key == "plans.default" && app.snapshot().plan(&text).is_none() => {
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

/// Sets a configuration key in the file that the server may write. The value takes effect at the
/// next start.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) when the key cannot be changed
/// here, or the value is invalid.
pub async fn configure(
    app: &Arc<App>,
    who: &ClientContext,
    key: String,
    value: String,
) -> Result<()> {
    let (shared, edited_key, text) = (Arc::clone(app), key.clone(), value.clone());
    let edited = blocking(move || {
        let env = |name: &str| std::env::var(name).ok();
        config::edit::set(&shared.config, &env, &edited_key, &text)
    });
    edited.await??;
    let event = NewEvent::new(
        "settings.configuration.updated",
        key.clone(),
        format!("set {key} to {value:?}, from the next start on"),
    );
    let details = json!({ "key": key, "old": app.config.values[key.as_str()].0, "new": value });
    app.record(event.by(Actor::Operator, who.ip.as_deref()).with(details)).await
}
