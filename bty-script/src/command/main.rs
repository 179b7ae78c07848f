//! The `bty` command: disks, images, catalogs, flashing and scripts from a terminal.
//!
//! People's text goes to stderr, results to stdout; `--json` writes one JSON object a line to
//! stdout instead.

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

use std::process::ExitCode;

use bty::{Error, ErrorKind, text};
use bty_script::terminal::stdout;
use clap::Parser;

fn main() -> ExitCode {
    memory::return_large_buffers();
    let cli = match cli::Cli::try_parse().and_then(cli::Cli::checked) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = output::Output::new(cli.is_json());
    let code = match verbs::run(cli, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            exit::code(error.kind())
        }
    };
    with_results(code, &output)
}

/// Help, the version, or what is wrong with the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    let output = output::Output::new(false);
    let shown = error.render().to_string();
    if error.use_stderr() && text::escape_lines(&shown) != shown {
        // an argument has control characters
        output.say(shown.trim_end());
    } else {
        stdout::note(error.print());
    }
    with_results(exit::usage(error.use_stderr()), &output)
}

/// The exit code, unless results were lost and nothing else went wrong.
fn with_results(code: ExitCode, output: &output::Output) -> ExitCode {
    let Some(why) = stdout::failure().filter(|_| code == ExitCode::SUCCESS) else { return code };
    let error = Error::new(ErrorKind::Host, format!("writing results to stdout: {why}"));
    output.lost(
        &error.hint("what was asked for is done, but its results are incomplete; make room, or write them elsewhere"),
    );
    exit::code(ErrorKind::Host)
}
