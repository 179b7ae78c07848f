//! The network below [`source`](crate::source), [`oci`](crate::oci) and
//! [`client`](crate::client): options, the runtime, one HTTP client, and requests with redirects,
//! credentials, retries and deadlines.
//!
//! From the bottom up: [`http_client`] is reqwest with proxies, trust and the address policy;
//! [`endpoint`] sends one request and follows redirects; [`registry_auth`] gets tokens; [`origin`]
//! joins the two; [`retry`] decides when to send again.

#[cfg(feature = "http")]
pub(crate) mod address_policy;
#[cfg(feature = "http")]
pub(crate) mod body;
pub(crate) mod credentials;
#[cfg(feature = "http")]
pub(crate) mod endpoint;
#[cfg(feature = "http")]
pub(crate) mod headers;
#[cfg(feature = "http")]
pub(crate) mod http_client;
#[cfg(feature = "http")]
pub(crate) mod network;
pub(crate) mod options;
#[cfg(feature = "http")]
pub(crate) mod origin;
#[cfg(feature = "http")]
mod proxy;
#[cfg(feature = "http")]
pub(crate) mod registry_auth;
#[cfg(feature = "http")]
pub(crate) mod retry;
#[cfg(feature = "http")]
mod trust;
