//! Flashing onto disks in memory: exactness, order, faults, power cuts, several targets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bty::digest::Sha512;
use bty::disks::{TableKind, Use};
use bty::flash::{FlashOptions, FlashPlan, FlashReport, Found, verify};
use bty::image::OpenOptions;
use bty::testing::{Faults, MemoryDisk, MemoryHost, Request};
use bty::{CancelToken, Client, Device, Digest, DiskHost, Error, ErrorKind, Event, Image, Result};
use bty_tests::disk::{faulty_disk, used_disk};
use bty_tests::images::{disk_image, filter, write};
use bty_tests::{LIMIT, eventually};

const MIB: usize = 1 << 20;

fn open(path: &Path) -> Image {
    Image::open(
        &Client::default(),
        path.to_str().unwrap(),
        &OpenOptions::default(),
        &CancelToken::new(),
    )
    .unwrap()
}

fn flash_to(image: &Image, host: &MemoryHost, options: FlashOptions) -> Result<FlashReport> {
    FlashPlan::new(image.info(), host.list().unwrap(), options).execute(
        image,
        host,
        &(),
        &CancelToken::new(),
    )
}

fn flash(image: &Image, disk: &Arc<MemoryDisk>) -> Result<FlashReport> {
    // some images are too small for a boot sector
    let mut options = FlashOptions::default();
    options.raw = true;
    flash_to(image, &MemoryHost::with(disk), options)
}

/// Flashes `bytes` to one disk with `faults` whose size is 1.5 times that of the image.
fn flash_bytes(bytes: &[u8], faults: Faults) -> (Result<FlashReport>, Arc<MemoryDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", bytes));
    let disk = faulty_disk((bytes.len() + bytes.len() / 2).next_multiple_of(4096), 512, faults);
    (flash(&image, &disk), disk)
}

fn is_bootable(content: &[u8]) -> bool {
    content[..MIB].iter().any(|&b| b != 0)
}

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
    assert_eq!(failure.kind, "target");
    assert!(!is_bootable(&disk.content()));
}

