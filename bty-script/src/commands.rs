//! One file a verb.

mod catalog;
mod disks;
mod flash;
mod image;
mod images;
mod verify;

use std::process::ExitCode;

use bty::Result;
use clap::CommandFactory;

use crate::cli::{Cli, Verb};
use crate::output::Output;

/// Runs the verb that was asked for.
pub(crate) fn run(cli: Cli, output: &Output) -> Result<ExitCode> {
    match cli.verb {
        Verb::Disks { .. } => disks::run(output),
        Verb::Image { src, full, .. } => image::run(&src, full, &cli.network, output),
        Verb::Images { dir, .. } => images::run(&dir, output),
        Verb::Catalog { action } => catalog::run(action, &cli.network, output),
        Verb::Flash(flash) => flash::run(&flash, &cli.network, output),
        Verb::Verify(verify) => verify::run(&verify, &cli.network, output),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bty", &mut script);
            output.print(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}
