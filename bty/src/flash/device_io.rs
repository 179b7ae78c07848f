//! Reads, writes and zeroing at any offset, on top of a [`Device`] that takes whole sectors only.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::disks::{Disk, DiskKind};
use crate::extent::{BUFFER_ALIGN, BUFFER_BYTES, Block, Pool, is_zero};
use crate::size::{align_down, align_up};
use crate::{CancelToken, Error, ErrorKind, Result};

/// A write that takes longer halves the size of the next ones, so that all workers together delay
/// a cancel by less than a second.
const SLOW_WRITE: Duration = Duration::from_millis(300);
/// Minimum size of a write to a slow device, and minimum and maximum range of one zeroing command,
/// in bytes.
const WRITE_MIN: usize = 128 << 10;
const ZERO_MIN: u64 = 4 << 20;
const ZERO_MAX: u64 = 1 << 30;

/// An open device, with the counters and limits of its requests. Every method stops with
/// [`ErrorKind::Cancelled`] between two requests once `cancel` is set.
pub(super) struct DeviceIo {
    /// The path of the target, for messages.
    pub(super) name: String,
    /// The target is a regular file: hints must not blame a cable.
    pub(super) is_file: bool,
    pub(super) device: Arc<dyn Device>,
    pub(super) cancel: CancelToken,
    begun: AtomicU64,
    finished: AtomicU64,
    limits: RequestLimits,
    expects_zeros: AtomicBool,
    /// Held while a sector is read, changed and written back, because two extents may share one.
    partial_sector: Mutex<()>,
    /// A buffer of zeros, to write where the device cannot zero a range by itself.
    zeros: Block,
}

/// Numbers of requests started and completed. A device hangs when the two differ and neither
/// changes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct IoCounters {
    pub(super) begun: u64,
    pub(super) finished: u64,
}

/// Limits of one request, adapted to the speed of the device. They keep requests short, because a
/// running request cannot be cancelled.
struct RequestLimits {
    /// False once the device has reported that it has no zeroing command.
    can_zero: AtomicBool,
    zero_bytes: AtomicU64,
    write_bytes: AtomicUsize,
}

impl DeviceIo {
    pub(super) fn new(disk: &Disk, device: Arc<dyn Device>, cancel: &CancelToken) -> Result<Self> {
        let mut zeros = Pool::new(1).take(cancel)?;
        zeros.fill(0);
        Ok(Self {
            name: disk.path.display().to_string(),
            is_file: disk.kind == DiskKind::File,
            device,
            cancel: cancel.clone(),
            begun: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            limits: RequestLimits {
                can_zero: AtomicBool::new(true),
                zero_bytes: AtomicU64::new(64 << 20),
                write_bytes: AtomicUsize::new(BUFFER_BYTES),
            },
            expects_zeros: AtomicBool::new(false),
            partial_sector: Mutex::new(()),
            zeros: zeros.freeze(BUFFER_BYTES),
        })
    }

