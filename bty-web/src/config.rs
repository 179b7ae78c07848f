//! The configuration of a server: its keys, the structure they are parsed into, and the loader.
//!
//! All problems are found at startup and reported together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bty::Client;

use crate::cache::CacheOptions;
use crate::domain::error::{Error, Problem, Result};
use crate::domain::network::{FormattedIp, Networks, is_routable};
use crate::domain::webhook::Webhook;
use crate::tftp::TftpOptions;

mod build;
pub mod edit;
pub mod env_file;
mod keys;
pub mod limits;
mod loader;
mod outbound;
mod power;
mod sources;
mod values;
mod webhooks;

use limits::Limits;

pub use keys::{KEYS, Origin, SECRETS};
pub use outbound::OutboundNetwork;
pub use power::{PowerHook, PowerOptions};
pub use sources::Sources;

pub(crate) use outbound::proxies;

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Password of the admin, or its argon2 hash; `None` for a server without a password.
    pub(crate) password: Option<String>,
    /// True if the password is set but empty, which is a mistake.
    pub(crate) password_is_empty: bool,
    /// True if the operator explicitly wants a server without a password.
    pub(crate) open_is_wanted: bool,
    /// Address and port to listen at.
    pub(crate) listen: SocketAddr,
    /// URL at which browsers and machines reach the server; `None` to take it from each request.
    pub(crate) public_url: Option<String>,
    /// Path prefix below which a program serves the server, such as `/bty`; empty for the path of
    /// the public URL.
    pub(crate) base_path: String,
    /// Proxies whose `X-Forwarded-*` headers are trusted.
    pub(crate) trusted_proxies: Networks,
    /// Proxies that log in the users of pages, with the header `Remote-User`.
    pub(crate) remote_user_proxies: Networks,
    /// Secret that signs cookies; `None` to generate and store one.
    pub(crate) session_secret: Option<String>,
    /// Log filter, in the syntax of `RUST_LOG`.
    pub(crate) log: String,
    /// True for a JSON log with one line per event.
    pub(crate) logs_json: bool,
    /// How the server reaches other servers.
    pub(crate) network: OutboundNetwork,
    /// Directory of the database.
    pub(crate) state_dir: PathBuf,
    /// True if the state may be on a network file system.
    pub(crate) state_may_be_remote: bool,
    /// Directory of the live environment's files.
    pub(crate) boot_dir: PathBuf,
    /// Directory of the live environment's files that are installed with the program. They are used
    /// for names that the boot directory lacks.
    pub(crate) boot_seed_dir: PathBuf,
    /// Directory of the documentation site. It need not exist.
    pub(crate) site_dir: PathBuf,
    /// Directory of the backups.
    pub(crate) backup_dir: PathBuf,
    /// Catalog file that is imported at startup, if it exists.
    pub(crate) catalog_file: PathBuf,
    /// URL of an external cache host through which machines download images. Empty for none, or for
    /// the one in this process.
    pub(crate) cache_url: String,
    /// True if this process is a cache host without a server.
    pub(crate) is_cache_only: bool,
    /// Address and options of the cache host in this process; `None` if it runs none.
    pub(crate) cache: Option<(SocketAddr, CacheOptions)>,
    /// Options of a cache host in this process, whether it runs or not.
    pub(crate) cache_options: CacheOptions,
    /// Listen address of a cache host in this process, whether it runs or not.
    pub(crate) cache_listen: SocketAddr,
    /// True if the TFTP server runs in this process.
    pub(crate) tftp_is_embedded: bool,
    /// Address and UDP port of the TFTP server.
    pub(crate) tftp_listen: SocketAddr,
    /// Directory of the files that the TFTP server serves.
    pub(crate) tftp_root: PathBuf,
    /// Host of the TFTP server that machines use; empty for the one in this process or on the cache
    /// host.
    pub(crate) tftp_probe_host: String,
    /// Maximum number of concurrent backups.
    pub(crate) backup_max_parallel: usize,
    /// Maximum size of an upload in bytes.
    pub(crate) max_upload_bytes: u64,
    /// Number of processes that run scripts.
    pub(crate) script_workers: usize,
    /// Limits for clients without a password or token.
    pub(crate) limits: Limits,
    /// How machines are switched.
    pub(crate) power: PowerOptions,
    /// Webhooks, which report events to other servers.
    pub(crate) webhooks: Vec<Webhook>,
    /// Every value as text, and where it was set.
    pub(crate) values: BTreeMap<&'static str, (String, Origin)>,
    /// Files that were read, in increasing precedence.
    pub(crate) files: Vec<PathBuf>,
    /// File to which changes in the browser are written; `None` if `--config` names the files.
    pub(crate) own_file: Option<PathBuf>,
    /// Valid but suspicious settings, logged at startup.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// Serves everything below `path`, such as `/bty`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) if `path` is not such a
    /// path, or `server.public_url` has another one.
    pub(crate) fn set_base_path(&mut self, path: &str) -> Result<()> {
        let path = path.trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(is_plain);
        let below = path.strip_prefix('/');
        if !path.is_empty() && !below.is_some_and(|below| below.split('/').all(is_name)) {
            return Err(Error::invalid(format!(
                "the base path {path:?} is invalid; choose one such as /bty, of letters, digits \
                 and -._~"
            )));
        }
        let public = self.root();
        if self.public_url.is_some() && public != path {
            return Err(Error::invalid(format!(
                "the base path is {path:?}, but the path of server.public_url is {public:?}; \
                 remove one, or make both equal"
            )));
        }
        path.clone_into(&mut self.base_path);
        Ok(())
    }

    /// True if the documentation site is installed.
    #[must_use]
    pub(crate) fn has_site(&self) -> bool {
        self.site_dir.join("index.html").is_file()
    }

    /// Returns the path below which everything is served: that of the program around the server,
    /// else the path of [`public_url`](Self::public_url), `/bty` for `http://h/bty`. Usually empty.
    #[must_use]
    pub(crate) fn root(&self) -> String {
        if !self.base_path.is_empty() {
            return self.base_path.clone();
        }
        let url = self.public_url.as_deref().and_then(|url| url.parse::<url::Url>().ok());
        url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
    }

    /// Returns a client for URLs that operators enter. It contacts neither this host nor its local
    /// link, except for the networks in `cache.reach`.
    #[must_use]
    pub(crate) fn guarded_client(&self) -> Client {
        let mut options = self.network.options();
        let reach = self.cache_options.reach.clone();
        options.may_reach = Some(Arc::new(move |ip| is_routable(ip) || reach.contains(ip)));
        Client::new(options)
    }

    /// Returns host and port of the TFTP server that machines use.
    #[must_use]
    pub(crate) fn tftp_probe(&self) -> (String, u16) {
        let listen = self.tftp_listen;
        let cache_host = || self.cache_url.parse::<url::Url>().ok()?.host_str().map(str::to_owned);
        let host = match () {
            () if !self.tftp_probe_host.is_empty() => self.tftp_probe_host.clone(),
            () if self.tftp_is_embedded && !listen.ip().is_unspecified() => {
                FormattedIp(listen.ip()).to_string()
            }
            () if self.tftp_is_embedded => "127.0.0.1".to_owned(),
            () => cache_host().unwrap_or_else(|| "127.0.0.1".to_owned()),
        };
        (host, listen.port())
    }

    /// Returns the options of the TFTP server in this process.
    #[must_use]
    pub(crate) fn tftp(&self) -> TftpOptions {
        TftpOptions {
            listen: self.tftp_listen,
            roots: vec![self.tftp_root.clone(), self.boot_seed_dir.clone()],
            allowed: Vec::new(),
            server_url: self.public_url.clone(),
            server_port: self.listen.port(),
            server_path: self.root(),
        }
    }

    /// Returns all values as TOML, each with a comment that says where it was set. Secrets are
    /// replaced with `(set)`.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text: String =
            self.files.iter().map(|file| format!("# read {}\n", file.display())).collect();
        let mut current = "";
        for (key, ..) in KEYS {
            let (value, origin) = &self.values[key];
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            if section != current {
                text += &format!("{}[{section}]\n", if current.is_empty() { "" } else { "\n" });
                current = section;
            }
            let shown = if SECRETS.contains(&key) && !value.is_empty() { "(set)" } else { value };
            text += &format!("{name} = {shown:?}  # {origin}\n");
        }
        text += &webhooks::shown(&self.webhooks);
        text
    }

    /// Refuses to listen on `listen` without a password, unless the operator explicitly wants that.
    /// Only users of this host can reach a server on the loopback interface.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid); the message says how to
    /// fix it.
    pub(crate) fn check_login(&self, listen: SocketAddr) -> Result<()> {
        let why = if self.password_is_empty {
            "the value is empty; set a password, or remove the key"
        } else if self.password.is_none() && !self.open_is_wanted && !listen.ip().is_loopback() {
            "it is not set, so anybody on the network could change everything; set one (see \
             bty-web hash-password), or set admin.open = 1 if that is what you want"
        } else {
            return Ok(());
        };
        Err(values::invalid_configuration(vec![Problem::new("admin.password", why)]))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn load(env: &[(&str, &str)], named: &[PathBuf]) -> Result<Config> {
        let find = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Config::load(&Sources { env: &find, named })
    }

    #[test]
    fn variables_override_files_and_files_override_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("10.toml"), "[server]\nport = 9000\nhost = \"127.0.0.1\"\n")
            .unwrap();
        std::fs::write(dir.path().join("20.toml"), "[server]\nport = 9001\nfuture = 1\n").unwrap();
        let named = [dir.path().to_owned()];
        let config = load(&[("BTY_SERVER_HOST", "::1"), ("BTY_SERVER_PORT", "")], &named).unwrap();
        assert_eq!(config.listen.to_string(), "[::1]:9001");
        assert_eq!(config.values["server.host"].1, Origin::Env("BTY_SERVER_HOST"));
        assert_eq!(config.values["server.log"].1, Origin::Default);
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bty.toml");
        std::fs::write(&file, "[server]\nport = 70000\nhost = [1]\n").unwrap();
        let env = [
            ("BTY_SERVER_TRUSTED_PROXY", "10.0.0.0/99"),
            ("BTY_SERVER_SESSION_SECRET", "short"),
            ("BTY_SERVER_PUBLIC_URL", "bty.example"),
            ("BTY_TUNING_MAX_UPLOAD_BYTES", "much"),
        ];
        let error = load(&env, &[file, dir.path().join("gone")]).unwrap_err();
        let text = error.to_string().replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_public_url_must_accept_appended_paths() {
        let check = |url: &str| {
            load(&[("BTY_SERVER_PUBLIC_URL", url)], &[])
                .map(|config| config.root())
                .map_err(|e| e.to_string())
        };
        for (url, root) in [
            ("https://bty.example:8443", ""),
            ("http://10.0.0.1/", ""),
            ("http://[fd00::1]:8080", ""),
            ("http://h/bty", "/bty"),
            ("http://h/a/b-c//", "/a/b-c"),
        ] {
            assert_eq!(check(url).as_deref(), Ok(root), "{url}");
        }
        for (url, why) in [
            ("http://h/?a=b", "a query"),
            ("http://h/bty?", "a query"),
            ("http://h/#top", "a fragment"),
            ("http://admin:s3cret@h/", "a user name or a password"),
            ("http://admin@h/", "a user name or a password"),
            ("http://h/${mac}", "characters"),
            ("http://h/a b", "characters"),
            ("http://h/a/../b", "not normalized"),
            ("http://h/a//b", "not normalized"),
            ("http:h", "no //"),
        ] {
            let message = check(url).unwrap_err();
            assert!(
                message.contains("server.public_url: the value (env(BTY_SERVER_PUBLIC_URL)) has")
                    && message.contains(why),
                "{url}: {message}"
            );
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn a_base_path_is_plain_and_agrees_with_the_public_url() {
        let below = |path: &str, values: &[(&str, &str)]| {
            let mut config = Config::from_values(values.iter().copied()).unwrap();
            config.set_base_path(path).map(|()| config.root()).map_err(|e| e.to_string())
        };
        for (path, root) in [("/bty", "/bty"), ("/a/b-c/", "/a/b-c"), ("", ""), ("/", "")] {
            assert_eq!(below(path, &[]).as_deref(), Ok(root), "{path}");
        }
        for path in ["bty", "//h", "/a//b", "/..", "/a/../b", "/{a}", "/a b", "/a?b", "/%2f"] {
            assert!(below(path, &[]).unwrap_err().contains("choose one such as /bty"), "{path}");
        }
        let public = ("server.public_url", "http://h/bty");
        assert_eq!(below("/bty", &[public]).as_deref(), Ok("/bty"));
        assert!(below("/ytb", &[public]).unwrap_err().contains("\"/bty\""));
    }

    #[test]
    fn values_of_a_program_are_checked_like_those_of_files() {
        let config = Config::from_values([("paths.state_dir", "/srv/bty")]).unwrap();
        assert_eq!(config.boot_dir, Path::new("/srv/bty/boot"));
        assert_eq!(config.values["paths.state_dir"].1, Origin::Program);
        assert_eq!(Config::default().listen.to_string(), "0.0.0.0:8080");
        let wrong = [("server.prot", "1"), ("server.port", "x")];
        let error = Config::from_values(wrong).unwrap_err().to_string();
        assert!(error.contains("server.prot: is not a configuration key"), "{error}");
        assert!(error.contains("server.port: expected a port"), "{error}");
    }

    #[test]
    fn a_server_without_a_password_must_be_configured() {
        let check = |env: &[(&str, &str)]| {
            let config = load(env, &[]).unwrap();
            config.check_login(config.listen).map_err(|e| e.to_string())
        };
        assert!(check(&[]).unwrap_err().contains("admin.open = 1"));
        assert!(check(&[("BTY_SERVER_HOST", "192.0.2.1")]).is_err());
        assert!(check(&[("BTY_ADMIN_PASSWORD", "")]).unwrap_err().contains("is empty"));
        assert!(
            check(&[
                ("BTY_ADMIN_PASSWORD", ""),
                ("BTY_ADMIN_OPEN", "1"),
                ("BTY_SERVER_HOST", "::1")
            ])
            .is_err()
        );
        for env in [
            ("BTY_SERVER_HOST", "127.0.0.1"),
            ("BTY_SERVER_HOST", "::1"),
            ("BTY_ADMIN_OPEN", "1"),
            ("BTY_ADMIN_PASSWORD", "x"),
        ] {
            assert_eq!(check(&[env]), Ok(()), "{env:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bty.toml");
        std::fs::write(&file, "[admin]\npassword = \"\"\n").unwrap();
        assert!(load(&[], &[file]).unwrap().password_is_empty);
    }

    #[test]
    fn directories_default_to_the_state_directory() {
        let config = load(&[("BTY_PATHS_STATE_DIR", "/srv/bty")], &[]).unwrap();
        assert_eq!(config.boot_dir, Path::new("/srv/bty/boot"));
        assert_eq!(config.password, None);
    }
}
