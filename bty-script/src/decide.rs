//! Calls of a plan's functions by a server: `boot(m)`, `plan(m)`, `on(m, event)` and `declare()`.
//!
//! The machine `m` is data ([`MachineFacts`]); a function can change only the plan's own `state`.
//! Decisions are data too, made by `boot_disk()`, `boot_live()` and similar functions. The text of
//! a script therefore never becomes part of another script.
//!
//! ```
//! use bty_script::decide::{Decider, MachineFacts, PlanCall};
//! use bty_script::{Engine, Limits, ScriptContext};
//! use serde_json::json;
//!
//! let decider = Decider::new(Engine::new(ScriptContext::compute_only(), Limits::server()));
//! let state = json!({ "flashed": true });
//! let machine = MachineFacts { mac: "52:54:00:12:34:56".into(), state, ..Default::default() };
//! let decision = decider.decide(&PlanCall {
//!     name: "mine",
//!     text: "fn boot(m) { if m.state.flashed { boot_disk() } else { boot_live() } }",
//!     function: "boot",
//!     machine: Some(&machine),
//!     args: Vec::new(),
//!     catalog: "",
//! })?;
//! assert_eq!(decision.value["boot"], "disk");
//! # Ok::<(), bty_script::ScriptError>(())
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bty::catalog::Catalog;
use bty::{CancelToken, Digest};
use rhai::Dynamic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::convert::{from_json, to_json};
use crate::engine::{Engine, ImportRoot, Script};
use crate::error::{Cause, ScriptError};
pub use crate::machine::MachineFacts;
use crate::machine::PlanMachine;

/// Maximum number of compiled scripts that are cached, and of catalogs.
const CACHE_ENTRIES: usize = 64;

/// A call of one function of a plan.
#[derive(Clone, Debug)]
pub struct PlanCall<'a> {
    /// Name of the plan, for error messages.
    pub name: &'a str,
    /// Source text of the plan.
    pub text: &'a str,
    /// The function: `boot`, `plan`, `on` or `declare`.
    pub function: &'a str,
    /// The first argument; `declare` takes none.
    pub machine: Option<&'a MachineFacts>,
    /// Arguments after the machine.
    pub args: Vec<Value>,
    /// The server's catalog as TOML; empty for an empty catalog.
    pub catalog: &'a str,
}

/// The result of a [`PlanCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What the function returned; null if the plan does not define the function.
    pub value: Value,
    /// The plan's `state` after the call; null for a call without a machine.
    pub state: Value,
    /// True if the plan defines the function with this number of parameters.
    pub is_defined: bool,
}

/// Runs plan calls in this process, and caches compiled scripts and parsed catalogs.
pub struct Decider {
    engine: Engine,
    scripts: Mutex<HashMap<Digest, Script>>,
    catalogs: Mutex<HashMap<Digest, Arc<Catalog>>>,
}

impl Decider {
    /// Runs plans in `engine`, whose context should grant no capability: plans only compute.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, scripts: Mutex::default(), catalogs: Mutex::default() }
    }

    /// The engine that plans run in.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles the plan if it is not cached, and calls the function.
    ///
    /// # Errors
    /// - [`Cause::Syntax`]: the plan does not compile
    /// - [`Cause::Host`]: the catalog cannot be parsed, or a host function failed
    /// - [`Cause::Throw`], [`Cause::Script`], [`Cause::Limit`]: the function threw, is wrong, or
    ///   exceeded a limit
    pub fn decide(&self, call: &PlanCall<'_>) -> Result<Decision, ScriptError> {
        let script = script_digest(call.name, call.text);
        let catalog = Digest::of(call.catalog.as_bytes());
        self.cache_script(script, call.name, call.text)?;
        self.cache_catalog(catalog, call.catalog)?;
        self.answer(script, catalog, call.function, call.machine.cloned(), &call.args)
            .unwrap_or_else(|| {
                let message = format!("{} was evicted from the cache before its call", call.name);
                Err(ScriptError::new(Cause::Script, message))
            })
    }

    pub(crate) fn cache_script(
        &self,
        digest: Digest,
        name: &str,
        text: &str,
    ) -> Result<(), ScriptError> {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if !scripts.contains_key(&digest) {
            evict_if_full(&mut scripts);
            scripts.insert(digest, self.engine.compile(name, text, &ImportRoot::None)?);
        }
        Ok(())
    }

    pub(crate) fn cache_catalog(&self, digest: Digest, toml: &str) -> Result<(), ScriptError> {
        let mut catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        if !catalogs.contains_key(&digest) {
            evict_if_full(&mut catalogs);
            let catalog =
                if toml.is_empty() { Ok(Catalog::new()) } else { Catalog::parse(toml.as_bytes()) };
            catalogs.insert(
                digest,
                Arc::new(catalog.map_err(|e| ScriptError::from(crate::HostError::from(e)))?),
            );
        }
        Ok(())
    }

    /// Calls a function of a cached script; `None` if the script or the catalog is not cached.
    pub(crate) fn answer(
        &self,
        script: Digest,
        catalog: Digest,
        function: &str,
        machine: Option<MachineFacts>,
        args: &[Value],
    ) -> Option<Result<Decision, ScriptError>> {
        let script =
            self.scripts.lock().unwrap_or_else(PoisonError::into_inner).get(&script)?.clone();
        let catalog =
            Arc::clone(self.catalogs.lock().unwrap_or_else(PoisonError::into_inner).get(&catalog)?);
        Some(self.call(&script, catalog, function, machine, args))
    }

    fn call(
        &self,
        script: &Script,
        catalog: Arc<Catalog>,
        function: &str,
        machine: Option<MachineFacts>,
        args: &[Value],
    ) -> Result<Decision, ScriptError> {
        let arity = args.len() + usize::from(machine.is_some());
        let unchanged = machine.as_ref().map_or(Value::Null, |machine| machine.state.clone());
        if !script.has_function(function, arity) {
            return Ok(Decision { value: Value::Null, state: unchanged, is_defined: false });
        }
        let machine = machine.map(|facts| {
            let state = from_json(&facts.state, false);
            PlanMachine::new(facts, state, catalog)
        });
        let mut values: Vec<Dynamic> =
            machine.iter().map(|machine| Dynamic::from(machine.clone())).collect();
        values.extend(args.iter().map(|arg| from_json(arg, false)));
        let outcome = self.engine.call(script, function, values, &CancelToken::new())?;
        let json = |value: &Dynamic| {
            to_json(value).map_err(|error| {
                ScriptError::from_engine(&error, script.name(), &self.engine.sources)
            })
        };
        let state =
            machine.map_or(Ok(Value::Null), |machine| machine.with(|data| json(&data.state)))?;
        Ok(Decision { value: json(&outcome.value)?, state, is_defined: true })
    }
}

/// The cache key of a script. The name is part of it, since error messages show it.
pub(crate) fn script_digest(name: &str, text: &str) -> Digest {
    Digest::of(format!("{name}\0{text}").as_bytes())
}

fn evict_if_full<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= CACHE_ENTRIES {
        map.clear();
    }
}

#[cfg(test)]
mod tests;
