//! Settings.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::error::{Error, Problem, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::settings::{KEYS, check};
use crate::http::error::ErrorBody;
use crate::http::extract::Json;
use crate::services::app::App;
use crate::store::settings;

/// A setting.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) default: &'static str,
    pub(crate) about: &'static str,
}

fn shown(app: &App) -> Vec<Setting> {
    let snapshot = app.snapshot();
    let setting = |(key, default, about): &(&'static str, &'static str, &'static str)| Setting {
        key,
        value: snapshot.settings.get(key).to_owned(),
        default,
        about,
    };
    KEYS.iter().map(setting).collect()
}

/// All settings, with their defaults.
#[utoipa::path(get, path = "/settings", tag = "settings", responses((status = 200, body = Vec<Setting>), (status = 401, body = ErrorBody)))]
pub(crate) async fn get(State(app): State<Arc<App>>) -> axum::Json<Vec<Setting>> {
    axum::Json(shown(&app))
}

/// Changes the settings that are named: all of them, or none when any is wrong.
#[utoipa::path(put, path = "/settings", tag = "settings", request_body = Object,
    responses((status = 200, body = Vec<Setting>), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    who: ClientContext,
    Json(changes): Json<Map<String, Value>>,
) -> Result<axum::Json<Vec<Setting>>> {
    let mut wanted = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in changes.into_iter().take(64) {
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
                problems.push(Problem::new(key, format!("there is no plan {text}")));
            }
            Ok(()) => wanted.push((key, text)),
            Err(error) => {
                problems.push(Problem::new(key.chars().take(64).collect::<String>(), error.detail));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Error::invalid("the settings are not changed").with_problems(problems));
    }
    let before = app.snapshot();
    app.db
        .write(move |transaction| {
            for (key, value) in wanted {
                settings::put(transaction, &key, &value, who.now)?;
                let kind = match key.split('.').next() {
                    Some("upstream") => "settings.upstream.updated",
                    Some("backup") => "settings.backup.updated",
                    Some("netboot") => "settings.netboot.updated",
                    Some("plans") => "settings.plans.updated",
                    Some("machines") => "settings.machines.updated",
                    _ => "settings.display.updated",
                };
                let details = json!({ "key": key, "old": before.settings.get(&key), "new": value });
                let event = NewEvent::new(kind, key.clone(), format!("{key} is {value:?}"));
                transaction.record(&event.by(Actor::Operator, who.ip.as_deref()).with(details))?;
            }
            Ok(())
        })
        .await?;
    app.refresh().await?;
    Ok(axum::Json(shown(&app)))
}
