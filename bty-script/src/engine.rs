//! Compiles and runs scripts: rhai with bty's functions, a context behind them, and limits.
//!
//! A compiled [`Script`] can be run as a whole, or one of its functions be called:
//!
//! ```
//! use bty_script::{Engine, ImportRoot, Limits, ScriptContext};
//!
//! let engine = Engine::new(ScriptContext::compute_only(), Limits::server());
//! let script = engine.compile("sum.rhai", "fn sum(a, b) { a + b }", &ImportRoot::None)?;
//! let outcome = engine.call_with(&script, "sum", &[2.into(), 3.into()], &Default::default())?;
//! assert_eq!(outcome.value.as_int(), Ok(5));
//! # Ok::<(), bty_script::ScriptError>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::CancelToken;
use rhai::packages::{
    BasicArrayPackage, BasicBlobPackage, BasicMapPackage, BasicMathPackage, BitFieldPackage,
    CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, ASTNode, CallFnOptions, Dynamic, EvalAltResult, Expr, Scope};

use crate::bundled;
use crate::context::{Capabilities, ScriptContext};
use crate::error::{Cause, HostError, Place, PowerAction, ScriptError, Sources, Stop, innermost};

mod caught;
mod explain;
mod host_functions;
mod interactive;
mod resolve;

pub use interactive::{InteractiveSession, Variable};
pub use resolve::ImportRoot;

pub use crate::host_function::{HostCallback, HostFunction};
pub use crate::limits::Limits;
use crate::meter::RunGuard;
pub use crate::meter::{InterruptTarget, Meter};

/// The functions that an engine offers to scripts. The engine itself knows none of them, so that
/// the functions of `test` can create engines.
pub(crate) struct Library {
    /// Registers all functions and types.
    pub(crate) register: fn(&mut rhai::Engine),
    /// Names of the modules that `register` creates.
    pub(crate) modules: fn() -> Vec<&'static str>,
    /// The hint for an error message about an unknown name.
    pub(crate) hint_for: fn(&Engine, &str) -> Option<String>,
}

/// Compiles and runs scripts for one [`ScriptContext`], one at a time.
///
/// ```
/// use bty_script::{Engine, ScriptContext, Limits, ImportRoot};
///
/// let engine = Engine::new(ScriptContext::compute_only(), Limits::server());
/// let script = engine.compile("add.rhai", "fn add(a, b) { a + b }", &ImportRoot::None)?;
/// let sum = engine.call(&script, "add", vec![1.into(), 2.into()], &Default::default())?;
/// assert_eq!(sum.value.as_int(), Ok(3));
/// # Ok::<(), bty_script::ScriptError>(())
/// ```
pub struct Engine {
    pub(crate) rhai: rhai::Engine,
    pub(crate) context: ScriptContext,
    pub(crate) sources: Sources,
    library: &'static Library,
    limits: Limits,
    resolver: resolve::Resolver,
    /// The value of `ARGS` inside functions, shared with the engine.
    args: Dynamic,
    caught: caught::CatchVariables,
}

/// A compiled script. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) ast: AST,
    name: String,
    root: ImportRoot,
}

impl Script {
    /// The name that the script was compiled under; error messages show it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its imports are looked up.
    pub(crate) fn root(&self) -> &ImportRoot {
        &self.root
    }

    /// True if the script defines the function `name` with `arity` parameters.
    #[must_use]
    pub fn has_function(&self, name: &str, arity: usize) -> bool {
        self.ast.iter_functions().any(|f| f.name == name && f.params.len() == arity)
    }

    /// True if it defines a function with this name, whatever its number of parameters.
    #[must_use]
    pub fn has_function_named(&self, name: &str) -> bool {
        self.ast.iter_functions().any(|f| f.name == name)
    }