#[test]
fn the_first_mib_is_written_last_and_after_a_flush() {
    let (report, disk) = flash_bytes(&disk_image(9 * MIB), Faults::default());
    assert!(report.unwrap().is_success());
    let log = disk.log();
    let is_head = |r: &Request| matches!(r, Request::Write(at, _) if *at < MIB as u64);
    let first_head = 1 + log[1..].iter().position(is_head).unwrap();
    let rest = &log[first_head..];
    assert_eq!(log[first_head - 1], Request::Flush);
    assert!(rest.iter().all(|r| is_head(r) || *r == Request::Flush), "{rest:?}");
    assert_eq!(*rest.last().unwrap(), Request::Flush);
    assert_eq!(
        log[0],
        Request::Write(0, MIB),
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
    let requests = healthy.log().iter().filter(|r| **r != Request::Flush).count();
    for n in 0..requests {
        let (report, disk) =
            flash_bytes(&bytes, Faults { fail_write: Some(n), ..Faults::default() });
        let report = report.unwrap();
        let failure = report.targets[0]
            .failure
            .as_ref()
            .unwrap_or_else(|| panic!("write {n} failed unnoticed"));
        assert_eq!(failure.kind, "target", "{failure:?}");
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
    let flushes = healthy.log().iter().filter(|r| **r == Request::Flush).count();
    assert!(flushes >= 3);
    for n in 0..flushes {
        let (report, _) = flash_bytes(&bytes, Faults { fail_flush: Some(n), ..Faults::default() });
        let report = report.unwrap();
        assert_eq!(report.targets[0].failure.as_ref().unwrap().kind, "target", "flush {n}");
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

/// Flashes `bytes` to a disk that corrupts or loses data, and returns what verification found.
fn difference(bytes: &[u8], faults: Faults) -> (u64, Found) {
    let (report, disk) = flash_bytes(bytes, faults);
    let report = report.unwrap();
    assert_eq!(report.failure_kind(), Some(ErrorKind::Integrity));
    assert!(!is_bootable(&disk.content()), "a disk that failed verification must not boot");
    let difference = report.targets[0].failure.as_ref().unwrap().difference.clone().unwrap();
    (difference.offset, difference.found)
}

#[test]
fn a_flipped_bit_is_found_at_its_exact_offset() {
    let at = 7_077_888 + 123;
    let (offset, found) =
        difference(&disk_image(12 * MIB), Faults { flip_at: Some(at), ..Faults::default() });
    assert_eq!((offset, found), (at, Found::Other));
}

#[test]
fn a_lost_write_is_found_as_old_content() {
    let from = 6 << 20;
    let difference =
        difference(&disk_image(12 * MIB), Faults { lose_from: Some(from), ..Faults::default() });
    // the first byte of the old sector's number is zero, as in the image
    assert_eq!(difference, (from + 1, Found::Old));
}

#[test]
fn a_disk_of_fake_capacity_is_found_as_such() {
    // without zeros, which would hide a wrong offset
    let bytes: Vec<u8> =
        (0u32..3 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &bytes));
    let disk =
        faulty_disk(bytes.len(), 512, Faults { wrap_at: Some(8 << 20), ..Faults::default() });
    let report = flash(&image, &disk).unwrap();
    let difference = report.targets[0].failure.as_ref().unwrap().difference.clone().unwrap();
    assert_eq!(difference.offset, MIB as u64, "what belongs at 9 MiB was written over it");
    assert_eq!(difference.found, Found::Elsewhere { offset: 9 << 20 });
}

#[test]
fn an_unreadable_sector_fails_the_verification() {
    let (report, disk) = flash_bytes(
        &disk_image(4 * MIB),
        Faults { fail_read_at: Some(3 << 20), ..Faults::default() },
    );
    let failed = report.unwrap().targets[0].failure.clone().unwrap().message;
    assert!(failed.contains("reading back"), "{failed}");
    assert!(!disk.content().starts_with(&disk_image(4 * MIB)[..512]));
}

#[test]
fn without_verification_lies_go_unnoticed_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(4 * MIB)));
    let disk = faulty_disk(4 * MIB, 512, Faults { flip_at: Some(3 << 20), ..Faults::default() });
    let mut options = FlashOptions::default();
    options.verify = false;
    let report = flash_to(&image, &MemoryHost::with(&disk), options).unwrap();
    assert!(report.is_success());
    assert_eq!(report.targets[0].verified_bytes, 0);
}

#[test]
fn a_wrong_digest_fails_and_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(4 * MIB);
    for (name, content) in
        [("a.img", bytes.clone()), ("a.img.zst", filter(&["zstd", "-qc"], &bytes))]
    {
        let path = write(dir.path(), name, &content);
        for (digest, is_right) in [(Digest::of(b"another"), false), (Digest::of(&content), true)] {
            let options = OpenOptions { sha256: Some(digest), ..OpenOptions::default() };
            let opened = Image::open(
                &Client::default(),
                path.to_str().unwrap(),
                &options,
                &CancelToken::new(),
            )
            .unwrap();
            let disk = faulty_disk(4 * MIB, 512, Faults::default());
            match flash(&opened, &disk) {
                Ok(report) => {
                    assert!(
                        is_right
                            && report.is_digest_checked
                            && report.source_sha256 == Some(digest)
                    );
                }
                Err(error) => {
                    assert!(!is_right, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Integrity);
                    assert!(!is_bootable(&disk.content()));
                }
            }
        }
    }
}

