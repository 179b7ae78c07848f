//! `bty-web health`, for health checks of containers and services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use crate::client::ServerClient;
use crate::config::Config;
use crate::domain::error::{Error, ErrorKind, Result};

/// Maximum response time of a healthy server.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Checks the server at `url`, or the one in `config`, or its cache host. Prints nothing if it is
/// healthy.
pub(crate) fn run(
    config: impl FnOnce() -> Result<Config>,
    url: Option<String>,
    cache: bool,
) -> Result<ExitCode> {
    let url = match url {
        Some(url) => url,
        None if cache => format!("http://{}", reachable(config()?.cache_listen)),
        None => format!("http://{}", reachable(config()?.listen)),
    };
    let server = ServerClient::new(&url, None)?;
    super::runtime::block_on(async {
        let late = |_| {
            Error::new(
                ErrorKind::Upstream,
                format!("{url} did not answer within {} s", TIMEOUT.as_secs()),
            )
        };
        let answer =
            tokio::time::timeout(TIMEOUT, server.get("/healthz")).await.map_err(late)??;
        match answer["status"].as_str() {
            Some("ok") => Ok(ExitCode::SUCCESS),
            _ => Err(Error::new(ErrorKind::Upstream, format!("{url} is not a bty server"))),
        }
    })
}

/// Converts a listen address to an address to connect to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
