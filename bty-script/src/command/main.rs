//! The `bty` command: disks, images, catalogs, flashing and scripts from a terminal.
//!
//! People's text goes to stderr, results to stdout; `--json` writes one JSON object a line to stdout instead.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod console;
mod exit;
mod memory;
mod network;
mod output;
mod power;
mod progress;
mod repl;
mod session;
mod signals;
mod target;
mod verbs;
mod wizard;

use clap::Parser;

fn main() -> std::process::ExitCode {
    memory::return_large_buffers();
    let cli = match cli::Cli::try_parse().and_then(cli::Cli::checked) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return exit::usage(error.use_stderr());
        }
    };
    let output = output::Output::new(cli.is_json());
    match verbs::run(cli, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            exit::code(error.kind())
        }
    }
}
