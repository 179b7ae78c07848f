//! Handles one request: checks limits, and transfers the file.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use bty_tftp::{BootFile, Handler, Refusal};

use super::server::TftpServer;

/// Maximum number of concurrent transfers.
const TRANSFERS_MAX: usize = 1024;

/// Maximum number of concurrent transfers to one address whose client has not replied yet.
const UNANSWERED_MAX: usize = 128;

/// Handles the requests to one address of this host.
pub(super) struct RequestHandler {
    pub(super) server: Arc<TftpServer>,
    pub(super) local: IpAddr,
}

impl Handler for RequestHandler {
    type File = FileTransfer;

    fn open(&self, client: SocketAddr, path: &str) -> Result<(FileTransfer, Option<u64>), Refusal> {
        let ip = client.ip().to_canonical();
        let Some((name, bytes)) = self.server.find(Path::new(path), self.local) else {
            increment(&self.server.counters.unknown);
            tracing::debug!(%client, path, "a client requests an unknown file");
            return Err(Refusal::FileNotFound);
        };
        let Some(transfer) = FileTransfer::begin(&self.server, ip, bytes) else {
            increment(&self.server.counters.refused);
            // shorter than any request, so that a spoofed address cannot be used to amplify traffic
            return Err(Refusal::Other("busy".into()));
        };
        tracing::debug!(%client, name, "sending a file");
        self.server.record_client(ip, &name);
        let len = transfer.bytes.len() as u64;
        Ok((transfer, Some(len)))
    }

    fn write_refused(&self, _: SocketAddr) {
        increment(&self.server.counters.refused);
    }
}

/// A file in transfer.
pub(super) struct FileTransfer {
    server: Arc<TftpServer>,
    ip: IpAddr,
    bytes: Arc<[u8]>,
    at: usize,
    is_answered: bool,
}

impl FileTransfer {
    /// Returns `None` if there are too many transfers.
    fn begin(server: &Arc<TftpServer>, ip: IpAddr, bytes: Arc<[u8]>) -> Option<Self> {
        if server.transfers.fetch_add(1, Ordering::Relaxed) >= TRANSFERS_MAX {
            server.transfers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut unanswered = server.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let own = unanswered.entry(ip).or_default();
        if *own >= UNANSWERED_MAX {
            server.transfers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *own += 1;
        drop(unanswered);
        Some(Self { server: Arc::clone(server), ip, bytes, at: 0, is_answered: false })
    }

    /// Marks the client as answering, or the transfer as over: it no longer counts as unanswered.
    fn set_answered(&mut self) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let mut unanswered = self.server.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = unanswered.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                unanswered.remove(&self.ip);
            }
        }
    }
}

impl BootFile for FileTransfer {
    fn client_replied(&mut self) {
        self.set_answered();
    }
}

impl Read for FileTransfer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.bytes.len() - self.at);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

impl Drop for FileTransfer {
    fn drop(&mut self) {
        self.set_answered();
        self.server.transfers.fetch_sub(1, Ordering::Relaxed);
        let counters = &self.server.counters;
        counters.sent_bytes.fetch_add(self.at as u64, Ordering::Relaxed);
        increment(if self.at == self.bytes.len() { &counters.sent } else { &counters.broken });
    }
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
