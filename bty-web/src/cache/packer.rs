//! Packs cached objects in the background, so that machines fetch only what their disks do not hold.
//!
//! One object at a time, on one core, with the lowest priority, and not while clients are served. A
//! packed form is made once for the same content, in a file of its own. A file that a stopped
//! process has left is removed at startup, and packing starts over.
//!
//! Versions of an image share most of their frames, but each packed form is a file of its own:
//! frames are not aligned to blocks of the file system, so files cannot share them, and a store of
//! single frames would need an open file, an eviction rule and a crash rule for each.

use std::collections::HashMap;
use std::io::ErrorKind as Io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bty::image::OpenOptions;
use bty::pack::{PackOptions, PackReport, check, pack};
use bty::{CancelToken, Client, Digest, Image};
use rustix::thread::CpuSet;
use serde_json::json;

use super::eviction::Claim;
use super::index::Packing;
use super::object::CacheObject;
use super::storage::{Storage, remove_file};
use crate::domain::error::Result;
use crate::domain::event::NewEvent;
use crate::domain::time::Time;
use crate::store::cache::{self as rows, ObjectRecord, PackOutcome, PackedRecord};

/// How long packing waits for clients and fetches, in total for one object. Then it continues
/// beside them, so that it ends on a busy cache host too.
const PATIENCE: Duration = Duration::from_secs(600);

/// Interval at which packing looks whether clients are still being served.
const POLL: Duration = Duration::from_millis(500);

/// Time after which packing is tried again for an object for whose packed form there was no room.
const RETRY_MS: i64 = 600_000;

/// Step in which room is reserved when a packed form gets larger than expected.
const RESERVE_STEP_BYTES: u64 = 256 << 20;

/// Packs objects in the background, one at a time.
pub(super) struct Packer {
    storage: Arc<Storage>,
    /// How long to wait for clients and fetches.
    patience: Duration,
    /// Cancelled when the server stops.
    pub(super) cancel: CancelToken,
    /// Contents without room for a packed form: when that was found, and the bytes that it needs at
    /// least.
    without_room: Mutex<HashMap<Digest, (Time, u64)>>,
}

/// Why an object was not packed.
enum PackingEnd {
    /// The server stops, or the object was deleted or evicted.
    Cancelled,
    /// There is no room for so many bytes.
    NoRoom(u64),
    /// The object is not a disk image.
    NoImage(String),
    /// Packing failed for another reason.
    Failed(bty::Error),
}

impl From<bty::Error> for PackingEnd {
    fn from(error: bty::Error) -> Self {
        match error.kind() {
            bty::ErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Failed(error),
        }
    }
}

impl Packer {
    pub(super) fn new(storage: Arc<Storage>) -> Self {
        Self {
            storage,
            patience: PATIENCE,
            cancel: CancelToken::new(),
            without_room: Mutex::default(),
        }
    }

    /// Returns the most recently used object that should be packed.
    pub(super) fn next(&self) -> Option<ObjectRecord> {
        let now = Time::now();
        let mut without_room = self.without_room();
        without_room.retain(|_, (at, _)| now.ms_since(*at) < RETRY_MS);
        let index = self.storage.index();
        let is_open = |object: &&Arc<CacheObject>| {
            let sha256 = &object.record.sha256;
            !index.packed.contains_key(sha256) && !without_room.contains_key(sha256)
        };
        let newest = index.objects.values().filter(is_open).max_by_key(|object| object.used_at());
        newest.map(|object| object.record.clone())
    }

