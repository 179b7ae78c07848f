//! Files that are not disk images, incomplete images, disks with old signatures, and systems
//! without free threads or memory: bty must never report success wrongly.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use bty::flash::{FlashOptions, FlashPlan};
use bty::image::OpenOptions;
use bty::testing::{Faults, MemoryHost};
use bty::{CancelToken, Client, DiskHost, ErrorKind, Event, Image, Phase};
use bty_tests::command::{Outcome, bty, bty_on_terminal, bty_path, tool};
use bty_tests::disk::faulty_disk;
use bty_tests::images::{disk_image, filter, gpt_image, write};
use bty_tests::loops::{LoopDisk, has_root};
use bty_tests::pattern;

const MIB: usize = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open(path: &Path) -> bty::Result<Image> {
    Image::open(&Client::default(), text(path), &OpenOptions::default(), &CancelToken::new())
}

/// Flashes to a new file in `dir`. If that is refused, checks that the file does not exist.
fn flash_to_new(image: &Path, options: &[&str]) -> (Outcome, PathBuf) {
    let new = image.with_extension("new");
    let _ = fs::remove_file(&new);
    let outcome =
        bty(&[&["flash", text(image), text(&new), "--create", "--yes"], options].concat());
    (outcome, new)
}

#[test]
fn text_is_refused_with_what_it_looks_like() {
    let dir = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 6] = [
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\n\
                      size 325058560\n",
        ),
        ("missing", b"404: Not Found"),
        ("redirect", b"Found. Redirecting to https://objects.example/a.img"),
        (
            "signature",
            b"-----BEGIN PGP SIGNATURE-----\n\niQIzBAABCAAdFiEE\n=abcd\n\
                        -----END PGP SIGNATURE-----\n",
        ),
        ("sums", b"0f5e2b4cb1dc0c5e2b4cb1dc0c5e2b4cb1dc0c5e2b4cb1dc0c5e2b4cb1dc0c5e  a.img\n"),
        ("page", b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"),
    ];
    let mut said = Vec::new();
    for (name, bytes) in files {
        for (name, bytes) in [
            (name.to_owned(), bytes.to_vec()),
            (format!("{name}.gz"), filter(&["gzip", "-c"], bytes)),
        ] {
            let (outcome, new) = flash_to_new(&write(dir.path(), &name, &bytes), &[]);
            let outcome = outcome.expect(4);
            assert!(!new.exists());
            said.push(outcome.stderr.replace(text(dir.path()), "DIR"));
        }
    }
    insta::assert_snapshot!(said.concat(), @r#"
    error: examining DIR/pointer: this is a Git LFS pointer, which only names the image, not a disk image
     next: fetch the image itself: git lfs pull
    error: examining DIR/pointer.gz: this is a Git LFS pointer, which only names the image inside gzip, not a disk image
     next: fetch the image itself: git lfs pull
    error: examining DIR/missing: this is text that begins with "404: Not Found", not a disk image
     next: the download may have failed: look at the file, and fetch it again
    error: examining DIR/missing.gz: this is text that begins with "404: Not Found" inside gzip, not a disk image
     next: the download may have failed: look at the file, and fetch it again
    error: examining DIR/redirect: this is text that begins with "Found. Redirecting to https://objects.ex…", not a disk image
     next: the download may have failed: look at the file, and fetch it again
    error: examining DIR/redirect.gz: this is text that begins with "Found. Redirecting to https://objects.ex…" inside gzip, not a disk image
     next: the download may have failed: look at the file, and fetch it again
    error: examining DIR/signature: this is a signature or a key, not a disk image
     next: flash the file that was signed; this one is for checking it
    error: examining DIR/signature.gz: this is a signature or a key inside gzip, not a disk image
     next: flash the file that was signed; this one is for checking it
    error: examining DIR/sums: this is a list of checksums, not a disk image
     next: flash an image that it lists, and give the digest of that image; --sha256 gives the digest
    error: examining DIR/sums.gz: this is a list of checksums inside gzip, not a disk image
     next: flash an image that it lists, and give the digest of that image; --sha256 gives the digest
    error: examining DIR/page: this is a web page or other text, not a disk image
     next: the download may have failed: look at the file, and fetch it again
    error: examining DIR/page.gz: this is a web page or other text inside gzip, not a disk image
     next: the download may have failed: look at the file, and fetch it again
    "#);
}

