//! The bty server: a fleet of machines, each known by its MAC address and bound to a plan; and a
//! log of what happened.
//!
//! | module | what it is about |
//! |---|---|
//! | [`machine`] | the rules: what a contact, a report, a save do to a machine. Pure |
//! | [`plan`] | plans: bundled, saved, examined, rendered, simulated |
//! | [`ipxe`] | the scripts that iPXE runs |
//! | [`app`] | what all parts share; the one way in which a machine changes |
//! | [`state`] | whether a directory may be used for a state |
//! | [`db`], [`store`] | the database, and all SQL |
//! | [`events`] | the audit log |
//! | [`catalog`] | the images that machines can be bound to |
//! | [`cache`] | the cache host: objects of origins |
//! | [`bytes`] | whether a machine gets its image from the origin or through a cache host |
//! | [`tftp`], [`netboot`] | boot programs for firmware; versions of the live environment |
//! | [`jobs`] | artifacts, backups |
//! | [`transfer`] | export and import |
//! | [`auth`], [`net`], [`extract`] | who is asking, and what for |
//! | [`routes`], [`error`] | every path of the API, and what it answers |
//! | [`conditional`] | conditional requests and ranges, for everything that is downloaded |
//! | [`pages`] | what people see in a browser |
//! | [`rates`] | how fast machines are being flashed |
//! | [`config`], [`server`], [`client`], [`fleet`] | the command: configuration, serving, asking another server, simulated fleets |

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
