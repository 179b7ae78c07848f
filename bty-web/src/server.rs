//! A server as a value: started with a configuration, and stopped when the program wants it.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::blocking::blocking;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::http::router as routes;
use crate::http::state::RouterState;
use crate::services::app::App;
use crate::services::script_workers::ScriptWorkers;
use crate::state_dir::StateLock;
use crate::worker;

pub(crate) mod alone;
mod parts;

/// A running server. [`stop`](Self::stop) it, so that its state is closed when the program goes on.
/// A server that is dropped stops in the background.
///
/// ```no_run
/// use bty_web::{Config, Server, worker};
///
/// # async fn run() -> bty_web::Result<()> {
/// let config = Config::from_values([("paths.state_dir", "/srv/bty"), ("admin.password", "s3cret")])?;
/// let server = Server::builder().config(config).worker(worker::this_program).start().await?;
/// println!("listening at {:?}", server.address());
/// tokio::signal::ctrl_c().await?;
/// server.stop().await
/// # }
/// ```
pub struct Server(Option<RunningServer>);

struct RunningServer {
    app: Arc<App>,
    address: Option<SocketAddr>,
    /// What answers requests; ends when the server stops.
    serving: Vec<JoinHandle<()>>,
    /// Released after the state is closed.
    _lock: StateLock,
}

/// Asks a server to stop, from anywhere. Clones share the server.
#[derive(Clone)]
pub struct StopHandle(Arc<App>);

impl StopHandle {
    /// Ends live streams and background jobs, and the server's own listeners once the requests in
    /// progress have their responses. The state stays open until [`Server::stop`].
    pub fn stop(&self) {
        parts::begin_stop(&self.0);
    }
}

impl Server {
    /// Returns the settings of a server that is not running yet.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Returns the address that the server listens at; `None` for a [mounted](ServerBuilder::mount)
    /// one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.running().address
    }

    /// Returns the server's routes, all below the base path, to be merged into the router of an
    /// axum application.
    ///
    /// The application must serve with `into_make_service_with_connect_info::<SocketAddr>()`,
    /// because the server records the addresses of its clients. Its own limits apply to
    /// connections: those of the section `limits` belong to the server's listeners.
    pub fn router(&self) -> Router {
        routes::mounted(RouterState::new(&self.running().app))
    }

    /// Returns a handle that asks this server to stop.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.running().app))
    }

    /// Stops the server: accepts no more connections, lets requests in progress and jobs end for at
    /// most ten seconds, and closes the state.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::ErrorKind::Internal) if a part of the server has panicked.
    pub async fn stop(mut self) -> Result<()> {
        match self.0.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }

    fn running(&self) -> &RunningServer {
        self.0.as_ref().unwrap_or_else(|| unreachable!("stop and drop consume the server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(running) = self.0.take() else { return };
        parts::begin_stop(&running.app);
        // without a runtime, everything that it ran has ended already
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(running.stop());
        }
    }
}

impl RunningServer {
    async fn stop(self) -> Result<()> {
        parts::begin_stop(&self.app);
        let mut ended = Ok(());
        for serving in self.serving {
            // the cache host records the end of its fills before the database closes
            ended = ended.and(serving.await.map_err(Error::internal));
        }
        parts::close(&self.app).await.and(ended)
    }
}

/// The settings of a [`Server`]. Only [`worker`](Self::worker) has no default.
#[must_use]
#[derive(Default)]
pub struct ServerBuilder {
    config: Config,
    base_path: Option<String>,
    worker: Option<Arc<dyn Fn() -> Command + Send + Sync>>,
    listener: Option<TcpListener>,
}

impl ServerBuilder {
    /// Sets the configuration; the default is [`Config::default`].
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Serves everything below this path, such as `/bty`: pages, the API, and what machines
    /// request. The default is the path of `server.public_url`.
    pub fn base_path(mut self, path: impl Into<String>) -> Self {
        self.base_path = Some(path.into());
        self
    }

