//! The state of the router, from which handlers and extractors take the services that they use.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::config::Config;
use crate::http::api::machine_list::ListPermits;
use crate::services::access::Access;
use crate::services::app::App;
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
use crate::services::server_health::ServerHealth;
use crate::services::settings::SettingEdits;
use crate::services::shutdown::Shutdown;
use crate::services::snapshot::Snapshots;
use crate::services::state_transfer::StateTransfer;
use crate::services::undo::UndoService;
use crate::services::webhooks::Webhooks;

/// The services of a server. Clones share them.
#[derive(Clone)]
pub struct RouterState {
    app: Arc<App>,
    lists: ListPermits,
}

impl RouterState {
    /// Makes the services of `app` available to handlers.
    #[must_use]
    pub fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app), lists: ListPermits::default() }
    }
}

impl FromRef<RouterState> for ListPermits {
    fn from_ref(state: &RouterState) -> Self {
        state.lists.clone()
    }
}

macro_rules! services {
    ($($field:ident: $service:ty,)*) => {$(
        impl FromRef<RouterState> for $service {
            fn from_ref(state: &RouterState) -> Self {
                state.app.$field.clone()
            }
        }
    )*};
}

services! {
    access: Access,
    boot_cycles: BootCycles,
    bulk_edits: BulkEdits,
    bus: EventBus,
    cache_control: CacheControl,
    catalog: CatalogEdits,
    config: Arc<Config>,
    events: EventLog,
    health: ServerHealth,
    image_router: Arc<ImageRouter>,
    images: ImageCatalog,
    job_control: JobControl,
    jobs: Jobs,
    machine_edits: MachineEdits,
    machine_reads: MachineReads,
    machines: Arc<Machines>,
    metrics: Arc<Metrics>,
    network_cards: NetworkCards,
    origins: ImageOrigins,
    plans: PlanEdits,
    power: Power,
    rates: Arc<Rates>,
    settings: SettingEdits,
    shutdown: Shutdown,
    simulator: PlanSimulator,
    snapshots: Arc<Snapshots>,
    transfer: StateTransfer,
    undo: UndoService,
    webhooks: Webhooks,
}

/// Implements `FromRef` for a group of services that several handlers use.
macro_rules! service_group {
    ($group:ident { $($field:ident),* $(,)? }) => {
        impl axum::extract::FromRef<$crate::http::state::RouterState> for $group {
            fn from_ref(state: &$crate::http::state::RouterState) -> Self {
                Self { $($field: axum::extract::FromRef::from_ref(state)),* }
            }
        }
    };
}
pub(crate) use service_group;
