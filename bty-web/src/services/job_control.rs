//! Jobs that operators start and stop, downloads of the live environment and backups, and the
//! resulting files.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::blocking::blocking;
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::NewEvent;
use crate::domain::machine::ClientContext;
use crate::domain::settings::is_tag;
use crate::services::event_log::EventLog;
use crate::services::image_route::ImageRouter;
use crate::services::jobs::backup::{self, BackupJobs};
use crate::services::jobs::netboot::ReleaseJobs;
use crate::services::jobs::{Job, JobKind, Jobs};
use crate::services::netboot::{self, Artifact, NetbootVersion};
use crate::services::snapshot::Snapshots;
use crate::tftp::probe::{TftpProbe, probe};

/// The installed versions of the live environment, and downloads of others.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Releases {
    /// Directory of the boot files.
    pub boot_root: String,
    /// Maximum number of concurrent downloads.
    pub max_parallel: usize,
    /// Downloads, newest first.
    pub fetches: Vec<Job>,
    /// The version that machines boot by default.
    pub version: String,
    /// What is wrong with the files of that version, if anything.
    pub mismatch: Option<String>,
    /// The files of that version.
    pub artifacts: Vec<Artifact>,
    /// All versions with at least one file.
    pub versions: Vec<NetbootVersion>,
    /// Installed boot programs.
    pub programs: Vec<Program>,
}

/// A boot program.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Program {
    /// File name.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Starts, lists and cancels jobs, and manages their files.
#[derive(Clone)]
pub struct JobControl {
    config: Arc<Config>,
    jobs: Jobs,
    snapshots: Arc<Snapshots>,
    image_router: Arc<ImageRouter>,
    events: EventLog,
    backup_jobs: BackupJobs,
    release_jobs: ReleaseJobs,
}

impl JobControl {
    pub(crate) fn new(
        config: Arc<Config>,
        jobs: Jobs,
        snapshots: Arc<Snapshots>,
        image_router: Arc<ImageRouter>,
        events: EventLog,
        backup_jobs: BackupJobs,
        release_jobs: ReleaseJobs,
    ) -> Self {
        Self { config, jobs, snapshots, image_router, events, backup_jobs, release_jobs }
    }

    /// Returns the installed versions of the live environment, and downloads of others.
    #[must_use]
    pub fn releases(&self) -> Releases {
        let version = self.snapshots.current().netboot_version().to_owned();
        Releases {
            boot_root: self.config.boot_dir.display().to_string(),
            max_parallel: 1,
            fetches: self.jobs.list(Some(JobKind::Release)),
            mismatch: netboot::mismatch(&self.config, &version),
            artifacts: NetbootVersion::of(&self.config, &version).files,
            versions: netboot::releases(&self.config),
            programs: self.programs(),
            version,
        }
    }

    fn programs(&self) -> Vec<Program> {
        let program = |(name, size_bytes): (String, u64)| Program { name, size_bytes };
        netboot::programs(&self.config).into_iter().map(program).collect()
    }

