//! Export and import of a server's state: bty's exports, and bundles and databases of the
//! reference.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::domain::error::{Error, Result};
use crate::domain::event::{Author, NewEvent};
use crate::domain::mac::Mac;
use crate::domain::machine::save::{Assignment, IMPORTED};
use crate::domain::machine::{Machine, hardware};
use crate::domain::plan::{Plan, bundled, params::Need};
use crate::domain::time::Time;
use crate::store::{self, Connection, Transaction, catalog::Stored};

pub mod reference;

/// Version of the export format that this program writes.
pub const VERSION: u32 = 4;

/// Version of the reference's bundles, which contain inventories only.
const REFERENCE_VERSION: u64 = 3;

/// An export: everything but the audit log, sessions and tokens.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Bundle {
    /// Version of the format; always 4.
    pub bty_export_version: u32,
    /// When the export was made.
    #[schema(value_type = String, format = DateTime)]
    pub exported_at: Time,
    /// Version of the server that made it.
    pub exported_by_bty_version: String,
    /// Machines with the states of their plans, but without boot cycles.
    #[schema(value_type = Vec<Object>)]
    pub machines: Vec<ExportedMachine>,
    /// The newest revision of each of the operators' plans.
    #[serde(default)]
    pub plans: Vec<ExportedPlan>,
    /// Entries of the catalog.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub catalog: Vec<Value>,
    /// Settings that differ from their defaults.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
}

/// A machine in an export.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExportedMachine {
    #[serde(flatten)]
    machine: Machine,
    hw_lshw: Option<Value>,
    hw_lshw_at: Option<Time>,
}

/// A plan in an export.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExportedPlan {
    name: String,
    source: String,
    #[serde(default)]
    note: String,
}

/// Result of an import.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct ImportSummary {
    /// What was imported, such as `export version 4`.
    pub format: String,
    /// Number of machines.
    pub machines: usize,
    /// Number of machines put on hold, because their plans may write to disks.
    pub held: usize,
    /// Number of plans.
    pub plans: usize,
    /// Number of images in the catalog.
    pub images: usize,
    /// Number of settings.
    pub settings: usize,
    /// Number of events.
    pub events: usize,
    /// What was skipped, each with the reason.
    pub skipped: Vec<String>,
}

/// Exports everything but the audit log, sessions and tokens.
///
/// # Errors
/// `ErrorKind::Internal` when the database cannot be read.
pub fn export(conn: &Connection) -> Result<Bundle> {
    let mut machines = Vec::new();
    for mut machine in store::machines::all(conn)? {
        // the token of a boot cycle is a secret of this server
        machine.cycle = None;
        machine.answers.clear();
        let lshw = store::machines::lshw(conn, &machine.mac)?;
        let (hw_lshw, hw_lshw_at) = match lshw {
            Some((text, at)) => (Some(serde_json::from_str(&text)?), Some(at)),
            None => (None, None),
        };
        machines.push(ExportedMachine { machine, hw_lshw, hw_lshw_at });
    }
    let plans = store::plans::all(conn)?.into_iter();
    let settings = store::settings::all(conn)?;
    let changed = crate::domain::settings::KEYS
        .iter()
        .filter(|(key, default, _)| settings.get(key) != *default);
    Ok(Bundle {
        bty_export_version: VERSION,
        exported_at: Time::now(),
        exported_by_bty_version: env!("CARGO_PKG_VERSION").into(),
        machines,
        plans: plans
            .map(|plan| ExportedPlan { name: plan.name, source: plan.source, note: plan.note })
            .collect(),
        catalog: store::catalog::all(conn)?
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?,
        settings: changed.map(|(key, ..)| ((*key).to_owned(), settings.get(key).into())).collect(),
    })
}

/// How an import treats machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportRules {
    /// True to let machines whose plans may write to disks do so at their next boots. Otherwise
    /// they are put on hold: the export may be older than the content of the disks.
    pub is_armed: bool,
    /// True to replace machines that are here already.
    pub replaces: bool,
}

/// Imports an export, or a bundle of the reference. Replaces plans and settings of the same names,
/// and machines if `rules` say so, and deletes nothing. Leaves out machines that could not be saved
/// as they are.
///
/// # Errors
/// - `ErrorKind::Invalid` when `bundle` is neither, or has an unknown version.
/// - `ErrorKind::Full` when the disk has no space.
pub fn import(
    transaction: &Transaction<'_>,
    bundle: Value,
    rules: ImportRules,
    author: &Author,
    now: Time,
) -> Result<ImportSummary> {
    let summary = match bundle["bty_export_version"].as_u64() {
        Some(version) if version == u64::from(VERSION) => {
            let bundle = serde_json::from_value(bundle)
                .map_err(|e| Error::invalid(format!("the export: {e}")))?;
            import_own(transaction, bundle, rules, now)?
        }
        Some(REFERENCE_VERSION) => import_inventories(transaction, &bundle, rules, now)?,
        Some(version) => {
            let detail = format!(
                "unsupported export version {version}: expected {REFERENCE_VERSION} or {VERSION}"
            );
            return Err(Error::invalid(detail));
        }
        None => return Err(Error::invalid("not an export: bty_export_version is missing")),
    };
    let event = NewEvent::new(
        "state.imported",
        "import",
        format!("machines imported: {}", summary.machines),
    );
    transaction.record(&event.caused_by(author).with(serde_json::to_value(&summary)?))?;
    Ok(summary)
}

