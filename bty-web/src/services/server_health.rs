//! The server's health and metrics.

use std::sync::{Arc, OnceLock};

use crate::cache::CacheHost;
use crate::config::Config;
use crate::domain::error::{Error, Result};
use crate::domain::time::Time;
use crate::services::metrics::Metrics;
use crate::services::snapshot::Snapshots;
use crate::services::webhooks::Webhooks;
use crate::store::Database;
use crate::store::{events, machines};
use crate::tftp::TftpServer;

/// Reports whether the server works, and its metrics.
#[derive(Clone)]
pub struct ServerHealth {
    db: Database,
    config: Arc<Config>,
    cache: Option<Arc<CacheHost>>,
    tftp: Arc<OnceLock<Arc<TftpServer>>>,
    metrics: Arc<Metrics>,
    snapshots: Arc<Snapshots>,
    webhooks: Webhooks,
}

impl ServerHealth {
    pub(crate) fn new(
        db: Database,
        config: Arc<Config>,
        cache: Option<Arc<CacheHost>>,
        tftp: Arc<OnceLock<Arc<TftpServer>>>,
        metrics: Arc<Metrics>,
        snapshots: Arc<Snapshots>,
        webhooks: Webhooks,
    ) -> Self {
        Self { db, config, cache, tftp, metrics, snapshots, webhooks }
    }

    /// Returns why the server cannot change its state, after trying to; `None` if it can.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when it cannot read its
    /// state either.
    pub async fn check_state(&self) -> Result<Option<String>> {
        self.db.read(machines::count).await?;
        if self.db.is_full() {
            // an operator may have freed space since the last change failed
            let _ = self.db.try_write().await;
        }
        Ok(self.shortage())
    }

    /// Returns why the last change of the state failed for lack of space, or why the next one
    /// would; `None` if the state can be changed.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        let dir = &self.config.state_dir;
        let failed = || format!("the last change failed: {}", Error::full("").in_dir(dir).detail);
        crate::state_dir::shortage(dir).or_else(|| self.db.is_full().then(failed))
    }

    /// True if this process serves TFTP.
    #[must_use]
    pub fn serves_tftp(&self) -> bool {
        self.tftp.get().is_some()
    }

    /// Renders all metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::domain::error::ErrorKind::Internal) when the database fails.
    pub async fn metrics(&self) -> Result<String> {
        let limit = self.snapshots.current().silence_limit(Time::now());
        let read = self.db.read(move |conn| {
            let states = machines::count_by_state(conn, &limit)?;
            Ok((states, events::tripwire(conn)?, events::newest(conn)?))
        });
        let (states, failures, newest) = read.await?;
        self.metrics.machines(&states);
        self.webhooks.measure(newest);
        if let Some(cache) = &self.cache {
            self.metrics.cache(cache);
        }
        if let Some(tftp) = self.tftp.get() {
            self.metrics.tftp(&tftp.counters);
        }
        Ok(self.metrics.render(failures))
    }
}
