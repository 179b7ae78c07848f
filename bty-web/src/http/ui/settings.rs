//! Settings, which can be changed while the server runs, and the configuration, with the origin of
//! each value.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::form::Fields;
use super::frame::Frame;
use super::notice::{Notice, Notices};
use super::render::render;
use crate::config::{self, Config, Origin, SECRETS};
use crate::domain::error::{Error, Result};
use crate::domain::machine::ClientContext;
use crate::domain::plan::bundled;
use crate::http::extract::Params;
use crate::services::settings::{Setting, SettingEdits};
use crate::services::snapshot::Snapshots;
use crate::services::undo::Undo;

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    query: SettingQuery,
    groups: Vec<Group>,
    plans: Vec<String>,
    config: Vec<Section>,
    files: Vec<String>,
    warnings: Vec<String>,
}

/// The query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SettingQuery {
    q: String,
}

/// Settings of one topic.
struct Group {
    name: &'static str,
    settings: Vec<Setting>,
}

/// Values of the configuration of one topic.
struct Section {
    name: &'static str,
    rows: Vec<ConfigRow>,
}

/// A value of the configuration.
struct ConfigRow {
    key: &'static str,
    label: &'static str,
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

/// How a person changes a setting.
enum Control {
    /// On or off: 1 or 0.
    Switch,
    /// One of these values, each with a label.
    Choice(&'static [(&'static str, &'static str)]),
    /// A number, and its unit.
    Number(&'static str),
    /// The name of a plan.
    Plan,
    Text,
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
    Params(query): Params<SettingQuery>,
) -> Result<Response> {
    let snapshot = snapshots.current();
    let mut plans: Vec<String> = bundled::all().iter().map(|plan| plan.name.clone()).collect();
    plans.extend(snapshot.plans.keys().cloned());
    plans.sort();
    render(&SettingsPage {
        groups: groups(&settings, &query),
        config: sections(&config, &query),
        files: config.files.iter().map(|file| file.display().to_string()).collect(),
        warnings: config.warnings.clone(),
        plans,
        query,
        frame,
    })
}

impl SettingQuery {
    /// True if each word of the search occurs in one of `texts`.
    fn finds(&self, texts: &[&str]) -> bool {
        let texts = texts.join(" ").to_lowercase();
        self.q.to_lowercase().split_whitespace().all(|word| texts.contains(word))
    }
}

fn groups(settings: &SettingEdits, query: &SettingQuery) -> Vec<Group> {
    let mut groups = GROUPS.map(|(_, name)| Group { name, settings: Vec::new() });
    for setting in settings.list().into_iter().filter(|setting| setting.key != LAST_BACKUP) {
        let prefix = setting.key.split('.').next();
        let group = GROUPS.iter().position(|(name, _)| Some(*name) == prefix);
        let Some(group) = group.and_then(|group| groups.get_mut(group)) else { continue };
        if query.finds(&[group.name, label(setting.key), setting.key, setting.about]) {
            group.settings.push(setting);
        }
    }
    groups.into_iter().filter(|group| !group.settings.is_empty()).collect()
}

fn sections(config: &Config, query: &SettingQuery) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (key, _, variable) in &config::KEYS {
        let (name, label) = (section_name(key), config_label(key));
        if !query.finds(&[name, label, key, variable]) {
            continue;
        }
        let row = config_row(config, key, variable);
        match sections.iter_mut().find(|section| section.name == name) {
            Some(section) => section.rows.push(row),
            None => sections.push(Section { name, rows: vec![row] }),
        }
    }
    sections
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
        "plans.contact_window_ms" => "Window for repeated contacts",
        "machines.sample_proof" => "Shorter proof of proven disks",
        "machines.rolling_images" => "Images that are published anew",
        "machines.parallel" => "Machines at work at once",
        "machines.silent_boots" => "Failed boots before a machine boots its disk",
        "machines.stalled_after" => "Silence before a machine is stalled",
        "machines.identity" => "Network cards of a known machine",
        "display.timezone" => "Time zone",
        "backup.enabled" => "Scheduled backups",
        "backup.cadence" => "Interval",
        "backup.retention_count" => "Backups to keep",
        _ => "",
    }
}

/// Returns how a person changes the setting.
fn control(key: &str) -> Control {
    match key {
        "plans.default" => Control::Plan,
        "backup.enabled" | "machines.sample_proof" => Control::Switch,
        "plans.contact_window_ms" => Control::Number("milliseconds"),
        "machines.parallel" => Control::Number("machines; 0 for no limit"),
        "machines.silent_boots" => Control::Number("boots; 0 for no limit"),
        "machines.stalled_after" => Control::Number("seconds; 0 for no limit"),
        "backup.retention_count" => Control::Number("backups"),
        "machines.rolling_images" => {
            Control::Choice(&[("follow", "Follow the newest version"), ("pin", "Keep the version")])
        }
        "machines.identity" => Control::Choice(&[
            ("suggest", "Suggest the machine"),
            ("merge", "Add them to the machine"),
            ("off", "Record nothing"),
        ]),
        "backup.cadence" => {
            Control::Choice(&[("manual", "On demand"), ("daily", "Daily"), ("weekly", "Weekly")])
        }
        _ => Control::Text,
    }
}

/// Returns what a setting is for. A switch has no values to explain.
fn about_words(setting: &Setting) -> &'static str {
    match control(setting.key) {
        Control::Switch => setting.about.strip_prefix("1 to ").unwrap_or(setting.about),
        _ => setting.about,
    }
}

