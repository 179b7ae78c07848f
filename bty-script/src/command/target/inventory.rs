//! The inventory, posted beside the plan: no machine waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bty_script::world::World;

use super::server::Server;

/// How often it is posted again to a server that does not know the machine yet: asking for the plan
/// introduces it.
const INTRODUCTIONS: u32 = 5;
const POLL: Duration = Duration::from_millis(50);

/// An inventory on its way.
pub(super) struct Inventory {
    /// None when the system gave no thread: the server goes without.
    thread: Option<JoinHandle<bool>>,
    is_over: Arc<AtomicBool>,
}

impl Inventory {
    pub(super) fn start(server: Arc<Server>, world: &World) -> Self {
        let machine = Arc::clone(&world.machine);
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
            for _ in 0..INTRODUCTIONS {
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

    /// Waits until it has arrived, or never will.
    pub(super) fn wait(&self, server: &Server) {
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && !server.cancel().is_cancelled()
        {
            thread::sleep(POLL);
        }
    }

    /// Nobody needs it any more.
    pub(super) fn stop(self) {
        // a request in flight may end; it is bounded by its own time
        self.is_over.store(true, Ordering::Relaxed);
    }
}
