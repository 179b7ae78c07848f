//! The database: one file, one writer, many readers.
//!
//! Changes are made by one thread. It takes what has gathered while it was busy, does all of it in
//! one transaction, each change in a savepoint of its own, and answers after the commit. So many
//! clients share one flush of the disk, and an answer means that it is durable.

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
use crate::store;

/// As many changes share a transaction.
const BATCH_MAX: usize = 512;

/// As many changes wait before who asks has to.
const QUEUE: usize = 4096;

/// So long is waited for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// And so long for readers, at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// As many connections for reading are kept.
const READERS_KEPT: usize = 8;

/// Pages that a connection for reading keeps, in KiB: a row is found by its key, and the system has
/// the file in memory anyway.
const READER_CACHE_KIB: i64 = 256;

/// A change on its way to the writer: makes itself, and gives what is told to who waits for it.
type Job = Box<dyn FnOnce(&Transaction<'_>) -> Finish + Send>;

/// Tells who waits; the error is of the commit.
type Finish = Box<dyn FnOnce(Result<()>) + Send>;

/// Receives the events of a transaction, in order, after it was committed.
pub trait EventSink: Send + 'static {
    /// Takes an event. Called on the thread of the writer, so it must not wait.
    fn publish(&self, event: Event);
}

/// Publishes nothing: for commands that open the state beside a server.
impl EventSink for () {
    fn publish(&self, _: Event) {}
}

/// A connection to the database: what functions of the store take. Only the store sees the SQL
/// behind it.
pub struct Connection {
    pub(super) sql: rusqlite::Connection,
}

