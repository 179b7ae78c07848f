//! Disks in memory with faults on request, and a host with such disks.
//!
//! A [`FaultyDisk`] keeps flushed data apart from data that was only written, to simulate a power
//! cut at any point.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bty::disks::{Disk, DiskKind};
use bty::{Device, DiskHost, Error, ErrorKind, Result};

/// Faults of a disk.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// This write (counted from 0, including zeroing) and all later ones fail with an I/O error.
    pub fail_write: Option<usize>,
    /// This flush (counted from 0) and all later ones fail.
    pub fail_flush: Option<usize>,
    /// Writes at or after this offset fail with "no space left".
    pub full_at: Option<u64>,
    /// Maximum number of bytes that one request writes.
    pub short_writes: Option<usize>,
    /// Writes from this offset up to `lose_until` are acknowledged but lost.
    pub lose_from: Option<u64>,
    /// End of the lost range.
    pub lose_until: Option<u64>,
    /// The byte at this offset reads back with one bit flipped.
    pub flip_at: Option<u64>,
    /// Offsets wrap around after this many bytes: a disk with a fake capacity.
    pub wrap_at: Option<u64>,
    /// The device does not support zeroing.
    pub no_zero_offload: bool,
    /// Duration of each write.
    pub delay: Duration,
    /// This write (counted from 0) and all later ones never return.
    pub hang_write: Option<usize>,
    /// This flush (counted from 0) and all later ones never return.
    pub hang_flush: Option<usize>,
    /// Reads after this many flushes never return.
    pub hang_read_after: Option<usize>,
    /// Reads at or after this offset fail.
    pub fail_read_at: Option<u64>,
}

/// A request that the device received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Data at an offset.
    Write(u64, usize),
    /// Zeros at an offset.
    Zero(u64, u64),
    /// A flush.
    Flush,
}

/// A disk in memory.
pub struct FaultyDisk {
    sector_bytes: u32,
    faults: Faults,
    written: Mutex<Vec<u8>>,
    flushed: Mutex<Vec<u8>>,
    log: Mutex<Vec<Request>>,
    writes: AtomicUsize,
    flushes: AtomicUsize,
    keep_states: bool,
    states: Mutex<Vec<Vec<u8>>>,
}

impl FaultyDisk {
    /// A disk of `size` bytes, full of old data.
    #[must_use]
    pub fn new(size: usize, sector_bytes: u32, faults: Faults) -> Arc<Self> {
        Self::with_states(size, sector_bytes, faults, false)
    }

    /// Like `new`, and also keeps a copy of its content before every request, for
    /// [`states`](Self::states).
    #[must_use]
    pub fn with_states(
        size: usize,
        sector_bytes: u32,
        faults: Faults,
        keep_states: bool,
    ) -> Arc<Self> {
        // old data differs from sector to sector, as real data does
        let mut old = vec![0xa5; size];
        for (i, sector) in old.chunks_mut(sector_bytes as usize).enumerate() {
            let number = (i as u64).to_le_bytes();
            sector[..8].copy_from_slice(&number);
        }
        Arc::new(Self {
            sector_bytes,
            faults,
            written: Mutex::new(old.clone()),
            flushed: Mutex::new(old),
            log: Mutex::default(),
            writes: AtomicUsize::new(0),
            flushes: AtomicUsize::new(0),
            keep_states,
            states: Mutex::default(),
        })
    }

