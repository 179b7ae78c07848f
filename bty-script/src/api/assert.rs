//! Assertions: for tests, and for scripts that want to be sure.

use rhai::plugin::*;
use rhai::{Dynamic, NativeCallContext};

use crate::convert::to_json;
use crate::error::Outcome;

fn differ(left: &Dynamic, right: &Dynamic) -> Box<rhai::EvalAltResult> {
    let shown = |value: &Dynamic| crate::render::show(value, usize::MAX);
    format!("they differ:\n   found {}\n  wanted {}", shown(left), shown(right)).into()
}

#[export_module]
pub(super) mod functions {
    /// Fails the script unless `condition` holds.
    #[rhai_fn(return_raw)]
    pub fn assert(condition: bool, message: &str) -> Outcome<()> {
        if condition { Ok(()) } else { Err(message.into()) }
    }

    /// Fails the script unless `condition` holds.
    #[rhai_fn(name = "assert", return_raw)]
    pub fn assert_plain(condition: bool) -> Outcome<()> {
        assert(condition, "the assertion does not hold")
    }

    /// Fails the test unless both are equal.
    #[rhai_fn(name = "assert_eq", return_raw)]
    pub fn assert_eq(context: NativeCallContext, found: Dynamic, wanted: Dynamic) -> Outcome<()> {
        // as JSON, so that maps and arrays of the host's values compare
        let is_equal = match (to_json(&found), to_json(&wanted)) {
            (Ok(found), Ok(wanted)) => found == wanted,
            _ => context.call_native_fn::<bool>("==", (found.clone(), wanted.clone()))?,
        };
        if is_equal { Ok(()) } else { Err(differ(&found, &wanted)) }
    }
}
