//! Opens sources on the network.

use std::sync::Arc;

use url::Url;

use crate::oci::{self, OciBlob, OciReference};
use crate::source::http::{self, HttpSource};
pub(super) use crate::transport::network::Network;
use crate::transport::origin::Origin;
use crate::{CancelToken, Location, Result, Source};

pub(super) fn open_http(
    network: &Network,
    url: &Url,
    caller_verifies: bool,
    cancel: &CancelToken,
) -> Result<Source> {
    let runtime = network.runtime()?;
    let origin = Origin::web(runtime.http().clone(), url, caller_verifies);
    let bytes = HttpSource::open(&runtime, origin, cancel)?;
    Ok(Source::new(Location::Http(url.clone()), http::name_of(url), Arc::new(bytes)))
}

pub(super) fn open_oci(
    network: &Network,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<Source> {
    oci::open(&network.runtime()?, reference, cancel)
}

pub(super) fn resolve_oci(
    network: &Network,
    reference: &OciReference,
    cancel: &CancelToken,
) -> Result<OciBlob> {
    oci::resolve(&*network.runtime()?, reference, cancel)
}
