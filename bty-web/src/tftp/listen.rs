//! Listeners: one an address of this host, so that a client is answered by the address that it has
//! asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_tftp::server::TftpServerBuilder;
use tokio::sync::oneshot;

use super::handler::Requests;
use super::{
    BLOCK_BYTES_MAX, CLIENT_TIMEOUT_MAX_S, FIRST_RETRIES, FIRST_TIMEOUT, RETRIES, TIMEOUT,
    TIMEOUT_MIN, Tftp, WINDOW_MAX, unbound,
};
use crate::domain::error::{Error, Result};

/// How often it is looked whether the host has other addresses now.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A listener, which ends when this is dropped.
struct Listener {
    _end: oneshot::Sender<()>,
}

/// Serves until `stopped`.
///
/// # Errors
/// When it cannot listen where it was told.
pub async fn serve(tftp: Arc<Tftp>, stopped: impl Future<Output = ()>) -> Result<()> {
    let mut stopped = std::pin::pin!(stopped);
    let mut listeners: HashMap<IpAddr, Listener> = HashMap::new();
    loop {
        let wanted = addresses(tftp.options.listen.ip())?;
        listeners.retain(|ip, _| wanted.contains(ip));
        let is_first = listeners.is_empty();
        for ip in wanted {
            if listeners.contains_key(&ip) {
                continue;
            }
            match listen(&tftp, ip) {
                Ok(listener) => drop(listeners.insert(ip, listener)),
                Err(error) if is_first => return Err(error),
                // an address that has just come may not be ready
                Err(error) => tracing::warn!(%error, "not listening yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = &mut stopped => return Ok(()),
        }
    }
}

/// The addresses to listen at: the one that is named, or all that this host has.
fn addresses(listen: IpAddr) -> Result<Vec<IpAddr>> {
    if !listen.is_unspecified() {
        return Ok(vec![listen]);
    }
    let interfaces =
        if_addrs::get_if_addrs().map_err(|e| Error::internal(format!("listing addresses: {e}")))?;
    let is_wanted = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        // those of a link need its name with them
        IpAddr::V6(ip) => listen.is_ipv6() && !ip.is_unicast_link_local(),
    };
    Ok(interfaces.into_iter().map(|interface| interface.ip()).filter(is_wanted).collect())
}

fn listen(tftp: &Arc<Tftp>, ip: IpAddr) -> Result<Listener> {
    let address = SocketAddr::new(ip, tftp.options.listen.port());
    let socket = UdpSocket::bind(address).map_err(|e| unbound(address, &e))?;
    let handler = Requests { tftp: Arc::clone(tftp), local: ip };
    let builder = TftpServerBuilder::with_handler(handler)
        .std_socket(socket)
        .map_err(|e| Error::internal(format!("listening at {address} (UDP): {e}")))?
        .timeout(TIMEOUT)
        .client_timeout_limit(CLIENT_TIMEOUT_MAX_S)
        .max_send_retries(RETRIES)
        .first_packet(FIRST_RETRIES, FIRST_TIMEOUT)
        .min_timeout(TIMEOUT_MIN)
        .block_size_limit(BLOCK_BYTES_MAX)
        .window_size_limit(WINDOW_MAX);
    let (end, ended) = oneshot::channel();
    // a thread of its own, which waits for its sockets by itself: packets do not go from thread to
    // thread
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
            tracing::error!(%address, %error, "TFTP has ended");
        }
    })?;
    tracing::info!(%address, "TFTP listens");
    Ok(Listener { _end: end })
}
