//! What every part of the server shares, and the one way in which a machine changes.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bty_script::worker::Workers;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::cache::Cache;
use crate::cache::address::Address;
use crate::config::Config;
use crate::config::limits::PerMinute;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, Bus, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::plan::evaluate::{DecisionContext, PlanEvaluator};
use crate::domain::plan::{Plan, bundled};
use crate::domain::time::Time;
use crate::services::auth::Auth;
use crate::services::image_route::ImageRouter;
use crate::services::jobs::Jobs;
use crate::services::metrics::{Limit, Metrics};
use crate::services::rates::Rates;
use crate::services::simulations::Simulations;
use crate::store::database::Db;
use crate::store::{self, settings::Settings};
use crate::tftp::Tftp;

/// Machines are locked by the hash of their address, in as many shards.
const LOCKS: usize = 256;

/// As many long lists are sent at a time.
const LISTS: usize = 4;

/// The server.
pub struct App {
    /// Its configuration.
    pub config: Config,
    /// Its database.
    pub db: Db,
    /// Who listens to events.
    pub bus: Bus,
    /// Who may do what.
    pub auth: Auth,
    /// The cache host of this process.
    pub cache: Option<Arc<Cache>>,
    /// How images are had through a cache host.
    pub image_router: ImageRouter,
    /// TFTP in this process, once it serves.
    pub tftp: OnceLock<Arc<Tftp>>,
    /// Work beside requests.
    pub jobs: Jobs,
    /// How fast machines are being flashed.
    pub rates: Rates,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// As many long lists are sent at a time: a slow client must not keep a thread from contacts.
    pub lists: Arc<tokio::sync::Semaphore>,
    /// What reaches other servers that an operator has named.
    pub client: bty::Client,
    /// What reaches servers that catalogs and API clients name: not this host, its link or the
    /// metadata of a cloud, unless they are in `cache.reach`.
    pub guarded: bty::Client,
    /// When it was started.
    pub started_at: Time,
    /// Machines that become known.
    pub new_machines: PerMinute,
    /// Simulations, which take no worker from contacts.
    pub simulations: Simulations,
    decide: Arc<PlanEvaluator<'static>>,
    snapshot: RwLock<Arc<Snapshot>>,
    locks: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
    stopping: watch::Sender<bool>,
}

/// What decides about machines besides themselves: kept in memory, so that the cost of a contact
/// does not depend on it.
#[derive(Clone)]
pub struct Snapshot {
    /// Operators' plans, by name.
    pub plans: HashMap<String, Arc<Plan>>,
    /// The catalog as TOML.
    pub catalog: Arc<str>,
    /// Where the bytes of images are now, by their references.
    pub resolved: Arc<HashMap<String, String>>,
    /// Names of images, by their references.
    pub names: Arc<HashMap<String, String>>,
    /// Where the images of the catalog are: schemes, hosts and ports.
    pub origins: Arc<HashSet<String>>,
    /// Settings.
    pub settings: Settings,
    /// The zone of the server's clock.
    pub zone: jiff::tz::TimeZone,
}

impl Snapshot {
    /// Reads it from the database.
    ///
    /// # Errors
    /// Those of the database.
    pub fn read(conn: &rusqlite::Connection) -> Result<Self> {
        let plans = store::plans::all(conn)?
            .into_iter()
            .map(|plan| (plan.name.clone(), Arc::new(plan)))
            .collect();
        let settings = store::settings::all(conn)?;
        let entries = store::catalog::all(conn)?;
        let names = entries.iter().map(|e| (e.bty_image_ref.clone(), e.name.clone())).collect();
        let addresses =
            entries.iter().flat_map(|e| [Some(&e.src), e.resolved_src.as_ref()]).flatten();
        let origins = addresses
            .filter_map(|address| Some(address.parse::<Address>().ok()?.origin()))
            .collect();
        let resolved = entries
            .into_iter()
            .filter_map(|e| Some((e.bty_image_ref, e.resolved_src.filter(|src| *src != e.src)?)));
        Ok(Self {
            plans,
            catalog: store::catalog::toml(conn)?.into(),
            resolved: Arc::new(resolved.collect()),
            names: Arc::new(names),
            origins: Arc::new(origins),
            zone: settings.zone(),
            settings,
        })
    }

    /// The plan `name`, bundled or not.
    #[must_use]
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        bundled::find(name).or_else(|| self.plans.get(name).map(Arc::as_ref))
    }

    /// Version in the names of the live environment's files.
    #[must_use]
    pub fn netboot_version(&self) -> &str {
        match self.settings.get("netboot.version") {
            "" => env!("CARGO_PKG_VERSION"),
            version => version,
        }
    }

    /// The version that `machine` boots: the one that it is bound to, or the server's.
    #[must_use]
    pub fn netboot_version_of<'a>(&'a self, machine: &'a Machine) -> &'a str {
        match machine.netboot_version.as_str() {
            "" => self.netboot_version(),
            version => version,
        }
    }

    /// The rules for a machine with this plan.
    #[must_use]
    pub fn rules<'a>(
        &'a self,
        plan: Option<&'a Plan>,
        decide: &'a PlanEvaluator<'a>,
    ) -> DecisionContext<'a> {
        DecisionContext {
            plan,
            catalog: &self.catalog,
            resolved: &self.resolved,
            bytes: None,
            names: &self.names,
            decide,
            window_ms: self.settings.number("plans.contact_window_ms"),
            silent_boots_max: u32::try_from(self.settings.number("machines.silent_boots"))
                .unwrap_or_default(),
            zone: &self.zone,
            token: &random_token,
        }
    }
}

