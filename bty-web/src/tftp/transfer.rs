//! Handles one request: checks limits, and transfers the file.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use async_tftp::packet;
use async_tftp::server::Handler;
use futures_lite::io::{AsyncRead, Sink};

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
    type Reader = FileTransfer;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(FileTransfer, Option<u64>), packet::Error> {
        let ip = client.ip().to_canonical();
        let Some((name, bytes)) = self.server.find(path, self.local) else {
            increment(&self.server.counters.unknown);
            tracing::debug!(%client, path = %path.display(), "a client requests an unknown file");
            return Err(packet::Error::FileNotFound);
        };
        let Some(transfer) = FileTransfer::begin(&self.server, ip, bytes) else {
            increment(&self.server.counters.refused);
            // shorter than any request, so that a spoofed address cannot be used to amplify traffic
            return Err(packet::Error::Msg("busy".into()));
        };
        tracing::debug!(%client, name, "sending a file");
        self.server.record_client(ip, &name);
        let len = transfer.bytes.len() as u64;
        Ok((transfer, Some(len)))
    }

    async fn write_req_open(
        &mut self,
        _: &SocketAddr,
        _: &Path,
        _: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        increment(&self.server.counters.refused);
        Err(packet::Error::PermissionDenied)
    }
}

/// A file in transfer, as async-tftp reads it.
pub(super) struct FileTransfer {
    server: Arc<TftpServer>,
    ip: IpAddr,
    bytes: Arc<[u8]>,
    at: usize,
    /// Number of blocks read. The second one is read after the client has acknowledged the first
    /// one, or the options.
    reads: usize,
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
        Some(Self { server: Arc::clone(server), ip, bytes, at: 0, reads: 0, is_answered: false })
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

impl AsyncRead for FileTransfer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reads += 1;
        if self.reads > 1 {
            self.set_answered();
        }
        let len = buf.len().min(self.bytes.len() - self.at);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Poll::Ready(Ok(len))
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
