//! Sends the inventory in the background: the machine does not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bty_script::world::World;

use super::server::{PostOutcome, Server};

/// Attempts until the server's rejection is final. It rejects the inventory of a new machine until
/// the concurrent request for the plan has created the machine.
const ATTEMPTS: u32 = 5;
const POLL: Duration = Duration::from_millis(50);

/// An upload in progress.
pub(super) struct InventoryUpload {
    /// `None` if no thread could be started; the server gets no inventory then.
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl InventoryUpload {
    pub(super) fn start(server: Arc<Server>, world: &World) -> Self {
        let machine = Arc::clone(&world.platform);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new().spawn(move || {
            let Ok(inventory) = machine.inventory() else { return };
            let body = serde_json::to_value(&inventory).unwrap_or_default();
            let ends = |pause: Duration| {
                let mut left = pause;
                while !left.is_zero()
                    && !over.load(Ordering::Relaxed)
                    && !server.cancel().is_cancelled()
                {
                    let step = left.min(POLL);
                    thread::sleep(step);
                    left -= step;
                }
                over.load(Ordering::Relaxed) || server.cancel().is_cancelled()
            };
            for attempt in 1..=ATTEMPTS {
                match server.post("inventory", &body, &ends) {
                    PostOutcome::Accepted | PostOutcome::Stopped => return,
                    PostOutcome::Rejected(reason) if attempt == ATTEMPTS => {
                        server.output().warn(&reason);
                    }
                    PostOutcome::Rejected(_) if ends(Duration::from_secs(1)) => return,
                    PostOutcome::Rejected(_) => {}
                }
            }
        });
        Self { thread: thread.ok(), is_over }
    }

    /// Waits until the server has accepted or rejected the inventory.
    pub(super) fn wait(&self, server: &Server) {
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && !server.cancel().is_cancelled()
        {
            thread::sleep(POLL);
        }
    }

    /// Gives up. A request in flight may still finish within its timeout.
    pub(super) fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