fn import_own(
    transaction: &Transaction<'_>,
    bundle: Bundle,
    rules: ImportRules,
    now: Time,
) -> Result<ImportSummary> {
    let mut summary =
        ImportSummary { format: format!("export version {VERSION}"), ..ImportSummary::default() };
    for plan in bundle.plans {
        import_plan(transaction, plan, now, &mut summary)?;
    }
    for (key, value) in bundle.settings {
        let value = value.as_str().unwrap_or_default();
        match crate::domain::settings::check(&key, value) {
            Ok(()) => {
                store::settings::put(transaction, &key, value, now)?;
                summary.settings += 1;
            }
            Err(error) => summary.skipped.push(error.detail),
        }
    }
    for entry in bundle.catalog {
        import_image(transaction, &entry, now, &mut summary)?;
    }
    import_machines(transaction, bundle.machines, rules, now, &mut summary)?;
    Ok(summary)
}

fn import_machines(
    transaction: &Transaction<'_>,
    exported: Vec<ExportedMachine>,
    rules: ImportRules,
    now: Time,
    summary: &mut ImportSummary,
) -> Result<()> {
    let mut filter = ImportFilter::new(transaction, rules)?;
    for ExportedMachine { mut machine, hw_lshw, hw_lshw_at } in exported {
        let problem = filter.problem(&machine.mac)?.or_else(|| filter.assignment_problem(&machine));
        if let Some(why) = problem {
            summary.skipped.push(format!("machine {}: {why}", machine.mac));
            continue;
        }
        if filter.writes(&machine.plan) && !rules.is_armed {
            machine.hold = Some(IMPORTED.into());
            summary.held += 1;
        }
        machine.cycle = None;
        machine.answers.clear();
        store::machines::put(transaction, &machine)?;
        if let Some(lshw) = hw_lshw {
            let at = hw_lshw_at.unwrap_or(now);
            store::machines::put_lshw(transaction, &machine.mac, &lshw.to_string(), at)?;
        }
        summary.machines += 1;
    }
    Ok(())
}

/// Decides which machines of an import are left out.
struct ImportFilter<'a> {
    transaction: &'a Transaction<'a>,
    rules: ImportRules,
    plans: Vec<Plan>,
    images: HashSet<String>,
    /// Machines that the import has had already.
    seen: HashSet<Mac>,
}

impl<'a> ImportFilter<'a> {
    fn new(transaction: &'a Transaction<'a>, rules: ImportRules) -> Result<Self> {
        let images = store::catalog::all(transaction)?;
        Ok(Self {
            transaction,
            rules,
            plans: store::plans::all(transaction)?,
            images: images.into_iter().map(|image| image.bty_image_ref).collect(),
            seen: HashSet::new(),
        })
    }

    /// Returns why a machine is left out, whatever its assignment is.
    fn problem(&mut self, mac: &Mac) -> Result<Option<String>> {
        if !self.seen.insert(mac.clone()) {
            return Ok(Some(format!("{mac} is there twice; the first one counts")));
        }
        let is_here =
            !self.rules.replaces && store::machines::get(self.transaction, mac)?.is_some();
        Ok(is_here.then(|| "it is here already; import with replace to replace it".into()))
    }

    /// Returns why the assignment of a machine could not be saved.
    fn assignment_problem(&self, machine: &Machine) -> Option<String> {
        if self.plan(&machine.plan).is_none() {
            return Some(format!("the plan {} does not exist", machine.plan));
        }
        if let Some(image) = &machine.image_ref
            && !self.images.contains(image)
        {
            return Some(format!("the catalog has no image with the reference {image}"));
        }
        let problems = Assignment::of(machine).problems();
        problems.first().map(|(field, why)| format!("{field}: {why}"))
    }

    fn plan(&self, name: &str) -> Option<&Plan> {
        bundled::find(name).or_else(|| self.plans.iter().find(|plan| plan.name == name))
    }

    /// True if the plan `name` may write to disks.
    fn writes(&self, name: &str) -> bool {
        let writes = |plan: &Plan| plan.declared.needs.contains(&Need::Disk) || plan.declared.runs;
        self.plan(name).is_none_or(writes)
    }
}

