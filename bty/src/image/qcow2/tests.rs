//! Tests with images that `qemu-img` made, and with images that no program would make.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::digest::Digest;
use crate::extent::{Extent, Pool};
use crate::source::ByteSource;
use crate::{Client, Location};

const MIB: usize = 1 << 20;

/// A source in memory that records reads, and can fail or change between them.
#[derive(Default)]
struct Memory {
    bytes: Mutex<Vec<u8>>,
    /// Offsets and lengths that streams delivered.
    streamed: Mutex<Vec<(u64, u64)>>,
    streams: AtomicU64,
    fails_at: Option<u64>,
    /// Streams block until cancelled.
    stalls: bool,
}

struct MemoryStream {
    memory: Arc<Memory>,
    position: u64,
    cancel: CancelToken,
}

/// The bytes of a [`Source`]: the memory, and its handle for streams.
struct MemoryInput(Arc<Memory>);

impl ByteSource for MemoryInput {
    fn len_bytes(&self) -> Option<u64> {
        Some(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(MemoryStream {
            memory: Arc::clone(&self.0),
            position: offset,
            cancel: cancel.clone(),
        }))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        cancel.check()?;
        let bytes = self.0.bytes.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl Read for MemoryStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.memory.stalls {
            // like a connection on which nothing arrives: only a cancel ends it
            loop {
                self.cancel.check()?;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if self.memory.fails_at.is_some_and(|at| self.position >= at) {
            return Err(Error::new(ErrorKind::Source, "the cable is out")
                .hint("plug it in")
                .into());
        }
        let bytes = self.memory.bytes.lock().unwrap();
        let rest = &bytes[self.position as usize..];
        // at most an odd number of bytes, as from a network
        let len = rest.len().min(buf.len()).min(65_537);
        buf[..len].copy_from_slice(&rest[..len]);
        self.memory.streamed.lock().unwrap().push((self.position, len as u64));
        self.position += len as u64;
        Ok(len)
    }
}

fn memory(bytes: Vec<u8>) -> Memory {
    Memory { bytes: Mutex::new(bytes), ..Memory::default() }
}

fn remote(memory: Memory) -> (Source, Arc<Memory>) {
    let memory = Arc::new(memory);
    let input = Arc::new(MemoryInput(Arc::clone(&memory)));
    (Source::new(Location::File("remote.qcow2".into()), "remote", input), memory)
}

fn local(path: &Path) -> Source {
    Client::default().open(path.to_str().unwrap(), &CancelToken::new()).unwrap()
}

fn reading(buffers: usize, threads: usize) -> ReadContext {
    ReadContext {
        in_disk_order: false,
        pool: Arc::new(Pool::new(buffers)),
        threads,
        memory_bytes: 64 << 20,
        counts: Arc::default(),
        cancel: CancelToken::new(),
        needs_digest: false,
    }
}

/// Writes the extents to a disk filled with a pattern, so that ranges without an extent are
/// detected.
fn disk(reader: &mut dyn ExtentReader, len: usize) -> Result<Vec<u8>> {
    let mut disk = vec![0xa5; len];
    let mut total = 0;
    while let Some(extent) = reader.next()? {
        let (offset, len) = match extent {
            Extent::Data { offset, block } => {
                disk[offset as usize..][..block.len()].copy_from_slice(&block);
                (offset, block.len())
            }
            Extent::Zero { offset, len } => {
                disk[offset as usize..][..len as usize].fill(0);
                (offset, len as usize)
            }
        };
        assert_eq!(offset % 512, 0);
        total += len;
    }
    assert_eq!(total, len, "every byte is given exactly once");
    Ok(disk)
}

fn read_all(source: &Source, reading: &ReadContext) -> Result<Vec<u8>> {
    let image = Qcow2::open(source, &reading.cancel)?;
    disk(&mut *image.extents(source, reading)?, image.virtual_bytes() as usize)
}

fn qemu_img(dir: &TempDir, args: &str) {
    let output = Command::new("qemu-img")
        .args(args.split_whitespace())
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "qemu-img {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn qemu_io(dir: &TempDir, script: &str) {
    let args = ["-f", "qcow2", "-c", script, "image.qcow2"];
    let output = Command::new("qemu-io").args(args).current_dir(dir.path()).output().unwrap();
    assert!(
        output.status.success(),
        "qemu-io {script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Random bytes, reproducible by `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Disk-like content: noise, text and zeros in patches of `patch` bytes.
fn content(len: usize, patch: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (index, chunk) in bytes.chunks_mut(patch).enumerate() {
        match index % 5 {
            0 => chunk.copy_from_slice(&noise(index as u64, chunk.len())),
            1 => chunk.iter_mut().enumerate().for_each(|(i, byte)| *byte = b"lorem ipsum "[i % 12]),
            3 => chunk[0] = 1,
            _ => {}
        }
    }
    bytes
}

/// Converts `raw` to `image.qcow2` with `options`, and returns what qemu-img reads from it.
fn convert(dir: &TempDir, raw: &[u8], options: &str) -> Vec<u8> {
    fs::write(dir.path().join("raw"), raw).unwrap();
    qemu_img(dir, &format!("convert -f raw -O qcow2 {options} raw image.qcow2"));
    export(dir)
}

fn export(dir: &TempDir) -> Vec<u8> {
    qemu_img(dir, "convert -f qcow2 -O raw image.qcow2 back");
    fs::read(dir.path().join("back")).unwrap()
}

fn image_file(dir: &TempDir) -> Vec<u8> {
    fs::read(dir.path().join("image.qcow2")).unwrap()
}

/// Reads `image.qcow2` in every supported way, and expects `disk`.
fn expect(dir: &TempDir, disk: &[u8], what: &str) {
    let path = dir.path().join("image.qcow2");
    let source = local(&path);
    let digest = Digest::of(&fs::read(&path).unwrap());
    for (threads, buffers) in [(1, 1), (3, 4)] {
        assert!(
            read_all(&source, &reading(buffers, threads)).unwrap() == disk,
            "{what}, {threads} threads"
        );
    }
    let (bytes, checked) = (fs::read(&path).unwrap(), source.expect(digest).unwrap());
    let (streamed, _) = remote(memory(bytes));
    for source in [checked, streamed.expect(digest).unwrap()] {
        let reading = reading(4, 2);
        let image = Qcow2::open(&source, &reading.cancel).unwrap();
        let mut reader = image.extents(&source, &reading).unwrap();
        assert!(self::disk(&mut *reader, disk.len()).unwrap() == disk, "{what}, with a digest");
        assert_eq!(reader.digests().wire.sha256, Some(digest), "{what}");
        assert_eq!(
            reading.counts.source_bytes.load(Ordering::Relaxed),
            source.len_bytes().unwrap()
        );
        assert_eq!(reading.counts.decoded_bytes.load(Ordering::Relaxed), disk.len() as u64);
        probe(&image, &source, disk);
    }
}

fn probe(image: &Qcow2, source: &Source, disk: &[u8]) {
    let cancel = CancelToken::new();
    for (offset, len) in [
        (0, 1),
        (0, MIB),
        (511, 2),
        (65_535, 70_000),
        (disk.len().saturating_sub(3), 10),
        (disk.len(), 1),
    ] {
        let mut buf = vec![0xa5; len];
        let n = image.read_at_guest(source, &mut buf, offset as u64, &cancel).unwrap();
        let wanted = disk.get(offset..).unwrap_or_default();
        let wanted = &wanted[..wanted.len().min(len)];
        assert!(buf[..n] == *wanted, "{len} bytes at {offset}");
    }
}

#[test]
fn reads_what_qemu_img_reads() {
    let dir = TempDir::new().unwrap();
    for options in [
        "-o compat=0.10",
        "-o compat=0.10 -c",
        "-o compat=1.1",
        "-o compat=1.1 -c",
        "-o compression_type=zstd -c",
        "-o cluster_size=512",
        "-o cluster_size=512 -c",
        "-o cluster_size=4k -c",
        "-o cluster_size=4k,compression_type=zstd -c",
        "-o cluster_size=2M",
        "-o cluster_size=2M -c",
        "-o extended_l2=on",
        "-o extended_l2=on,cluster_size=16k",
        "-o extended_l2=on,compression_type=zstd -c",
        "-o preallocation=metadata",
        "-o lazy_refcounts=on",
        "-S 4k",
        "-S 0",
        "-W",
        "-m 16 -W -c",
    ] {
        for patch in [3 << 10, 200 << 10] {
            let raw = content(5 * MIB + 512, patch);
            let back = convert(&dir, &raw, options);
            assert!(back == raw, "qemu-img {options}");
            expect(&dir, &raw, options);
        }
    }
}

#[test]
fn sizes_around_a_cluster_are_exact() {
    let dir = TempDir::new().unwrap();
    for size in [0, 512, 65_536 - 512, 65_536, 65_536 + 512, 3 * 65_536 - 512] {
        for options in ["", "-c", "-o extended_l2=on"] {
            let raw = content(size, 5000);
            convert(&dir, &raw, options);
            expect(&dir, &raw, &format!("{size} bytes {options}"));
        }
    }
}

#[test]
fn an_odd_size_is_cut_to_the_byte() {
    let dir = TempDir::new().unwrap();
    let raw = content(3 * 65_536, 5000);
    for options in ["", "-c"] {
        convert(&dir, &raw, options);
        for size in [1, 65_537, 2 * 65_536 + 1001] {
            let mut file = image_file(&dir);
            file[24..32].copy_from_slice(&(size as u64).to_be_bytes());
            let (source, _) = remote(memory(file));
            assert!(read_all(&source, &reading(2, 2)).unwrap() == raw[..size], "{size} {options}");
        }
    }
}

#[test]
fn snapshots_and_holes_made_later_are_followed() {
    let dir = TempDir::new().unwrap();
    convert(&dir, &content(4 * MIB, 90_000), "");
    qemu_img(&dir, "snapshot -c before image.qcow2");
    qemu_img(&dir, "resize image.qcow2 6M");
    let disk = export(&dir);
    assert_eq!(disk.len(), 6 * MIB);
    expect(&dir, &disk, "snapshot");
    // clusters that are kept but read as zeros, and some that were written out of order
    for script in
        ["write -z 64k 128k", "write -P 7 5M 100k", "write -P 9 1M 70k", "discard 2M 256k"]
    {
        qemu_io(&dir, script);
    }
    expect(&dir, &export(&dir), "after writes");
}

#[test]
fn a_map_larger_than_memory_is_read_in_windows() {
    let dir = TempDir::new().unwrap();
    for options in ["-c", "-o extended_l2=on", "-o cluster_size=512"] {
        let raw = content(4 * MIB, 9000);
        convert(&dir, &raw, options);
        let path = dir.path().join("image.qcow2");
        let digest = Digest::of(&image_file(&dir));
        for source in [local(&path), local(&path).expect(digest).unwrap()] {
            let reading = reading(3, 2);
            let image = Qcow2 { runs_max: 40, ..Qcow2::open(&source, &reading.cancel).unwrap() };
            let mut reader = image.extents(&source, &reading).unwrap();
            assert!(disk(&mut *reader, raw.len()).unwrap() == raw, "{options}");
            assert_eq!(reader.digests().wire, source.expected_checksums());
        }
        let (source, _) = remote(memory(image_file(&dir)));
        let source = source.expect(digest).unwrap();
        let image = Qcow2 { runs_max: 40, ..Qcow2::open(&source, &CancelToken::new()).unwrap() };
        let error =
            disk(&mut *image.extents(&source, &reading(3, 2)).unwrap(), raw.len()).unwrap_err();
        assert_eq!(error.next_step(), Some("download it first, then use the file"));
    }
}

#[test]
fn tables_larger_than_one_read_are_followed() {
    let dir = TempDir::new().unwrap();
    qemu_img(&dir, "create -f qcow2 -o cluster_size=2M image.qcow2 1200G");
    let written = [(0, 1), (299u64 << 30, 2), (300 << 30, 3), (1199 << 30, 4)];
    for (offset, byte) in written {
        qemu_io(&dir, &format!("write -P {byte} {offset} 4k"));
    }
    let file = image_file(&dir);
    let digest = Digest::of(&file);
    let (source, _) = remote(memory(file));
    for source in [source.clone(), source.expect(digest).unwrap()] {
        let reading = reading(2, 1);
        let image = Qcow2::open(&source, &reading.cancel).unwrap();
        let mut reader = image.extents(&source, &reading).unwrap();
        let (mut total, mut found) = (0, Vec::new());
        while let Some(extent) = reader.next().unwrap() {
            match extent {
                Extent::Data { offset, block } => {
                    assert!(block[..4096].iter().all(|byte| *byte == block[0]));
                    found.push((offset, block[0]));
                    total += block.len() as u64;
                }
                Extent::Zero { len, .. } => total += len,
            }
        }
        assert_eq!((total, found), (1200 << 30, written.to_vec()));
        assert_eq!(reader.digests().wire, source.expected_checksums());
        let mut buf = [0; 3];
        image.read_at_guest(&source, &mut buf, (300 << 30) + 4094, &reading.cancel).unwrap();
        assert_eq!(buf, [3, 3, 0]);
    }
}

#[test]
fn the_order_is_the_same_on_every_pass() {
    let dir = TempDir::new().unwrap();
    convert(&dir, &content(24 * MIB, 70_000), "-m 16 -W -c");
    let source = local(&dir.path().join("image.qcow2"));
    let order = |threads| {
        let reading = reading(12, threads);
        let image = Qcow2::open(&source, &reading.cancel).unwrap();
        let mut reader = image.extents(&source, &reading).unwrap();
        let mut order = Vec::new();
        while let Some(extent) = reader.next().unwrap() {
            order.push(match extent {
                Extent::Data { offset, block } => (offset, block.len() as u64, true),
                Extent::Zero { offset, len } => (offset, len, false),
            });
        }
        order
    };
    assert_eq!(order(1), order(4));
    assert_eq!(order(4), order(4));
}

#[test]
fn only_what_is_allocated_is_fetched() {
    let dir = TempDir::new().unwrap();
    let mut raw = vec![0; 64 * MIB];
    raw[..MIB].copy_from_slice(&noise(1, MIB));
    raw[40 * MIB..41 * MIB].copy_from_slice(&noise(2, MIB));
    convert(&dir, &raw, "-o preallocation=full -S 0");
    let mut file = image_file(&dir);
    // keep the clusters of both megabytes, and one beside
    let table = |file: &[u8], at: usize| u64::from_be_bytes(file[at..at + 8].try_into().unwrap());
    let l2 = (table(&file, table(&file, 40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    for cluster in (16..640).chain(656..1024) {
        file[l2 + cluster * 8..][..8].fill(0);
    }
    let (source, memory) = remote(memory(file));
    assert!(read_all(&source, &reading(2, 1)).unwrap() == raw);
    let fetched: u64 = memory.streamed.lock().unwrap().iter().map(|(_, len)| len).sum();
    assert_eq!(fetched, 2 * MIB as u64);
    assert_eq!(memory.streams.load(Ordering::Relaxed), 2);
}

#[test]
fn with_a_digest_every_byte_is_read_once_in_order() {
    let dir = TempDir::new().unwrap();
    let raw = content(12 * MIB, 100_000);
    for options in ["", "-c"] {
        convert(&dir, &raw, options);
        let file = image_file(&dir);
        let digest = Digest::of(&file);
        let len = file.len() as u64;
        let (source, memory) = remote(memory(file));
        assert!(read_all(&source.expect(digest).unwrap(), &reading(2, 2)).unwrap() == raw);
        let mut position = 0;
        for (offset, len) in &*memory.streamed.lock().unwrap() {
            assert_eq!(*offset, position);
            position += len;
        }
        assert_eq!((position, memory.streams.load(Ordering::Relaxed)), (len, 1));
    }
}

#[test]
fn a_changed_table_is_detected() {
    let dir = TempDir::new().unwrap();
    convert(&dir, &content(2 * MIB, 100_000), "");
    let file = image_file(&dir);
    let l1 = u64::from_be_bytes(file[40..48].try_into().unwrap()) as usize;
    for at in [30, l1 + 2] {
        let (source, memory) = remote(memory(file.clone()));
        let source = source.expect(Digest::of(&file)).unwrap();
        let image = Qcow2::open(&source, &CancelToken::new()).unwrap();
        memory.bytes.lock().unwrap()[at] ^= 1;
        let error =
            disk(&mut *image.extents(&source, &reading(2, 1)).unwrap(), 2 * MIB).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(format!("{error:#}").contains("changed while it was read"), "{error}");
    }
}

/// Builds an image by hand: version 3, clusters of 64 KiB, with the given L2 entries and `clusters`
/// clusters in all.
fn by_hand(entries: &[u64], clusters: usize) -> Vec<u8> {
    let mut file = vec![0; clusters << 16];
    file[..4].copy_from_slice(b"QFI\xfb");
    file[4..8].copy_from_slice(&3u32.to_be_bytes());
    file[20..24].copy_from_slice(&16u32.to_be_bytes());
    file[24..32].copy_from_slice(&((entries.len() as u64) << 16).to_be_bytes());
    file[36..40].copy_from_slice(&1u32.to_be_bytes());
    file[40..48].copy_from_slice(&(1u64 << 16).to_be_bytes());
    file[100..104].copy_from_slice(&104u32.to_be_bytes());
    file[1 << 16..][..8].copy_from_slice(&(2u64 << 16).to_be_bytes());
    for (index, entry) in entries.iter().enumerate() {
        file[(2 << 16) + index * 8..][..8].copy_from_slice(&entry.to_be_bytes());
    }
    for cluster in 3..clusters {
        file[cluster << 16..][..65_536].copy_from_slice(&noise(cluster as u64, 65_536));
    }
    file
}

fn refusal(file: Vec<u8>) -> String {
    format!("{:?}", read_all(&remote(memory(file)).0, &reading(2, 1)).unwrap_err())
}

#[test]
fn damaged_tables_are_refused() {
    let mut version_2 = by_hand(&[(3 << 16) | 1], 4);
    version_2[7] = 2;
    let mut no_table = by_hand(&[0], 3);
    no_table[(1 << 16) + 6] = 2;
    let mut far_table = by_hand(&[0], 3);
    far_table[(1 << 16) + 4] = 1;
    let mut short_table = by_hand(&[0], 3);
    short_table.pop();
    let mut extended = by_hand(&[3 << 16, 0x1_0000_0001], 4);
    extended[79] = 0x10;
    let cases = [
        by_hand(&[0, 5 << 16], 5),
        by_hand(&[(3 << 16) + 512], 4),
        by_hand(&[(1 << 62) | (9 << 16)], 4),
        by_hand(&[(1 << 62) | (3 << 16)], 4),
        version_2,
        no_table,
        far_table,
        short_table,
        extended,
    ];
    insta::assert_snapshot!(cases.map(refusal).join("\n"), @r"
    [source] the image is cut short: the cluster for offset 65536 of the disk is at offset 327680, the file has 327680 bytes (download or copy it again)
    [format] a cluster cannot be at offset 197120 (download or copy the image again, this one is damaged)
    [source] the image is cut short: the cluster for offset 0 of the disk is at offset 589824, the file has 262144 bytes (download or copy it again)
    [format] the compressed cluster for offset 0 of the disk is damaged (download or copy the image again, this one is damaged)
    [format] the cluster for offset 0 has a flag that version 2 does not have (download or copy the image again, this one is damaged)
    [format] an L2 table cannot be at offset 131584 (download or copy the image again, this one is damaged)
    [source] the image is cut short: an L2 table is at offset 16908288, the file has 196608 bytes (download or copy it again)
    [source] the image is cut short: an L2 table is at offset 131072, the file has 196607 bytes (download or copy it again)
    [format] the cluster for offset 0 has contradictory flags (download or copy the image again, this one is damaged)
    ");
}

#[test]
fn shared_clusters_are_read_for_each_use() {
    let file = by_hand(&[3 << 16, 3 << 16, 4 << 16, 3 << 16], 5);
    let (three, four) = (file[3 << 16..4 << 16].to_vec(), file[4 << 16..].to_vec());
    let raw = [&three[..], &three, &four, &three].concat();
    let digest = Digest::of(&file);
    assert!(read_all(&remote(memory(file.clone())).0, &reading(2, 1)).unwrap() == raw);
    let (source, _) = remote(memory(file.clone()));
    let error = read_all(&source.expect(digest).unwrap(), &reading(2, 1)).unwrap_err();
    insta::assert_snapshot!(format!("{error:?}"), @"[source] the image is too fragmented to check its digest while it is read over the network (download it first, then use the file)");
    // the digest of a local file is computed first
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("image.qcow2"), file).unwrap();
    let source = local(&dir.path().join("image.qcow2")).expect(digest).unwrap();
    let reading = reading(2, 1);
    let image = Qcow2::open(&source, &reading.cancel).unwrap();
    let mut reader = image.extents(&source, &reading).unwrap();
    assert!(disk(&mut *reader, raw.len()).unwrap() == raw);
    assert_eq!(reader.digests().wire.sha256, Some(digest));
}

#[test]
fn the_last_cluster_may_be_cut_by_the_end_of_the_file() {
    let mut file = by_hand(&[4 << 16, 3 << 16], 5);
    file.truncate((4 << 16) + 700);
    let mut raw = file[4 << 16..].to_vec();
    raw.resize(65_536, 0);
    raw.extend_from_slice(&file[3 << 16..4 << 16]);
    let digest = Digest::of(&file);
    let (source, _) = remote(memory(file));
    assert!(read_all(&source, &reading(2, 1)).unwrap() == raw);
    assert!(read_all(&source.expect(digest).unwrap(), &reading(2, 1)).unwrap() == raw);
}

#[test]
fn an_error_of_the_source_passes_through() {
    let dir = TempDir::new().unwrap();
    convert(&dir, &noise(3, 3 * MIB), "");
    let (source, _) = remote(Memory { fails_at: Some(2 * MIB as u64), ..memory(image_file(&dir)) });
    let error = read_all(&source, &reading(2, 1)).unwrap_err();
    assert_eq!((error.kind(), error.next_step()), (ErrorKind::Source, Some("plug it in")));
    assert!(format!("{error:#}").ends_with("the cable is out"), "{error}");
}

#[test]
fn no_error_is_followed_by_a_clean_end() {
    let (source, _) = remote(memory(by_hand(&[(1 << 62) | (3 << 16)], 4)));
    let reading = reading(2, 1);
    let image = Qcow2::open(&source, &reading.cancel).unwrap();
    let mut reader = image.extents(&source, &reading).unwrap();
    assert_eq!(reader.next().unwrap_err().kind(), ErrorKind::Format);
    assert!(reader.next().is_err());
    assert_eq!(reader.digests().wire.sha256, None);
}

#[test]
fn cancel_and_drop_end_all_threads_soon() {
    let dir = TempDir::new().unwrap();
    convert(&dir, &noise(4, 24 * MIB), "-c");
    let file = image_file(&dir);
    for stalls in [true, false] {
        for cancelled in [true, false] {
            let (source, _) = remote(Memory { stalls, ..memory(file.clone()) });
            let reading = reading(1, 2);
            let image = Qcow2::open(&source, &reading.cancel).unwrap();
            let mut reader = image.extents(&source, &reading).unwrap();
            // holding the only buffer makes the producer wait for it
            let held = (!stalls).then(|| reader.next().unwrap());
            let started = Instant::now();
            if cancelled {
                reading.cancel.cancel();
                while reader.next().is_ok_and(|extent| extent.is_some()) {}
                assert!(reader.next().unwrap_err().is_cancelled());
            }
            // joins the threads
            drop(reader);
            // a bound on hanging, not on speed
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "stalls {stalls}, cancelled {cancelled}"
            );
            drop(held);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn changed_bytes_never_hang_or_panic(
        changes in prop::collection::vec(
            (
                prop_oneof![0usize..112, 0x1_0000usize..0x1_0008, 0x2_0000usize..0x2_0040],
                any::<u8>(),
            ),
            1..5,
        ),
        with_digest: bool,
    ) {
        let entries = [3 << 16, 0, (4 << 16) | 1, (1 << 62) | (5 << 16), 4 << 16, 0, 0, 5 << 16];
        let mut file = by_hand(&entries, 6);
        for (at, byte) in changes {
            file[at] = byte;
        }
        let digest = Digest::of(&file);
        let (mut source, _) = remote(memory(file));
        source.expected.sha256 = with_digest.then_some(digest);
        read_briefly(&source);
    }

    #[test]
    fn random_tables_never_hang_or_panic(
        entries in prop::collection::vec(
            prop_oneof![
                any::<u64>(),
                (0u64..8).prop_map(|c| c << 16),
                (0u64..0x8_0000, 0u64..4).prop_map(|(o, s)| 1 << 62 | s << 54 | o),
            ],
            1..40,
        ),
        cluster_bits in 9u8..=21,
        features in prop_oneof![Just(0u8), Just(0x10)],
        virtual_bytes in prop_oneof![0u64..1 << 24, any::<u64>()],
    ) {
        let mut file = by_hand(&entries, 6);
        file[23] = cluster_bits;
        file[79] = features;
        file[24..32].copy_from_slice(&virtual_bytes.to_be_bytes());
        read_briefly(&remote(memory(file)).0);
    }
}

/// Reads until the end or an error, but not for long: a small file may describe a large disk.
fn read_briefly(source: &Source) {
    let reading = reading(2, 2);
    let Ok(image) = Qcow2::open(source, &reading.cancel) else { return };
    let _ = image.read_at_guest(source, &mut vec![0; 70_000], 300, &reading.cancel);
    let mut reader = image.extents(source, &reading).unwrap();
    for _ in 0..200 {
        match reader.next() {
            Ok(Some(Extent::Data { offset, block })) => {
                assert!(offset + block.len() as u64 <= image.virtual_bytes());
            }
            Ok(Some(Extent::Zero { offset, len })) => {
                assert!(offset + len <= image.virtual_bytes());
            }
            Ok(None) | Err(_) => return,
        }
    }
}
