//! The `.part` file that an image is written to until it is complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, CWD, FlockOperation, RenameFlags, fadvise, flock, renameat_with};
use rustix::io::Errno;

use crate::source::file::FileSource;
use crate::{Digest, Error, ErrorKind, Location, Result, Source};

/// A file that is removed when dropped, unless [`finish`](Self::finish) has given it its final
/// name.
pub(crate) struct PartFile {
    pub(crate) file: File,
    /// The path until the file is complete.
    pub(crate) part: PathBuf,
    path: PathBuf,
}

/// Starts the line of a checksum file that has the digest of a pack index.
pub(crate) const PACK_INDEX_NOTE: &str = "# pack-index-sha256 ";

/// The path of the checksum file of the image at `path`.
pub(crate) fn digest_path(path: &Path) -> PathBuf {
    with_suffix(path, ".sha256")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl PartFile {
    /// Creates the file. Overwrites what a killed process has left, but not the file that a running
    /// process writes, which holds a lock on it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let part = with_suffix(path, ".part");
        let failed = |e: io::Error| {
            let hint = "name an existing directory that is writable";
            Error::from_io(ErrorKind::Host, format!("creating {}", part.display()), e)
                .with_path(part.display())
                .hint(hint)
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(failed)?;
        // other errors mean that the file system has no locks
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("another process is creating {}", path.display()),
            )
            .with_path(path.display())
            .hint("wait until it is done, or choose another name"));
        }
        let made = Self { file, part: part.clone(), path: path.to_owned() };
        made.file.set_len(0).map_err(failed)?;
        Ok(made)
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| self.failed("writing", e))
    }

    pub(crate) fn failed(&self, doing: &str, error: io::Error) -> Error {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or write the image elsewhere"
            }
            io::ErrorKind::FileTooLarge => {
                "the file system has no files of this size: write a compressed image (.img.zst)"
            }
            _ => "look at dmesg, or write the image elsewhere",
        };
        Error::from_io(ErrorKind::Host, format!("{doing} {}", self.part.display()), error)
            .with_path(self.part.display())
            .hint(hint)
    }

    /// Flushes the file to its medium, so that the comparison reads it from there.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.failed("writing", e))?;
        // only advice: some file systems may still serve the comparison from the page cache
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }

    /// Opens the file again, so that what is read comes from the medium.
    pub(crate) fn reopen(&self) -> Result<Source> {
        let shown = self.part.display().to_string();
        let file = File::open(&self.part).map_err(|e| self.failed("opening", e))?;
        let bytes = Arc::new(FileSource::new(file, shown.clone())?);
        Ok(Source::new(Location::File(self.part.clone()), shown, bytes))
    }

    /// Writes the checksum file, gives the image its final name, and returns its size in bytes.
    /// `pack_index_sha256` is the digest of the index of a packed image.
    pub(crate) fn finish(self, sha256: Digest, pack_index_sha256: Option<Digest>) -> Result<u64> {
        let len = self.file.metadata().map_err(|e| self.failed("examining", e))?.len();
        let digest = digest_path(&self.path);
        self.write_digests(sha256, pack_index_sha256, &digest).map_err(|e| {
            Error::from_io(ErrorKind::Host, format!("writing {}", digest.display()), e)
                .with_path(digest.display())
        })?;
        rename(&self.part, &self.path).map_err(|e| {
            let _ = fs::remove_file(&digest);
            self.failed("renaming", e)
        })?;
        let directory =
            self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // the file itself is durable already; some file systems cannot sync the rename
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(len)
    }

    fn write_digests(
        &self,
        sha256: Digest,
        pack_index_sha256: Option<Digest>,
        path: &Path,
    ) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).open(path)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut text = format!("{sha256}  {name}\n");
        if let Some(index) = pack_index_sha256 {
            // a comment, so that other programs check the file alone
            text.push_str(&format!("{PACK_INDEX_NOTE}{index}\n"));
        }
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.inspect_err(|_| {
            let _ = fs::remove_file(path);
        })
    }
}

/// Renames without replacing a file that was created in the meantime, if the file system supports
/// that.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        result => Ok(result?),
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // after the rename, this fails because the name is gone
        let _ = fs::remove_file(&self.part);
    }
}
