//! `bty check`.

use std::path::PathBuf;
use std::process::ExitCode;

use bty::Result;
use bty_script::check::{self, Finding};
use bty_script::{Cause, Engine, Limits, ScriptContext};

use crate::exit;
use crate::output::Output;

pub(super) fn run(files: &[PathBuf], output: &Output) -> Result<ExitCode> {
    let mut count = 0;
    for file in files {
        let engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
        let findings = match engine.compile_file(file) {
            Ok(script) => check::check(&engine, &script),
            Err(error) if error.cause == Cause::Host => {
                output.script_error(&error);
                return Ok(exit::script(&error));
            }
            Err(error) => vec![error.into()],
        };
        count += findings.len();
        findings.iter().for_each(|finding| output.result(finding, || describe(finding)));
    }
    if count == 0 {
        output.say(&format!(
            "{} checked, no mistakes found",
            if files.len() == 1 { "1 script".into() } else { format!("{} scripts", files.len()) }
        ));
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(exit::SCRIPT))
}

fn describe(finding: &Finding) -> String {
    let mut text = finding.message.clone();
    if let Some(place) = &finding.place {
        text.push_str(&format!("\n{place}"));
    }
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("\n next: {hint}"));
    }
    text
}
