//! The `bty-web` command: the server, and what an operator does to one from a shell.

// the binary speaks to a terminal
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;
use std::process::ExitCode;

use bty_web::config::env_file::EnvFile;
use bty_web::config::{Config, Sources};
use bty_web::domain::error::{Error, ErrorKind, Result};
use bty_web::store::database::Database;
use clap::{CommandFactory as _, Parser};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

mod cli;
mod config;
mod fleet;
mod health;
mod log;
mod machine;
mod plan;
mod print;
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
        Ok(code) => with_results(code),
        Err(error) => {
            eprintln!("bty-web: {}", bty::text::escape_lines(&error.to_string()));
            // what was asked for cannot be is 2, what failed is 1
            ExitCode::from(match error.kind {
                ErrorKind::Invalid | ErrorKind::Malformed => 2,
                _ => 1,
            })
        }
    }
}

/// The exit code, unless results were lost and nothing else went wrong.
fn with_results(code: ExitCode) -> ExitCode {
    match bty_script::terminal::stdout::failure() {
        Some(why) if code == ExitCode::SUCCESS => {
            eprintln!(
                "bty-web: writing results to stdout: {why}; make room, or write them elsewhere"
            );
            ExitCode::FAILURE
        }
        _ => code,
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let named = cli.config;
    raise_files();
    // a service has been given its environment by whoever started it
    let serves = |named: &[PathBuf]| Config::load(&Sources { env: &variable, named });
    let file = match named.is_empty() {
        true => EnvFile::find(variable),
        // --config names another server's configuration, to which the file does not belong
        false => EnvFile::default(),
    };
    let warn = || {
        file.warnings
            .iter()
            .for_each(|warning| eprintln!("warning: {}", bty::text::escape_lines(warning)));
    };
    // monitors may not be allowed to read the file, and need it only for a port
    let load_quietly = |named: &[PathBuf]| {
        Config::load(&Sources { env: &|name| file.over(variable, name), named })
    };
    let load = |named: &[PathBuf]| {
        warn();
        load_quietly(named)
    };
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(serves(&named)?),
        Command::Tftp(options) => serve::tftp(&serves(&named)?, options),
        Command::Cache(options) => serve::cache(serves(&named)?, options),
        Command::CheckConfig => config::check(&load(&named)?),
        Command::ShowConfig => config::show(&load(&named)?, &file, variable),
        Command::Health { url, cache } => {
            health::run(|| load_quietly(&named), url, cache).inspect_err(|_| warn())
        }
        Command::Export { dest } => transfer::export(&load(&named)?, &dest),
        Command::Import { path, armed } => transfer::import(&load(&named)?, &path, armed),
        Command::Plan { remote, verb } => remote.run(async |server| plan::run(server, verb).await),
        Command::Machine { remote, verb } => {
            remote.run(async |server| machine::run(server, verb).await)
        }
        Command::Token { verb } => token::run(&load(&named)?, verb),
        Command::HashPassword => token::hash_password(),
        Command::SimulateFleet { remote, options } => {
            remote.run(async |server| fleet::run(server, options).await)
        }
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

/// A server has a file for each client: as many as the system allows, and not the few that a shell
/// begins with.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    // it stays as it is where that is not allowed
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A variable of this process.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The database of a server that has run here. A command about a state never makes one: it would be
/// another than the server's.
fn existing_state(config: &Config) -> Result<Database> {
    let (dir, path) = (config.state_dir.display(), config.state_dir.join("state.db"));
    let next = "name the directory of the server's state with BTY_PATHS_STATE_DIR, or the server's configuration with --config";
    match path.metadata() {
        Ok(meta) if meta.is_file() => Database::open_beside(&path, ()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Forbidden,
            format!(
                "cannot look for a state in {dir}: {e}; run this as root or as the server's user, or {next}"
            ),
        )),
        _ => Err(Error::new(ErrorKind::NotFound, format!("there is no state in {dir}; {next}"))),
    }
}

/// Threads that wait for the disk and for scripts.
const BLOCKING_THREADS: usize = 16;

/// A runtime for commands that talk to a server.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // each has memory of its own, and what they do is short
    let runtime =
        builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(Error::from)?;
    runtime.block_on(work)
}
