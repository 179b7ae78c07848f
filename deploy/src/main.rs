//! `bty-lab`: from nothing to a running site, and from one version to the next.
//!
//! It writes files and calls `podman` and `systemctl`; nothing of the site goes through it
//! afterwards. What the services are is said once, in [`services`]; a compose file, units and
//! `podman run` are three ways to write that down.

// a command speaks to a terminal
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser as _;

mod ask;
mod cli;
mod command;
mod compose;
mod doctor;
mod failure;
mod images;
mod manager;
mod owner;
mod podman;
mod ports;
mod services;
mod settings;
mod site;
mod steps;
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
        eprintln!("bty-lab: {failure}");
        ExitCode::FAILURE
    })
}
