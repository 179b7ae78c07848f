//! The bty server. It knows a fleet of machines by their MAC addresses, decides by plans what each
//! of them does at its network boots, and logs what happened.
//!
//! | module | what it is about |
//! |---|---|
//! | [`domain`] | the rules for machines, plans, events and catalogs. Pure: no I/O, no clock |
//! | [`store`] | the database, and all SQL |
//! | [`services`] | use cases, for pages, the API and machines |
//! | [`http`] | routes, guards, the JSON API, the pages, and the scripts for machines |
//! | [`cache`] | the cache host: copies of images for machines |
//! | [`tftp`] | TFTP for firmware |
//! | [`network`] | IP addresses and networks |
//! | [`config`], [`state_dir`] | the configuration, and the directory of the state |
//! | [`server`] | assembly: the listeners, and what runs beside them |
//! | [`client`] | requests to another server |
//! | [`fleet`] | simulated machines, for load tests |
//!
//! Arrows go one way: `http` uses `services`, these use `store`, and all of them use `domain`.

pub mod cache;
pub mod client;
pub mod config;
pub mod domain;
pub mod fleet;
pub mod http;
pub mod network;
pub mod server;
pub mod services;
pub mod state_dir;
pub mod store;
pub mod tftp;

mod blocking;
