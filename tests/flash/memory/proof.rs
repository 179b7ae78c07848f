//! Digests, and reading back.

use super::*;

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
            let options = OpenOptions::default().sha256(digest);
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
    let error = flash(&path, OpenOptions::default().sha256(inside)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(
        format!("{error:#}").contains("is that of the unpacked image, not of the file"),
        "{error}"
    );
    assert_eq!(error.remedy(), Some(Remedy::ImageSha256), "{error:?}");

    let promised = OpenOptions::default().image_sha256(inside);
    assert!(flash(&path, promised.clone()).unwrap().is_digest_checked);
    let wrong = OpenOptions::default().image_sha256(Digest::of(b"another"));
    let error = flash(&path, wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(format!("{error:#}").contains("the image inside"), "{error}");

    let raw = write(dir.path(), "raw.img", &bytes);
    assert!(flash(&raw, promised.clone()).unwrap().is_digest_checked);
    let long = OpenOptions::default().sha512(sha512);
    assert!(flash(&raw, long.clone()).unwrap().is_digest_checked);
    let error = flash(&path, long).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Integrity && format!("{error:#}").contains(&sha512.to_string()),
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
    assert!(flash(&qcow2, OpenOptions::default().sha512(sha512)).unwrap().is_digest_checked);
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
        assert!(format!("{error:#}").contains("changed while it was read"), "{error}");
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