#[test]
fn a_digest_of_the_unpacked_image_is_told_apart_and_taken_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(4 * MIB);
    let (inside, sha512) = (Digest::of(&bytes), Sha512::of(&bytes));
    let path = write(dir.path(), "a.img.zst", &filter(&["zstd", "-qc"], &bytes));
    let flash = |path: &Path, options: OpenOptions| {
        let opened =
            Image::open(&Client::default(), path.to_str().unwrap(), &options, &CancelToken::new())?;
        let disk = faulty_disk(4 * MIB, 512, Faults::default());
        let report = self::flash(&opened, &disk);
        assert_eq!(report.is_ok(), is_bootable(&disk.content()));
        report
    };
    let error =
        flash(&path, OpenOptions { sha256: Some(inside), ..OpenOptions::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(
        error.to_string().contains("is that of the unpacked image, not of the file"),
        "{error}"
    );
    assert!(error.next_step().unwrap().contains("--image-sha256"), "{error:?}");

    let promised = OpenOptions { image_sha256: Some(inside), ..OpenOptions::default() };
    assert!(flash(&path, promised.clone()).unwrap().is_digest_checked);
    let wrong =
        OpenOptions { image_sha256: Some(Digest::of(b"another")), ..OpenOptions::default() };
    let error = flash(&path, wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("the image inside"), "{error}");

    let raw = write(dir.path(), "raw.img", &bytes);
    assert!(flash(&raw, promised.clone()).unwrap().is_digest_checked);
    let long = OpenOptions { sha512: Some(sha512), ..OpenOptions::default() };
    assert!(flash(&raw, long.clone()).unwrap().is_digest_checked);
    let error = flash(&path, long).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Integrity && error.to_string().contains(&sha512.to_string()),
        "{error}"
    );

    let _ = filter(
        &[
            "qemu-img",
            "convert",
            "-O",
            "qcow2",
            raw.to_str().unwrap(),
            dir.path().join("a.qcow2").to_str().unwrap(),
        ],
        b"",
    );
    let qcow2 = dir.path().join("a.qcow2");
    assert_eq!(flash(&qcow2, promised).unwrap_err().kind(), ErrorKind::Usage);
    let sha512 = Some(Sha512::of(&std::fs::read(&qcow2).unwrap()));
    assert!(
        flash(&qcow2, OpenOptions { sha512, ..OpenOptions::default() }).unwrap().is_digest_checked
    );
}

#[test]
fn the_report_has_a_digest_although_nobody_promised_one() {
    let bytes = disk_image(4 * MIB);
    let (result, _) = flash_bytes(&bytes, Faults::default());
    let report = result.unwrap();
    assert_eq!((report.source_sha256, report.is_digest_checked), (Some(Digest::of(&bytes)), false));
}

#[test]
fn an_image_that_is_still_growing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(6 * MIB);
    let packed = filter(&["gzip", "-c"], &bytes);
    for (name, content) in [("a.img", &bytes), ("a.img.gz", &packed)] {
        let path = write(dir.path(), name, content);
        let image = open(&path);
        let append = |bytes: &[u8]| {
            let mut file = std::fs::File::options().append(true).open(&path).unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
        };
        // once the first bytes have been written
        let appended = std::sync::atomic::AtomicBool::new(false);
        let watch = |event: &Event| {
            if matches!(event, Event::Phase { phase: bty::Phase::Write })
                && !appended.swap(true, Ordering::SeqCst)
            {
                append(&bytes[..4096]);
            }
        };
        let disk = faulty_disk(8 * MIB, 512, Faults::default());
        let host = MemoryHost::with(&disk);
        let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
        let error = plan.execute(&image, &host, &watch, &CancelToken::new()).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Source, "{error}");
        assert!(error.to_string().contains("changed while it was read"), "{error}");
        assert!(
            error.next_step().unwrap().contains("wait until the file is complete"),
            "{error:?}"
        );
        assert!(!is_bootable(&disk.content()), "{name}");

        let untouched = faulty_disk(8 * MIB, 512, Faults::default());
        assert_eq!(
            flash(&image, &untouched).unwrap_err().kind(),
            ErrorKind::Source,
            "it is seen before the first write"
        );
        assert_eq!(untouched.content(), faulty_disk(8 * MIB, 512, Faults::default()).content());
    }
}

#[test]
fn a_sidecar_digest_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.img", &disk_image(2 * MIB));
    write(dir.path(), "a.img.sha256", format!("{}  a.img\n", Digest::of(b"another")).as_bytes());
    let disk = faulty_disk(2 * MIB, 512, Faults::default());
    assert_eq!(flash(&open(&path), &disk).unwrap_err().kind(), ErrorKind::Integrity);
}

