//! Runs, checks and evaluates scripts, which may call Python functions.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bty::create::{CreateOptions, CreateReport};
use bty::flash::{FlashPlan, FlashReport, VerifyReport};
use bty::pack::{PackOptions, PackReport};
use bty::{CancelToken, Event, Observer};
use bty_script::check::Finding;
use bty_script::decide::{Decider, MachineFacts, PlanCall};
use bty_script::engine::{HostCallback, HostFunction};
use bty_script::terminal::{ScriptedTerminal, Terminal, TerminalSize};
use bty_script::world::{
    DryRunWorld, Effect, EffectLog, Flasher, Image, ProgressSink, SimulatedWorld, SystemWorld,
    World,
};
use bty_script::{
    Capabilities, Capability, Engine, HostError, ImportRoot, Limits, Script, ScriptContext,
    ScriptError, ScriptOutcome,
};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use serde_json::{Value, json};

use crate::cancel::Cancel;
use crate::client::{self, Client};
use crate::errors::Failure;
use crate::run::{Call, Caller, run};
use crate::{arguments, hosts, json};

/// Python functions: name, possible numbers of arguments, and function.
type Functions = Vec<(String, Vec<usize>, Py<PyAny>)>;

/// The exception that a Python function raised last. A script that does not catch it ends with the
/// exception itself, instead of its message.
type Raised = Arc<Mutex<Option<PyErr>>>;

/// A script to run, and its context.
struct Task {
    name: String,
    text: String,
    root: ImportRoot,
    args: Vec<String>,
    /// A function to call instead of running the script, and its arguments.
    function: Option<(String, Vec<Value>)>,
    /// The description of a simulated machine.
    world: Option<String>,
    is_dry: bool,
    capabilities: Capabilities,
    limits: Limits,
    client: bty::Client,
}

/// The result of a task.
struct Done {
    ended: ScriptOutcome,
    effects: Vec<Effect>,
    terminal: ScriptedTerminal,
}

/// A terminal that records what a script prints, and passes it to a Python function.
struct Screen {
    /// What was printed and shown so far.
    kept: ScriptedTerminal,
    caller: Caller,
    print: Option<Arc<Py<PyAny>>>,
}

impl Terminal for Screen {
    fn size(&self) -> TerminalSize {
        TerminalSize::default()
    }

    fn print(&self, text: &str) {
        self.kept.print(text);
        if let Some(print) = self.print.clone() {
            let text = text.to_owned();
            self.caller.call(Box::new(move |py| print.bind(py).call1((text,)).map(drop)));
        }
    }

    fn say(&self, text: &str) {
        self.kept.say(text);
    }

    fn read_line(&self, prompt: &str, cancel: &CancelToken) -> bty::Result<Option<String>> {
        self.kept.read_line(prompt, cancel)
    }
}

/// Passes events to the Python function `progress`.
struct Watcher(Caller);

impl Observer for Watcher {
    fn event(&self, event: &Event) {
        self.0.event(event);
    }
}

impl ProgressSink for Watcher {}

/// Wraps a Python function for scripts: the calling thread runs it, and the script waits for the
/// result.
fn wrap_function(caller: &Caller, function: Py<PyAny>, raised: &Raised) -> HostCallback {
    let (caller, function, raised) = (caller.clone(), Arc::new(function), Arc::clone(raised));
    Arc::new(move |args: Vec<Value>| {
        let (answer, answered) = sync_channel(1);
        let (function, raised) = (Arc::clone(&function), Arc::clone(&raised));
        let call: Call = Box::new(move |py| {
            let result = match call_python(py, &function, &args) {
                Ok(value) => Ok(value),
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    let message = error.value(py).to_string();
                    *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    Err(HostError::new("python", message))
                }
                // KeyboardInterrupt and the like are not for the script to catch
                Err(error) => return Err(error),
            };
            // fails only if the script was canceled meanwhile
            let _ = answer.send(result);
            Ok(())
        });
        caller.call(call);
        answered.recv().unwrap_or_else(|_| Err(HostError::new("cancelled", "cancelled")))
    })
}

fn call_python(py: Python<'_>, function: &Py<PyAny>, args: &[Value]) -> PyResult<Value> {
    let args = args.iter().map(|arg| json::to_python(py, arg)).collect::<PyResult<Vec<_>>>()?;
    json::from_python(&function.bind(py).call1(PyTuple::new(py, args)?)?)
}

fn parse_capabilities(names: &[String]) -> PyResult<Capabilities> {
    names.iter().try_fold(Capabilities::NONE, |all, name| {
        let one = match name.as_str() {
            "all" => return Ok(Capabilities::all()),
            "read" => Capability::Read,
            "network" => Capability::Network,
            "flash" => Capability::Flash,
            "dialogs" => Capability::Dialogs,
            "power" => Capability::Power,
            _ => {
                let known = "read, network, flash, dialogs, power, all";
                return Err(PyValueError::new_err(format!(
                    "unknown capability {name:?}; capabilities are {known}"
                )));
            }
        };
        Ok(all.with(one))
    })
}

