//! Formats an NVMe namespace, by which the disk erases its user data.

use std::fs::File;
use std::io;

use crate::device::ioctl::{self, NvmeCommand};

const IDENTIFY: u8 = 0x06;
const FORMAT_NVM: u8 = 0x80;

/// Values of CNS, the structure that Identify returns.
const CNS_NAMESPACE: u32 = 0;
const CNS_CONTROLLER: u32 = 1;
const CNS_ACTIVE_NAMESPACES: u32 = 2;

/// Secure Erase Settings of Format NVM: erase user data.
const ERASE_USER_DATA: u32 = 1;

/// A disk may take this many milliseconds to format itself.
const FORMAT_TIMEOUT_MS: u32 = 3_600_000;

/// A structure that Identify returns.
type Identity = [u8; 4096];

/// Has the disk erase the namespace that `file` is. Its sector size and metadata stay as they are.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] when the disk does not know the command, or would erase other
/// namespaces too. Otherwise the error of the operating system, or the status of the disk.
pub(super) fn format(file: &File) -> io::Result<()> {
    let namespace = ioctl::nvme_namespace(file)?;
    let controller = identify(file, 0, CNS_CONTROLLER)?;
    let active = identify(file, 0, CNS_ACTIVE_NAMESPACES)?;
    check(&controller, &active)?;
    let settings = settings(&identify(file, namespace, CNS_NAMESPACE)?);
    let command = NvmeCommand {
        opcode: FORMAT_NVM,
        namespace,
        cdw10: settings,
        timeout_ms: FORMAT_TIMEOUT_MS,
        ..NvmeCommand::default()
    };
    ioctl::nvme_admin(file, command, &mut [])
}

fn identify(file: &File, namespace: u32, cns: u32) -> io::Result<Identity> {
    let mut identity = [0; 4096];
    let command = NvmeCommand { opcode: IDENTIFY, namespace, cdw10: cns, ..NvmeCommand::default() };
    ioctl::nvme_admin(file, command, &mut identity)?;
    Ok(identity)
}

/// Checks that the controller can format a namespace, and nothing but this one.
fn check(controller: &Identity, active: &Identity) -> io::Result<()> {
    let optional_commands = u16::from_le_bytes([controller[256], controller[257]]);
    if optional_commands & 1 << 1 == 0 {
        return Err(unsupported("the disk has no command to format itself"));
    }
    // the two lowest bits: a format, or an erasing one, concerns all namespaces
    let concerns_all = controller[524] & 0b11 != 0;
    let namespaces = active.chunks_exact(4).take_while(|id| *id != [0; 4]).count();
    if concerns_all && namespaces > 1 {
        return Err(unsupported("the disk would erase its other namespaces too"));
    }
    Ok(())
}

fn unsupported(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why)
}

/// Command Dword 10 of a format that erases, and changes nothing else.
fn settings(namespace: &Identity) -> u32 {
    let (format, protection) = (u32::from(namespace[26]), u32::from(namespace[29]));
    let (low, is_extended, high) = (format & 0xf, format >> 4 & 1, format >> 5 & 0b11);
    let (kind, is_first) = (protection & 0b111, protection >> 3 & 1);
    low | is_extended << 4 | kind << 5 | is_first << 8 | ERASE_USER_DATA << 9 | high << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(can_format: bool, concerns_all: u8) -> Identity {
        let mut identity = [0; 4096];
        identity[256] = u8::from(can_format) << 1;
        identity[524] = concerns_all;
        identity
    }

    fn namespaces(ids: &[u32]) -> Identity {
        let mut identity = [0; 4096];
        for (at, id) in ids.iter().enumerate() {
            identity[4 * at..4 * at + 4].copy_from_slice(&id.to_le_bytes());
        }
        identity
    }

    #[test]
    fn a_format_that_would_erase_other_namespaces_is_refused() {
        let (one, two) = (namespaces(&[1]), namespaces(&[1, 2]));
        assert!(check(&controller(true, 0), &two).is_ok());
        assert!(check(&controller(true, 0b11), &one).is_ok());
        for concerns_all in [0b01, 0b10, 0b11] {
            let error = check(&controller(true, concerns_all), &two).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains("other namespaces"), "{error}");
        }
    }

    #[test]
    fn a_disk_without_the_command_is_not_asked() {
        let error = check(&controller(false, 0), &namespaces(&[1])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn the_format_of_sectors_stays_as_it_is() {
        let mut namespace = [0; 4096];
        assert_eq!(settings(&namespace), 1 << 9);
        // format 0x23, metadata with the data, protection of kind 2, at the start of the metadata
        namespace[26] = 0b0101_0011;
        namespace[29] = 0b1010;
        assert_eq!(settings(&namespace), 3 | 1 << 4 | 2 << 5 | 1 << 8 | 1 << 9 | 2 << 12);
    }
}
