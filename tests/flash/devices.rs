//! End to end with real parts: the command, loop devices, nginx, a registry.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use bty::Digest;
use bty_tests::command::{Outcome, bty, bty_command, tool};
use bty_tests::images::{disk_image, filter, gpt_image, write};
use bty_tests::loops::{LoopDisk, Mount, has_root};
use bty_tests::nginx::Nginx;
use bty_tests::registry::Registry;
use bty_tests::{LIMIT, eventually};
use serde_json::Value;

const MIB: usize = 1 << 20;

fn zst(bytes: &[u8]) -> Vec<u8> {
    filter(&["zstd", "-qc"], bytes)
}

/// Checks that the disk begins with `image`.
fn assert_holds(disk: &LoopDisk, image: &[u8]) {
    assert!(disk.content()[..image.len()] == *image, "{} does not hold the image", disk.path());
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == 0)
}

/// A qcow2 of 32 MiB with 16 MiB of data, and an internal snapshot with 16 MiB of earlier data:
/// half of the file is not needed.
fn qcow2_with_ballast(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let path = dir.join("a.qcow2");
    let path = path.to_str().unwrap();
    tool(&["qemu-img", "create", "-q", "-f", "qcow2", path, "32M"]);
    tool(&["qemu-io", "-c", "write -P 1 0 16M", path]);
    tool(&["qemu-img", "snapshot", "-c", "old", path]);
    tool(&["qemu-io", "-c", "write -P 2 0 16M", path]);
    tool(&["qemu-io", "-c", "write -P 0x55 510 1", "-c", "write -P 0xaa 511 1", path]);
    let raw = dir.join("raw");
    tool(&["qemu-img", "convert", "-O", "raw", path, raw.to_str().unwrap()]);
    (fs::read(path).unwrap(), fs::read(raw).unwrap())
}

#[test]
fn flashes_over_http_and_checks_the_digest() {
    let server = Nginx::start("");
    let image = disk_image(9 * MIB + 4096);
    let archive = zst(&image);
    let url = server.put("a.img.zst", &archive);
    let digest = Digest::of(&archive).to_string();
    for sector in [512, 4096] {
        let Some(disk) = LoopDisk::new(12 << 20, sector) else { return };
        let done =
            bty(&["flash", &url, disk.path(), "--yes", "--sha256", &digest, "--json"]).expect(0);
        assert_holds(&disk, &image);
        let report = done.last();
        assert_eq!(report["source_sha256"], digest);
        assert_eq!(report["is_digest_checked"], true);
        assert_eq!(report["source_bytes"], archive.len());
        let _ = bty(&["verify", &url, disk.path()]).expect(0);
        let wrong = Digest::of(b"another").to_string();
        let failed = bty(&["flash", &url, disk.path(), "--yes", "--sha256", &wrong]).expect(5);
        assert!(
            failed.stderr.contains(&wrong) && failed.stderr.contains(&digest),
            "{}",
            failed.stderr
        );
        assert!(is_zero(&disk.content()[..MIB]));
    }
}

#[test]
fn flashes_from_a_registry() {
    let Some(disk) = LoopDisk::new(8 << 20, 512) else { return };
    let registry = Registry::start();
    let image = disk_image(6 * MIB);
    let layer =
        crate::sources::oci::layer("application/octet-stream", "disk.img.zst", &zst(&image));
    crate::sources::oci::push(&registry, "os/debian:13", &[layer]);
    let reference = format!("oras://{}/os/debian:13", registry.host());
    let done =
        bty(&["flash", &reference, disk.path(), "--yes", "--plain-http", "--json"]).expect(0);
    assert_holds(&disk, &image);
    assert_eq!(done.last()["is_digest_checked"], true, "a registry promises a digest");
}

