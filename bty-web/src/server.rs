//! Assembly and lifecycle: opens the state, starts the services, and stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bty_script::decide::PlanCall;
use tokio::net::TcpListener;

use crate::blocking::blocking;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::network::listen_error;
use crate::domain::plan::bundled;
use crate::http::connections::{Connections, Permit};
use crate::http::router as routes;
use crate::http::state::RouterState;
use crate::services::app::App;
use crate::services::shutdown::Shutdown;
use crate::state_dir::{self, StateLock, Use};
use crate::tftp;
use crate::tftp::{FirstRequest, TftpOptions, TftpServer};

/// Time for connections and jobs to end by themselves when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// Runs a server until `stop` ends.
///
/// # Errors
/// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) if another process uses the
///   address or the state directory, or the directory cannot be written.
/// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) if the database cannot be
///   opened.
pub async fn serve(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    // report a port in use before creating any file
    let listener = listen_at(config.listen, "BTY_SERVER_PORT").await?;
    let _lock = claim(&config)?;
    let app = open(config).await?;
    serve_at(app, listener, stop).await
}

/// Runs a cache host without a server until `stop` ends. It has its own state, login and events.
///
/// # Errors
/// The errors of [`serve`].
pub async fn serve_cache(
    mut config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let listen = config.cache_listen;
    let listener = listen_at(listen, "BTY_CACHE_LISTEN").await?;
    config.is_cache_only = true;
    // the port of URLs, if a request does not contain it
    config.listen = listen;
    config.cache = Some((listen, config.cache_options.clone()));
    let _lock = claim(&config)?;
    let app = open(config).await?;
    announce(&app, "cache host", listener.local_addr()?).await?;
    tokio::spawn(stop_after(&app, stop));
    serve_objects(&app, listener).await?;
    close(&app).await
}

/// Waits for `stop`, and then asks all long-running work of the server to end.
fn stop_after<F>(app: &App, stop: F) -> impl Future<Output = ()> + Send + use<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (shutdown, jobs) = (app.shutdown.clone(), app.jobs.clone());
    async move {
        stop.await;
        tracing::info!("stopping");
        shutdown.stop();
        jobs.cancel_all();
    }
}

/// Starts the first script process, so that neither the first machine nor the first page has to
/// wait for it.
fn warm_up_workers(app: &App) {
    let decide = app.machines.evaluator();
    drop(blocking(move || {
        let plan = bundled::all().first().map(|plan| plan.source.as_str()).unwrap_or_default();
        let question = PlanCall {
            name: "first",
            text: plan,
            function: "declare",
            machine: None,
            args: Vec::new(),
            catalog: "",
        };
        if let Err(error) = decide(&question) {
            tracing::warn!(%error, "cannot start a process for scripts");
        }
    }));
}

async fn open(config: Config) -> Result<Arc<App>> {
    blocking(move || App::open(config).map(Arc::new)).await?
}

/// Locks the state directory for this process.
fn claim(config: &Config) -> Result<StateLock> {
    state_dir::claim(&config.state_dir, Use::State { may_be_remote: config.state_may_be_remote })
}

/// Binds `address`. If that fails, the error names the setting `variable`.
async fn listen_at(address: SocketAddr, variable: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| listen_error(&address.to_string(), address.port(), variable, &e))
}

/// Serves the objects of the cache host, if there is one, until the server stops.
async fn serve_objects(app: &Arc<App>, listener: TcpListener) -> Result<()> {
    let Some(cache) = app.cache.clone() else { return Ok(()) };
    let (metrics, router) = (Arc::clone(&app.metrics), routes::cache_router(RouterState::new(app)));
    let shutdown = app.shutdown.clone();
    tokio::spawn(Arc::clone(&cache).save_uses(async move { shutdown.stopped().await }));
    let shutdown = app.shutdown.clone();
    tokio::spawn(Arc::clone(&cache).pack_objects(async move { shutdown.stopped().await }));
    let connections =
        Connections::new(app.config.limits.clone(), app.config.trusted_proxies.clone(), metrics);
    let serve = |stream, peer, permit: Permit| permit.serve_http(stream, peer, router.clone());
    let shutdown = app.shutdown.clone();
    let serving = connections.serve(listener, async move { shutdown.stopped().await }, serve);
    end_in_time(&app.shutdown, serving).await;
    cache.stop().await;
    Ok(())
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
        let listener = listen_at(address, "--metrics").await?;
        let counted = Arc::clone(&server);
        let render = move || {
            let metrics = crate::services::metrics::Metrics::default();
            metrics.tftp(&counted.counters);
            async move { metrics.render(0, 0) }
        };
        let router = axum::Router::new().route("/metrics", axum::routing::get(render)).route(
            "/healthz",
            axum::routing::get(|| async { axum::Json(serde_json::json!({ "status": "ok" })) }),
        );
        tokio::spawn(axum::serve(listener, router).into_future());
    }
    tftp::serve(server, stop).await
}

