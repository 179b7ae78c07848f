//! `bty-lab`: deploys a bty site in containers, upgrades and removes it, and diagnoses problems.
//!
//! It writes files and calls `podman` and `systemctl`; the site does not need it to run.
//! [`services`] is the only description of the services: the compose file, the systemd units and
//! the `podman run` commands are generated from it.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod command;
mod compose;
mod doctor;
mod failure;
mod file;
mod images;
mod lifecycle;
mod output;
mod owner;
mod podman;
mod ports;
mod process;
mod server;
mod service_manager;
mod services;
mod settings;
mod site;
mod site_files;
mod units;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Init(options) => command::init::run(&options),
        Command::Deploy(options) => command::deploy::run(&options),
        Command::Upgrade(options) => command::upgrade::run(&options),
        Command::ShowConfig(options) => command::show_config::run(&options),
        Command::Purge(options) => command::purge::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completions { shell } => {
            cli::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|failure| {
        output::error(&failure);
        ExitCode::FAILURE
    })
}
