//! What a site is made of. Compose file, units and `podman run` are made of this.

use std::path::PathBuf;

use crate::settings::Settings;

/// User and group of the programs in their containers, and owner of their data on the host when
/// root starts them.
///
/// Nobody may have this number by chance, because whoever has it owns the site. `useradd` and
/// `adduser` give none above 60000 by themselves, systemd gives 60001 to 60705 and 61184 to 65519
/// to users of its own, and Debian has allocated none here. It is below 65536, so that a user
/// namespace of the usual size has it. `deploy/images`, `deploy/kubernetes` and the documentation
/// name it too; a test compares them.
pub(crate) const UID: u32 = 61069;

/// What it was before: the number of the first person with an account on most hosts.
pub(crate) const EARLIER_UID: u32 = 1000;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name, and that of its image.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) what: &'static str,
    /// Full name of its image.
    pub(crate) image: String,
    /// Variables besides those of the settings.
    pub(crate) env: Vec<(&'static str, String)>,
    /// Directory of its state, relative to that of the data, and where its program expects it.
    pub(crate) state: Option<(&'static str, &'static str)>,
    /// Capabilities that it keeps.
    pub(crate) capabilities: Vec<&'static str>,
    /// The profile of compose files in which it is; none: always.
    pub(crate) profile: Option<&'static str>,
}

impl Service {
    /// Directory of its state on this machine.
    pub(crate) fn state_dir(&self, settings: &Settings) -> Option<PathBuf> {
        self.state.map(|(dir, _)| settings.data_dir.join(dir))
    }
}

/// All that there can be, in the order in which they start.
///
/// They are in the network of the host: machines see one address, events have the addresses of
/// machines, and neither TFTP nor a firewall has to be taught a network of containers.
pub(crate) fn all(settings: &Settings, version: &str) -> Vec<Service> {
    let image = |name: &str| format!("{}/{name}:{version}", settings.prefix);
    let cache = settings.has("cache").then(|| ("BTY_WITHCACHE_URL", settings.cache_url()));
    let tftp = settings
        .has("tftp")
        .then(|| ("BTY_NETBOOT_TFTP_PROBE_HOST", settings.host_addr.to_string()));
    vec![
        Service {
            name: "bty-cache",
            what: "a cache between the origins of images and machines",
            image: image("bty-cache"),
            env: Vec::new(),
            state: Some(("withcache", "/var/lib/bty-cache")),
            capabilities: Vec::new(),
            profile: Some("cache"),
        },
        Service {
            name: "bty-web",
            what: "machines, plans, events, pages",
            image: image("bty-web"),
            env: cache.into_iter().chain(tftp).collect(),
            state: Some(("bty", "/var/lib/bty")),
            capabilities: if settings.port < 1024 { vec!["NET_BIND_SERVICE"] } else { Vec::new() },
            profile: None,
        },
        Service {
            name: "bty-tftp",
            what: "boot programs for firmware",
            image: image("bty-tftp"),
            env: Vec::new(),
            state: None,
            capabilities: vec!["NET_BIND_SERVICE"],
            profile: Some("tftp"),
        },
    ]
}

/// Those of the site.
pub(crate) fn chosen(settings: &Settings, version: &str) -> Vec<Service> {
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
