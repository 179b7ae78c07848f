//! Refusals before anything is written, and comparisons.

use super::*;

#[test]
fn a_disk_that_changed_since_the_plan_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(MIB)));
    let disk = faulty_disk(2 * MIB, 512, Faults::default());
    let host = MemoryHost::with(&disk);
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let path = Path::new("/dev/mem0");
    let use_it = Use::Mounted { device: path.into(), mountpoint: "/mnt".into() };
    type Change = Box<dyn Fn(&mut bty::Disk)>;
    let changes: [(Change, &str); 3] = [
        (
            Box::new(|d| d.serial = Some("another".into())),
            "not the disk that the plan was made for",
        ),
        (Box::new(|d| d.diskseq = Some(9)), "not the disk that the plan was made for"),
        (
            Box::new(move |d| d.uses.push(use_it.clone())),
            "/dev/mem0 is mounted on /mnt (unmount it)",
        ),
    ];
    for (change, reason) in changes {
        let healthy = host.probe(path).unwrap();
        host.change(path, |d| change(d));
        let error = plan.execute(&image, &host, &(), &CancelToken::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(format!("{error:#}").contains(reason), "{error}");
        host.change(path, |d| *d = healthy);
    }
    assert_eq!(disk.log(), []);
}

#[test]
fn all_refusals_come_at_once_and_name_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(2 * MIB)));
    let mut disk = MemoryHost::new().add("sdb", &faulty_disk(MIB, 512, Faults::default()));
    disk.is_read_only = true;
    disk.table = Some(TableKind::Gpt);
    disk.uses = vec![
        Use::Mounted { device: "/dev/sdb1".into(), mountpoint: "/mnt/data".into() },
        Use::Swap { device: "/dev/sdb2".into() },
        Use::Held { device: "/dev/sdb3".into(), holder: "dm-0 (vg0-root)".into() },
        Use::System { device: "/dev/sdb".into() },
    ];
    let mut partition =
        MemoryHost::new().add("sdc1", &faulty_disk(4 * MIB, 512, Faults::default()));
    partition.kind = DiskKind::Partition;
    let mut options = FlashOptions::default();
    options.fix_gpt = true;
    let plan = FlashPlan::new(image.info(), vec![disk, partition.clone(), partition], options);
    let refusals: Vec<String> = plan.validate().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    the image has no GPT whose backup could be moved (do not fix the GPT)
    /dev/sdb: /dev/sdb1 is mounted on /mnt/data (unmount it)
    /dev/sdb: /dev/sdb2 is active swap (run swapoff on it)
    /dev/sdb: /dev/sdb3 is held by dm-0 (vg0-root) (stop that device first)
    /dev/sdb: the running system was started from /dev/sdb (boot something else to rewrite it)
    /dev/sdb: it is read-only (look for a write-protect switch, or run blockdev --setrw)
    /dev/sdb: the image needs 2.0 MiB (2097152 bytes), the disk has 1.0 MiB (1048576 bytes) (use a larger disk)
    /dev/sdc1: it is a partition, but an image is for a whole disk (name the disk, or allow partitions explicitly)
    /dev/sdc1: it is a partition, but an image is for a whole disk (name the disk, or allow partitions explicitly)
    /dev/sdc1: it is named more than once (name every disk once)
    ");
    assert!(
        FlashPlan::new(image.info(), Vec::new(), FlashOptions::default())
            .validate()
            .iter()
            .any(|r| r.reason == RefusalReason::NoTarget)
    );
}

#[test]
fn a_disk_is_refused_without_an_image_for_what_an_image_cannot_change() {
    let mut disk = MemoryHost::new().add("sdb1", &faulty_disk(MIB, 512, Faults::default()));
    disk.kind = DiskKind::Partition;
    disk.is_read_only = true;
    disk.file_holds = Some("a qcow2 image".into());
    let reasons = |options: &FlashOptions| {
        let refusals = disk.refusals(options);
        refusals.into_iter().map(|refusal| refusal.reason).collect::<Vec<_>>()
    };
    let [partition, read_only, overwrite] =
        [RefusalReason::Partition, RefusalReason::ReadOnly, RefusalReason::Overwrite];
    assert_eq!(reasons(&FlashOptions::default()), [partition, read_only, overwrite]);
    let allowed = FlashOptions::default().allow_partition(true).overwrite(true);
    assert_eq!(reasons(&allowed), [read_only]);
    let healthy = Disk::new("/dev/sdc", DiskKind::Disk, MIB as u64);
    assert_eq!(healthy.refusals(&FlashOptions::default()), []);
}