    /// Names of the functions that take no parameters.
    pub(crate) fn functions_without_parameters(&self) -> Vec<String> {
        let functions = self.ast.iter_functions().filter(|f| f.params.is_empty());
        functions.map(|f| f.name.to_owned()).collect()
    }
}

/// How a script ended that did not fail.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScriptOutcome {
    /// The value of the last expression or of the called function; after `exit(code)` the code.
    pub value: Dynamic,
    /// True if the script called `exit`.
    pub by_exit: bool,
    /// Set if the script called `reboot`, `kexec` or `power_off`. The caller carries it out: the
    /// engine only ends the script.
    pub power: Option<PowerAction>,
}

impl Engine {
    /// The context that scripts run in.
    #[must_use]
    pub fn context(&self) -> &ScriptContext {
        &self.context
    }

    /// An engine with the functions of `library`.
    pub(crate) fn with_library(
        context: ScriptContext,
        limits: Limits,
        library: &'static Library,
    ) -> Self {
        let mut rhai = rhai::Engine::new_raw();
        CorePackage::new().register_into_engine(&mut rhai);
        BitFieldPackage::new().register_into_engine(&mut rhai);
        LogicPackage::new().register_into_engine(&mut rhai);
        BasicMathPackage::new().register_into_engine(&mut rhai);
        BasicArrayPackage::new().register_into_engine(&mut rhai);
        BasicBlobPackage::new().register_into_engine(&mut rhai);
        BasicMapPackage::new().register_into_engine(&mut rhai);
        MoreStringPackage::new().register_into_engine(&mut rhai);
        // Rhai's time package is left out: scripts get the clock of their world instead.
        (library.register)(&mut rhai);
        // With fast operators the engine would compare its own types without asking our
        // functions, and `5 > "1G"` would be false instead of an error.
        rhai.set_fast_operators(false);
        limits.apply(&mut rhai);
        rhai.disable_symbol("eval");
        rhai.set_strict_variables(true);
        // Code that the optimizer removes would not be checked.
        rhai.set_optimization_level(rhai::OptimizationLevel::None);
        rhai.set_fail_on_invalid_map_property(false);
        rhai.set_default_tag(Dynamic::from(context.clone()));
        let meter = Arc::clone(&context.meter);
        rhai.on_progress(move |operations| meter.check(operations).map(Dynamic::from));
        let terminal = Arc::clone(&context.world.terminal);
        rhai.on_print(move |text| terminal.print(text));
        let terminal = Arc::clone(&context.world.terminal);
        rhai.on_debug(move |text, source, position| {
            terminal.say(&format!("{}:{position:?}: {text}", source.unwrap_or("script")));
        });
        let args = Dynamic::from(rhai::Array::new()).into_shared();
        rhai.register_global_module(constants(&context, &args).into());
        let caught = caught::CatchVariables::default();
        caught.clone().watch(&mut rhai);
        let sources = Sources::default();
        let resolver = resolve::Resolver::new(context.clone(), sources.clone(), caught.clone());
        rhai.set_module_resolver(resolver.clone());
        Self { rhai, context, sources, library, limits, resolver, args, caught }
    }

    /// The type of `value` as scripts name it.
    #[must_use]
    pub fn type_name(&self, value: &Dynamic) -> String {
        let name = self.rhai.map_type_name(value.type_name());
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }

    /// Compiles `text`. Error messages call it `name`; its imports are looked up in `root`.
    ///
    /// # Errors
    /// [`Cause::Syntax`], with the place in `text`.
    pub fn compile(
        &self,
        name: &str,
        text: &str,
        root: &ImportRoot,
    ) -> Result<Script, ScriptError> {
        self.compile_for(name, text, root, &names_to_compile_with())
    }

