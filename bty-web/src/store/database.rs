//! The database: one file, one writer, many readers.
//!
//! A single thread makes all changes. It takes the changes queued while it was busy, applies them
//! in one transaction, each in its own savepoint, and answers after the commit. Many callers thus
//! share one disk flush, and an answer means that the change is durable.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bty::redact;
use rusqlite::{OpenFlags, params};
use tokio::sync::oneshot;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::{Event, NewEvent, without_passwords};
use crate::domain::time::Time;
use crate::state_dir::StateLock;
use crate::store::connection::Connection;
use crate::store::events;

/// Maximum number of changes in one transaction.
const BATCH_MAX: usize = 512;

/// Length of the queue of changes; when it is full, callers block.
const QUEUE: usize = 4096;

/// How long a connection waits for another process to finish writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the writer waits for readers when the database closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of idle connections for reading.
const READERS_KEPT: usize = 8;

/// Page cache of a reading connection, in KiB. It is small, because queries find rows by key and
/// the kernel caches the file.
const READER_CACHE_KIB: i64 = 256;

/// A queued change: makes the change, and returns the function that answers the caller.
type QueuedChange = Box<dyn FnOnce(&Transaction<'_>) -> Finish + Send>;

/// Answers the caller. Called with the result of the commit.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;

/// Receives the events of a transaction, in order, after its commit.
pub trait EventSink: Send + 'static {
    /// Publishes an event. Called on the writer's thread, so it must not block.
    fn publish(&self, event: Event);
}

/// Publishes nothing. For commands that open the database while a server may be running.
impl EventSink for () {
    fn publish(&self, _: Event) {}
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<SharedDatabase>);

struct SharedDatabase {
    path: PathBuf,
    /// True if the last transaction failed for lack of space.
    is_full: Arc<AtomicBool>,
    jobs: Mutex<Option<SyncSender<QueuedChange>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
}

/// The transaction that a change is part of. Derefs to a [`Connection`], so it can be passed to
/// functions of the store.
pub struct Transaction<'a> {
    conn: &'a Connection,
    /// Events to publish after the commit.
    events: std::cell::RefCell<Vec<Event>>,
    /// The error that made SQLite roll back the whole transaction.
    ended_by: std::cell::RefCell<Option<Error>>,
    /// True if a change has failed for lack of space.
    is_full: std::cell::Cell<bool>,
    now: Time,
}

impl std::ops::Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

impl Transaction<'_> {
    /// Returns the time at which the transaction began.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Writes an event, redacting passwords in URLs, and returns its number. The event is published
    /// after the commit, unless it is a repetition that only increments the count of an earlier
    /// event.
    ///
    /// # Errors
    /// `ErrorKind::Full` when the disk has no space, else `ErrorKind::Internal`.
    pub fn record(&self, event: &NewEvent) -> Result<i64> {
        let event = NewEvent {
            summary: redact::text(&event.summary).into_owned(),
            subject_id: redact::address(&event.subject_id).into_owned(),
            details: without_passwords(event.details.clone()),
            ..event.clone()
        };
        if let Some(id) = events::repeat(self.conn, &event, self.now)? {
            return Ok(id);
        }
        let mut insert = self.conn.sql.prepare_cached(
            "INSERT INTO events (ts, kind, subject_kind, subject_id, actor, source_ip, summary,
             details_json, actor_name)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let id = insert.insert(params![
            self.now,
            event.kind,
            event.subject_kind,
            event.subject_id,
            event.actor.as_str(),
            event.source_ip,
            event.summary,
            event.details.to_string(),
            event.actor_name
        ])?;
        self.events.borrow_mut().push(Event {
            id,
            ts: self.now,
            kind: event.kind.to_owned(),
            subject_kind: event.subject_kind.to_owned(),
            subject_id: event.subject_id,
            actor: event.actor.as_str().to_owned(),
            actor_name: event.actor_name,
            source_ip: event.source_ip,
            summary: event.summary,
            details: event.details,
            acknowledged: false,
            count: 1,
            last_ts: self.now,
        });
        Ok(id)
    }
}

