//! The bty server: it tells each machine of a fleet what to do at its next network boot, and
//! records what was written to which disk.
//!
//! A machine is identified by its MAC address and is assigned a *plan*: a script that decides at
//! each contact whether the machine boots its disk or the live environment, and which image is
//! flashed. This crate is the library behind the `bty-web` command; start with [`server::serve`].
//!
//! # Layers
//!
//! Each layer imports only those below it; a test enforces this:
//!
//! | module | what it does |
//! |---|---|
//! | [`http`] | routes, the JSON API, pages, and the scripts for machines |
//! | [`services`] | use cases: what pages, API and machines have in common |
//! | [`store`] | SQLite: the database, and all SQL |
//! | [`domain`] | the rules for machines, plans and events. Pure: no I/O, no clock |
//!
//! Besides these layers, with only [`store`] and [`domain`] below them:
//!
//! | module | what it does |
//! |---|---|
//! | [`cache`] | the cache host: copies of images, fetched once for many machines |
//! | [`tftp`] | boot programs for firmware |
//! | [`fleet`] | simulated machines, which check the decisions of a server |
//!
//! # Assembly
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | loads the configuration from files and the environment |
//! | [`server`] | starts and stops everything |
//! | [`client`] | a client of the API, for the command and the simulated fleet |
//! | [`state_dir`], [`durable`] | checks and locks directories; replaces files durably |
//! | [`conditional`] | conditional and range requests, for everything that is downloaded |
//! | [`random`] | random tokens |

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
