//! Recognizes the content of a disk or partition by its signature: magic bytes at fixed offsets.

use crate::partition_table::{Content, ReadAt};
use crate::size::{KIB, align_down};

/// Number of bytes read from the start: up to the highest magic, that of btrfs at 65600.
const HEAD_BYTES: usize = 68 << 10;

/// The place of the label, and its encoding.
#[derive(Clone, Copy)]
enum Label {
    None,
    /// Bytes at an offset, up to the first NUL, padded with spaces.
    Bytes(usize, usize),
    /// Sixteen-bit units at an offset, up to the first zero.
    Utf16(usize, usize),
}

/// A signature at a fixed place in the first 68 KiB. All its `magics` must be there.
struct Magic {
    kind: &'static str,
    magics: &'static [(usize, &'static [u8])],
    label: Label,
}

const fn magic(
    kind: &'static str,
    magics: &'static [(usize, &'static [u8])],
    label: Label,
) -> Magic {
    Magic { kind, magics, label }
}

// Offsets are bytes from the start. Containers come first: a RAID1 member also shows the file
// system in it, and the container is what holds the disk.
const MAGICS: &[Magic] = &[
    // LUKS header: 0..6 magic, 6..8 version, big-endian; 24..72 label (version 2)
    magic("luks", &[(0, b"LUKS\xba\xbe\x00\x01")], Label::None),
    magic("luks", &[(0, b"LUKS\xba\xbe\x00\x02")], Label::Bytes(24, 48)),
    // LVM2 label, in one of the first four sectors: 0..8 "LABELONE", 24..32 type
    magic("lvm", &[(512, b"LABELONE"), (536, b"LVM2 001")], Label::None),
    magic("lvm", &[(0, b"LABELONE"), (24, b"LVM2 001")], Label::None),
    magic("lvm", &[(1024, b"LABELONE"), (1048, b"LVM2 001")], Label::None),
    magic("lvm", &[(1536, b"LABELONE"), (1560, b"LVM2 001")], Label::None),
    // MD version 1 superblock: 0..4 magic, 4..8 major version, 32..64 set name; at 0 (1.1) or 4096
    // (1.2)
    magic("md", &[(0, b"\xfc\x4e\x2b\xa9\x01\0\0\0")], Label::Bytes(32, 32)),
    magic("md", &[(4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0")], Label::Bytes(4128, 32)),
    // bcache super block at 4096: 24..40 magic, 72..104 label
    magic(
        "bcache",
        &[(4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81")],
        Label::Bytes(4168, 32),
    ),
    magic("ceph", &[(0, b"bluestore block device")], Label::None),
    magic("xfs", &[(0, b"XFSB")], Label::Bytes(108, 12)),
    // btrfs superblock at 64 KiB: 64..72 magic, 299..555 label
    magic("btrfs", &[(65600, b"_BHRfS_M")], Label::Bytes(65835, 256)),
    // squashfs 4: 0..4 magic, 28..30 major version
    magic("squashfs", &[(0, b"hsqs"), (28, b"\x04\0")], Label::None),
    // erofs super block at 1024: 0..4 magic, 64..80 volume name
    magic("erofs", &[(1024, b"\xe2\xe1\xf5\xe0")], Label::Bytes(1088, 16)),
    // f2fs super block at 1024: 0..4 magic, 124 volume name
    magic("f2fs", &[(1024, b"\x10\x20\xf5\xf2")], Label::Utf16(1148, 512)),
    // swap header fills a page: its last ten bytes are the magic, 1052..1068 label; pages are 4, 8,
    // 16 or 64 KiB
    magic("swap", &[(4086, b"SWAPSPACE2")], Label::Bytes(1052, 16)),
    magic("swap", &[(8182, b"SWAPSPACE2")], Label::Bytes(1052, 16)),
    magic("swap", &[(16374, b"SWAPSPACE2")], Label::Bytes(1052, 16)),
    magic("swap", &[(65526, b"SWAPSPACE2")], Label::Bytes(1052, 16)),
    // volume descriptor in sector 16 of 2048 bytes: 0 type (1 primary), 1..6 magic, 40..72 volume
    // name
    magic("iso9660", &[(32768, b"\x01CD001")], Label::Bytes(32808, 32)),
    // UDF begins a sequence of descriptors there, which names its version later
    magic("udf", &[(32769, b"BEA01")], Label::None),
    magic("apfs", &[(32, b"NXSB")], Label::None),
    magic("hfsplus", &[(1024, b"H+\0\x04")], Label::None),
    magic("hfsplus", &[(1024, b"HX\0\x05")], Label::None),
    magic("refs", &[(0, b"\0\0\0ReFS\0")], Label::None),
    // jfs super block at 32 KiB: 0..4 magic, 152..168 label
    magic("jfs", &[(32768, b"JFS1")], Label::Bytes(32920, 16)),
    // nilfs2 super block at 1024: 0..4 version 2, 6..8 magic, 152..232 label
    magic("nilfs2", &[(1024, b"\x02\0\0\0"), (1030, b"\x34\x34")], Label::Bytes(1176, 80)),
    magic("reiserfs", &[(65588, b"ReIsErFs")], Label::Bytes(65636, 16)),
    magic("reiserfs", &[(65588, b"ReIsEr2Fs")], Label::Bytes(65636, 16)),
    // bcachefs super block at 4096: 24..40 magic, 72..104 label
    magic(
        "bcachefs",
        &[(4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef")],
        Label::Bytes(4168, 32),
    ),
    magic("gfs2", &[(65536, b"\x01\x16\x19\x70\0\0\0\x01")], Label::None),
    magic("ocfs2", &[(8192, b"OCFSV2")], Label::None),
    // ufs super block at 8 KiB or 64 KiB: 1372..1376 magic of version 1 or 2, little-endian
    magic("ufs", &[(9564, b"\x54\x19\x01\0")], Label::None),
    magic("ufs", &[(66908, b"\x19\x01\x54\x19")], Label::None),
    magic("cramfs", &[(0, b"\x45\x3d\xcd\x28")], Label::None),
    magic("romfs", &[(0, b"-rom1fs-")], Label::None),
    magic("ubi", &[(0, b"UBI#\x01")], Label::None),
    // boot sectors: 3..11 name; 54 or 82 file system, 43 or 71 label
    magic("ntfs", &[(3, b"NTFS    "), (510, b"\x55\xaa")], Label::None),
    magic("vfat", &[(82, b"FAT32   "), (510, b"\x55\xaa")], Label::Bytes(71, 11)),
    magic("vfat", &[(54, b"FAT16   "), (510, b"\x55\xaa")], Label::Bytes(43, 11)),
    magic("vfat", &[(54, b"FAT12   "), (510, b"\x55\xaa")], Label::Bytes(43, 11)),
];

/// Recognizes the content of a device of `size_bytes`. `None` if it is unknown, or the device
/// cannot be read.
pub(crate) fn recognize(read: &mut ReadAt<'_>, size_bytes: u64) -> Option<Content> {
    let mut head = vec![0; HEAD_BYTES];
    let len = usize::try_from(size_bytes).map_or(HEAD_BYTES, |size| size.min(HEAD_BYTES));
    let has_head = read(0, &mut head[..len]);
    if !has_head {
        head.fill(0);
    }
    zfs(read, size_bytes)
        .or_else(|| raid_at_end(read, size_bytes))
        .or_else(|| MAGICS.iter().find_map(|magic| magic.find(&head)))
        .or_else(|| ext(&head))
        .or_else(|| exfat(read, &head))
}

impl Magic {
    fn find(&self, head: &[u8]) -> Option<Content> {
        let found = self.magics.iter().all(|&(at, bytes)| head[at..].starts_with(bytes));
        found.then(|| content(self.kind, self.label.read(head)))
    }
}

impl Label {
    fn read(self, bytes: &[u8]) -> Option<String> {
        let text = match self {
            Self::None => return None,
            Self::Bytes(at, len) => {
                let field = bytes.get(at..at + len)?;
                String::from_utf8_lossy(field.split(|&b| b == 0).next()?).into_owned()
            }
            Self::Utf16(at, units) => {
                let field = bytes.get(at..at + 2 * units)?;
                let units: Vec<u16> =
                    field.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
                String::from_utf16_lossy(units.split(|&unit| unit == 0).next()?)
            }
        };
        Some(text)
    }
}

/// Drops labels that are empty, a placeholder, or would disturb a terminal.
fn content(kind: &str, label: Option<String>) -> Content {
    let label = label.map(|text| text.trim().to_owned());
    let label = label.filter(|text| {
        !text.is_empty() && text != "NO NAME" && !text.chars().any(char::is_control)
    });
    Content { kind: kind.to_owned(), label }
}

/// ext2, ext3 or ext4.
///
/// Superblock at 1024: 56..58 magic | 92..96 compatible, 96..100 incompatible, 100..104 read-only
/// features | 120..136 label
fn ext(head: &[u8]) -> Option<Content> {
    const HAS_JOURNAL: u32 = 0x4;
    // extents, 64 bit, flexible groups and what came later / huge files, checksums, many links,
    // large inodes
    const INCOMPATIBLE_EXT4: u32 = !0x1f;
    const READ_ONLY_EXT4: u32 = !0x7;
    let feature =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head[1080..1082] != [0x53, 0xef] {
        return None;
    }
    let kind = if feature(1120) & INCOMPATIBLE_EXT4 != 0 || feature(1124) & READ_ONLY_EXT4 != 0 {
        "ext4"
    } else if feature(1116) & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    Some(content(kind, Label::Bytes(1144, 16).read(head)))
}

/// exFAT, whose label is an entry of the root directory.
///
/// Boot sector: 3..11 name | 88..92 first sector of the clusters | 96..100 cluster of the root
/// directory | 108 log2 of bytes per sector | 109 log2 of sectors per cluster. Entry: 0 type (0x83
/// label) | 1 length in UTF-16 units | 2..24 label in UTF-16
fn exfat(read: &mut ReadAt<'_>, head: &[u8]) -> Option<Content> {
    if !head[3..].starts_with(b"EXFAT   ") {
        return None;
    }
    let mut root = [0; 4096];
    let label = exfat_root(head).filter(|&at| read(at, &mut root)).and_then(|_| {
        let entry = root.chunks_exact(32).find(|entry| entry[0] == 0x83)?;
        Label::Utf16(2, usize::from(entry[1]).min(11)).read(entry)
    });
    Some(content("exfat", label))
}

/// Offset of the root directory in bytes. The first cluster has the number 2.
fn exfat_root(head: &[u8]) -> Option<u64> {
    let field = |at: usize| {
        u64::from(u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]))
    };
    let (sector_shift, cluster_shift) = (u32::from(head[108]), u32::from(head[109]));
    if !(9..=12).contains(&sector_shift) || cluster_shift + sector_shift > 25 {
        return None;
    }
    Some((field(88) + (field(96).checked_sub(2)? << cluster_shift)) << sector_shift)
}

/// A member of a ZFS pool: labels of 256 KiB, two at each end; in each, from 128 KiB on, uberblocks
/// at multiples of 1 KiB that begin with the magic in either byte order.
fn zfs(read: &mut ReadAt<'_>, size_bytes: u64) -> Option<Content> {
    const LABEL: u64 = 256 * KIB;
    let size = align_down(size_bytes, LABEL);
    let starts = [0, size.checked_sub(2 * LABEL)?];
    let mut label = vec![0; LABEL as usize];
    for start in starts {
        if !read(start, &mut label) {
            continue;
        }
        let found = label[128 << 10..].chunks_exact(1 << 10).any(|block| {
            matches!(&block[..8], b"\x0c\xb1\xba\0\0\0\0\0" | b"\0\0\0\0\0\xba\xb1\x0c")
        });
        if found {
            return Some(content("zfs", zfs_pool(&label[16 << 10..128 << 10])));
        }
    }
    None
}

/// The name of the pool. A label has a list of name-value pairs, encoded as big-endian XDR; the pair
/// `name` has the type 9 (string) and one element.
fn zfs_pool(list: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01";
    let at = list.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let len = list.get(at..at + 4)?;
    let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let name = list.get(at + 4..at.checked_add(4)?.checked_add(len)?)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// RAID metadata that lies at the end: MD 1.0 and 0.90, Intel and DDF.
fn raid_at_end(read: &mut ReadAt<'_>, size_bytes: u64) -> Option<Content> {
    let mut bytes = [0; 512];
    let mut at = |offset: Option<u64>, magic: &[u8]| {
        offset.is_some_and(|offset| read(offset, &mut bytes)) && bytes.starts_with(magic)
    };
    // 1.0: 8 KiB before the end, rounded down to 4 KiB
    let md10 = size_bytes.checked_sub(8 * KIB).map(|at| align_down(at, 4 * KIB));
    if at(md10, b"\xfc\x4e\x2b\xa9\x01\0\0\0") {
        return Some(content("md", Label::Bytes(32, 32).read(&bytes)));
    }
    // 0.90: the last 64 KiB that begin at a multiple of 64 KiB, in the byte order of the machine
    // that wrote it
    let md090 = align_down(size_bytes, 64 * KIB).checked_sub(64 * KIB);
    if at(md090, b"\xfc\x4e\x2b\xa9\0\0\0\0") || at(md090, b"\xa9\x2b\x4e\xfc\0\0\0\0") {
        return Some(content("md", None));
    }
    for sector in [512, 4096] {
        if at(size_bytes.checked_sub(2 * sector), b"Intel Raid ISM Cfg Sig. ") {
            return Some(content("imsm", None));
        }
        if at(size_bytes.checked_sub(sector), b"\xde\x11\xde\x11") {
            return Some(content("ddf", None));
        }
    }
    None
}

#[cfg(test)]
mod tests;
