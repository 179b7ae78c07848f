//! Listeners: one per address of this host, so that the response comes from the address that the
//! client contacted.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_tftp::server::TftpServerBuilder;
use tokio::sync::oneshot;

use super::server::TftpServer;
use super::transfer::RequestHandler;
use crate::domain::error::{Error, Result};
use crate::domain::network::listen_error;

/// Interval at which the addresses of this host are listed, because they can change.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Time without an acknowledgment after which a packet is sent again.
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: u32 = 12;

/// Maximum timeout that a client may request, in seconds.
const CLIENT_TIMEOUT_MAX_S: u8 = 5;

/// Retries of the first packet. Until a client replies, its address may be spoofed, so it gets only
/// one packet per request. The long [`FIRST_TIMEOUT`] allows for a lost reply that the client sends
/// again.
const FIRST_RETRIES: u32 = 0;
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum time before a lost packet is sent again, which otherwise is four round trips.
const TIMEOUT_MIN: Duration = Duration::from_millis(20);

/// The largest block that fits into an Ethernet frame with its headers.
const BLOCK_BYTES_MAX: u16 = 1468;
const WINDOW_MAX: u16 = 16;

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
    let builder = TftpServerBuilder::with_handler(handler)
        .std_socket(socket)
        .map_err(|e| Error::internal(format!("cannot listen on {address} (UDP): {e}")))?
        .timeout(TIMEOUT)
        .client_timeout_limit(CLIENT_TIMEOUT_MAX_S)
        .max_send_retries(RETRIES)
        .first_packet(FIRST_RETRIES, FIRST_TIMEOUT)
        .min_timeout(TIMEOUT_MIN)
        .block_size_limit(BLOCK_BYTES_MAX)
        .window_size_limit(WINDOW_MAX);
    let (end, ended) = oneshot::channel();
    // on a thread with its own event loop, so that packets are not passed between threads
    std::thread::Builder::new().name("tftp".into()).spawn(move || {
        let serving = async {
            let server = builder.build().await?;
            tokio::select! {
                served = server.serve() => served,
                // the listener was dropped
                _ = ended => Ok(()),
            }
        };
        if let Err(error) = async_io::block_on(serving) {
            tracing::error!(%address, %error, "the TFTP listener failed");
        }
    })?;
    tracing::info!(%address, "listening for TFTP");
    Ok(TftpListener { _end: end })
}
