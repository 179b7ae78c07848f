//! `bty disks`.

use std::process::ExitCode;

use bty::size::human;
use bty::{Disk, DiskHost, Result, SystemHost, text};

use crate::output::Output;

pub(super) fn run(output: &Output) -> Result<ExitCode> {
    let disks = SystemHost::new().list()?;
    if disks.is_empty() && !output.is_json() {
        output.say("no disks found");
    }
    for disk in &disks {
        output.result(disk, || describe(disk));
    }
    Ok(ExitCode::SUCCESS)
}

/// Describes a disk on several lines: what it is, what it holds, and what uses it.
pub(super) fn describe(disk: &Disk) -> String {
    let mut shown = headline(disk);
    shown.push_str(&format!("\n    {}", text::escape(&disk.contents())));
    for usage in &disk.uses {
        shown.push_str(&format!("\n    in use: {}", text::escape(&usage.to_string())));
    }
    shown
}

/// Describes a disk in one line: path, size, transport, model and serial number.
pub(super) fn headline(disk: &Disk) -> String {
    let mut line = format!("{:<14} {:>9}", text::escape_name(&disk.path), human(disk.size_bytes));
    let model =
        [&disk.vendor, &disk.model].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    for part in [disk.transport.as_deref(), Some(model.as_str())]
        .into_iter()
        .flatten()
        .filter(|p| !p.is_empty())
    {
        line.push_str(&format!("  {part}"));
    }
    match (&disk.serial, &disk.wwn) {
        (Some(serial), _) => line.push_str(&format!("  serial {serial}")),
        (None, Some(wwn)) => line.push_str(&format!("  wwn {wwn}")),
        (None, None) => {}
    }
    if disk.logical_sector_bytes != 512 {
        line.push_str(&format!("  {}-byte sectors", disk.logical_sector_bytes));
    }
    for (flag, word) in [(disk.is_removable, "removable"), (disk.is_read_only, "read-only")] {
        if flag {
            line.push_str(&format!("  {word}"));
        }
    }
    text::escape(&line).into_owned()
}
