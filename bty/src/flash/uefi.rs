//! Booting the flashed disk next, once: a boot entry of our own, and `BootNext`. `BootOrder`
//! belongs to the machine's owner.
//!
//! Variables are files of efivarfs: 4 bytes of attributes, then the value, written in one go. They
//! are protected by the immutable flag (`Documentation/filesystems/efivarfs.rst` in the kernel).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::boot::BootNext;
use crate::partition_table::gpt::{self, Gpt, GptPartition};
use crate::{Error, ErrorKind, Result};

/// How an entry of ours is called, and found again.
pub(crate) const LABEL: &str = "bty flashed";
/// `EFI_GLOBAL_VARIABLE`, UEFI specification 2.10, section 3.3.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept without power, readable while booting and afterwards.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
const LOAD_OPTION_ACTIVE: u32 = 1;
/// Numbers for an entry of ours, the first one first: firmware that makes entries takes the lowest
/// number that is not in `BootOrder` (EDK II does), and would write its own over ours, which is not
/// in it.
fn numbers() -> impl Iterator<Item = u16> {
    (0..=0xFF).rev().chain(0x100..=u16::MAX)
}

pub(crate) const NO_UEFI: BootNext =
    BootNext::Skipped { reason: "this machine was not started by UEFI" };

/// The loader that firmware of this machine's architecture looks for on a disk without an entry of
/// its own.
fn fallback_loader() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some(r"\EFI\BOOT\BOOTX64.EFI"),
        "x86" => Some(r"\EFI\BOOT\BOOTIA32.EFI"),
        "aarch64" => Some(r"\EFI\BOOT\BOOTAA64.EFI"),
        "riscv64" => Some(r"\EFI\BOOT\BOOTRISCV64.EFI"),
        _ => None,
    }
}

/// Makes the firmware boot the disk that begins with `head` next, once, by an entry named `label`.
///
/// # Errors
/// [`ErrorKind::Host`] when a variable cannot be changed, [`ErrorKind::Format`] when the partition
/// table is damaged. The disk is not affected: callers warn.
pub(crate) fn boot_next(efivars: &Path, head: &[u8], sector: u32, label: &str) -> Result<BootNext> {
    let Some(loader) = fallback_loader() else {
        return Ok(BootNext::Skipped {
            reason: "UEFI has no fallback loader for this architecture",
        });
    };
    let table = gpt::read(head, sector)?;
    set_boot_next(efivars, table.as_ref(), label, loader)
}

/// Makes the firmware boot `loader` on the EFI system partition of `table` next, once, by an entry
/// named `label`. Earlier entries of that name are deleted. `efivars` is where efivarfs is mounted.
///
/// # Errors
/// [`ErrorKind::Host`] when a variable cannot be changed. The disk is not affected: callers warn.
fn set_boot_next(
    efivars: &Path,
    table: Option<&Gpt>,
    label: &str,
    loader: &str,
) -> Result<BootNext> {
    let Some(variables) = list(efivars)? else { return Ok(NO_UEFI) };
    let Some(esp) = table.and_then(gpt::esp) else {
        return Ok(BootNext::Skipped { reason: "the disk has no EFI system partition" });
    };
    let mut taken = Vec::new();
    for name in variables {
        let Some(number) = entry_number(&name) else { continue };
        let path = efivars.join(&name);
        // an entry that cannot be read is somebody else's
        let is_ours =
            fs::read(&path).is_ok_and(|bytes| description(&bytes).as_deref() == Some(label));
        if is_ours {
            remove(&path).map_err(|e| failed("deleting", &path, e))?;
        } else {
            taken.push(number);
        }
    }
    let Some(entry) = numbers().find(|number| !taken.contains(number)) else {
        return Ok(BootNext::Skipped { reason: "the firmware has no free boot entry" });
    };
    write(efivars, &format!("Boot{entry:04X}"), &load_option(esp, label, loader))?;
    write(efivars, "BootNext", &entry.to_le_bytes())?;
    Ok(BootNext::Set { entry })
}

/// Lets the firmware boot the disk that was flashed last next, once, by the entry that was made
/// then.
///
/// # Errors
/// [`ErrorKind::Host`] when a variable cannot be changed.
pub(crate) fn flashed_next(efivars: &Path) -> Result<BootNext> {
    let Some(variables) = list(efivars)? else { return Ok(NO_UEFI) };
    // firmware deletes the wish when it follows it: one that does not would have the machine
    // restart for ever
    if variables.iter().any(|name| name.starts_with("BootNext-")) {
        return Ok(BootNext::Skipped { reason: "the firmware has not followed the last BootNext" });
    }
    let is_ours = |name: &String| {
        fs::read(efivars.join(name))
            .is_ok_and(|bytes| description(&bytes).as_deref() == Some(LABEL))
    };
    let Some(entry) =
        variables.iter().filter(|name| is_ours(name)).find_map(|name| entry_number(name))
    else {
        return Ok(BootNext::Skipped { reason: "the firmware knows no disk that bty has flashed" });
    };
    write(efivars, "BootNext", &entry.to_le_bytes())?;
    Ok(BootNext::Set { entry })
}

