//! The requests of machines while they boot: contacts of iPXE, orders, progress, inventories.

use std::sync::Arc;

use bty_script::plan::{FlashedDisk, Progress, Report};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::config::limits::PerMinute;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::ipxe;
use crate::domain::ipxe::Environment;
use crate::domain::limit::Limit;
use crate::domain::mac::Mac;
use crate::domain::machine::boot::Boot;
use crate::domain::machine::contact::{Contact, decide_boot};
use crate::domain::machine::firmware::{FirmwareId, IdentityRule};
use crate::domain::machine::inventory::{DISKS_MAX, Inventory};
use crate::domain::machine::report::{
    Receipt, apply_inventory, apply_report, record_artifact, reject_inventory,
};
use crate::domain::machine::{ClientContext, Machine, Outcome};
use crate::domain::time::Time;
use crate::services::boot_slots::BootSlots;
use crate::services::event_log::EventLog;
use crate::services::machines::{MachineView, Machines};
use crate::services::metrics::Metrics;
use crate::services::netboot::environment_of;
use crate::services::network_cards::NetworkCards;
use crate::services::rates::Rates;
use crate::services::snapshot::Snapshots;
use crate::store;

/// Answers machines while they boot.
#[derive(Clone)]
pub struct BootCycles {
    machines: Arc<Machines>,
    cards: NetworkCards,
    snapshots: Arc<Snapshots>,
    config: Arc<Config>,
    rates: Arc<Rates>,
    new_machines: Arc<PerMinute>,
    metrics: Arc<Metrics>,
    events: EventLog,
    slots: BootSlots,
}

impl BootCycles {
    pub(crate) fn new(
        cards: NetworkCards,
        snapshots: Arc<Snapshots>,
        config: Arc<Config>,
        rates: Arc<Rates>,
        new_machines: Arc<PerMinute>,
        metrics: Arc<Metrics>,
        events: EventLog,
    ) -> Self {
        let machines = Arc::clone(&cards.machines);
        let slots = machines.boot_slots();
        Self { machines, cards, snapshots, config, rates, new_machines, metrics, events, slots }
    }

