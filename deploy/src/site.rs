//! A site: a directory with settings, generated files, and data.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf, absolute};

use bty::Digest;
use serde::{Deserialize, Serialize};

use crate::cli::{NewSiteArgs, SiteArgs};
use crate::failure::{Failure, Result};
use crate::service_manager::ServiceManager;
use crate::services::Service;
use crate::settings::{self, Settings};
use crate::{file, process};

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
pub(crate) struct State {
    /// What was started last; none if nothing was started, or if it was purged.
    running: Option<Deployment>,
    /// Digests of generated files when they were written, by file name. A file that still has its
    /// digest was not edited and may be overwritten.
    pub(crate) written: BTreeMap<String, Digest>,
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
        Self { version: version.to_owned(), manager, is_root: process::is_root() }
    }

    /// Reads the deployment from a `site.json`; none if there is none.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_str::<State>(&std::fs::read_to_string(path).ok()?).ok()?.running
    }
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
            .filter(|running| running.is_root != process::is_root())
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

    /// Opens an existing site, or describes a new one. Writes nothing.
    ///
    /// Fails if the options contradict the settings of an existing site.
    pub(crate) fn open_or_new(place: &SiteArgs, new: &NewSiteArgs) -> Result<Self> {
        let dest = absolute(&place.dest).map_err(Failure::at(&place.dest))?;
        if dest.join(settings::FILE).exists() {
            let site = Self::open(place)?;
            let refuse_if = |differs: bool, name: &str| match differs {
                true => Err(Failure::new(format!("the site has another value for {name}")).hint(
                    format!("set it in {}, and leave out the option", site.envvars().display()),
                )),
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
            profiles: default_profiles(),
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

    pub(crate) fn state(&self) -> State {
        let text = std::fs::read_to_string(self.state_file()).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub(crate) fn set_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state).unwrap_or_default() + "\n";
        file::write(&self.state_file(), &text, 0o644)
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

/// The optional services of a new site. TFTP is one of them if its port 69 may be bound.
fn default_profiles() -> Vec<String> {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .unwrap_or_default();
    let may_bind = process::is_root() || first.trim().parse::<u32>().is_ok_and(|port| port <= 69);
    let profiles: &[&str] = if may_bind { &["cache", "tftp"] } else { &["cache"] };
    profiles.iter().map(|profile| (*profile).to_owned()).collect()
}
