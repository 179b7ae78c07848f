//! All services of the server, assembled.

use std::sync::{Arc, OnceLock};

use bty_script::worker::Workers;
use tokio::sync::{Semaphore, watch};

use crate::cache::CacheHost;
use crate::config::Config;
use crate::config::limits::PerMinute;
use crate::domain::error::{Error, Result};
use crate::domain::event::NewEvent;
use crate::domain::plan::evaluate::PlanEvaluator;
use crate::domain::time::Time;
use crate::services::auth::Auth;
use crate::services::event_bus::EventBus;
use crate::services::image_route::ImageRouter;
use crate::services::jobs::Jobs;
pub use crate::services::machines::MachineView;
use crate::services::machines::Machines;
use crate::services::metrics::Metrics;
use crate::services::rates::Rates;
use crate::services::simulations::Simulations;
pub use crate::services::snapshot::Snapshot;
use crate::services::snapshot::Snapshots;
use crate::store::{self, Database};
use crate::tftp::TftpServer;

/// Maximum number of list responses streamed concurrently.
const LISTS_MAX: usize = 4;

/// All services of the server. Handlers use the ones that they need.
pub struct App {
    /// Configuration, as loaded at startup.
    pub config: Config,
    /// The database.
    pub db: Database,
    /// Subscriptions to events and machines.
    pub bus: EventBus,
    /// The admin's password, and the key of session cookies.
    pub auth: Auth,
    /// The cache host of this process.
    pub cache: Option<Arc<CacheHost>>,
    /// Chooses whether machines download an image through a cache host.
    pub image_router: ImageRouter,
    /// The TFTP server of this process, once it is running.
    pub tftp: OnceLock<Arc<TftpServer>>,
    /// Background jobs, which outlive their requests.
    pub jobs: Jobs,
    /// Rates of the flashes in progress.
    pub rates: Rates,
    /// Counters for Prometheus.
    pub metrics: Arc<Metrics>,
    /// Reads and changes machines.
    pub machines: Arc<Machines>,
    /// Plans, catalog and settings, kept in memory.
    pub snapshots: Arc<Snapshots>,
    /// Permits for long list responses: slow clients must not use up the threads that contacts
    /// need.
    pub lists: Arc<Semaphore>,
    /// HTTP client for servers that an operator has configured.
    pub client: bty::Client,
    /// HTTP client for servers named by catalogs and API clients. It refuses this host, its local
    /// link and cloud metadata services, unless `cache.reach` allows them.
    pub guarded: bty::Client,
    /// When the server started.
    pub started_at: Time,
    /// Limits how many machines are discovered per minute.
    pub new_machines: Arc<PerMinute>,
    /// Simulations, which have their own workers and take none from contacts.
    pub simulations: Simulations,
    stopping: watch::Sender<bool>,
}

impl App {
    /// Opens the state that `config` names, and starts the services that use it.
    ///
    /// # Errors
    /// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when a directory or the
    ///   database cannot be opened.
    /// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) when another process
    ///   has locked the cache host's objects.
    pub fn open(config: Config) -> Result<Arc<Self>> {
        for dir in [&config.state_dir, &config.boot_dir, &config.backup_dir] {
            std::fs::create_dir_all(dir)
                .map_err(|e| Error::internal(format!("creating {}: {e}", dir.display())))?;
        }
        let bus = EventBus::default();
        let db = open_database(&config, &bus)?;
        let cache = open_cache(&config, &db)?;
        let snapshots = Arc::new(Snapshots::open(db.clone(), cache.clone())?);
        let (metrics, client) = (Arc::<Metrics>::default(), config.network.client());
        let new_machines = Arc::new(PerMinute::new(config.limits.new_machines_per_minute));
        let machines = Arc::new(Machines::new(
            db.clone(),
            bus.clone(),
            Arc::clone(&metrics),
            Arc::clone(&snapshots),
            evaluator(&config),
            Arc::clone(&new_machines),
            config.limits.unassigned_machines,
        ));
        let simulating =
            Workers::new(worker_command, bty_script::Limits::server(), config.limits.simulations);
        Ok(Arc::new(Self {
            db,
            bus,
            auth: Auth::new(&config)?,
            image_router: ImageRouter::new(&config, client.clone(), cache.clone()),
            cache,
            tftp: OnceLock::new(),
            jobs: Jobs::new(config.backup_max_parallel),
            rates: Rates::default(),
            metrics,
            machines,
            snapshots,
            client,
            guarded: config.guarded_client(),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
            started_at: Time::now(),
            new_machines,
            simulations: Simulations::new(simulating, config.limits.simulations),
            stopping: watch::Sender::new(false),
            config,
        }))
    }

    /// Returns the current plans, catalog and settings.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.current()
    }

    /// Writes an event that belongs to no other change, and returns once it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Full`](crate::domain::error::ErrorKind::Full) when there is no space on the
    /// disk.
    pub async fn record(&self, event: NewEvent) -> Result<()> {
        self.metrics.event(event.kind);
        self.db.write(move |transaction| transaction.record(&event).map(drop)).await
    }

    /// Returns why the state cannot be changed at present; `None` if it can.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        let dir = &self.config.state_dir;
        let failed = || format!("the last change failed: {}", Error::full("").in_dir(dir).detail);
        crate::state_dir::shortage(dir).or_else(|| self.db.is_full().then(failed))
    }

    /// Returns the path of the page that people see after login.
    #[must_use]
    pub fn home(&self) -> &'static str {
        if self.config.is_cache_only { "/ui/cache" } else { "/ui/dashboard" }
    }

    /// Asks all long-running work to end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        self.jobs.cancel_all();
    }

    /// Waits until the server is asked to stop.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // the sender lives as long as the server
        let _ = stopping.wait_for(|is| *is).await;
    }
}

/// Opens the database and makes its file private: it contains what machines have posted.
fn open_database(config: &Config, bus: &EventBus) -> Result<Database> {
    let db = Database::open(&config.state_dir.join("state.db"), bus.clone())?;
    std::fs::set_permissions(db.path(), std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
    let cleaned = db.write_blocking(|t| store::catalog::forget_passwords(t))?;
    if !cleaned.is_empty() {
        tracing::warn!(
            images = cleaned.join(", "),
            "removed user names and passwords from the addresses of images, because anybody could \
             read them"
        );
    }
    Ok(db)
}

fn open_cache(config: &Config, db: &Database) -> Result<Option<Arc<CacheHost>>> {
    let Some((_, options)) = &config.cache else { return Ok(None) };
    let has_catalog = !config.is_cache_only;
    CacheHost::open(options.clone(), &config.network.options(), db.clone(), has_catalog).map(Some)
}

fn evaluator(config: &Config) -> Arc<PlanEvaluator<'static>> {
    let workers = Workers::new(worker_command, bty_script::Limits::server(), config.script_workers);
    Arc::new(move |question: &_| workers.decide(question))
}

/// The command of a worker process that runs scripts: this program, even if an upgrade has replaced
/// its file in the meantime.
fn worker_command() -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg("script-worker");
    command
}
