//! Jobs: work that outlives the request that started it. The number of concurrent jobs per kind is
//! limited. Each job has progress and can be cancelled.

use std::sync::{Arc, Mutex, PoisonError};

use bty::CancelToken;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::blocking::blocking;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;

pub mod backup;
pub mod netboot;

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Download of a release of the live environment.
    Release,
    /// Backup of the state.
    Backup,
}

/// JobStatus of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waiting for its turn.
    Queued,
    /// Running.
    Running,
    /// Succeeded.
    Completed,
    /// Cancelled on request, or because the server stopped.
    Cancelled,
    /// Failed with an error.
    Failed,
}

impl JobStatus {
    /// True if the job has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job and its progress.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// Its kind.
    pub kind: JobKind,
    /// The tag of a release, or the name of a backup.
    pub key: String,
    /// Its current status.
    pub status: JobStatus,
    /// Progress; the result once the job is completed.
    #[schema(value_type = Object)]
    pub progress: Value,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was requested.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Time,
    /// When it started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Time>,
}

/// A change of a job, for subscribers.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// Its kind.
    pub kind: JobKind,
    /// The tag of a release, or the name of a backup.
    pub key: String,
    /// Its current status.
    pub status: JobStatus,
    /// Its current progress.
    pub progress: Value,
}

struct RunningJob {
    job: Job,
    cancel: CancelToken,
}

/// The jobs since the server started, with only the most recent of those that have ended. Cheap to
/// clone.
#[derive(Clone)]
pub struct Jobs(Arc<SharedJobs>);

struct SharedJobs {
    held: Mutex<Vec<RunningJob>>,
    changes: broadcast::Sender<Change>,
    turns: [Arc<tokio::sync::Semaphore>; 2],
}

/// Maximum number of ended jobs kept in the list.
const ENDED_MAX: usize = 50;

/// Lets the work of a job report progress and notice its cancellation.
pub struct Handle {
    jobs: Jobs,
    kind: JobKind,
    key: String,
    /// Cancelled when the job must end.
    pub cancel: CancelToken,
    published_at: Mutex<Option<Time>>,
}

/// Minimum time between two published progress updates of a job, in milliseconds.
const PUBLISH_EVERY_MS: i64 = 1000;

impl Handle {
    /// Sets the progress of the job. Subscribers are notified at most once per second.
    pub fn progress(&self, progress: Value) {
        let now = Time::now();
        let mut published_at = self.published_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = published_at.is_none_or(|last| now.ms_since(last) >= PUBLISH_EVERY_MS);
        if is_due {
            *published_at = Some(now);
        }
        self.jobs.update(self.kind, &self.key, is_due, |job| job.progress = progress);
    }
}

impl Jobs {
    /// Runs at most `backups` backups and one download concurrently.
    #[must_use]
    pub fn new(backups: usize) -> Self {
        let turns = [1, backups.max(1)].map(|n| Arc::new(tokio::sync::Semaphore::new(n)));
        Self(Arc::new(SharedJobs {
            held: Mutex::default(),
            changes: broadcast::channel(256).0,
            turns,
        }))
    }

    /// Returns the jobs, newest first; only those of `kind`, if given.
    #[must_use]
    pub fn list(&self, kind: Option<JobKind>) -> Vec<Job> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .rev()
            .filter(|h| kind.is_none_or(|kind| h.job.kind == kind))
            .map(|h| h.job.clone())
            .collect()
    }

    /// Subscribes to changes from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    fn update(
        &self,
        kind: JobKind,
        key: &str,
        is_published: bool,
        change: impl FnOnce(&mut Job),
    ) -> Option<Job> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter_mut().rev().find(|h| h.job.kind == kind && h.job.key == key)?;
        change(&mut found.job);
        let job = found.job.clone();
        drop(held);
        if is_published {
            let Job { kind, key, status, progress, .. } = job.clone();
            let _ = self.0.changes.send(Change { kind, key, status, progress });
        }
        Some(job)
    }

    /// Cancels a job, which ends soon afterwards. A job that has already ended does not change.
    ///
    /// # Errors
    /// `ErrorKind::NotFound` when there is no such job.
    pub fn cancel(&self, kind: JobKind, key: &str) -> Result<Job> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().rev().find(|h| h.job.kind == kind && h.job.key == key);
        let found = found.ok_or_else(|| {
            Error::not_found(format!("the job {}", key.chars().take(64).collect::<String>()))
        })?;
        found.cancel.cancel();
        Ok(found.job.clone())
    }

    /// Cancels all jobs, because the server is stopping.
    pub fn cancel_all(&self) {
        self.0
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(|held| held.cancel.cancel());
    }

    /// Waits until all jobs have ended.
    pub async fn drain(&self) {
        while self.list(None).iter().any(|job| !job.status.is_over()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Starts a job and returns it. `work` runs on a thread that may block, once the limit for its kind
/// allows it. If a job of the same kind and key has not yet ended, returns that job and starts
/// nothing.
pub fn start(
    jobs: &Jobs,
    kind: JobKind,
    key: String,
    work: impl FnOnce(&Handle) -> Result<Value> + Send + 'static,
) -> Job {
    let cancel = CancelToken::new();
    let job = Job {
        kind,
        key: key.clone(),
        status: JobStatus::Queued,
        progress: serde_json::json!({}),
        error: None,
        requested_at: Time::now(),
        started_at: None,
        ended_at: None,
    };
    {
        let mut held = jobs.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) =
            held.iter().find(|h| h.job.kind == kind && h.job.key == key && !h.job.status.is_over())
        {
            return same.job.clone();
        }
        let ended = held.iter().filter(|h| h.job.status.is_over()).count();
        if ended >= ENDED_MAX
            && let Some(oldest) = held.iter().position(|h| h.job.status.is_over())
        {
            held.remove(oldest);
        }
        held.push(RunningJob { job: job.clone(), cancel: cancel.clone() });
    }
    let handle = Handle { jobs: jobs.clone(), kind, key, cancel, published_at: Mutex::default() };
    tokio::spawn(run(handle, work));
    job
}

async fn run(handle: Handle, work: impl FnOnce(&Handle) -> Result<Value> + Send + 'static) {
    let jobs = handle.jobs.clone();
    let (kind, key) = (handle.kind, handle.key.clone());
    let turn = Arc::clone(&jobs.0.turns[kind as usize]);
    let cancel = handle.cancel.clone();
    let cancelled = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    // a job cancelled while it waits runs at once: its work ends immediately, and records the event
    let permit = tokio::select! {
        permit = turn.acquire_owned() => permit.ok(),
        () = cancelled => None,
    };
    jobs.update(kind, &key, true, |job| {
        job.status = JobStatus::Running;
        job.started_at = Some(Time::now());
    });
    let cancel = handle.cancel.clone();
    let result = blocking(move || work(&handle)).await;
    let result = result.unwrap_or_else(|_| Err(Error::internal("the job panicked")));
    jobs.update(kind, &key, true, |job| {
        job.ended_at = Some(Time::now());
        match result {
            Ok(value) => {
                job.status = JobStatus::Completed;
                job.progress = value;
            }
            Err(_) if cancel.is_cancelled() => job.status = JobStatus::Cancelled,
            Err(error) => {
                job.status = JobStatus::Failed;
                job.error = Some(error.detail.clone());
                tracing::warn!(%error, key = job.key, "a job failed");
            }
        }
    });
    drop(permit);
}