#[test]
fn fetches_of_a_qcow2_only_what_is_in_use_where_ranges_are_served() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (qcow2, raw) = qcow2_with_ballast(dir.path());
    assert!(qcow2.len() > 32 * MIB);
    let log = dir.path().join("log");
    let server = Nginx::start(&format!("access_log {};", log.display()));
    let url = server.put("a.qcow2", &qcow2);
    let report = bty(&["flash", &url, disk.path(), "--yes", "--json"]).expect(0).last();
    assert_holds(&disk, &raw);
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!((16 << 20..18 << 20).contains(&number("source_bytes")), "{report}");
    assert!(number("skipped_bytes") >= 15 << 20, "{report}");
    // 127.0.0.1 - - [date zone] "GET /a.qcow2 HTTP/1.1" 206 4096 "-" "-"
    let log = fs::read_to_string(log).unwrap();
    let sent = |line: &str| line.split(' ').nth(9).unwrap().parse::<u64>().unwrap();
    let sent: u64 = log.lines().map(sent).sum();
    assert!(sent < 24 << 20, "the server sent {sent} bytes:\n{log}");
    // a digest covers the whole file
    let digest = Digest::of(&qcow2).to_string();
    let report =
        bty(&["flash", &url, disk.path(), "--yes", "--json", "--sha256", &digest]).expect(0).last();
    assert_holds(&disk, &raw);
    assert_eq!(report["is_digest_checked"], true);
}

#[test]
fn downloads_a_qcow2_first_where_ranges_are_refused() {
    let Some(disk) = LoopDisk::new(32 << 20, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (qcow2, raw) = qcow2_with_ballast(dir.path());
    let server = Nginx::start("max_ranges 0;");
    let url = server.put("a.qcow2", &qcow2);
    let spool = dir.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let done = bty(&["flash", &url, disk.path(), "--yes", "--spool-dir", spool.to_str().unwrap()])
        .expect(0);
    assert_holds(&disk, &raw);
    assert!(done.stderr.contains("copying it to the spool directory first"), "{}", done.stderr);
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "something was left behind");
}

#[test]
fn makes_disk_files() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk_image(3 * MIB + 5);
    let path = write(dir.path(), "a.img.gz", &filter(&["gzip", "-c"], &image));
    let path = path.to_str().unwrap();
    for (option, size) in [("--create", 3 * MIB + 512), ("--create=20M", 20 * MIB)] {
        let target = dir.path().join(option);
        let target = target.to_str().unwrap();
        let _ = bty(&["flash", path, target, option, "--yes"]).expect(0);
        let made = fs::read(target).unwrap();
        assert_eq!(made.len(), size);
        assert!(made[..image.len()] == image[..] && is_zero(&made[image.len()..]));
        let refused = bty(&["flash", path, target, option, "--yes"]).expect(3);
        assert!(refused.stderr.contains("already exists"), "{}", refused.stderr);
        assert!(fs::read(target).unwrap() == made);
        let _ = bty(&["flash", path, target, "--yes"]).expect(0);
        assert!(fs::read(target).unwrap() == made);
    }
    let small = dir.path().join("small");
    let failed = bty(&["flash", path, small.to_str().unwrap(), "--create=1M", "--yes"]).expect(6);
    assert!(failed.stderr.contains("turned out larger"), "{}", failed.stderr);
    assert!(!small.exists(), "a file that failed was left behind");
}

#[test]
fn moves_the_backup_gpt_to_the_end_of_a_larger_disk() {
    for sector in [512, 4096] {
        let Some(disk) = LoopDisk::new(32 << 20, sector) else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "a.img.zst", &zst(&gpt_image(16 * MIB, sector)));
        let path = path.to_str().unwrap();
        let report =
            bty(&["flash", path, disk.path(), "--fix-gpt", "--yes", "--json"]).expect(0).last();
        let backup =
            (32 << 20) - 33 * 512 - if sector == 512 { 0 } else { 4 * 4096 + 4096 - 33 * 512 };
        assert_eq!(report["targets"][0]["backup_gpt_offset"], backup);
        let checked = tool(&["sgdisk", "--verify", disk.path()]);
        assert!(checked.contains("No problems found"), "{checked}");
        let _ = bty(&["verify", path, disk.path(), "--fix-gpt"]).expect(0);
        let differs = bty(&["verify", path, disk.path()]).expect(5);
        // the size of the disk in the protective MBR
        assert!(differs.stderr.contains("first difference at offset 459"), "{}", differs.stderr);
    }
}

