//! `bty` without a verb: runs the bundled wizard.

use std::io::IsTerminal;
use std::process::ExitCode;

use bty::{Error, ErrorKind, Result};
use bty_script::engine::{Interrupts, Limits};

use crate::exit;
use crate::output::Output;
use crate::session::{Facts, Session};

/// Runs the wizard to its end.
pub(crate) fn run(
    session: &Session,
    facts: Facts,
    no_reboot: bool,
    output: &Output,
) -> Result<ExitCode> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(ErrorKind::Usage, "the wizard needs a terminal, and stdin is none")
            .hint("bty --help lists the verbs; bty flash and bty run need nobody"));
    }
    let engine = session.engine(facts, Interrupts::Operation, Limits::operator());
    let ended = engine
        .compile_bundled("wizard")
        .and_then(|w| engine.run(&w, &[], &session.signals.cancel()));
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
