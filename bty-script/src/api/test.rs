//! `test`: runs scripts against described machines, for `*_test.rhai`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bty::CancelToken;
use bty::catalog::Catalog;
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, NativeCallContext};
use serde_json::Value;

use crate::context::{Capabilities, Capability, ScriptContext};
use crate::convert::{from_json, from_rust, to_json};
use crate::decide::Machine;
use crate::engine::{Ended, Engine, Limits};
use crate::error::{self, HostError, ScriptError, raise};
use crate::world::{Effect, SimulatedWorld};

/// How long a script may take that a test runs.
const TIME: Duration = Duration::from_secs(30);

/// The fact that tells where the running test is.
pub(crate) const TEST_DIR: &str = "test_dir";

/// How a script ended, and what it did.
#[derive(Clone)]
pub struct Outcome(Arc<Facts>);

struct Facts {
    result: Result<Ended, ScriptError>,
    effects: Vec<Effect>,
    printed: Vec<String>,
    shown: Vec<String>,
}

/// `path`, from the directory of the test that names it.
fn beside(host: &ScriptContext, path: &str) -> PathBuf {
    let dir = host.facts.get(TEST_DIR).map(ToString::to_string).unwrap_or_default();
    Path::new(&dir).join(path)
}

/// Runs `work` with an engine of its own, on the machine that `world` describes: a file, or a map.
fn run_on(
    context: &NativeCallContext<'_>,
    world: &Dynamic,
    work: impl FnOnce(&Engine, &CancelToken) -> Result<Ended, ScriptError>,
) -> error::Outcome<Outcome> {
    let host = ScriptContext::of(context, Capability::Read)?;
    let text = match world.read_lock::<rhai::ImmutableString>() {
        Some(path) => {
            let path = beside(&host, &path);
            let read = std::fs::read_to_string(&path);
            read.map_err(|e| {
                raise(HostError::new("source", format!("reading {}: {e}", path.display())))
            })?
        }
        None => to_json(world)?.to_string(),
    };
    let (world, effects, terminal) = SimulatedWorld::parse(&text).map_err(raise)?;
    let engine = Engine::new(
        ScriptContext::new(Capabilities::all(), world),
        Limits::operator().with_time(Some(TIME)),
    );
    let result = work(&engine, &host.meter.operation());
    let mut effects = effects.list();
    if let Some(action) = result.as_ref().ok().and_then(|ended| ended.power) {
        effects.push(Effect::Power { action });
    }
    Ok(Outcome(Arc::new(Facts {
        result,
        effects,
        printed: terminal.printed(),
        shown: terminal.shown(),
    })))
}

fn texts(lines: &[String]) -> Array {
    lines.iter().map(|line| line.clone().into()).collect()
}

#[export_module]
pub(super) mod functions {
    /// Runs the script at `path` (from the directory of the test) on the machine that `world`
    /// describes: the path of a description, or a map.
    #[rhai_fn(return_raw)]
    pub fn run(context: NativeCallContext, path: &str, world: Dynamic) -> error::Outcome<Outcome> {
        run_with(context, path, world, Array::new())
    }

    /// The same with arguments, which the script finds in `ARGS`.
    #[rhai_fn(name = "run", return_raw)]
    pub fn run_with(
        context: NativeCallContext,
        path: &str,
        world: Dynamic,
        args: Array,
    ) -> error::Outcome<Outcome> {
        let file = beside(&ScriptContext::behind(&context)?, path);
        let args: Vec<String> = args.iter().map(crate::render::plain).collect();
        run_on(&context, &world, |engine, cancel| {
            engine.run(&engine.compile_file(&file)?, &args, cancel)
        })
    }

    /// Calls one function of the script at `path` with `values`: `run(p)` of a plan script, say.
    #[rhai_fn(return_raw)]
    pub fn call(
        context: NativeCallContext,
        path: &str,
        function: &str,
        values: Array,
        world: Dynamic,
    ) -> error::Outcome<Outcome> {
        let file = beside(&ScriptContext::behind(&context)?, path);
        run_on(&context, &world, |engine, cancel| {
            engine.call(&engine.compile_file(&file)?, function, values, cancel)
        })
    }

