//! Changes of the configuration in the browser. They are written to the configuration file in the
//! state directory, and take effect at the next start.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, value};

use super::keys::{KEYS, Origin, PROGRAM, SECRETS, STATE_DIR};
use super::values::toml_text;
use super::{Config, Sources};
use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::durable::{PRIVATE_FILE, write_durably};

/// Returns why `key` cannot be changed in the file, phrased as the rest of a sentence that begins
/// with the key; `None` if it can.
#[must_use]
pub fn obstacle(config: &Config, key: &str) -> Option<String> {
    if !KEYS.iter().any(|(known, ..)| *known == key) {
        return Some("is not a configuration key".into());
    }
    if SECRETS.contains(&key) || matches!(key, STATE_DIR | PROGRAM) {
        return Some("cannot be changed in the browser".into());
    }
    if let Some((_, Origin::Env(variable))) = config.values.get(key) {
        return Some(format!("is set by {variable}, which overrides files"));
    }
    if config.own_file.is_none() {
        return Some(
            "is determined by the files that --config names, or by the program around the server; \
             change it there"
                .into(),
        );
    }
    None
}

/// Returns the value of `key` in the file, which takes effect at the next start; `None` if it is
/// not set.
#[must_use]
pub fn pending(config: &Config, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(config.own_file.as_ref()?).ok()?;
    let table: toml::Table = text.parse().ok()?;
    let (section, name) = key.split_once('.')?;
    toml_text(table.get(section)?.get(name)?)
}

/// Sets `key` in the file, or removes it if `text` is empty. Preserves the rest of the file,
/// including comments.
///
/// # Errors
/// - [`ErrorKind::Conflict`] if the key cannot be changed in the file; see [`obstacle`].
/// - [`ErrorKind::Invalid`] if the next start would refuse the value, or the file is not valid
///   TOML.
/// - [`ErrorKind::Internal`] if the file cannot be read or written.
pub fn set(
    config: &Config,
    env: &dyn Fn(&str) -> Option<String>,
    key: &str,
    text: &str,
) -> Result<()> {
    if let Some(why) = obstacle(config, key) {
        return Err(Error::new(ErrorKind::Conflict, format!("{key} {why}")));
    }
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{key} must be one line of at most 4096 bytes")));
    }
    let (Some(file), Some((section, name))) = (&config.own_file, key.split_once('.')) else {
        return Err(Error::internal("a key without a section, or no file"));
    };
    let at = |e: std::io::Error| Error::internal(format!("{}: {e}", file.display()));
    let before = match std::fs::read_to_string(file) {
        Ok(before) => before,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(at(e)),
    };
    let mut document: DocumentMut = before
        .parse()
        .map_err(|e| Error::invalid(format!("{} is not valid TOML: {e}", file.display())))?;
    if text.is_empty() {
        if let Some(table) = document.get_mut(section).and_then(Item::as_table_like_mut) {
            table.remove(name);
        }
    } else {
        let table = document.entry(section).or_insert(Item::Table(Table::new()));
        let table = table
            .as_table_like_mut()
            .ok_or_else(|| Error::invalid(format!("{section} is not a section")))?;
        table.insert(name, value(text));
    }
    let after = document.to_string();
    check(config, env, file, &after)?;
    // other values in the file may be secrets
    write_durably(file, after.as_bytes(), PRIVATE_FILE).map_err(at)
}

/// Loads the configuration as the next start would, with `text` in place of `file`.
fn check(
    config: &Config,
    env: &dyn Fn(&str) -> Option<String>,
    file: &Path,
    text: &str,
) -> Result<()> {
    let candidate = file.with_extension("checked");
    let at = |e: std::io::Error| Error::internal(format!("{}: {e}", candidate.display()));
    std::fs::write(&candidate, text).map_err(at)?;
    let mut named: Vec<_> = config.files.iter().filter(|known| *known != file).cloned().collect();
    named.push(candidate.clone());
    let loaded = Config::load(&Sources { env, named: &named });
    std::fs::remove_file(&candidate).map_err(at)?;
    let shown = |problem: Problem| Problem {
        message: problem
            .message
            .replace(&candidate.display().to_string(), &file.display().to_string()),
        ..problem
    };
    loaded.map(drop).map_err(|error| Error {
        problems: error.problems.into_iter().map(shown).collect(),
        ..error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_value_keeps_the_rest_and_an_invalid_value_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        let env = |name: &str| match name {
            "BTY_PATHS_STATE_DIR" => Some(state.clone()),
            "BTY_SERVER_HOST" => Some("127.0.0.1".into()),
            _ => None,
        };
        let load = || Config::load(&Sources { env: &env, named: &[] }).unwrap();
        let file = dir.path().join("bty.toml");
        std::fs::write(&file, "# by hand\n[server]\nport = 9000 # why\n").unwrap();
        set(&load(), &env, "server.public_url", "https://bty.example").unwrap();
        set(&load(), &env, "cache.max_bytes", "200G").unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("# by hand") && text.contains("port = 9000 # why"), "{text}");
        assert_eq!(load().public_url.as_deref(), Some("https://bty.example"));
        assert_eq!(pending(&load(), "cache.max_bytes").as_deref(), Some("200G"));
        assert_eq!(pending(&load(), "server.port").as_deref(), Some("9000"));

        let refused =
            |key: &str, text: &str| set(&load(), &env, key, text).unwrap_err().to_string();
        assert!(
            refused("server.port", "70000").contains("bty.toml"),
            "{}",
            refused("server.port", "70000")
        );
        assert!(refused("server.host", "::1").contains("BTY_SERVER_HOST"));
        assert!(refused("admin.password", "x").contains("cannot be changed"));
        assert!(
            refused("paths.state_dir", "/").contains("overrides")
                || refused("paths.state_dir", "/").contains("cannot be changed")
        );
        assert!(refused("server.color", "red").contains("is not a configuration key"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");

        set(&load(), &env, "server.port", "").unwrap();
        assert_eq!(load().listen.port(), 8080);
        let named =
            Config::load(&Sources { env: &env, named: std::slice::from_ref(&file) }).unwrap();
        assert!(
            set(&named, &env, "server.port", "9001").unwrap_err().to_string().contains("--config")
        );
    }
}