    /// Answers a contact of iPXE with the script to run next. A contact with the `nonce` of an
    /// earlier one gets the same answer and changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Throttled`] when too many machines have become known in this minute.
    pub async fn contact(
        &self,
        who: ClientContext,
        mac: &Mac,
        nonce: Option<String>,
        id: FirmwareId,
    ) -> Result<String> {
        self.adopt_card(&who, mac, &id).await?;
        let (client_mac, base, service) = (mac.clone(), who.base.clone(), self.clone());
        let decide = move |view: &MachineView<'_>| {
            let (mut machine, discovered) = service.machines.discover(view, &client_mac, &who)?;
            let identified = view.record_identity(&mut machine, &id, &who)?;
            let environment =
                environment_of(&service.config, view.snapshot.netboot_version_of(&machine));
            let is_tokenless = environment == Environment::Reference;
            let contact = Contact { nonce, is_tokenless, is_full: false };
            let context = view.context(&machine.plan);
            let mut outcome = decide_boot(&machine, &context, &who, &contact);
            let mut slot = None;
            let max = view.snapshot.settings.number("machines.parallel");
            if max > 0 && matches!(outcome.answer, Boot::Live { .. }) {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                slot = service.slots.take(&client_mac, max, who.now)?;
                if slot.is_none() {
                    let contact = Contact { is_full: true, ..contact };
                    outcome = decide_boot(&machine, &context, &who, &contact);
                }
            }
            outcome.events.splice(0..0, discovered.into_iter().chain(identified));
            Ok(Outcome {
                machine: outcome.machine,
                events: outcome.events,
                answer: (outcome.answer, environment, slot),
            })
        };
        let ((boot, environment, _slot), machine) =
            self.machines.update(mac, decide, self.machines.forget_unassigned()).await?;
        let snapshot = self.snapshots.current();
        let extra_args = snapshot.settings.get("netboot.extra_args");
        let version = snapshot.netboot_version_of(&machine);
        let site = ipxe::Site { base: &base, version, environment, extra_args };
        Ok(ipxe::script(mac, &machine, &boot, &site))
    }

    /// Adds the unknown network card `mac` to the only machine with the firmware identity `id`, if
    /// the setting `machines.identity` says so.
    async fn adopt_card(&self, who: &ClientContext, mac: &Mac, id: &FirmwareId) -> Result<()> {
        let snapshot = self.snapshots.current();
        let may_merge = snapshot.identity_rule() == IdentityRule::Merge;
        if !may_merge || !id.is_usable() || snapshot.machine_of(mac) != mac {
            return Ok(());
        }
        let author = Author { actor: Actor::PxeClient, name: None, ip: who.ip.clone() };
        match self.cards.match_unknown(mac, id).await? {
            Some((owner, equal)) => {
                let why = format!("the same {}", equal.join(" and "));
                self.cards.merge(author, who.now, &owner, mac, &why).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Records a report of the live environment for the boot cycle `token`. A token in the report
    /// itself takes precedence.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when the report is invalid.
    /// - [`ErrorKind::NotFound`] when the machine is unknown.
    /// - [`ErrorKind::Conflict`] when the report does not belong to the machine's open boot cycle.
    pub async fn report(
        &self,
        who: ClientContext,
        mac: &Mac,
        token: Option<String>,
        report: StatusReport,
    ) -> Result<()> {
        report.check()?;
        let token = report.cycle.filter(|token| !token.is_empty()).or(token);
        let progress = report.progress.clone().filter(|_| report.status == "progress");
        let report = Report {
            status: report.status,
            reason: report.reason,
            cycle: None,
            progress: report.progress,
            disks: report.disks,
        };
        let (client_mac, client) = (mac.clone(), who.clone());
        let decide = move |view: &MachineView<'_>| {
            let machine = known(view, &client_mac)?;
            let context = view.context(&machine.plan);
            let outcome = apply_report(machine, &context, &client, token.as_deref(), &report);
            let Outcome { machine, events, answer } = outcome;
            let flash = ReportedFlash::of(&machine, &events, &report, client.now);
            Ok(Outcome { machine, events, answer: (answer, flash) })
        };
        let changed = self.machines.update(mac, decide, |_, _| Ok(())).await;
        let (receipt, flash) = self.record_orphan(mac, &who, "status", changed).await?;
        if let Some(ReportedFlash { has_succeeded, seconds, written_bytes }) = flash {
            self.metrics.flash(has_succeeded, seconds, written_bytes);
        }
        match receipt {
            Receipt::Accepted | Receipt::Repeated => {
                match progress {
                    Some(progress) => self.rates.progress(mac, &progress, who.now),
                    None => self.rates.end(mac),
                }
                Ok(())
            }
            Receipt::Refused(why) => Err(Error::new(ErrorKind::Conflict, why)),
        }
    }

    /// Records that an unknown machine has posted something. Limited to as many events per minute
    /// as machines may be discovered.
    async fn record_orphan<T>(
        &self,
        mac: &Mac,
        who: &ClientContext,
        posted: &str,
        result: Result<(T, Machine)>,
    ) -> Result<T> {
        if let Err(error) = &result
            && error.kind == ErrorKind::NotFound
            && self.new_machines.admit()
        {
            let event = NewEvent::new(
                "pxe.client.orphan",
                mac.as_str(),
                format!("{mac}: {posted} from an unknown machine"),
            );
            let event = event.by(Actor::PxeClient, who.ip.as_deref());
            self.events.record(event.with(json!({ "posted": posted }))).await?;
        }
        result.map(|(answer, _)| answer)
    }

    /// Stores the hardware that a live environment posts in the boot cycle `token`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the machine is unknown.
    pub async fn keep_inventory(
        &self,
        who: ClientContext,
        mac: &Mac,
        token: Option<String>,
        inventory: Inventory,
    ) -> Result<()> {
        let posted = inventory.keep();
        let text = posted.lshw.as_ref().map(Value::to_string);
        let (client_mac, client) = (mac.clone(), who.clone());
        let decide = move |view: &MachineView<'_>| {
            let machine = known(view, &client_mac)?;
            let context = view.context(&machine.plan);
            let mut outcome =
                apply_inventory(machine, &context, &client, token.as_deref(), &posted);
            let counts = outcome.machine.disks_at == Some(client.now);
            let lshw = posted.lshw.as_ref().filter(|_| counts);
            let id = lshw.map(FirmwareId::of_lshw).unwrap_or_default();
            let identified = view.record_identity(&mut outcome.machine, &id, &client)?;
            outcome.events.extend(identified);
            Ok(outcome)
        };
        let (at, card, service) = (who.now, mac.clone(), self.clone());
        let keep_lshw = move |conn: &_, _: bool| {
            let Some(text) = text else { return Ok(()) };
            // the card that has sent it may be a further one of the machine
            let Some(Machine { mac, .. }) = store::machines::find(conn, &card)? else {
                return Ok(());
            };
            let max = service.config.limits.unassigned_bytes;
            if text.len() > max && store::machines::is_unassigned(conn, &mac)? {
                service.metrics.refuse(Limit::UnassignedBytes);
                return Ok(());
            }
            store::machines::put_lshw(conn, &mac, &text, at)
        };
        let changed = self.machines.update(mac, decide, keep_lshw).await;
        self.record_orphan(mac, &who, "inventory", changed).await
    }

    /// Records that a live environment has posted an inventory in the boot cycle `token` that the
    /// server cannot read, because of `error`. The machine goes on to its disk.
    ///
    /// # Errors
    /// - [`ErrorKind::NotFound`] when the machine is unknown.
    /// - `error` otherwise, as the answer to the live environment.
    pub async fn reject_inventory(
        &self,
        who: ClientContext,
        mac: &Mac,
        token: Option<String>,
        error: Error,
    ) -> Result<()> {
        let (client_mac, client, why) = (mac.clone(), who.clone(), error.detail.clone());
        let decide = move |view: &MachineView<'_>| {
            let machine = known(view, &client_mac)?;
            let context = view.context(&machine.plan);
            Ok(reject_inventory(machine, &context, &client, token.as_deref(), &why))
        };
        let changed = self.machines.update(mac, decide, |_, _| Ok(())).await;
        self.record_orphan(mac, &who, "inventory", changed).await?;
        Err(error)
    }

    /// Records that a known machine downloads the file `name` of its live environment in the boot
    /// cycle `token`. Ignores unknown machines.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::Internal`] when the change cannot be written.
    pub async fn record_fetch(
        &self,
        who: ClientContext,
        mac: &Mac,
        token: Option<String>,
        name: String,
    ) -> Result<()> {
        let client_mac = mac.clone();
        let decide = move |view: &MachineView<'_>| {
            known(view, &client_mac)
                .map(|machine| record_artifact(machine, &who, token.as_deref(), &name))
        };
        match self.machines.update(mac, decide, |_, _| Ok(())).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A report of progress or of the result.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusReport {
    /// `progress`, `done` or `failed`.
    pub status: String,
    /// Why it failed, at most 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
    /// Token of the boot cycle.
    #[serde(default)]
    pub cycle: Option<String>,
    /// Phase and completed bytes.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub progress: Option<Progress>,
    /// Disks that were flashed, each with its proof.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub disks: Vec<FlashedDisk>,
}

