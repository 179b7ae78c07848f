//! Calls of podman.

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::process::{is_root, output, run};
use crate::services::{Service, UID};
use crate::site::Site;

/// The `--userns` mode that maps the user of a rootless container to the user who starts it.
pub(crate) fn keep_id() -> String {
    format!("keep-id:uid={UID},gid={UID}")
}

fn podman(arguments: &[&str]) -> Result<String> {
    run("podman", arguments)
}

/// The version of podman. Fails if it is older than 4.3, whose `keep-id` takes no user.
pub(crate) fn version() -> Result<String> {
    let text = podman(&["version", "--format", "{{.Client.Version}}"])?;
    let mut numbers = text.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (4, 3) => Ok(text),
        _ => {
            Err(Failure::new(format!("podman {text} is too old"))
                .hint("install podman 4.3 or later"))
        }
    }
}

/// The architecture of a local image; none if there is no such image.
pub(crate) fn architecture(image: &str) -> Option<String> {
    podman(&["image", "inspect", "--format", "{{.Architecture}}", image]).ok()
}

/// Loads an archive of images.
pub(crate) fn load(archive: &Path) -> Result<String> {
    podman(&["load", "--quiet", "--input", &archive.to_string_lossy()])
}

pub(crate) fn pull(image: &str) -> Result<String> {
    podman(&["pull", "--quiet", image])
}

pub(crate) fn remove_image(image: &str) -> Result<String> {
    podman(&["rmi", image])
}

pub(crate) struct Container {
    /// Directory of the site that it belongs to; none if bty-lab did not create it.
    pub(crate) site: Option<String>,
    /// State as podman calls it: `running`, `exited` …
    pub(crate) state: String,
    pub(crate) image: String,
}

/// The container of this name, if it exists.
pub(crate) fn container(name: &str) -> Option<Container> {
    let format = format!(
        "{{{{index .Config.Labels \"{}\"}}}}|{{{{.State.Status}}}}|{{{{.Config.Image}}}}",
        Site::LABEL
    );
    let text = podman(&["container", "inspect", "--format", &format, name]).ok()?;
    let mut parts = text.splitn(3, '|').map(str::to_owned);
    let site = parts.next().filter(|site| !site.is_empty() && site != "<no value>");
    Some(Container {
        site,
        state: parts.next().unwrap_or_default(),
        image: parts.next().unwrap_or_default(),
    })
}

/// Creates and starts the container of a service.
pub(crate) fn start(site: &Site, service: &Service) -> Result<()> {
    let mut arguments: Vec<String> = [
        "run",
        "--detach",
        "--pull=never",
        "--restart=unless-stopped",
        "--network=host",
        "--read-only",
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(
        ["--cap-drop=all", "--security-opt=no-new-privileges", "--stop-timeout=30"]
            .map(str::to_owned),
    );
    // explicit, because images of earlier versions have another user
    arguments.push(format!("--user={UID}:{UID}"));
    arguments.push(format!("--name={}", service.name));
    arguments.push(format!("--label={}={}", Site::LABEL, site.dest.display()));
    arguments.push(format!("--env-file={}", site.envvars().display()));
    arguments
        .extend(service.capabilities.iter().map(|capability| format!("--cap-add={capability}")));
    arguments.extend(service.env.iter().map(|(name, value)| format!("--env={name}={value}")));
    arguments.extend(
        site.mounts(service)
            .iter()
            .map(|(from, to, options)| format!("--volume={}:{to}:{options}", from.display())),
    );
    if !is_root() && service.state.is_some() {
        arguments.push(format!("--userns={}", keep_id()));
    }
    arguments.push(service.image.clone());
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    podman(&words).map(|_| ())
}

/// Stops and removes a container, if it exists.
pub(crate) fn remove(name: &str) -> Result<()> {
    podman(&["rm", "--force", "--ignore", "--time=30", name]).map(|_| ())
}

/// The last lines of a container's log.
pub(crate) fn logs(name: &str) -> String {
    let output = output("podman", &["logs", "--tail=3", name]);
    output
        .map(|output| {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
        })
        .unwrap_or_default()
}
