//! `bty diff`.

use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;
use std::sync::Arc;

use bty::flash::{self, DeltaMode, DeltaReport, FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::size::human;
use bty::{CancelToken, Client, Error, ErrorKind, Image, Result, Selector, SystemHost, text};
use serde_json::json;

use crate::cli::{Diff, Network};
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::flash::{delta_summary, open_image};
use crate::{network, signals};

pub(super) fn run(arguments: &Diff, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let catalog = arguments.catalog.as_deref();
    let (opening, delta) = (OpenOptions::default(), DeltaMode::Always);
    let (new, _) = open_image(&client, &arguments.new, catalog, opening, delta, &cancel)?;
    let report = if is_disk(&arguments.old) {
        diff_disk(&arguments.old, &new, &cancel)
    } else {
        diff_image(&client, &arguments.old, &new, &cancel)
    };
    progress.clear();
    let report = report?;
    output.event("report", &json!({ "old": arguments.old, "new": arguments.new, "delta": report }));
    let written = report.moved_bytes + report.fetched_bytes;
    output.say(&format!(
        "{} on {}:\n  {}\n  {} written, at most",
        text::escape(&arguments.new),
        text::escape(&arguments.old),
        delta_summary(&report, true),
        human(written)
    ));
    Ok(ExitCode::SUCCESS)
}

/// True if `old` names a disk, and not an image.
fn is_disk(old: &str) -> bool {
    let is_selector = ["serial:", "wwn:", "where:"].iter().any(|prefix| old.starts_with(prefix));
    let path = text::path_of_reference(old);
    is_selector || std::fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device())
}

fn diff_disk(old: &str, new: &Image, cancel: &CancelToken) -> Result<DeltaReport> {
    let system = SystemHost::new();
    let disk = old.parse::<Selector>()?.select(&system)?;
    let options = FlashOptions::default().delta(DeltaMode::Always);
    let plan = FlashPlan::new(new.info(), vec![disk], options);
    let estimates = plan.estimate(new, &system, cancel)?;
    estimates.into_iter().flatten().next().ok_or_else(|| {
        Error::new(ErrorKind::Target, format!("{old} cannot be compared"))
            .hint("look at dmesg, and at the cable of the disk")
    })
}

fn diff_image(
    client: &Client,
    old: &str,
    new: &Image,
    cancel: &CancelToken,
) -> Result<DeltaReport> {
    let old = Image::open(client, old, &OpenOptions::default(), cancel)?;
    flash::diff(&old, new, cancel)
}
