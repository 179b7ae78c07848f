//! Shows `()` as such. In plain rhai it is an empty string, which hides that a value is unknown.

use rhai::ImmutableString;
use rhai::plugin::*;

const UNIT: &str = "()";

#[export_module]
pub(super) mod functions {
    /// The text `()`, where the language alone would print nothing.
    #[rhai_fn(name = "print", name = "to_string")]
    pub fn shown(_unit: ()) -> ImmutableString {
        UNIT.into()
    }

    #[rhai_fn(name = "+")]
    pub fn append(text: &str, _unit: ()) -> ImmutableString {
        format!("{text}{UNIT}").into()
    }

    #[rhai_fn(name = "+")]
    pub fn prepend(_unit: (), text: &str) -> ImmutableString {
        format!("{UNIT}{text}").into()
    }

    #[rhai_fn(name = "+=")]
    pub fn append_in_place(text: &mut ImmutableString, _unit: ()) {
        *text += UNIT;
    }
}
