//! A transfer from the origin to a file, which clients read while it grows.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bty::client::MayReach;
use bty::digest::Hasher;
use bty::{Client, ClientOptions, Digest, Source};
use serde_json::json;

use super::eviction::Claim;
use super::fill::{Fill, FillHead, FillProgress};
use super::object::CacheObject;
use super::storage::{Storage, remove_file};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::random::random_token;
use crate::store::cache::{self as rows, ObjectRecord, PartRecord};

/// Number of bytes per read from the origin.
const CHUNK_BYTES: usize = 1 << 20;

/// Number of bytes after which the file is synced, so that a resumed fill does not fetch them
/// again.
const SYNC_EVERY_BYTES: u64 = 64 << 20;

/// Step in which space is reserved for an object of unknown length.
const RESERVE_STEP_BYTES: u64 = 256 << 20;

/// Runs transfers, and records their outcomes.
pub(super) struct Transfers {
    pub(super) storage: Arc<Storage>,
    client: Client,
    /// Set before the transfers are cancelled because the server is stopping: they keep the bytes
    /// already received.
    pub(super) is_stopping: AtomicBool,
}

impl Transfers {
    pub(super) fn new(
        storage: Arc<Storage>,
        mut options: ClientOptions,
        may_reach: MayReach,
    ) -> Self {
        options.may_reach = Some(may_reach);
        Self { storage, client: Client::new(options), is_stopping: false.into() }
    }

    /// Transfers an object. `declared` is the digest that its URL contains.
    pub(super) fn run(&self, fill: &Arc<Fill>, declared: Option<Digest>, actor: Actor) {
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            Transfer::open(self, fill, declared)?.run(&self.is_stopping)
        }));
        let result = result.unwrap_or_else(|_| Err(Error::internal("a fill panicked")));
        self.finish(fill, result, actor, Some(begun));
    }

    /// Ends a fill: records the object and the event, updates the index, then notifies the clients.
    /// Clients come last, so that they find the object when they ask again.
    pub(super) fn finish(
        &self,
        fill: &Arc<Fill>,
        result: Result<Filled>,
        actor: Actor,
        begun: Option<Instant>,
    ) {
        let storage = &self.storage;
        let event = self.event_of(fill, &result, begun).by(actor, None);
        let counter = match event.kind {
            "cache.object.filled" => &storage.counters.fills,
            _ => &storage.counters.failures,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let kept = result.as_ref().ok().filter(|filled| !filled.is_unexpected);
        let kept = kept.map(|filled| Arc::clone(&filled.object));
        let record = kept.as_ref().map(|object| object.record.clone());
        let written = storage.db.write_blocking(move |t| {
            if let Some(record) = record {
                rows::put_object(t, &record)?;
                rows::forget_misses(t, Some(&record.key))?;
            }
            t.record(&event).map(drop)
        });
        let progress = match (written, result) {
            (Ok(()), Ok(filled)) => FillProgress::Whole(filled.object),
            (Err(error), _) | (Ok(()), Err(error)) => FillProgress::Failed(error),
        };
        let mut index = storage.index();
        index.fills.remove(&fill.key);
        match (&progress, kept) {
            (FillProgress::Whole(_), Some(object)) => {
                index.parts.remove(&fill.key);
                index.objects.insert(fill.key, object);
            }
            // a file without a record
            (_, Some(_)) => remove_file(&storage.path(&fill.key)),
            _ => {}
        }
        drop(index);
        fill.progress.send_replace(progress);
    }

    fn event_of(&self, fill: &Fill, result: &Result<Filled>, begun: Option<Instant>) -> NewEvent {
        let address = &fill.address;
        let event = |kind, summary| NewEvent::new(kind, address.clone(), summary);
        match result {
            Ok(filled) => {
                let record = &filled.object.record;
                let details = json!({
                    "size_bytes": record.size_bytes,
                    "sha256": record.sha256.to_string(),
                    "seconds": begun.map(|begun| begun.elapsed().as_secs_f64()),
                    "resumed_at": filled.resumed_at,
                });
                let size = bty::size::human(record.size_bytes);
                match filled.is_unexpected {
                    false => event("cache.object.filled", format!("cached {address}, {size}")),
                    true => event(
                        "cache.fill.failed",
                        format!(
                            "discarded {address}: no client expects its SHA-256 {}",
                            record.sha256
                        ),
                    ),
                }
                .with(details)
            }
            Err(error) if fill.cancel.is_cancelled() => {
                let why = match self.is_stopping.load(Ordering::SeqCst) {
                    true => "interrupted because the server stopped; the next request resumes it",
                    false => "cancelled by an operator",
                };
                event("cache.fill.cancelled", format!("fetch of {address} {why}"))
                    .with(error.details())
            }
            Err(error) => event("cache.fill.failed", format!("{address}: {}", error.detail))
                .with(error.details()),
        }
    }
}

