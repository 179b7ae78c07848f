//! Parses and checks the values of all keys.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;

use super::Config;
use super::keys::{Origin, STATE_DIR, STATE_FILE};
use super::limits::Limits;
use super::outbound::{OutboundNetwork, proxies};
use super::power::PowerOptions;
use super::values::Values;
use crate::cache::CacheOptions;
use crate::domain::error::Result;
use crate::domain::network::Networks;

/// Minimum length of a session secret. Shorter ones can be guessed.
const SECRET_CHARS_MIN: usize = 32;

/// The key of proxies that log in users.
const REMOTE_USER_PROXIES: &str = "server.remote_user_proxies";
const REMOTE_USER_EXPECTED: &str =
    "addresses of proxies such as 127.0.0.1 or 10.0.0.9, not all of a kind";

/// Values that need parsing.
struct ParsedValues {
    listen: SocketAddr,
    trusted_proxies: Networks,
    remote_user_proxies: Networks,
    cache_listen: SocketAddr,
    cache_options: CacheOptions,
    tftp_listen: SocketAddr,
    backup_max_parallel: usize,
    max_upload_bytes: u64,
    script_workers: usize,
    limits: Limits,
    power: PowerOptions,
}

/// Builds the configuration from `values`, which were read from `files`. `has_own_file` is false if
/// `--config` names the files.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) with all problems.
pub(super) fn build(
    mut values: Values,
    files: Vec<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
    has_own_file: bool,
) -> Result<Config> {
    check_texts(&mut values);
    let parsed = match parse(&mut values) {
        Some(parsed) if !values.has_problems() => parsed,
        _ => return Err(values.into_error()),
    };
    let text = |key: &str| values.text(key);
    let state_dir = PathBuf::from(text(STATE_DIR));
    let within = |key: &str, name: &str| values.path(key).unwrap_or_else(|| state_dir.join(name));
    let has_embedded_cache = values.is_yes("cache.embedded");
    Ok(Config {
        password: values.set("admin.password"),
        password_is_empty: text("admin.password").is_empty()
            && (values.values["admin.password"].1 != Origin::Default
                || env("BTY_ADMIN_PASSWORD").is_some()),
        open_is_wanted: values.is_yes("admin.open"),
        listen: parsed.listen,
        public_url: values.set("server.public_url"),
        base_path: String::new(),
        trusted_proxies: parsed.trusted_proxies,
        remote_user_proxies: parsed.remote_user_proxies,
        session_secret: values.set("server.session_secret"),
        log: text("server.log"),
        logs_json: text("server.log_format") == "json",
        network: outbound(&values, proxies(env)),
        state_may_be_remote: values.is_yes("paths.remote_state"),
        boot_dir: within("paths.boot_dir", "boot"),
        backup_dir: within("paths.backup_dir", "backups"),
        catalog_file: within("paths.catalog_file", "catalog.toml"),
        boot_seed_dir: PathBuf::from(text("paths.boot_seed_dir")),
        site_dir: PathBuf::from(text("paths.site_dir")),
        is_cache_only: false,
        cache_url: text("withcache.url").trim_end_matches('/').to_owned(),
        cache: has_embedded_cache.then(|| (parsed.cache_listen, parsed.cache_options.clone())),
        cache_options: parsed.cache_options,
        cache_listen: parsed.cache_listen,
        tftp_is_embedded: values.is_yes("tftp.embedded"),
        tftp_listen: parsed.tftp_listen,
        tftp_root: within("tftp.root", "boot"),
        tftp_probe_host: text("netboot.tftp_probe_host"),
        own_file: has_own_file.then(|| state_dir.join(STATE_FILE)),
        state_dir,
        backup_max_parallel: parsed.backup_max_parallel,
        max_upload_bytes: parsed.max_upload_bytes,
        script_workers: parsed.script_workers,
        limits: parsed.limits,
        power: parsed.power,
        webhooks: values.webhooks,
        files,
        values: values.values,
        warnings: values.warnings,
    })
}

/// Parses all values before it returns, so that every problem is found.
fn parse(values: &mut Values) -> Option<ParsedValues> {
    let host: Option<IpAddr> =
        values.parse("server.host", "an address to listen on, such as 0.0.0.0");
    let port: Option<u16> =
        values.parse("server.port", "a port from 1 to 65535, or 0 for a free one");
    let trusted_proxies =
        values.parse("server.trusted_proxy", "networks such as 10.0.0.0/8, or 1 for private ones");
    let remote_user_proxies = values.parse(REMOTE_USER_PROXIES, REMOTE_USER_EXPECTED);
    let backups: Option<NonZero<usize>> =
        values.parse("tuning.backup_max_parallel", "a number of at least 1");
    let script_workers: Option<NonZero<usize>> = match values.set("tuning.script_workers") {
        None => std::thread::available_parallelism().ok().or(NonZero::new(2)),
        Some(_) => values.parse("tuning.script_workers", "a number of processes, at least 1"),
    };
    let cache_listen = values.parse("cache.listen", "an address and a port such as 0.0.0.0:3000");
    let tftp_listen = values.parse("tftp.listen", "an address and a port such as 0.0.0.0:69");
    let cache_options = cache_options(values);
    let limits = Limits::read(values);
    let power = PowerOptions::read(values);
    let max_upload_bytes = values.parse_size("tuning.max_upload_bytes", "a size such as 200G");
    Some(ParsedValues {
        listen: SocketAddr::new(host?, port?),
        trusted_proxies: trusted_proxies?,
        remote_user_proxies: remote_user_proxies?,
        cache_listen: cache_listen?,
        cache_options: cache_options?,
        tftp_listen: tftp_listen?,
        backup_max_parallel: backups?.get(),
        max_upload_bytes: max_upload_bytes?,
        script_workers: script_workers?.get(),
        limits: limits?,
        power: power?,
    })
}

