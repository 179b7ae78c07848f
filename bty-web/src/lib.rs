//! The bty server: it tells each machine of a fleet what to do at its next network boot, and
//! records what was written to which disk.
//!
//! A machine is identified by its MAC address and is assigned a *plan*: a script that decides at
//! each contact whether the machine boots its disk or the live environment, and which image is
//! flashed. This crate is the library behind the `bty-web` command, and embeds a server in another
//! program:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use bty_web::{Config, Server, worker};
//!
//! fn main() -> ExitCode {
//!     if worker::is_requested() {
//!         return worker::serve(); // plans run in processes of their own
//!     }
//!     let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
//!     match runtime.block_on(run()) {
//!         Ok(()) => ExitCode::SUCCESS,
//!         Err(error) => {
//!             eprintln!("{error}");
//!             ExitCode::FAILURE
//!         }
//!     }
//! }
//!
//! async fn run() -> bty_web::Result<()> {
//!     let config = Config::from_values([
//!         ("paths.state_dir", "/srv/bty"),
//!         ("admin.password", "s3cret"),
//!     ])?;
//!     let builder = Server::builder().config(config).base_path("/bty");
//!     let server = builder.worker(worker::this_program).start().await?;
//!     let _ = tokio::signal::ctrl_c().await;
//!     server.stop().await
//! }
//! ```
//!
//! | item | what it does |
//! |---|---|
//! | [`Server`] | starts, mounts and stops a server |
//! | [`Config`] | the configuration, of values, or of files and the environment |
//! | [`worker`] | the processes in which plans run |
//! | [`ServerClient`] | a client of the API |
//! | [`setup`] | functions for programs that set up a server |
//! | [`command`] | the `bty-web` command |
//!
//! Everything else is private. `ARCHITECTURE.md` in the repository describes it.

// in private modules, `pub` means: for other modules of this crate
#![allow(unreachable_pub)]

pub mod command;
pub mod worker;

mod blocking;
mod cache;
mod client;
mod clock;
mod conditional;
mod config;
mod domain;
mod durable;
mod fleet;
mod http;
#[cfg(test)]
mod layers;
mod random;
mod server;
mod services;
mod state_dir;
mod store;
mod tftp;

pub use client::ServerClient;
pub use config::{Config, Sources};
pub use domain::error::{Error, ErrorKind, Problem, Result};
pub use server::{Server, ServerBuilder, StopHandle};

/// Functions for programs that set up a server, such as `bty-lab`.
pub mod setup {
    pub use crate::services::auth::{hash_password, secret};
    pub use crate::services::netboot::file_name;
    pub use crate::tftp::probe::probe;
}
