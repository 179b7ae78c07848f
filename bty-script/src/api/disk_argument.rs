//! Disks as arguments of functions: a `Disk`, a selector, or an array of them.

use bty::{Disk, Selector};
use rhai::{Array, Dynamic, ImmutableString, NativeCallContext};

use crate::context::{Capability, ScriptContext};
use crate::error::{CallResult, HostError, raise};

/// The disks that a script passed: a disk, a selector, or an array of them.
pub(crate) fn disks_of(call: &NativeCallContext<'_>, value: &Dynamic) -> CallResult<Vec<Disk>> {
    if let Some(disk) = value.read_lock::<Disk>() {
        return Ok(vec![disk.clone()]);
    }
    if let Some(items) = value.read_lock::<Array>() {
        let disks =
            items.iter().map(|item| disks_of(call, item)).collect::<CallResult<Vec<_>>>()?;
        return Ok(disks.into_iter().flatten().collect());
    }
    let Some(text) = value.read_lock::<ImmutableString>() else {
        let message = format!("cannot use {} as a disk", super::type_name(call, value));
        return Err(raise(
            HostError::usage(message)
                .hint("pass a disk, a selector such as \"serial:…\", or an array of them"),
        ));
    };
    let context = ScriptContext::require(call, Capability::Read)?;
    let disk = text.parse::<Selector>().and_then(|selector| selector.select(&*context.world.disks));
    Ok(vec![disk.map_err(raise)?])
}

/// The disk that a script passed where only one is allowed.
pub(crate) fn one_disk(call: &NativeCallContext<'_>, disk: &Dynamic) -> CallResult<Disk> {
    let mut disks = disks_of(call, disk)?;
    match (disks.pop(), disks.is_empty()) {
        (Some(disk), true) => Ok(disk),
        _ => Err(raise(HostError::usage("expected one disk, got none or several"))),
    }
}
