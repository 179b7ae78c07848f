use std::sync::Arc;

use proptest::prelude::*;

use super::super::format::{BLOCK_BYTES, MAJOR, skippable_header, write_seek_table};
use super::super::scripted::{RangeReply, scripted};
use super::*;
use crate::source::custom;

/// Encoded and decoded length of each frame of a [`Hostile`] file.
const FRAME: (u32, u32) = (100, 16 << 10);

/// A file with the tables of a packed image, and no real frames: what finds the index reads none.
/// Tests change the parts. The fields of the index are described in [`super::super::format`].
struct Hostile {
    /// The bytes of all frames.
    frames: Vec<u8>,
    /// Content of the skippable frame with the index.
    index: Vec<u8>,
    /// Skippable frames between the last frame and the seek table.
    skippable: Vec<(u32, Vec<u8>)>,
    /// The seek table: encoded and decoded length of each frame, also of the skippable ones.
    entries: Vec<(u32, u32)>,
}

impl Hostile {
    fn new(frames: u32) -> Self {
        let blocks = u64::from(frames) * u64::from(FRAME.1 / BLOCK_BYTES);
        let mut index = MAGIC.to_vec();
        index.extend_from_slice(&MAJOR.to_le_bytes());
        index.extend_from_slice(&[0, 0]);
        index.extend_from_slice(&u32::try_from(HEADER_BYTES).unwrap().to_le_bytes());
        index.extend_from_slice(&[0; 16]);
        index.extend_from_slice(&(u64::from(frames) * u64::from(FRAME.1)).to_le_bytes());
        index.extend_from_slice(&BLOCK_BYTES.to_le_bytes());
        index.extend_from_slice(&FRAME.1.to_le_bytes());
        index.extend_from_slice(&u64::from(frames).to_le_bytes());
        index.extend_from_slice(&blocks.to_le_bytes());
        index.extend_from_slice(&(u64::from(frames) * u64::from(FRAME.0)).to_le_bytes());
        index.resize(HEADER_BYTES, 0);
        for _ in 0..frames {
            index.extend_from_slice(&FRAME.1.to_le_bytes());
            index.extend_from_slice(&FRAME.0.to_le_bytes());
            index.extend_from_slice(&[7; 32]);
        }
        index.resize(index.len() + usize::try_from(blocks).unwrap() * 8, 9);
        let index_frame = u32::try_from(index.len()).unwrap() + 8;
        let mut entries = vec![FRAME; frames as usize];
        entries.push((index_frame, 0));
        let frames = vec![1; frames as usize * FRAME.0 as usize];
        Self { frames, skippable: vec![(INDEX_FRAME, index.clone())], index, entries }
    }

    fn file(&self) -> Vec<u8> {
        let mut file = self.frames.clone();
        for (magic, content) in &self.skippable {
            file.extend_from_slice(&skippable_header(*magic, content.len() as u64).unwrap());
            file.extend_from_slice(content);
        }
        write_seek_table(&mut file, self.entries.iter().copied()).unwrap();
        file
    }

    /// Adds a skippable frame with this content at `position` among the others, and its entry to
    /// the seek table.
    fn insert(&mut self, position: usize, magic: u32, content: &[u8]) {
        self.skippable.insert(position, (magic, content.to_vec()));
        let at = self.entries.len() + 1 - self.skippable.len() + position;
        self.entries.insert(at, (u32::try_from(content.len()).unwrap() + 8, 0));
    }
}

fn found(file: &[u8]) -> Result<Option<PackIndex>> {
    let bytes: Arc<[u8]> = file.into();
    find_index(&custom::open("memory", bytes)?, &CancelToken::new())
}

#[track_caller]
fn assert_refused(file: &[u8], with: &str) {
    let error = found(file).expect_err(with);
    assert_eq!(error.kind(), ErrorKind::Format, "{error:?}");
    assert!(format!("{error:#}").contains(with), "{error:#} does not say {with:?}");
    assert!(error.next_step().is_some(), "{error:?} gives no next step");
}

#[test]
fn a_small_index_costs_one_request_and_a_large_one_two() {
    for (frames, requests_max) in [(3, 1), (1000, 1), (5000, 2)] {
        let file = Hostile::new(frames).file();
        let (source, requests) = scripted(&file, |_| RangeReply::Range);
        let index = find_index(&source, &CancelToken::new()).unwrap().unwrap();
        assert_eq!(index.frames().len(), frames as usize);
        let requests = requests.lock().unwrap();
        assert_eq!(requests.len(), requests_max, "{frames} frames");
        assert_eq!(requests[0].end, file.len() as u64);
        if let [tail, rest] = requests[..].to_vec().as_slice() {
            assert_eq!(*rest, index.frames_file_bytes()..tail.start, "no byte twice");
        }
    }
}

#[test]
fn a_file_that_is_not_packed_costs_one_short_request() {
    let plain = zstd::encode_all(&vec![3; 1 << 20][..], 1).unwrap();
    let mut seekable = plain.clone();
    let frame = (u32::try_from(plain.len()).unwrap(), 1 << 20);
    write_seek_table(&mut seekable, [frame].into_iter()).unwrap();
    let long = vec![5; 400_000];
    for file in [plain, seekable, long] {
        let (source, requests) = scripted(&file, |_| RangeReply::Range);
        assert!(find_index(&source, &CancelToken::new()).unwrap().is_none());
        let requests = requests.lock().unwrap();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].end - requests[0].start <= TAIL_BYTES);
    }
}