/// Returns the default of a setting in the words of its control.
fn default_words(setting: &Setting) -> String {
    match control(setting.key) {
        Control::Switch if setting.default == "1" => "on".into(),
        Control::Switch => "off".into(),
        Control::Choice(choices) => {
            let known = choices.iter().find(|(value, _)| *value == setting.default);
            known.map_or_else(|| setting.default.to_owned(), |(_, label)| (*label).to_owned())
        }
        _ if setting.default.is_empty() => "empty".into(),
        _ => setting.default.to_owned(),
    }
}

/// Returns the heading of a section of the configuration.
fn section_name(key: &str) -> &'static str {
    match key.split('.').next() {
        Some("admin") => "Password",
        Some("server") => "Server",
        Some("network") => "Other servers",
        Some("paths") => "Directories",
        Some("withcache" | "cache") => "Cache host",
        Some("tftp" | "netboot") => "TFTP",
        Some("tuning") => "Resources",
        Some("limits") => "Limits",
        Some("power") => "Power control",
        _ => "Other",
    }
}

/// Returns a label for a key of the configuration; the page shows the key beside it.
fn config_label(key: &str) -> &'static str {
    match key {
        "admin.password" => "Password",
        "admin.open" => "Run without a password",
        "server.host" => "Address to listen on",
        "server.port" => "Port",
        "server.public_url" => "Public address",
        "server.trusted_proxy" => "Trusted proxies",
        "server.remote_user_proxies" => "Proxies that log in users",
        "server.session_secret" => "Key of sessions",
        "server.log" => "Log level",
        "server.log_format" => "Log format",
        "network.ca_files" => "Files of certificate authorities",
        "network.plain_http" => "Registries without TLS",
        "paths.state_dir" => "State",
        "paths.remote_state" => "State on a network file system",
        "paths.boot_dir" => "Boot files",
        "paths.backup_dir" => "Backups",
        "paths.image_dir" => "Images",
        "paths.catalog_file" => "Catalog file",
        "paths.boot_seed_dir" => "Installed boot files",
        "paths.site_dir" => "Documentation",
        "withcache.url" => "Address of an external cache host",
        "cache.embedded" => "Run a cache host",
        "cache.listen" => "Address to listen on",
        "cache.dir" => "Directory",
        "cache.max_bytes" => "Maximum size",
        "cache.curate" => "Only what an operator adds",
        "cache.keep_query" => "Queries are part of addresses",
        "cache.origins" => "Allowed origins",
        "cache.reach" => "Reachable networks",
        "cache.fresh_s" => "Time without another check, in s",
        "cache.pack" => "Pack images",
        "tftp.embedded" => "Run a TFTP server",
        "tftp.listen" => "Address to listen on",
        "tftp.root" => "Directory",
        "netboot.tftp_probe_host" => "Host to probe",
        "tuning.backup_max_parallel" => "Backups at once",
        "tuning.max_upload_bytes" => "Maximum size of an upload",
        "tuning.script_workers" => "Processes for scripts",
        "limits.connections" => "Connections",
        "limits.connections_per_address" => "Connections of one address",
        "limits.head_s" => "Time for the head of a request, in s",
        "limits.body_bytes" => "Memory for request bodies",
        "limits.body_rate" => "Minimum rate of request bodies",
        "limits.waiting_logins" => "Waiting log-ins",
        "limits.simulations" => "Simulations at once",
        "limits.new_machines_per_minute" => "New machines per minute",
        "limits.unassigned_machines" => "Unassigned machines",
        "limits.unassigned_bytes" => "Hardware of an unassigned machine",
        "limits.event_days" => "Days that events are kept",
        "limits.events" => "Events that are kept",
        "power.program" => "Program",
        "power.url" => "Address",
        "power.secret" => "Secret",
        "power.timeout_s" => "Time limit, in s",
        "power.parallel" => "Machines at once",
        "power.stagger_ms" => "Pause between machines, in ms",
        _ => "",
    }
}

fn config_row(config: &Config, key: &'static str, variable: &'static str) -> ConfigRow {
    let (value, origin) = &config.values[key];
    let is_secret = SECRETS.contains(&key);
    let source = match origin {
        Origin::Default => "default",
        Origin::Toml(_) | Origin::File(_) => "file",
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
    ConfigRow {
        key,
        label: config_label(key),
        value,
        origin: origin.to_string(),
        source,
        variable,
        is_open,
        pending,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::settings;

    #[test]
    fn every_key_has_a_label_and_its_control_offers_the_default() {
        for (key, default, _) in settings::KEYS.iter().filter(|(key, ..)| *key != LAST_BACKUP) {
            assert!(!label(key).is_empty(), "{key}");
            let offers = match control(key) {
                Control::Switch => matches!(*default, "0" | "1"),
                Control::Choice(choices) => choices.iter().any(|(value, _)| value == default),
                Control::Number(_) => default.parse::<i64>().is_ok(),
                Control::Plan | Control::Text => true,
            };
            assert!(offers, "{key}");
            if let Control::Choice(choices) = control(key) {
                for (value, _) in choices {
                    assert!(settings::check(key, value).is_ok(), "{key}: {value}");
                }
            }
        }
        for (key, ..) in &config::KEYS {
            assert!(!config_label(key).is_empty() && section_name(key) != "Other", "{key}");
        }
    }

    #[test]
    fn a_search_finds_words_in_any_order() {
        let query = |q: &str| SettingQuery { q: q.into() };
        let texts = ["Plans", "Plan for unknown machines", "plans.default"];
        assert!(query("").finds(&texts) && query("Unknown plan").finds(&texts));
        assert!(!query("unknown backup").finds(&texts));
    }
}
