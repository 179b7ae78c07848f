//! The dashboard: an overview of the fleet.

use std::path::Path;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::Frame;
use super::pictures;
use super::progress::{Progress, progress};
use super::render::render;
use crate::config::Config;
use crate::domain::error::Result;
use crate::domain::event::Event;
use crate::domain::machine::state_label::{phase_label, state_label};
use crate::domain::machine::{ClientContext, Machine, Phase};
use crate::domain::time::Time;
use crate::http::state::service_group;
use crate::services::fleet_overview::FleetOverview;
use crate::services::image_route::ImageRouter;
use crate::services::machine_reads::MachineReads;
use crate::services::netboot;
use crate::services::rates::Rates;
use crate::services::server_health::ServerHealth;
use crate::services::snapshot::Snapshots;

#[derive(Template)]
#[template(path = "dashboard.html")]
struct Dashboard {
    frame: Frame,
    total: usize,
    phases: Vec<PhaseCount>,
    last_seen: Option<Time>,
    last_flashed: Option<Time>,
    fleet: String,
    curve: String,
    busy: Vec<BusyMachine>,
    /// Number of all working machines; `busy` contains only the first ones.
    busy_total: usize,
    images: usize,
    /// First steps for new users; empty once any machine has been flashed.
    first_steps: Vec<FirstStep>,
    health: Vec<HealthCheck>,
    events: Vec<Event>,
}

/// A phase, and the number of machines in it.
struct PhaseCount {
    phase: Phase,
    label: &'static str,
    count: usize,
}

/// A machine whose live environment is working.
struct BusyMachine {
    mac: String,
    hyphens: String,
    labels: Vec<String>,
    state: String,
    progress: Option<Progress>,
}

struct FirstStep {
    is_done: bool,
    what: &'static str,
    how: &'static str,
    path: &'static str,
}

/// A line of the health card.
struct HealthCheck {
    /// `None` for information that is neither good nor bad.
    is_well: Option<bool>,
    what: &'static str,
    detail: String,
    path: &'static str,
}

const BUSY_MAX: usize = 12;

/// The services of the page.
pub struct DashboardServices {
    config: Arc<Config>,
    machines: MachineReads,
    rates: Arc<Rates>,
    snapshots: Arc<Snapshots>,
    image_router: Arc<ImageRouter>,
    health: ServerHealth,
}

service_group!(DashboardServices { config, machines, rates, snapshots, image_router, health });

/// Shows the dashboard.
pub async fn page(
    State(services): State<DashboardServices>,
    who: ClientContext,
    frame: Frame,
) -> Result<Response> {
    let overview = services.machines.overview(BUSY_MAX).await?;
    let machines = &overview.machines;
    let count =
        |phase: Phase| machines.iter().filter(|machine| machine.status().phase() == phase).count();
    let phase_count = |phase| PhaseCount { phase, label: phase_label(phase), count: count(phase) };
    let busy = |machine: &Machine| BusyMachine {
        mac: machine.mac.to_string(),
        hyphens: machine.mac.hyphens(),
        labels: machine.labels.clone(),
        state: state_label(&machine.status()),
        progress: progress(&services.rates, machine),
    };
    let page = Dashboard {
        total: machines.len(),
        phases: Phase::ALL.map(phase_count).into(),
        last_seen: machines.iter().filter_map(|machine| machine.seen_at).max(),
        last_flashed: machines.iter().filter_map(|machine| machine.flashed_at).max(),
        fleet: pictures::fleet(machines, &frame.root),
        curve: pictures::curve(&services.rates.curve(frame.now)),
        busy: overview.working.iter().map(busy).collect(),
        busy_total: count(Phase::Working),
        images: overview.images,
        first_steps: if overview.has_flash {
            Vec::new()
        } else {
            first_steps(&services, &overview)
        },
        health: health(&services, &who, &frame, &overview),
        events: overview.events,
        frame,
    };
    render(&page)
}

