//! `bty` without a command: runs the bundled wizard.

use std::io::IsTerminal;
use std::process::ExitCode;

use bty::{Error, ErrorKind, Result};
use bty_script::engine::{InterruptTarget, Limits};

use crate::exit;
use crate::output::Output;
use crate::session::{ScriptFacts, Session};

/// Runs the wizard until the person quits or reboots.
pub(crate) fn run(
    session: &Session,
    facts: ScriptFacts,
    no_reboot: bool,
    output: &Output,
) -> Result<ExitCode> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ErrorKind::Usage, "cannot run the wizard: stdin is not a terminal")
            .hint("use bty flash or bty run without a terminal; bty --help lists all commands"));
    }
    let engine = session.engine(facts, InterruptTarget::Operation, Limits::operator());
    let outcome = engine
        .compile_bundled("wizard")
        .and_then(|script| engine.run(&script, &[], &session.signals.cancel()));
    session.signals.route_to_program();
    session.progress.clear();
    session.console.restore();
    match outcome {
        Ok(outcome) => {
            if let Some(power) = outcome.power {
                crate::power::perform(power, no_reboot, output)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            output.script_error(&error);
            Ok(exit::script(&error))
        }
    }
}
