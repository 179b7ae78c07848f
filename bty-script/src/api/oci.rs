//! `oci`.

use rhai::plugin::*;
use rhai::{Dynamic, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::from_json;
use crate::error::{Outcome, raise};

#[export_module]
pub(super) mod functions {
    /// The blob that an `oras://` reference stands for now: `digest`, `size_bytes`, `title`.
    #[rhai_fn(return_raw)]
    pub fn resolve(context: NativeCallContext, reference: &str) -> Outcome<Dynamic> {
        let host = ScriptContext::of(&context, Capability::Network)?;
        let blob =
            host.world.images.resolve_oci(reference, &host.meter.operation()).map_err(raise)?;
        Ok(from_json(&blob, true))
    }
}
