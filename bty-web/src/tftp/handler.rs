//! A request: what it may have, and how it goes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use async_tftp::packet;
use async_tftp::server::Handler;
use futures_lite::io::{AsyncRead, Sink};

use super::{Counts, TRANSFERS_MAX, Tftp, UNANSWERED_MAX};

/// Requests to one address of this host.
pub(super) struct Requests {
    pub(super) tftp: Arc<Tftp>,
    pub(super) local: IpAddr,
}

impl Handler for Requests {
    type Reader = Transfer;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Transfer, Option<u64>), packet::Error> {
        let ip = client.ip().to_canonical();
        let Some((name, bytes)) = self.tftp.find(path, self.local) else {
            Counts::count(&self.tftp.counts.unknown);
            tracing::debug!(%client, path = %path.display(), "asked for what is not there");
            return Err(packet::Error::FileNotFound);
        };
        let Some(transfer) = Transfer::begin(&self.tftp, ip, bytes) else {
            Counts::count(&self.tftp.counts.refused);
            // shorter than any request: whoever asks in the name of others gets nothing for it
            return Err(packet::Error::Msg("busy".into()));
        };
        tracing::debug!(%client, name, "sending");
        self.tftp.heard(ip, &name);
        let len = transfer.bytes.len() as u64;
        Ok((transfer, Some(len)))
    }

    async fn write_req_open(
        &mut self,
        _: &SocketAddr,
        _: &Path,
        _: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        Counts::count(&self.tftp.counts.refused);
        Err(packet::Error::PermissionDenied)
    }
}

/// A file that is being sent.
pub(super) struct Transfer {
    tftp: Arc<Tftp>,
    ip: IpAddr,
    bytes: Arc<[u8]>,
    at: usize,
    /// How often blocks were read. The second is read once the client has answered the first, or
    /// the options.
    reads: usize,
    is_answered: bool,
}

impl Transfer {
    /// None when there are too many already.
    fn begin(tftp: &Arc<Tftp>, ip: IpAddr, bytes: Arc<[u8]>) -> Option<Self> {
        if tftp.transfers.fetch_add(1, Ordering::Relaxed) >= TRANSFERS_MAX {
            tftp.transfers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut unanswered = tftp.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let own = unanswered.entry(ip).or_default();
        if *own >= UNANSWERED_MAX {
            tftp.transfers.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *own += 1;
        drop(unanswered);
        Some(Self { tftp: Arc::clone(tftp), ip, bytes, at: 0, reads: 0, is_answered: false })
    }

    /// The client is there: it has answered, or the transfer is over.
    fn answered(&mut self) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        let mut unanswered = self.tftp.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = unanswered.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                unanswered.remove(&self.ip);
            }
        }
    }
}

impl AsyncRead for Transfer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reads += 1;
        if self.reads > 1 {
            self.answered();
        }
        let len = buf.len().min(self.bytes.len() - self.at);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Poll::Ready(Ok(len))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.answered();
        self.tftp.transfers.fetch_sub(1, Ordering::Relaxed);
        let counts = &self.tftp.counts;
        counts.sent_bytes.fetch_add(self.at as u64, Ordering::Relaxed);
        Counts::count(if self.at == self.bytes.len() { &counts.sent } else { &counts.broken });
    }
}
