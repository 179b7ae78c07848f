//! Serves files, with validators, conditional requests and ranges.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as Io, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::blocking::blocking;
use crate::conditional::{Conditions, Selection, Validators, select};
use crate::domain::error::{Error, Result};

/// Size of a read in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// The longest clock tick of a file system (twice that of `HZ=100`). Two versions of a file within
/// one tick could have the same tag.
const TICK: Duration = Duration::from_millis(20);

/// Minimum age for `Last-Modified`, which has whole seconds: a younger file could change without a
/// new date.
const DATE_AGE_MIN: Duration = Duration::from_secs(2);

/// A regular file that is open for reading, with the validators of its version.
struct Opened {
    file: File,
    len: u64,
    etag: String,
    changed: SystemTime,
}

impl Opened {
    /// Opens a file, and waits until it is older than a clock tick.
    fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let opened = Self::of(file)?;
        match SystemTime::now().duration_since(opened.changed) {
            Ok(age) if age < TICK => {
                std::thread::sleep(TICK - age);
                Self::of(opened.file)
            }
            _ => Ok(opened),
        }
    }

    fn of(file: File) -> std::io::Result<Self> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(Io::NotFound.into());
        }
        let (ino, len) = (meta.ino(), meta.len());
        let [modified, changed] =
            [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
        // programs can set the modification time, but not the inode change time: a replaced file
        // gets a new tag even with the same date
        let etag = format!(
            "\"{ino:x}-{len:x}-{:x}.{:x}-{:x}.{:x}\"",
            modified.0, modified.1, changed.0, changed.1
        );
        let (seconds, nanos) = modified.max(changed);
        let changed = Duration::new(
            seconds.try_into().unwrap_or_default(),
            nanos.try_into().unwrap_or_default(),
        );
        Ok(Self { file, len, etag, changed: UNIX_EPOCH + changed })
    }
}

/// True if the error means that no regular file has this name. A client chooses the name, so none
/// of these is an error of the server.
fn is_absent(error: &std::io::Error) -> bool {
    let is_of_name = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    // a symbolic link, a socket or a device without a driver, and a name that no file can have
    error.kind() == Io::NotFound
        || [Errno::LOOP, Errno::NOTDIR, Errno::NXIO, Errno::NODEV, Errno::NAMETOOLONG]
            .into_iter()
            .any(is_of_name)
}

