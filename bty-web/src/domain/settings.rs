//! Settings, which an operator can change while the server runs.

use std::collections::BTreeMap;

use crate::domain::error::{Error, Result};
use crate::domain::machine::pin::{FOLLOW, PIN};

/// The key that says what the server does with identities of machines.
pub const IDENTITY: &str = "machines.identity";

/// All keys, each with its default and a description.
pub const KEYS: [(&str, &str, &str); 18] = [
    ("upstream.netboot_repo", "safl/bty", "repository whose releases contain the live environment"),
    ("upstream.netboot_tag", "latest", "tag of the release to fetch"),
    ("upstream.catalog_url", bty::catalog::DEFAULT_URL, "catalog suggested for import"),
    (
        "netboot.version",
        "",
        "version of the live environment that machines boot; empty for the server's own version",
    ),
    (
        "netboot.extra_args",
        "",
        "additional kernel arguments of the live environment, for all machines; whoever sets them \
         is root on every target",
    ),
    ("plans.default", crate::domain::plan::bundled::INVENTORY, "plan for unknown machines"),
    (
        "plans.contact_window_ms",
        "3000",
        "milliseconds for which another contact without a nonce counts as a repetition",
    ),
    (
        "machines.silent_boots",
        "3",
        "number of boots without a start of the live environment after which a machine boots its \
         disk until it is saved; 0 for no limit",
    ),
    (
        "machines.stalled_after",
        "900",
        "seconds without a message from the live environment after which a machine is stalled; \
         phases that are known to be silent get longer; 0 for no limit",
    ),
    (
        "machines.parallel",
        "0",
        "number of machines that may be in the live environment at once; the others boot as if \
         nothing were ordered, and try again at their next network boot; 0 for no limit",
    ),
    (
        "machines.sample_proof",
        "0",
        "1 to let a delta flash of a disk that has passed a full proof read back only what it has \
         written and a sample of what it has kept",
    ),
    (
        "machines.rolling_images",
        FOLLOW,
        "what machines write when their image is published anew at its address: follow for the \
         newest version, pin for the one that was assigned; plans can decide otherwise",
    ),
    (
        IDENTITY,
        "suggest",
        "what the UUID and serial number of an unknown network card do: suggest says to which \
         machine it seems to belong, merge adds it to that machine, off records nothing",
    ),
    ("display.timezone", "UTC", "time zone of the pages, and of the clock that plans see"),
    ("backup.enabled", "0", "1 to back up on a schedule"),
    ("backup.cadence", "manual", "interval of backups: daily, weekly or manual"),
    ("backup.retention_count", "7", "number of backups to keep"),
    ("backup.last_run_at", "", "time of the last successful scheduled backup"),
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
        "backup.enabled" | "machines.sample_proof" if !matches!(value, "0" | "1") => {
            wrong("must be 0 or 1")
        }
        "machines.rolling_images" if ![FOLLOW, PIN].contains(&value) => {
            wrong("must be follow or pin")
        }
        IDENTITY if !matches!(value, "suggest" | "merge" | "off") => {
            wrong("must be suggest, merge or off")
        }
        "backup.cadence" if !matches!(value, "daily" | "weekly" | "manual") => {
            wrong("must be daily, weekly or manual")
        }
        "backup.retention_count" => number(1..=10_000),
        "plans.contact_window_ms" => number(0..=600_000),
        "machines.silent_boots" => number(0..=1000),
        "machines.stalled_after" => number(0..=604_800),
        "machines.parallel" => number(0..=100_000),
        "plans.default" => crate::domain::plan::check_name(value).map_err(Error::invalid),
        "display.timezone" if value != "UTC" && jiff::tz::TimeZone::get(value).is_err() => {
            wrong("must be a time zone in this system's database, such as Europe/Berlin")
        }
        "netboot.extra_args" => {
            crate::domain::machine::contact::check_arguments(value).map_err(Error::invalid)
        }
        "netboot.version" | "upstream.netboot_tag" if !value.is_empty() && !is_tag(value) => {
            wrong("must contain only letters, digits, ., _ and -")
        }
        "upstream.netboot_repo" => match value.split_once('/') {
            Some((owner, name)) if is_tag(owner) && is_tag(name) => Ok(()),
            _ => wrong("must be owner/name"),
        },
        "upstream.catalog_url" if bty::redact::has_credentials(value) => {
            wrong("must not contain a user name or a password, because events and lists show it")
        }
        "upstream.catalog_url" => value.parse::<bty::Location>().map(drop).map_err(Error::from),
        _ if !KEYS.iter().any(|(known, ..)| *known == key) => {
            let known: Vec<&str> = KEYS.iter().map(|(known, ..)| *known).collect();
            Err(Error::invalid(format!(
                "unknown setting {key:?}; choose from {}",
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
