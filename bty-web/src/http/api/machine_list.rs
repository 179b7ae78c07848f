//! The list of machines, streamed so that memory use does not depend on their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::machine_body::MachineBody;
use crate::blocking::blocking;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::machine::Machine;
use crate::domain::machine::search::MachineSearch;
use crate::services::machine_reads::MachineReads;

/// Maximum number of lists streamed concurrently.
const LISTS_MAX: usize = 4;

/// Permits for lists: slow clients must not use up the threads that contacts need. Clones share
/// them.
#[derive(Clone)]
pub(crate) struct ListPermits(Arc<Semaphore>);

impl Default for ListPermits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTS_MAX)))
    }
}

/// Selects machines; all by default.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MachineQuery {
    /// Terms of a search.
    #[serde(default)]
    pub(super) q: String,
    /// A label of the machines.
    label: Option<String>,
    /// The plan of the machines.
    plan: Option<String>,
}

impl MachineQuery {
    fn matches(&self, machine: &Machine) -> bool {
        self.label.as_ref().is_none_or(|label| machine.labels.contains(label))
            && self.plan.as_ref().is_none_or(|plan| machine.plan == *plan)
    }
}

/// Approximate size of the chunks in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// Space beyond [`CHUNK_BYTES`] for the machine that fills a chunk.
const MACHINE_BYTES: usize = 4096;

/// Maximum number of chunks buffered for a slow client.
const CHUNKS_WAITING: usize = 2;

/// Time after which a client that receives nothing is disconnected. Until then, the list's read
/// transaction stays open.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams the machines that match `query` as a JSON array sorted by MAC address.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the search text is too long.
pub(super) async fn stream(
    machines: MachineReads,
    lists: ListPermits,
    query: MachineQuery,
) -> Result<Response> {
    let search = machines.search(&query.q)?;
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let is_complete = Arc::new(AtomicBool::new(false));
    let written = Arc::clone(&is_complete);
    // a slow client occupies a thread, so the number of concurrent lists is limited; the semaphore
    // is never closed
    let permit = lists.0.acquire_owned().await.ok();
    drop(blocking(move || {
        let _permit = permit;
        match write_list(&machines, &search, &query, &sender) {
            Ok(()) => written.store(true, Ordering::Release),
            Err(error) => tracing::warn!(%error, "a list of machines ended early"),
        }
    }));
    // a list that ends early breaks the connection, so that the client does not consider it
    // complete
    let chunks = futures_util::stream::unfold(
        (receiver, is_complete),
        async |(mut receiver, is_complete)| {
            let next: std::io::Result<Bytes> = match receiver.recv().await {
                Some(chunk) => Ok(chunk),
                None if is_complete.swap(true, Ordering::Acquire) => return None,
                None => Err(std::io::Error::other("the list ended early")),
            };
            Some((next, (receiver, is_complete)))
        },
    );
    let headers = [(header::CONTENT_TYPE, "application/json")];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn write_list(
    machines: &MachineReads,
    search: &MachineSearch,
    query: &MachineQuery,
    sender: &mpsc::Sender<Bytes>,
) -> Result<()> {
    let mut chunk = vec![b'['];
    let mut is_first = true;
    machines.visit_blocking(search, |machine| {
        if !query.matches(&machine) {
            return Ok(true);
        }
        if !std::mem::take(&mut is_first) {
            chunk.push(b',');
        }
        serde_json::to_writer(&mut chunk, &MachineBody::from(&machine))?;
        if chunk.len() < CHUNK_BYTES {
            return Ok(true);
        }
        let empty = Vec::with_capacity(CHUNK_BYTES + MACHINE_BYTES);
        let full = std::mem::replace(&mut chunk, empty);
        send(sender, full.into()).map(|()| true)
    })?;
    chunk.push(b']');
    send(sender, chunk.into())
}

/// Sends a chunk. Fails if the client has disconnected, or receives nothing for [`SEND_TIMEOUT`].
fn send(sender: &mpsc::Sender<Bytes>, chunk: Bytes) -> Result<()> {
    let begun = Instant::now();
    let mut waiting = chunk;
    loop {
        match sender.try_send(waiting) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(chunk)) if begun.elapsed() < SEND_TIMEOUT => {
                waiting = chunk;
            }
            Err(_) => return Err(Error::new(ErrorKind::Upstream, "the client takes no more")),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
