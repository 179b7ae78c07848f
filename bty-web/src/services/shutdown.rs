//! The end of the server, for everything that runs until then.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends long-running work when the server stops. Clones share the state.
#[derive(Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// Asks all long-running work to end. Returns false if it has been asked before.
    pub fn stop(&self) -> bool {
        !self.0.send_replace(true)
    }

    /// Waits until the server is asked to stop.
    pub async fn stopped(&self) {
        let mut stopping = self.0.subscribe();
        // the sender lives as long as this handle
        let _ = stopping.wait_for(|is| *is).await;
    }
}
