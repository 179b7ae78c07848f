//! Machines, plans, events, the catalog and settings, and the rules that govern them. Pure: no I/O,
//! no clock, no HTTP, no SQL.
//!
//! Functions take the time, random tokens and the plan evaluator as arguments, so a simulation runs
//! the same code as a real boot.

pub mod catalog_image;
pub mod error;
pub mod event;
pub mod image_route;
pub mod ipxe;
pub mod limit;
pub mod mac;
pub mod machine;
pub mod network;
pub mod plan;
pub mod power;
pub mod secret;
pub mod settings;
pub mod time;
pub mod user;
pub mod webhook;
