//! Use cases: what the server does for its pages, its API and its machines. Services use the domain
//! and the store, never HTTP.

pub mod access;
pub mod app;
pub mod auth;
pub mod boot_cycles;
pub mod cache_control;
pub mod catalog;
pub mod event_bus;
pub mod event_log;
pub mod fleet_overview;
pub mod image_catalog;
pub mod image_route;
pub mod job_control;
pub mod jobs;
pub mod machine_edits;
pub mod machine_reads;
pub mod machines;
pub mod metrics;
pub mod netboot;
pub mod network_cards;
pub mod orders;
pub mod plan_edits;
pub mod plan_simulation;
pub mod rates;
pub mod script_workers;
pub mod server_health;
pub mod settings;
pub mod shutdown;
pub mod simulations;
pub mod snapshot;
pub mod state_transfer;
pub mod transfer;
pub mod undo;
