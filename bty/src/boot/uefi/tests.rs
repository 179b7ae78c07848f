use super::*;
use std::process::Command;

const ESP_GUID: &str = "00112233-4455-6677-8899-AABBCCDDEEFF";

fn table(type_code: &str) -> Gpt {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(16 << 20).unwrap();
    let guid = format!("2:{ESP_GUID}");
    let args = ["-n", "2:2048:+1M", "-t", type_code, "-u", &guid];
    let made =
        Command::new("sgdisk").args(args).arg(&path).output().expect("sgdisk (package gdisk)");
    assert!(made.status.success(), "{made:?}");
    gpt::read(&fs::read(path).unwrap()[..1 << 20], 512).unwrap().unwrap()
}

fn variable(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}-{GLOBAL}"))
}

fn put(dir: &Path, name: &str, label: &str) {
    let mut bytes = vec![7, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    bytes.extend(label.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    fs::write(variable(dir, name), bytes).unwrap();
}

#[test]
fn the_load_option_is_what_the_specification_says() {
    let table = table("2:ef00");
    let option = load_option(gpt::esp(&table).unwrap(), "Ab", r"\E");
    #[rustfmt::skip]
    let expected = [
        1, 0, 0, 0,                                     // active
        56, 0,                                          // length of the path: 42 + 10 + 4
        b'A', 0, b'b', 0, 0, 0,                         // description
        4, 1, 42, 0,                                    // hard drive
        2, 0, 0, 0,                                     // partition 2
        0, 8, 0, 0, 0, 0, 0, 0,                         // from LBA 2048
        0, 8, 0, 0, 0, 0, 0, 0,                         // 2048 sectors
        0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, // partition GUID, mixed-endian
        0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
        2, 2,                                           // GPT, GUID
        4, 4, 10, 0,                                    // file path
        b'\\', 0, b'E', 0, 0, 0,
        0x7f, 0xff, 4, 0,                               // end
    ];
    assert_eq!(option, expected);
}

#[test]
fn replaces_its_own_entry_and_leaves_all_others() {
    let table = table("2:ef00");
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    put(dir, "Boot0000", "debian");
    put(dir, "Boot0001", LABEL);
    put(dir, "Boot0002", "PXE");
    put(dir, "Boot000A", LABEL);
    put(dir, "Boot0003", "bty flashed by hand");
    fs::write(variable(dir, "BootOrder"), [7, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    fs::write(variable(dir, "BootNext"), [7, 0, 0, 0, 2, 0]).unwrap();
    let before = fs::read(variable(dir, "Boot0000")).unwrap();
    for _ in 0..2 {
        let set = boot_loader_next(dir, Some(&table), LABEL, fallback_loader().unwrap()).unwrap();
        assert_eq!(set, BootNext::Set { entry: 0xFF });
        assert_eq!(fs::read(variable(dir, "BootNext")).unwrap(), [7, 0, 0, 0, 0xFF, 0]);
        assert!(!variable(dir, "Boot000A").exists());
    }
    let ours = fs::read(variable(dir, "Boot00FF")).unwrap();
    assert_eq!(ours[..4], ATTRIBUTES);
    assert_eq!(description(&ours).as_deref(), Some(LABEL));
    assert_eq!(fs::read(variable(dir, "Boot0000")).unwrap(), before);
    assert!(variable(dir, "Boot0003").exists());
    assert_eq!(fs::read(variable(dir, "BootOrder")).unwrap(), [7, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(fs::read_dir(dir).unwrap().count(), 6);
}

#[test]
fn does_nothing_without_uefi_or_system_partition() {
    let esp = table("2:ef00");
    let other = table("2:8300");
    let dir = tempfile::tempdir().unwrap();
    let reason = |dir: &Path, table| match boot_loader_next(dir, table, LABEL, r"\x").unwrap() {
        BootNext::Skipped { reason } => reason,
        set => panic!("{set:?}"),
    };
    assert!(reason(&dir.path().join("missing"), Some(&esp)).contains("UEFI"));
    assert!(reason(dir.path(), Some(&esp)).contains("UEFI"));
    put(dir.path(), "Boot0000", LABEL);
    assert!(reason(dir.path(), Some(&other)).contains("no EFI system partition"));
    assert!(reason(dir.path(), None).contains("no EFI system partition"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_disk_that_was_flashed_last_is_booted_next_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let reason = || match repeat_boot_next(dir).unwrap() {
        BootNext::Skipped { reason } => reason,
        set => panic!("{set:?}"),
    };
    assert!(reason().contains("UEFI"));
    put(dir, "Boot0000", "debian");
    assert!(reason().contains("no boot entry of a disk that bty flashed"));
    put(dir, "Boot00FE", LABEL);
    assert_eq!(repeat_boot_next(dir).unwrap(), BootNext::Set { entry: 0xFE });
    assert_eq!(fs::read(variable(dir, "BootNext")).unwrap(), [7, 0, 0, 0, 0xFE, 0]);
    // the variable is still there: the firmware has not deleted it
    assert!(reason().contains("ignored the last BootNext"));
}

#[test]
fn survives_odd_variables() {
    let table = table("2:ef00");
    let dir = tempfile::tempdir().unwrap();
    fs::write(variable(dir.path(), "Boot0000"), []).unwrap();
    fs::write(variable(dir.path(), "Boot0001"), [7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]).unwrap();
    fs::write(variable(dir.path(), "BootXYZ0"), [7]).unwrap();
    fs::write(dir.path().join("Boot0002-11111111-93ca-11d2-aa0d-00e098032b8c"), [7]).unwrap();
    let set = boot_loader_next(dir.path(), Some(&table), LABEL, r"\x").unwrap();
    assert_eq!(set, BootNext::Set { entry: 0xFF });
}

#[test]
fn says_which_variable_could_not_be_written() {
    let table = table("2:ef00");
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "Boot0000", "debian");
    fs::create_dir(variable(dir.path(), "BootNext")).unwrap();
    let error = boot_loader_next(dir.path(), Some(&table), LABEL, r"\x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Host);
    assert!(format!("{error:#}").contains("BootNext"), "{error}");
}
