//! Downloads a release of the live environment: kernel, initrd, squashfs, and their digests.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bty::digest::Hasher;
use bty::{Client, Digest, Source};
use serde_json::{Value, json};

use super::{Handle, Job, JobKind, Jobs, start};
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::machine::ClientContext;
use crate::services::event_log::EventLog;
use crate::services::netboot::{PARTS, PARTS_LIST, SUMS_BYTES_MAX, file_name};
use crate::services::snapshot::Snapshots;
use crate::store::{self, Database};

const CHUNK: usize = 1 << 20;

/// Maximum size of an artifact in bytes, far above any real one.
const ARTIFACT_BYTES_MAX: u64 = 16 << 30;

/// Time after which a download fails. The next attempt resumes it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// A release and its location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// URL of the directory with its files.
    pub base: String,
    /// The version in the names of its files.
    pub version: String,
}

impl Release {
    /// Returns the release `tag` of the repository `repo`: `owner/name` on GitHub, or the URL of a
    /// directory with one subdirectory per tag. `latest` means the version of this program.
    #[must_use]
    pub fn new(repo: &str, tag: &str) -> Self {
        let own = format!("v{}", env!("CARGO_PKG_VERSION"));
        let tag = if tag.is_empty() || tag == "latest" { own.as_str() } else { tag };
        let base = match repo.contains("://") {
            true => format!("{}/{tag}", repo.trim_end_matches('/')),
            false => format!("https://github.com/{repo}/releases/download/{tag}"),
        };
        Self { base, version: tag.trim_start_matches('v').to_owned() }
    }

    fn name(&self, part: &str) -> String {
        file_name(&self.version, part)
    }
}

/// Downloads releases of the live environment.
#[derive(Clone)]
pub struct ReleaseJobs {
    config: Arc<Config>,
    db: Database,
    jobs: Jobs,
    snapshots: Arc<Snapshots>,
    events: EventLog,
    client: Client,
}

impl ReleaseJobs {
    pub(crate) fn new(
        config: Arc<Config>,
        db: Database,
        jobs: Jobs,
        snapshots: Arc<Snapshots>,
        events: EventLog,
        client: Client,
    ) -> Self {
        Self { config, db, jobs, snapshots, events, client }
    }

    /// Starts the job that downloads a release, even if its files already exist.
    ///
    /// # Errors
    /// `ErrorKind::Full` when the event cannot be written.
    pub async fn request(&self, client: &ClientContext, tag: String) -> Result<Job> {
        let repo = self.snapshots.current().settings.get("upstream.netboot_repo").to_owned();
        let repo = std::env::var("BTY_BOOT_RELEASE_REPO")
            .ok()
            .filter(|repo| !repo.is_empty())
            .unwrap_or(repo);
        let release = Release::new(&repo, &tag);
        let event = NewEvent::new(
            "netboot.artifacts.fetch.requested",
            tag.clone(),
            format!("fetch of release {tag} requested"),
        );
        let details = json!({ "tag": tag, "from": release.base, "version": release.version });
        self.events.record(event.caused_by(&client.author()).with(details)).await?;
        let (service, author, key) = (self.clone(), client.author(), tag.clone());
        Ok(start(&self.jobs, JobKind::Release, tag, move |handle| {
            let record = |kind, summary: String, details: Value| {
                let event =
                    NewEvent::new(kind, key.clone(), summary).caused_by(&author).with(details);
                service.db.write_blocking(move |t| t.record(&event).map(drop))
            };
            record(
                "netboot.artifacts.fetch.started",
                format!("fetch of release {key} started"),
                json!({ "from": release.base }),
            )?;
            let result = service.fetch(&release, handle);
            match &result {
                Ok(details) => {
                    service.use_version(&release.version)?;
                    record(
                        "netboot.artifacts.fetched",
                        format!("release {key} fetched"),
                        details.clone(),
                    )?;
                }
                Err(error) if handle.cancel.is_cancelled() => {
                    record(
                        "netboot.artifacts.fetch.cancelled",
                        format!("fetch of release {key} cancelled"),
                        error.details(),
                    )?;
                }
                Err(error) => {
                    let summary = format!("fetch of release {key} failed: {}", error.detail);
                    record("netboot.artifacts.fetch.failed", summary, error.details())?;
                }
            }
            result
        }))
    }

    /// Sets the version that machines boot by default.
    fn use_version(&self, version: &str) -> Result<()> {
        let version = version.to_owned();
        let now = crate::domain::time::Time::now();
        self.db
            .write_blocking(move |t| store::settings::put(t, "netboot.version", &version, now))?;
        self.snapshots.refresh_blocking()
    }

    fn fetch(&self, release: &Release, handle: &Handle) -> Result<Value> {
        let bounds = Bounds { until: Instant::now() + FETCH_TIMEOUT, handle };
        let sums_url = format!("{}/{}", release.base, release.name("sha256"));
        let sums = self.client.read_small(&sums_url, SUMS_BYTES_MAX, &handle.cancel)?;
        let text = String::from_utf8_lossy(&sums).into_owned();
        let dir = &self.config.boot_dir;
        let mut files_to_fetch = Vec::new();
        for part in PARTS {
            let name = release.name(part);
            let digest = bty::digest::find_in_checksums(&text, &name).ok_or_else(|| {
                Error::new(ErrorKind::Upstream, format!("{sums_url} has no digest of {name}"))
            })?;
            files_to_fetch.push((name, digest));
        }
        let list = release.name(PARTS_LIST);
        files_to_fetch
            .extend(bty::digest::find_in_checksums(&text, &list).map(|digest| (list, digest)));
        let mut files = json!({});
        for (name, digest) in &files_to_fetch {
            let partial = dir.join(format!(".{name}.partial"));
            let url = format!("{}/{name}", release.base);
            let source = self.client.open(&url, &handle.cancel)?;
            let bytes = download(
                &source,
                &partial,
                *digest,
                &mut |done, total| {
                    files[name] = json!({ "bytes": done, "total": total });
                    handle.progress(files.clone());
                },
                &bounds,
            );
            let bytes = bytes.map_err(|error| {
                if error.kind == ErrorKind::Full {
                    // otherwise the partial file would keep the disk full
                    let _ = std::fs::remove_file(&partial);
                }
                error.in_dir(dir)
            })?;
            files[name] = json!({ "bytes": bytes, "total": bytes, "sha256": digest });
        }
        // install them only once all are complete: a kernel needs the modules of its own version
        for (name, _) in &files_to_fetch {
            std::fs::rename(dir.join(format!(".{name}.partial")), dir.join(name))?;
        }
        crate::durable::write_durably(&dir.join(release.name("sha256")), &sums, 0o644)?;
        Ok(files)
    }
}

