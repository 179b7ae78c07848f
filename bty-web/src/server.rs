//! Serving: from an opened state to an ordered end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bty_script::decide::PlanCall;
use tokio::net::TcpListener;

use crate::blocking::blocking;
use crate::cache::sendfile;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::machine::ClientContext;
use crate::domain::plan::bundled;
use crate::domain::time::Time;
use crate::http::connections::{Connections, Permit};
use crate::http::router as routes;
use crate::services::app::App;
use crate::services::catalog;
use crate::services::jobs::backup;
use crate::state_dir::{self, StateLock, Use};
use crate::tftp::{First, Tftp};
use crate::{store, tftp};

/// How long connections and jobs have to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// Serves until `stop` ends.
///
/// # Errors
/// When the state cannot be opened, or the address is taken.
pub async fn serve(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    // a port that is taken is told before anything is made
    let listener = listen_at(config.listen, "BTY_SERVER_PORT").await?;
    let _lock = claim(&config)?;
    let app = open(config).await?;
    serve_at(app, listener, stop).await
}

/// Is a cache host, and nothing else, until `stop` ends: with its own state, log-in and events, in
/// the directory of its objects.
///
/// # Errors
/// When the state cannot be opened, or the address is taken.
pub async fn serve_cache(
    mut config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let listen = config.cache_listen;
    let listener = listen_at(listen, "BTY_CACHE_LISTEN").await?;
    config.is_cache_only = true;
    // what stands in a base address that no request tells
    config.listen = listen;
    config.cache = Some((listen, config.cache_options.clone()));
    let _lock = claim(&config)?;
    let app = open(config).await?;
    greet(&app, "a cache host", listener.local_addr()?).await?;
    let end = Arc::clone(&app);
    tokio::spawn(async move {
        stop.await;
        tracing::info!("ending");
        end.stop();
    });
    serve_objects(&app, listener).await?;
    close(&app).await
}

/// Starts the first process that runs scripts, so that neither the first machine nor the first page
/// waits for it.
fn start_worker(app: &App) {
    let decide = app.decide();
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
            tracing::warn!(%error, "no process runs scripts");
        }
    }));
}

/// Opens the state, which blocks.
async fn open(config: Config) -> Result<Arc<App>> {
    blocking(move || App::open(config)).await?
}

/// Takes the state of this configuration for this process.
fn claim(config: &Config) -> Result<StateLock> {
    state_dir::claim(&config.state_dir, Use::State { may_be_remote: config.state_may_be_remote })
}

/// Listens; `variable` is what says where.
async fn listen_at(address: SocketAddr, variable: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        crate::http::network::cannot_listen(&address.to_string(), address.port(), variable, &e)
    })
}

/// Serves the cache of this process until it is to end.
async fn serve_objects(app: &Arc<App>, listener: TcpListener) -> Result<()> {
    let Some(cache) = app.cache.clone() else { return Ok(()) };
    let (metrics, router) = (Arc::clone(&app.metrics), routes::cache_router(app));
    let (tending, waiting) = (Arc::clone(app), Arc::clone(app));
    tokio::spawn(Arc::clone(&cache).tend(async move { tending.stopped().await }));
    let connections = Connections::new(
        app.config.limits.clone(),
        app.config.trusted_proxies.clone(),
        Arc::clone(&metrics),
    );
    let serve = |stream, peer, permit| {
        sendfile::serve(
            Arc::clone(&cache),
            Arc::clone(&metrics),
            router.clone(),
            stream,
            peer,
            permit,
        )
    };
    let serving = connections.serve(listener, async move { waiting.stopped().await }, serve);
    end_in_time(app, serving).await;
    cache.stop().await;
    Ok(())
}

/// Serves boot programs, and nothing else, until `stop` ends. `metrics` is where what it counts can
/// be read.
///
/// # Errors
/// When it cannot listen.
pub async fn serve_tftp(
    options: tftp::Options,
    metrics: Option<SocketAddr>,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let tftp = Tftp::new(options, |first: First| {
        let (ip, mac, name) = (first.ip, first.mac.as_deref().unwrap_or("unknown"), first.name);
        tracing::info!(%ip, mac, name, "a client asks for the first time");
    });
    if let Some(address) = metrics {
        let listener = listen_at(address, "--metrics").await?;
        let counted = Arc::clone(&tftp);
        let render = move || {
            let metrics = crate::services::metrics::Metrics::default();
            metrics.tftp(&counted.counts);
            async move { metrics.render(0, 0) }
        };
        let router = axum::Router::new().route("/metrics", axum::routing::get(render)).route(
            "/healthz",
            axum::routing::get(|| async { axum::Json(serde_json::json!({ "status": "ok" })) }),
        );
        tokio::spawn(axum::serve(listener, router).into_future());
    }
    tftp::serve(tftp, stop).await
}

