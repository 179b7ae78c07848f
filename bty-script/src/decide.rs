//! What a server asks of a plan: `boot(m)`, `plan(m)`, `on(m, event)` and `declare()`.
//!
//! The machine `m` is data ([`MachineFacts`]); what a function changes of it is the plan's own
//! `state`. Decisions are data too, made by `boot_disk()`, `boot_live()` and their like, so that
//! nothing of a script ever becomes part of another script.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bty::catalog::Catalog;
use bty::{CancelToken, Digest};
use rhai::Dynamic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::convert::{from_json, to_json};
use crate::engine::{Engine, Root, Script};
use crate::error::{Cause, ScriptError};

/// As many compiled scripts, and as many catalogs, are kept.
const KEPT: usize = 64;

/// What a plan sees of a machine. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineFacts {
    /// MAC address: lower case, with colons.
    pub mac: String,
    /// For people, and for plans to choose by.
    pub labels: Vec<String>,
    /// Name of the plan that it is bound to.
    pub plan: String,
    /// Values of the plan's parameters, all of them: defaults are filled in.
    pub params: Value,
    /// What the plan remembers of the machine.
    pub state: Value,
    /// Reference of the image that it is bound to.
    pub image_ref: Option<String>,
    /// Serial number of the disk that may be written.
    pub target_serial: Option<String>,
    /// Its disks as it posted them, with `size_bytes` and `serial`.
    pub disks: Value,
    /// `vendor`, `product`, `version`, `serial`, `cpu`, `cpus`, `memory_bytes` as it posted them;
    /// null before.
    pub hardware: Value,
    /// `at`, `image`, `sha256`, `serial` of the last flash that was proven; null before.
    pub flashed: Value,
    /// The last events of the machine, oldest first: maps with `at` and `kind`.
    pub history: Value,
    /// When it was first seen.
    pub discovered_at: i64,
    /// When it last posted an inventory.
    pub inventory_at: Option<i64>,
    /// Now.
    pub now: i64,
    /// Now in the zone of the server: `year`, `month`, `day`, `hour`, `minute`, `weekday` (1 is
    /// Monday).
    pub clock: Value,
    /// Base address of the server.
    pub server: String,
}

/// The machine as a script holds it: every copy is the same one.
#[derive(Clone)]
pub struct Machine(pub(crate) Arc<Mutex<Held>>);

pub(crate) struct Held {
    pub(crate) facts: MachineFacts,
    pub(crate) state: Dynamic,
    pub(crate) catalog: Arc<Catalog>,
}

impl Machine {
    pub(crate) fn new(mut facts: MachineFacts, catalog: Arc<Catalog>) -> Self {
        if facts.state.is_null() {
            facts.state = Value::Object(serde_json::Map::new());
        }
        let state = from_json(&facts.state, false);
        Self(Arc::new(Mutex::new(Held { facts, state, catalog })))
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A call of a plan's function.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Name of the plan, for messages.
    pub name: &'a str,
    /// Its source.
    pub text: &'a str,
    /// The function: `boot`, `plan`, `on` or `declare`.
    pub function: &'a str,
    /// The machine, its first argument; `declare` has none.
    pub machine: Option<&'a MachineFacts>,
    /// Further arguments.
    pub args: Vec<Value>,
    /// The catalog as TOML.
    pub catalog: &'a str,
}

/// What a function answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Its value; null when the plan does not define the function.
    pub value: Value,
    /// What the plan remembers now; null without a machine.
    pub state: Value,
    /// True when the plan defines the function.
    pub is_defined: bool,
}

/// Answers questions, and remembers what it compiled.
pub struct Decider {
    engine: Engine,
    scripts: Mutex<HashMap<Digest, Script>>,
    catalogs: Mutex<HashMap<Digest, Arc<Catalog>>>,
}

impl Decider {
    /// Answers with `engine`, whose host should only compute.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, scripts: Mutex::default(), catalogs: Mutex::default() }
    }

    /// The engine behind it.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers `question`.
    ///
    /// # Errors
    /// Whatever the script fails with, and [`Cause::Host`] when the catalog cannot be read.
    pub fn decide(&self, question: &Question<'_>) -> Result<Decision, ScriptError> {
        let script = digest_of(question.name, question.text);
        let catalog = Digest::of(question.catalog.as_bytes());
        self.learn_script(script, question.name, question.text)?;
        self.learn_catalog(catalog, question.catalog)?;
        self.answer(script, catalog, question.function, question.machine.cloned(), &question.args)
            .unwrap_or_else(|| {
                Err(ScriptError::new(Cause::Script, "the script was forgotten meanwhile"))
            })
    }

    pub(crate) fn learn_script(
        &self,
        digest: Digest,
        name: &str,
        text: &str,
    ) -> Result<(), ScriptError> {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if !scripts.contains_key(&digest) {
            make_room(&mut scripts);
            scripts.insert(digest, self.engine.compile(name, text, &Root::None)?);
        }
        Ok(())
    }

    pub(crate) fn learn_catalog(&self, digest: Digest, toml: &str) -> Result<(), ScriptError> {
        let mut catalogs = self.catalogs.lock().unwrap_or_else(PoisonError::into_inner);
        if !catalogs.contains_key(&digest) {
            make_room(&mut catalogs);
            let catalog =
                if toml.is_empty() { Ok(Catalog::new()) } else { Catalog::parse(toml.as_bytes()) };
            catalogs.insert(
                digest,
                Arc::new(catalog.map_err(|e| ScriptError::from(crate::HostError::from(e)))?),
            );
        }
        Ok(())
    }

    /// `None` when the script or the catalog is not known.
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
        let machine = machine.map(|facts| Machine::new(facts, catalog));
        let mut values: Vec<Dynamic> =
            machine.iter().map(|machine| Dynamic::from(machine.clone())).collect();
        values.extend(args.iter().map(|arg| from_json(arg, false)));
        let ended = self.engine.call(script, function, values, &CancelToken::new())?;
        let json = |value: &Dynamic| {
            to_json(value)
                .map_err(|error| ScriptError::of(&error, script.name(), &self.engine.sources))
        };
        let state =
            machine.map_or(Ok(Value::Null), |machine| machine.with(|held| json(&held.state)))?;
        Ok(Decision { value: json(&ended.value)?, state, is_defined: true })
    }
}

/// What tells scripts apart.
pub(crate) fn digest_of(name: &str, text: &str) -> Digest {
    Digest::of(format!("{name}\0{text}").as_bytes())
}

fn make_room<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= KEPT {
        map.clear();
    }
}

#[cfg(test)]
mod tests;
