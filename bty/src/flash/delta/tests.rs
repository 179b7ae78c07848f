//! A delta flash must leave the same bytes as a full one, whatever the disk held, and wherever it is
//! interrupted.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::flash::{DeltaMode, DeltaReport, FlashOptions, FlashPlan, FlashReport, Proof};
use crate::image::{HEAD_BYTES, OpenOptions};
use crate::pack::{PackOptions, pack};
use crate::testing::{DiskRequest, Faults, MemoryDisk, MemoryHost};
use crate::{CancelToken, Client, DiskHost, ErrorKind, Image, Result};

const BLOCK: usize = 4096;

/// The content of a block: zeros for 0, else always the same for the same number.
fn block(number: u32) -> Vec<u8> {
    let mut state = u64::from(number) << 32 | u64::from(number);
    let mut bytes = vec![0; BLOCK];
    if number > 0 {
        for byte in &mut bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 33) as u8;
        }
    }
    bytes
}

/// A disk whose first MiB has a boot sector and whose other blocks have these numbers.
fn content(blocks: &[u32]) -> Vec<u8> {
    let mut bytes = block(1_000_000);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.resize(HEAD_BYTES, 0);
    blocks.iter().for_each(|number| bytes.extend(block(*number)));
    bytes
}

/// A packed image of `disk`, in frames of 16 KiB.
fn packed(dir: &Path, disk: &[u8]) -> Image {
    let (client, cancel) = (Client::default(), CancelToken::new());
    let bytes: Arc<[u8]> = disk.into();
    let options = OpenOptions::default();
    let raw = Image::from_source(&client, "memory", bytes, &options, &cancel).unwrap();
    let path = dir.join("packed.img.zst");
    let small_frames = PackOptions::default().frame_bytes(16 << 10).level(1);
    pack(&raw, &path, &small_frames, &(), &cancel).unwrap();
    std::fs::remove_file(dir.join("packed.img.zst.sha256")).unwrap();
    let image = Image::open(&client, path.to_str().unwrap(), &options, &cancel).unwrap();
    assert!(image.pack_index().is_some());
    image
}

fn options() -> FlashOptions {
    FlashOptions::default().delta(DeltaMode::Always)
}

fn flash(image: &Image, disk: &Arc<MemoryDisk>, options: FlashOptions) -> Result<FlashReport> {
    let host = MemoryHost::with(disk);
    let plan = FlashPlan::new(image.info(), host.list().unwrap(), options);
    plan.execute(image, &host, &(), &CancelToken::new())
}

/// Flashes by delta, and returns what the disk had.
fn delta(image: &Image, disk: &Arc<MemoryDisk>, options: FlashOptions) -> DeltaReport {
    let report = flash(image, disk, options).unwrap();
    assert!(report.is_success(), "{:?}", report.targets[0].failure);
    let delta = report.targets[0].delta.expect("it was a delta flash");
    let data = image.pack_index().unwrap().data_bytes();
    assert_eq!(delta.kept_bytes + delta.moved_bytes + delta.fetched_bytes, data);
    delta
}

fn disk(content: &[u8], size: usize) -> MemoryDisk {
    let mut content = content.to_vec();
    content.resize(size, 0x33);
    MemoryDisk::with_content(content)
}

const MIB: usize = 1 << 20;

#[test]
fn the_same_image_again_writes_nothing_but_the_first_mib() {
    let dir = tempfile::tempdir().unwrap();
    let image = content(&(1..600).collect::<Vec<_>>());
    let packed = packed(dir.path(), &image);
    let disk = Arc::new(disk(&image, 5 * MIB));
    let report = flash(&packed, &disk, options()).unwrap();
    let target = &report.targets[0];
    assert_eq!((target.written_bytes, target.proof), (MIB as u64, Proof::Full));
    assert_eq!(target.delta.unwrap().moved_bytes, 0);
    assert_eq!(report.source_bytes, 0, "the first MiB was read when the image was opened");
    assert_eq!(disk.content()[..image.len()], image);
    assert!(target.verified_bytes >= image.len() as u64);
}

