//! The fields of a caught failure of the host.

use rhai::Dynamic;
use rhai::plugin::*;

use crate::convert::{Size, from_json};
use crate::error::HostError;

#[export_module]
pub(super) mod functions {
    /// A word to match on: `usage`, `refused`, `source`, `format`, `catalog`, `integrity`,
    /// `target`, `cancelled`, `host`, `capability`.
    #[rhai_fn(get = "kind", pure)]
    pub fn kind(error: &mut HostError) -> String {
        error.kind.clone()
    }

    /// What happened, in one sentence.
    #[rhai_fn(get = "message", pure)]
    pub fn message(error: &mut HostError) -> String {
        error.message.clone()
    }

    /// The file, device or address concerned; `()` when there is none.
    #[rhai_fn(get = "path", pure)]
    pub fn path(error: &mut HostError) -> Dynamic {
        error.path.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The offset concerned, as a size; `()` when there is none.
    #[rhai_fn(get = "offset", pure)]
    pub fn offset(error: &mut HostError) -> Dynamic {
        error.offset.map_or(Dynamic::UNIT, |offset| Dynamic::from(Size(offset)))
    }

    /// The next step; `()` when there is none.
    #[rhai_fn(get = "hint", pure)]
    pub fn hint(error: &mut HostError) -> Dynamic {
        error.hint.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The report of a flash that failed, as a map; `()` for other failures.
    #[rhai_fn(get = "report", pure)]
    pub fn report(error: &mut HostError) -> Dynamic {
        error.report.as_ref().map_or(Dynamic::UNIT, |report| from_json(report, true))
    }

    /// True when writing to a disk had begun before the failure: it may hold a part of an image,
    /// and does not boot. Otherwise nothing was written.
    #[rhai_fn(get = "has_written", pure)]
    pub fn has_written(error: &mut HostError) -> bool {
        error.has_written
    }

    /// The message.
    #[rhai_fn(name = "to_string", name = "to_debug", pure)]
    pub fn to_string(error: &mut HostError) -> String {
        error.message.clone()
    }
}
