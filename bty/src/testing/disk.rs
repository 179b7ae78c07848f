//! A disk in memory.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Device;

#[cfg(test)]
mod tests;

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
    /// Reads of these offsets fail until the sector has been written or zeroed.
    pub unreadable: Option<Range<u64>>,
    /// Each sector that begins in this range changes once, after it was read for the first time:
    /// somebody else writes to the disk. Its first byte is inverted.
    pub change_after_read: Option<Range<u64>>,
    /// Number of writes, zeroings and flushes before the power is lost. The next one, all later
    /// ones and all reads after it fail. The write or zeroing that meets the loss fails, but leaves
    /// its sectors unflushed: the disk may have carried out a part of it.
    ///
    /// [`MemoryDisk::power_cut`] is the disk when the power is back.
    pub power_after: Option<usize>,
}

/// A request that a [`MemoryDisk`] received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskRequest {
    /// Data: offset and length in bytes.
    Write(u64, usize),
    /// Zeros: offset and length in bytes.
    Zero(u64, u64),
    /// A flush of the write cache.
    Flush,
    /// A command to erase everything.
    Format,
}

/// A disk in memory, with [`Faults`] on request.
///
/// It has a volatile write cache: a power cut may lose every sector that was written or zeroed
/// after the last flush. Its content takes twice its size in memory.
pub struct MemoryDisk {
    sector_bytes: u32,
    faults: Faults,
    state: Mutex<State>,
    keep_states: bool,
}