/// Serves boot programs beside the server.
async fn start_tftp(app: &Arc<App>) -> Result<()> {
    let (shared, runtime) = (Arc::clone(app), tokio::runtime::Handle::current());
    let tftp = Tftp::new(app.config.tftp(), move |first: First| {
        let id = first.mac.clone().unwrap_or_else(|| first.ip.to_string());
        let event = NewEvent::new(
            "tftp.client.first",
            id,
            format!("{} asks for {} over TFTP", first.ip, first.name),
        );
        let event = event.by(Actor::PxeClient, Some(&first.ip.to_string()));
        let event = event.with(serde_json::json!({ "mac": first.mac, "name": first.name }));
        let event =
            if first.mac.is_some() { NewEvent { subject_kind: "machine", ..event } } else { event };
        let app = Arc::clone(&shared);
        runtime.spawn(async move {
            if let Err(error) = app.record(event).await {
                tracing::warn!(%error, "a client of TFTP was not written down");
            }
        });
    });
    let _ = app.tftp.set(Arc::clone(&tftp));
    let waiting = Arc::clone(app);
    tftp::serve(tftp, async move { waiting.stopped().await }).await
}

/// Says what is served, and what is strange about it.
async fn greet(app: &Arc<App>, what: &str, address: SocketAddr) -> Result<()> {
    for warning in &app.config.warnings {
        tracing::warn!("{warning}");
    }
    if app.auth.is_open() {
        tracing::warn!("no admin password is set: everybody on this network can change everything");
    }
    let version = env!("CARGO_PKG_VERSION");
    app.record(NewEvent::new(
        "system.started",
        "server",
        format!("bty-web {version}, {what}, serves at {address}"),
    ))
    .await?;
    tracing::info!(%address, state = %app.config.state_dir.display(), "{what} serves");
    Ok(())
}

/// Closes the database, once all that is under way is written down.
async fn close(app: &Arc<App>) -> Result<()> {
    let _ = tokio::time::timeout(GRACE, app.jobs.drain()).await;
    let db = app.db.clone();
    blocking(move || db.close()).await
}

/// Serves an opened server at a socket.
///
/// # Errors
/// Those of the socket.
pub async fn serve_at(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let address = listener.local_addr()?;
    greet(&app, "a server", address).await?;
    start_worker(&app);
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
                tracing::error!(%error, "TFTP does not serve");
                let event =
                    NewEvent::new("tftp.failed", "tftp", format!("TFTP does not serve: {error}"));
                // the log has it too
                let _ = shared.record(event.with(error.details())).await;
            }
        });
    }
    tokio::spawn(import_file(Arc::clone(&app)));
    tokio::spawn(backup::schedule(Arc::clone(&app)));
    tokio::spawn(prune_events(Arc::clone(&app)));
    let router = routes::router(&app);
    let shared = Arc::clone(&app);
    let stopping = async move {
        stop.await;
        tracing::info!("ending");
        shared.stop();
    };
    let limits = app.config.limits.clone();
    let connections =
        Connections::new(limits, app.config.trusted_proxies.clone(), Arc::clone(&app.metrics));
    let serve = |stream, peer, permit: Permit| permit.serve_http(stream, peer, router.clone());
    end_in_time(&app, connections.serve(listener, stopping, serve)).await;
    // whatever is under way is ended, and written down, before the database closes
    if let Some(objects) = objects {
        objects.await.map_err(Error::internal)??;
    }
    close(&app).await
}

/// Serves until all connections have ended, or some are still open when it is time.
async fn end_in_time(app: &Arc<App>, serving: impl Future<Output = ()>) {
    tokio::select! {
        () = serving => {}
        () = async { app.stopped().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("connections were still open after {} s", GRACE.as_secs());
        }
    }
}

/// Deletes events that are too old or too many, every hour, where the configuration wants that.
async fn prune_events(app: Arc<App>) {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let limits = &app.config.limits;
    let days = Some(i64::from(limits.event_days)).filter(|&days| days > 0);
    let keep = Some(limits.events).filter(|&events| events > 0);
    if days.is_none() && keep.is_none() {
        return;
    }
    loop {
        let before = days.map(|days| Time(Time::now().0 - days * DAY_MS));
        loop {
            match app
                .db
                .write(move |transaction| store::events::prune(transaction, before, keep))
                .await
            {
                Ok(0) => break,
                Ok(deleted) => {
                    tracing::info!(
                        deleted,
                        "events were deleted, as limits.event_days and limits.events say"
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "old events were not deleted");
                    break;
                }
            }
        }
        tokio::select! {
            () = app.stopped() => return,
            () = tokio::time::sleep(Duration::from_secs(60 * 60)) => {}
        }
    }
}

/// Imports the catalog file of the configuration, if there is one. What an operator has deleted
/// stays deleted.
async fn import_file(app: Arc<App>) {
    let path = &app.config.catalog_file;
    if !path.is_file() {
        return;
    }
    let who = ClientContext { ip: None, now: Time::now(), base: String::new() };
    let source = path.display().to_string();
    if let Err(error) = catalog::import(&app, &who, Actor::System, source).await {
        tracing::warn!(%error, "the catalog file was not imported");
    }
}
