//! The parts of a server's life: opening the state, serving, and closing the state.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::blocking::blocking;
use crate::config::Config;
use crate::domain::error::Result;
use crate::domain::event::{Actor, NewEvent};
use crate::domain::network::listen_error;
use crate::http::connections::{Connections, Permit};
use crate::http::router as routes;
use crate::http::state::RouterState;
use crate::services::app::App;
use crate::services::script_workers::ScriptWorkers;
use crate::services::shutdown::Shutdown;
use crate::services::stall_watch::StallWatch;
use crate::state_dir::{self, StateLock, Use};
use crate::tftp::{self, FirstRequest, TftpServer};

/// Time for connections and jobs to end by themselves when the server stops.
const GRACE: Duration = Duration::from_secs(10);

pub(super) async fn open(config: Config, workers: ScriptWorkers) -> Result<Arc<App>> {
    blocking(move || App::open(config, workers).map(Arc::new)).await?
}

/// Locks the state directory for this process.
pub(super) fn claim(config: &Config) -> Result<StateLock> {
    state_dir::claim(&config.state_dir, Use::State { may_be_remote: config.state_may_be_remote })
}

/// Binds `address`. If that fails, the error names the setting `variable`.
pub(super) async fn listen_at(address: SocketAddr, variable: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| listen_error(&address.to_string(), address.port(), variable, &e))
}

/// Asks all long-running work of the server to end.
pub(super) fn begin_stop(app: &App) {
    if app.shutdown.stop() {
        tracing::info!("stopping");
    }
    app.jobs.cancel_all();
}

/// Serves the pages and the API until the server stops.
pub(super) async fn serve_pages(app: Arc<App>, listener: TcpListener) {
    let router = routes::router(RouterState::new(&app));
    serve_router(&app, listener, router).await;
}

/// Serves the objects of the cache host, if there is one, until the server stops.
pub(super) async fn serve_objects(app: &Arc<App>, listener: TcpListener) {
    let Some(cache) = app.cache.clone() else { return };
    let shutdown = app.shutdown.clone();
    tokio::spawn(Arc::clone(&cache).save_uses(async move { shutdown.stopped().await }));
    let shutdown = app.shutdown.clone();
    tokio::spawn(Arc::clone(&cache).pack_objects(async move { shutdown.stopped().await }));
    serve_router(app, listener, routes::cache_router(RouterState::new(app))).await;
    cache.stop().await;
}

async fn serve_router(app: &App, listener: TcpListener, router: axum::Router) {
    let connections = Connections::new(
        app.config.limits.clone(),
        app.config.trusted_proxies.clone(),
        Arc::clone(&app.metrics),
    );
    let serve = |stream, peer, permit: Permit| permit.serve_http(stream, peer, router.clone());
    let serving = connections.serve(listener, app.shutdown.stopped(), serve);
    end_in_time(&app.shutdown, serving).await;
}

/// Serves TFTP until the server stops. A failure is logged and recorded: the pages still work.
pub(super) async fn serve_tftp(app: Arc<App>) {
    if let Err(error) = run_tftp(&app).await {
        tracing::error!(%error, "cannot serve TFTP");
        let event = NewEvent::new("tftp.failed", "tftp", format!("cannot serve TFTP: {error}"));
        // the error is already in the log
        let _ = app.events.record(event.with(error.details())).await;
    }
}

/// Runs the TFTP server of this process until the server stops. Records an event for the first
/// request of each client.
async fn run_tftp(app: &App) -> Result<()> {
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
pub(super) async fn announce(app: &App, what: &str, address: Option<SocketAddr>) -> Result<()> {
    let address = address.map_or_else(|| "the router of a program".into(), |at| at.to_string());
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
pub(super) async fn close(app: &App) -> Result<()> {
    let _ = tokio::time::timeout(GRACE, app.jobs.drain()).await;
    let db = app.db.clone();
    blocking(move || db.close()).await
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
pub(super) fn start_background_work(app: &App) {
    let (catalog, config) = (app.catalog.clone(), Arc::clone(&app.config));
    tokio::spawn(async move { catalog.import_file(&config.catalog_file).await });
    tokio::spawn(app.backups.clone().schedule());
    let watch = StallWatch::new(app.db.clone(), app.machines.clone(), app.snapshots.clone());
    tokio::spawn(watch.run(app.shutdown.clone()));
    tokio::spawn(app.webhooks.clone().deliver());
    let limits = app.config.limits.clone();
    tokio::spawn(app.events.clone().prune_hourly(limits, app.shutdown.clone()));
}
