//! The engine: rhai with the SDK's modules, a host behind them, and limits around them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bty::CancelToken;
use rhai::packages::{
    BasicArrayPackage, BasicBlobPackage, BasicMapPackage, BasicMathPackage, BitFieldPackage,
    CorePackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{AST, ASTNode, CallFnOptions, Dynamic, EvalAltResult, Expr, Scope};

use crate::context::ScriptContext;
use crate::error::{Cause, Place, Power, ScriptError, Sources, Stop, innermost};
use crate::{api, scripts};

mod host_functions;
mod interactive;
mod limits;
mod meter;
mod resolve;

pub use host_functions::{Foreign, ForeignFunction};
pub use interactive::{Interactive, Variable};
pub use limits::Limits;
pub use meter::{Interrupts, Meter};
pub use resolve::Root;

/// Compiles and runs scripts for one [`ScriptContext`], one at a time.
///
/// ```
/// use bty_script::{Engine, ScriptContext, Limits, Root};
///
/// let engine = Engine::new(ScriptContext::compute_only(), Limits::server());
/// let script = engine.compile("add.rhai", "fn add(a, b) { a + b }", &Root::None)?;
/// let sum = engine.call(&script, "add", vec![1.into(), 2.into()], &Default::default())?;
/// assert_eq!(sum.value.as_int(), Ok(3));
/// # Ok::<(), bty_script::ScriptError>(())
/// ```
pub struct Engine {
    pub(crate) rhai: rhai::Engine,
    pub(crate) host: ScriptContext,
    pub(crate) sources: Sources,
    limits: Limits,
    resolver: resolve::Resolver,
}

/// A compiled script. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) ast: AST,
    name: String,
    root: Root,
}

impl Script {
    /// The file name it was compiled under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its imports are looked up.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// True when it defines the function `name` with `arity` parameters.
    #[must_use]
    pub fn has_function(&self, name: &str, arity: usize) -> bool {
        self.ast.iter_functions().any(|f| f.name == name && f.params.len() == arity)
    }

    /// Names of its functions without parameters.
    pub(crate) fn plain_functions(&self) -> Vec<String> {
        let plain = self.ast.iter_functions().filter(|f| f.params.is_empty());
        plain.map(|f| f.name.to_owned()).collect()
    }
}

/// How a script ended, when it did not fail.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Ended {
    /// Its value: of the last expression or of the function called, or the code that `exit` was
    /// given.
    pub value: Dynamic,
    /// True when it ended by `exit`.
    pub by_exit: bool,
    /// What is to become of the machine: it ended by `reboot` or `power_off`.
    pub power: Option<Power>,
}

impl Engine {
    /// The host behind it.
    #[must_use]
    pub fn host(&self) -> &ScriptContext {
        &self.host
    }

    /// An engine whose scripts may do what `host` allows, within `limits`.
    #[must_use]
    pub fn new(host: ScriptContext, limits: Limits) -> Self {
        let mut rhai = rhai::Engine::new_raw();
        CorePackage::new().register_into_engine(&mut rhai);
        BitFieldPackage::new().register_into_engine(&mut rhai);
        LogicPackage::new().register_into_engine(&mut rhai);
        BasicMathPackage::new().register_into_engine(&mut rhai);
        BasicArrayPackage::new().register_into_engine(&mut rhai);
        BasicBlobPackage::new().register_into_engine(&mut rhai);
        BasicMapPackage::new().register_into_engine(&mut rhai);
        // the time package is left out: its clock is not the host's
        MoreStringPackage::new().register_into_engine(&mut rhai);
        api::register(&mut rhai);
        // else values of the language's own types are compared without a look at ours: 5 > "1G"
        // would be false
        rhai.set_fast_operators(false);
        limits.apply(&mut rhai);
        rhai.disable_symbol("eval");
        rhai.set_strict_variables(true);
        // what is optimised away is not checked either
        rhai.set_optimization_level(rhai::OptimizationLevel::None);
        rhai.set_fail_on_invalid_map_property(false);
        rhai.set_default_tag(Dynamic::from(host.clone()));
        let meter = Arc::clone(&host.meter);
        rhai.on_progress(move |operations| meter.check(operations).map(Dynamic::from));
        let terminal = Arc::clone(&host.world.terminal);
        rhai.on_print(move |text| terminal.print(text));
        let terminal = Arc::clone(&host.world.terminal);
        rhai.on_debug(move |text, source, position| {
            terminal.say(&format!("{}:{position:?}: {text}", source.unwrap_or("script")));
        });
        let sources = Sources::default();
        let resolver = resolve::Resolver::new(host.clone(), sources.clone());
        rhai.set_module_resolver(resolver.clone());
        Self { rhai, host, sources, limits, resolver }
    }

    /// The type of `value` as scripts name it.
    #[must_use]
    pub fn type_name(&self, value: &Dynamic) -> String {
        let name = self.rhai.map_type_name(value.type_name());
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }

    /// Compiles `text`, which is called `name` in messages; imports are looked up below `root`.
    ///
    /// # Errors
    /// [`Cause::Syntax`], with the place.
    pub fn compile(&self, name: &str, text: &str, root: &Root) -> Result<Script, ScriptError> {
        self.compile_for(name, text, root, &names_to_compile_with())
    }