    /// What it did to the machine, in its order: maps with `effect` (`flash`, `create`, `post`,
    /// `sleep`, `log`, `power`) and more.
    #[rhai_fn(global, get = "effects", pure, return_raw)]
    pub fn effects(outcome: &mut Outcome) -> error::Outcome<Dynamic> {
        from_rust(&outcome.0.effects)
    }

    /// The disks that it flashed, as maps with `path` and `serial`.
    #[rhai_fn(global, get = "flashed", pure, return_raw)]
    pub fn flashed(outcome: &mut Outcome) -> error::Outcome<Dynamic> {
        let flashed = outcome.0.effects.iter().filter_map(|effect| match effect {
            Effect::Flash { targets, .. } => Some(targets.clone()),
            _ => None,
        });
        from_rust(&flashed.flatten().collect::<Vec<_>>())
    }

    /// The lines that it printed.
    #[rhai_fn(global, get = "printed", pure)]
    pub fn printed(outcome: &mut Outcome) -> Array {
        texts(&outcome.0.printed)
    }

    /// All that the person saw and typed.
    #[rhai_fn(global, get = "shown", pure)]
    pub fn shown(outcome: &mut Outcome) -> Array {
        texts(&outcome.0.shown)
    }

    /// The error that ended it, as a map with `kind`, `message`, `hint`, `place`; `()` when it
    /// ended well.
    #[rhai_fn(global, get = "error", pure)]
    pub fn failure(outcome: &mut Outcome) -> Dynamic {
        let json = outcome.0.result.as_ref().err().map_or(Value::Null, ScriptError::to_json);
        from_json(&json, true)
    }

    /// Its value.
    #[rhai_fn(global, get = "value", pure)]
    pub fn value(outcome: &mut Outcome) -> Dynamic {
        outcome.0.result.as_ref().map(|ended| ended.value.clone()).unwrap_or_default()
    }

    /// A machine as plans on a server see it: a map with any of `mac`, `labels`, `params`, `state`,
    /// `image_ref`, `target_serial`, `disks`, `hardware`, `flashed`, `history`, `inventory_at`,
    /// `now`, `clock`, `server`, and `catalog` as TOML.
    #[rhai_fn(return_raw)]
    pub fn machine(context: NativeCallContext, facts: rhai::Map) -> error::Outcome<Machine> {
        ScriptContext::behind(&context)?;
        let mut json = to_json(&facts.into())?;
        let catalog = json.as_object_mut().and_then(|fields| fields.remove("catalog"));
        let catalog = match catalog.as_ref().and_then(Value::as_str) {
            Some(toml) => Catalog::parse(toml.as_bytes()).map_err(raise)?,
            None => Catalog::new(),
        };
        let facts = serde_json::from_value(json)
            .map_err(|e| raise(HostError::usage(format!("that is no machine: {e}"))))?;
        Ok(Machine::new(facts, Arc::new(catalog)))
    }

    /// Calls `function`, which must fail, and gives what it threw.
    #[rhai_fn(return_raw)]
    pub fn throws(context: NativeCallContext, function: FnPtr) -> error::Outcome<Dynamic> {
        let thrown = function.call_within_context::<Dynamic>(&context, ());
        match thrown {
            Ok(value) => Err(format!(
                "it did not fail, but gave {}",
                crate::render::show(&value, usize::MAX)
            )
            .into()),
            Err(error) => Ok(match crate::error::innermost(&error) {
                rhai::EvalAltResult::ErrorRuntime(value, _) => value.clone(),
                other => other.to_string().into(),
            }),
        }
    }

    /// The outcome in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(outcome: &mut Outcome) -> String {
        match &outcome.0.result {
            Ok(_) => format!("ended well, with {} effects", outcome.0.effects.len()),
            Err(error) => format!("failed: {}", error.message),
        }
    }
}