/// The limits of a download: cancellation, time, and the size of each file.
struct Bounds<'a> {
    until: Instant,
    handle: &'a Handle,
}

impl Bounds<'_> {
    fn check(&self, done: u64) -> Result<()> {
        self.handle.cancel.check()?;
        if done > ARTIFACT_BYTES_MAX {
            let limit = bty::size::human(ARTIFACT_BYTES_MAX);
            return Err(Error::new(
                ErrorKind::Upstream,
                format!("the file is larger than {limit}; check upstream.netboot_repo"),
            ));
        }
        if Instant::now() > self.until {
            let hours = FETCH_TIMEOUT.as_secs() / 3600;
            return Err(Error::new(
                ErrorKind::Upstream,
                format!(
                    "the fetch did not finish within {hours} hours; fetch the release again to \
                     resume"
                ),
            ));
        }
        Ok(())
    }
}

/// Downloads `source` to `path`, resuming an earlier attempt, and checks the digest. Calls
/// `on_progress` with the bytes so far and the total, if known.
fn download(
    source: &Source,
    path: &PathBuf,
    digest: Digest,
    on_progress: &mut dyn FnMut(u64, Option<u64>),
    bounds: &Bounds<'_>,
) -> Result<u64> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut hasher = Hasher::new();
    let kept = hash_kept(&mut file, &mut hasher, source.len_bytes())?;
    let done = match kept {
        0 => download_whole(source, &mut file, &mut hasher, on_progress, bounds)?,
        kept => match resume(source, &mut file, &mut hasher, kept, on_progress, bounds) {
            Ok(done) => done,
            Err(error) if bounds.handle.cancel.is_cancelled() => return Err(error),
            // the server does not support ranges: download again from the beginning
            Err(_) => {
                hasher = Hasher::new();
                file.seek(SeekFrom::Start(0))?;
                file.set_len(0)?;
                download_whole(source, &mut file, &mut hasher, on_progress, bounds)?
            }
        },
    };
    file.sync_all()?;
    let found = hasher.finish();
    if found == digest {
        return Ok(done);
    }
    // remove the file, since it is unknown which part of it is wrong
    std::fs::remove_file(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let detail = format!("{name} has the SHA-256 {found}, not {digest}; it was discarded");
    Err(Error::new(ErrorKind::Upstream, detail))
}

/// Hashes the data left by an earlier attempt. Returns its length in bytes.
fn hash_kept(file: &mut File, hasher: &mut Hasher, total: Option<u64>) -> Result<u64> {
    let kept = file.metadata()?.len();
    if total.is_none_or(|total| kept > total) {
        file.set_len(0)?;
        return Ok(0);
    }
    Ok(hasher.read(file)?)
}

fn download_whole(
    source: &Source,
    file: &mut File,
    hasher: &mut Hasher,
    on_progress: &mut dyn FnMut(u64, Option<u64>),
    bounds: &Bounds<'_>,
) -> Result<u64> {
    let mut reader = source.reader(&bounds.handle.cancel)?;
    let (mut buffer, mut done) = (vec![0; CHUNK], 0);
    loop {
        bounds.check(done)?;
        let n = reader
            .read(&mut buffer)
            .map_err(|e| Error::new(ErrorKind::Upstream, format!("{e:#}")))?;
        if n == 0 {
            return Ok(done);
        }
        done += append(file, hasher, &buffer[..n])?;
        on_progress(done, source.len_bytes());
    }
}

fn resume(
    source: &Source,
    file: &mut File,
    hasher: &mut Hasher,
    mut done: u64,
    on_progress: &mut dyn FnMut(u64, Option<u64>),
    bounds: &Bounds<'_>,
) -> Result<u64> {
    let mut buffer = vec![0; CHUNK * 4];
    loop {
        bounds.check(done)?;
        if source.len_bytes() == Some(done) {
            return Ok(done);
        }
        match source.read_at(&mut buffer, done, &bounds.handle.cancel)? {
            0 => return Ok(done),
            n => done += append(file, hasher, &buffer[..n])?,
        }
        on_progress(done, source.len_bytes());
    }
}

fn append(file: &mut File, hasher: &mut Hasher, bytes: &[u8]) -> Result<u64> {
    file.write_all(bytes)?;
    hasher.update(bytes);
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_version_of_the_tag() {
        let release = Release::new("safl/bty", "v0.61.2");
        assert_eq!(release.base, "https://github.com/safl/bty/releases/download/v0.61.2");
        assert_eq!(release.name("initrd"), "bty-netboot-pc-x86_64-v0.61.2.initrd");
        let own = Release::new("http://mirror/bty/", "latest");
        assert_eq!(own.base, format!("http://mirror/bty/v{}", env!("CARGO_PKG_VERSION")));
    }
}
