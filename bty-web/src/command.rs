//! The `bty-web` command: starts servers, and operates a server from a shell.

// the command prints to a terminal
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use crate::config::env_file::EnvFile;
use crate::config::{Config, Sources};
use crate::domain::error::{ErrorKind, Result};
use crate::services::transfer::ImportRules;

mod bulk;
mod cli;
mod config;
mod events;
mod existing_state;
mod fleet;
mod health;
mod image;
mod log;
mod machine;
mod options;
mod password;
mod plan;
mod power;
mod print;
mod remote;
mod runtime;
mod serve;
mod token;
mod transfer;
mod user;

use cli::{Cli, Command};

/// Runs the `bty-web` command with the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    // only the user and group of the server may read its state, secrets and backups
    let mask = umask(Mode::empty());
    umask(mask | Mode::RWXO);
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => check_output(code),
        Err(error) => {
            eprintln!("bty-web: {}", bty::text::escape_lines(&error.to_string()));
            ExitCode::from(match error.kind {
                ErrorKind::Invalid | ErrorKind::Malformed => 2,
                _ => 1,
            })
        }
    }
}

/// Turns success into failure if results could not be written to stdout.
fn check_output(code: ExitCode) -> ExitCode {
    match bty_script::terminal::stdout::failure() {
        Some(why) if code == ExitCode::SUCCESS => {
            eprintln!(
                "bty-web: cannot write to stdout: {why}; free some space, or write elsewhere"
            );
            ExitCode::FAILURE
        }
        _ => code,
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let named = cli.config;
    raise_file_limit();
    // systemd has already put the variables of its file into the environment of a service
    let load_service = |named: &[PathBuf]| Config::load(&Sources { env: &variable, named });
    let file = match named.is_empty() {
        true => EnvFile::find(variable),
        // --config names the configuration of another server, to which the file does not belong
        false => EnvFile::default(),
    };
    let warn = || {
        file.warnings
            .iter()
            .for_each(|warning| eprintln!("warning: {}", bty::text::escape_lines(warning)));
    };
    // a monitor may lack permission to read the file, and needs only the port
    let load_quietly = |named: &[PathBuf]| {
        Config::load(&Sources { env: &|name| file.over(variable, name), named })
    };
    let load = |named: &[PathBuf]| {
        warn();
        load_quietly(named)
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(load_service(&named)?),
        Command::Tftp(options) => serve::tftp(&load_service(&named)?, options),
        Command::Cache(options) => serve::cache(load_service(&named)?, options),
        Command::CheckConfig => config::check(&load(&named)?),
        Command::ShowConfig => config::show(&load(&named)?, &file, variable),
        Command::Health { url, cache } => {
            health::run(|| load_quietly(&named), url, cache).inspect_err(|_| warn())
        }
        Command::Export { dest } => transfer::export(&load(&named)?, &dest),
        Command::Import { path, armed, replace } => {
            let rules = ImportRules { is_armed: armed, replaces: replace };
            transfer::import(&load(&named)?, &path, rules)
        }
        Command::Plan { remote, verb } => remote.run(async |server| plan::run(server, verb).await),
        Command::Machine { remote, verb } => {
            remote.run(async |server| machine::run(server, verb).await)
        }
        Command::Image { remote, verb } => {
            remote.run(async |server| image::run(server, verb).await)
        }
        Command::Power { remote, args } => {
            remote.run(async |server| power::run(server, args).await)
        }
        Command::Events { remote, verb } => {
            remote.run(async |server| events::run(server, verb).await)
        }
        Command::Token { verb } => token::run(&load(&named)?, verb),
        Command::User { verb } => user::run(&load(&named)?, verb),
        Command::HashPassword => password::hash(),
        Command::SimulateFleet { remote, options } => {
            remote.run(async |server| fleet::run(server, options).await)
        }
        Command::Openapi => config::openapi(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "bty-web", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::ScriptWorker => Ok(crate::worker::serve()),
    }
}

/// Raises the limit of open files to the maximum. A server has one for each client, and the default
/// of a shell is low.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // if that is not allowed, the limit stays unchanged
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
