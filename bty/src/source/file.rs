//! A local file or disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::sync::Arc;

use crate::source::ByteSource;
use crate::{CancelToken, Error, ErrorKind, Remedy, Result};

pub(crate) struct FileSource {
    file: Arc<File>,
    path: String,
    len_bytes: u64,
    version: Option<FileVersion>,
}

/// Changes whenever a regular file is written to. Disks have no version.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    len_bytes: u64,
    /// `ctime` in seconds and nanoseconds. Unlike `mtime`, no program can set it back.
    changed_at: (i64, i64),
}

impl FileVersion {
    fn of(file: &File) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        let version = Self { len_bytes: meta.len(), changed_at: (meta.ctime(), meta.ctime_nsec()) };
        Ok(meta.is_file().then_some(version))
    }
}

impl FileSource {
    /// Reads `file`, which is named `shown` in errors.
    ///
    /// # Errors
    /// [`ErrorKind::Source`] when it is neither a regular file nor a block device.
    pub(crate) fn new(file: File, shown: String) -> Result<Self> {
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Source, format!("examining {shown}")).because(e).with_path(&shown)
        };
        let meta = file.metadata().map_err(failed)?;
        let len_bytes = if meta.is_file() {
            meta.len()
        } else if meta.file_type().is_block_device() {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(|e| failed(e.into()))?
        } else {
            return Err(neither_file_nor_disk(&shown));
        };
        let version = FileVersion::of(&file).map_err(failed)?;
        Ok(Self { file: Arc::new(file), path: shown, len_bytes, version })
    }
}

pub(super) fn neither_file_nor_disk(shown: &str) -> Error {
    Error::new(ErrorKind::Source, format!("{shown} is neither a file nor a disk"))
        .with_path(shown)
        .hint("name one image file")
        .with_remedy(Remedy::ListImages)
}

impl ByteSource for FileSource {
    fn len_bytes(&self) -> Option<u64> {
        Some(self.len_bytes)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn stream(&self, offset: u64, cancel: &CancelToken) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(FileStream {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            position: offset,
            len_bytes: self.len_bytes,
            cancel: cancel.clone(),
        }))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64, cancel: &CancelToken) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            cancel.check()?;
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(&self.path, offset + filled as u64, e)),
            }
        }
        Ok(filled)
    }

    fn check_unchanged(&self) -> Result<()> {
        let now = FileVersion::of(&self.file).map_err(|e| read_error(&self.path, 0, e))?;
        if now == self.version {
            return Ok(());
        }
        let bytes = |version: Option<FileVersion>| version.map_or(0, |version| version.len_bytes);
        Err(changed_error(&self.path, bytes(self.version), bytes(now)))
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn read_error(path: &str, offset: u64, error: io::Error) -> Error {
    Error::new(ErrorKind::Source, format!("reading {path} at offset {offset}"))
        .because(error)
        .with_path(path)
        .at_offset(offset)
}

fn changed_error(path: &str, first: u64, now: u64) -> Error {
    let how = match now == first {
        true => "it was modified in the meantime".to_owned(),
        false => format!("{first} bytes at first, now {now}"),
    };
    Error::new(ErrorKind::Source, format!("{path} changed while it was read: {how}"))
        .with_path(path)
        .hint("wait until the file is complete, then start again")
}

struct FileStream {
    file: Arc<File>,
    path: String,
    position: u64,
    len_bytes: u64,
    cancel: CancelToken,
}

impl Read for FileStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.cancel.check()?;
        let n = self
            .file
            .read_at(buf, self.position)
            .map_err(|e| read_error(&self.path, self.position, e))?;
        self.position += n as u64;
        let ended_early = n == 0 && !buf.is_empty() && self.position < self.len_bytes;
        if ended_early || self.position > self.len_bytes {
            return Err(changed_error(&self.path, self.len_bytes, self.position)
                .at_offset(self.position)
                .into());
        }
        Ok(n)
    }
}
