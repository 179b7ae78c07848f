//! Disks in memory, for the tests of programs that use this module.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bty::{Device, DiskHost, Error, ErrorKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arguments::{self, Size};
use crate::values::Disk;
use crate::{errors, hosts};

/// Unit in which content is kept. Pieces of zeros take no memory.
const PIECE: usize = 64 << 10;
/// Largest range that one call of `read` returns, in bytes.
const READ_MAX: u64 = 1 << 30;
/// Error number for a failing medium (EIO).
const EIO: i32 = 5;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `value` as an index. The values here are within a piece, or within [`READ_MAX`].
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Splits `offset..offset + len` at the boundaries of pieces: number of the piece, range in it,
/// range in the whole.
fn split(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let piece = PIECE as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let begin = index(at % piece);
        let count = (len - done).min(PIECE - begin);
        let whole = done..done + count;
        done += count;
        Some((at / piece, begin..begin + count, whole))
    })
}

/// The content of a disk: zeros, except for the pieces that were written.
struct Medium {
    size_bytes: u64,
    sector_bytes: u32,
    /// Writes at or after this offset fail.
    fail_from: Option<u64>,
    pieces: Mutex<BTreeMap<u64, Box<[u8]>>>,
    /// True while it is open for writing.
    is_open: AtomicBool,
}

impl Medium {
    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn check_write(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        match self.fail_from {
            Some(from) if offset + len > from => Err(io::Error::from_raw_os_error(EIO)),
            _ => Ok(()),
        }
    }

    fn put(&self, bytes: &[u8], offset: u64) {
        let mut pieces = lock(&self.pieces);
        for (number, inside, whole) in split(offset, bytes.len()) {
            let piece = pieces.entry(number).or_insert_with(|| vec![0; PIECE].into());
            piece[inside].copy_from_slice(&bytes[whole]);
        }
    }

    fn get(&self, bytes: &mut [u8], offset: u64) {
        let pieces = lock(&self.pieces);
        for (number, inside, whole) in split(offset, bytes.len()) {
            match pieces.get(&number) {
                Some(piece) => bytes[whole].copy_from_slice(&piece[inside]),
                None => bytes[whole].fill(0),
            }
        }
    }

    fn zero(&self, offset: u64, len: u64) {
        let mut pieces = lock(&self.pieces);
        let end = offset + len;
        pieces.retain(|number, piece| {
            let start = number * PIECE as u64;
            let (from, to) = (offset.max(start), end.min(start + PIECE as u64));
            if from >= to {
                return true;
            }
            piece[index(from - start)..index(to - start)].fill(0);
            to - from < PIECE as u64
        });
    }
}

/// A handle of a disk in memory. Dropping a writable one lets others open the disk.
struct Opened {
    medium: Arc<Medium>,
    is_writable: bool,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.is_writable {
            self.medium.is_open.store(false, Ordering::SeqCst);
        }
    }
}

impl Device for Opened {
    fn size_bytes(&self) -> u64 {
        self.medium.size_bytes
    }