/// The exception for a failed script.
fn script_error(py: Python<'_>, error: &ScriptError) -> PyErr {
    let host = error.host.as_ref();
    let failure = Failure {
        kind: "script",
        message: error.to_string(),
        path: host.and_then(|host| host.path.as_deref()),
        offset: host.and_then(|host| host.offset),
        hint: error.hint.as_deref(),
        remedy: host.and_then(|host| host.remedy).map(bty::Remedy::as_str),
        errno: None,
    };
    let raised = failure.raise(py);
    let set = (|| {
        let value = raised.value(py);
        value.setattr("kind", error.kind())?;
        value.setattr("place", json::from_rust(py, &error.place)?)?;
        value.setattr("calls", json::from_rust(py, &error.calls)?)
    })();
    set.map_or_else(|error| error, |()| raised)
}

/// This machine, or the simulated one that has taken its place.
fn system_world(
    client: bty::Client,
    terminal: Arc<dyn Terminal>,
    observer: Arc<dyn ProgressSink>,
) -> World {
    let world = SystemWorld::world_with(hosts::current(), client, terminal, observer);
    World { flasher: Arc::new(HostFlasher(Arc::clone(&world.flasher))), ..world }
}

/// Keeps the firmware's variables of this machine out of reach of simulated ones.
struct HostFlasher(Arc<dyn Flasher>);

impl Flasher for HostFlasher {
    fn execute(
        &self,
        plan: &FlashPlan,
        image: &Image,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> bty::Result<FlashReport> {
        let mut plan = plan.clone();
        plan.options.efivars = hosts::efivars(&plan.options.efivars);
        self.0.execute(&plan, image, observer, cancel)
    }

    fn verify(
        &self,
        image: &Image,
        disk: &bty::Disk,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> bty::Result<VerifyReport> {
        self.0.verify(image, disk, observer, cancel)
    }

    fn create(&self, path: &Path, size_bytes: u64) -> bty::Result<bty::Disk> {
        self.0.create(path, size_bytes)
    }

    fn pack(
        &self,
        image: &Image,
        path: &Path,
        options: &PackOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> bty::Result<PackReport> {
        self.0.pack(image, path, options, observer, cancel)
    }

    fn create_image(
        &self,
        disk: &bty::Disk,
        path: &Path,
        options: &CreateOptions,
        observer: &dyn Observer,
        cancel: &CancelToken,
    ) -> bty::Result<CreateReport> {
        self.0.create_image(disk, path, options, observer, cancel)
    }
}

impl Task {
    /// The world of the script, its effects, and the record of the terminal.
    fn world(
        &self,
        screen: Screen,
        caller: &Caller,
    ) -> bty::Result<(World, EffectLog, ScriptedTerminal)> {
        let kept = screen.kept.clone();
        let (mut world, effects) = if let Some(text) = &self.world {
            let (world, effects, answers) = SimulatedWorld::parse(text)?;
            let screen = Screen { kept: answers.clone(), ..screen };
            return Ok((World { terminal: Arc::new(screen), ..world }, effects, answers));
        } else {
            let watcher = Arc::new(Watcher(caller.clone()));
            let world = system_world(self.client.clone(), Arc::new(screen), watcher);
            if self.is_dry { DryRunWorld::wrap(&world) } else { (world, EffectLog::default()) }
        };
        if self.is_dry {
            world.observer = Arc::new(());
        }
        Ok((world, effects, kept))
    }

    fn compile(&self, engine: &Engine) -> Result<Script, ScriptError> {
        engine.compile(&self.name, &self.text, &self.root)
    }

    fn run(
        &self,
        caller: &Caller,
        screen: Screen,
        functions: &[HostFunction],
        cancel: &CancelToken,
    ) -> Result<Done, ScriptError> {
        let failed = |error: bty::Error| ScriptError::from(HostError::from(error));
        let (world, effects, terminal) = self.world(screen, caller).map_err(failed)?;
        let mut engine =
            Engine::new(ScriptContext::new(self.capabilities, world), self.limits.clone());
        engine.add_functions(functions)?;
        let script = self.compile(&engine)?;
        let ended = match &self.function {
            Some((name, values)) => engine.call_with(&script, name, values, cancel)?,
            None => engine.run(&script, &self.args, cancel)?,
        };
        Ok(Done { ended, effects: effects.list(), terminal })
    }
}

fn to_python<'py>(py: Python<'py>, done: &Done) -> PyResult<Bound<'py, PyAny>> {
    let Done { ended, effects, terminal } = done;
    let value = ended.data().map_err(|error| script_error(py, &error))?;
    let answer = json!({
        "value": value, "by_exit": ended.by_exit, "power": ended.power, "effects": effects,
        "printed": terminal.printed(), "shown": terminal.transcript(),
    });
    json::to_python(py, &answer)
}

fn root(root: Option<&Bound<'_, PyAny>>) -> PyResult<ImportRoot> {
    Ok(root.map(arguments::path).transpose()?.map_or(ImportRoot::None, ImportRoot::Directory))
}

/// Runs a script, or calls one of its functions.
#[pyfunction]
#[pyo3(signature = (
    name, text, root, args, world, dry, function, values, functions, capabilities, timeout, print,
    progress, cancel, client
))]
#[allow(clippy::too_many_arguments)] // keyword arguments of `bty.script.run`
fn script_run<'py>(
    py: Python<'py>,
    name: String,
    text: String,
    root: Option<Bound<'py, PyAny>>,
    args: Vec<String>,
    world: Option<String>,
    dry: bool,
    function: Option<String>,
    values: Vec<Bound<'py, PyAny>>,
    functions: &Bound<'py, PyDict>,
    capabilities: Vec<String>,
    timeout: Option<f64>,
    print: Option<Py<PyAny>>,
    progress: Option<Bound<'py, PyAny>>,
    cancel: Option<Bound<'py, PyAny>>,
    client: Option<Bound<'py, Client>>,
) -> PyResult<Bound<'py, PyAny>> {
    let values = values.iter().map(json::from_python).collect::<PyResult<Vec<_>>>()?;
    let timeout = timeout.map(Duration::try_from_secs_f64).transpose();
    let timeout = timeout.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let task = Task {
        name,
        text,
        root: self::root(root.as_ref())?,
        args,
        function: function.map(|function| (function, values)),
        world,
        is_dry: dry,
        capabilities: parse_capabilities(&capabilities)?,
        limits: Limits::operator().with_time(timeout),
        client: client::of(py, client.as_ref()),
    };
    let functions: Functions = parse_functions(functions)?;
    let raised = Raised::default();
    let cancel = Cancel::of(cancel)?;
    let print = print.map(Arc::new);
    let done = run(py, &cancel, progress.as_ref(), |caller, token| {
        let screen = Screen { kept: ScriptedTerminal::default(), caller: caller.clone(), print };
        let functions: Vec<HostFunction> = functions
            .into_iter()
            .map(|(name, arities, function)| HostFunction {
                name,
                arities,
                function: wrap_function(caller, function, &raised),
            })
            .collect();
        task.run(caller, screen, &functions, token)
    })?;
    match done {
        Ok(done) => to_python(py, &done),
        Err(error) => match raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(raised) if error.kind() == "python" => Err(raised),
            _ => Err(script_error(py, &error)),
        },
    }
}

