//! The only way to change a machine: read it, decide, and write it together with its events.
//!
//! Decisions about one machine are serialized by its lock; decisions about different machines run
//! concurrently.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::blocking::blocking;
use crate::config::limits::PerMinute;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::limit::Limit;
use crate::domain::mac::Mac;
use crate::domain::machine::firmware::{FirmwareId, IdentityRule};
use crate::domain::machine::{ClientContext, Machine, Outcome, identity};
use crate::domain::plan::evaluate::{DecisionContext, PlanEvaluator};
use crate::services::boot_slots::BootSlots;
use crate::services::event_bus::EventBus;
use crate::services::metrics::Metrics;
use crate::services::snapshot::{Snapshot, Snapshots};
use crate::store::{self, Connection, Database};

/// Number of locks. The hash of a machine's address selects its lock, so memory does not grow with
/// the fleet.
const LOCKS: usize = 256;

/// A machine, and the input of decisions about it.
pub struct MachineView<'a> {
    /// The machine; `None` when it is unknown.
    pub machine: Option<Machine>,
    /// Plans, catalog and settings.
    pub snapshot: &'a Snapshot,
    /// Evaluates plans.
    pub evaluator: &'a PlanEvaluator<'a>,
    pub(super) db: &'a Database,
}

impl MachineView<'_> {
    /// Returns what the rules need for a machine with the plan `plan`.
    #[must_use]
    pub fn context(&self, plan: &str) -> DecisionContext<'_> {
        self.snapshot.context(self.snapshot.plan(plan), self.evaluator)
    }

    /// Records in `machine` what its firmware says, and which other machine it seems to be. Returns
    /// the events.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database cannot be read.
    pub fn record_identity(
        &self,
        machine: &mut Machine,
        id: &FirmwareId,
        client: &ClientContext,
    ) -> Result<Vec<NewEvent>> {
        if self.snapshot.identity_rule() == IdentityRule::Off {
            return Ok(Vec::new());
        }
        let (is_news, changed) = identity::record(machine, id, client);
        let suggested = match &machine.identity {
            Some(known) if is_news => {
                let similar =
                    |conn: &_| store::machines::similar(conn, &machine.mac, &known.current);
                let similar = self.db.read_blocking(similar)?;
                identity::suggest(machine, &similar, client)
            }
            _ => None,
        };
        Ok(changed.into_iter().chain(suggested).collect())
    }

    /// Returns the known machine, or a new one with the default plan and the event of its
    /// discovery. Does not check whether the machine may be discovered.
    #[must_use]
    pub fn known_or_new(&self, mac: &Mac, client: &ClientContext) -> (Machine, Option<NewEvent>) {
        if let Some(machine) = &self.machine {
            return (machine.clone(), None);
        }
        let plan = self.snapshot.settings.get("plans.default");
        let mut machine = Machine::new(mac.clone(), plan, client.now);
        machine.discovered_at = Some(client.now);
        let event = NewEvent::new(
            "machine.discovered",
            mac.as_str(),
            format!("{mac}: new machine discovered"),
        );
        let details = json!({
            "mac": mac, "boot_mode": plan, "source_ip": client.ip, "discovered_at": client.now,
            "base": client.base,
        });
        (machine, Some(event.by(Actor::PxeClient, client.ip.as_deref()).with(details)))
    }
}

/// Reads and changes machines.
pub struct Machines {
    db: Database,
    bus: EventBus,
    metrics: Arc<Metrics>,
    snapshots: Arc<Snapshots>,
    evaluator: Arc<PlanEvaluator<'static>>,
    new_machines: Arc<PerMinute>,
    unassigned_max: u32,
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Machines {
    /// Creates the service. `new_machines` limits how many machines are discovered per minute, and
    /// `unassigned_max` how many unassigned machines are kept; 0 means no limit.
    #[must_use]
    pub fn new(
        db: Database,
        bus: EventBus,
        metrics: Arc<Metrics>,
        snapshots: Arc<Snapshots>,
        evaluator: Arc<PlanEvaluator<'static>>,
        new_machines: Arc<PerMinute>,
        unassigned_max: u32,
    ) -> Self {
        Self {
            db,
            bus,
            metrics,
            snapshots,
            evaluator,
            new_machines,
            unassigned_max,
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the evaluator for the plans of contacts.
    #[must_use]
    pub fn evaluator(&self) -> Arc<PlanEvaluator<'static>> {
        Arc::clone(&self.evaluator)
    }

    /// Locks the machine with the network card `mac`, and others that share its lock. Nothing else
    /// can change it meanwhile. Returns the address by which the server knows the machine.
    async fn lock(&self, mac: &Mac) -> (Mac, MutexGuard<'_, ()>) {
        loop {
            let owner = self.snapshots.current().machine_of(mac).clone();
            let shard =
                usize::try_from(self.hasher.hash_one(&owner) % LOCKS as u64).unwrap_or_default();
            let held = self.locks[shard].lock().await;
            // the card may have got another machine meanwhile
            if *self.snapshots.current().machine_of(mac) == owner {
                return (owner, held);
            }
        }
    }

    /// Locks all machines. Locks are always taken in the same order, so concurrent callers cannot
    /// deadlock.
    pub async fn lock_all(&self) -> Vec<MutexGuard<'_, ()>> {
        let mut held = Vec::with_capacity(LOCKS);
        for lock in &self.locks {
            held.push(lock.lock().await);
        }
        held
    }

    /// Returns the limit on machines in the live environment.
    pub(super) fn boot_slots(&self) -> BootSlots {
        BootSlots::new(self.db.clone())
    }

    /// Tells subscribers that a machine has changed.
    pub(super) fn notify(&self, mac: Mac) {
        self.bus.notify_machine(mac);
    }

    /// Calls `decide` with the machine on a thread that may block, and writes the outcome together
    /// with its events in one transaction, all under the lock of the machine. `also` makes further
    /// changes in that transaction; its argument is true if the machine is new. If the outcome has
    /// no events and leaves the machine unchanged, writes nothing.
    ///
    /// # Errors
    /// - The errors of `decide` and `also`.
    /// - [`ErrorKind::Full`] when there is no space on the disk.
    pub async fn update<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        decide: impl FnOnce(&MachineView<'_>) -> Result<Outcome<T>> + Send + 'static,
        also: impl FnOnce(&Connection, bool) -> Result<()> + Send + 'static,
    ) -> Result<(T, Machine)> {
        let (mac, _held) = self.lock(mac).await;
        let decided = self.view(&mac, |view, _| {
            let outcome = decide(&view)?;
            Ok::<_, Error>((view.machine, outcome))
        });
        let (before, outcome) = decided.await??;
        self.write(before, outcome, also).await
    }

    /// Calls `read` with the machine on a thread that may block. Changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database cannot be read.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        read: impl FnOnce(&MachineView<'_>) -> T + Send + 'static,
    ) -> Result<T> {
        self.view(mac, |view, _| read(&view)).await
    }

