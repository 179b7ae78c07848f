//! The HTTP client that all requests go through.

use std::sync::Arc;

use url::Url;

use crate::transport::address_policy::FilteredResolver;
use crate::transport::options::ClientOptions;
use crate::transport::proxy::{self, Proxies};
use crate::transport::trust;
use crate::{Error, ErrorKind, Result};

/// The `User-Agent` of the library.
const USER_AGENT: &str = concat!("bty/", env!("CARGO_PKG_VERSION"));

/// The HTTP client with the options it was built from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpClient {
    /// For requests that go to their host. Resolves names as the address policy demands.
    direct: reqwest::Client,
    /// For requests that go through a proxy. The policy is about the hosts of requests, which the
    /// proxy resolves, and not about the proxy, which the caller has configured.
    proxied: reqwest::Client,
    proxies: Arc<Proxies>,
    pub(crate) options: Arc<ClientOptions>,
}

impl HttpClient {
    pub(crate) fn new(options: &Arc<ClientOptions>) -> Result<Self> {
        let proxies = Arc::new(Proxies::parse(options)?);
        let direct = match &options.may_reach {
            Some(may_reach) => {
                let resolver = FilteredResolver::new(Arc::clone(may_reach));
                build(builder(options)?.dns_resolver(Arc::new(resolver)))?
            }
            None => build(builder(options)?)?,
        };
        let proxied = match proxies.is_empty() {
            true => direct.clone(),
            false => build(builder(options)?.proxy(proxy::for_client(&proxies)))?,
        };
        Ok(Self { direct, proxied, proxies, options: Arc::clone(options) })
    }

    /// The client for requests for `url`. It follows no redirects:
    /// [`Endpoint`](crate::transport::endpoint::Endpoint) checks each one, so that credentials
    /// reach only the host that was named.
    pub(crate) fn for_url(&self, url: &Url) -> &reqwest::Client {
        if self.proxies.for_url(url).is_some() { &self.proxied } else { &self.direct }
    }
}

fn builder(options: &ClientOptions) -> Result<reqwest::ClientBuilder> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the client that all requests go through"
    )]
    let builder = reqwest::Client::builder();
    Ok(builder
        .tls_backend_preconfigured(trust::tls_config(options)?)
        // the storage of some registries resets long HTTP/2 streams
        .http1_only()
        .no_proxy()
        .user_agent(USER_AGENT)
        .referer(false)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(options.connect_timeout)
        // digests are computed over the bytes on the wire, so they must not be decoded here
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate())
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder
        .build()
        .map_err(|e| Error::new(ErrorKind::Host, format!("setting up the HTTP client: {e}")))
}
