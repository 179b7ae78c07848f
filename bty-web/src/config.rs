//! The configuration: defaults, then files, then the environment. It is checked at the start, with
//! all errors at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::{Client, ClientOptions};

use crate::domain::error::{Error, ErrorKind, Problem, Result};
use crate::http::network::Networks;

pub mod edit;
pub mod env_file;
pub mod limits;

use limits::Limits;

/// Every key, its default and its variable. An empty variable counts as unset, except for the
/// password.
pub const KEYS: [(&str, &str, &str); 47] = [
    ("admin.password", "", "BTY_ADMIN_PASSWORD"),
    ("admin.open", "0", "BTY_ADMIN_OPEN"),
    ("server.host", "0.0.0.0", "BTY_SERVER_HOST"),
    ("server.port", "8080", "BTY_SERVER_PORT"),
    ("server.public_url", "", "BTY_SERVER_PUBLIC_URL"),
    ("server.trusted_proxy", "", "BTY_SERVER_TRUSTED_PROXY"),
    ("server.session_secret", "", "BTY_SERVER_SESSION_SECRET"),
    ("server.log", "info", "BTY_SERVER_LOG"),
    ("server.log_format", "text", "BTY_SERVER_LOG_FORMAT"),
    ("network.ca_files", "", "BTY_NETWORK_CA_FILES"),
    ("network.plain_http", "", "BTY_NETWORK_PLAIN_HTTP"),
    ("paths.state_dir", "/var/lib/bty", "BTY_PATHS_STATE_DIR"),
    ("paths.remote_state", "0", "BTY_PATHS_REMOTE_STATE"),
    ("paths.boot_dir", "", "BTY_PATHS_BOOT_DIR"),
    ("paths.backup_dir", "", "BTY_PATHS_BACKUP_DIR"),
    ("paths.catalog_file", "", "BTY_PATHS_CATALOG_FILE"),
    ("paths.boot_seed_dir", "/usr/share/bty/boot-seed", "BTY_BOOT_SEED_DIR"),
    ("paths.site_dir", "/usr/share/doc/bty/site", "BTY_PATHS_SITE_DIR"),
    ("withcache.url", "", "BTY_WITHCACHE_URL"),
    ("cache.embedded", "0", "BTY_CACHE_EMBEDDED"),
    ("cache.listen", "0.0.0.0:3000", "BTY_CACHE_LISTEN"),
    ("cache.dir", "", "BTY_CACHE_DIR"),
    ("cache.max_bytes", "", "BTY_CACHE_MAX_BYTES"),
    ("cache.curate", "0", "BTY_CACHE_CURATE"),
    ("cache.keep_query", "0", "BTY_CACHE_KEEP_QUERY"),
    ("cache.origins", "", "BTY_CACHE_ORIGINS"),
    ("cache.reach", "", "BTY_CACHE_REACH"),
    ("cache.fresh_s", "60", "BTY_CACHE_FRESH_S"),
    ("tftp.embedded", "0", "BTY_TFTP_EMBEDDED"),
    ("tftp.listen", "0.0.0.0:69", "BTY_TFTP_LISTEN"),
    ("tftp.root", "", "BTY_TFTP_ROOT"),
    ("netboot.tftp_probe_host", "", "BTY_NETBOOT_TFTP_PROBE_HOST"),
    ("tuning.backup_max_parallel", "1", "BTY_TUNING_BACKUP_MAX_PARALLEL"),
    ("tuning.max_upload_bytes", "200G", "BTY_TUNING_MAX_UPLOAD_BYTES"),
    ("tuning.script_workers", "", "BTY_TUNING_SCRIPT_WORKERS"),
    ("limits.connections", "2048", "BTY_LIMITS_CONNECTIONS"),
    ("limits.connections_per_address", "256", "BTY_LIMITS_CONNECTIONS_PER_ADDRESS"),
    ("limits.head_s", "10", "BTY_LIMITS_HEAD_S"),
    ("limits.body_bytes", "16M", "BTY_LIMITS_BODY_BYTES"),
    ("limits.body_rate", "16K", "BTY_LIMITS_BODY_RATE"),
    ("limits.waiting_logins", "16", "BTY_LIMITS_WAITING_LOGINS"),
    ("limits.simulations", "2", "BTY_LIMITS_SIMULATIONS"),
    ("limits.new_machines_per_minute", "1000", "BTY_LIMITS_NEW_MACHINES_PER_MINUTE"),
    ("limits.unassigned_machines", "5000", "BTY_LIMITS_UNASSIGNED_MACHINES"),
    ("limits.unassigned_bytes", "128K", "BTY_LIMITS_UNASSIGNED_BYTES"),
    ("limits.event_days", "0", "BTY_LIMITS_EVENT_DAYS"),
    ("limits.events", "0", "BTY_LIMITS_EVENTS"),
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has set it.
    Default,
    /// A file.
    Toml(PathBuf),
    /// A variable.
    Env(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Toml(path) => write!(f, "toml({})", path.display()),
            Self::Env(name) => write!(f, "env({name})"),
        }
    }
}

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The admin's password, or its argon2 hash; none leaves the server open.
    pub password: Option<String>,
    /// A password is set, but empty: somebody has failed to make one.
    pub password_is_empty: bool,
    /// An operator wants a server without a password.
    pub open_is_wanted: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// By which address it is reached, when requests do not tell.
    pub public_url: Option<String>,
    /// Proxies that are believed.
    pub trusted_proxies: Networks,
    /// What cookies are signed with; none makes and keeps one.
    pub session_secret: Option<String>,
    /// What is logged, as `RUST_LOG` has it.
    pub log: String,
    /// The log is JSON, a line an event.
    pub logs_json: bool,
    /// How other servers are reached.
    pub network: Network,
    /// Where everything is.
    pub state_dir: PathBuf,
    /// The state may be on a file system of the network.
    pub state_may_be_remote: bool,
    /// Artifacts of the live environment.
    pub boot_dir: PathBuf,
    /// Artifacts that come with the program: they are there when the boot directory has none of
    /// their names.
    pub boot_seed_dir: PathBuf,
    /// The documentation as a site, where it is installed.
    pub site_dir: PathBuf,
    /// Backups.
    pub backup_dir: PathBuf,
    /// A catalog that is imported at the start.
    pub catalog_file: PathBuf,
    /// Address of the cache host that images are had through; empty for none, or for that of this
    /// process.
    pub cache_url: String,
    /// This process is a cache host, and nothing else.
    pub is_cache_only: bool,
    /// The cache host runs in this process, and listens there.
    pub cache: Option<(SocketAddr, crate::cache::Options)>,
    /// What a cache host of this process would be told.
    pub cache_options: crate::cache::Options,
    /// Where it would listen.
    pub cache_listen: SocketAddr,
    /// TFTP runs in this process.
    pub tftp_is_embedded: bool,
    /// Where TFTP listens.
    pub tftp_listen: SocketAddr,
    /// Directory of the files that TFTP serves.
    pub tftp_root: PathBuf,
    /// Host whose TFTP machines use; empty for this one.
    pub tftp_probe_host: String,
    /// As many backups are made at a time.
    pub backup_max_parallel: usize,
    /// Larger uploads are refused.
    pub max_upload_bytes: u64,
    /// As many processes run scripts.
    pub script_workers: usize,
    /// What strangers may take.
    pub limits: Limits,
    /// Every value as text, and where it comes from.
    pub values: BTreeMap<&'static str, (String, Origin)>,
    /// Files that were read, the strongest last.
    pub files: Vec<PathBuf>,
    /// The file that an operator's changes are written to; none when the files were named.
    pub own_file: Option<PathBuf>,
    /// What is not wrong, but strange.
    pub warnings: Vec<String>,
}

