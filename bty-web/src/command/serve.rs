//! Serving until somebody ends it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use bty_web::config::Config;
use bty_web::domain::error::{Error, Result};
use bty_web::server;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::log::Lines;

pub(crate) fn run(config: Config) -> Result<ExitCode> {
    config.check_login(config.listen)?;
    start_log(&config)?;
    until_told(|stop| server::serve(config, stop))
}

/// What a cache host is told on its command line.
#[derive(Args)]
pub(crate) struct CacheOptions {
    /// Directory of its state, and of its objects unless cache.dir says where those are
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens, instead of cache.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Larger than this it does not grow, instead of cache.max_bytes: 200G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// Only fetch what an operator asks for
    #[arg(long)]
    curate: bool,
    /// The query of an address belongs to its key
    #[arg(long)]
    keep_query: bool,
}

/// What TFTP is told on its command line.
#[derive(Args)]
pub(crate) struct TftpOptions {
    /// Where it listens (UDP), instead of tftp.listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the boot programs, instead of tftp.root
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A file of that directory that may be asked for besides the boot programs
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// Where machines reach the server, when that is not this host: http://bty.lan:8080
    #[arg(long, value_name = "URL")]
    server_url: Option<String>,
    /// Serve /metrics and /healthz there
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) fn tftp(config: &Config, options: TftpOptions) -> Result<ExitCode> {
    start_log(config)?;
    bty_web::tftp::check_names(&options.allow)?;
    let mut own = config.tftp();
    own.listen = options.listen.unwrap_or(own.listen);
    if let Some(root) = options.root {
        own.roots = vec![root];
    }
    bty_web::tftp::check_roots(&own.roots)?;
    own.allowed = options.allow;
    own.server_url = options.server_url.or(own.server_url);
    until_told(|stop| server::serve_tftp(own, options.metrics, stop))
}

fn size(text: &str) -> std::result::Result<u64, String> {
    bty::size::parse(text).map_err(|e| e.to_string())
}

pub(crate) fn cache(mut config: Config, options: CacheOptions) -> Result<ExitCode> {
    start_log(&config)?;
    let own = &mut config.cache_options;
    if let Some(dir) = options.data_dir {
        // the state goes with the objects: a host of its own needs nothing else
        let is_named =
            |key: &str| config.values.get(key).is_some_and(|(value, _)| !value.is_empty());
        let follows = [
            ("cache.dir", &mut own.dir, "blobs"),
            ("paths.boot_dir", &mut config.boot_dir, "boot"),
            ("paths.backup_dir", &mut config.backup_dir, "backups"),
        ];
        for (_, path, name) in follows.into_iter().filter(|(key, ..)| !is_named(key)) {
            *path = dir.join(name);
        }
        config.state_dir = dir;
    }
    own.max_bytes = options.max_bytes.filter(|bytes| *bytes > 0).or(own.max_bytes);
    own.is_curated |= options.curate;
    own.keep_query |= options.keep_query;
    config.cache_listen = options.listen.unwrap_or(config.cache_listen);
    config.check_login(config.cache_listen)?;
    until_told(|stop| server::serve_cache(config, stop))
}

fn start_log(config: &Config) -> Result<()> {
    let filter: Targets =
        config.log.parse().map_err(|e| Error::invalid(format!("server.log: {e}")))?;
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let has_styles = !config.logs_json && std::env::var_os("NO_COLOR").is_none() && is_terminal;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(Lines { is_json: config.logs_json, has_styles });
    let log = if config.logs_json {
        log.json().flatten_event(true).boxed()
    } else {
        log.with_ansi(has_styles).boxed()
    };
    tracing_subscriber::registry().with(log).with(filter).init();
    Ok(())
}

/// Does `work` until somebody ends the process.
fn until_told<W: Future<Output = Result<()>>>(work: impl FnOnce(Stop) -> W) -> Result<ExitCode> {
    crate::block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        work(Box::pin(async move {
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
            }
        }))
        .await
    })?;
    Ok(ExitCode::SUCCESS)
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
