//! Opens what is on this machine: a file, a disk, a named pipe, or stdin.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use crate::source::ByteSource;
use crate::source::file::{FileSource, neither_file_nor_disk};
use crate::source::pipe::PipeSource;
use crate::{Error, ErrorKind, Remedy, Result};

/// Opens the file, disk or named pipe at `path`.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn ByteSource>> {
    let shown = path.display().to_string();
    let failed = |e: io::Error| {
        let missing = e.kind() == io::ErrorKind::NotFound;
        let error =
            Error::new(ErrorKind::Source, format!("opening {shown}")).because(e).with_path(&shown);
        if missing { error.hint("check the path").with_remedy(Remedy::ListImages) } else { error }
    };
    // checked before opening: opening a pipe as a file would wait for a writer, and no cancel
    // could end that
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_fifo() {
        return Ok(Arc::new(PipeSource::open(path)?));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(neither_file_nor_disk(&shown));
    }
    let file = File::open(path).map_err(failed)?;
    Ok(Arc::new(FileSource::new(file, shown.clone())?))
}

/// Opens stdin, as a file if the shell has redirected it from one, otherwise as a pipe.
pub(crate) fn stdin() -> Result<Arc<dyn ByteSource>> {
    let failed = |e: io::Error| Error::new(ErrorKind::Source, "examining stdin").because(e);
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Error::new(ErrorKind::Usage, "stdin is a terminal, not an image")
            .hint("pipe an image into it, or name a file")
            .with_remedy(Remedy::PipeImage));
    }
    let file = File::from(stdin.as_fd().try_clone_to_owned().map_err(failed)?);
    let kind = file.metadata().map_err(failed)?.file_type();
    // another program may have read a part of the file before
    let at_start = || rustix::fs::tell(&file).is_ok_and(|position| position == 0);
    if (kind.is_file() || kind.is_block_device()) && at_start() {
        return Ok(Arc::new(FileSource::new(file, "stdin".to_owned())?));
    }
    Ok(Arc::new(PipeSource::of_file(file, "stdin")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_file_that_grows_or_is_overwritten_counts_as_changed() {
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
        // the clock of the file system is coarse
        let started = std::time::Instant::now();
        while input.check_unchanged().is_ok() && started.elapsed().as_secs() < 10 {
            file.as_file().write_all_at(b"x", 7).unwrap();
        }
        assert!(
            input.check_unchanged().unwrap_err().to_string().contains("modified in the meantime")
        );
    }
}
