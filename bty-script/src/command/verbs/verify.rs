//! `bty verify`.

use std::process::ExitCode;
use std::sync::Arc;

use bty::flash::{self, DeltaMode, Found, VerifyOptions};
use bty::image::OpenOptions;
use bty::size::human;
use bty::{ErrorKind, Result, Selector, SystemHost, text};

use crate::cli::{Network, Verify};
use crate::output::Output;
use crate::progress::ProgressDisplay;
use crate::verbs::flash::open_image;
use crate::{exit, network, signals};

pub(super) fn run(verify: &Verify, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = signals::cancel_on_signal()?;
    let progress = Arc::new(ProgressDisplay::new(output.is_json()));
    let client = network::client(network, progress.clone())?;
    let opening = OpenOptions::default()
        .sha256(verify.sha256)
        .sha512(verify.sha512)
        .image_sha256(verify.image_sha256)
        .ignore_trailing(verify.ignore_trailing);
    // as published, so that its digest is checked too
    let (catalog, delta) = (verify.catalog.as_deref(), DeltaMode::Never);
    let (image, _) = open_image(&client, &verify.src, catalog, opening, delta, &cancel)?;
    let system = SystemHost::new();
    let target = verify.target.as_deref().unwrap_or_default();
    let disk = target.parse::<Selector>()?.select(&system)?;
    let options = VerifyOptions::default().fix_gpt(verify.fix_gpt);
    let report = flash::verify(&image, &disk, &system, &options, &*progress, &cancel);
    progress.clear();
    let report = report?;
    image.warnings().iter().for_each(|note| output.warn(note));
    output.event("report", &report);
    let Some(difference) = &report.first_difference else {
        output.say(&format!(
            "{} holds the image: {} compared, all equal",
            text::escape_name(&disk.path),
            human(report.compared_bytes)
        ));
        return Ok(ExitCode::SUCCESS);
    };
    let found = match difference.found {
        Found::Zeros => "zeros",
        _ => "other bytes",
    };
    output.say(&format!(
        "{} differs from the image: first difference at offset {} ({found} found), {} differ",
        text::escape_name(&disk.path),
        difference.offset,
        human(report.different_bytes)
    ));
    output.say(
        " next: flash it again, or find out what has written to it since (mounting a file system \
         does)",
    );
    Ok(exit::code(ErrorKind::Integrity))
}
