//! `envvars`: what a person sets about a site. Every line of it does something: bty-lab reads the
//! first few, the programs all that begin with `BTY_`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// What the file is called.
pub(crate) const FILE: &str = "envvars";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where machines reach this host.
    pub(crate) host_addr: IpAddr,
    /// Directory of the data of all services.
    pub(crate) data_dir: PathBuf,
    /// What the names of images begin with: `localhost`, or a registry and a path.
    pub(crate) prefix: String,
    /// Whether there are a cache and TFTP.
    pub(crate) profiles: Vec<String>,
    /// Port of the server.
    pub(crate) port: u16,
    /// Port of the cache.
    pub(crate) cache_port: u16,
    /// Where TFTP listens.
    pub(crate) tftp: SocketAddr,
}

impl Settings {
    /// Reads them; paths are relative to `dest`.
    pub(crate) fn read(dest: &Path) -> Result<Self> {
        let path = dest.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(Failure::at(&path))?;
        Self::parse(dest, &text)
            .map_err(|wrong| Failure::new(format!("{}: {}", path.display(), wrong.join("; "))))
    }

    /// All that is wrong at once.
    fn parse(dest: &Path, text: &str) -> std::result::Result<Self, Vec<String>> {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut wrong = Vec::new();
        let mut values = BTreeMap::new();
        for line in lines {
            match line.split_once('=') {
                Some((name, value)) => _ = values.insert(name.trim(), value.trim()),
                None => wrong.push(format!("{line:?} is not NAME=VALUE")),
            }
        }
        let take = |name: &'static str, default: &'static str| {
            values.get(name).copied().filter(|v| !v.is_empty()).unwrap_or(default)
        };
        let host = take("HOST_ADDR", "");
        let data = take("BTY_HOST_DATA_DIR", "./data");
        let prefix = take("BTY_IMAGE_PREFIX", "localhost").trim_end_matches('/').to_owned();
        let profiles: Vec<String> = take("COMPOSE_PROFILES", "")
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let ports = [
            ("BTY_SERVER_PORT", take("BTY_SERVER_PORT", "8080")),
            ("BTY_CACHE_LISTEN", take("BTY_CACHE_LISTEN", "0.0.0.0:3000")),
        ];
        let tftp = take("BTY_TFTP_LISTEN", "0.0.0.0:69");
        for name in profiles.iter().filter(|name| !["cache", "tftp"].contains(&name.as_str())) {
            wrong.push(format!("COMPOSE_PROFILES: {name:?} is none; there are cache and tftp"));
        }
        let [port, cache_port] = ports.map(|(name, text)| {
            let port =
                text.rsplit(':').next().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
            port.unwrap_or_else(|| {
                wrong.push(format!("{name}: {text:?} is no port"));
                0
            })
        });
        let host_addr =
            host.parse().map_err(|_| wrong.push(format!("HOST_ADDR: {host:?} is no IP address")));
        let tftp = tftp
            .parse()
            .map_err(|_| wrong.push(format!("BTY_TFTP_LISTEN: {tftp:?} is not ADDRESS:PORT")));
        match (host_addr, tftp) {
            (Ok(host_addr), Ok(tftp)) if wrong.is_empty() => Ok(Self {
                host_addr,
                data_dir: dest.join(data).components().collect(),
                prefix,
                profiles,
                port,
                cache_port,
                tftp,
            }),
            _ => Err(wrong),
        }
    }

    /// Whether there is such a part.
    pub(crate) fn has(&self, profile: &str) -> bool {
        self.profiles.iter().any(|name| name == profile)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.host_addr, self.port))
    }

    /// Where the cache is.
    pub(crate) fn cache_url(&self) -> String {
        format!("http://{}", SocketAddr::new(self.host_addr, self.cache_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_left_out_has_its_usual_value() {
        let read = Settings::parse(Path::new("/srv/bty"), "# mine\nHOST_ADDR=192.0.2.1\n").unwrap();
        assert_eq!((read.port, read.cache_port, read.tftp.port()), (8080, 3000, 69));
        assert_eq!(read.data_dir, Path::new("/srv/bty/data"));
        assert_eq!(read.url(), "http://192.0.2.1:8080");
        assert!(!read.has("tftp"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "HOST_ADDR=here\nBTY_SERVER_PORT=http\nCOMPOSE_PROFILES=tftp,dhcp\nwhat\nBTY_TFTP_LISTEN=69\n";
        let wrong = Settings::parse(Path::new("/srv/bty"), text).unwrap_err();
        insta::assert_snapshot!(wrong.join("\n"));
    }
}