/// The header of a cpio archive with checksums whose first member is `name`.
fn cpio(name: &str) -> Vec<u8> {
    let fields = ["00000001", "000081a4"].concat() + &"0".repeat(8 * 9);
    let header = format!("070702{fields}{:08x}{:08x}", name.len() + 1, 0);
    let mut bytes = header.into_bytes();
    bytes.extend([name.as_bytes(), &[0; 100_000]].concat());
    bytes
}

#[test]
fn what_is_packed_in_another_way_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk_image(2 * MIB);
    let raw = write(dir.path(), "disk.img", &disk);
    let here = text(dir.path());
    let headed = |magic: &[u8]| [magic, &pattern(100_000)].concat();
    let fixed = dir.path().join("fixed.vhd");
    tool(&[
        "qemu-img",
        "convert",
        "-O",
        "vpc",
        "-o",
        "subformat=fixed,force_size",
        text(&raw),
        text(&fixed),
    ]);
    let mut dmg = disk.clone();
    dmg.extend([b"koly".as_slice(), &[0; 508]].concat());
    let files = [
        ("a.lzma", filter(&["xz", "--format=lzma", "-0c"], &disk)),
        ("a.lz", filter(&["lzip", "-0c"], &disk)),
        ("a.lzo", filter(&["lzop", "-c"], &disk)),
        ("a.Z", headed(b"\x1f\x9d\x90")),
        ("a.swu", cpio("sw-description")),
        ("crc.cpio", cpio("disk.img")),
        ("rockchip.img", headed(b"RKFW\x66\0")),
        ("allwinner.img", headed(b"IMAGEWTY")),
        ("partclone.img", headed(b"partclone-image\0")),
        ("payload.bin", headed(b"CrAU\0\0\0\0\0\0\0\x02")),
        ("boot.img", headed(b"ANDROID!")),
        ("fixed.vhd", fs::read(&fixed).unwrap()),
        ("a.dmg", dmg),
    ];
    let mut said = Vec::new();
    for (name, bytes) in files {
        let (outcome, new) = flash_to_new(&write(dir.path(), name, &bytes), &["--raw"]);
        assert!(!new.exists());
        said.push(outcome.expect(4).stderr.replace(here, "DIR"));
    }
    insta::assert_snapshot!(said.concat(), @r"
    error: examining DIR/a.lzma: this is lzma data, not a disk image
     next: unpack it (xz -d --format=lzma) and flash what is inside
    error: examining DIR/a.lz: this is lzip data, not a disk image
     next: unpack it (lzip -d) and flash what is inside
    error: examining DIR/a.lzo: this is lzop data, not a disk image
     next: unpack it (lzop -d) and flash what is inside
    error: examining DIR/a.Z: this is compress data (.Z), not a disk image
     next: unpack it (gzip -d) and flash what is inside
    error: examining DIR/a.swu: this is an update for SWUpdate (swu), not a disk image
     next: install it with swupdate, or unpack it: cpio -id < FILE
    error: examining DIR/crc.cpio: this is a cpio archive, not a disk image
     next: unpack it (cpio -id < FILE) and flash the image inside
    error: examining DIR/rockchip.img: this is Rockchip firmware (RKFW), not a disk image
     next: it is for the flash memory of a board: use the vendor's own tool, or look for an SD card image
    error: examining DIR/allwinner.img: this is Allwinner firmware (IMAGEWTY), not a disk image
     next: it is for the flash memory of a board: use the vendor's own tool, or look for an SD card image
    error: examining DIR/partclone.img: this is a partclone backup of a partition, not a disk image
     next: restore it with partclone or Clonezilla
    error: examining DIR/payload.bin: this is an Android or ChromeOS update (payload.bin), not a disk image
     next: unpack it with payload-dumper
    error: examining DIR/boot.img: this is an Android boot image, not a disk image
     next: it is for the flash memory of a device: use the device's own tool (fastboot, for example)
    error: examining DIR/fixed.vhd: this is a Virtual PC disk (vhd) of fixed size, not a disk image
     next: convert it (qemu-img convert -f vpc -O raw IN OUT), or cut its footer off a copy (truncate -s -512 COPY)
    error: examining DIR/a.dmg: this is an Apple disk image (dmg), not a disk image
     next: convert it: dmg2img IN OUT
    ");
}