/// How other servers are reached.
#[derive(Clone, Debug)]
pub struct Network {
    /// Proxies of the environment: for `http`, for `https`, and for whom there is none.
    pub proxies: [Option<String>; 3],
    /// Certificate authorities that are trusted besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Plain HTTP is spoken with registries.
    pub plain_http: bool,
}

impl Network {
    /// A client that reaches them so.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.options())
    }

    /// The options of such a client.
    #[must_use]
    pub fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::default();
        let [http, https, none] = self.proxies.clone();
        (options.http_proxy, options.https_proxy, options.no_proxy) = (http, https, none);
        options.ca_files.clone_from(&self.ca_files);
        options.plain_http = self.plain_http;
        options
    }
}

impl Config {
    /// The path below which browsers and machines reach the server: `/bty` for `http://h/bty`,
    /// empty for most.
    #[must_use]
    pub fn root(&self) -> String {
        let url = self.public_url.as_deref().and_then(|url| url.parse::<url::Url>().ok());
        url.map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
    }

    /// True when the documentation is installed as a site.
    #[must_use]
    pub fn has_site(&self) -> bool {
        self.site_dir.join("index.html").is_file()
    }

    /// A client that reaches neither this host nor its link, except for the networks in
    /// `cache.reach`.
    #[must_use]
    pub fn guarded_client(&self) -> Client {
        let mut options = self.network.options();
        let reach = self.cache_options.reach.clone();
        options.may_reach =
            Some(Arc::new(move |ip| crate::http::network::is_elsewhere(ip) || reach.contain(ip)));
        Client::new(options)
    }

