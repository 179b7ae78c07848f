//! The HTTP client that all requests go through.

use std::sync::Arc;

use crate::transport::address_policy::FilteredResolver;
use crate::transport::options::ClientOptions;
use crate::transport::{proxy, trust};
use crate::{Error, ErrorKind, Result};

/// The `User-Agent` of the library.
const USER_AGENT: &str = concat!("bty/", env!("CARGO_PKG_VERSION"));

/// The HTTP client with the options it was built from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpClient {
    /// Follows no redirects: [`Endpoint`](crate::transport::endpoint::Endpoint) checks each one,
    /// so that credentials reach only the host that was named.
    pub(crate) inner: reqwest::Client,
    pub(crate) options: Arc<ClientOptions>,
}

impl HttpClient {
    pub(crate) fn new(options: &Arc<ClientOptions>) -> Result<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the client that all requests go through"
        )]
        let mut builder = reqwest::Client::builder()
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
            .no_deflate();
        if let Some(may_reach) = &options.may_reach {
            builder = builder.dns_resolver(Arc::new(FilteredResolver::new(Arc::clone(may_reach))));
        }
        for proxy in proxy::proxies(options)? {
            builder = builder.proxy(proxy);
        }
        let inner = builder
            .build()
            .map_err(|e| Error::new(ErrorKind::Host, format!("setting up the HTTP client: {e}")))?;
        Ok(Self { inner, options: Arc::clone(options) })
    }
}
