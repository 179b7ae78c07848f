//! Selects the proxy of a request, and the hosts that are reached without one.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Proxy;
use url::{Host, Url};

use crate::transport::options::ClientOptions;
use crate::{Error, ErrorKind, Result, redact};

/// The proxies of a client, and the hosts that are reached without one.
#[derive(Debug)]
pub(super) struct Proxies {
    /// The addresses of the proxies, by the scheme of the requests that they are for.
    by_scheme: Vec<(&'static str, Url)>,
    bypass: Bypass,
}

impl Proxies {
    /// Parses the proxies of `options`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`]: an address is malformed or has an unsupported scheme.
    pub(super) fn parse(options: &ClientOptions) -> Result<Self> {
        let bypass = Bypass::parse(options.no_proxy.as_deref().unwrap_or_default());
        let mut by_scheme = Vec::new();
        for (scheme, written) in [("http", &options.http_proxy), ("https", &options.https_proxy)] {
            if let Some(written) = written {
                by_scheme.push((scheme, address(scheme, written)?));
            }
        }
        Ok(Self { by_scheme, bypass })
    }

    /// The proxy that a request for `url` goes through, if any.
    pub(super) fn for_url(&self, url: &Url) -> Option<&Url> {
        let (_, address) = self.by_scheme.iter().find(|(scheme, _)| *scheme == url.scheme())?;
        (!self.bypass.has(url)).then_some(address)
    }

    /// True if no request goes through a proxy.
    pub(super) fn is_empty(&self) -> bool {
        self.by_scheme.is_empty()
    }
}

/// Makes the HTTP client use the proxies.
pub(super) fn for_client(proxies: &Arc<Proxies>) -> Proxy {
    let proxies = Arc::clone(proxies);
    Proxy::custom(move |url| proxies.for_url(url).cloned())
}

/// Parses the address of a proxy, whose scheme is optional.
fn address(scheme: &str, written: &str) -> Result<Url> {
    // the address may contain a password, so errors do not quote it
    let bad = |why: &str| {
        Error::new(ErrorKind::Usage, format!("the proxy for {scheme} {why}")).hint(
            "write http://host:port; a user and a password stand before the host, as in \
             user:password@host",
        )
    };
    let with_scheme =
        if written.contains("://") { written.to_owned() } else { format!("http://{written}") };
    let url = Url::parse(&with_scheme).map_err(|e| bad("is not an address").because(e))?;
    match url.scheme() {
        "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
        "http" | "https" => Err(bad("has no host")),
        other => {
            Err(bad(&format!("is {}, and {other} is not supported", redact::address(url.as_str()))))
        }
    }
}

/// The hosts that are reached without a proxy.
#[derive(Debug, Default, PartialEq)]
struct Bypass(Vec<BypassEntry>);

#[derive(Debug, PartialEq)]
struct BypassEntry {
    host: Pattern,
    /// `None` matches every port.
    port: Option<u16>,
}

#[derive(Debug, PartialEq)]
enum Pattern {
    /// Every host: `*`.
    All,
    /// A domain and its subdomains.
    Domain(String),
    /// A network: address and prefix length.
    Network(IpAddr, u8),
}

impl Bypass {
    /// Parses entries separated by commas or blanks: `*`, `example.org` (also `.example.org` and
    /// `*.example.org`), `192.0.2.7`, `192.0.2.0/24`, `[2001:db8::1]`, `2001:db8::/32`; hosts may
    /// have a port. A malformed entry matches nothing.
    fn parse(text: &str) -> Self {
        let entries =
            text.split([',', ' ', '\t', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        Self(entries.filter_map(BypassEntry::parse).collect())
    }

    fn has(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.0
            .iter()
            .any(|entry| (entry.port.is_none() || entry.port == port) && entry.host.has(url))
    }
}

impl BypassEntry {
    fn parse(text: &str) -> Option<Self> {
        if let Some(network) = network(text) {
            return Some(Self { host: network, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let name = host
            .trim_start_matches('*')
            .trim_start_matches('.')
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let host = match network(host) {
            Some(network) => network,
            None if host == "*" => Pattern::All,
            None if name.is_empty() => return None,
            None => Pattern::Domain(name),
        };
        Some(Self { host, port })
    }
}

/// Parses an address or a network, with or without brackets.
fn network(text: &str) -> Option<Pattern> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address =
        address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    let address = address.parse::<IpAddr>().ok()?.to_canonical();
    let width = if address.is_ipv4() { 32 } else { 128 };
    Some(Pattern::Network(address, bits.unwrap_or(width).min(width)))
}

impl Pattern {
    fn has(&self, url: &Url) -> bool {
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::from(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::from(ip).to_canonical()),
            _ => None,
        };
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network, bits), Some(address)) => begins_with(address, *network, *bits),
            (Self::Domain(domain), None) => {
                let host =
                    url.host_str().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
                host.strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

fn begins_with(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let shifted = |value: u128, width: u32| value.checked_shr(width - u32::from(bits)).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            shifted(u32::from(a).into(), 32) == shifted(u32::from(n).into(), 32)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => shifted(a.into(), 128) == shifted(n.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bypassed_hosts_match_in_every_notation() {
        for (list, url, is_direct) in [
            ("*", "http://127.0.0.1/", true),
            ("*", "https://example.org/", true),
            ("", "http://example.org/", false),
            ("example.org", "http://example.org/", true),
            ("example.org", "http://www.Example.ORG./", true),
            ("example.org", "http://badexample.org/", false),
            (".example.org,*.example.net", "http://a.example.net/", true),
            ("example.org:8080", "http://example.org:8080/", true),
            ("example.org:8080", "http://example.org/", false),
            ("example.org:443", "https://example.org/", true),
            ("192.0.2.7", "http://192.0.2.7:8080/", true),
            ("192.0.2.7:81", "http://192.0.2.7:8080/", false),
            ("a, 192.0.2.0/24", "http://192.0.2.99/", true),
            ("192.0.2.0/24", "http://192.0.3.1/", false),
            ("0.0.0.0/0", "http://192.0.3.1/", true),
            ("::1", "http://[::1]:8080/", true),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/", true),
            ("2001:db8::/32", "http://[2001:db8:1::1]/", true),
            ("2001:db8::/32", "http://[2001:db9::1]/", false),
            ("192.0.2.0/99, example.org:x, ., :80", "http://example.org/", false),
            ("127.0.0.1 localhost", "http://localhost/", true),
        ] {
            assert_eq!(
                Bypass::parse(list).has(&url.parse().unwrap()),
                is_direct,
                "{url} with {list:?}"
            );
        }
    }

    #[test]
    fn errors_about_a_proxy_hide_its_password() {
        for written in ["http://user:secret@:x", "socks5://user:secret@host:1080"] {
            let options =
                ClientOptions { http_proxy: Some(written.into()), ..ClientOptions::default() };
            let error = Proxies::parse(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert_eq!(address("http", "proxy:3128").unwrap().as_str(), "http://proxy:3128/");
    }

    proptest! {
        #[test]
        fn no_bypass_list_panics(list in "[a-z0-9.:/*,\\[\\] é]{0,30}") {
            let _ = Bypass::parse(&list).has(&"http://[::1]:80/".parse().unwrap());
        }
    }
}
