//! The processes that run the plans of this server.

use std::process::Command;
use std::sync::Arc;

use bty_script::ScriptError;
use bty_script::decide::{Decision, PlanCall};
use bty_script::worker::Workers;

use crate::domain::error::{Error, Result};
use crate::worker;

/// Runs plans in processes that a command of the program starts. Clones share the processes.
#[derive(Clone)]
pub struct ScriptWorkers {
    command: Arc<dyn Fn() -> Command + Send + Sync>,
    workers: Arc<Workers>,
}

impl ScriptWorkers {
    /// Starts up to `count` processes with `command` when they are needed.
    pub fn new(command: Arc<dyn Fn() -> Command + Send + Sync>, count: usize) -> Self {
        Self { workers: Arc::new(pool(&command, count)), command }
    }

    /// Starts the first process. Blocks until it has answered.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::domain::error::ErrorKind::Invalid) if the command starts no
    /// worker.
    pub fn check(&self) -> Result<()> {
        self.workers.check().map_err(|e| {
            let hint = e.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Error::invalid(format!("cannot run plans: {}{hint}", e.message))
        })
    }

    /// Runs `call` in one of the processes.
    ///
    /// # Errors
    /// The errors of [`Workers::decide`].
    pub fn decide(&self, call: &PlanCall<'_>) -> Result<Decision, ScriptError> {
        self.workers.decide(call)
    }

    /// Returns up to `count` other processes, so that their calls delay none of these.
    #[must_use]
    pub fn separate(&self, count: usize) -> Workers {
        pool(&self.command, count)
    }
}

fn pool(command: &Arc<dyn Fn() -> Command + Send + Sync>, count: usize) -> Workers {
    let command = Arc::clone(command);
    let marked = move || {
        let mut command = command();
        worker::mark(&mut command);
        command
    };
    Workers::new(marked, bty_script::Limits::server(), count)
}