    /// Host and port of the TFTP server that machines use.
    #[must_use]
    pub fn tftp_probe(&self) -> (String, u16) {
        let listen = self.tftp_listen;
        let cache_host = || self.cache_url.parse::<url::Url>().ok()?.host_str().map(str::to_owned);
        let host = match () {
            () if !self.tftp_probe_host.is_empty() => self.tftp_probe_host.clone(),
            () if self.tftp_is_embedded && !listen.ip().is_unspecified() => {
                crate::http::network::FormattedIp(listen.ip()).to_string()
            }
            () if self.tftp_is_embedded => "127.0.0.1".to_owned(),
            () => cache_host().unwrap_or_else(|| "127.0.0.1".to_owned()),
        };
        (host, listen.port())
    }

    /// What TFTP is told.
    #[must_use]
    pub fn tftp(&self) -> crate::tftp::Options {
        crate::tftp::Options {
            listen: self.tftp_listen,
            roots: vec![self.tftp_root.clone(), self.boot_seed_dir.clone()],
            further: Vec::new(),
            server_url: self.public_url.clone(),
            server_port: self.listen.port(),
        }
    }
}

/// Where to look: the variables of the process, and what `--config` named.
pub struct Sources<'a> {
    /// A variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Files and directories that replace the usual ones.
    pub named: &'a [PathBuf],
}