#[test]
fn a_server_without_an_end_to_send_has_no_index() {
    let file = Hostile::new(5000).file();
    for whole in [0, 1] {
        let script = move |n| if n == whole { RangeReply::Whole(0) } else { RangeReply::Range };
        let (source, requests) = scripted(&file, script);
        assert!(find_index(&source, &CancelToken::new()).unwrap().is_none());
        assert_eq!(requests.lock().unwrap().len(), whole + 1);
    }
    let (source, _) = scripted(&file, |_| RangeReply::Hang);
    let limit = Duration::from_millis(50);
    let search = search_within(&source, limit, &CancelToken::new()).unwrap();
    assert!(matches!(search, IndexSearch::Late));
    let started = Instant::now();
    while Arc::strong_count(&source.bytes) > 1 && started.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&source.bytes), 1, "the reader has ended");
}

#[test]
fn a_cancel_ends_the_search() {
    let (source, _) = scripted(&Hostile::new(3).file(), |_| RangeReply::Hang);
    let cancel = CancelToken::new();
    cancel.cancel();
    assert!(find_index(&source, &cancel).is_err_and(|error| error.is_cancelled()));
}

#[test]
fn other_skippable_frames_may_follow_the_index_but_not_precede_it() {
    let mut signed = Hostile::new(3);
    signed.insert(1, 0x184d_2a50, b"signature");
    assert!(found(&signed.file()).unwrap().is_some());
    let mut preceded = Hostile::new(3);
    preceded.insert(0, 0x184d_2a50, &[0; 200]);
    assert!(found(&preceded.file()).unwrap().is_none());
    let mut followed = Hostile::new(3);
    let len = SKIPPABLE_BYTES_MAX as usize;
    followed.insert(1, 0x184d_2a50, &vec![0; len]);
    assert_refused(&followed.file(), "too large");
}

#[test]
fn a_file_has_one_index_and_one_seek_table() {
    let mut twice = Hostile::new(3);
    let index = twice.index.clone();
    twice.insert(1, INDEX_FRAME, &index);
    assert_refused(&twice.file(), "two indexes");
    let mut tables = Hostile::new(3);
    tables.insert(1, SEEK_TABLE_FRAME, &[0; 40]);
    assert_refused(&tables.file(), "two seek tables");
}

#[test]
fn a_seek_table_that_differs_from_the_index_is_refused() {
    for (at, change) in [(0, (1, 0)), (0, (0, 1)), (2, (0, 4096))] {
        let mut hostile = Hostile::new(3);
        let (encoded, decoded) = hostile.entries[at];
        hostile.entries[at] = (encoded + change.0, decoded + change.1);
        assert_refused(&hostile.file(), "differs from the index");
    }
    let mut longer = Hostile::new(3);
    longer.entries.insert(0, FRAME);
    assert_refused(&longer.file(), "another number of frames");
    let mut shorter = Hostile::new(3);
    shorter.entries.remove(0);
    assert_refused(&shorter.file(), "another number of frames");
}

#[test]
fn frames_that_lie_elsewhere_are_refused() {
    let mut past_the_end = Hostile::new(3);
    past_the_end.frames.truncate(250);
    assert_refused(&past_the_end.file(), "describes another file");
    let mut before = Hostile::new(3);
    before.frames.insert(0, 0);
    assert_refused(&before.file(), "describes another file");
}

#[test]
fn claims_of_an_index_are_checked_before_it_is_read() {
    // the numbers of frames and of blocks, the size of the disk, and the length of all frames
    for at in [48, 56, 32, 64] {
        for claim in [u64::MAX, 1 << 63, 1 << 32, 0] {
            let mut hostile = Hostile::new(5000);
            hostile.skippable[0].1[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            let file = hostile.file();
            let (source, _) = scripted(&file, |_| RangeReply::Range);
            let error = find_index(&source, &CancelToken::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format, "{claim} at {at}: {error:?}");
        }
    }
}

#[test]
fn huge_claims_of_a_tiny_file_are_no_index() {
    let mut footer = u32::MAX.to_le_bytes().to_vec();
    footer.push(0);
    footer.extend_from_slice(&SEEK_TABLE_END.to_le_bytes());
    for len in 0..40 {
        let file = [vec![0; len], footer.clone()].concat();
        assert!(found(&file).unwrap().is_none(), "{len}");
        let entry = [u32::MAX.to_le_bytes(), [0; 4]].concat();
        let file = [vec![0; len], entry, [1, 0, 0, 0].to_vec(), footer[4..].to_vec()].concat();
        assert!(found(&file).unwrap().is_none(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn changed_bytes_never_crash_the_search_nor_lead_outside_the_file(
        frames in 0u32..6,
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
        cut in any::<u16>(),
    ) {
        let mut file = Hostile::new(frames).file();
        for (at, byte) in changes {
            let at = usize::from(at) % file.len();
            file[at] = byte;
        }
        // most often the whole file
        file.truncate(usize::from(cut).max(1));
        if let Ok(Some(index)) = found(&file) {
            prop_assert!(index.frames_file_bytes() < file.len() as u64);
            let ends = index.frames().iter().map(|f| f.file_offset + u64::from(f.file_bytes));
            prop_assert!(ends.max().unwrap_or(0) <= index.frames_file_bytes());
        }
    }
}
