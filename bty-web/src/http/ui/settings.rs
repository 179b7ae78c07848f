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
use crate::config::{self, Config, Origin, SECRETS};
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::bundled;
use crate::services::settings::{Setting, SettingEdits};
use crate::services::snapshot::Snapshots;
use crate::services::undo::Undo;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
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
    /// `default`, `file`, `environment` or `program`.
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
pub async fn page(
    State(snapshots): State<Arc<Snapshots>>,
    State(config): State<Arc<Config>>,
    State(settings): State<SettingEdits>,
    frame: Frame,
) -> Result<Response> {
    let snapshot = snapshots.current();
    let mut plans: Vec<String> = bundled::all().iter().map(|plan| plan.name.clone()).collect();
    plans.extend(snapshot.plans.keys().cloned());
    plans.sort();
    let rows = config::KEYS.iter().map(|(key, _, variable)| config_row(&config, key, variable));
    render(&SettingsPage {
        groups: groups(&settings),
        config: rows.collect(),
        files: config.files.iter().map(|file| file.display().to_string()).collect(),
        warnings: config.warnings.clone(),
        plans,
        frame,
    })
}

fn groups(settings: &SettingEdits) -> Vec<Group> {
    let mut groups = GROUPS.map(|(_, name)| Group { name, settings: Vec::new() });
    for setting in settings.list().into_iter().filter(|setting| setting.key != LAST_BACKUP) {
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
        "machines.sample_proof" => "Shorter proof of proven disks",
        "machines.rolling_images" => "Images that are published anew",
        "machines.parallel" => "Machines at work at once",
        "machines.silent_boots" => "Failed boots before a machine boots its disk",
        "machines.stalled_after" => "Silence before a machine is stalled, in s",
        "machines.identity" => "Network cards of a known machine",
        "display.timezone" => "Time zone",
        "backup.enabled" => "Scheduled backups",
        "backup.cadence" => "Interval",
        "backup.retention_count" => "Backups to keep",
        _ => "",
    }
}

fn config_row(config: &Config, key: &'static str, variable: &'static str) -> ConfigRow {
    let (value, origin) = &config.values[key];
    let is_secret = SECRETS.contains(&key);
    let source = match origin {
        Origin::Default => "default",
        Origin::Toml(_) => "file",
        Origin::Env(_) => "environment",
        Origin::Program => "program",
    };
    let pending =
        config::edit::pending(config, key).filter(|pending| pending != value && !is_secret);
    let is_open = config::edit::obstacle(config, key).is_none();
    let value = match is_secret && !value.is_empty() {
        true => "(set, not shown)".into(),
        false => value.clone(),
    };
    ConfigRow { key, value, origin: origin.to_string(), source, variable, is_open, pending }
}

/// Saves the settings in the fields `setting.KEY`.
pub async fn submit(
    State(snapshots): State<Arc<Snapshots>>,
    State(settings): State<SettingEdits>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    let value = |(name, value): (&str, &str)| {
        Some((name.strip_prefix("setting.")?.to_owned(), value.trim().into()))
    };
    let values: Map<String, Value> = fields.iter().filter_map(value).collect();
    let result = match unconfirmed_plan(&snapshots, &values).filter(|_| !fields.has("may_write")) {
        Some(error) => Err(error),
        None => save_settings(&settings, &who, values, "The settings are saved.").await,
    };
    notices.redirect("/ui/settings", result)
}

/// Returns the error for a new default plan that is not confirmed: it may write to disks of
/// machines that no operator has seen.
fn unconfirmed_plan(snapshots: &Snapshots, values: &Map<String, Value>) -> Option<Error> {
    let (key, snapshot) = ("plans.default", snapshots.current());
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
    settings: &SettingEdits,
    who: &ClientContext,
    values: Map<String, Value>,
    text: &str,
) -> Result<Notice> {
    let before = settings.put_changed(who, values).await?;
    if before.is_empty() {
        return Ok(Notice::success("Nothing has changed."));
    }
    Ok(Notice::success(text).with_undo(Undo::Settings(before)))
}

/// Sets a key of the configuration for the next start.
pub async fn configure(
    State(settings): State<SettingEdits>,
    who: ClientContext,
    notices: Notices,
    fields: Fields,
) -> Response {
    let (key, value) = (fields.text("key").to_owned(), fields.text("value").to_owned());
    let text = format!("{key} is saved. It takes effect when the server restarts.");
    let configured = settings.configure(&who, key, value).await;
    notices.redirect("/ui/settings#configuration", configured.map(|()| Notice::success(text)))
}