impl Config {
    /// Every value and where it comes from, as TOML; secrets only as set or not.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text: String =
            self.files.iter().map(|file| format!("# read {}\n", file.display())).collect();
        let mut section = "";
        for (key, ..) in KEYS {
            let (value, origin) = &self.values[key];
            let (of, name) = key.split_once('.').unwrap_or(("", key));
            if of != section {
                text += &format!("{}[{of}]\n", if section.is_empty() { "" } else { "\n" });
                section = of;
            }
            let shown = if SECRETS.contains(&key) && !value.is_empty() { "(set)" } else { value };
            text += &format!("{name} = {shown:?}  # {origin}\n");
        }
        text
    }

    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// All problems at once.
    pub fn load(sources: &Sources<'_>) -> Result<Self> {
        let mut loader = Loader::default();
        for (key, default, _) in KEYS {
            loader.values.insert(key, (default.to_owned(), Origin::Default));
        }
        for path in loader.files(sources) {
            loader.read(&path);
        }
        loader.environment(sources);
        // a file in the state directory is weaker than the environment, which may say where that is
        if sources.named.is_empty() {
            let state = loader.values["paths.state_dir"].0.clone();
            let path = Path::new(&state).join("bty.toml");
            if path.is_file() && !loader.files.contains(&path) {
                loader.read(&path);
                loader.environment(sources);
            }
        }
        loader.finish(sources)
    }

    /// Refuses to serve at `listen` without a password, unless an operator wants that. On the
    /// loopback of a machine only its own users can do harm.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with the way out.
    pub fn check_login(&self, listen: SocketAddr) -> Result<()> {
        let why = if self.password_is_empty {
            "it is set, but empty; set a password, or do not set it"
        } else if self.password.is_none() && !self.open_is_wanted && !listen.ip().is_loopback() {
            "it is not set, so everybody on the network could change everything; set one (see bty-web hash-password), or \
             set admin.open = 1 if that is what you want"
        } else {
            return Ok(());
        };
        let problem = Problem::new("admin.password", why.to_owned());
        Err(Error::new(ErrorKind::Invalid, "the configuration is wrong")
            .with_problems(vec![problem]))
    }
}

#[derive(Default)]
struct Loader {
    values: BTreeMap<&'static str, (String, Origin)>,
    files: Vec<PathBuf>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Loader {
    /// Files to read, the weakest first.
    fn files(&mut self, sources: &Sources<'_>) -> Vec<PathBuf> {
        if !sources.named.is_empty() {
            let mut files = Vec::new();
            for path in sources.named {
                if path.is_dir() {
                    files.extend(drop_ins(path));
                } else if path.is_file() {
                    files.push(path.clone());
                } else {
                    self.problems.push(Problem::new(
                        path.display().to_string(),
                        "is neither a file nor a directory",
                    ));
                }
            }
            return files;
        }
        let set =
            |name: &str| (sources.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let mut files = drop_ins(Path::new("/etc/bty/conf.d"));
        files.extend(Some(PathBuf::from("/etc/bty/bty.toml")).filter(|path| path.is_file()));
        files.extend(set("BTY_CONFIG_DIR").iter().flat_map(|dir| drop_ins(dir)));
        if let Some(path) = set("BTY_CONFIG_FILE") {
            if path.is_file() {
                files.push(path);
            } else {
                self.problems.push(Problem::new(
                    "BTY_CONFIG_FILE",
                    format!("{} is no file", path.display()),
                ));
            }
        }
        files
    }

    fn read(&mut self, path: &Path) {
        self.files.push(path.to_owned());
        let mut wrong =
            |why: String| self.problems.push(Problem::new(path.display().to_string(), why));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return wrong(e.to_string()),
        };
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(e) => return wrong(format!("not valid TOML: {}", e.to_string().trim())),
        };
        for (section, value) in &table {
            let Some(fields) = value.as_table() else {
                self.warnings.push(format!("{}: {section} is no section", path.display()));
                continue;
            };
            for (key, value) in fields {
                self.field(path, &format!("{section}.{key}"), value);
            }
        }
    }

    fn field(&mut self, path: &Path, name: &str, value: &toml::Value) {
        let Some((key, ..)) = KEYS.iter().find(|(key, ..)| *key == name) else {
            self.warnings.push(format!("{}: {name} is not known, and ignored", path.display()));
            return;
        };
        let Some(text) = plain(value) else {
            let why = format!("{name} must be text or a number, not {}", value.type_str());
            return self.problems.push(Problem::new(path.display().to_string(), why));
        };
        self.values.insert(key, (text, Origin::Toml(path.to_owned())));
    }

    fn environment(&mut self, sources: &Sources<'_>) {
        for (key, _, variable) in KEYS {
            if let Some(value) = (sources.env)(variable).filter(|value| !value.is_empty()) {
                self.values.insert(key, (value, Origin::Env(variable)));
            }
        }
    }

