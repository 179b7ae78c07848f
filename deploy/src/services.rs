//! The services of a site. The compose file, the systemd units and the `podman run` commands are
//! generated from this description.

use std::path::PathBuf;

use crate::settings::Settings;

/// User and group of the programs in their containers, and owner of their data on the host if root
/// starts them.
///
/// No user may have this number by chance, because that user would control the site. `useradd` and
/// `adduser` allocate no number above 60000 by themselves, systemd allocates 60001 to 60705 and
/// 61184 to 65519, and Debian none near it. It is below 65536, so that it exists in a user
/// namespace of the usual size. `deploy/images`, `deploy/kubernetes` and the documentation repeat
/// it; a test compares them.
pub(crate) const UID: u32 = 61069;

/// The user of earlier versions, which on most hosts is the first person with an account.
pub(crate) const EARLIER_UID: u32 = 1000;

/// A service, which runs in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Name of the service, its container and its image.
    pub(crate) name: &'static str,
    /// What it does, for comments and descriptions.
    pub(crate) purpose: &'static str,
    /// Full name of the image, with registry and tag.
    pub(crate) image: String,
    /// Environment variables besides those in `envvars`.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Directory of its state: relative to the data directory, and inside the container.
    pub(crate) state: Option<(&'static str, &'static str)>,
    /// Capabilities that the container keeps, without `CAP_`.
    pub(crate) capabilities: Vec<&'static str>,
    /// The compose profile that enables it; none if it always runs.
    pub(crate) profile: Option<&'static str>,
}

impl Service {
    /// Directory of its state on this host.
    pub(crate) fn state_dir(&self, settings: &Settings) -> Option<PathBuf> {
        self.state.map(|(dir, _)| settings.data_dir.join(dir))
    }
}

/// All services, enabled or not, in the order in which they start.
///
/// They use the network of the host: machines see one address, the server sees the addresses of
/// machines, and TFTP needs no port forwarding.
pub(crate) fn all(settings: &Settings, version: &str) -> Vec<Service> {
    let image = |name: &str| format!("{}/{name}:{version}", settings.prefix);
    let cache = settings.has("cache").then(|| ("BTY_WITHCACHE_URL", settings.cache_url()));
    let tftp = settings
        .has("tftp")
        .then(|| ("BTY_NETBOOT_TFTP_PROBE_HOST", settings.host_addr.to_string()));
    vec![
        Service {
            name: "bty-cache",
            purpose: "cache host for images",
            image: image("bty-cache"),
            env: Vec::new(),
            state: Some(("withcache", "/var/lib/bty-cache")),
            capabilities: Vec::new(),
            profile: Some("cache"),
        },
        Service {
            name: "bty-web",
            purpose: "server for machines, with the pages",
            image: image("bty-web"),
            env: cache.into_iter().chain(tftp).collect(),
            state: Some(("bty", "/var/lib/bty")),
            capabilities: if settings.port < 1024 { vec!["NET_BIND_SERVICE"] } else { Vec::new() },
            profile: None,
        },
        Service {
            name: "bty-tftp",
            purpose: "boot programs for firmware, over TFTP",
            image: image("bty-tftp"),
            env: Vec::new(),
            state: None,
            capabilities: vec!["NET_BIND_SERVICE"],
            profile: Some("tftp"),
        },
    ]
}

/// The services that the profiles of the site enable.
pub(crate) fn enabled(settings: &Settings, version: &str) -> Vec<Service> {
    let is_chosen = |service: &Service| service.profile.is_none_or(|profile| settings.has(profile));
    all(settings, version).into_iter().filter(is_chosen).collect()
}

#[cfg(test)]
mod tests {
    use super::UID;

    #[test]
    fn the_user_of_the_programs_is_the_same_everywhere() {
        let files = [
            (
                "images/Containerfile",
                include_str!("../images/Containerfile"),
                vec![format!("USER {UID}:{UID}"), format!("--chown={UID}:{UID} ")],
            ),
            ("images/build", include_str!("../images/build"), vec![format!("\nUID = {UID}\n")]),
            (
                "kubernetes/bty.yaml",
                include_str!("../kubernetes/bty.yaml"),
                vec![
                    format!("runAsUser: {UID}\n"),
                    format!("runAsGroup: {UID}\n"),
                    format!("fsGroup: {UID}\n"),
                ],
            ),
            (
                "docs/how-to/deploy.md",
                include_str!("../../docs/how-to/deploy.md"),
                vec![format!("user {UID}")],
            ),
        ];
        for (name, text, words) in files {
            for word in words {
                assert!(text.contains(&word), "{name} says {word:?}");
            }
            // the documentation says how to leave the former user
            assert!(
                name.starts_with("docs/")
                    || !text.contains(": 1000") && !text.contains("1000:1000"),
                "{name}"
            );
        }
        // see the table at https://systemd.io/UIDS-GIDS/
        assert!((60706..=61183).contains(&UID), "in a range that nobody allocates");
    }
}
