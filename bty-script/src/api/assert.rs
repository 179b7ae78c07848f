//! Assertions, for tests and for other scripts.

use rhai::plugin::*;
use rhai::{Dynamic, NativeCallContext};

use crate::convert::to_json;
use crate::error::CallResult;

fn differ(left: &Dynamic, right: &Dynamic) -> Box<rhai::EvalAltResult> {
    let shown = |value: &Dynamic| crate::render::display(value, usize::MAX);
    format!("the values differ:\n     found {}\n  expected {}", shown(left), shown(right)).into()
}

#[export_module]
pub(super) mod functions {
    /// Throws `message` unless `condition` is true.
    #[rhai_fn(return_raw)]
    pub fn assert(condition: bool, message: &str) -> CallResult<()> {
        if condition { Ok(()) } else { Err(message.into()) }
    }

    /// Throws unless `condition` is true.
    #[rhai_fn(name = "assert", return_raw)]
    pub fn assert_plain(condition: bool) -> CallResult<()> {
        assert(condition, "assertion failed")
    }

    /// Throws unless both values are equal; the error shows both.
    #[rhai_fn(name = "assert_eq", return_raw)]
    pub fn assert_eq(call: NativeCallContext, found: Dynamic, expected: Dynamic) -> CallResult<()> {
        // as JSON, so that maps and arrays of bty's types can be compared
        let is_equal = match (to_json(&found), to_json(&expected)) {
            (Ok(found), Ok(expected)) => found == expected,
            _ => call.call_native_fn::<bool>("==", (found.clone(), expected.clone()))?,
        };
        if is_equal { Ok(()) } else { Err(differ(&found, &expected)) }
    }
}