/// 128 random bits, as 32 hexadecimal digits.
///
/// # Panics
/// When the system has no random numbers: then nothing here is safe.
#[must_use]
pub fn random_token() -> String {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    hex(&bytes)
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A machine that is looked at, and what decides about it.
pub struct MachineView<'a> {
    /// The machine; none when it is not known.
    pub machine: Option<Machine>,
    /// Everything else.
    pub snapshot: &'a Snapshot,
    /// Who answers questions to plans.
    pub decide: &'a PlanEvaluator<'a>,
}

impl MachineView<'_> {
    /// The rules for the machine's own plan, or for that of a machine that is not known.
    #[must_use]
    pub fn rules(&self, plan: &str) -> DecisionContext<'_> {
        self.snapshot.rules(self.snapshot.plan(plan), self.decide)
    }
}

impl App {
    /// Opens the state of `config`.
    ///
    /// # Errors
    /// When the state cannot be opened.
    pub fn open(config: Config) -> Result<Arc<Self>> {
        let at = |what: &std::path::Path, e: std::io::Error| {
            Error::internal(format!("making {}: {e}", what.display()))
        };
        for dir in [&config.state_dir, &config.boot_dir, &config.backup_dir] {
            std::fs::create_dir_all(dir).map_err(|e| at(dir, e))?;
        }
        let bus = Bus::default();
        let db = Db::open(&config.state_dir.join("state.db"), bus.clone())?;
        // what machines posted is nobody else's business
        std::fs::set_permissions(db.path(), std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
        let cleaned = db.write_blocking(|t| store::catalog::forget_passwords(t))?;
        if !cleaned.is_empty() {
            tracing::warn!(
                images = cleaned.join(", "),
                "addresses of images had a user or a password, which everybody could read: they were removed"
            );
        }
        let snapshot = db.read_blocking(Snapshot::read)?;
        let auth = Auth::new(&config)?;
        let cache = config
            .cache
            .as_ref()
            .map(|(_, options)| {
                let has_catalog = !config.is_cache_only;
                Cache::open(options.clone(), &config.network.options(), db.clone(), has_catalog)
            })
            .transpose()?;
        if let Some(cache) = &cache {
            cache.set_catalog(Arc::clone(&snapshot.origins));
        }
        let workers =
            Workers::new(worker_command, bty_script::Limits::server(), config.script_workers);
        let decide: Arc<PlanEvaluator<'static>> =
            Arc::new(move |question: &_| workers.decide(question));
        let simulating =
            Workers::new(worker_command, bty_script::Limits::server(), config.limits.simulations);
        Ok(Arc::new(Self {
            db,
            bus,
            auth,
            cache,
            image_router: ImageRouter::new(&config),
            tftp: OnceLock::new(),
            jobs: Jobs::new(config.backup_max_parallel),
            rates: Rates::default(),
            metrics: Arc::default(),
            client: config.network.client(),
            guarded: config.guarded_client(),
            lists: Arc::new(tokio::sync::Semaphore::new(LISTS)),
            started_at: Time::now(),
            new_machines: PerMinute::new(config.limits.new_machines_per_minute),
            simulations: Simulations::new(simulating, config.limits.simulations),
            decide,
            snapshot: RwLock::new(Arc::new(snapshot)),
            locks: (0..LOCKS).map(|_| tokio::sync::Mutex::default()).collect(),
            hasher: RandomState::new(),
            stopping: watch::Sender::new(false),
            config,
        }))
    }

    /// What decides about machines now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who answers questions to plans.
    #[must_use]
    pub fn decide(&self) -> Arc<PlanEvaluator<'static>> {
        Arc::clone(&self.decide)
    }