/// Marks the end of `disk` as a member of an MD RAID with a version 1.0 superblock.
fn put_md_superblock(disk: &LoopDisk, size: u64) {
    let at = (size - 8192) & !4095;
    let mut superblock = vec![0; 256];
    superblock[..8].copy_from_slice(b"\xfc\x4e\x2b\xa9\x01\0\0\0");
    superblock[144..152].copy_from_slice(&(at / 512).to_le_bytes());
    // the checksum: the sum of all 32-bit words but itself
    let words = superblock.as_chunks::<4>().0.iter().map(|w| u64::from(u32::from_le_bytes(*w)));
    let sum: u64 = words.sum();
    let sum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
    superblock[216..220].copy_from_slice(&sum.to_le_bytes());
    superblock.resize(4096, 0);
    disk.put(&superblock, at);
}

/// Offset and type of each signature that `wipefs` finds.
fn signatures(device: &str) -> Vec<(u64, String)> {
    let found: Value = match tool(&["wipefs", "--no-act", "--json", device]).trim() {
        "" => return Vec::new(),
        text => serde_json::from_str(text).unwrap(),
    };
    let offset = |s: &Value| {
        u64::from_str_radix(s["offset"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    let found = found["signatures"].as_array().unwrap().iter();
    found.map(|s| (offset(s), s["type"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn nothing_of_the_past_comes_alive() {
    const SIZE: u64 = 48 << 20;
    let Some(disk) = LoopDisk::new(SIZE, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file_system = dir.path().join("ext4");
    tool(&["mkfs.ext4", "-q", file_system.to_str().unwrap(), "4M"]);
    // a RAID member that later got a GPT; its end keeps both
    let sized = format!("size={}KiB,type=linux", 4 << 10);
    tool(&[
        "sh",
        "-c",
        &format!("echo 'label: gpt\nstart=16MiB,{sized}' | sfdisk -q --no-reread {}", disk.path()),
    ]);
    disk.put(&fs::read(&file_system).unwrap(), 16 << 20);
    put_md_superblock(&disk, SIZE);
    let before = signatures(disk.path());
    let kinds: Vec<&str> = before.iter().map(|(_, kind)| kind.as_str()).collect();
    assert!(kinds.contains(&"linux_raid_member") && kinds.contains(&"gpt"), "{before:?}");

    let image = gpt_image(16 * MIB, 512);
    let path = write(dir.path(), "a.img", &image);
    let _ = bty(&["flash", path.to_str().unwrap(), disk.path(), "--yes"]).expect(0);
    assert_holds(&disk, &image);
    let after = signatures(disk.path());
    assert_eq!(after, [(512, "gpt".to_owned()), (510, "PMBR".to_owned())]);
    let probed = tool(&["blkid", "--probe", "--output", "export", disk.path()]);
    assert!(!probed.contains("raid") && probed.contains("PTTYPE=gpt"), "{probed}");
    let content = disk.content();
    assert!(
        is_zero(&content[16 * MIB..17 * MIB]),
        "the file system behind the image is still there"
    );
    assert!(is_zero(&content[47 * MIB..]));
}

/// Checks that flashing `image` to `target` is refused with `why`.
fn assert_refused(image: &str, target: &str, why: &str) {
    for extra in ["--yes", "--dry-run"] {
        let refused = bty(&["flash", image, target, extra]).expect(3);
        assert!(refused.stderr.contains(why), "expected {why:?} in:\n{}", refused.stderr);
        assert!(refused.stderr.contains(target), "{}", refused.stderr);
    }
}

#[test]
fn disks_in_use_are_refused_and_untouched() {
    let Some(disk) = LoopDisk::new(16 << 20, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.img", &disk_image(8 * MIB));
    let image = path.to_str().unwrap();
    tool(&["mkfs.ext4", "-q", disk.path()]);
    let old = disk.content();
    assert_refused(image, disk.backing(), &format!("is attached to {}", disk.path()));
    {
        let mount = Mount::device(disk.path());
        assert_refused(image, disk.path(), &format!("is mounted on {}", mount.path().display()));
        let listed = bty(&["disks"]).expect(0);
        assert!(listed.stdout.contains(mount.path().to_str().unwrap()), "{}", listed.stdout);
        // a link is checked like its target
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(disk.path(), &link).unwrap();
        let refused = bty(&["flash", image, link.to_str().unwrap(), "--yes"]).expect(3);
        assert!(refused.stderr.contains("is mounted on"), "{}", refused.stderr);
    }
    assert!(disk.content() == old);
    let file_system = dir.path().join("fs");
    fs::create_dir(&file_system).unwrap();
    assert_refused(image, file_system.to_str().unwrap(), "");
}

#[test]
fn a_mounted_partition_protects_its_disk() {
    let Some(disk) = LoopDisk::new(16 << 20, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.img", &disk_image(2 * MIB));
    let image = path.to_str().unwrap();
    tool(&[
        "sh",
        "-c",
        &format!("echo 'label: gpt\nstart=1MiB,size=8MiB' | sfdisk -q {}", disk.path()),
    ]);
    // some kernels cannot read partition tables by themselves
    tool(&["partx", "--update", disk.path()]);
    let partition = format!("{}p1", disk.path());
    tool(&["mkfs.ext4", "-q", &partition]);
    assert_refused(image, &partition, "it is a partition");
    let mount = Mount::device(&partition);
    let why = format!("{partition} is mounted on {}", mount.path().display());
    assert_refused(image, disk.path(), &why);
    let refused = bty(&["flash", image, &partition, "--yes", "--allow-partition"]).expect(3);
    assert!(refused.stderr.contains("is mounted on"), "{}", refused.stderr);
    drop(mount);
    let _ = bty(&["flash", image, &partition, "--yes", "--allow-partition"]).expect(0);
    assert!(disk.content()[MIB..3 * MIB] == disk_image(2 * MIB));
}

#[test]
fn disks_that_cannot_take_it_are_refused() {
    let Some(small) = LoopDisk::new(MIB as u64, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.img", &disk_image(MIB + 1));
    let image = path.to_str().unwrap();
    assert_refused(image, small.path(), "use a larger disk");
    let backing = write(dir.path(), "backing", &vec![7; 2 * MIB]);
    let read_only = LoopDisk::attach(&backing, &["--read-only"]);
    assert_refused(image, read_only.path(), "it is read-only");
    assert!(read_only.content() == vec![7; 2 * MIB] && is_zero(&small.content()));
}

/// Starts `bty flash` of `url` to `disk`.
fn start(url: &str, disk: &LoopDisk) -> Child {
    bty_command(&["flash", url, disk.path(), "--yes", "--json"]).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    tool(&["kill", name, &child.id().to_string()]);
}

/// Waits until the first MiB of `disk` is zero: the flash has begun to write.
fn wait_until_wiped(disk: &LoopDisk) {
    let device = fs::File::open(disk.path()).unwrap();
    let mut head = vec![0; MIB];
    eventually(LIMIT, "the flash wipes the first MiB", || {
        device.read_exact_at(&mut head, 0).unwrap();
        is_zero(&head).then_some(())
    });
}

#[test]
fn a_kill_at_any_moment_leaves_all_of_the_image_or_nothing_that_boots() {
    let Some(disk) = LoopDisk::new(8 << 20, 512) else { return };
    let server = Nginx::start("limit_rate 8m;");
    let image = disk_image(6 * MIB);
    let url = server.put("a.img", &image);
    let old = vec![0xa5; 8 * MIB];
    let (mut untouched, mut empty, mut complete) = (0, 0, 0);
    // 6 MiB at 8 MiB a second: moments before the first write, while the image arrives, and around
    // the end. The delays are what is tested.
    let moments = [(false, 3), (false, 20), (false, 80)].into_iter();
    for (is_wiped, delay) in
        moments.chain([0, 100, 400, 650, 700, 750, 800, 850, 1000].map(|delay| (true, delay)))
    {
        disk.put(&old, 0);
        let mut child = start(&url, &disk);
        if is_wiped {
            wait_until_wiped(&disk);
        }
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let content = disk.content();
        let state = if is_zero(&content[..MIB]) {
            &mut empty
        } else if content[..image.len()] == image[..] {
            &mut complete
        } else {
            assert!(content == old, "half-written after {delay} ms ({:?})", status.signal());
            &mut untouched
        };
        *state += 1;
    }
    assert!(
        empty >= 2,
        "{untouched} untouched, {empty} empty, {complete} complete: the moments prove nothing"
    );
}

#[test]
fn an_interrupt_ends_it_within_a_second_and_leaves_nothing_that_boots() {
    let Some(disk) = LoopDisk::new(24 << 20, 512) else { return };
    // the whole image would take minutes
    let server = Nginx::start("limit_rate_after 4m; limit_rate 100k;");
    let url = server.put("a.img", &disk_image(20 * MIB));
    for name in ["-INT", "-TERM", "-HUP"] {
        disk.put(&vec![0xa5; 24 * MIB], 0);
        let child = start(&url, &disk);
        wait_until_wiped(&disk);
        signal(&child, name);
        let begun = Instant::now();
        let outcome = Outcome::from(child.wait_with_output().unwrap()).expect(130);
        // a limit for hangs, not for speed
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(outcome.last()["kind"], "cancelled", "{}", outcome.stdout);
        let content = disk.content();
        assert!(is_zero(&content[..MIB]), "{name}: it may boot");
    }
}

#[test]
fn a_medium_that_cannot_keep_what_it_promised_fails_with_its_own_exit_code() {
    if !has_root() {
        return;
    }
    let tiny = Mount::memory(2 << 20);
    let dir = tempfile::tempdir().unwrap();
    let mut full = vec![7; 8 * MIB];
    full[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = write(dir.path(), "a.img", &full);
    let image = path.to_str().unwrap();
    let file = tiny.path().join("disk");
    let failed = bty(&["flash", image, file.to_str().unwrap(), "--create", "--yes"]).expect(6);
    assert!(failed.stderr.contains("No space left on device"), "{}", failed.stderr);
    assert!(!file.exists(), "a file that failed was left behind");
    fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
    let disk = LoopDisk::attach(&file, &[]);
    let failed = bty(&["flash", image, disk.path(), "--yes"]).expect(6);
    assert!(failed.stderr.contains(disk.path()), "{}", failed.stderr);
}

#[test]
fn a_disk_is_erased_and_read_back() {
    let Some(disk) = LoopDisk::new(9 << 20, 512) else { return };
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.img", &gpt_image(8 * MIB, 512));
    for way in ["zeros", "random", "discard"] {
        let _ = bty(&["flash", image.to_str().unwrap(), disk.path(), "--yes"]).expect(0);
        let dry = bty(&["erase", disk.path(), "--way", way, "--dry-run"]).expect(0);
        assert!(dry.stderr.contains("dry run: nothing was written"), "{}", dry.stderr);
        assert_holds(&disk, &fs::read(&image).unwrap());
        let done = bty(&["erase", disk.path(), "--way", way, "--yes", "--json"]).expect(0);
        let report = done.last();
        assert_eq!((&report["way"], &report["is_attested"]), (&way.into(), &false.into()));
        assert_eq!(
            (&report["erased_bytes"], &report["verified_bytes"]),
            (&(9 << 20).into(), &(9 << 20).into())
        );
        let content = disk.content();
        assert!(is_zero(&content[..MIB]) && is_zero(&content[MIB..]) == (way != "random"), "{way}");
    }
    let refused = bty(&["erase", disk.path(), "--way", "nvme_format", "--yes"]).expect(3);
    assert!(refused.stderr.contains("it is not an NVMe disk"), "{}", refused.stderr);
    let _ = bty(&["erase", disk.path()]).expect(2);
    tool(&["mkfs.ext4", "-qF", disk.path()]);
    let _mount = Mount::device(disk.path());
    let refused = bty(&["erase", disk.path(), "--yes"]).expect(3);
    assert!(refused.stderr.contains("mounted"), "{}", refused.stderr);
}