    /// Compares the files of a version with their digests. Reads all of them, which takes seconds.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] when `version` is not a version.
    /// - [`ErrorKind::NotFound`] when none of its files is present.
    pub async fn verify_release(&self, version: String) -> Result<ReleaseCheck> {
        if !is_tag(&version) {
            return Err(Error::new(
                ErrorKind::Malformed,
                "invalid version: expected letters, digits, ., _ and -",
            ));
        }
        let release = NetbootVersion::of(&self.config, &version);
        if release.files.iter().all(|file| !file.is_present) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("version {version} is not installed"),
            ));
        }
        let wrong = blocking(move || release.verify()).await??;
        Ok(ReleaseCheck { version, is_right: wrong.is_empty(), wrong })
    }

    /// Checks whether machines can boot from this server. Takes up to the TFTP timeout.
    pub async fn netboot_health(&self, who: &ClientContext) -> NetbootHealth {
        let (host, port) = self.config.tftp_probe();
        let version = self.snapshots.current().netboot_version().to_owned();
        let cache_is_reachable = match self.image_router.host(&who.base) {
            Some(_) => Some(self.image_router.is_reachable().await),
            None => None,
        };
        NetbootHealth {
            tftp: probe(&host, port).await,
            mismatch: netboot::mismatch(&self.config, &version),
            programs: self.programs(),
            cache_is_reachable,
        }
    }

    /// Downloads the files of the release `tag`, or of the release in the settings, in the
    /// background. Resumes a download that failed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when `tag` is not a tag.
    pub async fn fetch_release(&self, who: &ClientContext, tag: Option<String>) -> Result<Job> {
        let default = || self.snapshots.current().settings.get("upstream.netboot_tag").to_owned();
        let tag = tag.unwrap_or_else(default);
        check_tag(&tag)?;
        self.release_jobs.request(who, tag).await
    }

    /// Cancels a download.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`] when `tag` is not a tag.
    /// - [`ErrorKind::NotFound`] when there is no such fetch.
    pub fn cancel_release(&self, tag: &str) -> Result<Job> {
        check_tag(tag)?;
        self.jobs.cancel(JobKind::Release, tag)
    }

    /// Returns the completed backups, and the jobs that create backups.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the listing panics.
    pub async fn backups(&self) -> Result<Backups> {
        let jobs = self.backup_jobs.clone();
        let on_disk = blocking(move || jobs.list()).await?;
        Ok(Backups {
            backups_root: self.config.backup_dir.display().to_string(),
            max_parallel: self.config.backup_max_parallel,
            backups: self.jobs.list(Some(JobKind::Backup)),
            on_disk,
        })
    }

    /// Backs up everything but the audit log, in the background. `trigger` is `manual` (default) or
    /// `scheduled`; the schedule counts only the latter.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for any other trigger.
    pub async fn create_backup(&self, who: &ClientContext, trigger: Option<&str>) -> Result<Job> {
        let trigger = match trigger {
            None | Some("manual") => "manual",
            Some("scheduled") => "scheduled",
            Some(_) => return Err(Error::invalid("trigger must be manual or scheduled")),
        };
        self.backup_jobs.request(who.author(), trigger).await
    }

    /// Cancels a backup in progress.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such job.
    pub fn cancel_backup(&self, id: &str) -> Result<Job> {
        self.jobs.cancel(JobKind::Backup, id)
    }

    /// Returns the path of the export in the backup `id`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such backup.
    pub fn backup_file(&self, id: &str) -> Result<PathBuf> {
        let file = self.config.backup_dir.join(id).join(backup::FILE);
        if backup::is_id(id) && file.is_file() {
            Ok(file)
        } else {
            Err(Error::not_found(format!("the backup {id}")))
        }
    }

    /// Deletes the backup `id`: the export, and the copy of the database.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such backup.
    pub async fn delete_backup(&self, who: &ClientContext, id: String) -> Result<()> {
        let file = self.backup_file(&id)?;
        let dir = file.parent().map(std::path::Path::to_owned).unwrap_or_default();
        blocking(move || std::fs::remove_dir_all(dir)).await??;
        let event = NewEvent::new("backup.pruned", id.clone(), format!("backup {id} deleted"));
        self.events.record(event.caused_by(&who.author())).await
    }
}

/// The result of verifying the files of a version.
#[derive(Serialize, utoipa::ToSchema)]
pub struct ReleaseCheck {
    /// The version.
    pub version: String,
    /// True if every file matches its digest.
    pub is_right: bool,
    /// What is wrong, one sentence per file.
    pub wrong: Vec<String>,
}

/// Whether machines can boot from this server.
#[derive(Serialize, utoipa::ToSchema)]
pub struct NetbootHealth {
    /// Result of a TFTP request like the one that firmware sends.
    pub tftp: TftpProbe,
    /// What is wrong with the files of the live environment.
    pub mismatch: Option<String>,
    /// Installed boot programs.
    pub programs: Vec<Program>,
    /// True if the cache host responds; null if there is none.
    pub cache_is_reachable: Option<bool>,
}

/// Backups, and the jobs that create them.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Backups {
    /// Directory of the backups.
    pub backups_root: String,
    /// Maximum number of concurrent backups.
    pub max_parallel: usize,
    /// Jobs, newest first.
    pub backups: Vec<Job>,
    /// Completed backups, newest first.
    pub on_disk: Vec<backup::OnDisk>,
}

fn check_tag(tag: &str) -> Result<()> {
    if is_tag(tag) {
        Ok(())
    } else {
        Err(Error::invalid("a tag must contain only letters, digits, ., _ and -"))
    }
}