    /// Its content as a reader sees it, including data that was not flushed.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.written.lock().unwrap().clone()
    }

    /// Its content after a power cut now: the data that was flushed.
    #[must_use]
    pub fn durable(&self) -> Vec<u8> {
        self.flushed.lock().unwrap().clone()
    }

    /// All requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Its content before each request, if it keeps copies: what power cuts leave on a disk without
    /// a write cache.
    #[must_use]
    pub fn states(&self) -> Vec<Vec<u8>> {
        self.states.lock().unwrap().clone()
    }

    fn request(&self, request: Request) -> io::Result<()> {
        if self.keep_states {
            self.states.lock().unwrap().push(self.content());
        }
        self.log.lock().unwrap().push(request);
        if request == Request::Flush {
            let n = self.flushes.fetch_add(1, Ordering::SeqCst);
            hang_if(self.faults.hang_flush.is_some_and(|from| n >= from));
            return if self.faults.fail_flush.is_some_and(|from| n >= from) {
                Err(broken())
            } else {
                Ok(())
            };
        }
        std::thread::sleep(self.faults.delay);
        let n = self.writes.fetch_add(1, Ordering::SeqCst);
        hang_if(self.faults.hang_write.is_some_and(|from| n >= from));
        if self.faults.fail_write.is_some_and(|from| n >= from) { Err(broken()) } else { Ok(()) }
    }

    fn place(&self, offset: u64) -> usize {
        let at = self.faults.wrap_at.map_or(offset, |end| offset % end);
        usize::try_from(at).unwrap()
    }

    fn is_lost(&self, offset: u64) -> bool {
        self.faults.lose_from.is_some_and(|from| offset >= from)
            && self.faults.lose_until.is_none_or(|until| offset < until)
    }

    fn check(&self, offset: u64, len: u64, address: usize) -> io::Result<()> {
        let sector = u64::from(self.sector_bytes);
        let is_aligned = offset.is_multiple_of(sector)
            && len.is_multiple_of(sector)
            && address.is_multiple_of(512);
        if is_aligned && offset + len <= self.size_bytes() {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

fn hang_if(does: bool) {
    if does {
        loop {
            std::thread::park();
        }
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Device for FaultyDisk {
    fn size_bytes(&self) -> u64 {
        self.written.lock().unwrap().len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check(offset, bytes.len() as u64, bytes.as_ptr() as usize)?;
        let len = self.faults.short_writes.map_or(bytes.len(), |most| bytes.len().min(most));
        self.request(Request::Write(offset, len))?;
        if self.faults.full_at.is_some_and(|end| offset + len as u64 > end) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let mut written = self.written.lock().unwrap();
        for (i, sector) in bytes[..len].chunks(self.sector_bytes as usize).enumerate() {
            let offset = offset + i as u64 * u64::from(self.sector_bytes);
            if !self.is_lost(offset) {
                let at = self.place(offset);
                written[at..at + sector.len()].copy_from_slice(sector);
            }
        }
        Ok(len)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(offset, bytes.len() as u64, bytes.as_ptr() as usize)?;
        let flushes = self.flushes.load(Ordering::SeqCst);
        hang_if(self.faults.hang_read_after.is_some_and(|from| flushes >= from));
        if self.faults.fail_read_at.is_some_and(|from| offset + bytes.len() as u64 > from) {
            return Err(broken());
        }
        let written = self.written.lock().unwrap();
        for (i, sector) in bytes.chunks_mut(self.sector_bytes as usize).enumerate() {
            let at = self.place(offset + i as u64 * u64::from(self.sector_bytes));
            let len = sector.len();
            sector.copy_from_slice(&written[at..at + len]);
        }
        if let Some(at) = self.faults.flip_at
            && (offset..offset + bytes.len() as u64).contains(&at)
        {
            bytes[usize::try_from(at - offset).unwrap()] ^= 0x10;
        }
        Ok(bytes.len())
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.faults.no_zero_offload {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.check(offset, len, 0)?;
        self.request(Request::Zero(offset, len))?;
        let mut written = self.written.lock().unwrap();
        for sector in 0..len / u64::from(self.sector_bytes) {
            let offset = offset + sector * u64::from(self.sector_bytes);
            if !self.is_lost(offset) {
                let at = self.place(offset);
                written[at..at + self.sector_bytes as usize].fill(0);
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.request(Request::Flush)?;
        *self.flushed.lock().unwrap() = self.content();
        Ok(())
    }
}

/// The description of a healthy disk at `/dev/NAME`, which tests can change.
#[must_use]
pub fn describe(name: &str, size_bytes: u64, sector_bytes: u32) -> Disk {
    let mut disk = Disk::new(format!("/dev/{name}"), DiskKind::Disk, size_bytes);
    disk.logical_sector_bytes = sector_bytes;
    disk.vendor = Some("ACME".into());
    disk.model = Some("Memory".into());
    disk.serial = Some(format!("SN-{name}"));
    disk.transport = Some("memory".into());
    disk.is_rotational = Some(false);
    disk
}

/// A host with simulated disks.
#[derive(Default)]
pub struct MemoryHost {
    disks: Mutex<Vec<(Disk, Arc<FaultyDisk>)>>,
}

impl MemoryHost {
    /// A machine with one disk, `/dev/mem0`.
    #[must_use]
    pub fn with(disk: &Arc<FaultyDisk>) -> Self {
        let host = Self::default();
        host.add("mem0", disk);
        host
    }

    /// Adds a disk.
    pub fn add(&self, name: &str, disk: &Arc<FaultyDisk>) -> Disk {
        let description = describe(name, disk.size_bytes(), disk.sector_bytes());
        self.disks.lock().unwrap().push((description.clone(), Arc::clone(disk)));
        description
    }

    /// Changes the description of the disk at `path`.
    pub fn change(&self, path: &Path, change: impl FnOnce(&mut Disk)) {
        let mut disks = self.disks.lock().unwrap();
        change(&mut disks.iter_mut().find(|(d, _)| d.path == path).unwrap().0);
    }

    fn device(&self, path: &Path) -> Result<(Disk, Arc<FaultyDisk>)> {
        let disks = self.disks.lock().unwrap();
        let found = disks.iter().find(|(d, _)| d.path == path).cloned();
        found.ok_or_else(|| {
            Error::new(ErrorKind::Refused, format!("nothing is at {}", path.display()))
        })
    }
}

impl DiskHost for MemoryHost {
    fn list(&self) -> Result<Vec<Disk>> {
        Ok(self.disks.lock().unwrap().iter().map(|(d, _)| d.clone()).collect())
    }

    fn probe(&self, path: &Path) -> Result<Disk> {
        Ok(self.device(path)?.0)
    }

    fn open(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        Ok(self.device(&disk.path)?.1)
    }

    fn open_read_only(&self, disk: &Disk) -> Result<Arc<dyn Device>> {
        self.open(disk)
    }

    fn create(&self, path: &Path, _size_bytes: u64) -> Result<()> {
        Err(Error::new(ErrorKind::Refused, format!("{} cannot be created here", path.display())))
    }
}
