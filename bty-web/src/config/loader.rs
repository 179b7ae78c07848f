//! Loads the configuration from files and the environment.
//!
//! Each source overrides the previous ones:
//!
//! 1. defaults
//! 2. `/etc/bty/conf.d/*.toml`, by name
//! 3. `/etc/bty/bty.toml`
//! 4. `*.toml` in the directory that `BTY_CONFIG_DIR` names, by name
//! 5. the file that `BTY_CONFIG_FILE` names
//! 6. `bty.toml` in the state directory
//! 7. the environment
//!
//! If `--config` names files or directories, they replace 2 to 6.

use std::path::{Path, PathBuf};

use super::Config;
use super::build::build;
use super::keys::{KEYS, Origin, STATE_DIR, STATE_FILE};
use super::sources::Sources;
use super::values::Values;
use super::webhooks;
use crate::domain::error::Result;

impl Default for Config {
    /// The default of every key.
    fn default() -> Self {
        Self::from_values([("", ""); 0]).unwrap_or_else(|e| unreachable!("defaults are valid: {e}"))
    }
}

impl Config {
    /// Makes a configuration of values by their keys, such as `("server.port", "9000")`;
    /// `docs/reference/configuration.md` has all keys. Other keys have their defaults: neither
    /// files nor the environment are read.
    ///
    /// ```
    /// let values = [("paths.state_dir", "/srv/bty"), ("server.host", "127.0.0.1")];
    /// let config = bty_web::Config::from_values(values)?;
    /// assert!(config.shown().contains("state_dir = \"/srv/bty\"  # program"));
    ///
    /// let error = bty_web::Config::from_values([("server.port", "many")]).unwrap_err();
    /// assert!(error.to_string().contains("server.port: expected a port"), "{error}");
    /// # Ok::<(), bty_web::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems.
    pub fn from_values<'a, V: Into<String>>(
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) -> Result<Self> {
        let mut all = Values::defaults();
        for (key, value) in values {
            match KEYS.iter().find(|(known, ..)| *known == key) {
                Some((key, ..)) => {
                    all.values.insert(key, (value.into(), Origin::Program));
                }
                None => all.add_problem(key, "is not a configuration key"),
            }
        }
        build(all, Vec::new(), &|_| None, false)
    }

    /// Loads and checks a configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems.
    pub fn load(sources: &Sources<'_>) -> Result<Self> {
        let mut loader = Loader { values: Values::defaults(), files: Vec::new() };
        for path in loader.find_files(sources) {
            loader.read(&path);
        }
        loader.read_environment(sources);
        // only now is the state directory known; the environment overrides its file
        if sources.named.is_empty() {
            let path = Path::new(&loader.values.text(STATE_DIR)).join(STATE_FILE);
            if path.is_file() && !loader.files.contains(&path) {
                loader.read(&path);
                loader.read_environment(sources);
            }
        }
        build(loader.values, loader.files, sources.env, sources.named.is_empty())
    }
}

struct Loader {
    values: Values,
    /// Files that were read, in increasing precedence.
    files: Vec<PathBuf>,
}

impl Loader {
    /// Returns the files to read, in increasing precedence.
    fn find_files(&mut self, sources: &Sources<'_>) -> Vec<PathBuf> {
        if !sources.named.is_empty() {
            return self.find_named_files(sources.named);
        }
        let variable =
            |name: &str| (sources.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut files = drop_ins(Path::new("/etc/bty/conf.d"));
        files.extend(Some(PathBuf::from("/etc/bty/bty.toml")).filter(|path| path.is_file()));
        files.extend(variable("BTY_CONFIG_DIR").iter().flat_map(|dir| drop_ins(dir)));
        if let Some(path) = variable("BTY_CONFIG_FILE") {
            if path.is_file() {
                files.push(path);
            } else {
                let why = format!("{} is not a file", path.display());
                self.values.add_problem("BTY_CONFIG_FILE", why);
            }
        }
        files
    }

    fn find_named_files(&mut self, named: &[PathBuf]) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for path in named {
            if path.is_dir() {
                files.extend(drop_ins(path));
            } else if path.is_file() {
                files.push(path.clone());
            } else {
                let why = "is neither a file nor a directory";
                self.values.add_problem(path.display().to_string(), why);
            }
        }
        files
    }

    fn read(&mut self, path: &Path) {
        self.files.push(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => {
                return self.values.add_problem(path.display().to_string(), e.to_string());
            }
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(e) => {
                let why = format!("not valid TOML: {}", e.to_string().trim());
                return self.values.add_problem(path.display().to_string(), why);
            }
        };
        for (section, value) in &table {
            if section == webhooks::SECTION {
                webhooks::read(&mut self.values, path, value);
                continue;
            }
            let Some(fields) = value.as_table() else {
                let warning =
                    format!("{}: key {section} is outside of any section; ignored", path.display());
                self.values.warnings.push(warning);
                continue;
            };
            for (key, value) in fields {
                self.values.set_from_file(path, &format!("{section}.{key}"), value);
            }
        }
    }

    fn read_environment(&mut self, sources: &Sources<'_>) {
        for (key, _, variable) in KEYS {
            if let Some(value) = (sources.env)(variable).filter(|value| !value.is_empty()) {
                self.values.values.insert(key, (value, Origin::Env(variable)));
            }
        }
    }
}

/// Returns the `*.toml` files in `dir`, sorted by name.
fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}
