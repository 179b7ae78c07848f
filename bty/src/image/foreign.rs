//! Recognizes files that are often mistaken for disk images, to refuse them with a hint.

use crate::decode::Compression;
use crate::{Error, ErrorKind, Location, Remedy, Result};

const CONVERT: &str = "convert it: qemu-img convert -O qcow2 IN OUT";
const FOR_PHONES: &str =
    "it is for the flash memory of a device: use the device's own tool (fastboot, for example)";
const FOR_BOARDS: &str = "it is for the flash memory of a board: use the vendor's own tool, or \
                          look for an SD card image";
const OTHER_FILE: &str = "is this the file you meant?";
const RESTORE: &str = "it is a backup: restore it with the program that made it";

/// Offset in bytes, magic, description, hint. The first match is reported.
const FOREIGN: &[(usize, &[u8], &str, &str)] = &[
    // compressed in a format that bty does not decode
    (0, b"LZIP", "lzip data", "unpack it (lzip -d) and flash what is inside"),
    (0, b"\x89LZO\0\r\n\x1a\n", "lzop data", "unpack it (lzop -d) and flash what is inside"),
    (0, b"LRZI", "lrzip data", "unpack it (lrzip -d) and flash what is inside"),
    (0, b"\xff\x06\0\0sNaPpY", "snappy data", "unpack it and flash what is inside"),
    (0, b"\0ZCK1", "zchunk data", "unpack it (unzck) and flash what is inside"),
    (0, b"bvx2", "lzfse data", "unpack it (lzfse -decode) and flash what is inside"),
    // archives
    (257, b"ustar", "a tar archive", "unpack it (tar -xf) and flash the image inside"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it (unzip) and flash the image inside"),
    (0, b"PK\x05\x06", "an empty zip archive", "fetch it again"),
    (
        0,
        b"PK\x07\x08",
        "a part of a zip archive",
        "get all parts, unpack them (unzip) and flash the image inside",
    ),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it (7z x) and flash the image inside"),
    (0, b"Rar!\x1a\x07", "a rar archive", "unpack it (unrar x) and flash the image inside"),
    (0, b"MSCF\0\0\0\0", "a cabinet archive", "unpack it (cabextract) and flash the image inside"),
    (0, b"xar!", "a xar archive", "unpack it (xar -xf) and flash the image inside"),
    (0, b"!<arch>\n", "a Debian package or ar archive", OTHER_FILE),
    (0, b"\xed\xab\xee\xdb", "an RPM package", OTHER_FILE),
    (
        110,
        b"sw-description",
        "an update for SWUpdate (swu)",
        "install it with swupdate, or unpack it: cpio -id < FILE",
    ),
    (0, b"070701", "a cpio archive (an initrd?)", OTHER_FILE),
    (0, b"070702", "a cpio archive", "unpack it (cpio -id < FILE) and flash the image inside"),
    (0, b"070707", "a cpio archive", "unpack it (cpio -id < FILE) and flash the image inside"),
    // disks of virtual machines
    (0, b"KDMV", "a VMware disk (vmdk)", CONVERT),
    (0, b"COWD", "a VMware disk (vmdk)", CONVERT),
    (0, b"# Disk DescriptorFile", "a VMware disk description", CONVERT),
    (0, b"vhdxfile", "a Hyper-V disk (vhdx)", CONVERT),
    (
        0,
        b"conectix",
        "a Virtual PC disk (vhd)",
        "convert it: qemu-img convert -f vpc -O qcow2 IN OUT",
    ),
    (64, b"\x7f\x10\xda\xbe", "a VirtualBox disk (vdi)", CONVERT),
    (0, b"QED\0", "a QED disk", CONVERT),
    (0, b"WithoutFreeSpace", "a Parallels disk", CONVERT),
    (0, b"WithouFreSpacExt", "a Parallels disk", CONVERT),
    (0, b"Bochs Virtual HD Image", "a Bochs disk", CONVERT),
    (0, b"VMA\0", "a Proxmox backup (vma)", "unpack it (vma extract) and flash the disk inside"),
    // backups of disks and partitions
    (
        0,
        b"partclone-image",
        "a partclone backup of a partition",
        "restore it with partclone or Clonezilla",
    ),
    (0, b"PaRtImAgE-VoLuMe", "a partimage backup of a partition", "restore it with partimage"),
    (
        0,
        b"MSWIM\0\0\0",
        "a Windows image (wim)",
        "it holds files, not a disk; install it with its own tools",
    ),
    (0, b"EVF\x09\x0d\x0a\xff\0", "an EnCase image (E01)", "convert it: ewfexport -f raw FILE"),
    (0, b"\xfe\xef\x01", "a Ghost backup", RESTORE),
    // discs
    (
        0,
        b"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0",
        "a raw copy of a CD (bin)",
        "convert it to ISO (bchunk or ccd2iso)",
    ),
    (0, b"MComprHD", "a compressed MAME disc (chd)", "unpack it: chdman extractraw"),
    (0, b"CISO", "a compressed disc (cso)", "unpack it and flash what is inside"),
    // phones
    (0, b"\x3a\xff\x26\xed", "an Android sparse image", "unpack it: simg2img IN OUT"),
    (0, b"CrAU", "an Android or ChromeOS update (payload.bin)", "unpack it with payload-dumper"),
    (0, b"ANDROID!", "an Android boot image", FOR_PHONES),
    (0, b"VNDRBOOT", "an Android vendor boot image", FOR_PHONES),
    (0, b"AVB0", "Android verification data (vbmeta)", FOR_PHONES),
    (4096, b"gDla", "an Android super partition", "unpack it with lpunpack"),
    // boards
    (0, b"RKFW", "Rockchip firmware (RKFW)", FOR_BOARDS),
    (0, b"RKAF", "Rockchip firmware (RKAF)", FOR_BOARDS),
    (0, b"IMAGEWTY", "Allwinner firmware (IMAGEWTY)", FOR_BOARDS),
    (8, b"\x56\x19\xb5\x27", "Amlogic firmware", FOR_BOARDS),
    (0, b"HDR0", "router firmware (trx)", FOR_BOARDS),
    (
        0,
        b"UF2\n\x57\x51\x5d\x9e",
        "microcontroller firmware (uf2)",
        "copy it to the drive that the board shows",
    ),
    (0, b"\x27\x05\x19\x56", "a U-Boot image", FOR_BOARDS),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or a U-Boot FIT image", FOR_BOARDS),
    // everything else
    (514, b"HdrS", "a Linux kernel", OTHER_FILE),
    (0, b"\x7fELF", "a program", OTHER_FILE),
    (0, b"%PDF", "a PDF document", OTHER_FILE),
    (0, b"\x89PNG", "a picture", OTHER_FILE),
    (0, b"\xff\xd8\xff", "a picture", OTHER_FILE),
    (0, b"SQLite format 3\0", "a database (SQLite)", OTHER_FILE),
    (0, b"BSDIFF40", "a binary patch (bsdiff)", "apply it to the old image, and flash the result"),
    (
        0,
        b"\xd6\xc3\xc4",
        "a binary patch (xdelta)",
        "apply it to the old image, and flash the result",
    ),
    (0, b"Salted__", "an encrypted file (openssl)", "decrypt it and flash what is inside"),
];

/// Magic of the last 512 bytes of a file, description, hint.
const FOOTERS: &[(&[u8], &str, &str)] = &[
    (
        b"conectix",
        "a Virtual PC disk (vhd) of fixed size",
        "convert it (qemu-img convert -f vpc -O raw IN OUT), or cut its footer off a copy \
         (truncate -s -512 COPY)",
    ),
    (b"koly", "an Apple disk image (dmg)", "convert it: dmg2img IN OUT"),
];

/// Size of a footer in bytes.
pub(crate) const FOOTER_BYTES: usize = 512;

/// Maximum number of characters of a text that an error quotes.
const QUOTED_MAX: usize = 40;

/// What was found instead of a disk image.
struct Finding {
    what: String,
    hint: &'static str,
    remedy: Option<Remedy>,
}

impl Finding {
    fn new(what: impl Into<String>, hint: &'static str) -> Self {
        Self { what: what.into(), hint, remedy: None }
    }
}

/// Refuses `head`, the first bytes of a supposed disk image, if they are those of another kind of
/// file, read from `location`. With `is_recognized`, the head has a partition table, file system or
/// boot sector; formats that it may resemble by chance are then not checked.
pub(super) fn refuse(
    head: &[u8],
    inside: Option<Compression>,
    is_recognized: bool,
    location: &Location,
) -> Result<()> {
    let certain =
        by_magic(head).or_else(|| packed_twice(head, inside)).or_else(|| text(head, location));
    let found = certain.or_else(|| if is_recognized { None } else { probable(head) });
    let Some(Finding { what, hint, remedy }) = found else { return Ok(()) };
    let within = inside.map_or(String::new(), |c| format!(" inside {}", c.as_str()));
    let message = format!("this is {what}{within}, not a disk image");
    let error = Error::new(ErrorKind::Format, message).hint(hint);
    Err(remedy.into_iter().fold(error, Error::with_remedy))
}

/// Refuses a file by its last [`FOOTER_BYTES`].
pub(super) fn refuse_footer(footer: &[u8]) -> Result<()> {
    match FOOTERS.iter().find(|(magic, ..)| footer.starts_with(magic)) {
        Some((_, what, hint)) => {
            Err(Error::new(ErrorKind::Format, format!("this is {what}, not a disk image"))
                .hint(*hint))
        }
        None => Ok(()),
    }
}

/// True if `footer`, the last bytes of a disk image, is that of a fixed-size VHD.
pub(crate) fn is_vhd_footer(footer: &[u8]) -> bool {
    footer.starts_with(b"conectix")
}

/// Names the format of a file that cannot be written to a disk byte by byte, compressed images
/// included, by its first bytes.
pub(crate) fn name_of_file(head: &[u8]) -> Option<String> {
    if head.starts_with(b"QFI\xfb") {
        return Some("a qcow2 image".into());
    }
    let packed = Compression::sniff(head).map(|c| format!("{} data", c.as_str()));
    packed
        .or_else(|| by_magic(head).or_else(|| text(head, &Location::Stdin)).map(|found| found.what))
}

fn by_magic(head: &[u8]) -> Option<Finding> {
    let listed = FOREIGN
        .iter()
        .find(|(offset, magic, ..)| head.get(*offset..).is_some_and(|at| at.starts_with(magic)));
    if let Some((_, _, what, hint)) = listed {
        return Some(Finding::new(*what, hint));
    }
    if is_compress(head) {
        let hint = "unpack it (gzip -d) and flash what is inside";
        return Some(Finding::new("compress data (.Z)", hint));
    }
    if is_old_tar(head) {
        let hint = "unpack it (tar -xf) and flash the image inside";
        return Some(Finding::new("a tar archive", hint));
    }
    None
}

/// Formats with weak magic, which a disk image may have by chance.
fn probable(head: &[u8]) -> Option<Finding> {
    if is_lzma(head) {
        let hint = "unpack it (xz -d --format=lzma) and flash what is inside";
        return Some(Finding::new("lzma data", hint));
    }
    if head.starts_with(b"MZ") {
        return Some(Finding::new("a program for Windows or UEFI", OTHER_FILE));
    }
    None
}

fn packed_twice(head: &[u8], inside: Option<Compression>) -> Option<Finding> {
    inside?;
    if let Some(second) = Compression::sniff(head) {
        let what = format!("{} data", second.as_str());
        let hint = "it was compressed twice: decompress it once, then flash it";
        return Some(Finding::new(what, hint));
    }
    let hint = "decompress it first; qcow2 has compression of its own (qemu-img convert -c)";
    head.starts_with(b"QFI\xfb").then(|| Finding::new("a qcow2 image", hint))
}

/// compress(1): magic | 5 bits: code length, 9 to 16; 2 bits: 0; 1 bit: block mode
fn is_compress(head: &[u8]) -> bool {
    let are_valid = |flags: u8| flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f));
    matches!(head, [0x1f, 0x9d, flags, ..] if are_valid(*flags))
}