    fn finish(mut self, sources: &Sources<'_>) -> Result<Config> {
        self.check_texts();
        let host: Option<IpAddr> =
            self.parse("server.host", "an address to listen at, such as 0.0.0.0");
        let port: Option<NonZero<u16>> = self.parse("server.port", "a port from 1 to 65535");
        let trusted_proxies: Option<Networks> =
            self.parse("server.trusted_proxy", "networks such as 10.0.0.0/8, or 1");
        let backups: Option<NonZero<usize>> =
            self.parse("tuning.backup_max_parallel", "a number from 1");
        let script_workers: Option<NonZero<usize>> =
            match text_of(&self.values, "tuning.script_workers").as_str() {
                "" => std::thread::available_parallelism().ok().or(NonZero::new(2)),
                _ => self.parse("tuning.script_workers", "a number of processes from 1"),
            };
        let cache_listen: Option<SocketAddr> =
            self.parse("cache.listen", "an address and a port such as 0.0.0.0:3000");
        let tftp_listen: Option<SocketAddr> =
            self.parse("tftp.listen", "an address and a port such as 0.0.0.0:69");
        let (cache, limits) = (self.cache(), Limits::read(&mut self));
        let max_upload_bytes =
            bty::size::parse(&text_of(&self.values, "tuning.max_upload_bytes")).ok();
        if max_upload_bytes.is_none() {
            self.wrong("tuning.max_upload_bytes", "a size such as 200G");
        }
        let network = (host, port, trusted_proxies, cache_listen, tftp_listen);
        let tuning = (backups, script_workers, max_upload_bytes, cache, limits);
        let (Some(host), Some(port), Some(trusted_proxies), Some(cache_listen), Some(tftp_listen)) =
            network
        else {
            return Err(Error::new(ErrorKind::Invalid, "the configuration is wrong")
                .with_problems(self.problems));
        };
        let (
            Some(backups),
            Some(workers),
            Some(max_upload_bytes),
            Some(cache_options),
            Some(limits),
        ) = tuning
        else {
            return Err(Error::new(ErrorKind::Invalid, "the configuration is wrong")
                .with_problems(self.problems));
        };
        if !self.problems.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "the configuration is wrong")
                .with_problems(self.problems));
        }
        let text = |key: &str| text_of(&self.values, key);
        let set = |key: &str| Some(text(key)).filter(|value| !value.is_empty());
        let state_dir = PathBuf::from(text("paths.state_dir"));
        let within =
            |key: &str, name: &str| set(key).map_or_else(|| state_dir.join(name), PathBuf::from);
        Ok(Config {
            password: set("admin.password"),
            password_is_empty: text("admin.password").is_empty()
                && (self.values["admin.password"].1 != Origin::Default
                    || (sources.env)("BTY_ADMIN_PASSWORD").is_some()),
            open_is_wanted: is_yes(&text("admin.open")),
            listen: SocketAddr::new(host, port.get()),
            public_url: set("server.public_url"),
            trusted_proxies,
            session_secret: set("server.session_secret"),
            log: text("server.log"),
            logs_json: text("server.log_format") == "json",
            network: self.network(sources),
            state_may_be_remote: is_yes(&text("paths.remote_state")),
            boot_dir: within("paths.boot_dir", "boot"),
            backup_dir: within("paths.backup_dir", "backups"),
            catalog_file: within("paths.catalog_file", "catalog.toml"),
            boot_seed_dir: PathBuf::from(text("paths.boot_seed_dir")),
            site_dir: PathBuf::from(text("paths.site_dir")),
            is_cache_only: false,
            cache_url: text("withcache.url").trim_end_matches('/').to_owned(),
            cache: is_yes(&text("cache.embedded")).then(|| (cache_listen, cache_options.clone())),
            cache_options,
            cache_listen,
            tftp_is_embedded: is_yes(&text("tftp.embedded")),
            tftp_listen,
            tftp_root: within("tftp.root", "boot"),
            tftp_probe_host: text("netboot.tftp_probe_host"),
            own_file: sources.named.is_empty().then(|| state_dir.join("bty.toml")),
            state_dir,
            backup_max_parallel: backups.get(),
            max_upload_bytes,
            script_workers: workers.get(),
            limits,
            values: self.values,
            files: self.files,
            warnings: self.warnings,
        })
    }

    /// What a cache host is told.
    fn cache(&mut self) -> Option<crate::cache::Options> {
        let origins = self.parse(
            "cache.origins",
            "hosts such as *.example.org, or beginnings of addresses such as https://h/images/",
        );
        let reach = self.parse("cache.reach", "networks such as 127.0.0.0/8");
        let fresh_s: Option<u32> = self.parse("cache.fresh_s", "a number of seconds");
        let max = text_of(&self.values, "cache.max_bytes");
        let max_bytes = match max.trim() {
            "" | "0" => None,
            text => match bty::size::parse(text) {
                Ok(bytes) => Some(bytes),
                Err(_) => {
                    self.wrong("cache.max_bytes", "a size such as 200G");
                    return None;
                }
            },
        };
        let text = |key: &str| text_of(&self.values, key);
        let dir = Some(text("cache.dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Some(crate::cache::Options {
            dir: dir.unwrap_or_else(|| Path::new(&text("paths.state_dir")).join("cache")),
            max_bytes,
            is_curated: is_yes(&text("cache.curate")),
            keep_query: is_yes(&text("cache.keep_query")),
            origins: origins?,
            reach: reach?,
            fresh_ms: i64::from(fresh_s?) * 1000,
        })
    }

    /// Values that stay text, and are not any text.
    fn check_texts(&mut self) {
        let text = |key: &str| text_of(&self.values, key);
        let (url, secret) = (text("server.public_url"), text("server.session_secret"));
        let cache = text("withcache.url");
        let is_format = matches!(text("server.log_format").as_str(), "text" | "json");
        let has_state = !text("paths.state_dir").is_empty();
        let is_web = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !is_format {
            self.wrong("server.log_format", "text or json");
        }
        if !cache.is_empty() && !cache.parse().is_ok_and(is_web) {
            self.wrong("withcache.url", "an address such as http://cache.example:3000");
        }
        if !url.is_empty() && !url.parse().is_ok_and(is_web) {
            self.wrong("server.public_url", "an address such as https://bty.example:8443");
        } else if let Some(why) = not_a_base(&url) {
            // the value may have a password
            let origin = &self.values["server.public_url"].1;
            let why = format!(
                "the value ({origin}) has {why}; give an address such as https://bty.example:8443"
            );
            self.problems.push(Problem::new("server.public_url", why));
        }
        if (1..SECRET_CHARS_MIN).contains(&secret.len()) {
            self.wrong("server.session_secret", "at least 32 characters");
        }
        if !has_state {
            self.wrong("paths.state_dir", "a directory");
        }
    }

    fn network(&self, sources: &Sources<'_>) -> Network {
        let files = text_of(&self.values, "network.ca_files");
        Network {
            proxies: proxies(sources.env),
            ca_files: files
                .split(',')
                .map(str::trim)
                .filter(|file| !file.is_empty())
                .map(PathBuf::from)
                .collect(),
            plain_http: is_yes(&text_of(&self.values, "network.plain_http")),
        }
    }

    fn parse<T: std::str::FromStr>(&mut self, key: &'static str, wanted: &str) -> Option<T> {
        let parsed = self.values[key].0.trim().parse().ok();
        if parsed.is_none() {
            self.wrong(key, wanted);
        }
        parsed
    }

    fn wrong(&mut self, key: &'static str, wanted: &str) {
        let (value, origin) = &self.values[key];
        let shown: String = value.chars().take(64).flat_map(char::escape_debug).collect();
        let shown = if SECRETS.contains(&key) { "the value".into() } else { shown };
        self.problems.push(Problem::new(key, format!("{shown} ({origin}) is not {wanted}")));
    }
}

