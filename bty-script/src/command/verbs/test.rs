//! `bty test`.

use std::path::Path;
use std::process::ExitCode;

use bty::Result;
use bty_script::testing::{self, TestResult};

use crate::output::Output;
use crate::{exit, signals};

pub(super) fn run(dir: &Path, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let (mut passed, mut failed) = (0, 0);
    for file in testing::find(dir)? {
        testing::run_file(&file, &cancel, &mut |result| {
            if result.is_ok() {
                passed += 1;
            } else {
                failed += 1;
            }
            output.result(&result, || describe(&result, output));
        });
        cancel.check()?;
    }
    output.say(&format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::SCRIPT) })
}

fn describe(result: &TestResult, output: &Output) -> String {
    let name = format!("{}  {}", result.file.display(), result.name);
    match &result.text {
        None => format!("{}  {name}", output.paint("1;32", "ok    ")),
        Some(text) => format!("{}  {name}\n{text}", output.paint("1;31", "failed")),
    }
}
