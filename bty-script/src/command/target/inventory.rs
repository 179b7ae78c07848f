//! Sends the inventory in the background: the machine does not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bty_script::world::World;

use super::server::Server;

/// Attempts while the server does not know the machine. It creates the machine on the request for
/// the plan, which is concurrent.
const ATTEMPTS: u32 = 5;
const POLL: Duration = Duration::from_millis(50);

/// An upload in progress.
pub(super) struct InventoryUpload {
    /// `None` if no thread could be started; the server gets no inventory then.
    thread: Option<JoinHandle<bool>>,
    is_over: Arc<AtomicBool>,
}

impl InventoryUpload {
    pub(super) fn start(server: Arc<Server>, world: &World) -> Self {
        let machine = Arc::clone(&world.platform);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new().spawn(move || {
            let Ok(inventory) = machine.inventory() else { return false };
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
            for _ in 0..ATTEMPTS {
                if server.post("inventory", &body, &ends) {
                    return true;
                }
                if ends(Duration::from_secs(1)) {
                    return false;
                }
            }
            false
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
