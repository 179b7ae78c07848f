//! A local file as an origin.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::source::ByteSource;
use crate::source::pipe::PipeInput;
use crate::{CancelToken, Error, ErrorKind, Result};

pub(crate) struct FileInput {
    file: Arc<File>,
    path: String,
    len_bytes: u64,
    version: Option<FileVersion>,
}

/// What changes whenever a file is written to. Disks have none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    len_bytes: u64,
    /// Seconds and nanoseconds; of the last change, which no program can set back.
    changed_at: (i64, i64),
}

impl FileVersion {
    fn of(file: &File) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        let version = Self { len_bytes: meta.len(), changed_at: (meta.ctime(), meta.ctime_nsec()) };
        Ok(meta.is_file().then_some(version))
    }
}

/// Opens the file, disk or pipe at `path`.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn ByteSource>> {
    let shown = path.display().to_string();
    let failed = |e: io::Error| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error =
            Error::new(ErrorKind::Source, format!("opening {shown}")).because(e).with_path(&shown);
        if missing { error.hint("check the path; bty images DIR lists a directory") } else { error }
    };
    // looked at before it is opened: opening a pipe as a file would wait for a writer, and nobody
    // could cancel that
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
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Source, format!("examining {shown}")).because(e).with_path(&shown)
        };
        let meta = file.metadata().map_err(failed)?;
        let len_bytes = if meta.is_file() {
            meta.len()
        } else if meta.file_type().is_block_device() {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).map_err(|e| failed(e.into()))?
        } else {
            return Err(neither(&shown));
        };
        let version = FileVersion::of(&file).map_err(failed)?;
        Ok(Self { file: Arc::new(file), path: shown, len_bytes, version })
    }
}

fn neither(shown: &str) -> Error {
    Error::new(ErrorKind::Source, format!("{shown} is neither a file nor a disk"))
        .with_path(shown)
        .hint("name one image file; bty images DIR lists a directory")
}

impl ByteSource for FileInput {
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

    fn check_unchanged(&self) -> Result<()> {
        let now = FileVersion::of(&self.file).map_err(|e| failed_read(&self.path, 0, e))?;
        if now == self.version {
            return Ok(());
        }
        let bytes = |version: Option<FileVersion>| version.map_or(0, |version| version.len_bytes);
        Err(changed(&self.path, bytes(self.version), bytes(now)))
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

fn changed(path: &str, first: u64, now: u64) -> Error {
    let how = match now == first {
        true => "it was written to meanwhile".to_owned(),
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
            .map_err(|e| failed_read(&self.path, self.position, e))?;
        self.position += n as u64;
        let ended_early = n == 0 && !buf.is_empty() && self.position < self.len_bytes;
        if ended_early || self.position > self.len_bytes {
            return Err(changed(&self.path, self.len_bytes, self.position)
                .at_offset(self.position)
                .into());
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_grows_or_is_written_to_is_not_taken_for_what_was_opened() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        let input = open(file.path()).unwrap();
        input.check_unchanged().unwrap();
        file.write_all(b"more").unwrap();
        let error = input.check_unchanged().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(
            error.to_string().contains("changed while it was read: 5000 bytes at first, now 5004"),
            "{error}"
        );

        let input = open(file.path()).unwrap();
        // the clock of file systems has steps
        let begun = std::time::Instant::now();
        while input.check_unchanged().is_ok() && begun.elapsed().as_secs() < 10 {
            file.as_file().write_all_at(b"x", 7).unwrap();
        }
        assert!(input.check_unchanged().unwrap_err().to_string().contains("written to meanwhile"));
    }
}
