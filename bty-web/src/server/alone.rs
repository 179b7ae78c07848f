//! A cache host or a TFTP server in a process of its own, for the command.

use std::net::SocketAddr;
use std::sync::Arc;

use super::parts;
use crate::config::Config;
use crate::domain::error::Result;
use crate::services::script_workers::ScriptWorkers;
use crate::tftp::{self, FirstRequest, TftpOptions, TftpServer};

/// Runs a cache host without a server until `stop` ends. It has its own state, login and events.
///
/// # Errors
/// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) if another process uses the
///   address or the state directory, or the directory cannot be written.
/// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) if the database fails.
pub async fn serve_cache(
    mut config: Config,
    workers: ScriptWorkers,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let listen = config.cache_listen;
    let listener = parts::listen_at(listen, "BTY_CACHE_LISTEN").await?;
    config.is_cache_only = true;
    // the port of URLs, if a request does not contain it
    config.listen = listen;
    config.cache = Some((listen, config.cache_options.clone()));
    let _lock = parts::claim(&config)?;
    let app = parts::open(config, workers).await?;
    parts::announce(&app, "cache host", Some(listener.local_addr()?)).await?;
    let stopping = Arc::clone(&app);
    tokio::spawn(async move {
        stop.await;
        parts::begin_stop(&stopping);
    });
    parts::serve_objects(&app, listener).await;
    parts::close(&app).await
}

/// Runs a TFTP server without a server until `stop` ends. Serves `/metrics` and `/healthz` over
/// HTTP at the address `metrics`.
///
/// # Errors
/// [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) if an address cannot be used.
pub async fn serve_tftp(
    options: TftpOptions,
    metrics: Option<SocketAddr>,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let server = TftpServer::new(options, |first: FirstRequest| {
        let (ip, mac, name) = (first.ip, first.mac.as_deref().unwrap_or("unknown"), first.name);
        tracing::info!(%ip, mac, name, "first request of a client");
    });
    if let Some(address) = metrics {
        let listener = parts::listen_at(address, "--metrics").await?;
        let counted = Arc::clone(&server);
        let render = move || {
            let metrics = crate::services::metrics::Metrics::default();
            metrics.tftp(&counted.counters);
            async move { metrics.render(0) }
        };
        let router = axum::Router::new().route("/metrics", axum::routing::get(render)).route(
            "/healthz",
            axum::routing::get(|| async { axum::Json(serde_json::json!({ "status": "ok" })) }),
        );
        tokio::spawn(axum::serve(listener, router).into_future());
    }
    tftp::serve(server, stop).await
}
