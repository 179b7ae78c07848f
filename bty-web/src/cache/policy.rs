//! The origins from which clients may fetch objects.

use std::collections::HashSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bty::client::MayReach;

use super::address::Address;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::network::{Networks, is_public, is_routable};

/// Maximum time to resolve the name of an origin. After that, only the client checks the address,
/// when it connects.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Decides whether the cache host may contact an origin for a client:
///
/// 1. If the operator names origins (`cache.origins`), only those.
/// 2. Otherwise, if there is a catalog, only the origins of its images.
/// 3. Otherwise, only public addresses, and the networks in `cache.reach`.
///
/// In cases 2 and 3, objects that are already cached or being filled are served in any case.
pub(super) struct OriginPolicy {
    origins: Origins,
    /// Origins of the catalog; `None` for a cache host without a catalog.
    catalog: Option<RwLock<Arc<HashSet<String>>>>,
    may_reach: MayReach,
}

impl OriginPolicy {
    pub(super) fn new(origins: Origins, reach: Networks, has_catalog: bool) -> Self {
        let is_public_only = origins.is_empty() && !has_catalog;
        let is_reachable = if is_public_only { is_public } else { is_routable };
        Self {
            origins,
            catalog: has_catalog.then(RwLock::default),
            may_reach: Arc::new(move |ip: IpAddr| is_reachable(ip) || reach.contains(ip)),
        }
    }

    /// Returns the IP addresses that a client may connect to, checked after the name is resolved.
    pub(super) fn may_reach(&self) -> MayReach {
        Arc::clone(&self.may_reach)
    }

    /// Replaces the origins of the catalog.
    pub(super) fn set_catalog(&self, origins: Arc<HashSet<String>>) {
        if let Some(catalog) = &self.catalog {
            *catalog.write().unwrap_or_else(PoisonError::into_inner) = origins;
        }
    }

    /// Checks `address` without resolving its name. `is_held` means that the object is cached or
    /// being filled.
    pub(super) fn check_name(&self, address: &Address, is_held: bool) -> Result<()> {
        let host = address.host();
        let detail = match &self.catalog {
            _ if !self.origins.is_empty() => match self.origins.allow(address) {
                true => return Ok(()),
                false => format!(
                    "cannot fetch from {host}: it is not in cache.origins; ask the operator of \
                     this cache to add it"
                ),
            },
            _ if is_held => return Ok(()),
            Some(catalog) => match catalog
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&address.origin())
            {
                true => return Ok(()),
                false => format!(
                    "cannot fetch from {}: the catalog has no image there; ask the operator of \
                     this cache to add the image, or to add {host} to cache.origins",
                    address.origin()
                ),
            },
            None => match host_ip(address) {
                Some(ip) if !(self.may_reach)(ip) => return Err(unreachable(address, ip)),
                _ => return Ok(()),
            },
        };
        Err(Error::new(ErrorKind::Forbidden, detail))
    }

    /// Like [`check_name`](Self::check_name), but resolves the name if the decision depends on its
    /// IP addresses. The client checks them again when it connects; this check provides a clearer
    /// error message.
    pub(super) async fn check(&self, address: &Address, is_held: bool) -> Result<()> {
        self.check_name(address, is_held)?;
        let is_decided = self.catalog.is_some() || !self.origins.is_empty() || is_held;
        let target = address.target().filter(|_| !is_decided && host_ip(address).is_none());
        let Some(target) = target else { return Ok(()) };
        // behind a proxy, this host may be unable to resolve names
        let Ok(Ok(found)) =
            tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(target)).await
        else {
            return Ok(());
        };
        let found: Vec<IpAddr> = found.map(|found| found.ip().to_canonical()).collect();
        match found.first() {
            Some(ip) if !found.iter().any(|ip| (self.may_reach)(*ip)) => {
                Err(unreachable(address, *ip))
            }
            _ => Ok(()),
        }
    }

    /// Like [`check`](Self::check), but for an operator, who may fetch from any origin if there is
    /// a catalog.
    pub(super) async fn check_operator(&self, address: &Address, is_held: bool) -> Result<()> {
        match self.catalog.is_none() || !self.origins.is_empty() {
            true => self.check(address, is_held).await,
            false => Ok(()),
        }
    }
}

fn unreachable(address: &Address, ip: IpAddr) -> Error {
    let setting = match is_routable(ip) {
        true => "the origin to cache.origins, or its network to cache.reach",
        false => "its network to cache.reach",
    };
    let detail = format!(
        "cannot fetch from {}: without cache.origins, this cache host contacts public addresses \
         only; ask its operator to add {setting}",
        address.host()
    );
    Error::new(ErrorKind::Forbidden, detail)
}

/// Returns the IP address of an origin whose host is an IP address.
fn host_ip(address: &Address) -> Option<IpAddr> {
    let (host, _) = address.target()?;
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(ip.to_canonical())
}

