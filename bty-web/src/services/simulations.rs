//! Simulations take turns, so that many of them do not slow down contacts.
//!
//! They have worker processes of their own, apart from those of contacts. Each principal runs one
//! at a time, the configuration limits their total number, and each ends at its deadline or when
//! its client has disconnected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bty::CancelToken;
use bty_script::worker::Workers;
use bty_script::{Cause, ScriptError};
use tokio::sync::Semaphore;

use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::limit::Limit;
use crate::domain::plan::evaluate::PlanEvaluator;

/// How long a simulation waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long one simulation may take.
const TIME_MAX: Duration = Duration::from_secs(60);

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Runs simulations in turns.
pub struct Simulations {
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Simulations {
    /// Runs at most `at_a_time` simulations at the same time, in `workers`.
    #[must_use]
    pub fn new(workers: Workers, at_a_time: usize) -> Self {
        Self {
            workers: Arc::new(workers),
            slots: Arc::new(Semaphore::new(at_a_time)),
            turns: Mutex::default(),
        }
    }

    /// Runs `work` on a thread that may block, when it is the turn of `principal`. Evaluations fail
    /// after the deadline, or once `gone` is cancelled.
    ///
    /// # Errors
    /// - [`ErrorKind::Throttled`] when the turn does not come in time.
    /// - [`ErrorKind::Invalid`] when the simulation takes too long.
    /// - Those of `work`.
    pub async fn run<T: Send + 'static>(
        &self,
        principal: String,
        gone: CancelToken,
        work: impl FnOnce(&PlanEvaluator<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = async {
            let own = self.turn_of(principal).lock_owned().await;
            Ok::<_, Error>((
                own,
                Arc::clone(&self.slots).acquire_owned().await.map_err(Error::internal)?,
            ))
        };
        let busy = |_| {
            let detail = "other simulations are under way: try again when they have ended";
            Error::limited(ErrorKind::Throttled, Limit::Simulations, TURN.as_secs(), detail)
        };
        let turn = tokio::time::timeout(TURN, turn).await.map_err(busy)??;
        let workers = Arc::clone(&self.workers);
        let simulated = blocking(move || {
            // held until the thread is free again, also when the caller has gone
            let _turn = turn;
            bounded(&|question| workers.decide(question), &gone, Instant::now() + TIME_MAX, work)
        });
        simulated.await?
    }

    fn turn_of(&self, principal: String) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&principal).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Turn::default();
        turns.insert(principal, Arc::downgrade(&turn));
        turn
    }
}

/// Calls `work` with an evaluator that fails after `deadline`, or once `gone` is cancelled.
fn bounded<T>(
    decide: &PlanEvaluator<'_>,
    gone: &CancelToken,
    deadline: Instant,
    work: impl FnOnce(&PlanEvaluator<'_>) -> Result<T>,
) -> Result<T> {
    let is_late = AtomicBool::new(false);
    let decide = |question: &bty_script::decide::Question<'_>| {
        if Instant::now() >= deadline || gone.is_cancelled() {
            is_late.store(true, Ordering::Relaxed);
            return Err(ScriptError::new(Cause::Limit, "the simulation has ended"));
        }
        decide(question)
    };
    let done = work(&decide)?;
    match is_late.into_inner() {
        false => Ok(done),
        true => Err(Error::invalid(format!(
            "the simulation takes longer than {} s: simulate fewer boots, one machine, or a quicker plan",
            TIME_MAX.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bty_script::decide::Question;

    use super::*;

    /// A simulation of a hundred boots, each of which does `then`; gives how many were decided.
    fn simulate(
        gone: &CancelToken,
        deadline: Instant,
        then: impl Fn(usize) + Send + Sync,
    ) -> (Result<()>, usize) {
        let decided = AtomicUsize::new(0);
        let decide = |_: &Question<'_>| {
            then(decided.fetch_add(1, Ordering::Relaxed));
            Err(ScriptError::new(Cause::Limit, "a plan that fails"))
        };
        let result = bounded(&decide, gone, deadline, |decide| {
            for _ in 0..100 {
                let function = "boot";
                let _ = decide(&Question {
                    name: "p",
                    text: "",
                    function,
                    machine: None,
                    args: Vec::new(),
                    catalog: "",
                });
            }
            Ok(())
        });
        (result, decided.into_inner())
    }

    #[test]
    fn a_simulation_decides_nothing_more_when_its_time_is_over() {
        let (result, decided) = simulate(&CancelToken::new(), Instant::now(), |_| ());
        assert_eq!((result.unwrap_err().kind, decided), (ErrorKind::Invalid, 0));
        let (result, decided) = simulate(&CancelToken::new(), Instant::now() + TIME_MAX, |_| ());
        assert_eq!((result.is_ok(), decided), (true, 100));
    }

    #[test]
    fn a_simulation_ends_when_its_client_is_gone() {
        let gone = CancelToken::new();
        let (result, decided) = simulate(&gone, Instant::now() + TIME_MAX, |n| {
            if n == 9 {
                gone.cancel();
            }
        });
        assert_eq!((result.is_err(), decided), (true, 10));
    }
}
