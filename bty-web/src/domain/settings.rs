//! Settings, which an operator can change while the server runs.

use std::collections::BTreeMap;

use crate::domain::error::{Error, Result};

/// All keys, each with its default and a description.
pub const KEYS: [(&str, &str, &str); 13] = [
    ("upstream.netboot_repo", "safl/bty", "repository whose releases have the netboot artifacts"),
    ("upstream.netboot_tag", "latest", "tag that is fetched"),
    ("upstream.catalog_url", bty::catalog::DEFAULT_URL, "catalog that is offered for import"),
    (
        "netboot.version",
        "",
        "version of the artifacts that machines boot; empty for the server's own",
    ),
    (
        "netboot.extra_args",
        "",
        "further words on the kernel command line of every machine; whoever sets them is root on every target",
    ),
    (
        "plans.default",
        crate::domain::plan::bundled::INVENTORY,
        "plan of machines that are not known",
    ),
    (
        "plans.contact_window_ms",
        "3000",
        "so long is a contact without a nonce taken for a repetition",
    ),
    (
        "machines.silent_boots",
        "3",
        "after as many boots in which its live environment did not start, a machine boots its disk until it is saved; 0 sends it there for ever",
    ),
    ("display.timezone", "UTC", "zone of what people read, and of the clock that plans see"),
    ("backup.enabled", "0", "1 makes backups by itself"),
    ("backup.cadence", "manual", "daily, weekly or manual"),
    ("backup.retention_count", "7", "as many backups are kept"),
    ("backup.last_run_at", "", "when the last scheduled backup succeeded"),
];

/// All settings. Settings without a stored value have their defaults.
#[derive(Clone, Debug)]
pub struct Settings(BTreeMap<String, String>);

impl FromIterator<(String, String)> for Settings {
    /// Builds the settings from keys and their stored values.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Settings {
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Returns the value of a setting; empty for unknown keys.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        let default =
            || KEYS.iter().find(|(known, ..)| *known == key).map_or("", |(_, default, _)| default);
        self.0.get(key).map_or_else(default, String::as_str)
    }

    /// Returns the value of a setting as a number, or the default if the value is not a number.
    #[must_use]
    pub fn number(&self, key: &str) -> i64 {
        let default = || {
            KEYS.iter()
                .find(|(known, ..)| *known == key)
                .and_then(|(_, default, _)| default.parse().ok())
        };
        self.get(key).parse().ok().or_else(default).unwrap_or_default()
    }

    /// Returns the time zone of pages, and of the clock that plans see.
    #[must_use]
    pub fn zone(&self) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::get(self.get("display.timezone")).unwrap_or(jiff::tz::TimeZone::UTC)
    }
}

/// Checks a value for a setting.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) for an unknown key or an
/// invalid value; the message lists the allowed values.
pub fn check(key: &str, value: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid(format!("{key}: {why}")));
    if value.len() > 4096 || value.chars().any(char::is_control) {
        return wrong("must be one line of at most 4096 bytes");
    }
    let number = |range: std::ops::RangeInclusive<i64>| match value.parse::<i64>() {
        Ok(n) if range.contains(&n) => Ok(()),
        _ => Err(Error::invalid(format!(
            "{key}: must be a number from {} to {}",
            range.start(),
            range.end()
        ))),
    };
    match key {
        "backup.enabled" if !matches!(value, "0" | "1") => wrong("must be 0 or 1"),
        "backup.cadence" if !matches!(value, "daily" | "weekly" | "manual") => {
            wrong("must be daily, weekly or manual")
        }
        "backup.retention_count" => number(1..=10_000),
        "plans.contact_window_ms" => number(0..=600_000),
        "machines.silent_boots" => number(0..=1000),
        "plans.default" => crate::domain::plan::check_name(value).map_err(Error::invalid),
        "display.timezone" if value != "UTC" && jiff::tz::TimeZone::get(value).is_err() => {
            wrong("is no zone of this system's database, such as Europe/Berlin")
        }
        "netboot.extra_args" => {
            crate::domain::machine::contact::check_arguments(value).map_err(Error::invalid)
        }
        "netboot.version" | "upstream.netboot_tag" if !value.is_empty() && !is_tag(value) => {
            wrong("must be letters, digits, ., _ and -")
        }
        "upstream.netboot_repo" => match value.split_once('/') {
            Some((owner, name)) if is_tag(owner) && is_tag(name) => Ok(()),
            _ => wrong("must be owner/name"),
        },
        "upstream.catalog_url" if bty::redact::has_credentials(value) => {
            wrong("must be written without a user and a password: events and lists show it")
        }
        "upstream.catalog_url" => value.parse::<bty::Location>().map(drop).map_err(Error::from),
        _ if !KEYS.iter().any(|(known, ..)| *known == key) => {
            let known: Vec<&str> = KEYS.iter().map(|(known, ..)| *known).collect();
            Err(Error::invalid(format!(
                "there is no setting {key:?}; there are {}",
                known.join(", ")
            )))
        }
        _ => Ok(()),
    }
}

/// True for a valid release tag. Tags become part of file names.
pub(crate) fn is_tag(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(is_plain)
}