/// Responds to a GET or HEAD request with the file at `path`, which clients save as `name`. Does
/// not follow symbolic links.
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::domain::error::ErrorKind::NotFound) when there is no regular
/// file.
pub(crate) async fn respond(
    path: &Path,
    name: &str,
    media_type: &'static str,
    is_head: bool,
    headers: &HeaderMap,
) -> Result<Response> {
    let owned = path.to_owned();
    let opened = blocking(move || Opened::open(&owned)).await?;
    let opened = opened.map_err(|e| match is_absent(&e) {
        true => Error::not_found(format!("the file {name}")),
        false => Error::internal(format!("reading {}: {e}", path.display())),
    })?;
    let Opened { file, len, etag, changed } = opened;
    let is_old = SystemTime::now().duration_since(changed).is_ok_and(|age| age >= DATE_AGE_MIN);
    let modified = Some(changed).filter(|_| is_old);
    let current = Validators { etag: &etag, modified, len: Some(len) };
    let selection = select(&Conditions::of(headers), is_head, &current);
    let range = match selection {
        Selection::Whole => Some((0, len)),
        Selection::Part(start, end) => Some((start, end)),
        _ => None,
    };
    let body = match range {
        Some((start, end)) if !is_head => {
            let mut file = tokio::fs::File::from_std(file);
            file.seek(SeekFrom::Start(start)).await?;
            Body::from_stream(ReaderStream::with_capacity(file.take(end - start), CHUNK_BYTES))
        }
        _ => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(selection.status()).map_err(Error::internal)?;
    let fields = response.headers_mut();
    let mut set = |name, value: String| -> Result<()> {
        fields.insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
        Ok(())
    };
    set(header::ETAG, etag)?;
    set(header::ACCEPT_RANGES, "bytes".into())?;
    set(header::CACHE_CONTROL, "no-cache".into())?;
    if let Some(modified) = modified {
        set(header::LAST_MODIFIED, httpdate::fmt_http_date(modified))?;
    }
    if let Some(value) = selection.content_range(len) {
        set(header::CONTENT_RANGE, value)?;
    }
    if let Some((start, end)) = range {
        set(header::CONTENT_TYPE, media_type.into())?;
        set(header::CONTENT_LENGTH, (end - start).to_string())?;
        let shown: String =
            name.chars().map(|c| if matches!(c, '"' | '\\') { '_' } else { c }).collect();
        set(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{shown}\""))
            .or_else(|_| set(header::CONTENT_DISPOSITION, "attachment".into()))?;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &Path, fields: &[(&'static str, &str)]) -> (u16, HeaderMap, Vec<u8>) {
        let headers = fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let response =
            respond(path, "f", "application/octet-stream", false, &headers).await.unwrap();
        let (parts, body) = response.into_parts();
        (
            parts.status.as_u16(),
            parts.headers,
            axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec(),
        )
    }

    fn text(headers: &HeaderMap, name: &str) -> String {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[tokio::test]
    async fn every_change_of_a_file_gives_it_another_tag() {
        use std::io::{Seek as _, Write as _};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let old = SystemTime::now() - Duration::from_secs(3600);
        let mut tags = std::collections::HashSet::new();
        let mut seen = async |what: &str| {
            let tag = text(&get(&path, &[]).await.1, "etag");
            assert!(tag.starts_with('"') && tags.insert(tag), "{what}: the tag is new");
        };
        let mut file = File::create(&path).unwrap();
        file.write_all(b"0123456789").unwrap();
        seen("made").await;
        // in place, with the previous size and time
        for n in 0..3 {
            file.rewind().unwrap();
            file.write_all(format!("{n}").as_bytes()).unwrap();
            file.set_modified(old).unwrap();
            seen("written in place").await;
        }
        let other = dir.path().join("g");
        std::fs::write(&other, b"9876543210").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(old).unwrap();
        std::fs::rename(&other, &path).unwrap();
        seen("replaced").await;
    }

    #[tokio::test]
    async fn a_resumed_download_never_mixes_two_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "0123456789").unwrap();
        let (status, headers, body) = get(&path, &[("range", "bytes=0-4")]).await;
        assert_eq!(
            (status, body.as_slice(), text(&headers, "content-range").as_str()),
            (206, &b"01234"[..], "bytes 0-4/10")
        );
        assert_eq!(
            text(&headers, "last-modified"),
            "",
            "a date of this second could be that of two versions"
        );
        let tag = text(&headers, "etag");
        let resume = [("range", "bytes=5-"), ("if-range", tag.as_str())];
        let (status, _, body) = get(&path, &resume).await;
        assert_eq!((status, body.as_slice()), (206, &b"56789"[..]));
        std::fs::write(&path, "abcdefghij").unwrap();
        let (status, _, body) = get(&path, &resume).await;
        assert_eq!((status, body.as_slice()), (200, &b"abcdefghij"[..]));
        let tag = text(&get(&path, &[]).await.1, "etag");
        assert_eq!(get(&path, &[("if-none-match", tag.as_str())]).await.0, 304);
        let (status, headers, _) = get(&path, &[("range", "bytes=10-")]).await;
        assert_eq!((status, text(&headers, "content-range").as_str()), (416, "bytes */10"));
    }

    #[tokio::test]
    async fn whatever_is_no_regular_file_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let below_a_file = dir.path().join("file/x");
        let (missing, too_long) = (dir.path().join("missing"), dir.path().join("x".repeat(300)));
        for path in [link.as_path(), dir.path(), &pipe, &socket, &missing, &below_a_file, &too_long]
        {
            let error = respond(path, "f", "text/plain", false, &HeaderMap::new())
                .await
                .map(drop)
                .unwrap_err();
            assert_eq!(error.kind, crate::domain::error::ErrorKind::NotFound, "{path:?}");
        }
    }
}
