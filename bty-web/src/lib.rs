//! The bty server: a fleet of machines, each with a plan that decides what it does at its next
//! network boot, and an audit log.
//!
//! Layers, of which each knows only those below it; a test over imports holds that:
//!
//! | module | contents |
//! |---|---|
//! | [`http`] | router, guards, JSON API, pages, scripts for machines |
//! | [`services`] | use cases: machines, orders, catalog, jobs, authentication, export and import |
//! | [`cache`], [`tftp`] | the cache host; boot programs for firmware |
//! | [`store`] | the database, and all SQL |
//! | [`domain`] | machines, plans, events, settings, and the rules about them; pure |
//!
//! Beside them: [`config`] has the configuration, [`server`] assembles and serves, [`client`] talks
//! to another server, [`fleet`] simulates machines, and [`state_dir`] checks the state directory.

pub mod cache;
pub mod client;
pub mod conditional;
pub mod config;
pub mod domain;
pub mod durable;
pub mod fleet;
pub mod http;
pub mod random;
pub mod server;
pub mod services;
pub mod state_dir;
pub mod store;
pub mod tftp;

mod blocking;
mod clock;
#[cfg(test)]
mod layers;
