//! The keys of the configuration.

use std::path::PathBuf;

/// Every key, its default, and its environment variable. An empty variable counts as unset, except
/// that an empty password is refused.
pub const KEYS: [(&str, &str, &str); 55] = [
    ("admin.password", "", "BTY_ADMIN_PASSWORD"),
    ("admin.open", "0", "BTY_ADMIN_OPEN"),
    ("server.host", "0.0.0.0", "BTY_SERVER_HOST"),
    ("server.port", "8080", "BTY_SERVER_PORT"),
    ("server.public_url", "", "BTY_SERVER_PUBLIC_URL"),
    ("server.trusted_proxy", "", "BTY_SERVER_TRUSTED_PROXY"),
    ("server.remote_user_proxies", "", "BTY_SERVER_REMOTE_USER_PROXIES"),
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
    ("cache.pack", "1", "BTY_CACHE_PACK"),
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
    ("power.program", "", "BTY_POWER_PROGRAM"),
    ("power.url", "", "BTY_POWER_URL"),
    ("power.secret", "", "BTY_POWER_SECRET"),
    ("power.timeout_s", "20", "BTY_POWER_TIMEOUT_S"),
    ("power.parallel", "4", "BTY_POWER_PARALLEL"),
    ("power.stagger_ms", "250", "BTY_POWER_STAGGER_MS"),
];

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// In this configuration file.
    Toml(PathBuf),
    /// In this environment variable.
    Env(&'static str),
    /// By the program around the server.
    Program,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Toml(path) => write!(f, "toml({})", path.display()),
            Self::Env(name) => write!(f, "env({name})"),
            Self::Program => f.write_str("program"),
        }
    }
}

/// Keys whose values are never shown.
pub const SECRETS: [&str; 3] = ["admin.password", "server.session_secret", "power.secret"];

/// The key of a program that the server runs. Whoever can change it can run any program on the
/// server's host, so only files and the environment set it.
pub(super) const PROGRAM: &str = "power.program";

/// The key of the directory that contains the configuration file of the state. It cannot be changed
/// in that file.
pub(super) const STATE_DIR: &str = "paths.state_dir";

/// Name of the configuration file in the state directory.
pub(super) const STATE_FILE: &str = "bty.toml";
