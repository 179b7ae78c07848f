//! Filling: one transfer from the origin to a file, which clients read while it grows.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bty::digest::Hasher;
use bty::{Digest, Source};
use serde_json::json;

use super::object::{Fill, Object, Opened, PartialObject, Progress, StoredObject};
use super::{Cache, remove};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Actor, NewEvent};
use crate::domain::time::Time;
use crate::random::random_token;
use crate::store::cache as rows;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// After so many bytes what has come is made durable, and need not come again.
const KEEP_EVERY_BYTES: u64 = 64 << 20;

/// An object whose length is not known gets room in such steps.
const STEP_BYTES: u64 = 256 << 20;

/// Fills when it is its turn.
pub(super) fn start(cache: Arc<Cache>, fill: Arc<Fill>, declared: Option<Digest>, actor: Actor) {
    tokio::spawn(async move {
        let turns = Arc::clone(&cache.turns);
        let permit = turns.acquire_owned().await;
        // on a thread of its own: it takes minutes
        let (shared, own) = (Arc::clone(&cache), Arc::clone(&fill));
        let spawned = std::thread::Builder::new().name("cache-fill".into()).spawn(move || {
            let _permit = permit;
            run(&shared, &own, declared, actor);
        });
        if let Err(e) = spawned {
            let error = Error::internal(format!("starting a thread: {e}"));
            tokio::task::block_in_place(|| cache.ended(&fill, Err(error), actor, None));
        }
    });
}

fn run(cache: &Cache, fill: &Arc<Fill>, declared: Option<Digest>, actor: Actor) {
    let begun = Instant::now();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Filling::open(cache, fill, declared)?.fill()
    }));
    let result = caught.unwrap_or_else(|_| Err(Error::internal("a fill panicked")));
    cache.ended(fill, result, actor, Some(begun));
}

/// What a fill has come to.
pub(super) struct Filled {
    object: Arc<Object>,
    /// None of the clients that named a digest wanted these bytes.
    is_unwanted: bool,
    resumed_at: u64,
}

/// A fill whose origin has answered.
struct Filling<'a> {
    cache: &'a Cache,
    fill: &'a Fill,
    source: Source,
    declared: Option<Digest>,
    part: PartialObject,
    /// It can be gone on with later.
    is_resumable: bool,
    file: File,
    hasher: Hasher,
    done: u64,
    resumed_at: u64,
}

impl<'a> Filling<'a> {
    fn open(cache: &'a Cache, fill: &'a Fill, declared: Option<Digest>) -> Result<Self> {
        fill.cancel.check()?;
        let source =
            cache.client.open_checked(&fill.address.parse()?, declared.is_some(), &fill.cancel)?;
        let version = source.version();
        let kept = cache.held().parts.get(&fill.key).cloned();
        let kept =
            kept.filter(|part| Some(&part.version) == version.as_ref() && source.is_seekable());
        let etag = match (declared, &kept) {
            (Some(digest), _) => format!("\"{digest}\""),
            (None, Some(part)) => part.etag.clone(),
            // one of our own: tags of origins need not be unique among addresses
            (None, None) => format!("\"{}\"", random_token()),
        };
        let is_resumable = version.is_some() && source.is_seekable();
        let done = kept.map_or(0, |part| part.kept_bytes);
        if let Some(total) = source.len_bytes() {
            cache.make_room(&fill.key, total, done)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(cache.part_path(&fill.key))?;
        file.set_len(done)?;
        if let Some(rest) =
            source.len_bytes().map(|total| total.saturating_sub(done)).filter(|rest| *rest > 0)
        {
            // a disk that is full says so now, and not in the middle
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, done, rest) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(e) => return Err(stored(e.into())),
            }
        }
        let part = PartialObject {
            key: fill.key,
            address: fill.address.clone(),
            etag: etag.clone(),
            version: version.unwrap_or_default(),
            kept_bytes: done,
        };
        // what an earlier fill has left
        let mut hasher = Hasher::new();
        file.seek(SeekFrom::Start(0))?;
        hasher.read(&mut file)?;
        let opened =
            Opened { etag, len_bytes: source.len_bytes(), file: Arc::new(file.try_clone()?) };
        *fill.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        let filling = Self {
            cache,
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
        filling.publish();
        Ok(filling)
    }

    fn fill(mut self) -> Result<Filled> {
        match self.transfer().and_then(|()| self.prove()) {
            Ok(sha256) => self.settle(sha256),
            Err(error) => {
                let is_cancelled = self.fill.cancel.is_cancelled()
                    && !self.cache.is_stopping.load(Ordering::SeqCst);
                let is_wrong =
                    matches!(error.kind, ErrorKind::Full) || error.cause.as_deref() == Some(WRONG);
                if is_cancelled || is_wrong || !self.is_resumable || self.keep().is_err() {
                    self.throw_away()?;
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
                    return Err(bty::Error::from_io(
                        bty::ErrorKind::Source,
                        format!("fetching {}", self.fill.address),
                        e,
                    )
                    .into());
                }
            };
            let end = self.done + read.len() as u64;
            if end > reserved {
                reserved = end + STEP_BYTES;
                self.cache.make_room(&self.fill.key, reserved, self.done)?;
            }
            self.file.write_all(read).map_err(stored)?;
            self.hasher.update(read);
            self.cache.counts.fetched_bytes.fetch_add(read.len() as u64, Ordering::Relaxed);
            self.done = end;
            self.publish();
            if self.is_resumable && self.done - self.part.kept_bytes >= KEEP_EVERY_BYTES {
                self.keep()?;
            }
        }
    }

