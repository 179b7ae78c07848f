//! A disk in memory.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Device;

/// Faults of a [`MemoryDisk`]. None by default.
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

/// A request that a [`MemoryDisk`] received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskRequest {
    /// Data: offset and length in bytes.
    Write(u64, usize),
    /// Zeros: offset and length in bytes.
    Zero(u64, u64),
    /// A flush.
    Flush,
}

/// A disk in memory, with [`Faults`] on request.
///
/// Its content takes twice its size in memory: as written, and as of the last flush.
pub struct MemoryDisk {
    sector_bytes: u32,
    faults: Faults,
    written: Mutex<Vec<u8>>,
    flushed: Mutex<Vec<u8>>,
    log: Mutex<Vec<DiskRequest>>,
    writes: AtomicUsize,
    flushes: AtomicUsize,
    keep_states: bool,
    states: Mutex<Vec<Vec<u8>>>,
}

impl MemoryDisk {
    /// A healthy disk of zeros, with sectors of 512 bytes. `size_bytes` is a multiple of them.
    #[must_use]
    pub fn new(size_bytes: usize) -> Self {
        Self::with_content(vec![0; size_bytes])
    }

    /// A healthy disk that holds `content`, whose length is a multiple of 512 bytes.
    #[must_use]
    pub fn with_content(content: Vec<u8>) -> Self {
        Self {
            sector_bytes: 512,
            faults: Faults::default(),
            flushed: Mutex::new(content.clone()),
            written: Mutex::new(content),
            log: Mutex::default(),
            writes: AtomicUsize::new(0),
            flushes: AtomicUsize::new(0),
            keep_states: false,
            states: Mutex::default(),
        }
    }

    /// Sets the size of a logical sector: 512 or 4096 bytes.
    #[must_use]
    pub fn with_sector_bytes(mut self, sector_bytes: u32) -> Self {
        self.sector_bytes = sector_bytes;
        self
    }

    /// Sets the faults.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Keeps a copy of the content before every request, for [`states`](Self::states).
    #[must_use]
    pub fn with_states(mut self) -> Self {
        self.keep_states = true;
        self
    }

    /// Its content as a reader sees it, including data that was not flushed.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        lock(&self.written).clone()
    }

    /// Its content after a power cut now: the data that was flushed.
    #[must_use]
    pub fn durable(&self) -> Vec<u8> {
        lock(&self.flushed).clone()
    }

    /// All requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<DiskRequest> {
        lock(&self.log).clone()
    }

    /// Its content before each request, if it keeps copies: what power cuts leave on a disk without
    /// a write cache.
    #[must_use]
    pub fn states(&self) -> Vec<Vec<u8>> {
        lock(&self.states).clone()
    }

    fn request(&self, request: DiskRequest) -> io::Result<()> {
        if self.keep_states {
            lock(&self.states).push(self.content());
        }
        lock(&self.log).push(request);
        if request == DiskRequest::Flush {
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
        usize::try_from(at).expect("offsets were checked")
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Device for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        lock(&self.written).len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check(offset, bytes.len() as u64, bytes.as_ptr() as usize)?;
        let len = self.faults.short_writes.map_or(bytes.len(), |most| bytes.len().min(most));
        self.request(DiskRequest::Write(offset, len))?;
        if self.faults.full_at.is_some_and(|end| offset + len as u64 > end) {
            return Err(io::Error::from_raw_os_error(28));
        }
        let mut written = lock(&self.written);
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
        let written = lock(&self.written);
        for (i, sector) in bytes.chunks_mut(self.sector_bytes as usize).enumerate() {
            let at = self.place(offset + i as u64 * u64::from(self.sector_bytes));
            let len = sector.len();
            sector.copy_from_slice(&written[at..at + len]);
        }
        if let Some(at) = self.faults.flip_at
            && (offset..offset + bytes.len() as u64).contains(&at)
        {
            bytes[usize::try_from(at - offset).expect("it lies in the buffer")] ^= 0x10;
        }
        Ok(bytes.len())
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.faults.no_zero_offload {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.check(offset, len, 0)?;
        self.request(DiskRequest::Zero(offset, len))?;
        let mut written = lock(&self.written);
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
        self.request(DiskRequest::Flush)?;
        *lock(&self.flushed) = self.content();
        Ok(())
    }
}
