//! The network below [`source`](crate::source), [`oci`](crate::oci) and
//! [`client`](crate::client): options, the runtime, one HTTP client, and requests with redirects,
//! credentials, retries and deadlines.
//!
//! From the bottom up: [`http_client`] is reqwest with proxies, trust and the address policy;
//! [`endpoint`] sends one request and follows redirects; [`registry_auth`] gets tokens; [`origin`]
//! joins the two; [`retry`] decides when to send again.

pub(crate) mod address_policy;
pub(crate) mod body;
pub(crate) mod credentials;
pub(crate) mod endpoint;
pub(crate) mod headers;
pub(crate) mod http_client;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod origin;
mod proxy;
pub(crate) mod registry_auth;
pub(crate) mod retry;
mod trust;
