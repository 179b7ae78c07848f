//! Limits simulations, so that they do not slow down contacts.
//!
//! Simulations have their own worker processes, separate from those of contacts. Each principal
//! runs one at a time, and the configuration limits their total number. Each ends at its deadline,
//! or when its client disconnects.

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

/// Maximum time that a simulation waits to start.
const TURN: Duration = Duration::from_secs(10);
/// Maximum duration of a simulation.
const TIME_MAX: Duration = Duration::from_secs(60);

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Runs a limited number of simulations at a time.
pub struct Simulations {
    workers: Arc<Workers>,
    slots: Arc<Semaphore>,
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Simulations {
    /// Runs at most `at_a_time` simulations concurrently, in `workers`.
    #[must_use]
    pub fn new(workers: Workers, at_a_time: usize) -> Self {
        Self {
            workers: Arc::new(workers),
            slots: Arc::new(Semaphore::new(at_a_time)),
            turns: Mutex::default(),
        }
    }

    /// Runs `work` on a thread that may block, once no other simulation of `principal` runs and the
    /// total is below the limit. Evaluations fail after the deadline, or once `gone` is cancelled.
    ///
    /// # Errors
    /// - [`ErrorKind::Throttled`] when the simulation cannot start in time.
    /// - [`ErrorKind::Invalid`] when the simulation takes too long.
    /// - The errors of `work`.
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
            let detail = "too many simulations are running; try again later";
            Error::limited(ErrorKind::Throttled, Limit::Simulations, TURN.as_secs(), detail)
        };
        let turn = tokio::time::timeout(TURN, turn).await.map_err(busy)??;
        let workers = Arc::clone(&self.workers);
        let simulated = blocking(move || {
            // held until the thread is free again, even if the caller has gone
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
    let decide = |question: &bty_script::decide::PlanCall<'_>| {
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
            "the simulation took longer than {} s; simulate fewer boots, one machine, or a faster \
             plan",
            TIME_MAX.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bty_script::decide::PlanCall;

    use super::*;

    /// Simulates a hundred boots, each of which calls `then`. Returns how many were decided.
    fn simulate(
        gone: &CancelToken,
        deadline: Instant,
        then: impl Fn(usize) + Send + Sync,
    ) -> (Result<()>, usize) {
        let decided = AtomicUsize::new(0);
        let decide = |_: &PlanCall<'_>| {
            then(decided.fetch_add(1, Ordering::Relaxed));
            Err(ScriptError::new(Cause::Limit, "a plan that fails"))
        };
        let result = bounded(&decide, gone, deadline, |decide| {
            for _ in 0..100 {
                let function = "boot";
                let _ = decide(&PlanCall {
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
    fn a_simulation_evaluates_no_plan_after_its_deadline() {
        let (result, decided) = simulate(&CancelToken::new(), Instant::now(), |_| ());
        assert_eq!((result.unwrap_err().kind, decided), (ErrorKind::Invalid, 0));
        let (result, decided) = simulate(&CancelToken::new(), Instant::now() + TIME_MAX, |_| ());
        assert_eq!((result.is_ok(), decided), (true, 100));
    }

    #[test]
    fn a_simulation_ends_when_its_client_disconnects() {
        let gone = CancelToken::new();
        let (result, decided) = simulate(&gone, Instant::now() + TIME_MAX, |n| {
            if n == 9 {
                gone.cancel();
            }
        });
        assert_eq!((result.is_err(), decided), (true, 10));
    }
}
