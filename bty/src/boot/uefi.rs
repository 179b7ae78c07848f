//! Makes UEFI boot a disk once, at the next boot, through a boot entry that bty creates and the
//! variable `BootNext`. `BootOrder` belongs to the machine's owner and is never changed.
//!
//! Variables are files of efivarfs: 4 bytes of attributes, then the value, written in one go. They
//! are protected by the immutable flag (`Documentation/filesystems/efivarfs.rst` in the kernel).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::partition_table::gpt::{self, Gpt, GptPartition};
use crate::{Error, ErrorKind, Result};

/// Description of the boot entry that bty creates, by which it is found again.
pub(crate) const LABEL: &str = "bty flashed";
/// `EFI_GLOBAL_VARIABLE`, UEFI specification 2.10, section 3.3.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, readable while booting and afterwards.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];
const LOAD_OPTION_ACTIVE: u32 = 1;

/// The outcome of a request to boot a disk next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootNext {
    /// The firmware will boot the entry `Boot####` next, once.
    Set {
        /// The number of the entry.
        entry: u16,
    },
    /// The firmware boots as it would have done anyway.
    Skipped {
        /// Why: a clause that can follow a colon.
        reason: &'static str,
    },
}

pub(super) const NO_UEFI: BootNext =
    BootNext::Skipped { reason: "this machine was not started by UEFI" };

/// Numbers for a new boot entry, in the order of preference.
///
/// Firmware that creates entries (EDK II, for example) takes the lowest number that is not in
/// `BootOrder`. bty's entry is not in it, so it would be overwritten at a low number.
fn entry_numbers() -> impl Iterator<Item = u16> {
    (0..=0xFF).rev().chain(0x100..=u16::MAX)
}

/// The loader that firmware of this machine's architecture starts on a disk without a boot entry.
fn fallback_loader() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some(r"\EFI\BOOT\BOOTX64.EFI"),
        "x86" => Some(r"\EFI\BOOT\BOOTIA32.EFI"),
        "aarch64" => Some(r"\EFI\BOOT\BOOTAA64.EFI"),
        "riscv64" => Some(r"\EFI\BOOT\BOOTRISCV64.EFI"),
        _ => None,
    }
}

/// Makes the firmware boot the disk that begins with `head` once, at the next boot, through an
/// entry described as `label`. `efivars` is the mount point of efivarfs, `sector` the logical
/// sector size in bytes.
///
/// # Errors
/// - [`ErrorKind::Host`]: a variable cannot be changed.
/// - [`ErrorKind::Format`]: the partition table is damaged.
///
/// The disk is not affected, so that callers can warn and continue.
pub(crate) fn boot_next(efivars: &Path, head: &[u8], sector: u32, label: &str) -> Result<BootNext> {
    let Some(loader) = fallback_loader() else {
        return Ok(BootNext::Skipped {
            reason: "UEFI has no fallback loader for this architecture",
        });
    };
    let table = gpt::read(head, sector)?;
    boot_loader_next(efivars, table.as_ref(), label, loader)
}

/// Makes the firmware boot `loader` on the EFI system partition of `table` next. Earlier entries
/// described as `label` are deleted.
fn boot_loader_next(
    efivars: &Path,
    table: Option<&Gpt>,
    label: &str,
    loader: &str,
) -> Result<BootNext> {
    let Some(variables) = list_variables(efivars)? else { return Ok(NO_UEFI) };
    let Some(esp) = table.and_then(gpt::esp) else {
        return Ok(BootNext::Skipped { reason: "the disk has no EFI system partition" });
    };
    let mut taken = Vec::new();
    for name in variables {
        let Some(number) = entry_number(&name) else { continue };
        if has_label(efivars, &name, label) {
            let path = efivars.join(&name);
            remove(&path).map_err(|e| failed("deleting", &path, e))?;
        } else {
            taken.push(number);
        }
    }
    let Some(entry) = entry_numbers().find(|number| !taken.contains(number)) else {
        return Ok(BootNext::Skipped { reason: "the firmware has no free boot entry" });
    };
    // BootNext last, so that it never names an entry that does not exist
    write(efivars, &format!("Boot{entry:04X}"), &load_option(esp, label, loader))?;
    write(efivars, "BootNext", &entry.to_le_bytes())?;
    Ok(BootNext::Set { entry })
}

/// Makes the firmware boot the disk that was flashed last, once, at the next boot, through the
/// entry that its flash created.
///
/// # Errors
/// [`ErrorKind::Host`] when a variable cannot be changed.
pub(super) fn repeat_boot_next(efivars: &Path) -> Result<BootNext> {
    let Some(variables) = list_variables(efivars)? else { return Ok(NO_UEFI) };
    // The firmware deletes BootNext when it follows it. If it is still there, the firmware ignores
    // it, and a caller that reboots would do so forever.
    if variables.iter().any(|name| name.starts_with("BootNext-")) {
        return Ok(BootNext::Skipped { reason: "the firmware ignored the last BootNext" });
    }
    let Some(entry) = variables
        .iter()
        .filter(|name| has_label(efivars, name, LABEL))
        .find_map(|name| entry_number(name))
    else {
        return Ok(BootNext::Skipped {
            reason: "the firmware has no boot entry of a disk that bty flashed",
        });
    };
    write(efivars, "BootNext", &entry.to_le_bytes())?;
    Ok(BootNext::Set { entry })
}

/// True on a machine that was started by UEFI.
pub(super) fn is_uefi(efivars: &Path) -> Result<bool> {
    Ok(list_variables(efivars)?.is_some())
}

/// Names of all variables; `None` without UEFI, or when efivarfs is not mounted.
fn list_variables(efivars: &Path) -> Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(efivars) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("listing", efivars, e)),
    };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // the mount point exists, but is empty, while efivarfs is not mounted
    Ok(Some(names).filter(|names| !names.is_empty()))
}

/// True when the variable `name` is a load option described as `label`. One that cannot be read is
/// not bty's.
fn has_label(efivars: &Path, name: &str, label: &str) -> bool {
    fs::read(efivars.join(name)).is_ok_and(|file| description(&file).as_deref() == Some(label))
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

/// Parses `data` as a variable's file and as its name, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_variable(data: &[u8]) {
    let _ = description(data);
    let _ = std::str::from_utf8(data).map(entry_number);
}

/// Encodes an `EFI_LOAD_OPTION`, UEFI specification 2.10, sections 3.1.3, 10.3.5.1 and 10.3.5.4;
/// little-endian.
///
/// ```text
/// 0..4 attributes | 4..6 length of the path | description, UTF-16 with NUL | path
/// path:  04 01 hard drive: 2..4 length 42 | 4..8 partition number | 8..16 first LBA
///              16..24 sectors | 24..40 partition GUID | 40 format (2 GPT)
///              41 signature type (2 GUID)
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
        // efivarfs replaces a variable by one write of the whole value; truncating the file would
        // be a write of its own
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

/// Clears the immutable flag, which protects variables against `rm -r`. Does nothing if the file
/// does not exist.
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
        // older kernels have no such flag on variables
        _ => Ok(()),
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::from_io(ErrorKind::Host, format!("{doing} {}", path.display()), error)
        .with_path(path.display())
        .hint(
            "choose the disk in the firmware's boot menu, or run this as root with efivarfs \
             mounted for writing",
        )
}

#[cfg(test)]
mod tests;
