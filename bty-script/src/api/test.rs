//! The module `test`, which runs scripts on simulated machines, and the type `Outcome`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bty::CancelToken;
use bty::catalog::Catalog;
use rhai::plugin::*;
use rhai::{Array, Dynamic, FnPtr, INT, NativeCallContext};
use serde_json::Value;

use crate::api::types::{AnyWorld, Maps, MaybeMap, Strings};
use crate::context::{Capabilities, Capability, ScriptContext};
use crate::convert::{from_json, from_rust, to_json};
use crate::engine::{Engine, Limits, ScriptOutcome};
use crate::error::{CallResult, HostError, ScriptError, raise};
use crate::machine::{MachineFacts, PlanMachine};
use crate::test_run::{RunRecord, TestRun};
use crate::world::{Effect, SimulatedWorld};

/// Time limit of a script that a test runs.
const TIME: Duration = Duration::from_secs(30);

/// The entry of `BTY` with the directory of the running test.
pub(crate) const TEST_DIR: &str = "test_dir";

/// `path` relative to the directory of the running test.
fn resolve(context: &ScriptContext, path: &str) -> PathBuf {
    let dir = context.facts.get(TEST_DIR).map(ToString::to_string).unwrap_or_default();
    Path::new(&dir).join(path)
}

/// Runs `work` in a new engine on the simulated machine that `world` describes, as a path or a map.
fn run_on(
    call: &NativeCallContext<'_>,
    world: &Dynamic,
    work: impl FnOnce(&Engine, &CancelToken) -> Result<ScriptOutcome, ScriptError>,
) -> CallResult<TestRun> {
    let context = ScriptContext::require(call, Capability::Read)?;
    let text = match world.read_lock::<rhai::ImmutableString>() {
        Some(path) => {
            let path = resolve(&context, &path);
            let read = std::fs::read_to_string(&path);
            read.map_err(|e| {
                raise(HostError::new("source", format!("reading {}: {e}", path.display())))
            })?
        }
        None => to_json(world)?.to_string(),
    };
    let (world, effects, terminal) = SimulatedWorld::parse(&text).map_err(raise)?;
    let mut engine = Engine::new(
        ScriptContext::new(Capabilities::all(), world),
        Limits::operator().with_time(Some(TIME)),
    );
    engine.add_functions(&context.test_functions).map_err(raise)?;
    let result = work(&engine, &context.meter.operation());
    let mut effects = effects.list();
    if let Some(action) = result.as_ref().ok().and_then(|outcome| outcome.power) {
        effects.push(Effect::Power { action });
    }
    Ok(TestRun::new(RunRecord {
        result,
        effects,
        printed: terminal.printed(),
        transcript: terminal.transcript(),
    }))
}

fn texts(lines: &[String]) -> Array {
    lines.iter().map(|line| line.clone().into()).collect()
}

#[export_module]
pub(super) mod functions {
    /// Runs the script at `path`, relative to the test, on a simulated machine. `world` describes
    /// the machine, as a map or as the path of a TOML or JSON file.
    #[rhai_fn(return_raw)]
    pub fn run(call: NativeCallContext, path: &str, world: AnyWorld) -> CallResult<TestRun> {
        run_with(call, path, world, Array::new())
    }

    /// Runs a script with arguments, which it finds in `ARGS`.
    #[rhai_fn(name = "run", return_raw)]
    pub fn run_with(
        call: NativeCallContext,
        path: &str,
        world: AnyWorld,
        args: Strings,
    ) -> CallResult<TestRun> {
        let file = resolve(&ScriptContext::from_call(&call)?, path);
        let args: Vec<String> = args.iter().map(crate::render::one_line).collect();
        run_on(&call, &world, |engine, cancel| {
            engine.run(&engine.compile_file(&file)?, &args, cancel)
        })
    }

    /// Calls one function of the script at `path` with the arguments `values`, for example `run(p)`
    /// of a plan, on a simulated machine.
    #[rhai_fn(return_raw)]
    pub fn run_function(
        call: NativeCallContext,
        path: &str,
        function: &str,
        values: Array,
        world: AnyWorld,
    ) -> CallResult<TestRun> {
        let file = resolve(&ScriptContext::from_call(&call)?, path);
        run_on(&call, &world, |engine, cancel| {
            engine.call(&engine.compile_file(&file)?, function, values, cancel)
        })
    }