/// The result of a transfer whose content matches the digest in its URL, if there is one.
pub(super) struct Filled {
    object: Arc<CacheObject>,
    /// True if clients expect digests and none of them matches. The object is then discarded.
    is_unexpected: bool,
    /// Offset at which an earlier fill was resumed; 0 if it started from the beginning.
    resumed_at: u64,
}

/// A transfer whose origin has responded.
struct Transfer<'a> {
    storage: &'a Storage,
    fill: &'a Fill,
    source: Source,
    declared: Option<Digest>,
    part: PartRecord,
    /// True if the origin sends a version and supports ranges, so that a later fill can resume this
    /// one.
    is_resumable: bool,
    file: File,
    hasher: Hasher,
    done: u64,
    resumed_at: u64,
}

impl<'a> Transfer<'a> {
    fn open(transfers: &'a Transfers, fill: &'a Fill, declared: Option<Digest>) -> Result<Self> {
        fill.cancel.check()?;
        let storage = &*transfers.storage;
        let source = transfers.client.open_checked(
            &fill.address.parse()?,
            declared.is_some(),
            &fill.cancel,
        )?;
        let version = source.version();
        let part = storage.index().parts.get(&fill.key).cloned();
        let part =
            part.filter(|part| Some(&part.version) == version.as_ref() && source.is_seekable());
        let etag = match (declared, &part) {
            (Some(digest), _) => format!("\"{digest}\""),
            (None, Some(part)) => part.etag.clone(),
            // not the origin's tag, which need not be unique among URLs
            (None, None) => format!("\"{}\"", random_token()),
        };
        let is_resumable = version.is_some() && source.is_seekable();
        let done = part.map_or(0, |part| part.kept_bytes);
        if let Some(total) = source.len_bytes() {
            storage.make_room(Claim::Fill(&fill.key), total, done)?;
        }
        let mut file = open_part(storage, fill, done, source.len_bytes())?;
        let part = PartRecord {
            key: fill.key,
            address: fill.address.clone(),
            etag: etag.clone(),
            version: version.unwrap_or_default(),
            kept_bytes: done,
        };
        // the digest also covers the bytes left by an earlier fill
        let mut hasher = Hasher::new();
        file.seek(SeekFrom::Start(0))?;
        hasher.read(&mut file)?;
        let head =
            FillHead { etag, len_bytes: source.len_bytes(), file: Arc::new(file.try_clone()?) };
        *fill.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(head);
        let transfer = Self {
            storage,
            fill,
            source,
            declared,
            part,
            is_resumable,
            file,
            hasher,
            done,
            resumed_at: done,
        };
        transfer.publish();
        Ok(transfer)
    }

    fn run(mut self, is_stopping: &AtomicBool) -> Result<Filled> {
        match self.transfer().and_then(|()| self.verify()) {
            Ok(sha256) => self.complete(sha256),
            Err(error) => {
                let is_cancelled =
                    self.fill.cancel.is_cancelled() && !is_stopping.load(Ordering::SeqCst);
                let is_useless = matches!(error.kind, ErrorKind::Full)
                    || error.cause.as_deref() == Some(WRONG_BYTES);
                if is_cancelled || is_useless || !self.is_resumable || self.sync().is_err() {
                    self.discard()?;
                }
                Err(error)
            }
        }
    }

