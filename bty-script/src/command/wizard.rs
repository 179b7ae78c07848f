//! `bty` without a verb: runs the bundled wizard.

use std::process::ExitCode;

use bty::Result;
use bty_script::engine::{Interrupts, Limits};

use crate::exit;
use crate::output::Output;
use crate::session::{Facts, Session};

/// Runs the wizard to its end.
pub(crate) fn run(session: &Session, facts: Facts, no_reboot: bool, output: &Output) -> Result<ExitCode> {
    let engine = session.engine(facts, Interrupts::Operation, Limits::operator());
    let ended = engine.compile_bundled("wizard").and_then(|w| engine.run(&w, &[], &session.signals.cancel()));
    session.signals.release();
    session.watcher.clear();
    session.console.restore();
    match ended {
        Ok(ended) => {
            if let Some(power) = ended.power {
                crate::power::act(power, no_reboot, output)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            output.script_error(&error);
            Ok(exit::script(&error))
        }
    }
}
