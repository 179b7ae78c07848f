//! A local file as an origin.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::sync::Arc;

use crate::source::Input;
use crate::source::pipe::PipeInput;
use crate::{CancelToken, Error, ErrorKind, Result};

pub(crate) struct FileInput {
    file: Arc<File>,
    path: String,
    len_bytes: u64,
}

/// Opens the file, disk or pipe at `path`.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn Input>> {
    let shown = path.display().to_string();
    let failed = |e: io::Error| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error = Error::new(ErrorKind::Source, format!("opening {shown}")).because(e).with_path(&shown);
        if missing { error.hint("check the path; bty images DIR lists a directory") } else { error }
    };
    // looked at before it is opened: opening a pipe as a file would wait for a writer, and nobody could cancel that
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_fifo() {
        return Ok(Arc::new(PipeInput::open(path)?));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(neither(&shown));
    }
    let file = File::open(path).map_err(failed)?;
    Ok(Arc::new(FileInput::from_file(file, shown.clone())?))
}

impl FileInput {
    /// An opened file; `shown` names it in errors.
    pub(crate) fn from_file(file: File, shown: String) -> Result<Self> {
        let failed =
            |e: io::Error| Error::new(ErrorKind::Source, format!("examining {shown}")).because(e).with_path(&shown);
        let meta = file.metadata().map_err(failed)?;
        let len_bytes = if meta.is_file() {
            meta.len()
        } else if meta.file_type().is_block_device() {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(|e| failed(e.into()))?
        } else {
            return Err(neither(&shown));
        };
        Ok(Self { file: Arc::new(file), path: shown, len_bytes })
    }
}

fn neither(shown: &str) -> Error {
    Error::new(ErrorKind::Source, format!("{shown} is neither a file nor a disk"))
        .with_path(shown)
        .hint("name one image file; bty images DIR lists a directory")
}

impl Input for FileInput {
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
                Err(e) => return Err(failed_read(&self.path, offset + filled as u64, e)),
            }
        }
        Ok(filled)
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn failed_read(path: &str, offset: u64, error: io::Error) -> Error {
    Error::new(ErrorKind::Source, format!("reading {path} at offset {offset}"))
        .because(error)
        .with_path(path)
        .at_offset(offset)
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
        let n = self.file.read_at(buf, self.position).map_err(|e| failed_read(&self.path, self.position, e))?;
        self.position += n as u64;
        let ended_early = n == 0 && !buf.is_empty() && self.position < self.len_bytes;
        if ended_early || self.position > self.len_bytes {
            return Err(Error::new(
                ErrorKind::Source,
                format!(
                    "{} changed while it was read: {} bytes at first, now {}",
                    self.path, self.len_bytes, self.position
                ),
            )
            .with_path(&self.path)
            .at_offset(self.position)
            .hint("wait until the file is complete, then start again")
            .into());
        }
        Ok(n)
    }
}
