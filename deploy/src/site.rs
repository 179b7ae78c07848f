//! A site: a directory with settings, generated files, and data.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf, absolute};

use askama::Template;
use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::cli::{NewSiteArgs, SiteArgs};
use crate::failure::{Failure, Result};
use crate::service_manager::ServiceManager;
use crate::services::{self, Service, UID};
use crate::settings::{self, Settings};
use crate::{compose, owner, podman, units};

/// The version of this command, and of the container images that it starts.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A site and its settings.
pub(crate) struct Site {
    /// Absolute path of its directory.
    pub(crate) dest: PathBuf,
    pub(crate) settings: Settings,
}

/// What bty-lab records about a site, in `site.json`.
#[derive(Default, Serialize, Deserialize)]
struct State {
    /// What was started last; none if nothing was started, or if it was purged.
    running: Option<Deployment>,
    /// Digests of generated files when they were written, by file name. A file that still has its
    /// digest was not edited and may be overwritten.
    written: BTreeMap<String, Digest>,
}

/// A version that was started, and how.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Deployment {
    pub(crate) version: String,
    pub(crate) manager: ServiceManager,
    /// Root started it, so its containers belong to the system.
    #[serde(default)]
    pub(crate) is_root: bool,
}

impl Deployment {
    /// A deployment by the user of this process.
    pub(crate) fn new(version: &str, manager: ServiceManager) -> Self {
        Self { version: version.to_owned(), manager, is_root: podman::is_root() }
    }