fn parse_functions(functions: &Bound<'_, PyDict>) -> PyResult<Functions> {
    let all = functions.iter().map(|(name, function)| {
        let (arities, function): (Vec<usize>, Py<PyAny>) = function.extract()?;
        Ok((name.extract()?, arities, function))
    });
    all.collect()
}

/// Checks a script without running it.
#[pyfunction]
fn script_check<'py>(
    py: Python<'py>,
    name: String,
    text: String,
    root: Option<Bound<'py, PyAny>>,
    functions: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let root = self::root(root.as_ref())?;
    let mut known = Vec::new();
    for (name, arities) in functions {
        let function: HostCallback = Arc::new(|_| Ok(Value::Null));
        known.push(HostFunction { name: name.extract()?, arities: arities.extract()?, function });
    }
    let findings = py.detach(|| {
        let mut engine = Engine::new(ScriptContext::compute_only(), Limits::operator());
        engine.add_functions(&known)?;
        Ok::<_, HostError>(match engine.compile(&name, &text, &root) {
            Ok(script) => bty_script::check::check(&engine, &script),
            Err(error) => vec![Finding::from(error)],
        })
    });
    json::from_rust(py, &findings.map_err(|error| script_error(py, &error.into()))?)
}

/// Evaluates a plan for a machine, as a server does.
#[pyfunction]
fn script_decide<'py>(
    py: Python<'py>,
    name: &str,
    text: &str,
    function: &str,
    machine: Option<Bound<'py, PyAny>>,
    args: Vec<Bound<'py, PyAny>>,
    catalog: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let machine: Option<MachineFacts> = machine.as_ref().map(json::to_rust).transpose()?;
    let args = args.iter().map(json::from_python).collect::<PyResult<Vec<_>>>()?;
    let decision = py.detach(|| {
        let decider = Decider::new(Engine::new(ScriptContext::compute_only(), Limits::server()));
        decider.decide(&PlanCall { name, text, function, machine: machine.as_ref(), args, catalog })
    });
    json::from_rust(py, &decision.map_err(|error| script_error(py, &error))?)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(script_run, module)?)?;
    module.add_function(wrap_pyfunction!(script_check, module)?)?;
    module.add_function(wrap_pyfunction!(script_decide, module)?)
}