    /// Reads what decides about machines again, after it was changed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn refresh(&self) -> Result<()> {
        self.take(self.db.read(Snapshot::read).await?);
        Ok(())
    }

    /// The same for a thread that may wait.
    ///
    /// # Errors
    /// Those of the database.
    pub fn refresh_blocking(&self) -> Result<()> {
        self.take(self.db.read_blocking(Snapshot::read)?);
        Ok(())
    }

    fn take(&self, snapshot: Snapshot) {
        if let Some(cache) = &self.cache {
            cache.set_catalog(Arc::clone(&snapshot.origins));
        }
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// Nothing about a machine changes elsewhere while this is held.
    async fn lock(&self, mac: &Mac) -> tokio::sync::MutexGuard<'_, ()> {
        let shard = usize::try_from(self.hasher.hash_one(mac) % LOCKS as u64).unwrap_or_default();
        self.locks[shard].lock().await
    }

    /// The same for all machines at once.
    pub async fn lock_all(&self) -> Vec<tokio::sync::MutexGuard<'_, ()>> {
        let mut held = Vec::with_capacity(LOCKS);
        for lock in &self.locks {
            held.push(lock.lock().await);
        }
        held
    }

    /// Looks at a machine, decides, and makes the change durable together with its events. `also`
    /// makes further changes, and learns whether the machine is new. Decisions about one machine
    /// are made one after the other. `None` changes nothing.
    ///
    /// # Errors
    /// Those of `decide`, and of the database.
    pub async fn update_machine<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        decide: impl FnOnce(&MachineView<'_>) -> Result<Outcome<T>> + Send + 'static,
        also: impl FnOnce(&rusqlite::Connection, bool) -> Result<()> + Send + 'static,
    ) -> Result<(T, Machine)> {
        let _held = self.lock(mac).await;
        let (app, of) = (Arc::clone(self), mac.clone());
        let (before, outcome) = blocking(move || {
            let machine = app.db.read_blocking(|conn| store::machines::get(conn, &of))?;
            let snapshot = app.snapshot();
            let look = MachineView { machine, snapshot: &snapshot, decide: &*app.decide };
            let outcome = decide(&look)?;
            Ok::<_, Error>((look.machine, outcome))
        })
        .await??;
        let Outcome { machine, events, answer } = outcome;
        if events.is_empty() && before.as_ref() == Some(&machine) {
            return Ok((answer, machine));
        }
        for event in &events {
            self.metrics.event(event.kind);
        }
        let (written, is_new) = (machine.clone(), before.is_none());
        self.db
            .write(move |transaction| {
                store::machines::put(transaction, &machine)?;
                also(transaction, is_new)?;
                events.iter().try_for_each(|event| transaction.record(event).map(drop))
            })
            .await?;
        self.bus.notify_machine(written.mac.clone());
        Ok((answer, written))
    }

    /// Looks at a machine without changing it.
    ///
    /// # Errors
    /// Those of `look`, and of the database.
    pub async fn read_machine<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        look: impl FnOnce(&MachineView<'_>) -> T + Send + 'static,
    ) -> Result<T> {
        let (app, of) = (Arc::clone(self), mac.clone());
        let looked = blocking(move || {
            let machine = app.db.read_blocking(|conn| store::machines::get(conn, &of))?;
            let snapshot = app.snapshot();
            Ok(look(&MachineView { machine, snapshot: &snapshot, decide: &*app.decide }))
        });
        looked.await?
    }

    /// The machine of a PXE client: the one that is known, or a new one with the plan for unknown
    /// ones, with the event that tells of it.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] when too many have become known in this minute.
    pub fn discover(
        &self,
        look: &MachineView<'_>,
        mac: &Mac,
        who: &ClientContext,
    ) -> Result<(Machine, Option<NewEvent>)> {
        if look.machine.is_none() && !self.new_machines.admit() {
            let detail =
                "too many unknown machines have asked in this minute: this one is not known yet";
            return Err(Error::limited(ErrorKind::Throttled, Limit::NewMachines, 60, detail));
        }
        Ok(Self::known_or_new(look, mac, who))
    }

    /// The same, whether it may become known or not.
    #[must_use]
    pub fn known_or_new(
        look: &MachineView<'_>,
        mac: &Mac,
        who: &ClientContext,
    ) -> (Machine, Option<NewEvent>) {
        if let Some(machine) = &look.machine {
            return (machine.clone(), None);
        }
        let plan = look.snapshot.settings.get("plans.default");
        let mut machine = Machine::new(mac.clone(), plan, who.now);
        machine.discovered_at = Some(who.now);
        let event = NewEvent::new(
            "machine.discovered",
            mac.as_str(),
            format!("{mac}: a machine that is not known"),
        );
        let details = serde_json::json!({
            "mac": mac, "boot_mode": plan, "source_ip": who.ip, "discovered_at": who.now, "base": who.base,
        });
        (machine, Some(event.by(Actor::PxeClient, who.ip.as_deref()).with(details)))
    }

    /// Writes an event that goes with no other change.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record(&self, event: NewEvent) -> Result<()> {
        self.metrics.event(event.kind);
        self.db.write(move |transaction| transaction.record(&event).map(drop)).await
    }

    /// Why the state cannot be changed at present; none when it can.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        let dir = &self.config.state_dir;
        let failed = || format!("the last change failed: {}", Error::full("").in_dir(dir).detail);
        crate::state_dir::shortage(dir).or_else(|| self.db.is_full().then(failed))
    }

    /// Where people begin.
    #[must_use]
    pub fn home(&self) -> &'static str {
        if self.config.is_cache_only { "/ui/cache" } else { "/ui/dashboard" }
    }

    /// Tells everything that runs long to end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        self.jobs.cancel_all();
    }

    /// Ends when the server is to end.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // the sender lives as long as the server
        let _ = stopping.wait_for(|is| *is).await;
    }
}

/// The process that runs scripts: this program again, also when an upgrade has replaced its file
/// meanwhile.
fn worker_command() -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg("script-worker");
    command
}
