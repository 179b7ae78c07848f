//! Stands in for the network if the feature `http` is off: every address is refused.

use std::sync::Arc;

use url::Url;

use crate::client::ClientOptions;
use crate::oci::{OciBlob, OciReference};
use crate::{CancelToken, Result, Source, features, redact};

pub(super) struct Network;

impl Network {
    pub(super) fn new(_: Arc<ClientOptions>) -> Self {
        Self
    }
}

pub(super) fn open_http(_: &Network, url: &Url, _: bool, _: &CancelToken) -> Result<Source> {
    Err(features::missing(redact::url(url).as_ref(), "http"))
}

pub(super) fn open_oci(_: &Network, reference: &OciReference, _: &CancelToken) -> Result<Source> {
    Err(features::missing(&reference.to_string(), "oci"))
}

pub(super) fn resolve_oci(
    _: &Network,
    reference: &OciReference,
    _: &CancelToken,
) -> Result<OciBlob> {
    Err(features::missing(&reference.to_string(), "oci"))
}
