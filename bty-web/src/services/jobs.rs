//! Work beside requests: one after the other of each kind, with progress, and with an end on
//! request.

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

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobKind)]
pub enum Kind {
    /// Fetches the artifacts of a release.
    Release,
    /// Makes a backup.
    Backup,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobStatus)]
pub enum Status {
    /// It waits for its turn.
    Queued,
    /// It is under way.
    Running,
    /// It has ended well.
    Completed,
    /// It was ended on request.
    Cancelled,
    /// It has failed.
    Failed,
}

impl Status {
    /// True when it has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A job as it is shown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Job {
    /// What it does.
    pub kind: Kind,
    /// What it does it to: a tag, or the name of a backup.
    pub key: String,
    /// Where it is.
    pub status: Status,
    /// How far it is.
    #[schema(value_type = Object)]
    pub progress: Value,
    /// Why it has failed.
    pub error: Option<String>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Time,
    /// When it began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Time>,
}

/// A change of a job, for who listens.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// What it does.
    pub kind: Kind,
    /// To what.
    pub key: String,
    /// Where it is now.
    pub status: Status,
    /// How far it is.
    pub progress: Value,
}

struct RunningJob {
    job: Job,
    cancel: CancelToken,
}

/// All jobs since the start; of those that have ended, the last ones.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    held: Mutex<Vec<RunningJob>>,
    changes: broadcast::Sender<Change>,
    turns: [Arc<tokio::sync::Semaphore>; 2],
}

/// As many ended jobs are remembered.
const ENDED_MAX: usize = 50;

/// How a job tells how far it is, and learns that it is to end.
pub struct Handle {
    jobs: Jobs,
    kind: Kind,
    key: String,
    /// Fires when the job is to end.
    pub cancel: CancelToken,
    told: Mutex<Option<Time>>,
}

/// Progress is told once in so many milliseconds.
const TELL_EVERY_MS: i64 = 1000;

impl Handle {
    /// It is so far.
    pub fn progress(&self, progress: Value) {
        let now = Time::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.ms_since(told) >= TELL_EVERY_MS);
        if is_due {
            *told = Some(now);
        }
        self.jobs.update(self.kind, &self.key, is_due, |job| job.progress = progress);
    }
}

impl Jobs {
    /// With so many backups at a time; artifacts are fetched one release after the other.
    #[must_use]
    pub fn new(backups: usize) -> Self {
        let turns = [1, backups.max(1)].map(|n| Arc::new(tokio::sync::Semaphore::new(n)));
        Self(Arc::new(Inner { held: Mutex::default(), changes: broadcast::channel(256).0, turns }))
    }

    /// Every job, the newest first.
    #[must_use]
    pub fn list(&self, kind: Option<Kind>) -> Vec<Job> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .rev()
            .filter(|h| kind.is_none_or(|kind| h.job.kind == kind))
            .map(|h| h.job.clone())
            .collect()
    }

    /// Listens to changes from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    fn update(
        &self,
        kind: Kind,
        key: &str,
        is_told: bool,
        change: impl FnOnce(&mut Job),
    ) -> Option<Job> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter_mut().rev().find(|h| h.job.kind == kind && h.job.key == key)?;
        change(&mut found.job);
        let job = found.job.clone();
        drop(held);
        if is_told {
            let Job { kind, key, status, progress, .. } = job.clone();
            let _ = self.0.changes.send(Change { kind, key, status, progress });
        }
        Some(job)
    }

    /// Ends a job: at once while it waits, else soon. A job that has ended stays as it is.
    ///
    /// # Errors
    /// [`crate::domain::error::ErrorKind::NotFound`].
    pub fn cancel(&self, kind: Kind, key: &str) -> Result<Job> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.iter().rev().find(|h| h.job.kind == kind && h.job.key == key);
        let found = found.ok_or_else(|| {
            Error::not_found(format!("the job {}", key.chars().take(64).collect::<String>()))
        })?;
        found.cancel.cancel();
        Ok(found.job.clone())
    }

    /// Ends all of them: the server is to end.
    pub fn cancel_all(&self) {
        self.0
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .for_each(|held| held.cancel.cancel());
    }

    /// Waits until nothing is under way.
    pub async fn drain(&self) {
        while self.list(None).iter().any(|job| !job.status.is_over()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Lets `work` be done when it is its turn. A job of the same kind and key that has not ended is
/// given instead.
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
    let handle = Handle { jobs: jobs.clone(), kind, key, cancel, told: Mutex::default() };
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
    // one that is cancelled while it waits has its turn at once: it ends as soon as it begins, and
    // writes that down
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
