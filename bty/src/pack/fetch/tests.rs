use std::io::Cursor;
use std::sync::Mutex;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::image::OpenOptions;
use crate::pack::scripted::{RangeReply, scripted};
use crate::pack::{PackOptions, pack};
use crate::source::custom;
use crate::{Client, Image};

const FRAME: usize = 64 << 10;

/// A packed image in memory, and its content.
struct Packed {
    content: Vec<u8>,
    file: Vec<u8>,
    index: Arc<PackIndex>,
}

impl Packed {
    /// An image of `frames` frames that do not compress, except that of each number in `zeros`.
    fn new(frames: usize, zeros: &[usize]) -> Self {
        let mut content = Vec::with_capacity(frames * FRAME);
        let mut state = 1u64;
        for number in 0..frames {
            for _ in 0..FRAME / 8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let noise = if zeros.contains(&number) { 0 } else { state ^ state >> 29 };
                content.extend_from_slice(&noise.to_le_bytes());
            }
        }
        content[510..512].copy_from_slice(&[0x55, 0xaa]);
        let (client, cancel) = (Client::default(), CancelToken::new());
        let bytes: Arc<[u8]> = content.clone().into();
        let image =
            Image::from_source(&client, "memory", bytes, &OpenOptions::default(), &cancel).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.img.zst");
        pack(&image, &path, &PackOptions::default().level(1), &(), &cancel).unwrap();
        let path = path.to_str().unwrap();
        let packed = Image::open(&client, path, &OpenOptions::default(), &cancel).unwrap();
        let index = Arc::clone(packed.shared_pack_index().unwrap());
        Self { content, file: std::fs::read(path).unwrap(), index }
    }

    fn offset(&self, number: u32) -> u64 {
        self.index.frames()[number as usize].file_offset
    }

    fn start(&self, source: &Source, frames: &[u32], context: &ReadContext) -> FrameFetcher {
        FrameFetcher::start(source, &self.index, frames.to_vec(), context).unwrap()
    }

    /// Fetches `frames` from `source`, and compares each with the content of the image.
    fn fetch(&self, source: &Source, frames: &[u32]) -> Result<()> {
        let mut fetcher = self.start(source, frames, &ReadContext::new(0, &CancelToken::new()));
        let mut numbers = Vec::new();
        while let Some((number, content)) = fetcher.next()? {
            let frame = &self.index.frames()[number as usize];
            let at = usize::try_from(frame.disk_offset).unwrap();
            assert!(self.content[at..at + frame.disk_bytes as usize] == content, "frame {number}");
            numbers.push(number);
        }
        assert_eq!(numbers, frames);
        Ok(())
    }
}

#[test]
fn near_frames_share_a_request_and_far_ones_do_not() {
    let packed = Packed::new(200, &[7]);
    let (source, requests) = scripted(&packed.file, |_| RangeReply::Range);
    // a gap of one frame is read over, gaps of two and three are not
    packed.fetch(&source, &[0, 1, 3, 6, 10, 11]).unwrap();
    let starts = |requests: &Mutex<Vec<Range<u64>>>| {
        let mut starts: Vec<_> = requests.lock().unwrap().iter().map(|r| r.start).collect();
        starts.sort_unstable();
        starts
    };
    assert_eq!(starts(&requests), [0, 6, 10].map(|number| packed.offset(number)));
    requests.lock().unwrap().clear();
    let all: Vec<u32> = (0..200).filter(|number| *number != 7).collect();
    packed.fetch(&source, &all).unwrap();
    assert_eq!(starts(&requests).len(), 2, "more than 8 MiB are two requests");
    assert!(requests.lock().unwrap().iter().all(|range| range.end - range.start <= 8 << 20));
    requests.lock().unwrap().clear();
    packed.fetch(&source, &[]).unwrap();
    assert!(requests.lock().unwrap().is_empty());
}

#[test]
fn what_arrives_is_counted_with_the_gaps() {
    let packed = Packed::new(8, &[]);
    let (source, _) = scripted(&packed.file, |_| RangeReply::Range);
    let context = ReadContext::new(0, &CancelToken::new());
    let mut fetcher = packed.start(&source, &[1, 3, 7], &context);
    while fetcher.next().unwrap().is_some() {}
    let counted = context.counts.source_bytes.load(std::sync::atomic::Ordering::Relaxed);
    let frame = &packed.index.frames()[7];
    let end = frame.file_offset + u64::from(frame.file_bytes);
    let range = packed.offset(4) - packed.offset(1) + end - packed.offset(7);
    assert_eq!(counted, range);
}

