//! What is asked of podman.

use std::path::Path;
use std::process::{Command, Output};

use crate::failure::{Failure, Result};
use crate::services::{Service, UID};
use crate::site::Site;

/// True when this is root: then containers are the system's.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user of a container is who starts it.
pub(crate) fn keep_id() -> String {
    format!("keep-id:uid={UID},gid={UID}")
}

/// What a program says on stdout; its last words as the error.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = output(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    let verb = arguments
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .take(2)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    Err(Failure::new(format!("{program} {verb}: {}", last.trim())))
}

fn output(program: &str, arguments: &[&str]) -> Result<Output> {
    Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("{program} is not installed"))
            .or(format!("apt install {program}, or what your system has for that")),
        _ => Failure::new(format!("{program}: {error}")),
    })
}

fn podman(arguments: &[&str]) -> Result<String> {
    run("podman", arguments)
}

/// Its version. Older ones than 4.3 cannot be told which user a container has.
pub(crate) fn version() -> Result<String> {
    let text = podman(&["version", "--format", "{{.Client.Version}}"])?;
    let mut numbers = text.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (4, 3) => Ok(text),
        _ => {
            Err(Failure::new(format!("podman is version {text}")).or("install podman 4.3 or later"))
        }
    }
}

/// The architecture of a local image; none when it is not here.
pub(crate) fn architecture(image: &str) -> Option<String> {
    podman(&["image", "inspect", "--format", "{{.Architecture}}", image]).ok()
}

/// Loads an archive of images; gives what podman says.
pub(crate) fn load(archive: &Path) -> Result<String> {
    podman(&["load", "--quiet", "--input", &archive.to_string_lossy()])
}

pub(crate) fn pull(image: &str) -> Result<String> {
    podman(&["pull", "--quiet", image])
}

pub(crate) fn remove_image(image: &str) -> Result<String> {
    podman(&["rmi", image])
}

/// A container that is there.
pub(crate) struct Container {
    /// Directory of the site that it belongs to; none: it is of somebody else.
    pub(crate) site: Option<String>,
    /// Its state: `running`, `exited` …
    pub(crate) state: String,
    /// Its image.
    pub(crate) image: String,
}

/// The container of this name.
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

/// Starts a service in a container of its name.
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
    // also for images of a version that had another user
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

/// Stops and removes a container; nothing when there is none.
pub(crate) fn remove(name: &str) -> Result<()> {
    podman(&["rm", "--force", "--ignore", "--time=30", name]).map(|_| ())
}

/// The last words of a container.
pub(crate) fn logs(name: &str) -> String {
    let output = output("podman", &["logs", "--tail=3", name]);
    output
        .map(|output| {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
        })
        .unwrap_or_default()
}
