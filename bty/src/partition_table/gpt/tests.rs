use super::*;
use crate::partition_table::over;
use crate::size::MIB;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

/// A sparse disk of `bytes` with an ESP and a second partition up to the end, made by sgdisk.
fn make(path: &Path, bytes: u64, last_end: &str) -> File {
    let file =
        File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    let made = Command::new("sgdisk")
        .args(["-a", "1", "-n", "1:2048:+1M", "-t", "1:ef00", "-c", "1:EFI system", "-n"])
        .arg(format!("2:6144:{last_end}"))
        .arg(path)
        .output()
        .expect("sgdisk (package gdisk)");
    assert!(made.status.success(), "{made:?}");
    file
}

fn head(file: &File) -> Vec<u8> {
    let mut head = vec![0; MIB as usize];
    file.read_exact_at(&mut head, 0).unwrap();
    head
}

/// The problems that sgdisk reports.
fn verify(path: &Path) -> String {
    let output = Command::new("sgdisk").arg("-v").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Reads from a disk in `file`.
fn on(file: &File) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
    |offset, buffer| file.read_exact_at(buffer, offset).is_ok()
}

/// A read function that always fails.
fn nothing(_: u64, _: &mut [u8]) -> bool {
    false
}

fn relocate(path: &Path, file: &File, disk_bytes: u64) -> Option<RelocatedBackup> {
    file.set_len(disk_bytes).unwrap();
    let mut head = head(file);
    let moved = relocate_backup(&mut head, &mut on(file), disk_bytes, 512).unwrap()?;
    assert_eq!(moved.backup_offset + moved.backup.len() as u64, disk_bytes / 512 * 512, "{path:?}");
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&moved.backup, moved.backup_offset).unwrap();
    Some(moved)
}

#[test]
fn reads_what_sgdisk_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let file = make(&dir.path().join("disk"), 16 * MIB, "0");
    let gpt = read(&head(&file), 512).unwrap().unwrap();
    assert_eq!(gpt.alternate_lba, 16 * MIB / 512 - 1);
    let esp = esp(&gpt).unwrap();
    assert_eq!(
        (esp.number, esp.first_lba, esp.sectors(), esp.name.as_str()),
        (1, 2048, 2048, "EFI system")
    );
    assert_eq!(esp.type_guid.to_string(), ESP);
    assert_eq!(gpt.partitions[1].last_lba, 16 * MIB / 512 - 34);
    assert_eq!(detect_sector_bytes(&head(&file)), Some(512));
}

#[test]
fn sgdisk_accepts_the_table_after_every_growth() {
    let dir = tempfile::tempdir().unwrap();
    for grown in [512, 33 * 512, 34 * 512, 34 * 512 + 511, 64 * MIB] {
        let path = dir.path().join(grown.to_string());
        let file = make(&path, 16 * MIB, "0");
        assert!(relocate(&path, &file, 16 * MIB + grown).is_some());
        let said = verify(&path);
        assert!(said.contains("No problems found"), "grown by {grown}: {said}");
        assert!(
            relocate(&path, &file, 16 * MIB + grown).is_none(),
            "the second time there is nothing to do"
        );
    }
}

#[test]
fn covers_a_disk_beyond_the_reach_of_the_mbr() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "0");
    assert!(relocate(&path, &file, 3 << 40).is_some());
    assert_eq!(head(&file)[446 + 12..446 + 16], [0xff; 4]);
    let said = verify(&path);
    assert!(said.contains("No problems found"), "{said}");
}

#[test]
fn does_nothing_on_a_disk_of_the_images_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "0");
    let before = head(&file);
    assert!(relocate(&path, &file, 16 * MIB).is_none());
    assert_eq!(head(&file), before);
}

#[test]
fn creates_a_missing_backup_on_a_disk_of_the_images_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "8191");
    file.set_len(10 * MIB).unwrap();
    file.set_len(16 * MIB).unwrap();
    let image_head = head(&file);
    assert!(verify(&path).contains("roblem"), "{}", verify(&path));
    let expected = |disk: &File| {
        expected_backup(&mut image_head.clone(), &mut on(disk), 16 * MIB, 512).unwrap()
    };
    assert!(expected(&file).is_some(), "a comparison wants it");
    let moved = relocate(&path, &file, 16 * MIB).expect("it is not there");
    assert!(verify(&path).contains("No problems found"), "{}", verify(&path));
    assert_eq!(expected(&file), Some(moved), "the backup that was made is accepted");
    assert!(relocate(&path, &file, 16 * MIB).is_none(), "the second time there is nothing to do");
}

#[test]
fn moves_the_backup_inward_but_never_into_a_partition() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "8191");
    // 8192 sectors are used, 33 more are needed
    assert!(relocate(&path, &file, (8192 + 33) * 512).is_some());
    let said = verify(&path);
    assert!(said.contains("No problems found"), "{said}");
    let error =
        relocate_backup(&mut head(&file), &mut nothing, (8192 + 32) * 512, 512).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").contains("partition 2 ends at LBA 8191"), "{error}");
}

#[test]
fn leaves_a_hybrid_mbr_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "0");
    assert!(Command::new("sgdisk").args(["-h", "1"]).arg(&path).output().unwrap().status.success());
    let mut bytes = head(&file);
    let before = bytes[..512].to_vec();
    assert!(relocate_backup(&mut bytes, &mut nothing, 32 * MIB, 512).unwrap().is_some());
    assert_eq!(bytes[..512], before);
}

