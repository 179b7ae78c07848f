//! Serving: from an opened state to an ordered end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

use crate::app::App;
use crate::cache::front;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::{Actor, NewEvent};
use crate::jobs::backup;
use crate::machine::Who;
use crate::time::Time;
use crate::{catalog, routes};

/// How long connections and jobs have to end by themselves.
const GRACE: Duration = Duration::from_secs(10);

/// One process at a time changes a state; the lock ends with the process.
pub struct StateLock(#[allow(dead_code)] std::fs::File);

impl StateLock {
    /// Takes the lock of the state in `dir`.
    ///
    /// # Errors
    /// When somebody has it.
    pub fn take(dir: &std::path::Path) -> Result<Self> {
        let path = dir.join("state.lock");
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        file.try_lock().map(|()| Self(file)).map_err(|e| match e {
            std::fs::TryLockError::WouldBlock => {
                let detail = format!("a server uses the state in {}: end it first", dir.display());
                Error::new(crate::error::ErrorKind::Conflict, detail)
            }
            std::fs::TryLockError::Error(e) => Error::internal(format!("locking {}: {e}", path.display())),
        })
    }
}

/// Serves until `stop` ends.
///
/// # Errors
/// When the state cannot be opened, or the address is taken.
pub async fn serve(config: Config, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    let listen = config.listen;
    let listener = listen_at(listen).await?;
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|e| Error::internal(format!("making {}: {e}", config.state_dir.display())))?;
    let _lock = StateLock::take(&config.state_dir)?;
    let app = open(config).await?;
    serve_at(app, listener, stop).await
}

/// Is a cache host, and nothing else, until `stop` ends: with its own state, log-in and events, in the directory of its objects.
///
/// # Errors
/// When the state cannot be opened, or the address is taken.
pub async fn serve_cache(mut config: Config, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|e| Error::internal(format!("making {}: {e}", config.state_dir.display())))?;
    let listen = config.cache_listen;
    let listener = listen_at(listen).await?;
    config.is_cache_only = true;
    // what stands in a base address that no request tells
    config.listen = listen;
    config.cache = Some((listen, config.cache_options.clone()));
    let _lock = StateLock::take(&config.state_dir)?;
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

/// Opens the state, which blocks.
async fn open(config: Config) -> Result<Arc<App>> {
    tokio::task::spawn_blocking(move || App::open(config)).await.map_err(Error::internal)?
}

async fn listen_at(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| Error::internal(format!("listening at {address}: {e}")))
}

/// Serves the cache of this process until it is to end.
async fn serve_objects(app: &Arc<App>, listener: TcpListener) -> Result<()> {
    let Some(cache) = app.cache.clone() else { return Ok(()) };
    let (metrics, router) = (Arc::clone(&app.metrics), routes::cache_router(app));
    let (tending, waiting) = (Arc::clone(app), Arc::clone(app));
    tokio::spawn(Arc::clone(&cache).tend(async move { tending.stopped().await }));
    front::serve(Arc::clone(&cache), metrics, listener, router, async move { waiting.stopped().await }).await?;
    cache.stop().await;
    Ok(())
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
    app.tell(NewEvent::new("system.started", "server", format!("bty-web {version}, {what}, serves at {address}")))
        .await?;
    tracing::info!(%address, state = %app.config.state_dir.display(), "{what} serves");
    Ok(())
}

/// Closes the database, once all that is under way is written down.
async fn close(app: &Arc<App>) -> Result<()> {
    let _ = tokio::time::timeout(GRACE, app.jobs.drain()).await;
    let db = app.db.clone();
    tokio::task::spawn_blocking(move || db.close()).await.map_err(Error::internal)
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
    let objects = match &app.config.cache {
        Some((listen, _)) => {
            let listener = listen_at(*listen).await?;
            let shared = Arc::clone(&app);
            Some(tokio::spawn(async move { serve_objects(&shared, listener).await }))
        }
        None => None,
    };
    tokio::spawn(import_file(Arc::clone(&app)));
    tokio::spawn(backup::schedule(Arc::clone(&app)));
    let router = routes::router(&app).into_make_service_with_connect_info::<SocketAddr>();
    let (shared, ended) = (Arc::clone(&app), Arc::new(tokio::sync::Notify::new()));
    let told = Arc::clone(&ended);
    let stopping = async move {
        stop.await;
        tracing::info!("ending");
        shared.stop();
        told.notify_one();
    };
    // an answer is small, and waits for nothing
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stopping);
    tokio::select! {
        served = serving.into_future() => served?,
        () = async { ended.notified().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("connections were still open after {} s", GRACE.as_secs());
        }
    }
    // whatever is under way is ended, and written down, before the database closes
    if let Some(objects) = objects {
        objects.await.map_err(Error::internal)??;
    }
    close(&app).await
}

/// Imports the catalog file of the configuration, if there is one. What an operator has deleted stays deleted.
async fn import_file(app: Arc<App>) {
    let path = &app.config.catalog_file;
    if !path.is_file() {
        return;
    }
    let who = Who { ip: None, now: Time::now(), base: String::new() };
    let source = path.display().to_string();
    if let Err(error) = catalog::import(&app, &who, Actor::System, source).await {
        tracing::warn!(%error, "the catalog file was not imported");
    }
}