    /// Reads the deployment from a `site.json`; none if there is none.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_str::<State>(&std::fs::read_to_string(path).ok()?).ok()?.running
    }
}

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
    /// Label of containers, whose value is the directory of their site.
    pub(crate) const LABEL: &'static str = "bty.site";

    /// Opens an existing site.
    pub(crate) fn open(place: &SiteArgs) -> Result<Self> {
        let dest = absolute(&place.dest).map_err(Failure::at(&place.dest))?;
        if !dest.join(settings::FILE).exists() {
            let failure = Failure::new(format!(
                "{} is not a site: it has no {}",
                dest.display(),
                settings::FILE
            ));
            return Err(failure.hint(format!("bty-lab deploy {}", dest.display())));
        }
        // podman does not show the containers of another user
        if let Some(running) = Deployment::read(&dest.join("site.json"))
            .filter(|running| running.is_root != podman::is_root())
        {
            let (who, next) = if running.is_root {
                ("root", "sudo bty-lab …")
            } else {
                ("a user without root", "run bty-lab as that user")
            };
            return Err(
                Failure::new(format!("{} was deployed by {who}", dest.display())).hint(next)
            );
        }
        let mut settings = Settings::read(&dest)?;
        if let Some(dir) = &place.data_dir {
            settings.data_dir = absolute(dir).map_err(Failure::at(dir))?;
        }
        Ok(Self { dest, settings })
    }

    /// Opens an existing site, or describes a new one with `profiles`. Writes nothing.
    ///
    /// Fails if the options contradict the settings of an existing site.
    pub(crate) fn open_or_new(place: &SiteArgs, new: &NewSiteArgs, profiles: &str) -> Result<Self> {
        let dest = absolute(&place.dest).map_err(Failure::at(&place.dest))?;
        if dest.join(settings::FILE).exists() {
            let site = Self::open(place)?;
            let refuse_if = |differs: bool, name: &str| match differs {
                true => Err(Failure::new(format!(
                    "{} has another value for {name}",
                    site.envvars().display()
                ))
                .hint("change it there")),
                false => Ok(()),
            };
            refuse_if(
                new.host_addr.is_some_and(|addr| addr != site.settings.host_addr),
                "HOST_ADDR",
            )?;
            refuse_if(
                new.prefix.as_ref().is_some_and(|prefix| *prefix != site.settings.prefix),
                "BTY_IMAGE_PREFIX",
            )?;
            let in_envvars = Settings::read(&dest)?.data_dir;
            refuse_if(site.settings.data_dir != in_envvars, "BTY_HOST_DATA_DIR")?;
            return Ok(site);
        }
        let data_dir = match &place.data_dir {
            Some(dir) => absolute(dir).map_err(Failure::at(dir))?,
            None => dest.join("data"),
        };
        let settings = Settings {
            host_addr: new.host_addr.unwrap_or_else(default_address),
            data_dir,
            prefix: new
                .prefix
                .clone()
                .unwrap_or_else(|| "localhost".into())
                .trim_end_matches('/')
                .to_owned(),
            profiles: profiles.split(',').map(str::to_owned).collect(),
            port: 8080,
            cache_port: 3000,
            tftp: ([0, 0, 0, 0], 69).into(),
        };
        Ok(Self { dest, settings })
    }

    pub(crate) fn envvars(&self) -> PathBuf {
        self.dest.join(settings::FILE)
    }

    pub(crate) fn toml(&self) -> PathBuf {
        self.dest.join("bty.toml")
    }

    fn state_file(&self) -> PathBuf {
        self.dest.join("site.json")
    }

    fn state(&self) -> State {
        let text = std::fs::read_to_string(self.state_file()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn set_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state).unwrap_or_default() + "\n";
        write(&self.state_file(), &text, 0o644)
    }

    /// The deployment that was started last.
    pub(crate) fn running(&self) -> Option<Deployment> {
        self.state().running
    }

    pub(crate) fn set_deployment(&self, running: Option<&Deployment>) -> Result<()> {
        self.set_state(&State { running: running.cloned(), ..self.state() })
    }

    /// The volumes of a container: path on the host, path in the container, and options.
    pub(crate) fn mounts(&self, service: &Service) -> Vec<(PathBuf, &'static str, &'static str)> {
        let Some((dir, path)) = service.state else { return Vec::new() };
        vec![
            (self.settings.data_dir.join(dir), path, "Z"),
            (self.toml(), "/etc/bty/bty.toml", "ro,z"),
        ]
    }

    /// Path and content of the files that are generated anew for each version.
    pub(crate) fn generated(&self, version: &str, with_units: bool) -> Vec<(PathBuf, String)> {
        let readme = Readme { dest: self.dest.display(), url: self.settings.url() };
        let mut files = vec![
            (self.dest.join("compose.yml"), compose::compose(&self.settings, version)),
            (self.dest.join("README.md"), readme.render().unwrap_or_default()),
        ];
        if with_units {
            let units = services::all(&self.settings, version);
            let user = !podman::is_root();
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
            write(&path, &text, 0o644)?;
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
            make_dir(path.parent().unwrap_or(path), written)?;
            if !path.exists() {
                written.push(path.to_owned());
            }
            write(path, text, mode)
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
            make_dir(&dir, written)?;
            set_mode(&dir, owner::DIR_MODE)?;
            if podman::is_root() {
                chown(&dir, Some(UID), Some(UID)).map_err(Failure::at(&dir))?;
            }
        }
        if podman::is_root() && written.contains(&self.toml()) {
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
    let secret = bty_web::services::auth::secret();
    let password: String = secret.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let hash = bty_web::services::auth::hash_password(&password)
        .map_err(|e| Failure::new(e.to_string()))?;
    let text =
        Toml { hash, secret: bty_web::services::auth::secret() }.render().unwrap_or_default()
            + "\n";
    Ok((text, Password(password)))
}

/// Creates a directory and missing parents, and appends those that it created to `written`.
fn make_dir(dir: &Path, written: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        std::fs::create_dir(dir).map_err(Failure::at(dir))?;
        written.push(dir.to_owned());
    }
    Ok(())
}

/// Replaces a file atomically. An existing file keeps its owner.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let part = path.with_extension("part");
    let result = (|| {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&part)?;
        if let Ok(meta) = path.metadata() {
            use std::os::unix::fs::MetadataExt as _;
            let _ = chown(&part, Some(meta.uid()), Some(meta.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, path)
    })();
    result.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        Failure::at(path)(error)
    })
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Failure::at(path))
}

/// The address of the default route; else of the first interface with IPv4; else the loopback
/// address.
fn default_address() -> IpAddr {
    // connecting a UDP socket sends no packet, but selects a source address
    let of_default_route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect(("198.51.100.1", 80)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
    };
    let any = || {
        let mut all =
            if_addrs::get_if_addrs().ok()?.into_iter().filter(|found| !found.is_loopback());
        all.find(|found| found.ip().is_ipv4()).map(|found| found.ip())
    };
    of_default_route().or_else(any).unwrap_or(Ipv4Addr::LOCALHOST.into())
}
