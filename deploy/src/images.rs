//! Having the images here before anything is changed.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::podman;
use crate::services::Service;

/// Loads `archive` if one is given, and sees that all images are here and for this machine; gives a
/// word on it.
pub(crate) fn have(services: &[Service], archive: Option<&Path>) -> Result<String> {
    if let Some(archive) = archive {
        if !archive.is_file() {
            return Err(Failure::new(format!("{} is no file", archive.display()))
                .or("make images builds it, in target/images"));
        }
        podman::load(archive)?;
    }
    let mut pulled = 0;
    for service in services {
        let arch = match podman::architecture(&service.image) {
            Some(arch) => arch,
            None if service.image.starts_with("localhost/") => {
                let failure =
                    Failure::new(format!("the image {} is not on this machine", service.image));
                return Err(
                    failure.or("--images FILE loads an archive of make images; BTY_IMAGE_PREFIX names a registry")
                );
            }
            None => {
                podman::pull(&service.image)?;
                pulled += 1;
                podman::architecture(&service.image).unwrap_or_default()
            }
        };
        if arch != own_architecture() {
            let failure = Failure::new(format!(
                "the image {} is for {arch}, and this machine is {}",
                service.image,
                own_architecture()
            ));
            return Err(failure.or("load the archive for this machine's architecture"));
        }
    }
    let names: Vec<&str> = services.iter().map(|service| service.name).collect();
    let how = match (archive, pulled) {
        (Some(archive), _) => format!("loaded from {}", archive.display()),
        (None, 0) => "here already".into(),
        (None, n) => format!("{n} pulled"),
    };
    Ok(format!("{} {how}", names.join(", ")))
}

/// As container images call it.
fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
