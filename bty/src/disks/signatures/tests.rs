use super::*;
use crate::partition_table::over;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What is recognised on a file of `bytes` after `command` ran on it; `PATH` in its arguments is
/// the file.
///
/// Every command is a real tool: a missing one fails the test, and names what to install.
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
    recognised(&path)
}

fn recognised(path: &Path) -> Option<Content> {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    recognise(&mut |offset, buffer| file.read_exact_at(buffer, offset).is_ok(), size)
}

#[test]
fn recognises_what_real_tools_make() {
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
            "cryptsetup -q luksFormat --type luks1 --pbkdf-force-iterations 1000 PATH /etc/hostname",
            "luks",
            None,
        ),
        (
            "cryptsetup -q luksFormat --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label safe PATH /etc/hostname",
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
    recognise(&mut over(&disk), disk.len() as u64)
}

#[test]
fn recognises_what_needs_a_kernel_to_make() {
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
    assert_eq!(recognise(&mut |_, _| false, 1 << 40), None);
    for size in [0, 1, 511, 512, 4096] {
        assert_eq!(recognise(&mut over(&vec![0; size]), size as u64), None);
    }
}

#[test]
fn clears_the_places_where_signatures_hide() {
    let disk = 2000 * GIB;
    let half = 512 * KIB;
    let powers = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map(|gib| gib * GIB..gib * GIB + half);
    let mut expected = vec![
        3 * GIB + 512..3 * GIB + 512 + MIB,
        10 * GIB..10 * GIB + 4096,
        100 * GIB..100 * GIB + 4096,
        1000 * GIB..1000 * GIB + 4096,
        disk - MIB..disk,
    ];
    expected.extend(powers);
    expected.sort_by_key(|range| range.start);
    assert_eq!(stale_ranges(3 * GIB + 1, disk, 512, &[]), expected);
}

#[test]
fn clears_both_edges_of_partitions_behind_the_image_and_nothing_inside_them() {
    // one in the image, one across its end, one behind it, one that claims more than the disk has
    let partitions =
        [MIB..10 * MIB, 20 * MIB..50 * MIB, 70 * MIB..90 * MIB + 512, 95 * MIB..500 * MIB];
    let cleared = stale_ranges(40 * MIB, 99 * MIB, 512, &partitions);
    let is_cleared = |at: u64| cleared.iter().any(|range| range.contains(&at));
    for at in [49 * MIB, 50 * MIB - 1, 70 * MIB + 65600, 90 * MIB + 511, 95 * MIB + 1080] {
        assert!(is_cleared(at), "{at}: {cleared:?}");
    }
    for at in [45 * MIB, 80 * MIB, 97 * MIB] {
        assert!(!is_cleared(at), "{at}: {cleared:?}");
    }
    // where partitions usually begin, whatever the old table says
    assert!(
        stale_ranges(16 * MIB, GIB, 512, &[])
            .iter()
            .any(|range| range.contains(&(513 * MIB + 1080)))
    );
}

#[test]
fn merges_and_clips_near_the_end_of_the_disk() {
    assert_eq!(stale_ranges(8 * MIB, 8 * MIB, 512, &[]), []);
    assert_eq!(stale_ranges(8 * MIB, 8 * MIB - 512, 512, &[]), []);
    assert_eq!(stale_ranges(8 * MIB - 1, 8 * MIB, 512, &[]), []);
    assert_eq!(
        stale_ranges(8 * MIB - 512, 8 * MIB, 512, &[]),
        vec![Range { start: 8 * MIB - 512, end: 8 * MIB }]
    );
    assert_eq!(
        stale_ranges(6 * MIB + 1, 8 * MIB + 4095, 4096, &[]),
        vec![Range { start: 6 * MIB + 4096, end: 8 * MIB }]
    );
    assert_eq!(stale_ranges(0, 0, 512, &[]), []);
    assert_eq!(
        stale_ranges(GIB - MIB, 2 * GIB, 512, &[]),
        [
            GIB - MIB..GIB + 512 * KIB,
            1025 * MIB..1025 * MIB + 512 * KIB,
            1028 * MIB..1028 * MIB + 512 * KIB,
            2 * GIB - MIB..2 * GIB
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn stale_ranges_are_ascending_sectors_beyond_the_image(image in any::<u64>(), disk in any::<u64>(), large in any::<bool>()) {
        let sector = if large { 4096 } else { 512 };
        let mut before = image;
        for range in stale_ranges(image, disk, sector, &[]) {
            prop_assert!(range.start >= before && range.start < range.end && range.end <= disk);
            prop_assert_eq!((range.start | range.end) % u64::from(sector), 0);
            before = range.end + 1;
        }
    }

    #[test]
    fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 512), size in any::<u64>(), exfat in any::<bool>()) {
        let _ = recognise(
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