#[test]
fn a_truncated_image_fails_and_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(12 * MIB);
    for (name, tool) in
        [("a.gz", "gzip"), ("a.xz", "xz"), ("a.bz2", "bzip2"), ("a.zst", "zstd"), ("a.lz4", "lz4")]
    {
        let whole = filter(&[tool, "-qc"], &bytes);
        let image = open(&write(dir.path(), name, &whole[..whole.len() - 9]));
        let disk = faulty_disk(12 * MIB, 512, Faults::default());
        let error = flash(&image, &disk).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(!is_bootable(&disk.content()), "{name}");
    }
}

#[test]
fn a_failing_target_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(6 * MIB);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let host = MemoryHost::default();
    let good = faulty_disk(6 * MIB, 512, Faults::default());
    let bad = faulty_disk(6 * MIB, 512, Faults { fail_write: Some(5), ..Faults::default() });
    let lying = faulty_disk(7 * MIB, 4096, Faults { flip_at: Some(2 << 20), ..Faults::default() });
    for (name, disk) in [("good", &good), ("bad", &bad), ("lying", &lying)] {
        host.add(name, disk);
    }
    let report = flash_to(&image, &host, FlashOptions::default()).unwrap();
    let kinds: Vec<_> =
        report.targets.iter().map(|t| t.failure.as_ref().map(|f| f.kind.as_str())).collect();
    assert_eq!(kinds, [None, Some("target"), Some("integrity")]);
    assert_eq!(report.failure_kind(), Some(ErrorKind::Integrity));
    assert!(good.content() == bytes);
    assert!(!is_bootable(&bad.content()) && !is_bootable(&lying.content()));
}

#[test]
fn a_hanging_target_is_given_up_and_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(12 * MIB);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let while_wiping = Faults { hang_write: Some(0), ..Faults::default() };
    let while_writing = Faults { hang_write: Some(4), ..Faults::default() };
    let in_the_last_flush = Faults { hang_flush: Some(1), ..Faults::default() };
    let while_read_back = Faults { hang_read_after: Some(2), ..Faults::default() };
    let check = |faults: Faults| {
        let host = MemoryHost::default();
        let good = faulty_disk(12 * MIB, 512, Faults::default());
        let hanging = faulty_disk(12 * MIB, 512, faults);
        host.add("good", &good);
        host.add("hanging", &hanging);
        let mut options = FlashOptions::default();
        // the good disk must finish each request in that time, also on a loaded machine
        options.stall_ms = 2000;
        let report = flash_to(&image, &host, options).unwrap();
        assert!(report.targets[0].failure.is_none() && good.content() == bytes);
        let failure = report.targets[1].failure.as_ref().unwrap();
        assert!(failure.message.contains("has not finished a request"), "{failure:?}");
        assert!(
            !is_bootable(&hanging.content()) || hanging.log().len() == 1,
            "{:?}",
            hanging.log()
        );
    };
    std::thread::scope(|scope| {
        for faults in [while_wiping, while_writing, in_the_last_flush, while_read_back] {
            scope.spawn(|| check(faults));
        }
    });
}

#[test]
fn a_slow_target_is_left_behind_and_completed_by_a_second_reading() {
    let dir = tempfile::tempdir().unwrap();
    // many pieces of data, so that the queue of the slow disk fills
    let mut bytes = vec![0; 160 * MIB];
    bytes.chunks_mut(512 << 10).for_each(|chunk| chunk[0] = 7);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let host = MemoryHost::default();
    let fast = faulty_disk(bytes.len(), 512, Faults::default());
    let slow = faulty_disk(
        bytes.len(),
        512,
        Faults { delay: Duration::from_millis(60), ..Faults::default() },
    );
    host.add("fast", &fast);
    host.add("slow", &slow);
    let notices = AtomicU64::new(0);
    let observer = |event: &Event| {
        if matches!(event, Event::Notice { message } if message.contains("/dev/slow")) {
            notices.fetch_add(1, Ordering::SeqCst);
        }
    };
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let report = plan.execute(&image, &host, &observer, &CancelToken::new()).unwrap();
    assert!(report.is_success(), "{report:?}");
    assert!(fast.content() == bytes && slow.content() == bytes);
    assert_eq!(notices.load(Ordering::SeqCst), 1);
}