/// Why paths cannot be appended to this address to make those that machines are sent to.
fn not_a_base(text: &str) -> Option<&'static str> {
    let url: url::Url = text.parse().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~%/:[]".contains(c);
    let (bare, path) = (text.trim_end_matches('/'), url.path().trim_end_matches('/'));
    let Some((_, after_scheme)) = bare.split_once("://") else {
        return Some("no // after its scheme");
    };
    let written = after_scheme.find('/').map_or("", |start| &after_scheme[start..]);
    match () {
        () if !url.username().is_empty() || url.password().is_some() => {
            Some("a user name or a password, which every machine would get")
        }
        () if url.query().is_some() => {
            Some("a query (?), where the path of each request is appended")
        }
        () if url.fragment().is_some() => {
            Some("a fragment (#), where the path of each request is appended")
        }
        () if !bare.chars().all(is_plain) => {
            Some("characters that do not belong into the scripts of machines")
        }
        () if written != path || path.contains("//") => {
            Some("a path that is written in a roundabout way")
        }
        () => None,
    }
}

/// What the environment says of proxies: for `http`, for `https`, and for whom there is none.
pub(crate) fn proxies(env: &dyn Fn(&str) -> Option<String>) -> [Option<String>; 3] {
    let mut options = ClientOptions::default();
    options.set_proxies_from(env);
    [options.http_proxy, options.https_proxy, options.no_proxy]
}

