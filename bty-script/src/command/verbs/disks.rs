//! `bty disks`.

use std::process::ExitCode;

use bty::size::human;
use bty::{Disk, Host, Result, SystemHost};

use crate::output::Output;

pub(super) fn run(output: &Output) -> Result<ExitCode> {
    let disks = SystemHost::new().list()?;
    if disks.is_empty() && !output.is_json() {
        output.say("no disks are here");
    }
    for disk in &disks {
        output.result(disk, || describe(disk));
    }
    Ok(ExitCode::SUCCESS)
}

/// A disk on a few lines: what it is, what is on it, who uses it.
pub(super) fn describe(disk: &Disk) -> String {
    let mut text = headline(disk);
    text.push_str(&format!("\n    {}", disk.contents()));
    for usage in &disk.uses {
        text.push_str(&format!("\n    in use: {usage}"));
    }
    text
}

/// Path, size, transport, model and serial.
pub(super) fn headline(disk: &Disk) -> String {
    let mut text = format!("{:<14} {:>9}", disk.path.display(), human(disk.size_bytes));
    let model = [&disk.vendor, &disk.model].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    for part in [disk.transport.as_deref(), Some(model.as_str())].into_iter().flatten().filter(|p| !p.is_empty()) {
        text.push_str(&format!("  {part}"));
    }
    match (&disk.serial, &disk.wwn) {
        (Some(serial), _) => text.push_str(&format!("  serial {serial}")),
        (None, Some(wwn)) => text.push_str(&format!("  wwn {wwn}")),
        (None, None) => {}
    }
    if disk.logical_sector_bytes != 512 {
        text.push_str(&format!("  {}-byte sectors", disk.logical_sector_bytes));
    }
    for (flag, word) in [(disk.is_removable, "removable"), (disk.is_read_only, "read-only")] {
        if flag {
            text.push_str(&format!("  {word}"));
        }
    }
    text
}