#[test]
fn a_server_that_sends_the_whole_file_is_read_once_from_its_start() {
    let packed = Packed::new(60, &[5]);
    let far: Vec<u32> = (0..60).step_by(6).collect();
    for first in [0, 1, 4] {
        // at once, and after a frame and a half of the range
        for after in [0, FRAME / 2] {
            let (source, requests) = scripted(&packed.file, move |n| {
                if n < first { RangeReply::Range } else { RangeReply::Whole(after) }
            });
            packed.fetch(&source, &far).unwrap();
            assert!(requests.lock().unwrap().len() <= 10, "no request is repeated");
        }
    }
    let near: Vec<u32> = (10..20).collect();
    let (source, requests) = scripted(&packed.file, |_| RangeReply::Whole(3 * FRAME / 2));
    packed.fetch(&source, &near).unwrap();
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[test]
fn a_source_that_can_be_read_only_from_its_start_delivers_frames() {
    let packed = Packed::new(20, &[3]);
    let source = custom::from_reader("pipe", Cursor::new(packed.file.clone()));
    packed.fetch(&source, &[2, 4, 19]).unwrap();
}

#[test]
fn a_frame_that_differs_from_the_index_is_named_and_not_delivered() {
    let packed = Packed::new(12, &[]);
    let mut damaged = packed.file.clone();
    damaged[usize::try_from(packed.offset(6)).unwrap() + 1000] ^= 1;
    let bytes: Arc<[u8]> = damaged.into();
    let source = custom::open("memory", bytes).unwrap();
    let context = ReadContext::new(0, &CancelToken::new());
    let mut fetcher = packed.start(&source, &[0, 5, 6, 7], &context);
    assert_eq!(fetcher.next().unwrap().unwrap().0, 0);
    assert_eq!(fetcher.next().unwrap().unwrap().0, 5);
    let error = fetcher.next().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Integrity, Some(packed.offset(6))));
    assert!(fetcher.next().is_err(), "nothing comes after a failure");
}

#[test]
fn a_file_that_ends_within_a_frame_is_an_error() {
    let packed = Packed::new(12, &[]);
    let (source, _) = scripted(&packed.file, |_| RangeReply::Short(FRAME + 10));
    let error = packed.fetch(&source, &[0, 1]).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Source, Some(FRAME as u64 + 10)));
    assert!(error.next_step().is_some());
}

#[test]
fn a_cancel_ends_a_fetch_that_hangs() {
    let packed = Packed::new(12, &[]);
    let (source, requests) = scripted(&packed.file, |_| RangeReply::Hang);
    let cancel = CancelToken::new();
    let mut fetcher = packed.start(&source, &[0, 11], &ReadContext::new(0, &cancel));
    let canceller = cancel.clone();
    let asked = Arc::clone(&requests);
    let thread = std::thread::spawn(move || {
        while asked.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        canceller.cancel();
    });
    assert!(fetcher.next().unwrap_err().is_cancelled());
    thread.join().unwrap();
}

#[test]
fn dropping_a_fetcher_ends_its_requests() {
    let packed = Packed::new(12, &[]);
    let (source, requests) = scripted(&packed.file, |_| RangeReply::Hang);
    let fetcher = packed.start(&source, &[0, 11], &ReadContext::new(0, &CancelToken::new()));
    drop(fetcher);
    // each worker has a clone of the source
    let started = Instant::now();
    while Arc::strong_count(&source.bytes) > 1 && started.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&source.bytes), 1);
    assert!(requests.lock().unwrap().len() <= 2);
}

#[test]
fn frames_that_nobody_takes_hold_further_requests_back() {
    let packed = Packed::new(1300, &[]);
    let (source, requests) = scripted(&packed.file, |_| RangeReply::Range);
    let all: Vec<u32> = (0..1300).collect();
    let mut fetcher = packed.start(&source, &all, &ReadContext::new(0, &CancelToken::new()));
    let begun = fetcher.begun.iter().map(|request| request.disk_bytes).sum::<u64>();
    assert!(begun <= AHEAD_BYTES && !fetcher.waiting.is_empty());
    while fetcher.next().unwrap().is_some() {}
    let total: u64 = requests.lock().unwrap().iter().map(|range| range.end - range.start).sum();
    assert_eq!(total, packed.index.frames_file_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_choice_of_frames_arrives(
        chosen in proptest::collection::btree_set(0u32..50, 0..50),
        whole_from in 0usize..12,
        after in 0usize..FRAME,
    ) {
        thread_local!(static PACKED: Packed = Packed::new(50, &[3, 4, 17, 49]));
        PACKED.with(|packed| {
            let frames = packed.index.frames();
            let is_data = |n: &u32| frames.get(*n as usize).is_some_and(|f| f.blake3.is_some());
            let frames: Vec<u32> = chosen.into_iter().filter(is_data).collect();
            let bytes: Arc<[u8]> = packed.file.clone().into();
            packed.fetch(&custom::open("memory", bytes).unwrap(), &frames).unwrap();
            let (source, _) = scripted(&packed.file, move |n| match n < whole_from {
                true => RangeReply::Range,
                false => RangeReply::Whole(after),
            });
            packed.fetch(&source, &frames).unwrap();
        });
    }
}
