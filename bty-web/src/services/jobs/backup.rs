//! Backups, on request and on schedule. Each is a directory with an export and a copy of the
//! database.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Handle, Job, JobKind, Jobs, start};
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::event::{Actor, Author, NewEvent};
use crate::domain::time::Time;
use crate::durable::{PRIVATE_FILE, write_durably};
use crate::services::event_log::EventLog;
use crate::services::shutdown::Shutdown;
use crate::services::snapshot::Snapshots;
use crate::services::transfer;
use crate::store::{self, Database};

/// Name of the export in the directory of a backup.
pub const FILE: &str = "inventory.json";

/// Name of the copy of the database, in the same directory.
const COPY: &str = "state.db";

/// Mode of the directories of backups.
const PRIVATE_DIR: u32 = 0o750;

/// Interval at which the schedule is checked.
const TICK: Duration = Duration::from_secs(60);

/// A completed backup.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
pub struct OnDisk {
    /// Its name: the time when it was made, such as `2026-11-24T08-30-00Z`.
    pub id: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Makes, lists and prunes backups.
#[derive(Clone)]
pub struct BackupJobs {
    config: Arc<Config>,
    db: Database,
    jobs: Jobs,
    snapshots: Arc<Snapshots>,
    events: EventLog,
    shutdown: Shutdown,
}

impl BackupJobs {
    pub(crate) fn new(
        config: Arc<Config>,
        db: Database,
        jobs: Jobs,
        snapshots: Arc<Snapshots>,
        events: EventLog,
        shutdown: Shutdown,
    ) -> Self {
        Self { config, db, jobs, snapshots, events, shutdown }
    }

    /// Starts a backup job. The event records `trigger` as its cause.
    ///
    /// # Errors
    /// `ErrorKind::Full` when the event cannot be written.
    pub async fn request(&self, author: Author, trigger: &'static str) -> Result<Job> {
        let now = Time::now();
        let id = self.free_id(now);
        let event =
            NewEvent::new("backup.create.requested", id.clone(), format!("backup {id} requested"));
        self.events.record(event.caused_by(&author).with(json!({ "trigger": trigger }))).await?;
        let (service, key) = (self.clone(), id.clone());
        Ok(start(&self.jobs, JobKind::Backup, id, move |handle| {
            let record =
                |event: NewEvent| service.db.write_blocking(move |t| t.record(&event).map(drop));
            record(
                NewEvent::new(
                    "backup.create.started",
                    key.clone(),
                    format!("backup {key} started"),
                )
                .caused_by(&author),
            )?;
            let result = service
                .make(&key, handle)
                .map_err(|error| error.in_dir(&service.config.backup_dir));
            match &result {
                Ok(details) => {
                    let event = NewEvent::new(
                        "backup.created",
                        key.clone(),
                        format!("backup {key} completed"),
                    );
                    record(event.caused_by(&author).with(details.clone()))?;
                    if trigger == "scheduled" {
                        service.db.write_blocking(move |t| {
                            store::settings::put(t, "backup.last_run_at", &now.to_string(), now)
                        })?;
                        service.snapshots.refresh_blocking()?;
                    }
                }
                Err(error) => {
                    let _ = std::fs::remove_dir_all(service.config.backup_dir.join(&key));
                    let (kind, what) = match handle.cancel.is_cancelled() {
                        true => ("backup.create.cancelled", "cancelled"),
                        false => ("backup.failed", "failed"),
                    };
                    let event = NewEvent::new(kind, key.clone(), format!("backup {key} {what}"));
                    // the disk may have no space for the event either; the job has the error
                    if let Err(unrecorded) = record(event.caused_by(&author).with(error.details()))
                    {
                        tracing::error!(%error, %unrecorded, "a backup failed");
                    }
                }
            }
            result
        }))
    }

    fn free_id(&self, now: Time) -> String {
        let base = now.timestamp().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        let is_free = |id: &str| {
            !self.config.backup_dir.join(id).exists()
                && !self.jobs.list(Some(JobKind::Backup)).iter().any(|job| job.key == id)
        };
        std::iter::once(base.clone())
            .chain((1..).map(|n| format!("{base}-{n}")))
            .find(|id| is_free(id))
            .unwrap_or(base)
    }

    fn make(&self, id: &str, handle: &Handle) -> Result<serde_json::Value> {
        let dir = self.config.backup_dir.join(id);
        let at = |e: std::io::Error| Error::writing(&dir, &e);
        handle.cancel.check().map_err(Error::from)?;
        make_dir(&self.config.backup_dir, id).map_err(at)?;
        let bundle = self.db.read_blocking(transfer::export)?;
        handle.cancel.check().map_err(Error::from)?;
        let bytes = serde_json::to_vec_pretty(&bundle)?;
        let path = dir.join(FILE);
        write_durably(&path, &bytes, PRIVATE_FILE).map_err(at)?;
        handle.cancel.check().map_err(Error::from)?;
        let copy = dir.join(COPY);
        // SQLite would create the file readable for everybody
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE_FILE)
            .open(&copy)
            .map_err(at)?;
        self.db.back_up(&copy)?;
        std::fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(at)?;
        let pruned = self.prune()?;
        Ok(
            json!({ "machines": bundle.machines.len(), "size_bytes": bytes.len(), "pruned": pruned }),
        )
    }

