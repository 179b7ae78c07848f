//! `envvars`: the settings of a site that a person edits. bty-lab reads the first few; the programs
//! in the containers get all that begin with `BTY_`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// Name of the file.
pub(crate) const FILE: &str = "envvars";

/// The settings that bty-lab itself uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Address at which machines reach this host.
    pub(crate) host_addr: IpAddr,
    /// Directory of the data of all services.
    pub(crate) data_dir: PathBuf,
    /// First part of the names of container images: `localhost`, or a registry and a path.
    pub(crate) prefix: String,
    /// Optional services: `cache`, `tftp`.
    pub(crate) profiles: Vec<String>,
    /// Port of the server.
    pub(crate) port: u16,
    /// Port of the cache.
    pub(crate) cache_port: u16,
    /// Address and port on which TFTP listens.
    pub(crate) tftp: SocketAddr,
}

impl Settings {
    /// Reads `envvars` in `dest`; relative paths in it are relative to `dest`.
    pub(crate) fn read(dest: &Path) -> Result<Self> {
        let path = dest.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Failure::at(&path))?;
        Self::parse(dest, &text).map_err(|errors| {
            let lines: String = errors.iter().map(|error| format!("\n  {error}")).collect();
            Failure::new(format!("{} has invalid settings:{lines}", path.display()))
                .hint("correct them there, and run the command again")
        })
    }

    /// Parses the settings, or returns all errors at once.
    fn parse(dest: &Path, text: &str) -> std::result::Result<Self, Vec<String>> {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut errors = Vec::new();
        let mut values = BTreeMap::new();
        for line in lines {
            match line.split_once('=') {
                Some((name, value)) => _ = values.insert(name.trim(), value.trim()),
                None => errors.push(format!("{line:?} is not NAME=VALUE")),
            }
        }
        let value_or = |name: &'static str, default: &'static str| {
            values.get(name).copied().filter(|v| !v.is_empty()).unwrap_or(default)
        };
        let host = value_or("HOST_ADDR", "");
        let data = value_or("BTY_HOST_DATA_DIR", "./data");
        let prefix = value_or("BTY_IMAGE_PREFIX", "localhost").trim_end_matches('/').to_owned();
        let profiles: Vec<String> = value_or("COMPOSE_PROFILES", "")
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let ports = [
            ("BTY_SERVER_PORT", "8080", "a port from 1 to 65535"),
            ("BTY_CACHE_LISTEN", "0.0.0.0:3000", "ADDRESS:PORT, with a port from 1 to 65535"),
        ];
        let tftp = value_or("BTY_TFTP_LISTEN", "0.0.0.0:69");
        for name in profiles.iter().filter(|name| !["cache", "tftp"].contains(&name.as_str())) {
            errors.push(format!(
                "COMPOSE_PROFILES: unknown profile {name:?}, expected cache or tftp"
            ));
        }
        let [port, cache_port] = ports.map(|(name, default, form)| {
            let text = value_or(name, default);
            let port =
                text.rsplit(':').next().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
            port.unwrap_or_else(|| {
                errors.push(format!("{name}: {text:?} is not {form}"));
                0
            })
        });
        let host_addr = host.parse().map_err(|_| {
            errors.push(match host {
                "" => "HOST_ADDR is not set: the address at which machines reach this host".into(),
                _ => format!("HOST_ADDR: {host:?} is not an IP address"),
            });
        });
        let tftp = tftp
            .parse()
            .map_err(|_| errors.push(format!("BTY_TFTP_LISTEN: {tftp:?} is not ADDRESS:PORT")));
        match (host_addr, tftp) {
            (Ok(host_addr), Ok(tftp)) if errors.is_empty() => Ok(Self {
                host_addr,
                data_dir: dest.join(data).components().collect(),
                prefix,
                profiles,
                port,
                cache_port,
                tftp,
            }),
            _ => Err(errors),
        }
    }

    /// True if the profile is enabled.
    pub(crate) fn has(&self, profile: &str) -> bool {
        self.profiles.iter().any(|name| name == profile)
    }

    /// Base URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.host_addr, self.port))
    }

    /// Base URL of the cache.
    pub(crate) fn cache_url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.host_addr, self.cache_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_settings_have_defaults() {
        let read = Settings::parse(Path::new("/srv/bty"), "# mine\nHOST_ADDR=192.0.2.1\n").unwrap();
        assert_eq!((read.port, read.cache_port, read.tftp.port()), (8080, 3000, 69));
        assert_eq!(read.data_dir, Path::new("/srv/bty/data"));
        assert_eq!(read.url(), "http://192.0.2.1:8080");
        assert!(!read.has("tftp"));
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let text = "HOST_ADDR=here\nBTY_SERVER_PORT=http\nCOMPOSE_PROFILES=tftp,dhcp\nwhat\n\
                    BTY_TFTP_LISTEN=69\n";
        let errors = Settings::parse(Path::new("/srv/bty"), text).unwrap_err();
        insta::assert_snapshot!(errors.join("\n"));
    }
}