    /// Tells clients how far they can read. The last byte is not among it.
    fn publish(&self) {
        let is_short = self.source.len_bytes().is_some_and(|len| self.done < len);
        let readable = if is_short { self.done } else { self.done.saturating_sub(1) };
        self.fill.progress.send_replace(Progress::Filling(readable));
    }

    /// Makes what has come durable.
    fn keep(&mut self) -> Result<()> {
        self.file.sync_data().map_err(stored)?;
        self.part.kept_bytes = self.done;
        let part = self.part.clone();
        self.cache.held().parts.insert(part.key, part.clone());
        self.cache.db.write_blocking(move |t| rows::put_part(t, &part))
    }

    fn throw_away(&self) -> Result<()> {
        let key = self.fill.key;
        remove(&self.cache.part_path(&key));
        self.cache.held().parts.remove(&key);
        self.cache.db.write_blocking(move |t| rows::delete_part(t, &key))
    }

    fn prove(&mut self) -> Result<Digest> {
        let sha256 = std::mem::take(&mut self.hasher).finish();
        match self.declared {
            Some(declared) if declared != sha256 => {
                let detail = format!(
                    "{} has the SHA-256 {sha256}, not {declared}: it was thrown away",
                    self.fill.address
                );
                Err(Error { cause: Some(WRONG.into()), ..Error::new(ErrorKind::Upstream, detail) })
            }
            _ => Ok(sha256),
        }
    }

    /// Gives the object its name.
    fn settle(&mut self, sha256: Digest) -> Result<Filled> {
        self.file.sync_all().map_err(stored)?;
        let now = Time::now();
        let facts = StoredObject {
            key: self.fill.key,
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
        };
        let object = Arc::new(Object::new(facts.clone()));
        let wanted = self.fill.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unwanted = !wanted.is_empty() && !wanted.contains(&sha256);
        drop(wanted);
        let filled = Filled { object, is_unwanted, resumed_at: self.resumed_at };
        if is_unwanted {
            self.throw_away()?;
            return Ok(filled);
        }
        std::fs::rename(self.cache.part_path(&facts.key), self.cache.path(&facts.key))
            .map_err(stored)?;
        File::open(&self.cache.options.dir)?.sync_all().map_err(stored)?;
        Ok(filled)
    }
}

/// The cause of an error that says that the bytes are wrong.
const WRONG: &str = "wrong bytes";

/// What went wrong on the own disk.
#[allow(clippy::needless_pass_by_value)] // as map_err calls it
fn stored(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => {
            Error::new(ErrorKind::Full, format!("the disk of the cache is full: {error}"))
        }
        _ => Error::internal(format!("writing to the cache: {error}")),
    }
}

impl Cache {
    /// A fill has ended: clients and the log are told, and it makes place for the object.
    fn ended(
        &self,
        fill: &Arc<Fill>,
        result: Result<Filled>,
        actor: Actor,
        begun: Option<Instant>,
    ) {
        let event = self.event_of(fill, &result, begun).by(actor, None);
        let count = if event.kind == "cache.object.filled" {
            &self.counts.fills
        } else {
            &self.counts.failures
        };
        count.fetch_add(1, Ordering::Relaxed);
        let kept = result
            .as_ref()
            .ok()
            .filter(|filled| !filled.is_unwanted)
            .map(|filled| Arc::clone(&filled.object));
        let facts = kept.as_ref().map(|object| object.facts.clone());
        let written = self.db.write_blocking(move |t| {
            if let Some(facts) = facts {
                rows::put_object(t, &facts)?;
                // it is not missed any more
                rows::forget_misses(t, Some(&facts.key))?;
            }
            t.record(&event).map(drop)
        });
        let progress = match (written, result) {
            (Ok(()), Ok(filled)) => Progress::Whole(filled.object),
            (Err(error), _) | (Ok(()), Err(error)) => Progress::Failed(error),
        };
        let mut held = self.held();
        held.fills.remove(&fill.key);
        match (&progress, kept) {
            (Progress::Whole(_), Some(object)) => {
                held.parts.remove(&fill.key);
                held.objects.insert(fill.key, object);
            }
            // nobody would know of the file
            (_, Some(_)) => remove(&self.path(&fill.key)),
            _ => {}
        }
        drop(held);
        fill.progress.send_replace(progress);
    }

    fn event_of(&self, fill: &Fill, result: &Result<Filled>, begun: Option<Instant>) -> NewEvent {
        let address = &fill.address;
        let seconds = begun.map(|begun| begun.elapsed().as_secs_f64());
        match result {
            Ok(filled) => {
                let facts = &filled.object.facts;
                let details = json!({
                    "size_bytes": facts.size_bytes, "sha256": facts.sha256.to_string(), "seconds": seconds, "resumed_at": filled.resumed_at,
                });
                match filled.is_unwanted {
                    false => NewEvent::new(
                        "cache.object.filled",
                        address.clone(),
                        format!("{address} is here, {}", bty::size::human(facts.size_bytes)),
                    ),
                    true => NewEvent::new(
                        "cache.fill.failed",
                        address.clone(),
                        format!(
                            "{address} has the SHA-256 {}, which nobody wants: it was thrown away",
                            facts.sha256
                        ),
                    ),
                }
                .with(details)
            }
            Err(error) if fill.cancel.is_cancelled() => {
                let is_end = self.is_stopping.load(Ordering::SeqCst);
                let why =
                    if is_end { "the server ends; it goes on later" } else { "it was cancelled" };
                NewEvent::new("cache.fill.cancelled", address.clone(), format!("{address}: {why}"))
                    .with(error.details())
            }
            Err(error) => NewEvent::new(
                "cache.fill.failed",
                address.clone(),
                format!("{address}: {}", error.detail),
            )
            .with(error.details()),
        }
    }
}
