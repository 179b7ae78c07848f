use std::sync::Arc;

use crate::disks::{Disk, DiskHost, Use};
use crate::extent::is_zero;
use crate::flash::{EraseReport, EraseWay, erase, plan_erase};
use crate::testing::{DiskRequest, Faults, MemoryDisk, MemoryHost};
use crate::{CancelToken, ErrorKind, Result};

const MIB: usize = 1 << 20;
const SIZE: usize = 7 * MIB + 512;
const WAYS: [EraseWay; 4] =
    [EraseWay::Zeros, EraseWay::Random, EraseWay::Discard, EraseWay::NvmeFormat];

fn full_disk() -> MemoryDisk {
    MemoryDisk::with_content(vec![0x5a; SIZE])
}

/// A machine whose only disk is `disk`, an NVMe one.
fn host(disk: &Arc<MemoryDisk>) -> (MemoryHost, Disk) {
    let host = MemoryHost::new();
    let path = host.add("nvme0n1", disk).path;
    host.change(&path, |disk| disk.transport = Some("nvme".into()));
    let probed = host.probe(&path).unwrap();
    (host, probed)
}

fn run(disk: &Arc<MemoryDisk>, way: EraseWay) -> Result<EraseReport> {
    let (host, probed) = host(disk);
    erase(&probed, way, &host, &(), &CancelToken::new())
}

/// Number of bytes that writes of data have covered.
fn written(disk: &MemoryDisk) -> usize {
    let len = |request: &DiskRequest| match request {
        DiskRequest::Write(_, len) => *len,
        _ => 0,
    };
    disk.log().iter().map(len).sum()
}

#[test]
fn every_way_erases_the_whole_disk_and_reads_it_back() {
    for way in WAYS {
        let disk = Arc::new(full_disk());
        let report = run(&disk, way).unwrap();
        assert_eq!((report.way, report.erased_bytes), (way, SIZE as u64));
        assert_eq!(report.verified_bytes, SIZE as u64, "{way}");
        assert_eq!(report.is_attested, way == EraseWay::NvmeFormat);
        let content = disk.durable();
        assert!(is_zero(&content[..MIB]), "{way}: nothing takes it for a partition table");
        let rest = &content[MIB..];
        assert_eq!(is_zero(rest), way != EraseWay::Random);
        assert!(!rest.chunks(512).any(|sector| sector == [0x5a; 512]), "{way}");
    }
}

#[test]
fn overwriting_writes_every_byte_and_discarding_does_not() {
    for way in [EraseWay::Zeros, EraseWay::Random] {
        let disk = Arc::new(full_disk());
        run(&disk, way).unwrap();
        assert!(written(&disk) >= SIZE, "{way}");
        assert!(!disk.log().iter().any(|it| matches!(it, DiskRequest::Zero(..))), "{way}");
    }
    let disk = Arc::new(full_disk());
    run(&disk, EraseWay::Discard).unwrap();
    assert!(written(&disk) < SIZE / 2);
}

#[test]
fn random_bytes_differ_each_time() {
    let erased = || {
        let disk = Arc::new(full_disk());
        run(&disk, EraseWay::Random).unwrap();
        disk.durable()
    };
    let (first, second) = (erased(), erased());
    assert!(first[MIB..].chunks(512).zip(second[MIB..].chunks(512)).all(|(a, b)| a != b));
}

#[test]
fn a_disk_formats_itself_before_anything_else_is_written_to_it() {
    let disk = Arc::new(full_disk());
    run(&disk, EraseWay::NvmeFormat).unwrap();
    let log = disk.log();
    let format = log.iter().position(|request| *request == DiskRequest::Format).unwrap();
    let body = |request: &DiskRequest| matches!(request, DiskRequest::Zero(at, _) if *at > 0);
    assert!(log[..format].iter().all(|request| !body(request)));
    assert!(log[format..].iter().any(body));
}

#[test]
fn a_disk_that_keeps_its_content_is_not_erased() {
    for way in WAYS {
        let faults =
            Faults { lose_from: Some(5 << 20), lose_until: Some(6 << 20), ..Faults::default() };
        let disk = Arc::new(full_disk().with_faults(faults));
        let error = run(&disk, way).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{way}");
        // some of the random bytes may be those of before
        let offset = error.offset().unwrap();
        assert!((5 << 20..(5 << 20) + 16).contains(&offset), "{way}: {offset}");
        assert_eq!(
            error.to_string(),
            format!("/dev/nvme0n1 was not erased: at offset {offset} it holds something else")
        );
        assert!(error.next_step().unwrap().starts_with("erase it in another way"));
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_an_error() {
    let faults = Faults { fail_write: Some(6), ..Faults::default() };
    let error = run(&Arc::new(full_disk().with_faults(faults)), EraseWay::Zeros).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
}

#[test]
fn what_forbids_a_flash_forbids_to_erase() {
    type Change = fn(&mut Disk);
    let changes: [(Change, &str); 3] = [
        (
            |disk| {
                let mountpoint = "/srv".into();
                disk.uses.push(Use::Mounted { device: disk.path.clone(), mountpoint });
            },
            "/srv",
        ),
        (|disk| disk.is_read_only = true, "read-only"),
        (|disk| disk.serial = Some("OTHER".into()), "not the disk that the plan was made for"),
    ];
    for (change, why) in changes {
        let disk = Arc::new(full_disk());
        let (host, probed) = host(&disk);
        host.change(&probed.path, change);
        for way in WAYS {
            let error = erase(&probed, way, &host, &(), &CancelToken::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(disk.log().is_empty());
    }
}

#[test]
fn only_an_nvme_disk_is_asked_to_format_itself() {
    let disk = Arc::new(full_disk());
    let host = MemoryHost::with(&disk);
    let probed = host.list().unwrap().remove(0);
    let (plan, _) = plan_erase(&probed, EraseWay::NvmeFormat).unwrap();
    let refusals = plan.validate();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].to_string().contains("it is not an NVMe disk"));
    assert!(plan_erase(&probed, EraseWay::Discard).unwrap().0.validate().is_empty());
}

#[test]
fn a_disk_of_flash_memory_gets_a_warning_unless_it_is_asked_to_erase() {
    let disk = Arc::new(full_disk());
    let (_, probed) = host(&disk);
    for way in WAYS {
        let notes = plan_erase(&probed, way).unwrap().0.notes;
        let overwrites = matches!(way, EraseWay::Zeros | EraseWay::Random);
        assert_eq!(notes.len(), usize::from(overwrites), "{way}: {notes:?}");
    }
}

#[test]
fn a_report_about_another_flash_is_not_one_about_erasing() {
    let disk = Arc::new(full_disk());
    let (host, probed) = host(&disk);
    let (plan, image) = plan_erase(&probed, EraseWay::Zeros).unwrap();
    let mut report = plan.execute(&image, &host, &(), &CancelToken::new()).unwrap();
    assert!(EraseReport::new(&report).is_ok());
    report.image.erases = None;
    assert_eq!(EraseReport::new(&report).unwrap_err().kind(), ErrorKind::Usage);
}