/// Runs the TFTP server of this process until the server stops. Records an event for the first
/// request of each client.
async fn start_tftp(app: &App) -> Result<()> {
    let (log, runtime) = (app.events.clone(), tokio::runtime::Handle::current());
    let server = TftpServer::new(app.config.tftp(), move |first: FirstRequest| {
        let id = first.mac.clone().unwrap_or_else(|| first.ip.to_string());
        let event = NewEvent::new(
            "tftp.client.first",
            id,
            format!("{} requested {} over TFTP", first.ip, first.name),
        );
        let event = event.by(Actor::PxeClient, Some(&first.ip.to_string()));
        let event = event.with(serde_json::json!({ "mac": first.mac, "name": first.name }));
        let event =
            if first.mac.is_some() { NewEvent { subject_kind: "machine", ..event } } else { event };
        let log = log.clone();
        runtime.spawn(async move {
            if let Err(error) = log.record(event).await {
                tracing::warn!(%error, "cannot record a TFTP client");
            }
        });
    });
    let _ = app.tftp.set(Arc::clone(&server));
    tftp::serve(server, app.shutdown.stopped()).await
}

/// Logs the start and all warnings about the configuration, and records an event.
async fn announce(app: &App, what: &str, address: SocketAddr) -> Result<()> {
    for warning in &app.config.warnings {
        tracing::warn!("{warning}");
    }
    if app.access.auth().is_open() {
        tracing::warn!("no admin password is set: anybody on this network can change everything");
    }
    let version = env!("CARGO_PKG_VERSION");
    let started = NewEvent::new(
        "system.started",
        "server",
        format!("bty-web {version} started as {what} at {address}"),
    );
    app.events.record(started).await?;
    tracing::info!(%address, state = %app.config.state_dir.display(), "{what} started");
    Ok(())
}

/// Closes the database after all jobs have ended, so that their results are recorded.
async fn close(app: &App) -> Result<()> {
    let _ = tokio::time::timeout(GRACE, app.jobs.drain()).await;
    let db = app.db.clone();
    blocking(move || db.close()).await
}

/// Serves an opened server on a bound socket.
///
/// # Errors
/// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) if the address of the cache
///   host cannot be used.
/// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) if the database fails.
pub async fn serve_at(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let address = listener.local_addr()?;
    announce(&app, "server", address).await?;
    warm_up_workers(&app);
    let objects = match &app.config.cache {
        Some((listen, _)) => {
            let listener = listen_at(*listen, "BTY_CACHE_LISTEN").await?;
            let shared = Arc::clone(&app);
            Some(tokio::spawn(async move { serve_objects(&shared, listener).await }))
        }
        None => None,
    };
    if app.config.tftp_is_embedded {
        let shared = Arc::clone(&app);
        tokio::spawn(async move {
            if let Err(error) = start_tftp(&shared).await {
                tracing::error!(%error, "cannot serve TFTP");
                let event =
                    NewEvent::new("tftp.failed", "tftp", format!("cannot serve TFTP: {error}"));
                // the error is already in the log
                let _ = shared.events.record(event.with(error.details())).await;
            }
        });
    }
    start_background_work(&app);
    let router = routes::router(RouterState::new(&app));
    let stopping = stop_after(&app, stop);
    let limits = app.config.limits.clone();
    let connections =
        Connections::new(limits, app.config.trusted_proxies.clone(), Arc::clone(&app.metrics));
    let serve = |stream, peer, permit: Permit| permit.serve_http(stream, peer, router.clone());
    end_in_time(&app.shutdown, connections.serve(listener, stopping, serve)).await;
    // the cache host records the end of its fills before the database closes
    if let Some(objects) = objects {
        objects.await.map_err(Error::internal)??;
    }
    close(&app).await
}

/// Waits until `serving` has ended, but at most [`GRACE`] after the server is asked to stop.
async fn end_in_time(shutdown: &Shutdown, serving: impl Future<Output = ()>) {
    tokio::select! {
        () = serving => {}
        () = async { shutdown.stopped().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("connections were still open after {} s; closing them", GRACE.as_secs());
        }
    }
}

/// Starts what the server does by itself, until it stops.
fn start_background_work(app: &App) {
    let (catalog, config) = (app.catalog.clone(), Arc::clone(&app.config));
    tokio::spawn(async move { catalog.import_file(&config.catalog_file).await });
    tokio::spawn(app.backups.clone().schedule());
    let limits = app.config.limits.clone();
    tokio::spawn(app.events.clone().prune_hourly(limits, app.shutdown.clone()));
}
