//! Sizes, order, and faults of writes.

use super::*;

#[test]
fn writes_every_size_around_the_edges_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [
        1,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        65535,
        65537,
        MIB - 1,
        MIB,
        MIB + 1,
        4 * MIB - 1,
        5 * MIB + 513,
    ];
    for (size, sector) in sizes.iter().flat_map(|&size| [(size, 512), (size, 4096)]) {
        let bytes = disk_image(size);
        let image = open(&write(dir.path(), "a.img", &bytes));
        let room = size.next_multiple_of(sector as usize);
        for extra in [0, 3 * MIB] {
            let disk = faulty_disk(room + extra, sector, Faults::default());
            let report = flash(&image, &disk).unwrap();
            assert!(report.is_success(), "{size} {sector} {extra}: {report:?}");
            let content = disk.content();
            assert!(
                content[..size] == bytes[..],
                "size {size}, sector {sector}, {extra} bytes larger"
            );
            assert!(
                content[size..room].iter().all(|&b| b == 0),
                "the padding of {size} is not zero"
            );
            assert_eq!(disk.durable(), content, "not everything was flushed");
            assert_eq!(report.disk_bytes, size as u64);
            assert!(report.targets[0].verified_bytes >= size as u64);
        }
    }
}

#[test]
fn an_empty_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a.img", Vec::new()), ("a.img.gz", filter(&["gzip", "-c"], b""))] {
        let path = write(dir.path(), name, &bytes);
        let opened = Image::open(
            &Client::default(),
            path.to_str().unwrap(),
            &OpenOptions::default(),
            &CancelToken::new(),
        );
        assert_eq!(opened.err().unwrap().kind(), ErrorKind::Format, "{name}");
    }
}

#[test]
fn a_disk_one_sector_too_small_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(2 * MIB + 1)));
    let disk = faulty_disk(2 * MIB, 512, Faults::default());
    let error = flash(&image, &disk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(disk.log(), []);
}

#[test]
fn an_image_that_turns_out_too_large_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let image =
        open(&write(dir.path(), "a.img.gz", &filter(&["gzip", "-c"], &disk_image(8 * MIB))));
    let disk = faulty_disk(6 * MIB, 512, Faults::default());
    let report = flash(&image, &disk).unwrap();
    let failure = report.targets[0].failure.as_ref().unwrap();
    assert_eq!(failure.kind, ErrorKind::Target);
    assert!(!is_bootable(&disk.content()));
}

#[test]
fn the_first_mib_is_written_last_and_after_a_flush() {
    let (report, disk) = flash_bytes(&disk_image(9 * MIB), Faults::default());
    assert!(report.unwrap().is_success());
    let log = disk.log();
    let is_head = |r: &DiskRequest| matches!(r, DiskRequest::Write(at, _) if *at < MIB as u64);
    let first_head = 1 + log[1..].iter().position(is_head).unwrap();
    let rest = &log[first_head..];
    assert_eq!(log[first_head - 1], DiskRequest::Flush);
    assert!(rest.iter().all(|r| is_head(r) || *r == DiskRequest::Flush), "{rest:?}");
    assert_eq!(*rest.last().unwrap(), DiskRequest::Flush);
    assert_eq!(
        log[0],
        DiskRequest::Write(0, MIB),
        "the old head must be gone before anything else is written"
    );
}

#[test]
fn a_power_cut_at_any_request_leaves_all_of_the_image_or_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(3 * MIB);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let disk = Arc::new(used_disk(4 * MIB, 512).with_states());
    assert!(flash(&image, &disk).unwrap().is_success());
    let states = disk.states();
    assert!(states.len() > 8);
    // before the first request the old system is still whole; from then on it is nothing or
    // everything
    for (i, state) in states.iter().enumerate().skip(1) {
        assert!(
            !is_bootable(state) || state[..bytes.len()] == bytes[..],
            "half-written after request {i}"
        );
    }
}

#[test]
fn every_failing_write_is_reported_and_leaves_nothing_that_boots() {
    let bytes = disk_image(6 * MIB);
    let (_, healthy) = flash_bytes(&bytes, Faults::default());
    let requests = healthy.log().iter().filter(|r| **r != DiskRequest::Flush).count();
    for n in 0..requests {
        let (report, disk) =
            flash_bytes(&bytes, Faults { fail_write: Some(n), ..Faults::default() });
        let report = report.unwrap();
        let failure = report.targets[0]
            .failure
            .as_ref()
            .unwrap_or_else(|| panic!("write {n} failed unnoticed"));
        assert_eq!(failure.kind, ErrorKind::Target, "{failure:?}");
        // the first write clears the start of the disk: if it fails, the old system is untouched
        let content = disk.content();
        assert!(n == 0 || !is_bootable(&content) || content[0] != bytes[0], "write {n}");
        assert!(n == 0 || content[..MIB] != bytes[..MIB], "write {n} left a head");
    }
}

#[test]
fn every_failing_flush_is_reported() {
    let bytes = disk_image(2 * MIB);
    let (_, healthy) = flash_bytes(&bytes, Faults::default());
    let flushes = healthy.log().iter().filter(|r| **r == DiskRequest::Flush).count();
    assert!(flushes >= 3);
    for n in 0..flushes {
        let (report, _) = flash_bytes(&bytes, Faults { fail_flush: Some(n), ..Faults::default() });
        let report = report.unwrap();
        let failure = report.targets[0].failure.as_ref().unwrap();
        assert_eq!(failure.kind, ErrorKind::Target, "flush {n}");
    }
}

#[test]
fn a_full_device_says_so() {
    let (report, disk) =
        flash_bytes(&disk_image(8 * MIB), Faults { full_at: Some(5 << 20), ..Faults::default() });
    let report = report.unwrap();
    let failure = report.targets[0].failure.as_ref().unwrap();
    assert!(failure.message.contains("No space left on device"), "{failure:?}");
    assert!(failure.hint.as_ref().unwrap().contains("make room"), "{failure:?}");
    assert!(!is_bootable(&disk.content()));
}

#[test]
fn short_writes_and_missing_offload_change_nothing() {
    let bytes = disk_image(5 * MIB + 512);
    for faults in [
        Faults { short_writes: Some(64 << 10), ..Faults::default() },
        Faults { no_zero_offload: true, ..Faults::default() },
        Faults { no_zero_offload: true, short_writes: Some(512 << 10), ..Faults::default() },
    ] {
        let (report, disk) = flash_bytes(&bytes, faults);
        assert!(report.unwrap().is_success());
        assert!(disk.content()[..bytes.len()] == bytes[..]);
    }
}
