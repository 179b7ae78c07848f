//! Which hosts may be reached, where somebody else names them.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::MayReach;

/// A host that may not be reached. Trying again does not help.
#[derive(Clone, Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at an address that may not be reached from here", self.0)
    }
}

impl StdError for Refused {}

/// Finds the addresses of names, and leaves out those that may not be reached: what is connected to is what was looked at.
pub(crate) struct Guarded(pub(crate) MayReach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let may_reach = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> =
                found.iter().copied().filter(|address| may_reach(address.ip().to_canonical())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Refused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Refuses an address that is written as numbers: nobody looks those up.
pub(crate) fn check_literal(may_reach: Option<&MayReach>, url: &Url) -> Result<(), Refused> {
    let ip: IpAddr = match url.host() {
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical(),
        _ => return Ok(()),
    };
    if may_reach.is_none_or(|may_reach| may_reach(ip)) { Ok(()) } else { Err(Refused(ip.to_string())) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn public() -> MayReach {
        Arc::new(|ip: IpAddr| !ip.is_loopback())
    }

    #[test]
    fn numbers_are_looked_at_in_every_notation() {
        let refused = |url: &str| check_literal(Some(&public()), &url.parse().unwrap()).is_err();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(refused(url), "{url}");
        }
        assert!(!refused("http://192.0.2.1/") && !refused("http://name/"));
        assert!(check_literal(None, &"http://127.0.0.1/".parse().unwrap()).is_ok());
    }

    #[test]
    fn names_are_looked_at_where_they_lead() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(Guarded(public()).resolve("localhost".parse().unwrap()));
        assert!(found.err().unwrap().to_string().contains("may not be reached"));
    }
}
