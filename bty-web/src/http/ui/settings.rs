//! Settings, which can be changed while the server runs, and the configuration, with the origin of
//! each value.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::config::{self, Origin, SECRETS};
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::bundled;
use crate::services::app::App;
use crate::services::settings::{self, Setting};
use crate::services::undo::Undo;

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    groups: Vec<Group>,
    plans: Vec<String>,
    config: Vec<ConfigRow>,
    files: Vec<String>,
    warnings: Vec<String>,
}

/// Settings of one topic.
struct Group {
    name: &'static str,
    settings: Vec<Setting>,
}

/// A value of the configuration.
struct ConfigRow {
    key: &'static str,
    value: String,
    origin: String,
    /// `default`, `file` or `environment`.
    source: &'static str,
    variable: &'static str,
    /// True if it can be changed on the page.
    is_open: bool,
    /// Another value that is already in the file, and takes effect at the next start.
    pending: Option<String>,
}

/// Headings of groups, by the first part of their keys.
const GROUPS: [(&str, &str); 6] = [
    ("plans", "Plans"),
    ("machines", "Machines"),
    ("netboot", "Live environment"),
    ("upstream", "Upstream"),
    ("display", "Display"),
    ("backup", "Backups"),
];

/// Written by the server itself and not shown on the page.
const LAST_BACKUP: &str = "backup.last_run_at";

/// Shows the settings and the configuration.
pub async fn page(State(app): State<Arc<App>>, frame: Frame) -> Result<Response> {
    let snapshot = app.snapshot();
    let mut plans: Vec<String> = bundled::all().iter().map(|plan| plan.name.clone()).collect();
    plans.extend(snapshot.plans.keys().cloned());
    plans.sort();
    let rows = config::KEYS.iter().map(|(key, _, variable)| config_row(&app, key, variable));
    render(&Settings {
        groups: groups(&app),
        config: rows.collect(),
        files: app.config.files.iter().map(|file| file.display().to_string()).collect(),
        warnings: app.config.warnings.clone(),
        plans,
        frame,
    })
}

fn groups(app: &App) -> Vec<Group> {
    let mut groups = GROUPS.map(|(_, name)| Group { name, settings: Vec::new() });
    for setting in settings::list(app).into_iter().filter(|setting| setting.key != LAST_BACKUP) {
        let prefix = setting.key.split('.').next();
        let group = GROUPS.iter().position(|(name, _)| Some(*name) == prefix);
        if let Some(group) = group {
            groups[group].settings.push(setting);
        }
    }
    groups.into()
}

/// Returns a label for the setting; the page shows its key beside it.
fn label(key: &str) -> &'static str {
    match key {
        "upstream.netboot_repo" => "Repository of the live environment",
        "upstream.netboot_tag" => "Release to fetch",
        "upstream.catalog_url" => "Catalog to import",
        "netboot.version" => "Version that machines boot",
        "netboot.extra_args" => "Kernel arguments",
        "plans.default" => "Plan for unknown machines",
        "plans.contact_window_ms" => "Window for repeated contacts, in ms",
        "machines.silent_boots" => "Failed boots before a machine boots its disk",
        "display.timezone" => "Time zone",
        "backup.enabled" => "Scheduled backups",
        "backup.cadence" => "Interval",
        "backup.retention_count" => "Backups to keep",
        _ => "",
    }
}

fn config_row(app: &App, key: &'static str, variable: &'static str) -> ConfigRow {
    let (value, origin) = &app.config.values[key];
    let is_secret = SECRETS.contains(&key);
    let source = match origin {
        Origin::Default => "default",
        Origin::Toml(_) => "file",
        Origin::Env(_) => "environment",
    };
    let pending =
        config::edit::pending(&app.config, key).filter(|pending| pending != value && !is_secret);
    let is_open = config::edit::obstacle(&app.config, key).is_none();
    let value = match is_secret && !value.is_empty() {
        true => "(set, not shown)".into(),
        false => value.clone(),
    };
    ConfigRow { key, value, origin: origin.to_string(), source, variable, is_open, pending }
}

/// Saves the settings in the fields `setting.KEY`.
pub async fn submit(
    State(app): State<Arc<App>>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    let value = |(name, value): (&str, &str)| {
        Some((name.strip_prefix("setting.")?.to_owned(), value.trim().into()))
    };
    let values: Map<String, Value> = fields.iter().filter_map(value).collect();
    let result = match unconfirmed_plan(&app, &values).filter(|_| !fields.has("may_write")) {
        Some(error) => Err(error),
        None => save_settings(&app, &who, values, "The settings are saved.").await,
    };
    notices.redirect("/ui/settings", result)
}

/// Returns the error for a new default plan that is not confirmed: it may write to disks of
/// machines that no operator has seen.
fn unconfirmed_plan(app: &App, values: &Map<String, Value>) -> Option<Error> {
    let (key, snapshot) = ("plans.default", app.snapshot());
    let name = values.get(key)?.as_str().filter(|name| *name != snapshot.settings.get(key))?;
    snapshot.plan(name).filter(|plan| plan.may_write())?;
    let detail = format!(
        "{key}: {name} can write to disks of machines that nobody has reviewed; tick the box \
             beside it to allow that"
    );
    Some(Error::invalid(detail))
}

/// Saves the settings in `values` that differ from the current ones. The notice contains `text`,
/// and can undo the change.
pub(super) async fn save_settings(
    app: &App,
    who: &ClientContext,
    mut values: Map<String, Value>,
    text: &str,
) -> Result<Notice> {
    let snapshot = app.snapshot();
    values.retain(|key, value| value.as_str() != Some(snapshot.settings.get(key)));
    if values.is_empty() {
        return Ok(Notice::success("Nothing has changed."));
    }
    let before =
        values.keys().map(|key| (key.clone(), snapshot.settings.get(key).to_owned())).collect();
    settings::put(app, who, values).await?;
    Ok(Notice::success(text).with_undo(Undo::Settings(before)))
}

/// Sets a key of the configuration for the next start.
pub async fn configure(
    State(app): State<Arc<App>>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    let (key, value) = (fields.text("key").to_owned(), fields.text("value").to_owned());
    let text = format!("{key} is saved. It takes effect when the server restarts.");
    let configured = settings::configure(&app, &who, key, value).await;
    notices.redirect("/ui/settings#configuration", configured.map(|()| Notice::success(text)))
}