    /// Returns the completed backups, newest first. Ignores other directories; a backup directory
    /// that cannot be read counts as empty.
    #[must_use]
    pub fn list(&self) -> Vec<OnDisk> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.config.backup_dir).into_iter().flatten().flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            let Ok(meta) = entry.path().join(FILE).metadata() else { continue };
            if is_id(&id) {
                found.push(OnDisk { id, size_bytes: meta.len() });
            }
        }
        // names sort by time; within one second, the shorter name is older
        found.sort_by(|a, b| b.id.cmp(&a.id));
        found
    }

    fn prune(&self) -> Result<Vec<String>> {
        let keep =
            usize::try_from(self.snapshots.current().settings.number("backup.retention_count"))
                .unwrap_or(1)
                .max(1);
        let mut pruned = Vec::new();
        for old in self.list().into_iter().skip(keep) {
            std::fs::remove_dir_all(self.config.backup_dir.join(&old.id))?;
            let event = NewEvent::new(
                "backup.pruned",
                old.id.clone(),
                format!("backup {} deleted: only {keep} are kept", old.id),
            );
            self.db.write_blocking(move |t| t.record(&event).map(drop))?;
            pruned.push(old.id);
        }
        Ok(pruned)
    }

    /// Requests backups according to the schedule in the settings, until the server stops.
    pub async fn schedule(self) {
        loop {
            tokio::select! {
                () = self.shutdown.stopped() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            let snapshot = self.snapshots.current();
            let scheduler = Author { actor: Actor::System, name: None, ip: None };
            if is_due(&snapshot.settings, Time::now())
                && !self.jobs.list(Some(JobKind::Backup)).iter().any(|job| !job.status.is_over())
                && let Err(error) = self.request(scheduler, "scheduled").await
            {
                tracing::warn!(%error, "cannot request a scheduled backup");
            }
        }
    }
}

/// Creates the directory of a backup. Earlier versions made backups readable for everybody, so this
/// also restricts the permissions of existing directories.
fn make_dir(base: &Path, id: &str) -> std::io::Result<PathBuf> {
    let dir = base.join(id);
    std::fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(&dir)?;
    for entry in std::fs::read_dir(base)?.flatten() {
        if entry.file_name().to_str().is_some_and(is_id)
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            if mode & !PRIVATE_DIR != 0 {
                std::fs::set_permissions(
                    entry.path(),
                    std::fs::Permissions::from_mode(mode & PRIVATE_DIR),
                )?;
            }
        }
    }
    Ok(dir)
}

/// True if `id` has the form of a backup's name.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let shape = "dddd-dd-ddTdd-dd-ddZ";
    let (head, rest) = id.split_at_checked(shape.len()).unwrap_or((id, ""));
    let fits = head.len() == shape.len()
        && head
            .chars()
            .zip(shape.chars())
            .all(|(c, s)| if s == 'd' { c.is_ascii_digit() } else { c == s });
    fits && (rest.is_empty()
        || rest
            .strip_prefix('-')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())))
}

fn is_due(settings: &crate::domain::settings::Settings, now: Time) -> bool {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let every = match settings.get("backup.cadence") {
        "daily" => DAY_MS,
        "weekly" => 7 * DAY_MS,
        _ => return false,
    };
    let last = Time::parse(settings.get("backup.last_run_at"));
    settings.get("backup.enabled") == "1" && last.is_none_or(|last| now.ms_since(last) >= every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_due_a_day_or_a_week_after_the_last_one() {
        let now = Time::parse("2026-11-24T08:30:00Z").unwrap();
        let due =
            |pairs: &[(&str, &str)]| is_due(&crate::domain::settings::Settings::of(pairs), now);
        let daily = [("backup.enabled", "1"), ("backup.cadence", "daily")];
        let with = |last: &'static str| due(&[daily[0], daily[1], ("backup.last_run_at", last)]);
        assert!(due(&daily) && with("2026-11-23T08:30:00Z") && !with("2026-11-23T08:30:01Z"));
        assert!(!due(&[daily[1]]) && !due(&[daily[0]]), "nobody has asked for it");
        let weekly = ("backup.cadence", "weekly");
        assert!(!due(&[daily[0], weekly, ("backup.last_run_at", "2026-11-18T08:30:00Z")]));
    }

    #[test]
    fn only_the_server_and_its_group_can_read_a_backup() {
        let base = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let set = |path: &Path, mode: u32| {
            std::fs::create_dir(path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (earlier, other) =
            (base.path().join("2026-11-24T08-30-00Z"), base.path().join("not-ours"));
        set(&earlier, 0o755);
        set(&other, 0o755);
        let dir = make_dir(base.path(), "2026-11-24T08-30-01Z").unwrap();
        assert_eq!((mode(&dir), mode(&earlier), mode(&other)), (0o750, 0o750, 0o755));
        let file = dir.join(FILE);
        std::fs::write(file.with_extension("new"), "of a server that was killed").unwrap();
        std::fs::set_permissions(
            file.with_extension("new"),
            std::fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        write_durably(&file, b"{}", PRIVATE_FILE).unwrap();
        assert_eq!(mode(&file), 0o640);
    }

    #[test]
    fn only_directories_with_a_backup_name_are_backups() {
        for id in ["2026-11-24T08-30-00Z", "2026-11-24T08-30-00Z-1", "2026-11-24T08-30-00Z-12"] {
            assert!(is_id(id), "{id}");
        }
        for id in [
            "",
            "..",
            "2026-11-24",
            "2026-11-24T08-30-00Z-",
            "2026-11-24T08-30-00Z/x",
            "keep-this",
            "äöü6-11-24T08-30-00Z",
        ] {
            assert!(!is_id(id), "{id}");
        }
    }
}