#[test]
fn what_shows_no_sign_of_a_disk_is_written_only_when_somebody_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "noise.img", &pattern(2 * MIB));
    let (outcome, new) = flash_to_new(&image, &[]);
    let outcome = outcome.expect(3);
    assert!(outcome.stderr.contains("--raw"), "{}", outcome.stderr);
    assert!(!new.exists());
    let (outcome, new) = flash_to_new(&image, &["--raw"]);
    let _ = outcome.expect(0);
    assert!(fs::read(&new).unwrap() == pattern(2 * MIB));

    // the person must type another word than usual
    let target = write(dir.path(), "target", &vec![0; 4 * MIB]);
    let arguments = ["flash", text(&image), text(&target)];
    let _ = bty_on_terminal(&arguments, "yes\r", &[]).expect(130);
    assert!(fs::read(&target).unwrap() == vec![0; 4 * MIB]);
    let _ = bty_on_terminal(&arguments, "raw\r", &[]).expect(0);
    assert!(fs::read(&target).unwrap().starts_with(&pattern(2 * MIB)));
}

#[test]
fn file_systems_and_boot_sectors_are_images_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, command: &[&str]| {
        let path = dir.path().join(name);
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        tool(&[command, &[text(&path)]].concat());
        path
    };
    let mut images = vec![
        (made("ext4", &["mkfs.ext4", "-q"]), Some("ext4")),
        (made("fat", &["mkfs.vfat"]), Some("vfat")),
        (made("swap", &["mkswap", "-q"]), Some("swap")),
        (write(dir.path(), "boot", &disk_image(MIB)), None),
        (write(dir.path(), "table", &gpt_image(16 * MIB, 512)), None),
    ];
    let packed = dir.path().join("ext4.zst");
    tool(&["zstd", "-q", text(&images[0].0), "-o", text(&packed)]);
    images.push((packed, Some("ext4")));
    for (path, kind) in images {
        let image = open(&path).unwrap();
        let found = image.info().content.as_ref().map(|content| content.kind.as_str());
        assert_eq!((image.info().is_recognized, found), (true, kind), "{}", path.display());
        let plan = FlashPlan::new(image.info(), Vec::new(), FlashOptions::default());
        assert_eq!(plan.validate().len(), 1, "only the target is missing: {:?}", plan.validate());
    }
}