    fn without_room(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, (Time, u64)>> {
        self.without_room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs `object` on this thread, and records the outcome. Once cancelled, records nothing.
    pub(super) fn run(&self, object: &ObjectRecord) {
        confine_to_one_core();
        let sha256 = object.sha256;
        let path = self.storage.packed_path(&sha256);
        clear(&path);
        let cancel = self.cancel.child();
        self.storage.index().packing =
            Some(Packing { sha256, reserved_bytes: 0, cancel: cancel.clone() });
        let packed = catch_unwind(AssertUnwindSafe(|| self.pack(object, &path, &cancel)));
        let packed = packed.unwrap_or_else(|_| {
            Err(PackingEnd::Failed(bty::Error::new(bty::ErrorKind::Host, "packing panicked")))
        });
        let failed = |why: String| (PackOutcome::Failed(why.clone()), failure_event(object, &why));
        let (outcome, event) = match packed {
            Ok(outcome) => {
                let event = success_event(object, &outcome);
                (outcome, event)
            }
            // no event, since a cache may hold anything
            Err(PackingEnd::NoImage(why)) => (PackOutcome::Failed(why), None),
            Err(PackingEnd::Cancelled) => return self.give_up(&path),
            Err(PackingEnd::NoRoom(bytes)) => {
                let address = &object.address;
                tracing::info!(address, bytes, "no room for a packed form");
                self.without_room().insert(sha256, (Time::now(), bytes));
                return self.give_up(&path);
            }
            Err(PackingEnd::Failed(error)) => {
                self.give_up(&path);
                failed(format!("{error:#}"))
            }
        };
        if let Err(error) = self.record(object, outcome, event, &path) {
            tracing::error!(%error, "cannot record a packed form");
            self.give_up(&path);
        }
    }

    fn give_up(&self, path: &Path) {
        clear(path);
        self.storage.index().packing = None;
    }

    fn pack(
        &self,
        object: &ObjectRecord,
        path: &Path,
        cancel: &CancelToken,
    ) -> std::result::Result<PackOutcome, PackingEnd> {
        let courtesy = Courtesy::new(&self.storage, self.patience, cancel);
        courtesy.wait();
        let client = Client::default();
        let source = bty::text::path_reference(self.storage.path(&object.key));
        let options = OpenOptions::default().ignore_sidecar(true).sha256(object.sha256);
        let image = match Image::open(&client, &source, &options, cancel) {
            Err(_) if self.is_gone(object) => return Err(PackingEnd::Cancelled),
            Err(error) if error.kind() == bty::ErrorKind::Format => {
                return Err(PackingEnd::NoImage(format!("{error:#}")));
            }
            opened => opened?,
        };
        if image.info().pack_index_sha256.is_some() {
            let packed = client.open(&source, cancel)?;
            let index_sha256 = check(&packed, cancel)?.index_sha256;
            return Ok(PackOutcome::Itself { index_sha256 });
        }
        if !image.info().is_recognized {
            let why = "it has no partition table, file system or boot sector";
            return Err(PackingEnd::NoImage(why.into()));
        }
        let report = self.write(object, &image, path, &courtesy, cancel)?;
        Ok(PackOutcome::Packed {
            file_sha256: report.sha256,
            index_sha256: report.index_sha256,
            size_bytes: report.file_bytes,
        })
    }

    /// Writes the packed form to `path`, and keeps it within the size of the cache.
    fn write(
        &self,
        object: &ObjectRecord,
        image: &Image,
        path: &Path,
        courtesy: &Courtesy<'_>,
        cancel: &CancelToken,
    ) -> std::result::Result<PackReport, PackingEnd> {
        // frames of zstd are about a fifth larger than one stream of it
        let reserved = AtomicU64::new(object.size_bytes / 4 * 5);
        self.reserve(reserved.load(Ordering::Relaxed), 0).map_err(PackingEnd::NoRoom)?;
        let part = path.with_extension("zst.part");
        let is_full = AtomicU64::new(0);
        let observer = |_: &bty::Event| {
            courtesy.wait();
            let written = part.metadata().map_or(0, |meta| meta.len());
            if written > reserved.load(Ordering::Relaxed) {
                reserved.store(written + RESERVE_STEP_BYTES, Ordering::Relaxed);
                if let Err(bytes) = self.reserve(written + RESERVE_STEP_BYTES, written) {
                    is_full.store(bytes, Ordering::Relaxed);
                    cancel.cancel();
                }
            }
        };
        let packed = pack(image, path, &PackOptions::default(), &observer, cancel);
        remove_file(&path.with_extension("zst.sha256"));
        packed.map_err(|error| match is_full.load(Ordering::Relaxed) {
            0 if is_disk_full(&error) || self.is_displaced(object) => {
                PackingEnd::NoRoom(reserved.load(Ordering::Relaxed))
            }
            0 => error.into(),
            bytes => PackingEnd::NoRoom(bytes),
        })
    }

    /// Reserves room for `total` bytes, `here` of which are written. Fails with `total`.
    fn reserve(&self, total: u64, here: u64) -> std::result::Result<(), u64> {
        self.storage.make_room(Claim::Packing, total, here).map_err(|error| {
            tracing::debug!(%error, "no room for a packed form");
            total
        })
    }

    /// True if a fill has taken the room of the packed form.
    fn is_displaced(&self, object: &ObjectRecord) -> bool {
        self.storage.index().packing.is_none() && !self.is_gone(object)
    }

    /// True if the object was deleted, evicted, or replaced by another version.
    fn is_gone(&self, object: &ObjectRecord) -> bool {
        self.storage.index().with_content(&object.sha256).is_none()
    }

    /// Records the outcome, unless the object was deleted in the meantime.
    fn record(
        &self,
        object: &ObjectRecord,
        outcome: PackOutcome,
        event: Option<NewEvent>,
        path: &Path,
    ) -> Result<()> {
        let sha256 = object.sha256;
        let record = PackedRecord { sha256, outcome, packed_at: Time::now() };
        let written = record.clone();
        self.storage.db.write_blocking(move |t| {
            rows::put_packed(t, &written)?;
            event.map_or(Ok(()), |event| t.record(&event).map(drop))
        })?;
        let mut index = self.storage.index();
        index.packing = None;
        match index.with_content(&sha256) {
            Some(_) => drop(index.packed.insert(sha256, Arc::new(record))),
            None => clear(path),
        }
        Ok(())
    }
}

/// Packs `object` on its own thread, because that takes minutes and has the lowest priority.
pub(super) async fn run(packer: Arc<Packer>, object: ObjectRecord) {
    let (done, ended) = tokio::sync::oneshot::channel();
    let spawned = std::thread::Builder::new().name("cache-pack".into()).spawn(move || {
        packer.run(&object);
        // the server may have stopped waiting
        let _ = done.send(());
    });
    match spawned {
        Ok(_) => drop(ended.await),
        Err(error) => tracing::warn!(%error, "cannot start a thread that packs an object"),
    }
}

fn success_event(object: &ObjectRecord, outcome: &PackOutcome) -> Option<NewEvent> {
    let PackOutcome::Packed { index_sha256, size_bytes, .. } = outcome else { return None };
    let address = &object.address;
    let summary = format!("packed {address}, {}", bty::size::human(*size_bytes));
    let details = json!({ "size_bytes": size_bytes, "index_sha256": index_sha256.to_string() });
    Some(NewEvent::new("cache.object.packed", address.clone(), summary).with(details))
}

fn failure_event(object: &ObjectRecord, why: &str) -> Option<NewEvent> {
    let address = &object.address;
    let summary = format!("packing {address}: {why}");
    Some(NewEvent::new("cache.pack.failed", address.clone(), summary))
}

/// Removes what packing may have left at `path`.
fn clear(path: &Path) {
    for extension in ["zst", "zst.part", "zst.sha256"] {
        remove_file(&path.with_extension(extension));
    }
}

fn is_disk_full(error: &bty::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let full = |e: &std::io::Error| matches!(e.kind(), Io::StorageFull | Io::QuotaExceeded);
        if error.downcast_ref::<std::io::Error>().is_some_and(full) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Lets this thread, and all threads that it starts, use only one core, with the lowest priority.
fn confine_to_one_core() {
    let one_core = || {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)) {
            one.set(last);
            rustix::thread::sched_setaffinity(None, &one)?;
        }
        rustix::process::setpriority_process(None, 19)
    };
    if let Err(error) = one_core() {
        tracing::debug!(%error, "packing runs with the usual priority");
    }
}

/// Waits while clients are being served or objects are being fetched.
struct Courtesy<'a> {
    storage: &'a Storage,
    cancel: &'a CancelToken,
    left: Mutex<Duration>,
    /// Bytes sent to clients until the last look.
    sent_bytes: AtomicU64,
}

impl<'a> Courtesy<'a> {
    fn new(storage: &'a Storage, patience: Duration, cancel: &'a CancelToken) -> Self {
        let sent_bytes = storage.counters.sent_bytes.load(Ordering::Relaxed);
        Self { storage, cancel, left: patience.into(), sent_bytes: sent_bytes.into() }
    }

    /// Returns once the cache host is idle, the patience is used up, or packing is cancelled.
    fn wait(&self) {
        while self.is_busy() && !self.cancel.is_cancelled() {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if left.is_zero() {
                return;
            }
            *left = left.saturating_sub(POLL);
            drop(left);
            std::thread::sleep(POLL);
        }
    }

    fn is_busy(&self) -> bool {
        let sent_bytes = self.storage.counters.sent_bytes.load(Ordering::Relaxed);
        let was_sent = self.sent_bytes.swap(sent_bytes, Ordering::Relaxed);
        sent_bytes != was_sent || !self.storage.index().fills.is_empty()
    }
}

#[cfg(test)]
mod tests;