impl Database {
    /// Opens or creates the database at `path`, and migrates its schema. If the schema may be
    /// outdated, the caller must hold the lock of the state directory. `sink` receives the events.
    ///
    /// # Errors
    /// - `ErrorKind::Conflict` when a later version or another program created the database.
    /// - `ErrorKind::Internal` when it cannot be opened.
    /// - `ErrorKind::Full` when the disk has no space for the copy before a migration.
    pub fn open(path: &Path, sink: impl EventSink) -> Result<Self> {
        let at =
            |e: &dyn std::fmt::Display| Error::internal(format!("opening {}: {e}", path.display()));
        // a server and a command may both find no database: only one creates it
        let turn = std::fs::File::create(path.with_extension("schema.lock")).map_err(|e| at(&e))?;
        turn.lock().map_err(|e| at(&e))?;
        let mut conn = rusqlite::Connection::open(path).map_err(|e| at(&e))?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(|e| at(&e))?;
        // before the pragmas, some of which modify the file
        let upgrade = super::schema::bring_up(&mut conn, path)?;
        prepare(&conn).map_err(|e| at(&e))?;
        drop(turn);
        let conn = Connection::from(conn);
        super::machines::complete_texts(&conn)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let is_full = Arc::new(AtomicBool::default());
        let writer = Writer {
            conn,
            dir: path.parent().unwrap_or(Path::new(".")).to_owned(),
            is_full: Arc::clone(&is_full),
        };
        let writer = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || writer.run(&receiver, &sink))?;
        let db = Self(Arc::new(SharedDatabase {
            path: path.to_owned(),
            is_full,
            jobs: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
        }));
        if let Some(super::schema::Upgrade { from, to, copy }) = upgrade {
            let event = NewEvent::new(
                "system.schema.upgraded",
                "state",
                format!("the schema went from {from} to {to}"),
            );
            let event = event.with(serde_json::json!({ "from": from, "to": to, "copy": copy }));
            db.write_blocking(move |transaction| transaction.record(&event))?;
        }
        Ok(db)
    }

    /// Opens the database for a command while a server, possibly of an earlier version, may be
    /// using it.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open), and `ErrorKind::Conflict` when the schema is outdated
    /// and a server is using the database.
    pub fn open_beside(path: &Path, sink: impl EventSink) -> Result<Self> {
        let _lock = match super::schema::is_behind(path)? {
            true => Some(StateLock::take(path.parent().unwrap_or(Path::new(".")))?),
            false => None,
        };
        Self::open(path, sink)
    }

    /// Returns the path of the database.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// True if the last transaction failed for lack of space.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::Relaxed)
    }

    /// Checks whether the disk has space for a change, by rewriting the schema version with its
    /// current value.
    ///
    /// # Errors
    /// `ErrorKind::Full` when there is none, `ErrorKind::Internal` for other failures.
    pub async fn try_write(&self) -> Result<()> {
        self.write(|t| {
            let version: i64 = t.sql.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok(t.sql.pragma_update(None, "user_version", version)?)
        })
        .await
    }

    /// Makes a change and returns once it is durable. Rolls back a change that fails.
    ///
    /// # Errors
    /// The errors of `change`; `ErrorKind::Full` when the disk has no space, and
    /// `ErrorKind::Internal` when the commit fails or the database is closed.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.submit(change, answer)?;
        answered
            .await
            .unwrap_or_else(|_| Err(Error::internal("the writer of the database has ended")))
    }

    /// Like [`write`](Self::write), for threads that may block.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write).
    pub fn write_blocking<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.submit(change, answer)?;
        answered
            .blocking_recv()
            .unwrap_or_else(|_| Err(Error::internal("the writer of the database has ended")))
    }

    fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        answer: oneshot::Sender<Result<T>>,
    ) -> Result<()> {
        let dir = self.0.path.parent().unwrap_or(Path::new(".")).to_owned();
        let job: QueuedChange = Box::new(move |transaction| {
            let result = in_savepoint(transaction, change).map_err(|error| error.in_dir(&dir));
            Box::new(move |committed| {
                // fails if the caller has gone
                let _ = answer.send(committed.and(result));
            })
        });
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone = || Error::internal("the database is closed");
        jobs.ok_or_else(gone)?.send(job).map_err(|_| gone())
    }

    /// Calls `read` with a reading connection. Blocks.
    ///
    /// # Errors
    /// The errors of `read`, and `ErrorKind::Internal` when the database cannot be opened.
    pub fn read_blocking<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let kept = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match kept {
            Some(conn) => conn,
            None => {
                let conn = rusqlite::Connection::open_with_flags(
                    &self.0.path,
                    OpenFlags::SQLITE_OPEN_READ_ONLY,
                )?;
                conn.busy_timeout(BUSY_TIMEOUT)?;
                conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
                conn.set_prepared_statement_cache_capacity(64);
                conn.into()
            }
        };
        let result = read(&conn);
        let mut readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_open && readers.len() < READERS_KEPT {
            readers.push(conn);
        }
        result
    }

    /// Like [`read_blocking`](Self::read_blocking), on a thread that may block.
    ///
    /// # Errors
    /// The errors of [`read_blocking`](Self::read_blocking).
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = self.clone();
        blocking(move || db.read_blocking(read)).await?
    }

    /// Copies the database to `path` while it is in use.
    ///
    /// # Errors
    /// `ErrorKind::Full` when there is no space at `path`, else `ErrorKind::Internal`.
    pub fn back_up(&self, path: &Path) -> Result<()> {
        self.read_blocking(|conn| {
            let mut copy = rusqlite::Connection::open(path)?;
            let backup = rusqlite::backup::Backup::new(&conn.sql, &mut copy)?;
            backup.run_to_completion(1024, Duration::from_millis(1), None)?;
            Ok(())
        })
    }

    /// Waits until queued changes are durable, and stops the writer; later changes fail. Afterwards
    /// the write-ahead log is empty, so the database is a single file.
    pub fn close(&self) {
        drop(self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        // close readers first: the last connection removes the log, and a reading one cannot
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

fn prepare(conn: &rusqlite::Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // a commit returns only once it is on disk
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The thread that makes all changes.
struct Writer {
    conn: Connection,
    dir: PathBuf,
    is_full: Arc<AtomicBool>,
}

impl Writer {
    /// Makes changes until the queue is closed.
    fn run(self, jobs: &Receiver<QueuedChange>, sink: &dyn EventSink) {
        while let Ok(first) = jobs.recv() {
            self.batch(first, jobs, sink);
        }
        close(&self.conn.sql);
    }

    /// Runs one transaction with `first` and the other queued changes.
    fn batch(&self, first: QueuedChange, jobs: &Receiver<QueuedChange>, sink: &dyn EventSink) {
        let conn = &self.conn;
        let (events, ended_by) = (std::cell::RefCell::default(), std::cell::RefCell::default());
        let transaction =
            Transaction { conn, events, ended_by, is_full: false.into(), now: Time::now() };
        let mut finishes = Vec::new();
        let begun = conn.sql.execute_batch("BEGIN IMMEDIATE");
        if begun.is_ok() {
            finishes.push(first(&transaction));
            while finishes.len() < BATCH_MAX
                // SQLite has rolled back, so a further change would be outside the transaction
                && transaction.ended_by.borrow().is_none()
                && let Ok(job) = jobs.try_recv()
            {
                finishes.push(job(&transaction));
            }
        }
        let committed = match transaction.ended_by.take() {
            Some(error) => Err(error.in_dir(&self.dir)),
            None => begun
                .and_then(|()| conn.sql.execute_batch("COMMIT"))
                .map_err(|e| Error::from(e).in_dir(&self.dir)),
        };
        if let Err(error) = &committed {
            tracing::error!(%error, "a transaction could not be committed");
            // fails if the error has already ended the transaction
            let _ = conn.sql.execute_batch("ROLLBACK");
        }
        let is_full = committed.as_ref().is_err_and(|error| error.kind == ErrorKind::Full);
        self.is_full.store(is_full || transaction.is_full.get(), Ordering::Relaxed);
        if committed.is_ok() {
            for event in transaction.events.into_inner() {
                sink.publish(event);
            }
        }
        for finish in finishes {
            finish(committed.clone());
        }
    }
}

/// Checkpoints and truncates the write-ahead log.
fn close(conn: &rusqlite::Connection) {
    // if another database replaces the file, SQLite would apply a leftover log to it; a reader in
    // another process may still delay the checkpoint
    let brought_in = conn
        .busy_timeout(CLOSE_TIMEOUT)
        .and_then(|()| conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    if let Err(error) = brought_in {
        tracing::warn!(%error, "the log of the database stays beside it");
    }
}

fn in_savepoint<T>(
    transaction: &Transaction<'_>,
    change: impl FnOnce(&Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let events = transaction.events.borrow().len();
    transaction.conn.sql.execute_batch("SAVEPOINT change")?;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(transaction)))
        .unwrap_or_else(|_| Err(Error::internal("a change of the database panicked")));
    if let Err(error) = &result {
        transaction.events.borrow_mut().truncate(events);
        transaction.is_full.set(transaction.is_full.get() || error.kind == ErrorKind::Full);
        if transaction.conn.sql.is_autocommit() {
            *transaction.ended_by.borrow_mut() = Some(error.clone());
        } else {
            transaction.conn.sql.execute_batch("ROLLBACK TO change; RELEASE change")?;
        }
    } else {
        transaction.conn.sql.execute_batch("RELEASE change")?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::machine::search::MachineSearch;
    use crate::store;

    struct Published(std::sync::mpsc::Sender<Event>);

    impl EventSink for Published {
        fn publish(&self, event: Event) {
            self.0.send(event).unwrap();
        }
    }

    fn count(db: &Database) -> i64 {
        db.read_blocking(|conn| {
            Ok(conn.sql.query_row("SELECT count(*) FROM settings", [], |row| row.get(0))?)
        })
        .unwrap()
    }

    fn put(transaction: &Transaction<'_>, key: &str) -> Result<()> {
        transaction.sql.execute("INSERT INTO settings VALUES (?1, '', 0)", [key])?;
        transaction.record(&NewEvent::new("settings.display.updated", key, "changed"))?;
        Ok(())
    }

    #[test]
    fn a_change_that_fails_leaves_nothing_behind_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, published) = std::sync::mpsc::channel();
        let db = Database::open(&dir.path().join("state.db"), Published(sent)).unwrap();
        db.write_blocking(|t| put(t, "a")).unwrap();
        let error = db.write_blocking(|t| put(t, "b").and_then(|()| put(t, "a"))).unwrap_err();
        assert!(error.to_string().contains("UNIQUE"), "{error}");
        db.write_blocking(|_| -> Result<()> { panic!("a defect") }).unwrap_err();
        db.write_blocking(|t| put(t, "c")).unwrap();
        assert_eq!(count(&db), 2);
        let subjects: Vec<String> =
            published.try_iter().map(|event: Event| event.subject_id).collect();
        assert_eq!(subjects, ["a", "c"]);
        db.close();
        db.write_blocking(|t| put(t, "d")).unwrap_err();
    }

    #[test]
    fn a_lack_of_disk_space_is_reported_until_a_change_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        db.write_blocking(|t| put(t, "a")).unwrap();
        // allow no more pages than there are, as on a full disk
        let limit = |pages: i64| {
            db.write_blocking(move |t| {
                Ok(t.sql.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
            })
        };
        limit(1).unwrap();
        let error = db.write_blocking(|t| put(t, &"x".repeat(1 << 20))).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full, "{error}");
        assert!(
            error.detail.contains(&format!("no space left in {}", dir.path().display())),
            "{error}"
        );
        assert!(db.is_full());
        limit(1 << 30).unwrap();
        db.write_blocking(|t| put(t, "b")).unwrap();
        assert!(!db.is_full());
        assert_eq!(count(&db), 2, "nothing is left of what failed");
    }

    #[test]
    fn concurrent_opens_of_a_new_database_give_the_same_schema() {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.db");
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for key in ["a", "b", "c", "d"] {
                    let (path, start) = (&path, &start);
                    scope.spawn(move || {
                        start.wait();
                        let db = Database::open(path, ()).unwrap();
                        db.write_blocking(move |t| put(t, key)).unwrap();
                    });
                }
            });
            assert_eq!(count(&Database::open(&path, ()).unwrap()), 4);
        }
    }

    #[test]
    fn a_copy_of_the_database_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        for i in 0..100 {
            db.write_blocking(move |t| put(t, &i.to_string())).unwrap();
        }
        let copy = dir.path().join("copy.db");
        db.back_up(&copy).unwrap();
        assert_eq!(count(&Database::open(&copy, ()).unwrap()), 100);
    }

    #[test]
    fn a_state_of_every_earlier_schema_opens_without_loss() {
        let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut opened = 0;
        for file in std::fs::read_dir(schemas).unwrap() {
            let file = file.unwrap().path();
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.db");
            rusqlite::Connection::open(&path)
                .unwrap()
                .execute_batch(&std::fs::read_to_string(&file).unwrap())
                .unwrap();
            let db = Database::open(&path, ()).unwrap();
            db.read_blocking(|conn| {
                let machines = store::machines::all(conn)?;
                assert_eq!(
                    (machines.len(), machines[0].boot_state().as_str()),
                    (1, "flashed; booting disk"),
                    "{file:?}"
                );
                assert_eq!(machines[0].labels, ["lab"]);
                assert!(store::machines::lshw(conn, &machines[0].mac)?.is_some());
                assert_eq!(store::plans::all(conn)?[0].source, "fn boot(m) { boot_disk() }");
                assert_eq!(store::catalog::all(conn)?[0].name, "demo");
                assert_eq!(store::access::tokens(conn)?[0].name, "ci");
                let kinds =
                    store::events::list(conn, &store::events::Filter::default(), 500)?.len();
                assert_eq!(kinds, 10 + usize::from(!file.ends_with("0005.sql")), "and the upgrade");
                let is_packed = ["0001", "0002", "0003"]
                    .iter()
                    .all(|old| !file.ends_with(format!("{old}.sql")));
                assert_eq!(store::cache::packed(conn)?.len(), usize::from(is_packed));
                assert_eq!(store::catalog::all(conn)?[0].index_sha256.is_some(), is_packed);
                let search = MachineSearch::parse("label:lab", &std::collections::HashMap::new())?;
                assert_eq!(store::search::macs(conn, &search)?.len(), 1, "{file:?}");
                assert_eq!(store::settings::all(conn)?.get("display.timezone"), "UTC");
                // the first schema did not have these
                let is_first = file.ends_with("0001.sql");
                assert_eq!(
                    store::cache::objects(conn)?.first().map(|o| (o.hits, o.is_pinned)),
                    (!is_first).then_some((3, true))
                );
                assert_eq!(
                    store::cache::parts(conn)?.first().map(|part| part.kept_bytes),
                    (!is_first).then_some(9)
                );
                assert_eq!(
                    store::cache::misses(conn, 9)?.first().map(|miss| miss.count),
                    (!is_first).then_some(2)
                );
                assert_eq!(store::cache::tags(conn)?.len(), usize::from(!is_first));
                Ok(())
            })
            .unwrap();
            opened += 1;
        }
        assert!(opened >= 1, "one a schema that there has been");
    }

    #[test]
    fn a_state_of_a_later_version_stays_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(&path, ()).map(drop).unwrap_err().to_string();
        assert!(error.contains("has schema 99 of a later version"), "{error}");
        std::fs::write(&path, "this is no database").unwrap();
        assert!(Database::open(&path, ()).is_err());
    }
}
