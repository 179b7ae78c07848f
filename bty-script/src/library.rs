//! Registers bty's functions with the engine.

use crate::context::ScriptContext;
use crate::engine::{Engine, Library};
use crate::limits::Limits;
use crate::{api, reference};

static LIBRARY: Library = Library {
    register: api::register,
    modules: || api::MODULES.iter().map(|(name, _)| *name).collect(),
    hint_for: reference::hint_for,
};

impl Engine {
    /// An engine whose scripts may do what `context` allows, within `limits`.
    #[must_use]
    pub fn new(context: ScriptContext, limits: Limits) -> Self {
        Self::with_library(context, limits, &LIBRARY)
    }
}