    /// What the script did, in order: maps with `effect` (`flash`, `erase`, `create`, `write`,
    /// `post`, `sleep`, `log` or `power`) and the details.
    #[rhai_fn(global, get = "effects", pure, return_raw)]
    pub fn effects(outcome: &mut TestRun) -> CallResult<Maps> {
        from_rust(&outcome.record().effects)
    }

    /// The disks that the script flashed: maps with `path`, `serial`, and the reference of the
    /// `image`.
    #[rhai_fn(global, get = "flashed", pure, return_raw)]
    pub fn flashed(outcome: &mut TestRun) -> CallResult<Maps> {
        from_rust(&outcome.flashed())
    }

    /// The exit code that `bty run` would have: 0 for success, the code of `exit(code)`, or that of
    /// the failure.
    #[rhai_fn(global, get = "exit_code", pure)]
    pub fn exit_code(outcome: &mut TestRun) -> INT {
        outcome.exit_code().into()
    }

    /// The lines that the script printed.
    #[rhai_fn(global, get = "printed", pure)]
    pub fn printed(outcome: &mut TestRun) -> Strings {
        texts(&outcome.record().printed)
    }

    /// Everything that the person saw and typed, line by line.
    #[rhai_fn(global, get = "shown", pure)]
    pub fn shown(outcome: &mut TestRun) -> Strings {
        texts(&outcome.record().transcript)
    }

    /// The error that ended the script: a map with `kind`, `message`, `hint`, `place`; `()` if it
    /// succeeded.
    #[rhai_fn(global, get = "error", pure)]
    pub fn failure(outcome: &mut TestRun) -> MaybeMap {
        let json = outcome.record().result.as_ref().err().map_or(Value::Null, ScriptError::to_json);
        from_json(&json, true)
    }

    /// The script's last value, the function's return value, or the exit code.
    #[rhai_fn(global, get = "value", pure)]
    pub fn value(outcome: &mut TestRun) -> Dynamic {
        outcome.record().result.as_ref().map(|outcome| outcome.value.clone()).unwrap_or_default()
    }

    /// A `Machine` to call the functions of a plan with. `facts` may have `mac`, `labels`,
    /// `params`, `state`, `image_ref`, `target_serial`, `disks`, `hardware`, `flashed`, `history`,
    /// `inventory_at`, `now`, `clock`, `server`, and `catalog` as TOML.
    #[rhai_fn(return_raw)]
    pub fn machine(call: NativeCallContext, facts: rhai::Map) -> CallResult<PlanMachine> {
        ScriptContext::from_call(&call)?;
        let mut json = to_json(&facts.into())?;
        let catalog = json.as_object_mut().and_then(|fields| fields.remove("catalog"));
        let catalog = match catalog.as_ref().and_then(Value::as_str) {
            Some(toml) => Catalog::parse(toml.as_bytes()).map_err(raise)?,
            None => Catalog::new(),
        };
        let facts: MachineFacts = serde_json::from_value(json).map_err(|e| {
            raise(HostError::usage(format!("cannot make a machine of these facts: {e}")))
        })?;
        let state = from_json(&facts.state, false);
        Ok(PlanMachine::new(facts, state, Arc::new(catalog)))
    }

    /// Calls `function` and returns what it throws. Fails if it does not throw.
    #[rhai_fn(return_raw)]
    pub fn throws(call: NativeCallContext, function: FnPtr) -> CallResult<Dynamic> {
        let thrown = function.call_within_context::<Dynamic>(&call, ());
        match thrown {
            Ok(value) => Err(format!(
                "expected the function to throw, but it returned {}",
                crate::render::display(&value, usize::MAX)
            )
            .into()),
            Err(error) => Ok(match crate::error::innermost(&error) {
                rhai::EvalAltResult::ErrorRuntime(value, _) => value.clone(),
                other => other.to_string().into(),
            }),
        }
    }

    /// The result in one line.
    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn to_string(outcome: &mut TestRun) -> String {
        match &outcome.record().result {
            Ok(_) => format!("succeeded with {} effects", outcome.record().effects.len()),
            Err(error) => format!("failed: {}", error.message),
        }
    }
}