    /// Sends one request to the device. Every request goes through here, so that
    /// [`counters`](Self::counters) show whether the device hangs.
    pub(super) fn request<T>(
        &self,
        request: impl FnOnce(&dyn Device) -> io::Result<T>,
    ) -> io::Result<T> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let result = request(&*self.device);
        self.finished.fetch_add(1, Ordering::Relaxed);
        result
    }

    pub(super) fn counters(&self) -> IoCounters {
        IoCounters {
            begun: self.begun.load(Ordering::Relaxed),
            finished: self.finished.load(Ordering::Relaxed),
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    /// Size of a logical sector in bytes.
    pub(super) fn sector(&self) -> u64 {
        u64::from(self.device.sector_bytes())
    }

    /// Writes `bytes` at any offset. The other bytes of partly covered sectors are kept.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = offset + bytes.len() as u64;
        let (from, until) = (align_up(offset, self.sector()), align_down(end, self.sector()));
        if from >= until {
            return self.patch(offset, bytes);
        }
        let part = |a: u64, b: u64| &bytes[index(a - offset)..index(b - offset)];
        self.patch(offset, part(offset, from))?;
        self.write_aligned(from, part(from, until))?;
        self.patch(until, part(until, end))
    }

    /// Zeroes a range at any offset, by the device's own command if it has one.
    pub(super) fn zero(&self, offset: u64, len: u64) -> Result<()> {
        let sector = self.sector();
        let (from, until) = (align_up(offset, sector), align_down(offset + len, sector));
        if from >= until {
            return self.patch(offset, &self.zeros[..index(len)]);
        }
        self.patch(offset, &self.zeros[..index(from - offset)])?;
        self.zero_aligned(from, until - from)?;
        self.patch(until, &self.zeros[..index(offset + len - until)])
    }

    /// Writes zeros to a range at any offset, without relying on the device's zeroing command.
    pub(super) fn write_zeros(&self, offset: u64, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let part = (len - done).min(BUFFER_BYTES as u64);
            self.write(offset + done, &self.zeros[..index(part)])?;
            done += part;
        }
        Ok(())
    }

    /// Replaces bytes inside one sector, or across the border of two: reads them, changes them,
    /// and writes them back.
    fn patch(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let from = align_down(offset, self.sector());
        let until = align_up(offset + bytes.len() as u64, self.sector());
        let _alone = self.partial_sector.lock().expect("nobody panics holding it");
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let sectors = &mut buffer[..index(until - from)];
        self.read(from, sectors)?;
        sectors[index(offset - from)..][..bytes.len()].copy_from_slice(bytes);
        self.write_aligned(from, sectors)
    }

    /// Writes whole sectors, through an aligned buffer if `bytes` are not aligned in memory, as
    /// [`Device`] demands.
    fn write_aligned(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() || (bytes.as_ptr() as usize).is_multiple_of(BUFFER_ALIGN) {
            return self.write_all(offset, bytes);
        }
        let mut bounce = Pool::new(1).take(&self.cancel)?;
        for (i, part) in bytes.chunks(BUFFER_BYTES).enumerate() {
            bounce[..part.len()].copy_from_slice(part);
            self.write_all(offset + (i * BUFFER_BYTES) as u64, &bounce[..part.len()])?;
        }
        Ok(())
    }

    fn write_all(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            self.cancel.check()?;
            let at = offset + done as u64;
            let limit = self.limits.write_bytes.load(Ordering::Relaxed);
            let part = &bytes[done..bytes.len().min(done + limit)];
            let start = Instant::now();
            match self.request(|device| device.write_at(part, at)) {
                Ok(0) => {
                    return Err(self.failed("writing to", at, io::ErrorKind::WriteZero.into()));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("writing to", at, e)),
            }
            if start.elapsed() > SLOW_WRITE {
                self.limits.write_bytes.store((limit / 2).max(WRITE_MIN), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn zero_aligned(&self, mut offset: u64, mut len: u64) -> Result<()> {
        while len > 0 && self.limits.can_zero.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let limit = self.limits.zero_bytes.load(Ordering::Relaxed);
            let part = len.min(limit);
            let start = Instant::now();
            match self.request(|device| device.zero_at(offset, part)) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    self.limits.can_zero.store(false, Ordering::Relaxed);
                    break;
                }
                Err(e) => return Err(self.failed("zeroing", offset, e)),
            }
            match start.elapsed().as_millis() {
                0..50 if part == limit => {
                    self.limits.zero_bytes.store((limit * 2).min(ZERO_MAX), Ordering::Relaxed);
                }
                300.. => {
                    self.limits.zero_bytes.store((limit / 2).max(ZERO_MIN), Ordering::Relaxed);
                }
                _ => {}
            }
            offset += part;
            len -= part;
        }
        while len > 0 {
            let part = len.min(BUFFER_BYTES as u64);
            if !self.holds_zeros(offset, index(part))? {
                self.write_all(offset, &self.zeros[..index(part)])?;
            }
            offset += part;
            len -= part;
        }
        Ok(())
    }

    /// True if the disk is [likely](Self::expect_zeros) to hold zeros, and does.
    fn holds_zeros(&self, offset: u64, len: usize) -> Result<bool> {
        if !self.expects_zeros.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let is_read = self.read(offset, &mut buffer[..len]).is_ok();
        self.cancel.check()?;
        Ok(is_read && is_zero(&buffer[..len]))
    }

    /// From now on, where the device cannot zero a range by itself, it is read first and written
    /// only if it is not zero: the disk is likely to hold the same zeros already.
    pub(super) fn expect_zeros(&self) {
        self.expects_zeros.store(true, Ordering::Relaxed);
    }

    /// Fills `bytes` from `offset`. Both are whole sectors, and `bytes` are aligned in memory.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            self.cancel.check()?;
            let at = offset + done as u64;
            match self.request(|device| device.read_at(&mut bytes[done..], at)) {
                Ok(0) => {
                    let end = io::ErrorKind::UnexpectedEof.into();
                    return Err(self.failed("reading back", at, end));
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("reading back", at, e)),
            }
        }
        Ok(())
    }

    /// Fills `bytes` from any offset. With the rest of the sectors at both ends, they must fit into
    /// one buffer.
    pub(super) fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let from = align_down(offset, self.sector());
        let until = offset.checked_add(bytes.len() as u64).map(|end| align_up(end, self.sector()));
        let Some(until) = until.filter(|&until| until <= self.size_bytes()) else {
            return Err(self.failed("reading", offset, io::ErrorKind::UnexpectedEof.into()));
        };
        let mut buffer = Pool::new(1).take(&self.cancel)?;
        let sectors = &mut buffer[..index(until - from)];
        self.read(from, sectors)?;
        bytes.copy_from_slice(&sectors[index(offset - from)..][..bytes.len()]);
        Ok(())
    }

    /// Returns once everything written before survives a power cut.
    pub(super) fn flush(&self) -> Result<()> {
        self.request(|device| device.flush()).map_err(|e| {
            let hint = if self.is_file {
                "look at dmesg, and at the disk and the file system that hold the file"
            } else {
                "the device lost data it had accepted: look at dmesg, try another cable, port or \
                 disk"
            };
            Error::new(ErrorKind::Target, format!("flushing {}", self.name))
                .because(e)
                .with_path(&self.name)
                .hint(hint)
        })
    }

    /// Has the device erase all its user data by a command of its own.
    pub(super) fn format(&self) -> Result<()> {
        self.request(|device| device.format()).map_err(|e| {
            Error::new(ErrorKind::Target, format!("formatting {}", self.name))
                .because(e)
                .with_path(&self.name)
                .hint("erase it in another way; it does not boot now")
        })
    }

    fn failed(&self, doing: &str, offset: u64, cause: io::Error) -> Error {
        let hint = if cause.kind() == io::ErrorKind::StorageFull {
            "the file system that holds the target is full: make room, then flash again"
        } else if self.is_file {
            "look at dmesg, and at the disk and the file system that hold the file, then flash \
             again"
        } else {
            "look at dmesg; try another cable, port or disk, then flash again"
        };
        Error::new(ErrorKind::Target, format!("{doing} {} at offset {offset}", self.name))
            .because(cause)
            .with_path(&self.name)
            .at_offset(offset)
            .hint(hint)
    }
}

/// Converts a length within one buffer to an index.
#[allow(clippy::cast_possible_truncation)] // lengths here never exceed a buffer in memory
pub(super) fn index(bytes: u64) -> usize {
    bytes as usize
}
