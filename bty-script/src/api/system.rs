//! `system`.

use std::time::SystemTime;

use rhai::plugin::*;
use rhai::{Dynamic, INT, Map, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::convert::{from_json, from_rust};
use crate::error::{HostError, Outcome, raise};

#[export_module]
pub(super) mod functions {
    /// The host name.
    #[rhai_fn(return_raw)]
    pub fn hostname(context: NativeCallContext) -> Outcome<String> {
        Ok(ScriptContext::of(&context, Capability::Read)?.world.machine.hostname())
    }

    /// The kernel command line as a map: `bty.mac=…` is `cmdline["bty.mac"]`, a word without a
    /// value is `true`.
    #[rhai_fn(return_raw)]
    pub fn cmdline(context: NativeCallContext) -> Outcome<Map> {
        let line = ScriptContext::of(&context, Capability::Read)?.world.machine.cmdline();
        let words = line.split_whitespace().map(|word| match word.split_once('=') {
            Some((name, value)) => (name.into(), Dynamic::from(value.trim_matches('"').to_owned())),
            None => (word.into(), true.into()),
        });
        Ok(words.collect())
    }

    /// The facts of `BTY`: functions do not see constants of the host.
    #[rhai_fn(return_raw)]
    pub fn facts(context: NativeCallContext) -> Outcome<Map> {
        Ok((*ScriptContext::behind(&context)?.facts).clone())
    }

    /// What the firmware says about the machine: `vendor`, `product`, `version`, `serial` and more;
    /// `()` for what it does not say.
    #[rhai_fn(return_raw)]
    pub fn dmi(context: NativeCallContext) -> Outcome<Dynamic> {
        from_rust(&ScriptContext::of(&context, Capability::Read)?.world.machine.dmi())
    }

    /// What a machine posts to its server: `disks`, and the hardware as `lshw -json` shows it.
    #[rhai_fn(return_raw)]
    pub fn inventory(context: NativeCallContext) -> Outcome<Dynamic> {
        let inventory = ScriptContext::of(&context, Capability::Read)?
            .world
            .machine
            .inventory()
            .map_err(raise)?;
        let json = serde_json::to_value(&inventory)
            .map_err(|e| raise(HostError::new("host", e.to_string())))?;
        Ok(from_json(&json, false))
    }

    /// The time, in seconds since 1970.
    #[rhai_fn(return_raw)]
    pub fn now(context: NativeCallContext) -> Outcome<INT> {
        let now = ScriptContext::of(&context, Capability::Read)?.world.machine.now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(INT::try_from(since.as_secs()).unwrap_or(INT::MAX))
    }

    /// The time as text: `2026-11-24T08:30:00Z`.
    #[rhai_fn(return_raw)]
    pub fn time(context: NativeCallContext) -> Outcome<String> {
        let seconds = now(context)?;
        let time = jiff::Timestamp::from_second(seconds);
        time.map(|time| time.to_string()).map_err(|e| raise(HostError::new("host", e.to_string())))
    }
}
