//! Subscriptions to events and to changes of machines, for open pages.

use tokio::sync::broadcast;

use crate::domain::event::Event;
use crate::domain::mac::Mac;
use crate::store::database::EventSink;

/// Number of messages by which a slow subscriber may lag before it misses some.
const CAPACITY: usize = 1024;

/// Publishes events after their commit. Cheap to clone.
#[derive(Clone)]
pub struct EventBus {
    events: broadcast::Sender<Event>,
    machines: broadcast::Sender<Mac>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self { events: broadcast::channel(CAPACITY).0, machines: broadcast::channel(CAPACITY).0 }
    }
}

impl EventSink for EventBus {
    fn publish(&self, event: Event) {
        // fails if there are no subscribers
        let _ = self.events.send(event);
    }
}

impl EventBus {
    /// Subscribes to events that are committed from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Publishes that a machine has changed, even if no event records it, as for the progress of a
    /// flash.
    pub fn notify_machine(&self, mac: Mac) {
        let _ = self.machines.send(mac);
    }

    /// Subscribes to machines that change from now on.
    #[must_use]
    pub fn machines(&self) -> broadcast::Receiver<Mac> {
        self.machines.subscribe()
    }
}