#[test]
fn moved_blocks_are_not_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let old: Vec<u32> = (1..601).collect();
    // shifted by one block, reversed, and swapped halves: the last needs a stash
    let shifted = [&[7777][..], &old[..599]].concat();
    let reversed: Vec<u32> = old.iter().rev().copied().collect();
    let swapped = [&old[300..], &old[..300]].concat();
    for (new, new_blocks) in [(shifted, 1), (reversed, 0), (swapped, 0)] {
        let packed = packed(dir.path(), &content(&new));
        let disk = Arc::new(disk(&content(&old), 5 * MIB));
        let delta = delta(&packed, &disk, options());
        let head = 16 << 10;
        let fetched = if new_blocks > 0 { 16 << 10 } else { 0 };
        assert_eq!(delta.fetched_bytes, head + fetched, "{delta:?}");
        assert_eq!(disk.content()[..content(&new).len()], content(&new));
        std::fs::remove_file(dir.path().join("packed.img.zst")).unwrap();
    }
}

#[test]
fn only_blocks_that_differ_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let old: Vec<u32> = (1..401).collect();
    let mut new = old.clone();
    for at in (0..400).step_by(40) {
        new[at] = 9000 + at as u32;
    }
    let packed = packed(dir.path(), &content(&new));
    let disk = Arc::new(disk(&content(&old), 4 * MIB));
    let report = flash(&packed, &disk, options()).unwrap();
    assert_eq!(report.targets[0].written_bytes, (MIB + 10 * BLOCK) as u64);
    assert_eq!(disk.content()[..content(&new).len()], content(&new));
}