    /// Sets the command that starts a process for scripts; see [`worker`]. There is no default: the
    /// server cannot know which program calls [`worker::serve`].
    pub fn worker(mut self, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        self.worker = Some(Arc::new(command));
        self
    }

    /// Listens with `listener` instead of at `server.host` and `server.port`: for a port that the
    /// system chooses, or a socket of the service manager.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Starts a server with a listener of its own.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the base path or the configuration is
    ///   invalid, no [`worker`](Self::worker) can be started, or there is no password although
    ///   others can reach the address.
    /// - [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another process uses an address or
    ///   the state directory, or the directory cannot be written.
    /// - [`ErrorKind::Internal`](crate::ErrorKind::Internal) if the database cannot be opened.
    pub async fn start(mut self) -> Result<Server> {
        // report a port in use before creating any file
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => parts::listen_at(self.config.listen, "BTY_SERVER_PORT").await?,
        };
        self.config.listen = listener.local_addr()?;
        self.run(Some(listener)).await
    }

    /// Starts a server that does not listen: the program merges its [`router`](Server::router).
    /// `server.host` and `server.port` say where the program listens.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    ///
    /// use axum::{Router, routing::get};
    /// use bty_web::{Config, Server, worker};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Server::builder().worker(worker::this_program).base_path("/bty");
    /// let bty = builder.config(Config::from_values([("admin.password", "s3cret")])?).mount().await?;
    /// let application = Router::new().route("/", get(|| async { "mine" })).merge(bty.router());
    ///
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    /// let stop = bty.stop_handle();
    /// axum::serve(listener, application.into_make_service_with_connect_info::<SocketAddr>())
    ///     .with_graceful_shutdown(async move {
    ///         let _ = tokio::signal::ctrl_c().await;
    ///         stop.stop(); // ends the live streams of pages, for which axum would wait
    ///     })
    ///     .await?;
    /// bty.stop().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`start`](Self::start).
    pub async fn mount(self) -> Result<Server> {
        self.run(None).await
    }

    async fn run(self, listener: Option<TcpListener>) -> Result<Server> {
        let mut config = self.config;
        if let Some(path) = self.base_path {
            config.set_base_path(&path)?;
        }
        config.check_login(config.listen)?;
        let workers = start_workers(self.worker, config.script_workers).await?;
        let lock = parts::claim(&config)?;
        let objects = match &config.cache {
            Some((listen, _)) => Some(parts::listen_at(*listen, "BTY_CACHE_LISTEN").await?),
            None => None,
        };
        let app = parts::open(config, workers).await?;
        let address = listener.as_ref().map(|_| app.config.listen);
        parts::announce(&app, "server", address).await?;
        let mut serving = Vec::new();
        if let Some(objects) = objects {
            let app = Arc::clone(&app);
            serving.push(tokio::spawn(async move { parts::serve_objects(&app, objects).await }));
        }
        if app.config.tftp_is_embedded {
            serving.push(tokio::spawn(parts::serve_tftp(Arc::clone(&app))));
        }
        if let Some(listener) = listener {
            serving.push(tokio::spawn(parts::serve_pages(Arc::clone(&app), listener)));
        }
        parts::start_background_work(&app);
        Ok(Server(Some(RunningServer { app, address, serving, _lock: lock })))
    }
}

/// Starts the first process for scripts, so that neither the first machine nor the first page has
/// to wait for it, and a server that could decide nothing does not start.
async fn start_workers(
    command: Option<Arc<dyn Fn() -> Command + Send + Sync>>,
    count: usize,
) -> Result<ScriptWorkers> {
    let command = command.ok_or_else(|| {
        Error::invalid(
            "cannot run plans: no command starts the processes in which they run; give one to \
             ServerBuilder::worker, such as bty_web::worker::this_program",
        )
    })?;
    if worker::is_marked() {
        return Err(Error::invalid(
            "this process was started to run scripts, but starts a server; call \
             bty_web::worker::serve first in main if bty_web::worker::is_requested",
        ));
    }
    let workers = ScriptWorkers::new(command, count);
    let checked = workers.clone();
    blocking(move || checked.check()).await??;
    Ok(workers)
}
