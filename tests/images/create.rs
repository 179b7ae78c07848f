//! `bty image create`: from a disk to an image, and back.

use std::fs;
use std::path::PathBuf;

use bty_tests::command::{bty, bty_command, tool};
use bty_tests::images::{gpt_image, write};
use bty_tests::loops::LoopDisk;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn an_image_of_a_loop_device_is_what_other_programs_read() {
    let Some(disk) = LoopDisk::new(24 * MIB as u64, 512) else { return };
    disk.put(&gpt_image(24 * MIB, 512), 0);
    let content = disk.content();
    let bench = Bench::new();
    for name in ["a.img", "a.img.zst", "a.qcow2"] {
        let outcome = bty(&["image", "create", disk.path(), &bench.text(name), "--json"]).expect(0);
        let report = outcome.last();
        assert_eq!(
            (&report["event"], &report["disk_bytes"]),
            (&"report".into(), &(24 * MIB).into())
        );
        let _ = bty(&["verify", &bench.text(name), disk.path()]).expect(0);
    }
    assert!(fs::read(bench.path("a.img")).unwrap() == content);
    tool(&["zstd", "-qd", &bench.text("a.img.zst"), "-o", &bench.text("b.img")]);
    assert!(fs::read(bench.path("b.img")).unwrap() == content);
    tool(&["qemu-img", "check", &bench.text("a.qcow2")]);
    tool(&["qemu-img", "convert", "-O", "raw", &bench.text("a.qcow2"), &bench.text("c.img")]);
    assert!(fs::read(bench.path("c.img")).unwrap() == content);
    let check = format!("cd {} && sha256sum --quiet -c *.sha256", bench.dir.path().display());
    tool(&["sh", "-c", &check]);
}

#[test]
fn a_shrunken_image_ends_with_its_backup_table_and_boots_from_a_smaller_disk() {
    let bench = Bench::new();
    // the only partition ends before 6 MiB; the data after it is left out
    let disk = write(bench.dir.path(), "disk", &gpt_image(24 * MIB, 512));
    for name in ["a.img", "a.img.zst", "a.qcow2"] {
        let _ = bty(&["image", "create", disk.to_str().unwrap(), &bench.text(name), "--shrink"])
            .expect(0);
        let info = bty(&["image", &bench.text(name), "--full", "--json"]).expect(0).last();
        let bytes = info["contents"]["disk_bytes"].as_u64().unwrap();
        assert!(bytes <= 7 * MIB as u64, "{name}: {bytes}");
        let small = write(bench.dir.path(), "small", &vec![0xa5; 8 * MIB]);
        let _ = bty(&["flash", &bench.text(name), small.to_str().unwrap(), "--yes", "--fix-gpt"])
            .expect(0);
        let table = tool(&["sgdisk", "--verify", small.to_str().unwrap()]);
        assert!(table.contains("No problems found"), "{table}");
        assert!(fs::read(&small).unwrap()[MIB..5 * MIB] == fs::read(&disk).unwrap()[MIB..5 * MIB]);
    }
    let table = tool(&["sgdisk", "--verify", &bench.text("a.img")]);
    assert!(table.contains("No problems found"), "{table}");
}

#[test]
fn what_must_not_be_made_is_refused_with_every_reason() {
    let bench = Bench::new();
    let disk = write(bench.dir.path(), "disk", &vec![0xa5; MIB]);
    write(bench.dir.path(), "there.img", b"mine");
    let disk = disk.to_str().unwrap();
    let refused = bty(&["image", "create", disk, &bench.text("there.img"), "--shrink"]).expect(3);
    assert!(refused.stderr.contains("it already exists"), "{}", refused.stderr);
    assert!(refused.stderr.contains("no partitions"), "{}", refused.stderr);
    let _ = bty(&["image", "create", disk, &bench.text("notes.txt")]).expect(3);
    let _ = bty(&["image", "create", "/dev/no-such-disk", &bench.text("a.img")]).expect(3);
    let _ = bty(&["image", "create", disk, &bench.text("missing/a.img")]).expect(1);
    let _ = bty(&["image", "create", disk]).expect(2);
    assert_eq!(bench.names(), ["disk", "there.img"]);
    assert_eq!(fs::read(bench.path("there.img")).unwrap(), b"mine");
}

#[test]
fn a_creation_that_is_cancelled_or_full_leaves_no_half_image() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    // random bytes, so that there is something to compress
    tool(&[
        "dd",
        "if=/dev/urandom",
        &format!("of={}", disk.display()),
        "bs=1M",
        "count=256",
        "status=none",
    ]);
    let mut child =
        bty_command(&["image", "create", disk.to_str().unwrap(), &bench.text("a.img.zst")])
            .spawn()
            .unwrap();
    while !bench.path("a.img.zst.part").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was cancelled");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    tool(&["kill", "-INT", &child.id().to_string()]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(bench.names(), ["disk"]);
    if !bty_tests::loops::has_root() {
        return;
    }
    let tiny = bty_tests::loops::Mount::memory(2 << 20);
    let out = tiny.path().join("a.img.zst");
    let outcome =
        bty(&["image", "create", disk.to_str().unwrap(), out.to_str().unwrap()]).expect(1);
    assert!(outcome.stderr.contains("make room"), "{}", outcome.stderr);
    assert_eq!(fs::read_dir(tiny.path()).unwrap().count(), 0);
}