fn import_plan(
    transaction: &Transaction<'_>,
    plan: ExportedPlan,
    now: Time,
    summary: &mut ImportSummary,
) -> Result<()> {
    let ExportedPlan { name, source, note } = plan;
    let examined = crate::domain::plan::examine(&name, &source);
    if let Some(wrong) = crate::domain::plan::check_name(&name)
        .err()
        .or(examined.findings.first().map(|f| f.message.clone()))
    {
        summary.skipped.push(format!("plan {name}: {wrong}"));
        return Ok(());
    }
    let newest = store::plans::newest(transaction, &name)?.map_or(0, |(revision, _)| revision);
    if newest > 0
        && store::plans::revision(transaction, &name, newest)?
            .is_some_and(|plan| plan.source == source)
    {
        return Ok(());
    }
    let plan = Plan {
        name,
        revision: newest + 1,
        source,
        declared: examined.declared,
        is_bundled: false,
        saved_at: Some(now),
        note,
    };
    store::plans::put(transaction, &plan, "import", now)?;
    summary.plans += 1;
    Ok(())
}

fn import_image(
    transaction: &Transaction<'_>,
    entry: &Value,
    now: Time,
    summary: &mut ImportSummary,
) -> Result<()> {
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    let (Some(name), Some(src)) = (text("name"), text("src")) else {
        summary.skipped.push("an image without a name or a src".into());
        return Ok(());
    };
    let checked = match bty::catalog::Entry::new(name.clone(), src.clone()) {
        Ok(entry) => entry,
        Err(e) => {
            summary.skipped.push(format!("image {name}: {e}"));
            return Ok(());
        }
    };
    let is_known = store::catalog::by_src(transaction, &src)?.is_some();
    if is_known || store::catalog::is_name_taken(transaction, &name, &src)? {
        summary
            .skipped
            .push(format!("image {name}: it is already in the catalog, or was deleted from it"));
        return Ok(());
    }
    let digest = text("disk_image_sha").filter(|sha| sha.parse::<bty::Digest>().is_ok());
    store::catalog::put(
        transaction,
        &Stored {
            bty_image_ref: checked.image_ref().to_string(),
            is_tag: crate::services::catalog::is_tag(&src),
            src,
            resolved_src: text("resolved_src"),
            resolved_at: text("resolved_at").and_then(|at| Time::parse(&at)),
            disk_image_sha: digest,
            index_sha256: text("index_sha256").filter(|sha| sha.parse::<bty::Digest>().is_ok()),
            name,
            sha_url: text("sha_url"),
            moved_at: text("moved_at").and_then(|at| Time::parse(&at)),
            format: text("format").or(checked.format),
            size_bytes: entry["size_bytes"].as_u64(),
            description: text("description"),
            arch: text("arch").or(checked.arch),
            added_at: text("added_at").and_then(|at| Time::parse(&at)).unwrap_or(now),
        },
    )?;
    summary.images += 1;
    Ok(())
}

/// Imports a bundle of the reference, which contains inventories only. Its machines get the plan
/// that takes the inventory.
fn import_inventories(
    transaction: &Transaction<'_>,
    bundle: &Value,
    rules: ImportRules,
    now: Time,
) -> Result<ImportSummary> {
    let mut filter = ImportFilter::new(transaction, rules)?;
    let mut summary = ImportSummary {
        format: format!("bundle version {REFERENCE_VERSION}"),
        ..ImportSummary::default()
    };
    for exported in bundle["machines"].as_array().into_iter().flatten() {
        let mac = exported["mac"].as_str().unwrap_or_default();
        let mac = match mac.parse::<Mac>() {
            Ok(mac) => mac,
            Err(e) => {
                summary.skipped.push(format!("machine: {e}"));
                continue;
            }
        };
        if let Some(why) = filter.problem(&mac)? {
            summary.skipped.push(format!("machine {mac}: {why}"));
            continue;
        }
        let at = |name: &str| exported[name].as_str().and_then(Time::parse);
        let mut machine = Machine::new(mac, bundled::INVENTORY, now);
        machine.disks = Some(exported["known_disks"].clone()).filter(Value::is_array);
        machine.disks_at = at("known_disks_at").filter(|_| machine.disks.is_some());
        machine.hardware = hardware::facts(&exported["hw_lshw"]);
        store::machines::put(transaction, &machine)?;
        if !exported["hw_lshw"].is_null() {
            let lshw = exported["hw_lshw"].to_string();
            store::machines::put_lshw(
                transaction,
                &machine.mac,
                &lshw,
                at("hw_lshw_at").unwrap_or(now),
            )?;
        }
        summary.machines += 1;
    }
    Ok(summary)
}

/// Creates the event of a failed import.
#[must_use]
pub fn failed(error: &Error, author: &Author) -> NewEvent {
    let event =
        NewEvent::new("state.import.failed", "import", format!("import failed: {}", error.detail));
    event.caused_by(author).with(json!({ "error": error.detail }))
}
