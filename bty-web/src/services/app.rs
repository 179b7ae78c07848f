//! All services of the server, assembled. Nothing else knows this type: handlers take the services
//! that they use from the router's state, and services take theirs in their constructors.

use std::sync::{Arc, OnceLock};

use crate::cache::CacheHost;
use crate::config::Config;
use crate::config::limits::PerMinute;
use crate::domain::error::{Error, Result};
use crate::services::access::Access;
use crate::services::auth::Auth;
use crate::services::boot_cycles::BootCycles;
use crate::services::bulk_edits::BulkEdits;
use crate::services::cache_control::CacheControl;
use crate::services::catalog::CatalogEdits;
use crate::services::event_bus::EventBus;
use crate::services::event_log::EventLog;
use crate::services::image_catalog::ImageCatalog;
use crate::services::image_route::ImageRouter;
use crate::services::job_control::JobControl;
use crate::services::jobs::Jobs;
use crate::services::jobs::backup::BackupJobs;
use crate::services::jobs::netboot::ReleaseJobs;
use crate::services::machine_edits::MachineEdits;
use crate::services::machine_reads::MachineReads;
use crate::services::machines::Machines;
use crate::services::metrics::Metrics;
use crate::services::network_cards::NetworkCards;
use crate::services::orders::ImageOrigins;
use crate::services::plan_edits::PlanEdits;
use crate::services::plan_simulation::PlanSimulator;
use crate::services::power::Power;
use crate::services::rates::Rates;
use crate::services::rolling_images::RollingImages;
use crate::services::script_workers::ScriptWorkers;
use crate::services::server_health::ServerHealth;
use crate::services::settings::SettingEdits;
use crate::services::shutdown::Shutdown;
use crate::services::simulations::Simulations;
use crate::services::snapshot::Snapshots;
use crate::services::state_transfer::StateTransfer;
use crate::services::undo::UndoService;
use crate::services::webhooks::Webhooks;
use crate::store::{self, Database};
use crate::tftp::TftpServer;

/// All services of the server.
pub struct App {
    /// Configuration, as loaded at startup.
    pub config: Arc<Config>,
    /// The database in the state directory.
    pub db: Database,
    /// Subscriptions to events and machines.
    pub bus: EventBus,
    /// Counters for Prometheus.
    pub metrics: Arc<Metrics>,
    /// The audit log.
    pub events: EventLog,
    /// The end of the server.
    pub shutdown: Shutdown,
    /// Plans, catalog and settings, kept in memory.
    pub snapshots: Arc<Snapshots>,
    /// Logins, sessions and tokens.
    pub access: Access,
    /// The cache host of this process.
    pub cache: Option<Arc<CacheHost>>,
    /// Controls the cache host.
    pub cache_control: CacheControl,
    /// The TFTP server of this process, once it is running.
    pub tftp: Arc<OnceLock<Arc<TftpServer>>>,
    /// What `/healthz` and `/metrics` report.
    pub health: ServerHealth,
    /// Chooses whether machines download an image through a cache host.
    pub image_router: Arc<ImageRouter>,
    /// The catalog for pages and clients.
    pub images: ImageCatalog,
    /// Changes to the catalog.
    pub catalog: CatalogEdits,
    /// Background jobs, which outlive their requests.
    pub jobs: Jobs,
    /// Backups, and their schedule.
    pub backups: BackupJobs,
    /// Starts, lists and cancels jobs for operators.
    pub job_control: JobControl,
    /// Reads and changes machines.
    pub machines: Arc<Machines>,
    /// Reads machines for lists and pages.
    pub machine_reads: MachineReads,
    /// Operators' changes to machines.
    pub machine_edits: MachineEdits,
    /// Operators' changes to many machines.
    pub bulk_edits: BulkEdits,
    /// Operators' changes to the network cards of machines.
    pub network_cards: NetworkCards,
    /// Contacts and reports of machines.
    pub boot_cycles: BootCycles,
    /// Rates of the flashes in progress.
    pub rates: Arc<Rates>,
    /// Operators' changes to plans.
    pub plans: PlanEdits,
    /// Where the images of orders come from.
    pub origins: ImageOrigins,
    /// Simulations of plans.
    pub simulator: PlanSimulator,
    /// Operators' changes to settings.
    pub settings: SettingEdits,
    /// Export and import.
    pub transfer: StateTransfer,
    /// Undo of changes.
    pub undo: UndoService,
    /// Power control of machines.
    pub power: Power,
    /// Delivery of events to other servers.
    pub webhooks: Webhooks,
}

impl App {
    /// Opens the state that `config` names, and starts the services that use it. Plans run in
    /// `workers`.
    ///
    /// # Errors
    /// - [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when a directory or the
    ///   database cannot be opened.
    /// - [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) when another process
    ///   has locked the cache host's objects.
    pub fn open(config: Config, workers: ScriptWorkers) -> Result<Self> {
        for dir in [&config.state_dir, &config.boot_dir, &config.backup_dir] {
            std::fs::create_dir_all(dir)
                .map_err(|e| Error::internal(format!("creating {}: {e}", dir.display())))?;
        }
        let config = Arc::new(config);
        let bus = EventBus::default();
        let db = open_database(&config, &bus)?;
        let cache = open_cache(&config, &db)?;
        let snapshots = Arc::new(Snapshots::open(db.clone(), cache.clone())?);
        let auth = Arc::new(Auth::new(&config)?);
        Ok(Foundation { config, bus, db, cache, snapshots, auth, workers }.build())
    }
}

