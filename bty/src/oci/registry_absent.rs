//! Stands in for registries if the feature `oci` is off: every reference is refused.

use std::sync::Arc;

use super::{OciBlob, OciReference};
use crate::transport::network::NetworkRuntime;
use crate::{CancelToken, Result, Source, features};

pub(crate) fn open(
    _: &Arc<NetworkRuntime>,
    reference: &OciReference,
    _: &CancelToken,
) -> Result<Source> {
    Err(features::missing(&reference.to_string(), "oci"))
}

pub(crate) fn resolve(
    _: &NetworkRuntime,
    reference: &OciReference,
    _: &CancelToken,
) -> Result<OciBlob> {
    Err(features::missing(&reference.to_string(), "oci"))
}
