//! `bty test`.

use std::path::Path;
use std::process::ExitCode;

use bty::{Result, text};
use bty_script::terminal::Style;
use bty_script::testing::{self, TestResult, TestRunner};

use crate::output::Output;
use crate::{exit, signals};

pub(super) fn run(dir: &Path, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let (mut passed, mut failed) = (0, 0);
    for file in testing::find(dir)? {
        TestRunner::new().run_file(&file, &cancel, &mut |result| {
            if result.is_ok() {
                passed += 1;
            } else {
                failed += 1;
            }
            if output.is_json() {
                output.result(&result, String::new);
            } else {
                show(&result, output);
            }
        });
        cancel.check()?;
    }
    output.say(&format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::SCRIPT) })
}

fn show(result: &TestResult, output: &Output) {
    let name = format!("{}  {}", text::escape_name(&result.file), result.name);
    let printed: String = result
        .printed
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| format!("\n        | {line}"))
        .collect();
    match &result.text {
        None => output.print_styled(Style::Good, "ok    ", &format!("  {name}{printed}")),
        Some(text) => {
            output.print_styled(Style::Bad, "failed", &format!("  {name}{printed}\n{text}"));
        }
    }
}