fn cache_options(values: &mut Values) -> Option<CacheOptions> {
    let origins = values.parse(
        "cache.origins",
        "hosts such as *.example.org, or prefixes of addresses such as https://h/images/",
    );
    let reach = values.parse("cache.reach", "networks such as 127.0.0.0/8");
    let fresh_s: Option<u32> = values.parse("cache.fresh_s", "a number of seconds");
    let max_bytes = match values.text("cache.max_bytes").trim() {
        "" | "0" => None,
        _ => Some(values.parse_size("cache.max_bytes", "a size such as 200G")?),
    };
    let dir = values.path("cache.dir");
    Some(CacheOptions {
        dir: dir.unwrap_or_else(|| PathBuf::from(values.text(STATE_DIR)).join("cache")),
        max_bytes,
        is_curated: values.is_yes("cache.curate"),
        keep_query: values.is_yes("cache.keep_query"),
        origins: origins?,
        reach: reach?,
        fresh_ms: i64::from(fresh_s?) * 1000,
        packs: values.is_yes("cache.pack"),
    })
}

/// Checks values that stay text.
fn check_texts(values: &mut Values) {
    let is_web = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if !matches!(values.text("server.log_format").as_str(), "text" | "json") {
        values.invalid("server.log_format", "text or json");
    }
    let cache_url = values.text("withcache.url");
    if !cache_url.is_empty() && !cache_url.parse().is_ok_and(is_web) {
        values.invalid("withcache.url", "an address such as http://cache.example:3000");
    }
    let public_url = values.text("server.public_url");
    if !public_url.is_empty() && !public_url.parse().is_ok_and(is_web) {
        values.invalid("server.public_url", "an address such as https://bty.example:8443");
    } else if let Some(why) = not_a_base(&public_url) {
        // do not show the value: it may contain a password
        let origin = &values.values["server.public_url"].1;
        let why = format!(
            "the value ({origin}) has {why}; set an address such as https://bty.example:8443"
        );
        values.add_problem("server.public_url", why);
    }
    check_remote_user_proxies(values);
    if (1..SECRET_CHARS_MIN).contains(&values.text("server.session_secret").len()) {
        values.invalid("server.session_secret", "at least 32 characters");
    }
    if values.text(STATE_DIR).is_empty() {
        values.invalid(STATE_DIR, "a directory");
    }
}

/// Refuses lists of proxies that name no proxy: whoever sends `Remote-User` from there is believed.
fn check_remote_user_proxies(values: &mut Values) {
    let text = values.text(REMOTE_USER_PROXIES).trim().to_ascii_lowercase();
    let is_all = |part: &str| part.ends_with("/0");
    if matches!(text.as_str(), "1" | "true" | "yes" | "on") || text.split([',', ' ']).any(is_all) {
        values.invalid(REMOTE_USER_PROXIES, REMOTE_USER_EXPECTED);
    } else if !text.is_empty() && values.set("admin.password").is_none() {
        let why = "it needs admin.password: without one, everybody has the admin's rights";
        values.add_problem(REMOTE_USER_PROXIES, why);
    }
}

fn outbound(values: &Values, proxies: [Option<String>; 3]) -> OutboundNetwork {
    let ca_files = values.text("network.ca_files");
    let ca_files = ca_files.split(',').map(str::trim).filter(|file| !file.is_empty());
    OutboundNetwork {
        proxies,
        ca_files: ca_files.map(PathBuf::from).collect(),
        plain_http: values.is_yes("network.plain_http"),
    }
}

/// Returns why request paths cannot be appended to this URL; `None` if they can.
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
            Some("a user name or a password, which every machine would see")
        }
        () if url.query().is_some() => {
            Some("a query (?), but the path of each request is appended to it")
        }
        () if url.fragment().is_some() => {
            Some("a fragment (#), but the path of each request is appended to it")
        }
        () if !bare.chars().all(is_plain) => {
            Some("characters that are not allowed in scripts for machines")
        }
        () if written != path || path.contains("//") => Some("a path that is not normalized"),
        () => None,
    }
}