/// What the services are built on: everything whose opening can fail.
struct Foundation {
    config: Arc<Config>,
    bus: EventBus,
    db: Database,
    cache: Option<Arc<CacheHost>>,
    snapshots: Arc<Snapshots>,
    auth: Arc<Auth>,
    workers: ScriptWorkers,
}

impl Foundation {
    fn build(self) -> App {
        let db = || self.db.clone();
        let config = || Arc::clone(&self.config);
        let snapshots = || Arc::clone(&self.snapshots);
        let cache = || self.cache.clone();
        let (metrics, rates) = (Arc::<Metrics>::default(), Arc::<Rates>::default());
        let (shutdown, tftp) = (Shutdown::default(), Arc::<OnceLock<_>>::default());
        let (client, guarded) = (self.config.network.client(), self.config.guarded_client());
        let log = EventLog::new(db(), metrics.clone());
        let events = || log.clone();
        let router = Arc::new(ImageRouter::new(&self.config, client.clone(), cache()));
        let limit = Arc::new(PerMinute::new(self.config.limits.new_machines_per_minute));
        let machines = self.machines(&metrics, &limit);
        let webhooks = Webhooks::new(
            &self.config,
            db(),
            self.bus.clone(),
            guarded.clone(),
            events(),
            metrics.clone(),
            shutdown.clone(),
        );
        let catalog = CatalogEdits::new(
            db(),
            snapshots(),
            machines.clone(),
            events(),
            client.clone(),
            guarded.clone(),
        );
        let cards = NetworkCards::new(machines.clone(), db(), snapshots(), metrics.clone());
        let plans = PlanEdits::new(db(), snapshots(), machines.clone());
        let settings = SettingEdits::new(db(), snapshots(), config(), events());
        let reads = MachineReads::new(db(), snapshots());
        let edits = MachineEdits::new(machines.clone(), db(), metrics.clone(), config());
        let power =
            Power::new(config(), guarded, reads.clone(), edits.clone(), events(), shutdown.clone());
        let simulations = self.simulations();
        let bulk_edits = BulkEdits::new(
            db(),
            machines.clone(),
            reads.clone(),
            edits.clone(),
            snapshots(),
            simulations.clone(),
            metrics.clone(),
        );
        let (jobs, backups, job_control) = self.jobs(&log, &shutdown, client.clone(), &router);
        App {
            access: Access::new(db(), self.auth.clone(), events()),
            cache_control: CacheControl::new(cache(), db()),
            health: ServerHealth::new(
                db(),
                config(),
                cache(),
                tftp.clone(),
                metrics.clone(),
                snapshots(),
                webhooks.clone(),
            ),
            images: ImageCatalog::new(db(), snapshots(), router.clone(), catalog.clone(), client),
            boot_cycles: BootCycles::new(
                cards.clone(),
                snapshots(),
                config(),
                rates.clone(),
                limit,
                metrics.clone(),
                events(),
            ),
            origins: ImageOrigins::new(
                router.clone(),
                RollingImages::new(catalog.clone(), snapshots()),
            ),
            simulator: PlanSimulator::new(db(), snapshots(), simulations),
            transfer: StateTransfer::new(db(), machines.clone(), snapshots(), events()),
            undo: UndoService::new(
                machines.clone(),
                reads.clone(),
                edits.clone(),
                plans.clone(),
                settings.clone(),
                catalog.clone(),
                events(),
            ),
            events: events(),
            config: self.config,
            db: self.db,
            bus: self.bus,
            cache: self.cache,
            snapshots: self.snapshots,
            image_router: router,
            machine_reads: reads,
            machine_edits: edits,
            bulk_edits,
            network_cards: cards,
            metrics,
            shutdown,
            tftp,
            catalog,
            jobs,
            backups,
            job_control,
            machines,
            rates,
            plans,
            settings,
            power,
            webhooks,
        }
    }

    fn machines(&self, metrics: &Arc<Metrics>, new_machines: &Arc<PerMinute>) -> Arc<Machines> {
        let workers = self.workers.clone();
        Arc::new(Machines::new(
            self.db.clone(),
            self.bus.clone(),
            Arc::clone(metrics),
            Arc::clone(&self.snapshots),
            Arc::new(move |question: &_| workers.decide(question)),
            Arc::clone(new_machines),
            self.config.limits.unassigned_machines,
        ))
    }

    fn simulations(&self) -> Arc<Simulations> {
        let at_a_time = self.config.limits.simulations;
        Arc::new(Simulations::new(self.workers.separate(at_a_time), at_a_time))
    }

    fn jobs(
        &self,
        events: &EventLog,
        shutdown: &Shutdown,
        client: bty::Client,
        image_router: &Arc<ImageRouter>,
    ) -> (Jobs, BackupJobs, JobControl) {
        let jobs = Jobs::new(self.config.backup_max_parallel);
        let backups = BackupJobs::new(
            Arc::clone(&self.config),
            self.db.clone(),
            jobs.clone(),
            Arc::clone(&self.snapshots),
            events.clone(),
            shutdown.clone(),
        );
        let releases = ReleaseJobs::new(
            Arc::clone(&self.config),
            self.db.clone(),
            jobs.clone(),
            Arc::clone(&self.snapshots),
            events.clone(),
            client,
        );
        let control = JobControl::new(
            Arc::clone(&self.config),
            jobs.clone(),
            Arc::clone(&self.snapshots),
            Arc::clone(image_router),
            events.clone(),
            backups.clone(),
            releases,
        );
        (jobs, backups, control)
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