/// A pre-POSIX tar header, which has no magic. Its checksum is computed with spaces in place of the
/// checksum itself.
///
/// 0..100 name | 100..148 mode, owner, size, time | 148..156 checksum, octal | 156 type | 157..257
/// link
fn is_old_tar(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<512>() else { return false };
    let digits = header[148..156]
        .iter()
        .skip_while(|&&b| b == b' ')
        .take_while(|b| (b'0'..=b'7').contains(b));
    let claimed = digits.fold(0, |sum, digit| sum * 8 + u32::from(digit - b'0'));
    let spaces = 8 * u32::from(b' ');
    let rest = header[..148].iter().chain(&header[156..]);
    header[0] != 0 && claimed == spaces + rest.map(|&byte| u32::from(byte)).sum::<u32>()
}

/// The header of `.lzma`, which has no magic. These are the checks of liblzma, which rarely accept
/// other files.
///
/// 0 properties, below 225 | 1..5 dictionary, 2^n or 2^n + 2^(n-1) | 5..13 unpacked size, below 256
/// GiB or unknown
fn is_lzma(head: &[u8]) -> bool {
    let Some(header) = head.first_chunk::<13>() else { return false };
    let dictionary = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let size = u64::from_le_bytes([
        header[5], header[6], header[7], header[8], header[9], header[10], header[11], header[12],
    ]);
    let half = 1_u32.checked_shl(dictionary.checked_ilog2().unwrap_or(0)).unwrap_or(0);
    let usual = dictionary == u32::MAX
        || dictionary != 0 && (dictionary == half || dictionary == half | half >> 1);
    header[0] < 225 && usual && (size == u64::MAX || size < 256 << 30)
}