    /// The same, for a script that will see the variables of `scope`.
    pub(crate) fn compile_for(
        &self,
        name: &str,
        text: &str,
        root: &Root,
        scope: &Scope<'_>,
    ) -> Result<Script, ScriptError> {
        self.sources.add(name, text);
        let compiled = self.rhai.compile_with_scope(scope, text);
        let mut ast = compiled.map_err(|e| {
            let error: EvalAltResult = e.into();
            let mut error = ScriptError::of(&error, name, &self.sources);
            error.hint =
                error.hint.take().or_else(|| crate::reference::suggestion(self, &error.message));
            error
        })?;
        ast.set_source(name);
        Ok(Script { ast, name: name.to_owned(), root: root.clone() })
    }

    /// Reads and compiles the file at `path`; imports are looked up in its directory.
    ///
    /// # Errors
    /// [`Cause::Host`] when it cannot be read, [`Cause::Syntax`] when it cannot be compiled.
    pub fn compile_file(&self, path: &Path) -> Result<Script, ScriptError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let mut host =
                crate::HostError::new("source", format!("reading {}: {e}", path.display()));
            host.path = Some(path.display().to_string());
            ScriptError::from(host)
        })?;
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .map_or_else(|| PathBuf::from("."), Path::to_owned);
        self.compile(&path.display().to_string(), &text, &Root::Directory(parent))
    }

    /// Compiles the bundled script `name`.
    ///
    /// # Errors
    /// [`Cause::Host`] when there is none of that name.
    pub fn compile_bundled(&self, name: &str) -> Result<Script, ScriptError> {
        let Some(text) = scripts::text(name) else {
            let host = crate::HostError::usage(format!("there is no bundled script {name:?}"))
                .hint(format!("there are {}", scripts::names().join(", ")));
            return Err(host.into());
        };
        self.compile(&format!("{name}.rhai"), text, &Root::Bundled)
    }

    /// Runs all of a script, with `ARGS` as its arguments.
    ///
    /// # Errors
    /// Whatever the script fails with, and the limits.
    pub fn run(
        &self,
        script: &Script,
        args: &[String],
        cancel: &CancelToken,
    ) -> Result<Ended, ScriptError> {
        self.run_in(&mut standard_scope(&self.host, args), script, cancel)
    }

    /// Runs all of a script on the variables of `scope`.
    pub(crate) fn run_in(
        &self,
        scope: &mut Scope<'_>,
        script: &Script,
        cancel: &CancelToken,
    ) -> Result<Ended, ScriptError> {
        let _running = self.begin(script, cancel);
        let result = self.rhai.eval_ast_with_scope::<Dynamic>(scope, &script.ast);
        self.ended(result, script)
    }

    /// Calls the function `name` of a script. Its statements outside functions are run first.
    ///
    /// # Errors
    /// Whatever the function fails with, and the limits.
    pub fn call(
        &self,
        script: &Script,
        name: &str,
        args: Vec<Dynamic>,
        cancel: &CancelToken,
    ) -> Result<Ended, ScriptError> {
        let _running = self.begin(script, cancel);
        let mut scope = standard_scope(&self.host, &[]);
        let options = CallFnOptions::new().eval_ast(true).in_all_namespaces(true);
        let result =
            self.rhai.call_fn_with_options::<Dynamic>(options, &mut scope, &script.ast, name, args);
        self.ended(result, script)
    }

    fn begin(&self, script: &Script, cancel: &CancelToken) -> meter::Running {
        self.resolver.begin(&script.root);
        let host = &self.host;
        host.meter.begin(&self.limits, cancel, host.capabilities, host.interrupts)
    }

    /// The place of the only index of a script: looking up an element is the one step that the
    /// engine does not give a place.
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

    fn ended(
        &self,
        result: Result<Dynamic, Box<EvalAltResult>>,
        script: &Script,
    ) -> Result<Ended, ScriptError> {
        let error = match result {
            Ok(value) => return Ok(Ended { value, ..Ended::default() }),
            Err(error) => error,
        };
        if let EvalAltResult::ErrorTerminated(token, _) = innermost(&error) {
            match token.read_lock::<Stop>().as_deref() {
                Some(Stop::Power(power)) => {
                    return Ok(Ended { power: Some(*power), ..Ended::default() });
                }
                Some(Stop::Exit(code)) => {
                    return Ok(Ended {
                        value: i64::from(*code).into(),
                        by_exit: true,
                        ..Ended::default()
                    });
                }
                _ => {}
            }
        }
        let mut error = ScriptError::of(&error, script.name(), &self.sources);
        if error.cause == Cause::Limit && error.place.is_none() {
            error.place = self.only_index(script);
        }
        if error.cause == Cause::Script && error.hint.is_none() {
            error.hint = crate::reference::suggestion(self, &error.message);
        }
        // what the clock stopped is reported by whatever was stopped as cancelled
        if error.cause == Cause::Cancelled
            && let Some(ms) = self.host.meter.timed_out()
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

/// The names of those variables, for compiling: constants with values would be put in place of
/// their names, whatever they are later.
pub(crate) fn names_to_compile_with() -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push("ARGS", ());
    scope.push("BTY", ());
    scope
}

/// The variables that every script sees: `ARGS`, and `BTY` with facts of the host.
pub(crate) fn standard_scope(host: &ScriptContext, args: &[String]) -> Scope<'static> {
    let mut scope = Scope::new();
    let args: rhai::Array = args.iter().map(|arg| arg.clone().into()).collect();
    scope.push_constant("ARGS", args);
    scope.push_constant("BTY", (*host.facts).clone());
    scope
}

#[cfg(test)]
mod tests;
