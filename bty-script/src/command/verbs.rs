//! The commands of `bty`, one per file.

mod catalog;
mod check;
mod create_image;
mod diff;
mod disks;
mod docs;
mod eject;
mod erase;
pub(crate) mod flash;
mod image;
mod images;
mod pack;
mod run;
mod test;
mod verify;

use std::process::ExitCode;

use bty::{Error, ErrorKind, Result};
use bty_script::Limits;
use clap::CommandFactory;

use bty_script::world::SingleDiskHost;

use crate::cli::{Cli, ImageAction, Start, Verb};
use crate::console_log::ConsoleLog;
use crate::output::Output;
use crate::session::{ScriptFacts, Session};
use crate::{repl, target, wizard};

/// Runs the command; without one, the wizard or the plan of a server.
pub(crate) fn run(cli: Cli, output: &Output) -> Result<ExitCode> {
    let network = &cli.network;
    let Some(verb) = cli.verb else {
        let mut session = Session::new(network, output)?;
        if let Some((file, serial)) = &cli.start.disk_file {
            session.use_single_disk(SingleDiskHost::new(file, serial)?);
        }
        return start(&cli.start, &session, output);
    };
    match verb {
        Verb::Disks { .. } => disks::run(output),
        Verb::Image { action: Some(ImageAction::Create(create)), .. } => {
            create_image::run(&create, output)
        }
        Verb::Image { src, full, .. } => {
            image::run(&src.unwrap_or_default(), full, network, output)
        }
        Verb::Images { dir, .. } => images::run(&dir, output),
        Verb::Catalog { action } => catalog::run(action, network, output),
        Verb::Flash(flash) => flash::run(&flash, network, output),
        Verb::Erase(erase) => erase::run(&erase, output),
        Verb::Pack(pack) => pack::run(&pack, network, output),
        Verb::Diff(diff) => diff::run(&diff, network, output),
        Verb::Verify(verify) if verify.packed => pack::check(&verify.src, network, output),
        Verb::Verify(verify) => verify::run(&verify, network, output),
        Verb::Run(run) => run::run(&run, network, output),
        Verb::Check { files, .. } => check::run(&files, output),
        Verb::Test { dir, .. } => test::run(&dir, output),
        Verb::Repl => repl::run(network, output),
        Verb::Eject { name, dir, force } => eject::run(&name, &dir, force, output),
        Verb::Docs { name, markdown, definitions } => {
            docs::run(name.as_deref(), markdown, definitions.as_deref(), output)
        }
        Verb::Man { dir } => {
            std::fs::create_dir_all(&dir)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
                .map_err(|e| {
                    Error::new(ErrorKind::Host, format!("writing man pages to {}", dir.display()))
                        .because(e)
                })?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::ScriptWorker => {
            let served = bty_script::worker::serve(&Limits::server());
            served.map_err(|e| Error::new(ErrorKind::Host, "answering plan calls").because(e))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bty", &mut script);
            output.print(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs the plan of a server if `--mac` is given, the wizard otherwise.
fn start(start: &Start, session: &Session, output: &Output) -> Result<ExitCode> {
    let console_log = ConsoleLog::default();
    let version = env!("CARGO_PKG_VERSION");
    console_log.announce(&format!("entered v{version}"));
    let result = match &start.mac {
        Some(mac) => target::run(mac, start, session, output),
        None => {
            console_log.status("starting interface ...");
            let facts = ScriptFacts {
                catalog: start.catalog.clone(),
                image_root: start.images.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
                ..ScriptFacts::default()
            };
            wizard::run(session, facts, start.no_reboot, output)
        }
    };
    console_log.announce(&format!("exiting v{version}"));
    result
}