#[test]
fn falls_back_to_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let file = make(&path, 16 * MIB, "0");
    // a byte of the random GUID of the disk: inverted, because it could be any value already
    let mut byte = [0];
    file.read_exact_at(&mut byte, 512 + 60).unwrap();
    file.write_all_at(&[!byte[0]], 512 + 60).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(read(&bytes, 512).unwrap_err().kind(), ErrorKind::Format);
    assert_eq!(detect_sector_bytes(&bytes), None);
    let gpt = find(&mut over(&bytes), bytes.len() as u64, 512).unwrap();
    assert_eq!((gpt.own_lba, gpt.partitions.len()), (16 * MIB / 512 - 1, 2));
}

#[test]
fn notices_a_changed_entry() {
    let dir = tempfile::tempdir().unwrap();
    let file = make(&dir.path().join("disk"), 16 * MIB, "0");
    let mut bytes = head(&file);
    bytes[1024 + 40] ^= 1;
    assert!(read(&bytes, 512).unwrap_err().to_string().contains("checksum of its entries"));
}

/// Converts a table that sgdisk made for sectors of 512 bytes to sectors of 4096 bytes.
fn for_4096(bytes512: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MIB as usize];
    bytes[..512].copy_from_slice(&bytes512[..512]);
    let mut header = bytes512[512..512 + 92].to_vec();
    header[32..40].copy_from_slice(&4095u64.to_le_bytes());
    header[40..48].copy_from_slice(&6u64.to_le_bytes());
    header[48..56].copy_from_slice(&4090u64.to_le_bytes());
    let mut entries = bytes512[1024..1024 + 16384].to_vec();
    for (entry, first, last) in [(0, 256u64, 511u64), (1, 768, 4090)] {
        entries[entry * 128 + 32..entry * 128 + 40].copy_from_slice(&first.to_le_bytes());
        entries[entry * 128 + 40..entry * 128 + 48].copy_from_slice(&last.to_le_bytes());
    }
    header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
    seal(&mut header);
    bytes[4096..4096 + 92].copy_from_slice(&header);
    bytes[8192..8192 + 16384].copy_from_slice(&entries);
    bytes
}

#[test]
fn relocates_with_sectors_of_4096_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = make(&dir.path().join("disk"), 16 * MIB, "0");
    let mut bytes = for_4096(&head(&file));
    assert_eq!(detect_sector_bytes(&bytes), Some(4096));
    assert!(read(&bytes, 512).unwrap().is_none());
    assert!(relocate_backup(&mut bytes.clone(), &mut nothing, 16 * MIB, 4096).unwrap().is_some());
    // half a sector more than whole sectors
    let moved = relocate_backup(&mut bytes, &mut nothing, 32 * MIB + 2048, 4096).unwrap().unwrap();
    assert_eq!(moved.backup.len(), 5 * 4096);
    assert_eq!(moved.backup_offset, 32 * MIB - 5 * 4096);

    let mut disk = vec![0; 32 * MIB as usize];
    disk[..bytes.len()].copy_from_slice(&bytes);
    disk[moved.backup_offset as usize..].copy_from_slice(&moved.backup);
    let primary = read(&disk, 4096).unwrap().unwrap();
    assert_eq!(primary.alternate_lba, 8191);
    disk[4096] = 0;
    let backup = find(&mut over(&disk), disk.len() as u64, 4096).unwrap();
    assert_eq!((backup.own_lba, backup.alternate_lba, backup.entries_lba), (8191, 1, 8187));
    assert_eq!(backup.partitions.len(), 2);
    assert_eq!(disk[446 + 12..446 + 16], 8191u32.to_le_bytes());
}

#[test]
fn refuses_a_disk_without_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = make(&dir.path().join("disk"), 16 * MIB, "0");
    for bytes in [0, 511, 512, 1024, MIB - 512, MIB, MIB + 32 * 512, MIB + 33 * 512] {
        let error = relocate_backup(&mut head(&file), &mut nothing, bytes, 512).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn survives_any_header(
        fields in proptest::collection::vec(any::<u8>(), 84),
        small in any::<bool>(),
        disk in any::<u64>(),
    ) {
        let mut bytes = vec![0; 40960];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[450] = 0xee;
        bytes[512..520].copy_from_slice(SIGNATURE);
        bytes[520..604].copy_from_slice(&fields);
        bytes[524..528].copy_from_slice(&92u32.to_le_bytes());
        bytes[536..544].copy_from_slice(&1u64.to_le_bytes());
        if small {
            bytes[584..592].copy_from_slice(&2u64.to_le_bytes());
            bytes[592..600].copy_from_slice(&[4, 0, 0, 0, 128, 0, 0, 0]);
            bytes[1024..1024 + 84].copy_from_slice(&fields);
            let crc = crc32fast::hash(&bytes[1024..1024 + 512]);
            bytes[600..604].copy_from_slice(&crc.to_le_bytes());
        }
        seal(&mut bytes[512..604]);
        let _ = read(&bytes, 512);
        let _ = find(&mut over(&bytes), disk, 512);
        let _ = relocate_backup(&mut bytes, &mut nothing, disk, 512);
    }

    #[test]
    fn survives_any_bytes(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        disk in any::<u64>(),
    ) {
        let _ = relocate_backup(&mut bytes, &mut nothing, disk, 512);
        let _ = detect_sector_bytes(&bytes);
        let _ = crate::partition_table::read(&mut over(&bytes), disk, 4096);
    }
}
