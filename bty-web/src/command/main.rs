//! The `bty-web` command: starts servers, and operates a server from a shell.

// this binary prints to a terminal
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

/// Opens the database of a server that has run on this host. Commands never create one, because it
/// would not be the server's.
fn existing_state(config: &Config) -> Result<Database> {
    let (dir, path) = (config.state_dir.display(), config.state_dir.join("state.db"));
    let next = "set BTY_PATHS_STATE_DIR to the server's state directory, or --config to its \
                configuration";
    match path.metadata() {
        Ok(meta) if meta.is_file() => Database::open_beside(&path, ()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::new(
            ErrorKind::Forbidden,
            format!(
                "cannot access the state directory {dir}: {e}; run this as root or as the server's \
                 user, or {next}"
            ),
        )),
        _ => Err(Error::new(
            ErrorKind::NotFound,
            format!("{dir} contains no state of a server; {next}"),
        )),
    }
}

/// Maximum number of threads that wait for the disk and for scripts. Each thread needs memory, and
/// their tasks are short.
const BLOCKING_THREADS: usize = 16;

/// Runs `work` on a new runtime.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        builder.max_blocking_threads(BLOCKING_THREADS).enable_all().build().map_err(Error::from)?;
    runtime.block_on(work)
}