#[test]
fn the_kind_of_all_failures_is_the_worst_or_the_common_one() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(2 * MIB)));
    let disks = vec![
        MemoryHost::new().add("sdb", &faulty_disk(4 << 20, 512, Faults::default())),
        MemoryHost::new().add("sdc", &faulty_disk(4 << 20, 512, Faults::default())),
    ];
    let plan = FlashPlan::new(image.info(), disks, FlashOptions::default());
    let kind_of = |kinds: [Option<ErrorKind>; 2]| {
        let mut report = plan.dry_run_report();
        for (target, kind) in report.targets.iter_mut().zip(kinds) {
            kind.into_iter().for_each(|kind| target.fail(&Error::new(kind, "x")));
        }
        report.failure_kind()
    };
    let [integrity, target, host, cancelled] =
        [ErrorKind::Integrity, ErrorKind::Target, ErrorKind::Host, ErrorKind::Cancelled].map(Some);
    assert_eq!(kind_of([None, None]), None);
    assert_eq!(kind_of([cancelled, integrity]), integrity);
    assert_eq!(kind_of([cancelled, cancelled]), cancelled);
    assert_eq!(kind_of([None, host]), host);
    assert_eq!(kind_of([cancelled, host]), target);
}

#[test]
fn the_digest_of_the_source_is_reported_when_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let raw = write(dir.path(), "a.img", &disk_image(4 * MIB));
    let qcow2 = dir.path().join("a.qcow2");
    let (from, to) = (raw.to_str().unwrap(), qcow2.to_str().unwrap());
    let _ = filter(&["qemu-img", "convert", "-O", "qcow2", from, to], b"");
    let options = OpenOptions::default().compute_sha256(true);
    for path in [from, to] {
        let image = Image::open(&Client::default(), path, &options, &CancelToken::new()).unwrap();
        let disk = faulty_disk(8 * MIB, 512, Faults::default());
        let report = flash(&image, &disk).unwrap();
        assert_eq!(report.source_sha256, Some(Digest::of(&std::fs::read(path).unwrap())));
        assert!(!report.is_digest_checked);
    }
}

#[test]
fn verify_writes_nothing_and_counts_what_differs() -> Result<(), Error> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(6 * MIB + 512);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let disk = faulty_disk(8 * MIB, 512, Faults::default());
    let host = MemoryHost::with(&disk);
    let target = host.probe(Path::new("/dev/mem0"))?;
    flash(&image, &disk)?;
    let before = disk.log().len();
    let report =
        verify(&image, &target, &host, &VerifyOptions::default(), &(), &CancelToken::new())?;
    assert!(report.is_equal);
    assert_eq!(report.compared_bytes, bytes.len() as u64);
    assert_eq!(disk.log().len(), before);
    // one changed sector in data, one in zeros
    let sector = filled_sector();
    for offset in [(5 << 20) + (512 << 10), 2 << 20] {
        disk.write_at(sector, offset).unwrap();
    }
    let report =
        verify(&image, &target, &host, &VerifyOptions::default(), &(), &CancelToken::new())?;
    let expected = bytes
        .chunks(512)
        .zip(disk.content().chunks(512))
        .flat_map(|(a, b)| a.iter().zip(b))
        .filter(|(a, b)| a != b)
        .count();
    assert!(!report.is_equal);
    assert_eq!(report.different_bytes, expected as u64);
    let first = bytes.iter().zip(&disk.content()).position(|(a, b)| a != b).unwrap();
    assert_eq!(report.first_difference.unwrap().offset, first as u64);
    Ok(())
}

/// A sector of ones at an aligned address, which the device requires.
fn filled_sector() -> &'static [u8] {
    #[repr(align(4096))]
    struct Aligned([u8; 512]);
    static SECTOR: Aligned = Aligned([1; 512]);
    &SECTOR.0
}