/// Text. No disk image begins with it.
fn text(head: &[u8], location: &Location) -> Option<Finding> {
    if head.is_empty() {
        return Some(Finding::new("an empty file", "fetch it again"));
    }
    if is_markup(head) {
        return Some(Finding::new("a web page or other text", not_the_image(location)));
    }
    let text = printable(head)?;
    let begins = |start: &str| text.trim_start().starts_with(start);
    Some(if begins("version https://git-lfs") {
        Finding::new(
            "a Git LFS pointer, which only names the image",
            "fetch the image itself: git lfs pull",
        )
    } else if begins("-----BEGIN PGP") || begins("-----BEGIN SSH") || begins("untrusted comment:") {
        Finding::new(
            "a signature or a key",
            "flash the file that was signed; this one is for checking it",
        )
    } else if is_checksum_list(text) {
        let hint = "flash an image that it lists, and give the digest of that image";
        Finding { remedy: Some(Remedy::Sha256), ..Finding::new("a list of checksums", hint) }
    } else {
        let line = text.trim().lines().next().unwrap_or_default();
        let quoted: String = line.chars().take(QUOTED_MAX).collect();
        let more = if line.chars().count() > QUOTED_MAX { "…" } else { "" };
        let what = format!("text that begins with \"{}{more}\"", quoted.replace('\t', " "));
        Finding::new(what, not_the_image(location))
    })
}

/// What to do about a text that stands in place of an image.
fn not_the_image(location: &Location) -> &'static str {
    match location {
        Location::File(_) | Location::Stdin => {
            "the download may have failed: look at the file, and fetch it again"
        }
        _ => "the address may need a login or have moved: open it in a browser",
    }
}

fn is_markup(head: &[u8]) -> bool {
    let start =
        head.iter().take(64).skip_while(|b| b.is_ascii_whitespace()).copied().collect::<Vec<_>>();
    let start = start.to_ascii_lowercase();
    [&b"<!doctype"[..], b"<html", b"<?xml", b"<error", b"{\""].iter().any(|m| start.starts_with(m))
}

/// `head` as text, if all of it is printable. A character at its end may be truncated.
fn printable(head: &[u8]) -> Option<&str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\x0c');
    (!text.is_empty() && text.chars().all(is_text)).then_some(text)
}

/// Lines of `digest  name`, or `SHA256 (name) = digest`.
fn is_checksum_list(text: &str) -> bool {
    let is_digest = |word: &str| {
        matches!(word.len(), 32 | 40 | 64 | 96 | 128) && word.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.split_whitespace().any(is_digest))
}

#[cfg(test)]
mod tests;