/// Shorter secrets can be guessed.
const SECRET_CHARS_MIN: usize = 32;

/// Values that are never shown.
pub const SECRETS: [&str; 2] = ["admin.password", "server.session_secret"];

/// A value of a file as text; none for what is none.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(is) => Some(i32::from(*is).to_string()),
        _ => None,
    }
}

fn is_yes(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

fn text_of(values: &BTreeMap<&'static str, (String, Origin)>, key: &str) -> String {
    values[key].0.clone()
}

fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(env: &[(&str, &str)], named: &[PathBuf]) -> Result<Config> {
        let find = |name: &str| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Config::load(&Sources { env: &find, named })
    }

    #[test]
    fn a_variable_beats_a_file_and_a_file_beats_a_default() {
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
    fn all_errors_are_told_at_once() {
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
    fn a_public_address_is_one_that_paths_can_be_appended_to() {
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
            ("http://h/a/../b", "roundabout"),
            ("http://h/a//b", "roundabout"),
            ("http:h", "no //"),
        ] {
            let told = check(url).unwrap_err();
            assert!(
                told.contains("server.public_url: the value (env(BTY_SERVER_PUBLIC_URL)) has")
                    && told.contains(why),
                "{url}: {told}"
            );
            assert!(!told.contains("s3cret"), "{told}");
        }
    }

    #[test]
    fn a_server_is_open_only_where_somebody_wants_that() {
        let check = |env: &[(&str, &str)]| {
            let config = load(env, &[]).unwrap();
            config.check_login(config.listen).map_err(|e| e.to_string())
        };
        assert!(check(&[]).unwrap_err().contains("admin.open = 1"));
        assert!(check(&[("BTY_SERVER_HOST", "192.0.2.1")]).is_err());
        assert!(check(&[("BTY_ADMIN_PASSWORD", "")]).unwrap_err().contains("set, but empty"));
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
    fn directories_follow_the_state_directory() {
        let config = load(&[("BTY_PATHS_STATE_DIR", "/srv/bty")], &[]).unwrap();
        assert_eq!(config.boot_dir, Path::new("/srv/bty/boot"));
        assert_eq!(config.password, None);
    }
}
