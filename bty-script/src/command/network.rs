//! Builds the network client from the command line and the environment: proxies and credentials.
//! The library itself reads no environment variables.

use std::path::PathBuf;
use std::sync::Arc;

use bty::client::Credentials;
use bty::{Client, ClientOptions, Observer, Result};

use crate::cli::Network;

/// The client that the command line and the environment describe.
pub(crate) fn client(network: &Network, observer: Arc<dyn Observer>) -> Result<Client> {
    let mut options = ClientOptions::default();
    options.set_proxies_from(&variable);
    options.credentials = credentials(network)?;
    options.ca_files.clone_from(&network.ca);
    options.plain_http = network.plain_http;
    options.spool_dir.clone_from(&network.spool_dir);
    options.observer = observer;
    Ok(Client::new(options))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Credentials from `--login`, the container auth file and the netrc. The latter two may be missing
/// or unreadable in their default places, but not if an option names them.
fn credentials(network: &Network) -> Result<Credentials> {
    let mut credentials = Credentials::default();
    for (host, file) in &network.login {
        credentials.add_file(host, file)?;
    }
    if network.no_login_files {
        return Ok(credentials);
    }
    match &network.auth_file {
        Some(file) => credentials.add_auth_file(file)?,
        None => auth_files().iter().for_each(|file| drop(credentials.add_auth_file(file))),
    }
    match &network.netrc {
        Some(file) => credentials.add_netrc(file)?,
        None => drop(netrc().map(|file| credentials.add_netrc(&file))),
    }
    Ok(credentials)
}

fn home() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from)
}

fn netrc() -> Option<PathBuf> {
    variable("NETRC").map(PathBuf::from).or_else(|| Some(home()?.join(".netrc")))
}

/// Default places of the auth files of podman, skopeo and docker.
fn auth_files() -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file.into()];
    }
    let runtime =
        variable("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json"));
    let config =
        variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".config")));
    let podman = config.map(|dir| dir.join("containers/auth.json"));
    let docker_dir =
        variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home()?.join(".docker")));
    let docker = docker_dir.map(|dir| dir.join("config.json"));
    [runtime, podman, docker].into_iter().flatten().collect()
}
