//! Several targets, and disks that are slow or hang.

use super::*;

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
