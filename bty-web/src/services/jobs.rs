//! Jobs: work that outlives the request that starts it. Jobs of one kind take turns; each has
//! progress and can be cancelled.

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

/// What jobs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobKind)]
pub enum Kind {
    /// Download of a release of the live environment.
    Release,
    /// Backup of the state.
    Backup,
}

/// Status of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobStatus)]
pub enum Status {
    /// Waiting for its turn.
    Queued,
    /// Running.
    Running,
    /// Ended with success.
    Completed,
    /// Cancelled on request, or because the server ends.
    Cancelled,
    /// Ended with an error.
    Failed,
}

impl Status {
    /// True when it has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job, and how far it is.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// What it does.
    pub kind: Kind,
    /// The tag of a release, or the name of a backup.
    pub key: String,
    /// Whether it waits, runs or has ended.
    pub status: Status,
    /// Progress; the result once it is completed.
    #[schema(value_type = Object)]
    pub progress: Value,
    /// Why it has failed.
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
    /// What it does.
    pub kind: Kind,
    /// The tag of a release, or the name of a backup.
    pub key: String,
    /// Its status now.
    pub status: Status,
    /// Its progress now.
    pub progress: Value,
}

struct RunningJob {
    job: Job,
    cancel: CancelToken,
}

/// The jobs since the start of the server; of those that have ended, the last ones. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    held: Mutex<Vec<RunningJob>>,
    changes: broadcast::Sender<Change>,
    turns: [Arc<tokio::sync::Semaphore>; 2],
}

/// Maximum number of ended jobs that are kept.
const ENDED_MAX: usize = 50;

/// What the work of a job gets, to report progress and to learn that it was cancelled.
pub struct Handle {
    jobs: Jobs,
    kind: Kind,
    key: String,
    /// Cancelled when the job has to end.
    pub cancel: CancelToken,
    published_at: Mutex<Option<Time>>,
}

/// Minimum time between published progress of a job, in milliseconds.
const PUBLISH_EVERY_MS: i64 = 1000;

impl Handle {
    /// Sets the progress of the job. Subscribers hear of it once a second at most.
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
    /// Runs at most `backups` backups at the same time, and one download.
    #[must_use]
    pub fn new(backups: usize) -> Self {
        let turns = [1, backups.max(1)].map(|n| Arc::new(tokio::sync::Semaphore::new(n)));
        Self(Arc::new(Inner { held: Mutex::default(), changes: broadcast::channel(256).0, turns }))
    }

    /// Jobs, the newest first; only those of `kind`, if given.
    #[must_use]
    pub fn list(&self, kind: Option<Kind>) -> Vec<Job> {
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
        kind: Kind,
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

    /// Cancels a job, which then ends soon. A job that has ended stays as it is.
    ///
    /// # Errors
    /// `ErrorKind::NotFound` when there is no such job.
    pub fn cancel(&self, kind: Kind, key: &str) -> Result<Job> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().rev().find(|h| h.job.kind == kind && h.job.key == key);
        let found = found.ok_or_else(|| {
            Error::not_found(format!("the job {}", key.chars().take(64).collect::<String>()))
        })?;
        found.cancel.cancel();
        Ok(found.job.clone())
    }

    /// Cancels all jobs, when the server ends.
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

/// Starts a job, whose `work` runs on a thread that may block when it is its turn. Returns the job;
/// while one of the same kind and key has not ended, returns that one and starts nothing.
pub fn start(
    jobs: &Jobs,
    kind: Kind,
    key: String,
    work: impl FnOnce(&Handle) -> Result<Value> + Send + 'static,
) -> Job {
    let cancel = CancelToken::new();
    let job = Job {
        kind,
        key: key.clone(),
        status: Status::Queued,
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
    // a job that is cancelled while it waits runs at once: its work ends immediately, and records
    // the event
    let permit = tokio::select! {
        permit = turn.acquire_owned() => permit.ok(),
        () = cancelled => None,
    };
    jobs.update(kind, &key, true, |job| {
        job.status = Status::Running;
        job.started_at = Some(Time::now());
    });
    let cancel = handle.cancel.clone();
    let result = blocking(move || work(&handle)).await;
    let result = result.unwrap_or_else(|_| Err(Error::internal("the job panicked")));
    jobs.update(kind, &key, true, |job| {
        job.ended_at = Some(Time::now());
        match result {
            Ok(value) => {
                job.status = Status::Completed;
                job.progress = value;
            }
            Err(_) if cancel.is_cancelled() => job.status = Status::Cancelled,
            Err(error) => {
                job.status = Status::Failed;
                job.error = Some(error.detail.clone());
                tracing::warn!(%error, key = job.key, "a job failed");
            }
        }
    });
    drop(permit);
}
