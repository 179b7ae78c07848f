//! A download into an unnamed temporary file, for what needs random access from an origin that
//! gives none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::digest::{Checksums, FileHasher};
use crate::source::file::FileInput;
use crate::{CancelToken, ClientOptions, Error, ErrorKind, Result, Source, image};

/// Downloads all of `source` into an unnamed file in the spool directory, checks its digest, and
/// returns a source that reads the file.
pub(crate) fn spool(
    source: &Source,
    options: &ClientOptions,
    cancel: &CancelToken,
) -> Result<Source> {
    let dir = options.spool_dir.as_path();
    let doing = || format!("downloading {} into {}", source.location, dir.display());
    let failed = |e: io::Error| {
        Error::from_io(ErrorKind::Host, doing(), e)
            .with_path(dir.display())
            .hint("it cannot be read by parts, so there must be room for all of it in the spool directory")
    };
    // unnamed, so that nothing is left behind whatever happens
    let file = rustix::fs::open(
        dir,
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    let mut stream = source.input.stream(0, cancel)?;
    let mut hasher = FileHasher::new(&source.promised);
    let mut buf = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = stream.read(&mut buf).map_err(|e| Error::from_io(ErrorKind::Source, doing(), e))?;
        if n == 0 {
            break;
        }
        done += n as u64;
        image::check_size(done, options.image_bytes_max).map_err(|e| e.context(doing()))?;
        hasher.update(&buf[..n]);
        file.write_all(&buf[..n]).map_err(failed)?;
    }
    check_digest(source, &hasher.finish())?;
    let input = FileInput::from_file(file, source.location.to_string())?;
    Ok(Source { input: Arc::new(input), ..source.clone() })
}

/// Fails when `found`, the digests of all bytes of `source`, are not the promised ones.
pub(crate) fn check_digest(source: &Source, found: &Checksums) -> Result<()> {
    let promised = &source.promised;
    let unlike = |promised: Option<String>, found: Option<String>| {
        promised
            .filter(|promised| found.as_ref() != Some(promised))
            .map(|promised| (promised, found))
    };
    let sha256 = unlike(promised.sha256.map(String::from), found.sha256.map(String::from));
    let sha512 = unlike(promised.sha512.map(String::from), found.sha512.map(String::from));
    let Some((expected, found)) = sha256.or(sha512) else { return Ok(()) };
    let Some(found) = found else {
        let message =
            "the digest of the image could not be computed, because not all of it was read";
        return Err(Error::new(ErrorKind::Integrity, message).with_path(&source.location));
    };
    let message = format!("{} has digest {found}, expected {expected}", source.location);
    Err(Error::new(ErrorKind::Integrity, message).with_path(&source.location).hint(
        "the file is not the one that was published, or was damaged on its way: fetch it again, and check the digest",
    ))
}