fn first_steps(services: &DashboardServices, overview: &FleetOverview) -> Vec<FirstStep> {
    let version = services.snapshots.current().netboot_version().to_owned();
    let step = |is_done, what, how, path| FirstStep { is_done, what, how, path };
    vec![
        step(
            netboot::NetbootVersion::of(&services.config, &version).is_complete(),
            "Fetch the live environment",
            "The files that machines boot: fetched once, then served from here.",
            "/ui/netboot",
        ),
        step(
            overview.images > 0,
            "Add an image",
            "By its address, or with a whole catalog.",
            "/ui/images",
        ),
        step(
            overview.has_contact,
            "Set up your DHCP server",
            "Copy the options. This step is done when the first machine has booted from the \
             network.",
            "/ui/netboot#dhcp",
        ),
        step(
            !overview.machines.is_empty(),
            "Switch on the first machine",
            "It appears by itself, posts its inventory, and boots its disk: nothing is written.",
            "/ui/machines",
        ),
        step(
            false,
            "Flash it",
            "Choose its image, its disk and a plan, and switch it on again.",
            "/ui/machines",
        ),
    ]
}

fn health(
    services: &DashboardServices,
    who: &ClientContext,
    frame: &Frame,
    overview: &FleetOverview,
) -> Vec<HealthCheck> {
    let snapshot = services.snapshots.current();
    let check = |is_well, what, detail: String, path| HealthCheck { is_well, what, detail, path };
    let mismatch = netboot::mismatch(&services.config, snapshot.netboot_version());
    let serves = services.health.serves_tftp();
    let failures = match frame.failures {
        0 => "none unacknowledged".to_owned(),
        n => format!("{n} unacknowledged"),
    };
    let last = Time::parse(snapshot.settings.get("backup.last_run_at"));
    let is_scheduled = snapshot.settings.get("backup.enabled") == "1"
        && snapshot.settings.get("backup.cadence") != "manual";
    let cache = services.image_router.host(&who.base);
    let images = overview.images;
    let (troubled, stalled) = overview.troubled();
    vec![
        check(
            Some(troubled == 0),
            "Machines",
            match troubled {
                0 => "none in trouble".into(),
                n => format!("{} ({stalled} stalled)", bty::text::count(n, "troubled machine")),
            },
            "/ui/machines?state=trouble",
        ),
        check(Some(frame.failures == 0), "Failures", failures, "/ui/events?q=failed+ack:no"),
        check(
            Some(mismatch.is_none()),
            "Live environment",
            mismatch
                .unwrap_or_else(|| format!("version {} is complete", snapshot.netboot_version())),
            "/ui/netboot",
        ),
        check(Some(images > 0), "Catalog", bty::text::count(images, "image"), "/ui/images"),
        check(
            serves.then_some(true),
            "TFTP",
            if serves {
                "served by this process".into()
            } else {
                "not served by this process: see the probe".into()
            },
            "/ui/netboot#probes",
        ),
        check(
            None,
            "Cache host",
            cache.unwrap_or_else(|| "none: machines fetch images from their origins".into()),
            "/ui/images",
        ),
        check(
            is_scheduled.then_some(last.is_some()),
            "Backups",
            match (is_scheduled, last) {
                (true, Some(last)) => format!("scheduled, last one {}", frame.text(last)),
                (true, None) => "scheduled, none yet".into(),
                (false, _) => "on demand".into(),
            },
            "/ui/backups",
        ),
        check(
            None,
            "State",
            if is_apart(&services.config.state_dir) {
                "on a file system of its own".into()
            } else {
                "on the root file system: when that is full, both stop".into()
            },
            "/ui/settings",
        ),
        check(
            Some(!frame.is_open),
            "Password",
            if frame.is_open { "not set".into() } else { "set".into() },
            "/ui/account",
        ),
    ]
}

/// True if the directory is on a different file system than the root.
fn is_apart(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
    device(dir) != device(Path::new("/"))
}
