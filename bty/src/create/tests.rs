use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::image::{self, directory};
use crate::read_context::ReadContext;
use crate::source::local;
use crate::{Location, Source, SystemHost};

const MIB: usize = 1 << 20;

/// A disk in a regular file.
struct Bench {
    dir: TempDir,
    disk: Disk,
}

impl Bench {
    /// A disk of `size` bytes with these pieces of data.
    fn new(size: u64, data: &[(u64, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in data {
            file.write_all_at(bytes, *offset).unwrap();
        }
        let disk = SystemHost::new().probe(&path).unwrap();
        Self { dir, disk }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn create(
        &self,
        name: &str,
        host: &dyn DiskHost,
        cancel: &CancelToken,
    ) -> Result<CreateReport> {
        create(&self.disk, &self.path(name), &CreateOptions::default(), host, &(), cancel)
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// The content of the image at `path`.
fn content(path: &Path, format: Format) -> Vec<u8> {
    let source = Source::new(Location::File(path.to_owned()), "image", local::open(path).unwrap());
    let mut extents =
        image::extents_of(&source, format, &ReadContext::new(4, &CancelToken::new())).unwrap();
    let mut content = Vec::new();
    while let Some(extent) = extents.next().unwrap() {
        let (offset, len) = match &extent {
            Extent::Data { offset, block } => (*offset, block.len() as u64),
            Extent::Zero { offset, len } => (*offset, *len),
        };
        content.resize(content.len().max(usize::try_from(offset + len).unwrap()), 0);
        if let Extent::Data { offset, block } = extent {
            content[usize::try_from(offset).unwrap()..][..block.len()].copy_from_slice(&block);
        }
    }
    content
}

#[test]
fn every_format_holds_the_whole_disk_without_zeros() {
    let bench = Bench::new(
        9 * MIB as u64 + 512,
        &[(0, &[1; 700]), (3 * MIB as u64 + 5, &[2; MIB]), (9 * MIB as u64 + 511, &[3])],
    );
    let all = fs::read(&bench.disk.path).unwrap();
    for (name, format) in
        [("a.img", Format::Raw), ("a.img.zst", Format::Zstd), ("a.qcow2", Format::Qcow2)]
    {
        let report = bench.create(name, &SystemHost::new(), &CancelToken::new()).unwrap();
        let path = bench.path(name);
        assert_eq!((report.format, report.disk_bytes), (format, all.len() as u64));
        assert!(
            report.data_bytes < 2 * MIB as u64,
            "{} of zeros were read as data",
            report.data_bytes
        );
        assert!(content(&path, format) == all, "{name}");
        let file = fs::read(&path).unwrap();
        assert_eq!(report.file_bytes, file.len() as u64);
        assert_eq!(report.sha256, Digest::of(&file), "{name}");
        assert_eq!(directory::sidecar_digest(&path).unwrap(), Some(report.sha256));
    }
    use std::os::unix::fs::MetadataExt;
    assert!(
        fs::metadata(bench.path("a.img")).unwrap().blocks() * 512 < 3 * MIB as u64,
        "the raw image has no holes"
    );
    assert!(fs::metadata(bench.path("a.qcow2")).unwrap().len() < 3 * MIB as u64);
    assert_eq!(bench.files().len(), 7, "{:?}", bench.files());
}

#[test]
fn a_qcow2_image_has_an_l2_table_for_each_512_mib_with_data() {
    let size = 600 << 20;
    let bench = Bench::new(size, &[(0, b"first"), (590 << 20, b"last")]);
    bench.create("a.qcow2", &SystemHost::new(), &CancelToken::new()).unwrap();
    assert!(fs::metadata(bench.path("a.qcow2")).unwrap().len() < 1 << 20);
    let found = content(&bench.path("a.qcow2"), Format::Qcow2);
    assert_eq!(found.len() as u64, size);
    assert!(found[590 << 20..].starts_with(b"last"));
}

#[test]
fn all_reasons_are_reported_at_once_and_nothing_is_written() {
    let mut bench = Bench::new(MIB as u64, &[]);
    bench.disk.uses.push(crate::disks::Use::Busy { device: bench.disk.path.clone(), hint: None });
    fs::write(bench.path("a.txt.sha256"), "mine").unwrap();
    let options = CreateOptions { shrink: true };
    let refusals = validate(&bench.disk, &bench.path("a.txt"), &options);
    let reasons: Vec<&str> = refusals.iter().map(|r| r.reason.as_str()).collect();
    assert_eq!(reasons, ["in_use", "no_partitions", "name", "exists"]);
    let error = create(
        &bench.disk,
        &bench.path("a.txt"),
        &options,
        &SystemHost::new(),
        &(),
        &CancelToken::new(),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(bench.files(), ["a.txt.sha256", "disk"]);
}

#[test]
fn a_cancel_leaves_no_file_and_an_old_part_file_is_overwritten() {
    let bench = Bench::new(8 * MIB as u64, &[(0, &[7; 3 * MIB])]);
    fs::write(bench.path("a.img.zst.part"), vec![9; 5 * MIB]).unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    assert!(bench.create("a.img.zst", &SystemHost::new(), &cancel).unwrap_err().is_cancelled());
    assert_eq!(bench.files(), ["disk"]);
    fs::write(bench.path("a.img.zst.part"), vec![9; 5 * MIB]).unwrap();
    bench.create("a.img.zst", &SystemHost::new(), &CancelToken::new()).unwrap();
    assert!(content(&bench.path("a.img.zst"), Format::Zstd) == fs::read(&bench.disk.path).unwrap());
}

#[test]
fn two_processes_cannot_create_the_same_image() {
    let bench = Bench::new(MIB as u64, &[]);
    let held = part::PartFile::create(&bench.path("a.img")).unwrap();
    let error = bench.create("a.img", &SystemHost::new(), &CancelToken::new()).unwrap_err();
    assert!(format!("{error:#}").contains("another process is creating"), "{error}");
    drop(held);
    bench.create("a.img", &SystemHost::new(), &CancelToken::new()).unwrap();
}

#[test]
fn a_disk_that_fails_or_changes_leaves_no_image() {
    let bench = Bench::new(8 * MIB as u64, &[(5 * MIB as u64, &[7; MIB])]);
    for name in ["a.img", "a.img.zst", "a.qcow2"] {
        let error =
            bench.create(name, &Bad::fails_at(5 * MIB as u64), &CancelToken::new()).unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (ErrorKind::Source, Some(4 * MIB as u64)),
            "{error}"
        );
        assert_eq!(bench.files(), ["disk"], "{name}");
        let error = bench
            .create(name, &Bad::changes_after(8 * MIB as u64), &CancelToken::new())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        assert_eq!(bench.files(), ["disk"], "{name}");
    }
}

/// A host whose disks fail, or change after a number of bytes was read.
struct Bad {
    fails_at: u64,
    changes_after: u64,
}

impl Bad {
    fn fails_at(offset: u64) -> Self {
        Self { fails_at: offset, changes_after: u64::MAX }
    }

    fn changes_after(bytes: u64) -> Self {
        Self { fails_at: u64::MAX, changes_after: bytes }
    }
}

impl DiskHost for Bad {
    fn list(&self) -> Result<Vec<Disk>> {
        SystemHost::new().list()
    }
    fn probe(&self, path: &Path) -> Result<Disk> {
        SystemHost::new().probe(path)
    }
    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        SystemHost::new().open(disk)
    }
    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        let inner = SystemHost::new().open_read_only(disk)?;
        let (fails_at, changes_after) = (self.fails_at, self.changes_after);
        Ok(Arc::new(BadDevice { inner, fails_at, changes_after, read: AtomicU64::new(0) }))
    }
    fn create(&self, _path: &Path, _size_bytes: u64) -> Result<()> {
        panic!("nothing is created as a disk")
    }
}

struct BadDevice {
    inner: Arc<dyn Device>,
    fails_at: u64,
    changes_after: u64,
    read: AtomicU64,
}

impl Device for BadDevice {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }
    fn sector_bytes(&self) -> u32 {
        self.inner.sector_bytes()
    }
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<usize> {
        panic!("the disk is only read")
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset + bytes.len() as u64 > self.fails_at {
            return Err(io::Error::from_raw_os_error(5));
        }
        let n = self.inner.read_at(bytes, offset)?;
        let before = self.read.fetch_add(n as u64, Ordering::SeqCst);
        if before >= self.changes_after {
            bytes[n / 2] ^= 1;
        }
        Ok(n)
    }
    fn zero_at(&self, _offset: u64, _len: u64) -> io::Result<()> {
        panic!("the disk is only read")
    }
    fn flush(&self) -> io::Result<()> {
        panic!("the disk is only read")
    }
}
