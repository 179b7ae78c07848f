//! `bty pack`, and `bty verify --packed`.

use std::process::ExitCode;
use std::sync::Arc;

use bty::flash::DeltaMode;
use bty::image::OpenOptions;
use bty::pack::{self, PackCheck, PackOptions, PackReport};
use bty::size::human;
use bty::{Result, text};
use bty_script::terminal::Style;

use crate::cli::{Network, Pack};
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::flash::open_image;
use crate::{network, signals};

pub(super) fn run(arguments: &Pack, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let mut opening = OpenOptions::default();
    (opening.sha256, opening.sha512) = (arguments.sha256, arguments.sha512);
    let catalog = arguments.catalog.as_deref();
    let (image, _) =
        open_image(&client, &arguments.src, catalog, opening, DeltaMode::Auto, &cancel)?;
    let mut options = PackOptions::default().level(arguments.level);
    if let Some(bytes) = arguments.frame {
        options = options.frame_bytes(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
    let report = pack::pack(&image, &arguments.out, &options, &*progress, &cancel);
    progress.clear();
    let report = report?;
    image.warnings().iter().for_each(|note| output.warn(note));
    output.event("report", &report);
    output.say_styled("", Style::Good, "done", &format!(" {}", describe(&report)));
    Ok(ExitCode::SUCCESS)
}

fn describe(report: &PackReport) -> String {
    format!(
        "{}: {} of data in {}, {} frames; read back and checked\n  sha256        {}\n  \
         index sha256  {}",
        text::escape_name(&report.path),
        human(report.data_bytes),
        human(report.file_bytes),
        report.frames,
        report.sha256,
        report.index_sha256
    )
}

/// Compares the frames of the packed image at `src` with its index.
pub(super) fn check(src: &str, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let source = client.open(src, &cancel)?;
    let checked = pack::check(&source, &cancel);
    progress.clear();
    let checked = checked?;
    output.event("report", &checked);
    let PackCheck { frames, disk_bytes, data_bytes, sha256, index_sha256, .. } = &checked;
    output.say(&format!(
        "{} is intact: {frames} frames, {} decoded, {} of data\n  sha256        {sha256}\n  \
         index sha256  {index_sha256}",
        text::escape(src),
        human(*disk_bytes),
        human(*data_bytes),
    ));
    Ok(ExitCode::SUCCESS)
}
