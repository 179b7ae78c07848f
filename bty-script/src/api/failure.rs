//! The type `Error`: a caught [`HostError`]. A caught string has the same fields.

use rhai::plugin::*;
use rhai::{Dynamic, ImmutableString};

use crate::api::types::{MaybeMap, MaybeSize, MaybeString};
use crate::convert::{Size, from_json};
use crate::error::HostError;

#[export_module]
pub(super) mod functions {
    /// What kind of failure it is: `usage`, `refused`, `source`, `format`, `catalog`, `integrity`,
    /// `target`, `cancelled`, `host`, `capability` or `binding`.
    #[rhai_fn(get = "kind", pure)]
    pub fn kind(error: &mut HostError) -> String {
        error.kind.clone()
    }

    /// What failed, in one sentence.
    #[rhai_fn(get = "message", pure)]
    pub fn message(error: &mut HostError) -> String {
        error.message.clone()
    }

    /// The file, device or URL concerned; `()` if there is none.
    #[rhai_fn(get = "path", pure)]
    pub fn path(error: &mut HostError) -> MaybeString {
        error.path.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The offset concerned, as a `Size`; `()` if there is none.
    #[rhai_fn(get = "offset", pure)]
    pub fn offset(error: &mut HostError) -> MaybeSize {
        error.offset.map_or(Dynamic::UNIT, |offset| Dynamic::from(Size(offset)))
    }

    /// What to do next; `()` if there is no advice.
    #[rhai_fn(get = "hint", pure)]
    pub fn hint(error: &mut HostError) -> MaybeString {
        error.hint.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The hint as a word that scripts can compare, such as `sha256`, `fit` or `overwrite`: often
    /// the option that helps. `()` if there is none.
    #[rhai_fn(get = "remedy", pure)]
    pub fn remedy(error: &mut HostError) -> MaybeString {
        error.remedy.map_or(Dynamic::UNIT, |remedy| remedy.as_str().into())
    }

    /// The report of a failed flash, as a map; `()` for other failures.
    #[rhai_fn(get = "report", pure)]
    pub fn report(error: &mut HostError) -> MaybeMap {
        error.report.as_ref().map_or(Dynamic::UNIT, |report| from_json(report, true))
    }

    /// True if writing to a disk had begun: the disk may hold part of an image, and does not boot.
    /// If false, nothing was written.
    #[rhai_fn(get = "has_written", pure)]
    pub fn has_written(error: &mut HostError) -> bool {
        error.has_written
    }

    /// The text of the field `message`.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn to_string(error: &mut HostError) -> String {
        error.message.clone()
    }

    // the same fields of a string that a script has thrown, so that `catch` need not look at types

    /// `throw`: of a string that a script has thrown.
    #[rhai_fn(get = "kind", pure)]
    pub fn kind_of_text(_text: &mut ImmutableString) -> String {
        "throw".to_owned()
    }

    /// The string itself.
    #[rhai_fn(get = "message", pure)]
    pub fn message_of_text(text: &mut ImmutableString) -> ImmutableString {
        text.clone()
    }

    /// Always `()`: a thrown string names no file.
    #[rhai_fn(get = "path", pure)]
    pub fn path_of_text(_text: &mut ImmutableString) -> MaybeString {
        Dynamic::UNIT
    }

    /// Always `()`: a thrown string has no offset.
    #[rhai_fn(get = "offset", pure)]
    pub fn offset_of_text(_text: &mut ImmutableString) -> MaybeSize {
        Dynamic::UNIT
    }

    /// Always `()`: a thrown string has no hint.
    #[rhai_fn(get = "hint", pure)]
    pub fn hint_of_text(_text: &mut ImmutableString) -> MaybeString {
        Dynamic::UNIT
    }

    /// Always `()`: a thrown string has no remedy.
    #[rhai_fn(get = "remedy", pure)]
    pub fn remedy_of_text(_text: &mut ImmutableString) -> MaybeString {
        Dynamic::UNIT
    }

    /// Always `()`: a thrown string has no report.
    #[rhai_fn(get = "report", pure)]
    pub fn report_of_text(_text: &mut ImmutableString) -> MaybeMap {
        Dynamic::UNIT
    }

    /// Always false: a thrown string says nothing about disks.
    #[rhai_fn(get = "has_written", pure)]
    pub fn has_text_written(_text: &mut ImmutableString) -> bool {
        false
    }
}
