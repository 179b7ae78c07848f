//! The module `system`.

use std::time::SystemTime;

use rhai::plugin::*;
use rhai::{Dynamic, INT, Map, NativeCallContext};

use crate::api::types::Object;
use crate::context::{Capability, ScriptContext};
use crate::convert::{from_json, from_rust};
use crate::error::{CallResult, HostError, raise};

#[export_module]
pub(super) mod functions {
    /// The host name of this machine.
    #[rhai_fn(return_raw)]
    pub fn hostname(call: NativeCallContext) -> CallResult<String> {
        Ok(ScriptContext::require(&call, Capability::Read)?.world.platform.hostname())
    }

    /// The kernel command line as a map: `bty.mac=…` is `cmdline["bty.mac"]`; an argument without a
    /// value is `true`.
    #[rhai_fn(return_raw)]
    pub fn cmdline(call: NativeCallContext) -> CallResult<Map> {
        let line = ScriptContext::require(&call, Capability::Read)?.world.platform.cmdline();
        let words = line.split_whitespace().map(|word| match word.split_once('=') {
            Some((name, value)) => (name.into(), Dynamic::from(value.trim_matches('"').to_owned())),
            None => (word.into(), true.into()),
        });
        Ok(words.collect())
    }

    /// The value of the constant `BTY`.
    #[rhai_fn(return_raw)]
    pub fn facts(call: NativeCallContext) -> CallResult<Map> {
        Ok((*ScriptContext::from_call(&call)?.facts).clone())
    }

    /// What the firmware reports about the machine: a map with `vendor`, `product`, `version`,
    /// `serial` and more, each `()` if not reported.
    #[rhai_fn(return_raw)]
    pub fn dmi(call: NativeCallContext) -> CallResult<Object> {
        from_rust(&ScriptContext::require(&call, Capability::Read)?.world.platform.dmi())
    }

    /// The inventory that the machine sends to its server: `disks`, and the hardware in the format
    /// of `lshw -json`.
    #[rhai_fn(return_raw)]
    pub fn inventory(call: NativeCallContext) -> CallResult<Object> {
        let inventory = ScriptContext::require(&call, Capability::Read)?
            .world
            .platform
            .inventory()
            .map_err(raise)?;
        let json = serde_json::to_value(&inventory)
            .map_err(|e| raise(HostError::new("host", e.to_string())))?;
        Ok(from_json(&json, false))
    }

    /// The current time, in seconds since 1970.
    #[rhai_fn(return_raw)]
    pub fn now(call: NativeCallContext) -> CallResult<INT> {
        let now = ScriptContext::require(&call, Capability::Read)?.world.platform.now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(INT::try_from(since.as_secs()).unwrap_or(INT::MAX))
    }

    /// The current time as a string such as `2026-11-24T08:30:00Z`.
    #[rhai_fn(return_raw)]
    pub fn time(call: NativeCallContext) -> CallResult<String> {
        let seconds = now(call)?;
        let time = jiff::Timestamp::from_second(seconds);
        time.map(|time| time.to_string()).map_err(|e| raise(HostError::new("host", e.to_string())))
    }

    /// The text of a file below the directory that `bty run --files DIR` opens to the script.
    /// `path` is relative to that directory. The file has at most 16 MiB.
    #[rhai_fn(return_raw)]
    pub fn read_text(call: NativeCallContext, path: &str) -> CallResult<String> {
        let context = ScriptContext::require(&call, Capability::Files)?;
        context.world.files.read_text(path).map_err(raise)
    }

    /// Writes a text file below the directory that `bty run --files DIR` opens to the script, or
    /// replaces it as a whole. Directories must exist.
    #[rhai_fn(volatile, return_raw)]
    pub fn write_text(call: NativeCallContext, path: &str, text: &str) -> CallResult<()> {
        let context = ScriptContext::require(&call, Capability::Files)?;
        context.world.files.write_text(path, text).map_err(raise)
    }
}