    fn transfer(&mut self) -> Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        if self.source.len_bytes() == Some(self.done) {
            return Ok(());
        }
        let mut reader = self.source.reader_from(self.done, &self.fill.cancel)?;
        let mut reserved = self.source.len_bytes().unwrap_or(0);
        loop {
            let read = match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => &chunk[..n],
                Err(e) => {
                    let what = format!("fetching {}", self.fill.address);
                    return Err(bty::Error::from_io(bty::ErrorKind::Source, what, e).into());
                }
            };
            let end = self.done + read.len() as u64;
            if end > reserved {
                reserved = end + RESERVE_STEP_BYTES;
                self.storage.make_room(Claim::Fill(&self.fill.key), reserved, self.done)?;
            }
            self.file.write_all(read).map_err(write_error)?;
            self.hasher.update(read);
            let fetched_bytes = &self.storage.counters.fetched_bytes;
            fetched_bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
            self.done = end;
            self.publish();
            if self.is_resumable && self.done - self.part.kept_bytes >= SYNC_EVERY_BYTES {
                self.sync()?;
            }
        }
    }

    /// Publishes how far clients can read, which never includes the last byte.
    fn publish(&self) {
        let is_short = self.source.len_bytes().is_some_and(|len| self.done < len);
        let readable = if is_short { self.done } else { self.done.saturating_sub(1) };
        self.fill.progress.send_replace(FillProgress::Filling(readable));
    }

    /// Makes the received bytes durable. Syncs the file before the record is updated.
    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(write_error)?;
        self.part.kept_bytes = self.done;
        let part = self.part.clone();
        self.storage.index().parts.insert(part.key, part.clone());
        self.storage.db.write_blocking(move |t| rows::put_part(t, &part))
    }

    fn discard(&self) -> Result<()> {
        let key = self.fill.key;
        remove_file(&self.storage.part_path(&key));
        self.storage.index().parts.remove(&key);
        self.storage.db.write_blocking(move |t| rows::delete_part(t, &key))
    }

    fn verify(&mut self) -> Result<Digest> {
        let sha256 = std::mem::take(&mut self.hasher).finish();
        match self.declared {
            Some(declared) if declared != sha256 => {
                let detail = format!(
                    "{} has the SHA-256 {sha256}, not {declared}; it was discarded",
                    self.fill.address
                );
                let error = Error::new(ErrorKind::Upstream, detail);
                Err(Error { cause: Some(WRONG_BYTES.into()), ..error })
            }
            _ => Ok(sha256),
        }
    }

    /// Syncs the file and renames it to its final name.
    fn complete(&mut self, sha256: Digest) -> Result<Filled> {
        self.file.sync_all().map_err(write_error)?;
        let now = Time::now();
        let key = self.fill.key;
        let object = Arc::new(CacheObject::new(ObjectRecord {
            key,
            address: self.fill.address.clone(),
            etag: self.part.etag.clone(),
            version: self.source.version(),
            sha256,
            size_bytes: self.done,
            is_fixed: self.declared.is_some(),
            is_pinned: false,
            hits: 0,
            fetched_at: now,
            checked_at: now,
            used_at: now,
        }));
        let expected = self.fill.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unexpected = !expected.is_empty() && !expected.contains(&sha256);
        drop(expected);
        let filled = Filled { object, is_unexpected, resumed_at: self.resumed_at };
        if is_unexpected {
            self.discard()?;
            return Ok(filled);
        }
        std::fs::rename(self.storage.part_path(&key), self.storage.path(&key))
            .map_err(write_error)?;
        File::open(&self.storage.dir)?.sync_all().map_err(write_error)?;
        Ok(filled)
    }
}

/// Opens the file of a fill, keeping its first `done` bytes. Allocates `len` bytes, so that a full
/// disk is reported immediately and not during the transfer.
fn open_part(storage: &Storage, fill: &Fill, done: u64, len: Option<u64>) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(storage.part_path(&fill.key))?;
    file.set_len(done)?;
    let missing = len.map_or(0, |len| len.saturating_sub(done));
    if missing > 0 {
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, done, missing) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(e) => return Err(write_error(e.into())),
        }
    }
    Ok(file)
}

/// Cause of an error after which the bytes must be discarded.
const WRONG_BYTES: &str = "wrong bytes";

#[allow(clippy::needless_pass_by_value)] // the signature that map_err needs
fn write_error(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => {
            Error::new(ErrorKind::Full, format!("the disk of the cache is full: {error}"))
        }
        _ => Error::internal(format!("writing to the cache: {error}")),
    }
}
