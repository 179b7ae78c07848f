//! The `bty` command: disks, images, catalogs, flashing and scripts from a terminal.
//!
//! Text for people goes to stderr, results go to stdout. With `--json`, results and errors are JSON
//! lines on stdout.

#![allow(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(feature = "repl"), allow(dead_code, reason = "some helpers serve only bty repl"))]

mod cli;
mod console_log;
mod exit;
mod memory;
mod network;
mod output;
mod power;
mod progress;
mod remedies;
#[cfg_attr(not(feature = "repl"), path = "repl_absent.rs")]
mod repl;
mod session;
mod signals;
mod target;
mod verbs;
mod wizard;

use std::process::ExitCode;

use bty::{Error, ErrorKind, text};
use bty_script::terminal::stdout;

fn main() -> ExitCode {
    memory::return_large_buffers();
    let cli = match cli::Cli::from_arguments(std::env::args_os()) {
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
    check_stdout(code, &output)
}

/// Shows clap's message: help, the version, or what is wrong with the arguments.
fn usage(error: &clap::Error) -> ExitCode {
    let output = output::Output::new(false);
    let message = error.render().to_string();
    if error.use_stderr() && text::escape_lines(&message) != message {
        // an argument contains control characters
        output.say(message.trim_end());
    } else {
        stdout::record(error.print());
    }
    check_stdout(exit::usage(error.use_stderr()), &output)
}

/// `code`, or the code of a failure if results could not be written to stdout.
fn check_stdout(code: ExitCode, output: &output::Output) -> ExitCode {
    let Some(why) = stdout::failure().filter(|_| code == ExitCode::SUCCESS) else { return code };
    let error = Error::new(ErrorKind::Host, format!("writing results to stdout: {why}"));
    output.stdout_error(&error.hint(
        "the command succeeded, but its output is incomplete: free disk space or \
                     redirect the output elsewhere",
    ));
    exit::code(ErrorKind::Host)
}
