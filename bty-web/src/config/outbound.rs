//! Outbound connections to other servers: proxies and certificate authorities.

use std::path::PathBuf;

use bty::{Client, ClientOptions};

/// Options for outbound connections to other servers.
#[derive(Clone, Debug)]
pub struct OutboundNetwork {
    /// The variables `http_proxy`, `https_proxy` and `no_proxy`.
    pub proxies: [Option<String>; 3],
    /// PEM files of certificate authorities to trust in addition to those of the system.
    pub ca_files: Vec<PathBuf>,
    /// True to contact registries over HTTP without TLS.
    pub plain_http: bool,
}

impl OutboundNetwork {
    /// Creates a client with these options.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.options())
    }

    /// Returns the options of such a client.
    #[must_use]
    pub fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::default();
        let [http, https, none] = self.proxies.clone();
        (options.http_proxy, options.https_proxy, options.no_proxy) = (http, https, none);
        options.ca_files.clone_from(&self.ca_files);
        options.plain_http = self.plain_http;
        options
    }
}

/// Reads the proxy variables `http_proxy`, `https_proxy` and `no_proxy`, in that order.
pub(crate) fn proxies(env: &dyn Fn(&str) -> Option<String>) -> [Option<String>; 3] {
    let mut options = ClientOptions::default();
    options.set_proxies_from(env);
    [options.http_proxy, options.https_proxy, options.no_proxy]
}
