//! `bty verify`.

use std::process::ExitCode;
use std::sync::Arc;

use bty::flash::{self, Found};
use bty::size::human;
use bty::{ErrorKind, Result, Selector, SystemHost};

use crate::cli::{Network, Verify};
use crate::commands::flash::open_image;
use crate::output::{Notices, Output};
use crate::{exit, host};

pub(super) fn run(verify: &Verify, network: &Network, output: &Output) -> Result<ExitCode> {
    let cancel = host::cancel_on_signal()?;
    let client = host::client(network, Arc::new(Notices(output.is_json())));
    let image = open_image(&client, &verify.src, verify.catalog.as_deref(), verify.sha256, &cancel)?;
    let system = SystemHost::new();
    let disk = verify.target.parse::<Selector>()?.select(&system)?;
    let report = flash::verify(&image, &disk, &system, verify.fix_gpt, &|_| {}, &cancel)?;
    output.event("report", &report);
    let Some(difference) = &report.first_difference else {
        output.say(&format!("{} holds the image: {} compared", disk.path.display(), human(report.compared_bytes)));
        return Ok(ExitCode::SUCCESS);
    };
    let found = match difference.found {
        Found::Zeros => "zeros",
        _ => "other bytes",
    };
    output.say(&format!(
        "{} differs from the image: first at offset {} ({found} there), {} in all",
        disk.path.display(),
        difference.offset,
        human(report.different_bytes)
    ));
    output.say(" next: flash it again, or look for what wrote to it since (mounting a file system does)");
    Ok(exit::code(ErrorKind::Integrity))
}