#[test]
fn partitions_of_the_old_table_do_not_come_back_behind_a_smaller_image() {
    const SIZE: u64 = 96 << 20;
    let Some(disk) = LoopDisk::new(SIZE, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file_system = dir.path().join("ext4");
    tool(&["mkfs.ext4", "-q", "-L", "OLDDATA", text(&file_system), "16M"]);
    let script =
        "label: gpt\nstart=41MiB,size=16MiB,type=linux\nstart=70MiB,size=4MiB,type=linux\n";
    tool(&["sh", "-c", &format!("printf '{script}' | sfdisk -q --no-reread {}", disk.path())]);
    disk.put(&fs::read(&file_system).unwrap(), 41 << 20);
    // RAID metadata at the end of a partition
    disk.put(b"\xfc\x4e\x2b\xa9\x01\0\0\0", (74 << 20) - 8192);
    let image = write(dir.path(), "a.img.gz", &filter(&["gzip", "-1c"], &gpt_image(16 * MIB, 512)));
    let report = bty(&["flash", text(&image), disk.path(), "--yes", "--json"]).expect(0).last();
    assert!(report["targets"][0]["wiped_bytes"].as_u64().unwrap() >= 4 << 20);
    let content = disk.content();
    assert_eq!(content[(41 << 20) + 1080..][..2], [0, 0], "ext4 is still there");
    assert_eq!(content[(74 << 20) - 8192..][..4], [0; 4], "the RAID is still there");
    // the kernel looks here if the new system creates a partition at this offset
    let probed = Command::new("blkid")
        .args(["--probe", "--offset", "42991616", disk.path()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&probed.stdout), "", "blkid finds something");
}

#[test]
fn a_backup_gpt_that_was_cut_off_is_made_again_and_wanted_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gpt_image(16 * MIB, 512);
    let image = write(dir.path(), "cut.img", &whole[..10 * MIB]);
    let disk = dir.path().join("disk");
    let disk = text(&disk);
    let done = bty(&["flash", text(&image), disk, "--create=16M", "--yes"]).expect(0);
    assert!(done.stderr.contains("done"), "{}", done.stderr);
    let differs = bty(&["verify", text(&image), disk, "--fix-gpt"]).expect(5);
    assert!(differs.stderr.contains("first difference at offset 16760320"), "{}", differs.stderr);

    let report =
        bty(&["flash", text(&image), disk, "--fix-gpt", "--yes", "--json"]).expect(0).last();
    assert_eq!(report["targets"][0]["backup_gpt_offset"], 16 * MIB as u64 - 33 * 512);
    let checked = tool(&["sgdisk", "--verify", disk]);
    assert!(checked.contains("No problems found"), "{checked}");
    let _ = bty(&["verify", text(&image), disk, "--fix-gpt"]).expect(0);
    // a complete image has it already
    let whole = write(dir.path(), "whole.img", &whole);
    let done = bty(&["flash", text(&whole), disk, "--fix-gpt", "--yes"]).expect(0);
    assert!(done.stderr.contains("already at the end of the disk"), "{}", done.stderr);
    let _ = bty(&["verify", text(&whole), disk, "--fix-gpt"]).expect(0);
}

#[test]
fn a_packed_image_that_was_cut_before_it_was_packed_gets_the_note_too() {
    let dir = tempfile::tempdir().unwrap();
    let cut = &gpt_image(16 * MIB, 512)[..4 * MIB];
    for tool in
        [["gzip", "-1c"], ["bzip2", "-1c"], ["lz4", "-q1c"], ["zstd", "-q1c"], ["xz", "-0c"]]
    {
        let image = write(dir.path(), tool[0], &filter(&tool, cut));
        let disk = image.with_extension("disk");
        let said =
            bty(&["flash", text(&image), text(&disk), "--create=16M", "--yes"]).expect(0).stderr;
        assert!(
            said.contains("its partition table reaches 5.0 MiB: it may be truncated"),
            "{}: {said}",
            tool[0]
        );
    }
}

#[test]
fn an_image_that_is_written_to_while_it_is_flashed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(8 * MIB);
    for (name, packed) in [("a.img", bytes.clone()), ("a.img.gz", filter(&["gzip", "-1c"], &bytes))]
    {
        for appended in [true, false] {
            let path = write(dir.path(), name, &packed);
            let image = open(&path).unwrap();
            let host = MemoryHost::with(&faulty_disk(16 * MIB, 512, Faults::default()));
            let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
            let change = |event: &Event| {
                if matches!(event, Event::Phase { phase: Phase::Write }) && appended {
                    File::options()
                        .append(true)
                        .open(&path)
                        .unwrap()
                        .write_all(&[7; 4096])
                        .unwrap();
                } else if matches!(event, Event::Phase { phase: Phase::Write }) {
                    File::options()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .write_all_at(&packed[..1], 0)
                        .unwrap();
                }
            };
            // the file system may record times in clock ticks
            std::thread::sleep(std::time::Duration::from_millis(20));
            let error = plan.execute(&image, &host, &change, &CancelToken::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source, "{name}: {error}");
            assert!(format!("{error:#}").contains("changed while it was read"), "{name}: {error}");
        }
    }
}