    fn sector_bytes(&self) -> u32 {
        self.medium.sector_bytes
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.medium.check_write(offset, bytes.len() as u64)?;
        self.medium.put(bytes, offset);
        Ok(bytes.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.medium.check(offset, bytes.len() as u64)?;
        self.medium.get(bytes, offset);
        Ok(bytes.len())
    }

    fn zero_at(&self, offset: u64, len: u64) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.medium.check_write(offset, len)?;
        self.medium.zero(offset, len);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Descriptions and contents of disks.
#[derive(Default)]
struct Disks(Mutex<BTreeMap<PathBuf, (bty::Disk, Arc<Medium>)>>);

impl Disks {
    fn find(&self, path: &Path) -> bty::Result<(bty::Disk, Arc<Medium>)> {
        lock(&self.0).get(path).cloned().ok_or_else(|| {
            let message = format!("there is nothing at {}", path.display());
            Error::new(ErrorKind::Refused, message)
                .with_path(path.display())
                .hint("add the disk to the MemoryHost; while one is in use, no other disks exist")
        })
    }

    fn add(&self, disk: &bty::Disk, fail_from: Option<u64>) -> bty::Result<()> {
        let path = disk.path.display();
        let refuse = |what: &str, next: &str| {
            Err(Error::new(ErrorKind::Refused, format!("{path} {what}")).with_path(path).hint(next))
        };
        let sector_bytes = disk.logical_sector_bytes;
        if ![512, 4096].contains(&sector_bytes)
            || !disk.size_bytes.is_multiple_of(u64::from(sector_bytes))
        {
            return refuse(
                "does not consist of whole sectors",
                "choose sectors of 512 or 4096 bytes, and a size that is a multiple of that",
            );
        }
        let medium = Medium {
            size_bytes: disk.size_bytes,
            sector_bytes,
            fail_from,
            pieces: Mutex::default(),
            is_open: AtomicBool::new(false),
        };
        let mut disks = lock(&self.0);
        if disks.contains_key(&disk.path) {
            return refuse("is there already", "choose another path");
        }
        disks.insert(disk.path.clone(), (disk.clone(), Arc::new(medium)));
        Ok(())
    }

    fn open(&self, disk: &bty::Disk, is_writable: bool) -> bty::Result<Arc<dyn Device>> {
        let (now, medium) = self.find(&disk.path)?;
        let refuse = |what: &str| {
            Err(Error::new(ErrorKind::Refused, format!("{} {what}", disk.path.display()))
                .with_path(disk.path.display()))
        };
        if !disk.is_same_disk(&now) {
            return refuse("is not the disk that was chosen");
        }
        if is_writable && medium.is_open.swap(true, Ordering::SeqCst) {
            return refuse("is being written already");
        }
        Ok(Arc::new(Opened { medium, is_writable }))
    }
}

impl DiskHost for Disks {
    fn list(&self) -> bty::Result<Vec<bty::Disk>> {
        Ok(lock(&self.0).values().map(|(disk, _)| disk.clone()).collect())
    }

    fn probe(&self, path: &Path) -> bty::Result<bty::Disk> {
        self.find(path).map(|(disk, _)| disk)
    }

    fn open(&self, disk: &bty::Disk) -> bty::Result<Arc<dyn Device>> {
        self.open(disk, true)
    }

    fn open_read_only(&self, disk: &bty::Disk) -> bty::Result<Arc<dyn Device>> {
        self.open(disk, false)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> bty::Result<()> {
        self.add(&bty::Disk::planned_file(path, size_bytes), None)
    }
}

/// A machine whose disks are in memory. While it is in use as a context manager, all functions of
/// bty, in all threads, see its disks and no others.
#[pyclass(frozen, module = "bty.testing")]
pub(crate) struct MemoryHost {
    disks: Arc<Disks>,
    /// The same, as it is passed to [`hosts`].
    host: Arc<dyn DiskHost>,
}

impl MemoryHost {
    /// The disk at the path of a `Disk`, or at a path.
    fn medium(&self, disk: &Bound<'_, PyAny>) -> PyResult<Arc<Medium>> {
        let path = match disk.cast::<Disk>() {
            Ok(disk) => disk.get().0.path.clone(),
            Err(_) => arguments::path(disk)?,
        };
        let found = self.disks.find(&path).map_err(|error| errors::of(disk.py(), &error))?;
        Ok(found.1)
    }
}

fn outside(error: &io::Error) -> PyErr {
    PyValueError::new_err(format!("the range is not inside the disk: {error}"))
}

#[pymethods]
impl MemoryHost {
    #[new]
    #[pyo3(signature = (*disks))]
    fn new(py: Python<'_>, disks: Vec<Bound<'_, Disk>>) -> PyResult<Self> {
        let all = Arc::new(Disks::default());
        for disk in disks {
            all.add(&disk.get().0, None).map_err(|error| errors::of(py, &error))?;
        }
        Ok(Self { host: Arc::clone(&all) as Arc<dyn DiskHost>, disks: all })
    }

    /// Adds a disk full of zeros, and returns its description. Writing at or after the offset
    /// `fail_from` fails with an I/O error.
    #[pyo3(signature = (disk, *, fail_from=None))]
    fn add<'py>(
        &self,
        disk: Bound<'py, Disk>,
        fail_from: Option<Size>,
    ) -> PyResult<Bound<'py, Disk>> {
        let added = self.disks.add(&disk.get().0, fail_from.map(|size| size.0));
        added.map_err(|error| errors::of(disk.py(), &error))?;
        Ok(disk)
    }

    /// Unplugs a disk. Raises `RefusedError` if it is not there.
    fn remove(&self, disk: &Bound<'_, PyAny>) -> PyResult<()> {
        let medium = self.medium(disk)?;
        lock(&self.disks.0).retain(|_, (_, other)| !Arc::ptr_eq(&medium, other));
        Ok(())
    }

    /// Descriptions of the disks, sorted by path.
    #[getter]
    fn disks(&self) -> Vec<Disk> {
        lock(&self.disks.0).values().map(|(disk, _)| Disk(disk.clone())).collect()
    }

    /// Returns `length` bytes of a disk from `offset`.
    #[pyo3(signature = (disk, offset=0, length=None))]
    fn read<'py>(
        &self,
        disk: &Bound<'py, PyAny>,
        offset: u64,
        length: Option<Size>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let medium = self.medium(disk)?;
        let rest = medium.size_bytes.saturating_sub(offset);
        let length = length.map_or(rest, |size| size.0);
        medium.check(offset, length).map_err(|error| outside(&error))?;
        if length > READ_MAX {
            return Err(PyValueError::new_err("read at most 1 GiB at a time: pass a length"));
        }
        PyBytes::new_with(disk.py(), index(length), |bytes| {
            medium.get(bytes, offset);
            Ok(())
        })
    }

    /// Overwrites bytes of a disk from `offset`, for example to damage it.
    #[pyo3(signature = (disk, data, offset=0))]
    fn write(&self, disk: &Bound<'_, PyAny>, data: &[u8], offset: u64) -> PyResult<()> {
        let medium = self.medium(disk)?;
        medium.check(offset, data.len() as u64).map_err(|error| outside(&error))?;
        medium.put(data, offset);
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        hosts::enter(Arc::clone(&slf.get().host));
        slf
    }

    #[pyo3(signature = (*_failure))]
    fn __exit__(&self, _failure: &Bound<'_, PyAny>) {
        hosts::leave(&self.host);
    }

    fn __repr__(&self) -> String {
        let disks = lock(&self.disks.0);
        let paths: Vec<_> = disks.keys().map(|path| path.display().to_string()).collect();
        format!("<bty.testing.MemoryHost {}>", paths.join(", "))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MemoryHost>()
}
