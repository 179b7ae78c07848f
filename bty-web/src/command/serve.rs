//! `bty-web serve`, `cache` and `tftp`, which run until the process receives SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::server::{Server, alone};
use crate::services::script_workers::ScriptWorkers;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::log::LogWriter;
use crate::worker;

pub(crate) fn run(config: Config) -> Result<ExitCode> {
    config.check_login(config.listen)?;
    start_log(&config)?;
    run_until_signal(async |stop| {
        let server = Server::builder().config(config).worker(worker::this_program).start().await?;
        stop.await;
        server.stop().await
    })
}

#[derive(Args)]
pub(crate) struct CacheArgs {
    /// Directory of the state, and of the objects unless cache.dir is set
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: cache.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Maximum size, such as 200G [default: cache.max_bytes]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// Only fetch objects that an operator adds
    #[arg(long)]
    curate: bool,
    /// Treat addresses that differ in their query as different objects
    #[arg(long)]
    keep_query: bool,
}

#[derive(Args)]
pub(crate) struct TftpArgs {
    /// Address and UDP port to listen on [default: tftp.listen]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of the boot programs [default: tftp.root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name of another file in that directory that clients may fetch; can be repeated
    #[arg(long, value_name = "NAME")]
    allow: Vec<String>,
    /// URL of the server, if it is not on this host, such as http://bty.lan:8080
    #[arg(long, value_name = "URL")]
    server_url: Option<String>,
    /// Serve /metrics and /healthz at this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) fn tftp(config: &Config, args: TftpArgs) -> Result<ExitCode> {
    start_log(config)?;
    crate::tftp::check_names(&args.allow)?;
    let mut own = config.tftp();
    own.listen = args.listen.unwrap_or(own.listen);
    if let Some(root) = args.root {
        own.roots = vec![root];
    }
    crate::tftp::check_roots(&own.roots)?;
    own.allowed = args.allow;
    own.server_url = args.server_url.or(own.server_url);
    run_until_signal(async |stop| alone::serve_tftp(own, args.metrics, stop).await)
}

fn size(text: &str) -> std::result::Result<u64, String> {
    bty::size::parse(text).map_err(|e| e.to_string())
}

pub(crate) fn cache(mut config: Config, args: CacheArgs) -> Result<ExitCode> {
    start_log(&config)?;
    let own = &mut config.cache_options;
    if let Some(dir) = args.data_dir {
        // a cache host keeps everything in one directory
        let is_set = |key: &str| config.values.get(key).is_some_and(|(value, _)| !value.is_empty());
        let follows = [
            ("cache.dir", &mut own.dir, "blobs"),
            ("paths.boot_dir", &mut config.boot_dir, "boot"),
            ("paths.backup_dir", &mut config.backup_dir, "backups"),
        ];
        for (_, path, name) in follows.into_iter().filter(|(key, ..)| !is_set(key)) {
            *path = dir.join(name);
        }
        config.state_dir = dir;
    }
    own.max_bytes = args.max_bytes.filter(|bytes| *bytes > 0).or(own.max_bytes);
    own.is_curated |= args.curate;
    own.keep_query |= args.keep_query;
    config.cache_listen = args.listen.unwrap_or(config.cache_listen);
    config.check_login(config.cache_listen)?;
    let workers = ScriptWorkers::new(Arc::new(worker::this_program), config.script_workers);
    run_until_signal(async |stop| alone::serve_cache(config, workers, stop).await)
}

fn start_log(config: &Config) -> Result<()> {
    let filter: Targets =
        config.log.parse().map_err(|e| Error::invalid(format!("server.log: {e}")))?;
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let has_styles = !config.logs_json && std::env::var_os("NO_COLOR").is_none() && is_terminal;
    let log = tracing_subscriber::fmt::layer()
        .with_writer(LogWriter { is_json: config.logs_json, has_styles });
    let log = if config.logs_json {
        log.json().flatten_event(true).boxed()
    } else {
        log.with_ansi(has_styles).boxed()
    };
    tracing_subscriber::registry().with(log).with(filter).init();
    Ok(())
}

/// Runs `work`, which ends once the process has received SIGTERM or SIGINT.
fn run_until_signal(work: impl AsyncFnOnce(Stop) -> Result<()>) -> Result<ExitCode> {
    super::runtime::block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        work(Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }))
        .await
    })?;
    Ok(ExitCode::SUCCESS)
}

type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