/// True on a machine that was started by UEFI.
pub(crate) fn is_there(efivars: &Path) -> Result<bool> {
    Ok(list(efivars)?.is_some())
}

/// Names of all variables; `None` when there are none to be had.
fn list(efivars: &Path) -> Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(efivars) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("listing", efivars, e)),
    };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // the directory is there but empty while efivarfs is not mounted
    Ok(Some(names).filter(|names| !names.is_empty()))
}

/// The number in `Boot0A1F-8be4df61-93ca-11d2-aa0d-00e098032b8c`.
fn entry_number(name: &str) -> Option<u16> {
    let (digits, guid) = name.strip_prefix("Boot")?.split_once('-')?;
    let is_entry = digits.len() == 4
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && guid.eq_ignore_ascii_case(GLOBAL);
    is_entry.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// The description of the load option in a variable's file.
fn description(file: &[u8]) -> Option<String> {
    let units = file.get(10..)?.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
    Some(String::from_utf16_lossy(&units.take_while(|&unit| unit != 0).collect::<Vec<_>>()))
}

/// A variable's file and its name, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_variable(data: &[u8]) {
    let _ = description(data);
    let _ = std::str::from_utf8(data).map(entry_number);
}

/// An `EFI_LOAD_OPTION`, UEFI specification 2.10, sections 3.1.3, 10.3.5.1 and 10.3.5.4;
/// little-endian.
///
/// ```text
/// 0..4 attributes | 4..6 length of the path | description, UTF-16 with NUL | path
/// path:  04 01 hard drive: 2..4 length 42 | 4..8 partition number | 8..16 first LBA | 16..24 sectors
///              24..40 partition GUID | 40 format (2 GPT) | 41 signature type (2 GUID)
///        04 04 file path:  2..4 length | name, UTF-16 with NUL
///        7f ff end:        2..4 length 4
/// ```
fn load_option(esp: &GptPartition, label: &str, loader: &str) -> Vec<u8> {
    let utf16 = |text: &str| -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    };
    let mut path = vec![4, 1, 42, 0];
    path.extend_from_slice(&esp.number.to_le_bytes());
    path.extend_from_slice(&esp.first_lba.to_le_bytes());
    path.extend_from_slice(&esp.sectors().to_le_bytes());
    path.extend_from_slice(&esp.guid.0);
    path.extend_from_slice(&[2, 2]);
    let file = utf16(loader);
    // `loader` is one of a few short names
    let file_node_bytes = u16::try_from(4 + file.len()).unwrap_or(u16::MAX);
    path.extend_from_slice(&[4, 4]);
    path.extend_from_slice(&file_node_bytes.to_le_bytes());
    path.extend_from_slice(&file);
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);

    let mut option = LOAD_OPTION_ACTIVE.to_le_bytes().to_vec();
    option.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    option.extend_from_slice(&utf16(label));
    option.extend_from_slice(&path);
    option
}

fn write(efivars: &Path, name: &str, value: &[u8]) -> Result<()> {
    let path: PathBuf = efivars.join(format!("{name}-{GLOBAL}"));
    let bytes = [&ATTRIBUTES[..], value].concat();
    let written = make_mutable(&path)
        // a variable is replaced by one write of all of it; without truncation, which would be a
        // write of its own
        .and_then(|()| File::options().write(true).create(true).truncate(false).open(&path))
        .and_then(|mut file| file.write(&bytes));
    match written {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(failed("writing", &path, io::ErrorKind::WriteZero.into())),
        Err(e) => Err(failed("writing", &path, e)),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    make_mutable(path)?;
    fs::remove_file(path)
}

/// Takes away the flag that guards a variable against `rm -r`.
fn make_mutable(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    match ioctl_getflags(&file) {
        Ok(flags) if flags.contains(IFlags::IMMUTABLE) => {
            Ok(ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?)
        }
        // older kernels have no flags here; then there is nothing to take away
        _ => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::from_io(ErrorKind::Host, format!("{doing} {}", path.display()), error)
        .with_path(path.display())
        .hint("choose the disk in the firmware's boot menu, or run this as root with efivarfs mounted for writing")
}

#[cfg(test)]
mod tests;
