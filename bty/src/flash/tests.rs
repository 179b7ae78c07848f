//! What reports and progress say about a flash.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::flash::{FlashOptions, FlashPlan, VerifyOptions, verify};
use crate::image::OpenOptions;
use crate::testing::{DiskRequest, MemoryDisk, MemoryHost};
use crate::{CancelToken, Client, DiskHost, Event, Image};

const MIB: usize = 1 << 20;

fn image(bytes: Vec<u8>) -> Image {
    let mut bytes = bytes;
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (options, bytes): (_, Arc<[u8]>) = (OpenOptions::default(), bytes.into());
    let cancel = CancelToken::new();
    Image::from_source(&Client::default(), "memory", bytes, &options, &cancel).unwrap()
}

#[test]
fn a_report_has_every_byte_that_was_written() {
    let image = image(vec![7; 5 * MIB]);
    let disk = Arc::new(MemoryDisk::new(64 * MIB));
    let host = MemoryHost::with(&disk);
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), FlashOptions::default());
    let report = plan.execute(&image, &host, &(), &CancelToken::new()).unwrap();
    let target = &report.targets[0];
    let written = |request: &DiskRequest| match request {
        DiskRequest::Write(_, len) => *len as u64,
        _ => 0,
    };
    let written: u64 = disk.log().iter().map(written).sum();
    assert_eq!(written, target.written_bytes + target.wiped_bytes);
    assert!(target.wiped_bytes > MIB as u64, "the places of old signatures");
}

#[test]
fn a_comparison_reports_progress_at_intervals_and_at_its_end() {
    // every MiB is an extent of zeros and one of data
    let mut bytes = vec![0; 64 * MIB];
    bytes.chunks_mut(MIB).for_each(|part| part[MIB / 2..].fill(1));
    let image = image(bytes);
    let disk = Arc::new(MemoryDisk::new(64 * MIB));
    let host = MemoryHost::with(&disk);
    let (events, last) = (AtomicUsize::new(0), AtomicU64::new(0));
    let started = std::time::Instant::now();
    let observer = |event: &Event| {
        if let Event::Progress { targets, .. } = event {
            events.fetch_add(1, Ordering::SeqCst);
            last.store(targets[0].verified_bytes, Ordering::SeqCst);
        }
    };
    let disk = &host.list().unwrap()[0];
    let (options, cancel) = (VerifyOptions::default(), CancelToken::new());
    let report = verify(&image, disk, &host, &options, &observer, &cancel).unwrap();
    let intervals = started.elapsed().as_millis() as usize / 200;
    assert!(events.load(Ordering::SeqCst) <= intervals + 2);
    assert_eq!(last.load(Ordering::SeqCst), report.compared_bytes);
    assert_eq!(report.compared_bytes, 64 * MIB as u64);
}

#[test]
fn a_comparison_that_fails_reports_no_end() {
    let image = image(vec![1; 4 * MIB]);
    let host = MemoryHost::with(&Arc::new(MemoryDisk::new(2 * MIB)));
    let seen = Mutex::new(Vec::new());
    let observer = |event: &Event| seen.lock().unwrap().push(event.clone());
    let disk = &host.list().unwrap()[0];
    let (options, cancel) = (VerifyOptions::default(), CancelToken::new());
    verify(&image, disk, &host, &options, &observer, &cancel).unwrap_err();
    assert!(seen.lock().unwrap().len() <= 1);
}