    /// Compiles a script that will see the variables of `scope`.
    pub(crate) fn compile_for(
        &self,
        name: &str,
        text: &str,
        root: &ImportRoot,
        scope: &Scope<'_>,
    ) -> Result<Script, ScriptError> {
        self.sources.add(name, text);
        let compiled = self.rhai.compile_with_scope(scope, text);
        let mut ast = compiled.map_err(|e| {
            let error: EvalAltResult = e.into();
            let mut error = ScriptError::from_engine(&error, name, &self.sources);
            error.hint =
                error.hint.take().or_else(|| (self.library.hint_for)(self, &error.message));
            error
        })?;
        ast.set_source(name);
        self.caught.note(&ast);
        Ok(Script { ast, name: name.to_owned(), root: root.clone() })
    }

    /// Reads and compiles the file at `path`; its imports are looked up in its directory.
    ///
    /// # Errors
    /// - [`Cause::Host`]: the file cannot be read, or is not UTF-8
    /// - [`Cause::Syntax`]: the script does not compile
    pub fn compile_file(&self, path: &Path) -> Result<Script, ScriptError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let mut error = HostError::new("source", format!("reading {}: {e}", path.display()));
            error.path = Some(path.display().to_string());
            ScriptError::from(error)
        })?;
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or_else(|| PathBuf::from("."), Path::to_owned);
        self.compile(&path.display().to_string(), &text, &ImportRoot::Directory(parent))
    }

    /// Compiles the [bundled script](crate::bundled) `name`.
    ///
    /// # Errors
    /// [`Cause::Host`]: there is no bundled script of that name.
    pub fn compile_bundled(&self, name: &str) -> Result<Script, ScriptError> {
        let Some(text) = bundled::text(name) else {
            let error = HostError::usage(format!("there is no bundled script {name:?}"))
                .hint(format!("the bundled scripts are {}", bundled::names().join(", ")));
            return Err(error.into());
        };
        self.compile(&format!("{name}.rhai"), text, &ImportRoot::Bundled)
    }

    /// Runs a whole script; it finds `args` in the constant `ARGS`.
    ///
    /// # Errors
    /// - [`Cause::Host`]: a host function failed, and the script did not catch it
    /// - [`Cause::Throw`]: the script threw a value
    /// - [`Cause::Script`]: the script is wrong: an unknown function, a wrong type
    /// - [`Cause::Limit`]: the script exceeded a limit
    /// - [`Cause::Cancelled`]: `cancel` was cancelled, or the context was interrupted
    pub fn run(
        &self,
        script: &Script,
        args: &[String],
        cancel: &CancelToken,
    ) -> Result<ScriptOutcome, ScriptError> {
        let mut scope = standard_scope(&self.context, args);
        self.set_args(scope.get("ARGS").cloned().unwrap_or_default());
        let outcome = self.run_in(&mut scope, script, cancel);
        self.set_args(rhai::Array::new().into());
        outcome
    }

    /// Sets what functions see as `ARGS`.
    fn set_args(&self, args: Dynamic) {
        // cannot fail: the value is shared, and no script is running
        if let Some(mut shared) = self.args.clone().write_lock::<rhai::Array>() {
            *shared = args.into_array().unwrap_or_default();
        }
    }

    /// Runs a whole script on the variables of `scope`.
    pub(crate) fn run_in(
        &self,
        scope: &mut Scope<'_>,
        script: &Script,
        cancel: &CancelToken,
    ) -> Result<ScriptOutcome, ScriptError> {
        let _run = self.begin(script, cancel);
        let result = self.rhai.eval_ast_with_scope::<Dynamic>(scope, &script.ast);
        self.outcome(result, script)
    }

    /// Calls the function `name` of a script, after running its statements outside functions.
    ///
    /// # Errors
    /// - [`Cause::Host`]: a host function failed, and the script did not catch it
    /// - [`Cause::Throw`]: the script threw a value
    /// - [`Cause::Script`]: the script is wrong: it has no function `name`, or uses something
    ///   unknown
    /// - [`Cause::Limit`]: the script exceeded a limit
    /// - [`Cause::Cancelled`]: `cancel` was cancelled, or the context was interrupted
    pub fn call(
        &self,
        script: &Script,
        name: &str,
        args: Vec<Dynamic>,
        cancel: &CancelToken,
    ) -> Result<ScriptOutcome, ScriptError> {
        let _run = self.begin(script, cancel);
        let mut scope = standard_scope(&self.context, &[]);
        let options = CallFnOptions::new().eval_ast(true).in_all_namespaces(true);
        let result =
            self.rhai.call_fn_with_options::<Dynamic>(options, &mut scope, &script.ast, name, args);
        self.outcome(result, script)
    }

    fn begin(&self, script: &Script, cancel: &CancelToken) -> RunGuard {
        self.resolver.begin(&script.root);
        let context = &self.context;
        let can_wait = context.capabilities != Capabilities::NONE;
        context.meter.begin(&self.limits, cancel, can_wait, context.interrupt_target)
    }

    /// The place of the only index expression of a script. Indexing is the one step for which the
    /// engine reports a limit without a position.
    fn only_index(&self, script: &Script) -> Option<Place> {
        let mut found = Vec::new();
        script.ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let Some(ASTNode::Expr(Expr::Index(_, _, position))) = path.last() {
                found.push(*position);
            }
            true
        });
        match found[..] {
            [position] => self.sources.place(script.name(), position),
            _ => None,
        }
    }

    fn outcome(
        &self,
        result: Result<Dynamic, Box<EvalAltResult>>,
        script: &Script,
    ) -> Result<ScriptOutcome, ScriptError> {
        let error = match result {
            Ok(value) => return Ok(ScriptOutcome { value, ..ScriptOutcome::default() }),
            Err(error) => error,
        };
        if let EvalAltResult::ErrorTerminated(token, _) = innermost(&error) {
            match token.read_lock::<Stop>().as_deref() {
                Some(Stop::Power(power)) => {
                    return Ok(ScriptOutcome { power: Some(*power), ..ScriptOutcome::default() });
                }
                Some(Stop::Exit(code)) => {
                    return Ok(ScriptOutcome {
                        value: i64::from(*code).into(),
                        by_exit: true,
                        ..ScriptOutcome::default()
                    });
                }
                _ => {}
            }
        }
        let mut error = ScriptError::from_engine(&error, script.name(), &self.sources);
        if error.cause == Cause::Limit && error.place.is_none() {
            error.place = self.only_index(script);
        }
        if error.cause == Cause::Script && error.hint.is_none() {
            error.hint = (self.library.hint_for)(self, &error.message);
        }
        // A function that the timer cancelled reports that it was cancelled, not why.
        if error.cause == Cause::Cancelled
            && let Some(ms) = self.context.meter.timed_out()
        {
            error = ScriptError {
                place: error.place,
                calls: error.calls,
                ..ScriptError::timed_out(ms)
            };
        }
        Err(error)
    }
}

/// The names of the variables of [`standard_scope`], without values: the compiler would replace
/// constants by their values, and a script may run with other ones later.
pub(crate) fn names_to_compile_with() -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push("ARGS", ());
    scope.push("BTY", ());
    scope
}

/// `ARGS` and `BTY` for functions, which do not see the variables of the script.
fn constants(context: &ScriptContext, args: &Dynamic) -> rhai::Module {
    let mut module = rhai::Module::new();
    module.set_var("ARGS", args.clone().into_read_only());
    module.set_var("BTY", (*context.facts).clone());
    module
}

/// The variables that every script sees: `ARGS`, and `BTY` with the facts of the context.
pub(crate) fn standard_scope(context: &ScriptContext, args: &[String]) -> Scope<'static> {
    let mut scope = Scope::new();
    let args: rhai::Array = args.iter().map(|arg| arg.clone().into()).collect();
    scope.push_constant("ARGS", args);
    scope.push_constant("BTY", (*context.facts).clone());
    scope
}

#[cfg(test)]
mod tests;
