//! Container images: loads or pulls them before anything of a site is changed.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::podman;
use crate::services::Service;

/// Loads `archive`, if given, pulls missing images, and checks that all of them are for the
/// architecture of this host. Returns a summary.
pub(crate) fn ensure(services: &[Service], archive: Option<&Path>) -> Result<String> {
    if let Some(archive) = archive {
        if !archive.is_file() {
            return Err(Failure::new(format!(
                "cannot load images: {} does not exist",
                archive.display()
            ))
            .hint("make images builds the archive below target/images"));
        }
        podman::load(archive)?;
    }
    let mut pulled = 0;
    for service in services {
        let arch = match podman::architecture(&service.image) {
            Some(arch) => arch,
            None if service.image.starts_with("localhost/") => {
                let failure = Failure::new(format!(
                    "the container image {} is not on this host",
                    service.image
                ));
                return Err(failure.hint(
                    "load an archive with --images FILE, or set BTY_IMAGE_PREFIX to a registry",
                ));
            }
            None => {
                podman::pull(&service.image)?;
                pulled += 1;
                podman::architecture(&service.image).unwrap_or_default()
            }
        };
        if arch != own_architecture() {
            let failure = Failure::new(format!(
                "the container image {} is for {arch}, but this host is {}",
                service.image,
                own_architecture()
            ));
            return Err(failure.hint("load the archive for the architecture of this host"));
        }
    }
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let how = match (archive, pulled) {
        (Some(archive), _) => format!("loaded from {}", archive.display()),
        (None, 0) => "already present".into(),
        (None, n) => format!("{n} pulled"),
    };
    Ok(format!("{} {how}", names.join(", ")))
}

/// The architecture of this host, as container images name it.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
