//! The ports of a site, and whether they are free.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::failure::{Failure, Result};
use crate::podman;
use crate::services::Service;
use crate::site::Site;

/// Fails if the port of a service that is not running is not free.
pub(crate) fn check(site: &Site, services: &[Service]) -> Result<()> {
    let conflicts: Vec<String> = services
        .iter()
        .filter(|service| {
            podman::container(service.name).is_none_or(|found| found.state != "running")
        })
        .filter_map(|service| conflict(site, service))
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Failure::new(conflicts.join("; ")).hint(format!(
        "stop the program that uses it (ss -lptu lists them), or set another port in {}",
        site.envvars().display()
    )))
}

/// Why the port of a service cannot be bound; none if it can.
fn conflict(site: &Site, service: &Service) -> Option<String> {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let (result, port) = match service.profile {
        Some("tftp") => (
            UdpSocket::bind(site.settings.tftp).map(drop),
            format!("UDP port {}", site.settings.tftp.port()),
        ),
        Some(_) => (
            TcpListener::bind(any(site.settings.cache_port)).map(drop),
            format!("port {}", site.settings.cache_port),
        ),
        None => (
            TcpListener::bind(any(site.settings.port)).map(drop),
            format!("port {}", site.settings.port),
        ),
    };
    result.err().map(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{port}, which {} needs, is already in use", service.name)
        }
        _ => format!("cannot bind {port}, which {} needs: {error}", service.name),
    })
}

/// The ports of `services`, for the terminal.
pub(crate) fn describe(site: &Site, services: &[Service]) -> String {
    let port = |service: &Service| match service.profile {
        Some("tftp") => format!("{} (UDP)", site.settings.tftp.port()),
        Some(_) => site.settings.cache_port.to_string(),
        None => site.settings.port.to_string(),
    };
    services.iter().map(port).collect::<Vec<_>>().join(", ")
}
