//! Cancelling a flash.

use super::*;

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
    let is_time =
        || disk.log().iter().filter(|request| **request == DiskRequest::Flush).count() >= 2;
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
    let is_at_start = |request: &DiskRequest| matches!(request, DiskRequest::Write(0, _));
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
    let work =
        || verify(&image, &target, &host, &VerifyOptions::default(), &(), &cancel).unwrap_err();
    let (error, _) = cancel_when(is_time, "the comparison opens the disk", &cancel, work);
    assert_eq!(error.kind(), ErrorKind::Cancelled);
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
