//! `bty image create`.

use std::process::ExitCode;

use bty::create::{self, CreateOptions, CreateReport};
use bty::size::human;
use bty::{Event, Observer, Result, Selector, SystemHost, text};
use bty_script::terminal::Style;

use crate::cli::CreateImage;
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::disks;
use crate::{exit, remedies, signals};

pub(super) fn run(arguments: &CreateImage, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = ProgressDisplay::new(output.is_json());
    let system = SystemHost::new();
    let disk = arguments.disk.parse::<Selector>()?.select(&system)?;
    let options = CreateOptions::default().shrink(arguments.shrink);
    let refusals = create::validate(&disk, &arguments.out, &options);
    if !refusals.is_empty() {
        output.event(
            "plan",
            &serde_json::json!({ "disk": disk, "path": arguments.out, "refusals": refusals }),
        );
        refusals.iter().for_each(|refusal| {
            output.say_styled(
                "",
                Style::Bad,
                "refused",
                &format!(" {}", remedies::refusal(refusal)),
            );
        });
        return Ok(ExitCode::from(exit::REFUSED));
    }
    output.say(&format!("disk    {}", disks::headline(&disk)));
    output.say(&format!("image   {}", text::escape_name(&arguments.out)));
    let observer = |event: &Event| progress.event(event);
    let report = create::create(&disk, &arguments.out, &options, &system, &observer, &cancel);
    progress.clear();
    let report = report?;
    output.event("report", &report);
    output.say_styled("", Style::Good, "done", &format!(" {}", describe(&report)));
    Ok(ExitCode::SUCCESS)
}

fn describe(report: &CreateReport) -> String {
    format!(
        "{}: {} read from the disk ({} not zero), stored in {} of {}; compared and equal\n  \
         sha256 {}",
        text::escape_name(&report.path),
        human(report.disk_bytes),
        human(report.data_bytes),
        human(report.file_bytes),
        report.format,
        report.sha256
    )
}
