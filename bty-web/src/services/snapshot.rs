//! The input of decisions besides the machine itself: plans, catalog, settings.
//!
//! The snapshot is kept in memory, so the cost of a contact does not depend on the number of plans
//! and images. Code that changes any of them in the database must refresh the snapshot afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use crate::cache::CacheHost;
use crate::cache::address::Address;
use crate::domain::catalog_image::CatalogImage;
use crate::domain::error::Result;
use crate::domain::mac::Mac;
use crate::domain::machine::Machine;
use crate::domain::machine::firmware::IdentityRule;
use crate::domain::machine::pin::PIN;
use crate::domain::machine::silence::SilenceLimit;
use crate::domain::plan::evaluate::{DecisionContext, PlanEvaluator};
use crate::domain::plan::{Plan, bundled};
use crate::domain::settings::{self, Settings};
use crate::domain::time::Time;
use crate::random::random_token;
use crate::store::{self, Connection, Database};

/// Plans, catalog and settings as they were at one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// Operators' plans, by name.
    pub plans: HashMap<String, Arc<Plan>>,
    /// The catalog as TOML.
    pub catalog: Arc<str>,
    /// Resolved URLs of images, by their references. Contains only images whose URL is a tag.
    pub resolved: Arc<HashMap<String, String>>,
    /// Names of images, by their references.
    pub names: Arc<HashMap<String, String>>,
    /// Images, by their references.
    pub images: Arc<HashMap<String, CatalogImage>>,
    /// Origins of the catalog's images: schemes, hosts and ports.
    pub origins: Arc<HashSet<String>>,
    /// Settings.
    pub settings: Settings,
    /// The time zone of the clock that plans see.
    pub zone: jiff::tz::TimeZone,
    /// Further network cards, each with its machine.
    pub owners: Arc<HashMap<Mac, Mac>>,
}

impl Snapshot {
    /// Reads a snapshot from the database.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database cannot
    /// be read.
    pub fn read(conn: &Connection) -> Result<Self> {
        let plans = store::plans::all(conn)?
            .into_iter()
            .map(|plan| (plan.name.clone(), Arc::new(plan)))
            .collect();
        let settings = store::settings::all(conn)?;
        let entries = store::catalog::all(conn)?;
        let images =
            entries.iter().map(|entry| (entry.bty_image_ref.clone(), entry.catalog_image()));
        let images = Arc::new(images.collect());
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
            images,
            origins: Arc::new(origins),
            zone: settings.zone(),
            settings,
            owners: Arc::new(store::machines::owners(conn)?.into_iter().collect()),
        })
    }

    /// Returns the MAC address by which the server knows the machine with the network card `mac`.
    #[must_use]
    pub fn machine_of<'a>(&'a self, mac: &'a Mac) -> &'a Mac {
        self.owners.get(mac).unwrap_or(mac)
    }

    /// Returns whether identities of machines are recorded, and whether they merge machines.
    #[must_use]
    pub fn identity_rule(&self) -> IdentityRule {
        match self.settings.get(settings::IDENTITY) {
            "off" => IdentityRule::Off,
            "merge" => IdentityRule::Merge,
            _ => IdentityRule::Suggest,
        }
    }

    /// Returns the plan `name`, bundled or not.
    #[must_use]
    pub fn plan(&self, name: &str) -> Option<&Plan> {
        bundled::find(name).or_else(|| self.plans.get(name).map(Arc::as_ref))
    }

    /// Returns the default version of the live environment.
    #[must_use]
    pub fn netboot_version(&self) -> &str {
        match self.settings.get("netboot.version") {
            "" => env!("CARGO_PKG_VERSION"),
            version => version,
        }
    }

    /// Returns the version that `machine` boots: its own, or the default.
    #[must_use]
    pub fn netboot_version_of<'a>(&'a self, machine: &'a Machine) -> &'a str {
        match machine.netboot_version.as_str() {
            "" => self.netboot_version(),
            version => version,
        }
    }

    /// Returns how long live environments may be silent, at this time.
    #[must_use]
    pub fn silence_limit(&self, now: Time) -> SilenceLimit {
        SilenceLimit { now, after_ms: self.settings.number("machines.stalled_after") * 1000 }
    }

    /// Returns what the rules need for a machine with the plan `plan`.
    #[must_use]
    pub fn context<'a>(
        &'a self,
        plan: Option<&'a Plan>,
        evaluator: &'a PlanEvaluator<'a>,
    ) -> DecisionContext<'a> {
        DecisionContext {
            plan,
            catalog: &self.catalog,
            resolved: &self.resolved,
            names: &self.names,
            images: &self.images,
            pins_images: self.settings.get("machines.rolling_images") == PIN,
            evaluator,
            window_ms: self.settings.number("plans.contact_window_ms"),
            silent_boots_max: u32::try_from(self.settings.number("machines.silent_boots"))
                .unwrap_or_default(),
            allows_sample_proof: self.settings.get("machines.sample_proof") == "1",
            zone: &self.zone,
            token: &random_token,
        }
    }
}

/// Holds the current snapshot.
pub struct Snapshots {
    db: Database,
    /// The cache host, which may contact only the origins of the catalog.
    cache: Option<Arc<CacheHost>>,
    current: RwLock<Arc<Snapshot>>,
}

impl Snapshots {
    /// Reads the first snapshot.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database cannot
    /// be read.
    pub fn open(db: Database, cache: Option<Arc<CacheHost>>) -> Result<Self> {
        let snapshot = Arc::new(db.read_blocking(Snapshot::read)?);
        let snapshots = Self { db, cache, current: RwLock::new(Arc::clone(&snapshot)) };
        snapshots.publish(snapshot);
        Ok(snapshots)
    }

    /// Returns the current snapshot. Two calls return the same `Arc` unless a refresh happened in
    /// between.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads a new snapshot. Call this after a change of a plan, the catalog or a setting.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database cannot
    /// be read.
    pub async fn refresh(&self) -> Result<()> {
        self.publish(Arc::new(self.db.read(Snapshot::read).await?));
        Ok(())
    }

    /// Like [`refresh`](Self::refresh), for threads that may block.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database cannot
    /// be read.
    pub fn refresh_blocking(&self) -> Result<()> {
        self.publish(Arc::new(self.db.read_blocking(Snapshot::read)?));
        Ok(())
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        if let Some(cache) = &self.cache {
            cache.set_catalog(Arc::clone(&snapshot.origins));
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}
