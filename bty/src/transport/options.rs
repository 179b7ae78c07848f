//! Options of the network.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Observer;
use crate::setters::setters;
use crate::transport::credentials::Credentials;

/// Default of [`ClientOptions::image_bytes_max`]: 64 TiB, more than any disk holds today.
pub const IMAGE_BYTES_MAX: u64 = 64 << 40;

/// How a [`Client`](crate::Client) reaches servers.
///
/// The library reads no environment variables: set proxies and certificates here.
/// [`set_proxies_from`](Self::set_proxies_from) sets the proxies from the usual variables, which
/// the caller looks up.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Proxy for `http://`, as an address: `http://user:password@proxy:3128`.
    pub http_proxy: Option<String>,
    /// Proxy for `https://`, in the same form.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas: `*`, domain names (with all
    /// subdomains), IP addresses and networks, each with an optional port.
    pub no_proxy: Option<String>,
    /// PEM files with certificates to trust in addition to the system's. A file may hold those of
    /// authorities, or of single servers, which are then trusted by that exact certificate.
    pub ca_files: Vec<PathBuf>,
    /// User names and passwords for web servers and registries. Empty by default; leave it empty in
    /// a program that fetches addresses named by others.
    pub credentials: Credentials,
    /// Use plain HTTP for OCI registries. Web addresses carry their own scheme.
    pub plain_http: bool,
    /// Time limit for establishing a connection.
    pub connect_timeout: Duration,
    /// A transfer that delivers nothing for this long counts as broken, and is retried.
    pub stall_timeout: Duration,
    /// Time limit for reading a small document as a whole: a catalog, a checksum file.
    pub document_timeout: Duration,
    /// An image that claims to be larger, in bytes, is refused. [`IMAGE_BYTES_MAX`] by default.
    pub image_bytes_max: u64,
    /// Maximum number of attempts for a request. The count starts over when bytes arrive. A server
    /// that refuses the first connection gets no second attempt; one that refuses a connection in
    /// the middle of a transfer may be restarting, and does.
    pub attempts: u32,
    /// Delay before the second attempt. Doubles with each further one, up to 10 s.
    pub retry_delay: Duration,
    /// Directory for downloads of images that need random access from a server that offers none.
    pub spool_dir: PathBuf,
    /// Decides which addresses may be connected to; `None` allows all. For programs that fetch
    /// addresses named by others. It is called for every host, including those of redirects and of
    /// the token servers of registries, but not for the proxies. Host names that are reached
    /// through a proxy are resolved, and must be checked, by the proxy.
    pub may_reach: Option<MayReach>,
    /// Receives a notice about each retry.
    pub observer: Arc<dyn Observer>,
}

/// Decides whether an address may be connected to.
pub type MayReach = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            ca_files: Vec::new(),
            credentials: Credentials::default(),
            plain_http: false,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_secs(120),
            image_bytes_max: IMAGE_BYTES_MAX,
            attempts: 5,
            retry_delay: Duration::from_millis(500),
            spool_dir: PathBuf::from("/var/tmp"),
            may_reach: None,
            observer: Arc::new(()),
        }
    }
}

setters! {
    ClientOptions {
        http_proxy: impl Into<Option<String>>,
        https_proxy: impl Into<Option<String>>,
        no_proxy: impl Into<Option<String>>,
        ca_files: impl Into<Vec<PathBuf>>,
        credentials: Credentials,
        plain_http: bool,
        connect_timeout: Duration,
        stall_timeout: Duration,
        document_timeout: Duration,
        image_bytes_max: u64,
        attempts: u32,
        retry_delay: Duration,
        spool_dir: impl Into<PathBuf>,
        may_reach: impl Into<Option<MayReach>>,
    }
}

impl ClientOptions {
    /// Sets the field `observer`.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Sets the proxies from the usual environment variables: `http_proxy`, `https_proxy`,
    /// `all_proxy` (for a scheme without its own), and `no_proxy`. Lower case takes precedence
    /// over upper case. `variable` looks up one variable; the library itself reads none.
    pub fn set_proxies_from(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        let value = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_uppercase()];
            names.iter().filter_map(|name| variable(name)).find(|value| !value.is_empty())
        };
        let all = value("all_proxy");
        self.http_proxy = value("http_proxy").or_else(|| all.clone());
        self.https_proxy = value("https_proxy").or(all);
        self.no_proxy = value("no_proxy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_proxy_applies_to_schemes_without_their_own_proxy() {
        let from = |pairs: &[(&str, &str)]| {
            let mut options = ClientOptions::default();
            let variable = |name: &str| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            };
            options.set_proxies_from(&variable);
            [options.http_proxy, options.https_proxy, options.no_proxy]
                .map(Option::unwrap_or_default)
        };
        assert_eq!(
            from(&[("ALL_PROXY", "http://a"), ("https_proxy", "http://s")]),
            ["http://a", "http://s", ""]
        );
        assert_eq!(
            from(&[("http_proxy", ""), ("HTTP_PROXY", "h:1"), ("NO_PROXY", "*")]),
            ["h:1", "", "*"]
        );
    }
}
