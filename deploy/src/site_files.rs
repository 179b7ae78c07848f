//! The files of a site: settings, generated files, and directories of data.

use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use askama::Template;
use bty::Digest;

use crate::failure::{Failure, Result};
use crate::services::{self, UID};
use crate::site::{Site, VERSION};
use crate::{compose, file, owner, process, units};

/// A new password. Only its hash is stored.
pub(crate) struct Password(pub(crate) String);

#[derive(Template)]
#[template(path = "envvars", escape = "none")]
struct Envvars<'a> {
    dest: std::path::Display<'a>,
    host_addr: IpAddr,
    data_dir: String,
    prefix: &'a str,
    profiles: &'a str,
}

#[derive(Template)]
#[template(path = "bty.toml", escape = "none")]
struct Toml {
    hash: String,
    secret: String,
}

#[derive(Template)]
#[template(path = "README.md", escape = "none")]
struct Readme<'a> {
    dest: std::path::Display<'a>,
    url: String,
}

impl Site {
    /// Path and content of the files that are generated anew for each version.
    pub(crate) fn generated(&self, version: &str, with_units: bool) -> Vec<(PathBuf, String)> {
        let readme = Readme { dest: self.dest.display(), url: self.settings.url() };
        let mut files = vec![
            (self.dest.join("compose.yml"), compose::compose(&self.settings, version)),
            (self.dest.join("README.md"), readme.render().unwrap_or_default()),
        ];
        if with_units {
            let units = services::all(&self.settings, version);
            let user = !process::is_root();
            files.extend(units.iter().map(|one| {
                (
                    self.dest.join("quadlet").join(units::file_name(one)),
                    units::unit(self, one, user),
                )
            }));
        }
        files
    }

    /// Writes the generated files for a version, and overwrites existing ones.
    pub(crate) fn write_for(&self, version: &str) -> Result<()> {
        let mut state = self.state();
        for (path, text) in self.generated(version, self.dest.join("quadlet").is_dir()) {
            file::write(&path, &text, 0o644)?;
            state.written.insert(name_of(&path), Digest::of(text.as_bytes()));
        }
        self.set_state(&state)
    }

    /// Writes missing files, and updates generated files that were not edited, or with `force` all
    /// of them. Settings and data stay. Returns the password if it is new.
    ///
    /// On failure, removes what it has written.
    pub(crate) fn write(&self, with_units: bool, force: bool) -> Result<Option<Password>> {
        let mut written = Vec::new();
        let result = self.write_all(with_units, force, &mut written);
        if result.is_err() {
            for path in written.iter().rev() {
                // remove_dir fails for directories that are not empty
                let _ = if path.is_dir() {
                    std::fs::remove_dir(path)
                } else {
                    std::fs::remove_file(path)
                };
            }
        }
        result
    }

    fn write_all(
        &self,
        with_units: bool,
        force: bool,
        written: &mut Vec<PathBuf>,
    ) -> Result<Option<Password>> {
        let mut write_new = |path: &Path, text: &str, mode: u32| {
            file::make_dir(path.parent().unwrap_or(path), written)?;
            if !path.exists() {
                written.push(path.to_owned());
            }
            file::write(path, text, mode)
        };
        let mut state = self.state();
        for (path, text) in self.generated(VERSION, with_units) {
            let found = std::fs::read(&path).ok();
            let name = name_of(&path);
            let is_own = |found: &Vec<u8>| {
                found == text.as_bytes() || state.written.get(&name) == Some(&Digest::of(found))
            };
            if !force && !found.as_ref().is_none_or(is_own) {
                let failure =
                    Failure::new(format!("{} was edited and would be overwritten", path.display()));
                return Err(
                    failure.hint("--force overwrites it; envvars, bty.toml and data always stay")
                );
            }
            if found.as_deref() != Some(text.as_bytes()) {
                write_new(&path, &text, 0o644)?;
            }
            state.written.insert(name, Digest::of(text.as_bytes()));
        }
        self.set_state(&state)?;
        if !self.envvars().exists() {
            write_new(&self.envvars(), &self.envvars_text(), 0o640)?;
        }
        let mut password = None;
        if !self.toml().exists() {
            let (text, new) = new_toml()?;
            write_new(&self.toml(), &text, 0o640)?;
            password = Some(new);
        }
        self.make_data_dirs(written)?;
        self.chown_to_sudo_user(written)?;
        Ok(password)
    }

    fn envvars_text(&self) -> String {
        let data = &self.settings.data_dir;
        let data_dir = if *data == self.dest.join("data") {
            "./data".to_owned()
        } else {
            data.display().to_string()
        };
        let profiles = self.settings.profiles.join(",");
        let text = Envvars {
            dest: self.dest.display(),
            host_addr: self.settings.host_addr,
            data_dir,
            prefix: &self.settings.prefix,
            profiles: &profiles,
        };
        text.render().unwrap_or_default() + "\n"
    }

    /// Creates missing directories of data, owned by the user of the programs, or without root by
    /// the calling user. [`owner::fix_ownership`] handles existing ones.
    fn make_data_dirs(&self, written: &mut Vec<PathBuf>) -> Result<()> {
        for service in services::all(&self.settings, VERSION) {
            let Some(dir) = service.state_dir(&self.settings).filter(|dir| !dir.exists()) else {
                continue;
            };
            file::make_dir(&dir, written)?;
            file::set_mode(&dir, owner::DIR_MODE)?;
            if process::is_root() {
                chown(&dir, Some(UID), Some(UID)).map_err(Failure::at(&dir))?;
            }
        }
        if process::is_root() && written.contains(&self.toml()) {
            chown(self.toml(), Some(UID), Some(UID)).map_err(Failure::at(&self.toml()))?;
        }
        Ok(())
    }

    /// Changes the owner of settings and generated files to the user who called `sudo`, who can
    /// edit them then.
    fn chown_to_sudo_user(&self, written: &[PathBuf]) -> Result<()> {
        let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
        let is_theirs = |path: &&PathBuf| {
            path.starts_with(&self.dest)
                && !path.starts_with(&self.settings.data_dir)
                && **path != self.toml()
        };
        written
            .iter()
            .filter(is_theirs)
            .try_for_each(|path| chown(path, Some(uid), Some(gid)).map_err(Failure::at(path)))
    }
}

/// Key of a file in `site.json`.
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Generates a password, and a `bty.toml` with its hash.
fn new_toml() -> Result<(String, Password)> {
    let secret = bty_web::setup::secret();
    let password: String = secret.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let hash = bty_web::setup::hash_password(&password).map_err(|e| Failure::new(e.to_string()))?;
    let text = Toml { hash, secret: bty_web::setup::secret() }.render().unwrap_or_default() + "\n";
    Ok((text, Password(password)))
}