/// Patterns of allowed origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl FromStr for Origins {
    type Err = String;

    /// Parses patterns separated by commas or spaces: `example.org`, `*.example.org`,
    /// `example.org:8443`, or the prefix of a URL such as `https://example.org/images/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        let is_pattern = |part: &str| match part.split_once("://") {
            Some((scheme, rest)) => {
                matches!(scheme, "http" | "https" | "oras") && rest.contains('/')
            }
            None => !part.contains('/'),
        };
        parts
            .map(|part| match is_pattern(part) {
                true => Ok(part.to_ascii_lowercase()),
                false => Err(format!("{part:?} is neither a host nor an address with a path")),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Origins {
    /// True if there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if `address` matches one of the patterns.
    #[must_use]
    pub fn allow(&self, address: &Address) -> bool {
        let (host, text) = (address.host(), address.to_string());
        let bare = host.rsplit_once(':').map_or(host.as_str(), |(bare, _)| bare);
        let matches = |pattern: &String| match (pattern.contains("://"), pattern.strip_prefix("*."))
        {
            // match only whole path components: https://h/images does not allow
            // https://h/images-of-others
            (true, _) => text
                .to_ascii_lowercase()
                .strip_prefix(pattern.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@', '?'])),
            (false, Some(domain)) => {
                bare.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
            }
            (false, None) => *pattern == host || pattern == bare,
        };
        self.0.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &str, reach: &str, has_catalog: bool) -> OriginPolicy {
        OriginPolicy::new(origins.parse().unwrap(), reach.parse().unwrap(), has_catalog)
    }

    fn refusal(policy: &OriginPolicy, address: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let refused = runtime.block_on(policy.check(&address.parse().unwrap(), false)).err()?;
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        Some(refused.detail)
    }

    #[test]
    fn beside_a_catalog_only_its_origins_are_allowed() {
        let policy = policy("", "", true);
        let refused = refusal(&policy, "http://images.example/a.img").unwrap();
        assert!(refused.contains("catalog") && refused.contains("cache.origins"), "{refused}");
        let named = ["http://images.example", "https://10.0.0.5:8443", "oras://ghcr.io"];
        policy.set_catalog(Arc::new(named.map(str::to_owned).into()));
        for address in [
            "http://images.example:80/b.img?x=1",
            "https://10.0.0.5:8443/c",
            "oras://GHCR.io/other/x:t",
        ] {
            assert_eq!(refusal(&policy, address), None, "{address}");
        }
        for address in [
            "https://images.example/b.img",
            "http://images.example:81/b",
            "http://10.0.0.5/c",
            "oras://h.example/a/x:t",
        ] {
            assert!(refusal(&policy, address).is_some(), "{address}");
        }
    }

    #[test]
    fn without_a_catalog_only_public_addresses_are_allowed() {
        let policy = policy("", "10.1.0.0/16", false);
        for address in ["http://8.8.8.8/x", "http://10.1.2.3/x", "http://[2001:db8::1]/x"] {
            assert_eq!(refusal(&policy, address), None, "{address}");
        }
        for address in
            ["http://10.2.0.1/x", "http://[fd00::1]:8080/x", "oras://192.168.1.1:5000/a/b:t"]
        {
            let refused = refusal(&policy, address).unwrap();
            assert!(
                refused.contains("cache.origins") && refused.contains("cache.reach"),
                "{refused}"
            );
        }
        // allowing the origin by name must not be enough
        for address in ["http://127.0.0.1/x", "http://localhost/x", "http://0x7f.1/x"] {
            let refused = refusal(&policy, address).unwrap();
            assert!(refused.contains("its network to cache.reach"), "{refused}");
        }
    }

    #[test]
    fn configured_origins_replace_those_of_the_catalog() {
        for has_catalog in [true, false] {
            let policy = policy("10.0.0.5", "", has_catalog);
            policy.set_catalog(Arc::new(["http://images.example".to_owned()].into()));
            assert_eq!(refusal(&policy, "http://10.0.0.5/x"), None);
            assert!(refusal(&policy, "http://images.example/x").unwrap().contains("cache.origins"));
        }
    }

    #[test]
    fn patterns_match_whole_hosts_and_path_segments() {
        let origins: Origins =
            "example.org, *.lan h:8443 https://mirror/images/ oras://ghcr.io/me/".parse().unwrap();
        for (text, is_allowed) in [
            ("http://example.org/x", true),
            ("https://example.org:99/x", true),
            ("http://sub.example.org/x", false),
            ("http://a.lan/x", true),
            ("http://lan/x", false),
            ("http://evillan/x", false),
            ("https://h:8443/x", true),
            ("https://h/x", false),
            ("https://mirror/images/x", true),
            ("https://mirror/images-of-others/x", false),
            ("http://mirror/images/x", false),
            ("oras://ghcr.io/me/x:t", true),
            ("oras://ghcr.io/other/x:t", false),
        ] {
            assert_eq!(origins.allow(&text.parse().unwrap()), is_allowed, "{text}");
        }
        assert!(Origins::default().is_empty() && !origins.is_empty());
        for text in ["https://h", "a/b", "ftp://h/x"] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parsing_patterns_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Origins>();
        }
    }
}