#[test]
fn what_cannot_be_read_or_changes_after_the_scan_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let old: Vec<u32> = (1..401).collect();
    let new: Vec<u32> = old.iter().rev().copied().collect();
    let image = content(&new);
    let packed = packed(dir.path(), &image);
    let range = (MIB + 100 * BLOCK) as u64..(MIB + 120 * BLOCK) as u64;
    for faults in [
        Faults { unreadable: Some(range.clone()), ..Faults::default() },
        Faults { change_after_read: Some(range.clone()), ..Faults::default() },
    ] {
        let disk = Arc::new(disk(&content(&old), 4 * MIB).with_faults(faults));
        let delta = delta(&packed, &disk, options());
        assert!(delta.fetched_bytes >= 20 * BLOCK as u64, "{delta:?}");
        assert_eq!(disk.content()[..image.len()], image);
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let old: Vec<u32> = (1..401).collect();
    let mut new = old.clone();
    new[200..260].iter_mut().for_each(|number| *number += 5000);
    let packed = packed(dir.path(), &content(&new));
    let lost = (MIB + 210 * BLOCK) as u64;
    for faults in [
        Faults { lose_from: Some(lost), lose_until: Some(lost + 4096), ..Faults::default() },
        // writes wrap around, onto blocks that were kept
        Faults { wrap_at: Some((MIB + 150 * BLOCK) as u64), ..Faults::default() },
        Faults { flip_at: Some(lost), ..Faults::default() },
    ] {
        let disk = Arc::new(disk(&content(&old), 4 * MIB).with_faults(faults));
        let report = flash(&packed, &disk, options()).unwrap();
        let failure = report.targets[0].failure.as_ref().expect("the disk is wrong");
        assert_eq!(failure.kind, ErrorKind::Integrity, "{failure:?}");
        assert!(disk.content()[..HEAD_BYTES].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn several_disks_are_compared_one_by_one_and_fetched_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let new: Vec<u32> = (1..401).collect();
    let image = content(&new);
    let packed = packed(dir.path(), &image);
    let index = packed.pack_index().unwrap();
    let (same, half) = (disk(&image, 4 * MIB), disk(&content(&new[..200]), 4 * MIB));
    let (same, half, empty) = (Arc::new(same), Arc::new(half), Arc::new(MemoryDisk::new(4 * MIB)));
    let host = MemoryHost::new();
    for (name, disk) in [("same", &same), ("half", &half), ("empty", &empty)] {
        host.add(name, disk);
    }
    let plan = FlashPlan::new(packed.info(), host.list().unwrap(), options());
    let report = plan.execute(&packed, &host, &(), &CancelToken::new()).unwrap();
    assert!(report.is_success());
    let kept: Vec<u64> = report.targets.iter().map(|t| t.delta.unwrap().kept_bytes).collect();
    assert_eq!(kept, [400 * BLOCK as u64, 200 * BLOCK as u64, 0]);
    assert!(report.source_bytes <= index.frames_file_bytes(), "each frame was fetched once");
    for disk in [same, half, empty] {
        assert_eq!(disk.content()[..image.len()], image);
    }
}

#[test]
fn a_proven_disk_is_proven_by_a_sample() {
    let dir = tempfile::tempdir().unwrap();
    let image = content(&(1..800).collect::<Vec<_>>());
    let packed = packed(dir.path(), &image);
    let disk = Arc::new(disk(&image, 5 * MIB));
    let verified = |proven| {
        let report = flash(&packed, &disk, options().proven_disk(proven)).unwrap();
        (report.targets[0].proof, report.targets[0].verified_bytes)
    };
    let ((full_proof, full), (sample_proof, sample)) = (verified(false), verified(true));
    assert_eq!((full_proof, sample_proof), (Proof::Full, Proof::Sample));
    // all but one part in 16 of what was kept
    let kept = (image.len() - HEAD_BYTES) as u64;
    let left_out = full - sample;
    assert!(left_out < kept && left_out > kept * 7 / 8, "{left_out} of {kept}");
}

#[test]
fn a_delta_that_is_demanded_and_not_possible_is_refused_before_a_write() {
    let (client, cancel) = (Client::default(), CancelToken::new());
    let bytes: Arc<[u8]> = content(&[1, 2, 3]).into();
    let raw = Image::from_source(&client, "raw", bytes, &OpenOptions::default(), &cancel).unwrap();
    let disk = Arc::new(MemoryDisk::new(4 * MIB));
    let error = flash(&raw, &disk, options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(format!("{error:#}").contains("the image is not packed"), "{error:#}");
    assert_eq!(disk.log(), []);
}

#[test]
fn an_interrupted_flash_of_an_image_that_is_not_packed_skips_what_is_there() {
    let (client, cancel) = (Client::default(), CancelToken::new());
    let image = content(&(1..800).collect::<Vec<_>>());
    let bytes: Arc<[u8]> = image.clone().into();
    let raw = Image::from_source(&client, "raw", bytes, &OpenOptions::default(), &cancel).unwrap();
    let mut interrupted = image.clone();
    interrupted[..HEAD_BYTES].fill(0);
    let half = image.len() / 2;
    interrupted[half..].fill(0x44);
    let disk = Arc::new(disk(&interrupted, 5 * MIB));
    let report = flash(&raw, &disk, FlashOptions::default()).unwrap();
    let delta = report.targets[0].delta.expect("a part was there");
    assert!(delta.kept_bytes >= (half - HEAD_BYTES - BLOCK) as u64, "{delta:?}");
    assert_eq!(disk.content()[..image.len()], image);
}

/// Block numbers with zeros, runs that other images share, and repetitions.
fn blocks() -> impl Strategy<Value = Vec<u32>> {
    let part = prop_oneof![
        3 => (1u32..120, 1usize..60).prop_map(|(first, len)| {
            (0..u32::try_from(len).unwrap()).map(|i| first + i).collect::<Vec<u32>>()
        }),
        1 => (1usize..40).prop_map(|len| vec![0; len]),
        1 => (1u32..6, 1usize..30).prop_map(|(number, len)| vec![number; len]),
        1 => proptest::collection::vec(1u32..200, 1..30),
    ];
    proptest::collection::vec(part, 1..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_delta_flash_leaves_the_same_bytes_as_a_full_one(
        (old, new) in (blocks(), blocks()),
        cut in 0usize..8192,
        more in 0usize..300,
        sector in prop_oneof![Just(512u32), Just(4096)],
        stash in prop_oneof![Just(0u64), Just(4096), Just(1 << 20), Just(u64::MAX)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut image = content(&new);
        // an image may end within a block, even within a sector
        let end = image.len() - cut.min(image.len() - HEAD_BYTES);
        image.truncate(end);
        let packed = packed(dir.path(), &image);
        let size = (image.len() + more * BLOCK).next_multiple_of(BLOCK);
        let [by_delta, in_full] = [(); 2].map(|()| {
            Arc::new(disk(&content(&old), size).with_sector_bytes(sector))
        });
        delta(&packed, &by_delta, options().stash_bytes(stash));
        let full = FlashOptions::default().delta(DeltaMode::Never);
        prop_assert!(flash(&packed, &in_full, full).unwrap().is_success());
        prop_assert!(by_delta.content() == in_full.content());
        prop_assert!(by_delta.content()[..image.len()] == image[..]);
    }
}

/// A small generator, so that cuts are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

#[test]
fn a_power_cut_at_any_request_never_boots_and_the_same_flash_completes_it() {
    let dir = tempfile::tempdir().unwrap();
    let old: Vec<u32> = (1..161).collect();
    // moved up, swapped, repeated, new and zero blocks
    let new = [
        &old[3..60],
        &[0; 20],
        &old[100..140],
        &old[60..100],
        &old[..3],
        &[7; 9],
        &[900, 901, 902],
    ]
    .concat();
    let image = content(&new);
    let packed = packed(dir.path(), &image);
    let size = 3 * MIB;
    let requests = {
        let disk = Arc::new(disk(&content(&old), size));
        delta(&packed, &disk, options().stash_bytes(64 << 10));
        disk.log().len()
    };
    let mut random = Random(1);
    let mut cuts = 0;
    while cuts < cuts_wanted() {
        for request in 0..requests {
            let faults = Faults { power_after: Some(request), ..Faults::default() };
            let first = Arc::new(disk(&content(&old), size).with_faults(faults));
            let _ = flash(&packed, &first, options().stash_bytes(64 << 10));
            // nothing, all, or any subset of the sectors that were not flushed
            for keep in 0..4 {
                let after = first.power_cut(&mut |_| match keep {
                    0 => false,
                    1 => true,
                    _ => random.next() & 1 == 0,
                });
                check_after_cut(&after.content(), &content(&old), &image);
                let after = Arc::new(after);
                let report = delta(&packed, &after, options().stash_bytes(64 << 10));
                assert!(
                    after.content()[..image.len()] == image,
                    "cut at request {request}: {report:?}"
                );
                cuts += 1;
            }
        }
    }
}

/// How many power cuts are tried; `BTY_POWER_CUTS` asks for more.
fn cuts_wanted() -> usize {
    std::env::var("BTY_POWER_CUTS").ok().and_then(|it| it.parse().ok()).unwrap_or(2000)
}

/// A disk must not boot anything but the whole old system, or the whole new one.
fn check_after_cut(found: &[u8], old: &[u8], image: &[u8]) {
    let has_boot_sector = found[510..512] == [0x55, 0xaa];
    if has_boot_sector {
        let is_old = found[HEAD_BYTES..old.len()] == old[HEAD_BYTES..];
        let is_new = found[HEAD_BYTES..image.len()] == image[HEAD_BYTES..];
        assert!(is_old || is_new, "the disk would boot half a system");
    }
}

#[test]
fn a_flash_that_was_cut_in_the_middle_fetches_only_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let image = content(&(1..801).collect::<Vec<_>>());
    let packed = packed(dir.path(), &image);
    let whole = Arc::new(MemoryDisk::new(5 * MIB));
    let all = delta(&packed, &whole, options());
    let is_write = |request: &&DiskRequest| matches!(request, DiskRequest::Write(..));
    let writes = whole.log().iter().filter(is_write).count();
    let faults = Faults { fail_write: Some(writes / 2 + 1), ..Faults::default() };
    let cut = Arc::new(MemoryDisk::new(5 * MIB).with_faults(faults));
    let report = flash(&packed, &cut, options()).unwrap();
    assert!(!report.is_success());
    let rest = Arc::new(MemoryDisk::with_content(cut.content()));
    let second = delta(&packed, &rest, options());
    assert!(second.fetched_bytes < all.fetched_bytes, "{second:?} of {all:?}");
    assert_eq!(rest.content()[..image.len()], image);
}