impl From<rusqlite::Connection> for Connection {
    fn from(sql: rusqlite::Connection) -> Self {
        Self { sql }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// The last change failed because there was no space left for it.
    is_full: Arc<AtomicBool>,
    jobs: Mutex<Option<SyncSender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
}

/// What a change is made in.
pub struct Transaction<'a> {
    conn: &'a Connection,
    events: std::cell::RefCell<Vec<Event>>,
    /// Why SQLite has rolled back all of it: after some errors it does so by itself.
    ended_by: std::cell::RefCell<Option<Error>>,
    /// A change has found no space left.
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
    /// When it was begun.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Writes an event down, without passwords in addresses, and gives its number. Who listens
    /// hears of it after the commit; of one that only adds to the count of another nobody does.
    ///
    /// # Errors
    /// Those of the database.
    pub fn record(&self, event: &NewEvent) -> Result<i64> {
        let event = NewEvent {
            summary: redact::text(&event.summary).into_owned(),
            subject_id: redact::address(&event.subject_id).into_owned(),
            details: without_passwords(event.details.clone()),
            ..event.clone()
        };
        if let Some(id) = store::events::repeat(self.conn, &event, self.now)? {
            return Ok(id);
        }
        let mut insert = self.conn.sql.prepare_cached(
            "INSERT INTO events (ts, kind, subject_kind, subject_id, actor, source_ip, summary, details_json)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let id = insert.insert(params![
            self.now,
            event.kind,
            event.subject_kind,
            event.subject_id,
            event.actor.as_str(),
            event.source_ip,
            event.summary,
            event.details.to_string()
        ])?;
        self.events.borrow_mut().push(Event {
            id,
            ts: self.now,
            kind: event.kind.to_owned(),
            subject_kind: event.subject_kind.to_owned(),
            subject_id: event.subject_id,
            actor: event.actor.as_str().to_owned(),
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
    /// Opens the database at `path`, or makes it, and brings its schema up to date. Only who has
    /// the lock of the state may do that to an earlier one.
    ///
    /// # Errors
    /// When it cannot be opened, is newer than this program, or is no database.
    pub fn open(path: &Path, sink: impl EventSink) -> Result<Self> {
        let at =
            |e: &dyn std::fmt::Display| Error::internal(format!("opening {}: {e}", path.display()));
        // a server and a command may find no database at the same time: one of them makes it
        let turn = std::fs::File::create(path.with_extension("schema.lock")).map_err(|e| at(&e))?;
        turn.lock().map_err(|e| at(&e))?;
        let mut conn = rusqlite::Connection::open(path).map_err(|e| at(&e))?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(|e| at(&e))?;
        // before anything is set that a file remembers
        let upgrade = super::schema::bring_up(&mut conn, path)?;
        prepare(&conn).map_err(|e| at(&e))?;
        drop(turn);
        let (sender, receiver) = sync_channel(QUEUE);
        let is_full = Arc::new(AtomicBool::default());
        let writer = Writer {
            conn: conn.into(),
            dir: path.parent().unwrap_or(Path::new(".")).to_owned(),
            is_full: Arc::clone(&is_full),
        };
        let writer = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || writer.run(&receiver, &sink))?;
        let db = Self(Arc::new(Inner {
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

    /// The same for a command beside a server, which may be an earlier program and have the state
    /// open.
    ///
    /// # Errors
    /// Also when the schema is an earlier one, and a server uses it.
    pub fn open_beside(path: &Path, sink: impl EventSink) -> Result<Self> {
        let _lock = match super::schema::is_behind(path)? {
            true => Some(StateLock::take(path.parent().unwrap_or(Path::new(".")))?),
            false => None,
        };
        Self::open(path, sink)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// True when the last change failed because there was no space left for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.is_full.load(Ordering::Relaxed)
    }

    /// Finds out whether there is space for a change again: writes the version of the schema, which
    /// stays as it is.
    ///
    /// # Errors
    /// [`Full`](crate::domain::error::ErrorKind::Full) when there is none, and those of the
    /// database.
    pub async fn try_write(&self) -> Result<()> {
        self.write(|t| {
            let version: i64 = t.sql.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok(t.sql.pragma_update(None, "user_version", version)?)
        })
        .await
    }

    /// Makes a change, and answers when it is durable. A change that fails leaves nothing behind.
    ///
    /// # Errors
    /// Those of `change`, and of the commit.
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

    /// The same for a thread that may wait.
    ///
    /// # Errors
    /// Those of `change`, and of the commit.
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
        let job: Job = Box::new(move |transaction| {
            let result = in_savepoint(transaction, change).map_err(|error| error.in_dir(&dir));
            Box::new(move |committed| {
                // who asked may have gone
                let _ = answer.send(committed.and(result));
            })
        });
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone = || Error::internal("the database is closed");
        jobs.ok_or_else(gone)?.send(job).map_err(|_| gone())
    }

    /// Reads. Blocks: call it where that is allowed.
    ///
    /// # Errors
    /// Those of `look`, and of opening the database.
    pub fn read_blocking<T>(&self, look: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
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
        let result = look(&conn);
        let mut readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_open = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_open && readers.len() < READERS_KEPT {
            readers.push(conn);
        }
        result
    }

    /// Reads, on a thread for that.
    ///
    /// # Errors
    /// Those of `look`, and of opening the database.
    pub async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = self.clone();
        blocking(move || db.read_blocking(look)).await?
    }

    /// Copies the database to `path` while it is used.
    ///
    /// # Errors
    /// Those of the database and of the file.
    pub fn back_up(&self, path: &Path) -> Result<()> {
        self.read_blocking(|conn| {
            let mut copy = rusqlite::Connection::open(path)?;
            let backup = rusqlite::backup::Backup::new(&conn.sql, &mut copy)?;
            backup.run_to_completion(1024, Duration::from_millis(1), None)?;
            Ok(())
        })
    }

    /// Makes what is under way durable, and ends the writer. Later changes are refused. Then all of
    /// it is in one file, and nothing in a log beside it.
    pub fn close(&self) {
        drop(self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        // the last one that closes removes the log, and readers may not
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }
}

fn prepare(conn: &rusqlite::Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // every commit is on the disk before it is answered
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
    /// Makes changes until nobody can ask for one any more.
    fn run(self, jobs: &Receiver<Job>, sink: &dyn EventSink) {
        while let Ok(first) = jobs.recv() {
            self.batch(first, jobs, sink);
        }
        close(&self.conn.sql);
    }

    /// Makes one transaction of `first` and what else waits.
    fn batch(&self, first: Job, jobs: &Receiver<Job>, sink: &dyn EventSink) {
        let conn = &self.conn;
        let (events, ended_by) = (std::cell::RefCell::default(), std::cell::RefCell::default());
        let transaction =
            Transaction { conn, events, ended_by, is_full: false.into(), now: Time::now() };
        let mut finishes = Vec::new();
        let begun = conn.sql.execute_batch("BEGIN IMMEDIATE");
        if begun.is_ok() {
            finishes.push(first(&transaction));
            while finishes.len() < BATCH_MAX
                // a change after that would be in no transaction
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
            // an error of the commit may have ended the transaction already
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

/// Brings the log of the database into its file.
fn close(conn: &rusqlite::Connection) {
    // whoever puts another database in the place of this one must not find a log of this one beside
    // it; a reader may still be at it
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
    let told = transaction.events.borrow().len();
    transaction.conn.sql.execute_batch("SAVEPOINT change")?;
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(transaction)))
        .unwrap_or_else(|_| Err(Error::internal("a change of the database panicked")));
    if let Err(error) = &result {
        transaction.events.borrow_mut().truncate(told);
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
    fn a_change_without_room_is_told_and_the_next_that_has_room_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("state.db"), ()).unwrap();
        db.write_blocking(|t| put(t, "a")).unwrap();
        // as many pages as there are, as on a disk that is full
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
    fn who_opens_a_new_database_at_the_same_time_gets_the_same() {
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
    fn a_copy_has_all_of_it() {
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
    fn a_state_of_every_earlier_schema_is_opened_with_all_that_it_holds() {
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
                assert_eq!(kinds, 10 + usize::from(!file.ends_with("0003.sql")), "and the upgrade");
                assert_eq!(store::settings::all(conn)?.get("display.timezone"), "UTC");
                // what the first schema did not have
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
    fn a_state_of_a_later_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(&path, ()).map(drop).unwrap_err().to_string();
        assert!(error.contains("has schema 99, of a later program"), "{error}");
        std::fs::write(&path, "this is no database").unwrap();
        assert!(Database::open(&path, ()).is_err());
    }
}
