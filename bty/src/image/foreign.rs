//! What is often mistaken for a disk image, recognised so that it can be refused with the way out.

use crate::decode::Compression;
use crate::{Error, ErrorKind, Result};

/// Offset, magic, what it is, what to do.
const FOREIGN: &[(usize, &[u8], &str, &str)] = &[
    (257, b"ustar", "a tar archive", "unpack it (tar -xf) and flash the image inside"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it (unzip) and flash the image inside"),
    (0, b"PK\x05\x06", "an empty zip archive", "fetch it again"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it (7z x) and flash the image inside"),
    (0, b"Rar!\x1a\x07", "a rar archive", "unpack it (unrar x) and flash the image inside"),
    (0, b"!<arch>\n", "a Debian package or ar archive", "is this the file you meant?"),
    (0, b"\xed\xab\xee\xdb", "an RPM package", "is this the file you meant?"),
    (0, b"070701", "a cpio archive (an initrd?)", "is this the file you meant?"),
    (0, b"KDMV", "a VMware disk (vmdk)", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"COWD", "a VMware disk (vmdk)", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"# Disk DescriptorFile", "a VMware disk description", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"vhdxfile", "a Hyper-V disk (vhdx)", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"conectix", "a Virtual PC disk (vhd)", "convert it: qemu-img convert -f vpc -O qcow2 IN OUT"),
    (64, b"\x7f\x10\xda\xbe", "a VirtualBox disk (vdi)", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"QED\0", "a QED disk", "convert it: qemu-img convert -O qcow2 IN OUT"),
    (0, b"MSWIM\0\0\0", "a Windows image (wim)", "it holds files, not a disk; install it with its own tools"),
    (0, b"\x3a\xff\x26\xed", "an Android sparse image", "unpack it: simg2img IN OUT"),
    (0, b"\x7fELF", "a program", "is this the file you meant?"),
    (0, b"%PDF", "a PDF document", "is this the file you meant?"),
];

/// Refuses `head`, the first bytes of what would be the disk image, when it is something else.
pub(super) fn refuse(head: &[u8], inside: Option<Compression>) -> Result<()> {
    let within = inside.map_or(String::new(), |c| format!(" inside {}", c.as_str()));
    let found = |what: &str, way_out: &str| {
        Err(Error::new(ErrorKind::Format, format!("this is {what}{within}, not a disk image")).hint(way_out))
    };
    for (offset, magic, what, way_out) in FOREIGN {
        if head.get(*offset..).is_some_and(|at| at.starts_with(magic)) {
            return found(what, way_out);
        }
    }
    if let (Some(second), true) = (Compression::sniff(head), inside.is_some()) {
        return found(
            &format!("{} data", second.as_str()),
            "it was compressed twice: decompress it once, then flash it",
        );
    }
    if head.starts_with(b"QFI\xfb") && inside.is_some() {
        return found("a qcow2 image", "decompress it first; qcow2 has compression of its own (qemu-img convert -c)");
    }
    if is_markup(head) {
        return found("a web page or other text", "the address may need a log-in or have moved: open it in a browser");
    }
    if head.is_empty() {
        return found("nothing at all", "fetch it again; an empty image is nothing to write to a disk");
    }
    Ok(())
}

fn is_markup(head: &[u8]) -> bool {
    let start = head.iter().take(64).skip_while(|b| b.is_ascii_whitespace()).copied().collect::<Vec<_>>();
    let start = start.to_ascii_lowercase();
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<error", b"{\""].iter().any(|m| start.starts_with(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_is_and_the_way_out() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let error = refuse(&tar, Some(Compression::Gzip)).unwrap_err();
        assert_eq!(error.to_string(), "this is a tar archive inside gzip, not a disk image");
        assert_eq!(error.next_step(), Some("unpack it (tar -xf) and flash the image inside"));
        assert!(refuse(b"  <!DOCTYPE html>", None).is_err());
        assert!(refuse(&[0x1f, 0x8b, 8], Some(Compression::Zstd)).unwrap_err().to_string().contains("gzip"));
    }

    #[test]
    fn lets_disks_pass() {
        assert!(refuse(&[0; 4096], None).is_ok());
        assert!(refuse(&[0xeb, 0x63, 0x90], Some(Compression::Xz)).is_ok());
    }
}
