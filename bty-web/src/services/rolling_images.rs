//! Images whose digest is published in a checksum file: the file is read again before a machine
//! writes the image, because a stale digest would fail only after the disk has been overwritten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use crate::services::catalog::CatalogEdits;
use crate::services::snapshot::Snapshots;

/// How long a reading of a checksum file counts. Many machines may boot at the same time.
const FRESH: Duration = Duration::from_secs(60);

/// How long an order waits for a checksum file. Without an answer, the known digest counts.
const WAIT: Duration = Duration::from_secs(5);

/// Maximum number of images whose last reading is kept.
const KNOWN_MAX: usize = 4096;

/// When the checksum file of an image was last read. Locked while it is being read, so that other
/// orders wait for the result.
type LastRead = Arc<AsyncMutex<Option<Instant>>>;

/// Reads the checksum files of images again.
#[derive(Clone)]
pub struct RollingImages {
    catalog: CatalogEdits,
    snapshots: Arc<Snapshots>,
    read: Arc<Mutex<HashMap<String, LastRead>>>,
}

impl RollingImages {
    pub(crate) fn new(catalog: CatalogEdits, snapshots: Arc<Snapshots>) -> Self {
        Self { catalog, snapshots, read: Arc::default() }
    }

    /// True if the digest of any image is published in a checksum file.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.snapshots.current().images.values().any(|image| image.has_checksum_file)
    }

    /// Reads the checksum file of the image with this reference again, unless that has happened
    /// within the last minute or there is none. Returns true if the image has another digest than
    /// before the call.
    pub async fn has_moved(&self, image_ref: &str) -> bool {
        let current = || self.snapshots.current().images.get(image_ref).cloned();
        let Some(before) = current().filter(|image| image.has_checksum_file) else { return false };
        let last_read = self.last_read(image_ref);
        let mut last_read = last_read.lock().await;
        if last_read.is_none_or(|at| at.elapsed() >= FRESH) {
            self.read_again(image_ref).await;
            *last_read = Some(Instant::now());
        }
        current().is_none_or(|image| image.sha256 != before.sha256)
    }

    async fn read_again(&self, image_ref: &str) {
        let (catalog, image) = (self.catalog.clone(), image_ref.to_owned());
        // a task of its own, because a result that comes late still belongs into the catalog
        let reading = tokio::spawn(async move {
            if let Err(error) = catalog.refresh_before_flash(&image).await {
                tracing::warn!(%error, image, "cannot read a checksum file again");
            }
        });
        if tokio::time::timeout(WAIT, reading).await.is_err() {
            tracing::warn!(image = image_ref, "reading a checksum file again takes long");
        }
    }

    fn last_read(&self, image_ref: &str) -> LastRead {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        Arc::clone(known.entry(image_ref.to_owned()).or_default())
    }
}
