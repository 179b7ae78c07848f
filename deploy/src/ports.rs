//! The ports of a site, and whether they can be had.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::failure::{Failure, Result};
use crate::podman;
use crate::services::Service;
use crate::site::Site;

/// A port of a service that is not running must be free.
pub(crate) fn check(site: &Site, services: &[Service]) -> Result<()> {
    let taken: Vec<String> = services
        .iter()
        .filter(|service| {
            podman::container(service.name).is_none_or(|found| found.state != "running")
        })
        .filter_map(|service| taken(site, service))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(taken.join("; ")).or(format!(
        "end what has it (ss -lptu), or choose another port in {}",
        site.envvars().display()
    )))
}

/// Why the port of a service cannot be had.
fn taken(site: &Site, service: &Service) -> Option<String> {
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
        std::io::ErrorKind::AddrInUse => format!("{port}, which {} needs, is taken", service.name),
        _ => format!("{port}, which {} needs, cannot be had: {error}", service.name),
    })
}

pub(crate) fn list(site: &Site, services: &[Service]) -> String {
    let of = |service: &Service| match service.profile {
        Some("tftp") => format!("{} (UDP)", site.settings.tftp.port()),
        Some(_) => site.settings.cache_port.to_string(),
        None => site.settings.port.to_string(),
    };
    services.iter().map(of).collect::<Vec<_>>().join(", ")
}