/// Runs `work` until `is_time`, then cancels it. Returns its error, and how long it took to end.
fn cancel_when(
    is_time: impl Fn() -> bool,
    what: &str,
    cancel: &CancelToken,
    work: impl FnOnce() -> Error + Send,
) -> (Error, Duration) {
    std::thread::scope(|scope| {
        let running = scope.spawn(work);
        let waiting =
            || eventually(LIMIT, what, || (is_time() || running.is_finished()).then_some(()));
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(waiting));
        // also after a failure: the scope waits for the thread
        cancel.cancel();
        let begun = Instant::now();
        let error = running.join().unwrap();
        waited.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (error, begun.elapsed())
    })
}

/// Flashes, cancels after some requests, and expects that it ends soon and that the disk does not
/// boot.
fn cancel_after(requests: usize, image: &Image, disk: &Arc<MemoryDisk>) {
    let host = MemoryHost::with(disk);
    let cancel = CancelToken::new();
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let is_time = || disk.log().len() >= requests;
    let work = || plan.execute(image, &host, &(), &cancel).unwrap_err();
    let (error, waited) = cancel_when(is_time, "the disk gets its requests", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert!(!is_bootable(&disk.content()));
}

#[test]
fn an_unreadable_old_sector_does_not_stop_a_flash() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = disk_image(4 * MIB);
    let image = open(&write(dir.path(), "a.img", &bytes));
    let disk =
        faulty_disk(8 * MIB, 512, Faults { fail_read_at: Some(2 << 20), ..Faults::default() });
    let mut options = FlashOptions::default();
    options.verify = false;
    assert!(flash_to(&image, &MemoryHost::with(&disk), options).unwrap().is_success());
    assert!(disk.content()[..bytes.len()] == bytes[..]);
}

#[test]
fn cancelling_ends_within_a_second_and_leaves_nothing_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(64 * MIB)));
    let disk = faulty_disk(
        64 * MIB,
        512,
        Faults { delay: Duration::from_millis(60), ..Faults::default() },
    );
    cancel_after(20, &image, &disk);
    let requests = disk.log().len();
    // longer than a write takes: nothing else shows that no write follows
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(disk.log().len(), requests, "something was still writing after the caller was told");
}

#[test]
fn cancelling_does_not_wait_for_a_hanging_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(16 * MIB)));
    let disk = faulty_disk(16 * MIB, 512, Faults { hang_write: Some(3), ..Faults::default() });
    cancel_after(4, &image, &disk);
}

#[test]
fn cancelling_does_not_wait_for_the_last_flush_of_a_slow_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(2 * MIB)));
    let disk = faulty_disk(4 * MIB, 512, Faults { hang_flush: Some(1), ..Faults::default() });
    let host = MemoryHost::with(&disk);
    let cancel = CancelToken::new();
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let is_time = || disk.log().iter().filter(|request| **request == Request::Flush).count() >= 2;
    let work = || plan.execute(&image, &host, &(), &cancel).unwrap_err();
    let (error, _) = cancel_when(is_time, "the last flush begins", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!is_bootable(&disk.content()));
}

#[test]
fn cancelling_during_the_last_write_waits_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(MIB)));
    // a cancel waits 800 ms for requests that have begun: the write takes longer
    let disk = faulty_disk(
        2 * MIB,
        512,
        Faults { delay: Duration::from_millis(1000), ..Faults::default() },
    );
    let host = MemoryHost::with(&disk);
    let cancel = CancelToken::new();
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let is_at_start = |request: &Request| matches!(request, Request::Write(0, _));
    // the first request wipes
    let is_time = || disk.log().iter().filter(|request| is_at_start(request)).count() >= 2;
    let work = || plan.execute(&image, &host, &(), &cancel).unwrap_err();
    let (error, _) = cancel_when(is_time, "the last write begins", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let zeroed_again = disk.log().iter().filter(|request| is_at_start(request)).count();
    assert_eq!((zeroed_again, is_bootable(&disk.content())), (3, false));
}

