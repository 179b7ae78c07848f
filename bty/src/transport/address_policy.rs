//! Restricts which addresses may be connected to, for programs that fetch addresses named by
//! others.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::transport::options::MayReach;

/// The policy allows no address of this host, so a retry would fail again.
#[derive(Clone, Debug)]
pub(crate) struct AddressRefused(String);

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is at an address that may not be reached from here", self.0)
    }
}

impl StdError for AddressRefused {}

type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Resolves names, and drops the addresses that the policy forbids. The check is part of the
/// resolution, so the client connects to exactly the addresses that were checked.
pub(crate) struct FilteredResolver {
    may_reach: MayReach,
    lookup: Lookup,
}

impl FilteredResolver {
    /// Resolves names as this host does.
    pub(crate) fn new(may_reach: MayReach) -> Self {
        let lookup = |name: String| {
            Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }) as _
        };
        Self { may_reach, lookup }
    }
}

impl Resolve for FilteredResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (may_reach, lookup) = (self.may_reach.clone(), (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let found = lookup.await?;
            let allowed: Vec<_> = found
                .iter()
                .copied()
                .filter(|address| may_reach(address.ip().to_canonical()))
                .collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(AddressRefused(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Applies the policy to a URL whose host is an IP address, which no resolver ever sees.
pub(crate) fn check_literal(may_reach: Option<&MayReach>, url: &Url) -> Result<(), AddressRefused> {
    let ip: IpAddr = match url.host() {
        Some(Host::Ipv4(ip)) => ip.into(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical(),
        _ => return Ok(()),
    };
    if may_reach.is_none_or(|may_reach| may_reach(ip)) {
        Ok(())
    } else {
        Err(AddressRefused(ip.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;

    fn public() -> MayReach {
        Arc::new(|ip: IpAddr| !ip.is_loopback())
    }

    #[test]
    fn ip_addresses_are_checked_in_every_notation() {
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
    fn names_are_checked_by_their_addresses() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found =
            runtime.block_on(FilteredResolver::new(public()).resolve("localhost".parse().unwrap()));
        assert!(found.err().unwrap().to_string().contains("may not be reached"));
    }

    #[test]
    fn a_forbidden_address_of_a_name_is_never_connected_to() {
        fn both(_: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
            Box::pin(async { Ok(vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 2], 0).into()]) })
        }
        let outside = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = outside.local_addr().unwrap().port();
        // the same port on the forbidden address, unless it is in use
        let inside = TcpListener::bind(("127.0.0.1", port)).ok();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = outside.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        });
        let may_reach: MayReach = Arc::new(|ip: IpAddr| ip != IpAddr::from([127, 0, 0, 1]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        #[expect(clippy::disallowed_methods, reason = "the resolver is what is tested")]
        let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
        let client = builder
            .dns_resolver(Arc::new(FilteredResolver { may_reach, lookup: both }))
            .build()
            .unwrap();
        let answer =
            runtime.block_on(client.get(format!("http://two.example:{port}/")).send()).unwrap();
        assert_eq!(answer.remote_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 2]));
        serving.join().unwrap();
        if let Some(inside) = inside {
            inside.set_nonblocking(true).unwrap();
            assert!(inside.accept().is_err(), "nothing has connected to the forbidden address");
        }
    }
}
