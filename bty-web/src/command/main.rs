//! The `bty-web` command: the server, and what an operator does to one from a shell.

// the binary speaks to a terminal
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use bty_web::config::{Config, Sources};
use bty_web::error::{Error, ErrorKind, Result};
use clap::{CommandFactory as _, Parser};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

mod cli;
mod config;
mod fleet;
mod health;
mod machine;
mod plan;
mod remote;
mod serve;
mod token;
mod transfer;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // state, secrets and backups are for the user of the server and its group
    let mask = umask(Mode::empty());
    umask(mask | Mode::RWXO);
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bty-web: {error}");
            // what was asked for cannot be is 2, what failed is 1
            ExitCode::from(match error.kind {
                ErrorKind::Invalid | ErrorKind::Malformed => 2,
                _ => 1,
            })
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let named = cli.config;
    raise_files();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(load(&named)?),
        Command::Tftp(options) => serve::tftp(&load(&named)?, options),
        Command::Cache(options) => serve::cache(load(&named)?, options),
        Command::CheckConfig => config::check(&load(&named)?),
        Command::ShowConfig => config::show(&load(&named)?),
        Command::Health { url, cache } => health::run(|| load(&named), url, cache),
        Command::Export { dest } => transfer::export(&load(&named)?, &dest),
        Command::Import { path, armed } => transfer::import(&load(&named)?, &path, armed),
        Command::Plan { remote, verb } => remote.run(async |server| plan::run(server, verb).await),
        Command::Machine { remote, verb } => remote.run(async |server| machine::run(server, verb).await),
        Command::Token { verb } => token::run(&load(&named)?, verb),
        Command::HashPassword => token::hash_password(),
        Command::SimulateFleet { remote, options } => remote.run(async |server| fleet::run(server, options).await),
        Command::Openapi => config::openapi(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "bty-web", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::ScriptWorker => {
            bty_script::worker::serve(&bty_script::Limits::server())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A server has a file for each client: as many as the system allows, and not the few that a shell begins with.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    // it stays as it is where that is not allowed
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn load(named: &[PathBuf]) -> Result<Config> {
    let env = |name: &str| std::env::var(name).ok();
    Config::load(&Sources { env: &env, named })
}

/// Threads that wait for the disk and for scripts.
const BLOCKING_THREADS: usize = 16;

/// A runtime for commands that talk to a server.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // each has memory of its own, and what they do is short
    let runtime = builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(Error::from)?;
    runtime.block_on(work)
}