    /// Decides like [`update`](Self::update), but without the lock and without writing: for
    /// decisions that wait for something before [`commit`](Self::commit).
    ///
    /// # Errors
    /// The errors of `decide`.
    pub(super) async fn propose<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        decide: impl FnOnce(&MachineView<'_>) -> Result<Outcome<T>> + Send + 'static,
    ) -> Result<Proposal<T>> {
        let decided = self.view(mac, |view, snapshot| {
            let outcome = decide(&view)?;
            Ok(Proposal { before: view.machine, snapshot: Arc::clone(snapshot), outcome })
        });
        decided.await?
    }

    /// Writes a proposal under the lock of the machine, as [`update`](Self::update) does. If the
    /// machine or the snapshot has changed since the proposal was made, writes nothing and returns
    /// `None`.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] when there is no space on the disk.
    pub(super) async fn commit<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        proposal: Proposal<T>,
    ) -> Result<Option<(T, Machine)>> {
        let (key, _held) = self.lock(mac).await;
        let current = self.db.read(move |conn| store::machines::get(conn, &key)).await?;
        if current != proposal.before || !Arc::ptr_eq(&proposal.snapshot, &self.snapshots.current())
        {
            return Ok(None);
        }
        self.write(proposal.before, proposal.outcome, self.forget_unassigned()).await.map(Some)
    }

    /// Calls `work` with the machine on a thread that may block.
    async fn view<T: Send + 'static>(
        self: &Arc<Self>,
        mac: &Mac,
        work: impl FnOnce(MachineView<'_>, &Arc<Snapshot>) -> T + Send + 'static,
    ) -> Result<T> {
        let (machines, mac) = (Arc::clone(self), mac.clone());
        let worked = blocking(move || {
            let snapshot = machines.snapshots.current();
            let find = |conn: &_| find_machine(conn, snapshot.machine_of(&mac), &mac);
            let machine = machines.db.read_blocking(find)?;
            let (evaluator, db) = (&*machines.evaluator, &machines.db);
            let view = MachineView { machine, snapshot: &snapshot, evaluator, db };
            Ok(work(view, &snapshot))
        });
        worked.await?
    }

    /// Writes an outcome. The caller must hold the lock of the machine.
    async fn write<T>(
        &self,
        before: Option<Machine>,
        outcome: Outcome<T>,
        also: impl FnOnce(&Connection, bool) -> Result<()> + Send + 'static,
    ) -> Result<(T, Machine)> {
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

    /// Makes changes of network cards known that a deleted or restored machine has brought.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the database cannot be read.
    pub(super) async fn refresh_cards(&self, machine: &Machine) -> Result<()> {
        match machine.macs.is_empty() {
            true => Ok(()),
            false => self.snapshots.refresh().await,
        }
    }

    /// For transactions that may add a discovered machine: forgets the unassigned machines not seen
    /// for the longest time, until the number is within the configured limit.
    pub fn forget_unassigned(&self) -> impl FnOnce(&Connection, bool) -> Result<()> + Send + use<> {
        let (max, metrics) = (self.unassigned_max, Arc::clone(&self.metrics));
        move |conn, is_new| {
            if is_new && max > 0 {
                for _ in 0..store::machines::make_room(conn, max)? {
                    metrics.refuse(Limit::UnassignedMachines);
                }
            }
            Ok(())
        }
    }

    /// Returns the machine like [`MachineView::known_or_new`], if it may be discovered.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] when too many machines have become known in this minute.
    pub fn discover(
        &self,
        view: &MachineView<'_>,
        mac: &Mac,
        client: &ClientContext,
    ) -> Result<(Machine, Option<NewEvent>)> {
        if view.machine.is_none() && !self.new_machines.admit() {
            let detail = "too many unknown machines within a minute; the next boot tries again";
            return Err(Error::limited(ErrorKind::Throttled, Limit::NewMachines, 60, detail));
        }
        Ok(view.known_or_new(mac, client))
    }
}

/// Returns the machine `owner`, or if it has been deleted in the meantime, the one of its network card
/// `mac`.
fn find_machine(conn: &Connection, owner: &Mac, mac: &Mac) -> Result<Option<Machine>> {
    match store::machines::get(conn, owner)? {
        None if owner != mac => store::machines::get(conn, mac),
        found => Ok(found),
    }
}

/// A decision that is not yet written, with the state that it depends on.
pub(super) struct Proposal<T> {
    before: Option<Machine>,
    snapshot: Arc<Snapshot>,
    pub(super) outcome: Outcome<T>,
}