#[test]
fn cancelling_waits_for_all_hanging_disks_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(4 * MIB)));
    let host = MemoryHost::default();
    let hanging = Faults { hang_write: Some(1), ..Faults::default() };
    let disks: Vec<_> = (0..32).map(|_| faulty_disk(4 * MIB, 512, hanging.clone())).collect();
    for (i, disk) in disks.iter().enumerate() {
        host.add(&format!("d{i}"), disk);
    }
    let cancel = CancelToken::new();
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let is_time = || disks.iter().all(|disk| disk.log().len() >= 2);
    let work = || plan.execute(&image, &host, &(), &cancel).unwrap_err();
    let (error, waited) = cancel_when(is_time, "all disks hang", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    // 800 ms for each of them would be more than 25 s
    assert!(
        waited < Duration::from_secs(15),
        "{waited:?}: as long as all of them one after the other"
    );
}

#[test]
fn cancelling_a_comparison_does_not_wait_for_a_hanging_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(96 * MIB)));
    let disk = faulty_disk(96 * MIB, 512, Faults { hang_read_after: Some(0), ..Faults::default() });
    let host = MemoryHost::with(&disk);
    let target = host.list().unwrap().remove(0);
    let cancel = CancelToken::new();
    // one reference here, one in the host, and the third in the comparison
    let is_time = || Arc::strong_count(&disk) > 2;
    let work = || verify(&image, &target, &host, false, &(), &cancel).unwrap_err();
    let (error, _) = cancel_when(is_time, "the comparison opens the disk", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn a_disk_file_is_free_when_its_flash_has_returned() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(MIB)));
    let path = write(dir.path(), "disk", &vec![0; 2 * MIB]);
    let host = bty::SystemHost::new();
    for i in 0..100 {
        let plan =
            FlashPlan::new(image.info(), vec![host.probe(&path).unwrap()], FlashOptions::default());
        let cancel = CancelToken::new();
        let observer = |event: &Event| {
            if i % 2 == 1 && matches!(event, Event::Phase { phase: bty::Phase::Write }) {
                cancel.cancel();
            }
        };
        let result = plan.execute(&image, &host, &observer, &cancel);
        assert_eq!(result.is_ok(), i % 2 == 0, "{result:?}");
        // a lock would not show it: a child process that another test starts has copies of all
        // files until it executes its program
        let files = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| entry.unwrap().path().read_link().ok());
        assert_eq!(
            files.filter(|file| *file == path).count(),
            0,
            "flash {i} has returned, and still has the disk open"
        );
    }
}

#[test]
fn cancelling_while_it_reads_back_is_no_failure_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let image = open(&write(dir.path(), "a.img", &disk_image(8 * MIB)));
    let disk = faulty_disk(8 * MIB, 512, Faults::default());
    let host = MemoryHost::with(&disk);
    let cancel = CancelToken::new();
    let observer = |event: &Event| {
        if matches!(event, Event::Phase { phase: bty::Phase::Verify }) {
            cancel.cancel();
        }
    };
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let error = plan.execute(&image, &host, &observer, &cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!is_bootable(&disk.content()));
}

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
        assert!(error.to_string().contains(reason), "{error}");
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
    partition.kind = bty::disks::DiskKind::Partition;
    let mut options = FlashOptions::default();
    options.fix_gpt = true;
    let plan = FlashPlan::new(image.info(), vec![disk, partition.clone(), partition], options);
    let refusals: Vec<String> = plan.validate().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(refusals.join("\n"), @r"
    the image has no GPT whose backup could be moved (leave out --fix-gpt)
    /dev/sdb: /dev/sdb1 is mounted on /mnt/data (unmount it)
    /dev/sdb: /dev/sdb2 is swap in use (run swapoff on it)
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
            .any(|r| r.reason == "no_target")
    );
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
    let report = verify(&image, &target, &host, false, &(), &CancelToken::new())?;
    assert!(report.is_equal);
    assert_eq!(report.compared_bytes, bytes.len() as u64);
    assert_eq!(disk.log().len(), before);
    // one changed sector in data, one in zeros
    let sector = filled_sector();
    for offset in [(5 << 20) + (512 << 10), 2 << 20] {
        disk.write_at(sector, offset).unwrap();
    }
    let report = verify(&image, &target, &host, false, &(), &CancelToken::new())?;
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