#[test]
fn a_file_that_holds_an_image_or_an_archive_is_overwritten_only_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(2 * MIB);
    let image = write(dir.path(), "small.img", &bytes);
    let qcow2 = dir.path().join("machine.qcow2");
    tool(&["qemu-img", "create", "-q", "-f", "qcow2", text(&qcow2), "64M"]);
    fs::OpenOptions::new().write(true).open(&qcow2).unwrap().set_len(8 << 20).unwrap();
    let mut zst = filter(&["zstd", "-q1c"], &disk_image(MIB));
    zst.resize(4 * MIB, 0);
    let files = [
        ("a qcow2 image", qcow2),
        ("zstd data", write(dir.path(), "my.img.zst", &zst)),
        ("a disk image", write(dir.path(), "mine.img", &gpt_image(8 * MIB, 512))),
    ];
    for (holds, file) in files {
        let before = fs::read(&file).unwrap();
        let refused = bty(&["flash", text(&image), text(&file), "--yes"]).expect(3);
        assert!(refused.stderr.contains(&format!("holds {holds}")), "{}", refused.stderr);
        assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);
        assert!(fs::read(&file).unwrap() == before, "{holds} was written to");
        let _ = bty(&["flash", text(&image), text(&file), "--yes", "--overwrite"]).expect(0);
        assert!(fs::read(&file).unwrap().starts_with(&bytes));
        // bty may overwrite a file that it has written
        let _ = bty(&["flash", text(&image), text(&file), "--yes"]).expect(0);
    }
    let made = dir.path().join("made.img");
    let _ = bty(&["flash", text(&image), text(&made), "--create=8M", "--yes"]).expect(0);
    let _ = bty(&["flash", text(&image), text(&made), "--yes"]).expect(0);
    // but not an archive that replaced it
    fs::write(&made, &zst).unwrap();
    let _ = bty(&["flash", text(&image), text(&made), "--yes"]).expect(3);
}

#[test]
fn a_file_of_any_size_is_a_disk_of_whole_sectors() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(500_000);
    let image = write(dir.path(), "a.img", &bytes);
    for size in [1_000_003, 4 * MIB as u64 + 1, 4 * MIB as u64 + 512, 4 * MIB as u64 + 2049] {
        let file = dir.path().join(size.to_string());
        let last = vec![0xa5; 511];
        File::create(&file).unwrap().set_len(size).unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .write_all_at(&last[..(size % 512) as usize], size & !511)
            .unwrap();
        let _ = bty(&["flash", text(&image), text(&file), "--yes"]).expect(0);
        let _ = bty(&["verify", text(&image), text(&file)]).expect(0);
        let content = fs::read(&file).unwrap();
        assert!(content.starts_with(&bytes) && content.len() as u64 == size);
        assert!(
            content.ends_with(&last[..(size % 512) as usize]),
            "what is no whole sector was written to"
        );
    }
    // a file is smaller than a sector
    let tiny = write(dir.path(), "tiny", &[0xa5; 100]);
    let refused = bty(&["flash", text(&image), text(&tiny), "--yes"]).expect(3);
    assert!(!refused.stderr.contains("cable"), "{}", refused.stderr);
}

