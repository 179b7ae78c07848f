//! Copies a source without random access into an unnamed temporary file, which has it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::digest::FileHasher;
use crate::source::file::FileSource;
use crate::source::{Source, check_size};
use crate::transport::options::ClientOptions;
use crate::{CancelToken, Error, ErrorKind, Result};

/// Copies all of `source` into an unnamed file in the spool directory, checks its digest, and
/// returns a source that reads the file.
pub(crate) fn spool(
    source: &Source,
    options: &ClientOptions,
    cancel: &CancelToken,
) -> Result<Source> {
    let dir = options.spool_dir.as_path();
    let doing = || format!("downloading {} into {}", source.location, dir.display());
    let failed = |e: io::Error| {
        Error::from_io(ErrorKind::Host, doing(), e).with_path(dir.display()).hint(
            "the image needs random access, so the spool directory must have space for all of it",
        )
    };
    // unnamed, so that nothing is left behind even after a crash
    let file = rustix::fs::open(
        dir,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    let mut stream = source.bytes.stream(0, cancel)?;
    let mut hasher = FileHasher::new(&source.expected);
    let mut buf = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = stream.read(&mut buf).map_err(|e| Error::from_io(ErrorKind::Source, doing(), e))?;
        if n == 0 {
            break;
        }
        done += n as u64;
        check_size(done, options.image_bytes_max).map_err(|e| e.context(doing()))?;
        hasher.update(&buf[..n]);
        file.write_all(&buf[..n]).map_err(failed)?;
    }
    source.check_digests(&hasher.finish())?;
    let bytes = FileSource::new(file, source.location.to_string())?;
    Ok(Source { bytes: Arc::new(bytes), ..source.clone() })
}
