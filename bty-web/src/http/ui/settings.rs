//! Settings: those that are changed here, and those of the configuration with where each comes
//! from.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::form::Fields;
use super::notice::{Notice, Undo, redirect_with_result};
use super::{Frame, render};
use crate::blocking::blocking;
use crate::config::{self, Origin, SECRETS};
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::settings::KEYS;
use crate::http::api;
use crate::http::extract::Json;
use crate::services::app::App;

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    groups: Vec<Group>,
    plans: Vec<String>,
    config: Vec<Configured>,
    files: Vec<String>,
    warnings: Vec<String>,
}

/// Settings that are about one thing.
struct Group {
    name: &'static str,
    settings: Vec<Setting>,
}

struct Setting {
    key: &'static str,
    about: &'static str,
    value: String,
    default: &'static str,
    is_set: bool,
}

/// A value of the configuration.
struct Configured {
    key: &'static str,
    value: String,
    origin: String,
    /// `default`, `file` or `environment`.
    source: &'static str,
    variable: &'static str,
    /// It can be changed here.
    is_open: bool,
    /// Another value is in the file, and counts after the next start.
    pending: Option<String>,
}

/// The headings, by the first part of keys.
const GROUPS: [(&str, &str); 5] = [
    ("plans", "Plans"),
    ("netboot", "Live environment"),
    ("upstream", "Where things are fetched from"),
    ("display", "Display"),
    ("backup", "Backups"),
];

/// What is written by the server itself.
const NOT_EDITED: &str = "backup.last_run_at";

/// The page.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let snapshot = app.snapshot();
    let setting = |(key, default, about): &(&'static str, &'static str, &'static str)| Setting {
        value: snapshot.settings.get(key).to_owned(),
        is_set: snapshot.settings.get(key) != *default,
        key,
        about,
        default,
    };
    let group = |(prefix, name): (&str, &'static str)| Group {
        name,
        settings: KEYS
            .iter()
            .filter(|(key, ..)| key.split('.').next() == Some(prefix) && *key != NOT_EDITED)
            .map(setting)
            .collect(),
    };
    let mut plans: Vec<String> =
        crate::domain::plan::bundled::all().iter().map(|plan| plan.name.clone()).collect();
    plans.extend(snapshot.plans.keys().cloned());
    plans.sort();
    let page = Settings {
        groups: GROUPS.map(group).into_iter().collect(),
        config: config::KEYS
            .iter()
            .map(|(key, _, variable)| configured(&app, key, variable))
            .collect(),
        files: app.config.files.iter().map(|file| file.display().to_string()).collect(),
        warnings: app.config.warnings.clone(),
        plans,
        frame,
    };
    render(&page)
}

fn configured(app: &App, key: &'static str, variable: &'static str) -> Configured {
    let (value, origin) = &app.config.values[key];
    let is_secret = SECRETS.contains(&key) && !value.is_empty();
    let source = match origin {
        Origin::Default => "default",
        Origin::Toml(_) => "file",
        Origin::Env(_) => "environment",
    };
    let pending = config::edit::pending(&app.config, key)
        .filter(|pending| pending != value && !SECRETS.contains(&key));
    let is_open = config::edit::obstacle(&app.config, key).is_none();
    let value = if is_secret { "(is set, and not shown)".into() } else { value.clone() };
    Configured { key, value, origin: origin.to_string(), source, variable, is_open, pending }
}

/// Saves the settings of a form: those that are named `setting.KEY`.
pub async fn act(State(app): State<Arc<App>>, who: ClientContext, fields: Fields) -> Response {
    let values: Map<String, Value> = fields
        .each()
        .filter_map(|(name, value)| {
            Some((name.strip_prefix("setting.")?.to_owned(), value.trim().into()))
        })
        .collect();
    let done = match unlooked(&app, &values).filter(|_| !fields.has("may_write")) {
        Some(error) => Err(error),
        None => put(&app, who, values, "The settings are saved.").await,
    };
    redirect_with_result(&app, "/ui/settings", done)
}

/// Why the plan of machines that are not known needs a tick: it may write to disks that nobody has
/// looked at.
fn unlooked(app: &App, values: &Map<String, Value>) -> Option<Error> {
    let (key, snapshot) = ("plans.default", app.snapshot());
    let name = values.get(key)?.as_str().filter(|name| *name != snapshot.settings.get(key))?;
    snapshot.plan(name).filter(|plan| plan.may_write())?;
    let detail = format!(
        "{key}: {name} can write to disks of machines that nobody has looked at; tick the box beside it if that is meant"
    );
    Some(Error::invalid(detail))
}

/// Sets a key of the configuration for the next start.
pub async fn configure(
    State(app): State<Arc<App>>,
    who: ClientContext,
    fields: Fields,
) -> Response {
    let (key, text) = (fields.text("key").to_owned(), fields.text("value").to_owned());
    let (shared, of, wanted) = (Arc::clone(&app), key.clone(), text.clone());
    let set = blocking(move || {
        let env = |name: &str| std::env::var(name).ok();
        config::edit::set(&shared.config, &env, &of, &wanted)
    });
    let set = set.await.flatten();
    let done = match set {
        Ok(()) => tell_configured(&app, &who, key, text).await,
        Err(error) => Err(error),
    };
    redirect_with_result(&app, "/ui/settings#configuration", done)
}

async fn tell_configured(
    app: &App,
    who: &ClientContext,
    key: String,
    text: String,
) -> Result<Notice> {
    let event = NewEvent::new(
        "settings.configuration.updated",
        key.clone(),
        format!("{key} is {text:?} from the next start on"),
    );
    let details = json!({ "key": key, "old": app.config.values[key.as_str()].0, "new": text });
    app.record(event.by(Actor::Operator, who.ip.as_deref()).with(details)).await?;
    Ok(Notice::done(format!("{key} is saved. It counts when the server is started again.")))
}

/// Saves settings that differ from what is there, with a way back.
///
/// # Errors
/// Those of the settings: all of them at once.
pub async fn put(
    app: &Arc<App>,
    who: ClientContext,
    mut values: Map<String, Value>,
    text: &str,
) -> Result<Notice> {
    let snapshot = app.snapshot();
    values.retain(|key, value| value.as_str() != Some(snapshot.settings.get(key)));
    if values.is_empty() {
        return Ok(Notice::done("Nothing was different."));
    }
    let before =
        values.keys().map(|key| (key.clone(), snapshot.settings.get(key).to_owned())).collect();
    let saved = api::settings::put(State(Arc::clone(app)), who, Json(values)).await;
    saved.map(|_| Notice::done(text).or(Undo::Settings(before)))
}