struct State {
    /// As a reader sees it.
    written: Vec<u8>,
    /// As of the last flush.
    flushed: Vec<u8>,
    sectors: Vec<Sector>,
    log: Vec<DiskRequest>,
    states: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
struct Sector {
    is_unflushed: bool,
    was_written: bool,
    was_read: bool,
}

/// What becomes of a request that was recorded.
enum DiskOutcome {
    Done,
    Failed,
    Hangs,
    /// The first request that meets the loss of power.
    PowerLost,
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
            state: Mutex::new(State {
                sectors: vec![Sector::default(); content.len().div_ceil(512)],
                flushed: content.clone(),
                written: content,
                log: Vec::new(),
                states: Vec::new(),
            }),
            keep_states: false,
        }
    }

    /// Sets the size of a logical sector: 512 or 4096 bytes.
    #[must_use]
    pub fn with_sector_bytes(mut self, sector_bytes: u32) -> Self {
        self.sector_bytes = sector_bytes;
        self
    }

    /// Replaces the faults that the disk has.
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
        self.state().written.clone()
    }

    /// Its content after a power cut now that loses everything that was not flushed.
    #[must_use]
    pub fn durable(&self) -> Vec<u8> {
        self.state().flushed.clone()
    }

    /// A healthy disk with the content that this one has after a power cut now: flushed data, and
    /// those sectors that were written since for whose offset `keep` returns true. `keep` is called
    /// once for each unflushed sector, in ascending order.
    ///
    /// ```
    /// use bty::Device;
    /// use bty::testing::MemoryDisk;
    ///
    /// let disk = MemoryDisk::new(8 << 20);
    /// disk.zero_at(0, 4096)?;
    /// disk.flush()?;
    /// disk.zero_at(4096, 1024)?;
    /// let mut unflushed = Vec::new();
    /// let after = disk.power_cut(&mut |offset| {
    ///     unflushed.push(offset);
    ///     offset == 4096
    /// });
    /// assert_eq!(unflushed, [4096, 4608]);
    /// assert_eq!(after.durable(), after.content());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn power_cut(&self, keep: &mut dyn FnMut(u64) -> bool) -> Self {
        let state = self.state();
        let mut content = state.flushed.clone();
        for at in state.unflushed(self.sector_len()) {
            if keep(at as u64) {
                let sector = at..at + self.sector_len();
                content[sector.clone()].copy_from_slice(&state.written[sector]);
            }
        }
        Self::with_content(content).with_sector_bytes(self.sector_bytes)
    }

    /// All requests so far.
    #[must_use]
    pub fn log(&self) -> Vec<DiskRequest> {
        self.state().log.clone()
    }

    /// Its content before each request, if it keeps copies: what power cuts leave on a disk without
    /// a write cache.
    #[must_use]
    pub fn states(&self) -> Vec<Vec<u8>> {
        self.state().states.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sector_len(&self) -> usize {
        self.sector_bytes as usize
    }

    /// Records a write, zeroing or flush, and carries it out unless it fails.
    fn request(
        &self,
        request: DiskRequest,
        carry_out: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let outcome = self.record(request);
        if request != DiskRequest::Flush {
            std::thread::sleep(self.faults.delay);
        }
        match outcome {
            DiskOutcome::Done => carry_out(&mut self.state()),
            DiskOutcome::Failed => Err(broken()),
            DiskOutcome::Hangs => hang(),
            DiskOutcome::PowerLost => {
                if request != DiskRequest::Flush {
                    carry_out(&mut self.state())?;
                }
                Err(broken())
            }
        }
    }

    fn record(&self, request: DiskRequest) -> DiskOutcome {
        let mut state = self.state();
        if self.keep_states {
            let content = state.written.clone();
            state.states.push(content);
        }
        let (n, flushes) = (state.log.len(), state.flushes());
        state.log.push(request);
        let (kind, hang_from, fail_from) = match request {
            DiskRequest::Flush => (flushes, self.faults.hang_flush, self.faults.fail_flush),
            _ => (n - flushes, self.faults.hang_write, self.faults.fail_write),
        };
        let is_at = |from: Option<usize>, n: usize| from.is_some_and(|from| n >= from);
        match self.faults.power_after {
            Some(end) if n == end => DiskOutcome::PowerLost,
            Some(end) if n > end => DiskOutcome::Failed,
            _ if is_at(hang_from, kind) => DiskOutcome::Hangs,
            _ if is_at(fail_from, kind) => DiskOutcome::Failed,
            _ => DiskOutcome::Done,
        }
    }

    /// Changes the sectors from `offset` on, except those whose writes are lost.
    fn change(&self, state: &mut State, offset: u64, len: u64, change: impl Fn(&mut [u8], u64)) {
        for offset in (offset..offset + len).step_by(self.sector_len()) {
            if !self.is_lost(offset) {
                let at = self.place(offset);
                change(&mut state.written[at..at + self.sector_len()], offset);
                let sector = &mut state.sectors[at / self.sector_len()];
                (sector.is_unflushed, sector.was_written) = (true, true);
            }
        }
    }

    /// Copies one sector into `bytes`.
    fn read_sector(&self, state: &mut State, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let at = self.place(offset);
        let has = |range: &Option<Range<u64>>| range.as_ref().is_some_and(|r| r.contains(&offset));
        let sector = &mut state.sectors[at / self.sector_len()];
        if has(&self.faults.unreadable) && !sector.was_written {
            return Err(broken());
        }
        bytes.copy_from_slice(&state.written[at..at + bytes.len()]);
        if has(&self.faults.change_after_read) && !sector.was_read {
            (sector.was_read, sector.is_unflushed) = (true, true);
            state.written[at] = !state.written[at];
        }
        Ok(())
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

impl State {
    /// Number of flushes so far, including failed ones.
    fn flushes(&self) -> usize {
        self.log.iter().filter(|request| **request == DiskRequest::Flush).count()
    }

    /// Offsets of the sectors that were not flushed.
    fn unflushed(&self, sector_len: usize) -> impl Iterator<Item = usize> {
        let sectors = self.sectors.iter().enumerate();
        sectors.filter(|(_, sector)| sector.is_unflushed).map(move |(n, _)| n * sector_len)
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Device for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.state().written.len() as u64
    }

    fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check(offset, bytes.len() as u64, bytes.as_ptr() as usize)?;
        let len = self.faults.short_writes.map_or(bytes.len(), |most| bytes.len().min(most));
        self.request(DiskRequest::Write(offset, len), |state| {
            if self.faults.full_at.is_some_and(|end| offset + len as u64 > end) {
                return Err(io::Error::from_raw_os_error(28));
            }
            self.change(state, offset, len as u64, |sector, at| {
                let at = usize::try_from(at - offset).expect("it lies in the buffer");
                sector.copy_from_slice(&bytes[at..at + sector.len()]);
            });
            Ok(())
        })?;
        Ok(len)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(offset, bytes.len() as u64, bytes.as_ptr() as usize)?;
        let end = offset + bytes.len() as u64;
        let mut state = self.state();
        if self.faults.hang_read_after.is_some_and(|from| state.flushes() >= from) {
            drop(state);
            hang();
        }
        let has_power = self.faults.power_after.is_none_or(|after| state.log.len() <= after);
        if !has_power || self.faults.fail_read_at.is_some_and(|from| end > from) {
            return Err(broken());
        }
        for (sector, at) in
            bytes.chunks_mut(self.sector_len()).zip((offset..).step_by(self.sector_len()))
        {
            self.read_sector(&mut state, sector, at)?;
        }
        if let Some(at) = self.faults.flip_at
            && (offset..end).contains(&at)
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
        self.request(DiskRequest::Zero(offset, len), |state| {
            self.change(state, offset, len, |sector, _| sector.fill(0));
            Ok(())
        })
    }

    fn format(&self) -> io::Result<()> {
        self.request(DiskRequest::Format, |state| {
            let len = state.written.len() as u64;
            self.change(state, 0, len, |sector, _| sector.fill(0xff));
            Ok(())
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.request(DiskRequest::Flush, |state| {
            for (n, sector) in state.sectors.iter_mut().enumerate() {
                if std::mem::take(&mut sector.is_unflushed) {
                    let bytes = n * self.sector_len()..(n + 1) * self.sector_len();
                    state.flushed[bytes.clone()].copy_from_slice(&state.written[bytes]);
                }
            }
            Ok(())
        })
    }
}
