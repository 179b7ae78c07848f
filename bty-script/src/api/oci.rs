//! The module `oci`.

use rhai::NativeCallContext;
use rhai::plugin::*;

use crate::api::types::Object;
use crate::context::{Capability, ScriptContext};
use crate::convert::from_json;
use crate::error::{CallResult, raise};

#[export_module]
pub(super) mod functions {
    /// The blob that an `oras://` reference currently means: a map with `digest`, `size_bytes`,
    /// `title`.
    #[rhai_fn(return_raw)]
    pub fn resolve(call: NativeCallContext, reference: &str) -> CallResult<Object> {
        let context = ScriptContext::require(&call, Capability::Network)?;
        let blob = context
            .world
            .images
            .resolve_oci(reference, &context.meter.operation())
            .map_err(raise)?;
        Ok(from_json(&blob, true))
    }
}