/// Creates an image in each format.
fn every_format(dir: &Path) -> Vec<PathBuf> {
    let disk = disk_image(12 * MIB);
    let raw = write(dir, "disk.img", &disk);
    let qcow2 = dir.join("disk.qcow2");
    tool(&["qemu-img", "convert", "-c", "-O", "qcow2", text(&raw), text(&qcow2)]);
    let zst = dir.join("disk.zst");
    tool(&["pzstd", "-qf1", "-p", "2", text(&raw), "-o", text(&zst)]);
    let packed = [["gzip", "-1c"], ["bzip2", "-1c"], ["lz4", "-q1c"]]
        .map(|tool| write(dir, tool[0], &filter(&tool, &disk)));
    let xz = write(dir, "xz", &filter(&["xz", "-0c", "-T2", "--block-size=1MiB"], &disk));
    let mut all = vec![raw, qcow2, zst, xz];
    all.extend(packed);
    all
}

/// Runs `bty flash` with resource limits, and returns exit code and output. It must exit within a
/// minute.
fn flash_limited(image: &Path, limit: &str, is_nobody: bool) -> (i32, String) {
    let new = image.with_extension("limited");
    let _ = fs::remove_file(&new);
    let nobody: &[&str] = if is_nobody {
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    } else {
        &["env"]
    };
    let line = format!(
        "ulimit {limit}; exec timeout -s KILL 60 '{}' flash '{}' '{}' --create --yes",
        bty_path().display(),
        image.display(),
        new.display()
    );
    let output =
        Command::new(nobody[0]).args(&nobody[1..]).args(["bash", "-c", &line]).output().unwrap();
    let outcome = Outcome::from(output);
    (outcome.code, outcome.stderr)
}

#[test]
fn a_system_that_gives_no_threads_or_no_memory_gets_an_exit_code() {
    if !has_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for image in every_format(dir.path()) {
        let (mut threads, mut memory) = (Vec::new(), Vec::new());
        // a flash needs about 8 threads at least
        for limit in [4, 8, 9, 10, 11, 12, 40] {
            let (code, said) = flash_limited(&image, &format!("-u {limit}"), true);
            assert!(
                [0, 1, 4, 6].contains(&code),
                "{} with {limit} threads: {code} {said}",
                image.display()
            );
            assert!(
                code == 0
                    || said.contains("Resource temporarily unavailable")
                    || said.contains("no thread"),
                "{said}"
            );
            threads.push(code);
        }
        for limit in [100_000, 150_000, 300_000, 2_000_000] {
            let (code, said) = flash_limited(&image, &format!("-v {limit}"), false);
            // a program ends at once if one of its small allocations fails, as in a power cut
            let is_out_of_memory = code == -1 && said.contains("memory allocation of");
            assert!(
                [0, 1, 4, 6].contains(&code) || is_out_of_memory,
                "{} with {limit} KiB: {code} {said}",
                image.display()
            );
            memory.push(code);
        }
        assert_eq!(
            (threads.last(), memory.last()),
            (Some(&0), Some(&0)),
            "{}: with enough it works",
            image.display()
        );
    }
}

#[test]
fn scripts_and_plans_say_raw_as_an_option_or_with_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let world = "[[disks]]\npath = \"/dev/sda\"\nsize = \"64G\"\nserial = \"S1\"\n\
                 [[images]]\nsrc = \"/images/noise.img\"\ndisk_size = \"1G\"\nrecognized = false\n";
    let world = write(dir.path(), "world.toml", world.as_bytes());
    let run = |flash: &str| {
        let script = write(dir.path(), "a.rhai", flash.as_bytes());
        bty(&["run", text(&script), "--dry-run", "--world", text(&world)])
    };
    let refused = run("flash(\"/images/noise.img\", \"serial:S1\");").expect(3);
    assert!(
        refused.stderr.contains("no partition table, file system or boot sector"),
        "{}",
        refused.stderr
    );
    let _ = run("flash(\"/images/noise.img\", \"serial:S1\", #{ raw: true });").expect(0);
    let _ = run("flash(#{ src: \"/images/noise.img\", raw: true }, \"serial:S1\");").expect(0);
    let _ = run("flash(#{ src: \"/images/noise.img\", raw: false }, \"serial:S1\");").expect(3);
}
