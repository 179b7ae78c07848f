use super::*;
use crate::partition_table::over;
use crate::size::MIB;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// The content recognized in a file of `bytes` after `command` ran on it, with `PATH` replaced by
/// its path. If the tool is not installed, the test fails and says so.
fn made_by(bytes: u64, command: &str) -> Option<Content> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = File::create(&path).unwrap();
    file.set_len(bytes).unwrap();
    let mut words = command.split(' ').map(|word| word.replace("PATH", path.to_str().unwrap()));
    let tool = words.next().unwrap();
    let output =
        Command::new(&tool).args(words).output().unwrap_or_else(|e| panic!("install {tool}: {e}"));
    assert!(output.status.success(), "{command}: {output:?}");
    recognized(&path)
}

fn recognized(path: &Path) -> Option<Content> {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    recognize(&mut |offset, buffer| file.read_exact_at(buffer, offset).is_ok(), size)
}

#[test]
fn recognizes_what_real_tools_make() {
    const SIZE: u64 = 320 * MIB;
    for (command, kind, label) in [
        ("mkfs.ext2 -q -F -L old PATH", "ext2", Some("old")),
        ("mkfs.ext3 -q -F PATH", "ext3", None),
        ("mkfs.ext4 -q -F -L exactly16bytes16 PATH", "ext4", Some("exactly16bytes16")),
        ("mkfs.xfs -q -f -L data PATH", "xfs", Some("data")),
        ("mkfs.btrfs -q -L pool PATH", "btrfs", Some("pool")),
        ("mkfs.vfat -F 32 -n ESP PATH", "vfat", Some("ESP")),
        ("mkfs.vfat -F 16 PATH", "vfat", None),
        ("mkfs.exfat -L BTY_IMAGES PATH", "exfat", Some("BTY_IMAGES")),
        ("mkfs.exfat PATH", "exfat", None),
        ("mkntfs -q -F -Q PATH", "ntfs", None),
        ("mkswap -L swappy PATH", "swap", Some("swappy")),
        ("mkfs.f2fs -q -l flash PATH", "f2fs", Some("flash")),
        ("mksquashfs /etc/hostname PATH -noappend -quiet", "squashfs", None),
        ("mkfs.erofs PATH /etc/default", "erofs", None),
        (
            "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 \
             PATH /etc/hostname",
            "luks",
            None,
        ),
        (
            "cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
             --label safe PATH /etc/hostname",
            "luks",
            Some("safe"),
        ),
        ("make-bcache -B PATH", "bcache", None),
    ] {
        let found = made_by(SIZE, command).unwrap_or_else(|| panic!("nothing found: {command}"));
        assert_eq!((found.kind.as_str(), found.label.as_deref()), (kind, label), "{command}");
    }
    assert_eq!(made_by(SIZE, "true"), None);
}

/// Puts `bytes` at `at` on an empty disk.
fn with(at: u64, bytes: &[u8]) -> Option<Content> {
    let mut disk = vec![0; 2 << 20];
    disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    recognize(&mut over(&disk), disk.len() as u64)
}

#[test]
fn recognizes_what_needs_a_kernel_to_make() {
    let size: u64 = 2 << 20;
    let mut md = b"\xfc\x4e\x2b\xa9\x01\0\0\0".to_vec();
    md.resize(32, 0);
    md.extend_from_slice(b"host:0");
    for (at, bytes, kind, label) in [
        (0, &md[..], "md", Some("host:0")),
        (4096, &md, "md", Some("host:0")),
        (size - 8192, &md, "md", Some("host:0")),
        (size - 65536, b"\xfc\x4e\x2b\xa9\0\0\0\0", "md", None),
        (size - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00", "imsm", None),
        (size - 512, b"\xde\x11\xde\x11", "ddf", None),
        (128 << 10, b"\x0c\xb1\xba\0\0\0\0\0", "zfs", None),
        (size - (384 << 10), b"\0\0\0\0\0\xba\xb1\x0c", "zfs", None),
        (32768, b"\x01CD001", "iso9660", None),
    ] {
        let found = with(at, bytes).unwrap_or_else(|| panic!("no {kind} at {at}"));
        assert_eq!((found.kind.as_str(), found.label.as_deref()), (kind, label), "at {at}");
    }
    let mut lvm = b"LABELONE".to_vec();
    lvm.resize(24, 0);
    lvm.extend_from_slice(b"LVM2 001");
    assert_eq!(with(512, &lvm).unwrap().kind, "lvm");
}

#[test]
fn reads_the_name_of_a_zfs_pool() {
    let mut list = vec![0; 100];
    list.extend_from_slice(b"\0\0\0\x04name\0\0\0\x09\0\0\0\x01\0\0\0\x04tank");
    assert_eq!(zfs_pool(&list).as_deref(), Some("tank"));
    list.truncate(list.len() - 1);
    assert_eq!(zfs_pool(&list), None);
}

#[test]
fn finds_nothing_where_nothing_can_be_read() {
    assert_eq!(recognize(&mut |_, _| false, 1 << 40), None);
    for size in [0, 1, 511, 512, 4096] {
        assert_eq!(recognize(&mut over(&vec![0; size]), size as u64), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn survives_any_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 512),
        size in any::<u64>(),
        exfat in any::<bool>(),
    ) {
        let _ = recognize(
            &mut |offset, buffer: &mut [u8]| {
                for (slot, at) in buffer.iter_mut().zip(offset..) {
                    *slot = bytes[(at % 512) as usize];
                }
                if exfat && offset == 0 && buffer.len() > 11 {
                    buffer[3..11].copy_from_slice(b"EXFAT   ");
                }
                true
            },
            size,
        );
    }
}
