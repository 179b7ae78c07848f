//! Flashing onto disks in memory: exactness, order, faults, power cuts, several targets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bty::digest::Sha512;
use bty::disks::{DiskKind, TableKind, Use};
use bty::flash::{
    FlashOptions, FlashPlan, FlashReport, Found, RefusalReason, VerifyOptions, verify,
};
use bty::image::OpenOptions;
use bty::testing::{DiskRequest, Faults, MemoryDisk, MemoryHost};
use bty::{
    CancelToken, Client, Device, Digest, Disk, DiskHost, Error, ErrorKind, Event, Image, Remedy,
    Result,
};
use bty_tests::disk::{faulty_disk, used_disk};
use bty_tests::images::{disk_image, filter, write};
use bty_tests::{LIMIT, eventually};

mod cancelling;
mod plan;
mod proof;
mod targets;
mod writing;

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
