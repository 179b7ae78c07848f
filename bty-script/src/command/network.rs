//! How others are reached: proxies, and files of users and passwords, from the environment, which
//! the library itself does not read.

use std::path::PathBuf;
use std::sync::Arc;

use bty::client::Credentials;
use bty::{Client, ClientOptions, Observer, Result};

use crate::cli::Network;

/// A client as the command line and the environment want it.
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

/// The users and passwords of the options, of the container auth file and of the netrc. Of the
/// latter two, those in their usual places may be missing or unreadable; those that were named may
/// not.
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

/// Where podman, skopeo and docker keep what they log in with.
fn auth_files() -> Vec<PathBuf> {
    if let Some(file) = variable("REGISTRY_AUTH_FILE") {
        return vec![file.into()];
    }
    let of_session =
        variable("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json"));
    let config =
        variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home()?.join(".config")));
    let of_podman = config.map(|dir| dir.join("containers/auth.json"));
    let docker =
        variable("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(home()?.join(".docker")));
    let of_docker = docker.map(|dir| dir.join("config.json"));
    [of_session, of_podman, of_docker].into_iter().flatten().collect()
}
