//! Listeners: one per address of this host, so that the response comes from the address that the
//! client contacted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::server::TftpServer;
use super::transfer::RequestHandler;
use crate::domain::error::{Error, Result};
use crate::domain::network::listen_error;

/// Interval at which the addresses of this host are listed, because they can change.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// A running listener. It ends when this is dropped.
struct TftpListener {
    _end: oneshot::Sender<()>,
}

/// Serves until `stopped` ends, following changes of the host's addresses.
///
/// # Errors
/// [`ErrorKind::Conflict`](crate::domain::error::ErrorKind::Conflict) if the address or port cannot
/// be used at the start.
pub async fn serve(server: Arc<TftpServer>, stopped: impl Future<Output = ()>) -> Result<()> {
    let mut stopped = std::pin::pin!(stopped);
    let mut listeners: HashMap<IpAddr, TftpListener> = HashMap::new();
    loop {
        let current = addresses(server.options.listen.ip())?;
        listeners.retain(|ip, _| current.contains(ip));
        let is_first = listeners.is_empty();
        for ip in current {
            if listeners.contains_key(&ip) {
                continue;
            }
            match listen(&server, ip) {
                Ok(listener) => drop(listeners.insert(ip, listener)),
                Err(error) if is_first => return Err(error),
                // a new address may not be ready yet
                Err(error) => tracing::warn!(%error, "cannot listen yet; trying again"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LIST_EVERY) => {}
            () = &mut stopped => return Ok(()),
        }
    }
}

/// Returns the configured address, or all addresses of this host if it is unspecified.
fn addresses(listen: IpAddr) -> Result<Vec<IpAddr>> {
    if !listen.is_unspecified() {
        return Ok(vec![listen]);
    }
    let interfaces =
        if_addrs::get_if_addrs().map_err(|e| Error::internal(format!("listing addresses: {e}")))?;
    let is_usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        // a link-local address is ambiguous without its interface
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_unicast_link_local(),
    };
    Ok(interfaces.into_iter().map(|interface| interface.ip()).filter(is_usable).collect())
}

fn listen(server: &Arc<TftpServer>, ip: IpAddr) -> Result<TftpListener> {
    let address = SocketAddr::new(ip, server.options.listen.port());
    let socket = UdpSocket::bind(address).map_err(|e| {
        listen_error(&format!("{address} (UDP)"), address.port(), "BTY_TFTP_LISTEN", &e)
    })?;
    let handler = RequestHandler { server: Arc::clone(server), local: ip };
    let (end, ended) = oneshot::channel();
    // on a thread with its own event loop, so that packets are not passed between threads
    std::thread::Builder::new().name("tftp".into()).spawn(move || {
        let serving = async {
            tokio::select! {
                served = bty_tftp::serve(socket, handler, bty_tftp::Options::default()) => served,
                // the listener was dropped
                _ = ended => Ok(()),
            }
        };
        if let Err(error) = bty_tftp::block_on(serving) {
            tracing::error!(%address, %error, "the TFTP listener failed");
        }
    })?;
    tracing::info!(%address, "listening for TFTP");
    Ok(TftpListener { _end: end })
}