const REASON_CHARS_MAX: usize = 500;

impl StatusReport {
    fn check(&self) -> Result<()> {
        if !matches!(self.status.as_str(), "progress" | "done" | "failed") {
            return Err(Error::invalid("status must be progress, done or failed"));
        }
        if self.reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_CHARS_MAX) {
            return Err(Error::invalid(format!(
                "reason must be at most {REASON_CHARS_MAX} characters"
            )));
        }
        if self.disks.len() > DISKS_MAX {
            return Err(Error::invalid(format!("disks must have at most {DISKS_MAX} entries")));
        }
        Ok(())
    }
}

fn known<'a>(view: &'a MachineView<'_>, mac: &Mac) -> Result<&'a Machine> {
    view.machine.as_ref().ok_or_else(|| Error::not_found(format!("the machine {mac}")))
}

/// What the metrics count of a flash.
struct ReportedFlash {
    has_succeeded: bool,
    /// Time since the network boot.
    seconds: f64,
    /// Total of all disks, if the report says it.
    written_bytes: Option<f64>,
}

impl ReportedFlash {
    /// Returns the flash that a report has ended; `None` if it has ended none.
    fn of(machine: &Machine, events: &[NewEvent], report: &Report, now: Time) -> Option<Self> {
        let has_succeeded = events.iter().find_map(|event| match event.kind {
            "machine.flashed" => Some(true),
            "machine.flash_failed" => Some(false),
            _ => None,
        })?;
        let opened_at = machine.cycle.as_ref()?.opened_at;
        let seconds = now.ms_since(opened_at).max(0) as f64 / 1000.0;
        let written = report.disks.iter().filter_map(|disk| disk.written_bytes);
        let written_bytes = written.map(|bytes| bytes as f64).reduce(|all, bytes| all + bytes);
        Some(Self { has_succeeded, seconds, written_bytes })
    }
}
