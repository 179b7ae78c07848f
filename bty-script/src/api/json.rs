//! Conversions between script values and JSON.

use rhai::plugin::*;
use rhai::{Dynamic, Map};

use crate::convert::{from_json, to_json};
use crate::error::{CallResult, HostError, raise_unplaced};

#[export_module]
pub(super) mod functions {
    /// Any value as JSON in one line. `()` becomes null, and a size its number of bytes. Fails for
    /// functions, and for numbers that JSON does not have.
    #[rhai_fn(name = "to_json", return_raw)]
    pub fn json_of(value: Dynamic) -> CallResult<String> {
        to_json(&value).map(|json| json.to_string())
    }

    // replaces the function of the language, which writes the names of types instead of values
    /// The same for a map.
    #[rhai_fn(name = "to_json", return_raw)]
    pub fn json_of_map(map: Map) -> CallResult<String> {
        json_of(map.into())
    }

    /// The value of a text in JSON. null becomes `()`, and an integer above 2^63 - 1 a size.
    #[rhai_fn(name = "parse_json", return_raw)]
    pub fn parse(text: &str) -> CallResult<Dynamic> {
        let value = serde_json::from_str(text).map_err(|error| {
            raise_unplaced(HostError::new("format", format!("the text is not JSON: {error}")))
        })?;
        Ok(from_json(&value, false))
    }
}
