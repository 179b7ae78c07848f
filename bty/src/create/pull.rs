//! Copies an image as published into a file, with its proof.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::part::{PartFile, digest_path};
use crate::digest::FileHasher;
use crate::progress::{Counts, Ticks};
use crate::{CancelToken, Digest, Error, ErrorKind, Event, Observer, Phase, Result, Source};

/// Size in bytes of one read.
const READ_BYTES: usize = 1 << 20;

/// The result of [`pull`]. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PullReport {
    /// Path of the copy.
    pub path: PathBuf,
    /// Size of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, also written to the `.sha256` file next to it.
    pub sha256: Digest,
    /// True if a digest was expected, and matches.
    pub is_digest_checked: bool,
    /// Wall-clock time in milliseconds, until the file had its name.
    pub elapsed_ms: u64,
}

/// Copies `source` as published to `path`, and writes its SHA-256 to a `.sha256` file next to it,
/// which a later flash of the copy checks. The file gets its name once all expected digests match.
///
/// # Errors
/// - [`ErrorKind::Refused`]: there is something at `path` or at the name of the `.sha256` file, or
///   another process is writing it.
/// - [`ErrorKind::Source`]: the source cannot be read.
/// - [`ErrorKind::Integrity`]: a digest of the source differs; the copy is removed.
/// - [`ErrorKind::Host`]: the copy cannot be written.
/// - [`ErrorKind::Cancelled`]: `cancel` was cancelled; the copy is removed.
pub fn pull(
    source: &Source,
    path: &Path,
    observer: &dyn Observer,
    cancel: &CancelToken,
) -> Result<PullReport> {
    let started = Instant::now();
    for path in [path.to_owned(), digest_path(path)] {
        if path.symlink_metadata().is_ok() {
            let message = format!("{} already exists", path.display());
            return Err(Error::new(ErrorKind::Refused, message)
                .with_path(path.display())
                .hint("choose another name, or remove it"));
        }
    }
    let part = PartFile::create(path)?;
    observer.event(&Event::Phase { phase: Phase::Read });
    let expected = source.expected_checksums();
    let mut hasher = FileHasher::new(&expected);
    let (mut reader, mut ticks, mut at) = (source.reader(cancel)?, Ticks::default(), 0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        cancel.check()?;
        let len = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                let doing = format!("reading {}", source.location());
                return Err(Error::from_io(ErrorKind::Source, doing, e));
            }
        };
        part.write_at(&buffer[..len], at)?;
        hasher.update(&buffer[..len]);
        at += len as u64;
        if ticks.is_due() {
            observer.event(&progress(at, source.len_bytes(), started));
        }
    }
    let found = hasher.finish();
    source.check_digests(&found)?;
    part.sync()?;
    let sha256 = found.sha256.expect("it is always computed");
    let file_bytes = part.finish(sha256, None)?;
    Ok(PullReport {
        path: path.to_owned(),
        file_bytes,
        sha256,
        is_digest_checked: !expected.is_empty(),
        elapsed_ms: elapsed_ms(started),
    })
}

fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn progress(source_bytes: u64, source_total: Option<u64>, started: Instant) -> Event {
    // nothing is decoded: the copy is as far as the source was read
    let (decoded_bytes, decoded_total) = (source_bytes, source_total);
    let counts = Counts { source_bytes, source_total, decoded_bytes, decoded_total };
    let elapsed_ms = elapsed_ms(started);
    Event::Progress { phase: Phase::Read, elapsed_ms, counts, targets: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::directory::sidecar_digest;
    use crate::{Client, Error};

    fn pull_file(
        content: &[u8],
        digest: Option<Digest>,
    ) -> (tempfile::TempDir, Result<PullReport>) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a.img"), dir.path().join("copy.img"));
        std::fs::write(&from, content).unwrap();
        let cancel = CancelToken::new();
        let source = Client::default().open(from.to_str().unwrap(), &cancel).unwrap();
        let source = match digest {
            Some(digest) => source.expect(digest).unwrap(),
            None => source,
        };
        let report = pull(&source, &to, &(), &cancel);
        (dir, report)
    }

    #[test]
    fn a_copy_has_the_bytes_of_the_source_and_its_digest_beside_it() {
        let content = vec![7; 3 << 20];
        let digest = Digest::of(&content);
        let (dir, report) = pull_file(&content, Some(digest));
        let report = report.unwrap();
        assert!(report.is_digest_checked);
        assert_eq!((report.file_bytes, report.sha256), (3 << 20, digest));
        let copy = dir.path().join("copy.img");
        assert!(std::fs::read(&copy).unwrap() == content);
        assert_eq!(sidecar_digest(&copy).unwrap(), Some(digest));
    }

    #[test]
    fn a_copy_with_another_digest_is_removed_and_an_existing_file_is_kept() {
        let (dir, report) = pull_file(b"abc", Some(Digest::of(b"xyz")));
        assert_eq!(report.unwrap_err().kind(), ErrorKind::Integrity);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the source is left");
        let copy = dir.path().join("copy.img");
        std::fs::write(&copy, "mine").unwrap();
        let source =
            Client::default().open(dir.path().join("a.img").to_str().unwrap(), &CancelToken::new());
        let refused: Error = pull(&source.unwrap(), &copy, &(), &CancelToken::new()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert_eq!(std::fs::read(&copy).unwrap(), b"mine");
    }
}
